//! Paths that the person at the keyboard named: a source, a store, a file of patterns. Symbolic links are followed, as in
//! every other program; nobody but that person has a say in what they are.
//!
//! What stands below such a path belongs to a peer or to the program, and is reached through [`super::safe_dir`] or
//! [`super::own`]. Nothing that came from a peer may be put into a path that is given to this file.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::own::read_to_end;

/// What the path leads to.
///
/// # Errors
/// The operating system's.
pub fn look(path: &Path) -> io::Result<Metadata> {
    fs::metadata(path)
}

/// What stands there itself, a symbolic link included.
///
/// # Errors
/// The operating system's.
pub fn look_at_name(path: &Path) -> io::Result<Metadata> {
    fs::symlink_metadata(path)
}

/// Whether nothing has that name. False also when that cannot be found out.
pub fn is_absent(path: &Path) -> bool {
    look_at_name(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
}

/// Whether it leads to a folder.
pub fn is_dir(path: &Path) -> bool {
    look(path).is_ok_and(|found| found.is_dir())
}

/// The same place, without symbolic links in its path.
///
/// # Errors
/// The operating system's.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    fs::canonicalize(path)
}

/// Reads a file whole; more than `bytes_max` is an error.
///
/// # Errors
/// The operating system's, or [`io::ErrorKind::InvalidData`] when the file is too large.
pub fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    read_to_end(File::open(path)?, bytes_max)
}

/// Reads a text whole; more than `bytes_max` is an error.
///
/// # Errors
/// As [`read`]; [`io::ErrorKind::InvalidData`] also when it is no text.
pub fn read_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    String::from_utf8(read(path, bytes_max)?).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// The names of the folders in a folder, sorted as bytes; a link to one counts.
///
/// # Errors
/// The operating system's.
pub fn folders(path: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() || (kind.is_symlink() && is_dir(&entry.path())) {
            names.push(entry.file_name());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Makes a folder and those above it that are missing, with `mode` less the process' umask; fine if it is there.
///
/// # Errors
/// The operating system's.
pub fn make_dirs(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path)
}

/// Makes one folder; not those above it, which may be the mount point of a disk that is not there.
///
/// # Errors
/// The operating system's.
pub fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().mode(mode).create(path)
}

/// Makes a folder as [`make_dirs`], and gives its path without symbolic links: what lies below is [`super::own`]'s.
///
/// # Errors
/// The operating system's.
pub fn make_own(path: &Path, mode: u32) -> io::Result<PathBuf> {
    make_dirs(path, mode)?;
    resolve(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_and_resolved_and_sizes_are_bounded() {
        let temp = tempfile::tempdir().unwrap();
        let (real, link) = (temp.path().join("real/deep"), temp.path().join("link"));
        std::os::unix::fs::symlink(temp.path().join("real"), &link).unwrap();
        assert!(is_absent(&real) && !is_absent(&link) && !is_dir(&link));
        assert_eq!(make_own(&temp.path().join("real"), 0o700).unwrap(), resolve(&link).unwrap());
        assert_eq!(make_own(&link.join("deep"), 0o700).unwrap(), resolve(&real).unwrap());
        assert!(is_dir(&link) && look_at_name(&link).unwrap().is_symlink());
        fs::write(link.join("text"), "four").unwrap();
        assert_eq!(read_text(&link.join("text"), 4).unwrap(), "four");
        assert_eq!(read(&link.join("text"), 3).unwrap_err().kind(), io::ErrorKind::InvalidData);
        fs::write(link.join("text"), b"\xff").unwrap();
        assert_eq!(read_text(&link.join("text"), 4).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
