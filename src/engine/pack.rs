//! The packer: what has left the copies moves from `retired/` into the vaults.
//!
//! ```text
//! retired/<run>/… ── read once: hashed, cut ──> blobs that the vault lacks ──> pack in hand
//!                                                            full, or the end ──> durable ──> catalog ──> files removed
//! ```
//!
//! A retired file is removed only when all that it holds is in packs that are durable and that the catalog knows. Killed
//! at any point, it begins again with what is left: what was packed already is found by its hash and not stored twice.
//! Only runs that are over are packed: their record is there, their journal and their lease are gone, so neither a replay
//! nor the catalog's own thread comes back to these files. Metadata of what was retired lives in manifests: what is no
//! regular file just goes.
//!
//! Memory: one piece of a file, the recipe of a large one, what the pack in hand holds, and the names of [`DONE_MAX`]
//! files that wait for it.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;

use super::error::{EngineError, ErrorKind};
use super::hub::Hub;
use super::upkeep::Pace;
use crate::backup::chunker::{Chunker, Recipe, class_for};
use crate::backup::digest::{Digest, RunId};
use crate::backup::entry::SizeClass;
use crate::backup::relpath::RelPath;
use crate::store::catalog::{CatalogReader, CopyId, Update};
use crate::store::failpoint::failpoint;
use crate::store::names::CopyName;
use crate::store::vault::{BlobKind, Known, PackId, PackWriter, Vault};
use crate::tree::dir_cache::{DIRS_OPEN_DEFAULT, DirCache};
use crate::tree::error::TreeError;
use crate::tree::safe_dir::SafeDir;
use crate::tree::stat::FileKind;

/// Read at once.
const READ_BYTES: usize = 1024 * 1024;
/// Removing a file is as much work for the disk as writing so much.
const FILE_GONE_BYTES: u64 = 16 * 1024;
/// Files that may wait for the pack in hand.
const DONE_MAX: usize = 64 * 1024;

/// What was packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PackStats {
    /// Retired files.
    pub(super) files: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// New packs.
    pub(super) packs: u64,
    /// Bytes of these.
    pub(super) stored: u64,
}

/// Packs all that waits, or as much as the pace allows.
///
/// # Errors
/// The catalog or the disk fail, or are full; what is not packed waits for the next round. Files that cannot be read are
/// named in the log, and stay.
pub(super) fn pack(hub: &Hub, pace: &Pace<'_>) -> Result<PackStats, EngineError> {
    let mut stats = PackStats::default();
    let retired = Arc::new(hub.own_dir("retired")?);
    let waiting = waiting(&retired)?;
    if waiting.is_empty() {
        return Ok(stats);
    }
    for (copy, runs) in owners(hub, &waiting)? {
        match pack_waiting(hub, &copy, &runs, &retired, pace, &mut stats) {
            Ok(true) => {}
            Ok(false) => break,
            // What is wrong with one copy is not the others' business.
            Err(error) if error.kind != ErrorKind::NoSpace => {
                tracing::warn!("not all that {copy} retired is packed: {error}");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(stats)
}

/// The copies, and which of these runs are whose. What two claim is nobody's: it stays where it is.
fn owners(hub: &Hub, waiting: &HashSet<RunId>) -> Result<Vec<(CopyName, Vec<RunId>)>, EngineError> {
    let mut owners = Vec::new();
    let mut claims: HashMap<RunId, usize> = HashMap::new();
    for copy in hub.store.copies()? {
        // Expired ones, too: what their runs retired is history all the same.
        let records = hub.store.snapshots(&copy)?.all()?;
        let runs: Vec<RunId> = records.iter().map(|record| record.run).filter(|run| waiting.contains(run)).collect();
        runs.iter().for_each(|run| *claims.entry(*run).or_default() += 1);
        owners.push((copy, runs));
    }
    for (run, _) in claims.iter().filter(|(_, count)| **count > 1) {
        tracing::error!("'retired/{run}' is not packed: more than one run has this id");
    }
    for (_, runs) in &mut owners {
        runs.retain(|run| claims.get(run) == Some(&1));
    }
    Ok(owners)
}

/// Packs all that one copy's runs retired. False: some of it is still there.
///
/// # Errors
/// As [`pack`].
pub(super) fn pack_one(hub: &Hub, copy: &CopyName, pace: &Pace<'_>) -> Result<bool, EngineError> {
    let retired = Arc::new(hub.own_dir("retired")?);
    let owners = owners(hub, &waiting(&retired)?)?;
    let runs = owners.into_iter().find(|(owner, _)| owner == copy).map_or_else(Vec::new, |(_, runs)| runs);
    pack_waiting(hub, copy, &runs, &retired, pace, &mut PackStats::default())?;
    let left = waiting(&retired)?;
    Ok(runs.iter().all(|run| !left.contains(run)))
}

fn waiting(retired: &SafeDir) -> Result<HashSet<RunId>, EngineError> {
    let name_of = |name: &[u8]| std::str::from_utf8(name).ok().and_then(RunId::from_hex);
    Ok(retired.names()?.iter().filter_map(|entry| name_of(&entry.name)).collect())
}

/// False: it was told to end.
fn pack_waiting(
    hub: &Hub,
    copy: &CopyName,
    runs: &[RunId],
    retired: &Arc<SafeDir>,
    pace: &Pace<'_>,
    stats: &mut PackStats,
) -> Result<bool, EngineError> {
    let mut over = Vec::new();
    for run in runs {
        if is_over(hub, *run)? {
            over.push(*run);
        }
    }
    if over.is_empty() {
        return Ok(true);
    }
    pack_copy(hub, copy, &over, retired, pace, stats)
}

/// Whether nobody will come back to what the committed run retired. The lease goes last.
fn is_over(hub: &Hub, run: RunId) -> Result<bool, EngineError> {
    if hub.leases.held().iter().any(|(_, holder)| holder.run == run) {
        return Ok(false);
    }
    match hub.own_dir("journal")?.stat(run.to_hex().as_bytes()) {
        Err(error) if error.is_not_found() => Ok(true),
        other => Ok(other.map(|_| false)?),
    }
}

/// False: it was told to end.
fn pack_copy(
    hub: &Hub,
    copy: &CopyName,
    runs: &[RunId],
    retired: &Arc<SafeDir>,
    pace: &Pace<'_>,
    stats: &mut PackStats,
) -> Result<bool, EngineError> {
    let vault = hub.vault(copy)?;
    let (id, reader) = (hub.catalog.copy_id(copy)?, hub.catalog.reader()?);
    let writer = vault.writer();
    let dirs = DirCache::new(Arc::clone(retired), DIRS_OPEN_DEFAULT);
    let (there, done) = (HashMap::new(), Vec::new());
    let mut packer = Packer { hub, pace, id, vault: &vault, reader, writer, retired, dirs, there, done, stats };
    let mut whole = Vec::new();
    let mut end = false;
    for run in runs {
        match packer.pack_run(*run)? {
            Outcome::Whole => whole.push(*run),
            Outcome::InPart => {}
            Outcome::End => {
                end = true;
                break;
            }
        }
    }
    packer.settle()?;
    // Their files are gone; what is left are folders, and what has no content.
    for run in whole {
        retired.remove_tree(run.to_hex().as_bytes())?;
    }
    Ok(!end)
}

/// What became of one run's folder.
enum Outcome {
    /// Every file of it is packed.
    Whole,
    /// Some could not be.
    InPart,
    /// It was told to end.
    End,
}

/// Why a file is not packed.
enum Stopped {
    /// It was told to end.
    End,
    /// This one cannot be read.
    File(TreeError),
    /// None can be packed.
    All(EngineError),
}

impl<E: Into<EngineError>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self::All(error.into())
    }
}

/// A file that waits for the pack in hand.
struct Done {
    place: RelPath,
    digest: Digest,
    is_large: bool,
    /// The content that the catalog says it has.
    said: Option<Digest>,
}

struct Packer<'a> {
    hub: &'a Hub,
    pace: &'a Pace<'a>,
    id: CopyId,
    vault: &'a Vault,
    reader: CatalogReader,
    writer: PackWriter<'a>,
    retired: &'a Arc<SafeDir>,
    dirs: DirCache,
    /// Whether packs that the catalog names are really there.
    there: HashMap<PackId, bool>,
    done: Vec<Done>,
    stats: &'a mut PackStats,
}

impl Packer<'_> {
    fn pack_run(&mut self, run: RunId) -> Result<Outcome, EngineError> {
        let mut outcome = Outcome::Whole;
        let mut folders: Vec<RelPath> = RelPath::new(run.to_hex().as_bytes()).into_iter().collect();
        while let Some(path) = folders.pop() {
            let dir = self.retired.open_dir(&path)?;
            for entry in dir.names()? {
                let Ok(place) = path.join(&entry.name) else {
                    tracing::warn!("'{path}' in 'retired' has a path that is too long; it stays there");
                    outcome = Outcome::InPart;
                    continue;
                };
                let stat = dir.stat(&entry.name)?;
                if stat.kind == FileKind::Dir {
                    folders.push(place);
                    continue;
                }
                if stat.kind != FileKind::File {
                    continue;
                }
                match self.pack_file(&dir, &entry.name, &place, stat.size) {
                    Ok(done) => self.done.push(done),
                    Err(Stopped::End) => return Ok(Outcome::End),
                    Err(Stopped::All(error)) => return Err(error),
                    Err(Stopped::File(error)) => {
                        tracing::warn!("a retired file is not packed: {error}");
                        outcome = Outcome::InPart;
                        continue;
                    }
                }
                self.stats.files += 1;
                self.stats.bytes += stat.size;
                if self.writer.is_full() || self.done.len() >= DONE_MAX {
                    self.settle()?;
                }
            }
        }
        Ok(outcome)
    }

    fn pack_file(&mut self, dir: &SafeDir, name: &[u8], place: &RelPath, size: u64) -> Result<Done, Stopped> {
        // A file keeps its class: cut otherwise it would share nothing with what was packed before.
        let said = self.reader.retired_at(self.id, place)?;
        let recipe = said.map(|digest| self.recipe(&digest)).transpose()?.flatten();
        let class = recipe.map(|recipe| recipe.class).filter(|class| *class != SizeClass::Whole);
        let class = class.unwrap_or(class_for(size));
        let mut file = dir.open_read(name).map_err(Stopped::File)?;
        let mut chunker = Cut { chunker: Chunker::new(class), whole: blake3::Hasher::new(), chunks: Vec::new() };
        let (mut buffer, mut eof) = (Vec::new(), false);
        while !eof {
            if !self.pace.step(size.min(READ_BYTES as u64)) {
                return Err(Stopped::End);
            }
            let more = (&mut file).take(READ_BYTES as u64).read_to_end(&mut buffer);
            let more = more.map_err(|e| Stopped::File(TreeError::new("read", dir.label(), name, e)))?;
            eof = more < READ_BYTES;
            self.cut(&mut chunker, &mut buffer, eof)?;
        }
        let Cut { whole, chunks, .. } = chunker;
        let digest = Digest::from(whole.finalize());
        // A single chunk is the whole content.
        let is_large = chunks.len() > 1;
        if is_large {
            self.put_recipe(digest, Recipe { class, chunks })?;
        } else if chunks.is_empty() {
            self.put(BlobKind::Content, digest, &[])?;
        }
        Ok(Done { place: place.clone(), digest, is_large, said })
    }

    /// How this content was cut when it was in the copy, or when it was packed before.
    fn recipe(&self, digest: &Digest) -> Result<Option<Recipe>, EngineError> {
        if let Some(recipe) = self.reader.recipe(self.id, digest)? {
            return Ok(Some(recipe));
        }
        // One that is damaged is cut anew.
        Ok(self.vault.recipe(Some(Known { reader: &self.reader, copy: self.id }), digest).unwrap_or(None))
    }

    /// Takes whole chunks from the front of the buffer.
    fn cut(&mut self, cut: &mut Cut, buffer: &mut Vec<u8>, eof: bool) -> Result<(), EngineError> {
        let mut at = 0;
        while let Some(len) = cut.chunker.cut(buffer.get(at..).unwrap_or_default(), eof) {
            let chunk = buffer.get(at..at + len).unwrap_or_default();
            let digest = Digest::of(chunk);
            cut.whole.update(chunk);
            cut.chunks.push((digest, u32::try_from(len).unwrap_or(u32::MAX)));
            self.put(BlobKind::Content, digest, chunk)?;
            at += len;
            if self.writer.is_full() {
                self.settle()?;
            }
        }
        buffer.drain(..at);
        Ok(())
    }

    fn put_recipe(&mut self, digest: Digest, recipe: Recipe) -> Result<(), EngineError> {
        let body = recipe.encode();
        // What could not be read back must not be the reason to remove anything.
        if let Err(error) = Recipe::decode(&body) {
            return Err(EngineError::new(ErrorKind::Failed, format!("the content {digest}: {error}")));
        }
        self.put(BlobKind::Recipe, digest, &body)
    }

    /// Adds what the vault lacks.
    fn put(&mut self, kind: BlobKind, digest: Digest, raw: &[u8]) -> Result<(), EngineError> {
        if self.writer.holds(kind, &digest) {
            return Ok(());
        }
        for place in self.reader.blob_places(self.id, kind, &digest)? {
            // The catalog may name a pack that somebody took away.
            if *self.there.entry(place.pack).or_insert_with(|| self.vault.has(place.pack)) {
                return Ok(());
            }
        }
        Ok(self.writer.add(kind, digest, raw)?)
    }

    /// What is done so far becomes durable and known; then its files go.
    fn settle(&mut self) -> Result<(), EngineError> {
        let mut updates = Vec::new();
        if let Some(index) = self.writer.finish()? {
            self.stats.packs += 1;
            self.stats.stored += index.bytes;
            updates.push(Update::PutPack(index));
        }
        for done in &self.done {
            updates.push(Update::RemoveRetired(done.digest));
            if let Some(said) = done.said.filter(|said| *said != done.digest) {
                tracing::error!("retired/{} is not the content {said} any more; it is kept as it is", done.place);
                updates.push(Update::RemoveRetired(said));
            }
            // The vault has its own; this one says where in the copy chunks are.
            if done.is_large && !self.reader.has_content(self.id, &done.digest)? {
                updates.push(Update::RemoveRecipe(done.digest));
            }
        }
        self.hub.catalog.apply(self.id, updates)?;
        failpoint("pack-known");
        for done in self.done.drain(..) {
            // Told to end: what is still there is found packed the next time.
            if !self.pace.step(FILE_GONE_BYTES) {
                break;
            }
            let (dir, name) = self.dirs.parent_of(&done.place)?;
            dir.unlink(name)?;
            failpoint("pack-file-gone");
        }
        Ok(())
    }
}

/// A file while it is cut.
struct Cut {
    chunker: Chunker,
    whole: blake3::Hasher,
    chunks: Vec<(Digest, u32)>,
}

#[cfg(test)]
mod tests;
