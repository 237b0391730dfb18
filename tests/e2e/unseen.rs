//! Check 11: what a run could not or was told not to look at loses nothing, and the user hears of it.

use std::fs;

use crate::support::client::{Client, Outcome};
use crate::support::daemon::{Daemon, World, is_root};
use crate::support::trees::{assert_same, many, set_mode, write};

/// A client for whom permissions count, and the name of his folder.
fn nobody(world: &World, daemon: &Daemon) -> (Client, String) {
    let client = world.client(daemon, "nobody");
    if is_root() { (client.as_uid(65534), "nobody".to_owned()) } else { (client, crate::support::daemon::login()) }
}

fn errors(outcome: &Outcome) -> Vec<String> {
    let errors = outcome.objects().into_iter().filter(|object| object["type"] == "error");
    errors.map(|error| error["path"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_cannot_be_read_is_named_and_loses_nothing() {
    let world = World::new();
    let daemon = world.daemon();
    let (client, user) = nobody(&world, &daemon);
    many(&world.source, 3, 3);
    write(&world.source.join("f01/deep/er"), "deeper");
    write(&world.source.join("f02/secret"), "secret");
    assert_eq!(client.push("-rd", &world.source)["incomplete"], false);
    let copy = world.copy_for("127.0.0.1", &user, &world.source);
    let (folder, file) = (world.source.join("f01"), world.source.join("f02/secret"));
    set_mode(&folder, 0);
    set_mode(&file, 0);
    fs::remove_file(world.source.join("f02/000")).unwrap();
    write(&world.source.join("f00/new"), "new");
    for flags in ["-rd", "-rd", "-r"] {
        let outcome = client.try_push(flags, &world.source);
        outcome.expect(3, &["Permission denied"]);
        let summary = outcome.summary();
        assert_eq!((&summary["incomplete"], &summary["errors"]), (&true.into(), &2.into()), "{summary}");
        let named = errors(&outcome);
        assert_eq!(named.len(), 2, "{named:?}");
        assert!(named[0].ends_with("f01") && named[1].ends_with("f02/secret"), "{named:?}");
    }
    let has = |name: &str| copy.join(name).exists();
    assert!(has("f01/000") && has("f01/deep/er") && has("f02/secret"), "nothing is lost");
    assert!(has("f00/new") && !has("f02/000"), "the rest is backed up, and cleared");
    // In words, without --json.
    let words = client.run(&["-rd".as_ref(), world.source.as_os_str()]);
    words.expect(3, &["f01", "f02/secret", "Permission denied"]);
    let listed = client.run(&["ls".as_ref(), folder.as_os_str()]);
    listed.expect(0, &["000", "deep"]);
    // Readable again: all is well.
    set_mode(&folder, 0o755);
    set_mode(&file, 0o644);
    fs::remove_dir_all(world.source.join("f01/deep")).unwrap();
    assert_eq!(client.push("-rd", &world.source)["incomplete"], false);
    assert!(!has("f01/deep"));
    assert_same(&copy, &world.source);
}

#[test]
fn what_can_never_be_read_is_left_out() {
    let world = World::new();
    let daemon = world.daemon();
    let (client, user) = nobody(&world, &daemon);
    many(&world.source, 2, 2);
    set_mode(&world.source.join("f00"), 0o311);
    set_mode(&world.source.join("f01/000"), 0o200);
    let outcome = client.try_push("-rd", &world.source);
    outcome.expect(3, &["f00", "f01/000"]);
    assert_eq!(outcome.summary()["files"], 1);
    let copy = world.copy_for("127.0.0.1", &user, &world.source);
    assert!(copy.join("f01/001").exists() && !copy.join("f01/000").exists() && !copy.join("f00/000").exists());
    set_mode(&world.source.join("f00"), 0o755);
    set_mode(&world.source.join("f01/000"), 0o644);
}

/// The root itself: nothing was seen, so nothing is done.
#[test]
fn a_root_that_cannot_be_read_loses_nothing() {
    let world = World::new();
    let daemon = world.daemon();
    let (client, user) = nobody(&world, &daemon);
    many(&world.source, 2, 20);
    client.push("-rd", &world.source);
    set_mode(&world.source, 0);
    let outcome = client.try_push("-rd --force-delete", &world.source);
    assert_ne!(outcome.code, 0, "{}", outcome.said());
    outcome.expect(outcome.code, &["Permission denied", world.source.to_str().unwrap()]);
    set_mode(&world.source, 0o755);
    let copy = world.copy_for("127.0.0.1", &user, &world.source);
    assert_same(&copy.join("f00"), &world.source.join("f00"));
    assert_same(&copy.join("f01"), &world.source.join("f01"));
}

/// `rbbackup -r /` on the daemon's own machine, in small.
#[test]
fn the_store_is_left_out_of_a_backup_of_what_holds_it() {
    let (world, daemon, client) = World::served();
    many(&world.source, 2, 2);
    let all = world.path("");
    let all = all.as_path();
    for round in 0..3 {
        let outcome = client.run(&["-rd".as_ref(), all.as_os_str()]);
        outcome.expect(0, &["store", "the store that this backup is written to"]);
        let copy = world.copy_of(all);
        assert_same(&copy.join("source"), &world.source);
        assert!(copy.join("home-a").exists() && !copy.join("store").exists(), "round {round}");
    }
    // What lies in the store would grow with each run.
    for within in [world.store.clone(), world.store.join("127.0.0.1"), world.copy_of(&world.source).join("f00/000")] {
        client.run(&["-rd".as_ref(), within.as_os_str()]).expect(2, &["lies in the store"]);
    }
    // Without a daemon too.
    drop(daemon);
    let embedded = Client::new(&world.path("home-b"), &["--store", world.store.to_str().unwrap()]);
    embedded.run(&["-rd".as_ref(), all.as_os_str()]).expect(0, &["the store that this backup is written to"]);
    assert!(!world.copy_of(all).join("store").exists());
}

/// `rbbackup -r /`, with everything left out but the way to the source, and the kernel's own folders.
#[test]
fn the_root_of_the_machine_can_be_backed_up() {
    let world = World::new();
    let daemon = world.daemon();
    let mut client = world.client(&daemon, "a");
    many(&world.source, 2, 2);
    let mut patterns = String::new();
    let dir = world.dir.path().canonicalize().unwrap();
    let way: Vec<_> = dir.ancestors().collect();
    for (above, step) in way.iter().rev().zip(way.iter().rev().skip(1)) {
        patterns += &format!("{}/*\n!{}\n", above.display().to_string().trim_end_matches('/'), step.display());
    }
    write(&world.path("patterns"), patterns + "!/proc\n!/sys\n");
    client = client.with(&["-v", "--exclude-from", world.path("patterns").to_str().unwrap()]);
    for _ in 0..2 {
        let outcome = client.run(&["-rd", "/"]);
        outcome.expect(0, &["the store that this backup is written to", "skipped /proc: a file system of the kernel"]);
        assert_same(&world.copy_of(&dir.join("source")), &world.source);
        assert!(!world.copy_of(&dir.join("store")).exists());
    }
}
