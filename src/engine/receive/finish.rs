//! The end of a run: prepare, commit, catalog, receipt.

use std::thread::{self, Scope, ScopedJoinHandle};

use super::incoming::Incoming;
use super::manifest_file::draft;
use super::{Run, feed::Planned, hold, receipt_of};
use crate::backup::bytes::Bytes;
use crate::backup::limits::BATCH_COUNT_MAX;
use crate::backup::plan::{Line, MissingContent, Plan};
use crate::backup::snapshot::{ManifestRef, RunKind, SnapshotRecord};
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::placed;
use crate::engine::stopwatch::Stopwatch;
use crate::engine::wire::sentences;
use crate::net::link::Link;
use crate::net::message::{Committed, Message, PlanLines};
use crate::store::commit::{CommitError, CommitPlan, Publication, Publish as _, commit as commit_plan, make_ready};
use crate::store::snapshots::ManifestDraft;
use crate::store::staging::{PrepareError, PrepareSources, Prepared, VaultSource};

/// Bytes of a dry run's lines after which a message is closed.
const LINES_BYTES_TARGET: usize = 512 * 1024;

/// How a round ended.
pub(super) enum Finished {
    /// This receipt has been sent.
    Committed(Box<Committed>),
    /// Content turned out to be damaged or gone.
    Missing(Vec<MissingContent>),
    /// It was prepared, and is taken back by this message: another round begins with it.
    Again(Box<Message>),
}

/// Tells what would be done, and whether it fits the quota.
///
/// # Errors
/// [`ErrorKind::NoSpace`]: it does not; what would be done has been told all the same.
pub(super) fn dry_run(
    run: &Run<'_>,
    link: &Link,
    incoming: &Incoming,
    planned: &Planned,
) -> Result<Committed, EngineError> {
    run.busy.leave();
    let (mut lines, mut bytes) = (Vec::new(), 0);
    for line in planned.plan.lines.iter().map(wire_line) {
        bytes += 8 + line.1.0.len() + line.2.0.len();
        lines.push(line);
        if lines.len() >= BATCH_COUNT_MAX || bytes >= LINES_BYTES_TARGET {
            link.send(PlanLines { lines: std::mem::take(&mut lines) })?;
            bytes = 0;
        }
    }
    link.send(PlanLines { lines })?;
    let fits = run.check_room(planned);
    if run.staging.is_empty() {
        run.staging.remove(&run.hub.own_dir("staging")?)?;
    }
    fits?;
    // Who goes on at once waits for the moment that is left.
    run.lease.finishing();
    let receipt = Committed {
        run: run.begin.run,
        snapshot: 0,
        manifest: incoming.digest,
        counts: planned.plan.counts.to_array(),
        files: 0,
        bytes: 0,
        bytes_missing: planned.plan.bytes_missing(),
        incomplete: incoming.incomplete,
        notes: Vec::new(),
        copies: Vec::new(),
        enough: true,
    };
    link.send(receipt.clone())?;
    Ok(receipt)
}

fn wire_line(line: &Line) -> (u8, Bytes, Bytes) {
    let bytes = |path: &crate::backup::relpath::RelPath| Bytes(path.as_bytes().to_vec());
    match line {
        Line::Create(path) => (0, bytes(path), Bytes::default()),
        Line::Update(path) => (1, bytes(path), Bytes::default()),
        Line::Move(from, to) => (2, bytes(from), bytes(to)),
        Line::Delete(path) => (3, bytes(path), Bytes::default()),
        Line::Touch(path) => (4, bytes(path), Bytes::default()),
    }
}

/// Prepares and commits; the receipt is sent only when everything is durable.
pub(super) fn commit(
    run: &Run<'_>,
    link: &mut Link,
    incoming: &Incoming,
    planned: Planned,
    content_bytes: u64,
) -> Result<Finished, EngineError> {
    run.busy.enter(2);
    let Planned { plan, nothing, draft: early, .. } = planned;
    let mut watch = Stopwatch::start();
    let mut notes = Vec::new();
    let retired = std::sync::Arc::new(run.hub.own_dir("retired")?);
    let vault = VaultSource { vault: &run.vault, known: run.known() };
    let sources = PrepareSources { copy: &run.copy.dir, root: &run.root, retired: &retired, vault };
    let prepared = match run.staging.prepare(&plan, &sources, &mut notes) {
        Ok(prepared) => prepared,
        Err(PrepareError::Missing(missing)) => {
            run.snapshots.discard(run.begin.run);
            let damaged: Vec<_> = missing.iter().map(|m| m.digest).collect();
            super::feed::forget_content(run, &damaged)?;
            return Ok(Finished::Missing(missing));
        }
        Err(PrepareError::Tree(error)) => {
            run.snapshots.discard(run.begin.run);
            return Err(error.into());
        }
    };
    watch.lap("prepare");
    let draft = match early {
        _ if nothing => same_as_newest(run)?,
        Some(draft) => draft,
        None => draft(run, incoming, &plan.kept)?,
    };
    let record = record(run, incoming, &plan, &draft, content_bytes)?;
    watch.lap("manifest");
    run.lease.check().map_err(|e| EngineError::new(ErrorKind::Unreachable, e.to_string()))?;
    // An early flush, or the commit of another run, may have failed meanwhile.
    run.hub.check_commit(run.who)?;
    let outcome = thread::scope(|scope| {
        let mut rows = None;
        if plan.is_empty() {
            if let Some(word) = publish(run, link, &record, &draft, !nothing)? {
                return Ok(Err(word));
            }
        } else {
            match place(scope, run, link, (&plan, &prepared), (&record, &draft))? {
                Ok(thread) => rows = Some(thread),
                Err(word) => return Ok(Err(word)),
            }
            watch.lap("commit");
        }
        run.log.committed(record.number);
        run.room.committed();
        // Durable: what follows is the daemon's own housekeeping, which no client need wait for. The next run does.
        run.lease.finishing();
        let mut receipt = receipt_of(&record);
        receipt.notes = sentences(notes);
        tracing::info!("'/{}' is committed as snapshot {}", run.root, record.number);
        run.busy.leave();
        let told = link.send(receipt.clone()).map(|()| receipt);
        if run.terms.stays {
            run.busy.at_work(5);
        }
        if let Some(rows) = rows {
            look_again(run, &plan, rows);
            watch.lap("catalog");
        }
        Ok::<_, EngineError>(Ok(told))
    })?;
    let told = match outcome {
        Ok(told) => told,
        Err(message) => return Ok(Finished::Again(message)),
    };
    run.hub.set_exact(&run.copy.name, &run.root, Some(record.number));
    let removed = run.hub.own_dir("staging").and_then(|dir| Ok(run.staging.remove(&dir)?));
    after_commit("staging was not cleared, the next run clears it", removed);
    Ok(Finished::Committed(Box::new(told?)))
}

/// The catalog's thread. See [`place`].
type Rows<'scope> = ScopedJoinHandle<'scope, Result<(), EngineError>>;

/// Waits until the catalog knows what the commit did, and then what the commit did to times.
fn look_again(run: &Run<'_>, plan: &Plan, rows: Rows<'_>) {
    let rows = rows.join().unwrap_or(Ok(()));
    after_commit("the catalog lags behind, the next run puts it right", rows);
    let told = placed::look_again(run.hub, &run.copy, &run.root, plan);
    after_commit("the catalog was not told, the next run looks again", told);
}

/// The run is committed whatever becomes of what follows: its receipt is given.
fn after_commit(what: &str, outcome: Result<(), EngineError>) {
    if let Err(error) = outcome {
        tracing::warn!("{what}: {error}");
    }
}

/// The manifest has not changed: no file is written.
fn same_as_newest(run: &Run<'_>) -> Result<ManifestDraft, EngineError> {
    let lost = || EngineError::new(ErrorKind::Failed, "the newest snapshot vanished");
    let newest = run.newest.as_ref().ok_or_else(lost)?;
    let of = match newest.manifest_file {
        ManifestRef::Same { of } => of,
        _ => newest.number,
    };
    let counts = run.snapshots.open_manifest(of)?.header().counts;
    Ok(ManifestDraft {
        manifest_file: ManifestRef::Same { of },
        name: None,
        digest: newest.manifest,
        counts,
        changes: 0,
    })
}

fn record(
    run: &Run<'_>,
    incoming: &Incoming,
    plan: &Plan,
    draft: &ManifestDraft,
    content_bytes: u64,
) -> Result<SnapshotRecord, EngineError> {
    Ok(SnapshotRecord {
        number: run.snapshots.next_number()?,
        kind: RunKind::Backup,
        root: run.root.clone(),
        recursive: run.begin.recursive,
        delete: run.begin.delete,
        run: run.begin.run,
        parent: run.terms.parent.or(run.newest.as_ref().map(|r| r.run)),
        manifest: draft.digest,
        manifest_file: draft.manifest_file,
        received: run.hub.now(),
        complete: !incoming.incomplete,
        counts: plan.counts.to_array(),
        entries: draft.counts.entries,
        files: draft.counts.files,
        bytes: draft.counts.bytes,
        content_bytes,
        errors: incoming.errors.clone(),
        errors_total: incoming.errors.len() as u64,
        file_system: run.begin.file_system,
        client: run.who.info(),
    })
}

/// The copy does not change: the record alone makes the snapshot. `flush`: the copy was looked at, and may hold what
/// somebody has just put back. Some: the run was taken back by this message.
fn publish(
    run: &Run<'_>,
    link: &mut Link,
    record: &SnapshotRecord,
    draft: &ManifestDraft,
    flush: bool,
) -> Result<Option<Box<Message>>, EngineError> {
    if flush || draft.name.is_some() {
        run.hub.own.sync_fs().map_err(|e| failed(run, CommitError::Flush(e)))?;
    }
    if let Some(message) = hold::until_told(run, link, record)? {
        return Ok(Some(message));
    }
    run.snapshots.publish(record, draft.name.as_deref()).map_err(|e| failed(run, e.into()))?;
    Ok(None)
}

fn failed(run: &Run<'_>, error: CommitError) -> EngineError {
    run.hub.commit_failed(run.begin.run, &run.copy.name, error)
}

/// The commit. The catalog follows on a thread of its own, which may take longer. Err: the run was taken back by this
/// message.
fn place<'scope>(
    scope: &'scope Scope<'scope, '_>,
    run: &'scope Run<'_>,
    link: &mut Link,
    (plan, prepared): (&'scope Plan, &'scope Prepared),
    (record, draft): (&'scope SnapshotRecord, &ManifestDraft),
) -> Result<Result<Rows<'scope>, Box<Message>>, EngineError> {
    let parent = run.root.parent().unwrap_or_default();
    run.copy.dir.make_dirs(&parent, 0o755)?;
    let encoded = record.encode().map_err(|e| EngineError::new(ErrorKind::Failed, e.to_string()))?;
    let commit = CommitPlan {
        run: record.run,
        copy: &run.copy.name,
        root: &run.root,
        staging: &run.staging.id,
        record: encoded,
        plan,
        prepared,
    };
    let dirs = run.hub.commit_dirs(&run.copy);
    let publish = Publication { snapshots: &run.snapshots, record, draft: draft.name.as_deref() };
    // First: it tells whose the copies are, should this end before the journal.
    publish.prepare()?;
    placed::preserve(run.hub, &run.copy, &run.root, record.run, plan)?;
    let journal = commit.journal()?;
    let phase = |phase| run.busy.enter(phase);
    let (hub, copy, root) = (run.hub, &run.copy, &run.root);
    let rows = || {
        run.hub.set_exact(&run.copy.name, &run.root, None);
        scope.spawn(move || placed::update_catalog(hub, copy, root, record.run, plan, prepared))
    };
    // The catalog is written while the disk flushes, and while the client already has its receipt; but not for a run
    // that may yet be taken back.
    let early = (!run.terms.hold).then(rows);
    let ready = make_ready(&dirs, &journal, &publish, &phase).map_err(|e| failed(run, e))?;
    if let Some(message) = hold::until_told(run, link, record)? {
        return Ok(Err(message));
    }
    let rows = early.unwrap_or_else(rows);
    commit_plan(ready, &dirs, &journal, &publish, &phase).map_err(|e| failed(run, e))?;
    Ok(Ok(rows))
}
