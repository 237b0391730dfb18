//! Extended attributes of anything: by descriptor where one is open, else by one name in a [`SafeDir`].
//!
//! Linux reaches the xattrs of a symbolic link, or of a file that may not be opened, only by path. The path used here
//! is `/proc/self/fd/N/name`: N is the directory we hold, so nothing can be swapped in between. A change of an xattr
//! moves the inode's ctime: whoever holds an unchanged, not racy fingerprint need not call any of this.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::error::TreeError;
use super::safe_dir::SafeDir;
use crate::backup::bytes::Bytes;
use crate::backup::entry::Xattr;
use crate::backup::limits::{XATTRS_BYTES_MAX, XATTRS_COUNT_MAX};

/// A way to an inode.
pub(crate) enum InodeRef<'a> {
    /// An open file or directory.
    Fd(BorrowedFd<'a>),
    /// A path whose last component is not followed.
    NoFollow(Vec<u8>),
    /// A path through a descriptor of the inode itself (`O_PATH`), held open here.
    Handle(Vec<u8>, #[allow(dead_code)] OwnedFd),
}

impl InodeRef<'_> {
    /// `name` in `dir`; `name` has been checked by a call of [`SafeDir`] before, or is checked by this one.
    pub(crate) fn named(dir: &SafeDir, name: &[u8]) -> Self {
        let mut path = proc_path(dir.as_fd());
        path.push(b'/');
        path.extend_from_slice(name);
        Self::NoFollow(path)
    }

    /// Through an `O_PATH` descriptor.
    pub(crate) fn handle(fd: OwnedFd) -> Self {
        Self::Handle(proc_path(fd.as_fd()), fd)
    }

    fn list(&self, buf: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Fd(fd) => rustix::fs::flistxattr(fd, buf),
            Self::NoFollow(path) => rustix::fs::llistxattr(path, buf),
            Self::Handle(path, _) => rustix::fs::listxattr(path, buf),
        }
    }

    fn get(&self, name: &[u8], buf: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Fd(fd) => rustix::fs::fgetxattr(fd, name, buf),
            Self::NoFollow(path) => rustix::fs::lgetxattr(path, name, buf),
            Self::Handle(path, _) => rustix::fs::getxattr(path, name, buf),
        }
    }

    pub(crate) fn set(&self, xattr: &Xattr) -> Result<(), Errno> {
        let (name, value) = (xattr.name.as_slice(), xattr.value.as_slice());
        match self {
            Self::Fd(fd) => rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::NoFollow(path) => rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()),
            Self::Handle(path, _) => rustix::fs::setxattr(path, name, value, XattrFlags::empty()),
        }
    }

    pub(crate) fn remove(&self, name: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Fd(fd) => rustix::fs::fremovexattr(fd, name),
            Self::NoFollow(path) => rustix::fs::lremovexattr(path, name),
            Self::Handle(path, _) => rustix::fs::removexattr(path, name),
        }
    }

    /// `chmod` of the inode behind a handle; EOPNOTSUPP for a symbolic link, as always.
    pub(crate) fn set_mode(&self, mode: rustix::fs::Mode) -> Result<(), Errno> {
        match self {
            Self::Fd(fd) => rustix::fs::fchmod(fd, mode),
            Self::NoFollow(_) => Err(Errno::OPNOTSUPP),
            Self::Handle(path, _) => rustix::fs::chmodat(rustix::fs::CWD, path, mode, rustix::fs::AtFlags::empty()),
        }
    }

    /// All xattrs, sorted by name. One system call where there are none.
    pub(crate) fn read(&self) -> Result<Vec<Xattr>, Errno> {
        let names = self.names()?;
        let mut xattrs = Vec::new();
        let mut bytes = names.len();
        let mut value = Vec::new();
        for name in names.split(|b| *b == 0).filter(|n| !n.is_empty()) {
            match with_room(&mut value, |buf| self.get(name, buf)) {
                // Gone since it was listed, or listed but not to be had (some network file systems).
                Err(Errno::NODATA | Errno::OPNOTSUPP) => continue,
                done => done?,
            }
            bytes += value.len();
            if xattrs.len() >= XATTRS_COUNT_MAX || bytes > XATTRS_BYTES_MAX {
                return Err(Errno::TOOBIG);
            }
            xattrs.push(Xattr { name: name.into(), value: value.as_slice().into() });
        }
        xattrs.sort_unstable();
        Ok(xattrs)
    }

    /// The list as the kernel gives it: names, each followed by NUL.
    fn names(&self) -> Result<Vec<u8>, Errno> {
        let mut small = [0; 512];
        let mut names = Vec::new();
        match self.list(&mut small) {
            Ok(0) | Err(Errno::OPNOTSUPP) => Ok(names),
            Ok(len) => Ok(small.get(..len).unwrap_or_default().to_vec()),
            Err(Errno::RANGE) => with_room(&mut names, |buf| self.list(buf)).map(|()| names),
            Err(e) => Err(e),
        }
    }
}

/// Runs `call` on a buffer that grows until the answer fits; `out` is the answer.
pub(crate) fn with_room(
    out: &mut Vec<u8>,
    mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>,
) -> Result<(), Errno> {
    // 64 KiB is Linux's own limit of a value and of a list; one step beyond in case another kernel has more.
    for room in [1024, 64 * 1024, XATTRS_BYTES_MAX] {
        out.resize(room, 0);
        match call(out) {
            Err(Errno::RANGE) => {}
            Err(e) => return Err(e),
            Ok(len) => {
                out.truncate(len);
                return Ok(());
            }
        }
    }
    Err(Errno::TOOBIG)
}

fn proc_path(fd: BorrowedFd<'_>) -> Vec<u8> {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into_bytes()
}

/// The xattrs of `name` in `dir`, a symbolic link's own included, sorted by name.
///
/// # Errors
/// When they cannot be read, or are more than the limits allow (E2BIG).
pub fn read_xattrs(dir: &SafeDir, name: &[u8]) -> Result<Vec<Xattr>, TreeError> {
    dir.checked("read the attributes of", name)?;
    InodeRef::named(dir, name).read().map_err(|e| TreeError::new("read the attributes of", dir.label(), name, e))
}

/// The xattrs of an open file or directory, sorted by name; `label` is for the error.
///
/// # Errors
/// As [`read_xattrs`].
pub fn read_xattrs_fd(fd: impl AsFd, label: &[u8]) -> Result<Vec<Xattr>, TreeError> {
    InodeRef::Fd(fd.as_fd()).read().map_err(|e| TreeError::new("read the attributes of", label, b"", e))
}

/// The access ACL, as the kernel stores it.
pub(crate) const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
/// The ACL that new files in a directory get.
pub(crate) const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

/// What the owning group may do according to an access ACL. With an ACL the mode's group bits show the *mask*; a file
/// that cannot get its ACL must fall back to this, or the group would gain rights.
/// Layout: `u32 version (2) | (u16 tag | u16 permissions | u32 id)*`, little endian (linux/posix_acl_xattr.h).
pub(crate) fn acl_group_bits(acl: &[u8]) -> Option<u32> {
    const GROUP_OBJ: u16 = 0x04;
    let (version, entries) = acl.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != 2 {
        return None;
    }
    entries.chunks_exact(8).find_map(|entry| match entry {
        [t0, t1, p0, p1, ..] if u16::from_le_bytes([*t0, *t1]) == GROUP_OBJ => {
            Some(u32::from(u16::from_le_bytes([*p0, *p1]) & 7))
        }
        _ => None,
    })
}

/// An xattr by name, for tests and callers that build them.
pub fn xattr(name: &[u8], value: &[u8]) -> Xattr {
    Xattr { name: Bytes::from(name), value: Bytes::from(value) }
}
