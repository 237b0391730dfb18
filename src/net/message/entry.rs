//! [`WireEntry`]: one path of a tree as it travels, in both directions.

use serde::{Deserialize, Serialize};

use crate::backup::bytes::Bytes;
use crate::backup::digest::Digest;

/// An entry as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireEntry {
    /// Path below the root.
    pub path: Bytes,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds.
    pub mtime_secs: i64,
    /// Nanoseconds.
    pub mtime_nanos: u32,
    /// Extended attributes, sorted.
    pub xattrs: Vec<(Bytes, Bytes)>,
    /// Kind.
    pub kind: WireKind,
}

/// An entry's kind as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WireKind {
    /// Directory.
    Dir,
    /// Regular file.
    File {
        /// Bytes.
        size: u64,
        /// BLAKE3 of the content.
        digest: Digest,
        /// 0 whole, 1 64 KiB, 2 256 KiB, 3 1 MiB.
        class: u8,
        /// 1 leader of a hard-link group, 2 sparse, 4 unstable.
        flags: u8,
        /// Path of the leader, for its followers; empty otherwise (the root as leader cannot have followers).
        leader: Bytes,
    },
    /// Symbolic link.
    Symlink {
        /// Target.
        target: Bytes,
    },
    /// Named pipe.
    Fifo,
    /// Device.
    Device {
        /// Block, not character.
        block: bool,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}
