//! Feeds the planner: what the copy holds (the catalog's rows after the stat pass) beside what the manifest wants.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::thread::{self, Scope};

use super::incoming::Incoming;
use super::manifest_file::Drafter;
use super::{PassResult, Run};
use crate::backup::digest::Digest;
use crate::backup::entry::{Entry, Kind, Meta};
use crate::backup::guard::{GuardInput, check};
use crate::backup::manifest::{ManifestCounts, ManifestRecord};
use crate::backup::plan::{ContentPlace, Contents, Plan, PlanOptions, Planner, Present, PresentKind, Wanted};
use crate::backup::relpath::RelPath;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::hub::Hub;
use crate::net::message::Begin;
use crate::store::catalog::{CopyId, Row, RowKind, Update};
use crate::store::present::SharedNames;
use crate::store::snapshots::ManifestDraft;
use crate::tree::metadata::{StorePolicy, disk_form};

/// Rows that are handed on together, and batches that may wait.
const ROW_BATCH: usize = 512;
const ROW_BATCHES_QUEUED_MAX: usize = 8;

/// What is to be done, and what the manifest will be.
pub(super) struct Planned {
    pub(super) plan: Plan,
    /// Of the files that the source has.
    pub(super) bytes: u64,
    /// The copy is exactly the newest snapshot, which has this manifest: nothing to do.
    pub(super) nothing: bool,
    /// The new manifest, where it could be written while the plan was made.
    pub(super) draft: Option<ManifestDraft>,
}

impl Run<'_> {
    /// Plans from the copy's present state to the incoming manifest.
    pub(super) fn plan(&self, incoming: &Incoming, found: &PassResult) -> Result<Planned, EngineError> {
        let repaired = found.with(|pass| pass.repaired)?;
        if repaired > 0 {
            self.hub.set_exact(&self.copy.name, &self.root, None);
        }
        let exact = self.newest.as_ref().map(|r| r.number) == self.hub.exact(&self.copy.name, &self.root);
        let known = self.newest.as_ref().filter(|r| exact && r.manifest == incoming.digest);
        if let Some(newest) = known
            && incoming.on_base
            && incoming.changes == 0
            && repaired == 0
            && (!self.begin.delete || self.snapshots.open_manifest(newest.number)?.header().counts.kept == 0)
        {
            let mut plan = Plan::default();
            plan.counts.unchanged = newest.entries;
            return Ok(Planned { plan, bytes: newest.bytes, nothing: true, draft: None });
        }
        let shared = found.with(|pass| pass.shared.clone())?;
        let (plan, draft) = thread::scope(|scope| {
            let drafter = Drafter::new(self, incoming);
            let early = self.keeps_nothing(incoming).then(|| scope.spawn(move || drafter.of_seen()));
            let plan =
                self.compare(scope, incoming, &shared).and_then(|both| self.guard(incoming, &both.0).map(|()| both));
            (plan, early.map(|thread| thread.join().unwrap_or(Ok(None))))
        });
        let (plan, counts) = plan.inspect_err(|_| self.snapshots.discard(self.begin.run))?;
        let draft = draft.transpose()?.flatten().filter(|_| plan.kept.is_empty());
        Ok(Planned { plan, bytes: counts.bytes, nothing: false, draft })
    }

    /// Whether it is plain from the start that the copy will hold nothing beyond the manifest.
    fn keeps_nothing(&self, incoming: &Incoming) -> bool {
        let Begin { dry_run, delete, recursive, delete_excluded, filters, .. } = self.begin;
        !dry_run && *delete && *recursive && incoming.unseen.is_empty() && (*delete_excluded || filters.is_empty())
    }

    fn compare<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        incoming: &Incoming,
        shared: &HashMap<u64, SharedNames>,
    ) -> Result<(Plan, ManifestCounts), EngineError> {
        let mut counts = ManifestCounts::default();
        let options =
            PlanOptions { delete: self.begin.delete, silent: !self.begin.dry_run, shallow: !self.begin.recursive };
        let mut planner = Planner::new(options, &self.staging.spill());
        let mut rows = rows_ahead(scope, self.hub, self.copy.id, &self.root);
        let mut row = rows.next().transpose()?;
        let nested = self.nested_roots()?;
        let mut open = OpenDirs::default();
        for record in incoming.entries(self)? {
            let ManifestRecord { entry, .. } = record?;
            if !open.admits(&entry) {
                let message = format!("the manifest has '{}', but not the directory that holds it", entry.path);
                return Err(EngineError::new(ErrorKind::Failed, message));
            }
            counts.add(&entry);
            let mut present = None;
            while let Some((path, _)) = &row {
                let order = path.cmp(&entry.path);
                if order == Ordering::Greater {
                    break;
                }
                let taken = std::mem::replace(&mut row, rows.next().transpose()?);
                match taken {
                    Some((_, row)) if order == Ordering::Equal => present = Some(row),
                    Some((path, row)) => self.push_present(&mut planner, row, path, shared, incoming)?,
                    None => {}
                }
            }
            self.push_wanted(&mut planner, present, entry, shared, &nested)?;
        }
        while let Some((path, gone)) = row {
            self.push_present(&mut planner, gone, path, shared, incoming)?;
            row = rows.next().transpose()?;
        }
        let plan = planner.finish(&Stored(self)).map_err(|e| self.staging.spool_error(e))?;
        Ok((plan, counts))
    }

    fn push_present(
        &self,
        planner: &mut Planner,
        mut row: Row,
        path: RelPath,
        shared: &HashMap<u64, SharedNames>,
        incoming: &Incoming,
    ) -> Result<(), EngineError> {
        if !self.begin.recursive && path.depth() > 1 {
            // The stat pass did not go there: it can leave with its directory, but nothing may be made of it.
            row.digest = None;
        }
        let protected = self.is_protected(&path, row.kind == RowKind::Dir, incoming);
        let pushed = planner.push(Some(present_of(row, path, shared)), None, protected);
        Ok(pushed.map_err(|e| self.staging.spool_error(e))?)
    }

    /// Whether a path that the manifest does not have is unseen rather than gone.
    fn is_protected(&self, path: &RelPath, is_dir: bool, incoming: &Incoming) -> bool {
        // Without -r only direct files count: folders are not looked at, whether the source has them or not.
        if !self.begin.recursive && (path.depth() > 1 || is_dir && path.depth() == 1) {
            return true;
        }
        let mut at = (!incoming.unseen.is_empty()).then(|| path.clone());
        while let Some(here) = at {
            if incoming.unseen.contains(&here) {
                return true;
            }
            at = here.parent();
        }
        !self.begin.delete_excluded && self.filter.matched_or_parents(path, is_dir)
    }

    fn push_wanted(
        &self,
        planner: &mut Planner,
        present: Option<Row>,
        entry: Entry,
        shared: &HashMap<u64, SharedNames>,
        nested: &[RelPath],
    ) -> Result<(), EngineError> {
        if !self.begin.recursive && entry.path.depth() > 1 {
            let message = format!("'{}' lies deeper than a run without -r goes", entry.path);
            return Err(EngineError::new(ErrorKind::Failed, message));
        }
        if let Some(row) = &present
            && row.kind == RowKind::Dir
            && !entry.is_dir()
            && let Some(other) = nested.iter().find(|root| root.is_within(&row.path))
        {
            let message = format!(
                "'/{}' is no directory any more, but the root '/{other}' was backed up below it; \
                 'rbbackup forget /{other}' moves it into history, then run this again",
                row.path
            );
            return Err(EngineError::new(ErrorKind::Failed, message));
        }
        let mut form = form_of(self.hub.store.policy(), &entry, present.as_ref());
        if self.root.is_root()
            && entry.path.is_root()
            && let Some(row) = &present
        {
            // The folder of the copy stays as private as it is, whatever `/` looks like.
            let (mode, uid, gid, mtime) = (row.mode, row.uid, row.gid, row.fingerprint.mtime);
            form = Some(Meta { mode, uid, gid, mtime, xattrs: row.xattrs.clone() });
        }
        let path = entry.path.clone();
        let present = present.map(|row| present_of(row, path, shared));
        let pushed = planner.push(present, Some(Wanted { entry, form }), false);
        Ok(pushed.map_err(|e| self.staging.spool_error(e))?)
    }

    /// Other roots of the copy that lie below this one.
    fn nested_roots(&self) -> Result<Vec<RelPath>, EngineError> {
        let roots = self.snapshots.roots()?;
        Ok(roots.iter().map(|r| r.root.clone()).filter(|r| *r != self.root && r.is_within(&self.root)).collect())
    }

    fn guard(&self, incoming: &Incoming, plan: &Plan) -> Result<(), EngineError> {
        let before = self.newest.as_ref().map_or(0, |r| r.file_system);
        check(&GuardInput {
            files_before: plan.files_before,
            files_going: plan.files_gone,
            others_going: plan.counts.deleted.saturating_sub(plan.files_gone),
            root_empty: incoming.entries <= 1,
            file_system_before: before,
            file_system_now: self.begin.file_system,
            force: self.begin.force_delete,
        })
        .map_err(|reason| EngineError::new(ErrorKind::Guard, format!("'/{}': {reason}", self.root)))
    }
}

/// The rows below a root, each after its path there. They are read ahead on a thread of their own: reading them takes as
/// long as reading the manifest that they are compared with.
fn rows_ahead<'scope>(
    scope: &'scope Scope<'scope, '_>,
    hub: &'scope Hub,
    copy: CopyId,
    root: &'scope RelPath,
) -> impl Iterator<Item = Result<(RelPath, Row), EngineError>> + use<> {
    let (sender, batches) = crossbeam_channel::bounded(ROW_BATCHES_QUEUED_MAX);
    scope.spawn(move || {
        let read = || -> Result<(), EngineError> {
            let reader = hub.catalog.reader()?;
            let mut rows = reader.range(copy, root).map(|row| below(root, row?)).peekable();
            while rows.peek().is_some() {
                let batch: Vec<_> = rows.by_ref().take(ROW_BATCH).collect();
                if sender.send(batch).is_err() {
                    // The plan has failed, and says why itself.
                    break;
                }
            }
            Ok(())
        };
        if let Err(error) = read() {
            let _ = sender.send(vec![Err(error)]);
        }
    });
    batches.into_iter().flatten()
}

/// A row, after its path below the root.
fn below(root: &RelPath, row: Row) -> Result<(RelPath, Row), EngineError> {
    let outside = || EngineError::new(ErrorKind::Failed, format!("the catalog has '{}' below '/{root}'", row.path));
    Ok((row.path.strip_prefix(root).ok_or_else(outside)?, row))
}

/// The manifest's directories on the way to the entry in hand. In canonical order what a directory holds follows it.
#[derive(Default)]
struct OpenDirs(Vec<RelPath>);

impl OpenDirs {
    /// Whether the directory that holds the entry is one of the manifest too.
    fn admits(&mut self, entry: &Entry) -> bool {
        while self.0.last().is_some_and(|dir| !entry.path.is_within(dir)) {
            self.0.pop();
        }
        if !entry.path.is_root() && !self.0.last().is_some_and(|dir| entry.path.is_in(dir)) {
            return false;
        }
        if entry.is_dir() {
            self.0.push(entry.path.clone());
        }
        true
    }
}

/// The metadata that the plain copy shows of an entry; none when it holds nothing of it. Owners that the daemon cannot
/// set are taken as they are.
pub(super) fn form_of(policy: StorePolicy, entry: &Entry, present: Option<&Row>) -> Option<Meta> {
    let form = disk_form(entry, policy);
    form.kind?;
    let (uid, gid) = form
        .owner
        .or(present.map(|row| (row.uid, row.gid)))
        .unwrap_or_else(|| (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()));
    // Access control on a symlink does not exist; neither does a mode.
    let mode = if matches!(entry.kind, Kind::Symlink { .. }) { 0o777 } else { form.mode };
    Some(Meta { mode, uid, gid, mtime: form.mtime, xattrs: form.xattrs })
}

/// A row as the planner sees it.
pub(in crate::engine) fn present_of(row: Row, path: RelPath, shared: &HashMap<u64, SharedNames>) -> Present {
    let kind = match row.kind {
        RowKind::Dir => PresentKind::Dir,
        RowKind::File => PresentKind::File,
        RowKind::Symlink => PresentKind::Symlink,
        RowKind::Fifo => PresentKind::Fifo,
        RowKind::Other => PresentKind::Other,
    };
    let meta = Meta { mode: row.mode, uid: row.uid, gid: row.gid, mtime: row.fingerprint.mtime, xattrs: row.xattrs };
    let names = shared.get(&row.fingerprint.ino).filter(|_| kind == PresentKind::File).copied().unwrap_or_default();
    let (within, outside) = (names.within > 1, names.all > names.within);
    let (ino, size) = (row.fingerprint.ino, row.fingerprint.size);
    Present { path, kind, ino, size, digest: row.digest, meta, within, outside }
}

/// What the store holds, for the planner.
struct Stored<'a>(&'a Run<'a>);

impl Contents for Stored<'_> {
    fn is_staged(&self, path: &RelPath, digest: &Digest, size: u64) -> bool {
        // What cannot be asked is not there: it is sent again, and an error of the disk is met, and told, when it comes.
        self.0.staging.is_staged(path, digest, size).unwrap_or(false)
    }

    fn find(&self, digest: &Digest, _: u64) -> Option<ContentPlace> {
        if self.0.staging.has(digest).unwrap_or(false) {
            return Some(ContentPlace::Staged);
        }
        let rows = self.0.reader.find_content(self.0.copy.id, digest).ok()?;
        if let Some(row) = rows.into_iter().next() {
            return Some(ContentPlace::Copy(row.path));
        }
        if let Some(place) = self.0.reader.retired(self.0.copy.id, digest).ok()? {
            return Some(ContentPlace::Retired(place));
        }
        self.0.in_vault(digest).ok()?.then_some(ContentPlace::Vault)
    }
}

/// Content that turned out not to be what the catalog said: its places are looked at again by the next stat pass, and
/// neither it nor its chunks are found there until then.
pub(super) fn forget_content(run: &Run<'_>, damaged: &[Digest]) -> Result<(), EngineError> {
    let mut updates = Vec::new();
    for digest in damaged {
        let rows = run.reader.find_content(run.copy.id, digest)?;
        // The copy is asked before what it retired, and that before the vault: those may still be good.
        if rows.is_empty() {
            let retired = run.reader.retired(run.copy.id, digest)?;
            updates.push(retired.map_or(Update::RemoveBlobs(*digest), |_| Update::RemoveRetired(*digest)));
        }
        updates.extend(rows.into_iter().map(|row| Update::Put(Row { racy: true, digest: None, ..row })));
        updates.push(Update::RemoveRecipe(*digest));
    }
    run.hub.catalog.apply(run.copy.id, updates)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: Kind) -> Entry {
        let meta = Meta { mode: 0o755, uid: 0, gid: 0, mtime: Default::default(), xattrs: Vec::new() };
        Entry { path: RelPath::new(path.as_bytes()).unwrap(), kind, meta }
    }

    #[test]
    fn an_entry_needs_its_directory() {
        let dir = |path| entry(path, Kind::Dir);
        let link = |path| entry(path, Kind::Symlink { target: b"/etc".to_vec().into() });
        let admitted = |entries: &[Entry]| {
            let mut open = OpenDirs::default();
            entries.iter().all(|entry| open.admits(entry))
        };
        assert!(admitted(&[dir(""), dir("a"), dir("a/b"), link("a/b/c"), link("a/d"), link("e")]));
        assert!(admitted(&[link("")]));
        assert!(!admitted(&[dir(""), link("x/y")]));
        assert!(!admitted(&[dir(""), link("a"), link("a/b")]));
        assert!(!admitted(&[link(""), link("a")]));
        assert!(!admitted(&[link("a")]));
        assert!(!admitted(&[dir(""), dir("a"), link("a/b/c")]));
    }
}
