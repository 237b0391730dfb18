//! Messages about the whole of a store, and about another's copy.

use serde::{Deserialize, Serialize};

use crate::backup::bytes::Bytes;
use crate::backup::digest::RunId;

/// All later requests are about this copy. Needs the admin right; answered only if it is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Of {
    /// Its node directory.
    pub node: Bytes,
    /// Its user directory.
    pub user: Bytes,
}

/// Is all of it still intact?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verify {
    /// What is looked at: this path and all below it, without leading `/`.
    pub path: Bytes,
    /// Every copy of the store instead of one's own. Needs the admin right.
    pub all: bool,
    /// Of this many parts of the content the next one is looked at; 0: all of it.
    pub parts: u32,
}

/// Something is damaged or gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// The path or object, for people: bytes that are no text stand escaped.
    pub what: Bytes,
    /// What is wrong with it.
    pub why: Bytes,
    /// Snapshots that it touches.
    pub snapshots: u64,
    /// What becomes of it: 0 it stays, 1 it is put right, 2 the next run of its root puts it right.
    pub outcome: u8,
}

/// The end of [`Damage`]: what was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Which part it was, from 1; 0: all of it.
    pub part: u32,
    /// Snapshots whose manifests were read.
    pub snapshots: u64,
    /// Plain files that were hashed.
    pub files: u64,
    /// Packs and retired files that were hashed.
    pub objects: u64,
    /// Bytes that were hashed.
    pub bytes: u64,
    /// How many damages there were.
    pub damages: u64,
}

/// Let snapshots expire that no rule of the daemon's configuration keeps, now. Needs the admin right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prune {}

/// Answer to [`Prune`]: what was done, of all copies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// Snapshots that there were.
    pub snapshots: u64,
    /// How many of them expired.
    pub expired: u64,
    /// Packs that were removed.
    pub packs_removed: u64,
    /// Packs that were written with what is still needed of those.
    pub packs_written: u64,
    /// Bytes that were given back, less those that were written.
    pub bytes_freed: u64,
    /// Why something was not done, as sentences.
    pub troubles: Vec<Bytes>,
}

/// Let go what a snapshot is kept for: a run took most of its root away. Needs the admin right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The snapshot that is kept, or that of the run.
    pub number: u64,
}

/// Answer to [`Release`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// The runs whose work is final now.
    pub runs: Vec<u64>,
}

/// What is in the store?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Every copy of the store instead of one's own. Needs the admin right.
    pub all: bool,
}

/// One copy; answer to [`Stats`], one message each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyStats {
    /// Its node directory.
    pub node: Bytes,
    /// Its user directory.
    pub user: Bytes,
    /// Its roots.
    pub roots: Vec<RootStats>,
    /// Snapshots, of roots that were forgotten too.
    pub snapshots: u64,
    /// Bytes of all the files in all of them: what plain copies of each would take.
    pub logical_bytes: u64,
    /// Bytes of their records and manifests.
    pub snapshot_bytes: u64,
    /// Files that wait to be packed.
    pub retired_files: u64,
    /// Their bytes.
    pub retired_bytes: u64,
    /// Packs in the vault.
    pub packs: u64,
    /// Their bytes.
    pub pack_bytes: u64,
    /// Bytes of the content in them before it was compressed.
    pub raw_bytes: u64,
    /// Bytes that count against its quota, and the quota; 0: it has none.
    pub quota: (u64, u64),
    /// When it was verified last, seconds since 1970; 0: never.
    pub verified_secs: i64,
    /// Damages that were found then.
    pub damages: u64,
}

/// One root of a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootStats {
    /// Without leading `/`.
    pub root: Bytes,
    /// Its snapshots.
    pub snapshots: u64,
    /// Number of the newest.
    pub newest: u64,
    /// Files in that.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the newest complete one was received, seconds since 1970; 0: there is none.
    pub complete_secs: i64,
}

/// The end of [`CopyStats`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsEnd {
    /// How many copies there were.
    pub copies: u64,
}

/// Take a path out of history for good. Needs the admin right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purge {
    /// Names the request.
    pub run: RunId,
    /// The path and all below it, without leading `/`.
    pub path: Bytes,
    /// Do it; otherwise only say what would go.
    pub really: bool,
}

/// What was purged from this copy? Needs the admin right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purges {}

/// One purge that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WirePurge {
    /// Without leading `/`.
    pub path: Bytes,
    /// When, seconds since 1970, on the store's clock.
    pub time_secs: i64,
    /// The highest snapshot that it holds for.
    pub until: u64,
    /// Who asked for it, for people.
    pub by: Bytes,
    /// Paths that went.
    pub paths: u64,
    /// Snapshots that had any of them.
    pub snapshots: u64,
    /// Contents that nothing else named.
    pub contents: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Answer to [`Purges`], oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgesList {
    /// Some of them.
    pub purges: Vec<WirePurge>,
    /// More to come.
    pub more: bool,
}

/// One path that goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WirePurged {
    /// Without leading `/`.
    pub path: Bytes,
    /// First snapshot that has it.
    pub first: u64,
    /// Last snapshot that has it.
    pub last: u64,
}

/// What goes; first answer to [`Purge`], canonical order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgeList {
    /// Some of the paths.
    pub paths: Vec<WirePurged>,
    /// More to come.
    pub more: bool,
}

/// The end of [`PurgeList`]: it is done, or was only asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// It is done.
    pub done: bool,
    /// How many paths there were.
    pub paths: u64,
    /// Snapshots that had any of them.
    pub snapshots: u64,
    /// Contents that nothing else names.
    pub contents: u64,
    /// Their bytes.
    pub bytes: u64,
}
