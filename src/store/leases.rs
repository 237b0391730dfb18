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
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::backup::digest::RunId;
    use crate::backup::fingerprint::Timestamp;

    fn request(root: &str, run: u8, wait: Option<Duration>) -> LeaseRequest {
        LeaseRequest {
            copy: CopyName::new(b"n", b"u").unwrap(),
            root: RelPath::new(root.as_bytes()).unwrap(),
            recursive: true,
            holder: Holder {
                key: [1; 32],
                run: RunId([run; 16]),
                name: format!("run {run}"),
                since: Timestamp::default(),
            },
            wait,
            on_revoke: Arc::new(|| {}),
        }
    }

    fn at_once(leases: &Arc<Leases>, root: &str, run: u8) -> Result<LeaseGuard, LeaseError> {
        leases.acquire(request(root, run, None), &mut |_| true)
    }

    #[test]
    fn the_store_s_own_leases_refuse_nobody() {
        let leases = Leases::new();
        let first = at_once(&leases, "home", 1).unwrap();
        let own = |wait| {
            let mut request = request("home/u", 9, wait);
            request.holder.key = BRIEF_KEY;
            request
        };
        assert!(leases.acquire(own(None), &mut |_| true).is_err(), "it waits for a backup only if it says so");
        drop(first);
        let held = leases.acquire(own(None), &mut |_| true).unwrap();
        thread::scope(|scope| {
            let next = scope.spawn(|| at_once(&leases, "home", 2).map(drop));
            thread::sleep(ASK_EVERY);
            assert!(!next.is_finished(), "it waits");
            drop(held);
            next.join().unwrap().unwrap();
        });
    }

    #[test]
    fn nested_is_refused_and_names_the_holder_disjoint_passes() {
        let leases = Leases::new();
        let guard = at_once(&leases, "home", 1).unwrap();
        let Err(LeaseError::Locked(conflict)) = at_once(&leases, "home/u", 2) else { panic!("locked") };
        assert_eq!(conflict.holder.name, "run 1");
        let other = at_once(&leases, "etc", 3).unwrap();
        assert_eq!(leases.held().len(), 2);
        drop(guard);
        at_once(&leases, "home/u", 2).unwrap();
        drop(other);
        assert!(leases.held().is_empty());
    }

    #[test]
    fn whoever_waits_gets_it_when_it_is_released() {
        let leases = Leases::new();
        let guard = at_once(&leases, "home", 1).unwrap();
        let (tell, told) = mpsc::channel();
        let waiter = thread::spawn({
            let leases = leases.clone();
            move || {
                let mut ask = |conflict: &Conflict| tell.send(conflict.holder.name.clone()).is_ok();
                leases.acquire(request("home/u", 2, Some(Duration::MAX)), &mut ask).map(drop)
            }
        });
        assert_eq!(told.recv().unwrap(), "run 1");
        drop(guard);
        // Keep the receiver alive: a waiter that cannot tell gives up.
        waiter.join().unwrap().unwrap();
        drop(told);
    }

    #[test]
    fn a_run_that_is_committed_is_waited_for_while_it_ends() {
        let leases = Leases::new();
        let guard = at_once(&leases, "home", 1).unwrap();
        assert!(at_once(&leases, "home/u", 2).is_err());
        guard.finishing();
        let (started, start) = mpsc::channel();
        let next = thread::spawn({
            let leases = leases.clone();
            move || {
                started.send(()).unwrap();
                at_once(&leases, "home/u", 2).map(drop)
            }
        });
        start.recv().unwrap();
        for _ in 0..1000 {
            thread::yield_now();
        }
        assert!(!next.is_finished());
        drop(guard);
        next.join().unwrap().unwrap();
    }

    #[test]
    fn whoever_gives_up_or_is_late_leaves_the_queue() {
        let leases = Leases::new();
        let guard = at_once(&leases, "home", 1).unwrap();
        let gave_up = leases.acquire(request("home", 2, Some(Duration::MAX)), &mut |_| false);
        assert!(matches!(gave_up, Err(LeaseError::Cancelled)));
        let late = leases.acquire(request("home", 3, Some(Duration::ZERO)), &mut |_| true);
        assert!(matches!(late, Err(LeaseError::Locked(_))));
        drop(guard);
        at_once(&leases, "home", 4).unwrap();
    }

    #[test]
    fn a_reconnect_takes_over_but_works_only_when_the_old_session_let_go() {
        let leases = Leases::new();
        let (revoke, revoked) = mpsc::channel();
        let on_revoke: OnRevoke = Arc::new(move || revoke.send(()).unwrap());
        let old = leases.acquire(LeaseRequest { on_revoke, ..request("home", 1, None) }, &mut |_| true).unwrap();
        let new = thread::spawn({
            let leases = leases.clone();
            move || at_once(&leases, "home", 1)
        });
        revoked.recv().unwrap();
        assert!(matches!(old.check(), Err(LeaseError::Revoked)));
        assert!(!new.is_finished());
        assert!(at_once(&leases, "home", 2).is_err());
        drop(old);
        let new = new.join().unwrap().unwrap();
        new.check().unwrap();
        assert!(at_once(&leases, "home", 2).is_err());
        drop(new);
        at_once(&leases, "home", 2).unwrap();
    }

    #[test]
    fn a_takeover_that_gives_up_does_not_end_the_lease_under_the_old_sessions_feet() {
        let leases = Leases::new();
        let old = at_once(&leases, "home", 1).unwrap();
        assert!(matches!(leases.acquire(request("home", 1, None), &mut |_| false), Err(LeaseError::Cancelled)));
        assert!(at_once(&leases, "home", 2).is_err());
        drop(old);
        at_once(&leases, "home", 2).unwrap();
    }
}
