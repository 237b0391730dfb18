//! The comparer's way with folders: made where they are missing, gone into where they are there.

use super::Overwrite;
use super::compare::{Comparer, Spot};
use super::folders::{Around, Folder};
use super::settle::{is_left_alone, metadata_differs};
use super::tally::Became;
use crate::backup::entry::{Entry, Kind};
use crate::backup::relpath::RelPath;
use crate::tree::error::TreeError;
use crate::tree::metadata::{Place, apply, restored_form};
use crate::tree::stat::{FileKind, Stat};

impl Comparer<'_> {
    pub(super) fn folder(&mut self, entry: Entry, there: Option<Stat>) -> Result<(), TreeError> {
        match self.make_folder(&entry, there) {
            Ok(Some(folder)) => {
                let left_alone = self.shared.options.overwrite == Overwrite::Never && there.is_some();
                self.folders.enter(folder);
                if !left_alone {
                    self.compared.folders.push(entry);
                }
                Ok(())
            }
            Ok(None) => {
                self.blocked(&entry.path);
                Ok(())
            }
            Err(error) => {
                self.blocked(&entry.path);
                Err(error)
            }
        }
    }

    /// Nothing below this path is restored.
    pub(super) fn blocked(&mut self, path: &RelPath) {
        self.folders.enter(Folder { path: path.clone(), around: Around::Blocked, extras: None });
    }

    /// Makes the folder, or makes use of the one that is there. None: something else is there and stays.
    fn make_folder(&mut self, entry: &Entry, there: Option<Stat>) -> Result<Option<Folder>, TreeError> {
        let (shared, path) = (self.shared, entry.path.clone());
        if let Some(stat) = &there
            && stat.kind == FileKind::Dir
        {
            return self.use_folder(entry, stat).map(Some);
        }
        if let Some(stat) = &there
            && is_left_alone(shared.options, entry, stat)
        {
            shared.failed(&path, "not restored: something else than a folder is in its place and is left alone");
            return Ok(None);
        }
        let became = if there.is_some() { Became::Updated } else { Became::Created };
        shared.plan_line(if there.is_some() { "update" } else { "create" }, &path);
        // The top was made when the target was opened.
        if !shared.options.dry_run
            && !path.is_root()
            && let Some((dir, name)) = self.parent(&path)?
        {
            if there.is_some() {
                dir.unlink(&name)?;
            }
            dir.mkdir(&name, 0o700)?;
        }
        shared.tally.count(became);
        Ok(Some(Folder { path, around: Around::Fresh, extras: None }))
    }

    fn use_folder(&mut self, entry: &Entry, there: &Stat) -> Result<Folder, TreeError> {
        let (shared, path) = (self.shared, entry.path.clone());
        let differs = match self.parent_of_folder(&path)? {
            Some((dir, name)) => metadata_differs(&dir, &name, there, entry),
            None => restored_form(entry).diff(there, None).any(),
        };
        if shared.options.overwrite == Overwrite::Never || !differs {
            shared.tally.count(Became::Unchanged);
        } else {
            shared.plan_line("touch", &path);
            shared.tally.count(Became::Touched);
        }
        self.open_up(&path, there)?;
        let deletes = self.deletes();
        let extras = match self.dirs.as_mut() {
            Some(dirs) if deletes => {
                let dir = dirs.dir(&path)?;
                let names = dir.names()?.into_iter();
                // A run without -r did not look at folders: those that the snapshot lacks may have been there.
                let gone = names.filter(|n| shared.granted.recursive || n.is_dir == Some(false)).map(|n| n.name);
                Some((dir, gone.collect()))
            }
            _ => None,
        };
        Ok(Folder { path, around: Around::Present, extras })
    }

    fn deletes(&self) -> bool {
        self.shared.options.delete && self.shared.granted.complete
    }

    fn parent_of_folder(&mut self, path: &RelPath) -> Result<Option<Spot>, TreeError> {
        if path.is_root() { Ok(None) } else { self.parent(path) }
    }

    /// A folder that its owner may not write in is opened for the time of the restore; it gets its final mode at the end.
    fn open_up(&mut self, path: &RelPath, there: &Stat) -> Result<(), TreeError> {
        let needed = 0o700;
        let dry_run = self.shared.options.dry_run;
        if dry_run || there.mode & needed == needed || rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let mut form = restored_form(&Entry { path: path.clone(), meta: there.meta(), kind: Kind::Dir });
        (form.mode, form.owner) = (there.mode | needed, None);
        match (self.parent_of_folder(path)?, &self.dirs) {
            (Some((dir, name)), _) => apply(Place::Name(&dir, &name), &form).map(drop),
            (None, Some(dirs)) => apply(Place::Dir(dirs.root()), &form).map(drop),
            (None, None) => Ok(()),
        }
    }
}
