//! What pruning would give back: the same mark, the same choice of packs, and nothing is written.
//!
//! Packs that go, and the manifests of what expires, are known to the byte. Of a pack that would be rewritten it is known
//! which blobs stay, and their bytes; the index of the new one is reckoned. What was not
//! packed yet is not counted: packing comes first in a real run, and what is packed then is young.

use std::collections::HashSet;

use super::Foreseen;
use super::sweep::{Pack, Survey, Swept};
use crate::backup::digest::Digest;
use crate::backup::fingerprint::Timestamp;
use crate::engine::error::EngineError;
use crate::engine::hub::Hub;
use crate::store::names::CopyName;
use crate::store::snapshots::Snapshots;
use crate::store::vault::{Blob, BlobKind, PACK_BYTES_TARGET, PackId, Vault};

/// About what a blob takes in a pack's index: a digest, which does not shrink, and some numbers, which do.
const INDEX_BYTES: u64 = 36;
/// About what a pack takes besides blobs and their lines in the index.
const FRAME_BYTES: u64 = 64;

/// What would be given back if the snapshots of these numbers expired.
///
/// # Errors
/// What is needed cannot be told, as in a real run.
pub(super) fn foresee(
    hub: &Hub,
    copy: &CopyName,
    snapshots: &Snapshots,
    expiring: &[u64],
    oldest: Timestamp,
    go_on: &dyn Fn() -> bool,
) -> Result<Foreseen, EngineError> {
    let is_packed = super::is_packed(hub);
    let record_bytes = snapshots.would_clear(expiring, &|record| is_packed(record.run))?;
    let survey = Survey::make(hub, copy, snapshots, &snapshots.needed(expiring)?, oldest, go_on)?;
    let mut swept = Swept::default();
    for young in [false, true] {
        let packs: Vec<&Pack> = survey.victims.iter().filter(|pack| pack.young == young).collect();
        rewritten(&survey, young, &packs, &mut swept)?;
    }
    let all_packed = hub.own_dir("retired")?.names()?.is_empty();
    Ok(Foreseen { record_bytes, swept, exact: swept.packs_written == 0 && all_packed })
}

type Key = (BlobKind, Digest);

fn key(blob: &Blob) -> Key {
    (blob.kind, blob.digest)
}

/// What is needed of these packs, all of one age, would go to new ones; see `sweep`.
fn rewritten(survey: &Survey, young: bool, packs: &[&Pack], swept: &mut Swept) -> Result<(), EngineError> {
    let Survey { vault, live, .. } = survey;
    let mut moving: HashSet<Key> = HashSet::new();
    for pack in packs {
        moving.extend(vault.index(pack.id)?.blobs.iter().filter(|blob| live.needs(pack, blob)).map(key));
    }
    // One that must stay because it is young is not as safe in an old pack.
    drop_those_in(vault, survey.staying(true), &mut moving)?;
    if !young {
        drop_those_in(vault, survey.staying(false), &mut moving)?;
    }
    let mut bytes = 0;
    for pack in packs {
        let blobs = vault.index(pack.id)?.blobs;
        let kept = blobs.iter().filter(|blob| moving.remove(&key(blob)));
        bytes += kept.map(|blob| u64::from(blob.stored) + INDEX_BYTES).sum::<u64>();
        swept.packs_removed += 1;
        swept.bytes_removed += pack.bytes;
    }
    let packs = bytes.div_ceil(PACK_BYTES_TARGET);
    swept.packs_written += packs;
    swept.bytes_written += bytes + packs * FRAME_BYTES;
    Ok(())
}

fn drop_those_in(vault: &Vault, packs: HashSet<PackId>, moving: &mut HashSet<Key>) -> Result<(), EngineError> {
    for pack in packs {
        if moving.is_empty() {
            break;
        }
        for blob in vault.index(pack)?.blobs {
            moving.remove(&key(&blob));
        }
    }
    Ok(())
}
