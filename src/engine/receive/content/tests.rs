//! What a peer says must not decide how much memory or time it takes: offers of large files.

use std::thread;

use super::*;
use crate::backup::chunker::bounds;
use crate::engine::client::now;
use crate::engine::hub::{Hub, HubOptions, Who};
use crate::engine::receive::scripted::{begin, heard};
use crate::engine::receive::{Terms, serve};
use crate::net::link::Link;
use crate::store::registry::Registry;

/// What the store says to a run that says `words` after it was granted, and how many of its answers came before.
fn answer(words: impl Fn(&LinkSender) -> Result<(), LinkError> + Send) -> (String, usize) {
    let temp = tempfile::tempdir().unwrap();
    let hub = Hub::open(temp.path(), HubOptions::in_process()).unwrap();
    let (mut link, mut theirs) = Link::pair();
    let begin = begin(1);
    thread::scope(|scope| {
        let serving = scope.spawn(move || {
            let who = Who { identity: Registry::local(b"u", now()).unwrap(), address: None, software: String::new() };
            serve(&hub, &who, &mut theirs, &begin, &Terms::default())
        });
        assert!(matches!(heard(&mut link), Message::Granted(_)));
        let sender = link.sender.clone();
        scope.spawn(move || words(&sender));
        let mut answers = 0;
        while link.recv().is_ok() {
            answers += 1;
        }
        (serving.join().unwrap().expect_err("it was let through").to_string(), answers)
    })
}

fn open(link: &LinkSender, file: u32) -> Result<(), LinkError> {
    link.send(FileOpen { file, path: format!("f{file}").into_bytes().into(), size: 1 << 40, class: 1, base: None })
}

fn chunk(number: u64) -> WireChunk {
    let (_, len) = bounds(SizeClass::Kib64);
    WireChunk::New { digest: Digest::of(&number.to_le_bytes()), len: len as u32 }
}

#[test]
fn an_offer_of_too_many_chunks_is_refused_before_they_are_counted_out() {
    let offer = |items: Vec<WireChunk>| {
        answer(move |link| {
            open(link, 0)?;
            link.send(ChunkOffer { batch: 0, file: 0, items: items.clone() })
        })
    };
    let many = (0..=BATCH_COUNT_MAX as u64).map(chunk).collect();
    let huge = vec![WireChunk::Range { first: 0, count: u32::MAX }; 3];
    let empty = vec![WireChunk::Range { first: 0, count: 0 }; BATCH_COUNT_MAX + 1];
    for items in [many, huge, empty] {
        let (said, answers) = offer(items);
        assert!(said.contains("an offer has too many items"), "{said}");
        assert_eq!(answers, 0);
    }
}

#[test]
fn chunks_that_are_announced_and_never_come_are_not_gathered_for_ever() {
    let (said, answers) = answer(|link| {
        (0..2).try_for_each(|file| open(link, file))?;
        (0_u32..).try_for_each(|batch| {
            let first = u64::from(batch) * BATCH_COUNT_MAX as u64;
            let items = (first..first + BATCH_COUNT_MAX as u64).map(chunk).collect();
            link.send(ChunkOffer { batch, file: batch % 2, items })
        })
    });
    assert!(said.contains("too many chunks are announced"), "{said}");
    assert_eq!(answers, PROMISED_COUNT_MAX / BATCH_COUNT_MAX, "of both files together");
}

#[test]
fn small_files_come_in_small_messages() {
    let (said, _) = answer(|link| {
        let files = Files { entries: Vec::new() };
        link.send(Message::Files(files, vec![0; FILES_BYTES_MAX + 1]))
    });
    assert!(said.contains("too large"), "{said}");
}

#[test]
fn a_base_finds_its_ranges_at_once() {
    let digest = |byte| Digest([byte; 32]);
    let chunks = vec![(digest(1), 10), (digest(2), 20), (digest(3), 30)];
    let base = Base::new(digest(9), Recipe { class: SizeClass::Kib64, chunks: chunks.clone() });
    assert_eq!(base.range(0, 3), Some((&chunks[..], 0)));
    assert_eq!(base.range(2, 1), Some((&chunks[2..], 30)));
    assert_eq!(base.range(1, 0).map(|(chunks, at)| (chunks.len(), at)), Some((0, 10)));
    assert!(base.range(3, 1).is_none() && base.range(u32::MAX, u32::MAX).is_none() && base.range(0, 4).is_none());
}
