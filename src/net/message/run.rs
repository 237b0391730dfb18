//! Messages of a backup: from [`Begin`] to [`Committed`], in the order in which they are spoken.

use serde::{Deserialize, Serialize};

use super::{WireCopy, WireEntry};
use crate::backup::bytes::Bytes;
use crate::backup::digest::{Digest, RunId};

/// Client wants to back up a root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// The run's id.
    pub run: RunId,
    /// Absolute path of the root, lexically normalised, without its leading `/`.
    pub root: Bytes,
    /// `-r`.
    pub recursive: bool,
    /// `-d`.
    pub delete: bool,
    /// `--delete-excluded`.
    pub delete_excluded: bool,
    /// `--force-delete`.
    pub force_delete: bool,
    /// `-n`.
    pub dry_run: bool,
    /// gitignore patterns in order; what they match is unseen.
    pub filters: Vec<Bytes>,
    /// Seconds to queue behind a lock; 0 = do not, `u32::MAX` = for ever.
    pub wait_secs: u32,
    /// Id of the root's file system, which outlives a new numbering of devices; 0 when unknown.
    pub file_system: u64,
    /// Manifest digest of the client's hash cache for this root.
    pub base: Option<Digest>,
    /// `--copies`: destinations that must hold it; 0 = not asked.
    pub copies: u32,
    /// `--wait-copies`: seconds to wait for so many; `u32::MAX` = for ever.
    pub wait_copies_secs: u32,
    /// `--retry-for`: seconds to wait for those who come back.
    pub retry_secs: u32,
}

/// Queued behind another run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Who holds the lease, in words.
    pub holder: Bytes,
}

/// The lease is yours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// The daemon has the manifest that `Begin.base` names: send changes to it.
    pub base_known: bool,
    /// Whether content must be offered first; not so when the copy and its staging are empty.
    pub ask: bool,
}

/// "Have you these?": files up to one chunk, in order of batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Counts up from 0 within a run, shared with [`ChunkOffer`].
    pub batch: u32,
    /// Digests of whole files.
    pub digests: Vec<Digest>,
}

/// Answer to [`Offer`] or [`ChunkOffer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// The offer's batch.
    pub batch: u32,
    /// Bit i (of byte i/8, lowest first) set: item i must be sent.
    pub bits: Bytes,
}

/// Whole small files; payload: their contents one after the other, each `size` bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// Entries (of kind file) in the order of the payload.
    pub entries: Vec<WireEntry>,
}

/// A large file begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileOpen {
    /// Handle, counts up from 0 within a run. Several may be open at once (`FILES_OPEN_MAX`).
    pub file: u32,
    /// Path below the root.
    pub path: Bytes,
    /// Size when it was opened.
    pub size: u64,
    /// Size class: 1 = 64 KiB, 2 = 256 KiB, 3 = 1 MiB.
    pub class: u8,
    /// Digest of the version whose recipe [`WireChunk::Range`]s refer to; wants a [`FileReady`].
    pub base: Option<Digest>,
}

/// Answer to a [`FileOpen`] that names a base.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReady {
    /// The handle.
    pub file: u32,
    /// Whether ranges of the base's recipe may be used.
    pub base_known: bool,
}

/// Next chunks of the open file, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkOffer {
    /// See [`Offer::batch`].
    pub batch: u32,
    /// The handle.
    pub file: u32,
    /// What comes next. `Need` has one bit per chunk, ranges expanded.
    pub items: Vec<WireChunk>,
}

/// One item of a [`ChunkOffer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WireChunk {
    /// A chunk by its digest.
    New {
        /// BLAKE3 of the chunk.
        digest: Digest,
        /// Bytes.
        len: u32,
    },
    /// Chunks `first .. first + count` of the base's recipe.
    Range {
        /// Index in the recipe.
        first: u32,
        /// How many.
        count: u32,
    },
}

/// Needed chunks of the open file, in order. Payload: their bytes. Without asking ([`Granted::ask`] false) all chunks; but a
/// file with holes is asked about even then: its zeros are one chunk over and over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunks {
    /// The handle.
    pub file: u32,
    /// Length of each.
    pub lens: Vec<u32>,
}

/// The open file is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDone {
    /// The handle.
    pub file: u32,
    /// Its entry; none: reading failed, forget it.
    pub entry: Option<WireEntry>,
}

/// Head of the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// What the changes apply to; none: to nothing.
    pub base: Option<Digest>,
    /// Digest of the manifest that results (seen part).
    pub digest: Digest,
    /// Entries in it.
    pub entries: u64,
    /// Some sources could not be read.
    pub incomplete: bool,
    /// Names behind numbers.
    pub users: Vec<(u32, Bytes)>,
    /// Names behind numbers.
    pub groups: Vec<(u32, Bytes)>,
    /// Errors to be kept in the run's record, as sentences.
    pub errors: Vec<Bytes>,
}

/// Changes to the base, in canonical order over all messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Changes.
    pub changes: Vec<WireChange>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WireChange {
    /// New, or replaces the entry at its path.
    Put(WireEntry),
    /// The base's entry is gone.
    Remove(Bytes),
    /// This path and all below it could not be seen: keep what the copy has.
    Unseen(Bytes),
}

/// The manifest is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEnd {
    /// Client's counts of bytes read, for the run's record.
    pub bytes_read: u64,
}

/// Content that the manifest names and the daemon does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Paths, canonical order.
    pub paths: Vec<Bytes>,
    /// Last message of this round.
    pub last: bool,
}

/// Lines of a dry run's plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanLines {
    /// (action, path, other path or empty). Action: 0 create, 1 update, 2 move (path -> other), 3 delete, 4 touch.
    pub lines: Vec<(u8, Bytes, Bytes)>,
}

/// The receipt of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The run.
    pub run: RunId,
    /// Snapshot's number in this store; 0 for a dry run.
    pub snapshot: u64,
    /// Manifest digest (seen part).
    pub manifest: Digest,
    /// Counts, in this order: created, updated, moved, deleted, touched, unchanged.
    pub counts: [u64; 6],
    /// Files in the manifest.
    pub files: u64,
    /// Bytes in the manifest's files.
    pub bytes: u64,
    /// For a dry run: content bytes that would travel.
    pub bytes_missing: u64,
    /// The snapshot is marked incomplete.
    pub incomplete: bool,
    /// What the store could not apply, in words.
    pub notes: Vec<Bytes>,
    /// Who holds it, and who does not and why; empty unless there are destinations.
    pub copies: Vec<WireCopy>,
    /// Destinations that were asked for hold it. False: exit 15.
    pub enough: bool,
}
