//! `diff`: what changed between two moments, root by root.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::choose::{instead, numbered};
use super::parts::Parts;
use crate::backup::difference::{Action, Difference, Raw, Thing, differences};
use crate::backup::relpath::RelPath;
use crate::backup::snapshot::SnapshotRecord;
use crate::backup::timeline::PathHistory;
use crate::backup::when::{When, roots_at};
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::hub::{Hub, Who};
use crate::engine::wire::WireError;
use crate::net::link::Link;
use crate::net::message::{self, DiffList, WireDifference};
use crate::store::snapshots::Snapshots;

/// Differences that are held at once: moves are found among so many.
const WINDOW: usize = 200_000;
/// Most roots that are compared in one answer.
const ROOTS_MAX: usize = 1000;

/// One side: the snapshot of each root.
type Side = BTreeMap<RelPath, Arc<SnapshotRecord>>;

/// Answers `Diff`.
///
/// # Errors
/// There are no such snapshots, a manifest cannot be read, or the client has gone.
pub(in crate::engine) fn diff(hub: &Hub, who: &Who, link: &Link, asked: message::Diff) -> Result<(), EngineError> {
    let path = RelPath::new(asked.path.as_slice()).map_err(WireError::from)?;
    let snapshots = hub.store.snapshots(who.copy())?;
    let pairs = pairs(&snapshots, asked.from.into(), asked.to.into(), &path)?;
    let named = |record: &Option<Arc<SnapshotRecord>>| record.as_ref().map_or(0, |record| record.number);
    let mut between: Vec<_> =
        pairs.iter().map(|(root, from, to)| (root.as_bytes().into(), named(from), named(to))).collect();
    let make = |differences, more| DiffList { between: std::mem::take(&mut between), differences, more }.into();
    let mut parts = Parts::new(link, make);
    for (_, from, to) in &pairs {
        let mut raws = Vec::new();
        let numbers: Vec<u64> = [from, to].into_iter().flatten().map(|record| record.number).collect();
        let (from, to) = (named(from), named(to));
        for history in snapshots.timeline(&numbers, &path)? {
            raws.extend(raw(&history?, from, to));
            if raws.len() >= WINDOW {
                send(&mut parts, std::mem::take(&mut raws))?;
            }
        }
        send(&mut parts, raws)?;
    }
    parts.finish()
}

fn raw(history: &PathHistory, from: u64, to: u64) -> Option<Raw> {
    let at = |number: u64| {
        let version = history.versions.iter().find(|v| number > 0 && v.first <= number && number <= v.last);
        version.map(|version| &version.record.entry)
    };
    if let [one] = history.versions.as_slice()
        && one.snapshots == 2
    {
        return None;
    }
    Raw::of(&history.path, at(from), at(to))
}

fn send<F: FnMut(Vec<WireDifference>, bool) -> message::Message>(
    parts: &mut Parts<'_, WireDifference, F>,
    raws: Vec<Raw>,
) -> Result<(), EngineError> {
    for difference in differences(raws) {
        let bytes = 64 + difference.path.as_bytes().len() + difference.from.as_ref().map_or(0, |p| p.as_bytes().len());
        parts.push(to_wire(difference), bytes)?;
    }
    Ok(())
}

fn to_wire(difference: Difference) -> WireDifference {
    let Difference { path, action, from, before, after } = difference;
    WireDifference {
        action: match action {
            Action::Created => 0,
            Action::Changed => 1,
            Action::Moved => 2,
            Action::Deleted => 3,
            Action::Touched => 4,
        },
        kind: match after.as_ref().or(before.as_ref()) {
            Some(Thing::Dir) => 0,
            Some(Thing::File(..)) => 1,
            _ => 2,
        },
        path: path.as_bytes().into(),
        from: from.as_ref().map_or_else(Default::default, |from| from.as_bytes().into()),
        size_before: before.and_then(|thing| thing.size()),
        size_after: after.and_then(|thing| thing.size()),
    }
}

type Pair = (RelPath, Option<Arc<SnapshotRecord>>, Option<Arc<SnapshotRecord>>);

/// Which snapshots are compared, by root. A number names its root alone, and the other side follows it.
fn pairs(snapshots: &Snapshots, from: When, to: When, path: &RelPath) -> Result<Vec<Pair>, EngineError> {
    let (mut old, mut new) = (side(snapshots, from, path)?, side(snapshots, to, path)?);
    if matches!(from, When::Number(_)) {
        new.retain(|root, _| old.contains_key(root));
    }
    if matches!(to, When::Number(_)) {
        old.retain(|root, _| new.contains_key(root));
    }
    if let (When::Number(a), When::Number(b)) = (from, to)
        && (old.is_empty() || new.is_empty())
    {
        let root_of = |n: u64| numbered(snapshots, n).map(|record| record.root.clone());
        let message = format!("snapshot {a} is one of '/{}', snapshot {b} one of '/{}'", root_of(a)?, root_of(b)?);
        return Err(EngineError::new(ErrorKind::Failed, format!("{message}: they cannot be compared")));
    }
    if old.is_empty() && (new.is_empty() || !matches!(from, When::Latest)) {
        return Err(instead(snapshots, path, &format!("no backup had '/{path}' at the first of these moments"))?);
    }
    let mut roots: Vec<RelPath> = old.keys().chain(new.keys()).cloned().collect();
    roots.sort();
    roots.dedup();
    roots.truncate(ROOTS_MAX);
    let mut found = Vec::new();
    let mut any = false;
    for root in roots {
        let (before, after) = (old.remove(&root), new.remove(&root));
        if let Some(inner) = path.strip_prefix(&root) {
            for record in [&before, &after].into_iter().flatten() {
                any |= snapshots.find(record.number, &inner)?.is_some();
            }
        } else {
            any = true;
        }
        found.push((root, before, after));
    }
    if any { Ok(found) } else { Err(instead(snapshots, path, &format!("neither of these has '/{path}'"))?) }
}

fn side(snapshots: &Snapshots, when: When, path: &RelPath) -> Result<Side, EngineError> {
    if let When::Number(number) = when {
        let record = numbered(snapshots, number)?;
        if !path.is_within(&record.root) && !record.root.is_within(path) {
            let why = format!("snapshot {number} is one of '/{}', which '/{path}' is not in", record.root);
            return Err(instead(snapshots, path, &why)?);
        }
        return Ok([(record.root.clone(), record)].into());
    }
    let mut roots = roots_at(&snapshots.list()?, when);
    roots.retain(|root, _| path.is_within(root) || root.is_within(path));
    Ok(roots)
}
