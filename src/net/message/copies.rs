//! Messages of a distributed backup: destinations that attend, join a run, prepare, commit and prove what they hold; and
//! what the source is told of them.

use serde::{Deserialize, Serialize};

use crate::backup::bytes::Bytes;
use crate::backup::digest::{Digest, RunId};

/// A destination on its control connection: I am here, and this is what I have. Again whenever it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attend {
    /// What people call it.
    pub name: Bytes,
    /// Its store's id: who it is.
    pub store: [u8; 16],
    /// Whose runs it wants, (node, user); an empty user: all of the node; none at all: everybody's.
    pub from: Vec<(Bytes, Bytes)>,
    /// Free and total bytes of its file system.
    pub space: (u64, u64),
    /// The newest of each root that it holds.
    pub heads: Vec<Head>,
    /// More heads follow in another `Attend`.
    pub more: bool,
}

/// The newest snapshot that a destination holds of a root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Whose copy.
    pub node: Bytes,
    /// Whose copy.
    pub user: Bytes,
    /// The root, without leading `/`.
    pub root: Bytes,
    /// The run that made it.
    pub run: RunId,
    /// Its manifest.
    pub manifest: Digest,
}

/// Daemon to a destination's control connection: open a data connection and join with this number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summon {
    /// Which call; never used twice by a daemon's process.
    pub call: u64,
}

/// First request of a destination's data connection. From here on the daemon is the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The call that is answered.
    pub call: u64,
}

/// Whose run the [`Begin`](super::Begin) that follows is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct For {
    /// The source's node.
    pub node: Bytes,
    /// The source's user.
    pub user: Bytes,
    /// The source's key; all zero for one without.
    pub key: [u8; 32],
    /// Where the source is, and its program, for logs.
    pub peer: Bytes,
    /// The run on which this one follows in the daemon's own store.
    pub parent: Option<RunId>,
    /// Say [`Prepared`] and wait for [`Commit`].
    pub hold: bool,
}

/// Daemon to source, before [`Granted`](super::Granted) and whenever it changes: how many destinations are there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gathering {
    /// So many.
    pub connected: u32,
    /// Of so many.
    pub wanted: u32,
}

/// Destination: all of the run is staged and durable and its manifest agreed on; nothing of the copy is changed yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// The run.
    pub run: RunId,
    /// The manifest's digest.
    pub manifest: Digest,
    /// Its entries.
    pub entries: u64,
}

/// Daemon to a destination that is prepared: make it so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The run.
    pub run: RunId,
}

/// Source, at most once a second, passed on to destinations: for those who watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes of files that are dealt with.
    pub bytes_done: u64,
    /// Of so many.
    pub bytes_total: u64,
    /// Files that are dealt with.
    pub files_done: u64,
    /// The total is final.
    pub total_known: bool,
}

/// Daemon to a destination after its receipt: show that you hold it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// Key of the hash, never used before.
    pub nonce: [u8; 32],
    /// What to hash, in this order.
    pub ranges: Vec<Range>,
}

/// A range of a file of the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// Path below the root.
    pub path: Bytes,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u32,
}

/// Answer to [`Challenge`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// BLAKE3 keyed by the nonce over each range's length (u32, little endian) and bytes.
    pub digest: Digest,
}

/// A target's line of a receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireCopy {
    /// What people call it.
    pub name: Bytes,
    /// 0 the daemon's own store, 1 a destination.
    pub kind: u8,
    /// 0 held, 1 behind, 2 failed.
    pub state: u8,
    /// Why, in words; empty when held.
    pub reason: Bytes,
}

/// A destination that is connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireDestination {
    /// What people call it.
    pub name: Bytes,
    /// Where it is.
    pub address: Bytes,
    /// Since when, in seconds since 1970.
    pub since_secs: i64,
    /// Free and total bytes of its file system.
    pub space: (u64, u64),
    /// Snapshots of the asking identity that it does not hold.
    pub behind: u64,
    /// What is running to it now, in words; empty when nothing is.
    pub running: Bytes,
}
