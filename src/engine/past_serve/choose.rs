//! Which snapshot answers a question about a path, and what is there instead when none does.

use std::sync::Arc;

use crate::backup::relpath::RelPath;
use crate::backup::snapshot::{RunKind, SnapshotRecord};
use crate::backup::when::{When, no_such_number, ranges, roots_at};
use crate::engine::error::{EngineError, ErrorKind, show_moment};
use crate::store::snapshots::Snapshots;

/// Most roots that an error names.
const ROOTS_SHOWN_MAX: usize = 5;

/// A snapshot and the path below its root.
pub(in crate::engine) type Chosen = (Arc<SnapshotRecord>, RelPath);

fn absent(message: String) -> EngineError {
    EngineError::new(ErrorKind::Absent, message)
}

/// The snapshot that has `path` at that time.
///
/// # Errors
/// A sentence that says which snapshots have it, or what there is; or a manifest cannot be read.
pub(in crate::engine) fn choose(snapshots: &Snapshots, path: &RelPath, when: When) -> Result<Chosen, EngineError> {
    match when {
        When::Latest => match snapshots.steadily(|_| snapshots.newest_containing(path))? {
            Some(found) => Ok(found),
            None => Err(nothing_there(snapshots, path)?),
        },
        When::Number(number) => {
            let record = numbered(snapshots, number)?;
            let Some(inner) = path.strip_prefix(&record.root) else {
                let why = format!("snapshot {number} is one of '/{}', which '/{path}' is not in", record.root);
                return Err(instead(snapshots, path, &why)?);
            };
            match snapshots.find(number, &inner) {
                Ok(Some(_)) => Ok((record, inner)),
                Ok(None) => Err(instead(snapshots, path, &format!("snapshot {number} has no '/{path}'"))?),
                // It may have expired just now.
                Err(error) => Err(numbered(snapshots, number).err().unwrap_or_else(|| error.into())),
            }
        }
        When::Before { .. } => {
            let found = snapshots.steadily(|records| {
                let mut found: Vec<_> = roots_at(records, when).into_values().collect();
                found.sort_unstable_by_key(|record| std::cmp::Reverse(record.number));
                for record in found {
                    let Some(inner) = path.strip_prefix(&record.root) else { continue };
                    if snapshots.find(record.number, &inner)?.is_some() {
                        return Ok(Some((record, inner)));
                    }
                }
                Ok(None)
            })?;
            if let Some(chosen) = found {
                return Ok(chosen);
            }
            Err(instead(snapshots, path, &format!("no backup had '/{path}' at that time"))?)
        }
    }
}

/// The backup of this number.
///
/// # Errors
/// It is not there, or holds nothing: a sentence that says what is.
pub(in crate::engine) fn numbered(snapshots: &Snapshots, number: u64) -> Result<Arc<SnapshotRecord>, EngineError> {
    let records = snapshots.list()?;
    let numbers: Vec<u64> = records.iter().map(|record| record.number).collect();
    if let Some((_, why)) = snapshots.damaged()?.into_iter().find(|(damaged, _)| *damaged == number) {
        return Err(EngineError::new(ErrorKind::Failed, why));
    }
    let Some(record) = records.iter().find(|record| record.number == number) else {
        return Err(absent(no_such_number(number, &numbers)));
    };
    if record.kind == RunKind::Backup {
        return Ok(record.clone());
    }
    let of_root = |other: u64| records.iter().any(|r| r.number == other && r.root == record.root);
    let earlier: Vec<u64> = numbers.into_iter().filter(|other| *other < number && of_root(*other)).collect();
    let mut message = format!("snapshot {number} holds nothing: '/{}' was forgotten then", record.root);
    if !earlier.is_empty() {
        message.push_str(&format!("; before it there are {}", ranges(&earlier, |_| true)));
    }
    Err(absent(message))
}

/// `why`, and which snapshots have the path instead.
pub(super) fn instead(snapshots: &Snapshots, path: &RelPath, why: &str) -> Result<EngineError, EngineError> {
    let (records, related, history) = snapshots.steadily(|records| {
        let related: Vec<u64> = records.iter().filter(|r| path.is_within(&r.root)).map(|r| r.number).collect();
        let history = snapshots.mentions(&related, path)?;
        Ok((records.to_vec(), related, history))
    })?;
    let Some(history) = history else {
        return Ok(absent(format!("{why}; {}", known_roots(snapshots, path)?)));
    };
    let root_of = |number: u64| records.iter().find(|record| record.number == number).map(|record| &record.root);
    let has = |number: u64| {
        let in_version = |v: &crate::backup::timeline::Version| v.first <= number && number <= v.last;
        history.versions.iter().any(|v| in_version(v) && root_of(number) == Some(&*v.root))
    };
    let newest = related.iter().rev().find(|number| has(**number));
    let newest = newest.and_then(|number| records.iter().find(|record| record.number == *number));
    let of = newest.map_or_else(String::new, |record| format!(" (of {})", show_moment(record.received)));
    Ok(absent(format!("{why}; it is in {}{of}", ranges(&related, has))))
}

/// No snapshot has the path at all.
pub(super) fn nothing_there(snapshots: &Snapshots, path: &RelPath) -> Result<EngineError, EngineError> {
    Ok(absent(format!("no backup has '/{path}'; {}", known_roots(snapshots, path)?)))
}

/// The roots that are backed up, and whether this path is a folder above some.
fn known_roots(snapshots: &Snapshots, path: &RelPath) -> Result<String, EngineError> {
    let mut roots: Vec<RelPath> = snapshots.roots()?.iter().map(|record| record.root.clone()).collect();
    // Those that the path leads to are what is looked for.
    roots.sort_by_key(|root| !root.is_within(path));
    let names: Vec<String> = roots.iter().map(|root| format!("'/{root}'")).collect();
    let shown = names.get(..ROOTS_SHOWN_MAX.min(names.len())).unwrap_or_default().join(", ");
    Ok(match names.len() {
        0 => "nothing has been backed up here yet".to_owned(),
        1..=ROOTS_SHOWN_MAX => format!("backed up is {shown}"),
        more => format!("backed up is {shown} and {} more", more - ROOTS_SHOWN_MAX),
    })
}
