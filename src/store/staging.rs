//! Staging: what has arrived of a run that is not committed.
//!
//! ```text
//! .rbbackup/staging/<id>/        one folder a (copy, root): it passes to the next run
//!     owner                      whose it is, as text, for people and for the daemon's start
//!     tree/r/…                   files in the shape of the root, so that a new directory is placed by one rename
//!     spare/<digest>             content that lost its place in the tree
//!     park/<slot>                names on their way during a commit
//!     list, index                for a moment: they become files without a name (see `overflow`)
//! ```
//! A staged file is named by its content alone: after a restart everything found here is hashed again ([`Staging::adopt`]),
//! so no index has to be durable. Files of the index are whole and verified; what is not in it is leftover.

mod adopt;
mod extract;
mod index;
mod large;
mod overflow;
mod prepare;
mod prepared;
mod purge;
mod spare;

pub(crate) use adopt::hash_file;
pub(crate) use large::chunks_of;
pub use large::{Chunk, KnownChunks, LargeWriter};
pub use prepare::{PrepareError, PrepareSources, VaultSource};
pub use prepared::{Prepared, PreparedItem};

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use self::index::Index;
use super::names::CopyName;
use crate::backup::digest::Digest;
use crate::backup::entry::{Meta, Xattr};
use crate::backup::fingerprint::Fingerprint;
use crate::backup::relpath::RelPath;
use crate::tree::error::TreeError;
use crate::tree::metadata::{DiskForm, Place, StorePolicy, XattrScope, apply, stat_file};
use crate::tree::safe_dir::SafeDir;
use crate::tree::stat::{FileKind, Stat};

/// Directories of the staged tree that stay open.
const DIRS_OPEN_MAX: usize = 64;

/// A whole file in staging.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StagedFile {
    pub(crate) digest: Digest,
    pub(crate) xattrs: Vec<Xattr>,
    /// As it was when it was put here; nobody else changes it.
    pub(crate) stat: SmallStat,
}

impl StagedFile {
    /// Whether it has this metadata already.
    pub(crate) fn is_in(&self, form: &Meta) -> bool {
        let stat = &self.stat;
        (stat.mode, stat.uid, stat.gid) == (form.mode, form.uid, form.gid)
            && stat.fingerprint.mtime == form.mtime
            && self.xattrs == form.xattrs
    }
}

/// What the catalog will want to know of an inode.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct SmallStat {
    /// Kind.
    pub kind: FileKind,
    /// inode, size, times.
    pub fingerprint: Fingerprint,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl From<&Stat> for SmallStat {
    fn from(stat: &Stat) -> Self {
        let fingerprint = stat.fingerprint();
        Self { kind: stat.kind, fingerprint, mode: stat.mode, uid: stat.uid, gid: stat.gid }
    }
}

/// The staging folder of one (copy, root). One run has it at a time: who holds the lease.
pub struct Staging {
    /// Its folder's name below `staging/`.
    pub(crate) id: String,
    dir: Arc<SafeDir>,
    tree: Arc<SafeDir>,
    policy: StorePolicy,
    dirs: Mutex<HashMap<RelPath, Arc<SafeDir>>>,
    index: Mutex<Index>,
    /// More than this run's files may be in the tree.
    mixed: AtomicBool,
}

/// Where a path below the root stands below `tree/`.
pub(crate) fn staged_path(path: &RelPath) -> Result<RelPath, TreeError> {
    let root = RelPath::new(b"r").unwrap_or_default();
    root.join_path(path)
        .map_err(|_| TreeError::new("stage", b"staging", path.as_bytes(), rustix::io::Errno::NAMETOOLONG))
}

/// The folder's name for a (copy, root).
pub(crate) fn staging_id(copy: &CopyName, root: &RelPath) -> String {
    let name = [copy.component().as_bytes(), b"\0", root.as_bytes()].concat();
    Digest::of(&name).to_hex()[..32].to_owned()
}

/// The metadata of a plan's step as an inode is brought to it.
pub(crate) fn disk_form_of(form: &Meta, kind: FileKind, policy: StorePolicy) -> DiskForm {
    DiskForm {
        kind: Some(kind),
        mode: form.mode,
        owner: policy.is_root.then_some((form.uid, form.gid)),
        mtime: form.mtime,
        xattrs: form.xattrs.clone(),
        scope: XattrScope::Plain,
    }
}

impl Staging {
    /// Opens the folder for (copy, root) below `parent` (`.rbbackup/staging`), made if missing. What is left in it from
    /// another run is not known yet: see [`Staging::adopt`].
    ///
    /// # Errors
    /// The store's disk fails or is full.
    pub fn open(parent: &SafeDir, copy: &CopyName, root: &RelPath, policy: StorePolicy) -> Result<Self, TreeError> {
        let id = staging_id(copy, root);
        let name = RelPath::new(id.as_bytes()).unwrap_or_default();
        let dir = parent.make_dirs(&name, 0o700)?;
        let written = match dir.open_write(b"owner") {
            // Its time tells the daemon's start when a run was here last.
            Ok(file) => file.set_modified(std::time::SystemTime::now()),
            Err(e) if e.is_not_found() => {
                let text = format!("copy {}\nroot /{root}\n", copy.component());
                dir.create_new(b"owner", 0o600)?.write_all(text.as_bytes())
            }
            Err(e) => return Err(e),
        };
        written.map_err(|e| TreeError::new("write", dir.label(), b"owner", e))?;
        let tree = Arc::new(dir.make_dirs(&RelPath::new(b"tree").unwrap_or_default(), 0o700)?);
        let dir = Arc::new(dir);
        Ok(Self {
            id,
            index: Mutex::new(Index::new(Arc::clone(&dir))),
            dir,
            tree,
            policy,
            dirs: Mutex::default(),
            mixed: AtomicBool::new(false),
        })
    }

    /// The folder itself.
    pub(crate) fn dir(&self) -> &Arc<SafeDir> {
        &self.dir
    }

    /// The folder of the staged tree.
    pub(crate) fn tree(&self) -> &Arc<SafeDir> {
        &self.tree
    }

    /// Whether nothing whole is staged.
    pub fn is_empty(&self) -> bool {
        self.index().is_empty()
    }

    /// Whether a whole file with this content is staged, under any path.
    ///
    /// # Errors
    /// The store's disk fails: what there is too much of for memory lies there.
    pub fn has(&self, digest: &Digest) -> Result<bool, TreeError> {
        self.asked(self.index().has(digest))
    }

    /// Bytes of what it has.
    pub fn bytes(&self) -> u64 {
        self.index().bytes()
    }

    /// Bytes of what is staged for this path.
    ///
    /// # Errors
    /// Those of [`Staging::has`].
    pub fn bytes_of(&self, path: &RelPath) -> Result<u64, TreeError> {
        Ok(self.find(path)?.map_or(0, |file| file.stat.fingerprint.size))
    }

    /// Whether exactly this content, of this size, is staged for this path.
    ///
    /// # Errors
    /// Those of [`Staging::has`].
    pub fn is_staged(&self, path: &RelPath, digest: &Digest, size: u64) -> Result<bool, TreeError> {
        Ok(self.find(path)?.is_some_and(|f| (f.digest, f.stat.fingerprint.size) == (*digest, size)))
    }

    /// What is staged for this path.
    fn find(&self, path: &RelPath) -> Result<Option<StagedFile>, TreeError> {
        self.asked(self.index().get(path))
    }

    /// What the index answered.
    fn asked<T>(&self, answer: std::io::Result<T>) -> Result<T, TreeError> {
        answer.map_err(|e| self.spool_error(e))
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory that will hold `path`'s staged file, made if missing, and the name in it.
    pub(crate) fn parent(&self, path: &RelPath) -> Result<(Arc<SafeDir>, Vec<u8>), TreeError> {
        let staged = staged_path(path)?;
        let name = staged.name().unwrap_or(b"r").to_vec();
        let parent = staged.parent().unwrap_or_default();
        let mut dirs = self.dirs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dir) = dirs.get(&parent) {
            return Ok((Arc::clone(dir), name));
        }
        if dirs.len() >= DIRS_OPEN_MAX {
            dirs.clear();
        }
        let dir = Arc::new(self.make_dirs(&parent)?);
        dirs.insert(parent, Arc::clone(&dir));
        Ok((dir, name))
    }

    /// Makes the directories that lead to a staged path; a leftover of another kind on the way is removed.
    fn make_dirs(&self, path: &RelPath) -> Result<SafeDir, TreeError> {
        match self.tree.make_dirs(path, 0o700) {
            Err(error) if error.is_not_a_directory() => {}
            other => return other,
        }
        let mut dir = self.tree.try_clone()?;
        let mut at = RelPath::root();
        for name in path.components() {
            at = at.join(name).unwrap_or_default();
            if dir.stat(name).is_ok_and(|s| s.kind != FileKind::Dir) {
                let top = RelPath::new(b"r").unwrap_or_default();
                let lost = at.strip_prefix(&top).unwrap_or_default();
                if !self.set_aside(&lost, &dir, name)? {
                    self.unindex(&lost)?;
                    dir.unlink(name)?;
                }
            }
            match dir.mkdir(name, 0o700) {
                Err(e) if !e.is_exists() => return Err(e),
                _ => {}
            }
            dir = dir.open_child(name)?;
        }
        Ok(dir)
    }

    /// An empty file at `path`'s place (`name` in `dir`), what was there removed.
    pub(crate) fn create(&self, path: &RelPath, dir: &SafeDir, name: &[u8], mode: u32) -> Result<File, TreeError> {
        match dir.create_new(name, mode) {
            Err(e) if e.is_exists() => {
                self.clear_place(path, dir, name)?;
                dir.create_new(name, mode)
            }
            other => other,
        }
    }

    /// Removes what stands at `path`'s place (`name` in `dir`); whole files among it are set aside.
    pub(crate) fn clear_place(&self, path: &RelPath, dir: &SafeDir, name: &[u8]) -> Result<(), TreeError> {
        self.set_aside_within(path)?;
        self.unindex(path)?;
        dir.remove_tree(name).or_else(|e| if e.is_not_found() { Ok(()) } else { Err(e) })
    }

    /// Stages a small file whose content has been verified to have this digest.
    ///
    /// # Errors
    /// The store's disk fails or is full.
    pub fn put(&self, path: &RelPath, form: &Meta, digest: Digest, content: &[u8]) -> Result<(), TreeError> {
        if self.find(path)?.is_some_and(|f| f.digest == digest) {
            return Ok(());
        }
        let (dir, name) = self.parent(path)?;
        let mut file = self.create(path, &dir, &name, form.mode & 0o777)?;
        file.write_all(content).map_err(|e| TreeError::new("write", dir.label(), &name, e))?;
        self.seal(path, &file, form, digest)
    }

    /// Sets a staged file's metadata and takes it into the index.
    pub(crate) fn seal(&self, path: &RelPath, file: &File, form: &Meta, digest: Digest) -> Result<(), TreeError> {
        let want = disk_form_of(form, FileKind::File, self.policy);
        apply(Place::File(file, path.as_bytes()), &want)?;
        let stat = stat_file(file).map_err(|e| TreeError::new("look at", b"staging", path.as_bytes(), e))?;
        self.enter(path, StagedFile { digest, xattrs: form.xattrs.clone(), stat: (&stat).into() })
    }

    /// What stands at `path` is not whole any more, and may never be.
    pub(crate) fn forget(&self, path: &RelPath) -> Result<(), TreeError> {
        self.asked(self.index().begin(path))
    }

    /// Nothing that the index knows at `path` or within it is there any more: something else takes the place.
    fn unindex(&self, path: &RelPath) -> Result<(), TreeError> {
        self.asked(self.index().remove_within(path))
    }

    fn enter(&self, path: &RelPath, file: StagedFile) -> Result<(), TreeError> {
        self.asked(self.index().enter(path, file))
    }

    /// Removes the whole folder, once its run is committed or it was given up.
    ///
    /// # Errors
    /// The store's disk fails.
    pub fn remove(&self, parent: &SafeDir) -> Result<(), TreeError> {
        self.dirs.lock().unwrap_or_else(PoisonError::into_inner).clear();
        parent.remove_tree(self.id.as_bytes())
    }
}
