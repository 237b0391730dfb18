//! The draft of a run's record, from right before its commit until it is published: whether a run has a draft, and under
//! which of its two names, tells what the run can have changed.
//!
//! ```text
//! .tmp-<run id>.record  ─ begin ─▶  .tmp-<run id>.begun  ─ publish ─▶  NNNNNNNNNNNN.snapshot
//!                       ◀ take_back ─
//! ```

use std::io;
use std::path::PathBuf;

use super::{RunId, SnapshotError, SnapshotRecord, Snapshots, begun_name, draft_name, io_error, record_draft_name};
use crate::tree::own;

impl Snapshots {
    /// Writes the record's draft, unflushed: on a full disk this fails, and not what comes when the copy has changed.
    ///
    /// # Errors
    /// The disk's.
    pub fn prepare(&self, record: &SnapshotRecord) -> Result<(), SnapshotError> {
        let path = self.dir.join(record_draft_name(record.run));
        let bytes = record.encode().map_err(|source| SnapshotError::Record { path: path.clone(), source })?;
        self.make_dir()?;
        own::write_plain(&path, &bytes).map_err(|e| io_error(&path, e))
    }

    /// The journal comes next: from now on what the run put into `retired/` may be history. May be called again.
    ///
    /// # Errors
    /// The disk's.
    pub fn begin(&self, run: RunId) -> Result<(), SnapshotError> {
        let path = self.dir.join(record_draft_name(run));
        match own::rename(&path, &self.dir.join(begun_name(run))) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error(&path, e)),
            _ => Ok(()),
        }
    }

    /// The journal never got its name: the run changed nothing.
    ///
    /// # Errors
    /// The disk's.
    pub fn take_back(&self, run: RunId) -> Result<(), SnapshotError> {
        let path = self.dir.join(begun_name(run));
        match own::rename(&path, &self.dir.join(record_draft_name(run))) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error(&path, e)),
            _ => Ok(()),
        }
    }

    /// Whether the draft of this run's record is here: its commit was under way.
    pub fn is_prepared(&self, run: RunId) -> bool {
        self.record_drafts(run).iter().any(|draft| own::is_file(draft))
    }

    pub(super) fn record_drafts(&self, run: RunId) -> [PathBuf; 2] {
        [begun_name(run), record_draft_name(run)].map(|name| self.dir.join(name))
    }

    /// Runs whose record was prepared and whose journal was not: they changed nothing.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn prepared(&self) -> Result<Vec<RunId>, SnapshotError> {
        let fail = |e| io_error(&self.dir, e);
        let mut runs = Vec::new();
        for name in own::names(&self.dir).map_err(fail)? {
            let hex = name.to_str().and_then(|n| n.strip_prefix(own::TEMP_PREFIX)?.strip_suffix(".record"));
            let Some(run) = hex.and_then(RunId::from_hex) else { continue };
            if self.by_run(run)?.is_none() {
                runs.push(run);
            }
        }
        Ok(runs)
    }

    /// Removes the drafts of a run that failed before its journal; what cannot be removed goes at the next start.
    pub fn discard(&self, run: RunId) {
        for path in self.record_drafts(run).into_iter().chain([self.dir.join(draft_name(run))]) {
            let _ = own::remove(&path);
        }
    }

    /// Removes drafts of runs that ended without a commit; only once no journal is pending.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn clear_drafts(&self) -> Result<(), SnapshotError> {
        own::clear_temp(&self.dir).map_err(|e| io_error(&self.dir, e))
    }
}
