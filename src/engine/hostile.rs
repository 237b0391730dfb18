//! Every message at every moment: whatever a peer says, and whenever, a session ends with a reason and leaves nothing
//! behind. The kinds come from the goldens, so that a new one is tried by itself.

mod lies;
mod opened;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::hub::{Hub, HubOptions};
use super::receive::scripted::{begin, heard, send_files, send_manifest};
use super::session::serve_local;
use crate::net::frame::decode_frame;
use crate::net::handshake::client_hello;
use crate::net::link::{Link, LinkError, LinkReceiver};
use crate::net::message::{At, Begin, ChunkOffer, FileOpen, Message, Read, WireChunk};

/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the copy holds when a test begins.
pub(in crate::engine) const FILES: [(&str, &str); 2] = [("a", "one"), ("b", "and another")];

/// One message of each kind, by its name.
pub(in crate::engine) fn every_message() -> BTreeMap<String, Message> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/v1/wire");
    let files = std::fs::read_dir(folder).unwrap();
    let all: BTreeMap<_, _> = files.map(|file| message(&file.unwrap().path())).collect();
    assert_eq!(all.len(), (1..=u8::MAX).filter(|kind| Message::is_bulk(*kind).is_some()).count());
    all
}

fn message(golden: &Path) -> (String, Message) {
    let text = std::fs::read_to_string(golden).unwrap();
    let digits: String = text.lines().filter(|line| !line.starts_with('#')).collect();
    let byte = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap();
    let bytes: Vec<u8> = digits.as_bytes().chunks(2).map(byte).collect();
    let message = decode_frame(&bytes).unwrap().unwrap().0.unwrap();
    (message.name().to_owned(), message)
}

/// A store that has one backup, and a peer in its process.
struct Fixture {
    temp: tempfile::TempDir,
    hub: Arc<Hub>,
}

/// A session with the store, up to some moment.
struct Peer {
    link: Link,
    serving: JoinHandle<()>,
}

impl Fixture {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let hub = Arc::new(Hub::open(temp.path(), HubOptions::in_process()).unwrap());
        let fixture = Self { temp, hub };
        fixture.honest(200);
        fixture
    }

    fn connect(&self) -> Peer {
        let (link, theirs) = Link::pair();
        let hub = Arc::clone(&self.hub);
        Peer { link, serving: thread::spawn(move || serve_local(&hub, theirs)) }
    }

    fn welcome(&self) -> Peer {
        let mut peer = self.connect();
        client_hello(&mut peer.link, b"u", "a test").unwrap();
        peer
    }

    fn granted(&self, begin: Begin) -> Peer {
        let mut peer = self.welcome();
        peer.link.send(begin).unwrap();
        let answer = heard(&mut peer.link);
        assert!(matches!(answer, Message::Granted(_)), "{answer:?}");
        peer
    }

    /// Nobody is left over, and a backup by somebody who keeps to the rules just works.
    fn honest(&self, run: u8) {
        assert_eq!(self.hub.sessions.load(Ordering::SeqCst), 0, "a session was left behind");
        let mut peer = self.granted(begin(run));
        send_files(&peer.link, &FILES);
        send_manifest(&peer.link, &FILES);
        let answer = heard(&mut peer.link);
        assert!(matches!(answer, Message::Committed(_)), "{answer:?}");
        assert_eq!(peer.end(), [""; 0]);
    }
}

impl Peer {
    /// Says nothing more, and listens to the end: what was refused. A panic of the session is one of the test.
    fn end(self) -> Vec<String> {
        let Self { link: Link { sender, receiver, .. }, serving } = self;
        drop(sender);
        let refusals = rest(receiver);
        serving.join().expect("the session panicked");
        refusals
    }
}

/// The refusals among what still comes.
fn rest(mut receiver: LinkReceiver) -> Vec<String> {
    let mut refusals = Vec::new();
    loop {
        match receiver.recv_timeout(PATIENCE) {
            Ok(Some(Message::Refused(refused))) => refusals.push(String::from_utf8(refused.message.0).unwrap()),
            Ok(Some(_)) => {}
            Ok(None) => panic!("the session does not end"),
            Err(LinkError::Closed) => return refusals,
            Err(other) => panic!("{other}"),
        }
    }
}

/// Says each kind of message at the moment that `reach` comes to. What is not among `in_order` must be refused by name;
/// the rest may be taken or refused, as its content deserves.
fn try_all(fixture: &Fixture, reach: impl Fn(&Fixture, u8) -> Peer, in_order: &[&str]) {
    let kinds = every_message();
    let in_order: BTreeSet<&str> = in_order.iter().copied().collect();
    assert!(in_order.iter().all(|name| kinds.contains_key(*name)), "{in_order:?}");
    for (run, (name, message)) in kinds.iter().enumerate() {
        let peer = reach(fixture, run as u8);
        let _ = peer.link.send(message.clone());
        let refusals = peer.end();
        if !in_order.contains(name.as_str()) {
            assert!(
                refusals.iter().any(|said| said.contains(&format!("unexpected message {name}"))),
                "{name}: {refusals:?}"
            );
        }
        assert!(refusals.len() <= 1, "{name}: {refusals:?}");
    }
    fixture.honest(201);
}

/// What a source may say while content travels.
const CONTENT: [&str; 12] = [
    "Bases",
    "Offer",
    "Files",
    "FileDeltas",
    "FileOpen",
    "ChunkOffer",
    "Chunks",
    "ChunkDeltas",
    "FileDone",
    "Busy",
    "Progress",
    "Manifest",
];

#[test]
fn before_hello_nothing_is_answered() {
    let fixture = Fixture::new();
    for (name, message) in every_message() {
        let peer = fixture.connect();
        let _ = peer.link.send(message);
        let Peer { link: Link { sender, mut receiver, .. }, serving } = peer;
        drop(sender);
        let answer = receiver.recv_timeout(PATIENCE);
        match name.as_str() {
            "Hello" => assert!(matches!(answer, Ok(Some(Message::Welcome(_)))), "{answer:?}"),
            // Without a network the reason is told; a stranger from there hears nothing.
            _ => assert!(matches!(&answer, Ok(Some(Message::Refused(_)))), "{name}: {answer:?}"),
        }
        rest(receiver);
        serving.join().unwrap();
    }
    fixture.honest(201);
}

#[test]
fn after_the_welcome_only_requests_are_served() {
    let requests = [
        "Begin",
        "Read",
        "Snapshots",
        "History",
        "Find",
        "Diff",
        "Runs",
        "Forget",
        "Verify",
        "Purge",
        "Purges",
        "Prune",
        "Release",
        "Stats",
        "Status",
        "Of",
        "Attend",
        "Join",
        "Rekey",
        // Refused, for a reason of their own: that is who administers the store.
        "Invite",
        "Users",
        "Revoke",
        "Uninvite",
        "Change",
        "RekeyDaemon",
    ];
    try_all(&Fixture::new(), |fixture, _| fixture.welcome(), &requests);
}

#[test]
fn while_content_travels_only_content_is_taken() {
    try_all(&Fixture::new(), |fixture, run| fixture.granted(begin(run)), &CONTENT);
}

#[test]
fn in_the_middle_of_a_large_file_the_same_holds() {
    let reach = |fixture: &Fixture, run| {
        let peer = fixture.granted(begin(run));
        open_large(&peer.link);
        peer
    };
    try_all(&Fixture::new(), reach, &CONTENT);
}

/// A large file of which a chunk is asked for and does not come.
fn open_large(link: &Link) {
    link.send(FileOpen { file: 0, path: b"large".as_slice().into(), size: 1 << 20, class: 1, base: None }).unwrap();
    let chunk = WireChunk::New { digest: crate::backup::digest::Digest([5; 32]), len: 65536 };
    link.send(ChunkOffer { batch: 0, file: 0, items: vec![chunk] }).unwrap();
}

#[test]
fn in_the_middle_of_a_manifest_it_may_go_on() {
    let reach = |fixture: &Fixture, run| {
        let peer = fixture.granted(begin(run));
        let Some(Message::Manifest(head)) = every_message().remove("Manifest") else { panic!("no golden") };
        peer.link.send(crate::net::message::Manifest { base: None, ..head }).unwrap();
        peer
    };
    let in_order: Vec<&str> = CONTENT.into_iter().chain(["Changes", "ManifestEnd"]).collect();
    try_all(&Fixture::new(), reach, &in_order);
}

#[test]
fn when_content_is_missing_it_may_come() {
    let reach = |fixture: &Fixture, run| {
        let mut peer = fixture.granted(begin(run));
        send_manifest(&peer.link, &[("new", "never sent before")]);
        let answer = heard(&mut peer.link);
        assert!(matches!(answer, Message::Missing(_)), "{answer:?}");
        peer
    };
    try_all(&Fixture::new(), reach, &CONTENT);
}

#[test]
fn a_dry_run_takes_the_same_and_changes_nothing() {
    let reach = |fixture: &Fixture, run| fixture.granted(Begin { dry_run: true, ..begin(run) });
    try_all(&Fixture::new(), reach, &CONTENT);
}

#[test]
fn while_a_tree_is_read_only_wishes_are_heard() {
    let reach = |fixture: &Fixture, _| {
        let mut peer = fixture.welcome();
        let path = super::receive::scripted::ROOT.as_bytes().into();
        peer.link.send(Read { path, shallow: false, content: true, all: false, at: At::Latest }).unwrap();
        while !matches!(heard(&mut peer.link), Message::TreeEnd(_)) {}
        peer
    };
    try_all(&Fixture::new(), reach, &["Want"]);
}

#[test]
fn who_waits_for_a_lease_and_speaks_does_not_want_it_any_more() {
    let fixture = Fixture::new();
    let holder = fixture.granted(begin(150));
    for (name, message) in every_message() {
        let mut peer = fixture.welcome();
        peer.link.send(Begin { wait_secs: u32::MAX, ..begin(151) }).unwrap();
        assert!(matches!(heard(&mut peer.link), Message::Waiting(_)));
        let _ = peer.link.send(message);
        let refusals = peer.end();
        assert_eq!(refusals.len(), 1, "{name}: {refusals:?}");
    }
    holder.end();
    fixture.honest(201);
}
