//! The daemon as a source from its own store: one committed snapshot, sent to whoever stores it at the far end of a link.
//!
//! ```text
//!  caller: offer.rs    manifest × base ── what differs ──> Offer ────────────────────> link
//!             ▲ │ what is needed, in jobs                                              │
//!             │ └──> workers × 6: small.rs (Files), large.rs (FileOpen … FileDone) ──> link
//!  answers.rs └── Need, FileReady, and at last Missing or Committed <───────────────── link
//!  caller: manifest.rs  Manifest, Changes, ManifestEnd ──────────────────────────────> link
//! ```
//! To the far end it is a run like any other, with the id that it had when it was made. Digests are known before anything is
//! read: only what is needed is. Content comes from wherever the store has it (`restore_serve::places`), and is hashed
//! before it counts.
//!
//! Always holds: the snapshot and its base are pinned; nothing waits for the link but with the listener free to take what
//! comes, so there is no mutual stall; memory is some [`OFFERS_MAX`] batches of entries and what the workers hold, below
//! 32 MiB. It ends soon after `cancel` was asked: that closes the link.
//!
//! There is nothing to hold back here: the daemon's own store has the snapshot already, so the far end may commit as soon as
//! both manifests agree (`For.hold` is false).

mod answers;
mod large;
mod manifest;
mod offer;
mod progress;
mod small;
#[cfg(test)]
pub(super) mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crossbeam_channel::Receiver;

pub(super) use self::progress::Told;

use self::answers::Answers;
use self::manifest::Answer;
use self::offer::Job;
use self::progress::Tally;
use super::error::{EngineError, ErrorKind};
use super::hub::Hub;
use super::restore_serve::{Finder, Store, Wanted};
use super::stop::Stop;
use super::wire::{WireError, unexpected};
use crate::backup::digest::Digest;
use crate::backup::entry::{Entry, FileContent};
use crate::backup::limits::MISSING_ROUNDS_MAX;
use crate::backup::manifest::ManifestHasher;
use crate::backup::snapshot::SnapshotRecord;
use crate::net::link::{Link, LinkSender};
use crate::net::message::{Begin, Committed, For, Granted, Message};
use crate::store::names::CopyName;
use crate::store::snapshots::{SnapshotPin, Snapshots};

/// Threads that read and send content. Each holds a MiB of small files, or some four of a large one.
const WORKERS: usize = 6;
/// Jobs that wait for a worker; they hold entries, and no content.
const JOBS_QUEUED_MAX: usize = 8;
/// Offers that may wait for their answer.
const OFFERS_MAX: usize = 8;
/// Seconds to wait for whoever changes that root at the far end.
const LEASE_WAIT_SECS: u32 = 30;

/// A snapshot that somebody lacks.
pub(super) struct Due<'a> {
    /// Whose.
    pub(super) copy: &'a CopyName,
    /// Which.
    pub(super) record: &'a SnapshotRecord,
    /// The manifest of what the far end holds of that root.
    pub(super) head: Option<Digest>,
}

/// The far end has it.
#[derive(Clone, Debug)]
pub(super) struct CaughtUp {
    /// Its receipt.
    pub(super) receipt: Committed,
    /// It had it before, and perhaps something newer since.
    pub(super) had_it: bool,
}

/// Sends a snapshot over `link`, at whose far end nothing has been asked for yet. After a success the link can be used for
/// more; after an error it cannot.
///
/// # Errors
/// The link was lost, the far end refused, content of ours is damaged (the error names the path), or `cancel` was asked.
pub(super) fn run(
    hub: &Hub,
    due: &Due<'_>,
    link: &mut Link,
    cancel: &Stop,
    told: &Told<'_>,
) -> Result<CaughtUp, EngineError> {
    cancel.begin(&link.sender)?;
    attempt(hub, due, link, cancel, told).map_err(|error| cancel.or(error))
}

fn attempt(hub: &Hub, due: &Due<'_>, link: &mut Link, cancel: &Stop, told: &Told<'_>) -> Result<CaughtUp, EngineError> {
    let Due { copy, record, head } = *due;
    let snapshots = hub.store.snapshots(copy)?;
    let _pin = snapshots.pin(record.number)?;
    if snapshots.is_purged(record.number)? && digest_left(&snapshots, record)? != record.manifest {
        // What is left of it has another digest, and would be another snapshot.
        let message = format!(
            "a path was taken out of snapshot {} of '/{}': it cannot be passed on, the next backup will be",
            record.number, record.root
        );
        return Err(EngineError::new(ErrorKind::Failed, message));
    }
    let base = base(&snapshots, record, head.as_ref())?;
    link.send(for_whom(copy, record))?;
    link.send(begin_of(record, base.as_ref().map(|(_, digest, _)| *digest)))?;
    let granted = match granted(link, told)? {
        Ok(granted) => granted,
        Err(receipt) => return Ok(CaughtUp { receipt: checked(record, *receipt)?, had_it: true }),
    };
    let base = base.filter(|_| granted.base_known);
    let task = Task {
        hub,
        copy,
        record,
        snapshots,
        base: base.as_ref().map(|(number, digest, _)| (*number, *digest)),
        store: Store::new(hub, copy, None)?,
        link: link.sender.clone(),
        answers: Answers::default(),
        cancel,
        tally: Tally::new(told),
        failure: Mutex::default(),
    };
    let (verdicts, verdict) = answers::verdicts();
    let over = AtomicBool::new(false);
    let is_over = || over.load(Ordering::Relaxed) || cancel.is_asked();
    let receiver = &mut link.receiver;
    thread::scope(|scope| {
        scope.spawn(|| task.answers.listen(receiver, &verdicts, &is_over, &|| task.tally.alive()));
        let outcome = task.run(&verdict).map_err(|error| answers::last_word(error, &verdict));
        over.store(true, Ordering::Relaxed);
        Ok(CaughtUp { receipt: outcome?, had_it: false })
    })
}

/// The digest of what can still be read of a manifest.
fn digest_left(snapshots: &Snapshots, record: &SnapshotRecord) -> Result<Digest, EngineError> {
    let reader = snapshots.open_manifest(record.number)?;
    let owners = reader.header().owners.clone();
    let mut hasher = ManifestHasher::new();
    for found in reader {
        hasher.push_record(&found?);
    }
    Ok(hasher.finish(&owners))
}

/// A snapshot that both sides have: its number, its manifest's digest, and the pin that keeps it.
type Base = (u64, Digest, SnapshotPin);

fn base(
    snapshots: &Arc<Snapshots>,
    record: &SnapshotRecord,
    head: Option<&Digest>,
) -> Result<Option<Base>, EngineError> {
    let Some(head) = head else { return Ok(None) };
    let Some(found) = snapshots.by_manifest(&record.root, head)? else { return Ok(None) };
    // One that expires this very moment is no base.
    Ok(snapshots.pin(found.number).ok().map(|pin| (found.number, *head, pin)))
}

fn for_whom(copy: &CopyName, record: &SnapshotRecord) -> For {
    let client = &record.client;
    For {
        node: copy.node().as_bytes().into(),
        user: copy.user().as_bytes().into(),
        key: client.key,
        peer: format!("{} {}", client.address, client.software).into_bytes().into(),
        parent: record.parent,
        hold: false,
    }
}

fn begin_of(record: &SnapshotRecord, base: Option<Digest>) -> Begin {
    Begin {
        run: record.run,
        root: record.root.as_bytes().into(),
        recursive: record.recursive,
        // What our copy keeps beyond the manifest is told path by path.
        delete: true,
        delete_excluded: false,
        // The delete guard was asked when the snapshot was made.
        force_delete: true,
        dry_run: false,
        filters: Vec::new(),
        wait_secs: LEASE_WAIT_SECS,
        file_system: record.file_system,
        base,
        copies: 0,
        wait_copies_secs: 0,
        retry_secs: 0,
    }
}

/// Waits for the lease; who has the run already says so.
fn granted(link: &mut Link, told: &Told<'_>) -> Result<Result<Granted, Box<Committed>>, EngineError> {
    loop {
        match link.recv()? {
            Message::Granted(granted) => return Ok(Ok(granted)),
            Message::Committed(receipt) => return Ok(Err(Box::new(receipt))),
            Message::Waiting(_) | Message::Busy(_) => told(0, None),
            Message::Refused(refused) => return Err(refused.into()),
            other => return Err(unexpected(&other, "asking for a lease").into()),
        }
    }
}

/// The receipt, if it is that of this snapshot.
fn checked(record: &SnapshotRecord, receipt: Committed) -> Result<Committed, EngineError> {
    if receipt.run == record.run && receipt.manifest == record.manifest {
        return Ok(receipt);
    }
    let message = format!(
        "the destination acknowledges run {} with manifest {}, which is not what it was sent: run {}, manifest {}",
        receipt.run, receipt.manifest, record.run, record.manifest
    );
    Err(EngineError::new(ErrorKind::Failed, message))
}

/// One snapshot on its way.
struct Task<'a> {
    hub: &'a Hub,
    copy: &'a CopyName,
    record: &'a SnapshotRecord,
    snapshots: Arc<Snapshots>,
    /// What the manifest is told as changes to.
    base: Option<(u64, Digest)>,
    store: Store<'a>,
    link: LinkSender,
    answers: Answers,
    cancel: &'a Stop,
    tally: Tally<'a>,
    /// What went wrong first.
    failure: Mutex<Option<EngineError>>,
}

impl Task<'_> {
    fn run(&self, verdict: &Receiver<Result<Message, EngineError>>) -> Result<Committed, EngineError> {
        self.with_workers(|jobs| offer::all(self, jobs))?;
        for _ in 0..MISSING_ROUNDS_MAX {
            match manifest::send(self, verdict)? {
                Answer::Committed(receipt) => return checked(self.record, *receipt),
                Answer::Missing(paths) => {
                    // What was searched in vain, or found where it was damaged, may be elsewhere now.
                    self.store.look_again();
                    self.with_workers(|jobs| offer::missing(self, &paths, jobs))?;
                }
            }
        }
        Err(EngineError::new(ErrorKind::Failed, "the destination asks for the same content over and over"))
    }

    /// Runs `feed` with workers beside it; what they were given is sent when this returns.
    fn with_workers(
        &self,
        feed: impl FnOnce(&crossbeam_channel::Sender<Job>) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let (jobs, queue) = crossbeam_channel::bounded::<Job>(JOBS_QUEUED_MAX);
        let fed = thread::scope(|scope| {
            for _ in 0..WORKERS {
                let queue = queue.clone();
                scope.spawn(move || self.work(&queue));
            }
            drop(queue);
            let fed = feed(&jobs);
            drop(jobs);
            if let Err(error) = &fed {
                self.fail(error.clone());
            }
            fed
        });
        // A worker's failure is the cause, whatever came of it.
        self.failed()?;
        fed
    }

    fn work(&self, jobs: &Receiver<Job>) {
        let mut finder = Finder::new(&self.store);
        for job in jobs {
            let done = self.failed().and_then(|()| match &job {
                Job::Small(files) => small::send(self, &mut finder, files),
                Job::Large { entry, old } => large::send(self, &mut finder, entry, *old),
            });
            if let Err(error) = done {
                return self.fail(error);
            }
        }
    }

    fn fail(&self, error: EngineError) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    /// Stops whoever asks once something went wrong.
    fn failed(&self) -> Result<(), EngineError> {
        match &*self.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error.clone()),
            None if self.cancel.is_asked() => Err(EngineError::new(ErrorKind::Interrupted, "interrupted")),
            None => Ok(()),
        }
    }

    /// A file's content, as the store's readers look for it.
    fn wanted(&self, entry: &Entry, content: &FileContent) -> Result<Wanted, EngineError> {
        let path = self.record.root.join_path(&entry.path).map_err(WireError::from)?;
        Ok(Wanted { batch: 0, index: 0, path, digest: content.digest, size: content.size })
    }

    /// Content that the store does not have any more.
    fn damaged(&self, wanted: &Wanted, why: &str) -> EngineError {
        let message = format!("'/{}' of snapshot {} cannot be passed on: {why}", wanted.path, self.record.number);
        EngineError::new(ErrorKind::Failed, message)
    }
}

/// What only a file has.
fn content_of(entry: &Entry) -> Result<&FileContent, EngineError> {
    entry.file().ok_or_else(|| EngineError::new(ErrorKind::Failed, format!("'{}' is no file", entry.path)))
}
