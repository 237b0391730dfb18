//! Large files that a source opens as nobody should.

use super::super::receive::scripted::{begin, heard};
use super::*;
use crate::backup::chunker::bounds;
use crate::backup::digest::Digest;
use crate::backup::entry::SizeClass;
use crate::backup::limits::BATCH_COUNT_MAX;
use crate::net::message::{Changes, Chunks, FileDone, Files, Manifest, ManifestEnd, WireChange, WireEntry, WireKind};

fn open(file: u32, path: &str) -> FileOpen {
    FileOpen { file, path: path.as_bytes().into(), size: 0, class: 1, base: None }
}

fn file(path: &str, content: &[u8], class: u8) -> WireEntry {
    let (size, digest) = (content.len() as u64, Digest::of(content));
    let kind = WireKind::File { size, digest, class, flags: 0, leader: b""[..].into() };
    WireEntry { path: path.as_bytes().into(), mode: 0o600, kind, ..dir("") }
}

fn dir(path: &str) -> WireEntry {
    let (path, xattrs) = (path.as_bytes().into(), Vec::new());
    WireEntry { path, mode: 0o700, uid: 0, gid: 0, mtime_secs: 1, mtime_nanos: 0, xattrs, kind: WireKind::Dir }
}

fn chunk(file: u32, content: &[u8]) -> Message {
    Message::Chunks(Chunks { file, lens: vec![content.len() as u32] }, content.to_vec())
}

fn done(file: u32, entry: WireEntry) -> FileDone {
    FileDone { file, entry: Some(entry) }
}

fn manifest(link: &Link, entries: Vec<WireEntry>) {
    let mut hasher = crate::backup::manifest::ManifestHasher::new();
    let all = [vec![dir("")], entries].concat();
    all.iter().for_each(|entry| hasher.push(&super::super::wire::entry_from_wire(entry.clone()).unwrap()));
    let head = Manifest {
        base: None,
        digest: hasher.finish(&Default::default()),
        entries: all.len() as u64,
        incomplete: false,
        users: Vec::new(),
        groups: Vec::new(),
        errors: Vec::new(),
    };
    link.send(head).unwrap();
    link.send(Changes { changes: all.into_iter().map(WireChange::Put).collect() }).unwrap();
    link.send(ManifestEnd { bytes_read: 0 }).unwrap();
}

/// Two chunks' worth of one byte.
fn content(byte: u8) -> Vec<u8> {
    vec![byte; 2 * bounds(SizeClass::Kib64).0]
}

/// What the copy has of `path`, if anything; whatever became of the run, it is what its digest says or not there.
fn assert_honest(fixture: &Fixture, path: &str, allowed: &[&[u8]]) {
    let copy = fixture.temp.path().join("127.0.0.1/u").join(super::super::receive::scripted::ROOT).join(path);
    if let Ok(found) = std::fs::read(copy) {
        assert!(allowed.contains(&found.as_slice()), "the copy has what nobody vouched for");
    }
}

#[test]
fn a_path_is_open_once_so_that_nobody_writes_to_what_was_verified() {
    let fixture = Fixture::new();
    let mut peer = fixture.granted(begin(1));
    let (good, evil) = (content(1), content(2));
    let said: [Message; 5] = [
        open(0, "x").into(),
        open(1, "x").into(),
        chunk(0, &good),
        done(0, file("x", &good, 1)).into(),
        chunk(1, &evil),
    ];
    // It may be refused before all is said.
    let _ = said.into_iter().try_for_each(|said| peer.link.send(said));
    let answer = heard(&mut peer.link);
    assert!(
        matches!(&answer, Message::Refused(refused) if String::from_utf8_lossy(&refused.message.0).contains("open")),
        "{answer:?}"
    );
    peer.end();
    // The same handle for another file.
    let mut peer = fixture.granted(begin(2));
    peer.link.send(open(0, "x")).unwrap();
    peer.link.send(open(0, "y")).unwrap();
    assert!(matches!(heard(&mut peer.link), Message::Refused(_)));
    peer.end();
    fixture.honest(201);
}

#[test]
fn a_small_file_in_the_place_of_an_open_one_spoils_neither() {
    let small: &[u8] = b"small";
    let large = content(7);
    for (last, wanted) in [(large.as_slice(), 1), (small, 0)] {
        let fixture = Fixture::new();
        let mut peer = fixture.granted(begin(1));
        peer.link.send(open(0, "x")).unwrap();
        peer.link.send(chunk(0, &large)).unwrap();
        peer.link.send(Message::Files(Files { entries: vec![file("x", small, 0)] }, small.to_vec())).unwrap();
        peer.link.send(done(0, file("x", &large, 1))).unwrap();
        manifest(&peer.link, vec![file("x", last, wanted)]);
        // Whichever came last is there; the other is asked for again. What is committed is what was said.
        match heard(&mut peer.link) {
            Message::Committed(_) => assert_honest(&fixture, "x", &[last]),
            Message::Missing(missing) => assert_eq!(missing.paths, [b"x"[..].into()]),
            other => panic!("{other:?}"),
        }
        peer.end();
        assert_honest(&fixture, "x", &[last]);
        fixture.honest(201);
    }
}

#[test]
fn a_file_below_an_open_one_spoils_neither() {
    let fixture = Fixture::new();
    let mut peer = fixture.granted(begin(1));
    let large = content(7);
    peer.link.send(open(0, "x")).unwrap();
    peer.link.send(chunk(0, &large)).unwrap();
    peer.link.send(Message::Files(Files { entries: vec![file("x/y", b"z", 0)] }, b"z".to_vec())).unwrap();
    peer.link.send(done(0, file("x", &large, 1))).unwrap();
    manifest(&peer.link, vec![file("x", &large, 1)]);
    let answer = heard(&mut peer.link);
    assert!(matches!(answer, Message::Missing(_) | Message::Committed(_)), "{answer:?}");
    peer.end();
    assert_honest(&fixture, "x", &[&large]);
    fixture.honest(201);
}

/// Ranges of a known file cost a peer a few bytes and the store as much as it lets them.
#[test]
fn an_offer_has_only_so_many_chunks_however_they_are_written() {
    let fixture = Fixture::new();
    let base: Vec<Vec<u8>> = (0..80).map(|i| vec![i; bounds(SizeClass::Kib64).0]).collect();
    let whole = base.concat();
    let mut peer = fixture.granted(begin(1));
    peer.link.send(open(0, "base")).unwrap();
    base.iter().for_each(|part| peer.link.send(chunk(0, part)).unwrap());
    peer.link.send(done(0, file("base", &whole, 1))).unwrap();
    manifest(&peer.link, vec![file("base", &whole, 1)]);
    let answer = heard(&mut peer.link);
    assert!(matches!(answer, Message::Committed(_)), "{answer:?}");
    peer.end();
    for all_at_once in [true, false] {
        let mut peer = fixture.granted(begin(if all_at_once { 2 } else { 3 }));
        peer.link.send(FileOpen { base: Some(Digest::of(&whole)), ..open(0, "bomb") }).unwrap();
        let first = WireChunk::New { digest: Digest([9; 32]), len: 65536 };
        peer.link.send(ChunkOffer { batch: 0, file: 0, items: vec![first] }).unwrap();
        let range = WireChunk::Range { first: 0, count: 80 };
        let count = if all_at_once { 2 * BATCH_COUNT_MAX / 80 } else { BATCH_COUNT_MAX / 80 };
        let sender = peer.link.sender.clone();
        let offering = thread::spawn(move || {
            for batch in 1..100_000 {
                if sender.send(ChunkOffer { batch, file: 0, items: vec![range.clone(); count] }).is_err() {
                    return batch;
                }
            }
            u32::MAX
        });
        let refused = loop {
            match heard(&mut peer.link) {
                Message::Refused(refused) => break String::from_utf8(refused.message.0).unwrap(),
                Message::FileReady(_) | Message::Need(_) => {}
                other => panic!("{other:?}"),
            }
        };
        let words = if all_at_once { "an offer has too many items" } else { "before the first of them arrives" };
        assert!(refused.contains(words), "{refused}");
        peer.end();
        assert!(offering.join().unwrap() < 1000, "no limit to what is announced and does not come");
    }
    fixture.honest(201);
}
