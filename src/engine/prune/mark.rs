//! Mark: which content the snapshots that are left need.
//!
//! First the files: what any of their manifests names, read a few snapshots at a time, each manifest file once. Then the
//! chunks: what the recipes of those files name. Both are [`DigestFilter`]s: what is needed is always found to be.
//!
//! What was purged is told exactly: its contents and their chunks, less all that the two passes find to be needed. It goes
//! whatever the filters err about and however young its pack is.

use std::collections::HashSet;

use super::sweep::Pack;
use crate::backup::chunker::Recipe;
use crate::backup::digest::Digest;
use crate::backup::digest_filter::DigestFilter;
use crate::backup::relpath::RelPath;
use crate::engine::error::{EngineError, ErrorKind};
use crate::store::snapshots::Snapshots;
use crate::store::vault::{Blob, BlobKind, BlobPlace, Vault};

/// Snapshots whose manifests are read in one pass: each may have a file open.
const SNAPSHOTS_AT_ONCE: usize = 32;

/// What is needed.
#[derive(Default)]
pub(super) struct Live {
    files: DigestFilter,
    chunks: DigestFilter,
    purged: Purged,
}

/// What must go, as long as nothing else needs it.
#[derive(Default)]
struct Purged {
    contents: HashSet<Digest>,
    recipes: HashSet<Digest>,
}

impl Purged {
    /// The contents of purged paths, and the chunks that they are made of.
    fn of(snapshots: &Snapshots, vault: &Vault, packs: &[Pack]) -> Result<Self, EngineError> {
        let mut contents = snapshots.purged_contents()?;
        let recipes = contents.clone();
        if contents.is_empty() {
            return Ok(Self::default());
        }
        for pack in packs {
            for blob in vault.index(pack.id)?.blobs.iter().filter(|blob| blob.kind == BlobKind::Recipe) {
                if !recipes.contains(&blob.digest) {
                    continue;
                }
                // Of one that is damaged the chunks are not known; no snapshot needs them, and they go with age.
                let body = vault.read(&BlobPlace { pack: pack.id, blob: *blob });
                if let Ok(recipe) = body.map_err(EngineError::from).and_then(|body| decode(&body, &blob.digest)) {
                    contents.extend(recipe.chunks.iter().map(|(chunk, _)| *chunk));
                }
            }
        }
        Ok(Self { contents, recipes })
    }

    fn has(&self, blob: &Blob) -> bool {
        match blob.kind {
            BlobKind::Content => self.contents.contains(&blob.digest),
            BlobKind::Recipe => self.recipes.contains(&blob.digest),
        }
    }
}

impl Live {
    /// What the snapshots of these numbers name.
    ///
    /// # Errors
    /// A manifest cannot be read: what it needs is not known.
    pub(super) fn of_snapshots(
        snapshots: &Snapshots,
        needed: &[u64],
        vault: &Vault,
        packs: &[Pack],
        go_on: &dyn Fn() -> bool,
    ) -> Result<Self, EngineError> {
        let mut purged = Purged::of(snapshots, vault, packs)?;
        let mut files = DigestFilter::default();
        for numbers in needed.chunks(SNAPSHOTS_AT_ONCE) {
            if !go_on() {
                return Err(super::interrupted());
            }
            for history in snapshots.timeline(numbers, &RelPath::root())? {
                for version in history?.versions {
                    if let Some(file) = version.record.entry.file() {
                        files.insert(&file.digest);
                        purged.contents.remove(&file.digest);
                        purged.recipes.remove(&file.digest);
                    }
                }
            }
        }
        Ok(Self { files, chunks: DigestFilter::default(), purged })
    }

    /// Adds the chunks that the recipes in these packs name, as far as those are needed themselves.
    ///
    /// # Errors
    /// A recipe cannot be read: what it needs is not known.
    pub(super) fn add_chunks(
        &mut self,
        vault: &Vault,
        packs: &[Pack],
        go_on: &dyn Fn() -> bool,
    ) -> Result<(), EngineError> {
        for pack in packs {
            if !go_on() {
                return Err(super::interrupted());
            }
            for blob in vault.index(pack.id)?.blobs.iter().filter(|blob| blob.kind == BlobKind::Recipe) {
                if !self.needs(pack, blob) {
                    continue;
                }
                let body = vault.read(&BlobPlace { pack: pack.id, blob: *blob })?;
                for (chunk, _) in decode(&body, &blob.digest)?.chunks {
                    self.chunks.insert(&chunk);
                    self.purged.contents.remove(&chunk);
                }
            }
        }
        Ok(())
    }

    /// Whether a blob must go, however little of its pack that is.
    pub(super) fn is_purged(&self, blob: &Blob) -> bool {
        self.purged.has(blob)
    }

    /// Whether a blob must stay: a snapshot needs it, or its pack is young.
    pub(super) fn needs(&self, pack: &Pack, blob: &Blob) -> bool {
        if self.is_purged(blob) {
            return false;
        }
        pack.young
            || self.files.may_hold(&blob.digest)
            || (blob.kind == BlobKind::Content && self.chunks.may_hold(&blob.digest))
    }
}

fn decode(body: &[u8], digest: &Digest) -> Result<Recipe, EngineError> {
    Recipe::decode(body)
        .map_err(|why| EngineError::new(ErrorKind::Failed, format!("the recipe of {digest} cannot be used: {why}")))
}
