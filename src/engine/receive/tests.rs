//! Held runs, against a real store, with a source that says each message itself.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::scripted::{ROOT, begin, heard, send_files, send_manifest};
use super::*;
use crate::backup::digest::RunId;
use crate::engine::hub::HubOptions;
use crate::net::message::Commit;
use crate::store::names::CopyName;
use crate::store::registry::Registry;

struct Fixture {
    temp: tempfile::TempDir,
    hub: Arc<Hub>,
}

impl Fixture {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let hub = Arc::new(Hub::open(temp.path(), HubOptions::in_process()).unwrap());
        Self { temp, hub }
    }

    /// The store after its process ended and another one began.
    fn again(self) -> Self {
        let Self { temp, hub } = self;
        drop(Arc::into_inner(hub).unwrap());
        let hub = Arc::new(Hub::open(temp.path(), HubOptions::in_process()).unwrap());
        Self { temp, hub }
    }

    fn file(&self, name: &str) -> PathBuf {
        let copy = CopyName::local(b"u").unwrap();
        self.temp.path().join(copy.node()).join(copy.user()).join(ROOT).join(name)
    }

    fn own(&self, name: &str) -> Vec<String> {
        let names = fs::read_dir(self.hub.store.meta_path(name)).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// A run that is held, up to what its store says of it; it is granted without a look back.
    fn held(&self, run: u8) -> Source {
        let (mut link, mut theirs) = Link::pair();
        let hub = Arc::clone(&self.hub);
        let begin = begin(run);
        let parent = Some(RunId([run.wrapping_sub(1); 16]));
        let serving = thread::spawn(move || {
            let identity = Registry::local(b"u", now()).unwrap();
            let who = Who { identity, address: None, software: String::new() };
            serve(&hub, &who, &mut theirs, &begin, &Terms { hold: true, stays: false, parent, observer: None })
        });
        assert!(matches!(link.recv(), Ok(Message::Granted(_))));
        Source { link, run: RunId([run; 16]), serving }
    }
}

struct Source {
    link: Link,
    run: RunId,
    serving: JoinHandle<Result<Committed, EngineError>>,
}

impl Source {
    fn send(&self, files: &[(&str, &str)]) {
        send_files(&self.link, files);
    }

    fn manifest(&self, files: &[(&str, &str)]) {
        send_manifest(&self.link, files);
    }

    fn heard(&mut self) -> Message {
        heard(&mut self.link)
    }

    fn prepared(&mut self) {
        let heard = self.heard();
        assert!(matches!(&heard, Message::Prepared(p) if p.run == self.run), "{heard:?}");
    }

    fn commit(mut self) -> Committed {
        self.link.send(Commit { run: self.run }).unwrap();
        let Message::Committed(receipt) = self.heard() else { panic!("no receipt") };
        assert_eq!(self.serving.join().unwrap().unwrap(), receipt);
        receipt
    }
}

#[test]
fn a_held_run_changes_nothing_before_its_word_and_all_after_it() {
    let f = Fixture::new();
    let first = [("a", "one"), ("gone", "x")];
    let mut source = f.held(2);
    source.send(&first);
    source.manifest(&first);
    source.prepared();
    assert!(!f.file("a").exists());
    assert_eq!(source.commit().snapshot, 1);

    let next = [("a", "two"), ("b", "three")];
    let mut source = f.held(4);
    source.send(&next);
    source.manifest(&next);
    source.prepared();
    assert_eq!((fs::read(f.file("a")).unwrap(), f.file("gone").exists()), (b"one".to_vec(), true));
    assert_eq!(f.own("journal"), [""; 0]);
    let receipt = source.commit();
    assert_eq!((receipt.snapshot, receipt.counts[..4].to_vec()), (2, vec![1, 1, 0, 1]));
    assert_eq!((fs::read(f.file("a")).unwrap(), f.file("gone").exists()), (b"two".to_vec(), false));
    // Where it comes from there was a run between the two.
    let copy = f.hub.store.copies().unwrap().remove(0);
    let record = f.hub.store.snapshots(&copy).unwrap().by_run(RunId([4; 16])).unwrap().unwrap();
    assert_eq!(record.parent, Some(RunId([3; 16])));
    // Nothing changes at all: it is held all the same.
    let mut source = f.held(5);
    source.manifest(&next);
    source.prepared();
    assert_eq!(source.commit().snapshot, 3);
}

#[test]
fn a_link_that_is_lost_before_the_word_leaves_all_as_it_was_and_content_to_the_next_run() {
    let f = Fixture::new();
    let files = [("a", "one"), ("b", "two")];
    let mut source = f.held(2);
    source.send(&files);
    source.manifest(&files);
    source.prepared();
    drop(source.link);
    assert_eq!(source.serving.join().unwrap().unwrap_err().kind, ErrorKind::Unreachable);
    assert!(!f.file("a").exists() && f.own("retired").is_empty());
    // And in another process.
    let f = f.again();
    let mut source = f.held(2);
    source.manifest(&files);
    source.prepared();
    assert_eq!(source.commit().snapshot, 1);
    assert_eq!(fs::read(f.file("b")).unwrap(), b"two");
}

#[test]
fn a_run_that_is_prepared_takes_another_round() {
    let f = Fixture::new();
    let files = [("a", "one")];
    let mut source = f.held(2);
    source.send(&files);
    source.manifest(&files);
    source.prepared();
    let more = [("a", "one"), ("b", "two")];
    source.manifest(&more);
    let heard = source.heard();
    assert!(matches!(&heard, Message::Missing(missing) if missing.paths == [b"b".as_slice().into()]), "{heard:?}");
    source.send(&more[1..]);
    source.manifest(&more);
    source.prepared();
    // The word for another run is none.
    source.link.send(Commit { run: RunId([9; 16]) }).unwrap();
    assert!(matches!(source.link.recv(), Err(_) | Ok(Message::Busy(_))));
    assert_eq!(source.serving.join().unwrap().unwrap_err().kind, ErrorKind::Failed);
    assert!(!f.file("a").exists());
    let mut source = f.held(2);
    source.manifest(&more);
    source.prepared();
    source.commit();
    assert_eq!(fs::read(f.file("b")).unwrap(), b"two");
}

#[test]
fn copies_made_for_a_run_that_is_taken_back_go_again() {
    let f = Fixture::new();
    let files = [("a", "one"), ("b", "two")];
    let mut source = f.held(2);
    source.send(&files);
    source.manifest(&files);
    source.prepared();
    source.commit();
    let before = f.own("retired");
    for way in ["lost", "again"] {
        let changed = [("a", "other"), ("b", "two")];
        let mut source = f.held(4);
        source.send(&changed);
        source.manifest(&changed);
        source.prepared();
        if way == "lost" {
            drop(source.link);
            source.serving.join().unwrap().unwrap_err();
            assert_eq!(f.own("retired"), before, "{way}");
        } else {
            source.manifest(&files);
            source.prepared();
            assert_eq!(source.commit().counts, [0, 0, 0, 0, 0, 3]);
            assert_eq!(f.own("retired"), before, "{way}");
        }
    }
}
