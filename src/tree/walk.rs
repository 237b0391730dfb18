//! [`walk`]: what a source holds, in canonical order.
//!
//! Names and types come from walkdir, sorted; everything else is asked of the directory's own descriptor, so that an
//! entry is what stood in *that* directory, and a link that is swapped in leads nowhere. walkdir gets the root as
//! `/proc/self/fd/N`: it lists what we hold open. Directories deeper than a path can say are walked from a new start.
//!
//! Always holds: a directory stands right before what it holds; whatever the walk could not or was told not to look at
//! is *unseen*, so that nobody takes it for deleted. xattrs are not read here unless asked for: a change of them moves
//! ctime, so that only entries whose fingerprint changed need [`SourceEntry::read_xattrs`].

mod driver;

use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use super::error::TreeError;
use super::file_system::inodes_are_believed;
use super::metadata::Place;
use super::safe_dir::SafeDir;
use super::stat::{FileKind, Stat};
use super::xattrs::{read_xattrs, read_xattrs_fd};
use crate::backup::bytes::Bytes;
use crate::backup::entry::Xattr;
use crate::backup::filter::Filter;
use crate::backup::fingerprint::Fingerprint;
use crate::backup::relpath::RelPath;

/// Items of a batch.
pub const BATCH_MAX: usize = 256;
/// Directories that the items of one batch may hold open.
pub const BATCH_DIRS_MAX: usize = 32;

/// What to walk, and what to leave out.
#[derive(Clone, Debug)]
pub struct WalkOptions {
    /// A directory, or anything else; a symbolic link to a directory is followed.
    pub root: PathBuf,
    /// Go into subdirectories.
    pub recursive: bool,
    /// Leave out what is mounted below the root.
    pub one_file_system: bool,
    /// Leave out directories with a `CACHEDIR.TAG`.
    pub exclude_caches: bool,
    /// Leave out what it matches.
    pub filter: Filter,
    /// Directories to leave out, as (device, inode): the stores this run writes to.
    pub skip: Vec<(u64, u64)>,
    /// Read every entry's xattrs at once. Costs half as much again as the whole walk.
    pub read_xattrs: bool,
}

impl WalkOptions {
    /// All of `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            recursive: true,
            one_file_system: false,
            exclude_caches: false,
            filter: Filter::default(),
            skip: Vec::new(),
            read_xattrs: false,
        }
    }
}

/// Why a path is unseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnseenReason {
    /// A subdirectory, and the walk is not recursive.
    NotRecursive,
    /// Something is mounted there, and one file system was asked for.
    OtherFileSystem,
    /// One of the kernel's own (`/proc`, `/sys`): nothing in it is a file.
    KernelFileSystem,
    /// A cache directory, and those were to be left out.
    Cache,
    /// The store that is being written.
    Store,
    /// It could not be read; a [`WalkItem::Failed`] came before.
    Unreadable,
}

/// One thing that the walk came across.
#[derive(Debug)]
pub enum WalkItem {
    /// Something to back up.
    Entry(SourceEntry),
    /// What the copy holds at this path and below, and the walk does not report, is not to be taken for deleted.
    Unseen {
        /// Where.
        path: RelPath,
        /// Why.
        why: UnseenReason,
    },
    /// Left out, and worth a word: a socket, the store itself, something that vanished meanwhile.
    Skipped {
        /// Where.
        path: RelPath,
        /// Why, in words.
        why: &'static str,
    },
    /// Could not be read; an [`WalkItem::Unseen`] for the path follows.
    Failed {
        /// Where.
        path: RelPath,
        /// Why, in words, with the path.
        why: String,
    },
}

/// One entry of a source.
#[derive(Debug)]
pub struct SourceEntry {
    /// Below the root.
    pub path: RelPath,
    /// What it is.
    pub stat: Stat,
    /// Where it is: the directory that holds it; for a root that is a directory, the root itself.
    pub dir: Arc<SafeDir>,
    /// What a symbolic link says.
    pub target: Option<Bytes>,
    /// Its xattrs, if the walk was told to read them.
    pub xattrs: Option<Vec<Xattr>>,
    /// Something is mounted here.
    pub mounted: bool,
    /// The file system keeps inode numbers (see [`SourceEntry::fingerprint`]).
    pub ino_believed: bool,
    /// The name of a root that is no directory: its path is empty, its name is not.
    root_name: Option<Arc<[u8]>>,
}

impl SourceEntry {
    /// Its name in [`SourceEntry::dir`]; none for a root that is a directory.
    pub fn name(&self) -> Option<&[u8]> {
        self.root_name.as_deref().or_else(|| self.path.name())
    }

    /// Its fingerprint; without the inode where file systems make those up.
    pub fn fingerprint(&self) -> Fingerprint {
        let fingerprint = self.stat.fingerprint();
        if self.ino_believed { fingerprint } else { Fingerprint { ino: 0, ..fingerprint } }
    }

    /// Whether this directory holds no name at all, asked of the disk.
    pub fn is_empty_dir(&self) -> bool {
        let Some(name) = self.path.name() else { return false };
        self.dir.open_child(name).and_then(|dir| dir.names()).is_ok_and(|names| names.is_empty())
    }

    /// Where its metadata is.
    pub fn place(&self) -> Place<'_> {
        match self.name() {
            Some(name) => Place::Name(&self.dir, name),
            None => Place::Dir(&self.dir),
        }
    }

    /// Its xattrs, a symbolic link's own included.
    ///
    /// # Errors
    /// Those of [`read_xattrs`].
    pub fn read_xattrs(&self) -> Result<Vec<Xattr>, TreeError> {
        match self.name() {
            Some(name) => read_xattrs(&self.dir, name),
            None => read_xattrs_fd(&self.dir, self.dir.label()),
        }
    }

    /// Opens its content.
    ///
    /// # Errors
    /// Those of [`SafeDir::open_read`]; EISDIR for a root that is a directory.
    pub fn open(&self) -> Result<File, TreeError> {
        match self.name() {
            Some(name) => self.dir.open_read(name),
            None => Err(TreeError::new("read", self.dir.label(), b"", Errno::ISDIR)),
        }
    }
}

/// Takes batches of items; `Break` ends the walk.
pub type Sink<'a> = dyn FnMut(Vec<WalkItem>) -> ControlFlow<()> + 'a;

/// Walks `options.root` and hands what it finds to `sink`, in canonical order, in batches.
///
/// # Errors
/// When the root itself is not there or cannot be opened. All other failures are items.
pub fn walk(options: &WalkOptions, sink: &mut Sink<'_>) -> Result<(), TreeError> {
    match SafeDir::open_operator(&options.root) {
        Ok(dir) => driver::walk_dir(options, Arc::new(dir), sink),
        Err(e) if e.is_not_found() => walk_leaf(options, sink, e),
        Err(e) => Err(e),
    }
}

/// A root that is no directory: one entry with the empty path.
fn walk_leaf(options: &WalkOptions, sink: &mut Sink<'_>, error: TreeError) -> Result<(), TreeError> {
    use std::os::unix::ffi::OsStrExt;
    let Some(name) = options.root.file_name().map(OsStrExt::as_bytes) else { return Err(error) };
    let parent = options.root.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = Arc::new(SafeDir::open_operator(parent)?);
    let stat = dir.stat(name)?;
    if let Some(why) = not_backed_up(stat.kind) {
        // Its end is the batch's end: there is nothing left to stop.
        let _ = sink(vec![WalkItem::Skipped { path: RelPath::root(), why }]);
        return Ok(());
    }
    let target = if stat.kind == FileKind::Symlink { Some(dir.read_link(name)?.into()) } else { None };
    let xattrs = if options.read_xattrs { Some(read_xattrs(&dir, name)?) } else { None };
    let path = RelPath::root();
    let (root_name, ino_believed) = (Some(name.into()), inodes_are_believed(&*dir));
    let entry = SourceEntry { path, stat, dir, target, xattrs, mounted: false, ino_believed, root_name };
    let _ = sink(vec![WalkItem::Entry(entry)]);
    Ok(())
}

/// Why a kind of file is in no backup.
fn not_backed_up(kind: FileKind) -> Option<&'static str> {
    match kind {
        FileKind::Socket => Some("a socket: only the program that made it can use it"),
        FileKind::Unknown => Some("neither file, folder, link, pipe nor device"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
