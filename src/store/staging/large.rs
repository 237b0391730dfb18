//! [`LargeWriter`]: a large file on its way into staging, chunk by chunk, in order.
//!
//! Chunks are announced first ([`LargeWriter::announce`]), then those that are needed arrive. What is announced waits in
//! a queue; whenever the front is at hand (it arrived, or lies in the copy or further up in the same file) it is
//! verified, hashed into the whole and written at its offset. A file that was cut short before ([`LargeWriter::open`])
//! is walked along: as long as it agrees, nothing is written.

pub(super) mod holes;

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::Staging;
use crate::backup::chunker::{Chunker, Recipe};
use crate::backup::digest::Digest;
use crate::backup::entry::{Meta, SizeClass};
use crate::backup::relpath::RelPath;
use crate::backup::whole_hash::{Piece, WholeHash};
use crate::store::vault::{BlobPlace, Vault};
use crate::tree::error::TreeError;
use crate::tree::metadata::stat_file;

const READ_BYTES: usize = 1024 * 1024;

/// Where an announced chunk comes from.
#[derive(Clone)]
pub enum Chunk {
    /// The client sends it.
    Arrives,
    /// It lies in an open file of the store.
    Stored {
        /// The file.
        file: Arc<File>,
        /// Where in it.
        offset: u64,
        /// The content that it is said to have.
        of: Digest,
    },
    /// It lies in a pack.
    Packed {
        /// The vault.
        vault: Arc<Vault>,
        /// Where in it.
        place: BlobPlace,
    },
    /// It is in this file already, at this offset.
    Here(u64),
}

struct Announced {
    digest: Digest,
    len: u32,
    from: Chunk,
}

/// A large file on its way.
pub struct LargeWriter {
    path: RelPath,
    /// Its folder in staging, and its name there, for errors.
    place: (Vec<u8>, Vec<u8>),
    file: File,
    /// Bytes that an earlier attempt left: what was zero may be something else there.
    left: u64,
    /// How long the file is.
    reach: u64,
    /// Bytes done.
    at: u64,
    queue: VecDeque<Announced>,
    whole: WholeHash,
    /// What was read last from further up in the file: of zeros there are many in a row.
    again: Option<(Digest, Piece)>,
    recipe: Recipe,
    known: KnownChunks,
    failed: Option<String>,
    /// Bytes written that nobody was told of.
    written: u64,
    /// Contents whose file had other bytes than it was said to.
    damaged: Vec<Digest>,
}

/// What a large file needs no client for: chunks that an earlier, cut attempt left, and those further up in itself.
#[derive(Default)]
pub struct KnownChunks {
    /// Chunks that the file holds already where they belong.
    prefix: VecDeque<(Digest, u32)>,
    /// Chunks of this file by content.
    seen: HashMap<Digest, u64>,
    /// Bytes announced.
    announced: u64,
}

impl KnownChunks {
    /// Of what staging holds at `path`, which is only looked at: for a dry run.
    pub fn staged(staging: &Staging, path: &RelPath, class: SizeClass) -> Self {
        let Ok(path) = super::staged_path(path) else { return Self::default() };
        let opened = staging.tree().open_dir(&path.parent().unwrap_or_default()).and_then(|dir| {
            let name = path.name().unwrap_or_default();
            Ok((dir.stat(name)?.nlink, dir.open_read(name)?))
        });
        let prefix = match opened {
            Ok((1, file)) => chunks_of(&file, class),
            _ => VecDeque::new(),
        };
        Self { prefix, ..Self::default() }
    }

    /// Where the next chunk is, if it is known. To be asked once, then told of by [`KnownChunks::announce`].
    pub fn own(&mut self, digest: &Digest, len: u32) -> Option<Chunk> {
        match self.prefix.front() {
            Some((d, l)) if d == digest && *l == len => {
                self.prefix.pop_front();
                return Some(Chunk::Here(self.announced));
            }
            _ => self.prefix.clear(),
        }
        self.seen.get(digest).map(|offset| Chunk::Here(*offset))
    }

    /// The next chunk, wherever it is.
    pub fn announce(&mut self, digest: Digest, len: u32) {
        self.seen.entry(digest).or_insert(self.announced);
        self.announced += u64::from(len);
    }
}

impl LargeWriter {
    /// Opens the place of `path` in staging; what an earlier attempt left there is used.
    ///
    /// # Errors
    /// The store's disk fails or is full.
    pub fn open(staging: &Staging, path: &RelPath, class: SizeClass) -> Result<Self, TreeError> {
        let (dir, name) = staging.parent(path)?;
        staging.copy_aside(path, &dir, &name)?;
        // Until it is sealed it is leftover: a run may end its files without it.
        staging.forget(path)?;
        // With other names it may be in the copy.
        if dir.stat(&name).is_ok_and(|stat| stat.nlink > 1) {
            dir.remove_tree(&name)?;
        }
        let left = dir.open_write(&name).and_then(|file| dir.open_read(&name).map(|read| (file, read)));
        let (file, prefix, left) = match left {
            Ok((file, read)) => {
                let len = stat_file(&file).map_err(|e| TreeError::new("look at", dir.label(), &name, e))?.size;
                (file, chunks_of(&read, class), len)
            }
            Err(_) => (staging.create(path, &dir, &name, 0o600)?, VecDeque::new(), 0),
        };
        Ok(Self {
            path: path.clone(),
            place: (dir.label().to_vec(), name),
            file,
            left,
            reach: left,
            at: 0,
            queue: VecDeque::new(),
            whole: WholeHash::default(),
            again: None,
            recipe: Recipe { class, chunks: Vec::new() },
            known: KnownChunks { prefix, ..KnownChunks::default() },
            failed: None,
            written: 0,
            damaged: Vec::new(),
        })
    }

    /// Where a chunk is without the client, as far as this file itself knows. The next to be announced.
    pub fn own(&mut self, digest: &Digest, len: u32) -> Option<Chunk> {
        self.known.own(digest, len)
    }

    /// Queues the next chunk.
    ///
    /// # Errors
    /// The disk fails.
    pub fn announce(&mut self, digest: Digest, len: u32, from: Chunk) -> Result<(), TreeError> {
        self.known.announce(digest, len);
        self.queue.push_back(Announced { digest, len, from });
        self.settle()
    }

    /// Whether nothing that was announced is still to come.
    pub fn is_settled(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes the bytes of the next chunk that arrives: the first in the queue, or, if nothing was announced, simply
    /// the next of the file.
    ///
    /// # Errors
    /// The disk fails. A chunk that is not what was announced fails the file when it is finished.
    pub fn arrive(&mut self, content: &Piece) -> Result<(), TreeError> {
        let digest = Digest::of(content.as_slice());
        match self.queue.pop_front() {
            None => self.known.announced += content.as_slice().len() as u64,
            Some(front) if front.digest == digest => {}
            Some(_) => self.fail("a chunk that arrived is not the one that was announced"),
        }
        self.put(digest, content)?;
        self.settle()
    }

    /// Writes what is at hand.
    fn settle(&mut self) -> Result<(), TreeError> {
        while let Some(front) = self.queue.pop_front_if(|c| !matches!(c.from, Chunk::Arrives)) {
            let content = match &self.again {
                Some((digest, content))
                    if (*digest, content.as_slice().len()) == (front.digest, front.len as usize) =>
                {
                    content.clone()
                }
                _ => self.fetch(&front)?,
            };
            if matches!(front.from, Chunk::Here(at) if at == self.at) {
                self.note(front.digest, &content);
                continue;
            }
            if let Chunk::Here(_) = front.from {
                self.again = Some((front.digest, content.clone()));
            }
            self.put(front.digest, &content)?;
        }
        Ok(())
    }

    /// A chunk that is at hand, verified; what is not what it should be fails the file.
    fn fetch(&mut self, front: &Announced) -> Result<Piece, TreeError> {
        let mut buffer = vec![0; front.len as usize];
        let read = match &front.from {
            Chunk::Stored { file, offset, .. } => file.read_exact_at(&mut buffer, *offset).is_ok(),
            Chunk::Here(offset) => {
                self.reach_to(*offset + u64::from(front.len))?;
                self.file.read_exact_at(&mut buffer, *offset).is_ok()
            }
            Chunk::Packed { vault, place } => match vault.read(place) {
                Ok(chunk) if chunk.len() == buffer.len() => {
                    buffer = chunk;
                    true
                }
                _ => false,
            },
            Chunk::Arrives => false,
        };
        if !read || Digest::of(&buffer) != front.digest {
            self.fail("a chunk that the store had is damaged");
            match &front.from {
                Chunk::Stored { of, .. } => self.damaged.push(*of),
                Chunk::Packed { .. } => self.damaged.push(front.digest),
                _ => {}
            }
        }
        let len = buffer.len();
        Ok(Piece::new(&Arc::new(buffer), 0..len))
    }

    /// Zeros at the end that were not written are there all the same.
    fn reach_to(&mut self, end: u64) -> Result<(), TreeError> {
        if end > self.reach && end <= self.at {
            self.file.set_len(self.at).map_err(|e| self.failed_to_write(e))?;
            self.reach = self.at;
        }
        Ok(())
    }

    fn put(&mut self, digest: Digest, content: &Piece) -> Result<(), TreeError> {
        let bytes = content.as_slice();
        // What lies beyond what was left reads as zeros without being written.
        let written = if self.at >= self.left {
            holes::write(&self.file, bytes, self.at)
        } else {
            self.file.write_all_at(bytes, self.at).map(|()| (bytes.len() as u64, bytes.len()))
        };
        let (written, end) = written.map_err(|e| self.failed_to_write(e))?;
        self.written += written;
        if end > 0 {
            self.reach = self.reach.max(self.at + end as u64);
        }
        self.note(digest, content);
        Ok(())
    }

    fn note(&mut self, digest: Digest, content: &Piece) {
        let len = content.as_slice().len();
        self.whole.update(content.clone());
        self.recipe.chunks.push((digest, len as u32));
        self.at += len as u64;
    }

    /// Chunks that are announced and not written.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Bytes that were written since this was asked last.
    pub fn take_written(&mut self) -> u64 {
        std::mem::take(&mut self.written)
    }

    /// Contents of the store that turned out to be damaged since this was asked last.
    pub fn take_damaged(&mut self) -> Vec<Digest> {
        std::mem::take(&mut self.damaged)
    }

    fn failed_to_write(&self, error: io::Error) -> TreeError {
        TreeError::new("write", &self.place.0, &self.place.1, error)
    }

    fn fail(&mut self, why: &str) {
        self.failed.get_or_insert_with(|| why.to_owned());
    }

    /// All chunks are here: sets length and metadata, and takes the file into the index. None: the content is not what
    /// `digest` says; the place is cleared and the client will be asked again.
    ///
    /// # Errors
    /// The disk fails.
    pub fn finish(
        mut self,
        staging: &Staging,
        form: &Meta,
        digest: Digest,
        sparse: bool,
    ) -> Result<Option<Recipe>, TreeError> {
        self.file.set_len(self.at).map_err(|e| self.failed_to_write(e))?;
        if !self.queue.is_empty() {
            self.failed.get_or_insert_with(|| "chunks are missing".to_owned());
        }
        let (dir, name) = staging.parent(&self.path)?;
        let ours = stat_file(&self.file).map_err(|e| TreeError::new("look at", &self.place.0, &self.place.1, e))?;
        // Something else may have been sent for this path meanwhile: that stands in the index, and this is nowhere.
        let is_there = dir.stat(&name).is_ok_and(|stat| stat.ino == ours.ino);
        if !is_there {
            self.fail("something else took its place");
        }
        if self.failed.is_some() || std::mem::take(&mut self.whole).finish() != digest {
            let why = self.failed.as_deref().unwrap_or("its content is not what was announced");
            tracing::warn!("'{}' is asked for again: {why}", self.path);
            if is_there {
                dir.unlink(&name)?;
            }
            return Ok(None);
        }
        if sparse {
            holes::punch(&self.file, self.at);
        }
        staging.seal(&self.path, &self.file, form, digest)?;
        Ok(Some(self.recipe))
    }
}

/// The chunks that a file holds, as far as they can be read.
pub(crate) fn chunks_of(file: &File, class: SizeClass) -> VecDeque<(Digest, u32)> {
    let chunker = Chunker::new(class);
    let (mut chunks, mut rest, mut at, mut eof) = (VecDeque::new(), Vec::new(), 0, false);
    while !eof {
        let from = rest.len();
        rest.resize(from + READ_BYTES, 0);
        let read = file.read_at(&mut rest[from..], at).unwrap_or(0);
        rest.truncate(from + read);
        at += read as u64;
        eof = read == 0;
        let mut done = 0;
        while let Some(len) = chunker.cut(&rest[done..], eof) {
            chunks.push_back((Digest::of(&rest[done..done + len]), len as u32));
            done += len;
        }
        rest.drain(..done);
    }
    chunks
}

#[cfg(test)]
mod tests;
