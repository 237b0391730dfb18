//! Small files of the store, written whole or not at all.
//!
//! Written beside their place under a name that begins with [`TEMP_PREFIX`], flushed, renamed, and the directory flushed:
//! after a power cut the file is there whole, or not at all. What a crash leaves behind begins with [`TEMP_PREFIX`] and is
//! cleared when the store is opened for writing. Only for operator paths within `.rbbackup`: nothing here follows a
//! name that came from a peer unchecked.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Names that begin so are unfinished; no finished file of the store begins with a dot.
pub const TEMP_PREFIX: &str = ".tmp-";

/// Writes `name` in `dir`, mode 0600, replacing what is there; durable when this returns.
///
/// # Errors
/// The operating system's; nothing has changed then, save perhaps the durability of a file that is already in place.
pub fn write_file(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let temp = dir.join(format!("{TEMP_PREFIX}{name}"));
    let written = write_synced(&temp, content).and_then(|()| fs::rename(&temp, dir.join(name)));
    if written.is_err() {
        // Best effort: the next opening clears it otherwise.
        let _ = fs::remove_file(&temp);
    }
    written?;
    sync_dir(dir)
}

/// As [`write_file`], but without waiting for the disk: after a power cut the file may be missing or damaged.
///
/// # Errors
/// The operating system's.
pub fn write_file_lazily(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let temp = dir.join(format!("{TEMP_PREFIX}{name}"));
    let written = write_plain(&temp, content).and_then(|()| fs::rename(&temp, dir.join(name)));
    if written.is_err() {
        let _ = fs::remove_file(&temp);
    }
    written
}

/// Writes a file anew, mode 0600, under its own name and without waiting for the disk: for drafts that a flush of
/// everything makes durable.
///
/// # Errors
/// The operating system's; nothing is left then.
pub fn write_plain(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let written = file.write_all(content);
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Makes what was created, renamed or removed in `dir` durable.
///
/// # Errors
/// The operating system's.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Creates one directory with mode 0700; it is fine if it is there already.
///
/// # Errors
/// The operating system's, also when something that is no directory has that name.
pub fn make_dir(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

/// Reads a small file whole; more than `bytes_max` is an error.
///
/// # Errors
/// The operating system's, or [`io::ErrorKind::InvalidData`] when the file is too large.
pub fn read_file(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut content)?;
    if content.len() as u64 > bytes_max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is larger than {bytes_max} bytes")));
    }
    Ok(content)
}

/// Removes what unfinished writes left in `dir`; a directory that is not there is fine.
///
/// # Errors
/// The operating system's.
pub fn clear_temp(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(TEMP_PREFIX.as_bytes()) && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        write_file(dir.path(), "x", b"one").unwrap();
        write_file(dir.path(), "x", b"two").unwrap();
        assert_eq!(read_file(&dir.path().join("x"), 3).unwrap(), b"two");
        assert!(read_file(&dir.path().join("x"), 2).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_unfinished_files_are_cleared() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".tmp-x"), b"half").unwrap();
        fs::write(dir.path().join("y"), b"whole").unwrap();
        clear_temp(dir.path()).unwrap();
        clear_temp(&dir.path().join("absent")).unwrap();
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["y"]);
    }
}
