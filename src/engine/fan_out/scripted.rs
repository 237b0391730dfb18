//! For tests: a daemon's store and its board, and a source and destinations that say each word of a run themselves.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};

use super::board::{Attendance, DestinationId, Heads, Line, Said, Wants};
use super::pace::Pace;
use super::serve;
use crate::backup::digest::Digest;
use crate::engine::client::now;
use crate::engine::error::EngineError;
use crate::engine::hub::{Hub, HubOptions, Who};
use crate::engine::live::LiveGuard;
use crate::engine::receive::scripted::begin;
use crate::net::link::Link;
use crate::net::message::{Begin, Challenge, Committed, Granted, Message, Prepared, Proof};
use crate::store::names::CopyName;
use crate::store::registry::{Identity, Right};

/// Longer than anything here may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// What the source has: path and content.
pub(super) const FILES: [(&str, &str); 2] = [("a", "one"), ("b", "and another")];

/// The first run, wanted by so many.
pub(super) fn wanted(copies: u32) -> Begin {
    Begin { copies, wait_copies_secs: 60, ..begin(1) }
}

/// Looks until it is so.
pub(super) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The next message that is no sign of life; none: the link is over.
pub(super) fn next(link: &mut Link) -> Option<Message> {
    loop {
        match link.recv_timeout(PATIENCE) {
            Ok(Some(Message::Busy(_))) => {}
            Ok(Some(message)) => return Some(message),
            Ok(None) => panic!("nothing comes"),
            Err(_) => return None,
        }
    }
}

/// A daemon.
pub(super) struct Fixture {
    _temp: tempfile::TempDir,
    pub(super) hub: Arc<Hub>,
    pub(super) who: Who,
}

impl Fixture {
    /// One that waits longer than a test, for whom it may be.
    pub(super) fn new() -> Self {
        Self::with(Pace { stall: PATIENCE * 2, busy_max: PATIENCE * 2, grace: PATIENCE * 2 })
    }

    /// One that takes a short silence for a long one.
    pub(super) fn impatient() -> Self {
        Self::with(Pace { stall: Duration::from_millis(200), ..Pace::default() })
    }

    fn with(pace: Pace) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let mut hub = Hub::open(temp.path(), HubOptions::in_process()).unwrap();
        hub.pace = pace;
        let copy = CopyName::new(b"10.0.0.1", b"u").unwrap();
        let identity = Identity::new(copy, Some([3; 32]), now()).with_rights(&[Right::Backup]);
        let who = Who { identity, address: None, software: String::new() };
        Self { _temp: temp, hub: Arc::new(hub), who }
    }

    /// Somebody attends, called `d` and the number.
    pub(super) fn destination(&self, number: u8) -> Destination {
        let (line, mut far) = Link::pair();
        let name = format!("d{number}");
        let said = Said { name, wants: Wants::default(), space: (1, 1), heads: Heads::new() };
        let of = Line { sender: &line.sender, key: None, address: None, now: now() };
        let id = DestinationId([number; 16]);
        let attendance = self.hub.board.enter(id, said, of).unwrap();
        let (joined, calls) = unbounded();
        let board = self.hub.board.clone();
        thread::spawn(move || {
            while let Ok(Message::Summon(summon)) = far.recv() {
                let (ours, theirs) = Link::pair();
                if board.deliver(summon.call, None, ours) && joined.send(theirs).is_err() {
                    return;
                }
            }
        });
        Destination { id, calls, _attendance: attendance, _line: line }
    }

    /// A source begins a run.
    pub(super) fn begin(&self, begin: Begin) -> Source {
        let (link, mut theirs) = Link::pair();
        let (hub, who) = (Arc::clone(&self.hub), self.who.clone());
        let serving = thread::spawn(move || serve(&hub, &who, &mut theirs, &begin, &LiveGuard::unseen()));
        Source { link, serving }
    }

    /// Waits until nothing is on its way to a destination: it was let go.
    pub(super) fn wait_gone(&self, destination: &Destination) {
        wait_until("it to be let go", || self.hub.board.running(destination.id).is_empty());
    }

    /// Whether the daemon's own store has the run.
    pub(super) fn has(&self, begin: &Begin) -> bool {
        self.hub.store.snapshots(self.who.copy()).unwrap().by_run(begin.run).unwrap().is_some()
    }
}

/// A destination that answers calls, and says nothing of its own accord.
pub(super) struct Destination {
    pub(super) id: DestinationId,
    calls: Receiver<Link>,
    _attendance: Attendance,
    _line: Link,
}

impl Destination {
    /// Its end of the next data connection, with a run begun.
    pub(super) fn begun(&self) -> Link {
        let mut link = self.calls.recv_timeout(PATIENCE).expect("a call");
        assert!(matches!(next(&mut link), Some(Message::For(_))));
        assert!(matches!(next(&mut link), Some(Message::Begin(_))));
        link
    }

    /// The same, taking part.
    pub(super) fn granted(&self) -> Link {
        let link = self.begun();
        link.send(Granted { base_known: false, ask: false }).unwrap();
        link
    }
}

/// Takes content up to the end of the manifest: which that is, and what files came.
pub(super) fn content(link: &mut Link) -> (Digest, Vec<String>) {
    let (mut manifest, mut came) = (None, Vec::new());
    loop {
        match next(link).expect("content") {
            Message::Manifest(head) => manifest = Some(head.digest),
            Message::Files(files, _) => {
                came.extend(files.entries.into_iter().map(|entry| String::from_utf8(entry.path.0).unwrap()));
            }
            Message::ManifestEnd(_) => return (manifest.unwrap(), came),
            _ => {}
        }
    }
}

/// Says that all is prepared.
pub(super) fn prepared(link: &Link, begin: &Begin, manifest: Digest) {
    link.send(Prepared { run: begin.run, manifest, entries: FILES.len() as u64 + 1 }).unwrap();
}

/// Prepared, commits when it is told to, and shows [`FILES`].
pub(super) fn commit(link: &mut Link, begin: &Begin, manifest: Digest) {
    prepared(link, begin, manifest);
    assert!(matches!(next(link), Some(Message::Commit(commit)) if commit.run == begin.run));
    let receipt = Committed {
        run: begin.run,
        snapshot: 1,
        manifest,
        counts: [0; 6],
        files: FILES.len() as u64,
        bytes: 1,
        bytes_missing: 0,
        incomplete: false,
        notes: Vec::new(),
        copies: Vec::new(),
        enough: true,
    };
    link.send(receipt).unwrap();
    let Some(Message::Challenge(asked)) = next(link) else { panic!("no challenge") };
    link.send(proof(&asked)).unwrap();
}

fn proof(asked: &Challenge) -> Proof {
    let files = HashMap::from(FILES);
    let mut hasher = blake3::Hasher::new_keyed(&asked.nonce);
    for range in &asked.ranges {
        let content = files[str::from_utf8(&range.path.0).unwrap()].as_bytes();
        let bytes = &content[range.offset as usize..][..range.len as usize];
        hasher.update(&range.len.to_le_bytes()).update(bytes);
    }
    Proof { digest: hasher.finalize().into() }
}

/// A source, whose run is served.
pub(super) struct Source {
    pub(super) link: Link,
    serving: JoinHandle<Result<(), EngineError>>,
}

impl Source {
    /// What it hears next, counts of destinations aside.
    pub(super) fn next(&mut self) -> Message {
        loop {
            match next(&mut self.link).expect("an answer") {
                Message::Gathering(_) => {}
                other => return other,
            }
        }
    }

    /// It may send.
    pub(super) fn wait_granted(&mut self) {
        let said = self.next();
        assert!(matches!(said, Message::Granted(_)), "{said:?}");
    }

    /// The run's end: whether enough hold it, and each destination's name, state and reason.
    pub(super) fn receipt(mut self) -> (bool, Vec<(String, u8, String)>) {
        let Message::Committed(receipt) = self.next() else { panic!("no receipt") };
        self.end().unwrap();
        let text = |bytes: crate::backup::bytes::Bytes| String::from_utf8(bytes.0).unwrap();
        let of_destinations = receipt.copies.into_iter().filter(|copy| copy.kind == 1);
        (receipt.enough, of_destinations.map(|copy| (text(copy.name), copy.state, text(copy.reason))).collect())
    }

    /// Why its run is refused; it stays until then.
    pub(super) fn refusal(self) -> EngineError {
        wait_until("the run to be refused", || self.serving.is_finished());
        self.serving.join().unwrap().unwrap_err()
    }

    /// Its link, and the run that is served over it.
    pub(super) fn into_parts(self) -> (Link, JoinHandle<Result<(), EngineError>>) {
        (self.link, self.serving)
    }

    /// It goes; how its run ended.
    pub(super) fn end(self) -> Result<(), EngineError> {
        drop(self.link);
        self.serving.join().unwrap()
    }
}
