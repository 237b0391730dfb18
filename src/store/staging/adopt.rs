//! What another run left in staging is hashed and used again: a cut connection or a killed daemon costs no re-send.

use std::io::Read;

use super::{StagedFile, Staging, staged_path};
use crate::backup::digest::Digest;
use crate::backup::relpath::RelPath;
use crate::tree::error::TreeError;
use crate::tree::metadata::read_meta;
use crate::tree::safe_dir::SafeDir;
use crate::tree::stat::FileKind;

const READ_BYTES: usize = 1024 * 1024;

impl Staging {
    /// Hashes every file of the staged tree into the index; anything but files and directories is removed. A file that
    /// was cut short is found under its own digest, which nobody asks for.
    ///
    /// A name that shares its inode is removed too: it was made by the plan of a run that did not commit, and its other
    /// name may be in the copy, which must not change when this one is written to.
    ///
    /// # Errors
    /// The store's disk fails.
    pub fn adopt(&self) -> Result<(), TreeError> {
        // Only directories have `park/`; names parked there belong to a commit that never began.
        self.dir().remove_tree(b"park").or_else(|e| if e.is_not_found() { Ok(()) } else { Err(e) })?;
        self.adopt_spare()?;
        let top = match self.tree().stat(b"r") {
            Err(e) if e.is_not_found() => return Ok(()),
            other => other?,
        };
        self.mixed.store(true, std::sync::atomic::Ordering::SeqCst);
        if top.kind == FileKind::Dir { self.adopt_dirs() } else { self.adopt_one(self.tree(), b"r", &RelPath::root()) }
    }

    fn adopt_dirs(&self) -> Result<(), TreeError> {
        let mut todo = vec![RelPath::root()];
        while let Some(path) = todo.pop() {
            let dir = self.tree().open_dir(&staged_path(&path)?)?;
            for entry in dir.names()? {
                let name = entry.name;
                let Ok(child) = path.join(&name) else { continue };
                if dir.stat(&name)?.kind == FileKind::Dir {
                    todo.push(child);
                } else {
                    self.adopt_one(&dir, &name, &child)?;
                }
            }
        }
        Ok(())
    }

    fn adopt_one(&self, dir: &SafeDir, name: &[u8], path: &RelPath) -> Result<(), TreeError> {
        let stat = dir.stat(name)?;
        if stat.kind != FileKind::File || stat.nlink > 1 {
            return dir.remove_tree(name);
        }
        let mut file = dir.open_read(name)?;
        let digest = hash_file(&mut file).map_err(|e| TreeError::new("read", dir.label(), name, e))?;
        self.enter(path, StagedFile { digest, xattrs: read_meta(dir, name, &stat)?.xattrs, stat: (&stat).into() })
    }
}

/// BLAKE3 of the rest of a file.
pub(crate) fn hash_file(file: &mut impl Read) -> std::io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().into()),
            n => hasher.update(buffer.get(..n).unwrap_or_default()),
        };
    }
}
