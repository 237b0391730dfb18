//! Going back: what a snapshot holds, by number and by time, and what is said when it does not.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::client::{Client, Outcome};
use crate::support::daemon::{Daemon, World, shell};
use crate::support::forest::Forest;
use crate::support::rng::Rng;
use crate::support::trees::{assert_same, assert_shape, many, noise, plant, shape, write};

fn run(client: &Client, words: &[&str], path: &Path) -> Outcome {
    let mut args: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
    args.push(path.as_os_str());
    client.run(&args)
}

/// Three snapshots: `first` is edited, `gone` goes, a large file changes a little.
fn three(world: &World, client: &Client) {
    write(&world.source.join("first"), "one\n");
    write(&world.source.join("docs/gone"), "gone\n");
    write(&world.source.join("large"), noise(1, 3_000_000));
    client.push("-rd", &world.source);
    write(&world.source.join("first"), "two, longer\n");
    let mut large = noise(1, 3_000_000);
    large[1_500_000..1_500_010].copy_from_slice(b"0123456789");
    write(&world.source.join("large"), &large);
    client.push("-rd", &world.source);
    fs::remove_file(world.source.join("docs/gone")).unwrap();
    write(&world.source.join("late"), "three\n");
    client.push("-rd", &world.source);
}

#[test]
fn cat_prints_a_file_as_it_was() {
    let (world, daemon, client) = World::served();
    three(&world, &client);
    let first = world.source.join("first");
    for (at, content) in [("1", "one\n"), ("2", "two, longer\n"), ("latest", "two, longer\n")] {
        let outcome = run(&client, &["cat", "--at", at], &first);
        assert_eq!((outcome.code, outcome.said().as_str()), (0, content), "{at}");
    }
    assert_eq!(run(&client, &["cat"], &first).stdout, "two, longer\n");
    // A path that the newest lacks: the newest that has it.
    assert_eq!(run(&client, &["cat"], &world.source.join("docs/gone")).stdout, "gone\n");
    let to = world.path("printed");
    for (at, seed) in [("1", noise(1, 3_000_000)), ("latest", fs::read(world.source.join("large")).unwrap())] {
        let line = format!("\"$0\" -s \"$1\" cat --at {at} \"$2\" > \"$3\"");
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &line, env!("CARGO_BIN_EXE_rbbackup"), &daemon.address]).arg(world.source.join("large"));
        command.arg(&to).env("HOME", &client.home);
        Outcome::of(&mut command).expect(0, &[]);
        assert!(fs::read(&to).unwrap() == seed, "{at}");
    }
    run(&client, &["cat"], &world.source.join("docs")).expect(1, &["is a directory", "ls"]);
    run(&client, &["cat"], Path::new("/")).expect(1, &["is a directory"]);
    std::os::unix::fs::symlink("first", world.source.join("link")).unwrap();
    client.push("-rd", &world.source);
    run(&client, &["cat"], &world.source.join("link")).expect(1, &["symbolic link to 'first'"]);
}

#[test]
fn ls_and_restore_go_back_to_a_number_or_a_time() {
    let (world, _daemon, client) = World::served();
    three(&world, &client);
    let listed = run(&client, &["ls", "--at", "1"], &world.source);
    listed.expect(0, &["first", "docs", "snapshot 1 of"]);
    assert!(!listed.stdout.contains("late"), "{}", listed.stdout);
    run(&client, &["ls", "--at", "latest"], &world.source).expect(0, &["late", "snapshot 3 of"]);
    run(&client, &["ls", "--at", "0 seconds ago"], &world.source).expect(0, &["late", "snapshot 3 of"]);
    let to = world.path("to");
    let options = ["restore", "--at", "2", "--to", to.to_str().unwrap()];
    run(&client, &options, &world.source.join("docs")).expect(0, &[]);
    assert_eq!(fs::read(to.join("docs/gone")).unwrap(), b"gone\n");
    // Onto the present tree: what differs changes, and with --delete what came later goes.
    run(&client, &["restore", "--at", "1", "--delete"], &world.source).expect(0, &[]);
    assert_eq!(fs::read(world.source.join("first")).unwrap(), b"one\n");
    assert!(world.source.join("docs/gone").exists() && !world.source.join("late").exists());
}

#[test]
fn what_is_not_there_is_told_from_what_is() {
    let (world, _daemon, client) = World::served();
    run(&client, &["ls", "--at", "1"], &world.source).expect(1, &["nothing has been backed up"]);
    three(&world, &client);
    let gone = world.source.join("docs/gone");
    run(&client, &["cat", "--at", "9"], &gone).expect(1, &["there is no snapshot 9 yet; there are 1 to 3"]);
    run(&client, &["cat", "--at", "3"], &gone).expect(1, &["snapshot 3 has no", "it is in 1 to 2"]);
    run(&client, &["cat", "--at", "2"], &world.source.join("never")).expect(1, &["no", "backed up is"]);
    run(&client, &["ls", "--at", "2"], Path::new("/etc")).expect(1, &["snapshot 2 is one of", "not in"]);
    run(&client, &["ls", "--at", "2001-02-03"], &gone).expect(1, &["at that time", "it is in 1 to 2"]);
    for at in ["yesterday week", "2026-02-30", "-3 days ago"] {
        run(&client, &["ls", "--at", at], &gone).expect(2, &[at, "2 days ago"]);
    }
    client.run(&["forget".as_ref(), world.source.as_os_str()]).expect(0, &[]);
    run(&client, &["ls", "--at", "4"], &world.source).expect(1, &["forgotten", "1 to 3"]);
    run(&client, &["cat", "--at", "1"], &gone).expect(0, &["gone\n"]);
    assert_eq!(client.run(&["ls"]).stdout, "");
    client.run(&["ls", "--at", "3"]).expect(0, &["source"]);
}

fn lose_catalog(store: &Path) {
    for name in ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"] {
        let _ = fs::remove_file(store.join(".rbbackup").join(name));
    }
}

/// What moved since lies in the copy under another name, and nothing but a manifest says where.
#[test]
fn without_a_catalog_what_moved_since_is_found() {
    let (world, mut daemon, client) = World::served();
    many(&world.source.join("old"), 2, 3);
    write(&world.source.join("old/large"), noise(3, 900_000));
    client.push("-rd", &world.source);
    let wanted = shape(&world.source.join("old"));
    fs::rename(world.source.join("old"), world.source.join("new")).unwrap();
    write(&world.source.join("old/large"), noise(4, 900_000));
    client.push("-rd", &world.source);
    daemon.stop();
    lose_catalog(&world.store);
    let reader = Client::new(&world.path("reader"), &["--store", world.store.to_str().unwrap()]);
    let options = |to: &'static str| ["restore", "--at", "1", "--to", to];
    run(&reader.in_dir(world.dir.path()), &options("read"), &world.source.join("old")).expect(0, &[]);
    assert_shape(&world.path("read/old"), &wanted);
    lose_catalog(&world.store);
    let _daemon = daemon.restart();
    run(&client.in_dir(world.dir.path()), &options("served"), &world.source.join("old")).expect(0, &[]);
    assert_shape(&world.path("served/old"), &wanted);
}

/// Rounds of changes, each backed up and kept by `cp -a`; then every snapshot restores as it was.
pub struct Rounds {
    pub world: World,
    pub client: Client,
    /// By number, from 1; empty: that snapshot is not there any more.
    pub kept: Vec<Option<PathBuf>>,
    forest: Forest,
    /// Serves; with `--store` none does.
    daemon: Option<Daemon>,
}

impl Rounds {
    pub fn new(seed: u64, served: bool) -> Self {
        let world = World::new();
        fs::remove_dir(&world.source).unwrap();
        let forest = Forest::plant(&world.source, seed);
        plant(&world.source.join("odd"));
        let daemon = served.then(|| world.daemon());
        let client = match &daemon {
            Some(daemon) => world.client(daemon, "a"),
            None => Client::new(&world.path("home"), &["--store", world.store.to_str().unwrap()]),
        };
        Self { world, client, kept: Vec::new(), forest, daemon }
    }

    pub fn go_on(&mut self) {
        if !self.kept.is_empty() {
            self.forest.grow();
        }
        let copy = self.world.path(&format!("kept-{}", self.kept.len() + 1));
        shell("cp", &["-a".as_ref(), self.world.source.as_os_str(), copy.as_os_str()]);
        let summary = self.client.push("-rd --force-delete", &self.world.source);
        self.kept.push(Some(copy));
        assert_eq!(summary["snapshot"], self.kept.len());
    }

    fn there(&self) -> Vec<(String, &PathBuf)> {
        (1..).zip(&self.kept).filter_map(|(number, kept)| Some((number.to_string(), kept.as_ref()?))).collect()
    }

    pub fn restore_each(&self) {
        let to = self.world.path("to");
        for (number, kept) in self.there() {
            let options = ["restore", "-q", "--at", &number, "--to", to.to_str().unwrap()];
            run(&self.client, &options, &self.world.source).expect(0, &[]);
            assert_same(&to.join("source"), kept);
            fs::remove_dir_all(&to).unwrap();
        }
    }

    /// From one to the next in the same place: only what differs is written.
    pub fn walk_back(&self) {
        for (number, kept) in self.there().into_iter().rev() {
            run(&self.client, &["restore", "-q", "--delete", "--at", &number], &self.world.source).expect(0, &[]);
            assert_shape(&self.world.source, &shape(kept));
        }
    }
}

#[test]
fn every_snapshot_restores_as_the_source_was() {
    let mut rng = Rng::announced("every_snapshot_restores_as_the_source_was");
    let mut rounds = Rounds::new(rng.next(), true);
    (0..5).for_each(|_| rounds.go_on());
    rounds.restore_each();
    rounds.walk_back();
}

#[test]
fn a_store_without_a_daemon_goes_back_too() {
    let mut rounds = Rounds::new(7, false);
    (0..3).for_each(|_| rounds.go_on());
    rounds.restore_each();
}

#[test]
#[ignore = "slow: thirty rounds of changes, every snapshot restored twice"]
fn thirty_rounds_restore_as_the_source_was() {
    let mut rng = Rng::announced("thirty_rounds_restore_as_the_source_was");
    let mut rounds = Rounds::new(rng.next(), true);
    (0..30).for_each(|_| rounds.go_on());
    rounds.restore_each();
    rounds.walk_back();
    // The same when nothing but files is left to know it from.
    let mut daemon = rounds.daemon.take().unwrap();
    daemon.stop();
    lose_catalog(&rounds.world.store);
    rounds.daemon = Some(daemon.restart());
    rounds.restore_each();
}
