//! Runs whose source or destination does what it must not.

use std::thread;
use std::time::Duration;

use crossbeam_channel::unbounded;

use super::say;
use super::scripted::{Destination, FILES, Fixture, PATIENCE, Source, content, next, prepared, wanted};
use crate::backup::bytes::Bytes;
use crate::backup::digest::Digest;
use crate::backup::limits::CONTROL_FRAME_BYTES_MAX;
use crate::engine::error::ErrorKind;
use crate::engine::receive::scripted::{send_files, send_manifest};
use crate::net::link::{Link, LinkError};
use crate::net::message::{Commit, Message, Missing, Need, Offer, Progress, RefusalKind, Refused};

/// A run that wants one copy and has its destination: both are granted.
fn granted(fixture: &Fixture, destination: &Destination) -> (Source, Link) {
    let mut source = fixture.begin(wanted(1));
    let data = destination.granted();
    source.wait_granted();
    (source, data)
}

#[test]
fn a_source_that_was_granted_nothing_sends_no_content() {
    let fixture = Fixture::new();
    // It waits for somebody who does not come.
    let source = fixture.begin(wanted(1));
    send_files(&source.link, &FILES[..1]);
    let refusal = source.refusal();
    assert!(refusal.message.contains("unexpected message"), "{refusal}");
    assert_eq!(refusal.kind, ErrorKind::Failed);
}

#[test]
fn after_the_manifest_a_source_waits_and_its_progress_is_nobody_s_business() {
    let fixture = Fixture::new();
    let there = fixture.destination(1);
    let (source, mut data) = granted(&fixture, &there);
    send_files(&source.link, &FILES);
    send_manifest(&source.link, &FILES);
    let manifest = content(&mut data).0;
    let late = Progress { bytes_done: 1, bytes_total: 2, files_done: 3, total_known: true };
    source.link.send(late.clone()).unwrap();
    // What has been taken of the source has been dealt with by then.
    (0..8).for_each(|_| source.link.send(late.clone()).unwrap());
    let begin = wanted(1);
    prepared(&data, &begin, manifest);
    assert_eq!(next(&mut data), Some(Commit { run: begin.run }.into()));
    source.link.send(Offer { batch: 9, digests: vec![manifest] }).unwrap();
    let refusal = source.refusal();
    assert!(refusal.message.contains("unexpected message"), "{refusal}");
    assert_eq!(data.recv_timeout(PATIENCE), Err(LinkError::Closed));
}

#[test]
fn a_source_that_asks_and_takes_no_answers_is_not_listened_to() {
    let fixture = Fixture::new();
    let mut source = fixture.begin(wanted(0));
    source.wait_granted();
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
    assert!(source.end().is_err());
}

#[test]
fn what_a_destination_misses_it_says_when_it_is_asked_and_with_an_end() {
    let part = |count: usize| Missing { paths: vec![Bytes::default(); count], last: false };
    let fixture = Fixture::new();
    let there = fixture.destination(1);
    let (source, mut data) = granted(&fixture, &there);
    data.send(part(0)).unwrap();
    assert_eq!(data.recv_timeout(PATIENCE), Err(LinkError::Closed), "it owed no verdict");
    drop(source);

    let fixture = Fixture::new();
    let there = fixture.destination(1);
    let (source, mut data) = granted(&fixture, &there);
    send_files(&source.link, &FILES);
    send_manifest(&source.link, &FILES);
    content(&mut data);
    let taken = (0..2000).take_while(|_| data.send(part(1024)).is_ok()).count();
    assert!(taken < 2000, "paths without a byte are paths");
}

#[test]
fn a_source_that_breaks_the_protocol_leaves_no_catch_up_behind() {
    let fixture = Fixture::new();
    let mut source = fixture.begin(wanted(0));
    source.wait_granted();
    send_files(&source.link, &FILES);
    send_manifest(&source.link, &FILES);
    source.receipt();
    // The same run again, for somebody who lacks it and takes its time.
    let there = fixture.destination(1);
    let source = fixture.begin(wanted(1));
    let mut data = there.begun();
    send_files(&source.link, &FILES[..1]);
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
