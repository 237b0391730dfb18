//! Tests of a control connection's session, over a link in memory.

use std::sync::Arc;
use std::thread::JoinHandle;

use super::*;
use crate::backup::digest::{Digest, RunId};
use crate::engine::hub::HubOptions;
use crate::store::registry::{Identity, Right};

struct World {
    _dir: tempfile::TempDir,
    hub: Arc<Hub>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let hub = Arc::new(Hub::open(dir.path(), HubOptions::default()).unwrap());
        Self { _dir: dir, hub }
    }

    fn attend(&self, first: Attend) -> (Link, JoinHandle<Result<(), EngineError>>) {
        let (ours, mut theirs) = Link::pair();
        let hub = Arc::clone(&self.hub);
        let copy = CopyName::new(b"10.0.0.7", b"d").unwrap();
        let identity = Identity::new(copy, Some([7; 32]), now()).with_rights(&[Right::Receive]);
        let who = Who { identity, address: Some("10.0.0.7".parse().unwrap()), software: String::new() };
        (ours, std::thread::spawn(move || serve(&hub, &who, &mut theirs, first)))
    }

    fn wait(&self, names: &[&str]) {
        let mut watch = self.hub.board.watch();
        while self.hub.board.list().iter().map(|d| d.name.as_str()).collect::<Vec<_>>() != names {
            watch.bell().recv_timeout(std::time::Duration::from_secs(60)).unwrap();
            watch.events();
        }
    }
}

fn attend(name: &str) -> Attend {
    Attend {
        name: name.as_bytes().into(),
        store: [9; 16],
        from: vec![(b"10.0.0.1"[..].into(), b""[..].into()), (b"n"[..].into(), b"u"[..].into())],
        space: (3, 4),
        heads: Vec::new(),
        more: false,
    }
}

fn head(root: &str) -> Head {
    let (run, manifest) = (RunId([1; 16]), Digest([2; 32]));
    Head { node: b"10.0.0.1"[..].into(), user: b"u"[..].into(), root: root.as_bytes().into(), run, manifest }
}

#[test]
fn the_entry_is_what_was_said_and_leaves_with_the_link() {
    let world = World::new();
    let (link, session) = world.attend(attend("na\x1bs"));
    world.wait(&["na\\x1bs"]);
    let found = world.hub.board.find(DestinationId([9; 16])).unwrap();
    let wants = vec![("10.0.0.1".to_owned(), None), ("n".to_owned(), Some("u".to_owned()))];
    assert_eq!((found.space, found.wants.0, found.heads.len()), ((3, 4), wants, 0));
    assert_eq!(found.address, Some("10.0.0.7".parse().unwrap()));
    let mut watch = world.hub.board.watch();
    watch.events();
    watch.bell().try_recv().unwrap();
    // In two parts: nothing is told before the second.
    link.send(Attend { heads: vec![head("a")], more: true, ..attend("x") }).unwrap();
    link.send(Attend { heads: vec![head("b")], ..attend("x") }).unwrap();
    watch.bell().recv_timeout(std::time::Duration::from_secs(60)).unwrap();
    let found = world.hub.board.find(DestinationId([9; 16])).unwrap();
    assert_eq!((found.name.as_str(), found.heads.len()), ("x", 2));
    drop(link);
    world.wait(&[]);
    session.join().unwrap().unwrap();
}

#[test]
fn what_cannot_be_is_refused_and_leaves_no_entry() {
    let world = World::new();
    let bad = [
        Attend { name: b""[..].into(), ..attend("") },
        attend(&"x".repeat(NAME_BYTES_MAX + 1)),
        Attend { store: world.hub.store.id(), ..attend("own") },
        Attend { from: vec![(b".."[..].into(), b""[..].into())], ..attend("x") },
        Attend { from: vec![(b"n"[..].into(), b"a/b"[..].into())], ..attend("x") },
        Attend { from: vec![(b"n"[..].into(), b""[..].into()); BATCH_COUNT_MAX + 1], ..attend("x") },
        Attend { heads: vec![head("../x")], ..attend("x") },
        Attend { heads: vec![Head { node: b"a/b"[..].into(), ..head("x") }], ..attend("x") },
    ];
    for attend in bad {
        let (_link, session) = world.attend(attend.clone());
        assert!(session.join().unwrap().is_err(), "{attend:?}");
        assert!(world.hub.board.list().is_empty());
    }
    let (link, session) = world.attend(attend("x"));
    link.send(Attend { store: [8; 16], ..attend("x") }).unwrap();
    assert!(session.join().unwrap().unwrap_err().message.contains("another store"));
}

#[test]
fn what_a_destination_may_tell_is_bounded() {
    let world = World::new();
    let (link, session) = world.attend(attend("x"));
    let part = Attend { heads: vec![head(&"x".repeat(200)); 1000], more: true, ..attend("x") };
    while link.send(part.clone()).is_ok() {}
    assert!(session.join().unwrap().unwrap_err().message.contains("too many roots"));
}
