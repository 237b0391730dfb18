//! What kind of file system something lies on, and which one it is.
//!
//! Numbers are of linux/magic.h and of the file systems' sources. Must not be asked per file: each answer is a system
//! call or more.

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::backup::digest::Digest;

const EXT: u32 = 0xef53;
const BTRFS: u32 = 0x9123_683e;
const ZFS: u32 = 0x2fc1_2fc1;

/// Those that make inode numbers up as they go, so that the same number may be another file tomorrow: `fuse`, `cifs`,
/// `smb2`, the old `smbfs`, `vfat`, `exfat`.
const INODES_MADE_UP: [u32; 6] = [0x6573_5546, 0xff53_4d42, 0xfe53_4d42, 0x517b, 0x4d44, 0x2011_bab0];

/// Links with a file system's UUID as their name.
const BY_UUID: &str = "/dev/disk/by-uuid";

/// Whether an inode number there stays with its file.
pub fn inodes_are_believed(at: impl AsFd) -> bool {
    // f_type is a signed word on some machines; the magic numbers are its low 32 bits.
    !rustix::fs::fstatfs(at).is_ok_and(|fs| INODES_MADE_UP.contains(&(fs.f_type as u32)))
}

/// Free (for who is not root) and total bytes; 0 when nothing is known.
pub fn space_of(at: impl AsFd) -> (u64, u64) {
    rustix::fs::fstatvfs(at)
        .map_or((0, 0), |fs| (fs.f_bavail.saturating_mul(fs.f_frsize), fs.f_blocks.saturating_mul(fs.f_frsize)))
}

/// What a file system has left for this process.
#[derive(Clone, Copy, Debug)]
pub struct Left {
    /// Free bytes: for root also those that the file system keeps for it.
    pub bytes: u64,
    /// All bytes.
    pub total: u64,
    /// Free inodes.
    pub inodes: u64,
    /// All of them; 0 where they are not counted.
    pub inodes_total: u64,
}

/// What is left; none when it cannot be asked.
pub fn left_of(at: impl AsFd) -> Option<Left> {
    let fs = rustix::fs::fstatvfs(at).ok()?;
    let free = if rustix::process::geteuid().is_root() { fs.f_bfree } else { fs.f_bavail };
    let bytes = |blocks: u64| blocks.saturating_mul(fs.f_frsize);
    Some(Left { bytes: bytes(free), total: bytes(fs.f_blocks), inodes: fs.f_ffree, inodes_total: fs.f_files })
}

/// What names the file system of `root` also after devices were numbered anew; 0 when nothing does.
///
/// ext4, btrfs and zfs put their UUID into `f_fsid`. Others (xfs, vfat, f2fs) put the device number there; their UUID is
/// looked up among the links that udev makes.
pub fn lasting_id(root: &Path) -> u64 {
    let kind = rustix::fs::statfs(root).map_or(0, |fs| fs.f_type as u32);
    if [EXT, BTRFS, ZFS].contains(&kind) {
        return rustix::fs::statvfs(root).map_or(0, |fs| fs.f_fsid);
    }
    std::fs::metadata(root).map_or(0, |meta| id_of_device(Path::new(BY_UUID), meta.dev()))
}

/// The id of the device number that one of the links in `links` leads to.
fn id_of_device(links: &Path, device: u64) -> u64 {
    let leads_there = |path: &Path| std::fs::metadata(path).is_ok_and(|at| at.rdev() == device && at.dev() != device);
    let mut links = std::fs::read_dir(links).into_iter().flatten().flatten();
    let Some(link) = links.find(|link| leads_there(&link.path())) else { return 0 };
    let Digest(digest) = Digest::of(link.file_name().as_encoded_bytes());
    digest.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_own_disk_is_believed() {
        let temp = tempfile::tempdir().unwrap();
        assert!(inodes_are_believed(std::fs::File::open(temp.path()).unwrap()));
        assert_eq!(lasting_id(temp.path()), lasting_id(temp.path()));
        assert_eq!(lasting_id(&temp.path().join("not there")), 0);
    }

    #[test]
    fn a_device_is_named_by_its_link() {
        let temp = tempfile::tempdir().unwrap();
        let null = std::fs::metadata("/dev/null").unwrap().rdev();
        assert_eq!(id_of_device(temp.path(), null), 0);
        std::fs::write(temp.path().join("0000-no-device"), "").unwrap();
        std::os::unix::fs::symlink("/dev/zero", temp.path().join("1111-1111")).unwrap();
        std::os::unix::fs::symlink("/dev/null", temp.path().join("4f0a-77c1")).unwrap();
        let id = id_of_device(temp.path(), null);
        assert!(id != 0 && id == id_of_device(temp.path(), null));
        assert_ne!(id, id_of_device(temp.path(), std::fs::metadata("/dev/zero").unwrap().rdev()));
        assert_eq!(id_of_device(&temp.path().join("not there"), null), 0);
    }
}
