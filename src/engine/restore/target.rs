//! Where a restore goes: the operator's own path, opened once; everything below it is reached through [`SafeDir`].
//!
//! With `--to DIR` the operator named DIR, and DIR may be anybody's (`/tmp`): what is below it counts as below the target,
//! and a symbolic link there is replaced, not followed. Without it the whole path is the operator's, and one that is a
//! symbolic link to a folder is followed, as a root is when it is backed up.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Overwrite, RestoreOptions};
use crate::backup::bytes::escape;
use crate::backup::relpath::RelPath;
use crate::engine::error::{EngineError, ErrorKind};
use crate::tree::operator;
use crate::tree::safe_dir::SafeDir;
use crate::tree::stat::FileKind;

/// The absolute path where the restored path will be.
pub(super) struct Target {
    path: PathBuf,
    /// The operator named all of it, not only the folder above.
    is_named: bool,
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
            let is_named = options.to.as_ref().is_none_or(|to| *to == path);
            return Ok(Self { path, is_named });
        }
        Err(EngineError::new(ErrorKind::Usage, "a restore needs absolute paths"))
    }

    /// Whether nothing is there: no name, or an empty folder.
    pub(super) fn is_empty(&self) -> bool {
        match self.open_present() {
            Ok(Some(dir)) => dir.names().is_ok_and(|names| names.is_empty()),
            _ => operator::is_absent(&self.path),
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

    /// The folder that is there. None: there is none, or a symbolic link that is not the operator's.
    fn open_present(&self) -> Result<Option<SafeDir>, EngineError> {
        if !self.is_named && operator::look_at_name(&self.path).is_ok_and(|found| !found.is_dir()) {
            return Ok(None);
        }
        match SafeDir::open_operator(&self.path) {
            Ok(dir) => Ok(Some(dir)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    fn open_folder(&self, options: &RestoreOptions) -> Result<Ground, EngineError> {
        let ground =
            |base: Option<SafeDir>, existed| Ground { base: base.map(Arc::new), prefix: RelPath::root(), existed };
        if self.is_named
            && let Some(dir) = self.open_present()?
        {
            return Ok(ground(Some(dir), true));
        }
        let Some(above) = self.open_above(options.dry_run)? else { return Ok(ground(None, false)) };
        let name = self.path.file_name().unwrap_or_default().as_bytes();
        match above.stat(name) {
            Ok(there) if there.kind == FileKind::Dir => return Ok(ground(Some(above.open_child(name)?), true)),
            Ok(_) if matches!(options.overwrite, Overwrite::Newer | Overwrite::Never) => {
                return Err(failed("restore a folder to", &self.path, &"something else is there"));
            }
            Ok(_) if !options.dry_run => above.unlink(name)?,
            Err(e) if !e.is_not_found() => return Err(e.into()),
            _ => {}
        }
        if options.dry_run {
            return Ok(ground(None, false));
        }
        above.mkdir(name, 0o700)?;
        let made = above.open_child(name)?;
        if made.stat_self()?.uid != rustix::process::geteuid().as_raw() {
            return Err(failed("restore to", &self.path, &"somebody else put another folder in its place"));
        }
        Ok(ground(Some(made), false))
    }

    fn open_parent(&self, dry_run: bool) -> Result<Ground, EngineError> {
        let name = self.path.file_name().unwrap_or_default().as_bytes();
        let prefix = RelPath::new(name).map_err(|e| EngineError::new(ErrorKind::Usage, e.to_string()))?;
        let base = self.open_above(dry_run)?;
        let existed = base.is_some();
        Ok(Ground { base: base.map(Arc::new), prefix, existed })
    }

    /// The folder above, made if it is missing. None: a dry run, and it is missing.
    fn open_above(&self, dry_run: bool) -> Result<Option<SafeDir>, EngineError> {
        let above = self.path.parent().unwrap_or_else(|| Path::new("/"));
        if !dry_run {
            operator::make_dirs(above, 0o777).map_err(|e| failed("make the folder", above, &e))?;
        } else if !operator::is_dir(above) {
            return Ok(None);
        }
        Ok(Some(SafeDir::open_operator(above)?))
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
