//! A sorted file of records: the form of manifests, of changes to them and of the client's hash cache.
//!
//! Records stand in canonical order of their paths, in blocks of about 64 KiB that are compressed one by one, so that
//! a file of five million entries is read in one pass with the memory of one block, and one path is found by reading
//! one block. Everything is written front to back (no seeking), hence index and header come last; that also lets the
//! header say what is known only at the end, such as the manifest's digest.
//!
//! ```text
//! MAGIC 8 | block* | index | header | trailer
//! block    one zstd frame of bincode records, one after the other
//! index    one zstd frame of bincode Vec<BlockInfo>: stored and raw length, count, hash and first path of each block
//! header   bincode of the caller's header
//! trailer  index stored u32 | index raw u32 | header u32 | records u64 | hash 16 | "RBSORT01" 8      (little endian)
//! ```
//!
//! A hash is the first 16 bytes of BLAKE3. The trailer's covers MAGIC, index, header and the trailer's numbers; the
//! index holds each block's: a flipped byte anywhere is found, at the latest when its block is read. A hash is checked
//! before what it covers is decompressed or decoded, and no length is believed beyond the file's own.
//!
//! Always holds: what a reader yields is strictly ascending, over the whole file; after an error it yields nothing.
//! Generic over `std::io`; this module opens nothing.

use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::relpath::RelPath;

mod reader;
mod writer;

pub use reader::SortedReader;
pub use writer::SortedWriter;

/// Raw bytes after which a block is closed.
const BLOCK_BYTES_TARGET: usize = 64 * 1024;
/// Largest raw block: one record alone may be as large as the recipe of a file with the most chunks.
const BLOCK_BYTES_MAX: usize = 640 * 1024 * 1024;
/// Largest raw index: some three million blocks.
const INDEX_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Largest header: all owner names at their longest.
const HEADER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// zstd level: digests do not shrink, the rest does at any level.
const ZSTD_LEVEL: i32 = 1;
const MAGIC_LEN: usize = 8;
const HASH_LEN: usize = 16;
const NUMBERS_LEN: usize = 4 + 4 + 4 + 8;
const TRAILER_LEN: usize = NUMBERS_LEN + HASH_LEN + END_MAGIC.len();
/// Last bytes of every sorted file; the digits are the container's version.
const END_MAGIC: [u8; 8] = *b"RBSORT01";

/// What can stand in a sorted file.
pub trait SortedRecord: Serialize + DeserializeOwned {
    /// The path by which it is sorted.
    fn path(&self) -> &RelPath;
}

/// Why a sorted file cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SortedError {
    /// The medium failed: try again, or look at the disk.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Not this kind of file, or not finished.
    #[error("not a file of kind {expected}")]
    WrongKind {
        /// Its magic, as text.
        expected: String,
    },
    /// Bytes are not what was written: the data is damaged.
    #[error("the file is damaged: {what}")]
    Damaged {
        /// Where, and what is wrong.
        what: String,
    },
    /// A record is not after the one before it: a defect of the writer.
    #[error("the record '{path}' is not in order")]
    NotAscending {
        /// The record's path.
        path: RelPath,
    },
    /// A record or the file is larger than the format allows.
    #[error("{what} is larger than {bytes_max} bytes")]
    TooLarge {
        /// What.
        what: String,
        /// The limit.
        bytes_max: usize,
    },
    /// A record cannot be encoded: a defect of its type.
    #[error("a record cannot be encoded: {0}")]
    Encode(#[from] bincode::error::EncodeError),
}

fn damaged(what: impl Into<String>) -> SortedError {
    SortedError::Damaged { what: what.into() }
}

fn hash_of(parts: &[&[u8]]) -> [u8; HASH_LEN] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let mut out = [0; HASH_LEN];
    hasher.finalize_xof().fill(&mut out);
    out
}

/// What the index says of one block.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct BlockInfo {
    stored: u32,
    raw: u32,
    count: u32,
    hash: [u8; HASH_LEN],
    first: RelPath,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SortedStats {
    /// Records.
    pub records: u64,
    /// Bytes of the whole file.
    pub bytes: u64,
}

fn length(bytes: usize) -> Result<u32, SortedError> {
    u32::try_from(bytes).map_err(|_| SortedError::TooLarge { what: "a block".into(), bytes_max: BLOCK_BYTES_MAX })
}

/// The trailer's numbers.
#[derive(Clone, Copy)]
struct Trailer {
    index_stored: u32,
    index_raw: u32,
    header: u32,
    records: u64,
}

impl Trailer {
    fn seal(self, magic: &[u8; MAGIC_LEN], index: &[u8], header: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(TRAILER_LEN);
        out.extend_from_slice(&self.index_stored.to_le_bytes());
        out.extend_from_slice(&self.index_raw.to_le_bytes());
        out.extend_from_slice(&self.header.to_le_bytes());
        out.extend_from_slice(&self.records.to_le_bytes());
        let hash = hash_of(&[magic, index, header, &out]);
        out.extend_from_slice(&hash);
        out.extend_from_slice(&END_MAGIC);
        out
    }

    fn parse(bytes: &[u8; TRAILER_LEN]) -> Option<Self> {
        let (index_stored, rest) = bytes.split_first_chunk::<4>()?;
        let (index_raw, rest) = rest.split_first_chunk::<4>()?;
        let (header, rest) = rest.split_first_chunk::<4>()?;
        let (records, _) = rest.split_first_chunk::<8>()?;
        Some(Self {
            index_stored: u32::from_le_bytes(*index_stored),
            index_raw: u32::from_le_bytes(*index_raw),
            header: u32::from_le_bytes(*header),
            records: u64::from_le_bytes(*records),
        })
    }
}

#[cfg(test)]
mod tests;
