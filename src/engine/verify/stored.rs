//! Content outside the plain copy: retired files and packs, hashed; then, is everything somewhere?

use std::collections::{HashMap, HashSet};

use super::walk::{Need, Span, Walked};
use super::{Found, Job};
use crate::backup::digest::{Digest, RunId};
use crate::backup::relpath::RelPath;
use crate::engine::error::EngineError;
use crate::store::catalog::Update;
use crate::store::snapshots::Snapshots;
use crate::store::vault::{Blob, BlobKind, BlobPlace, Known, PackId, Vault};
use crate::tree::read::FileReader;
use crate::tree::safe_dir::SafeDir;
use crate::tree::stat::FileKind;

const READ_BYTES: usize = 1024 * 1024;

/// A pack with bytes that are not what was written.
pub(super) struct BadPack {
    pub(super) name: Vec<u8>,
    pub(super) why: String,
    pub(super) blobs: HashSet<Digest>,
    /// What it has is there as long as the catalog is: its index is damaged.
    pub(super) at_risk: bool,
    pub(super) spans: Vec<Span>,
}

/// What the packs hold, undamaged as far as it was looked at.
#[derive(Default)]
pub(super) struct Blobs {
    pub(super) content: HashSet<Digest>,
    /// One place of each recipe; of two that differ, both.
    pub(super) recipes: HashMap<Digest, Vec<BlobPlace>>,
    pub(super) bad: Vec<BadPack>,
}

impl Blobs {
    fn add(&mut self, place: BlobPlace) {
        if place.blob.kind == BlobKind::Content {
            self.content.insert(place.blob.digest);
            return;
        }
        let places = self.recipes.entry(place.blob.digest).or_default();
        if places.iter().all(|other| other.blob.check != place.blob.check) {
            places.push(place);
        }
    }
}

impl Job<'_, '_> {
    /// Finds what is needed; what is nowhere becomes `missing`. Damaged packs are told.
    pub(super) fn stored(&mut self, snapshots: &Snapshots, walked: &mut Walked) -> Result<(), EngineError> {
        let retired = self.retired(snapshots, &walked.needed)?;
        let vault = self.hub.vault(self.copy)?;
        let (reader, copy) = (self.hub.catalog.reader().ok(), self.hub.catalog.copy_id(self.copy).ok());
        let known = reader.as_ref().zip(copy).map(|(reader, copy)| Known { reader, copy });
        let mut blobs = self.blobs(&vault, known)?;
        self.check_recipes(&vault, known, &mut blobs, walked)?;
        for (digest, need) in &walked.needed {
            if retired.contains(digest) || is_stored(&vault, known, &mut blobs, digest, need) {
                continue;
            }
            walked.missing.insert(*digest);
        }
        let damaged = blobs.bad.iter().flat_map(|bad| &bad.blobs);
        let lost = damaged.filter(|digest| !blobs.content.contains(*digest) && !blobs.recipes.contains_key(*digest));
        let forget: Vec<Update> = lost.map(|digest| Update::RemoveBlobs(*digest)).collect();
        if let Some(copy) = copy.filter(|_| !forget.is_empty() && !self.hub.is_read_only()) {
            // Nobody is to believe that history has them: when they come again they are packed again.
            self.hub.catalog.apply(copy, forget)?;
        }
        for bad in blobs.bad {
            let touched = distinct(snapshots, &bad.spans)?;
            self.tell(Found::new(bad.name, bad.why, touched))?;
        }
        Ok(())
    }

    /// Hashes this copy's retired files that may be needed, by their size.
    fn retired(
        &mut self,
        snapshots: &Snapshots,
        needed: &HashMap<Digest, Need>,
    ) -> Result<HashSet<Digest>, EngineError> {
        let sizes: HashSet<u64> = needed.values().map(|need| need.size).collect();
        // Expired ones, too: what they retired may wait to be packed.
        let runs: HashSet<RunId> = snapshots.all()?.iter().map(|record| record.run).collect();
        let top = self.hub.own_dir("retired")?;
        let mut found = HashSet::new();
        let mut folders: Vec<RelPath> = Vec::new();
        for entry in top.names()? {
            let run = std::str::from_utf8(&entry.name).ok().and_then(RunId::from_hex);
            if run.is_some_and(|run| runs.contains(&run)) {
                folders.extend(RelPath::new(&entry.name));
            }
        }
        while let Some(path) = folders.pop() {
            let Ok(dir) = top.open_dir(&path) else { continue };
            for entry in dir.names()? {
                match dir.stat(&entry.name) {
                    Ok(stat) if stat.kind == FileKind::Dir => folders.extend(path.join(&entry.name)),
                    Ok(stat) if stat.kind == FileKind::File && sizes.contains(&stat.size) => {
                        found.extend(self.hash_retired(&dir, &entry.name)?);
                    }
                    _ => {}
                }
            }
        }
        Ok(found)
    }

    /// None: it is packed and gone meanwhile, or cannot be read; then its content is missing, unless it is elsewhere.
    fn hash_retired(&mut self, dir: &SafeDir, name: &[u8]) -> Result<Option<Digest>, EngineError> {
        let Ok(mut reader) = FileReader::open(dir, name) else { return Ok(None) };
        let (mut hasher, mut buffer) = (blake3::Hasher::new(), vec![0; READ_BYTES]);
        self.tally.objects += 1;
        while let Ok(len) = reader.read(&mut buffer) {
            if len == 0 {
                return Ok(Some(hasher.finalize().into()));
            }
            hasher.update(buffer.get(..len).unwrap_or_default());
            self.read(len as u64)?;
        }
        Ok(None)
    }

    fn blobs(&mut self, vault: &Vault, known: Option<Known<'_>>) -> Result<Blobs, EngineError> {
        let mut blobs = Blobs::default();
        for pack in vault.packs()? {
            let name = || vault.pack_path(pack).as_os_str().as_encoded_bytes().to_vec();
            let index = match vault.index(pack) {
                Ok(index) => index.blobs,
                Err(error) if error.is_damage() => {
                    // What the catalog says of it is believed as everywhere: each blob is verified when it is read.
                    let said = known.and_then(|known| known.reader.pack(known.copy, pack).ok().flatten());
                    let said = said.map_or_else(Vec::new, |index| index.blobs);
                    let blobs_of = said.iter().map(|blob| blob.digest).collect();
                    let (why, spans) = (error.to_string(), Vec::new());
                    blobs.bad.push(BadPack { name: name(), why, blobs: blobs_of, at_risk: true, spans });
                    self.read_each(vault, pack, said, &mut blobs)?;
                    continue;
                }
                // Rewritten meanwhile: what it held is elsewhere.
                Err(_) if !vault.has(pack) => continue,
                Err(error) => return Err(error.into()),
            };
            let damaged = self.slice.has_pack(pack).then(|| self.check_pack(vault, pack)).transpose()?.flatten();
            let mut bad = HashSet::new();
            for blob in index {
                if damaged.is_some() && vault.read(&BlobPlace { pack, blob }).is_err() {
                    bad.insert(blob.digest);
                    continue;
                }
                blobs.add(BlobPlace { pack, blob });
            }
            if let Some(why) = damaged {
                blobs.bad.push(BadPack { name: name(), why, blobs: bad, at_risk: false, spans: Vec::new() });
            }
        }
        Ok(blobs)
    }

    /// Of a pack that cannot be hashed as a whole: what can be read of it is there.
    fn read_each(
        &mut self,
        vault: &Vault,
        pack: PackId,
        said: Vec<Blob>,
        blobs: &mut Blobs,
    ) -> Result<(), EngineError> {
        self.tally.objects += 1;
        for blob in said {
            let place = BlobPlace { pack, blob };
            if vault.read(&place).is_ok() {
                blobs.add(place);
            }
            self.read(u64::from(blob.stored))?;
        }
        Ok(())
    }

    /// Why the pack is not what was written, if it is not.
    fn check_pack(&mut self, vault: &Vault, pack: PackId) -> Result<Option<String>, EngineError> {
        let mut stopped = None;
        let verified = vault.verify(pack, &mut |bytes| match self.read(bytes) {
            Ok(()) => true,
            Err(error) => {
                stopped = Some(error);
                false
            }
        });
        self.tally.objects += 1;
        match (stopped, verified) {
            (Some(error), _) => Err(error),
            (None, Ok(_)) => Ok(None),
            (None, Err(error)) if error.is_damage() => Ok(Some(error.to_string())),
            (None, Err(_)) if !vault.has(pack) => Ok(None),
            (None, Err(error)) => Err(error.into()),
        }
    }
}

/// Whether the vault holds it, small or in chunks; packs that are to blame if it does not, or soon may not, get its spans.
fn is_stored(vault: &Vault, known: Option<Known<'_>>, blobs: &mut Blobs, digest: &Digest, need: &Need) -> bool {
    let is_whole = blobs.content.contains(digest);
    if is_whole && blobs.bad.is_empty() {
        return true;
    }
    let has_recipe = !is_whole && blobs.recipes.contains_key(digest);
    let recipe = has_recipe.then(|| vault.recipe(known, digest).ok().flatten()).flatten();
    let mut lacking = HashSet::new();
    let mut pieces = HashSet::from([*digest]);
    match recipe {
        Some(recipe) => {
            pieces.extend(recipe.chunks.iter().map(|(chunk, _)| *chunk));
            let chunks = recipe.chunks.into_iter().map(|(chunk, _)| chunk);
            lacking.extend(chunks.filter(|chunk| !blobs.content.contains(chunk)));
        }
        None if is_whole => {}
        None => drop(lacking.insert(*digest)),
    }
    for bad in &mut blobs.bad {
        let blamed = if bad.at_risk { &pieces } else { &lacking };
        if blamed.iter().any(|digest| bad.blobs.contains(digest)) {
            bad.spans.extend(need.spans.iter().cloned());
        }
    }
    lacking.is_empty()
}

/// How many snapshots lie in these spans.
pub(super) fn distinct(snapshots: &Snapshots, spans: &[Span]) -> Result<u64, EngineError> {
    let within = |root: &RelPath, number: u64| {
        spans.iter().any(|(of, first, last)| **of == *root && (*first..=*last).contains(&number))
    };
    let records = snapshots.list()?;
    Ok(records.iter().filter(|record| within(&record.root, record.number)).count() as u64)
}

#[cfg(test)]
mod tests;
