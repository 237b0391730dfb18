//! Writes a sorted file front to back, with the memory of one block and the index.

use std::io::Write;
use std::marker::PhantomData;

use serde::Serialize;

use super::super::relpath::RelPath;
use super::{
    BLOCK_BYTES_MAX, BLOCK_BYTES_TARGET, BlockInfo, HEADER_BYTES_MAX, INDEX_BYTES_MAX, MAGIC_LEN, SortedError,
    SortedRecord, SortedStats, Trailer, ZSTD_LEVEL, hash_of, length,
};

/// Writes a sorted file front to back.
pub struct SortedWriter<W, T> {
    out: W,
    magic: [u8; MAGIC_LEN],
    header: Vec<u8>,
    raw: Vec<u8>,
    count: u32,
    first: RelPath,
    last: Option<RelPath>,
    index: Vec<BlockInfo>,
    stats: SortedStats,
    compressor: zstd::bulk::Compressor<'static>,
    record: PhantomData<fn(T)>,
}

impl<W: Write, T: SortedRecord> SortedWriter<W, T> {
    /// Begins a file. What the header cannot say yet is put right with [`SortedWriter::set_header`].
    ///
    /// # Errors
    /// `out` fails, or the header cannot be encoded.
    pub fn create<H: Serialize>(mut out: W, magic: [u8; 8], header: &H) -> Result<Self, SortedError> {
        out.write_all(&magic)?;
        let mut writer = Self {
            out,
            magic,
            header: Vec::new(),
            raw: Vec::with_capacity(BLOCK_BYTES_TARGET + 4096),
            count: 0,
            first: RelPath::root(),
            last: None,
            index: Vec::new(),
            stats: SortedStats { records: 0, bytes: MAGIC_LEN as u64 },
            compressor: zstd::bulk::Compressor::new(ZSTD_LEVEL)?,
            record: PhantomData,
        };
        writer.set_header(header)?;
        Ok(writer)
    }

    /// Replaces the header; it is written by [`SortedWriter::finish`].
    ///
    /// # Errors
    /// It cannot be encoded, or is too large.
    pub fn set_header<H: Serialize>(&mut self, header: &H) -> Result<(), SortedError> {
        let bytes = bincode::serde::encode_to_vec(header, bincode::config::standard())?;
        if bytes.len() > HEADER_BYTES_MAX {
            return Err(SortedError::TooLarge { what: "the header".into(), bytes_max: HEADER_BYTES_MAX });
        }
        self.header = bytes;
        Ok(())
    }

    /// Adds a record; its path must come after the last one's.
    ///
    /// # Errors
    /// [`SortedError::NotAscending`] (nothing was added), or `out` fails.
    pub fn push(&mut self, record: &T) -> Result<(), SortedError> {
        let path = record.path();
        if self.last.as_ref().is_some_and(|last| last >= path) {
            return Err(SortedError::NotAscending { path: path.clone() });
        }
        let before = self.raw.len();
        bincode::serde::encode_into_std_write(record, &mut self.raw, bincode::config::standard())
            .inspect_err(|_| self.raw.truncate(before))?;
        if self.raw.len() - before > BLOCK_BYTES_MAX - BLOCK_BYTES_TARGET {
            self.raw.truncate(before);
            return Err(SortedError::TooLarge { what: format!("the record '{path}'"), bytes_max: BLOCK_BYTES_MAX });
        }
        if self.count == 0 {
            self.first = path.clone();
        }
        self.count += 1;
        self.stats.records += 1;
        self.last = Some(path.clone());
        if self.raw.len() >= BLOCK_BYTES_TARGET {
            self.close_block()?;
        }
        Ok(())
    }

    fn close_block(&mut self) -> Result<(), SortedError> {
        let stored = self.compressor.compress(&self.raw)?;
        self.out.write_all(&stored)?;
        self.index.push(BlockInfo {
            stored: length(stored.len())?,
            raw: length(self.raw.len())?,
            count: self.count,
            hash: hash_of(&[&stored]),
            first: std::mem::take(&mut self.first),
        });
        self.stats.bytes += stored.len() as u64;
        self.raw.clear();
        self.count = 0;
        Ok(())
    }

    /// Writes what is left, index, header and trailer. The caller makes it durable.
    ///
    /// # Errors
    /// `out` fails.
    pub fn finish(mut self) -> Result<(W, SortedStats), SortedError> {
        if self.count > 0 {
            self.close_block()?;
        }
        let raw = bincode::serde::encode_to_vec(&self.index, bincode::config::standard())?;
        if raw.len() > INDEX_BYTES_MAX {
            return Err(SortedError::TooLarge { what: "the index".into(), bytes_max: INDEX_BYTES_MAX });
        }
        let index = self.compressor.compress(&raw)?;
        let trailer = Trailer {
            index_stored: length(index.len())?,
            index_raw: length(raw.len())?,
            header: length(self.header.len())?,
            records: self.stats.records,
        };
        let tail = trailer.seal(&self.magic, &index, &self.header);
        self.out.write_all(&index)?;
        self.out.write_all(&self.header)?;
        self.out.write_all(&tail)?;
        self.stats.bytes += (index.len() + self.header.len() + tail.len()) as u64;
        Ok((self.out, self.stats))
    }
}
