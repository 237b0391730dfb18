//! A client's key in a thief's hands: nothing young expires, and what was there before can be restored, until an admin says
//! otherwise. Against a real store, whose clock the test turns; the thief says each message himself.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::{self, JoinHandle};

use super::*;
use crate::backup::bytes::Bytes;
use crate::backup::digest::Digest;
use crate::backup::when::When;
use crate::engine::client::{ClientOptions, software};
use crate::engine::clock::Clock;
use crate::engine::observer::Silent;
use crate::engine::receive::scripted;
use crate::engine::restore::{Overwrite, RestoreOptions, restore};
use crate::engine::session;
use crate::net::handshake::client_hello;
use crate::net::link::Link;
use crate::net::message::{Begin, Changes, Forget, Manifest, ManifestEnd, Message};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// Gives a thief all the room that a configuration can give him.
const HARSH: Policy = Policy {
    within_secs: 0,
    last: 2,
    hourly: 0,
    daily: 0,
    weekly: 0,
    monthly: 0,
    yearly: 0,
    min_age_secs: 30 * 24 * 3600,
};

type Tree = BTreeMap<String, String>;

/// A store, its clock, and a client's conversation with it.
struct World {
    temp: tempfile::TempDir,
    hub: Arc<Hub>,
    copy: CopyName,
    clock: Arc<AtomicI64>,
    link: Link,
    serving: JoinHandle<()>,
    runs: u128,
    /// Number and time of each complete snapshot.
    complete: Vec<(u64, i64)>,
}

/// How a run is sent.
#[derive(Clone, Copy)]
struct Says {
    root: &'static str,
    recursive: bool,
    delete: bool,
    force: bool,
    incomplete: bool,
}

const PLAIN: Says = Says { root: scripted::ROOT, recursive: true, delete: true, force: false, incomplete: false };
const FORCED: Says = Says { force: true, ..PLAIN };

impl World {
    fn new() -> Self {
        // In memory where there is some: thousands of commits, each of which is flushed.
        let shm = Path::new("/dev/shm");
        let temp = tempfile::tempdir_in(shm).or_else(|_| tempfile::tempdir()).unwrap();
        let clock = Arc::new(AtomicI64::new(1_800_000_000));
        let told = Arc::clone(&clock);
        let clock_of = Clock::new(move || Timestamp { secs: told.load(Ordering::SeqCst), nanos: 0 });
        let options = HubOptions { clock: clock_of, ..HubOptions::default() };
        let hub = Arc::new(Hub::open(&temp.path().join("store"), options).unwrap());
        let (mut link, theirs) = Link::pair();
        let daemon = Arc::clone(&hub);
        let serving = thread::spawn(move || session::serve_local(&daemon, theirs));
        client_hello(&mut link, b"u", &software()).unwrap();
        let copy = CopyName::local(b"u").unwrap();
        Self { temp, hub, copy, clock, link, serving, runs: 0, complete: Vec::new() }
    }

    fn now(&self) -> i64 {
        self.clock.load(Ordering::SeqCst)
    }

    fn pass(&self, secs: i64) {
        self.clock.fetch_add(secs, Ordering::SeqCst);
    }

    fn begin(&mut self, says: Says) -> Begin {
        self.runs += 1;
        Begin {
            run: RunId(self.runs.to_le_bytes()),
            root: says.root.as_bytes().into(),
            recursive: says.recursive,
            delete: says.delete,
            force_delete: says.force,
            ..scripted::begin(0)
        }
    }

    /// A run; the number of its snapshot.
    fn run(&mut self, says: Says, files: &Tree) -> u64 {
        let begin = self.begin(says);
        self.link.send(begin).unwrap();
        assert!(matches!(scripted::heard(&mut self.link), Message::Granted(_)));
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        scripted::send_files(&self.link, &files);
        let manifest = if says.incomplete { scripted::send_incomplete } else { scripted::send_manifest };
        manifest(&self.link, &files);
        let heard = scripted::heard(&mut self.link);
        let Message::Committed(receipt) = heard else { panic!("{heard:?}") };
        if !says.incomplete {
            self.complete.push((receipt.snapshot, self.now()));
        }
        receipt.snapshot
    }

    /// What a daemon does once a day. What was complete and is younger than `min-age` is all there afterwards.
    fn prune(&self) {
        let retention = Retention { default: HARSH, copies: BTreeMap::new() };
        let report = prune(&self.hub, &retention, self.hub.now(), false, &|| true).unwrap();
        assert!(report.is_clean(), "{report:?}");
        let there = self.numbers();
        for (number, at) in &self.complete {
            let young = self.now() - at < 30 * DAY;
            assert!(!young || there.contains(number), "{number} expired at the age of {} s", self.now() - at);
        }
    }

    fn numbers(&self) -> BTreeSet<u64> {
        self.hub.store.snapshots(&self.copy).unwrap().list().unwrap().iter().map(|record| record.number).collect()
    }

    /// Why a snapshot stays, in words.
    fn why(&self, number: u64) -> String {
        let judged = judge(&self.hub.store.snapshots(&self.copy).unwrap(), &HARSH, self.hub.now()).unwrap();
        let judged = judged.iter().find(|judged| judged.number == number);
        judged.map_or_else(
            || "gone".to_owned(),
            |judged| judged.reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        )
    }

    /// Weeks of honest work; what the source holds at the end, and its snapshot.
    fn honest(&mut self, count: usize) -> (Tree, u64) {
        let mut source: Tree = (0..count).map(|n| (format!("f{n:04}"), format!("content of {n}"))).collect();
        let mut last = 0;
        for day in 0..40 {
            source.insert(format!("f{:04}", day * 7 % count), format!("written on day {day}"));
            source.insert(format!("g{day:04}"), format!("new on day {day}"));
            source.remove(&format!("f{:04}", day * 11 % count));
            last = self.run(PLAIN, &source);
            self.pass(DAY);
        }
        self.prune();
        (source, last)
    }

    /// Time goes by, and the daemon packs and prunes; the state is there all the while.
    fn years(&self, state: u64, years: i64) {
        upkeep::once(&self.hub, &|| true);
        for moment in [HOUR, DAY, 29 * DAY, 2 * DAY, 40 * DAY, 200 * DAY, 100 * DAY] {
            self.pass(moment);
            self.prune();
            assert!(self.numbers().contains(&state), "gone after another {moment} s");
        }
        for _ in 1..years {
            self.pass(365 * DAY);
            self.prune();
            assert!(self.numbers().contains(&state), "gone after years");
        }
    }

    /// Ends the conversation.
    fn closed(self) {
        let Self { temp, hub, link, serving, .. } = self;
        drop(link);
        serving.join().unwrap();
        drop(hub);
        drop(temp);
    }

    /// Somebody with the same key says this on a connection of his own.
    fn beside(&self, says: impl FnOnce(&mut Link)) {
        let (mut link, theirs) = Link::pair();
        let daemon = Arc::clone(&self.hub);
        let serving = thread::spawn(move || session::serve_local(&daemon, theirs));
        client_hello(&mut link, b"u", &software()).unwrap();
        says(&mut link);
        drop(link);
        serving.join().unwrap();
    }

    /// `rbbackup forget`.
    fn forget(&mut self) {
        self.runs += 1;
        let run = RunId(self.runs.to_le_bytes());
        self.link.send(Forget { run, root: scripted::ROOT.as_bytes().into() }).unwrap();
        let heard = scripted::heard(&mut self.link);
        assert!(matches!(heard, Message::Committed(_)), "{heard:?}");
    }

    fn release(&self, number: u64) {
        release(&self.hub, &self.copy, number).unwrap();
        self.prune();
    }
}

/// Brings a snapshot back, and compares every file of it.
fn restores(temp: &Path, number: u64, expected: &Tree) {
    let client = ClientOptions::of_store(&temp.join("store"), temp);
    let to = temp.join("out");
    let options = RestoreOptions {
        path: Path::new("/").join(scripted::ROOT),
        when: When::Number(number),
        to: Some(to.clone()),
        overwrite: Overwrite::Changed,
        delete: false,
        dry_run: false,
    };
    let summary = restore(&client, &options, &Silent).unwrap();
    assert_eq!(summary.files, expected.len() as u64);
    let found: Tree = fs::read_dir(to.join("u"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()))
        .collect();
    assert!(found == *expected, "{} files of {}", found.len(), expected.len());
}

fn garbage(count: usize, seed: usize) -> Tree {
    (0..count).map(|n| (format!("x{n:04}"), format!("nothing {seed} {n}"))).collect()
}

/// The first `count` names.
fn first(source: &Tree, count: usize) -> Tree {
    source.iter().take(count).map(|(path, text)| (path.clone(), text.clone())).collect()
}

/// Runs, until the thief has done so many altogether.
fn fill(world: &mut World, until: u128, pace: i64, mut run: impl FnMut(&mut World, usize)) {
    let mut nth = 0;
    while world.runs < until {
        run(world, nth);
        world.pass(pace);
        nth += 1;
        if nth % 100 == 0 {
            world.prune();
        }
    }
}

#[test]
fn a_thousand_empty_shrunken_and_incomplete_runs_push_nothing_out() {
    let mut world = World::new();
    let (source, state) = world.honest(200);
    let begun = world.runs;
    let honest = world.complete.clone();
    // Bit by bit, each run within the guard; some call themselves incomplete.
    for files in (0..source.len()).rev().step_by(40) {
        let left = first(&source, files.max(1));
        world.run(Says { incomplete: files % 3 == 0, ..PLAIN }, &left);
        world.run(PLAIN, &left);
        world.pass(HOUR);
    }
    fill(&mut world, begun + 1000, 60, |world, nth| {
        let files = match nth % 5 {
            0 => Tree::new(),
            1 => garbage(nth % 20, nth),
            2 => garbage(1, 0),
            _ => first(&Tree::from([("one".into(), format!("{nth}"))]), 1),
        };
        world.run(Says { incomplete: nth % 7 == 0, recursive: nth % 11 != 0, delete: nth % 3 != 0, ..FORCED }, &files);
    });
    assert_eq!(world.runs - begun, 1000);
    world.years(state, 12);
    let why = world.why(state);
    assert!(why.contains("took most of it away"), "{why}");
    restores(world.temp.path(), state, &source);
    world.release(state);
    assert!(!world.numbers().contains(&state), "released, and yet: {}", world.why(state));
    assert!(
        honest.iter().all(|(number, _)| !world.numbers().contains(number)),
        "what was there before it goes with it"
    );
    world.closed();
}

#[test]
fn back_dated_and_forged_runs_push_nothing_out() {
    let mut world = World::new();
    let (source, state) = world.honest(150);
    let begun = world.runs;
    let before = world.numbers();
    // What a client sends has no time but those of its files; his are of 1970.
    fill(&mut world, begun + 40, 60, |world, nth| {
        world.run(FORCED, &garbage(nth % 3, nth));
    });
    // A receipt for a run that is committed already says so, and nothing is committed twice.
    world.beside(|link| {
        let again = Begin { run: RunId(begun.to_le_bytes()), ..scripted::begin(0) };
        link.send(again).unwrap();
        assert!(matches!(scripted::heard(link), Message::Committed(receipt) if receipt.snapshot == state));
    });
    // A manifest that is not what it is said to be; one that follows what was never agreed on.
    let forged = |base: Option<Digest>| Manifest {
        base,
        digest: Digest::of(b"another"),
        entries: 3,
        incomplete: false,
        users: Vec::new(),
        groups: Vec::new(),
        errors: vec![Bytes::from(&b"\x1b[2J"[..])],
    };
    for (nth, base) in [None, Some(Digest::of(b"never"))].into_iter().enumerate() {
        let head = forged(base);
        world.beside(|link| {
            link.send(scripted::begin(200 + u8::try_from(nth).unwrap())).unwrap();
            assert!(matches!(scripted::heard(link), Message::Granted(_)));
            link.send(head).unwrap();
            let _ = link.send(Changes { changes: Vec::new() });
            let _ = link.send(ManifestEnd { bytes_read: u64::MAX });
            let heard = scripted::heard(link);
            assert!(matches!(heard, Message::Refused(_)), "{heard:?}");
        });
    }
    // No right of his goes further.
    for request in [Message::from(crate::net::message::Prune {}), crate::net::message::Release { number: state }.into()]
    {
        world.beside(|link| {
            link.send(request).unwrap();
            assert!(matches!(scripted::heard(link), Message::Refused(_)));
        });
    }
    assert_eq!(world.numbers().len(), before.len() + 40);
    world.years(state, 3);
    restores(world.temp.path(), state, &source);
    world.closed();
}

#[test]
fn a_root_that_is_emptied_from_above_or_forgotten_loses_nothing() {
    for forgets in [false, true] {
        let mut world = World::new();
        let (source, state) = world.honest(150);
        // A root above, which has no past, takes all of it out of the copy: its own counts then say that nothing goes.
        world.run(Says { root: "home", ..FORCED }, &Tree::new());
        if forgets {
            world.forget();
            world.pass(DAY);
        }
        let begun = world.runs;
        fill(&mut world, begun + 60, HOUR, |world, nth| {
            world.run(PLAIN, &garbage(nth % 2, nth));
        });
        world.years(state, 4);
        restores(world.temp.path(), state, &source);
        world.release(state);
        assert!(!world.numbers().contains(&state), "{}", world.why(state));
        world.closed();
    }
}

#[test]
fn nobody_gets_rid_of_a_state_by_taking_his_time() {
    let mut world = World::new();
    let (source, state) = world.honest(150);
    // Less than the guard's share in a month: two files every other day.
    for files in (0..source.len()).rev().step_by(4).take_while(|files| *files > 20) {
        world.pass(2 * DAY);
        world.run(PLAIN, &first(&source, files));
        world.prune();
        assert!(world.numbers().contains(&state), "at {files} files");
    }
    world.years(state, 4);
    restores(world.temp.path(), state, &source);
    world.closed();
}

#[test]
fn what_was_there_before_everything_was_encrypted_stays_for_a_year() {
    let mut world = World::new();
    let (source, state) = world.honest(150);
    let locked = |nth: usize| source.keys().map(|path| (path.clone(), format!("locked {nth}"))).collect::<Tree>();
    let begun = world.runs;
    fill(&mut world, begun + 40, HOUR, |world, nth| {
        world.run(PLAIN, &locked(nth));
    });
    world.pass(355 * DAY);
    world.prune();
    let why = world.why(state);
    assert!(why.contains("overwrote most of it"), "{why}");
    restores(world.temp.path(), state, &source);
    world.pass(30 * DAY);
    world.prune();
    assert!(!world.numbers().contains(&state), "{}", world.why(state));
    world.closed();
}
