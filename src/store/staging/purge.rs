//! Clears from staging what the plan does not want: a directory that is placed brings everything below it.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::{Staging, staged_path};
use crate::backup::plan::{Plan, Prepare};
use crate::backup::relpath::RelPath;
use crate::tree::error::TreeError;
use crate::tree::safe_dir::SafeDir;
use crate::tree::stat::FileKind;

impl Staging {
    /// Forgets whole files that no step wants, and removes everything in the staged tree that no step names.
    pub(super) fn purge(&self, plan: &Plan) -> Result<(), TreeError> {
        let wanted: BTreeSet<&RelPath> =
            plan.prepare.iter().filter(|s| !matches!(s.what, Prepare::DirAside { .. })).map(|s| &s.path).collect();
        self.set_aside_for(plan, &|path| wanted.contains(path))?;
        let (stale, begun) = {
            let mut index = self.index();
            (index.keep_only(&wanted), index.has_begun())
        };
        // Only this run's files, and all of them wanted: nothing else can be there.
        if !self.mixed.swap(true, Ordering::SeqCst) && !stale && !begun {
            return Ok(());
        }
        self.dirs.lock().unwrap_or_else(PoisonError::into_inner).clear();
        match self.tree().stat(b"r") {
            Ok(stat) if stat.kind == FileKind::Dir => clear(self.tree(), &wanted),
            Ok(_) if !wanted.contains(&RelPath::root()) => self.tree().remove_tree(b"r"),
            Err(e) if !e.is_not_found() => Err(e),
            _ => Ok(()),
        }
    }
}

/// Removes what is not wanted below the staged root.
fn clear(tree: &SafeDir, wanted: &BTreeSet<&RelPath>) -> Result<(), TreeError> {
    let mut todo = vec![RelPath::root()];
    while let Some(path) = todo.pop() {
        let dir = tree.open_dir(&staged_path(&path)?)?;
        for entry in dir.names()? {
            let Ok(child) = path.join(&entry.name) else {
                dir.remove_tree(&entry.name)?;
                continue;
            };
            let is_dir = match entry.is_dir {
                Some(is_dir) => is_dir,
                None => dir.stat(&entry.name)?.kind == FileKind::Dir,
            };
            let mut after = wanted.range::<RelPath, _>((Bound::Included(&child), Bound::Unbounded));
            match after.next() {
                Some(next) if next.is_within(&child) && (is_dir || **next == child) => {
                    if is_dir {
                        todo.push(child);
                    }
                }
                _ => dir.remove_tree(&entry.name)?,
            }
        }
    }
    Ok(())
}
