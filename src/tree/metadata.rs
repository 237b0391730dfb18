//! Mode, owner, times and xattrs: read from a source, brought to what the plain copy holds, put back on restore.
//!
//! What plain files should not or cannot hold stays in the manifest alone ([`disk_form`]): setuid and setgid bits,
//! `security.*` and `trusted.*` always; owner and ACLs where the daemon is not root. A daemon that is not root adds
//! `u+rwX`, so that it cannot lock itself out.
//!
//! The order of [`apply`] is owner, xattrs, mode, times: a change of owner clears setuid and capabilities, an xattr
//! needs a file that may be written, an access ACL sets the mode's group bits, and times come last because nothing
//! after them may touch the inode.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;

use super::error::TreeError;
use super::safe_dir::SafeDir;
use super::stat::{FileKind, Stat};
use super::xattrs::{ACL_ACCESS, ACL_DEFAULT, InodeRef, acl_group_bits, read_xattrs};
use crate::backup::bytes::escape;
use crate::backup::entry::{Entry, Kind, Meta, Xattr};
use crate::backup::fingerprint::Timestamp;

/// Reads everything about `name` that an entry's [`Meta`] holds; `stat` is what was seen of it.
///
/// # Errors
/// When the xattrs cannot be read; [`Stat::meta`] is the rest.
pub fn read_meta(dir: &SafeDir, name: &[u8], stat: &Stat) -> Result<Meta, TreeError> {
    Ok(Meta { xattrs: read_xattrs(dir, name)?, ..stat.meta() })
}

/// What a store may put into its plain copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorePolicy {
    /// The process may change owners.
    pub is_root: bool,
}

impl StorePolicy {
    /// That of this process.
    pub fn current() -> Self {
        Self { is_root: rustix::process::geteuid().is_root() }
    }
}

/// What shall be true of an inode; the wanted side of [`apply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskForm {
    /// What stands on disk; `None`: nothing (a device, which only the manifest holds).
    pub kind: Option<FileKind>,
    /// Permission bits; of no meaning for a symbolic link.
    pub mode: u32,
    /// Owner and group; `None`: whoever creates it.
    pub owner: Option<(u32, u32)>,
    /// Time of the last change of content.
    pub mtime: Timestamp,
    /// Xattrs, sorted by name.
    pub xattrs: Vec<Xattr>,
    /// Xattrs that are there and not wanted are removed, if they are of these namespaces.
    pub scope: XattrScope,
}

/// Which xattrs are ours to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrScope {
    /// `user.*` and POSIX ACLs: what a plain copy holds.
    Plain,
    /// The same and `security.capability`: what a restored file has. `security.selinux` belongs to the machine.
    Restored,
}

impl XattrScope {
    fn has(self, name: &[u8]) -> bool {
        name.starts_with(b"user.")
            || name == ACL_ACCESS
            || name == ACL_DEFAULT
            || (self == Self::Restored && name == b"security.capability")
    }
}

/// What differs between an inode and its wanted form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MetaDiff {
    /// Another kind: it must be replaced, nothing else counts.
    pub kind: bool,
    /// Permission bits.
    pub mode: bool,
    /// Owner or group.
    pub owner: bool,
    /// Time.
    pub mtime: bool,
    /// Xattrs, where both sides are known.
    pub xattrs: bool,
}

impl MetaDiff {
    /// Whether anything differs.
    pub fn any(self) -> bool {
        self.kind || self.mode || self.owner || self.mtime || self.xattrs
    }
}

impl DiskForm {
    /// What differs from what is there; no system call. `xattrs`: those that are there, sorted, if they are known.
    pub fn diff(&self, present: &Stat, xattrs: Option<&[Xattr]>) -> MetaDiff {
        let symlink = self.kind == Some(FileKind::Symlink);
        MetaDiff {
            kind: self.kind != Some(present.kind),
            mode: !symlink && self.mode != present.mode,
            owner: self.owner.is_some_and(|owner| owner != (present.uid, present.gid)),
            mtime: self.mtime != present.mtime,
            xattrs: xattrs.is_some_and(|there| {
                !there
                    .iter()
                    .filter(|x| self.scope.has(x.name.as_slice()))
                    .eq(self.xattrs.iter().filter(|x| self.scope.has(x.name.as_slice())))
            }),
        }
    }
}

/// What the plain copy should hold of `entry`.
pub fn disk_form(entry: &Entry, policy: StorePolicy) -> DiskForm {
    let meta = &entry.meta;
    let kind = kind_of(&entry.kind);
    let keeps_acl = |name: &[u8]| policy.is_root && (name == ACL_ACCESS || name == ACL_DEFAULT);
    let on_link = kind == FileKind::Symlink;
    let xattrs = meta.xattrs.iter().filter(|x| {
        let name = x.name.as_slice();
        !on_link && (name.starts_with(b"user.") || keeps_acl(name))
    });
    let mut mode = meta.mode & 0o1777;
    if !policy.is_root {
        mode = without_acl(mode, &meta.xattrs) | 0o600;
        if kind == FileKind::Dir || mode & 0o111 != 0 {
            mode |= 0o100;
        }
    }
    DiskForm {
        kind: Some(kind).filter(|k| !matches!(k, FileKind::CharDevice | FileKind::BlockDevice)),
        mode,
        owner: policy.is_root.then_some((meta.uid, meta.gid)),
        mtime: meta.mtime,
        xattrs: xattrs.cloned().collect(),
        scope: XattrScope::Plain,
    }
}

/// The kind of inode that an entry describes.
pub fn kind_of(kind: &Kind) -> FileKind {
    match kind {
        Kind::Dir => FileKind::Dir,
        Kind::File(_) => FileKind::File,
        Kind::Symlink { .. } => FileKind::Symlink,
        Kind::Fifo => FileKind::Fifo,
        Kind::CharDevice { .. } => FileKind::CharDevice,
        Kind::BlockDevice { .. } => FileKind::BlockDevice,
    }
}

/// The mode of a file that loses its access ACL: the group bits showed the mask, now they are the group's own.
fn without_acl(mode: u32, xattrs: &[Xattr]) -> u32 {
    let acl = xattrs.iter().find(|x| x.name.as_slice() == ACL_ACCESS);
    match acl.and_then(|x| acl_group_bits(x.value.as_slice())) {
        Some(group) => mode & !0o070 | (mode & 0o070 & (group << 3)),
        None => mode,
    }
}

/// An inode whose metadata is to be set.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// An open file, and the path it is shown with.
    File(&'a File, &'a [u8]),
    /// An open directory.
    Dir(&'a SafeDir),
    /// One name in a directory, whatever it is; a symbolic link is not followed.
    Name(&'a SafeDir, &'a [u8]),
}

impl Place<'_> {
    fn error(&self, op: &'static str, source: Errno) -> TreeError {
        match self {
            Self::File(_, label) => TreeError::new(op, label, b"", source),
            Self::Dir(dir) => TreeError::new(op, dir.label(), b"", source),
            Self::Name(dir, name) => TreeError::new(op, dir.label(), name, source),
        }
    }

    fn stat(&self) -> Result<Stat, TreeError> {
        match self {
            Self::File(file, _) => stat_file(file).map_err(|e| self.error("look at", e)),
            Self::Dir(dir) => dir.stat_self(),
            Self::Name(dir, name) => dir.stat(name),
        }
    }

    fn xattrs(&self, kind: FileKind) -> Result<InodeRef<'_>, TreeError> {
        Ok(match self {
            Self::File(file, _) => InodeRef::Fd(file.as_fd()),
            Self::Dir(dir) => InodeRef::Fd(dir.as_fd()),
            Self::Name(dir, name) if kind == FileKind::Symlink => {
                dir.checked("write to", name)?;
                InodeRef::named(dir, name)
            }
            Self::Name(dir, name) => InodeRef::handle(dir.open_handle(name)?),
        })
    }

    fn set_owner(&self, uid: u32, gid: u32) -> Result<(), Errno> {
        // 2^32 - 1 means "leave it" to the kernel; as an owner it can only come from a damaged manifest.
        if uid == u32::MAX || gid == u32::MAX {
            return Err(Errno::INVAL);
        }
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        match self {
            Self::File(file, _) => rustix::fs::fchown(file, uid, gid),
            Self::Dir(dir) => rustix::fs::fchown(dir, uid, gid),
            Self::Name(dir, name) => rustix::fs::chownat(dir, *name, uid, gid, AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    fn set_mode(&self, mode: u32) -> Result<(), TreeError> {
        let mode = Mode::from_raw_mode(mode);
        match self {
            Self::File(file, _) => rustix::fs::fchmod(file, mode),
            Self::Dir(dir) => rustix::fs::fchmod(dir, mode),
            // chmod by name would follow a link that was swapped in; through a handle it cannot.
            Self::Name(dir, name) => InodeRef::handle(dir.open_handle(name)?).set_mode(mode),
        }
        .map_err(|e| self.error("set the mode of", e))
    }

    fn set_mtime(&self, mtime: Timestamp) -> Result<(), TreeError> {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: mtime.secs, tv_nsec: i64::from(mtime.nanos.min(999_999_999)) },
        };
        match self {
            Self::File(file, _) => rustix::fs::futimens(file, &times),
            Self::Dir(dir) => rustix::fs::futimens(dir, &times),
            Self::Name(dir, name) => rustix::fs::utimensat(dir, *name, &times, AtFlags::SYMLINK_NOFOLLOW),
        }
        .map_err(|e| self.error("set the time of", e))
    }
}

/// Sets the time of the last change of content, and nothing else.
///
/// # Errors
/// The system's.
pub fn set_mtime(place: Place<'_>, mtime: Timestamp) -> Result<(), TreeError> {
    place.set_mtime(mtime)
}

/// `statx` of an open file.
pub(crate) fn stat_file(file: &File) -> Result<Stat, Errno> {
    rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, Stat::MASK).map(|x| Stat::from(&x))
}

/// Brings an inode to its wanted form, calling the system only for what differs. The answer is what could not be
/// applied and does not make the content worth less (owner, xattrs): in words, without the path.
///
/// # Errors
/// When mode or times cannot be set.
pub fn apply(place: Place<'_>, want: &DiskForm) -> Result<Vec<String>, TreeError> {
    let mut notes = Vec::new();
    let mut present = place.stat()?;
    let mut mode = want.mode;
    if let Some((uid, gid)) = want.owner.filter(|owner| *owner != (present.uid, present.gid)) {
        match place.set_owner(uid, gid) {
            // The kernel may have cleared bits; look again at what is there.
            Ok(()) => present = place.stat()?,
            Err(e) => {
                notes.push(format!("owner {uid}:{gid}: {}", words(e)));
                // The group alone is often allowed; a setuid file of another owner is not what was backed up.
                if gid != present.gid && place.set_owner(present.uid, gid).is_ok() {
                    present = place.stat()?;
                }
                let lost = mode & if gid == present.gid { 0o4000 } else { 0o6000 };
                if lost != 0 && present.kind != FileKind::Dir {
                    notes.push(format!("mode {mode:04o}: set-id bits are not given to another owner"));
                    mode &= !lost;
                }
            }
        }
    }
    let acl_lost = apply_xattrs(place, want, &mut present, &mut notes)?;
    if acl_lost {
        mode = without_acl(mode, &want.xattrs);
    }
    if present.kind != FileKind::Symlink && present.mode != mode {
        place.set_mode(mode)?;
        let granted = mode & 0o7000;
        if granted != 0 && place.stat()?.mode & granted != granted {
            notes.push(format!("mode {mode:04o}: the system did not grant all of it"));
        }
    }
    if present.mtime != want.mtime {
        place.set_mtime(want.mtime)?;
    }
    Ok(notes)
}

/// Says whether the access ACL could not be set. `present.mode` and `present.mtime` are true again afterwards.
fn apply_xattrs(
    place: Place<'_>,
    want: &DiskForm,
    present: &mut Stat,
    notes: &mut Vec<String>,
) -> Result<bool, TreeError> {
    // Plain symbolic links cannot have any; spare the calls.
    if present.kind == FileKind::Symlink && want.xattrs.is_empty() && want.scope == XattrScope::Plain {
        return Ok(false);
    }
    let xattrs = place.xattrs(present.kind)?;
    let there = match xattrs.read() {
        Ok(there) => there,
        Err(e) => {
            if !want.xattrs.is_empty() {
                notes.push(format!("attributes: {}", words(e)));
            }
            return Ok(want.xattrs.iter().any(|x| x.name.as_slice() == ACL_ACCESS));
        }
    };
    let mut acl_lost = false;
    let mut touched = false;
    for old in there.iter().filter(|x| want.scope.has(x.name.as_slice())) {
        if want.xattrs.iter().any(|x| x.name == old.name) {
            continue;
        }
        touched = true;
        if let Err(e) = writable(place, present, || xattrs.remove(old.name.as_slice())) {
            notes.push(format!("attribute {} cannot be removed: {}", escape(old.name.as_slice()), words(e)));
        }
    }
    for new in want.xattrs.iter().filter(|x| !there.contains(x)) {
        touched = true;
        if let Err(e) = writable(place, present, || xattrs.set(new)) {
            acl_lost |= new.name.as_slice() == ACL_ACCESS;
            notes.push(format!("attribute {}: {}", escape(new.name.as_slice()), words(e)));
        }
    }
    if touched {
        *present = place.stat()?;
    }
    Ok(acl_lost)
}

/// `user.*` can only be set on what may be written; the mode is put right afterwards by [`apply`].
fn writable(place: Place<'_>, present: &Stat, mut call: impl FnMut() -> Result<(), Errno>) -> Result<(), Errno> {
    match call() {
        Err(Errno::ACCESS) if present.mode & 0o200 == 0 && present.kind != FileKind::Symlink => {
            place.set_mode(present.mode | 0o200).map_err(|_| Errno::ACCESS)?;
            call()
        }
        done => done,
    }
}

fn words(errno: Errno) -> String {
    std::io::Error::from(errno).to_string()
}

/// What a restored inode should be: all that its entry says.
pub fn restored_form(entry: &Entry) -> DiskForm {
    let meta = &entry.meta;
    DiskForm {
        kind: Some(kind_of(&entry.kind)),
        mode: meta.mode & 0o7777,
        owner: Some((meta.uid, meta.gid)),
        mtime: meta.mtime,
        xattrs: meta.xattrs.clone(),
        scope: XattrScope::Restored,
    }
}

/// Gives a restored inode all that its entry says. The answer names what could not be applied, in words.
pub fn apply_restored(place: Place<'_>, entry: &Entry) -> Vec<String> {
    apply(place, &restored_form(entry)).unwrap_or_else(|e| vec![e.to_string()])
}

#[cfg(test)]
mod tests;
