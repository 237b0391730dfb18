//! Healing with real stores and a board, links in memory: somebody comes, and gets what it lacks.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::backup::digest::{Digest, RunId};
use crate::backup::fingerprint::Timestamp;
use crate::backup::lease::Holder;
use crate::backup::snapshot::SnapshotRecord;
use crate::engine::catch_up::tests::wire::{send, serve};
use crate::engine::client::ClientOptions;
use crate::engine::fan_out::board::{Attendance, DestinationId, HeldHead, Line, Said, Wants};
use crate::engine::fan_out::challenge;
use crate::engine::fan_out::scripted::{PATIENCE, wait_until};
use crate::engine::hub::HubOptions;
use crate::engine::observer::Silent;
use crate::engine::push::{PushOptions, push};
use crate::net::link::LinkError;
use crate::net::message::{Message, Proof};
use crate::store::leases::LeaseRequest;

/// A source with a store of its own, and the daemon's store.
struct World {
    temp: tempfile::TempDir,
    daemon: Arc<Hub>,
}

impl World {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let daemon = Arc::new(Hub::open(&temp.path().join("daemon"), HubOptions::in_process()).unwrap());
        Self { temp, daemon }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn store(&self, name: &str) -> Arc<Hub> {
        Arc::new(Hub::open(&self.path(name), HubOptions::in_process()).unwrap())
    }

    /// Backs up a root with this content to a store of its own.
    fn backup(&self, root: &str, content: &str) -> Arc<SnapshotRecord> {
        std::fs::create_dir_all(self.path(root)).unwrap();
        std::fs::write(self.path(root).join("file"), content).unwrap();
        let client = ClientOptions::of_store(&self.path("own"), &self.path(""));
        push(&client, &PushOptions { root: self.path(root), recursive: true, ..Default::default() }, &Silent).unwrap();
        newest(&self.store("own"))
    }

    /// The newest of the source's backups comes to a store.
    fn pass_on(&self, to: &Hub) {
        let own = self.store("own");
        let (copy, record) = (copy_of(&own), newest(&own));
        send(&own, to, &Due { copy: &copy, record: &record, head: None });
    }
}

fn copy_of(hub: &Hub) -> CopyName {
    hub.store.copies().unwrap().remove(0)
}

fn newest(hub: &Hub) -> Arc<SnapshotRecord> {
    hub.store.snapshots(&copy_of(hub)).unwrap().list().unwrap().pop().unwrap()
}

fn holds(hub: &Hub, run: RunId) -> bool {
    let copies = hub.store.copies().unwrap();
    copies.iter().any(|copy| hub.store.snapshots(copy).unwrap().by_run(run).unwrap().is_some())
}

fn said(hub: &Hub) -> Said {
    let mut heads = crate::engine::fan_out::board::Heads::new();
    for copy in hub.store.copies().unwrap() {
        for record in hub.store.snapshots(&copy).unwrap().roots().unwrap() {
            let head = HeldHead { run: record.run, manifest: record.manifest };
            heads.insert((copy.clone(), record.root.clone()), head);
        }
    }
    Said { name: "nas".into(), wants: Wants::default(), space: (1, 1), heads }
}

/// A destination's control connection, from both ends.
struct There {
    attendance: Arc<Attendance>,
    _line: Link,
}

/// `answer` gets the data connection of each call.
fn attend(daemon: &Arc<Hub>, hub: &Arc<Hub>, answer: impl Fn(Link) + Send + 'static) -> There {
    let (line, mut far) = Link::pair();
    let of = Line { sender: &line.sender, key: None, address: None, now: Timestamp::default() };
    let entered = daemon.board.enter(DestinationId(hub.store.id()), said(hub), of).unwrap();
    let attendance = Arc::new(entered);
    let (board, hub, saying) = (daemon.board.clone(), Arc::clone(hub), Arc::downgrade(&attendance));
    thread::spawn(move || {
        while let Ok(Message::Summon(summon)) = far.recv() {
            let (ours, theirs) = Link::pair();
            if board.deliver(summon.call, None, ours) {
                answer(theirs);
                if let Some(attendance) = saying.upgrade() {
                    attendance.say(said(&hub));
                }
            }
        }
    });
    There { attendance, _line: line }
}

fn receives(daemon: &Arc<Hub>, hub: &Arc<Hub>) -> There {
    let store = Arc::clone(hub);
    attend(daemon, hub, move |mut link| {
        serve(&store, &mut link);
        if let Ok(Message::Challenge(asked)) = link.recv() {
            let (copy, record) = (copy_of(&store), newest(&store));
            let _ = link.send(challenge::answer(&store, &copy, &record.root, &asked).unwrap());
        }
    })
}

/// Begins what can begin; how many are under way then.
fn look(hub: &Arc<Hub>) -> usize {
    round(hub);
    hub.healing.lock().all().len()
}

#[test]
fn who_comes_gets_everything_and_what_is_backed_up_later_with_no_source_there() {
    let world = World::new();
    let shutdown = Shutdown::new();
    let healing = start(&world.daemon, &shutdown).unwrap();
    let first = world.backup("a", "one");
    world.pass_on(&world.daemon);
    let other = world.backup("b", "two");
    world.pass_on(&world.daemon);
    let nas = world.store("nas");
    let there = receives(&world.daemon, &nas);
    wait_until("both roots arrive", || holds(&nas, first.run) && holds(&nas, other.run));
    let next = world.backup("a", "three");
    world.pass_on(&world.daemon);
    world.daemon.healing.ring();
    wait_until("the next one arrives", || holds(&nas, next.run));
    // Away for two backups: the newest arrives, the other one stays a gap.
    drop(there);
    let missed = world.backup("a", "four");
    world.pass_on(&world.daemon);
    let last = world.backup("a", "five");
    world.pass_on(&world.daemon);
    let there = receives(&world.daemon, &nas);
    wait_until("the newest arrives", || holds(&nas, last.run));
    assert!(!holds(&nas, missed.run));
    let record = newest(&nas);
    assert_eq!((record.parent, record.manifest), (Some(missed.run), last.manifest));
    shutdown.trigger();
    world.daemon.healing.ring();
    healing.join().unwrap();
    drop(there);
}

#[test]
fn a_live_run_ends_what_is_in_its_way_and_nothing_begins_until_it_is_over() {
    let world = World::new();
    let record = world.backup("a", "one");
    world.pass_on(&world.daemon);
    let (daemon, nas) = (&world.daemon, world.store("nas"));
    let (copy, root) = (copy_of(daemon), record.root.clone());
    let cut = Arc::new(AtomicBool::new(false));
    // One that takes everything, and answers nothing.
    let there = attend(daemon, &nas, {
        let cut = Arc::clone(&cut);
        move |mut link| {
            while link.recv().is_ok() {}
            assert_eq!(link.recv(), Err(LinkError::Closed));
            cut.store(true, Ordering::SeqCst);
        }
    });
    assert_eq!(look(daemon), 1);
    let began = Instant::now();
    let live = daemon.healing.supersede(&copy, &root.parent().unwrap(), true);
    assert!(daemon.healing.lock().all().is_empty() && began.elapsed() < SUPERSEDE_PATIENCE);
    wait_until("its link is closed", || cut.load(Ordering::SeqCst));
    assert_eq!(look(daemon), 0);
    // Nor while somebody changes the root here.
    let holder = Holder { key: [0; 32], run: RunId([1; 16]), name: String::new(), since: Timestamp::default() };
    let request = LeaseRequest { copy, root, recursive: true, holder, wait: None, on_revoke: Arc::new(|| {}) };
    let lease = daemon.leases.acquire(request, &mut |_| true).unwrap();
    drop(live);
    assert_eq!(look(daemon), 0);
    drop(lease);
    drop(there);
    let there = receives(daemon, &nas);
    assert_eq!(look(daemon), 1);
    wait_until("it arrives after all", || holds(&nas, record.run));
    drop(there);
}

#[test]
fn a_descendant_is_not_replaced_and_not_asked_over_and_over() {
    let world = World::new();
    let old = world.backup("a", "one");
    world.pass_on(&world.daemon);
    let nas = world.store("nas");
    world.pass_on(&nas);
    // The daemon's store was put back to an older state.
    let new = world.backup("a", "two");
    world.pass_on(&nas);
    let there = receives(&world.daemon, &nas);
    assert_eq!(look(&world.daemon), 1);
    wait_until("it ends", || world.daemon.healing.lock().all().is_empty());
    assert_eq!((newest(&nas).run, newest(&world.daemon).run), (new.run, old.run));
    assert!(there.attendance.say(said(&nas)));
    assert_eq!(look(&world.daemon), 0);
}

#[test]
fn who_leaves_when_it_is_called_is_not_waited_for() {
    let world = World::new();
    world.backup("a", "one");
    world.pass_on(&world.daemon);
    let (line, mut far) = Link::pair();
    let nas = world.store("nas");
    let of = Line { sender: &line.sender, key: None, address: None, now: Timestamp::default() };
    let attendance = world.daemon.board.enter(DestinationId(nas.store.id()), said(&nas), of).unwrap();
    assert_eq!(look(&world.daemon), 1);
    assert!(matches!(far.recv(), Ok(Message::Summon(_))));
    let began = Instant::now();
    drop(attendance);
    wait_until("its place is free", || world.daemon.healing.lock().all().is_empty());
    assert!(began.elapsed() < crate::engine::fan_out::summon::PATIENCE);
}

#[test]
fn who_cannot_show_what_it_says_is_not_believed() {
    let world = World::new();
    world.backup("a", "one");
    world.pass_on(&world.daemon);
    let nas = world.store("nas");
    let store = Arc::clone(&nas);
    let there = attend(&world.daemon, &nas, move |mut link| {
        serve(&store, &mut link);
        assert!(matches!(link.recv(), Ok(Message::Challenge(_))));
        link.send(Proof { digest: Digest([0; 32]) }).unwrap();
    });
    let lack = lacks(&world.daemon, &world.daemon.board.list()).unwrap().remove(0);
    let error = catch_up(&world.daemon, &lack, &Stop::default()).unwrap_err();
    assert!(error.kind == ErrorKind::Failed && error.message.contains("cannot show it"), "{error}");
    drop(there);
}

#[test]
fn a_run_that_waits_for_a_returner_brings_its_snapshot_only_while_no_later_one_is_there() {
    let world = World::new();
    let first = world.backup("a", "one");
    world.pass_on(&world.daemon);
    let (daemon, copy) = (&world.daemon, copy_of(&world.daemon));
    let live = daemon.healing.supersede(&copy, &first.root, true);
    let catch_up = || {
        let stop = Stop::default();
        live.catches_up(daemon, &copy, &first, &stop).map(|place| (place, stop))
    };
    let (place, stop) = catch_up().unwrap();
    // A later run of those paths ends it, and waits for it.
    let ending = thread::spawn({
        let stop = stop.clone();
        move || {
            stop.pause(PATIENCE);
            drop(place);
        }
    });
    let began = Instant::now();
    let later = daemon.healing.supersede(&copy, &first.root, true);
    assert!(stop.is_asked() && began.elapsed() < SUPERSEDE_PATIENCE);
    ending.join().unwrap();
    let refused = |what: &str| {
        let error = catch_up().err().expect(what);
        assert_eq!((error.kind, error.message), (ErrorKind::Interrupted, overtaken().message), "{what}");
    };
    refused("the later one is under way");
    // The later one is not in the way of itself, nor is one that began before: that may be its own, over a link that is cut.
    drop(later.catches_up(daemon, &copy, &first, &Stop::default()).unwrap());
    drop(later);
    drop(catch_up().unwrap());
    world.backup("a", "two");
    world.pass_on(daemon);
    refused("the later one has come");
}

#[test]
fn what_is_not_the_newest_any_more_is_not_brought() {
    let world = World::new();
    world.backup("a", "one");
    world.pass_on(&world.daemon);
    let nas = world.store("nas");
    let there = receives(&world.daemon, &nas);
    let lack = lacks(&world.daemon, &world.daemon.board.list()).unwrap().remove(0);
    world.backup("a", "two");
    world.pass_on(&world.daemon);
    let error = catch_up(&world.daemon, &lack, &Stop::default()).unwrap_err();
    assert_eq!((error.kind, error.message), (ErrorKind::Interrupted, overtaken().message));
    assert!(!holds(&nas, lack.record.run));
    drop(there);
}
