//! [`SafeDir`]: an open directory, the only door to the file system for paths that came from a peer.
//!
//! A path is resolved once, to a directory, by `openat2(BENEATH | NO_SYMLINKS | NO_MAGICLINKS)`;
//! where that call is missing (old kernels, gVisor) or forbidden (some containers answer EPERM) component by component
//! with `O_NOFOLLOW`. Everything else is a one-component `*at` call on the open directory (`safe_dir/leaf.rs`).
//!
//! Always holds: no symbolic link below the directory that the operator named is ever followed, and a name that is
//! empty, `.`, `..`, too long, or holds `/` or NUL never reaches the kernel.

mod leaf;
mod listing;
mod remove;

pub use listing::Listing;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::error::TreeError;
use super::stat::{FileKind, Stat};
use crate::backup::limits::NAME_BYTES_MAX;
use crate::backup::relpath::RelPath;

/// Set once `openat2` turned out to be missing; only this failure is remembered.
static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

/// The kernel takes at most 4095 bytes a call; longer paths are opened in steps.
const STEP_BYTES_MAX: usize = 4000;

/// Tries after EAGAIN, which `openat2` gives when a rename runs beside it.
const AGAIN_MAX: usize = 128;

/// The mode of a folder that is nobody else's.
const PRIVATE: u32 = 0o700;

pub(crate) const DIR_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// One name in a directory, as its listing gives it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirName {
    /// The name's bytes.
    pub name: Vec<u8>,
    /// Whether the listing says that this is a directory; `None`: it does not say.
    pub is_dir: Option<bool>,
}

/// An open directory. See the module for what always holds.
#[derive(Debug)]
pub struct SafeDir {
    fd: OwnedFd,
    /// For messages only, never resolved again.
    label: Arc<[u8]>,
}

impl SafeDir {
    /// Opens a directory that the operator named: trusted, symbolic links are followed.
    ///
    /// # Errors
    /// When it is not there, not a directory, or may not be read.
    pub fn open_operator(path: &Path) -> Result<Self, TreeError> {
        let bytes = path.as_os_str().as_bytes();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty())
            .map_err(|e| TreeError::new("open the folder", bytes, b"", e))?;
        Ok(Self { fd, label: bytes.into() })
    }

    /// `/`, to open what is below: neither listed nor flushed, so that who may see little of the disk can begin here.
    pub(super) fn top() -> Result<Self, TreeError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, c"/", flags, Mode::empty())
            .map_err(|e| TreeError::new("open the folder", b"/", b"", e))?;
        Ok(Self { fd, label: b"/".as_slice().into() })
    }

    /// Opens the directory at `path` below this one; the empty path gives this directory again.
    ///
    /// # Errors
    /// [`TreeError::is_escape`] when a symbolic link is in the way.
    pub fn open_dir(&self, path: &RelPath) -> Result<Self, TreeError> {
        self.open_dir_by(path, Resolver::Kernel)
    }

    fn open_dir_by(&self, path: &RelPath, by: Resolver) -> Result<Self, TreeError> {
        let fail = |e| TreeError::new("open the folder", &self.label, path.as_bytes(), e);
        if path.is_root() {
            return self.try_clone();
        }
        let mut fd: Option<OwnedFd> = None;
        for step in steps(path.as_bytes()) {
            let at = fd.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
            fd = Some(open_beneath(at, step, by).map_err(fail)?);
        }
        let fd = fd.ok_or_else(|| fail(Errno::INVAL))?;
        Ok(Self { fd, label: self.label_of(path.as_bytes()) })
    }

    /// Opens the directory `name` in this one.
    ///
    /// # Errors
    /// When it is not there, is a symbolic link or no directory, or may not be read.
    pub fn open_child(&self, name: &[u8]) -> Result<Self, TreeError> {
        let fd = self.leaf("open the folder", name, |name| {
            rustix::fs::openat(&self.fd, name, DIR_FLAGS, Mode::empty())
                .map_err(|e| symlink_or(self.fd.as_fd(), name, e))
        })?;
        Ok(Self { fd, label: self.label_of(name) })
    }

    /// Opens the directory at `path`, making those that are missing with `mode` (and the process' umask).
    ///
    /// # Errors
    /// [`TreeError::is_escape`] or [`TreeError::is_not_found`] when something else than a directory is in the way.
    pub fn make_dirs(&self, path: &RelPath, mode: u32) -> Result<Self, TreeError> {
        match self.open_dir(path) {
            Err(e) if e.is_not_found() => {}
            done => return done,
        }
        // Most often only the last one is missing.
        if let (Some(parent), Some(name)) = (path.parent().filter(|parent| !parent.is_root()), path.name())
            && let Ok(dir) = self.open_dir(&parent)
        {
            return dir.make_child(name, mode);
        }
        let mut dir = self.try_clone()?;
        for name in path.components() {
            dir = dir.make_child(name, mode)?;
        }
        Ok(dir)
    }

    /// The directory `name`, made if it is missing.
    fn make_child(&self, name: &[u8], mode: u32) -> Result<Self, TreeError> {
        match self.mkdir(name, mode) {
            Err(e) if !e.is_exists() => Err(e),
            _ => self.open_child(name),
        }
    }

    /// The directory above, if it is still the inode `expected`; `label` is what its paths shall be shown with.
    ///
    /// For walks that go back up without keeping every directory open. Somebody may have moved this directory; then
    /// `..` is another inode and the answer is ESTALE.
    pub(crate) fn open_parent(&self, expected: &Stat, label: &Arc<[u8]>) -> Result<Self, TreeError> {
        let fail = |e| TreeError::new("go back up to", label, b"", e);
        let fd = rustix::fs::openat(&self.fd, c"..", DIR_FLAGS, Mode::empty()).map_err(fail)?;
        let dir = Self { fd, label: label.clone() };
        if dir.stat_self()?.same_inode(expected) { Ok(dir) } else { Err(fail(Errno::STALE)) }
    }

    /// Another handle on the same directory.
    ///
    /// # Errors
    /// When the process has too many open files.
    pub fn try_clone(&self) -> Result<Self, TreeError> {
        let fd = self.fd.try_clone().map_err(|e| TreeError::new("open again", &self.label, b"", e))?;
        Ok(Self { fd, label: self.label.clone() })
    }

    /// What the directory itself is.
    ///
    /// # Errors
    /// Hardly ever; network file systems.
    pub fn stat_self(&self) -> Result<Stat, TreeError> {
        rustix::fs::statx(&self.fd, c"", AtFlags::EMPTY_PATH, Stat::MASK)
            .map(|x| Stat::from(&x))
            .map_err(|e| TreeError::new("look at", &self.label, b"", e))
    }

    /// Makes the directory's own entries durable.
    ///
    /// # Errors
    /// Whatever the flush reports; what was written may be lost then.
    pub fn sync(&self) -> Result<(), TreeError> {
        rustix::fs::fsync(&self.fd).map_err(|e| TreeError::new("flush", &self.label, b"", e))
    }

    /// Makes everything on this directory's file system durable.
    ///
    /// # Errors
    /// Whatever the flush reports (Linux 5.8 and later); what was written may be lost then.
    pub fn sync_fs(&self) -> Result<(), TreeError> {
        rustix::fs::syncfs(&self.fd).map_err(|e| TreeError::new("flush the file system of", &self.label, b"", e))
    }

    /// Takes everybody else's access to it away, if it is not 0700 already; says what mode it had.
    ///
    /// # Errors
    /// [`TreeError::is_permission`] when it is another user's.
    pub fn make_private(&self) -> Result<Option<u32>, TreeError> {
        let mode = self.stat_self()?.mode;
        if mode == PRIVATE {
            return Ok(None);
        }
        rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(PRIVATE))
            .map_err(|e| TreeError::new("take others' access away from", &self.label, b"", e))?;
        Ok(Some(mode))
    }

    /// The path this directory was opened by, for messages; it may have been renamed since.
    pub fn label(&self) -> &[u8] {
        &self.label
    }

    /// The directory as a file: for locks and for `fstat`-like calls that are not wrapped here.
    ///
    /// # Errors
    /// When the process has too many open files.
    pub fn to_file(&self) -> Result<File, TreeError> {
        Ok(self.try_clone()?.fd.into())
    }

    /// Refuses a name that must not reach the kernel; for calls by path that lie outside this file.
    pub(crate) fn checked(&self, op: &'static str, name: &[u8]) -> Result<(), TreeError> {
        self.leaf(op, name, |_| Ok(()))
    }

    fn label_of(&self, below: &[u8]) -> Arc<[u8]> {
        let mut label = Vec::with_capacity(self.label.len() + 1 + below.len());
        label.extend_from_slice(&self.label);
        if !label.ends_with(b"/") {
            label.push(b'/');
        }
        label.extend_from_slice(below);
        label.into()
    }

    /// Checks `name`, runs `call` on it, and names both in the error.
    fn leaf<T>(
        &self,
        op: &'static str,
        name: &[u8],
        call: impl FnOnce(&[u8]) -> Result<T, Errno>,
    ) -> Result<T, TreeError> {
        check_name(name).and_then(|()| call(name)).map_err(|e| TreeError::new(op, &self.label, name, e))
    }
}

impl AsFd for SafeDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// How a path of several components is resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolver {
    /// `openat2`, falling back where it is refused.
    Kernel,
    /// Component by component; what the fall-back does, named so that tests reach it.
    #[cfg_attr(not(test), allow(dead_code))]
    Components,
}

fn open_beneath(at: BorrowedFd<'_>, path: &[u8], by: Resolver) -> Result<OwnedFd, Errno> {
    if by == Resolver::Components || NO_OPENAT2.load(Ordering::Relaxed) {
        return open_by_components(at, path);
    }
    // Without O_NOFOLLOW: NO_SYMLINKS does that, and then says ELOOP and not ENOTDIR of a link at the end.
    let flags = DIR_FLAGS.difference(OFlags::NOFOLLOW);
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..AGAIN_MAX {
        match rustix::fs::openat2(at, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::NOSYS) => {
                NO_OPENAT2.store(true, Ordering::Relaxed);
                return open_by_components(at, path);
            }
            // A sandbox that forbids the call; opening a directory to read it never gives EPERM by itself.
            Err(Errno::PERM) => return open_by_components(at, path),
            done => return done,
        }
    }
    open_by_components(at, path)
}

/// `O_NOFOLLOW` on every single component: what `RESOLVE_NO_SYMLINKS` does, one call each.
fn open_by_components(at: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let through = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut fd: Option<OwnedFd> = None;
    let mut names = path.split(|b| *b == b'/').peekable();
    while let Some(name) = names.next() {
        check_name(name)?;
        let flags = if names.peek().is_some() { through } else { DIR_FLAGS };
        let here = fd.as_ref().map_or(at, AsFd::as_fd);
        let next = rustix::fs::openat(here, name, flags, Mode::empty()).map_err(|e| symlink_or(here, name, e))?;
        fd = Some(next);
    }
    fd.ok_or(Errno::INVAL)
}

/// With `O_DIRECTORY` the kernel says ENOTDIR of a symbolic link; say ELOOP as `openat2` does.
fn symlink_or(at: BorrowedFd<'_>, name: &[u8], error: Errno) -> Errno {
    if error != Errno::NOTDIR {
        return error;
    }
    match rustix::fs::statx(at, name, AtFlags::SYMLINK_NOFOLLOW, Stat::MASK) {
        Ok(x) if Stat::from(&x).kind == FileKind::Symlink => Errno::LOOP,
        _ => error,
    }
}

/// Cuts a long path at component boundaries into pieces that one call takes.
fn steps(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = path;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if rest.len() <= STEP_BYTES_MAX {
            return Some(std::mem::take(&mut rest));
        }
        let cut = rest.get(..STEP_BYTES_MAX)?.iter().rposition(|b| *b == b'/')?;
        let (step, after) = rest.split_at_checked(cut)?;
        rest = after.get(1..)?;
        Some(step)
    })
}

/// A name that may be given to the kernel as one component.
fn check_name(name: &[u8]) -> Result<(), Errno> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Errno::NAMETOOLONG);
    }
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
        return Err(Errno::INVAL);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
