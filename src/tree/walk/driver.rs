//! The walk below a directory: walkdir drives, a stack of open directories answers.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::io::Read;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use walkdir::{DirEntry, WalkDir};

use super::{BATCH_DIRS_MAX, BATCH_MAX, Sink, SourceEntry, UnseenReason, WalkItem, WalkOptions, not_backed_up};
use crate::backup::bytes::{Bytes, escape};
use crate::backup::relpath::RelPath;
use crate::tree::error::TreeError;
use crate::tree::file_system::inodes_are_believed;
use crate::tree::safe_dir::SafeDir;
use crate::tree::stat::{FileKind, Stat};
use crate::tree::xattrs::{read_xattrs, read_xattrs_fd};

/// Directories of the stack that stay open; those further up are opened again by `..` when the walk comes back.
const STACK_OPEN_MAX: usize = 64;
/// A path of the kernel's may have 4095 bytes; a name is to be added by whoever reads the directory.
const WALKDIR_PATH_MAX: usize = 3800;
const TAG_NAME: &[u8] = b"CACHEDIR.TAG";
const TAG_TEXT: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// Walks below an open root.
pub(super) fn walk_dir(options: &WalkOptions, root: Arc<SafeDir>, sink: &mut Sink<'_>) -> Result<(), TreeError> {
    let stat = root.stat_self()?;
    let batch = Vec::with_capacity(BATCH_MAX);
    let made_up = if inodes_are_believed(&*root) { Vec::new() } else { vec![stat.dev] };
    let mut driver = Driver { options, sink, root: stat, made_up, batch, batch_dirs: 0, last_dir: std::ptr::null() };
    // A break means that the sink has had enough, which is no error.
    let _ = driver.run(root, stat);
    Ok(())
}

/// A directory that the walk is in.
struct Level {
    path: RelPath,
    stat: Stat,
    /// None: closed to spare descriptors.
    dir: Option<Arc<SafeDir>>,
}

struct Driver<'a, 's> {
    options: &'a WalkOptions,
    sink: &'a mut Sink<'s>,
    root: Stat,
    /// Devices whose inode numbers are made up.
    made_up: Vec<u64>,
    batch: Vec<WalkItem>,
    /// How many directories the batch holds open, counted by looking at `last_dir`, which is never read.
    batch_dirs: usize,
    last_dir: *const SafeDir,
}

impl Driver<'_, '_> {
    fn run(&mut self, root: Arc<SafeDir>, stat: Stat) -> ControlFlow<()> {
        if self.options.skip.contains(&(stat.dev, stat.ino)) {
            self.skip_store(RelPath::root())?;
        } else {
            self.emit_dir(RelPath::root(), stat, &root)?;
            self.tree(Level { path: RelPath::root(), stat, dir: Some(root) })?;
        }
        self.flush()
    }

    /// Walks all below `base`, whose own entry is out already.
    fn tree(&mut self, base: Level) -> ControlFlow<()> {
        let Some(top) = base.dir.clone() else { return ControlFlow::Continue(()) };
        let base_len = base.path.as_bytes().len();
        let mut names = WalkDir::new(start_of(&top)).min_depth(1).sort_by(by_name).into_iter();
        let mut stack = vec![base];
        while let Some(next) = names.next() {
            let found = match next {
                Ok(found) => found,
                // walkdir sorts a directory's errors before its names: it is the one we are in.
                Err(e) => {
                    let why = e.into_io_error().unwrap_or_else(|| std::io::Error::other("a loop of folders"));
                    let path = stack.last().map(|level| level.path.clone()).unwrap_or_default();
                    self.fail(path.clone(), TreeError::new("list", &self.shown(&path), b"", why))?;
                    continue;
                }
            };
            stack.truncate(found.depth());
            let is_dir = found.file_type().is_dir();
            match self.found(&top, &mut stack, &found)? {
                Some(level) if level.path.as_bytes().len() - base_len > WALKDIR_PATH_MAX => {
                    names.skip_current_dir();
                    self.tree(level)?;
                }
                Some(level) => push(&mut stack, level),
                None if is_dir => names.skip_current_dir(),
                None => {}
            }
        }
        ControlFlow::Continue(())
    }

    /// One name; the answer is the directory to go into.
    fn found(&mut self, top: &SafeDir, stack: &mut [Level], found: &DirEntry) -> ControlFlow<(), Option<Level>> {
        const STAY: ControlFlow<(), Option<Level>> = ControlFlow::Continue(None);
        let Some((parent, above)) = stack.split_last_mut() else { return STAY };
        let name = name_of(found);
        let is_dir = found.file_type().is_dir();
        let path = match parent.path.join(name) {
            Ok(path) => path,
            Err(e) => {
                self.item(WalkItem::Failed { path: parent.path.clone(), why: e.to_string() })?;
                self.unseen(parent.path.clone(), UnseenReason::Unreadable)?;
                return STAY;
            }
        };
        if self.options.filter.matched(&path, is_dir) {
            return STAY;
        }
        if is_dir && !self.options.recursive {
            self.unseen(path, UnseenReason::NotRecursive)?;
            return STAY;
        }
        let looked = parent.open(top, above.first()).and_then(|dir| Ok((dir.stat(name)?, dir)));
        let (stat, dir) = match looked {
            Ok(looked) => looked,
            Err(e) if e.is_not_found() => {
                self.vanished(path)?;
                return STAY;
            }
            Err(e) => {
                self.fail(path, e)?;
                return STAY;
            }
        };
        if self.is_elsewhere(&stat) {
            self.unseen(path, UnseenReason::OtherFileSystem)?;
            STAY
        } else if stat.kind == FileKind::Dir {
            self.directory(path, stat, &dir, name, is_dir, &parent.stat)
        } else {
            self.leaf(path, stat, &dir, name)?;
            STAY
        }
    }

    /// Something that is no directory.
    fn leaf(&mut self, path: RelPath, stat: Stat, dir: &Arc<SafeDir>, name: &[u8]) -> ControlFlow<()> {
        if let Some(why) = not_backed_up(stat.kind) {
            return self.item(WalkItem::Skipped { path, why });
        }
        let target = match stat.kind {
            FileKind::Symlink => match dir.read_link(name) {
                Ok(target) => Some(Bytes(target)),
                Err(e) if e.is_not_found() => return self.vanished(path),
                Err(e) => return self.fail(path, e),
            },
            _ => None,
        };
        // What cannot be read here fails again, with its error, when the engine asks.
        let xattrs = if self.options.read_xattrs { read_xattrs(dir, name).ok() } else { None };
        self.entry(SourceEntry { target, xattrs, ..self.plain(path, stat, dir.clone()) })
    }

    /// An entry of which no more is known.
    fn plain(&self, path: RelPath, stat: Stat, dir: Arc<SafeDir>) -> SourceEntry {
        let ino_believed = !self.made_up.contains(&stat.dev);
        SourceEntry { path, stat, dir, target: None, xattrs: None, mounted: false, ino_believed, root_name: None }
    }

    /// A directory: its entry, and whether to go in.
    fn directory(
        &mut self,
        path: RelPath,
        seen: Stat,
        parent: &Arc<SafeDir>,
        name: &[u8],
        listed_as_dir: bool,
        above: &Stat,
    ) -> ControlFlow<(), Option<Level>> {
        if self.options.skip.contains(&(seen.dev, seen.ino)) {
            self.skip_store(path)?;
            return ControlFlow::Continue(None);
        }
        let opened = parent.open_child(name).and_then(|dir| Ok((dir.stat_self()?, dir)));
        let (stat, dir) = match opened {
            Ok((stat, dir)) => (stat, Arc::new(dir)),
            Err(e) if e.is_not_found() || e.is_escape() => {
                self.vanished(path)?;
                return ControlFlow::Continue(None);
            }
            Err(e) => {
                // The directory itself is seen, only what it holds is not.
                let xattrs = if self.options.read_xattrs { read_xattrs(parent, name).ok() } else { None };
                // A mount point that nobody may enter stays what it was: the kernel shows the mounted folder's device.
                let mounted = seen.dev != above.dev || seen.mnt_id != above.mnt_id;
                self.entry(SourceEntry { xattrs, mounted, ..self.plain(path.clone(), seen, parent.clone()) })?;
                self.fail(path, e)?;
                return ControlFlow::Continue(None);
            }
        };
        let mounted = stat.dev != above.dev || stat.mnt_id != above.mnt_id;
        if mounted && !inodes_are_believed(&*dir) && !self.made_up.contains(&stat.dev) {
            self.made_up.push(stat.dev);
        }
        if stat.dev != above.dev && is_kernels_own(&dir) {
            self.item(WalkItem::Skipped { path: path.clone(), why: "a file system of the kernel, not files" })?;
            self.unseen(path, UnseenReason::KernelFileSystem)?;
            return ControlFlow::Continue(None);
        }
        if self.options.exclude_caches && is_cache(&dir) {
            self.unseen(path, UnseenReason::Cache)?;
            return ControlFlow::Continue(None);
        }
        let xattrs = if self.options.read_xattrs { read_xattrs_fd(&dir, dir.label()).ok() } else { None };
        let held = parent.clone();
        self.entry(SourceEntry { xattrs, mounted, ..self.plain(path.clone(), stat, held) })?;
        if !listed_as_dir {
            // It took a file's place after the listing was read, and walkdir will not go in.
            let error =
                TreeError::new("follow", &self.shown(&path), b"", std::io::Error::other("it has just been made"));
            self.fail(path, error)?;
            return ControlFlow::Continue(None);
        }
        ControlFlow::Continue(Some(Level { path, stat, dir: Some(dir) }))
    }

    /// Mounted below the root. A file's device number may differ on overlays, so it is the mount that counts; a
    /// directory's may not, and tells btrfs subvolumes apart.
    fn is_elsewhere(&self, stat: &Stat) -> bool {
        let other_mount = stat.mnt_id != 0 && self.root.mnt_id != 0 && stat.mnt_id != self.root.mnt_id;
        self.options.one_file_system && (other_mount || (stat.kind == FileKind::Dir && stat.dev != self.root.dev))
    }

    fn emit_dir(&mut self, path: RelPath, stat: Stat, dir: &Arc<SafeDir>) -> ControlFlow<()> {
        let xattrs = if self.options.read_xattrs { read_xattrs_fd(dir, dir.label()).ok() } else { None };
        self.entry(SourceEntry { xattrs, ..self.plain(path, stat, dir.clone()) })
    }

    fn shown(&self, path: &RelPath) -> Vec<u8> {
        self.options.root.join(OsStr::from_bytes(path.as_bytes())).into_os_string().into_encoded_bytes()
    }

    fn fail(&mut self, path: RelPath, error: TreeError) -> ControlFlow<()> {
        // The error knows the path through a descriptor; the user knows the one below the root.
        let why = TreeError { path: escape(&self.shown(&path)), ..error }.to_string();
        self.item(WalkItem::Failed { path: path.clone(), why })?;
        self.unseen(path, UnseenReason::Unreadable)
    }

    fn vanished(&mut self, path: RelPath) -> ControlFlow<()> {
        self.item(WalkItem::Skipped { path, why: "it vanished while the folder was being read" })
    }

    fn skip_store(&mut self, path: RelPath) -> ControlFlow<()> {
        self.item(WalkItem::Skipped { path: path.clone(), why: "the store that this backup is written to" })?;
        self.unseen(path, UnseenReason::Store)
    }

    fn unseen(&mut self, path: RelPath, why: UnseenReason) -> ControlFlow<()> {
        self.item(WalkItem::Unseen { path, why })
    }

    fn entry(&mut self, entry: SourceEntry) -> ControlFlow<()> {
        let dir = Arc::as_ptr(&entry.dir);
        if dir != self.last_dir {
            self.last_dir = dir;
            self.batch_dirs += 1;
        }
        self.item(WalkItem::Entry(entry))
    }

    fn item(&mut self, item: WalkItem) -> ControlFlow<()> {
        self.batch.push(item);
        if self.batch.len() >= BATCH_MAX || self.batch_dirs >= BATCH_DIRS_MAX {
            self.flush()
        } else {
            ControlFlow::Continue(())
        }
    }

    fn flush(&mut self) -> ControlFlow<()> {
        self.batch_dirs = 0;
        self.last_dir = std::ptr::null();
        if self.batch.is_empty() {
            return ControlFlow::Continue(());
        }
        (self.sink)(std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH_MAX)))
    }
}

impl Level {
    /// The directory, opened again if it was closed; it must still be the same one.
    fn open(&mut self, top: &SafeDir, base: Option<&Level>) -> Result<Arc<SafeDir>, TreeError> {
        if let Some(dir) = &self.dir {
            return Ok(dir.clone());
        }
        let below = base.and_then(|base| self.path.strip_prefix(&base.path)).unwrap_or_default();
        let dir = top.open_dir(&below)?;
        if !dir.stat_self()?.same_inode(&self.stat) {
            let moved = std::io::Error::other("it was replaced while it was being read");
            return Err(TreeError::new("go back to", dir.label(), b"", moved));
        }
        Ok(self.dir.insert(Arc::new(dir)).clone())
    }
}

/// Goes one level down, and closes the level that is too far up; never the first, which walkdir starts from.
fn push(stack: &mut Vec<Level>, level: Level) {
    stack.push(level);
    if let Some(far) = stack.len().checked_sub(STACK_OPEN_MAX).filter(|at| *at > 0)
        && let Some(above) = stack.get_mut(far)
    {
        above.dir = None;
    }
}

/// The order of names in one directory. Their paths differ in the name only; taking the names out of the paths with
/// `file_name()`, as `sort_by_file_name` does, costs a tenth of the walk.
fn by_name(a: &DirEntry, b: &DirEntry) -> Ordering {
    name_of(a).cmp(name_of(b))
}

fn name_of(found: &DirEntry) -> &[u8] {
    let path = found.path().as_os_str().as_bytes();
    path.iter().rposition(|b| *b == b'/').and_then(|at| path.get(at + 1..)).unwrap_or(path)
}

/// Where walkdir starts: what is open already, by its descriptor; by its path where there is no `/proc`.
fn start_of(dir: &SafeDir) -> PathBuf {
    let by_fd = PathBuf::from(format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd()));
    if by_fd.symlink_metadata().is_ok() { by_fd } else { PathBuf::from(OsStr::from_bytes(dir.label())) }
}

fn is_cache(dir: &SafeDir) -> bool {
    let mut text = [0; TAG_TEXT.len()];
    let Ok(mut file) = dir.open_read(TAG_NAME) else { return false };
    file.read_exact(&mut text).is_ok() && text == *TAG_TEXT
}

/// File systems that show the kernel's state (magic numbers of linux/magic.h and of their sources).
fn is_kernels_own(dir: &SafeDir) -> bool {
    const MAGIC: [u32; 20] = [
        0x9fa0,      // proc
        0x6265_6572, // sysfs
        0x0027_e0eb, // cgroup
        0x6367_7270, // cgroup2
        0x6462_6720, // debugfs
        0x7472_6163, // tracefs
        0x7363_6673, // securityfs
        0xcafe_4a11, // bpf
        0x6265_6570, // configfs
        0x6165_676c, // pstore
        0x1cd1,      // devpts
        0xf97c_ff8c, // selinuxfs
        0xde5e_81e4, // efivarfs
        0x4249_4e4d, // binfmt_misc
        0x1980_0202, // mqueue
        0x6759_6969, // rpc_pipefs
        0x6e66_7364, // nfsd
        0x6573_5543, // fusectl
        0x6e73_6673, // nsfs
        0x0187,      // autofs, nothing mounted on it yet
    ];
    // f_type is a signed word on some machines; the magic numbers are its low 32 bits.
    rustix::fs::fstatfs(dir).is_ok_and(|fs| MAGIC.contains(&((fs.f_type as u64 & 0xffff_ffff) as u32)))
}
