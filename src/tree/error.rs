//! [`TreeError`]: what went wrong on a disk, with the operation and the path in it.
//!
//! One kind for the whole layer: the operating system's error says what to do, and the questions below ask it
//! (is it gone? is the disk full? am I not allowed?), so that no caller compares numbers.

use std::io;

use rustix::io::Errno;

use crate::backup::bytes::escape;

/// A call to the file system that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {op} '{path}': {source}")]
pub struct TreeError {
    /// What was tried: a verb that reads well after "cannot".
    pub op: &'static str,
    /// The path as it is known to us, control bytes escaped.
    pub path: String,
    /// What the operating system said.
    pub source: io::Error,
}

impl TreeError {
    /// `op` failed on `dir/name`; either part may be empty.
    pub fn new(op: &'static str, dir: &[u8], name: &[u8], source: impl Into<io::Error>) -> Self {
        let mut path = dir.to_vec();
        if !dir.is_empty() && !name.is_empty() && !dir.ends_with(b"/") {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Self { op, path: escape(&path), source: source.into() }
    }

    fn is(&self, errno: Errno) -> bool {
        self.source.raw_os_error() == Some(errno.raw_os_error())
    }

    /// Nothing of that name is there (or one of its parents is no directory).
    pub fn is_not_found(&self) -> bool {
        self.is(Errno::NOENT) || self.is(Errno::NOTDIR)
    }

    /// A parent in the path is no directory.
    pub fn is_not_a_directory(&self) -> bool {
        self.is(Errno::NOTDIR)
    }

    /// Something of that name is there already.
    pub fn is_exists(&self) -> bool {
        self.is(Errno::EXIST)
    }

    /// A directory that should have been empty is not.
    pub fn is_not_empty(&self) -> bool {
        self.is(Errno::NOTEMPTY)
    }

    /// The disk or the quota is full.
    pub fn is_no_space(&self) -> bool {
        self.is(Errno::NOSPC) || self.is(Errno::DQUOT)
    }

    /// The system does not allow it.
    pub fn is_permission(&self) -> bool {
        self.is(Errno::ACCESS) || self.is(Errno::PERM)
    }

    /// The file system is mounted read-only.
    pub fn is_read_only(&self) -> bool {
        self.is(Errno::ROFS)
    }

    /// Source and target lie on different file systems.
    pub fn is_cross_device(&self) -> bool {
        self.is(Errno::XDEV)
    }

    /// A symbolic link stands where none may be followed, or the path leads outside.
    pub fn is_escape(&self) -> bool {
        self.is(Errno::LOOP) || self.is(Errno::XDEV)
    }

    /// The file system cannot do this at all.
    pub fn is_unsupported(&self) -> bool {
        self.is(Errno::OPNOTSUPP) || self.is(Errno::NOSYS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_a_sentence_with_an_escaped_path() {
        let error = TreeError::new("open", b"/srv", b"a\nb", Errno::NOENT);
        assert_eq!(error.to_string(), "cannot open '/srv/a\\x0ab': No such file or directory (os error 2)");
        assert!(error.is_not_found() && !error.is_no_space());
    }
}
