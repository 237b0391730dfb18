//! How a snapshot expires: in two phases, so that a crash at any point leaves a copy that is whole.
//!
//! 1. `N.snapshot` becomes `N.base`, by rename. It is not listed any more and cannot be asked for; its manifest stays, for
//!    those of others may be changes to it, or the same. Once that is durable the snapshot is gone, whatever happens.
//! 2. When nothing stands on it ([`Snapshots::clear_expired`]): its manifest goes, that becomes durable, `N.base` goes. So
//!    there is never a manifest without a record that tells of it.
//!
//! Its number is never given out again: the highest number of a copy does not expire. A pin ([`super::pins`])
//! keeps a snapshot's manifest, and what keeps to it (prune's mark) its content, for as long as somebody reads it.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{
    BASE_SUFFIX, ManifestRef, RECORD_SUFFIX, RELEASED_SUFFIX, SnapshotError, SnapshotRecord, Snapshots, State,
    io_error, manifests, name_of,
};
use crate::store::failpoint::failpoint;
use crate::tree::own;

impl Snapshots {
    /// All records that are there, expired ones too, oldest first: for who asks whose a run was.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn all(&self) -> Result<Vec<Arc<SnapshotRecord>>, SnapshotError> {
        let state = self.state()?;
        let mut all: Vec<_> = state.records.values().chain(state.bases.values()).cloned().collect();
        all.sort_by_key(|record| record.number);
        Ok(all)
    }

    /// The snapshots whose content must be there: all that are listed, and expired ones that are being read; as if those of
    /// these numbers had expired.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn needed(&self, expiring: &[u64]) -> Result<Vec<u64>, SnapshotError> {
        let state = self.state()?;
        let (going, listed): (Vec<u64>, Vec<u64>) =
            state.records.keys().copied().partition(|number| expiring.contains(number));
        let expired = state.bases.keys().copied().chain(going);
        let mut needed: Vec<u64> = expired.filter(|number| self.is_pinned(&state, *number)).chain(listed).collect();
        needed.sort_unstable();
        Ok(needed)
    }

    /// A record that is listed, or that others may stand on.
    pub(super) fn link(&self, number: u64) -> Result<Arc<SnapshotRecord>, SnapshotError> {
        if let Some(record) = self.state()?.link(number) {
            return Ok(record.clone());
        }
        // Who reads while it expires may find it under neither name. Then it is there when one looks again.
        self.state()?.link(number).cloned().ok_or(SnapshotError::Unknown { number })
    }

    /// Whether an admin has said that what this run took away may go.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn is_released(&self, number: u64) -> Result<bool, SnapshotError> {
        Ok(self.state()?.released.contains(&number))
    }

    /// What this run took away may go; durable when this returns.
    ///
    /// # Errors
    /// [`SnapshotError::Unknown`], or the disk's.
    pub fn release(&self, number: u64) -> Result<(), SnapshotError> {
        let mut state = self.state()?;
        if !state.records.contains_key(&number) {
            return Err(SnapshotError::Unknown { number });
        }
        let name = name_of(number, RELEASED_SUFFIX);
        own::write_file(&self.dir, &name, b"").map_err(|e| io_error(&self.dir.join(&name), e))?;
        state.released.insert(number);
        Ok(())
    }

    /// The first phase; durable when this returns. What has no record, and the highest number of all, is passed over.
    /// Returns how many expired.
    ///
    /// # Errors
    /// The disk's; some may have expired then.
    pub fn expire(&self, numbers: &[u64]) -> Result<u64, SnapshotError> {
        let mut state = self.state()?;
        let highest = state.records.keys().next_back().copied();
        let mut count = 0;
        for number in numbers.iter().copied().filter(|number| Some(*number) != highest) {
            let Some(record) = state.records.get(&number).cloned() else { continue };
            let from = self.path(number, RECORD_SUFFIX);
            own::rename(&from, &self.path(number, BASE_SUFFIX)).map_err(|e| io_error(&from, e))?;
            state.records.remove(&number);
            state.bases.insert(number, record);
            count += 1;
            failpoint("expire");
        }
        if count > 0 {
            own::sync_dir(&self.dir).map_err(|e| io_error(&self.dir, e))?;
        }
        Ok(count)
    }

    /// The second phase, for what nothing stands on and nobody reads; `may_go` is asked about each. With a record that
    /// cannot be read nothing goes: what stands on what is not known then. Returns how many went, and their bytes.
    ///
    /// # Errors
    /// The disk's; the next call goes on.
    pub fn clear_expired(&self, may_go: &dyn Fn(&SnapshotRecord) -> bool) -> Result<(u64, u64), SnapshotError> {
        let mut state = self.state()?;
        let gone = self.clearable(&state, &BTreeSet::new(), may_go);
        if gone.is_empty() {
            return Ok((0, 0));
        }
        let bytes = self.bytes_of(&state, &gone);
        for record in &gone {
            if let Some(suffix) = manifests::suffix(record.manifest_file) {
                remove(&self.path(record.number, suffix))?;
                failpoint("expired-manifest");
            }
            remove(&self.path(record.number, RELEASED_SUFFIX))?;
        }
        own::sync_dir(&self.dir).map_err(|e| io_error(&self.dir, e))?;
        for record in &gone {
            failpoint("expired-record");
            remove(&self.path(record.number, BASE_SUFFIX))?;
            state.bases.remove(&record.number);
            state.released.remove(&record.number);
        }
        own::sync_dir(&self.dir).map_err(|e| io_error(&self.dir, e))?;
        Ok((gone.len() as u64, bytes))
    }

    /// Bytes of what [`Snapshots::clear_expired`] would remove if the snapshots of these numbers had expired. Changes nothing.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn would_clear(&self, numbers: &[u64], may_go: &dyn Fn(&SnapshotRecord) -> bool) -> Result<u64, SnapshotError> {
        let state = self.state()?;
        let highest = state.records.keys().next_back().copied();
        let expiring = numbers.iter().copied().filter(|number| Some(*number) != highest).collect();
        Ok(self.bytes_of(&state, &self.clearable(&state, &expiring, may_go)))
    }

    /// What could go if these expired as well.
    fn clearable(
        &self,
        state: &State,
        expiring: &BTreeSet<u64>,
        may_go: &dyn Fn(&SnapshotRecord) -> bool,
    ) -> Vec<Arc<SnapshotRecord>> {
        if !state.damaged.is_empty() {
            return Vec::new();
        }
        let (going, listed): (Vec<_>, Vec<_>) =
            state.records.values().partition(|record| expiring.contains(&record.number));
        let expired = || state.bases.values().chain(going.iter().copied());
        let stays = |record: &SnapshotRecord| self.is_pinned(state, record.number) || !may_go(record);
        let staying = expired().filter(|record| stays(record)).map(|record| record.number);
        let needed = stood_on(state, listed.iter().map(|record| record.number).chain(staying));
        expired().filter(|record| !needed.contains(&record.number)).cloned().collect()
    }

    /// Of the files of these.
    fn bytes_of(&self, state: &State, records: &[Arc<SnapshotRecord>]) -> u64 {
        let len = |path: &Path| own::look(path).map_or(0, |found| found.size);
        let of = |record: &Arc<SnapshotRecord>| {
            let expired = state.bases.contains_key(&record.number);
            let own = len(&self.path(record.number, if expired { BASE_SUFFIX } else { RECORD_SUFFIX }));
            own + manifests::suffix(record.manifest_file).map_or(0, |suffix| len(&self.path(record.number, suffix)))
        };
        records.iter().map(of).sum()
    }
}

/// The numbers in `from`, and all whose files their manifests need.
fn stood_on(state: &State, from: impl Iterator<Item = u64>) -> BTreeSet<u64> {
    let mut needed = BTreeSet::new();
    for number in from {
        let mut at = Some(number);
        // A chain goes down only, see `SnapshotRecord::decode`.
        while let Some(number) = at.filter(|number| needed.insert(*number)) {
            at = state.link(number).and_then(|record| match record.manifest_file {
                ManifestRef::Full => None,
                ManifestRef::Changes { base: below } | ManifestRef::Same { of: below } => Some(below),
            });
        }
    }
    needed
}

fn remove(path: &Path) -> Result<(), SnapshotError> {
    match own::remove(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error(path, e)),
        _ => Ok(()),
    }
}
