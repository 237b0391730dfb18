//! The folders around the entry in hand: entries come in canonical order, so a stack is enough.
//!
//! It is also what keeps a hostile server inside the target: an entry is placed only in a folder that came before it as
//! a folder and that we made or found to be one.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Shared;
use super::extras;
use crate::backup::relpath::RelPath;
use crate::tree::safe_dir::SafeDir;

/// What an entry finds where it is to be placed.
#[derive(Clone)]
pub(super) enum Around {
    /// Its folder is new (in a dry run: would be): nothing can be there.
    Fresh,
    /// Its folder was there before.
    Present,
    /// Its folder could not be made or was left alone; told already.
    Blocked,
    /// The snapshot has no such folder.
    Unknown,
}

/// A folder that entries may still come into.
pub(super) struct Folder {
    pub(super) path: RelPath,
    pub(super) around: Around,
    /// Names that the snapshot has not had so far, for `--delete`.
    pub(super) extras: Option<(Arc<SafeDir>, BTreeSet<Vec<u8>>)>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Folders {
    stack: Vec<Folder>,
}

impl Folders {
    /// Goes to where `path` is to be placed: folders that are complete are left, and their extras removed.
    pub(super) fn go_to(&mut self, shared: &Shared<'_>, path: &RelPath) -> Around {
        while self.stack.last().is_some_and(|folder| !path.is_within(&folder.path)) {
            self.leave(shared);
        }
        let (Some(folder), Some(parent)) = (self.stack.last_mut(), path.parent()) else { return Around::Unknown };
        if folder.path != parent {
            return if matches!(folder.around, Around::Blocked) { Around::Blocked } else { Around::Unknown };
        }
        if let (Some((_, extras)), Some(name)) = (&mut folder.extras, path.name()) {
            extras.remove(name);
        }
        folder.around.clone()
    }

    /// Goes into a folder.
    pub(super) fn enter(&mut self, folder: Folder) {
        self.stack.push(folder);
    }

    /// All entries have come.
    pub(super) fn end(&mut self, shared: &Shared<'_>) {
        while !self.stack.is_empty() {
            self.leave(shared);
        }
    }

    fn leave(&mut self, shared: &Shared<'_>) {
        let Some(folder) = self.stack.pop() else { return };
        let Some((dir, extras)) = folder.extras else { return };
        for name in extras {
            // A name that is too long for us as a path is left where it is.
            if let Ok(path) = folder.path.join(&name) {
                extras::remove(shared, &dir, &name, &path);
            }
        }
    }
}
