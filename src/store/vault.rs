//! [`Vault`]: the history of one copy, in packs of many blobs.
//!
//! ```text
//! vault/<node>@<user>/<first two hex digits>/<pack id, 32 hex digits>.pack      immutable; its bytes: vault/pack.rs
//! vault/<node>@<user>/.tmp-<number>                                             not yet; cleared by the next opening
//! ```
//!
//! One vault a copy: nothing is shared between identities, so that nobody learns what others have. A pack is only ever
//! added or removed whole. Which blob lies where the catalog knows; a process without a usable catalog reads the packs'
//! indexes (`find`). Always holds: what [`Vault::read`] returns has the hash that the index names.
//!
//! The process that has the store's lock opens a vault once (`Hub::vault`): opening it to write clears what was
//! unfinished.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::layout::{OpenMode, Store};
use super::names::CopyName;
use crate::tree::own::{self, TEMP_PREFIX};

mod find;
mod pack;
#[cfg(test)]
mod tests;
mod writer;

/// What `fuzz/` reaches beyond the public modules.
#[cfg(fuzzing)]
pub mod fuzzing {
    pub use super::pack::{IndexError, decode_blob, read_index};
}

pub use find::{ContentReader, Known};
pub use pack::{Blob, BlobKind, Codec, PACK_BLOBS_MAX, PackId, PackIndex};
pub use writer::{PACK_BYTES_TARGET, PackWriter};

use pack::{IndexError, decode_blob, read_index};

const SUFFIX: &str = ".pack";
/// Packs that stay open for the next blob.
const PACKS_OPEN_MAX: usize = 8;
const READ_BYTES: usize = 1024 * 1024;

/// Where a blob lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobPlace {
    /// The pack.
    pub pack: PackId,
    /// What its index says of it.
    pub blob: Blob,
}

/// Why a vault cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// Bytes are not what was written.
    #[error("the pack '{}' is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where, and what is wrong.
        what: String,
    },
    /// It is not there (any more): look again where the blob is now.
    #[error("the pack {pack} is gone")]
    Gone {
        /// The pack.
        pack: PackId,
    },
    /// The disk is full.
    #[error("no space left to write '{}'", path.display())]
    NoSpace {
        /// File or folder.
        path: PathBuf,
    },
    /// The operating system's fault.
    #[error("cannot use '{}': {source}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl VaultError {
    fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { path },
            _ => Self::Io { path, source },
        }
    }

    /// Whether it says that what is stored is not what was written.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }
}

/// The history of one copy.
pub struct Vault {
    dir: PathBuf,
    mode: OpenMode,
    open: Mutex<VecDeque<(PackId, Arc<File>)>>,
    unlisted: find::Unlisted,
    temps: AtomicU64,
}

impl Vault {
    /// The vault of a copy, which need not exist yet. To write: clears what was unfinished.
    ///
    /// # Errors
    /// [`VaultError::Io`].
    pub fn open(store: &Store, copy: &CopyName) -> Result<Self, VaultError> {
        let dir = store.meta_path("vault").join(copy.component());
        if store.mode() == OpenMode::Write {
            own::clear_temp(&dir).map_err(|source| VaultError::io(&dir, source))?;
        }
        let (open, unlisted, temps) = (Mutex::default(), find::Unlisted::default(), AtomicU64::new(0));
        Ok(Self { dir, mode: store.mode(), open, unlisted, temps })
    }

    /// The packs that are there, sorted.
    ///
    /// # Errors
    /// [`VaultError::Io`].
    pub fn packs(&self) -> Result<Vec<PackId>, VaultError> {
        let mut packs = Vec::new();
        for folder in names(&self.dir)? {
            if folder.len() != 2 {
                continue;
            }
            for name in names(&self.dir.join(&folder))? {
                let id = name.strip_suffix(SUFFIX).and_then(PackId::from_hex);
                packs.extend(id.filter(|id| id.to_hex().starts_with(&folder)));
            }
        }
        packs.sort_unstable();
        Ok(packs)
    }

    /// A pack's file.
    pub fn pack_path(&self, pack: PackId) -> PathBuf {
        let name = pack.to_hex();
        let folder = name.get(..2).unwrap_or_default();
        self.dir.join(folder).join(format!("{name}{SUFFIX}"))
    }

    /// Whether the pack's file is there; its bytes are not looked at.
    pub fn has(&self, pack: PackId) -> bool {
        own::is_file(&self.pack_path(pack))
    }

    /// What a pack holds, by its own index, which is verified. Its blobs are not.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn index(&self, pack: PackId) -> Result<PackIndex, VaultError> {
        let (file, path) = (self.file(pack)?, self.pack_path(pack));
        let bytes = file.metadata().map_err(|source| VaultError::io(&path, source))?.len();
        let blobs = read_index(bytes, |part, at| file.read_exact_at(part, at)).map_err(|error| match error {
            IndexError::Io(source) => damage_or_io(&path, source),
            IndexError::Damaged(what) => VaultError::Damaged { path, what },
        })?;
        Ok(PackIndex { pack, bytes, blobs })
    }

    /// Reads the whole pack and compares it with its name: one hash vouches for every byte of it. `go_on` is asked after
    /// each piece with its length, so that the caller can keep a pace; false ends it early with `Ok(false)`.
    ///
    /// # Errors
    /// [`VaultError::Damaged`]: it is not what was written; else as [`Vault::read`].
    pub fn verify(&self, pack: PackId, go_on: &mut dyn FnMut(u64) -> bool) -> Result<bool, VaultError> {
        let (file, path) = (self.file(pack)?, self.pack_path(pack));
        let (mut hasher, mut at, mut buffer) = (blake3::Hasher::new(), 0, vec![0; READ_BYTES]);
        loop {
            let read = file.read_at(&mut buffer, at).map_err(|source| VaultError::io(&path, source))?;
            if read == 0 {
                break;
            }
            hasher.update(buffer.get(..read).unwrap_or_default());
            at += read as u64;
            if !go_on(read as u64) {
                return Ok(false);
            }
        }
        if PackId::of(&hasher) == pack {
            return Ok(true);
        }
        Err(VaultError::Damaged { path, what: "it does not have the hash that it is named by".into() })
    }

    /// What a blob holds, verified.
    ///
    /// # Errors
    /// [`VaultError::Gone`]: look again in the catalog; [`VaultError::Damaged`]: it is not what was written.
    pub fn read(&self, place: &BlobPlace) -> Result<Vec<u8>, VaultError> {
        let (file, path) = (self.file(place.pack)?, self.pack_path(place.pack));
        let mut stored = vec![0; place.blob.stored as usize];
        file.read_exact_at(&mut stored, place.blob.offset).map_err(|source| damage_or_io(&path, source))?;
        decode_blob(&place.blob, stored).map_err(|what| {
            let what = format!("the blob {} at {}: {what}", place.blob.digest, place.blob.offset);
            VaultError::Damaged { path, what }
        })
    }

    /// Begins a pack.
    pub fn writer(&self) -> PackWriter<'_> {
        PackWriter::new(self)
    }

    /// Removes a pack, durably. One that is gone already is fine. The catalog is to be told before: who finds a blob there
    /// looks here.
    ///
    /// # Errors
    /// [`VaultError::Io`].
    pub fn remove(&self, pack: PackId) -> Result<(), VaultError> {
        self.close(pack);
        let path = self.pack_path(pack);
        match own::remove(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|source| VaultError::io(&path, source))?,
        }
        let folder = path.parent().unwrap_or(&self.dir);
        own::sync_dir(folder).map_err(|source| VaultError::io(folder, source))
    }

    /// The next blob of it is read from the file that has its name then.
    fn close(&self, pack: PackId) {
        self.opened().retain(|(open, _)| *open != pack);
    }

    fn opened(&self) -> std::sync::MutexGuard<'_, VecDeque<(PackId, Arc<File>)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pack's file, open. Who holds it can read it to the end, whatever becomes of its name.
    fn file(&self, pack: PackId) -> Result<Arc<File>, VaultError> {
        if let Some((_, file)) = self.opened().iter().find(|(open, _)| *open == pack) {
            return Ok(Arc::clone(file));
        }
        let path = self.pack_path(pack);
        let file = Arc::new(own::open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => VaultError::Gone { pack },
            _ => VaultError::io(&path, source),
        })?);
        let mut open = self.opened();
        open.truncate(PACKS_OPEN_MAX - 1);
        open.push_front((pack, Arc::clone(&file)));
        Ok(file)
    }

    /// A name for a pack that is being written; the vault's folder is made.
    fn temp_path(&self) -> Result<PathBuf, VaultError> {
        own::make_dir(&self.dir).map_err(|source| VaultError::io(&self.dir, source))?;
        Ok(self.dir.join(format!("{TEMP_PREFIX}{}", self.temps.fetch_add(1, Ordering::SeqCst))))
    }

    /// The folder that holds a pack, made durably.
    fn make_folder(&self, pack: PackId) -> Result<PathBuf, VaultError> {
        let path = self.pack_path(pack);
        let folder = path.parent().unwrap_or(&self.dir);
        // Also those that are there: who made them may have been killed before they were durable.
        let above = self.dir.parent().unwrap_or(&self.dir);
        let made = own::make_dir(folder).and_then(|()| own::sync_dir(&self.dir));
        made.and_then(|()| own::sync_dir(above)).map_err(|source| VaultError::io(folder, source))?;
        Ok(folder.to_path_buf())
    }
}

/// A file that ends too early is damaged.
fn damage_or_io(path: &Path, source: io::Error) -> VaultError {
    match source.kind() {
        io::ErrorKind::UnexpectedEof => {
            VaultError::Damaged { path: path.to_path_buf(), what: "it is cut short".into() }
        }
        _ => VaultError::io(path, source),
    }
}

/// Names in a folder that are text; none if it is not there, or is no folder.
fn names(dir: &Path) -> Result<Vec<String>, VaultError> {
    let found = match own::names(dir) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        other => other.map_err(|source| VaultError::io(dir, source))?,
    };
    Ok(found.into_iter().filter_map(|name| name.into_string().ok()).collect())
}
