//! Staged files that left memory: a sorted run of them in the index's file.
//!
//! ```text
//! file     block*        each one zstd frame of bincode (path, file), in order of the paths
//! memory   of each block its place and first path; of each file the head of its digest, and whether it is still there
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};

use crate::backup::digest::Digest;
use crate::backup::relpath::RelPath;
use crate::store::staging::StagedFile;

/// Files of a block.
pub(super) const BLOCK_FILES: usize = 128;
const ZSTD_LEVEL: i32 = 1;

/// A file and where it stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Staged {
    pub(super) path: RelPath,
    pub(super) file: StagedFile,
}

struct Block {
    at: u64,
    stored: usize,
    raw: usize,
    first: RelPath,
}

pub(super) struct Run {
    blocks: Vec<Block>,
    last: RelPath,
    /// By their digests: the first eight bytes, and which file of the run it is.
    heads: Vec<u64>,
    numbers: Vec<u32>,
    /// A bit a file: it is not there any more.
    gone: Vec<u64>,
}

fn head(digest: &Digest) -> u64 {
    digest.0.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

impl Run {
    /// Writes the files, which are in order, to the file's end, which moves on.
    pub(super) fn write<'a>(
        out: &mut File,
        end: &mut u64,
        files: impl Iterator<Item = (&'a RelPath, &'a StagedFile)>,
    ) -> io::Result<Self> {
        let (mut blocks, mut last, mut by_digest) = (Vec::new(), RelPath::root(), Vec::new());
        let mut files = files.peekable();
        let mut raw = Vec::new();
        while let Some((first, _)) = files.peek() {
            let first = RelPath::clone(first);
            raw.clear();
            for (path, file) in files.by_ref().take(BLOCK_FILES) {
                by_digest.push((head(&file.digest), by_digest.len() as u32));
                bincode::serde::encode_into_std_write((path, file), &mut raw, bincode::config::standard())
                    .map_err(io::Error::other)?;
                last.clone_from(path);
            }
            let stored = zstd::bulk::compress(&raw, ZSTD_LEVEL)?;
            out.write_all(&stored)?;
            blocks.push(Block { at: *end, stored: stored.len(), raw: raw.len(), first });
            *end += stored.len() as u64;
        }
        by_digest.sort_unstable();
        let gone = vec![0; by_digest.len().div_ceil(64)];
        let (heads, numbers) = by_digest.into_iter().unzip();
        Ok(Self { blocks, last, heads, numbers, gone })
    }

    /// The block in which a file of this path would be; none: it is before or after all of them.
    pub(super) fn block_of(&self, path: &RelPath) -> Option<usize> {
        if *path > self.last {
            return None;
        }
        self.blocks.partition_point(|block| block.first <= *path).checked_sub(1)
    }

    /// The first block that may have files at this path or within it; none: there are none.
    pub(super) fn block_within(&self, path: &RelPath) -> Option<usize> {
        self.block_of(path).or_else(|| self.may_begin_within(0, path).then_some(0))
    }

    /// Whether the first file of a block is at this path or within it.
    pub(super) fn may_begin_within(&self, block: usize, path: &RelPath) -> bool {
        self.blocks.get(block).is_some_and(|block| block.first.is_within(path))
    }

    /// The files of a block, those that are gone too. None: it has no such block.
    pub(super) fn read(&self, file: &File, block: usize) -> Option<io::Result<Vec<Staged>>> {
        let block = self.blocks.get(block)?;
        let read = || {
            let mut stored = vec![0; block.stored];
            file.read_exact_at(&mut stored, block.at)?;
            let raw = zstd::bulk::decompress(&stored, block.raw)?;
            let (mut files, mut rest) = (Vec::with_capacity(BLOCK_FILES), raw.as_slice());
            while !rest.is_empty() {
                let (staged, used) = bincode::serde::decode_from_slice(rest, bincode::config::standard())
                    .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
                files.push(staged);
                rest = rest.get(used..).unwrap_or_default();
            }
            Ok(files)
        };
        Some(read())
    }

    /// A file that may have this content, for its head is theirs, and is there; of several the one after `skip` others.
    pub(super) fn candidate(&self, digest: &Digest, skip: usize) -> Option<usize> {
        let head = head(digest);
        let from = self.heads.partition_point(|known| *known < head);
        let same = self.heads.iter().skip(from).take_while(|known| **known == head);
        let numbers = same.zip(self.numbers.iter().skip(from)).map(|(_, number)| *number as usize);
        numbers.filter(|number| !self.is_gone(*number)).nth(skip)
    }

    pub(super) fn is_gone(&self, number: usize) -> bool {
        self.gone.get(number / 64).is_none_or(|bits| bits & (1 << (number % 64)) != 0)
    }

    pub(super) fn remove(&mut self, number: usize) {
        if let Some(bits) = self.gone.get_mut(number / 64) {
            *bits |= 1 << (number % 64);
        }
    }
}
