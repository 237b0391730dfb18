//! What of a run's content lies in history already: going back to an older version sends nothing.
//!
//! A promise that stands on the vault is like any other: what turns out to be damaged or gone when it is used is asked
//! for again.

use std::sync::Arc;

use super::Run;
use crate::backup::chunker::Recipe;
use crate::backup::digest::Digest;
use crate::engine::error::EngineError;
use crate::store::catalog::CatalogError;
use crate::store::staging::Chunk;
use crate::store::vault::{BlobKind, Known};

impl Run<'_> {
    /// What is known of the vault.
    pub(super) fn known(&self) -> Known<'_> {
        Known { reader: &self.reader, copy: self.copy.id }
    }

    /// Whether a whole file with this content is in the store.
    pub(super) fn has(&self, digest: &Digest) -> Result<bool, EngineError> {
        Ok(self.staging.has(digest)?
            || self.reader.has_content(self.copy.id, digest)?
            || self.reader.retired(self.copy.id, digest)?.is_some()
            || self.in_vault(digest)?)
    }

    /// Whether the vault has this content, as far as the catalog knows.
    pub(super) fn in_vault(&self, digest: &Digest) -> Result<bool, CatalogError> {
        Ok(self.reader.blobs(self.copy.id, digest)?.iter().any(|place| self.vault.has(place.pack)))
    }

    /// A chunk of a large file, if the vault has it.
    pub(super) fn vault_chunk(&self, digest: &Digest, len: u32) -> Result<Option<Chunk>, EngineError> {
        let places = self.reader.blob_places(self.copy.id, BlobKind::Content, digest)?;
        let place = places.into_iter().find(|place| place.blob.raw == len && self.vault.has(place.pack));
        Ok(place.map(|place| Chunk::Packed { vault: Arc::clone(&self.vault), place }))
    }

    /// How the large file with this content is cut.
    pub(super) fn recipe(&self, digest: &Digest) -> Result<Option<Recipe>, EngineError> {
        if let Some(recipe) = self.reader.recipe(self.copy.id, digest)? {
            return Ok(Some(recipe));
        }
        match self.vault.recipe(Some(self.known()), digest) {
            Ok(recipe) => Ok(recipe),
            Err(error) => {
                tracing::warn!("{error}");
                Ok(None)
            }
        }
    }
}
