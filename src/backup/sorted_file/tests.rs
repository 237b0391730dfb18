//! Tests of sorted files.

use std::io::Cursor;

use proptest::prelude::*;

use super::*;

const MAGIC: [u8; 8] = *b"RBTEST01";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Item {
    path: RelPath,
    value: u64,
    blob: Vec<u8>,
}

impl SortedRecord for Item {
    fn path(&self) -> &RelPath {
        &self.path
    }
}

fn item(path: &str, value: u64) -> Item {
    Item { path: RelPath::new(path.as_bytes()).unwrap(), value, blob: vec![value as u8; (value % 300) as usize] }
}

/// In canonical order: `d0000` before `d0000/f00`, and so on.
fn items(count: u64) -> Vec<Item> {
    (0..count)
        .map(|i| {
            let path = if i % 50 == 0 { format!("d{:05}", i / 50) } else { format!("d{:05}/f{:02}", i / 50, i % 50) };
            item(&path, i)
        })
        .collect()
}

fn write(items: &[Item]) -> Vec<u8> {
    let mut writer = SortedWriter::create(Vec::new(), MAGIC, &"early").unwrap();
    for item in items {
        writer.push(item).unwrap();
    }
    writer.set_header(&"late").unwrap();
    let (bytes, stats) = writer.finish().unwrap();
    assert_eq!(stats, SortedStats { records: items.len() as u64, bytes: bytes.len() as u64 });
    bytes
}

fn open(bytes: &[u8]) -> Result<SortedReader<Cursor<&[u8]>, Item>, SortedError> {
    let (header, reader) = SortedReader::open::<String>(Cursor::new(bytes), MAGIC)?;
    assert_eq!(header, "late");
    Ok(reader)
}

fn read_all(bytes: &[u8]) -> Result<Vec<Item>, SortedError> {
    open(bytes)?.collect()
}

#[test]
fn what_is_written_is_read_and_found() {
    let all = items(5000);
    let bytes = write(&all);
    assert_eq!(read_all(&bytes).unwrap(), all);
    let mut reader = open(&bytes).unwrap();
    assert_eq!(reader.records(), 5000);
    for i in [0, 1, 49, 50, 777, 2500, 4999] {
        assert_eq!(reader.get(&all[i].path).unwrap().as_ref(), Some(&all[i]));
        assert_eq!(reader.next().transpose().unwrap().as_ref(), all.get(i + 1));
        reader.seek_ordinal(i as u64).unwrap();
        assert_eq!(reader.next().unwrap().unwrap(), all[i]);
    }
    assert_eq!(reader.get(&item("d00001/zz", 0).path).unwrap(), None);
    reader.seek(&item("zz", 0).path).unwrap();
    assert!(reader.next().is_none());
    reader.seek_ordinal(5000).unwrap();
    assert!(reader.next().is_none());
    reader.seek_ordinal(u64::MAX).unwrap();
    assert!(reader.next().is_none());
    reader.seek(&RelPath::root()).unwrap();
    assert_eq!(reader.count(), 5000);
}

#[test]
fn an_empty_file_has_a_header_and_no_records() {
    let bytes = write(&[]);
    let mut reader = open(&bytes).unwrap();
    reader.seek(&item("a", 0).path).unwrap();
    assert_eq!((reader.records(), reader.count()), (0, 0));
}

#[test]
fn disorder_is_refused_when_writing() {
    let mut writer = SortedWriter::create(Vec::new(), MAGIC, &()).unwrap();
    writer.push(&item("b", 1)).unwrap();
    for bad in ["b", "a", "a/z"] {
        assert!(matches!(writer.push(&item(bad, 1)), Err(SortedError::NotAscending { .. })), "{bad}");
    }
    writer.push(&item("b/a", 1)).unwrap();
    writer.push(&item("b!", 1)).unwrap();
}

#[test]
fn another_kind_and_an_unfinished_file_are_refused() {
    let bytes = write(&items(10));
    let other = SortedReader::<_, Item>::open::<String>(Cursor::new(&bytes), *b"RBOTHER1");
    assert!(matches!(other.err(), Some(SortedError::WrongKind { .. })));
    for cut in 0..bytes.len() {
        assert!(open(&bytes[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn every_flipped_byte_is_found_and_ends_the_reading() {
    let all = items(300);
    let bytes = write(&all);
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 0x40;
        let Ok(mut reader) = open(&bad) else { continue };
        let read: Vec<_> = reader.by_ref().collect();
        assert!(read.last().unwrap().is_err(), "byte {at} of {}", bytes.len());
        assert!(reader.next().is_none());
        assert!(read.iter().filter_map(|r| r.as_ref().ok()).eq(all.iter().take(read.len() - 1)));
    }
}

#[test]
fn records_far_larger_than_a_block_fit() {
    let big = |path: &str, len: usize| Item { blob: (0..len).map(|i| (i * 7) as u8).collect(), ..item(path, 1) };
    let all = vec![item("a", 1), big("b", 3_000_000), big("c", 200_000), item("d", 2)];
    let bytes = write(&all);
    assert_eq!(read_all(&bytes).unwrap(), all);
    assert_eq!(open(&bytes).unwrap().get(&all[2].path).unwrap(), Some(all[2].clone()));
}

/// A file whose hashes all match, around whatever index and block: what remains is the decoders' own care.
fn forge(block: &[u8], index: &[u8], index_raw: u32, header: &[u8], records: u64) -> Vec<u8> {
    let trailer = Trailer { index_stored: index.len() as u32, index_raw, header: header.len() as u32, records };
    let tail = trailer.seal(&MAGIC, index, header);
    [&MAGIC[..], block, index, header, &tail].concat()
}

proptest! {
    #[test]
    fn any_sorted_set_round_trips_and_seeks(
        paths in proptest::collection::btree_set("[a-c]{1,3}(/[a-c!.x]{1,3}x){0,3}", 0..200),
        probe in "[a-d]{1,3}(/[a-c]{1,2}){0,2}",
        scale in 1u64..4000,
    ) {
        let mut all: Vec<Item> = paths.iter().enumerate().map(|(i, path)| {
            Item { blob: vec![i as u8; scale as usize], ..item(path, i as u64) }
        }).collect();
        all.sort_by(|a, b| a.path.cmp(&b.path));
        let bytes = write(&all);
        prop_assert_eq!(&read_all(&bytes).unwrap(), &all);
        let probe = RelPath::new(probe.as_bytes()).unwrap();
        let mut reader = open(&bytes).unwrap();
        reader.seek(&probe).unwrap();
        let rest: Vec<Item> = reader.collect::<Result<_, _>>().unwrap();
        let expected: Vec<Item> = all.into_iter().filter(|item| item.path >= probe).collect();
        prop_assert_eq!(rest, expected);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let framed = [&MAGIC[..], &bytes, &END_MAGIC].concat();
        for bytes in [bytes, framed] {
            if let Ok((_, reader)) = SortedReader::<_, Item>::open::<String>(Cursor::new(&bytes), MAGIC) {
                reader.for_each(drop);
            }
        }
    }

    #[test]
    fn forged_files_with_right_hashes_never_panic(
        raw_block in proptest::collection::vec(any::<u8>(), 0..200),
        raw_index in proptest::collection::vec(any::<u8>(), 0..60),
        lies in (any::<u32>(), 0u32..4, any::<bool>(), any::<bool>()),
    ) {
        let block = zstd::bulk::compress(&raw_block, 1).unwrap();
        let (wild, count, honest_index, honest_raw) = lies;
        let raw = if honest_raw { raw_block.len() as u32 } else { wild % 1_000_000 };
        let info = BlockInfo {
            stored: block.len() as u32, raw, count, hash: hash_of(&[&block]), first: RelPath::root(),
        };
        let good = bincode::serde::encode_to_vec(vec![info], bincode::config::standard()).unwrap();
        let raw_index = if honest_index { good } else { raw_index };
        let index = zstd::bulk::compress(&raw_index, 1).unwrap();
        let header = bincode::serde::encode_to_vec("late", bincode::config::standard()).unwrap();
        let bytes = forge(&block, &index, raw_index.len() as u32, &header, u64::from(count));
        if let Ok(reader) = open(&bytes) {
            reader.for_each(drop);
        }
    }
}
