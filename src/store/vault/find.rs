//! From a digest to its bytes: which blobs they are, and where those lie now.
//!
//! The catalog is asked first. In the process that writes it is in step with the packs, and what it does not know is not
//! there. A process that only reads may have no catalog, or one that lags behind: there the indexes of the packs that the
//! catalog does not name are read once. A pack may be rewritten while we read: when one is gone it is looked again.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use super::{BlobKind, BlobPlace, PackId, Vault, VaultError};
use crate::backup::chunker::Recipe;
use crate::backup::digest::Digest;
use crate::store::catalog::{CatalogReader, CopyId};
use crate::store::layout::OpenMode;

/// Times that a blob is looked for again because its pack is gone.
const LOOKS_MAX: u32 = 3;

/// What is known of a copy's blobs: its catalog.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// The catalog.
    pub reader: &'a CatalogReader,
    /// The copy in it.
    pub copy: CopyId,
}

/// Blobs of packs that the catalog does not name, once somebody had to look.
#[derive(Default)]
pub(super) struct Unlisted(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    /// Whether what follows is to be compared with the packs that are there now.
    is_current: bool,
    packs: HashSet<PackId>,
    blobs: HashMap<(BlobKind, Digest), Vec<BlobPlace>>,
}

impl Vault {
    /// Where this blob lies; more than one place is possible. `again`: what was found before turned out to be gone.
    ///
    /// # Errors
    /// The packs cannot be listed; a catalog that cannot answer is none.
    pub fn find(
        &self,
        known: Option<Known<'_>>,
        kind: BlobKind,
        digest: &Digest,
        again: bool,
    ) -> Result<Vec<BlobPlace>, VaultError> {
        let listed = known.and_then(|known| known.reader.blob_places(known.copy, kind, digest).ok());
        let complete = |places: &Vec<BlobPlace>| self.mode == OpenMode::Write || !(places.is_empty() || again);
        match listed {
            Some(places) if complete(&places) => Ok(places),
            other => {
                let mut places = other.unwrap_or_default();
                places.extend(self.find_unlisted(known, kind, digest, again)?);
                Ok(places)
            }
        }
    }

    fn find_unlisted(
        &self,
        known: Option<Known<'_>>,
        kind: BlobKind,
        digest: &Digest,
        again: bool,
    ) -> Result<Vec<BlobPlace>, VaultError> {
        let mut seen = self.unlisted.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !seen.is_current || again {
            let listed = known.and_then(|known| known.reader.packs(known.copy).ok()).unwrap_or_default();
            self.see(&mut seen, &listed.into_iter().collect())?;
        }
        Ok(seen.blobs.get(&(kind, *digest)).cloned().unwrap_or_default())
    }

    /// Reads the indexes of packs that are new, and forgets those that are gone.
    fn see(&self, seen: &mut Seen, listed: &HashSet<PackId>) -> Result<(), VaultError> {
        let there: HashSet<PackId> = self.packs()?.into_iter().filter(|pack| !listed.contains(pack)).collect();
        if seen.packs.iter().any(|pack| !there.contains(pack)) {
            seen.packs.retain(|pack| there.contains(pack));
            seen.blobs.values_mut().for_each(|places| places.retain(|place| there.contains(&place.pack)));
            seen.blobs.retain(|_, places| !places.is_empty());
        }
        for pack in there {
            if !seen.packs.insert(pack) {
                continue;
            }
            match self.index(pack) {
                Ok(index) => {
                    for blob in index.blobs {
                        seen.blobs.entry((blob.kind, blob.digest)).or_default().push(BlobPlace { pack, blob });
                    }
                }
                Err(error) => tracing::warn!("{error}"),
            }
        }
        seen.is_current = true;
        Ok(())
    }

    /// What was searched in vain may have been packed meanwhile by another process: the next search looks for new packs.
    pub fn look_again(&self) {
        self.unlisted.0.lock().unwrap_or_else(PoisonError::into_inner).is_current = false;
    }

    /// What this blob holds, verified; none: it is nowhere.
    ///
    /// # Errors
    /// It is there, and damaged wherever it is; or the disk fails.
    pub fn blob(
        &self,
        known: Option<Known<'_>>,
        kind: BlobKind,
        digest: &Digest,
    ) -> Result<Option<Vec<u8>>, VaultError> {
        let mut failed = None;
        for look in 0..LOOKS_MAX {
            let mut gone = false;
            for place in self.find(known, kind, digest, look > 0)? {
                match self.read(&place) {
                    Ok(bytes) => return Ok(Some(bytes)),
                    Err(VaultError::Gone { .. }) => gone = true,
                    Err(error) => {
                        failed.get_or_insert(error);
                    }
                }
            }
            if !gone {
                break;
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// The content with this digest, to be read front to back: a small file, or a large one put together of its chunks.
    /// None: it is not here. Each chunk is verified; the whole is for the caller to verify.
    ///
    /// # Errors
    /// As [`Vault::blob`].
    pub fn content<'a>(
        &'a self,
        known: Option<Known<'a>>,
        digest: &Digest,
    ) -> Result<Option<ContentReader<'a>>, VaultError> {
        let reader = |ready: Vec<u8>, chunks| ContentReader { vault: self, known, chunks, ready, at: 0 };
        match self.blob(known, BlobKind::Content, digest) {
            Ok(Some(whole)) => return Ok(Some(reader(whole, Vec::new().into_iter()))),
            Ok(None) => {}
            Err(error) => return Err(error),
        }
        let Some(recipe) = self.recipe(known, digest)? else { return Ok(None) };
        Ok(Some(reader(Vec::new(), recipe.chunks.into_iter())))
    }

    /// How the large file with this content is cut.
    ///
    /// # Errors
    /// As [`Vault::blob`].
    pub fn recipe(&self, known: Option<Known<'_>>, digest: &Digest) -> Result<Option<Recipe>, VaultError> {
        let Some(body) = self.blob(known, BlobKind::Recipe, digest)? else { return Ok(None) };
        Recipe::decode(&body).map(Some).map_err(|why| VaultError::Damaged {
            path: self.dir.clone(),
            what: format!("the recipe of {digest}: {why}"),
        })
    }
}

/// Content of the vault, front to back.
pub struct ContentReader<'a> {
    vault: &'a Vault,
    known: Option<Known<'a>>,
    /// What is still to be fetched.
    chunks: std::vec::IntoIter<(Digest, u32)>,
    ready: Vec<u8>,
    at: usize,
}

impl ContentReader<'_> {
    /// Bytes that are still to come.
    pub fn bytes_left(&self) -> u64 {
        let chunks: u64 = self.chunks.as_slice().iter().map(|(_, len)| u64::from(*len)).sum();
        chunks + (self.ready.len() - self.at.min(self.ready.len())) as u64
    }

    fn fetch(&mut self, digest: &Digest, len: u32) -> Result<(), VaultError> {
        let missing = || VaultError::Damaged {
            path: self.vault.dir.clone(),
            what: format!("the chunk {digest} of {len} bytes is in no pack"),
        };
        let found = self.vault.blob(self.known, BlobKind::Content, digest)?;
        self.ready = found.filter(|chunk| chunk.len() == len as usize).ok_or_else(missing)?;
        self.at = 0;
        Ok(())
    }
}

impl Read for ContentReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.at >= self.ready.len() {
            let Some((digest, len)) = self.chunks.next() else { return Ok(0) };
            self.fetch(&digest, len).map_err(io::Error::other)?;
        }
        let rest = self.ready.get(self.at..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..len), rest.get(..len)) {
            to.copy_from_slice(from);
        }
        self.at += len;
        Ok(len)
    }
}
