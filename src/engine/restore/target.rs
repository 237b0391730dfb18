//! Where a restore goes: the operator's own path, opened once; everything below it is reached through [`SafeDir`].

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Overwrite, RestoreOptions};
use crate::backup::bytes::escape;
use crate::backup::relpath::RelPath;
use crate::engine::error::{EngineError, ErrorKind};
use crate::tree::safe_dir::SafeDir;

/// The absolute path where the restored path will be.
pub(super) struct Target {
    path: PathBuf,
}

/// The open folder in which entries are placed.
pub(super) struct Ground {
    /// The target itself if a folder is restored, else the folder that holds it. None: a dry run, and it is not there.
    pub(super) base: Option<Arc<SafeDir>>,
    /// The name in `base`, if what is restored is no folder.
    prefix: RelPath,
    /// The target was there before.
    pub(super) existed: bool,
}

impl Ground {
    /// Where an entry stands below `base`.
    pub(super) fn place(&self, path: &RelPath) -> RelPath {
        // One of the two is always the root: only a folder has something below it.
        if self.prefix.is_root() { path.clone() } else { self.prefix.clone() }
    }
}

fn failed(what: &str, path: &Path, why: &dyn std::fmt::Display) -> EngineError {
    let message = format!("cannot {what} '{}': {why}", escape(path.as_os_str().as_bytes()));
    EngineError::new(ErrorKind::Failed, message)
}

impl Target {
    /// `DIR/<last component of PATH>`, or the original place.
    pub(super) fn of(options: &RestoreOptions) -> Result<Self, EngineError> {
        let path = match (&options.to, options.path.file_name()) {
            (None, _) => options.path.clone(),
            (Some(to), Some(name)) => to.join(name),
            // The root of the file system has no name: its content goes into DIR itself.
            (Some(to), None) => to.clone(),
        };
        if path.is_absolute() {
            return Ok(Self { path });
        }
        Err(EngineError::new(ErrorKind::Usage, "a restore needs absolute paths"))
    }

    /// Whether nothing is there: no name, or an empty folder.
    pub(super) fn is_empty(&self) -> bool {
        match fs::read_dir(&self.path) {
            Ok(mut names) => names.next().is_none(),
            Err(_) => fs::symlink_metadata(&self.path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound),
        }
    }

    /// The absolute path of an entry.
    pub(super) fn shown(&self, path: &RelPath) -> Vec<u8> {
        let mut shown = self.path.as_os_str().as_bytes().to_vec();
        if !path.is_root() {
            if !shown.ends_with(b"/") {
                shown.push(b'/');
            }
            shown.extend_from_slice(path.as_bytes());
        }
        shown
    }

    /// Opens the ground for a folder, or for something else; makes what is missing unless it is a dry run. A folder above
    /// is made as any other program would make it; the target itself is private until it gets its final mode.
    pub(super) fn open(&self, is_dir: bool, options: &RestoreOptions) -> Result<Ground, EngineError> {
        if is_dir { self.open_folder(options) } else { self.open_parent(options.dry_run) }
    }

    fn open_folder(&self, options: &RestoreOptions) -> Result<Ground, EngineError> {
        let existed = fs::metadata(&self.path).is_ok_and(|meta| meta.is_dir());
        if !existed {
            if fs::symlink_metadata(&self.path).is_ok() {
                if matches!(options.overwrite, Overwrite::Newer | Overwrite::Never) {
                    return Err(failed("restore a folder to", &self.path, &"something else is there"));
                }
                if !options.dry_run {
                    fs::remove_file(&self.path).map_err(|e| failed("replace", &self.path, &e))?;
                }
            }
            if options.dry_run {
                return Ok(Ground { base: None, prefix: RelPath::root(), existed });
            }
            self.make_parent()?;
            let made = fs::DirBuilder::new().mode(0o700).create(&self.path);
            made.map_err(|e| failed("make the folder", &self.path, &e))?;
        }
        let base = Some(Arc::new(SafeDir::open_operator(&self.path)?));
        Ok(Ground { base, prefix: RelPath::root(), existed })
    }

    fn open_parent(&self, dry_run: bool) -> Result<Ground, EngineError> {
        let name = self.path.file_name().unwrap_or_default().as_bytes();
        let prefix = RelPath::new(name).map_err(|e| EngineError::new(ErrorKind::Usage, e.to_string()))?;
        let parent = self.path.parent().unwrap_or_else(|| Path::new("/"));
        if !dry_run {
            self.make_parent()?;
        } else if !parent.is_dir() {
            return Ok(Ground { base: None, prefix, existed: false });
        }
        Ok(Ground { base: Some(Arc::new(SafeDir::open_operator(parent)?)), prefix, existed: true })
    }

    fn make_parent(&self) -> Result<(), EngineError> {
        let Some(parent) = self.path.parent() else { return Ok(()) };
        fs::create_dir_all(parent).map_err(|e| failed("make the folder", parent, &e))
    }
}

/// Names that nobody else uses: `.rbbackup-<random>-<number>`.
pub(super) struct TempNames {
    run: String,
    next: AtomicU64,
}

impl TempNames {
    pub(super) fn new() -> Result<Self, EngineError> {
        let run = crate::engine::client::random_run_id()?.to_hex();
        Ok(Self { run: run.get(..16).unwrap_or_default().to_owned(), next: AtomicU64::new(0) })
    }

    pub(super) fn next(&self) -> Vec<u8> {
        format!(".rbbackup-{}-{}", self.run, self.next.fetch_add(1, Ordering::Relaxed)).into_bytes()
    }
}
