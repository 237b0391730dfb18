//! Messages of everything that is not a backup: reading a snapshot, forgetting a root, asking how it goes.

use serde::{Deserialize, Serialize};

use super::{WireDestination, WireEntry};
use crate::backup::bytes::Bytes;
use crate::backup::digest::RunId;

/// Read from a committed snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// Absolute path without leading `/`; empty with `shallow` and without `all`: the roots.
    pub path: Bytes,
    /// Only the path itself and, for a directory, what is directly in it.
    pub shallow: bool,
    /// The client will answer each [`Tree`] with [`Want`]; else only entries are sent.
    pub content: bool,
    /// The target is empty: all content is wanted, no [`Want`] is sent.
    pub all: bool,
    /// Which snapshot.
    pub at: At,
}

/// Which snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum At {
    /// The newest; for a path that it lacks, the newest that has it.
    Latest,
    /// The one of this number.
    Number(u64),
    /// The newest that was received at or before this moment.
    Before {
        /// Seconds since 1970.
        secs: i64,
    },
}

/// The read begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadGranted {
    /// Snapshot's number.
    pub snapshot: u64,
    /// Its root, without leading `/`.
    pub root: Bytes,
    /// When it was received, seconds since 1970.
    pub time_secs: i64,
    /// Whether it is complete.
    pub complete: bool,
    /// Whether it was made with `-r`; if not, folders in its root were not looked at.
    pub recursive: bool,
    /// Entries to come.
    pub entries: u64,
    /// Bytes of the files to come.
    pub bytes: u64,
    /// Names behind numbers.
    pub users: Vec<(u32, Bytes)>,
    /// Names behind numbers.
    pub groups: Vec<(u32, Bytes)>,
}

/// Entries, canonical order; paths are relative to the path that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// Counts up from 0.
    pub batch: u32,
    /// Entries.
    pub entries: Vec<WireEntry>,
}

/// No more entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeEnd {
    /// How many batches there were.
    pub batches: u32,
}

/// Which of a batch's entries' content is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// The batch.
    pub batch: u32,
    /// A bit per entry, as in [`Need`](super::Need).
    pub bits: Bytes,
}

/// Pieces of wanted files; payload: their bytes, one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The pieces. Each file's come in order; small files are one piece.
    pub pieces: Vec<Piece>,
}

/// A piece of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Batch of the entry.
    pub batch: u32,
    /// Index in the batch.
    pub index: u32,
    /// Where in the file. 0 again: the file begins anew, what came before was damaged.
    pub offset: u64,
    /// Bytes of payload.
    pub len: u32,
    /// 0 more follow, 1 last piece, 2 the store cannot deliver this file (payload: why, as text).
    pub end: u8,
}

/// Take a root out of the copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forget {
    /// The run's id.
    pub run: RunId,
    /// The root, without leading `/`.
    pub root: Bytes,
}

/// How is the daemon?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {}

/// Answer to [`Status`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReply {
    /// Seconds since the daemon started.
    pub uptime_secs: u64,
    /// Sessions now.
    pub sessions: u32,
    /// Roots of the asking identity: (root, last snapshot, its time in seconds, complete, files, bytes).
    pub roots: Vec<(Bytes, u64, i64, bool, u64, u64)>,
    /// Running backups of the asking identity, in words.
    pub running: Vec<Bytes>,
    /// Retired files of the asking identity and their bytes.
    pub retired: (u64, u64),
    /// Free and total bytes of the store's file system.
    pub space: (u64, u64),
    /// Bytes that count against the asking identity's quota, and the quota; 0: it has none.
    pub quota: (u64, u64),
    /// Destinations that are connected and take the asking identity's runs.
    pub destinations: Vec<WireDestination>,
    /// The daemon has no store of its own.
    pub relay: bool,
}
