//! [`LargeWriter`]: a large file on its way into staging, chunk by chunk, in order.
//!
//! Chunks are announced first ([`LargeWriter::announce`]), then those that are needed arrive. What is announced waits in
//! a queue; whenever the front is at hand (it arrived, or lies in the copy or further up in the same file) it is
//! verified, hashed into the whole and written at its offset. A file that was cut short before ([`LargeWriter::resume`])
//! is walked along: as long as it agrees, nothing is written.

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
use crate::store::vault::{BlobPlace, Vault};
use crate::tree::error::TreeError;
use crate::tree::metadata::stat_file;

const READ_BYTES: usize = 1024 * 1024;
const ZERO_BLOCK: [u8; 4096] = [0; 4096];

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
    /// Bytes done.
    at: u64,
    queue: VecDeque<Announced>,
    whole: blake3::Hasher,
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
        staging.forget(path);
        // With other names it may be in the copy.
        if dir.stat(&name).is_ok_and(|stat| stat.nlink > 1) {
            dir.remove_tree(&name)?;
        }
        let left = dir.open_write(&name).and_then(|file| dir.open_read(&name).map(|read| (file, read)));
        let (file, prefix) = match left {
            Ok((file, read)) => (file, chunks_of(&read, class)),
            Err(_) => (staging.create(path, &dir, &name, 0o600)?, VecDeque::new()),
        };
        Ok(Self {
            path: path.clone(),
            place: (dir.label().to_vec(), name),
            file,
            at: 0,
            queue: VecDeque::new(),
            whole: blake3::Hasher::new(),
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
    pub fn arrive(&mut self, content: &[u8]) -> Result<(), TreeError> {
        let digest = Digest::of(content);
        match self.queue.pop_front() {
            None => self.known.announced += content.len() as u64,
            Some(front) if front.digest == digest => {}
            Some(_) => self.fail("a chunk that arrived is not the one that was announced"),
        }
        self.put(digest, content, self.at)?;
        self.settle()
    }

    /// Writes what is at hand.
    fn settle(&mut self) -> Result<(), TreeError> {
        while let Some(front) = self.queue.pop_front_if(|c| !matches!(c.from, Chunk::Arrives)) {
            let mut buffer = vec![0; front.len as usize];
            let (read, at) = match &front.from {
                Chunk::Stored { file, offset, .. } => (file.read_exact_at(&mut buffer, *offset), u64::MAX),
                Chunk::Here(offset) => (self.file.read_exact_at(&mut buffer, *offset), *offset),
                Chunk::Packed { vault, place } => match vault.read(place) {
                    Ok(chunk) if chunk.len() == buffer.len() => {
                        buffer = chunk;
                        (Ok(()), u64::MAX)
                    }
                    other => (Err(io::Error::other(other.err().map_or(String::new(), |e| e.to_string()))), u64::MAX),
                },
                Chunk::Arrives => continue,
            };
            if read.is_err() || Digest::of(&buffer) != front.digest {
                self.fail("a chunk that the store had is damaged");
                match &front.from {
                    Chunk::Stored { of, .. } => self.damaged.push(*of),
                    Chunk::Packed { .. } => self.damaged.push(front.digest),
                    _ => {}
                }
            }
            let in_place = at == self.at;
            if in_place {
                self.note(front.digest, &buffer);
            } else {
                self.put(front.digest, &buffer, self.at)?;
            }
        }
        Ok(())
    }

    fn put(&mut self, digest: Digest, content: &[u8], at: u64) -> Result<(), TreeError> {
        self.write(content, at).map_err(|e| self.failed_to_write(e))?;
        self.written += content.len() as u64;
        self.note(digest, content);
        Ok(())
    }

    fn note(&mut self, digest: Digest, content: &[u8]) {
        self.whole.update(content);
        self.recipe.chunks.push((digest, content.len() as u32));
        self.at += content.len() as u64;
    }

    fn write(&self, content: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(content, at)
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
        if self.failed.is_some() || Digest::from(self.whole.finalize()) != digest {
            let why = self.failed.as_deref().unwrap_or("its content is not what was announced");
            tracing::warn!("'{}' is asked for again: {why}", self.path);
            if is_there {
                dir.unlink(&name)?;
            }
            return Ok(None);
        }
        if sparse {
            punch(&self.file, self.at);
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

/// Gives blocks of zeros back to the file system; where it cannot, the file is merely larger on disk.
pub(super) fn punch(file: &File, size: u64) {
    let mut buffer = vec![0; READ_BYTES];
    let mut at = 0;
    while at < size {
        let Ok(read) = file.read_at(&mut buffer, at) else { return };
        if read == 0 {
            return;
        }
        for (i, block) in buffer[..read].chunks(ZERO_BLOCK.len()).enumerate() {
            if block == ZERO_BLOCK {
                let (from, len) = (at + (i * ZERO_BLOCK.len()) as u64, ZERO_BLOCK.len() as u64);
                let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
                if rustix::fs::fallocate(file, flags, from, len).is_err() {
                    return;
                }
            }
        }
        at += read as u64;
    }
}
