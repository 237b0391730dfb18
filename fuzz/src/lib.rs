//! What the targets share: files with right hashes around wrong contents.
//!
//! A fuzzer never guesses a hash. Everything behind one would stay unreached, though a peer or a thief of the disk can
//! well compute it. So the targets take the contents from the fuzzer and put the hashes around them here.

#![forbid(unsafe_code)]

use data_encoding::BASE32_NOPAD;
use rbbackup::backup::bytes::Bytes;
use rbbackup::backup::digest::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// As most records are: `MAGIC | version u32 | length u32 | body | BLAKE3`.
pub fn sealed(magic: &[u8; 8], version: u32, body: &[u8]) -> Vec<u8> {
    seal([magic.as_slice(), &version.to_le_bytes(), &(body.len() as u32).to_le_bytes(), body].concat())
}

/// `bytes`, and their BLAKE3 behind them.
pub fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let seal = Digest::of(&bytes);
    bytes.extend_from_slice(&seal.0);
    bytes
}

/// The first half of BLAKE3.
pub fn hash16(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = [0; 16];
    hash.copy_from_slice(&Digest::of(&parts.concat()).0[..16]);
    hash
}

/// bincode's standard form.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, bincode::config::standard()).expect("encoding to memory")
}

/// As many values as `bytes` begin with, one behind the other.
pub fn decode_all<T: DeserializeOwned>(mut bytes: &[u8]) -> Vec<T> {
    let config = bincode::config::standard().with_limit::<{ 1 << 20 }>();
    let mut all = Vec::new();
    while let Ok((value, used)) = bincode::serde::decode_from_slice(bytes, config) {
        all.push(value);
        if used == 0 {
            break;
        }
        bytes = &bytes[used..];
    }
    all
}

/// What the index of a sorted file says of one block, whether it is so or not.
#[derive(Serialize)]
pub struct BlockInfo {
    pub stored: u32,
    pub raw: u32,
    pub count: u32,
    pub hash: [u8; 16],
    pub first: Bytes,
}

/// One block of a sorted file and what is said of it.
pub struct Block<'a> {
    pub raw: &'a [u8],
    pub raw_said: u32,
    pub count_said: u32,
    pub first_said: &'a [u8],
}

/// A sorted file whose hashes are all right.
pub fn sorted_file(magic: &[u8; 8], header: &[u8], blocks: &[Block<'_>]) -> Vec<u8> {
    let (mut file, mut infos, mut records) = (magic.to_vec(), Vec::new(), 0);
    for block in blocks {
        let stored = compress(block.raw);
        infos.push(BlockInfo {
            stored: stored.len() as u32,
            raw: block.raw_said,
            count: block.count_said,
            hash: hash16(&[&stored]),
            first: block.first_said.into(),
        });
        records += u64::from(block.count_said);
        file.extend_from_slice(&stored);
    }
    let index = encode(&infos);
    sorted_tail(file, magic, &index, index.len() as u32, header, records)
}

/// Index, header and trailer behind a sorted file's blocks.
pub fn sorted_tail(
    mut file: Vec<u8>,
    magic: &[u8; 8],
    index: &[u8],
    index_raw: u32,
    header: &[u8],
    records: u64,
) -> Vec<u8> {
    let index = compress(index);
    let mut numbers = Vec::new();
    for number in [index.len() as u32, index_raw, header.len() as u32] {
        numbers.extend_from_slice(&number.to_le_bytes());
    }
    numbers.extend_from_slice(&records.to_le_bytes());
    let hash = hash16(&[magic, &index, header, &numbers]);
    for part in [&index[..], header, &numbers, &hash, b"RBSORT01"] {
        file.extend_from_slice(part);
    }
    file
}

/// A pack whose index has the right hash.
pub fn pack(blobs: &[u8], index: &[u8], index_raw: u32, count: u32) -> Vec<u8> {
    const MAGIC: &[u8; 8] = b"RBPACK01";
    let index = compress(index);
    let mut numbers = Vec::new();
    for number in [index.len() as u32, index_raw, count] {
        numbers.extend_from_slice(&number.to_le_bytes());
    }
    let hash = hash16(&[MAGIC, &index, &numbers]);
    [MAGIC, blobs, &index, &numbers, &hash, b"RBPKEND1"].concat()
}

/// One zstd frame.
pub fn compress(raw: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(raw, 1).expect("compressing in memory")
}

/// A number of two bytes and the rest; what is missing counts as zero.
pub fn take_u16(data: &[u8]) -> (usize, &[u8]) {
    match data {
        [a, b, rest @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), rest),
        [a] => (usize::from(*a), &[]),
        [] => (0, &[]),
    }
}

/// A piece whose length (two bytes) stands before it, and the rest; shorter when there is less.
pub fn take_piece(data: &[u8]) -> (&[u8], &[u8]) {
    let (len, rest) = take_u16(data);
    rest.split_at(len.min(rest.len()))
}

/// An invitation token with this payload, whose check is right.
pub fn token_text(payload: &[u8]) -> String {
    let check = Digest::of(&[b"rbbackup token 1", payload].concat());
    format!("rb1{}", BASE32_NOPAD.encode(&[payload, &check.0[..4]].concat()).to_ascii_lowercase())
}
