//! [`RunLog`]: what is written down of a run when it ends, well or not: one record in `runs/`, for people.
//!
//! It is no part of the run: no run waits for it to reach the disk, and none fails because it cannot be written. A dry
//! run, and a receipt that is given again, leave none; neither does a run whose daemon is killed.

use std::cell::RefCell;

use super::client::now;
use super::error::EngineError;
use super::hub::{Hub, Who};
use crate::backup::digest::RunId;
use crate::backup::fingerprint::Timestamp;
use crate::backup::relpath::RelPath;
use crate::backup::snapshot::{RunKind, RunOutcome, RunRecord};

/// See the module.
pub(super) struct RunLog {
    run: RunId,
    kind: RunKind,
    root: RelPath,
    started: Timestamp,
    told: RefCell<Told>,
}

#[derive(Default)]
struct Told {
    snapshot: Option<u64>,
    content_bytes: u64,
    errors: Vec<String>,
}

impl RunLog {
    /// A run begins.
    pub(super) fn begin(run: RunId, kind: RunKind, root: &RelPath) -> Self {
        Self { run, kind, root: root.clone(), started: now(), told: RefCell::default() }
    }

    /// So much content has arrived, and this could not be read.
    pub(super) fn heard(&self, content_bytes: u64, errors: &[String]) {
        let mut told = self.told.borrow_mut();
        told.content_bytes = content_bytes;
        errors.clone_into(&mut told.errors);
    }

    /// It counts, whatever becomes of its receipt.
    pub(super) fn committed(&self, snapshot: u64) {
        self.told.borrow_mut().snapshot = Some(snapshot);
    }

    /// Writes the record.
    pub(super) fn end(self, hub: &Hub, who: &Who, outcome: Result<(), &EngineError>) {
        let Told { snapshot, content_bytes, errors } = self.told.into_inner();
        let outcome = match (snapshot, outcome) {
            (Some(snapshot), _) => RunOutcome::Committed { snapshot },
            (None, Err(error)) => RunOutcome::Failed { exit_code: error.exit_code(), message: error.message.clone() },
            (None, Ok(())) => return,
        };
        let record = RunRecord {
            run: self.run,
            kind: self.kind,
            root: self.root,
            started: self.started,
            ended: now(),
            outcome,
            content_bytes,
            errors_total: errors.len() as u64,
            errors,
            client: who.info(),
        };
        if let Err(error) = hub.store.runs(who.copy()).put(&record) {
            tracing::warn!("the run's record was not written: {error}");
        }
    }
}
