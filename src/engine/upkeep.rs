//! What a store needs done beside its sessions, one thing after the other: history is packed, and, at the start and once a
//! day, pruned.
//!
//! One thread a hub: nothing that it does ever runs beside anything else that it does; what removes content may rely on
//! that. It is woken at the start and whenever a session ends. With `--store` the same is done once, before the process
//! ends. Sessions go first: [`Pace`] pauses all of it while a lease is held, but not for ever.
//!
//! ```text
//! sessions ── ring ──> bell ──> upkeep thread: pack (pack.rs), prune (prune/)
//! ```

use std::cell::Cell;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::error::{EngineError, ErrorKind};
use super::hub::Hub;
use super::pack;
use super::prune;
use crate::net::shutdown::Shutdown;

/// Longest pause: then some of the work is done beside the backup that runs and runs.
const PAUSE_MAX: Duration = Duration::from_secs(600);
/// What is done after the longest pause, before there is another one.
const PACE_BYTES: u64 = 512 * 1024 * 1024;
/// Pruning goes on to the next pack as if it were this long.
const PRUNE_STEP_BYTES: u64 = 8 * 1024 * 1024;
const PRUNE_EVERY: Duration = Duration::from_secs(24 * 3600);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Wakes the thread.
#[derive(Default)]
pub(super) struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    /// There may be something to do.
    pub(super) fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.heard.notify_all();
    }

    /// Waits for the bell, or so long.
    fn wait(&self, longest: Duration) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.heard.wait_timeout_while(rung, longest, |rung| !*rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

/// How fast upkeep may go: not at all while a session changes a copy, and not on once it is told to end.
pub(super) struct Pace<'a> {
    hub: &'a Hub,
    go_on: &'a dyn Fn() -> bool,
    pause_max: Duration,
    /// Bytes that may be handled without looking whether a session is at work.
    credit: Cell<u64>,
}

impl<'a> Pace<'a> {
    /// `go_on`: false once it is to end.
    pub(super) fn new(hub: &'a Hub, go_on: &'a dyn Fn() -> bool) -> Self {
        Self { hub, go_on, pause_max: PAUSE_MAX, credit: Cell::new(0) }
    }

    /// For who holds the lease himself: no pauses.
    pub(super) fn at_once(hub: &'a Hub, go_on: &'a dyn Fn() -> bool) -> Self {
        Self { hub, go_on, pause_max: Duration::ZERO, credit: Cell::new(0) }
    }

    /// To be asked before each piece of work of about so many bytes, at most some MiB; waits while it must. False: end now.
    pub(super) fn step(&self, bytes: u64) -> bool {
        if let Some(left) = self.credit.get().checked_sub(bytes) {
            self.credit.set(left);
            return (self.go_on)();
        }
        let since = Instant::now();
        while (self.go_on)() {
            if self.hub.leases.held().is_empty() {
                self.credit.set(0);
                return true;
            }
            if since.elapsed() >= self.pause_max {
                self.credit.set(PACE_BYTES);
                return true;
            }
            thread::sleep(LOOK_AGAIN);
        }
        false
    }
}

/// Starts the thread. It ends soon after `shutdown` is triggered and the bell rung.
pub(super) fn start(hub: &Arc<Hub>, shutdown: &Shutdown) -> Option<JoinHandle<()>> {
    let (hub, shutdown) = (Arc::clone(hub), shutdown.clone());
    let upkeep = move || {
        let mut pruned: Option<Instant> = None;
        while !shutdown.is_triggered() {
            once(&hub, &|| !shutdown.is_triggered());
            if pruned.is_none_or(|at| at.elapsed() >= PRUNE_EVERY) {
                prune(&hub, &|| !shutdown.is_triggered());
                pruned = Some(Instant::now());
            }
            hub.bell.wait(PRUNE_EVERY.saturating_sub(pruned.map_or(Duration::ZERO, |at| at.elapsed())));
        }
    };
    let thread = thread::Builder::new().name("upkeep".to_owned()).spawn(upkeep);
    thread.inspect_err(|error| tracing::warn!("cannot start a thread: {error}; history is not packed")).ok()
}

/// One round of everything. What fails is tried again in the next one.
pub(super) fn once(hub: &Hub, go_on: &dyn Fn() -> bool) {
    if let Err(error) = round(hub, &Pace::new(hub, go_on)) {
        tracing::warn!("history could not be packed, and stays as it is: {error}");
    }
}

/// Packed first: what is not packed cannot be swept.
fn prune(hub: &Hub, go_on: &dyn Fn() -> bool) {
    let pace = Pace::new(hub, go_on);
    match prune::prune(hub, &hub.rules.now().retention, hub.now(), false, &|| pace.step(PRUNE_STEP_BYTES)) {
        Ok(report) => {
            report.copies.iter().filter_map(|copy| copy.trouble.as_ref()).for_each(|why| tracing::warn!("{why}"));
            report.strangers.iter().for_each(|name| tracing::warn!("the configuration names {name}, who is not here"));
        }
        Err(error) if error.kind == ErrorKind::Interrupted => {}
        Err(error) => tracing::warn!("the store could not be pruned: {error}"),
    }
}

fn round(hub: &Hub, pace: &Pace<'_>) -> Result<(), EngineError> {
    // Nothing is written to a disk that did not take a flush.
    if hub.is_closed() {
        return Ok(());
    }
    let _alone = hub.housekeeping.lock().unwrap_or_else(PoisonError::into_inner);
    let packed = pack::pack(hub, pace)?;
    if packed.files > 0 {
        tracing::info!(
            "{} retired files, {} bytes, are packed: {} packs, {} bytes",
            packed.files,
            packed.bytes,
            packed.packs,
            packed.stored,
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::digest::RunId;
    use crate::backup::fingerprint::Timestamp;
    use crate::backup::lease::Holder;
    use crate::backup::relpath::RelPath;
    use crate::engine::hub::HubOptions;
    use crate::store::leases::{LeaseGuard, LeaseRequest};
    use crate::store::names::CopyName;

    fn lease(hub: &Hub) -> LeaseGuard {
        let holder = Holder { key: [0; 32], run: RunId([1; 16]), name: String::new(), since: Timestamp::default() };
        let (copy, root) = (CopyName::new(b"n", b"u").unwrap(), RelPath::root());
        let request = LeaseRequest { copy, root, recursive: true, holder, wait: None, on_revoke: Arc::new(|| {}) };
        hub.leases.acquire(request, &mut |_| true).unwrap()
    }

    #[test]
    fn it_waits_for_sessions_but_not_for_ever_and_ends_when_told() {
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub::open(dir.path(), HubOptions::in_process()).unwrap();
        let go_on = Cell::new(true);
        let looks = Cell::new(0);
        let ask = || {
            looks.set(looks.get() + 1);
            go_on.get()
        };
        let pace = Pace::new(&hub, &ask);
        assert!(pace.step(1) && looks.get() == 1);
        let guard = lease(&hub);
        // Told to end while it waits.
        let ends = || {
            looks.set(looks.get() + 1);
            looks.get() < 4
        };
        assert!(!Pace::new(&hub, &ends).step(1) && looks.get() == 4);
        // The longest pause is over: some work is done, then it pauses again.
        let pace = Pace { pause_max: Duration::ZERO, ..Pace::new(&hub, &ask) };
        assert!(pace.step(1) && pace.credit.get() == PACE_BYTES);
        assert!(pace.step(PACE_BYTES - 1) && pace.credit.get() == 1);
        go_on.set(false);
        assert!(!pace.step(1) && !pace.step(100));
        go_on.set(true);
        drop(guard);
        assert!(pace.step(100) && pace.credit.get() == 0);
    }
}
