//! Messages about what changed inside files, between an offer and what is sent: only where bytes count, and only between
//! two (a run to several targets has no one answer). Whoever is told of bases and says nothing of them is sent whole content.

use serde::{Deserialize, Serialize};

use super::WireEntry;
use crate::backup::bytes::Bytes;

/// Of these items of the offer that follows you may hold older versions: what are their sums?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bases {
    /// The batch of the [`Offer`](super::Offer) or [`ChunkOffer`](super::ChunkOffer) that comes next.
    pub batch: u32,
    /// In the order of the items.
    pub bases: Vec<WireBasis>,
}

/// Where an older version is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WireBasis {
    /// What the copy has at the path under which the file is backed up.
    File {
        /// Index in the offer.
        item: u32,
        /// Path below the root.
        path: Bytes,
    },
    /// A part of the open file's base, for several chunks that follow one another.
    Range {
        /// Index of the first of them in the answer.
        item: u32,
        /// How many chunks.
        count: u32,
        /// Where in the base it begins.
        offset: u64,
        /// Bytes.
        len: u32,
    },
}

/// Answer to [`Bases`], right before that to the offer: for those items of which something is needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// The batch.
    pub batch: u32,
    /// In the order of the bases.
    pub sums: Vec<WireSums>,
}

/// The hashes of a basis' blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireSums {
    /// The basis' item.
    pub item: u32,
    /// Bytes of a block.
    pub block: u32,
    /// Bytes of the basis.
    pub len: u32,
    /// 5 bytes a block (`backup::delta`).
    pub sums: Bytes,
}

/// Needed small files, told by their bases. Payload: the literal bytes of one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDeltas {
    /// Each with its entry (of kind file).
    pub files: Vec<(WireEntry, WireDelta)>,
}

/// Needed chunks of the open file, in order, told by parts of its base. Payload: the literal bytes of one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkDeltas {
    /// The handle.
    pub file: u32,
    /// Each with the length of the whole chunk.
    pub chunks: Vec<(u32, WireDelta)>,
}

/// How content is put together of a basis and literal bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireDelta {
    /// Where the basis begins; 0 for a whole file.
    pub offset: u64,
    /// Bytes of the basis.
    pub len: u32,
    /// Bytes of a block.
    pub block: u32,
    /// What to copy (`backup::delta`).
    pub steps: Bytes,
}
