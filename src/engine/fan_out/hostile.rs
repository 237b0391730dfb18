//! Runs whose source or destination does what it must not, in memory: a daemon's store and its board, and links.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};

use super::board::{Attendance, DestinationId, Heads, Line, Said, Wants};
use super::{say, serve};
use crate::backup::bytes::Bytes;
use crate::backup::digest::Digest;
use crate::backup::limits::CONTROL_FRAME_BYTES_MAX;
use crate::engine::client::now;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::hub::{Hub, HubOptions, Who};
use crate::engine::receive::scripted::{begin, send_files, send_manifest};
use crate::net::link::{Link, LinkError};
use crate::net::message::{
    Begin, Commit, Granted, Message, Missing, Need, Offer, Prepared, Progress, RefusalKind, Refused,
};
use crate::store::names::CopyName;
use crate::store::registry::{Identity, Right};

/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);
const FILES: [(&str, &str); 2] = [("a", "one"), ("b", "and another")];

/// A daemon.
struct Place {
    _temp: tempfile::TempDir,
    hub: Arc<Hub>,
    who: Who,
}

/// A destination that is there: its calls are answered.
struct There {
    calls: Receiver<Link>,
    _attendance: Attendance,
    _line: Link,
}

/// A source whose run is served.
struct Source {
    link: Link,
    serving: JoinHandle<Result<(), EngineError>>,
}

impl Place {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let hub = Arc::new(Hub::open(temp.path(), HubOptions::in_process()).unwrap());
        let copy = CopyName::new(b"10.0.0.1", b"u").unwrap();
        let identity = Identity { copy, key: Some([3; 32]), rights: vec![Right::Backup], created: now() };
        Self { _temp: temp, hub, who: Who { identity, address: None, software: String::new() } }
    }

    fn destination(&self, number: u8) -> There {
        let (line, mut far) = Link::pair();
        let said = Said { name: format!("d{number}"), wants: Wants::default(), space: (1, 1), heads: Heads::new() };
        let of = Line { sender: &line.sender, key: None, address: None, now: now() };
        let attendance = self.hub.board.enter(DestinationId([number; 16]), said, of).unwrap();
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
        There { calls, _attendance: attendance, _line: line }
    }

    fn begin(&self, begin: Begin) -> Source {
        let (link, mut theirs) = Link::pair();
        let (hub, who) = (Arc::clone(&self.hub), self.who.clone());
        Source { link, serving: thread::spawn(move || serve(&hub, &who, &mut theirs, &begin)) }
    }

    /// A run that wants one copy and has its destination: both are granted.
    fn granted(&self, there: &There) -> (Source, Link) {
        let mut source = self.begin(Begin { copies: 1, ..begin(1) });
        let mut data = there.calls.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(next(&mut data), Some(Message::For(_))));
        assert!(matches!(next(&mut data), Some(Message::Begin(_))));
        data.send(Granted { base_known: false, ask: false }).unwrap();
        source.wait(|message| matches!(message, Message::Granted(_)));
        (source, data)
    }
}

impl Source {
    /// Hears what it is told until this.
    fn wait(&mut self, is: impl Fn(&Message) -> bool) {
        while !is(&next(&mut self.link).expect("the link is over")) {}
    }

    /// Why the run is refused.
    fn refusal(self) -> EngineError {
        let until = Instant::now() + PATIENCE;
        while !self.serving.is_finished() {
            assert!(Instant::now() < until, "it is served for ever");
            thread::sleep(Duration::from_millis(2));
        }
        self.serving.join().unwrap().unwrap_err()
    }
}

/// The next message that is no sign of life; none: the link is over.
fn next(link: &mut Link) -> Option<Message> {
    loop {
        match link.recv_timeout(PATIENCE) {
            Ok(Some(Message::Busy(_))) => {}
            Ok(Some(message)) => return Some(message),
            Ok(None) => panic!("nothing comes"),
            Err(_) => return None,
        }
    }
}

#[test]
fn a_source_that_was_granted_nothing_sends_no_content() {
    let place = Place::new();
    // It waits for somebody who does not come.
    let source = place.begin(Begin { copies: 1, wait_copies_secs: u32::MAX, ..begin(1) });
    send_files(&source.link, &FILES[..1]);
    let refusal = source.refusal();
    assert!(refusal.message.contains("unexpected message"), "{refusal}");
    assert_eq!(refusal.kind, ErrorKind::Failed);
}

#[test]
fn after_the_manifest_a_source_waits_and_its_progress_is_nobody_s_business() {
    let place = Place::new();
    let there = place.destination(1);
    let (source, mut data) = place.granted(&there);
    send_files(&source.link, &FILES);
    send_manifest(&source.link, &FILES);
    let manifest = loop {
        match next(&mut data) {
            Some(Message::Manifest(head)) => break head.digest,
            other => assert!(matches!(other, Some(Message::Files(..)))),
        }
    };
    assert!(matches!(next(&mut data), Some(Message::Changes(_))));
    assert!(matches!(next(&mut data), Some(Message::ManifestEnd(_))));
    let late = Progress { bytes_done: 1, bytes_total: 2, files_done: 3, total_known: true };
    source.link.send(late.clone()).unwrap();
    // What has been taken of the source has been dealt with by then.
    (0..8).for_each(|_| source.link.send(late.clone()).unwrap());
    let run = begin(1).run;
    data.send(Prepared { run, manifest, entries: 3 }).unwrap();
    assert_eq!(next(&mut data), Some(Commit { run }.into()));
    source.link.send(Offer { batch: 9, digests: vec![manifest] }).unwrap();
    let refusal = source.refusal();
    assert!(refusal.message.contains("unexpected message"), "{refusal}");
    assert_eq!(data.recv_timeout(PATIENCE), Err(LinkError::Closed));
}

#[test]
fn a_source_that_asks_and_takes_no_answers_is_not_listened_to() {
    let place = Place::new();
    let mut source = place.begin(begin(1));
    source.wait(|message| matches!(message, Message::Granted(_)));
    let count = 4000_u32;
    let sender = source.link.sender.clone();
    let (sent, told) = unbounded();
    let asking = thread::spawn(move || {
        for batch in 0..count {
            let digests = vec![Digest::of(&batch.to_le_bytes())];
            if sender.send(Offer { batch, digests }).is_err() {
                return;
            }
            sent.send(batch).unwrap();
        }
    });
    // As many as may wait, and no more; then it stands still.
    let mut asked = 0;
    while told.recv_timeout(Duration::from_millis(300)).is_ok() {
        asked += 1;
    }
    assert!(asked < count, "all was asked, and no answer taken");
    // Nothing is lost.
    for batch in 0..count {
        assert_eq!(next(&mut source.link), Some(Need { batch, bits: vec![1].into() }.into()));
    }
    asking.join().unwrap();
    drop(source.link);
    assert!(source.serving.join().unwrap().is_err());
}

#[test]
fn what_a_destination_misses_it_says_when_it_is_asked_and_with_an_end() {
    let part = |count: usize| Missing { paths: vec![Bytes::default(); count], last: false };
    let place = Place::new();
    let there = place.destination(1);
    let (source, mut data) = place.granted(&there);
    data.send(part(0)).unwrap();
    assert_eq!(data.recv_timeout(PATIENCE), Err(LinkError::Closed), "it owed no verdict");
    drop(source);

    let place = Place::new();
    let there = place.destination(1);
    let (source, mut data) = place.granted(&there);
    send_files(&source.link, &FILES);
    send_manifest(&source.link, &FILES);
    while !matches!(next(&mut data), Some(Message::ManifestEnd(_))) {}
    let taken = (0..2000).take_while(|_| data.send(part(1024)).is_ok()).count();
    assert!(taken < 2000, "paths without a byte are paths");
}

#[test]
fn a_source_that_breaks_the_protocol_leaves_no_catch_up_behind() {
    let place = Place::new();
    let mut source = place.begin(begin(1));
    source.wait(|message| matches!(message, Message::Granted(_)));
    send_files(&source.link, &FILES);
    send_manifest(&source.link, &FILES);
    source.wait(|message| matches!(message, Message::Committed(_)));
    source.serving.join().unwrap().unwrap();
    // The same run again, for somebody who lacks it and takes its time.
    let there = place.destination(1);
    let source = place.begin(Begin { copies: 1, ..begin(1) });
    let mut data = there.calls.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(next(&mut data), Some(Message::For(_))));
    assert!(matches!(next(&mut data), Some(Message::Begin(_))));
    send_files(&source.link, &FILES);
    source.refusal();
    assert_eq!(next(&mut data), None, "it is let go");
}

#[test]
fn a_source_hears_that_there_is_an_answer_that_cannot_be_sent() {
    let (ours, mut theirs) = Link::pair();
    let (answers, to_say) = unbounded();
    let message = Bytes(vec![b'x'; CONTROL_FRAME_BYTES_MAX + 1]);
    answers.send(Refused { kind: RefusalKind::Locked, message }.into()).unwrap();
    drop(answers);
    say(&ours.sender, &to_say);
    let Some(Message::Refused(refused)) = next(&mut theirs) else { panic!("nothing is said") };
    assert_eq!(refused.kind, RefusalKind::Failed);
}
