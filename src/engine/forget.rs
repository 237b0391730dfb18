//! Takes a root out of the copy: its files go to history, a record says so.
//!
//! What other roots hold (a root above or below) stays: only what this root alone brought leaves.

use std::sync::Arc;

use super::client::now;
use super::error::{EngineError, ErrorKind};
use super::hub::{Hub, OpenCopy, Who};
use super::placed;
use super::receive::present_of;
use super::run_id;
use super::run_log::RunLog;
use crate::backup::entry::OwnerNames;
use crate::backup::lease::Holder;
use crate::backup::manifest::ChangeRecord;
use crate::backup::plan::{ContentPlace, Contents, Plan, PlanOptions, Planner};
use crate::backup::relpath::RelPath;
use crate::backup::snapshot::{RunKind, SnapshotRecord};
use crate::backup::spool::Spill;
use crate::net::link::Link;
use crate::net::message::{Busy, Forget};
use crate::store::catalog::{Row, RowKind};
use crate::store::commit::{CommitPlan, Publication, Publish as _, commit, make_ready};
use crate::store::leases::LeaseRequest;
use crate::store::present::{PassPlace, pass};
use crate::store::snapshots::{SnapshotError, Snapshots};
use crate::store::staging::Prepared;

/// Nothing arrives.
struct Nothing;

impl Contents for Nothing {
    fn is_staged(&self, _: &RelPath, _: &crate::backup::digest::Digest, _: u64) -> bool {
        false
    }

    fn find(&self, _: &crate::backup::digest::Digest, _: u64) -> Option<ContentPlace> {
        None
    }
}

/// Serves the request.
///
/// # Errors
/// The root is not known, is locked, or the store fails.
pub(super) fn serve(hub: &Hub, who: &Who, link: &Link, request: Forget) -> Result<(), EngineError> {
    let root = RelPath::new(request.root.as_slice()).map_err(super::wire::WireError::from)?;
    let log = RunLog::begin(request.run, RunKind::Forget, &root);
    let served = serve_run(hub, who, link, &request, root, &log);
    log.end(hub, who, served.as_ref().map(|_| ()));
    served
}

fn serve_run(
    hub: &Hub,
    who: &Who,
    link: &Link,
    request: &Forget,
    root: RelPath,
    log: &RunLog,
) -> Result<(), EngineError> {
    let snapshots = hub.store.snapshots(who.copy())?;
    if let Some(record) = snapshots.by_run(request.run)? {
        return Ok(link.send(super::receive::receipt_again(&record, RunKind::Forget, &root)?)?);
    }
    let newest = snapshots.newest(&root)?.filter(|r| r.kind == RunKind::Backup);
    let Some(newest) = newest else { return Err(no_root(&snapshots, &root)?) };
    let request_lease = LeaseRequest {
        copy: who.copy().clone(),
        root: root.clone(),
        recursive: true,
        holder: Holder { key: who.identity.key.unwrap_or_default(), run: request.run, name: who.name(), since: now() },
        wait: None,
        on_revoke: Arc::new(|| {}),
    };
    let _lease = hub.leases.acquire(request_lease, &mut |_| true)?;
    hub.make_ready(who.copy())?;
    run_id::check(hub, who.copy(), &root, request.run)?;
    link.send(Busy { phase: 1 })?;
    let copy = OpenCopy::open(hub, who.copy())?;
    let mut others = snapshots.roots()?;
    others.retain(|other| other.root != root);
    let plan = plan(hub, &copy, &root, newest.recursive, &others)?;
    let record = record(hub, who, request, &root, &newest, &plan, &snapshots)?;
    let draft = snapshots.draft(
        request.run,
        None,
        &OwnerNames::default(),
        0,
        std::iter::empty::<Result<ChangeRecord, SnapshotError>>(),
    )?;
    let record = SnapshotRecord { manifest: draft.digest, manifest_file: draft.manifest_file, ..record };
    // What a run of this root left there is of no use any more.
    hub.open_staging(who.copy(), &root)?.remove(&hub.own_dir("staging")?)?;
    let staging = hub.open_staging(who.copy(), &root)?;
    let prepared = Prepared::default();
    let commit_plan = CommitPlan {
        run: request.run,
        copy: who.copy(),
        root: &root,
        staging: &staging.id,
        record: record.encode().map_err(|e| EngineError::new(ErrorKind::Failed, e.to_string()))?,
        plan: &plan,
        prepared: &prepared,
    };
    let publish = Publication { snapshots: &snapshots, record: &record, draft: draft.name.as_deref() };
    publish.prepare()?;
    placed::preserve(hub, &copy, &root, request.run, &plan)?;
    let journal = commit_plan.journal()?;
    let dirs = hub.commit_dirs(&copy);
    hub.set_exact(who.copy(), &root, None);
    hub.check_commit(who)?;
    let phase = |phase| drop(link.sender.try_send(Busy { phase }));
    make_ready(&dirs, &journal, &publish, &phase)
        .and_then(|ready| commit(ready, &dirs, &journal, &publish, &phase))
        .map_err(|e| hub.commit_failed(request.run, who.copy(), e))?;
    log.committed(record.number);
    // It is committed whatever becomes of the rest, which the next run puts right.
    let told = placed::update_catalog(hub, &copy, &root, request.run, &plan, &prepared)
        .and_then(|()| placed::look_again(hub, &copy, &root, &plan))
        .and_then(|()| Ok(staging.remove(&hub.own_dir("staging")?)?));
    if let Err(error) = told {
        tracing::warn!("after the commit: {error}");
    }
    Ok(link.send(super::receive::receipt_of(&record))?)
}

/// Why there is nothing to forget.
fn no_root(snapshots: &Snapshots, root: &RelPath) -> Result<EngineError, EngineError> {
    let roots = snapshots.roots()?;
    let names: Vec<&RelPath> = roots.iter().map(|record| &record.root).collect();
    let message = if let Some(above) = names.iter().filter(|other| root.is_within(other)).max() {
        format!("'/{root}' is no root of its own, but a part of the root '/{above}': only the whole can be forgotten")
    } else if let Some(below) = names.iter().find(|other| other.is_within(root)) {
        format!("'/{root}' is no root, but '/{below}' below it is: name that")
    } else if snapshots.newest(root)?.is_some() {
        format!("the root '/{root}' was forgotten already")
    } else {
        format!("'/{root}' is not a root that was backed up here; 'rbbackup status' lists those that were")
    };
    Ok(EngineError::new(ErrorKind::Failed, message))
}

/// Whether a root's backups look at this path of the copy.
fn holds(other: &SnapshotRecord, row: &Row) -> bool {
    if other.recursive {
        return row.path.is_within(&other.root);
    }
    row.path == other.root || (row.kind != RowKind::Dir && row.path.parent().as_ref() == Some(&other.root))
}

/// Everything below the root leaves, but for what other roots hold.
fn plan(
    hub: &Hub,
    copy: &OpenCopy,
    root: &RelPath,
    recursive: bool,
    others: &[Arc<SnapshotRecord>],
) -> Result<Plan, EngineError> {
    let reader = hub.catalog.reader()?;
    let safe_before = super::receive::tick_before_now();
    let place = PassPlace { copy_dir: &copy.dir, copy: copy.id, root, recursive: true, safe_before };
    let found = pass(&hub.catalog, &reader, &place)?;
    // Nothing arrives.
    let mut planner = Planner::new(PlanOptions { delete: true, silent: true, shallow: false }, &Spill::default());
    for row in reader.range(copy.id, root) {
        let row = row?;
        let path = row.path.strip_prefix(root).unwrap_or_default();
        let others_hold = others.iter().any(|other| holds(other, &row));
        let deeper = !recursive && (path.depth() > 1 || row.kind == RowKind::Dir && path.depth() == 1);
        planner.push(Some(present_of(row, path, &found.shared)), None, others_hold || deeper).map_err(in_memory)?;
    }
    planner.finish(&Nothing).map_err(in_memory)
}

fn in_memory(error: std::io::Error) -> EngineError {
    EngineError::new(ErrorKind::Failed, error.to_string())
}

fn record(
    hub: &Hub,
    who: &Who,
    request: &Forget,
    root: &RelPath,
    newest: &SnapshotRecord,
    plan: &Plan,
    snapshots: &Snapshots,
) -> Result<SnapshotRecord, EngineError> {
    Ok(SnapshotRecord {
        number: snapshots.next_number()?,
        kind: RunKind::Forget,
        root: root.clone(),
        recursive: newest.recursive,
        delete: true,
        run: request.run,
        parent: Some(newest.run),
        received: hub.now(),
        complete: true,
        counts: plan.counts.to_array(),
        entries: 0,
        files: 0,
        bytes: 0,
        content_bytes: 0,
        errors: Vec::new(),
        errors_total: 0,
        client: who.info(),
        ..newest.clone()
    })
}
