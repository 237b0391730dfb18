//! Files of the program's own: those of `.rbbackup`, caches, states. Small ones are written whole or not at all.
//!
//! A path here is absolute and has no `.` or `..`; it begins with a folder whose symbolic links were resolved when it was
//! opened, and goes on with fixed names and with names that were made from what a peer said, and checked. So no symbolic
//! link may stand anywhere in it: each call opens the folder through [`SafeDir`] from the top, and does one thing to one
//! name in it. A link that somebody put there is an error (ELOOP), never followed.
//!
//! What is written whole is written beside its place under a name that begins with [`TEMP_PREFIX`], flushed, renamed, and
//! the folder flushed: after a power cut the file is there whole, or not at all. What a crash leaves behind begins with
//! [`TEMP_PREFIX`] and is cleared when the store is opened for writing.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::TreeError;
use super::safe_dir::SafeDir;
use super::stat::{FileKind, Stat};
use crate::backup::relpath::RelPath;

/// Names that begin so are unfinished; no finished file of the store begins with a dot.
pub const TEMP_PREFIX: &str = ".tmp-";

/// Of files: who else is on this machine shall not read them.
const FILE_MODE: u32 = 0o600;
/// Of folders.
const DIR_MODE: u32 = 0o700;

/// The path is with the caller, who says what it was wanted for.
fn io_error(error: TreeError) -> io::Error {
    error.source
}

/// Opens a folder.
///
/// # Errors
/// The operating system's; ELOOP when a symbolic link stands in the path.
pub fn folder(path: &Path) -> io::Result<SafeDir> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "a path that is not absolute and plain");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.components() {
        match part {
            Component::RootDir => {}
            Component::Normal(name) => parts.push(name.as_bytes()),
            _ => return Err(invalid()),
        }
    }
    if !path.has_root() {
        return Err(invalid());
    }
    let below = RelPath::new(&parts.join(&b'/')).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
    if below.is_root() {
        return SafeDir::open_operator(Path::new("/")).map_err(io_error);
    }
    SafeDir::top().and_then(|top| top.open_dir(&below)).map_err(io_error)
}

/// The folder that holds `path`, open, and the name in it.
fn place(path: &Path) -> io::Result<(SafeDir, &[u8])> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((folder(parent)?, name.as_bytes())),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "a path that names no file")),
    }
}

// ---- one file ----

/// Opens a file to read it.
///
/// # Errors
/// The operating system's.
pub fn open(path: &Path) -> io::Result<File> {
    let (dir, name) = place(path)?;
    dir.open_read(name).map_err(io_error)
}

/// Opens a file that is there to read and write it.
///
/// # Errors
/// The operating system's.
pub fn open_write(path: &Path) -> io::Result<File> {
    let (dir, name) = place(path)?;
    dir.open_write(name).map_err(io_error)
}

/// Opens a file to read and write it; made (0600) when it is not there.
///
/// # Errors
/// The operating system's.
pub fn open_or_create(path: &Path) -> io::Result<File> {
    let (dir, name) = place(path)?;
    dir.open_or_create(name, FILE_MODE).map_err(io_error)
}

/// Makes a file (0600) to read and write, which must not be there.
///
/// # Errors
/// The operating system's.
pub fn create_new(path: &Path) -> io::Result<File> {
    let (dir, name) = place(path)?;
    dir.create_new(name, FILE_MODE).map_err(io_error)
}

/// Opens a file (0600) to read and write, empty, whether it was there or not.
///
/// # Errors
/// The operating system's.
pub fn create(path: &Path) -> io::Result<File> {
    let file = open_or_create(path)?;
    file.set_len(0)?;
    Ok(file)
}

/// What stands there; a symbolic link is looked at itself.
///
/// # Errors
/// The operating system's.
pub fn look(path: &Path) -> io::Result<Stat> {
    let (dir, name) = place(path)?;
    dir.stat(name).map_err(io_error)
}

/// What an open file says of itself, in the standard library's words (times as the clock's).
///
/// # Errors
/// The operating system's.
pub fn metadata(path: &Path) -> io::Result<Metadata> {
    open(path)?.metadata()
}

/// Whether anything of that name is there.
///
/// # Errors
/// The operating system's.
pub fn exists(path: &Path) -> io::Result<bool> {
    match look(path) {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Whether a file is there that can be looked at.
pub fn is_file(path: &Path) -> bool {
    look(path).is_ok_and(|found| found.kind == FileKind::File)
}

/// Whether a folder is there that can be looked at.
pub fn is_dir(path: &Path) -> bool {
    look(path).is_ok_and(|found| found.kind == FileKind::Dir)
}

/// Moves a file, replacing what is there.
///
/// # Errors
/// The operating system's.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let (from_dir, from_name) = place(from)?;
    if from.parent() == to.parent() {
        let to_name = to.file_name().unwrap_or_default().as_bytes();
        return from_dir.rename(from_name, &from_dir, to_name).map_err(io_error);
    }
    let (to_dir, to_name) = place(to)?;
    from_dir.rename(from_name, &to_dir, to_name).map_err(io_error)
}

/// Removes a file.
///
/// # Errors
/// The operating system's.
pub fn remove(path: &Path) -> io::Result<()> {
    let (dir, name) = place(path)?;
    dir.unlink(name).map_err(io_error)
}

/// Reads a small file whole; more than `bytes_max` is an error.
///
/// # Errors
/// The operating system's, or [`io::ErrorKind::InvalidData`] when the file is too large.
pub fn read_file(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    read_to_end(open(path)?, bytes_max)
}

/// Reads an open file to its end; more than `bytes_max` is an error.
pub(super) fn read_to_end(file: File, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut content)?;
    if content.len() as u64 > bytes_max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is larger than {bytes_max} bytes")));
    }
    Ok(content)
}

// ---- written whole or not at all ----

/// Writes `name` in `dir`, mode 0600, replacing what is there; durable when this returns.
///
/// # Errors
/// The operating system's; nothing has changed then, save perhaps the durability of a file that is already in place.
pub fn write_file(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let dir = folder(dir)?;
    write_in(&dir, name, content, true)?;
    dir.sync().map_err(io_error)
}

/// As [`write_file`], but without waiting for the disk: after a power cut the file may be missing or damaged.
///
/// # Errors
/// The operating system's.
pub fn write_file_lazily(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    write_in(&folder(dir)?, name, content, false)
}

fn write_in(dir: &SafeDir, name: &str, content: &[u8], synced: bool) -> io::Result<()> {
    // Processes that share a folder (a client's state) may write the same file at once.
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let temp = format!("{TEMP_PREFIX}{}-{}", std::process::id(), WRITTEN.fetch_add(1, Ordering::Relaxed));
    let placed = |file: File| {
        if synced {
            file.sync_all()?;
        }
        dir.rename(temp.as_bytes(), dir, name.as_bytes()).map_err(io_error)
    };
    write_anew(dir, temp.as_bytes(), content, placed)
}

/// Writes a file from its beginning, and does with it what comes then. What cannot be finished is removed, best effort: the
/// next opening clears it otherwise.
fn write_anew(dir: &SafeDir, name: &[u8], content: &[u8], then: impl FnOnce(File) -> io::Result<()>) -> io::Result<()> {
    let mut file = dir.open_or_create(name, FILE_MODE).map_err(io_error)?;
    let written = file.set_len(0).and_then(|()| file.write_all(content)).and_then(|()| then(file));
    if written.is_err() {
        let _ = dir.unlink(name);
    }
    written
}

/// Writes a file anew, mode 0600, under its own name and without waiting for the disk: for drafts that a flush of
/// everything makes durable.
///
/// # Errors
/// The operating system's; nothing is left then.
pub fn write_plain(path: &Path, content: &[u8]) -> io::Result<()> {
    let (dir, name) = place(path)?;
    write_anew(&dir, name, content, |_| Ok(()))
}

/// Makes what was created, renamed or removed in `dir` durable.
///
/// # Errors
/// The operating system's.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    folder(dir)?.sync().map_err(io_error)
}

/// Gives what root made to the owner of the folder that it is in; who is not root has nothing to give.
///
/// # Errors
/// The operating system's.
pub fn hand_over(dir: &Path, name: &str) -> io::Result<()> {
    let folder = folder(dir)?;
    let owner = folder.stat_self().map_err(io_error)?;
    if !rustix::process::geteuid().is_root() || owner.uid == 0 {
        return Ok(());
    }
    folder.chown(name.as_bytes(), owner.uid, owner.gid).map_err(io_error)
}

// ---- folders ----

/// Creates one directory with mode 0700; it is fine if it is there already.
///
/// # Errors
/// The operating system's, also when something that is no directory has that name.
pub fn make_dir(path: &Path) -> io::Result<()> {
    let (dir, name) = place(path)?;
    match dir.mkdir(name, DIR_MODE) {
        Err(e) if e.is_exists() && dir.stat(name).is_ok_and(|found| found.kind == FileKind::Dir) => Ok(()),
        other => other.map_err(io_error),
    }
}

/// Gives a folder back the mode 0700, if it has another one.
///
/// # Errors
/// The operating system's.
pub fn make_private(path: &Path) -> io::Result<()> {
    folder(path)?.make_private().map(drop).map_err(io_error)
}

/// The names in a folder, sorted as bytes.
///
/// # Errors
/// The operating system's.
pub fn names(dir: &Path) -> io::Result<Vec<OsString>> {
    let names = folder(dir)?.names().map_err(io_error)?;
    Ok(names.into_iter().map(|entry| OsString::from_vec(entry.name)).collect())
}

/// Removes a folder and all that is in it; symbolic links are removed, not followed.
///
/// # Errors
/// The first thing that cannot be removed.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let (dir, name) = place(path)?;
    dir.remove_tree(name).map_err(io_error)
}

/// Removes what unfinished writes left in `dir`; a directory that is not there is fine.
///
/// # Errors
/// The operating system's.
pub fn clear_temp(dir: &Path) -> io::Result<()> {
    let dir = match folder(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in dir.names().map_err(io_error)? {
        if entry.name.starts_with(TEMP_PREFIX.as_bytes())
            && dir.stat(&entry.name).map_err(io_error)?.kind == FileKind::File
        {
            dir.unlink(&entry.name).map_err(io_error)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
