//! What [`SafeDir`] does to one name in it: one `*at` call each, never following a symbolic link.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::{SafeDir, TreeError};
use crate::tree::stat::{FileKind, Stat};

const READ_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC).union(OFlags::NOCTTY);
const WRITE_FLAGS: OFlags =
    OFlags::RDWR.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC).union(OFlags::NOCTTY);

impl SafeDir {
    /// What `name` is; a symbolic link is looked at itself, no automount is triggered.
    ///
    /// # Errors
    /// [`TreeError::is_not_found`] when there is no such name.
    pub fn stat(&self, name: &[u8]) -> Result<Stat, TreeError> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        self.leaf("look at", name, |name| rustix::fs::statx(self, name, flags, Stat::MASK)).map(|x| Stat::from(&x))
    }

    /// Opens `name` to read it; does not block on a fifo, leaves the access time alone where that is allowed.
    ///
    /// # Errors
    /// [`TreeError::is_escape`] when it is a symbolic link.
    pub fn open_read(&self, name: &[u8]) -> Result<File, TreeError> {
        self.leaf("open", name, |name| {
            match rustix::fs::openat(self, name, READ_FLAGS | OFlags::NOATIME, Mode::empty()) {
                // O_NOATIME is for the owner only.
                Err(Errno::PERM) => rustix::fs::openat(self, name, READ_FLAGS, Mode::empty()),
                done => done,
            }
        })
        .map(File::from)
    }

    /// Opens an existing `name` to read and write it.
    ///
    /// # Errors
    /// [`TreeError::is_escape`] when it is a symbolic link.
    pub fn open_write(&self, name: &[u8]) -> Result<File, TreeError> {
        self.leaf("open for writing", name, |name| rustix::fs::openat(self, name, WRITE_FLAGS, Mode::empty()))
            .map(File::from)
    }

    /// Creates the file `name`, which must not be there, with `mode` less the process' umask; to read and write.
    ///
    /// # Errors
    /// [`TreeError::is_exists`] when the name is taken, whatever by.
    pub fn create_new(&self, name: &[u8], mode: u32) -> Result<File, TreeError> {
        let flags = WRITE_FLAGS | OFlags::CREATE | OFlags::EXCL;
        self.leaf("create", name, |name| rustix::fs::openat(self, name, flags, Mode::from_raw_mode(mode & 0o7777)))
            .map(File::from)
    }

    /// Opens the file `name` to read and write it; made with `mode` less the process' umask when it is not there.
    ///
    /// # Errors
    /// [`TreeError::is_escape`] when it is a symbolic link.
    pub fn open_or_create(&self, name: &[u8], mode: u32) -> Result<File, TreeError> {
        let flags = WRITE_FLAGS | OFlags::CREATE;
        self.leaf("open or create", name, |name| {
            rustix::fs::openat(self, name, flags, Mode::from_raw_mode(mode & 0o7777))
        })
        .map(File::from)
    }

    /// A handle on `name` that only stands for the inode (`O_PATH`), a symbolic link included.
    pub(crate) fn open_handle(&self, name: &[u8]) -> Result<OwnedFd, TreeError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.leaf("open", name, |name| rustix::fs::openat(self, name, flags, Mode::empty()))
    }

    /// Makes the directory `name` with `mode` less the process' umask.
    ///
    /// # Errors
    /// [`TreeError::is_exists`] when the name is taken, whatever by.
    pub fn mkdir(&self, name: &[u8], mode: u32) -> Result<(), TreeError> {
        self.leaf("make the folder", name, |name| rustix::fs::mkdirat(self, name, Mode::from_raw_mode(mode & 0o7777)))
    }

    /// Gives `name` itself to another owner and group.
    ///
    /// # Errors
    /// The operating system's.
    pub fn chown(&self, name: &[u8], uid: u32, gid: u32) -> Result<(), TreeError> {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        self.leaf("change the owner of", name, |name| {
            rustix::fs::chownat(self, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        })
    }

    /// Makes the symbolic link `name` that says `target`, which is not looked at.
    ///
    /// # Errors
    /// [`TreeError::is_exists`] when the name is taken.
    pub fn symlink(&self, target: &[u8], name: &[u8]) -> Result<(), TreeError> {
        self.leaf("make the symbolic link", name, |name| rustix::fs::symlinkat(target, self, name))
    }

    /// Makes the named pipe `name`.
    ///
    /// # Errors
    /// [`TreeError::is_exists`] when the name is taken.
    pub fn mkfifo(&self, name: &[u8], mode: u32) -> Result<(), TreeError> {
        let mode = Mode::from_raw_mode(mode & 0o7777);
        self.leaf("make the named pipe", name, |name| rustix::fs::mknodat(self, name, FileType::Fifo, mode, 0))
    }

    /// Makes the device node `name`; `kind` is [`FileKind::CharDevice`] or [`FileKind::BlockDevice`].
    ///
    /// # Errors
    /// [`TreeError::is_permission`] unless root.
    pub fn mknod(&self, name: &[u8], kind: FileKind, mode: u32, major: u32, minor: u32) -> Result<(), TreeError> {
        let file_type = match kind {
            FileKind::CharDevice => Ok(FileType::CharacterDevice),
            FileKind::BlockDevice => Ok(FileType::BlockDevice),
            _ => Err(Errno::INVAL),
        };
        let dev = rustix::fs::makedev(major, minor);
        self.leaf("make the device", name, |name| {
            rustix::fs::mknodat(self, name, file_type?, Mode::from_raw_mode(mode & 0o7777), dev)
        })
    }

    /// Gives the inode at `name` another name, `to/name2`; a symbolic link is linked itself.
    ///
    /// # Errors
    /// [`TreeError::is_exists`] when the new name is taken.
    pub fn link(&self, name: &[u8], to: &SafeDir, name2: &[u8]) -> Result<(), TreeError> {
        self.leaf("link", name, |_| Ok(()))?;
        to.leaf("link to", name2, |name2| rustix::fs::linkat(self, name, to, name2, AtFlags::empty()))
    }

    /// Moves `name` to `to/name2`, replacing what is there. Between two links of one inode this does nothing at all,
    /// and says success: that is POSIX.
    ///
    /// # Errors
    /// [`TreeError::is_cross_device`], [`TreeError::is_not_empty`].
    pub fn rename(&self, name: &[u8], to: &SafeDir, name2: &[u8]) -> Result<(), TreeError> {
        self.rename_with(name, to, name2, RenameFlags::empty())
    }

    /// Moves `name` to `to/name2`, which must not be there. Where the file system lacks the call (NFS, some FUSE) the
    /// target is looked at first; only a writer beside us could slip in between, and a store has one writer.
    ///
    /// # Errors
    /// [`TreeError::is_exists`] when the new name is taken.
    pub fn rename_noreplace(&self, name: &[u8], to: &SafeDir, name2: &[u8]) -> Result<(), TreeError> {
        match self.rename_with(name, to, name2, RenameFlags::NOREPLACE) {
            Err(e) if e.source.raw_os_error() == Some(Errno::INVAL.raw_os_error()) || e.is_unsupported() => {
                self.rename_after_look(name, to, name2)
            }
            done => done,
        }
    }

    pub(super) fn rename_after_look(&self, name: &[u8], to: &SafeDir, name2: &[u8]) -> Result<(), TreeError> {
        match to.stat(name2) {
            Ok(_) => Err(TreeError::new("move to", to.label(), name2, Errno::EXIST)),
            Err(e) if e.is_not_found() => self.rename(name, to, name2),
            Err(e) => Err(e),
        }
    }

    /// Swaps `name` and `to/name2` in one step.
    ///
    /// # Errors
    /// EINVAL where the file system cannot do it.
    pub fn exchange(&self, name: &[u8], to: &SafeDir, name2: &[u8]) -> Result<(), TreeError> {
        self.rename_with(name, to, name2, RenameFlags::EXCHANGE)
    }

    fn rename_with(&self, name: &[u8], to: &SafeDir, name2: &[u8], flags: RenameFlags) -> Result<(), TreeError> {
        self.leaf("move", name, |_| Ok(()))?;
        to.leaf("move to", name2, |name2| {
            if flags.is_empty() {
                rustix::fs::renameat(self, name, to, name2)
            } else {
                rustix::fs::renameat_with(self, name, to, name2, flags)
            }
        })
    }

    /// Removes a name that is no directory.
    ///
    /// # Errors
    /// [`TreeError::is_not_found`] when there is none.
    pub fn unlink(&self, name: &[u8]) -> Result<(), TreeError> {
        self.leaf("remove", name, |name| rustix::fs::unlinkat(self, name, AtFlags::empty()))
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// [`TreeError::is_not_empty`].
    pub fn rmdir(&self, name: &[u8]) -> Result<(), TreeError> {
        self.leaf("remove the folder", name, |name| rustix::fs::unlinkat(self, name, AtFlags::REMOVEDIR))
    }

    /// What the symbolic link `name` says.
    ///
    /// # Errors
    /// EINVAL when it is no symbolic link.
    pub fn read_link(&self, name: &[u8]) -> Result<Vec<u8>, TreeError> {
        self.leaf("read the symbolic link", name, |name| rustix::fs::readlinkat(self, name, Vec::new()))
            .map(std::ffi::CString::into_bytes)
    }
}
