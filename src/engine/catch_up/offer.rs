//! What of the snapshot has to be offered, and who sends what of it is needed.
//!
//! With a base only what it has not at the same path; hard links by their first name. Whole digests are offered, of large
//! files too: what the far end has anywhere does not travel. Content that a base's path had, and that the far end lost, it
//! asks for itself at the end.

use std::collections::VecDeque;

use crossbeam_channel::{Receiver, Sender};

use super::{OFFERS_MAX, Task, content_of};
use crate::backup::digest::Digest;
use crate::backup::entry::{Entry, FileContent, Link, SizeClass};
use crate::backup::limits::{BATCH_BYTES_TARGET, BATCH_COUNT_MAX};
use crate::backup::manifest::{ManifestRecord, merge};
use crate::backup::relpath::RelPath;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::wire::{Bits, entry_bytes, entry_to_wire};
use crate::net::message::Need;
use crate::store::snapshots::{ManifestReader, SnapshotError};

/// Bytes of names and attributes after which an offer, or a message of files, is closed: with one more it fits a frame.
const HEAD_BYTES_TARGET: usize = 512 * 1024;
/// Whole files up to this size travel many to a message.
const SMALL_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Content to send.
pub(super) enum Job {
    /// Files that fit one message.
    Small(Vec<Entry>),
    /// One in chunks; `old`: the content that the base has at its path.
    Large { entry: Box<Entry>, old: Option<Digest> },
}

/// How a path differs from the base.
pub(super) enum Step {
    /// New or another; the content that the base has there.
    Put { entry: Entry, old: Option<Digest> },
    /// The base's is gone.
    Gone(RelPath),
    /// Our copy holds it beyond the manifest; whether the base's manifest had it.
    Kept(RelPath, bool),
}

/// All that differs, in canonical order.
pub(super) fn steps(task: &Task<'_>) -> Result<impl Iterator<Item = Result<Step, EngineError>> + use<>, EngineError> {
    let open = |number| -> Result<ManifestReader, SnapshotError> { task.snapshots.open_manifest(number) };
    let base = task.base.map(|(number, _)| open(number)).transpose()?;
    let seen = base.into_iter().flatten().filter(|r| !matches!(r, Ok(ManifestRecord { kept: true, .. })));
    let merged = merge(seen, open(task.record.number)?);
    Ok(merged.filter_map(|pair| match pair {
        Ok((old, new)) => step(old, new).map(Ok),
        Err(error) => Some(Err(error.into())),
    }))
}

fn step(old: Option<ManifestRecord>, new: Option<ManifestRecord>) -> Option<Step> {
    match (old, new) {
        (old, Some(new)) if new.kept => Some(Step::Kept(new.entry.path, old.is_some())),
        (Some(old), Some(new)) if old.entry == new.entry => None,
        (old, Some(new)) => {
            let old = old.and_then(|old| old.entry.file().map(|content| content.digest));
            Some(Step::Put { entry: new.entry, old })
        }
        (Some(old), None) => Some(Step::Gone(old.entry.path)),
        (None, None) => None,
    }
}

/// Offers everything that differs, and has sent what is needed.
pub(super) fn all(task: &Task<'_>, jobs: &Sender<Job>) -> Result<(), EngineError> {
    let mut offering = Offering::new(task, jobs);
    for step in steps(task)? {
        let Step::Put { entry, old } = step? else { continue };
        let Some(content) = entry.file() else { continue };
        if matches!(content.link, Link::Follower(_)) || old == Some(content.digest) {
            continue;
        }
        task.tally.plan(content.size);
        offering.push(entry, old)?;
    }
    task.tally.planned();
    offering.finish()
}

/// Has sent what the far end asks for.
pub(super) fn missing(task: &Task<'_>, paths: &[RelPath], jobs: &Sender<Job>) -> Result<(), EngineError> {
    let mut sending = Sending::new(task, jobs);
    for path in paths {
        let found = task.snapshots.find(task.record.number, path)?.filter(|found| !found.kept);
        let unknown = || format!("the destination asks for '{path}', which is in no manifest");
        let found = found.ok_or_else(|| EngineError::new(ErrorKind::Failed, unknown()))?;
        task.tally.plan(content_of(&found.entry)?.size);
        sending.push(found.entry, None)?;
    }
    sending.flush()
}

/// The class by which a file is cut; none: it travels whole.
pub(super) fn cut_as(content: &FileContent) -> Option<SizeClass> {
    match content.class {
        SizeClass::Whole if content.size <= SMALL_BYTES_MAX => None,
        SizeClass::Whole => Some(crate::backup::chunker::class_for(content.size)),
        class => Some(class),
    }
}

/// A file, and the content that the base has at its path.
type Offered = (Entry, Option<Digest>);

struct Offering<'a> {
    task: &'a Task<'a>,
    sending: Sending<'a>,
    batch: Vec<Offered>,
    bytes: usize,
    unanswered: VecDeque<(Receiver<Need>, Vec<Offered>)>,
}

impl<'a> Offering<'a> {
    fn new(task: &'a Task<'a>, jobs: &'a Sender<Job>) -> Self {
        let sending = Sending::new(task, jobs);
        Self { task, sending, batch: Vec::new(), bytes: 0, unanswered: VecDeque::new() }
    }

    fn push(&mut self, entry: Entry, old: Option<Digest>) -> Result<(), EngineError> {
        self.bytes += entry_bytes(&entry_to_wire(&entry));
        self.batch.push((entry, old));
        if self.batch.len() >= BATCH_COUNT_MAX || self.bytes >= HEAD_BYTES_TARGET { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        self.bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        let digests = batch.iter().filter_map(|(entry, _)| entry.file()).map(|content| content.digest).collect();
        let need = self.task.answers.offer(&self.task.link, digests)?;
        self.unanswered.push_back((need, batch));
        while self.unanswered.len() >= OFFERS_MAX {
            self.settle()?;
        }
        Ok(())
    }

    /// Waits for the oldest answer.
    fn settle(&mut self) -> Result<(), EngineError> {
        let Some((need, batch)) = self.unanswered.pop_front() else { return Ok(()) };
        let need = self.task.answers.wait(&need)?;
        let bits = Bits::from_wire(need.bits, batch.len())?;
        let (mut bytes, mut files) = (0, 0);
        for (i, (entry, old)) in batch.into_iter().enumerate() {
            if bits.get(i) {
                self.sending.push(entry, old)?;
            } else {
                bytes += content_of(&entry)?.size;
                files += 1;
            }
        }
        Ok(self.task.tally.advance(&self.task.link, bytes, files)?)
    }

    fn finish(mut self) -> Result<(), EngineError> {
        self.flush()?;
        while !self.unanswered.is_empty() {
            self.settle()?;
        }
        self.sending.flush()
    }
}

/// Gathers small files to messages, and gives all to the workers.
struct Sending<'a> {
    task: &'a Task<'a>,
    jobs: &'a Sender<Job>,
    group: Vec<Entry>,
    bytes: u64,
    head_bytes: usize,
}

impl<'a> Sending<'a> {
    fn new(task: &'a Task<'a>, jobs: &'a Sender<Job>) -> Self {
        Self { task, jobs, group: Vec::new(), bytes: 0, head_bytes: 0 }
    }

    fn push(&mut self, entry: Entry, old: Option<Digest>) -> Result<(), EngineError> {
        let content = content_of(&entry)?;
        if cut_as(content).is_some() {
            return self.job(Job::Large { entry: Box::new(entry), old });
        }
        if self.bytes + content.size > BATCH_BYTES_TARGET as u64 {
            self.flush()?;
        }
        self.bytes += content.size;
        self.head_bytes += entry_bytes(&entry_to_wire(&entry));
        self.group.push(entry);
        let full = self.group.len() >= BATCH_COUNT_MAX || self.head_bytes >= HEAD_BYTES_TARGET;
        if full { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        (self.bytes, self.head_bytes) = (0, 0);
        let group = std::mem::take(&mut self.group);
        if group.is_empty() { Ok(()) } else { self.job(Job::Small(group)) }
    }

    fn job(&self, job: Job) -> Result<(), EngineError> {
        self.task.failed()?;
        // All workers have stopped; the first says why.
        let stopped = |_| EngineError::new(ErrorKind::Failed, "reading the snapshot stopped");
        self.jobs.send(job).map_err(stopped)
    }
}
