//! [`Stat`]: what the file system says about one inode, in our own types.

use rustix::fs::{FileType, Statx, StatxFlags};
use serde::{Deserialize, Serialize};

use crate::backup::entry::Meta;
use crate::backup::fingerprint::{Fingerprint, Timestamp};

/// The kind of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FileKind {
    /// A directory.
    Dir,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A socket; never backed up.
    Socket,
    /// Something this program does not know, or a directory listing that does not say.
    Unknown,
}

impl FileKind {
    /// From the system's type.
    pub fn of(file_type: FileType) -> Self {
        match file_type {
            FileType::Directory => Self::Dir,
            FileType::RegularFile => Self::File,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::CharacterDevice => Self::CharDevice,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::Socket => Self::Socket,
            FileType::Unknown => Self::Unknown,
        }
    }
}

/// What one `statx` tells about an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: FileKind,
    /// Inode number.
    pub ino: u64,
    /// Device number; a run-local fact, it may change at the next boot.
    pub dev: u64,
    /// Names this inode has.
    pub nlink: u32,
    /// Bytes.
    pub size: u64,
    /// Allocated 512-byte blocks.
    pub blocks: u64,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of content.
    pub mtime: Timestamp,
    /// Last change of anything.
    pub ctime: Timestamp,
    /// For devices: major number.
    pub rdev_major: u32,
    /// For devices: minor number.
    pub rdev_minor: u32,
    /// The mount it was reached through; 0 where the kernel does not say (before 5.8).
    pub mnt_id: u64,
}

impl Stat {
    /// What is asked of the kernel.
    pub(crate) const MASK: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::MNT_ID);

    /// What tells without reading that the file has not changed.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint { ino: self.ino, size: self.size, mtime: self.mtime, ctime: self.ctime }
    }

    /// Mode, owner and time; no xattrs.
    pub fn meta(&self) -> Meta {
        Meta { mode: self.mode, uid: self.uid, gid: self.gid, mtime: self.mtime, xattrs: Vec::new() }
    }

    /// Whether this is the same inode as `other`.
    pub fn same_inode(&self, other: &Self) -> bool {
        self.ino == other.ino && self.dev == other.dev
    }

    /// Whether fewer blocks are allocated than the size needs: there may be holes (compression looks the same).
    pub fn may_have_holes(&self) -> bool {
        self.kind == FileKind::File && self.blocks.saturating_mul(512) < self.size
    }
}

impl From<&Statx> for Stat {
    fn from(x: &Statx) -> Self {
        let time = |t: rustix::fs::StatxTimestamp| Timestamp { secs: t.tv_sec, nanos: t.tv_nsec };
        let mode = u32::from(x.stx_mode);
        let known_mount = x.stx_mask & StatxFlags::MNT_ID.bits() != 0;
        Self {
            kind: FileKind::of(FileType::from_raw_mode(mode)),
            ino: x.stx_ino,
            dev: rustix::fs::makedev(x.stx_dev_major, x.stx_dev_minor),
            nlink: x.stx_nlink,
            size: x.stx_size,
            blocks: x.stx_blocks,
            mode: mode & 0o7777,
            uid: x.stx_uid,
            gid: x.stx_gid,
            mtime: time(x.stx_mtime),
            ctime: time(x.stx_ctime),
            rdev_major: x.stx_rdev_major,
            rdev_minor: x.stx_rdev_minor,
            mnt_id: if known_mount { x.stx_mnt_id } else { 0 },
        }
    }
}
