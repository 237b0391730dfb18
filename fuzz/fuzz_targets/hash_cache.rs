//! The client's hash cache: `which u8 | …`; 0 a recipe; 1 a whole file; else `header length u16 | header | records`, put
//! into a file whose hashes are right.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use rbbackup::backup::chunker::{Recipe, bounds};
use rbbackup::backup::hash_cache::{CACHE_MAGIC, CacheHeader, CacheRecord};
use rbbackup::backup::sorted_file::{SortedReader, SortedRecord};
use rbbackup_fuzz::{Block, decode_all, encode, sorted_file, take_piece};

fuzz_target!(|data: &[u8]| {
    let Some((which, rest)) = data.split_first() else { return };
    match which {
        0 => recipe(rest),
        1 => drop(read(&[CACHE_MAGIC.as_slice(), rest].concat())),
        _ => {
            let (header, raw) = take_piece(rest);
            let records: Vec<CacheRecord> = decode_all(raw);
            // What is left over behind the last whole record would spoil the block; short numbers can be written long.
            let canonical: Vec<u8> = records.iter().flat_map(encode).collect();
            let first = records.first().map_or_else(Vec::new, |record| record.path().as_bytes().to_vec());
            let block = Block {
                raw: &canonical,
                raw_said: canonical.len() as u32,
                count_said: records.len() as u32,
                first_said: &first,
            };
            let file =
                sorted_file(&CACHE_MAGIC, header, if records.is_empty() { &[] } else { std::slice::from_ref(&block) });
            let ascending = records.windows(2).all(|pair| pair[0].path() < pair[1].path());
            match read(&file) {
                Some(Ok(back)) => {
                    assert!(ascending && back == records);
                    for record in back {
                        let vouched = record.vouches_for(&record.fingerprint).is_some();
                        assert!(!vouched || !record.racy, "a racy record vouches");
                    }
                }
                Some(Err(())) => assert!(!ascending, "a good file was refused"),
                None => {}
            }
        }
    }
});

/// None: no such header. Err: the records are refused.
fn read(file: &[u8]) -> Option<Result<Vec<CacheRecord>, ()>> {
    let (_, reader) = SortedReader::<_, CacheRecord>::open::<CacheHeader>(Cursor::new(file), CACHE_MAGIC).ok()?;
    Some(reader.collect::<Result<_, _>>().map_err(drop))
}

fn recipe(bytes: &[u8]) {
    let Ok(recipe) = Recipe::decode(bytes) else { return };
    assert_eq!(recipe.encode(), bytes);
    let (_, most) = bounds(recipe.class);
    assert!(recipe.chunks.iter().all(|(_, len)| (1..=most).contains(&(*len as usize))));
    let end = recipe.places().last().map_or(0, |(offset, _, len)| offset + u64::from(len));
    assert_eq!(recipe.size(), end);
}
