//! A run's driver with a real store, and with a source and destinations that say each word themselves.

use super::scripted::{FILES, Fixture, commit, content, next, prepared, wait_until, wanted};
use crate::backup::digest::Digest;
use crate::backup::limits::{MISSING_ROUNDS_MAX, TARGET_QUEUE_BYTES};
use crate::engine::receive::scripted::{send_files, send_manifest};
use crate::net::message::{Chunks, FileDone, FileOpen, Message, Missing, Offer, RefusalKind, Refused};

const HELD: u8 = 0;
const BEHIND: u8 = 1;
const FAILED: u8 = 2;

#[test]
fn who_says_nothing_for_too_long_is_dropped() {
    let fixture = Fixture::impatient();
    let silent = fixture.destination(1);
    let mut source = fixture.begin(wanted(1));
    let mut link = silent.granted();
    source.wait_granted();
    send_files(&source.link, &FILES);
    send_manifest(&source.link, &FILES);
    content(&mut link);
    assert!(next(&mut link).is_none(), "its link is closed");
    let (enough, copies) = source.receipt();
    assert_eq!((enough, copies), (false, vec![("d1".into(), BEHIND, "it showed no sign of life".into())]));
}

#[test]
fn who_is_lost_when_it_is_prepared_is_behind_and_the_others_commit() {
    let fixture = Fixture::new();
    let (lost, held) = (fixture.destination(1), fixture.destination(2));
    let begin = wanted(1);
    let mut source = fixture.begin(begin.clone());
    let (mut from_lost, mut from_held) = (lost.granted(), held.granted());
    source.wait_granted();
    send_files(&source.link, &FILES);
    send_manifest(&source.link, &FILES);
    let manifest = content(&mut from_lost).0;
    prepared(&from_lost, &begin, manifest);
    drop(from_lost);
    fixture.wait_gone(&lost);
    assert!(!fixture.has(&begin), "one of them has no verdict yet");
    assert_eq!(content(&mut from_held), (manifest, vec!["a".to_owned(), "b".to_owned()]));
    commit(&mut from_held, &begin, manifest);
    let (enough, copies) = source.receipt();
    assert!(enough && copies[0].1 == BEHIND && copies[0].2.contains("closed the connection"), "{copies:?}");
    assert_eq!(copies[1], ("d2".into(), HELD, String::new()));
}

#[test]
fn who_refuses_and_who_speaks_out_of_turn_is_named_with_the_reason() {
    let fixture = Fixture::new();
    let (full, leaving, hasty) = (fixture.destination(1), fixture.destination(2), fixture.destination(3));
    let begin = wanted(0);
    let mut source = fixture.begin(begin.clone());
    let refusal = |kind, words: &str| Refused { kind, message: words.as_bytes().into() };
    let links = [full.begun(), leaving.begun(), hasty.granted()];
    links[0].send(refusal(RefusalKind::NoSpace, "no space")).unwrap();
    links[1].send(refusal(RefusalKind::Unavailable, "it stops")).unwrap();
    prepared(&links[2], &begin, Digest([1; 32]));
    for destination in [&full, &leaving, &hasty] {
        fixture.wait_gone(destination);
    }
    source.wait_granted();
    send_files(&source.link, &FILES);
    send_manifest(&source.link, &FILES);
    let (enough, copies) = source.receipt();
    let told: Vec<_> = copies.iter().map(|(name, state, why)| (name.as_str(), *state, why.as_str())).collect();
    let out_of_turn = "it broke the protocol: it spoke out of turn";
    assert_eq!(told, [("d1", FAILED, "no space"), ("d2", BEHIND, "it stops"), ("d3", FAILED, out_of_turn)]);
    assert!(enough && fixture.has(&begin));
}

#[test]
fn what_one_misses_the_source_sends_again_and_the_manifest_is_everybody_s() {
    let fixture = Fixture::new();
    let (missing, complete) = (fixture.destination(1), fixture.destination(2));
    let begin = wanted(2);
    let mut source = fixture.begin(begin.clone());
    let (mut misses, mut completes) = (missing.granted(), complete.granted());
    source.wait_granted();
    send_files(&source.link, &FILES);
    send_manifest(&source.link, &FILES);
    let manifest = content(&mut completes).0;
    prepared(&completes, &begin, manifest);
    content(&mut misses);
    misses.send(Missing { paths: vec![b"b"[..].into()], last: true }).unwrap();
    assert_eq!(source.next(), Missing { paths: vec![b"b"[..].into()], last: true }.into());
    assert!(!fixture.has(&begin));
    send_files(&source.link, &FILES[1..]);
    send_manifest(&source.link, &FILES);
    assert_eq!(content(&mut misses), (manifest, vec!["b".to_owned()]));
    assert_eq!(content(&mut completes).0, manifest);
    let (run, other) = (begin.clone(), begin);
    let committing = std::thread::spawn(move || commit(&mut misses, &run, manifest));
    commit(&mut completes, &other, manifest);
    committing.join().unwrap();
    let (enough, copies) = source.receipt();
    assert!(enough && copies.iter().all(|(_, state, _)| *state == HELD), "{copies:?}");
}

#[test]
fn who_misses_again_and_again_fails_alone() {
    let fixture = Fixture::new();
    let destination = fixture.destination(1);
    let begin = wanted(1);
    let mut source = fixture.begin(begin.clone());
    let mut link = destination.granted();
    source.wait_granted();
    for round in 1..=MISSING_ROUNDS_MAX {
        send_files(&source.link, &FILES);
        send_manifest(&source.link, &FILES);
        content(&mut link);
        link.send(Missing { paths: vec![b"c"[..].into()], last: true }).unwrap();
        if round < MISSING_ROUNDS_MAX {
            assert!(matches!(source.next(), Message::Missing(_)));
        }
    }
    let (enough, copies) = source.receipt();
    assert!(!enough && copies[0].1 == FAILED && copies[0].2.contains("again and again"), "{copies:?}");
    assert!(fixture.has(&begin));
}

/// Somebody changes that root there for a moment: it is asked again another time.
#[test]
fn whose_root_is_locked_is_behind_and_has_not_failed() {
    let fixture = Fixture::new();
    let locked = fixture.destination(1);
    let mut source = fixture.begin(wanted(0));
    let link = locked.begun();
    link.send(Refused { kind: RefusalKind::Locked, message: b"locked"[..].into() }).unwrap();
    source.wait_granted();
    send_files(&source.link, &FILES);
    send_manifest(&source.link, &FILES);
    assert_eq!(source.receipt(), (true, vec![("d1".into(), BEHIND, "locked".into())]));
}

/// Neither the source's answers nor a target's queue are taken by anybody: the run ends all the same.
#[test]
fn a_source_that_hears_nothing_and_a_target_that_takes_nothing_do_not_hang() {
    let fixture = Fixture::impatient();
    let destination = fixture.destination(1);
    let begin = wanted(1);
    let mut source = fixture.begin(begin.clone());
    let link = destination.granted();
    source.wait_granted();
    for batch in 0..20 {
        source.link.send(Offer { batch, digests: vec![Digest([batch as u8; 32])] }).unwrap();
    }
    let (file, path) = (0, b"large"[..].into());
    source.link.send(FileOpen { file, path, size: 1 << 30, class: 3, base: None }).unwrap();
    for _ in 0..TARGET_QUEUE_BYTES / (1 << 20) + 8 {
        source.link.send(Message::Chunks(Chunks { file, lens: vec![1 << 20] }, vec![7; 1 << 20])).unwrap();
    }
    source.link.send(FileDone { file, entry: None }).unwrap();
    send_files(&source.link, &FILES);
    send_manifest(&source.link, &FILES);
    wait_until("the store to hold it", || fixture.has(&begin));
    // Nobody has read a word of what came of it.
    let _ = source.end();
    drop(link);
}
