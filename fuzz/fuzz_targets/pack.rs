//! Packs: `which u8 | …`; 0 a whole file; 1 `blobs length u16 | blobs | index`, whose hash is put right here; else the
//! same with a wrong number of blobs or of raw bytes.
#![no_main]

use std::io;

use libfuzzer_sys::fuzz_target;
use rbbackup::backup::chunker::Recipe;
use rbbackup::backup::digest::Digest;
use rbbackup::store::vault::fuzzing::{decode_blob, read_index};
use rbbackup::store::vault::{BlobKind, Codec};
use rbbackup_fuzz::{pack, take_piece};

fuzz_target!(|data: &[u8]| {
    let Some((which, rest)) = data.split_first() else { return };
    let file = match which {
        0 => rest.to_vec(),
        which => {
            let (blobs, index) = take_piece(rest);
            // The number of records is the first thing in the index: one byte as long as there are few.
            let count = index.first().map_or(0, |count| u32::from(*count));
            let lie = u32::from(which - 1);
            pack(blobs, index, index.len() as u32 + lie / 16, count + lie % 16)
        }
    };
    let read_at = |part: &mut [u8], at: u64| {
        let from = usize::try_from(at).ok().and_then(|at| file.get(at..)).unwrap_or_default();
        match from.get(..part.len()) {
            Some(bytes) => part.copy_from_slice(bytes),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        Ok(())
    };
    let Ok(blobs) = read_index(file.len() as u64, read_at) else { return };
    let mut end = 8;
    for blob in blobs {
        assert_eq!(blob.offset, end, "blobs lie one behind the other");
        end += u64::from(blob.stored);
        assert_eq!(blob.codec == Codec::Raw, blob.stored == blob.raw);
        let stored = file[blob.offset as usize..end as usize].to_vec();
        if let Ok(raw) = decode_blob(&blob, stored) {
            assert_eq!((raw.len(), Digest::of(&raw)), (blob.raw as usize, blob.check));
            if blob.kind == BlobKind::Recipe
                && let Ok(recipe) = Recipe::decode(&raw)
            {
                assert_eq!(recipe.encode(), raw);
            }
        }
    }
    assert!(end < file.len() as u64);
});
