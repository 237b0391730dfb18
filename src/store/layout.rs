//! [`Store`]: names in `STORE/.rbbackup`, opening, creating and locking a store.
//!
//! ```text
//! STORE/<node>/<user>/…   the copies; node and user folders are 0700 and on the store's own mount
//! STORE/.rbbackup/        0700
//!   format                "rbbackup-store VERSION\n": the version of everything below; a relay's state says "rbbackup-relay"
//!   id                    32 hex digits
//!   lock                  locked by the one process that writes; the kernel lets go of it, so it is never stale
//!   key  succession  control.sock  catalog.sqlite  registry/  invitations/  snapshots/<node>@<user>/  runs/<node>@<user>/
//!   retired/  staging/  journal/  vault/
//! ```
//!
//! `format` is written last when a store is made: a creation that was cut short is simply finished by the next one. A
//! STORE that holds other files is taken as it is: they may be a tree that is taken over. STORE itself may be a symbolic
//! link; it is the operator's own path, and so is all of `.rbbackup`, whose names no peer can influence except for the
//! checked names of nodes and users ([`super::names`]).

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::names::{CopyName, NameError};
use super::runs::Runs;
use super::snapshots::{SnapshotError, Snapshots};
use crate::backup::bytes::escape;
use crate::backup::digest::RunId;
use crate::backup::relpath::{PathError, RelPath};
use crate::tree::error::TreeError;
use crate::tree::metadata::StorePolicy;
use crate::tree::safe_dir::SafeDir;
use crate::tree::stat::FileKind;
use crate::tree::{operator, own};

/// The store's own folder; no node can have this name.
pub const META_NAME: &str = ".rbbackup";
/// Version of the store that is written, and the only one that is opened.
pub const FORMAT_VERSION: u32 = 1;

const STORE_WORD: &str = "rbbackup-store";
const RELAY_WORD: &str = "rbbackup-relay";
const SMALL_FILE_BYTES_MAX: u64 = 4096;
const FOLDERS: [&str; 8] = ["registry", "invitations", "snapshots", "runs", "retired", "staging", "journal", "vault"];

/// What a store is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// For everything; takes the store's lock.
    Write,
    /// Only to read; takes no lock, changes nothing.
    ReadOnly,
    /// The state of a relay: all that a daemon needs for itself, and never a copy. Takes the lock.
    Relay,
}

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing there.
    #[error("the store '{path}' does not exist")]
    NotThere {
        /// The store.
        path: String,
    },
    /// Something else is there.
    #[error("the store '{path}' is not a folder")]
    NotADirectory {
        /// What is there.
        path: String,
    },
    /// No store has been made there.
    #[error("'{path}' holds no rbbackup store yet; the first backup or 'rbbackupd {path}' makes one")]
    NotAStore {
        /// The folder.
        path: String,
    },
    /// It cannot be written to.
    #[error("the store '{path}' cannot be written to: {source}")]
    ReadOnly {
        /// The store.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Another process has it.
    #[error("the store '{path}' is in use by another process{holder}; talk to that daemon, or stop it first")]
    InUse {
        /// The store.
        path: String,
        /// ` (process N)`, if known.
        holder: String,
    },
    /// Written by another version.
    #[error(
        "the store '{path}' has format {found}, and this program knows format {FORMAT_VERSION} only; \
         use the version of rbbackup that wrote it, or a newer one"
    )]
    OtherFormat {
        /// The store.
        path: String,
        /// Its format.
        found: u32,
    },
    /// A relay's state, taken for a store.
    #[error("'{path}' is the state of a relay (rbbackupd --relay), which keeps no backups: ask a destination's store")]
    IsRelay {
        /// The folder.
        path: String,
    },
    /// A store, taken for a relay's state.
    #[error("'{path}' is a store, and a relay keeps nothing: choose another folder with --state")]
    IsStore {
        /// The folder.
        path: String,
    },
    /// One of its own files is not what it was.
    #[error("'{path}' is damaged: {why}")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// A node or user folder is a mount point.
    #[error("the folder '{path}' lies on another file system than the store; a copy must be on the store's own")]
    OtherMount {
        /// The folder.
        path: String,
    },
    /// The disk is full.
    #[error("no space left in the store '{path}'")]
    NoSpace {
        /// The store.
        path: String,
    },
    /// A name that cannot be.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A path that cannot be.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A copy's folder cannot be opened.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A copy's snapshots cannot be read.
    #[error(transparent)]
    Snapshots(#[from] SnapshotError),
    /// The operating system's fault.
    #[error("cannot use '{path}': {source}")]
    Io {
        /// File or folder.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// An open store.
pub struct Store {
    root: PathBuf,
    meta: PathBuf,
    root_dir: SafeDir,
    id: [u8; 16],
    mode: OpenMode,
    policy: StorePolicy,
    snapshots: Mutex<HashMap<CopyName, Arc<Snapshots>>>,
    /// Held as long as the store is open for writing.
    _lock: Option<File>,
}

impl Store {
    /// Opens a store. For [`OpenMode::Write`] a folder that is no store yet is made one; for reading it must be one. What is
    /// a relay's state stays one, and a store stays a store.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(path: &Path, mode: OpenMode) -> Result<Self, StoreError> {
        let shown = show(path);
        let root = operator::resolve(path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => StoreError::NotThere { path: shown.clone() },
            _ => StoreError::Io { path: shown.clone(), source: e },
        })?;
        if !operator::is_dir(&root) {
            return Err(StoreError::NotADirectory { path: shown });
        }
        let meta = root.join(META_NAME);
        if own::look(&meta).is_ok_and(|found| found.kind != FileKind::Dir) {
            return Err(StoreError::Damaged { path: show(&meta), why: "it is not a folder".into() });
        }
        let lock = match mode {
            OpenMode::Write | OpenMode::Relay => Some(prepare(&root, &meta, mode)?),
            OpenMode::ReadOnly if check_format(&meta, mode)? => None,
            OpenMode::ReadOnly => return Err(StoreError::NotAStore { path: shown }),
        };
        let id = read_id(&meta)?;
        let root_dir = SafeDir::open_operator(&root)?;
        let policy = StorePolicy::current();
        Ok(Self { root, meta, root_dir, id, mode, policy, snapshots: Mutex::default(), _lock: lock })
    }

    /// Opens a store for writing, and makes its folder (0700) first if only that is missing: not what lies above,
    /// which may be the mount point of a disk that is not there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open_or_create(path: &Path) -> Result<Self, StoreError> {
        Self::create_and_open(path, OpenMode::Write)
    }

    /// The same for a relay's state.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open_or_create_relay(path: &Path) -> Result<Self, StoreError> {
        Self::create_and_open(path, OpenMode::Relay)
    }

    fn create_and_open(path: &Path, mode: OpenMode) -> Result<Self, StoreError> {
        Self::make_folder(path)?;
        Self::open(path, mode)
    }

    /// Makes the folder of a store (0700), if only that is missing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn make_folder(path: &Path) -> Result<(), StoreError> {
        if operator::is_absent(path) {
            operator::make_dir(path, 0o700).map_err(|e| refine(path, e))?;
        }
        Ok(())
    }

    /// Whether a store is there already, looking only. False where [`Store::open_or_create`] would make one.
    ///
    /// # Errors
    /// [`StoreError`]: what stands there cannot be used, or the folder that would hold the store is missing.
    pub fn is_made(path: &Path) -> Result<bool, StoreError> {
        match Self::open(path, OpenMode::ReadOnly) {
            Ok(_) => Ok(true),
            Err(StoreError::NotAStore { .. }) => Ok(false),
            Err(StoreError::NotThere { .. }) if path.parent().is_some_and(operator::is_dir) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The store's id: 128 random bits.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// What it was opened for.
    pub fn mode(&self) -> OpenMode {
        self.mode
    }

    /// What this process may put into a plain copy.
    pub fn policy(&self) -> StorePolicy {
        self.policy
    }

    /// The store's folder, symbolic links resolved.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The store's folder, open.
    pub fn root_dir(&self) -> &SafeDir {
        &self.root_dir
    }

    /// `.rbbackup`, open.
    ///
    /// # Errors
    /// [`StoreError::Tree`].
    pub fn meta_dir(&self) -> Result<SafeDir, StoreError> {
        Ok(self.root_dir.open_child(META_NAME.as_bytes())?)
    }

    /// A file or folder of `.rbbackup`: `key`, `control.sock`, `staging`, ….
    pub fn meta_path(&self, name: &str) -> PathBuf {
        self.meta.join(name)
    }

    /// Where the catalog is.
    pub fn catalog_path(&self) -> PathBuf {
        self.meta_path("catalog.sqlite")
    }

    /// Where the registry is.
    pub fn registry_path(&self) -> PathBuf {
        self.meta_path("registry")
    }

    /// The folder of a copy; made (0700) when the store is open for writing.
    ///
    /// # Errors
    /// [`StoreError::OtherMount`] when the node's or the user's folder is a mount point, else [`StoreError::Tree`].
    pub fn copy_dir(&self, copy: &CopyName) -> Result<SafeDir, StoreError> {
        let home = self.root_dir.stat_self()?;
        let mut dir = self.root_dir.try_clone()?;
        let mut path = RelPath::root();
        for name in [copy.node(), copy.user()] {
            path = path.join(name.as_bytes())?;
            dir = match self.mode {
                OpenMode::Write => dir.make_dirs(&RelPath::new(name.as_bytes())?, 0o700)?,
                OpenMode::ReadOnly => dir.open_child(name.as_bytes())?,
                OpenMode::Relay => return Err(StoreError::IsRelay { path: show(&self.root) }),
            };
            if self.mode == OpenMode::Write {
                keep_private(&dir)?;
            }
            let stat = dir.stat_self()?;
            if (stat.dev, stat.mnt_id) != (home.dev, home.mnt_id) {
                return Err(StoreError::OtherMount { path: format!("{}/{path}", show(&self.root)) });
            }
        }
        Ok(dir)
    }

    /// The snapshots of a copy; every session of this process gets the same object, which gives out the numbers.
    ///
    /// # Errors
    /// [`StoreError::Snapshots`].
    pub fn snapshots(&self, copy: &CopyName) -> Result<Arc<Snapshots>, StoreError> {
        let mut open = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = open.get(copy) {
            return Ok(found.clone());
        }
        // A relay has none, and makes none.
        let mode = if self.mode == OpenMode::Relay { OpenMode::ReadOnly } else { self.mode };
        let made = Arc::new(Snapshots::open(&self.meta.join("snapshots").join(copy.component()), mode)?);
        open.insert(copy.clone(), made.clone());
        Ok(made)
    }

    /// The run records of a copy.
    pub fn runs(&self, copy: &CopyName) -> Runs {
        Runs::new(&self.meta.join("runs").join(copy.component()))
    }

    /// The copies that have snapshots.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn copies(&self) -> Result<Vec<CopyName>, StoreError> {
        let dir = self.meta_path("snapshots");
        let fail = |source| StoreError::Io { path: show(&dir), source };
        let mut copies = Vec::new();
        for name in own::names(&dir).map_err(fail)? {
            copies.extend(CopyName::from_component(name.as_encoded_bytes()));
        }
        copies.sort();
        Ok(copies)
    }
}

/// A node's or user's folder is nobody else's, also one that was there before (a tree that is taken over) or that somebody
/// opened since: inside, files have the modes that they have at their source.
fn keep_private(dir: &SafeDir) -> Result<(), StoreError> {
    if let Some(mode) = dir.make_private()? {
        tracing::warn!("'{}' had the mode {mode:04o}; it is 0700 again, for nobody else", escape(dir.label()));
    }
    Ok(())
}

/// Locks the store, and makes it if it is none yet.
fn prepare(root: &Path, meta: &Path, mode: OpenMode) -> Result<File, StoreError> {
    let fail = |e| refine(root, e);
    // Before anything is touched: it may be the wrong folder.
    check_format(meta, mode)?;
    own::make_dir(meta).map_err(fail)?;
    own::make_private(meta).map_err(fail)?;
    let lock = take_lock(root, meta)?;
    if !check_format(meta, mode)? {
        create(meta, mode).map_err(fail)?;
        own::sync_dir(root).map_err(fail)?;
    }
    for name in FOLDERS {
        own::make_dir(&meta.join(name)).map_err(fail)?;
    }
    own::clear_temp(meta).map_err(fail)?;
    own::clear_temp(&meta.join("registry")).map_err(fail)?;
    own::clear_temp(&meta.join("invitations")).map_err(fail)?;
    Ok(lock)
}

fn take_lock(root: &Path, meta: &Path) -> Result<File, StoreError> {
    let path = meta.join("lock");
    let fail = |e| refine(root, e);
    let mut file = own::open_or_create(&path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let pid = own::read_file(&path, SMALL_FILE_BYTES_MAX).unwrap_or_default();
            let pid = String::from_utf8_lossy(&pid).trim().parse::<u32>().ok();
            let holder = pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
            return Err(StoreError::InUse { path: show(root), holder });
        }
        Err(TryLockError::Error(source)) => return Err(StoreError::Io { path: show(&path), source }),
    }
    // For the message above only: on a full disk it stays empty.
    let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

fn create(meta: &Path, mode: OpenMode) -> io::Result<()> {
    if own::names(&meta.join("snapshots")).is_ok_and(|names| !names.is_empty()) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "its file 'format' is missing, but it has snapshots"));
    }
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    own::write_file(meta, "id", format!("{}\n", RunId(id)).as_bytes())?;
    let word = if mode == OpenMode::Relay { RELAY_WORD } else { STORE_WORD };
    own::write_file(meta, "format", format!("{word} {FORMAT_VERSION}\n").as_bytes())
}

/// Whether there is a store of our version (a relay's state, for a relay); false: there is none.
fn check_format(meta: &Path, mode: OpenMode) -> Result<bool, StoreError> {
    let path = meta.join("format");
    let text = match own::read_file(&path, SMALL_FILE_BYTES_MAX) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(StoreError::Io { path: show(&path), source }),
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
    };
    let mut words = text.split_ascii_whitespace();
    let folder = || meta.parent().map(show).unwrap_or_default();
    let relay = mode == OpenMode::Relay;
    match (words.next(), words.next().and_then(|version| version.parse::<u32>().ok())) {
        (Some(STORE_WORD), _) if relay => Err(StoreError::IsStore { path: folder() }),
        (Some(RELAY_WORD), _) if !relay => Err(StoreError::IsRelay { path: folder() }),
        (Some(STORE_WORD | RELAY_WORD), Some(FORMAT_VERSION)) => Ok(true),
        (Some(STORE_WORD | RELAY_WORD), Some(found)) => Err(StoreError::OtherFormat { path: folder(), found }),
        _ => Err(StoreError::Damaged { path: show(&path), why: "it names no format".into() }),
    }
}

fn read_id(meta: &Path) -> Result<[u8; 16], StoreError> {
    let path = meta.join("id");
    let bytes =
        own::read_file(&path, SMALL_FILE_BYTES_MAX).map_err(|source| StoreError::Io { path: show(&path), source })?;
    let id = RunId::from_hex(String::from_utf8_lossy(&bytes).trim());
    id.map(|id| id.0).ok_or_else(|| StoreError::Damaged { path: show(&path), why: "it is not 32 hex digits".into() })
}

fn refine(path: &Path, source: io::Error) -> StoreError {
    let path = show(path);
    match source.kind() {
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => StoreError::ReadOnly { path, source },
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::NoSpace { path },
        io::ErrorKind::InvalidData => StoreError::Damaged { path, why: source.to_string() },
        _ => StoreError::Io { path, source },
    }
}

fn show(path: &Path) -> String {
    escape(path.as_os_str().as_encoded_bytes())
}

#[cfg(test)]
mod tests;
