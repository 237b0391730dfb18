//! The store's side of `Status`: the daemon, the asking identity's roots and runs, the space left.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::error::{EngineError, show_moment};
use super::fan_out::board::Destination;
use super::hub::{Hub, Who};
use super::wire::sentences;
use super::{history, room};
use crate::backup::relpath::RelPath;
use crate::backup::snapshot::{RunKind, SnapshotRecord};
use crate::net::link::Link;
use crate::net::message::{StatusReply, WireDestination};
use crate::store::names::CopyName;
use crate::store::registry::{Identity, Right};
use crate::tree::file_system::space_of;

/// Bytes of the roots that are told of.
const ROOTS_BYTES_MAX: usize = 512 * 1024;

/// Answers `Status`. An identity sees nothing of others but how many sessions there are.
///
/// # Errors
/// Snapshots or the catalog cannot be read, or the client has gone.
pub(crate) fn status(hub: &Hub, who: &Who, link: &Link) -> Result<(), EngineError> {
    let copy = who.copy();
    let roots = hub.store.snapshots(copy)?.roots()?;
    let mut bytes = 0;
    let fits = |record: &&Arc<SnapshotRecord>| {
        bytes += record.root.as_bytes().len() + 64;
        bytes <= ROOTS_BYTES_MAX
    };
    let roots = roots.iter().take_while(fits).map(|record| {
        let root = record.root.as_bytes().into();
        (root, record.number, record.received.secs, record.complete, record.files, record.bytes)
    });
    let name = copy.to_string();
    let running = hub.leases.held().into_iter().filter(|(scope, _)| scope.copy == name);
    let running = running.map(|(scope, holder)| {
        let since = show_moment(holder.since);
        format!("'/{}' by {}, since {since}", scope.root, holder.name)
    });
    Ok(link.send(StatusReply {
        uptime_secs: hub.started.elapsed().as_secs(),
        sessions: hub.sessions.load(Ordering::SeqCst),
        roots: roots.collect(),
        running: sentences(running),
        retired: if hub.is_relay() { (0, 0) } else { history::known(hub, copy)? },
        space: space(hub),
        quota: quota(hub, &who.identity)?,
        destinations: destinations(hub, who)?,
        relay: hub.is_relay(),
    })?)
}

/// What counts against an identity's quota, and the quota; without one 0, and nothing is looked at.
fn quota(hub: &Hub, identity: &Identity) -> Result<(u64, u64), EngineError> {
    match hub.rules.now().space.quota(identity) {
        Some(quota) if !hub.is_relay() => Ok((room::usage(hub, &identity.copy)?.total(), quota)),
        _ => Ok((0, 0)),
    }
}

/// Free and total bytes of the store's file system.
pub(super) fn space(hub: &Hub) -> (u64, u64) {
    space_of(hub.store.root_dir())
}

/// The destinations that take the copy's backups; for an administrator all of them. How far behind they are is counted over
/// all copies that they take: who is up to date holds what everybody has backed up.
pub(super) fn destinations(hub: &Hub, who: &Who) -> Result<Vec<WireDestination>, EngineError> {
    let (copy, sees_all) = (who.copy(), who.identity.may(Right::Admin));
    let there = hub.board.list();
    if there.is_empty() {
        return Ok(Vec::new());
    }
    let mut known = Vec::new();
    for copy in hub.store.copies()? {
        let snapshots = hub.store.snapshots(&copy)?;
        known.push((copy, snapshots.roots()?, snapshots.list()?));
    }
    let behind = |destination: &Destination| {
        let wanted = known.iter().filter(|(copy, ..)| destination.wants.admits(copy));
        let each = wanted
            .flat_map(|(copy, roots, all)| roots.iter().map(move |root| behind(all, copy, &root.root, destination)));
        each.sum()
    };
    let shown = there.into_iter().filter(|destination| sees_all || destination.wants.admits(copy));
    let tell = |destination: Destination| {
        let behind = behind(&destination);
        let running: Vec<String> =
            hub.board.running(destination.id).iter().map(|run| run.words(copy, sees_all)).collect();
        WireDestination {
            name: destination.name.into_bytes().into(),
            address: destination.address.map(|address| address.to_string()).unwrap_or_default().into_bytes().into(),
            since_secs: destination.since.secs,
            space: destination.space,
            behind,
            running: running.join("; ").into_bytes().into(),
        }
    };
    Ok(shown.map(tell).collect())
}

/// Backups of a root that are newer than what a destination holds of it.
pub(super) fn behind(all: &[Arc<SnapshotRecord>], copy: &CopyName, root: &RelPath, destination: &Destination) -> u64 {
    let head = destination.head(copy, root);
    let newest_first = all.iter().rev().filter(|record| record.root == *root && record.kind == RunKind::Backup);
    newest_first.take_while(|record| head.is_none_or(|head| head.run != record.run)).count() as u64
}
