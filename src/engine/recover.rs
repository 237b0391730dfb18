//! What a crash interrupted is put right: commits are finished, leftovers cleared, when a store is opened.
//!
//! A journal that cannot be carried out closes the copy it belongs to for writing ([`Pending`]), and no other. It is
//! tried again by the next run of that copy: what stood in the way (a full disk, a file that somebody moved) may be
//! gone, or the journal itself. As long as one is pending nothing is cleared that it may need.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::client::now;
use super::error::{EngineError, ErrorKind};
use super::hub::Hub;
use crate::backup::bytes::escape;
use crate::backup::digest::RunId;
use crate::backup::fingerprint::Timestamp;
use crate::backup::lease::Scope;
use crate::backup::relpath::RelPath;
use crate::backup::snapshot::{ManifestRef, RecordError, SnapshotRecord};
use crate::store::commit::{
    CommitDirs, CommitError, Publication, pending, read_journal, remove_draft, remove_journal, replay,
};
use crate::store::journal::Journal;
use crate::store::layout::{Store, StoreError};
use crate::store::names::{CopyName, NameError};
use crate::store::snapshots::{SnapshotError, draft_name};
use crate::store::staging::staging_id;
use crate::tree::error::TreeError;
use crate::tree::safe_dir::SafeDir;
use crate::tree::stat::FileKind;

/// Staging that nobody came back for is cleared after this long; a daemon looks at most this often.
const STAGING_KEPT_SECS: i64 = 7 * 24 * 3600;
const SWEEP_EVERY_SECS: i64 = 3600;

/// Whose turn it is to change a copy.
type Turn<'a> = dyn Fn(&CopyName) -> Arc<Mutex<()>> + 'a;

/// A commit that could not be finished.
struct Waiting {
    run: RunId,
    /// None: its journal does not say, so it may be any.
    copy: Option<CopyName>,
    why: EngineError,
    /// A flush failed: what is on disk is not known.
    flush: bool,
}

impl Waiting {
    fn concerns(&self, copy: &CopyName) -> bool {
        self.copy.as_ref().is_none_or(|waiting| waiting == copy)
    }
}

/// Commits that wait to be finished; the copies they belong to take nothing new until then.
#[derive(Default)]
pub(super) struct Pending {
    /// Held for moments only: every commit asks.
    list: Mutex<Vec<Waiting>>,
    /// Held by the one that tries again, as long as that takes.
    retrying: Mutex<()>,
}

impl Pending {
    fn list(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list().is_empty()
    }

    /// Refuses when a commit of this copy waits.
    pub(super) fn check(&self, copy: &CopyName) -> Result<(), EngineError> {
        self.list().iter().find(|waiting| waiting.concerns(copy)).map_or(Ok(()), |waiting| Err(waiting.why.clone()))
    }

    /// A commit of this process failed after its journal.
    pub(super) fn add(&self, store: &Store, run: RunId, copy: &CopyName, error: &CommitError) {
        let why = refusal(store, run, Some(copy), &error.to_string());
        self.list().push(Waiting { run, copy: Some(copy.clone()), why, flush: false });
    }

    /// Tries again to finish what waits in this copy. To be asked with a lease in hand.
    ///
    /// # Errors
    /// The copy is still refused; and whether a flush failed now.
    pub(super) fn retry(
        &self,
        store: &Store,
        own: &Arc<SafeDir>,
        copy: &CopyName,
        turn: &Turn<'_>,
    ) -> Result<(), (EngineError, bool)> {
        let next = || self.list().iter().find(|waiting| waiting.concerns(copy)).map(|waiting| waiting.run);
        if next().is_none() {
            return Ok(());
        }
        let _one = self.retrying.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever was first may have finished it; until it is finished it stays in the list and closes the copy.
        while let Some(run) = next() {
            let done = finish(store, own, run, turn);
            let mut list = self.list();
            list.retain(|waiting| waiting.run != run);
            if let Err(failed) = done {
                let told = (failed.why.clone(), failed.flush);
                list.push(failed);
                return Err(told);
            }
        }
        Ok(())
    }

    fn runs(&self) -> HashSet<RunId> {
        self.list().iter().map(|waiting| waiting.run).collect()
    }
}

/// Finishes every commit whose journal is there, then clears drafts and staging of commits that are over. What cannot
/// be finished waits.
///
/// # Errors
/// The store's disk fails.
pub(super) fn finish_commits(store: &Store, own: &Arc<SafeDir>) -> Result<Pending, EngineError> {
    let waits = Pending::default();
    let found = pending(own)?;
    for run in found.whole {
        if let Err(failed) = finish(store, own, run, &|_| Arc::default()) {
            if failed.flush {
                return Err(failed.why);
            }
            tracing::error!("{}", failed.why);
            waits.list().push(failed);
        }
    }
    for run in found.drafts {
        for copy in store.copies()? {
            store.snapshots(&copy)?.take_back(run)?;
        }
        remove_draft(own, run)?;
    }
    clear_runs(store, &own.open_dir(&rel(b"retired"))?, &waits)?;
    if waits.is_empty() {
        clear_staging(&own.open_dir(&rel(b"staging"))?)?;
    }
    Ok(waits)
}

/// The sentence that a client of the copy gets.
fn refusal(store: &Store, run: RunId, copy: Option<&CopyName>, why: &str) -> EngineError {
    let whose = copy.map_or("every copy".to_owned(), |copy| format!("the copy {copy}"));
    let path = escape(store.meta_path("journal").join(run.to_hex()).as_os_str().as_encoded_bytes());
    let message = format!(
        "{whose} takes no backups: an interrupted commit cannot be finished, its journal is '{path}': {why}. Nothing is \
         lost; once that is put right the next run finishes it"
    );
    EngineError::new(ErrorKind::Failed, message)
}

/// Finishes one commit; a journal that is not there any more has nothing to finish.
fn finish(store: &Store, own: &Arc<SafeDir>, run: RunId, turn: &Turn<'_>) -> Result<(), Waiting> {
    let mut copy = None;
    finish_journal(store, own, run, turn, &mut copy).map_err(|error| {
        let copy = copy.or_else(|| owner(store, run));
        let why = refusal(store, run, copy.as_ref(), &error.to_string());
        Waiting { run, copy, why, flush: matches!(error, Unfinished::Commit(error) if error.is_flush()) }
    })
}

/// Why a commit is not finished.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum Unfinished {
    Commit(#[from] CommitError),
    Store(#[from] StoreError),
    Snapshots(#[from] SnapshotError),
    Tree(#[from] TreeError),
    Name(#[from] NameError),
    Record(#[from] RecordError),
}

fn finish_journal(
    store: &Store,
    own: &Arc<SafeDir>,
    run: RunId,
    turn: &Turn<'_>,
    copy: &mut Option<CopyName>,
) -> Result<(), Unfinished> {
    let journal = match read_journal(own, run) {
        Ok(Some(journal)) => journal,
        Ok(None) => return Ok(()),
        // Its steps are done and durable, or the run would not count.
        Err(CommitError::Journal { .. }) if is_committed(store, run)? => return Ok(remove_journal(own, run)?),
        Err(error) => return Err(error.into()),
    };
    let name = CopyName::new(journal.node.as_slice(), journal.user.as_slice())?;
    *copy = Some(name.clone());
    let record = SnapshotRecord::decode(journal.record.as_slice())?;
    finish_steps(store, own, &journal, &name, &record, turn)?;
    let cleared = own.open_dir(&rel(b"staging")).and_then(|dir| dir.remove_tree(journal.staging.as_slice()));
    if let Err(error) = cleared {
        tracing::warn!("staging was not cleared, the next run clears it: {error}");
    }
    tracing::info!("finished the interrupted commit of '/{}' (snapshot {})", record.root, record.number);
    Ok(())
}

fn finish_steps(
    store: &Store,
    own: &Arc<SafeDir>,
    journal: &Journal,
    name: &CopyName,
    record: &SnapshotRecord,
    turn: &Turn<'_>,
) -> Result<(), Unfinished> {
    let snapshots = store.snapshots(name)?;
    let draft = draft_name(record.run);
    let draft = (!matches!(record.manifest_file, ManifestRef::Same { .. })).then_some(draft.as_str());
    let dirs = CommitDirs {
        own: Arc::clone(own),
        copy: Arc::new(store.copy_dir(name)?),
        policy: store.policy(),
        turn: turn(name),
    };
    Ok(replay(&dirs, journal, &Publication { snapshots: &snapshots, record, draft })?)
}

fn is_committed(store: &Store, run: RunId) -> Result<bool, Unfinished> {
    for copy in store.copies()? {
        if store.snapshots(&copy)?.by_run(run)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whose a journal is that cannot be read: the record's draft, which is older than it, lies with that copy's snapshots.
fn owner(store: &Store, run: RunId) -> Option<CopyName> {
    let of = |copy: &CopyName| store.snapshots(copy).is_ok_and(|snapshots| snapshots.is_prepared(run));
    store.copies().ok()?.into_iter().find(of)
}

fn rel(bytes: &[u8]) -> RelPath {
    RelPath::new(bytes).unwrap_or_default()
}

/// What runs left that prepared their commit and did not come to its journal: their drafts, and in `retired/` copies that
/// they had made for it. Only such a draft tells that a run changed nothing: all else there is history, even if a record
/// is lost, or a journal that could not be carried out was moved away.
fn clear_runs(store: &Store, retired: &SafeDir, waits: &Pending) -> Result<(), EngineError> {
    let waiting = waits.runs();
    for copy in store.copies()? {
        let snapshots = store.snapshots(&copy)?;
        if waits.check(&copy).is_err() {
            continue;
        }
        for run in snapshots.prepared()?.into_iter().filter(|run| !waiting.contains(run)) {
            retired.remove_tree(run.to_hex().as_bytes()).or_else(|e| if e.is_not_found() { Ok(()) } else { Err(e) })?;
        }
        // Last: without them the rest could not be told.
        snapshots.clear_drafts()?;
    }
    for entry in retired.names()? {
        // Most commits need the folder and put nothing into it; what is not empty stays.
        let _ = retired.rmdir(&entry.name);
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

/// What [`clear_staging`] does about the time, while the daemon runs: beside runs that hold their leases.
///
/// # Errors
/// The store's disk fails; what is left is tried again later.
pub(super) fn sweep(hub: &Hub, now: Timestamp) -> Result<(), EngineError> {
    let mut swept = hub.swept.lock().unwrap_or_else(PoisonError::into_inner);
    if *swept > now.minus(SWEEP_EVERY_SECS, 0) || hub.is_pending() || hub.is_read_only() {
        return Ok(());
    }
    *swept = now;
    let staging = hub.own_dir("staging")?;
    let held: HashSet<String> = hub.leases.held().iter().filter_map(|(scope, _)| staging_of(scope)).collect();
    let oldest = now.minus(STAGING_KEPT_SECS, 0);
    let mut gone = Vec::new();
    for entry in staging.names()? {
        let owner = staging.open_child(&entry.name).and_then(|dir| dir.stat(b"owner"));
        let young = owner.is_ok_and(|owner| owner.ctime > oldest);
        if young || std::str::from_utf8(&entry.name).is_ok_and(|name| held.contains(name)) {
            continue;
        }
        // Out of the way at once: a run that begins now finds nothing. An old one may lie there from a crash.
        let aside = [&entry.name[..], b".gone"].concat();
        let moved = staging.rename_noreplace(&entry.name, &staging, &aside);
        gone.push(if moved.is_ok() { aside } else { entry.name });
    }
    drop(swept);
    for name in gone {
        staging.remove_tree(&name)?;
    }
    Ok(())
}

fn staging_of(scope: &Scope) -> Option<String> {
    let (node, user) = scope.copy.split_once('/')?;
    Some(staging_id(&CopyName::new(node.as_bytes(), user.as_bytes()).ok()?, &scope.root))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::lease::Holder;
    use crate::engine::hub::HubOptions;
    use crate::store::leases::LeaseRequest;

    #[test]
    fn unclaimed_staging_goes_while_the_daemon_runs() {
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub::open(&dir.path().join("store"), HubOptions::default()).unwrap();
        let copy = CopyName::local(b"u").unwrap();
        let roots = [rel(b"home"), rel(b"srv")];
        let folders = roots.clone().map(|root| {
            hub.open_staging(&copy, &root).unwrap();
            dir.path().join("store/.rbbackup/staging").join(staging_id(&copy, &root))
        });
        let request = LeaseRequest {
            copy,
            root: roots[1].clone(),
            recursive: true,
            holder: Holder { key: [0; 32], run: RunId([1; 16]), name: "u".into(), since: now() },
            wait: None,
            on_revoke: Arc::new(|| {}),
        };
        let lease = hub.leases.acquire(request, &mut |_| true).unwrap();
        let there = || folders.clone().map(|folder| folder.exists());
        let later = |secs: i64| now().minus(-secs, 0);
        sweep(&hub, later(SWEEP_EVERY_SECS + 10)).unwrap();
        assert_eq!(there(), [true, true], "they are young");
        sweep(&hub, later(STAGING_KEPT_SECS + 60)).unwrap();
        assert_eq!(there(), [false, true], "one is in use");
        drop(lease);
        sweep(&hub, later(STAGING_KEPT_SECS + 120)).unwrap();
        assert_eq!(there(), [false, true], "it looked a minute ago");
        sweep(&hub, later(STAGING_KEPT_SECS + SWEEP_EVERY_SECS + 120)).unwrap();
        assert_eq!(there(), [false, false]);
        assert_eq!(std::fs::read_dir(dir.path().join("store/.rbbackup/staging")).unwrap().count(), 0);
    }
}
