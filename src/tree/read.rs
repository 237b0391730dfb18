//! [`FileReader`]: reads a file once, and tells whether it held still meanwhile.

use std::fs::File;
use std::io::{Seek, SeekFrom};

use rustix::buffer::spare_capacity;
use rustix::fs::Advice;
use rustix::io::Errno;

use super::error::TreeError;
use super::metadata::stat_file;
use super::safe_dir::SafeDir;
use super::stat::{FileKind, Stat};
use super::xattrs::read_xattrs_fd;
use crate::backup::entry::Xattr;

/// What is read at once: BLAKE3 is at its best from here on, and a cache still holds it.
pub const READ_BYTES: usize = 1024 * 1024;

/// A regular file that is being read.
#[derive(Debug)]
pub struct FileReader {
    file: File,
    before: Stat,
    label: Vec<u8>,
    offset: u64,
}

impl FileReader {
    /// Opens the regular file `name` in `dir`.
    ///
    /// # Errors
    /// Those of [`SafeDir::open_read`]; EINVAL when it is no regular file any more.
    pub fn open(dir: &SafeDir, name: &[u8]) -> Result<Self, TreeError> {
        Self::from_file(dir.open_read(name)?, label_of(dir, name))
    }

    /// As [`FileReader::open`], without looking at what was `seen` a moment ago: one call less a file. Whether it is another
    /// one by now, or of another kind, [`FileReader::held_still`] tells.
    ///
    /// # Errors
    /// Those of [`SafeDir::open_read`].
    pub fn open_seen(dir: &SafeDir, name: &[u8], seen: &Stat) -> Result<Self, TreeError> {
        if seen.kind != FileKind::File {
            return Self::open(dir, name);
        }
        let file = dir.open_read(name)?;
        Ok(Self::begin(file, label_of(dir, name), *seen))
    }

    /// Takes over an open file; `label` is what it is called in messages.
    ///
    /// # Errors
    /// EINVAL when it is no regular file.
    pub fn from_file(file: File, label: Vec<u8>) -> Result<Self, TreeError> {
        let before = stat_file(&file).map_err(|e| TreeError::new("look at", &label, b"", e))?;
        if before.kind != FileKind::File {
            return Err(TreeError::new("read as a file", &label, b"", Errno::INVAL));
        }
        Ok(Self::begin(file, label, before))
    }

    fn begin(file: File, label: Vec<u8>, before: Stat) -> Self {
        if before.size > READ_BYTES as u64 {
            // Only a hint: twice the read-ahead.
            let _ = rustix::fs::fadvise(&file, 0, None, Advice::Sequential);
        }
        Self { file, before, label, offset: 0 }
    }

    /// What the file was when reading began.
    pub fn stat(&self) -> &Stat {
        &self.before
    }

    /// How much has been read.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Fills `buf` from where the last call ended. Less than its length means the end of the file.
    ///
    /// # Errors
    /// What the disk says.
    pub fn read(&mut self, buf: &mut [u8]) -> Result<usize, TreeError> {
        let mut filled = 0;
        while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match rustix::io::read(&self.file, rest) {
                Ok(0) => break,
                Ok(len) => filled += len,
                Err(Errno::INTR) => {}
                Err(e) => return Err(TreeError::new("read", &self.label, b"", e)),
            }
        }
        self.offset += filled as u64;
        Ok(filled)
    }

    /// Makes room for `len` bytes at the end of `buf` and fills it, and what more room there was, from where the last
    /// call ended; says how many. Less than `len` means the end of the file. Nothing is written twice, as in a buffer
    /// that is filled with zeros first.
    ///
    /// # Errors
    /// What the disk says.
    pub fn append(&mut self, buf: &mut Vec<u8>, len: usize) -> Result<usize, TreeError> {
        buf.reserve(len);
        let mut filled = 0;
        while filled < len {
            match rustix::io::read(&self.file, spare_capacity(buf)) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(Errno::INTR) => {}
                Err(e) => return Err(TreeError::new("read", &self.label, b"", e)),
            }
        }
        self.offset += filled as u64;
        Ok(filled)
    }

    /// Appends all that the file holds by its [`FileReader::stat`], without asking whether that was the end: a file that
    /// has grown has not [held still](FileReader::held_still). One that says that it is empty is read to its end: files
    /// of the kernel's say so.
    ///
    /// # Errors
    /// What the disk says; EFBIG when that is more than `max` bytes.
    pub fn append_all(&mut self, buf: &mut Vec<u8>, max: usize) -> Result<(), TreeError> {
        // Of one that says nothing: as much as there is room for, until nothing comes.
        let len = usize::try_from(self.before.size).unwrap_or(usize::MAX).min(max.saturating_add(1)).max(1);
        loop {
            let read = self.append(buf, len)?;
            if self.offset > max as u64 {
                return Err(TreeError::new("read", &self.label, b"", Errno::FBIG));
            }
            if self.before.size > 0 || read < len {
                return Ok(());
            }
        }
    }

    /// Whether the file is still what it was when reading began, and as long as what was read (call it at the end).
    ///
    /// # Errors
    /// What the disk says.
    pub fn held_still(&self) -> Result<bool, TreeError> {
        let after = stat_file(&self.file).map_err(|e| TreeError::new("look at", &self.label, b"", e))?;
        Ok(after.fingerprint() == self.before.fingerprint() && self.offset == after.size)
    }

    /// Goes back to the beginning, to read again what did not hold still.
    ///
    /// # Errors
    /// What the disk says.
    pub fn restart(&mut self) -> Result<(), TreeError> {
        let fail = |e: std::io::Error| TreeError::new("read again", &self.label, b"", e);
        self.file.seek(SeekFrom::Start(0)).map_err(fail)?;
        self.before = stat_file(&self.file).map_err(|e| fail(e.into()))?;
        self.offset = 0;
        Ok(())
    }

    /// Continues at `offset`.
    ///
    /// # Errors
    /// What the disk says.
    pub fn seek(&mut self, offset: u64) -> Result<(), TreeError> {
        self.file.seek(SeekFrom::Start(offset)).map_err(|e| TreeError::new("read", &self.label, b"", e))?;
        self.offset = offset;
        Ok(())
    }

    /// The file's xattrs: one call on the open descriptor where it has none.
    ///
    /// # Errors
    /// Those of [`read_xattrs_fd`].
    pub fn xattrs(&self) -> Result<Vec<Xattr>, TreeError> {
        read_xattrs_fd(&self.file, &self.label)
    }

    /// Whether the file has real holes. Few blocks alone may be compression, so the file system is asked.
    pub fn has_holes(&self) -> bool {
        if !self.before.may_have_holes() {
            return false;
        }
        // A handle of its own would share the position: put it back where reading goes on.
        let hole = rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Hole(0));
        let back = rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Start(self.offset));
        back.is_ok() && hole.is_ok_and(|at| at < self.before.size)
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

fn label_of(dir: &SafeDir, name: &[u8]) -> Vec<u8> {
    [dir.label(), b"/", name].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    fn scratch() -> (tempfile::TempDir, SafeDir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = SafeDir::open_operator(temp.path()).unwrap();
        (temp, dir)
    }

    #[test]
    fn reads_all_of_it_in_any_pieces() {
        let (_temp, dir) = scratch();
        let content: Vec<u8> = (0..100_003_u32).map(|i| (i % 251) as u8).collect();
        dir.create_new(b"f", 0o600).unwrap().write_all(&content).unwrap();
        for piece in [1000, 4096, 200_000] {
            let mut reader = FileReader::open(&dir, b"f").unwrap();
            let (mut all, mut buf) = (Vec::new(), vec![0; piece]);
            loop {
                let len = reader.read(&mut buf).unwrap();
                all.extend_from_slice(&buf[..len]);
                if len < piece {
                    break;
                }
            }
            assert_eq!(all, content);
            assert!(reader.held_still().unwrap() && !reader.has_holes());
        }
    }

    #[test]
    fn a_file_that_changes_is_noticed_and_read_again() {
        let (_temp, dir) = scratch();
        let mut file = dir.create_new(b"f", 0o600).unwrap();
        file.write_all(&[1; 5000]).unwrap();
        let mut reader = FileReader::open(&dir, b"f").unwrap();
        let mut buf = vec![0; 10_000];
        assert_eq!(reader.read(&mut buf).unwrap(), 5000);
        file.write_all(&[2; 10]).unwrap();
        assert!(!reader.held_still().unwrap());
        reader.restart().unwrap();
        assert_eq!(reader.read(&mut buf).unwrap(), 5010);
        assert!(reader.held_still().unwrap());
        file.set_len(100).unwrap();
        assert!(!reader.held_still().unwrap());
        reader.restart().unwrap();
        assert!(!reader.held_still().unwrap(), "not read to its end yet");
    }

    #[test]
    fn what_was_seen_is_read_with_one_look() {
        let (_temp, dir) = scratch();
        let content: Vec<u8> = (0..5003_u32).map(|i| (i % 251) as u8).collect();
        dir.create_new(b"f", 0o600).unwrap().write_all(&content).unwrap();
        let seen = dir.stat(b"f").unwrap();
        let read = |max| {
            let (mut reader, mut all) = (FileReader::open_seen(&dir, b"f", &seen).unwrap(), b"before".to_vec());
            reader.append_all(&mut all, max).map(|()| (reader.held_still().unwrap(), all.split_off(6)))
        };
        assert_eq!(read(5003).unwrap(), (true, content.clone()));
        assert!(read(5002).is_err());
        // It grows, becomes shorter, becomes another file of the same length, and something else.
        dir.open_write(b"f").unwrap().write_all_at(&[1; 10], 5003).unwrap();
        assert!(!read(9000).unwrap().0);
        dir.open_write(b"f").unwrap().set_len(100).unwrap();
        assert_eq!(read(9000).unwrap(), (false, content[..100].to_vec()));
        dir.unlink(b"f").unwrap();
        dir.create_new(b"f", 0o600).unwrap().write_all(&content).unwrap();
        assert_eq!(read(9000).unwrap(), (false, content));
        dir.unlink(b"f").unwrap();
        dir.mkfifo(b"f", 0o600).unwrap();
        assert!(!read(9000).unwrap().0);
        dir.unlink(b"f").unwrap();
        dir.mkdir(b"f", 0o700).unwrap();
        assert!(read(9000).is_err());
    }

    #[test]
    fn what_says_that_it_is_empty_is_read_to_its_end() {
        let (_temp, dir) = scratch();
        dir.create_new(b"empty", 0o600).unwrap();
        let kernels = SafeDir::open_operator(std::path::Path::new("/proc/self")).unwrap();
        for (dir, name, is_empty) in [(&dir, &b"empty"[..], true), (&kernels, b"status", false)] {
            let mut reader = FileReader::open_seen(dir, name, &dir.stat(name).unwrap()).unwrap();
            let mut all = Vec::new();
            reader.append_all(&mut all, 1 << 20).unwrap();
            assert_eq!((reader.stat().size, all.is_empty()), (0, is_empty));
            assert_eq!(reader.held_still().unwrap(), is_empty);
        }
    }

    #[test]
    fn only_regular_files_are_read() {
        let (_temp, dir) = scratch();
        dir.mkfifo(b"p", 0o600).unwrap();
        dir.mkdir(b"d", 0o700).unwrap();
        dir.symlink(b"p", b"l").unwrap();
        for name in [&b"p"[..], b"d", b"l"] {
            assert!(FileReader::open(&dir, name).is_err());
        }
    }

    #[test]
    fn holes_are_seen_and_the_position_stays() {
        let (_temp, dir) = scratch();
        let file = dir.create_new(b"f", 0o600).unwrap();
        file.set_len(10_000_000).unwrap();
        file.write_all_at(b"end", 9_999_990).unwrap();
        let mut reader = FileReader::open(&dir, b"f").unwrap();
        let mut buf = [9; 4096];
        reader.read(&mut buf).unwrap();
        assert!(reader.has_holes());
        assert_eq!(reader.read(&mut buf).unwrap(), 4096);
        assert_eq!((buf, reader.offset()), ([0; 4096], 8192));
    }
}
