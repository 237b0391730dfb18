//! The commit: from a prepared staging folder to a new state of the copy, whole or not at all.
//!
//! ```text
//! 1  syncfs                  everything staged (and the manifest) is durable
//! 2  journal, fsync          from here on the commit will be finished, whatever happens
//! 3  parks, deepest first    every name that leaves goes to retired/ or aside
//! 4  places, parents first   every name that arrives comes from staging or from aside, never over something
//! 5  touches                 metadata of what stays, times of directories last
//! 6  syncfs                  the copy is durable
//! 7  snapshot record, fsync  the run counts
//! 8  journal removed, fsync  nothing to finish any more
//! ```
//! Each step names its inode. After a crash the journal is carried out again from its start ([`replay`]): inode at its
//! target = done, at its source = do it, nowhere = stop and report. An error from a flush is final: what reached the
//! disk is not known, so the daemon stops writing until it is started again.

mod check;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use self::check::check;

use super::failpoint::failpoint;
use super::journal::{Journal, JournalError, ParkStep, PlaceStep, kind_number, park_number};
use super::names::CopyName;
use super::staging::{Prepared, disk_form_of, staged_path};
use crate::backup::bytes::Bytes;
use crate::backup::digest::RunId;
use crate::backup::plan::{ParkTo, PlaceFrom, Plan};
use crate::backup::relpath::RelPath;
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
    #[error(
        "{0}; the commit is finished when rbbackupd is started again, and until then the store is closed for writing"
    )]
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
    #[error("{0}")]
    Publish(String),
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
        let made: HashMap<&RelPath, u64> = self
            .plan
            .prepare
            .iter()
            .zip(self.prepared)
            .filter(|(step, _)| placed.contains(&step.path))
            .map(|(step, item)| (&step.path, item.stat.fingerprint.ino))
            .collect();
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

/// Does the commit; `publish` makes the snapshot's record durable; `phase` is told when flushing and placing begin.
///
/// # Errors
/// [`CommitError`]. Before the journal is durable nothing of the copy has changed; what fails later is
/// [`CommitError::Unfinished`], and nobody may touch the copy or this run's staging before it is replayed.
pub fn commit(
    dirs: &CommitDirs,
    journal: &Journal,
    publish: &dyn Fn() -> Result<(), String>,
    phase: &dyn Fn(u8),
) -> Result<(), CommitError> {
    phase(3);
    failpoint("before-flush");
    dirs.own.sync_fs().map_err(CommitError::Flush)?;
    failpoint("before-journal");
    phase(4);
    let turn = dirs.turn.lock().unwrap_or_else(PoisonError::into_inner);
    check(dirs, journal)?;
    write_journal(dirs, journal)?;
    failpoint("after-journal");
    let placed = carry_out(dirs, journal, true);
    drop(turn);
    placed
        .and_then(|()| publish_and_close(dirs, journal, publish))
        .map_err(|error| CommitError::Unfinished(Box::new(error)))
}

/// Finishes a commit that a crash interrupted.
///
/// # Errors
/// [`CommitError`]; the journal stays.
pub fn replay(
    dirs: &CommitDirs,
    journal: &Journal,
    publish: &dyn Fn() -> Result<(), String>,
) -> Result<(), CommitError> {
    carry_out(dirs, journal, false)?;
    publish_and_close(dirs, journal, publish)
}

fn publish_and_close(
    dirs: &CommitDirs,
    journal: &Journal,
    publish: &dyn Fn() -> Result<(), String>,
) -> Result<(), CommitError> {
    failpoint("before-second-flush");
    dirs.own.sync_fs().map_err(CommitError::Flush)?;
    failpoint("before-record");
    publish().map_err(CommitError::Publish)?;
    failpoint("after-record");
    let folder = dirs.own.open_dir(&rel("journal"))?;
    folder.unlink(journal.run.to_hex().as_bytes())?;
    folder.sync().map_err(CommitError::Flush)?;
    failpoint("after-journal-removed");
    Ok(())
}

fn write_journal(dirs: &CommitDirs, journal: &Journal) -> Result<(), CommitError> {
    let (name, temporary) = (journal.run.to_hex(), format!("{}.tmp", journal.run.to_hex()));
    let bytes = journal.encode().map_err(|source| CommitError::Journal { name: name.clone(), source })?;
    let folder = dirs.own.open_dir(&rel("journal"))?;
    let io = |e: std::io::Error| TreeError::new("write", b"journal", temporary.as_bytes(), e);
    match folder.unlink(temporary.as_bytes()) {
        Err(e) if !e.is_not_found() => return Err(e.into()),
        _ => {}
    }
    let mut file = folder.create_new(temporary.as_bytes(), 0o600)?;
    file.write_all(&bytes).map_err(io)?;
    file.sync_all().map_err(|e| CommitError::Flush(io(e)))?;
    folder.rename(temporary.as_bytes(), &folder, name.as_bytes())?;
    folder.sync().map_err(CommitError::Flush)
}

/// The journals of commits that were interrupted, oldest name first; unfinished temporary ones are removed.
///
/// # Errors
/// A journal is damaged: nothing of it is carried out.
pub fn pending(own: &SafeDir) -> Result<Vec<Journal>, CommitError> {
    let folder = own.open_dir(&rel("journal"))?;
    let mut journals = Vec::new();
    for entry in folder.names()? {
        if entry.name.ends_with(b".tmp") {
            folder.unlink(&entry.name)?;
            continue;
        }
        let mut bytes = Vec::new();
        let mut file = folder.open_read(&entry.name)?;
        std::io::Read::read_to_end(&mut file, &mut bytes)
            .map_err(|e| TreeError::new("read", b"journal", &entry.name, e))?;
        let name = crate::backup::bytes::escape(&entry.name);
        journals.push(Journal::decode(&bytes).map_err(|source| CommitError::Journal { name, source })?);
    }
    journals.sort_by_key(|j| j.run);
    Ok(journals)
}

/// Steps 3 to 5. Can be carried out again from the start at any point; `fresh`: nothing of it has been done yet.
fn carry_out(dirs: &CommitDirs, journal: &Journal, fresh: bool) -> Result<(), CommitError> {
    let hex = journal.run.to_hex();
    let staging = RelPath::new(&[b"staging/", journal.staging.as_slice()].concat()).unwrap_or_default();
    let staging = Arc::new(dirs.own.make_dirs(&staging, 0o700)?);
    let steps = Steps {
        fresh,
        dirs,
        journal,
        retired: dirs.own.make_dirs(&rel(&format!("retired/{hex}")), 0o700)?,
        aside: staging.make_dirs(&rel("park"), 0o700)?,
        tree: Arc::new(staging.make_dirs(&rel("tree"), 0o700)?),
        targets: journal.places.iter().filter(|p| p.slot != 0).map(|p| (p.slot, p)).collect(),
    };
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
                dir.rename_noreplace(name, to, slot.as_bytes())?;
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
                            from.rename_noreplace(from_name, &dir, name)?;
                        }
                        there
                    }
                }
            } else {
                let slot = step.slot.to_string();
                let there = is_at(&self.aside, slot.as_bytes(), step.ino)?;
                if there {
                    self.aside.rename_noreplace(slot.as_bytes(), &dir, name)?;
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
            let kind = [FileKind::Dir, FileKind::File, FileKind::Symlink, FileKind::Fifo]
                .get(usize::from(step.kind))
                .copied()
                .unwrap_or(FileKind::File);
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
