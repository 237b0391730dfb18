//! `snapshots` and `runs`: the records, as they are.

use super::parts::Parts;
use crate::backup::relpath::RelPath;
use crate::backup::snapshot::{RunKind, RunOutcome, RunRecord, SnapshotRecord};
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::hub::{Hub, Who};
use crate::engine::wire::{WireError, sentences};
use crate::net::link::Link;
use crate::net::message::{self, RunList, SnapshotList, WireRun, WireSnapshot};
use crate::store::runs::RunsError;

/// Most runs that are told of at once.
const RUNS_MAX: usize = 10_000;
/// Most errors of one run that are told.
const RUN_ERRORS_MAX: usize = 20;

/// Answers `Snapshots`.
///
/// # Errors
/// Records cannot be read, or the client has gone.
pub(in crate::engine) fn snapshots(
    hub: &Hub,
    who: &Who,
    link: &Link,
    asked: message::Snapshots,
) -> Result<(), EngineError> {
    let path = RelPath::new(asked.path.as_slice()).map_err(WireError::from)?;
    let snapshots = hub.store.snapshots(who.copy())?;
    let mut damaged = sentences(snapshots.damaged()?.into_iter().map(|(_, why)| why));
    let make = |snapshots, more| SnapshotList { snapshots, damaged: std::mem::take(&mut damaged), more }.into();
    let mut parts = Parts::new(link, make);
    for record in snapshots.list()? {
        if path.is_within(&record.root) || record.root.is_within(&path) {
            parts.push(snapshot_to_wire(&record), 160 + record.root.as_bytes().len())?;
        }
    }
    parts.finish()
}

fn snapshot_to_wire(record: &SnapshotRecord) -> WireSnapshot {
    let flags = [!record.complete, record.kind == RunKind::Forget, record.recursive, record.delete];
    WireSnapshot {
        number: record.number,
        root: record.root.as_bytes().into(),
        time_secs: record.received.secs,
        flags: flags.iter().enumerate().map(|(bit, set)| u8::from(*set) << bit).sum(),
        entries: record.entries,
        files: record.files,
        bytes: record.bytes,
        content_bytes: record.content_bytes,
        counts: record.counts,
        errors: record.errors_total,
        manifest: record.manifest,
    }
}

/// Answers `Runs`.
///
/// # Errors
/// The folder cannot be read, or the client has gone.
pub(in crate::engine) fn runs(hub: &Hub, who: &Who, link: &Link, asked: message::Runs) -> Result<(), EngineError> {
    let count = usize::try_from(asked.count).unwrap_or(RUNS_MAX).min(RUNS_MAX);
    let mut parts = Parts::new(link, |runs, more| RunList { runs, more }.into());
    let failed = |e: RunsError| EngineError::new(ErrorKind::Failed, e.to_string());
    for record in hub.store.runs(who.copy()).newest(count).map_err(failed)? {
        let run = run_to_wire(&record);
        let bytes = run.errors.iter().map(|error| error.0.len() + 8).sum::<usize>();
        parts.push(run, 160 + record.root.as_bytes().len() + bytes)?;
    }
    parts.finish()
}

fn run_to_wire(record: &RunRecord) -> WireRun {
    let (snapshot, exit_code, message) = match &record.outcome {
        RunOutcome::Committed { snapshot } => (*snapshot, 0, &[][..]),
        RunOutcome::Failed { exit_code, message } => (0, *exit_code, message.as_bytes()),
    };
    WireRun {
        run: record.run,
        forget: record.kind == RunKind::Forget,
        root: record.root.as_bytes().into(),
        started_secs: record.started.secs,
        ended_secs: record.ended.secs,
        snapshot,
        exit_code,
        message: message.into(),
        content_bytes: record.content_bytes,
        errors: sentences(record.errors.iter().take(RUN_ERRORS_MAX).cloned()),
        errors_total: record.errors_total,
    }
}
