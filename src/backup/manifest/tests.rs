//! Tests of manifests.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Cursor;
use std::time::Instant;

use proptest::prelude::*;

use super::super::bytes::Bytes;
use super::super::entry::{FileContent, Kind, Meta, SizeClass, Xattr};
use super::super::fingerprint::Timestamp;
use super::super::sorted_file::{SortedError, SortedReader, SortedWriter};
use super::*;

/// Any entry at `path`, from a small number: equal numbers, equal entries.
pub(crate) fn entry(path: &str, n: u32) -> Entry {
    let link = match n % 5 {
        0 => Link::Leader,
        1 => Link::Follower(RelPath::new(b"a/leader").unwrap()),
        _ => Link::Single,
    };
    let kind = match n % 7 {
        0 => Kind::Dir,
        1 => Kind::Symlink { target: Bytes::from(&b"../x\xff"[..]) },
        2 => Kind::Fifo,
        3 => Kind::CharDevice { major: n, minor: 3 },
        _ => Kind::File(FileContent {
            size: u64::from(n) * 1000,
            digest: Digest::of(&n.to_le_bytes()),
            class: if n.is_multiple_of(2) { SizeClass::Whole } else { SizeClass::Kib64 },
            link,
            sparse: n.is_multiple_of(3),
            unstable: false,
        }),
    };
    let xattrs =
        if n.is_multiple_of(11) { vec![Xattr { name: b"user.a"[..].into(), value: b"1"[..].into() }] } else { vec![] };
    let mtime = Timestamp { secs: 1_700_000_000 + i64::from(n), nanos: n };
    Entry {
        path: RelPath::new(path.as_bytes()).unwrap(),
        meta: Meta { mode: 0o644, uid: 1000, gid: 1000, mtime, xattrs },
        kind,
    }
}

/// A plain file.
pub(crate) fn file(path: &str, size: u64) -> Entry {
    let content = FileContent {
        size,
        digest: Digest::of(path.as_bytes()),
        class: SizeClass::Whole,
        link: Link::Single,
        sparse: false,
        unstable: false,
    };
    Entry { kind: Kind::File(content), ..entry(path, 4) }
}

fn owners() -> OwnerNames {
    OwnerNames { users: vec![(0, b"root"[..].into()), (1000, b"u"[..].into())], groups: vec![(1000, b"u"[..].into())] }
}

fn digest(entries: &[Entry], owners: &OwnerNames) -> Digest {
    let mut hasher = ManifestHasher::new();
    entries.iter().for_each(|entry| hasher.push(entry));
    hasher.finish(owners)
}

fn ok<T: Clone>(items: &[T]) -> impl Iterator<Item = Result<T, Infallible>> {
    items.iter().cloned().map(Ok)
}

#[test]
fn the_digest_is_pinned() {
    let entries: Vec<Entry> = (0..12).map(|n| entry(&format!("a/{n:02}"), n)).collect();
    assert_eq!(
        digest(&[], &OwnerNames::default()).to_hex(),
        "4e6794abc89e0d21ea466b9768b33dcc2eeaeca53a5b6e0487748b8164c34209"
    );
    assert_eq!(
        digest(&entries, &owners()).to_hex(),
        "aa59999458b7facbd706d60fa2fa1d61338192432bd8cdc1d073d0f649aa775c"
    );
}

#[test]
fn the_digest_sees_everything_but_kept_entries() {
    let entries: Vec<Entry> = (0..12).map(|n| entry(&format!("a/{n:02}"), n)).collect();
    let whole = digest(&entries, &owners());
    assert_ne!(whole, digest(&entries[1..], &owners()));
    assert_ne!(whole, digest(&entries, &OwnerNames::default()));
    for i in 0..entries.len() {
        let mut other = entries.clone();
        other[i].meta.mtime.nanos += 1;
        assert_ne!(whole, digest(&other, &owners()), "entry {i}");
    }
    let mut hasher = ManifestHasher::new();
    for entry in &entries {
        hasher.push_record(&ManifestRecord { entry: entry.clone(), kept: false });
    }
    hasher.push_record(&ManifestRecord { entry: entry("b", 4), kept: true });
    assert_eq!((hasher.counts().entries, hasher.counts().kept), (12, 1));
    assert_eq!(hasher.finish(&owners()), whole);
}

#[test]
fn hard_linked_bytes_count_once() {
    let mut counts = ManifestCounts::default();
    let mut second = file("b", 10);
    if let Kind::File(content) = &mut second.kind {
        content.link = Link::Follower(RelPath::new(b"a").unwrap());
    }
    for entry in [file("a", 10), second, entry("d", 0)] {
        counts.add_record(&ManifestRecord { entry, kept: false });
    }
    counts.add_record(&ManifestRecord { entry: file("z", 99), kept: true });
    assert_eq!(counts, ManifestCounts { entries: 3, files: 2, bytes: 10, kept: 1 });
}

#[test]
fn a_chain_ends_after_16_links_or_20_percent() {
    let mut base = None;
    for link in 1..=16 {
        base = ChainBase::next(link, base.as_ref(), 1, 1000);
        assert_eq!(base.unwrap().links, link as u32);
    }
    assert_eq!(ChainBase::next(17, base.as_ref(), 1, 1000), None);
    assert!(ChainBase::next(1, None, 200, 1000).is_some());
    assert!(ChainBase::next(1, None, 201, 1000).is_none());
    let heavy = ChainBase { snapshot: 1, links: 1, changes: 199 };
    assert!(ChainBase::next(2, Some(&heavy), 2, 1000).is_none());
}

#[test]
fn an_error_comes_out_once_and_ends_the_merge() {
    let record = |path| ManifestRecord { entry: file(path, 1), kept: false };
    let base = [Ok(record("a")), Err("torn"), Ok(record("c"))];
    let changes = [Ok(ChangeRecord::Put(record("b"))), Ok(ChangeRecord::Put(record("d")))];
    let out: Vec<_> = apply(base.into_iter(), changes.into_iter()).collect();
    assert_eq!(out, vec![Ok(record("a")), Err("torn")]);
}

/// Files of version 1 must be read for ever. What is written may differ (another zstd packs otherwise).
#[test]
fn files_of_version_1_are_read() {
    let entries: Vec<Entry> = (0..12).map(|n| entry(&format!("a/{n:02}"), n)).collect();
    let record = |(n, entry): (usize, &Entry)| ManifestRecord { entry: entry.clone(), kept: n == 7 };
    let records: Vec<ManifestRecord> = entries.iter().enumerate().map(record).collect();
    let mut counts = ManifestCounts::default();
    records.iter().for_each(|record| counts.add_record(record));
    let base = Some(ChainBase { snapshot: 3, links: 2, changes: 9 });
    let header = ManifestHeader { digest: digest(&entries, &owners()), counts, owners: owners(), base: None };
    let changes = [ChangeRecord::Put(records[3].clone()), ChangeRecord::Remove(records[4].path().clone())];
    let changes_header = ManifestHeader { base, ..header.clone() };
    check_golden(include_str!("../../../tests/goldens/v1/disk/manifest.hex"), MANIFEST_MAGIC, &header, &records);
    check_golden(include_str!("../../../tests/goldens/v1/disk/changes.hex"), CHANGES_MAGIC, &changes_header, &changes);
}

/// Reads a sorted file from hex and compares; shows what would be written now when it cannot be read.
pub(crate) fn check_golden<H, T>(golden: &str, magic: [u8; 8], header: &H, records: &[T])
where
    H: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
    T: SortedRecord + PartialEq + std::fmt::Debug,
{
    let mut writer = SortedWriter::create(Vec::new(), magic, header).unwrap();
    records.iter().for_each(|record| writer.push(record).unwrap());
    let (now, _) = writer.finish().unwrap();
    let hex: Vec<String> = now.chunks(32).map(|line| line.iter().map(|b| format!("{b:02x}")).collect()).collect();
    let digits: Vec<u8> = golden.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let bytes: Vec<u8> = digits.chunks(2).map(byte).collect();
    let opened = SortedReader::<_, T>::open::<H>(Cursor::new(bytes), magic);
    let (found, reader) = opened.unwrap_or_else(|why| panic!("{why}; written now:\n{}", hex.join("\n")));
    assert_eq!(&found, header);
    assert_eq!(reader.collect::<Result<Vec<T>, SortedError>>().unwrap(), records);
}

fn records() -> impl Strategy<Value = Vec<ManifestRecord>> {
    proptest::collection::btree_map("[ab]{1,2}(/[ab!.x]{1,2}x){0,2}", (0u32..30, any::<bool>()), 0..40).prop_map(
        |map: BTreeMap<String, (u32, bool)>| {
            let make = |(path, (n, kept)): (String, (u32, bool))| ManifestRecord { entry: entry(&path, n), kept };
            let mut records: Vec<ManifestRecord> = map.into_iter().map(make).collect();
            records.sort_by(|a, b| a.path().cmp(b.path()));
            records
        },
    )
}

proptest! {
    #[test]
    fn applying_the_difference_gives_the_other(a in records(), b in records()) {
        let changes: Vec<ChangeRecord> = diff(ok(&a), ok(&b)).map(Result::unwrap).collect();
        let applied: Vec<ManifestRecord> = apply(ok(&a), ok(&changes)).map(Result::unwrap).collect();
        prop_assert_eq!(&applied, &b);
        prop_assert!(changes.is_sorted_by(|x, y| x.path() < y.path()));
        let same = a.iter().filter(|record| b.contains(record)).count();
        let gone = a.iter().filter(|x| !b.iter().any(|y| y.path() == x.path())).count();
        prop_assert_eq!(changes.len(), b.len() - same + gone);
        prop_assert_eq!(diff(ok(&a), ok(&a)).count(), 0);
    }

    #[test]
    fn changes_survive_a_sorted_file(a in records(), b in records()) {
        let mut writer = SortedWriter::create(Vec::new(), CHANGES_MAGIC, &7u64).unwrap();
        let changes: Vec<ChangeRecord> = diff(ok(&a), ok(&b)).map(Result::unwrap).collect();
        changes.iter().for_each(|change| writer.push(change).unwrap());
        let (bytes, _) = writer.finish().unwrap();
        let (header, reader) = SortedReader::open::<u64>(Cursor::new(bytes), CHANGES_MAGIC).unwrap();
        prop_assert_eq!(header, 7);
        prop_assert_eq!(reader.collect::<Result<Vec<ChangeRecord>, SortedError>>().unwrap(), changes);
    }
}

/// `cargo test --release --lib measure_manifest -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn measure_manifest() {
    let records: Vec<ManifestRecord> = (0..100_000)
        .map(|i| {
            let path = format!("drivers/net/ethernet/dir{:04}/some_file_name_{:03}.c", i / 100, i % 100);
            ManifestRecord { entry: file(&path, i * 37), kept: false }
        })
        .collect();
    for _ in 0..3 {
        let t = Instant::now();
        let mut writer = SortedWriter::create(Vec::new(), MANIFEST_MAGIC, &()).unwrap();
        records.iter().for_each(|record| writer.push(record).unwrap());
        let (bytes, _) = writer.finish().unwrap();
        let (wrote, t) = (t.elapsed(), Instant::now());
        let (_, reader) = SortedReader::<_, ManifestRecord>::open::<()>(Cursor::new(&bytes), MANIFEST_MAGIC).unwrap();
        assert_eq!(reader.map(Result::unwrap).count(), records.len());
        let (read, t) = (t.elapsed(), Instant::now());
        let mut hasher = ManifestHasher::new();
        records.iter().for_each(|record| hasher.push_record(record));
        hasher.finish(&OwnerNames::default());
        println!("100 000: write {wrote:?}, read {read:?}, hash {:?}, {} bytes", t.elapsed(), bytes.len());
    }
}
