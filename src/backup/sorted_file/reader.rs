//! Reads a sorted file block by block, trusting nothing that has not matched its hash.

use std::io::{Read, Seek, SeekFrom};

use serde::de::DeserializeOwned;

use super::super::bytes::escape;
use super::super::relpath::RelPath;
use super::{
    BLOCK_BYTES_MAX, BlockInfo, END_MAGIC, HEADER_BYTES_MAX, INDEX_BYTES_MAX, MAGIC_LEN, SortedError, SortedRecord,
    TRAILER_LEN, Trailer, damaged, hash_of,
};

/// A block as the reader knows it.
struct Block {
    offset: u64,
    first_record: u64,
    info: BlockInfo,
}

/// Reads a sorted file: an iterator of records, from the start or from where [`SortedReader::seek`] put it.
pub struct SortedReader<R, T> {
    input: R,
    blocks: Vec<Block>,
    records: u64,
    /// Block to be read when `ready` is used up.
    next_block: usize,
    ready: std::vec::IntoIter<T>,
    stored: Vec<u8>,
    raw: Vec<u8>,
    decompressor: zstd::bulk::Decompressor<'static>,
    failed: bool,
}

impl<R: Read + Seek, T: SortedRecord> SortedReader<R, T> {
    /// Reads and checks magic, trailer, header and index.
    ///
    /// # Errors
    /// [`SortedError::WrongKind`] for another magic, [`SortedError::Damaged`] for a broken tail, or `input` fails.
    pub fn open<H: DeserializeOwned>(mut input: R, magic: [u8; 8]) -> Result<(H, Self), SortedError> {
        let wrong_kind = || SortedError::WrongKind { expected: escape(&magic) };
        let bytes = input.seek(SeekFrom::End(0))?;
        let tail_end = bytes.checked_sub(TRAILER_LEN as u64).filter(|end| *end >= MAGIC_LEN as u64);
        let tail_end = tail_end.ok_or_else(wrong_kind)?;
        let mut found = [0; MAGIC_LEN];
        input.seek(SeekFrom::Start(0))?;
        input.read_exact(&mut found)?;
        if found != magic {
            return Err(wrong_kind());
        }
        let mut trailer_bytes = [0; TRAILER_LEN];
        input.seek(SeekFrom::Start(tail_end))?;
        input.read_exact(&mut trailer_bytes)?;
        if !trailer_bytes.ends_with(&END_MAGIC) {
            return Err(damaged("it does not end as such a file does"));
        }
        let trailer = Trailer::parse(&trailer_bytes).ok_or_else(|| damaged("trailer"))?;
        let tail_len = u64::from(trailer.index_stored) + u64::from(trailer.header);
        let index_at = tail_end.checked_sub(tail_len).filter(|at| *at >= MAGIC_LEN as u64);
        let index_at = index_at.ok_or_else(|| damaged("the trailer names more than there is"))?;
        if trailer.header as usize > HEADER_BYTES_MAX || trailer.index_raw as usize > INDEX_BYTES_MAX {
            return Err(damaged("header or index is too large"));
        }
        let mut index = vec![0; trailer.index_stored as usize];
        let mut header = vec![0; trailer.header as usize];
        input.seek(SeekFrom::Start(index_at))?;
        input.read_exact(&mut index)?;
        input.read_exact(&mut header)?;
        if trailer.seal(&magic, &index, &header) != trailer_bytes {
            return Err(damaged("index and header do not match their hash"));
        }
        let header = decode_exact::<H, HEADER_BYTES_MAX>(&header).map_err(|why| damaged(format!("header: {why}")))?;
        let mut decompressor = zstd::bulk::Decompressor::new()?;
        let mut raw = Vec::new();
        inflate(&mut decompressor, &index, trailer.index_raw as usize, &mut raw)?;
        let infos =
            decode_exact::<Vec<BlockInfo>, INDEX_BYTES_MAX>(&raw).map_err(|why| damaged(format!("index: {why}")))?;
        let blocks = place_blocks(infos, index_at, trailer.records)?;
        let reader = Self {
            input,
            blocks,
            records: trailer.records,
            next_block: 0,
            ready: Vec::new().into_iter(),
            stored: Vec::new(),
            raw,
            decompressor,
            failed: false,
        };
        Ok((header, reader))
    }

    /// Records in the whole file.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Goes to the first record whose path is `path` or comes after it. Also clears an earlier error.
    ///
    /// # Errors
    /// The block is damaged, or the input fails.
    pub fn seek(&mut self, path: &RelPath) -> Result<(), SortedError> {
        let after = self.blocks.partition_point(|block| block.info.first <= *path);
        self.enter(after.saturating_sub(1))?;
        let skip = self.ready.as_slice().partition_point(|record| record.path() < path);
        self.ready.by_ref().take(skip).for_each(drop);
        Ok(())
    }

    /// Goes to record number `ordinal` (from 0); beyond the last one is the end.
    ///
    /// # Errors
    /// As [`SortedReader::seek`].
    pub fn seek_ordinal(&mut self, ordinal: u64) -> Result<(), SortedError> {
        let after = self.blocks.partition_point(|block| block.first_record <= ordinal);
        let index = after.saturating_sub(1);
        self.enter(index)?;
        let skip = ordinal - self.blocks.get(index).map_or(0, |block| block.first_record);
        self.ready.by_ref().take(usize::try_from(skip).unwrap_or(usize::MAX)).for_each(drop);
        Ok(())
    }

    /// The record of exactly this path. Moves the position.
    ///
    /// # Errors
    /// As [`SortedReader::seek`].
    pub fn get(&mut self, path: &RelPath) -> Result<Option<T>, SortedError> {
        self.seek(path)?;
        Ok(self.next().transpose()?.filter(|record| record.path() == path))
    }

    fn enter(&mut self, index: usize) -> Result<(), SortedError> {
        self.failed = false;
        self.ready = Vec::new().into_iter();
        self.next_block = index;
        if index < self.blocks.len() {
            self.read_block()?;
        }
        Ok(())
    }

    /// Fills `ready` from `next_block`.
    fn read_block(&mut self) -> Result<(), SortedError> {
        let result = self.decode_block();
        match result {
            Ok(records) => {
                self.ready = records.into_iter();
                self.next_block += 1;
                Ok(())
            }
            Err(error) => {
                self.failed = true;
                Err(error)
            }
        }
    }

    fn decode_block(&mut self) -> Result<Vec<T>, SortedError> {
        let number = self.next_block;
        let fail = |what: &str| damaged(format!("block {number}: {what}"));
        let Block { offset, info, .. } = self.blocks.get(number).ok_or_else(|| fail("not in the index"))?;
        self.input.seek(SeekFrom::Start(*offset))?;
        self.stored.resize(info.stored as usize, 0);
        self.input.read_exact(&mut self.stored)?;
        if hash_of(&[&self.stored]) != info.hash {
            return Err(fail("it does not match its hash"));
        }
        inflate(&mut self.decompressor, &self.stored, info.raw as usize, &mut self.raw)?;
        let mut records: Vec<T> = Vec::with_capacity((info.count as usize).min(4096));
        let mut rest = self.raw.as_slice();
        for _ in 0..info.count {
            let config = bincode::config::standard().with_limit::<BLOCK_BYTES_MAX>();
            let (record, used): (T, usize) =
                bincode::serde::decode_from_slice(rest, config).map_err(|why| fail(&why.to_string()))?;
            if used == 0 {
                return Err(fail("an empty record"));
            }
            if records.last().is_some_and(|last| last.path() >= record.path()) {
                return Err(fail("records are out of order"));
            }
            records.push(record);
            rest = rest.get(used..).ok_or_else(|| fail("length"))?;
        }
        let next_first = self.blocks.get(number + 1).map(|block| &block.info.first);
        let in_place = records.first().map(SortedRecord::path) == Some(&info.first)
            && next_first.is_none_or(|next| records.last().is_some_and(|last| last.path() < next));
        if !rest.is_empty() || !in_place {
            return Err(fail("it is not what the index says"));
        }
        Ok(records)
    }
}

impl<R: Read + Seek, T: SortedRecord> Iterator for SortedReader<R, T> {
    type Item = Result<T, SortedError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.ready.next() {
                return Some(Ok(record));
            }
            if self.failed || self.next_block >= self.blocks.len() {
                return None;
            }
            if let Err(error) = self.read_block() {
                return Some(Err(error));
            }
        }
    }
}

/// Gives each block its place and checks that together they are the file.
fn place_blocks(infos: Vec<BlockInfo>, end: u64, records: u64) -> Result<Vec<Block>, SortedError> {
    let (mut offset, mut first_record) = (MAGIC_LEN as u64, 0u64);
    let mut blocks: Vec<Block> = Vec::with_capacity(infos.len());
    for info in infos {
        let ascending = blocks.last().is_none_or(|before| before.info.first < info.first);
        if !ascending || info.count == 0 || info.raw as usize > BLOCK_BYTES_MAX {
            return Err(damaged(format!("the index's block {} cannot be", blocks.len())));
        }
        let (stored, count) = (u64::from(info.stored), u64::from(info.count));
        blocks.push(Block { offset, first_record, info });
        offset += stored;
        first_record += count;
    }
    if offset != end || first_record != records {
        return Err(damaged("the index does not cover the file"));
    }
    Ok(blocks)
}

fn inflate(
    decompressor: &mut zstd::bulk::Decompressor<'_>,
    stored: &[u8],
    raw_len: usize,
    out: &mut Vec<u8>,
) -> Result<(), SortedError> {
    out.clear();
    out.reserve(raw_len);
    let written = decompressor.decompress_to_buffer(stored, out).map_err(|why| damaged(format!("zstd: {why}")))?;
    if written != raw_len || out.len() != raw_len {
        return Err(damaged("a block's length is not what the index says"));
    }
    Ok(())
}

fn decode_exact<D: DeserializeOwned, const LIMIT: usize>(bytes: &[u8]) -> Result<D, String> {
    let config = bincode::config::standard().with_limit::<LIMIT>();
    let (value, used) = bincode::serde::decode_from_slice(bytes, config).map_err(|why| why.to_string())?;
    if used == bytes.len() { Ok(value) } else { Err("trailing bytes".into()) }
}
