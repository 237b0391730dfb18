//! The commit: from a prepared staging folder to a new state of the copy, whole or not at all.
//!
//! ```text
//! 0  record draft, folders   what would need space later is made while nothing has happened yet
//! 1  syncfs                  everything staged (the manifest and the record's draft too) is durable
//! 2  journal, fsync, named   from here on the commit will be finished, whatever happens
//! 3  parks, deepest first    every name that leaves goes to retired/ or aside
//! 4  places, parents first   every name that arrives comes from staging or from aside, never over something
//! 5  touches                 metadata of what stays, times of directories last
//! 6  syncfs                  the copy is durable
//! 7  snapshot record, fsync  the run counts
//! 8  journal removed, fsync  nothing to finish any more
//! ```
//! Each step names its inode. After a crash the journal is carried out again from its start ([`replay`]): inode at its
//! target = done, at its source = do it, nowhere = stop and report. An error from a flush is final: what reached the
//! disk is not known, so the daemon stops writing until it is started again. Any other error after the journal leaves
//! the copy, and it alone, closed until the replay goes through.

mod check;
mod journals;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

use self::check::check;
use self::journals::JournalDraft;
pub use self::journals::{Pending, pending, read_journal, remove_draft, remove_journal};

use super::failpoint::failpoint;
use super::journal::{Journal, JournalError, ParkStep, PlaceStep, kind_number, park_number};
use super::names::CopyName;
use super::snapshots::{SnapshotError, Snapshots};
use super::staging::{Prepared, disk_form_of, staged_path};
use crate::backup::bytes::Bytes;
use crate::backup::digest::RunId;
use crate::backup::plan::{ParkTo, PlaceFrom, Plan};
use crate::backup::relpath::RelPath;
use crate::backup::snapshot::SnapshotRecord;
use crate::tree::dir_cache::{DIRS_OPEN_DEFAULT, DirCache};
use crate::tree::error::TreeError;
use crate::tree::metadata::{Place, StorePolicy, apply};
use crate::tree::safe_dir::SafeDir;
use crate::tree::stat::FileKind;

/// Why a commit did not end.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The store's disk fails. Before the journal nothing has happened; after it the next start finishes the commit.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A flush failed: nothing more is written until the daemon is started again.
    #[error("the disk did not take a flush ({0}); the store is closed for writing until the daemon is started again")]
    Flush(TreeError),
    /// Somebody changed the copy while the commit ran.
    #[error(
        "'{path}' in the copy is not what this commit has to move (inode {ino} is neither there nor at its target); \
         somebody changed it meanwhile. The journal {run} is kept: put the file back, or move the journal away"
    )]
    Disturbed {
        /// In copy coordinates.
        path: RelPath,
        /// The inode.
        ino: u64,
        /// The run.
        run: RunId,
    },
    /// The journal is durable, but not everything that it says could be done.
    #[error("{0}; the commit is finished by the next run of this copy or the next start of rbbackupd")]
    Unfinished(Box<CommitError>),
    /// Somebody changed the copy before the commit began: nothing has happened.
    #[error("'{path}' in the copy was changed while the run went on; nothing was done, run it again")]
    Changed {
        /// In copy coordinates.
        path: RelPath,
    },
    /// A journal cannot be read.
    #[error("the journal '{name}' cannot be used: {source}")]
    Journal {
        /// Its file name.
        name: String,
        /// Why.
        source: JournalError,
    },
    /// The snapshot's record could not be written.
    #[error(transparent)]
    Publish(#[from] SnapshotError),
}

impl CommitError {
    /// Whether a flush failed: nothing that was written meanwhile can be relied on.
    pub fn is_flush(&self) -> bool {
        match self {
            Self::Unfinished(inner) => inner.is_flush(),
            Self::Flush(_) => true,
            // Records are flushed one by one; which of the calls failed is not told apart. No flush fails for want of
            // descriptors.
            Self::Publish(SnapshotError::Io { source, .. }) => {
                let shortages = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
                source.raw_os_error().is_none_or(|code| !shortages.contains(&code))
            }
            _ => false,
        }
    }
}

/// What makes a run count.
pub trait Publish {
    /// Makes ready what can be before anything has happened, unflushed.
    ///
    /// # Errors
    /// The store's disk fails or is full: nothing has happened.
    fn prepare(&self) -> Result<(), SnapshotError>;

    /// The journal is written and gets its name next.
    ///
    /// # Errors
    /// The store's disk fails or is full: nothing has happened.
    fn begin(&self) -> Result<(), SnapshotError>;

    /// Makes the snapshot's record durable; may be called again.
    ///
    /// # Errors
    /// The store's disk fails or is full.
    fn publish(&self) -> Result<(), SnapshotError>;
}

/// A snapshot to be.
pub struct Publication<'a> {
    /// Where.
    pub snapshots: &'a Snapshots,
    /// Its record.
    pub record: &'a SnapshotRecord,
    /// Its manifest's draft.
    pub draft: Option<&'a str>,
}

impl Publish for Publication<'_> {
    fn prepare(&self) -> Result<(), SnapshotError> {
        self.snapshots.prepare(self.record)
    }

    fn begin(&self) -> Result<(), SnapshotError> {
        self.snapshots.begin(self.record.run)
    }

    fn publish(&self) -> Result<(), SnapshotError> {
        self.snapshots.publish(self.record, self.draft)
    }
}

/// The folders that a commit works in.
#[derive(Clone)]
pub struct CommitDirs {
    /// `.rbbackup`.
    pub own: Arc<SafeDir>,
    /// The copy.
    pub copy: Arc<SafeDir>,
    /// What the plain copy may hold.
    pub policy: StorePolicy,
    /// One commit at a time looks at the copy and changes it: disjoint runs share the directories above their roots.
    pub turn: Arc<Mutex<()>>,
}

fn rel(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap_or_default()
}

/// Everything that the journal must say.
pub struct CommitPlan<'a> {
    /// The run.
    pub run: RunId,
    /// The copy.
    pub copy: &'a CopyName,
    /// The root, in copy coordinates.
    pub root: &'a RelPath,
    /// Folder below `staging/`.
    pub staging: &'a str,
    /// The sealed snapshot record.
    pub record: Vec<u8>,
    /// The plan.
    pub plan: &'a Plan,
    /// What stands ready.
    pub prepared: &'a Prepared,
}

impl CommitPlan<'_> {
    /// The journal: the plan's steps in copy coordinates, each with its inode.
    ///
    /// # Errors
    /// A path gets too long, or a step's inode is not known (a defect).
    pub fn journal(&self) -> Result<Journal, CommitError> {
        let at = |path: &RelPath| {
            let long = |_| TreeError::new("place", b"", path.as_bytes(), rustix::io::Errno::NAMETOOLONG);
            self.root.join_path(path).map_err(long)
        };
        let held: HashMap<u32, u64> = self.plan.parks.iter().map(|p| (p.slot, p.ino)).collect();
        let placed: HashSet<&RelPath> = self.plan.places.iter().map(|p| &p.path).collect();
        let mut made: HashMap<RelPath, u64> = HashMap::new();
        for ready in self.prepared.beside(self.plan) {
            let (step, item) = ready.map_err(|e| TreeError::new("read", b"the plan", b"", e))?;
            if placed.contains(&step.path) {
                made.insert(step.path.clone(), item.stat.fingerprint.ino);
            }
        }
        let mut journal = Journal {
            run: self.run,
            node: Bytes(self.copy.node().as_bytes().to_vec()),
            user: Bytes(self.copy.user().as_bytes().to_vec()),
            root: self.root.clone(),
            staging: Bytes(self.staging.as_bytes().to_vec()),
            record: Bytes(self.record.clone()),
            parks: Vec::with_capacity(self.plan.parks.len()),
            places: Vec::with_capacity(self.plan.places.len()),
            touches: Vec::with_capacity(self.plan.touches.len()),
        };
        for park in &self.plan.parks {
            let to = park_number(park.to);
            journal.parks.push(ParkStep { path: at(&park.path)?, ino: park.ino, to, slot: park.slot });
        }
        for place in &self.plan.places {
            let (ino, slot) = match place.from {
                PlaceFrom::Staged => (made.get(&place.path).copied(), 0),
                // Held aside by a park, or a new directory made there.
                PlaceFrom::Hold(slot) => (held.get(&slot).or_else(|| made.get(&place.path)).copied(), slot),
            };
            let unknown = || TreeError::new("find the inode of", b"", place.path.as_bytes(), rustix::io::Errno::NOENT);
            journal.places.push(PlaceStep { path: at(&place.path)?, ino: ino.ok_or_else(unknown)?, slot });
        }
        for touch in &self.plan.touches {
            let kind = kind_number(touch.kind);
            journal.touches.push(super::journal::TouchStep { path: at(&touch.path)?, form: touch.form.clone(), kind });
        }
        Ok(journal)
    }
}

/// Says that a commit has all that it needs, on the disk: see [`make_ready`].
#[must_use]
pub struct Ready(());

/// Steps 0 and 1: all that the commit needs is durable, and nothing of the copy has changed. `phase` is told that
/// flushing begins.
///
/// # Errors
/// [`CommitError`]: nothing has happened.
pub fn make_ready(
    dirs: &CommitDirs,
    journal: &Journal,
    publish: &dyn Publish,
    phase: &dyn Fn(u8),
) -> Result<Ready, CommitError> {
    phase(3);
    publish.prepare()?;
    drop(Folders::make(dirs, journal)?);
    failpoint("before-flush");
    dirs.own.sync_fs().map_err(CommitError::Flush)?;
    failpoint("before-journal");
    Ok(Ready(()))
}

/// The commit from its journal on, for what is ready; `phase` is told that placing begins.
///
/// # Errors
/// [`CommitError`]. Before the journal is durable nothing of the copy has changed; what fails later is
/// [`CommitError::Unfinished`], and nobody may touch the copy or this run's staging before it is replayed.
pub fn commit(
    _: Ready,
    dirs: &CommitDirs,
    journal: &Journal,
    publish: &dyn Publish,
    phase: &dyn Fn(u8),
) -> Result<(), CommitError> {
    phase(4);
    let turn = dirs.turn.lock().unwrap_or_else(PoisonError::into_inner);
    check(dirs, journal)?;
    let draft = JournalDraft::write(dirs, journal)?;
    failpoint("journal-written");
    // Between the two names: who finds the record begun and the journal unnamed knows that nothing was done.
    if let Err(error) = publish.begin() {
        draft.discard();
        return Err(error.into());
    }
    failpoint("record-begun");
    draft.activate()?;
    failpoint("after-journal");
    let placed = carry_out(dirs, journal, true);
    drop(turn);
    placed
        .and_then(|()| publish_and_close(dirs, journal, publish))
        .map_err(|error| CommitError::Unfinished(Box::new(error)))
}

/// Finishes a commit that was interrupted.
///
/// # Errors
/// [`CommitError`]; the journal stays.
pub fn replay(dirs: &CommitDirs, journal: &Journal, publish: &dyn Publish) -> Result<(), CommitError> {
    let _turn = dirs.turn.lock().unwrap_or_else(PoisonError::into_inner);
    // A power cut may have kept the journal and not the name.
    publish.begin()?;
    carry_out(dirs, journal, false)?;
    publish_and_close(dirs, journal, publish)
}

fn publish_and_close(dirs: &CommitDirs, journal: &Journal, publish: &dyn Publish) -> Result<(), CommitError> {
    failpoint("before-second-flush");
    dirs.own.sync_fs().map_err(CommitError::Flush)?;
    failpoint("before-record");
    publish.publish()?;
    failpoint("after-record");
    remove_journal(&dirs.own, journal.run)?;
    failpoint("after-journal-removed");
    Ok(())
}

/// Where a commit puts things; made before its journal, so that a full disk is met while nothing has happened.
struct Folders {
    retired: SafeDir,
    aside: SafeDir,
    tree: Arc<SafeDir>,
}

impl Folders {
    fn make(dirs: &CommitDirs, journal: &Journal) -> Result<Self, TreeError> {
        let staging = RelPath::new(&[b"staging/", journal.staging.as_slice()].concat()).unwrap_or_default();
        let staging = dirs.own.make_dirs(&staging, 0o700)?;
        Ok(Self {
            retired: dirs.own.make_dirs(&rel(&format!("retired/{}", journal.run)), 0o700)?,
            aside: staging.make_dirs(&rel("park"), 0o700)?,
            tree: Arc::new(staging.make_dirs(&rel("tree"), 0o700)?),
        })
    }
}

/// Steps 3 to 5. Can be carried out again from the start at any point; `fresh`: nothing of it has been done yet.
fn carry_out(dirs: &CommitDirs, journal: &Journal, fresh: bool) -> Result<(), CommitError> {
    let Folders { retired, aside, tree } = Folders::make(dirs, journal)?;
    let targets = journal.places.iter().filter(|p| p.slot != 0).map(|p| (p.slot, p)).collect();
    let steps = Steps { fresh, dirs, journal, retired, aside, tree, targets };
    steps.parks()?;
    failpoint("after-parks");
    steps.places()?;
    failpoint("after-places");
    steps.touches()?;
    Ok(())
}

struct Steps<'a> {
    fresh: bool,
    dirs: &'a CommitDirs,
    journal: &'a Journal,
    retired: SafeDir,
    aside: SafeDir,
    tree: Arc<SafeDir>,
    /// Where what is held aside will be.
    targets: HashMap<u32, &'a PlaceStep>,
}

impl Steps<'_> {
    fn cache(&self) -> DirCache {
        DirCache::new(Arc::clone(&self.dirs.copy), DIRS_OPEN_DEFAULT)
    }

    fn disturbed(&self, path: &RelPath, ino: u64) -> CommitError {
        CommitError::Disturbed { path: path.clone(), ino, run: self.journal.run }
    }

    fn parks(&self) -> Result<(), CommitError> {
        let mut dirs = self.cache();
        for step in &self.journal.parks {
            let to = if step.to == park_number(ParkTo::Retire) { &self.retired } else { &self.aside };
            let slot = step.slot.to_string();
            if !self.fresh && is_at(to, slot.as_bytes(), step.ino)? {
                continue;
            }
            if let Some((dir, name)) = there(&mut dirs, &step.path)?
                && is_at(&dir, name, step.ino)?
            {
                dir.rename_noreplace(name, to, slot.as_bytes()).map_err(|e| named(e, &step.path))?;
                dirs.forget(&step.path);
                failpoint("park");
                continue;
            }
            // It may have gone on already, to where it is placed.
            let placed = self.targets.get(&step.slot).is_some_and(|p| self.is_placed(p).unwrap_or(false));
            if !placed {
                return Err(self.disturbed(&step.path, step.ino));
            }
        }
        Ok(())
    }

    fn is_placed(&self, step: &PlaceStep) -> Result<bool, TreeError> {
        match there(&mut self.cache(), &step.path)? {
            None => Ok(false),
            Some((dir, name)) => is_at(&dir, name, step.ino),
        }
    }

    fn places(&self) -> Result<(), CommitError> {
        let mut dirs = self.cache();
        let mut staged = DirCache::new(Arc::clone(&self.tree), DIRS_OPEN_DEFAULT);
        for step in &self.journal.places {
            let (dir, name) = dirs.parent_of(&step.path)?;
            if !self.fresh && is_at(&dir, name, step.ino)? {
                continue;
            }
            let moved = if step.slot == 0 {
                let below = step.path.strip_prefix(&self.journal.root).unwrap_or_default();
                let source = staged_path(&below)?;
                match staged.parent_of(&source) {
                    Err(e) if e.is_not_found() => false,
                    other => {
                        let (from, from_name) = other?;
                        let there = is_at(&from, from_name, step.ino)?;
                        if there {
                            from.rename_noreplace(from_name, &dir, name).map_err(|e| named(e, &step.path))?;
                        }
                        there
                    }
                }
            } else {
                let slot = step.slot.to_string();
                let there = is_at(&self.aside, slot.as_bytes(), step.ino)?;
                if there {
                    let moved = self.aside.rename_noreplace(slot.as_bytes(), &dir, name);
                    moved.map_err(|e| named(e, &step.path))?;
                }
                there
            };
            if !moved {
                return Err(self.disturbed(&step.path, step.ino));
            }
            failpoint("place");
        }
        Ok(())
    }

    fn touches(&self) -> Result<(), CommitError> {
        let mut dirs = self.cache();
        for step in &self.journal.touches {
            let kind = kind_of(step.kind);
            let want = disk_form_of(&step.form, kind, self.dirs.policy);
            if kind == FileKind::Dir {
                apply(Place::Dir(&*dirs.dir(&step.path)?), &want)?;
            } else {
                let (dir, name) = dirs.parent_of(&step.path)?;
                apply(Place::Name(&dir, name), &want)?;
            }
            failpoint("touch");
        }
        Ok(())
    }
}

/// The kind of a touch.
fn kind_of(number: u8) -> FileKind {
    let kinds = [FileKind::Dir, FileKind::File, FileKind::Symlink, FileKind::Fifo];
    kinds.get(usize::from(number)).copied().unwrap_or(FileKind::File)
}

/// A move that failed, told by the path that people know.
fn named(error: TreeError, path: &RelPath) -> TreeError {
    TreeError::new("move, for a commit,", b"", path.as_bytes(), error.source)
}

/// A directory, open, and a name in it.
type Named<'a> = (Arc<SafeDir>, &'a [u8]);

/// The directory that holds a path, and its name in it. None: there is no such directory, or no longer: on replay
/// something of another type may have its name already.
fn there<'a>(dirs: &mut DirCache, path: &'a RelPath) -> Result<Option<Named<'a>>, TreeError> {
    match dirs.parent_of(path) {
        Err(e) if e.is_not_found() || e.is_not_a_directory() || e.is_escape() => Ok(None),
        other => other.map(Some),
    }
}

/// Whether this inode has this name.
fn is_at(dir: &SafeDir, name: &[u8], ino: u64) -> Result<bool, TreeError> {
    match dir.stat(name) {
        Ok(stat) => Ok(stat.ino == ino),
        Err(e) if e.is_not_found() => Ok(false),
        Err(e) => Err(e),
    }
}
