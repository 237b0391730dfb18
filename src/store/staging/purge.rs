//! Clears from staging what the plan does not want: a directory that is placed brings everything below it.

use std::borrow::Cow;
use std::io;
use std::iter::Peekable;
use std::sync::PoisonError;
use std::sync::atomic;

use super::{Staging, staged_path};
use crate::backup::plan::{Plan, Prepare, PrepareStep};
use crate::backup::relpath::RelPath;
use crate::tree::error::TreeError;
use crate::tree::safe_dir::SafeDir;
use crate::tree::stat::FileKind;

/// The paths that a plan's steps name in the staged tree, asked for in canonical order.
pub(super) struct Wanted<'a> {
    steps: Peekable<Box<dyn Iterator<Item = io::Result<Cow<'a, PrepareStep>>> + 'a>>,
}

impl<'a> Wanted<'a> {
    pub(super) fn of(plan: &'a Plan) -> Self {
        let aside = |step: &PrepareStep| matches!(step.what, Prepare::DirAside { .. });
        let steps = plan.prepare.iter().filter(move |step| !step.as_ref().is_ok_and(|step| aside(step)));
        Self { steps: (Box::new(steps) as Box<dyn Iterator<Item = _>>).peekable() }
    }

    /// The first that is not before `path`, which is not before the one asked for last.
    fn seek(&mut self, path: &RelPath) -> io::Result<Option<&RelPath>> {
        while self.steps.next_if(|step| step.as_ref().is_ok_and(|step| step.path < *path)).is_some() {}
        if let Some(error) = self.steps.next_if(Result::is_err) {
            error?;
        }
        Ok(self.steps.peek().and_then(|step| step.as_ref().ok()).map(|step| &step.path))
    }

    /// Whether it is one of them.
    pub(super) fn has(&mut self, path: &RelPath) -> io::Result<bool> {
        Ok(self.seek(path)? == Some(path))
    }
}

impl Staging {
    /// Forgets whole files that no step wants, and removes everything in the staged tree that no step names.
    pub(super) fn purge(&self, plan: &Plan) -> Result<(), TreeError> {
        let failed = |e| self.spool_error(e);
        self.set_aside_for(plan)?;
        let (stale, begun) = {
            let (mut index, mut wanted) = (self.index(), Wanted::of(plan));
            (index.keep_only(|path| wanted.has(path)).map_err(failed)?, index.has_begun())
        };
        // Only this run's files, and all of them wanted: nothing else can be there.
        if !self.mixed.swap(true, atomic::Ordering::SeqCst) && !stale && !begun {
            return Ok(());
        }
        self.dirs.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let mut wanted = Wanted::of(plan);
        match self.tree().stat(b"r") {
            Ok(stat) if stat.kind == FileKind::Dir => self.clear(&RelPath::root(), &mut wanted),
            Ok(_) if !wanted.has(&RelPath::root()).map_err(failed)? => self.tree().remove_tree(b"r"),
            Err(e) if !e.is_not_found() => Err(e),
            _ => Ok(()),
        }
    }

    /// Removes what is not wanted below a staged directory.
    fn clear(&self, path: &RelPath, wanted: &mut Wanted<'_>) -> Result<(), TreeError> {
        let mut todo = vec![Listed::of(self.tree(), path)?];
        while let Some(here) = todo.last_mut() {
            let Some((child, is_dir)) = here.children.next() else {
                todo.pop();
                continue;
            };
            let next = wanted.seek(&child).map_err(|e| self.spool_error(e))?;
            let stays = next.is_some_and(|next| next.is_within(&child) && (is_dir || *next == child));
            if !stays {
                let dir = self.tree().open_dir(&staged_path(&child.parent().unwrap_or_default())?)?;
                dir.remove_tree(child.name().unwrap_or_default())?;
            } else if is_dir {
                todo.push(Listed::of(self.tree(), &child)?);
            }
        }
        Ok(())
    }
}

/// A staged directory that is being cleared; not open, for there may be thousands of them, one in the other.
struct Listed {
    /// What is still to look at, in canonical order; and whether it is a directory.
    children: std::vec::IntoIter<(RelPath, bool)>,
}

impl Listed {
    fn of(tree: &SafeDir, path: &RelPath) -> Result<Self, TreeError> {
        let dir = tree.open_dir(&staged_path(path)?)?;
        let mut children = Vec::new();
        for entry in dir.names()? {
            let Ok(child) = path.join(&entry.name) else {
                dir.remove_tree(&entry.name)?;
                continue;
            };
            let is_dir = match entry.is_dir {
                Some(is_dir) => is_dir,
                None => dir.stat(&entry.name)?.kind == FileKind::Dir,
            };
            children.push((child, is_dir));
        }
        children.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Self { children: children.into_iter() })
    }
}
