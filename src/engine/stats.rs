//! The store's side of `Stats`: what each copy holds, and what keeping its past takes.

use std::collections::BTreeMap;

use super::error::{EngineError, ErrorKind};
use super::hub::{Hub, Who};
use super::{history, room};
use crate::backup::bytes::Bytes;
use crate::backup::snapshot::RunKind;
use crate::net::link::Link;
use crate::net::message::{CopyStats, RootStats, Stats, StatsEnd};
use crate::store::names::CopyName;
use crate::store::registry::Right;
use crate::store::verified::VerifiedState;
use crate::tree::own;

/// Bytes of the roots that one message tells of; the largest are not more important than the others, but there is an end.
const ROOTS_BYTES_MAX: usize = 512 * 1024;

/// Serves the request.
///
/// # Errors
/// Not allowed; snapshots or packs cannot be listed; the client has gone.
pub(super) fn serve(hub: &Hub, who: &Who, link: &Link, request: &Stats) -> Result<(), EngineError> {
    let copies = if request.all {
        if !who.identity.may(Right::Admin) {
            return Err(EngineError::new(
                ErrorKind::NotAllowed,
                "statistics of the whole store take the right 'admin'",
            ));
        }
        hub.store.copies()?
    } else {
        vec![who.copy().clone()]
    };
    for copy in &copies {
        link.send(of_copy(hub, copy)?)?;
    }
    Ok(link.send(StatsEnd { copies: copies.len() as u64 })?)
}

fn of_copy(hub: &Hub, copy: &CopyName) -> Result<CopyStats, EngineError> {
    let snapshots = hub.store.snapshots(copy)?;
    let vault = hub.vault(copy)?;
    let (retired_files, retired_bytes) = history::retired(hub, copy)?;
    let (mut packs, mut pack_bytes, mut raw_bytes) = (0, 0, 0);
    for pack in vault.packs()? {
        // A damaged one takes its space too.
        let length = own::look(&vault.pack_path(pack)).map_or(0, |found| found.size);
        (packs, pack_bytes) = (packs + 1, pack_bytes + length);
        let raw = vault.index(pack).map_or(0, |index| index.blobs.iter().map(|blob| u64::from(blob.raw)).sum());
        raw_bytes += raw;
    }
    let owner = hub.registry.list().into_iter().map(|member| member.identity).find(|identity| identity.copy == *copy);
    let space = &hub.rules.now().space;
    let quota = owner.as_ref().map_or_else(|| space.quota_of(copy), |owner| space.quota(owner));
    let quota = (room::usage(hub, copy)?.total(), quota.unwrap_or(0));
    let verified = VerifiedState::load(&hub.store.meta_path("verified"), copy);
    let records = snapshots.list()?;
    let backups = records.iter().filter(|record| record.kind == RunKind::Backup);
    let (count, logical_bytes) = backups.fold((0, 0_u64), |(n, bytes), r| (n + 1, bytes.saturating_add(r.bytes)));
    Ok(CopyStats {
        node: copy.node().as_bytes().into(),
        user: copy.user().as_bytes().into(),
        roots: roots(&records),
        snapshots: count,
        logical_bytes,
        snapshot_bytes: snapshots.bytes_on_disk()?,
        retired_files,
        retired_bytes,
        packs,
        pack_bytes,
        raw_bytes,
        quota,
        verified_secs: verified.as_ref().map_or(0, |state| state.ended_secs),
        damages: verified.map_or(0, |state| state.damages),
    })
}

fn roots(records: &[std::sync::Arc<crate::backup::snapshot::SnapshotRecord>]) -> Vec<RootStats> {
    let mut roots = BTreeMap::new();
    for record in records {
        if record.kind == RunKind::Forget {
            roots.remove(&record.root);
            continue;
        }
        let root = roots.entry(record.root.clone()).or_insert_with(|| RootStats {
            root: Bytes::from(record.root.as_bytes()),
            snapshots: 0,
            newest: 0,
            files: 0,
            bytes: 0,
            complete_secs: 0,
        });
        root.snapshots += 1;
        (root.newest, root.files, root.bytes) = (record.number, record.files, record.bytes);
        if record.complete {
            root.complete_secs = record.received.secs;
        }
    }
    let mut bytes = 0;
    let fits = |root: &RootStats| {
        bytes += root.root.0.len() + 64;
        bytes <= ROOTS_BYTES_MAX
    };
    roots.into_values().take_while(fits).collect()
}
