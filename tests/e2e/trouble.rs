//! A store in trouble: commits that cannot be finished, full disks, content that rots. The trouble stays where it is.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rbbackup::backup::bytes::Bytes;
use rbbackup::backup::digest::RunId;
use rbbackup::backup::fingerprint::Timestamp;
use rbbackup::backup::relpath::RelPath;
use rbbackup::backup::snapshot::{RunKind, RunOutcome, SnapshotRecord};
use rbbackup::store::catalog::{Catalog, CatalogReader, Update};
use rbbackup::store::journal::{Journal, ParkStep};
use rbbackup::store::layout::{OpenMode, Store};
use rbbackup::store::names::CopyName;
use rbbackup::store::present::{PassPlace, pass};
use rbbackup::tree::safe_dir::SafeDir;

use crate::support::client::{Client, Outcome};
use crate::support::daemon::{Daemon, World, is_root, login, skipped, wait_until};
use crate::support::mount::Mount;
use crate::support::trees::{assert_same, many, noise, plant, write};

/// Two clients with a copy each: `127.0.0.1` and `127.0.0.2`.
fn two(world: &World, daemon: &Daemon) -> (Client, Client) {
    let (one, two) = (world.client(daemon, "a"), world.client(daemon, "b").with(&["--bind", "127.0.0.2"]));
    plant(&world.source);
    one.push("-r", &world.source);
    two.push("-r", &world.source);
    (one, two)
}

/// The newest record of `127.0.0.1`'s copy.
fn newest(store: &Path) -> SnapshotRecord {
    let store = Store::open(store, OpenMode::ReadOnly).unwrap();
    let copy = store.copies().unwrap().into_iter().find(|copy| copy.node() == "127.0.0.1").unwrap();
    let list = store.snapshots(&copy).unwrap().list().unwrap();
    (**list.last().unwrap()).clone()
}

/// A whole journal of `127.0.0.1`'s copy whose only step is to move a file that is not there.
fn hopeless_journal(store: &Path) -> PathBuf {
    let record = newest(store);
    let record = SnapshotRecord { number: record.number + 1, run: RunId([0xab; 16]), ..record };
    let journal = Journal {
        run: record.run,
        node: Bytes(b"127.0.0.1".to_vec()),
        user: Bytes(login().into_bytes()),
        root: record.root.clone(),
        staging: Bytes(b"none".to_vec()),
        record: Bytes(record.encode().unwrap()),
        parks: vec![ParkStep { path: RelPath::new(b"not there").unwrap(), ino: 1, to: 0, slot: 1 }],
        places: Vec::new(),
        touches: Vec::new(),
    };
    let path = store.join(".rbbackup/journal").join(record.run.to_hex());
    fs::write(&path, journal.encode().unwrap()).unwrap();
    path
}

#[test]
fn a_commit_that_cannot_be_finished_closes_its_copy_alone() {
    let world = World::new();
    let mut daemon = world.daemon();
    let (one, two) = two(&world, &daemon);
    daemon.stop();
    let journal = hopeless_journal(&world.store);
    let daemon = daemon.restart();
    let path = journal.to_str().unwrap();
    assert!(daemon.log().contains("ERROR") && daemon.log().contains(path), "{}", daemon.log());
    for _ in 0..2 {
        one.try_push("-r", &world.source).expect(1, &["the copy 127.0.0.1/", path, "'not there'"]);
    }
    one.run(&["forget".as_ref(), world.source.as_os_str()]).expect(1, &[path]);
    // Reading goes on, and so does everybody else.
    one.run(&["ls".as_ref(), world.source.as_os_str()]).expect(0, &["readme"]);
    write(&world.source.join("new"), "new");
    two.push("-r", &world.source);
    assert_same(&world.copy_for("127.0.0.2", &login(), &world.source), &world.source);
    // What stood in the way has gone: no restart is needed.
    fs::remove_file(journal).unwrap();
    one.push("-r", &world.source);
    assert_same(&world.copy(), &world.source);
}

#[test]
fn a_journal_that_cannot_be_read_closes_the_copy_whose_draft_tells() {
    let world = World::new();
    let mut daemon = world.daemon();
    let (one, two) = two(&world, &daemon);
    daemon.stop();
    let journal = hopeless_journal(&world.store);
    let mut bytes = fs::read(&journal).unwrap();
    bytes[40] ^= 1;
    fs::write(&journal, bytes).unwrap();
    // Nothing says whose it is: nobody's copy is touched.
    let mut daemon = daemon.restart();
    for client in [&one, &two] {
        client.try_push("-r", &world.source).expect(1, &["every copy", journal.to_str().unwrap(), "damaged"]);
    }
    daemon.stop();
    let run = RunId([0xab; 16]);
    let drafts = world.store.join(".rbbackup/snapshots").join(format!("127.0.0.1@{}", login()));
    fs::write(drafts.join(format!(".tmp-{run}.record")), "the draft of its record").unwrap();
    let mut daemon = daemon.restart();
    one.try_push("-r", &world.source).expect(1, &["the copy 127.0.0.1/", "damaged"]);
    two.push("-r", &world.source);
    // The run is committed: the journal has nothing to say any more.
    daemon.stop();
    let committed = world.store.join(".rbbackup/journal").join(newest(&world.store).run.to_hex());
    fs::rename(&journal, &committed).unwrap();
    let daemon = daemon.restart();
    one.push("-r", &world.source);
    assert!(!committed.exists());
    drop(daemon);
}

/// What left the copy before a commit got stuck stays in history, also when its journal is given up.
#[test]
fn a_journal_that_is_moved_away_takes_no_history_along() {
    let (world, mut daemon, client) = World::served();
    (0..9).for_each(|i| write(&world.source.join(format!("{i}/file")), noise(i, 100)));
    client.push("-r", &world.source);
    let stuck = world.copy().join("4/file");
    if !is_root() || !change_flags("+i", &stuck) {
        return skipped("it needs root, and a file system with immutable files");
    }
    (0..9).for_each(|i| fs::remove_file(world.source.join(format!("{i}/file"))).unwrap());
    client.try_push("-rd --force-delete", &world.source).expect(1, &["4/file"]);
    daemon.stop();
    let own = world.store.join(".rbbackup");
    for journal in fs::read_dir(own.join("journal")).unwrap() {
        fs::rename(journal.unwrap().path(), world.path("journal")).unwrap();
    }
    drop(daemon.restart());
    assert!(change_flags("-i", &stuck));
    let retired: Vec<_> =
        fs::read_dir(own.join("retired")).unwrap().flat_map(|d| fs::read_dir(d.unwrap().path()).unwrap()).collect();
    let left = (0..9).filter(|i| world.copy().join(format!("{i}/file")).exists()).count();
    assert!(left < 9, "the commit had begun");
    assert_eq!(retired.len() + left, 9);
}

fn change_flags(how: &str, path: &Path) -> bool {
    let outcome = Outcome::of(std::process::Command::new("chattr").arg(how).arg(path));
    outcome.code == 0
}

/// Somebody protects a file of the copy in a way that only shows when it is moved.
#[test]
fn what_fails_after_the_journal_is_finished_by_the_next_run() {
    let world = World::new();
    let daemon = world.daemon();
    let (one, two) = two(&world, &daemon);
    let file = world.copy().join("docs/private");
    if !is_root() || !change_flags("+i", &file) {
        return skipped("it needs root, and a file system with immutable files");
    }
    fs::remove_file(world.source.join("docs/private")).unwrap();
    write(&world.source.join("new"), "new");
    one.try_push("-rd", &world.source).expect(1, &["docs/private", "the next run"]);
    one.try_push("-rd", &world.source).expect(1, &["the copy 127.0.0.1/", "docs/private"]);
    two.push("-rd", &world.source);
    assert!(change_flags("-i", &file));
    one.push("-rd", &world.source);
    assert_same(&world.copy(), &world.source);
    // The first, the one that was finished, and the one that found nothing left to do.
    assert_eq!(newest(&world.store).number, 3);
    assert_eq!(fs::read_dir(world.store.join(".rbbackup/journal")).unwrap().count(), 0);
}

/// Check 11: after a run that did not fit the store takes one that does.
#[test]
fn a_full_store_does_not_stay_full() {
    let mut world = World::new();
    let disk = world.path("disk");
    fs::create_dir(&disk).unwrap();
    let Some(_small) = Mount::tmpfs(&disk, "size=6m") else { return skipped("mounting needs root") };
    world.store = disk.join("store");
    let daemon = world.daemon();
    let client = world.client(&daemon, "a");
    let (small, large) = (world.source.join("small"), world.source.join("large"));
    write(&small.join("file"), noise(1, 200_000));
    client.push("-r", &small);
    for i in 0..8 {
        write(&large.join(i.to_string()), noise(10 + i, if i == 0 { 3_000_000 } else { 1_000_000 }));
    }
    let outcome = client.try_push("-r", &large);
    outcome.expect(13, &["No space"]);
    assert_eq!(fs::read_dir(world.store.join(".rbbackup/staging")).unwrap().count(), 0);
    write(&small.join("more"), noise(2, 1_000_000));
    client.push("-r", &small);
    assert_same(&world.copy_of(&small), &small);
}

/// Content of the copy that is not what the catalog says, and nothing about the file tells: what a disk does that rots.
fn rot(world: &World, name: &str, at: &[usize]) {
    let path = world.copy().join(name);
    let mut bytes = fs::read(&path).unwrap();
    at.iter().for_each(|at| bytes[*at] ^= 1);
    fs::write(&path, bytes).unwrap();
    let found = fs::symlink_metadata(&path).unwrap();
    let catalog = world.store.join(".rbbackup/catalog.sqlite");
    let (catalog, reader) = (Catalog::open(&catalog).unwrap(), CatalogReader::open(&catalog).unwrap());
    let copy = catalog.copy_id(&CopyName::new(b"127.0.0.1", login().as_bytes()).unwrap()).unwrap();
    let at = RelPath::from_absolute(world.source.join(name).as_os_str().as_encoded_bytes()).unwrap();
    let mut row = reader.get(copy, &at).unwrap().unwrap();
    let time = |secs, nanos: i64| Timestamp { secs, nanos: u32::try_from(nanos).unwrap() };
    row.fingerprint.mtime = time(found.mtime(), found.mtime_nsec());
    row.fingerprint.ctime = time(found.ctime(), found.ctime_nsec());
    catalog.apply(copy, [Update::Put(row)]).unwrap();
}

#[test]
fn chunks_that_rotted_are_asked_for_and_not_offered_for_ever() {
    let (world, mut daemon, client) = World::served();
    let (short, long) = (noise(1, 700_000), noise(2, 6_000_000));
    write(&world.source.join("short"), &short);
    write(&world.source.join("long"), &long);
    client.push("-r", &world.source);
    daemon.stop();
    rot(&world, "short", &[100, 600_000]);
    rot(&world, "long", &[2_000_000, 5_999_999]);
    let daemon = daemon.restart();
    // The old files are what the new ones are made of: as a base, and by their chunks.
    write(&world.source.join("short"), [b"more".as_slice(), &short].concat());
    write(&world.source.join("long"), [b"more".as_slice(), &long].concat());
    write(&world.source.join("other"), [&long[1_000_000..4_000_000], b"end"].concat());
    write(&world.source.join("both"), [&short[..], &long].concat());
    client.push("-r", &world.source);
    assert_same(&world.copy(), &world.source);
    drop(daemon);
}

#[test]
fn every_run_leaves_a_record_how_it_ended() {
    let (world, _daemon, client) = World::served();
    let records = || {
        let store = Store::open(&world.store, OpenMode::ReadOnly).unwrap();
        store.runs(&CopyName::new(b"127.0.0.1", login().as_bytes()).unwrap()).newest(10).unwrap()
    };
    many(&world.source, 1, 20);
    client.push("-r", &world.source);
    client.push("-rn", &world.source);
    fs::remove_dir_all(world.source.join("f00")).unwrap();
    client.try_push("-rd", &world.source).expect(14, &[]);
    client.run(&["forget".as_ref(), world.source.as_os_str()]).expect(0, &[]);
    // The answer comes first.
    wait_until("the third record", || records().len() == 3);
    let [forgotten, refused, first] = &records()[..] else { panic!("{:?}", records()) };
    assert_eq!((first.kind, &first.outcome), (RunKind::Backup, &RunOutcome::Committed { snapshot: 1 }));
    assert!(first.content_bytes > 0 && first.ended >= first.started);
    assert!(matches!(&refused.outcome, RunOutcome::Failed { exit_code: 14, message } if message.contains("force")));
    assert_eq!((forgotten.kind, &forgotten.outcome), (RunKind::Forget, &RunOutcome::Committed { snapshot: 2 }));
}

/// DESIGN 7: deleting the catalog loses nothing; and no record, no hint, is no reason to remove what was retired.
#[test]
fn what_was_retired_is_found_again_without_the_catalog_and_kept_without_the_record() {
    let (world, mut daemon, client) = World::served();
    many(&world.source, 2, 10);
    write(&world.source.join("large"), noise(1, 500_000));
    client.push("-r", &world.source);
    let (away, large) = (world.path("away"), world.source.join("large"));
    fs::rename(world.source.join("f01"), &away).unwrap();
    fs::remove_file(&large).unwrap();
    client.push("-rd", &world.source);
    let history = || client.run(&["status", "--json"]).object("status")["retired_files"].clone();
    daemon.wait_for("11 retired files");
    let known = history();
    daemon.stop();
    let own = world.store.join(".rbbackup");
    for name in ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"] {
        let _ = fs::remove_file(own.join(name));
    }
    let mut daemon = daemon.restart();
    assert_eq!(history(), known);
    daemon.wait_for("1 packs of 127.0.0.1/");
    write(&large, noise(1, 500_000));
    fs::rename(&away, world.source.join("f01")).unwrap();
    assert_eq!(client.push("-r", &world.source)["content_bytes_sent"], 0);
    // Only a draft says that a run never counted.
    daemon.stop();
    let copy = own.join("snapshots").join(format!("127.0.0.1@{}", login()));
    let lost = own.join("retired").join(RunId([8; 16]).to_hex()).join("1/file");
    write(&lost, "of a run whose record somebody removed");
    fs::write(copy.join(format!(".tmp-{}.record", RunId([7; 16]))), "never").unwrap();
    let never = own.join("retired").join(RunId([7; 16]).to_hex());
    write(&never.join("1"), "a copy made for a commit that never was");
    let mut daemon = daemon.restart();
    client.push("-r", &world.source);
    daemon.stop();
    assert!(!never.exists() && lost.exists());
}

/// DESIGN 7: reading a store needs no lock, and no catalog.
#[test]
fn a_store_is_read_beside_its_daemon_and_without_its_catalog() {
    let (world, mut daemon, client) = World::served();
    plant(&world.source);
    client.push("-r", &world.source);
    fs::remove_file(world.source.join("docs/script")).unwrap();
    client.push("-rd", &world.source);
    let local = Client::new(&world.path("home-local"), &["--store", world.store.to_str().unwrap()]);
    daemon.wait_for("1 retired files");
    let status = client.run(&["status", "--json"]).object("status");
    let (store, history) = (status["store"].clone(), status["retired_files"].clone());
    let read = |to: &str| {
        local.run(&["ls".as_ref(), world.source.as_os_str()]).expect(0, &["readme"]);
        let status = local.run(&["status", "--json"]).object("status");
        assert_eq!((&status["retired_files"], &status["store"]), (&history, &store));
        let to = world.path(to);
        local.run(&["restore".as_ref(), world.source.as_os_str(), "--to".as_ref(), to.as_os_str()]).expect(0, &[]);
        assert_same(&to.join("source"), &world.source);
    };
    read("beside");
    // Writing does need the lock.
    local.try_push("-r", &world.source).expect(1, &["in use"]);
    let catalog = world.store.join(".rbbackup/catalog.sqlite");
    for name in ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"] {
        fs::remove_file(catalog.with_file_name(name)).unwrap();
    }
    read("without");
    assert!(!catalog.exists(), "who only reads makes nothing");
    daemon.stop();
    let empty = Client::new(&world.path("home-local"), &["--store", world.source.to_str().unwrap()]);
    empty.run(&["ls"]).expect(1, &["no rbbackup store"]);
    assert!(!world.source.join(".rbbackup").exists());
}

/// A bad sector costs the file that lies on it, not all runs for ever.
#[test]
fn a_file_of_the_copy_that_cannot_be_read_is_no_content() {
    let world = World::new();
    plant(&world.source);
    let file = world.source.join("docs/private");
    // The memory of another process: a file whose first page cannot be read.
    let Some(_mounted) = Mount::bind(Path::new("/proc/1/mem"), &file) else { return skipped("mounting needs root") };
    let catalog = Catalog::open(&world.path("catalog")).unwrap();
    let copy = catalog.copy_id(&CopyName::new(b"n", b"u").unwrap()).unwrap();
    let dir = Arc::new(SafeDir::open_operator(&world.source).unwrap());
    let (root, reader) = (RelPath::root(), catalog.reader().unwrap());
    let place = PassPlace { copy_dir: &dir, copy, root: &root, recursive: true, safe_before: Timestamp::default() };
    let found = pass(&catalog, &reader, &place).unwrap();
    assert!(found.notes.len() == 1 && found.notes[0].contains("docs/private"), "{:?}", found.notes);
    let digest = |path: &str| reader.get(copy, &RelPath::new(path.as_bytes()).unwrap()).unwrap().unwrap().digest;
    assert!(digest("docs/private").is_none() && digest("docs/script").is_some());
}
