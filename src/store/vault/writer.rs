//! [`PackWriter`]: blobs in, a durable pack out.
//!
//! The pack is written front to back under a `.tmp-` name in the vault's folder, hashed on the way, flushed, and renamed
//! to its id; then its folder is flushed. Before that nothing of it counts, and whatever a crash leaves is cleared when
//! the vault is opened to write. Memory: the index, and what is compressed right now.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use super::pack::{Blob, BlobKind, Codec, Compressor, MAGIC, PACK_BLOBS_MAX, PackId, PackIndex, encode_tail, may_hold};
use super::{Vault, VaultError};
use crate::backup::digest::Digest;
use crate::store::failpoint::failpoint;
use crate::tree::own;

/// A pack is closed once it is this long.
pub const PACK_BYTES_TARGET: u64 = 32 * 1024 * 1024;
const BUFFER_BYTES: usize = 256 * 1024;
/// So much is written before it is flushed: a backup's own flush takes all of the file system, and never waits for more
/// than this of ours.
const DIRTY_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Writes one pack after the other. Dropped before [`PackWriter::finish`]: the pack in hand never was.
pub struct PackWriter<'a> {
    vault: &'a Vault,
    open: Option<Open>,
    keys: HashSet<(BlobKind, Digest)>,
}

/// A pack that is being written.
struct Open {
    path: PathBuf,
    file: BufWriter<File>,
    compressor: Compressor,
    hasher: blake3::Hasher,
    bytes: u64,
    /// Of them, those that are on the disk.
    flushed: u64,
    blobs: Vec<Blob>,
}

impl Open {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        if self.bytes - self.flushed >= DIRTY_BYTES_MAX {
            self.file.flush()?;
            self.file.get_ref().sync_data()?;
            self.flushed = self.bytes;
        }
        Ok(())
    }
}

impl<'a> PackWriter<'a> {
    pub(super) fn new(vault: &'a Vault) -> Self {
        Self { vault, open: None, keys: HashSet::new() }
    }

    /// Whether the pack in hand has this blob.
    pub fn holds(&self, kind: BlobKind, digest: &Digest) -> bool {
        self.keys.contains(&(kind, *digest))
    }

    /// Whether it is time to finish the pack in hand.
    pub fn is_full(&self) -> bool {
        let is_full = |open: &Open| open.bytes >= PACK_BYTES_TARGET || open.blobs.len() >= PACK_BLOBS_MAX / 2;
        self.open.as_ref().is_some_and(is_full)
    }

    /// Whether nothing was added since the last pack.
    pub fn is_empty(&self) -> bool {
        self.open.is_none()
    }

    /// Adds a blob, unless the pack in hand has it. Content must be what `digest` says: it is what it will be checked by.
    ///
    /// # Errors
    /// The disk fails or is full; the blob is too large or too many (a defect). The pack in hand is lost then.
    pub fn add(&mut self, kind: BlobKind, digest: Digest, raw: &[u8]) -> Result<(), VaultError> {
        if self.holds(kind, &digest) {
            return Ok(());
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        let check = if kind == BlobKind::Content { digest } else { Digest::of(raw) };
        let added = add_to(&mut open, kind, digest, check, raw);
        if let Err(source) = added {
            let failed = VaultError::io(&open.path, source);
            self.discard(open);
            return Err(failed);
        }
        self.keys.insert((kind, digest));
        self.open = Some(open);
        Ok(())
    }

    fn begin(&self) -> Result<Open, VaultError> {
        let path = self.vault.temp_path()?;
        let fail = |source| VaultError::io(&path, source);
        let file = own::create_new(&path).map_err(fail)?;
        let file = BufWriter::with_capacity(BUFFER_BYTES, file);
        let compressor = Compressor::new().map_err(fail)?;
        let hasher = blake3::Hasher::new();
        let mut open = Open { path: path.clone(), file, compressor, hasher, bytes: 0, flushed: 0, blobs: Vec::new() };
        open.write(&MAGIC).map_err(fail)?;
        Ok(open)
    }

    /// Makes the pack in hand durable and gives it its name; none: nothing was added. The next blob begins another one.
    ///
    /// # Errors
    /// The disk fails or is full: the pack in hand is lost.
    pub fn finish(&mut self) -> Result<Option<PackIndex>, VaultError> {
        let Some(mut open) = self.open.take() else { return Ok(None) };
        self.keys.clear();
        match self.publish(&mut open) {
            Ok(index) => Ok(Some(index)),
            Err(error) => {
                self.discard(open);
                Err(error)
            }
        }
    }

    fn publish(&self, open: &mut Open) -> Result<PackIndex, VaultError> {
        let temp = open.path.clone();
        let fail = |source| VaultError::io(&temp, source);
        let blobs = std::mem::take(&mut open.blobs);
        let tail = encode_tail(&blobs).ok_or_else(|| fail(io::Error::other("its index gets too large")))?;
        open.write(&tail).and_then(|()| open.file.flush()).map_err(fail)?;
        open.file.get_ref().sync_all().map_err(fail)?;
        failpoint("pack-written");
        let pack = PackId::of(&open.hasher);
        let path = self.vault.pack_path(pack);
        let folder = self.vault.make_folder(pack)?;
        own::rename(&temp, &path).map_err(|source| VaultError::io(&path, source))?;
        // A damaged one of the same name may be open.
        self.vault.close(pack);
        own::sync_dir(&folder).map_err(|source| VaultError::io(&folder, source))?;
        failpoint("pack-named");
        Ok(PackIndex { pack, bytes: open.bytes, blobs })
    }

    fn discard(&mut self, open: Open) {
        self.keys.clear();
        // Best effort: opening the vault clears it otherwise.
        let _ = own::remove(&open.path);
    }
}

fn add_to(open: &mut Open, kind: BlobKind, digest: Digest, check: Digest, raw: &[u8]) -> io::Result<()> {
    let too_large = || io::Error::other("a blob is too large, or there are too many");
    let raw_len = u32::try_from(raw.len()).map_err(|_| too_large())?;
    if !may_hold(kind, raw.len()) || open.blobs.len() >= PACK_BLOBS_MAX {
        return Err(too_large());
    }
    let shrunk = open.compressor.shrink(raw)?;
    let (codec, stored) = match &shrunk {
        Some(shrunk) => (Codec::Zstd, shrunk.as_slice()),
        None => (Codec::Raw, raw),
    };
    let offset = open.bytes;
    open.write(stored)?;
    let stored = u32::try_from(stored.len()).map_err(|_| too_large())?;
    open.blobs.push(Blob { kind, digest, check, offset, stored, raw: raw_len, codec });
    Ok(())
}

impl Drop for PackWriter<'_> {
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            self.discard(open);
        }
    }
}
