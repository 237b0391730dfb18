//! The last look before the journal: a journal that cannot be carried out would close the store until somebody repairs
//! it by hand.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{CommitDirs, CommitError, is_at, kind_of, rel, there};
use crate::backup::plan::ParkTo;
use crate::backup::relpath::RelPath;
use crate::store::journal::{Journal, PlaceStep, park_number};
use crate::store::staging::staged_path;
use crate::tree::dir_cache::{DIRS_OPEN_DEFAULT, DirCache};
use crate::tree::error::TreeError;
use crate::tree::safe_dir::SafeDir;
use crate::tree::stat::FileKind;

/// Looks whether everything that is to leave or to change is still there, and whether everything that is to arrive
/// stands ready and finds its place free.
pub(super) fn check(dirs: &CommitDirs, journal: &Journal) -> Result<(), CommitError> {
    let mut cache = DirCache::new(Arc::clone(&dirs.copy), DIRS_OPEN_DEFAULT);
    let changed = |path: &RelPath| CommitError::Changed { path: path.clone() };
    for step in &journal.parks {
        let present = match there(&mut cache, &step.path)? {
            None => false,
            Some((dir, name)) => is_at(&dir, name, step.ino)?,
        };
        if !present {
            return Err(changed(&step.path));
        }
    }
    let parked: HashSet<&RelPath> = journal.parks.iter().map(|p| &p.path).collect();
    let now = Now::new(journal);
    let mut ready = Ready::new(dirs, journal)?;
    for step in &journal.places {
        let free = match now.place(&step.path)? {
            Comes::New => true,
            Comes::From(path) => match there(&mut cache, &path)? {
                None => false,
                Some((dir, name)) => parked.contains(&path) || is_free(&dir, name)?,
            },
        };
        if !free || !ready.is_ready(step)? {
            return Err(changed(&step.path));
        }
    }
    for step in journal.touches.iter().filter(|step| !now.placed.contains_key(step.path.as_bytes())) {
        if let Comes::From(path) = now.place(&step.path)?
            && !is_kind(&mut cache, &path, step.kind)?
        {
            return Err(changed(&step.path));
        }
    }
    Ok(())
}

/// Where the names of the new state are now.
struct Now<'a> {
    placed: HashMap<&'a [u8], &'a PlaceStep>,
    /// What parks hold aside, by slot.
    held: HashMap<u32, &'a RelPath>,
}

/// Where a name of the new state is now.
enum Comes {
    /// In a directory that is made for it: nothing of that name can be there.
    New,
    /// At this path of the copy, if there is anything: its own, or in a directory that moves.
    From(RelPath),
}

impl<'a> Now<'a> {
    fn new(journal: &'a Journal) -> Self {
        Self {
            placed: journal.places.iter().map(|p| (p.path.as_bytes(), p)).collect(),
            held: journal
                .parks
                .iter()
                .filter(|p| p.to == park_number(ParkTo::Hold))
                .map(|p| (p.slot, &p.path))
                .collect(),
        }
    }

    fn place(&self, path: &RelPath) -> Result<Comes, TreeError> {
        let bytes = path.as_bytes();
        let mut ends = bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        // The deepest directory above that arrives is the one it comes with.
        let Some(above) = ends.find_map(|end| self.placed.get(bytes.get(..end)?)) else {
            return Ok(Comes::From(path.clone()));
        };
        let Some(old) = self.held.get(&above.slot) else { return Ok(Comes::New) };
        let below = path.strip_prefix(&above.path).unwrap_or_default();
        let long = |_| TreeError::new("find", b"", bytes, rustix::io::Errno::NAMETOOLONG);
        Ok(Comes::From(old.join_path(&below).map_err(long)?))
    }
}

/// Whether something of this kind has this name.
fn is_kind(cache: &mut DirCache, path: &RelPath, kind: u8) -> Result<bool, TreeError> {
    if path.is_root() {
        return Ok(true);
    }
    let Some((dir, name)) = there(cache, path)? else { return Ok(false) };
    match dir.stat(name) {
        Err(e) if e.is_not_found() => Ok(false),
        other => Ok(match (kind_of(kind), other?.kind) {
            // What is none of the other three is one kind to a plan.
            (FileKind::Fifo, found) => !matches!(found, FileKind::Dir | FileKind::File | FileKind::Symlink),
            (wanted, found) => wanted == found,
        }),
    }
}

fn is_free(dir: &SafeDir, name: &[u8]) -> Result<bool, TreeError> {
    match dir.stat(name) {
        Err(e) if e.is_not_found() => Ok(true),
        other => other.map(|_| false),
    }
}

/// Where what arrives stands.
struct Ready<'a> {
    root: &'a RelPath,
    staged: DirCache,
    aside: SafeDir,
    /// Slots that the parks fill.
    filled: HashSet<u32>,
}

impl<'a> Ready<'a> {
    fn new(dirs: &CommitDirs, journal: &'a Journal) -> Result<Self, TreeError> {
        let staging = RelPath::new(&[b"staging/", journal.staging.as_slice()].concat()).unwrap_or_default();
        let staging = dirs.own.make_dirs(&staging, 0o700)?;
        Ok(Self {
            root: &journal.root,
            staged: DirCache::new(Arc::new(staging.make_dirs(&rel("tree"), 0o700)?), DIRS_OPEN_DEFAULT),
            aside: staging.make_dirs(&rel("park"), 0o700)?,
            filled: journal.parks.iter().map(|p| p.slot).collect(),
        })
    }

    fn is_ready(&mut self, step: &PlaceStep) -> Result<bool, TreeError> {
        if step.slot != 0 {
            return Ok(
                self.filled.contains(&step.slot) || is_at(&self.aside, step.slot.to_string().as_bytes(), step.ino)?
            );
        }
        let source = staged_path(&step.path.strip_prefix(self.root).unwrap_or_default())?;
        match there(&mut self.staged, &source)? {
            None => Ok(false),
            Some((dir, name)) => is_at(&dir, name, step.ino),
        }
    }
}
