//! Brings staging to what the plan wants: everything that will be placed stands there, durable after one flush, with
//! its final metadata. Data is copied here, never in the commit.

use std::collections::HashSet;
use std::fs::File;
use std::sync::Arc;

use super::adopt::hash_file;
use super::large::holes::punch;
use super::prepared::{Prepared, PreparedItem, is_dir};
use super::{Staging, disk_form_of};
use crate::backup::digest::Digest;
use crate::backup::entry::FileContent;
use crate::backup::plan::{ContentPlace, LinkFrom, MissingContent, Plan, Prepare, PrepareStep};
use crate::backup::relpath::RelPath;
use crate::store::vault::{Known, Vault};
use crate::tree::dir_cache::{DIRS_OPEN_DEFAULT, DirCache};
use crate::tree::error::TreeError;
use crate::tree::metadata::{Place, apply};
use crate::tree::safe_dir::SafeDir;
use crate::tree::stat::FileKind;

/// Why staging cannot be prepared.
#[derive(Debug)]
pub enum PrepareError {
    /// The disk fails or is full.
    Tree(TreeError),
    /// Content that the store was thought to have is damaged or gone: the client is asked for it.
    Missing(Vec<MissingContent>),
}

impl From<TreeError> for PrepareError {
    fn from(error: TreeError) -> Self {
        Self::Tree(error)
    }
}

/// Where prepared content may come from.
pub struct PrepareSources<'a> {
    /// The copy.
    pub copy: &'a Arc<SafeDir>,
    /// The root's path in the copy.
    pub root: &'a RelPath,
    /// `.rbbackup/retired`.
    pub retired: &'a Arc<SafeDir>,
    /// The copy's vault.
    pub vault: VaultSource<'a>,
}

/// A vault, and what is known of it.
pub struct VaultSource<'a> {
    /// The vault.
    pub vault: &'a Vault,
    /// Its catalog.
    pub known: Known<'a>,
}

impl Staging {
    /// Executes the plan's preparations. Notes say what could not be applied.
    ///
    /// # Errors
    /// [`PrepareError`]; calling it again after the missing content has arrived goes on.
    pub fn prepare(
        &self,
        plan: &Plan,
        sources: &PrepareSources<'_>,
        notes: &mut Vec<String>,
    ) -> Result<Prepared, PrepareError> {
        self.purge(plan)?;
        // A plan of an earlier round may have used its slots otherwise.
        self.dir().remove_tree(b"park").or_else(|e| if e.is_not_found() { Ok(()) } else { Err(e) })?;
        let mut missing: Vec<MissingContent> = Vec::new();
        let mut copy_dirs = DirCache::new(Arc::clone(sources.copy), DIRS_OPEN_DEFAULT);
        for step in plan.prepare.iter() {
            let step = &*step.map_err(|e| self.spool_error(e))?;
            match &step.what {
                Prepare::Dir => self.prepare_dir(&step.path)?,
                Prepare::DirAside { slot } => self.prepare_aside(*slot)?,
                Prepare::Symlink { target } => self.replace(step, |dir, name| dir.symlink(&target.0, name))?,
                Prepare::Fifo => self.replace(step, |dir, name| dir.mkfifo(name, step.form.mode & 0o777))?,
                Prepare::Staged => {}
                // Planned again when its leader's content has come.
                Prepare::Link { from: LinkFrom::Staged(leader) } if missing.iter().any(|m| m.path == *leader) => {}
                Prepare::Link { from } => self.link(step, from, sources, &mut copy_dirs)?,
                Prepare::Copy { from, content } => {
                    if !self.copy(step, from, content, sources, &mut copy_dirs)? {
                        let (path, digest, size) = (step.path.clone(), content.digest, content.size);
                        missing.push(MissingContent { path, digest, size });
                    }
                }
            }
        }
        if !missing.is_empty() {
            return Err(PrepareError::Missing(missing));
        }
        Ok(self.finish_metadata(plan, notes)?)
    }

    fn prepare_dir(&self, path: &RelPath) -> Result<(), TreeError> {
        let (dir, name) = self.parent(path)?;
        match dir.mkdir(&name, 0o700) {
            Err(e) if e.is_exists() => {
                if dir.stat(&name)?.kind == FileKind::Dir {
                    return Ok(());
                }
                self.clear_place(path, &dir, &name)?;
                dir.mkdir(&name, 0o700)
            }
            other => other,
        }
    }

    /// The parking place of a slot is made empty.
    fn prepare_aside(&self, slot: u32) -> Result<(), TreeError> {
        let (aside, name) = self.aside(slot)?;
        match aside.mkdir(&name, 0o700) {
            Err(e) if e.is_exists() => Ok(()),
            other => other,
        }
    }

    fn aside(&self, slot: u32) -> Result<(SafeDir, Vec<u8>), TreeError> {
        let park = RelPath::new(b"park").unwrap_or_default();
        Ok((self.dir().make_dirs(&park, 0o700)?, slot.to_string().into_bytes()))
    }

    /// Makes something that has no content, in place of what is there.
    fn replace(
        &self,
        step: &PrepareStep,
        make: impl Fn(&SafeDir, &[u8]) -> Result<(), TreeError>,
    ) -> Result<(), TreeError> {
        let (dir, name) = self.parent(&step.path)?;
        match make(&dir, &name) {
            Err(e) if e.is_exists() => {
                self.clear_place(&step.path, &dir, &name)?;
                make(&dir, &name)
            }
            other => other,
        }
    }

    fn link(
        &self,
        step: &PrepareStep,
        from: &LinkFrom,
        sources: &PrepareSources<'_>,
        copy_dirs: &mut DirCache,
    ) -> Result<(), TreeError> {
        let (from_dir, from_name) = match from {
            LinkFrom::Staged(path) => self.parent(path)?,
            LinkFrom::Present(path) => in_copy(copy_dirs, sources.root, path)?,
        };
        self.replace(step, |dir, name| from_dir.link(&from_name, dir, name))
    }

    /// Copies content within the store, verifying it. False: it is not what it should be.
    fn copy(
        &self,
        step: &PrepareStep,
        from: &ContentPlace,
        content: &FileContent,
        sources: &PrepareSources<'_>,
        copy_dirs: &mut DirCache,
    ) -> Result<bool, TreeError> {
        if self.is_staged(&step.path, &content.digest, content.size)? {
            return Ok(true);
        }
        let opened = match from {
            ContentPlace::Staged => self.open_content(&content.digest),
            ContentPlace::Copy(path) => copy_dirs.parent_of(path).and_then(|(dir, name)| dir.open_read(name)),
            ContentPlace::Retired(path) => {
                let parent = sources.retired.open_dir(&path.parent().unwrap_or_default());
                let opened = parent.and_then(|dir| dir.open_read(path.name().unwrap_or_default()));
                match opened {
                    // It was packed meanwhile.
                    Err(e) if e.is_not_found() => {
                        return self.extract(&step.path, &step.form, content, &sources.vault);
                    }
                    other => other,
                }
            }
            ContentPlace::Vault => return self.extract(&step.path, &step.form, content, &sources.vault),
        };
        let Ok(source) = opened else { return Ok(false) };
        let (dir, name) = self.parent(&step.path)?;
        let mut target = self.create(&step.path, &dir, &name, 0o600)?;
        copy_content(source, &mut target).map_err(|e| TreeError::new("copy to", dir.label(), &name, e))?;
        if content.sparse {
            punch(&target, content.size);
        }
        let mut written = dir.open_read(&name)?;
        let failed = |e| TreeError::new("read", dir.label(), &name, e);
        let digest = hash_file(&mut written).map_err(failed)?;
        if (digest, written.metadata().map_err(failed)?.len()) != (content.digest, content.size) {
            dir.unlink(&name)?;
            return Ok(false);
        }
        self.seal(&step.path, &target, &step.form, digest)?;
        Ok(true)
    }

    /// A directory after all that it holds: making a name changes its time.
    fn finish_metadata(&self, plan: &Plan, notes: &mut Vec<String>) -> Result<Prepared, TreeError> {
        let failed = |e| self.spool_error(e);
        let mut linked: HashSet<RelPath> = HashSet::new();
        for step in plan.prepare.iter() {
            if let Prepare::Link { from: LinkFrom::Staged(path) } = &step.map_err(failed)?.what {
                linked.insert(path.clone());
            }
        }
        let mut prepared = Prepared::new(self.spill());
        // Those that lead to the step in hand.
        let mut open: Vec<(usize, PrepareStep)> = Vec::new();
        for step in plan.prepare.iter() {
            let step = step.map_err(failed)?;
            while let Some((at, dir)) = open.pop_if(|(_, dir)| !step.path.is_within(&dir.path)) {
                prepared.set_dir(at, self.finish_dir(&dir, notes)?);
            }
            if is_dir(&step) {
                open.push((prepared.push_dir(), step.into_owned()));
            } else {
                prepared.push(self.finish_item(&step, &linked, notes)?).map_err(failed)?;
            }
        }
        while let Some((at, dir)) = open.pop() {
            prepared.set_dir(at, self.finish_dir(&dir, notes)?);
        }
        Ok(prepared)
    }

    fn finish_dir(&self, step: &PrepareStep, notes: &mut Vec<String>) -> Result<PreparedItem, TreeError> {
        let child = match &step.what {
            Prepare::DirAside { slot } => self.aside(*slot).and_then(|(dir, name)| dir.open_child(&name))?,
            _ => self.parent(&step.path).and_then(|(dir, name)| dir.open_child(&name))?,
        };
        let want = disk_form_of(&step.form, FileKind::Dir, self.policy);
        note(notes, &step.path, apply(Place::Dir(&child), &want)?);
        Ok(PreparedItem { stat: (&child.stat_self()?).into(), digest: None })
    }

    fn finish_item(
        &self,
        step: &PrepareStep,
        linked: &HashSet<RelPath>,
        notes: &mut Vec<String>,
    ) -> Result<PreparedItem, TreeError> {
        let known = self.find(&step.path)?;
        // Other names of it were made meanwhile: its ctime moved.
        let linked = linked.contains(&step.path);
        let staged = matches!(step.what, Prepare::Staged | Prepare::Copy { .. });
        let digest = match &step.what {
            Prepare::Symlink { target } => Some(Digest::of(&target.0)),
            Prepare::Link { from: LinkFrom::Staged(leader) } => self.find(leader)?.map(|f| f.digest),
            _ => known.as_ref().map(|f| f.digest),
        };
        if let Some(file) = known.filter(|f| staged && f.is_in(&step.form) && !linked) {
            return Ok(PreparedItem { stat: file.stat, digest });
        }
        let kind = match &step.what {
            Prepare::Symlink { .. } => FileKind::Symlink,
            Prepare::Fifo => FileKind::Fifo,
            _ => FileKind::File,
        };
        let (dir, name) = self.parent(&step.path)?;
        // A link is an inode that stands elsewhere with a step of its own, or lives in the copy.
        if !matches!(step.what, Prepare::Link { .. }) {
            let want = disk_form_of(&step.form, kind, self.policy);
            note(notes, &step.path, apply(Place::Name(&dir, &name), &want)?);
        }
        Ok(PreparedItem { stat: (&dir.stat(&name)?).into(), digest })
    }
}

fn note(notes: &mut Vec<String>, path: &RelPath, said: Vec<String>) {
    notes.extend(said.into_iter().map(|n| format!("'{path}': {n}")));
}

/// A path below the root, as it is in the copy now.
fn in_copy(dirs: &mut DirCache, root: &RelPath, path: &RelPath) -> Result<(Arc<SafeDir>, Vec<u8>), TreeError> {
    let full = root
        .join_path(path)
        .map_err(|_| TreeError::new("find", b"", path.as_bytes(), rustix::io::Errno::NAMETOOLONG))?;
    let (dir, name) = dirs.parent_of(&full)?;
    Ok((dir, name.to_vec()))
}

/// By reflink where the file system can, else inside the kernel, else through memory.
/// Whether it is what it should be, the caller finds out by hashing what was written.
pub(super) fn copy_content(mut source: File, target: &mut File) -> std::io::Result<()> {
    if rustix::fs::ioctl_ficlone(&*target, &source).is_ok() {
        return Ok(());
    }
    std::io::copy(&mut source, target).map(|_| ())
}
