//! Two stores in this process: what one of them has committed is sent to the other over a link in memory.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::backup::relpath::RelPath;
use crate::backup::when::When;
use crate::engine::client::ClientOptions;
use crate::engine::fan_out::whose::who_of;
use crate::engine::hub::{HubOptions, OpenCopy};
use crate::engine::observer::Silent;
use crate::engine::push::{PushOptions, push};
use crate::engine::receive::{self, Terms};
use crate::engine::restore::{Overwrite, RestoreOptions, restore};
use crate::net::message::{Refused, WireChange};
use crate::store::catalog::{Row, Update};

mod odd;
mod trees;
pub(in crate::engine) mod wire;

use self::trees::{Dice, noise, picture};
use self::wire::{Cut, Traffic, attempt_between, send};

/// A source, the daemon's store, and a destination's.
struct World {
    temp: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("src")).unwrap();
        Self { temp }
    }

    fn src(&self) -> PathBuf {
        self.temp.path().join("src")
    }

    fn write(&self, path: &str, content: &[u8]) {
        let path = self.src().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn client(&self, store: &str) -> ClientOptions {
        ClientOptions::of_store(&self.temp.path().join(store), self.temp.path())
    }

    fn push(&self) {
        self.push_with(PushOptions { root: self.src(), recursive: true, delete: true, ..Default::default() });
    }

    fn push_with(&self, options: PushOptions) {
        push(&self.client("a"), &PushOptions { force_delete: true, ..options }, &Silent).unwrap();
    }

    fn hub(&self, store: &str) -> Hub {
        Hub::open(&self.temp.path().join(store), HubOptions::in_process()).unwrap()
    }

    /// Brings store `b` to what `a` has.
    fn catch_up(&self) -> Traffic {
        let (outcome, traffic) = self.attempt(None, &Stop::default());
        outcome.unwrap();
        self.assert_same_records();
        traffic
    }

    fn attempt(&self, cut: Cut, cancel: &Stop) -> (Result<Committed, EngineError>, Traffic) {
        let (a, b) = (self.hub("a"), self.hub("b"));
        attempt_between(&a, &b, cut, cancel)
    }

    fn assert_same_records(&self) {
        let newest = |hub: &Hub| newest(hub).unwrap();
        let (a, b) = (newest(&self.hub("a")), newest(&self.hub("b")));
        assert_eq!((a.run, a.manifest, &a.root, a.recursive), (b.run, b.manifest, &b.root, b.recursive));
        assert_eq!((a.complete, &a.errors, a.file_system), (b.complete, &b.errors, b.file_system));
        assert_eq!((a.entries, a.files, a.bytes), (b.entries, b.files, b.bytes));
    }

    /// What a restore of the newest snapshot brings.
    fn restored(&self, store: &str) -> BTreeMap<Vec<u8>, String> {
        let to = self.temp.path().join(format!("restored-{store}"));
        let _ = fs::remove_dir_all(&to);
        let options = RestoreOptions {
            path: self.src(),
            when: When::Latest,
            to: Some(to.clone()),
            overwrite: Overwrite::Changed,
            delete: false,
            dry_run: false,
        };
        let summary = restore(&self.client(store), &options, &Silent).unwrap();
        assert_eq!((summary.errors, &summary.notes[..]), (0, &[][..]));
        picture(&to.join("src"))
    }

    fn assert_same(&self) {
        let (a, b) = (self.restored("a"), self.restored("b"));
        assert_eq!(a, b);
        assert_eq!(a, picture(&self.src()));
    }

    /// Where a path of the source stands in a plain copy.
    fn copy(&self, store: &str, path: &str) -> PathBuf {
        let place = self.temp.path().join(store).join("127.0.0.1/u");
        place.join(self.src().strip_prefix("/").unwrap()).join(path)
    }
}

fn newest(hub: &Hub) -> Option<Arc<SnapshotRecord>> {
    let copy = hub.store.copies().unwrap().pop()?;
    hub.store.snapshots(&copy).unwrap().list().unwrap().pop()
}

#[test]
fn any_tree_after_any_history_is_the_same_there() {
    for seed in 1..=2 {
        let (world, mut dice) = (World::new(), Dice::new(seed));
        for round in 0..5 {
            trees::change(&world.src(), &mut dice);
            world.push();
            // Some snapshots are missed.
            if round > 0 && dice.one_in(2) && round < 4 {
                continue;
            }
            world.catch_up();
            world.assert_same();
        }
        let (a, b) = (world.hub("a"), world.hub("b"));
        let numbers = |hub: &Hub| newest(hub).unwrap().number;
        assert!(numbers(&a) == 5 && numbers(&b) <= 5);
    }
}

#[test]
fn one_of_everything_arrives() {
    let world = World::new();
    trees::one_of_everything(&world.src());
    world.push();
    world.catch_up();
    world.assert_same();
    assert_eq!(picture(&world.copy("a", "")), picture(&world.copy("b", "")));
    // Once more: the receipt comes again, and nothing travels.
    let traffic = world.catch_up();
    assert_eq!((traffic.content, traffic.offered, traffic.puts), (0, 0, 0));
}

#[test]
fn a_root_that_is_a_file_arrives() {
    let world = World::new();
    for content in [noise(40, 1), noise(2_000_000, 2), Vec::new()] {
        fs::write(world.src().join("only"), &content).unwrap();
        world.push_with(PushOptions { root: world.src().join("only"), ..Default::default() });
        world.catch_up();
        assert_eq!(fs::read(world.copy("b", "only")).unwrap(), content);
    }
}

#[test]
fn only_what_differs_travels() {
    let world = World::new();
    for i in 0..700 {
        world.write(&format!("d{}/f{i}", i % 13), format!("content {i}").as_bytes());
    }
    let mut big = noise(12_000_000, 7);
    world.write("big", &big);
    world.push();
    let all = world.catch_up();
    let small: u64 = (0..700).map(|i| format!("content {i}").len() as u64).sum();
    assert_eq!(all.content, small + big.len() as u64);
    // Missed, and changed again: a file that is new, one that moves, one that goes, one of which little changes.
    world.write("passing", b"never seen over there");
    world.push();
    fs::remove_file(world.src().join("passing")).unwrap();
    world.write("new", &noise(50_000, 8));
    fs::rename(world.src().join("d3/f3"), world.src().join("moved")).unwrap();
    fs::remove_file(world.src().join("d4/f4")).unwrap();
    big.splice(6_000_000..6_000_000, *b"a few bytes more");
    world.write("big", &big);
    world.push();
    let change = world.catch_up();
    world.assert_same();
    assert!((50_000..50_000 + 300_000).contains(&change.content), "{change:?}");
    assert_eq!((change.offered, change.based, &change.files[..]), (3, 1, &["new".to_owned()][..]));
    assert!(change.chunks_named < 30, "ranges of the base: {change:?}");
    assert!(change.puts < 10 && change.removes == ["d3/f3", "d4/f4"], "{change:?}");
    let b = world.hub("b");
    let record = newest(&b).unwrap();
    assert_eq!((record.number, record.counts[2]), (2, 1), "the moved file is moved there too");
}

#[test]
fn what_the_copy_keeps_is_kept_over_there_and_nothing_else() {
    let world = World::new();
    for path in ["kept/a", "kept/deep/b", "stays", "goes"] {
        world.write(path, path.as_bytes());
    }
    world.push();
    world.catch_up();
    fs::remove_file(world.src().join("goes")).unwrap();
    world.push();
    // Missed. Without -d the copy keeps what the source has not.
    fs::remove_dir_all(world.src().join("kept")).unwrap();
    world.write("stays", b"more");
    world.push_with(PushOptions { root: world.src(), recursive: true, ..Default::default() });
    let traffic = world.catch_up();
    assert_eq!(traffic.unseen, ["kept"], "of a kept folder its own name is enough");
    assert_eq!(fs::read(world.copy("b", "kept/deep/b")).unwrap(), b"kept/deep/b");
    assert!(!world.copy("b", "goes").exists());
    assert_eq!(world.restored("a"), world.restored("b"));
    // Its record lists it as kept; when the source deletes it, it goes in both.
    world.push();
    world.catch_up();
    assert!(!world.copy("b", "kept").exists());
    world.assert_same();
}

#[test]
fn an_incomplete_snapshot_is_one_over_there_too_and_its_gap_shows() {
    let world = World::new();
    world.write("a", b"a");
    world.push();
    let (a, b) = (world.hub("a"), world.hub("b"));
    let copy = a.store.copies().unwrap().remove(0);
    let mut record = SnapshotRecord::clone(&newest(&a).unwrap());
    (record.complete, record.parent) = (false, Some(crate::backup::digest::RunId([7; 16])));
    record.errors = vec!["closed/x: permission denied".into()];
    send(&a, &b, &Due { copy: &copy, record: &record, head: None });
    let there = newest(&b).unwrap();
    assert_eq!((there.complete, &there.errors), (false, &record.errors));
    assert_eq!(there.parent, record.parent, "it follows on one that this store never had");
}

#[test]
fn content_comes_from_history_when_the_copy_has_gone_on() {
    let world = World::new();
    world.write("small", b"as it was");
    world.write("big", &noise(3_000_000, 1));
    world.push();
    let old = newest(&world.hub("a")).unwrap();
    world.write("small", b"as it is!");
    world.write("big", &noise(3_000_000, 2));
    world.push();
    let (a, b) = (world.hub("a"), world.hub("b"));
    let copy = a.store.copies().unwrap().remove(0);
    send(&a, &b, &Due { copy: &copy, record: &old, head: None });
    drop((a, b));
    assert_eq!(fs::read(world.copy("b", "small")).unwrap(), b"as it was");
    assert_eq!(fs::read(world.copy("b", "big")).unwrap(), noise(3_000_000, 1));
    // And on to the newest.
    world.catch_up();
    world.assert_same();
}

#[test]
fn damage_of_ours_is_named_and_nothing_wrong_arrives() {
    for path in ["d/small", "big"] {
        let world = World::new();
        world.write("d/small", b"0123456789");
        world.write("big", &noise(4_000_000, 3));
        world.write("other", b"good");
        world.push();
        let file = fs::OpenOptions::new().write(true).open(world.copy("a", path)).unwrap();
        file.write_all_at(b"X", 5).unwrap();
        drop(file);
        let (outcome, _) = world.attempt(None, &Stop::default());
        let error = outcome.unwrap_err();
        let named = error.kind == ErrorKind::Failed && error.message.contains(&format!("/src/{path}'"));
        assert!(named, "{error}");
        assert!(newest(&world.hub("b")).is_none() && !world.copy("b", "other").exists());
        // Put right by the next backup, it arrives.
        world.push();
        world.catch_up();
        world.assert_same();
    }
}

#[test]
fn a_place_that_turns_out_to_be_damaged_is_left_for_another() {
    let world = World::new();
    let content = noise(6_000_000, 3);
    world.write("a", &content);
    world.write("b", &content);
    world.push();
    let file = fs::OpenOptions::new().write(true).open(world.copy("a", "a")).unwrap();
    file.write_all_at(b"X", 5_900_000).unwrap();
    drop(file);
    // The catalog believes in it all the same.
    let a = world.hub("a");
    let copy = OpenCopy::open(&a, &a.store.copies().unwrap().remove(0)).unwrap();
    let path = RelPath::from_absolute(world.src().join("a").as_os_str().as_encoded_bytes()).unwrap();
    let row = a.catalog.reader().unwrap().get(copy.id, &path).unwrap().unwrap();
    let fingerprint = copy.dir.open_dir(&path.parent().unwrap()).unwrap().stat(b"a").unwrap().fingerprint();
    a.catalog.apply(copy.id, [Update::Put(Row { fingerprint, ..row })]).unwrap();
    drop((a, copy));
    let (outcome, traffic) = world.attempt(None, &Stop::default());
    outcome.unwrap();
    world.assert_same_records();
    assert_eq!(traffic.given_up, 1, "what was sent of the damaged one is forgotten: {traffic:?}");
    assert_eq!(fs::read(world.copy("b", "a")).unwrap(), content);
    assert_eq!(fs::read(world.copy("b", "b")).unwrap(), content);
}

#[test]
fn what_the_far_end_lost_is_sent_when_it_asks() {
    let world = World::new();
    world.write("d/small", b"0123456789");
    world.write("big", &noise(4_000_000, 3));
    world.push();
    world.catch_up();
    fs::remove_file(world.copy("b", "d/small")).unwrap();
    fs::remove_file(world.copy("b", "big")).unwrap();
    world.write("new", b"n");
    world.push();
    let traffic = world.catch_up();
    assert_eq!(traffic.offered, 1);
    assert_eq!(traffic.content, 4_000_000 + 10 + 1);
    world.assert_same();
}

#[test]
fn what_arrived_before_a_cut_is_not_sent_again() {
    let world = World::new();
    for i in 0..400_u32 {
        world.write(&format!("f{i:03}"), &noise(20_000, i as u8).repeat(1 + i as usize % 3));
        world.write(&format!("g{i:03}"), &[&i.to_le_bytes()[..], &noise(10_000, 9)].concat());
    }
    world.write("zbig", &noise(20_000_000, 77));
    world.push();
    let total = 20_000_000 + 400 * 10_004 + (0..256).map(|i| 20_000 * (1 + i % 3)).sum::<u64>();
    let (mut sent, mut cuts) = (0, 0);
    for cut in [3_000_000, 4_000_000, 12_000_000] {
        let (outcome, traffic) = world.attempt(Some(cut), &Stop::default());
        assert_eq!(outcome.unwrap_err().kind, ErrorKind::Unreachable);
        assert!(newest(&world.hub("b")).is_none());
        (sent, cuts) = (sent + traffic.content, cuts + 1);
    }
    let last = world.catch_up();
    world.assert_same();
    // What was on its way at each cut may be lost.
    let all = sent + last.content;
    assert!(all <= total + cuts * 8_000_000, "{all} of {total}");
    assert!(last.content <= total - 10_000_000, "{last:?}");
}

#[test]
fn to_cancel_ends_it_soon_and_the_copy_is_as_it_was() {
    let world = World::new();
    world.write("big", &noise(30_000_000, 1));
    world.push();
    let (a, b) = (world.hub("a"), world.hub("b"));
    let cancel = Stop::default();
    let copy = a.store.copies().unwrap().remove(0);
    let record = newest(&a).unwrap();
    thread::scope(|scope| {
        let (mut ours, mut theirs) = Link::pair();
        let cancel = &cancel;
        scope.spawn(move || {
            // Answers, and then is silent: it neither reads nor goes.
            while !matches!(theirs.recv().unwrap(), Message::Begin(_)) {}
            theirs.send(Granted { base_known: false, ask: true }).unwrap();
            theirs.recv().unwrap();
            cancel.ask();
            drop(theirs);
        });
        let due = Due { copy: &copy, record: &record, head: None };
        let error = run(&a, &due, &mut ours, cancel, &|_, _| {}).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Interrupted);
    });
    drop((a, b));
    // One that was cancelled before it began does not begin.
    let (outcome, _) = world.attempt(None, &cancel);
    assert_eq!(outcome.unwrap_err().kind, ErrorKind::Interrupted);
    assert!(newest(&world.hub("b")).is_none());
}

#[test]
fn a_snapshot_that_is_sent_does_not_go() {
    let world = World::new();
    world.write("f", b"once");
    world.push();
    world.write("f", b"now!");
    world.push();
    let a = world.hub("a");
    let copy = a.store.copies().unwrap().remove(0);
    let snapshots = a.store.snapshots(&copy).unwrap();
    let old = snapshots.list().unwrap().remove(0);
    thread::scope(|scope| {
        let (mut ours, mut theirs) = Link::pair();
        let (a, due) = (&a, Due { copy: &copy, record: &old, head: None });
        let sending = scope.spawn(move || run(a, &due, &mut ours, &Stop::default(), &|_, _| {}));
        while !matches!(theirs.recv().unwrap(), Message::Begin(_)) {}
        assert_eq!(snapshots.expire(&[old.number]).unwrap(), 1);
        assert_eq!(snapshots.clear_expired(&|_| true).unwrap().0, 0);
        assert_eq!(snapshots.needed(&[]).unwrap().len(), 2, "prune's mark keeps its content");
        drop(theirs);
        assert!(sending.join().unwrap().is_err());
        assert_eq!(snapshots.clear_expired(&|_| true).unwrap().0, 1);
    });
}
