//! The manifest as it arrives: changes to a base, in canonical order, spooled to staging.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter};
use std::sync::Arc;

use super::Run;
use crate::backup::digest::Digest;
use crate::backup::entry::OwnerNames;
use crate::backup::limits::{BATCH_COUNT_MAX, UNSEEN_BYTES_MAX};
use crate::backup::manifest::{CHANGES_MAGIC, ChangeRecord, ManifestRecord, apply};
use crate::backup::relpath::RelPath;
use crate::backup::snapshot::errors_from_wire;
use crate::backup::sorted_file::{SortedError, SortedReader, SortedWriter};
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::room::Room;
use crate::engine::wire::{Change, WireError, change_from_wire, owners_from_wire};
use crate::net::message::{Changes, Manifest, ManifestEnd};
use crate::store::snapshots::SnapshotError;
use crate::tree::shared_read::SharedRead;

/// About what a record takes beside its path.
const RECORD_BYTES: u64 = 64;
/// Paths that could not be seen: a short one takes more memory than its bytes.
const UNSEEN_COUNT_MAX: usize = UNSEEN_BYTES_MAX / 64;
/// Name of the spool in staging.
const SPOOL: &[u8] = b"changes";

/// A manifest that has arrived or is arriving.
pub(super) struct Incoming {
    pub(super) digest: Digest,
    pub(super) entries: u64,
    pub(super) incomplete: bool,
    pub(super) owners: OwnerNames,
    pub(super) errors: Vec<String>,
    /// The changes apply to the newest snapshot's seen part.
    pub(super) on_base: bool,
    /// Records in the spool.
    pub(super) changes: u64,
    pub(super) unseen: HashSet<RelPath>,
    pub(super) bytes_read: u64,
    unseen_bytes: usize,
    spool: Option<SortedWriter<BufWriter<File>, ChangeRecord>>,
    last: Option<RelPath>,
    /// The spool, to be read side by side.
    read: SharedRead,
}

fn spool_error(error: impl Into<SortedError>) -> EngineError {
    let error = error.into();
    let full = matches!(&error, SortedError::Io(e)
        if matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded));
    let kind = if full { ErrorKind::NoSpace } else { ErrorKind::Failed };
    EngineError::new(kind, format!("cannot keep the manifest in staging: {error}"))
}

impl Incoming {
    pub(super) fn begin(run: &Run<'_>, head: Manifest) -> Result<Self, EngineError> {
        if head.base.is_some() && (!run.base_known || head.base != run.begin.base) {
            return Err(WireError::Bounds("changes to a manifest that was not agreed on").into());
        }
        let dir = run.staging.dir();
        dir.unlink(SPOOL).or_else(|e| if e.is_not_found() { Ok(()) } else { Err(e) })?;
        let file = dir.create_new(SPOOL, 0o600)?;
        let spool = SortedWriter::create(BufWriter::with_capacity(256 * 1024, file), CHANGES_MAGIC, &())
            .map_err(spool_error)?;
        Ok(Self {
            digest: head.digest,
            entries: head.entries,
            incomplete: head.incomplete,
            owners: owners_from_wire(head.users, head.groups)?,
            errors: errors_from_wire(&head.errors),
            on_base: head.base.is_some(),
            changes: 0,
            unseen: HashSet::new(),
            bytes_read: 0,
            unseen_bytes: 0,
            spool: Some(spool),
            last: None,
            read: SharedRead::new(Arc::new(dir.open_read(SPOOL)?)),
        })
    }

    /// More changes.
    pub(super) fn changes(&mut self, room: &Room<'_>, changes: Changes) -> Result<(), EngineError> {
        if changes.changes.len() > BATCH_COUNT_MAX {
            return Err(WireError::Bounds("too many changes in one message").into());
        }
        let mut bytes = 0;
        for change in changes.changes {
            let change = change_from_wire(change)?;
            let after = self.last.as_ref().is_none_or(|last| {
                last < change.path() || (last == change.path() && matches!(change, Change::Unseen(_)))
            });
            if !after {
                return Err(WireError::Bounds("the manifest's changes are not sorted").into());
            }
            bytes += change.path().as_bytes().len() as u64 + RECORD_BYTES;
            self.last = Some(change.path().clone());
            let record = match change {
                Change::Unseen(path) => {
                    self.unseen_bytes += path.as_bytes().len();
                    if self.unseen_bytes > UNSEEN_BYTES_MAX || self.unseen.len() >= UNSEEN_COUNT_MAX {
                        let message = "too many paths could not be seen to remember them; back up less at once, \
                                       or exclude what cannot be read";
                        return Err(EngineError::new(ErrorKind::Failed, message));
                    }
                    self.unseen.insert(path);
                    continue;
                }
                Change::Put(entry) => ChangeRecord::Put(ManifestRecord { entry, kept: false }),
                Change::Remove(path) => ChangeRecord::Remove(path),
            };
            if let Some(spool) = &mut self.spool {
                spool.push(&record).map_err(spool_error)?;
                self.changes += 1;
            }
        }
        room.note(bytes)
    }

    /// The end.
    pub(super) fn end(mut self, end: ManifestEnd) -> Result<Self, EngineError> {
        self.bytes_read = end.bytes_read;
        if let Some(spool) = self.spool.take() {
            let (sink, _) = spool.finish().map_err(spool_error)?;
            sink.into_inner().map_err(|e| spool_error(e.into_error()))?;
        }
        Ok(self)
    }

    /// The changes, canonical order.
    pub(super) fn spooled(
        &self,
    ) -> Result<impl Iterator<Item = Result<ChangeRecord, EngineError>> + use<>, EngineError> {
        let (_, reader): ((), SortedReader<SharedRead, ChangeRecord>) =
            SortedReader::open(self.read.clone(), CHANGES_MAGIC).map_err(spool_error)?;
        Ok(reader.map(|record| record.map_err(spool_error)))
    }

    /// The base that the changes apply to, `kept` records included.
    pub(super) fn base(
        &self,
        run: &Run<'_>,
    ) -> Result<Box<dyn Iterator<Item = Result<ManifestRecord, EngineError>>>, EngineError> {
        match &run.newest {
            Some(newest) if self.on_base => {
                let reader = run.snapshots.open_manifest(newest.number)?;
                Ok(Box::new(reader.map(|r: Result<_, SnapshotError>| r.map_err(EngineError::from))))
            }
            _ => Ok(Box::new(std::iter::empty())),
        }
    }

    /// The entries of the new manifest, canonical order: what the source has.
    pub(super) fn entries(
        &self,
        run: &Run<'_>,
    ) -> Result<Box<dyn Iterator<Item = Result<ManifestRecord, EngineError>>>, EngineError> {
        let seen = self.base(run)?.filter(|r| !matches!(r, Ok(ManifestRecord { kept: true, .. })));
        Ok(Box::new(apply(seen, self.spooled()?)))
    }
}
