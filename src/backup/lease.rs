//! Leases: who may change which range of paths of which copy. A pure table: requests in, answers out.
//!
//! A lease covers (copy, root, recursive). Two of one copy **overlap** when their roots are the same path, or one is an
//! ancestor of the other through `-r`. A lease without `-r` also covers the root's direct files; a root right below it
//! that is not recursive either may be such a file, so those two overlap as well. (A root that is a file is therefore
//! asked for without `-r`, whatever the user typed.)
//!
//! Whoever has to wait stands in one queue. **Fair**: a request is granted when it overlaps no lease and no request
//! before it in the queue, so nobody overtakes those whom they would delay, and what is disjoint passes.
//!
//! Nothing here knows connections or time: the store's `leases` ties a lease to a connection and wakes those who wait.
//! Always holds: no two granted leases overlap; once all leases are released, the head of the queue can be granted.

use std::collections::BTreeMap;

use super::digest::RunId;
use super::fingerprint::Timestamp;
use super::relpath::RelPath;

/// Who holds a lease, or waits for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Public key; all zero for an embedded store.
    pub key: [u8; 32],
    /// The run.
    pub run: RunId,
    /// In words: `u from 192.168.1.20`.
    pub name: String,
    /// Since when, on the store's clock.
    pub since: Timestamp,
}

/// A granted lease or a place in the queue; never used twice within a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(u64);

/// The request overlaps this one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "locked by the backup of '/{root}' ({name}{note})",
    name = .holder.name,
    note = if *.queued { ", itself waiting" } else { "" }
)]
pub struct Conflict {
    /// Who is in the way.
    pub holder: Holder,
    /// With which root.
    pub root: RelPath,
    /// It waits itself: it asked first.
    pub queued: bool,
}

/// What a lease covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The copy, `node/user`.
    pub copy: String,
    /// The root, absolute, without its leading `/`.
    pub root: RelPath,
    /// `-r`.
    pub recursive: bool,
}

impl Scope {
    /// Whether the two may not be changed at once.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.copy == other.copy && (self.covers(other) || other.covers(self))
    }

    fn covers(&self, other: &Self) -> bool {
        if self.recursive {
            return other.root.is_within(&self.root);
        }
        let may_be_its_file = !other.recursive && other.root.parent().as_ref() == Some(&self.root);
        other.root == self.root || may_be_its_file
    }
}

struct Claim {
    scope: Scope,
    holder: Holder,
}

/// All leases of a store, and the queue for them.
#[derive(Default)]
pub struct LeaseTable {
    next: u64,
    held: BTreeMap<LeaseId, Claim>,
    /// In the order of asking, which is the order of ids.
    queue: BTreeMap<LeaseId, Claim>,
}

impl LeaseTable {
    /// No leases.
    pub fn new() -> Self {
        Self::default()
    }

    /// A lease at once or not at all.
    ///
    /// # Errors
    /// [`Conflict`] names a holder that overlaps, or one that waits and asked first.
    pub fn try_acquire(
        &mut self,
        copy: &str,
        root: &RelPath,
        recursive: bool,
        holder: Holder,
    ) -> Result<LeaseId, Conflict> {
        let scope = Scope { copy: copy.to_owned(), root: root.clone(), recursive };
        if let Some(conflict) = self.conflict(&scope, None) {
            return Err(conflict);
        }
        let id = self.new_id();
        self.held.insert(id, Claim { scope, holder });
        Ok(id)
    }

    /// A place at the end of the queue. Ask with [`LeaseTable::poll`] whenever something was released.
    pub fn enqueue(&mut self, copy: &str, root: &RelPath, recursive: bool, holder: Holder) -> LeaseId {
        let scope = Scope { copy: copy.to_owned(), root: root.clone(), recursive };
        let id = self.new_id();
        self.queue.insert(id, Claim { scope, holder });
        id
    }

    /// Grants what was queued if it is its turn, under the same id; `Ok` also when it was granted before. The
    /// [`Conflict`] is with whoever is still in the way; none at all: the id is unknown.
    pub fn poll(&mut self, id: LeaseId) -> Option<Result<(), Conflict>> {
        if self.held.contains_key(&id) {
            return Some(Ok(()));
        }
        let scope = &self.queue.get(&id)?.scope;
        if let Some(conflict) = self.conflict(scope, Some(id)) {
            return Some(Err(conflict));
        }
        let claim = self.queue.remove(&id)?;
        self.held.insert(id, claim);
        Some(Ok(()))
    }

    /// Ends a lease or leaves the queue; false for an unknown id.
    pub fn release(&mut self, id: LeaseId) -> bool {
        self.held.remove(&id).is_some() || self.queue.remove(&id).is_some()
    }

    /// Passes the lease of (`holder.key`, `holder.run`) with the same scope to a new connection of the same run. It
    /// gets a new id, and the old one is void, so that the lost connection's late release cannot end it. None: that run
    /// holds no such lease (a place in the queue is not passed on).
    pub fn take_over(&mut self, copy: &str, root: &RelPath, recursive: bool, holder: Holder) -> Option<LeaseId> {
        let scope = Scope { copy: copy.to_owned(), root: root.clone(), recursive };
        let same =
            |claim: &Claim| claim.scope == scope && claim.holder.key == holder.key && claim.holder.run == holder.run;
        let id = self.held.iter().find(|(_, claim)| same(claim)).map(|(id, _)| *id)?;
        let new_id = self.new_id();
        let since = self.held.remove(&id).map_or(holder.since, |claim| claim.holder.since);
        self.held.insert(new_id, Claim { scope, holder: Holder { since, ..holder } });
        Some(new_id)
    }

    /// Everything that is held, oldest first, for `status`.
    pub fn held(&self) -> impl Iterator<Item = (&Scope, &Holder)> {
        self.held.values().map(|claim| (&claim.scope, &claim.holder))
    }

    /// Everybody who waits, in order.
    pub fn queued(&self) -> impl Iterator<Item = (&Scope, &Holder)> {
        self.queue.values().map(|claim| (&claim.scope, &claim.holder))
    }

    /// Who stands in the way of `scope`: a lease, or a place in the queue before `place` (none: the queue's end).
    fn conflict(&self, scope: &Scope, place: Option<LeaseId>) -> Option<Conflict> {
        let held = self.held.values().map(|claim| (claim, false));
        let before = self.queue.iter().filter(|(id, _)| place.is_none_or(|place| **id < place));
        let (claim, queued) =
            held.chain(before.map(|(_, claim)| (claim, true))).find(|(claim, _)| claim.scope.overlaps(scope))?;
        Some(Conflict { holder: claim.holder.clone(), root: claim.scope.root.clone(), queued })
    }

    fn new_id(&mut self) -> LeaseId {
        self.next += 1;
        LeaseId(self.next)
    }
}

#[cfg(test)]
mod tests;
