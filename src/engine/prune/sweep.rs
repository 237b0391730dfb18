//! Sweep: packs that nobody needs go, those with little that is needed are rewritten, and a crowd of small ones becomes a
//! few.
//!
//! ```text
//! new pack, durable  ─▶  the catalog knows it  ─▶  the catalog forgets the old one  ─▶  the old one is removed
//! ```
//!
//! Killed anywhere in between: what is needed is in one pack or in two, and the next time goes on. Who reads meanwhile and
//! finds the old pack gone looks again and finds the new one. Nothing is packed while this runs: whoever packs skips what
//! the vault has, and must not skip what is just being thrown away.
//!
//! A pack is *young* as long as its file is not older than `min-age`: all in it stays. There may be content that no
//! manifest ever named (files that somebody put into the copy), and this is the time for which it is kept. A rewritten
//! pack has the time of the youngest that it comes from, so young and old ones are not mixed. What was purged goes from
//! young packs, too: any pack that has some of it is rewritten.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use super::mark::Live;
use crate::backup::fingerprint::Timestamp;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::hub::Hub;
use crate::store::catalog::{CatalogReader, CopyId, Update};
use crate::store::failpoint::failpoint;
use crate::store::names::CopyName;
use crate::store::snapshots::Snapshots;
use crate::store::vault::{Blob, BlobPlace, PACK_BYTES_TARGET, PackId, PackWriter, Vault, VaultError};
use crate::tree::own;

/// A pack of whose bytes less than this is needed is rewritten.
const NEEDED_PERCENT_MIN: u64 = 60;
/// Smaller packs are small.
const SMALL_BYTES: u64 = PACK_BYTES_TARGET / 4;
/// More small packs of one age than this become a few.
const SMALL_COUNT_MAX: usize = 16;

/// What was done to a vault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Packs that were removed.
    pub packs_removed: u64,
    /// Their bytes.
    pub bytes_removed: u64,
    /// Packs that were written in their place.
    pub packs_written: u64,
    /// Their bytes.
    pub bytes_written: u64,
}

/// A pack, and how old it is.
#[derive(Clone, Copy)]
pub(super) struct Pack {
    pub(super) id: PackId,
    pub(super) young: bool,
    pub(super) bytes: u64,
    modified: SystemTime,
}

/// What is needed of a vault, and what has to be done about the rest.
pub(super) struct Survey {
    pub(super) vault: Arc<Vault>,
    pub(super) packs: Vec<Pack>,
    pub(super) live: Live,
    /// To go or to be rewritten, the oldest first.
    pub(super) victims: Vec<Pack>,
}

impl Survey {
    /// As far as the snapshots of these numbers need it. Packs that are not older than `oldest` are young.
    ///
    /// # Errors
    /// What is needed cannot be told: a manifest, a pack's index or a recipe is damaged.
    pub(super) fn make(
        hub: &Hub,
        copy: &CopyName,
        snapshots: &Snapshots,
        needed: &[u64],
        oldest: Timestamp,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Self, EngineError> {
        let vault = hub.vault(copy)?;
        let packs = vault.packs()?.into_iter().map(|id| look(&vault, id, oldest)).collect::<Result<Vec<_>, _>>()?;
        if packs.is_empty() {
            return Ok(Self { vault, packs, live: Live::default(), victims: Vec::new() });
        }
        let mut live = Live::of_snapshots(snapshots, needed, &vault, &packs, go_on)?;
        live.add_chunks(&vault, &packs, go_on)?;
        let victims = choose(&vault, &packs, &live, go_on)?;
        Ok(Self { vault, packs, live, victims })
    }

    /// The packs of one age that are left alone.
    pub(super) fn staying(&self, young: bool) -> HashSet<PackId> {
        let is_victim = |id: PackId| self.victims.iter().any(|victim| victim.id == id);
        self.packs.iter().filter(|pack| pack.young == young && !is_victim(pack.id)).map(|pack| pack.id).collect()
    }
}

/// Gives back what the snapshots of a copy do not need, and adds what it did to `swept`.
///
/// # Errors
/// What is needed cannot be told: nothing was changed then. Or a pack that was to be rewritten is damaged, or the disk fails:
/// what could be done was done.
pub(super) fn sweep(
    hub: &Hub,
    copy: &CopyName,
    snapshots: &Snapshots,
    oldest: Timestamp,
    go_on: &dyn Fn() -> bool,
    swept: &mut Swept,
) -> Result<(), EngineError> {
    let survey = Survey::make(hub, copy, snapshots, &snapshots.needed(&[])?, oldest, go_on)?;
    if survey.victims.is_empty() {
        return Ok(());
    }
    let stay = [false, true].map(|young| survey.staying(young));
    let Survey { vault, live, victims, .. } = survey;
    let id = hub.catalog.copy_id(copy)?;
    let mut sweeper =
        Sweeper { hub, vault: &vault, id, reader: hub.catalog.reader()?, live: &live, stay, damaged: None };
    for young in [false, true] {
        let packs: Vec<Pack> = victims.iter().filter(|pack| pack.young == young).copied().collect();
        sweeper.rewrite(&packs, swept, go_on)?;
    }
    sweeper.damaged.map_or(Ok(()), |error| Err(error.into()))
}

fn look(vault: &Vault, id: PackId, oldest: Timestamp) -> Result<Pack, EngineError> {
    let path = vault.pack_path(id);
    let found = own::metadata(&path).and_then(|found| Ok((found.len(), found.modified()?)));
    let (bytes, modified) =
        found.map_err(|e| EngineError::new(ErrorKind::Failed, format!("cannot use '{}': {e}", path.display())))?;
    Ok(Pack { id, young: is_after(modified, oldest), bytes, modified })
}

/// Whether it was after this moment; before 1970 counts as long ago.
fn is_after(time: SystemTime, moment: Timestamp) -> bool {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(since).unwrap_or(i64::MAX) > moment.secs
}

/// The packs that have to go, or to be rewritten, the oldest first.
fn choose(vault: &Vault, packs: &[Pack], live: &Live, go_on: &dyn Fn() -> bool) -> Result<Vec<Pack>, EngineError> {
    let small = |young: bool| packs.iter().filter(|pack| pack.young == young && pack.bytes < SMALL_BYTES).count();
    let crowded = [small(false), small(true)].map(|count| count > SMALL_COUNT_MAX);
    let mut victims = Vec::new();
    for pack in packs {
        if !go_on() {
            return Err(super::interrupted());
        }
        let [old, young] = crowded;
        let is_crowd = pack.bytes < SMALL_BYTES && if pack.young { young } else { old };
        let blobs = vault.index(pack.id)?.blobs;
        let must_go = |blob: &Blob| live.is_purged(blob);
        if is_crowd || blobs.iter().any(must_go) || is_sparse(&blobs, &|blob| live.needs(pack, blob)) {
            victims.push(*pack);
        }
    }
    victims.sort_by_key(|pack| pack.modified);
    Ok(victims)
}

fn is_sparse(blobs: &[Blob], needs: &dyn Fn(&Blob) -> bool) -> bool {
    let (mut all, mut needed, mut none) = (0_u64, 0_u64, true);
    for blob in blobs {
        all += u64::from(blob.stored);
        if needs(blob) {
            (needed, none) = (needed + u64::from(blob.stored), false);
        }
    }
    none || needed.saturating_mul(100) < all.saturating_mul(NEEDED_PERCENT_MIN)
}

struct Sweeper<'a> {
    hub: &'a Hub,
    vault: &'a Vault,
    id: CopyId,
    reader: CatalogReader,
    live: &'a Live,
    /// Packs that will still be there, old and young ones.
    stay: [HashSet<PackId>; 2],
    /// The first pack that could not be read.
    damaged: Option<VaultError>,
}

impl Sweeper<'_> {
    /// What is needed of these packs, all of one age, goes to new ones; then they go.
    fn rewrite(&mut self, packs: &[Pack], swept: &mut Swept, go_on: &dyn Fn() -> bool) -> Result<(), EngineError> {
        let vault = self.vault;
        let mut writer = vault.writer();
        let mut done: Vec<Pack> = Vec::new();
        for pack in packs {
            if !go_on() {
                // What is in the pack in hand is in the old ones still.
                return Err(super::interrupted());
            }
            let mut whole = true;
            for blob in vault.index(pack.id)?.blobs {
                if !self.live.needs(pack, &blob)
                    || writer.holds(blob.kind, &blob.digest)
                    || self.is_elsewhere(pack.young, &blob)?
                {
                    continue;
                }
                match vault.read(&BlobPlace { pack: pack.id, blob }) {
                    Ok(raw) => writer.add(blob.kind, blob.digest, &raw)?,
                    Err(error) => {
                        whole = false;
                        self.damaged.get_or_insert(error);
                    }
                }
                if writer.is_full() {
                    self.publish(&mut writer, done.iter().chain([pack]), swept)?;
                    self.remove(&mut done, swept)?;
                }
            }
            if whole {
                done.push(*pack);
            }
        }
        self.publish(&mut writer, done.iter(), swept)?;
        self.remove(&mut done, swept)
    }

    /// Whether a pack that stays has this blob, too. One that must stay because it is young is not as safe in an old pack.
    fn is_elsewhere(&self, young: bool, blob: &Blob) -> Result<bool, EngineError> {
        let stays = |place: &BlobPlace| {
            let [old, new] = self.stay.each_ref().map(|packs| packs.contains(&place.pack));
            (new || (old && !young)) && self.vault.read(place).is_ok()
        };
        Ok(self.reader.blob_places(self.id, blob.kind, &blob.digest)?.iter().any(stays))
    }

    /// Finishes the pack in hand, which came from these, all of one age.
    fn publish<'p>(
        &mut self,
        writer: &mut PackWriter<'_>,
        from: impl Iterator<Item = &'p Pack>,
        swept: &mut Swept,
    ) -> Result<(), EngineError> {
        let Some(index) = writer.finish()? else { return Ok(()) };
        let [old, new] = &mut self.stay;
        if let Some(youngest) = from.max_by_key(|pack| pack.modified) {
            // Without it the pack counts as young for longer: nothing is lost.
            let path = self.vault.pack_path(index.pack);
            let _ = own::open(&path).and_then(|file| file.set_modified(youngest.modified));
            // The same blobs in the same order make the same pack: it may be one of the old ones, which stays then.
            if youngest.young { new } else { old }.insert(index.pack);
        }
        swept.packs_written += 1;
        swept.bytes_written += index.bytes;
        self.hub.catalog.apply(self.id, [Update::PutPack(index)])?;
        failpoint("pack-rewritten");
        Ok(())
    }

    fn remove(&self, packs: &mut Vec<Pack>, swept: &mut Swept) -> Result<(), EngineError> {
        for pack in packs.drain(..) {
            swept.packs_removed += 1;
            swept.bytes_removed += pack.bytes;
            if self.stay.iter().any(|packs| packs.contains(&pack.id)) {
                continue;
            }
            self.hub.catalog.apply(self.id, [Update::RemovePack(pack.id)])?;
            failpoint("pack-forgotten");
            self.vault.remove(pack.id)?;
        }
        Ok(())
    }
}
