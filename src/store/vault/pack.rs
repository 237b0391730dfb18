//! A pack's bytes: many blobs one behind the other, and the index that says what they are.
//!
//! ```text
//! "RBPACK01" 8 | blob* | index | trailer
//! blob     content as it is, or one zstd frame of it: its codec says which
//! index    one zstd frame of bincode Vec<Record>: of each blob, in their order, kind u8, codec u8, stored and raw length
//!          u32, digest, and for a recipe the BLAKE3 of its body
//! trailer  index stored u32 | index raw u32 | blobs u32 | hash 16 | "RBPKEND1" 8      (little endian)
//! ```
//!
//! The hash is the first 16 bytes of BLAKE3 over magic, index and the trailer's numbers. The pack's id is the first 16
//! bytes of BLAKE3 over the whole file. Where a blob begins follows from the lengths before it: blobs cannot overlap, and
//! nothing lies between them.
//!
//! Always holds: nothing is decompressed before the index that names its length has matched its hash, and no more than
//! that length comes out. This file opens nothing.

use std::io;

use serde::{Deserialize, Serialize};

use crate::backup::digest::{Digest, RunId};
use crate::backup::limits::{CHUNK_BYTES_MAX, FILE_CHUNKS_MAX};

/// First bytes of a pack; the digits are the format's version.
pub(super) const MAGIC: [u8; 8] = *b"RBPACK01";
const END_MAGIC: [u8; 8] = *b"RBPKEND1";
const HASH_LEN: usize = 16;
const NUMBERS_LEN: usize = 4 + 4 + 4;
/// Bytes of the trailer.
const TRAILER_LEN: usize = NUMBERS_LEN + HASH_LEN + END_MAGIC.len();
/// Most blobs in a pack; a pack of small files is closed by this.
pub const PACK_BLOBS_MAX: usize = 128 * 1024;
/// Largest raw index.
const INDEX_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Largest recipe: its class, and what it says of each chunk.
const RECIPE_BYTES_MAX: usize = 1 + FILE_CHUNKS_MAX * (32 + 4);
/// zstd level: history is written once, and beside other work.
const ZSTD_LEVEL: i32 = 3;
/// What is larger is tried on this much of it first.
const PROBE_BYTES: usize = 16 * 1024;

/// A pack: the first half of BLAKE3 of its file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackId(pub [u8; 16]);

impl PackId {
    /// 32 lower-case hex digits.
    pub fn to_hex(self) -> String {
        RunId(self.0).to_hex()
    }

    /// Back from [`PackId::to_hex`].
    pub fn from_hex(text: &str) -> Option<Self> {
        RunId::from_hex(text).map(|id| Self(id.0))
    }

    /// Of a whole file that was hashed.
    pub(super) fn of(hasher: &blake3::Hasher) -> Self {
        let mut id = [0; 16];
        hasher.finalize_xof().fill(&mut id);
        Self(id)
    }
}

impl std::fmt::Display for PackId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl std::fmt::Debug for PackId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// What a blob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlobKind {
    /// A small file whole, or a chunk; its key is its own BLAKE3.
    Content,
    /// How a large file is cut; its key is the digest of that file's content.
    Recipe,
}

impl BlobKind {
    /// As it is stored.
    pub fn number(self) -> u8 {
        match self {
            Self::Content => 0,
            Self::Recipe => 1,
        }
    }

    /// Back from [`BlobKind::number`].
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Content),
            1 => Some(Self::Recipe),
            _ => None,
        }
    }

    fn bytes_max(self) -> usize {
        match self {
            Self::Content => CHUNK_BYTES_MAX,
            Self::Recipe => RECIPE_BYTES_MAX,
        }
    }
}

/// How a blob is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// As it is.
    Raw,
    /// One zstd frame.
    Zstd,
}

impl Codec {
    /// As it is stored.
    pub fn number(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Zstd => 1,
        }
    }

    /// Back from [`Codec::number`].
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Raw),
            1 => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// One blob of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob {
    /// What it is.
    pub kind: BlobKind,
    /// Its key.
    pub digest: Digest,
    /// BLAKE3 of its raw bytes; of content that is the key.
    pub check: Digest,
    /// Where in the file it begins.
    pub offset: u64,
    /// Bytes in the file.
    pub stored: u32,
    /// Bytes of what it holds.
    pub raw: u32,
    /// How it is stored.
    pub codec: Codec,
}

/// What a pack holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackIndex {
    /// The pack.
    pub pack: PackId,
    /// Bytes of the file.
    pub bytes: u64,
    /// In the order in which they lie.
    pub blobs: Vec<Blob>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    kind: u8,
    codec: u8,
    stored: u32,
    raw: u32,
    digest: Digest,
    check: Option<Digest>,
}

/// The last bytes of a pack, read.
struct Trailer {
    index_stored: u32,
    index_raw: u32,
    blobs: u32,
    bytes: [u8; TRAILER_LEN],
}

impl Trailer {
    fn parse(bytes: [u8; TRAILER_LEN]) -> Result<Self, String> {
        let [a, b, c] = [number(&bytes, 0), number(&bytes, 4), number(&bytes, 8)];
        let trailer = Self { index_stored: a, index_raw: b, blobs: c, bytes };
        if !trailer.bytes.ends_with(&END_MAGIC) {
            return Err("it does not end as a pack does".into());
        }
        if trailer.index_raw as usize > INDEX_BYTES_MAX || trailer.blobs as usize > PACK_BLOBS_MAX {
            return Err("its index is too large".into());
        }
        Ok(trailer)
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    let found = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
    found.map_or(0, u32::from_le_bytes)
}

fn seal(index: &[u8], index_raw: u32, blobs: u32) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(TRAILER_LEN);
    for number in [u32::try_from(index.len()).ok()?, index_raw, blobs] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    let mut hash = [0; HASH_LEN];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&MAGIC).update(index).update(&out).finalize_xof().fill(&mut hash);
    out.extend_from_slice(&hash);
    out.extend_from_slice(&END_MAGIC);
    Some(out)
}

/// Index and trailer of a pack with these blobs. None: it would be too large to be read back.
pub(super) fn encode_tail(blobs: &[Blob]) -> Option<Vec<u8>> {
    let record = |blob: &Blob| Record {
        kind: blob.kind.number(),
        codec: blob.codec.number(),
        stored: blob.stored,
        raw: blob.raw,
        digest: blob.digest,
        check: (blob.kind == BlobKind::Recipe).then_some(blob.check),
    };
    let records: Vec<Record> = blobs.iter().map(record).collect();
    let raw = bincode::serde::encode_to_vec(&records, bincode::config::standard()).ok()?;
    if raw.len() > INDEX_BYTES_MAX || records.len() > PACK_BLOBS_MAX {
        return None;
    }
    let mut tail = zstd::bulk::compress(&raw, ZSTD_LEVEL).ok()?;
    let trailer = seal(&tail, u32::try_from(raw.len()).ok()?, u32::try_from(records.len()).ok()?)?;
    tail.extend_from_slice(&trailer);
    Some(tail)
}

/// Why the index of a pack cannot be had.
#[derive(Debug)]
pub enum IndexError {
    /// It could not be read; too short is an error of this kind.
    Io(io::Error),
    /// It was, and is not what was written.
    Damaged(String),
}

impl From<io::Error> for IndexError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<String> for IndexError {
    fn from(what: String) -> Self {
        Self::Damaged(what)
    }
}

/// The blobs of a pack of `bytes` bytes, of which `read_at` reads any part.
///
/// # Errors
/// [`IndexError`].
pub fn read_index(bytes: u64, read_at: impl Fn(&mut [u8], u64) -> io::Result<()>) -> Result<Vec<Blob>, IndexError> {
    let trailer_at = bytes.checked_sub(TRAILER_LEN as u64).ok_or_else(|| "it is cut short".to_owned())?;
    let (mut magic, mut trailer) = ([0; MAGIC.len()], [0; TRAILER_LEN]);
    read_at(&mut magic, 0)?;
    read_at(&mut trailer, trailer_at)?;
    if magic != MAGIC {
        return Err("it does not begin as a pack does".to_owned().into());
    }
    let trailer = Trailer::parse(trailer)?;
    let index_at = trailer_at.checked_sub(u64::from(trailer.index_stored)).filter(|at| *at >= MAGIC.len() as u64);
    let index_at = index_at.ok_or_else(|| "its trailer names more than there is".to_owned())?;
    let mut index = vec![0; trailer.index_stored as usize];
    read_at(&mut index, index_at)?;
    Ok(decode_index(&index, &trailer, bytes)?)
}

/// The blobs of a pack of `bytes` bytes, from its index as it is stored.
fn decode_index(index: &[u8], trailer: &Trailer, bytes: u64) -> Result<Vec<Blob>, String> {
    if seal(index, trailer.index_raw, trailer.blobs).as_deref() != Some(trailer.bytes.as_slice()) {
        return Err("its index does not match its hash".into());
    }
    let raw = inflate(index, trailer.index_raw as usize)?;
    let config = bincode::config::standard().with_limit::<INDEX_BYTES_MAX>();
    let (records, used): (Vec<Record>, usize) =
        bincode::serde::decode_from_slice(&raw, config).map_err(|why| format!("its index: {why}"))?;
    if used != raw.len() || records.len() != trailer.blobs as usize {
        return Err("its index is not as long as it says".into());
    }
    let mut offset = MAGIC.len() as u64;
    let mut blobs = Vec::with_capacity(records.len());
    for (n, record) in records.into_iter().enumerate() {
        let blob = record.blob(offset).ok_or_else(|| format!("the index's blob {n} cannot be"))?;
        offset += u64::from(blob.stored);
        blobs.push(blob);
    }
    if offset + index.len() as u64 + TRAILER_LEN as u64 != bytes {
        return Err("its index does not cover the file".into());
    }
    Ok(blobs)
}

/// As [`decode_index`], of an index whose hash matches whatever it is.
#[cfg(test)]
pub(super) fn decode_sealed(index: &[u8], index_raw: u32, blobs: u32) -> Result<Vec<Blob>, String> {
    let seal = seal(index, index_raw, blobs).unwrap_or_default();
    let trailer = Trailer::parse(seal.try_into().map_err(|_| "seal".to_owned())?)?;
    decode_index(index, &trailer, (MAGIC.len() + index.len() + TRAILER_LEN) as u64)
}

impl Record {
    fn blob(self, offset: u64) -> Option<Blob> {
        let (kind, codec) = (BlobKind::from_number(self.kind)?, Codec::from_number(self.codec)?);
        let check = match (kind, self.check) {
            (BlobKind::Content, None) => self.digest,
            (BlobKind::Recipe, Some(check)) => check,
            _ => return None,
        };
        let fits = match codec {
            Codec::Raw => self.stored == self.raw,
            Codec::Zstd => self.stored < self.raw,
        };
        let (digest, stored, raw) = (self.digest, self.stored, self.raw);
        let blob = Blob { kind, digest, check, offset, stored, raw, codec };
        (fits && raw as usize <= kind.bytes_max()).then_some(blob)
    }
}

fn inflate(stored: &[u8], raw_len: usize) -> Result<Vec<u8>, String> {
    let raw = zstd::bulk::decompress(stored, raw_len).map_err(|why| format!("zstd: {why}"))?;
    if raw.len() == raw_len { Ok(raw) } else { Err("it is not as long as the index says".into()) }
}

/// What a blob holds, from its bytes in the file; verified.
///
/// # Errors
/// What is wrong with it.
pub fn decode_blob(blob: &Blob, stored: Vec<u8>) -> Result<Vec<u8>, String> {
    let raw = match blob.codec {
        Codec::Raw => stored,
        Codec::Zstd => inflate(&stored, blob.raw as usize)?,
    };
    if raw.len() == blob.raw as usize && Digest::of(&raw) == blob.check {
        Ok(raw)
    } else {
        Err("it does not match its hash".into())
    }
}

/// Compresses blobs where that is worth it.
pub(super) struct Compressor(zstd::bulk::Compressor<'static>);

impl Compressor {
    pub(super) fn new() -> std::io::Result<Self> {
        zstd::bulk::Compressor::new(ZSTD_LEVEL).map(Self)
    }

    /// None: it stays as it is.
    pub(super) fn shrink(&mut self, raw: &[u8]) -> std::io::Result<Option<Vec<u8>>> {
        if let Some(probe) = raw.get(..PROBE_BYTES).filter(|probe| probe.len() * 2 < raw.len())
            && !is_worth_it(self.0.compress(probe)?.len(), probe.len())
        {
            return Ok(None);
        }
        let stored = self.0.compress(raw)?;
        Ok(is_worth_it(stored.len(), raw.len()).then_some(stored))
    }
}

/// Less than 3 % is not worth the time to read it.
fn is_worth_it(stored: usize, raw: usize) -> bool {
    stored * 100 < raw * 97
}

/// Whether a blob of this kind may be so large.
pub(super) fn may_hold(kind: BlobKind, raw: usize) -> bool {
    raw <= kind.bytes_max()
}
