//! Messages of going back: which snapshots and runs there are, what a path was, what changed between two.
//!
//! Each question has one kind of answer, which comes in parts that fit a frame; the last one says `more: false`.

use serde::{Deserialize, Serialize};

use super::{At, WireEntry};
use crate::backup::bytes::Bytes;
use crate::backup::digest::{Digest, RunId};

/// Which snapshots are there?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshots {
    /// Of roots that this path is in, or that are below it; empty: of all.
    pub path: Bytes,
}

/// One snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireSnapshot {
    /// Its number.
    pub number: u64,
    /// Its root, without leading `/`.
    pub root: Bytes,
    /// When it was received, seconds since 1970.
    pub time_secs: i64,
    /// 1 incomplete, 2 the root was forgotten, 4 made with `-r`, 8 made with `-d`.
    pub flags: u8,
    /// Entries.
    pub entries: u64,
    /// Files among them.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Content bytes that travelled.
    pub content_bytes: u64,
    /// Created, updated, moved, deleted, touched, unchanged.
    pub counts: [u64; 6],
    /// What could not be read.
    pub errors: u64,
    /// Digest of its manifest.
    pub manifest: Digest,
}

/// Answer to [`Snapshots`], oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotList {
    /// Some of them.
    pub snapshots: Vec<WireSnapshot>,
    /// Records that cannot be read, in words.
    pub damaged: Vec<Bytes>,
    /// More to come.
    pub more: bool,
}

/// What was this path?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Without leading `/`.
    pub path: Bytes,
}

/// One content that a path had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireVersion {
    /// As it was in the last of them; its path is the whole one.
    pub entry: WireEntry,
    /// First snapshot with it.
    pub first: u64,
    /// When that was received.
    pub first_secs: i64,
    /// Last snapshot with it.
    pub last: u64,
    /// When that was received.
    pub last_secs: i64,
    /// How many have it.
    pub snapshots: u64,
    /// The newest snapshot of the root has it.
    pub newest: bool,
}

/// Answer to [`History`], oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryList {
    /// Some of them.
    pub versions: Vec<WireVersion>,
    /// More to come.
    pub more: bool,
}

/// Which paths, in any snapshot, match?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Find {
    /// In gitignore's words; anchored at `/`.
    pub pattern: Bytes,
}

/// One path that matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireFound {
    /// As it was last; its path is the whole one.
    pub entry: WireEntry,
    /// First snapshot that has it.
    pub first: u64,
    /// Last snapshot that has it.
    pub last: u64,
    /// How many contents it had.
    pub contents: u64,
    /// The newest snapshot of its root has it.
    pub newest: bool,
}

/// Answer to [`Find`], canonical order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindList {
    /// Some of them.
    pub found: Vec<WireFound>,
    /// More to come.
    pub more: bool,
}

/// What changed between two moments?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diff {
    /// From.
    pub from: At,
    /// To.
    pub to: At,
    /// At and below this path, without leading `/`.
    pub path: Bytes,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireDifference {
    /// As [`PlanLines`](super::PlanLines): 0 created, 1 changed, 2 moved, 3 deleted, 4 touched.
    pub action: u8,
    /// 0 directory, 1 file, 2 anything else.
    pub kind: u8,
    /// Where it is, or was; without leading `/`.
    pub path: Bytes,
    /// Where a moved one was; else empty.
    pub from: Bytes,
    /// Bytes of a file before.
    pub size_before: Option<u64>,
    /// Bytes of a file after.
    pub size_after: Option<u64>,
}

/// Answer to [`Diff`], canonical order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffList {
    /// In the first part only: which snapshots are compared, by root; 0: there was none.
    pub between: Vec<(Bytes, u64, u64)>,
    /// Some differences.
    pub differences: Vec<WireDifference>,
    /// More to come.
    pub more: bool,
}

/// How did the last runs end?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runs {
    /// At most so many, the newest.
    pub count: u32,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireRun {
    /// Its id.
    pub run: RunId,
    /// It was a `forget`.
    pub forget: bool,
    /// Its root, without leading `/`.
    pub root: Bytes,
    /// When it began, seconds since 1970, on the store's clock.
    pub started_secs: i64,
    /// When it ended.
    pub ended_secs: i64,
    /// The snapshot that it became; 0: it failed.
    pub snapshot: u64,
    /// Exit code for the failure.
    pub exit_code: u8,
    /// Why it failed.
    pub message: Bytes,
    /// Content bytes that travelled.
    pub content_bytes: u64,
    /// The first things that could not be read.
    pub errors: Vec<Bytes>,
    /// How many there were.
    pub errors_total: u64,
}

/// Answer to [`Runs`], newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunList {
    /// Some of them.
    pub runs: Vec<WireRun>,
    /// More to come.
    pub more: bool,
}
