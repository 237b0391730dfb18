//! The container of manifests and caches: `which u8 | …`; 0 a whole file; 1 `header | blocks | index`, lengths before the
//! first two; else blocks of which more or less is said than is so. All hashes are put right here, except in a whole file.
//!
//! What comes out is strictly ascending, as many records as are promised, and each is found by its path.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use rbbackup::backup::manifest::{CHANGES_MAGIC, ChangeRecord};
use rbbackup::backup::relpath::RelPath;
use rbbackup::backup::sorted_file::{SortedReader, SortedRecord};
use rbbackup_fuzz::{Block, decode_all, encode, sorted_file, sorted_tail, take_piece};

fuzz_target!(|data: &[u8]| {
    let Some((which, rest)) = data.split_first() else { return };
    let magic = &CHANGES_MAGIC;
    let file = match which {
        0 => [magic.as_slice(), rest].concat(),
        1 => {
            let (header, rest) = take_piece(rest);
            let (blocks, index) = take_piece(rest);
            sorted_tail(
                [magic.as_slice(), blocks].concat(),
                magic,
                index,
                index.len() as u32,
                header,
                blocks.len() as u64,
            )
        }
        _ => blocks(magic, *which, rest),
    };
    let Ok((_, reader)) = SortedReader::<_, ChangeRecord>::open::<u8>(Cursor::new(&file), *magic) else { return };
    read(reader);
});

/// Up to four blocks. Each: `lie u8 | records length u16 | records`.
fn blocks(magic: &[u8; 8], lying: u8, mut rest: &[u8]) -> Vec<u8> {
    let mut parts = Vec::new();
    while let Some((lie, after)) = rest.split_first().filter(|_| parts.len() < 4) {
        let (raw, after) = take_piece(after);
        let records: Vec<ChangeRecord> = decode_all(raw);
        let first = records.first().map_or_else(Vec::new, |record| record.path().as_bytes().to_vec());
        let lie = if lying & 1 == 0 { 0 } else { u32::from(*lie) };
        parts.push((raw, first, records.len() as u32, lie));
        rest = after;
    }
    let said = |(raw, first, count, lie): &(&[u8], Vec<u8>, u32, u32)| {
        let (raw_said, count_said) = (raw.len() as u32 + (lie & 3), count + (lie >> 2 & 3));
        let cut = if lie >> 4 & 1 == 1 { first.len() / 2 } else { first.len() };
        (raw_said, count_said, first[..cut].to_vec())
    };
    let all: Vec<_> = parts.iter().map(|part| (part.0, said(part))).collect();
    let blocks: Vec<Block<'_>> = all
        .iter()
        .map(|(raw, (raw_said, count_said, first))| Block {
            raw,
            raw_said: *raw_said,
            count_said: *count_said,
            first_said: first,
        })
        .collect();
    sorted_file(magic, &encode(&7u8), &blocks)
}

fn read(mut reader: SortedReader<Cursor<&Vec<u8>>, ChangeRecord>) {
    let promised = reader.records();
    let (mut records, mut failed) = (Vec::<ChangeRecord>::new(), false);
    for record in reader.by_ref() {
        match record {
            Ok(record) => {
                assert!(!failed, "a record after an error");
                assert!(records.last().is_none_or(|last| last.path() < record.path()), "not ascending");
                records.push(record);
            }
            Err(_) => {
                assert!(!failed, "two errors");
                failed = true;
            }
        }
    }
    if failed {
        return;
    }
    assert_eq!(records.len() as u64, promised);
    for (i, record) in records.iter().enumerate() {
        assert_eq!(reader.get(record.path()).expect("it was read before").as_ref(), Some(record));
        reader.seek_ordinal(i as u64).expect("it was read before");
        assert_eq!(reader.next().expect("there is one").expect("it was read before"), *record);
    }
    reader.seek(&RelPath::root()).expect("it was read before");
    assert_eq!(reader.count(), records.len());
}
