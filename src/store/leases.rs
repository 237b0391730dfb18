//! [`Leases`]: who may change which paths of which copy now; [`LeaseTable`] tied to sessions and time.
//!
//! ```text
//! session thread --acquire--> LeaseGuard --drop--> released      (one mutex, one condvar, woken at every release)
//! same key, same run id again (a reconnect):
//!     the lease changes its owner at once, `on_revoke` of the old session is called (it closes the old connection),
//!     the new session waits until the old one has let go of its guard: two never work for one run side by side
//! ```
//!
//! Always holds: a lease lives exactly as long as some guard of it, so nothing is ever left to unlock by hand; a session
//! that has lost its lease learns it from [`LeaseGuard::check`] at the latest before it commits; a commit that has
//! begun keeps the lease until it is done, because its thread holds the guard.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::names::CopyName;
use crate::backup::lease::{Conflict, Holder, LeaseId, LeaseTable, Scope};
use crate::backup::relpath::RelPath;

/// How often whoever waits is asked whether it still wants to.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// How long a run that is committed already is waited for while it puts its things away.
const FINISHING_MAX: Duration = Duration::from_secs(60);

/// How long a run of the same client is waited for: one that has just ended holds its lease until its connection's end has
/// been noticed, and whoever runs one command after the other is not to be told of a lock.
const LEAVING_MAX: Duration = Duration::from_secs(1);

/// The store itself, which holds or wants its leases for moments: whoever asks meanwhile waits, and is not refused. It is
/// nobody's key.
pub const BRIEF_KEY: [u8; 32] = [0xff; 32];

/// Called when another session of the same run took the lease; must not block.
pub type OnRevoke = Arc<dyn Fn() + Send + Sync>;

/// What a session asks for.
pub struct LeaseRequest {
    /// The copy.
    pub copy: CopyName,
    /// The root.
    pub root: RelPath,
    /// `-r`.
    pub recursive: bool,
    /// Who asks.
    pub holder: Holder,
    /// How long to queue behind others; none: not at all; [`Duration::MAX`]: for ever.
    pub wait: Option<Duration>,
    /// See [`OnRevoke`].
    pub on_revoke: OnRevoke,
}

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another run holds it, and waiting was not asked for or took too long. Exit code 11.
    #[error(transparent)]
    Locked(#[from] Conflict),
    /// Whoever waited does not want to any more.
    #[error("the run gave up waiting for its lock")]
    Cancelled,
    /// Another connection of the same run took it over.
    #[error("another connection of the same run took over")]
    Revoked,
}

/// All leases of a store.
#[derive(Default)]
pub struct Leases {
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Default)]
struct State {
    table: LeaseTable,
    next: u64,
    /// By lineage: what stays the same when a lease changes its owner.
    slots: HashMap<u64, Slot>,
}

struct Slot {
    /// In the table; changes with the owner.
    id: LeaseId,
    scope: Scope,
    holder: Holder,
    /// The session whose lease it is.
    owner: u64,
    /// The session whose guard is still alive.
    worker: Option<u64>,
    /// The owner gave up before the worker let go.
    abandoned: bool,
    /// Its run is committed and its receipt given: it is about to end.
    finishing: bool,
    on_revoke: OnRevoke,
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn is_finishing(&self, conflict: &Conflict) -> bool {
        if conflict.holder.key == BRIEF_KEY {
            return true;
        }
        let theirs = |slot: &&Slot| slot.holder == conflict.holder && slot.scope.root == conflict.root;
        self.slots.values().find(theirs).is_some_and(|slot| slot.finishing)
    }
}

impl Leases {
    /// No leases.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Gets the lease, waiting as the request allows. While it waits, `keep_waiting` is called at once and then about
    /// ten times a second with whoever is in the way; false gives up.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub fn acquire(
        self: &Arc<Self>,
        request: LeaseRequest,
        keep_waiting: &mut dyn FnMut(&Conflict) -> bool,
    ) -> Result<LeaseGuard, LeaseError> {
        let mut state = self.lock();
        let scope = Scope { copy: request.copy.to_string(), root: request.root.clone(), recursive: request.recursive };
        let session = state.number();
        let same = |slot: &Slot| {
            slot.scope == scope && slot.holder.key == request.holder.key && slot.holder.run == request.holder.run
        };
        let own = state.slots.iter().find(|(_, slot)| same(slot)).map(|(lineage, _)| *lineage);
        if let Some(lineage) = own {
            return self.take_over(state, lineage, session, request, keep_waiting);
        }
        let (copy, root, recursive) = (&scope.copy, &scope.root, scope.recursive);
        let id = match request.wait {
            None => {
                let (deadline, leaving) = (Instant::now() + FINISHING_MAX, Instant::now() + LEAVING_MAX);
                let ours = request.holder.key;
                loop {
                    match state.table.try_acquire(copy, root, recursive, request.holder.clone()) {
                        Ok(id) => break id,
                        Err(conflict) if state.is_finishing(&conflict) && Instant::now() < deadline => {
                            state = self.wait(state);
                        }
                        Err(conflict) if conflict.holder.key == ours && Instant::now() < leaving => {
                            state = self.wait(state);
                        }
                        Err(conflict) => return Err(conflict.into()),
                    }
                }
            }
            Some(wait) => {
                let id = state.table.enqueue(copy, root, recursive, request.holder.clone());
                state = self.queue(state, id, wait, keep_waiting)?;
                id
            }
        };
        let lineage = state.number();
        let (holder, on_revoke) = (request.holder, request.on_revoke);
        let slot = Slot {
            id,
            scope,
            holder,
            owner: session,
            worker: Some(session),
            abandoned: false,
            finishing: false,
            on_revoke,
        };
        state.slots.insert(lineage, slot);
        Ok(LeaseGuard { leases: self.clone(), lineage, session })
    }

    /// What is held now, oldest first, for `status`.
    pub fn held(&self) -> Vec<(Scope, Holder)> {
        self.lock().table.held().map(|(scope, holder)| (scope.clone(), holder.clone())).collect()
    }

    /// Waits in the queue until `id` is granted; leaves the queue otherwise.
    fn queue<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        id: LeaseId,
        wait: Duration,
        keep_waiting: &mut dyn FnMut(&Conflict) -> bool,
    ) -> Result<MutexGuard<'a, State>, LeaseError> {
        let deadline = Instant::now().checked_add(wait);
        loop {
            let conflict = match state.table.poll(id) {
                Some(Ok(())) => return Ok(state),
                Some(Err(conflict)) => conflict,
                None => return Err(LeaseError::Cancelled),
            };
            let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            // Asked without the lock: the answer may take a while.
            drop(state);
            let error = if late {
                Some(LeaseError::Locked(conflict))
            } else if keep_waiting(&conflict) {
                None
            } else {
                Some(LeaseError::Cancelled)
            };
            state = self.lock();
            if let Some(error) = error {
                state.table.release(id);
                self.released.notify_all();
                return Err(error);
            }
            if matches!(state.table.poll(id), Some(Err(_))) {
                state = self.wait(state);
            }
        }
    }

    /// The lease is the new session's at once; its guard comes when the old session has let go.
    fn take_over(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        lineage: u64,
        session: u64,
        request: LeaseRequest,
        keep_waiting: &mut dyn FnMut(&Conflict) -> bool,
    ) -> Result<LeaseGuard, LeaseError> {
        let taken = state.table.take_over(&request.copy.to_string(), &request.root, request.recursive, request.holder);
        let (Some(id), Some(slot)) = (taken, state.slots.get_mut(&lineage)) else { return Err(LeaseError::Revoked) };
        slot.id = id;
        slot.owner = session;
        (slot.abandoned, slot.finishing) = (false, false);
        let revoke = std::mem::replace(&mut slot.on_revoke, request.on_revoke);
        let busy = Conflict { holder: slot.holder.clone(), root: slot.scope.root.clone(), queued: false };
        drop(state);
        revoke();
        self.released.notify_all();
        let mut state = self.lock();
        loop {
            let Some(slot) = state.slots.get_mut(&lineage) else { return Err(LeaseError::Revoked) };
            if slot.owner != session {
                return Err(LeaseError::Revoked);
            }
            if slot.worker.is_none() {
                slot.worker = Some(session);
                return Ok(LeaseGuard { leases: self.clone(), lineage, session });
            }
            drop(state);
            let go_on = keep_waiting(&busy);
            state = self.lock();
            let Some(slot) = state.slots.get_mut(&lineage) else { return Err(LeaseError::Revoked) };
            if !go_on && slot.owner == session {
                slot.abandoned = true;
                self.end_if_unused(&mut state, lineage);
                return Err(LeaseError::Cancelled);
            }
            if slot.worker.is_some() && slot.owner == session {
                state = self.wait(state);
            }
        }
    }

    fn let_go(&self, lineage: u64, session: u64) {
        let mut state = self.lock();
        if let Some(slot) = state.slots.get_mut(&lineage) {
            slot.worker = None;
            slot.abandoned |= slot.owner == session;
        }
        self.end_if_unused(&mut state, lineage);
    }

    fn end_if_unused(&self, state: &mut State, lineage: u64) {
        if state.slots.get(&lineage).is_some_and(|slot| slot.worker.is_none() && slot.abandoned)
            && let Some(slot) = state.slots.remove(&lineage)
        {
            state.table.release(slot.id);
        }
        self.released.notify_all();
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.released.wait_timeout(state, ASK_EVERY).unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No call leaves the table and the slots in two minds where it could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to change a range of paths; ends when dropped.
pub struct LeaseGuard {
    leases: Arc<Leases>,
    lineage: u64,
    session: u64,
}

impl LeaseGuard {
    /// Whether it is still this session's; to be asked right before a commit begins. A takeover that comes later waits
    /// for the commit.
    ///
    /// # Errors
    /// [`LeaseError::Revoked`].
    pub fn check(&self) -> Result<(), LeaseError> {
        let state = self.leases.lock();
        let mine = state.slots.get(&self.lineage).is_some_and(|slot| slot.owner == self.session);
        if mine { Ok(()) } else { Err(LeaseError::Revoked) }
    }
}

impl LeaseGuard {
    /// The run is committed and its receipt is about to be given: whoever asks from now on waits the moment until this
    /// guard goes, and is not refused.
    pub fn finishing(&self) {
        if let Some(slot) = self.leases.lock().slots.get_mut(&self.lineage) {
            slot.finishing = true;
        }
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        self.leases.let_go(self.lineage, self.session);
    }
}

#[cfg(test)]
mod tests;
