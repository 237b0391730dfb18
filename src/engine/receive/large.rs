//! A large file while it arrives: where it goes, and how long its chunks may be.

use std::sync::Arc;

use super::super::wire::WireError;
use crate::backup::chunker::{Recipe, bounds};
use crate::backup::digest::Digest;
use crate::backup::entry::SizeClass;
use crate::backup::limits::FILE_CHUNKS_MAX;
use crate::backup::relpath::RelPath;
use crate::engine::error::EngineError;
use crate::store::staging::{Chunk, KnownChunks, LargeWriter};

/// An open large file.
pub(super) struct Large {
    pub(super) path: RelPath,
    pub(super) writer: Writer,
    /// Chunks of other files may be used.
    pub(super) trusts: bool,
    pub(super) lens: Lens,
    /// What ranges count in. Files with one base share it.
    pub(super) base: Option<Arc<Base>>,
    pub(super) base_digest: Option<Digest>,
}

/// How a file is cut that an open one is offered as ranges of.
pub(super) struct Base {
    pub(super) digest: Digest,
    pub(super) recipe: Recipe,
    /// Where each chunk begins: ranges may come in any order, and each is found at once.
    starts: Vec<u64>,
}

impl Base {
    pub(super) fn new(digest: Digest, recipe: Recipe) -> Self {
        let begin = |at: &mut u64, len: &u32| Some(std::mem::replace(at, *at + u64::from(*len)));
        let starts = recipe.chunks.iter().map(|(_, len)| len).scan(0, begin).collect();
        Self { digest, recipe, starts }
    }

    /// Chunks of it, and where in the file they begin.
    pub(super) fn range(&self, first: u32, count: u32) -> Option<(&[(Digest, u32)], u64)> {
        let (first, count) = (first as usize, count as usize);
        let chunks = self.recipe.chunks.get(first..first.checked_add(count)?)?;
        Some((chunks, self.starts.get(first).copied().unwrap_or_default()))
    }
}

/// Where an open large file goes.
pub(super) enum Writer {
    Staging(Box<LargeWriter>),
    /// Nowhere: a dry run asks what would have to travel.
    Nowhere(KnownChunks),
}

impl Writer {
    pub(super) fn own(&mut self, digest: &Digest, len: u32) -> Option<Chunk> {
        match self {
            Self::Staging(writer) => writer.own(digest, len),
            Self::Nowhere(known) => known.own(digest, len),
        }
    }

    pub(super) fn take_damaged(&mut self) -> Vec<Digest> {
        match self {
            Self::Staging(writer) => writer.take_damaged(),
            Self::Nowhere(_) => Vec::new(),
        }
    }

    /// Chunks that wait for one that is to arrive.
    pub(super) fn waiting(&self) -> usize {
        match self {
            Self::Staging(writer) => writer.waiting(),
            Self::Nowhere(_) => 0,
        }
    }

    /// Bytes that were written since this was asked last.
    pub(super) fn take_written(&mut self) -> u64 {
        match self {
            Self::Staging(writer) => writer.take_written(),
            Self::Nowhere(_) => 0,
        }
    }

    pub(super) fn announce(&mut self, digest: Digest, len: u32, from: Chunk) -> Result<(), EngineError> {
        match self {
            Self::Staging(writer) => Ok(writer.announce(digest, len, from)?),
            Self::Nowhere(known) => {
                known.announce(digest, len);
                Ok(())
            }
        }
    }
}

/// How long the chunks of one file may be, and how many there may be.
pub(super) struct Lens {
    bytes_min: usize,
    bytes_max: usize,
    left: usize,
    /// One was shorter than the rest may be.
    ended: bool,
}

impl Lens {
    pub(super) fn new(class: SizeClass) -> Self {
        let (bytes_min, bytes_max) = bounds(class);
        Self { bytes_min, bytes_max, left: FILE_CHUNKS_MAX, ended: false }
    }

    /// The next chunk has this many bytes.
    pub(super) fn next(&mut self, len: u32) -> Result<(), WireError> {
        let len = len as usize;
        if len == 0 || len > self.bytes_max {
            return Err(WireError::Bounds("a chunk is empty or too large"));
        }
        if self.ended {
            return Err(WireError::Bounds("a chunk that is not the last of its file is too small"));
        }
        self.ended = len < self.bytes_min;
        self.left = self.left.checked_sub(1).ok_or(WireError::Bounds("a file has too many chunks"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_as_long_as_their_class_allows() {
        let (least, most) = bounds(SizeClass::Kib64);
        let mut lens = Lens::new(SizeClass::Kib64);
        assert!(lens.next(least as u32).is_ok() && lens.next(most as u32).is_ok());
        assert!(lens.next(0).is_err() && lens.next(most as u32 + 1).is_err());
        // Only the last may be shorter.
        assert!(lens.next(least as u32 - 1).is_ok());
        assert!(lens.next(least as u32).is_err());
        let mut lens = Lens { left: 2, ..Lens::new(SizeClass::Kib64) };
        assert_eq!([(); 3].map(|()| lens.next(least as u32).is_ok()), [true, true, false]);
    }
}
