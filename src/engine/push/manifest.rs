//! The client's manifest phase: the manifest as changes, then whatever the daemon still asks for, then the receipt.

use std::time::Duration;

use super::cache::{CacheEnd, CachePaths};
use super::found::Found;
use super::send::Replies;
use crate::backup::digest::Digest;
use crate::backup::entry::OwnerNames;
use crate::backup::hash_cache::CacheRecord;
use crate::backup::limits::{BATCH_COUNT_MAX, COMMIT_SECS};
use crate::backup::manifest::{ChangeRecord, ManifestRecord};
use crate::backup::relpath::RelPath;
use crate::backup::sorted_file::SortedError;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::observer::{Event, Observer};
use crate::engine::wire::{WireError, entry_bytes, entry_to_wire, sentences, unexpected};
use crate::net::link::{LinkError, LinkSender};
use crate::net::message::{Changes, Committed, Manifest, ManifestEnd, Message, WireChange};

/// Paths in `Missing` that may be no files of ours.
const NO_FILES_MAX: u64 = 16 * BATCH_COUNT_MAX as u64;

/// Bytes of xattrs and names after which a message is closed early.
const CHANGES_BYTES_TARGET: usize = 256 * 1024;
const ACTIONS: [&str; 5] = ["create", "update", "move", "delete", "touch"];

/// What the daemon says to a manifest.
pub(super) enum Answer {
    /// Done.
    Committed(Box<Committed>),
    /// Content is missing at these paths.
    Missing(Vec<RelPath>),
}

/// A manifest to send.
pub(super) struct ManifestSender<'a> {
    pub(super) link: &'a LinkSender,
    pub(super) replies: &'a Replies,
    pub(super) observer: &'a dyn Observer,
    pub(super) paths: &'a CachePaths,
    /// The daemon has the manifest of the old cache.
    pub(super) base: Option<Digest>,
    pub(super) owners: &'a OwnerNames,
    pub(super) found: &'a Found,
}

fn damaged(error: &SortedError) -> EngineError {
    EngineError::new(ErrorKind::Failed, format!("the hash cache cannot be read: {error}; delete it and run again"))
}

impl ManifestSender<'_> {
    /// Sends all of it and waits for the answer.
    pub(super) fn send(&self, end: &CacheEnd) -> Result<Answer, EngineError> {
        let errors = sentences(self.found.errors.iter().cloned());
        self.link.send(Manifest {
            base: self.base(end),
            digest: end.manifest,
            entries: end.entries,
            incomplete: self.found.failed > 0,
            users: self.owners.users.clone(),
            groups: self.owners.groups.clone(),
            errors,
        })?;
        let mut batch = ChangesSender::new(self.link);
        let mut unseen = self.found.unseen.iter().peekable();
        for change in self.changes(end)? {
            let change = change.map_err(|e| damaged(&e))?;
            let path = match &change {
                ChangeRecord::Put(record) => &record.entry.path,
                ChangeRecord::Remove(path) => path,
            };
            while let Some(path) = unseen.next_if(|u| *u < path) {
                batch.push(WireChange::Unseen(path.as_bytes().into()))?;
            }
            batch.push(match &change {
                ChangeRecord::Put(record) => WireChange::Put(entry_to_wire(&record.entry)),
                ChangeRecord::Remove(path) => WireChange::Remove(path.as_bytes().into()),
            })?;
        }
        for path in unseen {
            batch.push(WireChange::Unseen(path.as_bytes().into()))?;
        }
        batch.flush()?;
        self.link.send(ManifestEnd { bytes_read: self.found.bytes_read })?;
        self.answer(end.files)
    }

    /// What the changes are made to: a new manifest whose changes are not known travels whole.
    fn base(&self, end: &CacheEnd) -> Option<Digest> {
        self.base.filter(|_| end.unchanged || end.changes.is_some())
    }

    /// The changes to the base, or everything.
    fn changes(
        &self,
        end: &CacheEnd,
    ) -> Result<Box<dyn Iterator<Item = Result<ChangeRecord, SortedError>>>, EngineError> {
        let put = |r: CacheRecord| ChangeRecord::Put(ManifestRecord { entry: r.entry, kept: false });
        Ok(match (self.base(end), &end.changes) {
            (Some(_), Some(changes)) => Box::new(changes.read()?),
            (Some(_), None) => Box::new(std::iter::empty()),
            (None, _) => {
                let all = if end.unchanged { self.paths.open().map(|(_, r)| r) } else { Some(self.paths.open_next()?) };
                Box::new(all.into_iter().flatten().map(move |r| r.map(put)))
            }
        })
    }

    /// `files`: as many can be missing, and a few that are none: a destination that asks for what is not there ends nothing but
    /// itself.
    fn answer(&self, files: u64) -> Result<Answer, EngineError> {
        let mut missing = Vec::new();
        loop {
            let reply = match self.replies.recv_timeout(Duration::from_secs(COMMIT_SECS)) {
                Ok(reply) => reply?,
                Err(crossbeam_channel::RecvTimeoutError::Disconnected) => return Err(LinkError::Closed.into()),
                Err(crossbeam_channel::RecvTimeoutError::Timeout) => {
                    let message = format!("the server did not finish the commit within {COMMIT_SECS} s");
                    return Err(EngineError::new(ErrorKind::Unreachable, message));
                }
            };
            match reply {
                Message::Busy(_) => {}
                Message::Missing(part) => {
                    for path in &part.paths {
                        missing.push(RelPath::new(&path.0).map_err(WireError::from)?);
                    }
                    if missing.len() as u64 > files.saturating_add(NO_FILES_MAX) {
                        return Err(WireError::Bounds("more content is missing than there is").into());
                    }
                    if part.last {
                        return Ok(Answer::Missing(missing));
                    }
                }
                Message::PlanLines(lines) => {
                    for (action, path, other) in &lines.lines {
                        let action = ACTIONS.get(usize::from(*action)).copied().unwrap_or("?");
                        self.observer.event(&Event::PlanLine { action, path: &path.0, other: &other.0 });
                    }
                }
                Message::Committed(receipt) => return Ok(Answer::Committed(Box::new(receipt))),
                Message::Refused(refused) => return Err(refused.into()),
                other => return Err(unexpected(&other, "waiting for the receipt").into()),
            }
        }
    }
}

/// Changes on their way, many to a message.
pub(in crate::engine) struct ChangesSender<'a> {
    link: &'a LinkSender,
    changes: Vec<WireChange>,
    bytes: usize,
}

impl<'a> ChangesSender<'a> {
    /// Of none yet.
    pub(in crate::engine) fn new(link: &'a LinkSender) -> Self {
        Self { link, changes: Vec::new(), bytes: 0 }
    }

    /// The next one; it may wait for others.
    pub(in crate::engine) fn push(&mut self, change: WireChange) -> Result<(), LinkError> {
        self.bytes += match &change {
            WireChange::Put(entry) => 64 + entry_bytes(entry),
            WireChange::Remove(path) | WireChange::Unseen(path) => 8 + path.0.len(),
        };
        self.changes.push(change);
        if self.changes.len() >= BATCH_COUNT_MAX || self.bytes >= CHANGES_BYTES_TARGET { self.flush() } else { Ok(()) }
    }

    /// Nothing waits any longer.
    pub(in crate::engine) fn flush(&mut self) -> Result<(), LinkError> {
        self.bytes = 0;
        let changes = std::mem::take(&mut self.changes);
        if changes.is_empty() { Ok(()) } else { self.link.send(Changes { changes }) }
    }
}
