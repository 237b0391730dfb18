//! `--delete`: takes away what the snapshot does not have, and never more than that.
//!
//! A folder is removed whole only if nothing below it is a mounted file system or the store itself: a snapshot does not
//! hold these, and they must not go for it.

use super::Shared;
use super::tally::Became;
use crate::backup::bytes::escape;
use crate::backup::relpath::RelPath;
use crate::tree::error::TreeError;
use crate::tree::safe_dir::SafeDir;
use crate::tree::stat::{FileKind, Stat};

/// Removes `name`, which stands at `path` of the restored tree; says whether it is gone (or would be, in a dry run).
pub(super) fn remove(shared: &Shared<'_>, dir: &SafeDir, name: &[u8], path: &RelPath) -> bool {
    match try_remove(shared, dir, name, path) {
        Ok(gone) => gone,
        Err(error) if error.is_not_found() => true,
        Err(error) => {
            shared.failed(path, &error.to_string());
            false
        }
    }
}

fn try_remove(shared: &Shared<'_>, dir: &SafeDir, name: &[u8], path: &RelPath) -> Result<bool, TreeError> {
    let stat = dir.stat(name)?;
    if stat.kind == FileKind::Dir {
        let home = dir.stat_self()?;
        if let Some(what) = holds_foreign(dir, name, &home, shared.store_place)? {
            shared.failed(path, &format!("not removed: {what}"));
            return Ok(false);
        }
    }
    shared.plan_line("delete", path);
    if !shared.options.dry_run {
        dir.remove_tree(name)?;
    }
    shared.tally.count(Became::Deleted);
    Ok(true)
}

/// What below (or at) the folder `name` must not be removed.
fn holds_foreign(dir: &SafeDir, name: &[u8], home: &Stat, store: (u64, u64)) -> Result<Option<String>, TreeError> {
    let top = dir.open_child(name)?;
    let mut folders = vec![RelPath::root()];
    while let Some(path) = folders.pop() {
        let folder = top.open_dir(&path)?;
        let stat = folder.stat_self()?;
        let shown = escape(folder.label());
        if (stat.dev, stat.ino) == store {
            return Ok(Some(format!("'{shown}' is the store")));
        }
        if (stat.dev, stat.mnt_id) != (home.dev, home.mnt_id) {
            return Ok(Some(format!("'{shown}' is another file system")));
        }
        for entry in folder.names()? {
            let is_dir = match entry.is_dir {
                Some(is_dir) => is_dir,
                None => folder.stat(&entry.name)?.kind == FileKind::Dir,
            };
            if is_dir {
                match path.join(&entry.name) {
                    Ok(child) => folders.push(child),
                    Err(error) => return Ok(Some(error.to_string())),
                }
            }
        }
    }
    Ok(None)
}
