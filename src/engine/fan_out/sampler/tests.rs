//! What is kept of what passed.

use super::*;
use crate::net::message::{Chunks, FileDone, FileOpen, Files, Manifest};

fn sampler() -> Sampler {
    let mut state = 1_u64;
    Sampler::new(true, move |n| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33).checked_rem(n).unwrap_or(0)
    })
}

fn entry(path: &str, content: &[u8]) -> WireEntry {
    let (size, digest) = (content.len() as u64, Digest::of(content));
    WireEntry {
        path: Bytes::from(path.as_bytes()),
        mode: 0,
        uid: 0,
        gid: 0,
        mtime_secs: 0,
        mtime_nanos: 0,
        xattrs: Vec::new(),
        kind: WireKind::File { size, digest, class: 0, flags: 0, leader: Bytes::default() },
    }
}

fn files(all: &[(&str, &[u8])]) -> Message {
    let entries = all.iter().map(|(path, content)| entry(path, content)).collect();
    Message::Files(Files { entries }, all.iter().flat_map(|(_, content)| content.to_vec()).collect())
}

fn open(file: u32) -> Message {
    FileOpen { file, path: Bytes::default(), size: 1, class: 1, base: None }.into()
}

fn chunks(file: u32, all: &[&[u8]]) -> Message {
    Message::Chunks(Chunks { file, lens: all.iter().map(|chunk| chunk.len() as u32).collect() }, all.concat())
}

fn new(chunk: &[u8]) -> WireChunk {
    WireChunk::New { digest: Digest::of(chunk), len: chunk.len() as u32 }
}

fn offer(batch: u32, items: Vec<WireChunk>) -> Message {
    ChunkOffer { batch, file: 0, items }.into()
}

fn need(batch: u32, bits: &[bool]) -> Need {
    let mut all = Bits::default();
    bits.iter().for_each(|bit| all.push(*bit));
    Need { batch, bits: all.into_wire() }
}

fn manifest(sampler: &mut Sampler, all: &[(&str, &[u8])]) {
    let head = Manifest {
        base: None,
        digest: Digest([0; 32]),
        entries: 1,
        incomplete: false,
        users: Vec::new(),
        groups: Vec::new(),
        errors: Vec::new(),
    };
    sampler.see(&head.into());
    let changes = all.iter().map(|(path, content)| WireChange::Put(entry(path, content))).collect();
    sampler.see(&Changes { changes }.into());
}

/// Path, offset and bytes of what would be asked for.
fn kept(sampler: &Sampler) -> Vec<(String, u64, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let pieces = sampler.pieces().into_iter();
    pieces.map(|(range, bytes)| (text(range.path.as_slice()), range.offset, text(bytes))).collect()
}

fn piece(path: &str, offset: u64, bytes: &str) -> (String, u64, String) {
    (path.to_owned(), offset, bytes.to_owned())
}

#[test]
fn only_what_the_manifest_names_is_asked_for() {
    let mut sampler = sampler();
    sampler.see(&files(&[("a", b"first"), ("empty", b""), ("b", b"other")]));
    assert!(kept(&sampler).is_empty(), "no manifest yet");
    manifest(&mut sampler, &[("a", b"first"), ("b", b"changed since")]);
    assert_eq!(kept(&sampler), [piece("a", 0, "first")]);
    // Another round: what came for it counts, and what the manifest does not name any more does not.
    sampler.see(&files(&[("b", b"changed since")]));
    manifest(&mut sampler, &[("b", b"changed since")]);
    assert_eq!(kept(&sampler), [piece("b", 0, "changed since")]);
    assert_eq!(sampler.paths(), [Bytes::from(&b"b"[..])]);
}

#[test]
fn pieces_of_large_files_are_where_they_belong() {
    // Nothing is asked: one chunk behind the other.
    let mut plain = sampler();
    plain.see(&open(0));
    plain.see(&chunks(0, &[b"one", b"three"]));
    plain.see(&chunks(0, &[b"two"]));
    plain.see(&FileDone { file: 0, entry: Some(entry("big", b"onethreetwo")) }.into());
    manifest(&mut plain, &[("big", b"onethreetwo")]);
    assert_eq!(kept(&plain), [piece("big", 0, "one"), piece("big", 3, "three"), piece("big", 8, "two")]);
    // Asked: only some come; and behind a part of the base nobody knows where anything lies.
    let mut asked = sampler();
    asked.see(&open(0));
    asked.see(&offer(7, vec![new(b"one"), new(b"three"), WireChunk::Range { first: 0, count: 2 }, new(b"six")]));
    asked.replied(&need(7, &[false, true, false, true, true]));
    asked.see(&chunks(0, &[b"three", b"xxxx", b"six"]));
    asked.see(&FileDone { file: 0, entry: Some(entry("big", b"whole")) }.into());
    manifest(&mut asked, &[("big", b"whole")]);
    assert_eq!(kept(&asked), [piece("big", 3, "three")]);
    // However much somebody offers in few bytes.
    asked.see(&open(0));
    asked.see(&offer(8, vec![new(b"one"), WireChunk::Range { first: 0, count: u32::MAX }]));
    assert_eq!((asked.offers[&8].places.len(), asked.offers[&8].count), (1, u32::MAX as usize + 1));
    // One that could not be read is forgotten.
    asked.see(&open(1));
    asked.see(&chunks(1, &[b"lost"]));
    asked.see(&FileDone { file: 1, entry: None }.into());
    assert_eq!(asked.kept.len(), 1);
}

#[test]
fn memory_is_bounded_and_any_piece_may_be_kept() {
    let mut sampler = sampler();
    let big: Vec<u8> = (0..40_000_u32).map(|i| (i % 251) as u8).collect();
    let names: Vec<String> = (0..1000).map(|n| format!("f{n:04}")).collect();
    for name in &names {
        sampler.see(&files(&[(name, &big)]));
    }
    let all: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), big.as_slice())).collect();
    manifest(&mut sampler, &all);
    let pieces = sampler.pieces();
    assert_eq!(pieces.len(), KEPT_MAX);
    assert!(pieces.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() <= 1 << 20);
    for (range, bytes) in &pieces {
        let from = range.offset as usize;
        assert_eq!(&big[from..from + range.len as usize], *bytes);
    }
    let early = pieces.iter().filter(|(range, _)| range.path.as_slice() < b"f0500".as_slice()).count();
    assert!((4..KEPT_MAX - 4).contains(&early), "{early}");
    // Who can read its own copy keeps names only.
    let mut names_only = Sampler::new(false, |_| 0);
    names_only.see(&files(&[("a", b"content")]));
    manifest(&mut names_only, &[("a", b"content")]);
    assert!(names_only.paths().len() == 1 && names_only.kept[0].bytes.is_empty());
}
