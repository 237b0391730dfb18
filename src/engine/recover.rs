//! What a crash interrupted is put right when a store is opened: commits are finished, leftovers cleared.

use std::sync::Arc;

use super::client::now;
use super::error::{EngineError, ErrorKind};
use crate::backup::relpath::RelPath;
use crate::backup::snapshot::{ManifestRef, SnapshotRecord};
use crate::store::commit::{CommitDirs, pending, replay};
use crate::store::layout::Store;
use crate::store::names::CopyName;
use crate::store::snapshots::draft_name;
use crate::tree::error::TreeError;
use crate::tree::safe_dir::SafeDir;
use crate::tree::stat::FileKind;

/// Staging that nobody came back for is cleared after this long.
const STAGING_KEPT_SECS: i64 = 7 * 24 * 3600;

/// Finishes every commit whose journal is there, then clears drafts and staging of commits that are over.
///
/// # Errors
/// A journal cannot be carried out: it and the copy are left as they are, and the sentence says what to do.
pub(super) fn finish_commits(store: &Store, own: &Arc<SafeDir>) -> Result<(), EngineError> {
    let staging = own.open_dir(&rel(b"staging"))?;
    for journal in pending(own)? {
        let name = CopyName::new(journal.node.as_slice(), journal.user.as_slice())
            .map_err(|e| EngineError::new(ErrorKind::Failed, format!("the journal {} is damaged: {e}", journal.run)))?;
        let record = SnapshotRecord::decode(journal.record.as_slice())
            .map_err(|e| EngineError::new(ErrorKind::Failed, format!("the journal {} is damaged: {e}", journal.run)))?;
        let snapshots = store.snapshots(&name)?;
        let draft = draft_name(record.run);
        let draft = (!matches!(record.manifest_file, ManifestRef::Same { .. })).then_some(draft.as_str());
        let dirs = CommitDirs {
            own: Arc::clone(own),
            copy: Arc::new(store.copy_dir(&name)?),
            policy: store.policy(),
            turn: Arc::default(),
        };
        let publish = || snapshots.publish(&record, draft).map_err(|e| e.to_string());
        replay(&dirs, &journal, &publish)?;
        staging.remove_tree(journal.staging.as_slice())?;
        tracing::info!("finished the interrupted commit of '/{}' (snapshot {})", record.root, record.number);
    }
    for copy in store.copies()? {
        store.snapshots(&copy)?.clear_drafts()?;
    }
    clear_retired(store, own)?;
    clear_staging(&staging)
}

fn rel(bytes: &[u8]) -> RelPath {
    RelPath::new(bytes).unwrap_or_default()
}

/// Retired files of runs that were never committed are copies that a commit was preparing; nobody needs them.
fn clear_retired(store: &Store, own: &SafeDir) -> Result<(), EngineError> {
    let retired = own.open_dir(&rel(b"retired"))?;
    let mut known = std::collections::HashSet::new();
    for copy in store.copies()? {
        known.extend(store.snapshots(&copy)?.list()?.iter().map(|r| r.run.to_hex().into_bytes()));
        if !store.snapshots(&copy)?.damaged()?.is_empty() {
            // A record that cannot be read may be the one: nothing is removed.
            return Ok(());
        }
    }
    for entry in retired.names()? {
        if !known.contains(&entry.name) {
            retired.remove_tree(&entry.name)?;
        }
    }
    Ok(())
}

/// Staging belongs to (copy, root) and waits for its next run; what nobody claimed for a week, or whose owner cannot be
/// told, goes. So does what holds no content: most often the rest of a run that was committed, names that it took away.
fn clear_staging(staging: &SafeDir) -> Result<(), EngineError> {
    let oldest = now().minus(STAGING_KEPT_SECS, 0);
    for entry in staging.names()? {
        let owner = staging.open_child(&entry.name).and_then(|dir| {
            // No journal is pending any more: what stands here was on its way when a run ended.
            dir.remove_tree(b"park").or_else(|e| if e.is_not_found() { Ok(()) } else { Err(e) })?;
            let owner = dir.stat(b"owner")?;
            Ok(if holds_content(&dir)? { Some(owner) } else { None })
        });
        if owner.is_ok_and(|owner| owner.is_some_and(|stat| stat.ctime > oldest)) {
            continue;
        }
        staging.remove_tree(&entry.name)?;
    }
    Ok(())
}

/// Whether a staged tree has any file of its own; a name that shares its inode was made by a plan.
fn holds_content(folder: &SafeDir) -> Result<bool, TreeError> {
    let mut todo = vec![rel(b"tree")];
    while let Some(path) = todo.pop() {
        let dir = folder.open_dir(&path)?;
        for entry in dir.names()? {
            let stat = dir.stat(&entry.name)?;
            match stat.kind {
                FileKind::Dir => todo.extend(path.join(&entry.name)),
                FileKind::File if stat.nlink == 1 => return Ok(true),
                _ => {}
            }
        }
    }
    Ok(false)
}
