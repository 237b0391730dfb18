//! Do the recipes in the packs give the contents that they are named for? A pack's hash vouches for its bytes, a chunk's
//! for the chunk; that these chunks in this order are that content nothing says but putting them together.
//!
//! A chunk is read again for this, but not once for every version of an image that has it: hashes of blocks are kept
//! ([`crate::backup::block_hash`]) by what they are made of, and a block that is known is not read. So what is read is
//! about what the packs hold, not what the versions add up to. Memory: a recipe, a chunk, and [`BLOCKS_KNOWN_MAX`] hashes
//! of blocks, some 64 MiB; further ones are read for every version.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Job;
use super::stored::{BadPack, Blobs};
use super::walk::Walked;
use crate::backup::block_hash::{BLOCK_BYTES, BlockHash, BlockHasher, TreeHasher};
use crate::backup::chunker::Recipe;
use crate::backup::digest::Digest;
use crate::engine::error::EngineError;
use crate::store::catalog::Update;
use crate::store::vault::{BlobKind, BlobPlace, Known, PackId, Vault, VaultError};

const BLOCKS_KNOWN_MAX: usize = 1 << 20;

/// What a recipe gives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gives {
    /// What it is named for.
    Right,
    /// Other content.
    Other,
    /// Nothing: a chunk of it is damaged or gone.
    Nothing,
}

impl Job<'_, '_> {
    /// Recipes that give other content become damages of their packs, and count as not there.
    pub(super) fn check_recipes(
        &mut self,
        vault: &Vault,
        known: Option<Known<'_>>,
        blobs: &mut Blobs,
        walked: &Walked,
    ) -> Result<(), EngineError> {
        let all = self.within.is_root();
        let wanted = blobs.recipes.iter().filter(|(digest, _)| {
            // Of one that no snapshot names the packer believes all the same that it need not be stored again.
            self.slice.has(digest) && (all || walked.needed.contains_key(digest))
        });
        let mut places: Vec<BlobPlace> = wanted.flat_map(|(_, places)| places.iter().copied()).collect();
        places.sort_unstable_by_key(|place| (place.pack, place.blob.offset));
        let mut assembler = Assembler { vault, known, blocks: HashMap::new(), chunk: None };
        let (mut right, mut unusable) = (HashMap::new(), HashSet::new());
        let mut wrong: BTreeMap<PackId, Vec<Digest>> = BTreeMap::new();
        for BlobPlace { pack, blob } in places {
            self.read(0)?;
            let Some(recipe) = read_recipe(vault, known, &BlobPlace { pack, blob })? else { continue };
            // Whether that matters says who needs it.
            if recipe.chunks.iter().any(|(chunk, _)| !blobs.content.contains(chunk)) {
                continue;
            }
            match assembler.try_out(&recipe, &blob.digest, &mut |bytes| self.read(bytes))? {
                Gives::Right => drop(right.insert(blob.digest, pack)),
                Gives::Nothing => drop(unusable.insert(blob.digest)),
                Gives::Other => {
                    unusable.insert(blob.digest);
                    wrong.entry(pack).or_default().push(blob.digest);
                }
            }
        }
        blobs.recipes.retain(|digest, _| right.contains_key(digest) || !unusable.contains(digest));
        self.prefer(vault, known, &wrong, &right)?;
        for (pack, digests) in wrong {
            let name = vault.pack_path(pack).as_os_str().as_encoded_bytes().to_vec();
            let others = if digests.len() > 1 { format!(", and {} others", digests.len() - 1) } else { String::new() };
            let first = digests.first().map(ToString::to_string).unwrap_or_default();
            let why =
                format!("the recipe of the content {first}{others}: its chunks are intact, but give other content");
            let (digests, spans) = (digests.into_iter().collect(), Vec::new());
            blobs.bad.push(BadPack { name, why, blobs: digests, at_risk: false, spans });
        }
        Ok(())
    }
}

impl Job<'_, '_> {
    /// Of a recipe that is wrong in one pack and right in another the catalog is to name the right one alone.
    fn prefer(
        &self,
        vault: &Vault,
        known: Option<Known<'_>>,
        wrong: &BTreeMap<PackId, Vec<Digest>>,
        right: &HashMap<Digest, PackId>,
    ) -> Result<(), EngineError> {
        let Some(copy) = known.map(|known| known.copy).filter(|_| !self.hub.is_read_only()) else { return Ok(()) };
        for digest in wrong.values().flatten() {
            if let Some(index) = right.get(digest).and_then(|pack| vault.index(*pack).ok()) {
                self.hub.catalog.apply(copy, [Update::RemoveBlobs(*digest), Update::PutPack(index)])?;
            }
        }
        Ok(())
    }
}

/// None: it cannot be read, which its pack's own hash tells.
fn read_recipe(vault: &Vault, known: Option<Known<'_>>, place: &BlobPlace) -> Result<Option<Recipe>, EngineError> {
    match vault.read(place) {
        Ok(body) => Ok(Recipe::decode(&body).ok()),
        // Rewritten meanwhile.
        Err(VaultError::Gone { .. }) => Ok(vault.recipe(known, &place.blob.digest).ok().flatten()),
        Err(error) if error.is_damage() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A part of a chunk: from, to.
type Part = (Digest, u32, u32);

/// Told of bytes that were read.
type Beat<'b> = dyn FnMut(u64) -> Result<(), EngineError> + 'b;

/// Puts contents together to know their digests.
struct Assembler<'v> {
    vault: &'v Vault,
    known: Option<Known<'v>>,
    /// Hashes of blocks, by what these are made of.
    blocks: HashMap<[u8; 16], BlockHash>,
    /// The one that was read last: it may reach into the next block.
    chunk: Option<(Digest, Vec<u8>)>,
}

impl Assembler<'_> {
    fn try_out(&mut self, recipe: &Recipe, digest: &Digest, beat: &mut Beat<'_>) -> Result<Gives, EngineError> {
        if recipe.size() <= BLOCK_BYTES {
            return self.try_out_small(recipe, digest, beat);
        }
        let mut tree = TreeHasher::default();
        let (mut number, mut parts, mut left) = (0, Vec::new(), BLOCK_BYTES);
        for (chunk, len) in &recipe.chunks {
            let mut from = 0;
            while from < *len {
                let to = u32::try_from(left).map_or(*len, |left| from.saturating_add(left).min(*len));
                parts.push((*chunk, from, to));
                left -= u64::from(to - from);
                from = to;
                if left == 0 {
                    let Some(block) = self.block(number, &parts, beat)? else { return Ok(Gives::Nothing) };
                    tree.push(block);
                    parts.clear();
                    (number, left) = (number + 1, BLOCK_BYTES);
                }
            }
        }
        if !parts.is_empty() {
            let Some(block) = self.block(number, &parts, beat)? else { return Ok(Gives::Nothing) };
            tree.push(block);
        }
        Ok(if tree.finish() == Some(*digest) { Gives::Right } else { Gives::Other })
    }

    /// Of one block only.
    fn try_out_small(&mut self, recipe: &Recipe, digest: &Digest, beat: &mut Beat<'_>) -> Result<Gives, EngineError> {
        let mut hasher = blake3::Hasher::new();
        for (chunk, len) in &recipe.chunks {
            let Some(bytes) = self.part((*chunk, 0, *len), beat)? else { return Ok(Gives::Nothing) };
            hasher.update(bytes);
        }
        Ok(if Digest::from(hasher.finalize()) == *digest { Gives::Right } else { Gives::Other })
    }

    /// None: some of it is damaged or gone.
    fn block(&mut self, number: u64, parts: &[Part], beat: &mut Beat<'_>) -> Result<Option<BlockHash>, EngineError> {
        let key = key(number, parts);
        if let Some(block) = self.blocks.get(&key) {
            return Ok(Some(*block));
        }
        let mut hasher = BlockHasher::new(number);
        for part in parts {
            let Some(bytes) = self.part(*part, beat)? else { return Ok(None) };
            if !hasher.update(bytes) {
                return Ok(None);
            }
        }
        let block = hasher.finish();
        if let Some(block) = block.filter(|_| self.blocks.len() < BLOCKS_KNOWN_MAX) {
            self.blocks.insert(key, block);
        }
        Ok(block)
    }

    /// The bytes of a part of a chunk, which is verified.
    fn part(&mut self, (chunk, from, to): Part, beat: &mut Beat<'_>) -> Result<Option<&[u8]>, EngineError> {
        if self.chunk.as_ref().is_none_or(|(last, _)| *last != chunk) {
            self.chunk = match self.vault.blob(self.known, BlobKind::Content, &chunk) {
                Ok(bytes) => bytes.map(|bytes| (chunk, bytes)),
                Err(VaultError::Gone { .. }) => None,
                Err(error) if error.is_damage() => None,
                Err(error) => return Err(error.into()),
            };
            beat(self.chunk.as_ref().map_or(0, |(_, bytes)| bytes.len() as u64))?;
        }
        Ok(self.chunk.as_ref().and_then(|(_, bytes)| bytes.get(from as usize..to as usize)))
    }
}

/// Names a block by its place and by what it is made of.
fn key(number: u64, parts: &[Part]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.to_le_bytes());
    for (chunk, from, to) in parts {
        hasher.update(&chunk.0).update(&from.to_le_bytes()).update(&to.to_le_bytes());
    }
    let mut key = [0; 16];
    hasher.finalize_xof().fill(&mut key);
    key
}

#[cfg(test)]
mod tests;
