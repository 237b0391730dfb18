//! [`Entry`]: one path in a backup.

use serde::{Deserialize, Serialize};

use super::bytes::Bytes;
use super::digest::Digest;
use super::fingerprint::Timestamp;
use super::relpath::RelPath;

/// One path in a backup: kind, size, times, mode, owner, xattrs, digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Path below the run's root; the root's own entry has the empty path.
    pub path: RelPath,
    /// Mode, owner, time, xattrs.
    pub meta: Meta,
    /// What it is.
    pub kind: Kind,
}

/// What can be changed about an entry without touching its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Meta {
    /// Permission bits with setuid, setgid and sticky (`mode & 0o7777`).
    pub mode: u32,
    /// Owner's number; its name stands in the manifest's [`OwnerNames`].
    pub uid: u32,
    /// Group's number.
    pub gid: u32,
    /// Time of the last change of content.
    pub mtime: Timestamp,
    /// Extended attributes, sorted by name; POSIX ACLs ride in them.
    pub xattrs: Vec<Xattr>,
}

/// One extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Xattr {
    /// With its namespace: `user.x`, `system.posix_acl_access`.
    pub name: Bytes,
    /// Raw value.
    pub value: Bytes,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file.
    File(FileContent),
    /// A symbolic link.
    Symlink {
        /// Where it points to, never resolved by us.
        target: Bytes,
    },
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// A regular file's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileContent {
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of the whole content.
    pub digest: Digest,
    /// How it is cut into chunks; fixed when the file is first backed up.
    pub class: SizeClass,
    /// Hard links within the same root.
    pub link: Link,
    /// The source had holes: write it sparse.
    pub sparse: bool,
    /// The file went on changing while it was read; what is stored is what was read.
    pub unstable: bool,
}

/// How a file takes part in a group of hard links.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Link {
    /// No other path of this backup is the same inode.
    Single,
    /// The first path (canonical order) of a group.
    Leader,
    /// Another name of the file at this path.
    Follower(RelPath),
}

/// The average chunk size of a file: `Whole` is one chunk whatever its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SizeClass {
    /// Not cut (files below [`super::limits::WHOLE_FILE_BYTES_MAX`] at their first backup).
    Whole,
    /// 64 KiB on average (32 to 96).
    Kib64,
    /// 256 KiB on average (128 to 384): files over 1 GiB.
    Kib256,
    /// 1 MiB on average (512 KiB to 1.5 MiB): files over 64 GiB.
    Mib1,
}

impl Entry {
    /// The file's content, if it is a file.
    pub fn file(&self) -> Option<&FileContent> {
        match &self.kind {
            Kind::File(content) => Some(content),
            _ => None,
        }
    }

    /// Whether this is a directory.
    pub fn is_dir(&self) -> bool {
        matches!(self.kind, Kind::Dir)
    }
}

/// Names behind the numbers: `(uid, login)` and `(gid, group)`, each sorted by number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct OwnerNames {
    /// Users.
    pub users: Vec<(u32, Bytes)>,
    /// Groups.
    pub groups: Vec<(u32, Bytes)>,
}
