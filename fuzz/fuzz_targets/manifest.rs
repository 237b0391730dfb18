//! Manifests and the changes between them: `length u16 | records of one | records of the other`.
//!
//! `apply(a, diff(a, b)) = b`, a file of them is read as it was written, and only what is in order is written.
#![no_main]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use rbbackup::backup::entry::OwnerNames;
use rbbackup::backup::manifest::{MANIFEST_MAGIC, ManifestHasher, ManifestRecord, apply, diff, merge};
use rbbackup::backup::relpath::RelPath;
use rbbackup::backup::sorted_file::{SortedReader, SortedRecord, SortedWriter};
use rbbackup_fuzz::{decode_all, take_piece};

fuzz_target!(|data: &[u8]| {
    let (left, right) = take_piece(data);
    let (as_they_came, b) = (decode_all::<ManifestRecord>(left), sorted(decode_all(right)));
    in_order(&as_they_came);
    let a = sorted(as_they_came);
    let changes: Vec<_> = diff(stream(&a), stream(&b)).map(unwrap).collect();
    assert!(changes.windows(2).all(|pair| pair[0].path() < pair[1].path()), "changes are in order");
    let outcome: Vec<_> = apply(stream(&a), changes.iter().cloned().map(Ok::<_, Infallible>)).map(unwrap).collect();
    assert_eq!(outcome, b);
    assert_eq!(diff(stream(&b), stream(&b)).count(), 0);
    let pairs = merge(stream(&a), stream(&b)).map(unwrap);
    assert_eq!(
        pairs.map(|(a, b)| usize::from(a.is_some()) + usize::from(b.is_some())).sum::<usize>(),
        a.len() + b.len()
    );
    file(&a);
});

fn stream(records: &[ManifestRecord]) -> impl Iterator<Item = Result<ManifestRecord, Infallible>> {
    records.iter().cloned().map(Ok)
}

fn unwrap<T>(value: Result<T, Infallible>) -> T {
    value.unwrap_or_else(|never| match never {})
}

fn sorted(records: Vec<ManifestRecord>) -> Vec<ManifestRecord> {
    let by_path: BTreeMap<RelPath, ManifestRecord> = records.into_iter().map(|r| (r.entry.path.clone(), r)).collect();
    by_path.into_values().collect()
}

/// A writer takes a record exactly if it comes after the last one that it took.
fn in_order(records: &[ManifestRecord]) {
    let mut writer = SortedWriter::create(Vec::new(), MANIFEST_MAGIC, &()).expect("memory");
    let mut last: Option<&RelPath> = None;
    for record in records {
        let fits = last.is_none_or(|last| last < record.path());
        assert_eq!(writer.push(record).is_ok(), fits);
        if fits {
            last = Some(record.path());
        }
    }
}

fn file(records: &[ManifestRecord]) {
    let mut writer = SortedWriter::create(Vec::new(), MANIFEST_MAGIC, &()).expect("memory");
    let mut hasher = ManifestHasher::new();
    for record in records {
        writer.push(record).expect("in order");
        hasher.push_record(record);
    }
    let (bytes, stats) = writer.finish().expect("memory");
    assert_eq!(stats.bytes, bytes.len() as u64);
    let opened = SortedReader::<_, ManifestRecord>::open::<()>(Cursor::new(bytes), MANIFEST_MAGIC);
    let ((), reader) = opened.expect("what was written");
    let mut again = ManifestHasher::new();
    let back: Vec<_> =
        reader.map(|record| record.expect("what was written")).inspect(|r| again.push_record(r)).collect();
    assert_eq!(back, records);
    assert_eq!(hasher.counts(), again.counts());
    let owners = OwnerNames::default();
    assert_eq!(hasher.finish(&owners), again.finish(&owners));
}
