//! A destination's data connection, with a daemon that says each message itself.

use std::fs;
use std::sync::Mutex;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::bounded;

use super::*;
use crate::backup::digest::RunId;
use crate::engine::destination::fake_daemon::{ROOT, TEXT, begin, heard, send_tree, source};
use crate::engine::destination::links::Links;
use crate::engine::destination::observer::{Arrival, Receiving};
use crate::engine::fan_out::board::Wants;
use crate::engine::fan_out::whose::for_whom;
use crate::engine::hub::{Hub, HubOptions};
use crate::engine::observer::{Event, Observer};
use crate::net::message::{Challenge, Commit, Range, RefusalKind};

/// What a person would have seen.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn add(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }
}

impl Receiving for Seen {
    fn attending(&self, _: &str) {}

    fn lost(&self, _: &str, _: Duration) {}

    fn begin(&self, run: &ArrivingRun) -> Arc<dyn Arrival> {
        self.add(format!("begin {}/{} {}", run.node, run.user, String::from_utf8_lossy(&run.root)));
        Arc::new(self.clone())
    }
}

impl Observer for Seen {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::FileBegun { path, bytes } => self.add(format!("{} {bytes}", String::from_utf8_lossy(path))),
            Event::FileDone { path } => self.add(format!("{} done", String::from_utf8_lossy(path))),
            Event::Source { bytes_total, .. } => self.add(format!("of {bytes_total}")),
            _ => {}
        }
    }
}

impl Arrival for Seen {
    fn end(&self, outcome: Result<&Arrived, &EngineError>) {
        self.add(match outcome {
            Ok(arrived) => format!("snapshot {}", arrived.snapshot),
            Err(error) => format!("failed: {error}"),
        });
    }
}

struct World {
    temp: tempfile::TempDir,
    place: Arc<Place>,
    seen: Seen,
}

impl World {
    fn new(wants: Wants) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let client = ClientOptions::of_store(std::path::Path::new("nowhere"), temp.path());
        let hub = Arc::new(Hub::open(&temp.path().join("store"), HubOptions::default()).unwrap());
        let seen = Seen::default();
        let receiving = Arc::new(seen.clone());
        let (links, news) = (Links::default(), bounded(1));
        let place = Arc::new(Place { hub, client, name: "nas".to_owned(), wants, receiving, links, news });
        Self { temp, place, seen }
    }

    /// A data connection that has joined.
    fn joined(&self) -> (Link, JoinHandle<Result<(), EngineError>>) {
        let (ours, mut theirs) = Link::pair();
        let place = Arc::clone(&self.place);
        (ours, thread::spawn(move || runs(&place, &mut theirs)))
    }

    fn copy(&self) -> std::path::PathBuf {
        self.temp.path().join("store/10.0.0.1/u").join(ROOT)
    }
}

fn challenge(path: &str) -> Challenge {
    Challenge { nonce: [5; 32], ranges: vec![Range { path: path.as_bytes().into(), offset: 1, len: 3 }] }
}

#[test]
fn one_run_after_the_other_is_kept_under_the_source_s_name_and_proved() {
    let world = World::new(Wants::default());
    let (mut link, serving) = world.joined();
    for run in 1..3 {
        link.send(for_whom(&source(), Some(RunId([9; 16])), true)).unwrap();
        link.send(begin(run)).unwrap();
        assert!(matches!(heard(&mut link), Message::Granted(_)));
        send_tree(&link);
        assert!(matches!(heard(&mut link), Message::Prepared(_)));
        assert_eq!(world.copy().exists(), run > 1, "nothing before the word");
        link.send(Commit { run: RunId([run; 16]) }).unwrap();
        let Message::Committed(receipt) = heard(&mut link) else { panic!("no receipt") };
        assert_eq!((receipt.run, receipt.snapshot), (RunId([run; 16]), u64::from(run)));
        assert_eq!(fs::read_to_string(world.copy().join("f")).unwrap(), TEXT);
        link.send(challenge("f")).unwrap();
        let mut expected = blake3::Hasher::new_keyed(&[5; 32]);
        expected.update(&3u32.to_le_bytes()).update(b"ell");
        assert_eq!(heard(&mut link), Message::from(crate::net::message::Proof { digest: expected.finalize().into() }));
        world.place.news.1.recv_timeout(Duration::from_secs(60)).unwrap();
    }
    drop(link);
    serving.join().unwrap().unwrap();
    let snapshots = world.place.hub.store.snapshots(source().copy()).unwrap();
    let record = snapshots.record(1).unwrap();
    assert_eq!((record.parent, record.client.key), (Some(RunId([9; 16])), [3; 32]));
    assert_eq!(record.client.software, "rbbackup 1");
    let one = ["begin 10.0.0.1/u /home/u", "/home/u/f 5", "/home/u/f done", "of 5"];
    let all = [&one[..], &["snapshot 1"], &one[..], &["snapshot 2"]].concat();
    assert_eq!(*world.seen.0.lock().unwrap(), all);
}

#[test]
fn what_was_asked_out_of_turn_or_of_another_is_refused() {
    let wants = Wants(vec![("10.0.0.9".to_owned(), None)]);
    let world = World::new(wants);
    let (link, serving) = world.joined();
    link.send(for_whom(&source(), None, false)).unwrap();
    let error = serving.join().unwrap().unwrap_err();
    assert!(error.message.contains("'nas' does not take the backups of 10.0.0.1/u"), "{error}");
    let (link, serving) = world.joined();
    link.send(challenge("f")).unwrap();
    assert!(serving.join().unwrap().unwrap_err().message.contains("Challenge"));
    let (link, serving) = world.joined();
    link.send(begin(1)).unwrap();
    assert!(serving.join().unwrap().unwrap_err().message.contains("Begin"));
    let (link, serving) = world.joined();
    let message = b"no more"[..].into();
    link.send(Refused { kind: RefusalKind::Failed, message }).unwrap();
    assert_eq!(serving.join().unwrap().unwrap_err().message, "no more");
    let (link, serving) = world.joined();
    drop(link);
    serving.join().unwrap().unwrap();
    assert!(world.seen.0.lock().unwrap().is_empty());
}

#[test]
fn a_run_that_is_cut_is_told_and_leaves_the_copy_alone() {
    let world = World::new(Wants::default());
    let (mut link, serving) = world.joined();
    link.send(for_whom(&source(), None, true)).unwrap();
    link.send(begin(1)).unwrap();
    assert!(matches!(heard(&mut link), Message::Granted(_)));
    send_tree(&link);
    assert!(matches!(heard(&mut link), Message::Prepared(_)));
    drop(link);
    assert!(serving.join().unwrap().is_err());
    assert!(!world.copy().exists());
    assert!(world.seen.0.lock().unwrap().last().unwrap().starts_with("failed: "));
}
