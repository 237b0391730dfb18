//! The last look before the journal: a journal that cannot be carried out would close the store until somebody repairs
//! it by hand.

use std::collections::HashSet;
use std::sync::Arc;

use super::{CommitDirs, CommitError, is_at, rel, there};
use crate::backup::relpath::RelPath;
use crate::store::journal::{Journal, PlaceStep};
use crate::store::staging::staged_path;
use crate::tree::dir_cache::{DIRS_OPEN_DEFAULT, DirCache};
use crate::tree::error::TreeError;
use crate::tree::safe_dir::SafeDir;

/// Looks whether everything that is to leave is still there, and whether everything that is to arrive stands ready and
/// finds its place free.
pub(super) fn check(dirs: &CommitDirs, journal: &Journal) -> Result<(), CommitError> {
    let mut cache = DirCache::new(Arc::clone(&dirs.copy), DIRS_OPEN_DEFAULT);
    for step in &journal.parks {
        let present = match there(&mut cache, &step.path)? {
            None => false,
            Some((dir, name)) => is_at(&dir, name, step.ino)?,
        };
        if !present {
            return Err(CommitError::Changed { path: step.path.clone() });
        }
    }
    let parked: HashSet<&RelPath> = journal.parks.iter().map(|p| &p.path).collect();
    let placed: HashSet<&[u8]> = journal.places.iter().map(|p| p.path.as_bytes()).collect();
    let mut ready = Ready::new(dirs, journal)?;
    for step in &journal.places {
        let free = brought(&placed, &step.path)
            || match there(&mut cache, &step.path)? {
                None => false,
                Some((dir, name)) => parked.contains(&step.path) || is_free(&dir, name)?,
            };
        if !free || !ready.is_ready(step)? {
            return Err(CommitError::Changed { path: step.path.clone() });
        }
    }
    Ok(())
}

/// Whether a directory that this commit places holds `path`: it came with nothing at that name, or parks emptied it.
fn brought(placed: &HashSet<&[u8]>, path: &RelPath) -> bool {
    let bytes = path.as_bytes();
    let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    ends.into_iter().any(|end| bytes.get(..end).is_some_and(|above| placed.contains(above)))
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
