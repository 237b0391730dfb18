//! [`Store`]: names in `STORE/.rbbackup`, opening, creating and locking a store.
//!
//! ```text
//! STORE/<node>/<user>/…   the copies; node and user folders are 0700 and on the store's own mount
//! STORE/.rbbackup/        0700
//!   format                "rbbackup-store VERSION\n": the version of everything below
//!   id                    32 hex digits
//!   lock                  locked by the one process that writes; the kernel lets go of it, so it is never stale
//!   key  control.sock  catalog.sqlite  registry/  snapshots/<node>@<user>/  runs/<node>@<user>/
//!   retired/  staging/  journal/  vault/
//! ```
//!
//! `format` is written last when a store is made: a creation that was cut short is simply finished by the next one. A
//! STORE that holds other files is taken as it is: they may be a tree that is taken over. STORE itself may be a symbolic
//! link; it is the operator's own path, and so is all of `.rbbackup`, whose names no peer can influence except for the
//! checked names of nodes and users ([`super::names`]).

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::durable;
use super::names::{CopyName, NameError};
use super::runs::Runs;
use super::snapshots::{SnapshotError, Snapshots};
use crate::backup::bytes::escape;
use crate::backup::digest::RunId;
use crate::backup::relpath::{PathError, RelPath};
use crate::tree::error::TreeError;
use crate::tree::metadata::StorePolicy;
use crate::tree::safe_dir::SafeDir;

/// The store's own folder; no node can have this name.
pub const META_NAME: &str = ".rbbackup";
/// Version of the store that is written, and the only one that is opened.
pub const FORMAT_VERSION: u32 = 1;

const FORMAT_WORD: &str = "rbbackup-store";
const SMALL_FILE_BYTES_MAX: u64 = 4096;
const FOLDERS: [&str; 7] = ["registry", "snapshots", "runs", "retired", "staging", "journal", "vault"];

/// What a store is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// For everything; takes the store's lock.
    Write,
    /// Only to read; takes no lock, changes nothing.
    ReadOnly,
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
    /// Opens a store. For [`OpenMode::Write`] a folder that is no store yet is made one; for reading it must be one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(path: &Path, mode: OpenMode) -> Result<Self, StoreError> {
        let shown = show(path);
        let root = fs::canonicalize(path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => StoreError::NotThere { path: shown.clone() },
            _ => StoreError::Io { path: shown.clone(), source: e },
        })?;
        if !root.is_dir() {
            return Err(StoreError::NotADirectory { path: shown });
        }
        let meta = root.join(META_NAME);
        if fs::symlink_metadata(&meta).is_ok_and(|found| !found.is_dir()) {
            return Err(StoreError::Damaged { path: show(&meta), why: "it is not a folder".into() });
        }
        let lock = match mode {
            OpenMode::Write => Some(prepare(&root, &meta)?),
            OpenMode::ReadOnly if check_format(&meta)? => None,
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
        if fs::symlink_metadata(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
            durable::make_dir(path).map_err(|e| refine(path, e))?;
        }
        Self::open(path, OpenMode::Write)
    }

    /// Whether a store is there already, looking only. False where [`Store::open_or_create`] would make one.
    ///
    /// # Errors
    /// [`StoreError`]: what stands there cannot be used, or the folder that would hold the store is missing.
    pub fn is_made(path: &Path) -> Result<bool, StoreError> {
        match Self::open(path, OpenMode::ReadOnly) {
            Ok(_) => Ok(true),
            Err(StoreError::NotAStore { .. }) => Ok(false),
            Err(StoreError::NotThere { .. }) if path.parent().is_some_and(Path::is_dir) => Ok(false),
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
            };
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
        let made = Arc::new(Snapshots::open(&self.meta.join("snapshots").join(copy.component()), self.mode)?);
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
        for entry in fs::read_dir(&dir).map_err(fail)? {
            copies.extend(CopyName::from_component(entry.map_err(fail)?.file_name().as_encoded_bytes()));
        }
        copies.sort();
        Ok(copies)
    }
}

/// Locks the store, and makes it if it is none yet.
fn prepare(root: &Path, meta: &Path) -> Result<File, StoreError> {
    let fail = |e| refine(root, e);
    durable::make_dir(meta).map_err(fail)?;
    let mode = fs::metadata(meta).map_err(fail)?.permissions().mode() & 0o7777;
    if mode != 0o700 {
        fs::set_permissions(meta, fs::Permissions::from_mode(0o700)).map_err(fail)?;
    }
    let lock = take_lock(root, meta)?;
    if !check_format(meta)? {
        create(meta).map_err(fail)?;
        durable::sync_dir(root).map_err(fail)?;
    }
    for name in FOLDERS {
        durable::make_dir(&meta.join(name)).map_err(fail)?;
    }
    durable::clear_temp(meta).map_err(fail)?;
    durable::clear_temp(&meta.join("registry")).map_err(fail)?;
    Ok(lock)
}

fn take_lock(root: &Path, meta: &Path) -> Result<File, StoreError> {
    let path = meta.join("lock");
    let fail = |e| refine(root, e);
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = open.map_err(fail)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let pid = durable::read_file(&path, SMALL_FILE_BYTES_MAX).unwrap_or_default();
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

fn create(meta: &Path) -> io::Result<()> {
    if fs::read_dir(meta.join("snapshots")).is_ok_and(|mut names| names.next().is_some()) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "its file 'format' is missing, but it has snapshots"));
    }
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    durable::write_file(meta, "id", format!("{}\n", RunId(id)).as_bytes())?;
    durable::write_file(meta, "format", format!("{FORMAT_WORD} {FORMAT_VERSION}\n").as_bytes())
}

/// Whether there is a store of our version; false: there is none.
fn check_format(meta: &Path) -> Result<bool, StoreError> {
    let path = meta.join("format");
    let text = match durable::read_file(&path, SMALL_FILE_BYTES_MAX) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(StoreError::Io { path: show(&path), source }),
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
    };
    let mut words = text.split_ascii_whitespace();
    match (words.next(), words.next().and_then(|version| version.parse::<u32>().ok())) {
        (Some(FORMAT_WORD), Some(FORMAT_VERSION)) => Ok(true),
        (Some(FORMAT_WORD), Some(found)) => {
            Err(StoreError::OtherFormat { path: meta.parent().map(show).unwrap_or_default(), found })
        }
        _ => Err(StoreError::Damaged { path: show(&path), why: "it names no format".into() }),
    }
}

fn read_id(meta: &Path) -> Result<[u8; 16], StoreError> {
    let path = meta.join("id");
    let bytes = durable::read_file(&path, SMALL_FILE_BYTES_MAX)
        .map_err(|source| StoreError::Io { path: show(&path), source })?;
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
mod tests {
    use super::*;

    fn copy() -> CopyName {
        CopyName::new(b"10.0.0.1", b"u").unwrap()
    }

    #[test]
    fn a_store_is_made_once_and_keeps_its_id() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        assert!(matches!(Store::open(&path, OpenMode::Write), Err(StoreError::NotThere { .. })));
        assert!(Store::open_or_create(&path.join("deeper")).is_err());
        let store = Store::open_or_create(&path).unwrap();
        let id = store.id();
        assert!(matches!(Store::open_or_create(&path), Err(StoreError::InUse { .. })));
        assert_eq!(Store::open(&path, OpenMode::ReadOnly).unwrap().id(), id);
        drop(store);
        assert_eq!(Store::open_or_create(&path).unwrap().id(), id);
        for folder in [path.clone(), path.join(META_NAME)] {
            assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn a_folder_with_other_files_is_taken_and_a_link_to_it_works() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        fs::create_dir_all(real.join("10.0.0.1/u/home")).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert!(matches!(Store::open(&link, OpenMode::ReadOnly), Err(StoreError::NotAStore { .. })));
        let store = Store::open_or_create(&link).unwrap();
        store.copy_dir(&copy()).unwrap().stat(b"home").unwrap();
    }

    #[test]
    fn a_copys_folder_is_private_and_never_reached_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open_or_create(dir.path()).unwrap();
        store.copy_dir(&copy()).unwrap();
        for folder in ["10.0.0.1", "10.0.0.1/u"] {
            assert_eq!(fs::metadata(dir.path().join(folder)).unwrap().permissions().mode() & 0o777, 0o700);
        }
        std::os::unix::fs::symlink("/tmp", dir.path().join("10.0.0.2")).unwrap();
        assert!(store.copy_dir(&CopyName::new(b"10.0.0.2", b"u").unwrap()).is_err());
        let reader = Store::open(dir.path(), OpenMode::ReadOnly).unwrap();
        reader.copy_dir(&copy()).unwrap();
        assert!(reader.copy_dir(&CopyName::new(b"10.0.0.3", b"u").unwrap()).is_err());
    }

    #[test]
    fn another_format_and_damage_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open_or_create(dir.path()).unwrap());
        let format = dir.path().join(META_NAME).join("format");
        fs::write(&format, "rbbackup-store 2\n").unwrap();
        for mode in [OpenMode::Write, OpenMode::ReadOnly] {
            assert!(matches!(Store::open(dir.path(), mode), Err(StoreError::OtherFormat { found: 2, .. })));
        }
        fs::write(&format, "").unwrap();
        assert!(matches!(Store::open(dir.path(), OpenMode::Write), Err(StoreError::Damaged { .. })));
        // Lost beside snapshots, it is not simply made anew.
        fs::remove_file(&format).unwrap();
        fs::create_dir(dir.path().join(META_NAME).join("snapshots/10.0.0.1@u")).unwrap();
        assert!(matches!(Store::open(dir.path(), OpenMode::Write), Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn a_file_is_no_store() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        let opened = Store::open_or_create(&dir.path().join("file"));
        assert!(matches!(opened, Err(StoreError::NotADirectory { .. })));
    }
}
