//! The hashing pool: reads what the cache does not vouch for, once.
//!
//! Small files are read a batch at a time into one buffer that later travels as it is. A large file is read, chunked
//! and hashed piece by piece; its pieces go through a short bounded channel, so a file of any size takes a few MiB.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::budget::Share;
use crate::backup::chunker::{Chunker, Recipe};
use crate::backup::digest::Digest;
use crate::backup::entry::{Entry, Kind, Meta, SizeClass};
use crate::backup::fingerprint::{Fingerprint, Timestamp};
use crate::backup::hash_cache::CacheRecord;
use crate::backup::limits::UNSTABLE_READS_MAX;
use crate::backup::relpath::RelPath;
use crate::backup::whole_hash::{Piece, WholeHash};
use crate::tree::error::TreeError;
use crate::tree::read::FileReader;
use crate::tree::safe_dir::SafeDir;
use crate::tree::stat::Stat;

/// Bytes of a large file that are read at once.
const PIECE_BYTES: usize = 1024 * 1024;
/// A small file that grows beyond this while it is read is left to the next run.
const SMALL_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Pieces of a large file that may wait for the sender.
const PIECES_QUEUED_MAX: usize = 4;

/// A file to read.
pub(super) struct ToRead {
    pub(super) dir: Arc<SafeDir>,
    /// Its name there.
    pub(super) name: Vec<u8>,
    /// Entry of kind file; size and digest are not known yet. Its class is that of the last backup.
    pub(super) entry: Entry,
    /// Size when it was walked.
    pub(super) size: u64,
    /// What it was then; none where an open file may show another inode number.
    pub(super) seen: Option<Stat>,
    /// Its inode number may be part of its fingerprint.
    pub(super) ino_believed: bool,
    /// The last backup had a file here.
    pub(super) had: bool,
    /// What a fingerprint vouches for that is not believed this time: `--rehash`.
    pub(super) expected: Option<(Fingerprint, Digest)>,
}

/// Small files, read as one.
pub(super) struct SmallJob {
    pub(super) files: Vec<ToRead>,
    pub(super) share: Share,
    pub(super) reply: Sender<SmallRead>,
}

/// A large file.
pub(super) struct LargeJob {
    pub(super) file: ToRead,
    pub(super) class: SizeClass,
    pub(super) pieces: Sender<LargePiece>,
}

/// Work for the pool.
pub(super) enum Job {
    Small(SmallJob),
    Large(Box<LargeJob>),
}

/// What became of one small file.
pub(super) enum Outcome {
    /// Read: its record, and its bytes are the next `size` of the payload. `altered`: its content is another than last time,
    /// and nothing else of it. `had`: the last backup had a file here.
    Read { record: Box<CacheRecord>, altered: bool, had: bool },
    /// It was gone when it was to be read.
    Vanished(RelPath),
    /// It could not be read.
    Failed(RelPath, String),
}

/// Small files that were read; `share` is given back when their content has left.
pub(super) struct SmallRead {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) payload: Vec<u8>,
    pub(super) share: Share,
}

/// The next piece of a large file.
pub(super) enum LargePiece {
    /// Whole chunks: their bytes, and each one's digest and length.
    Data { data: Arc<Vec<u8>>, chunks: Vec<(Digest, u32)> },
    /// The end: how it went.
    End(Box<Outcome>),
}

/// A channel for a large file's pieces.
pub(super) fn pieces() -> (Sender<LargePiece>, Receiver<LargePiece>) {
    bounded(PIECES_QUEUED_MAX)
}

/// One thread of the pool; ends when `jobs` is closed. `safe_before`: see `Fingerprint::is_racy`.
pub(super) fn work(jobs: &Receiver<Job>, safe_before: Timestamp) {
    for job in jobs {
        match job {
            Job::Small(job) => {
                let (mut outcomes, mut payload) = (Vec::with_capacity(job.files.len()), Vec::new());
                payload.reserve(job.files.iter().map(|f| f.size as usize + 1).sum());
                for file in &job.files {
                    outcomes.push(read_small(file, &mut payload, safe_before));
                }
                // The sender may be gone because the run failed; then so is the need for this.
                let _ = job.reply.send(SmallRead { outcomes, payload, share: job.share });
            }
            Job::Large(job) => read_large(&job, safe_before),
        }
    }
}

/// Reads a file to the end of `payload`; what changes while it is read is read again.
fn read_small(file: &ToRead, payload: &mut Vec<u8>, safe_before: Timestamp) -> Outcome {
    let start = payload.len();
    let mut read = || -> Result<Outcome, TreeError> {
        let mut reader = match &file.seen {
            Some(seen) => FileReader::open_seen(&file.dir, &file.name, seen)?,
            None => FileReader::open(&file.dir, &file.name)?,
        };
        let mut still = false;
        for attempt in 1..=UNSTABLE_READS_MAX {
            payload.truncate(start);
            reader.append_all(payload, SMALL_BYTES_MAX)?;
            still = reader.held_still()?;
            if still || attempt == UNSTABLE_READS_MAX {
                break;
            }
            reader = FileReader::open(&file.dir, &file.name)?;
        }
        let content = payload.get(start..).unwrap_or_default();
        let (size, digest) = (content.len() as u64, Digest::of(content));
        record(file, &reader, still, size, digest, safe_before).map(|record| read_to_its_end(file, record))
    };
    let outcome = read();
    outcome.unwrap_or_else(|error| {
        payload.truncate(start);
        lost(&file.entry.path, &error)
    })
}

fn open(file: &ToRead) -> Result<FileReader, Outcome> {
    FileReader::open(&file.dir, &file.name).map_err(|error| lost(&file.entry.path, &error))
}

fn lost(path: &RelPath, error: &TreeError) -> Outcome {
    if error.is_not_found() {
        Outcome::Vanished(path.clone())
    } else {
        Outcome::Failed(path.clone(), error.to_string())
    }
}

/// The record of a file that was read to its end. `still`: it did not change meanwhile.
fn record(
    file: &ToRead,
    reader: &FileReader,
    still: bool,
    size: u64,
    digest: Digest,
    safe_before: Timestamp,
) -> Result<CacheRecord, TreeError> {
    let (mut fingerprint, unstable) = (reader.stat().fingerprint(), !still);
    if !file.ino_believed {
        fingerprint.ino = 0;
    }
    let mut entry = file.entry.clone();
    entry.meta = Meta { xattrs: reader.xattrs()?, ..reader.stat().meta() };
    if let Kind::File(content) = &mut entry.kind {
        (content.size, content.digest, content.unstable) = (size, digest, unstable);
        content.sparse = content.sparse && reader.has_holes();
    }
    let racy = unstable || fingerprint.is_racy(safe_before) || fingerprint.size != size;
    Ok(CacheRecord { entry, fingerprint, racy, recipe: None, mounted: false })
}

fn read_large(job: &LargeJob, safe_before: Timestamp) {
    let outcome = match stream(job, safe_before) {
        Ok(outcome) | Err(outcome) => outcome,
    };
    let _ = job.pieces.send(LargePiece::End(Box::new(outcome)));
}

/// Reads a large file once; if it changes meanwhile, what was read is what is stored, and it is flagged.
fn stream(job: &LargeJob, safe_before: Timestamp) -> Result<Outcome, Outcome> {
    let failed = |error: &dyn std::fmt::Display| Outcome::Failed(job.file.entry.path.clone(), error.to_string());
    let mut reader = open(&job.file)?;
    let chunker = Chunker::new(job.class);
    let mut whole = WholeHash::default();
    let mut recipe = Recipe { class: job.class, chunks: Vec::new() };
    let (mut size, mut rest, mut eof) = (0_u64, Vec::new(), false);
    while !eof {
        let from = rest.len();
        let read = reader.append(&mut rest, PIECE_BYTES).map_err(|e| failed(&e))?;
        eof = read < PIECE_BYTES;
        size += (rest.len() - from) as u64;
        let (mut done, mut lens) = (0, Vec::new());
        while let Some(len) = chunker.cut(&rest[done..], eof) {
            lens.push(len);
            done += len;
        }
        if lens.is_empty() {
            continue;
        }
        let mut tail = Vec::with_capacity(rest.len() - done + PIECE_BYTES);
        tail.extend_from_slice(&rest[done..]);
        rest.truncate(done);
        let data = Arc::new(std::mem::replace(&mut rest, tail));
        whole.update(Piece::new(&data, 0..done));
        let (mut at, mut chunks) = (0, Vec::with_capacity(lens.len()));
        for len in lens {
            chunks.push((Digest::of(&data[at..at + len]), len as u32));
            at += len;
        }
        recipe.chunks.extend_from_slice(&chunks);
        if job.pieces.send(LargePiece::Data { data, chunks }).is_err() {
            return Err(failed(&"the run ended"));
        }
    }
    let digest = whole.finish();
    let mut record = reader
        .held_still()
        .and_then(|still| record(&job.file, &reader, still, size, digest, safe_before))
        .map_err(|e| failed(&e))?;
    record.recipe = Some(recipe);
    Ok(read_to_its_end(&job.file, record))
}

fn read_to_its_end(file: &ToRead, record: CacheRecord) -> Outcome {
    let vouched = file.expected.filter(|(fingerprint, _)| !record.racy && record.fingerprint == *fingerprint);
    let digest = record.entry.file().map(|content| content.digest);
    let altered = vouched.is_some_and(|(_, expected)| digest.is_some_and(|digest| digest != expected));
    Outcome::Read { record: Box::new(record), altered, had: file.had }
}
