//! A destination's data connection, with a daemon that says each message itself.

use std::fs;
use std::sync::Mutex;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::bounded;

use super::*;
use crate::backup::digest::{Digest, RunId};
use crate::backup::entry::{Entry, FileContent, Kind, Link as HardLink, Meta, OwnerNames, SizeClass};
use crate::backup::manifest::ManifestHasher;
use crate::engine::client::Target;
use crate::engine::destination::links::Links;
use crate::engine::destination::observer::{Arrival, Receiving};
use crate::engine::fan_out::board::Wants;
use crate::engine::fan_out::whose::for_whom;
use crate::engine::hub::{Hub, HubOptions};
use crate::engine::observer::{Event, Observer};
use crate::engine::wire::entry_to_wire;
use crate::net::message::{
    Challenge, Changes, Commit, Files, Manifest, ManifestEnd, Progress, Range, RefusalKind, WireChange,
};
use crate::store::registry::{Identity, Right};

const ROOT: &str = "home/u";
const TEXT: &str = "hello";

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
        let client = ClientOptions {
            target: Target::Server { server: String::new(), bind: None },
            user: "d".to_owned(),
            of: None,
            state_dir: temp.path().to_path_buf(),
            cache_dir: temp.path().to_path_buf(),
            retry_for: Duration::ZERO,
            stop: Stop::default(),
        };
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

fn source() -> Who {
    let copy = CopyName::new(b"10.0.0.1", b"u").unwrap();
    let identity = Identity { copy, key: Some([3; 32]), rights: vec![Right::Backup], created: now() };
    Who { identity, address: Some("10.0.0.1".parse().unwrap()), software: "rbbackup 1".to_owned() }
}

fn begin(run: u8) -> Begin {
    Begin {
        run: RunId([run; 16]),
        root: ROOT.as_bytes().into(),
        recursive: true,
        delete: true,
        delete_excluded: false,
        force_delete: true,
        dry_run: false,
        filters: Vec::new(),
        wait_secs: 0,
        file_system: 0,
        base: None,
        copies: 0,
        wait_copies_secs: 0,
        retry_secs: 0,
    }
}

/// The next message that is no sign of life.
fn heard(link: &mut Link) -> Message {
    loop {
        match link.recv().unwrap() {
            Message::Busy(_) => {}
            other => return other,
        }
    }
}

/// Sends the root with one file.
fn send_tree(link: &Link) {
    let meta = Meta { mode: 0o700, ..Default::default() };
    let content = FileContent {
        size: TEXT.len() as u64,
        digest: Digest::of(TEXT.as_bytes()),
        class: SizeClass::Whole,
        link: HardLink::Single,
        sparse: false,
        unstable: false,
    };
    let dir = Entry { path: RelPath::root(), meta: meta.clone(), kind: Kind::Dir };
    let file = Entry { path: RelPath::new(b"f").unwrap(), meta, kind: Kind::File(content) };
    let files = Files { entries: vec![entry_to_wire(&file)] };
    link.send(Message::Files(files, TEXT.as_bytes().to_vec())).unwrap();
    link.send(Progress { bytes_done: 5, bytes_total: 5, files_done: 1, total_known: true }).unwrap();
    let entries = [dir, file];
    let mut hasher = ManifestHasher::new();
    entries.iter().for_each(|entry| hasher.push(entry));
    let head = Manifest {
        base: None,
        digest: hasher.finish(&OwnerNames::default()),
        entries: entries.len() as u64,
        incomplete: false,
        users: Vec::new(),
        groups: Vec::new(),
        errors: Vec::new(),
    };
    link.send(head).unwrap();
    let changes = entries.iter().map(|entry| WireChange::Put(entry_to_wire(entry))).collect();
    link.send(Changes { changes }).unwrap();
    link.send(ManifestEnd { bytes_read: 0 }).unwrap();
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
