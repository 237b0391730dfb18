//! [`FileWriter`]: writes a file that nobody uses yet.
//!
//! Content comes in order ([`FileWriter::write`]), or at its offset ([`FileWriter::write_at`]), or out of another file
//! ([`FileWriter::copy_range`]: reflink where the file system can). A sparse file is written without its blocks of
//! zeros. Nothing is flushed here: one `syncfs` serves a whole run.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::io::Errno;

use super::error::TreeError;
use super::metadata::{DiskForm, Place, apply, stat_file};
use super::safe_dir::SafeDir;
use super::stat::{FileKind, Stat};

/// Blocks of zeros of this size, at a multiple of it, are left out of a sparse file.
const HOLE_BYTES: usize = 4096;
/// What is copied at once where the kernel cannot do it.
const COPY_BYTES: usize = 1024 * 1024;

/// A file that is being written.
#[derive(Debug)]
pub struct FileWriter {
    file: File,
    label: Vec<u8>,
    sparse: bool,
    offset: u64,
    /// Where the content ends; the file may be shorter while its end is a hole.
    end: u64,
}

impl FileWriter {
    /// Creates `name`, which must not be there. `mode` spares a call at the end if it is the final one already.
    ///
    /// # Errors
    /// Those of [`SafeDir::create_new`].
    pub fn create(dir: &SafeDir, name: &[u8], mode: u32, sparse: bool) -> Result<Self, TreeError> {
        let file = dir.create_new(name, mode)?;
        Ok(Self { file, label: label_of(dir, name), sparse, offset: 0, end: 0 })
    }

    /// Goes on with what an interrupted run has written: keeps the first `offset` bytes, drops the rest.
    ///
    /// # Errors
    /// EINVAL when it is no regular file, or shorter than `offset`.
    pub fn append(dir: &SafeDir, name: &[u8], offset: u64, sparse: bool) -> Result<Self, TreeError> {
        let writer = Self { file: dir.open_write(name)?, label: label_of(dir, name), sparse, offset, end: offset };
        let stat = writer.stat()?;
        if stat.kind != FileKind::File || stat.size < offset {
            return Err(writer.fail("go on with", Errno::INVAL));
        }
        writer.file.set_len(offset).map_err(|e| writer.fail("shorten", e))?;
        Ok(writer)
    }

    /// Opens what is there to write ranges of it; its length stays until content goes beyond.
    ///
    /// # Errors
    /// EINVAL when it is no regular file.
    pub fn open(dir: &SafeDir, name: &[u8], sparse: bool) -> Result<Self, TreeError> {
        let file = dir.open_write(name)?;
        let mut writer = Self { file, label: label_of(dir, name), sparse, offset: 0, end: 0 };
        let stat = writer.stat()?;
        if stat.kind != FileKind::File {
            return Err(writer.fail("write", Errno::INVAL));
        }
        writer.end = stat.size;
        // What is overwritten must really be overwritten, zeros too.
        writer.sparse &= stat.size == 0;
        Ok(writer)
    }

    /// Writes what comes next.
    ///
    /// # Errors
    /// [`TreeError::is_no_space`].
    pub fn write(&mut self, content: &[u8]) -> Result<(), TreeError> {
        self.write_at(self.offset, content)?;
        self.offset += content.len() as u64;
        Ok(())
    }

    /// Writes `content` at `offset`. In a sparse file no range may be written twice: zeros would not erase.
    ///
    /// # Errors
    /// [`TreeError::is_no_space`].
    pub fn write_at(&mut self, offset: u64, content: &[u8]) -> Result<(), TreeError> {
        let end = offset.checked_add(content.len() as u64).ok_or_else(|| self.fail("write", Errno::FBIG))?;
        if self.sparse {
            for (at, data) in DataRuns::new(offset, content) {
                self.file.write_all_at(data, at).map_err(|e| self.fail("write", e))?;
            }
        } else {
            self.file.write_all_at(content, offset).map_err(|e| self.fail("write", e))?;
        }
        self.end = self.end.max(end);
        Ok(())
    }

    /// Copies `len` bytes of `source` from `from` to `to`: by reflink or inside the kernel where that is possible.
    ///
    /// # Errors
    /// [`TreeError::is_no_space`]; EIO when `source` is shorter than that.
    pub fn copy_range(&mut self, source: &File, from: u64, to: u64, len: u64) -> Result<(), TreeError> {
        let mut done = 0;
        // The kernel would copy a hole's zeros; a sparse file is read and its zeros left out.
        while done < len && !self.sparse {
            let (mut off_in, mut off_out) = (from + done, to + done);
            let want = usize::try_from(len - done).unwrap_or(usize::MAX).min(1 << 30);
            match rustix::fs::copy_file_range(source, Some(&mut off_in), &self.file, Some(&mut off_out), want) {
                Ok(0) | Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM) => break,
                Ok(copied) => done += copied as u64,
                Err(Errno::INTR) => {}
                Err(e) => return Err(self.fail("copy to", e)),
            }
        }
        self.end = self.end.max(to + done);
        let mut buf = vec![0; usize::try_from(len - done).unwrap_or(COPY_BYTES).min(COPY_BYTES)];
        while done < len {
            let piece = usize::try_from(len - done).unwrap_or(COPY_BYTES).min(COPY_BYTES);
            let Some(buf) = buf.get_mut(..piece) else { return Err(self.fail("copy to", Errno::INVAL)) };
            source.read_exact_at(buf, from + done).map_err(|e| self.fail("copy to", as_io(e)))?;
            self.write_at(to + done, buf)?;
            done += piece as u64;
        }
        Ok(())
    }

    /// Makes this file share all content of `source`, where the file system can (btrfs, xfs); says whether it did.
    ///
    /// # Errors
    /// [`TreeError::is_no_space`].
    pub fn clone_from(&mut self, source: &File) -> Result<bool, TreeError> {
        match rustix::fs::ioctl_ficlone(&self.file, source) {
            Ok(()) => {
                self.end = self.stat()?.size;
                self.offset = self.end;
                Ok(true)
            }
            Err(e @ (Errno::NOSPC | Errno::DQUOT | Errno::IO)) => Err(self.fail("clone to", e)),
            Err(_) => Ok(false),
        }
    }

    /// How much has been written in order.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The open file, to read and write: what has been written can be verified through it.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its size and its metadata, and closes it. Says what could not be applied, in words.
    ///
    /// # Errors
    /// [`TreeError::is_no_space`]; when mode or times cannot be set.
    pub fn finish(self, form: &DiskForm) -> Result<Vec<String>, TreeError> {
        if self.sparse {
            self.file.set_len(self.end).map_err(|e| self.fail("set the size of", e))?;
        }
        apply(Place::File(&self.file, &self.label), form)
    }

    fn stat(&self) -> Result<Stat, TreeError> {
        stat_file(&self.file).map_err(|e| self.fail("look at", e))
    }

    fn fail(&self, op: &'static str, source: impl Into<std::io::Error>) -> TreeError {
        TreeError::new(op, &self.label, b"", source)
    }
}

fn as_io(error: std::io::Error) -> std::io::Error {
    if error.raw_os_error().is_some() { error } else { Errno::IO.into() }
}

fn label_of(dir: &SafeDir, name: &[u8]) -> Vec<u8> {
    [dir.label(), b"/", name].concat()
}

/// The pieces of a buffer that are not blocks of zeros, each with its offset in the file.
struct DataRuns<'a> {
    offset: u64,
    rest: &'a [u8],
}

impl<'a> DataRuns<'a> {
    fn new(offset: u64, content: &'a [u8]) -> Self {
        Self { offset, rest: content }
    }

    /// The next piece up to a block boundary of the file.
    fn block_len(offset: u64, len: usize) -> usize {
        let into = (offset % HOLE_BYTES as u64) as usize;
        (HOLE_BYTES - into).min(len)
    }
}

impl<'a> Iterator for DataRuns<'a> {
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let zero = |piece: &[u8]| piece.iter().all(|b| *b == 0);
        let (mut start, mut run) = (self.offset, 0);
        let whole = self.rest;
        while !self.rest.is_empty() {
            let len = Self::block_len(self.offset, self.rest.len());
            let (piece, rest) = self.rest.split_at_checked(len)?;
            let is_zero = zero(piece);
            if is_zero && run > 0 {
                break;
            }
            self.rest = rest;
            self.offset += len as u64;
            if is_zero {
                start = self.offset;
            } else {
                run += len;
            }
        }
        if run == 0 {
            return None;
        }
        let end = whole.len() - self.rest.len();
        Some((start, whole.get(end.checked_sub(run)?..end)?))
    }
}

#[cfg(test)]
mod tests;
