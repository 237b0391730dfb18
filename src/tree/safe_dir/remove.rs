//! Removing a whole tree below a [`SafeDir`]: directory by directory, one descriptor open at a time.
//!
//! However deep the tree is, the way back up is `..`, and it is believed only if it is the inode that we came from:
//! somebody who moves a directory away while it is being emptied makes the removal stop, not wander.

use std::sync::Arc;

use super::{DirName, SafeDir, TreeError};
use crate::tree::stat::{FileKind, Stat};

/// A directory that is being emptied, while we are below it.
struct Above {
    stat: Stat,
    label: Arc<[u8]>,
    /// What is still to remove in it, last first; the directory we are in is gone from the list.
    rest: Vec<DirName>,
    /// The name of the directory we went into.
    child: Vec<u8>,
}

impl SafeDir {
    /// Removes `name` and all below it; symbolic links are removed, not followed.
    ///
    /// # Errors
    /// The first thing that cannot be removed; what was removed before stays removed.
    pub fn remove_tree(&self, name: &[u8]) -> Result<(), TreeError> {
        // Linux answers EISDIR for a directory; others may not, and must not unlink one.
        if self.stat(name)?.kind != FileKind::Dir {
            return self.unlink(name);
        }
        let mut dir = self.open_child(name)?;
        let mut rest = dir.names()?;
        let mut above: Vec<Above> = Vec::new();
        loop {
            match rest.pop() {
                Some(entry) => {
                    if !dir.is_directory(&entry)? {
                        dir.unlink(&entry.name)?;
                        continue;
                    }
                    if dir.rmdir(&entry.name).is_ok() {
                        continue;
                    }
                    let child = dir.open_child(&entry.name)?;
                    let below = child.names()?;
                    let stat = dir.stat_self()?;
                    let rest_above = std::mem::replace(&mut rest, below);
                    above.push(Above { stat, label: dir.label.clone(), rest: rest_above, child: entry.name });
                    dir = child;
                }
                None => match above.pop() {
                    Some(up) => {
                        dir = dir.open_parent(&up.stat, &up.label)?;
                        dir.rmdir(&up.child)?;
                        rest = up.rest;
                    }
                    None => return self.rmdir(name),
                },
            }
        }
    }

    fn is_directory(&self, entry: &DirName) -> Result<bool, TreeError> {
        match entry.is_dir {
            Some(is_dir) => Ok(is_dir),
            None => Ok(self.stat(&entry.name)?.kind == FileKind::Dir),
        }
    }
}
