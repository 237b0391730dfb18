//! Healing: destinations that lack the newest snapshot of a root get it from the daemon's own store, by themselves.
//!
//! ```text
//! board (somebody came, somebody holds something else) ──┐
//! sessions (a run has ended), catch-ups (one has ended) ─┼─ bell ─▶ thread "heal": who lacks what ─▶ Agenda ─▶ threads "catch-up"
//! an hour, or what is to be tried again                ──┘                                                     └─ catch_up::run
//! ```
//! One at a time a destination, [`JOBS_MAX`] in all; who lacks least goes first. What failed rests for a while (`agenda`).
//!
//! Always holds: a live run goes first. While its [`LiveRun`] lives no catch-up of what overlaps it begins, and none of those
//! that were under way goes on, also not those by which an earlier run brings its own snapshot to a returner
//! ([`LiveRun::catches_up`]); nor does one begin while a lease on the daemon's own copy is held. What is brought is the newest
//! of its root when it begins, so a descendant is never replaced; and what a destination has already it says so itself.

mod agenda;
#[cfg(test)]
mod tests;
mod watchdog;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};

use self::agenda::{Agenda, JobId, Lack};
use self::watchdog::Watchdog;
use super::board::Destination;
use super::challenge::Question;
use super::summon::summon;
use crate::backup::lease::Scope;
use crate::backup::limits::COMMIT_SECS;
use crate::backup::relpath::RelPath;
use crate::backup::snapshot::SnapshotRecord;
use crate::engine::catch_up::{self, Due};
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::hub::Hub;
use crate::engine::inspect_serve::behind;
use crate::engine::stop::Stop;
use crate::engine::wire::unexpected;
use crate::net::link::Link;
use crate::net::message::Message;
use crate::net::shutdown::Shutdown;
use crate::store::names::CopyName;

/// Catch-ups at once.
const JOBS_MAX: usize = 2;
/// Everything is looked at this often, whatever happens.
const EVERY: Duration = Duration::from_secs(3600);
/// What is locked is looked at again after so long, should nobody ring before.
const LOCKED: Duration = Duration::from_secs(5);
/// How long it may take to show what it holds.
const PROOF_PATIENCE: Duration = Duration::from_secs(30);
/// How long a live run waits for the catch-ups that it ends.
const SUPERSEDE_PATIENCE: Duration = Duration::from_secs(5);

/// What healing shares with those who wake and stop it.
pub(in crate::engine) struct Healing {
    state: Mutex<Agenda>,
    /// A job or a live run has ended.
    ended: Condvar,
    bell: (Sender<()>, Receiver<()>),
}

impl Default for Healing {
    fn default() -> Self {
        Self { state: Mutex::default(), ended: Condvar::new(), bell: bounded(1) }
    }
}

impl Healing {
    fn lock(&self) -> MutexGuard<'_, Agenda> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There may be something to do.
    pub(in crate::engine) fn ring(&self) {
        // Full: it has been rung already.
        let _ = self.bell.0.try_send(());
    }

    /// Ends the catch-ups that overlap a live run, and keeps others from beginning until what is returned is dropped. Waits
    /// a few seconds for those; after that each ends with its link. To be called with the lease on the own copy in hand.
    pub(in crate::engine) fn supersede(self: &Arc<Self>, copy: &CopyName, root: &RelPath, recursive: bool) -> LiveRun {
        let scope = Scope { copy: copy.to_string(), root: root.clone(), recursive };
        let (live, ended) = self.lock().live(scope);
        let jobs: Vec<JobId> = ended.iter().map(|(job, _)| *job).collect();
        stop_all(ended.into_iter().map(|(_, stop)| stop));
        self.wait_for(&jobs, SUPERSEDE_PATIENCE);
        LiveRun { healing: Arc::clone(self), live }
    }

    fn wait_for(&self, jobs: &[JobId], patience: Duration) {
        let waits = |agenda: &mut Agenda| jobs.iter().any(|job| agenda.is_active(*job));
        drop(self.ended.wait_timeout_while(self.lock(), patience, waits));
    }

    fn job_ended(&self, job: JobId, failure: Option<ErrorKind>) {
        self.lock().ended(job, failure, Instant::now());
        self.ended.notify_all();
        self.ring();
    }
}

/// A catch-up under way: its place is free when this is dropped, however it ended.
struct UnderWay {
    healing: Arc<Healing>,
    job: JobId,
    failure: Option<ErrorKind>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.healing.job_ended(self.job, self.failure);
    }
}

/// A run that destinations take part in: nothing that overlaps is healed meanwhile.
pub(in crate::engine) struct LiveRun {
    healing: Arc<Healing>,
    live: u64,
}

impl LiveRun {
    /// This run, which has committed, brings its snapshot to a returner. The place is to be held as long as that lasts;
    /// `stop` is asked when a later run begins.
    ///
    /// # Errors
    /// A later run of the same paths has begun, or was: it has its turn, and `record` none.
    pub(in crate::engine) fn catches_up(
        &self,
        hub: &Hub,
        copy: &CopyName,
        record: &SnapshotRecord,
        stop: &Stop,
    ) -> Result<OfRun, EngineError> {
        let job = self.healing.lock().begin_of_run(self.live, stop).ok_or_else(overtaken)?;
        let place = OfRun { healing: Arc::clone(&self.healing), job };
        // In this order: a run that begins after that finds us.
        if is_newest(hub, copy, record)? { Ok(place) } else { Err(overtaken()) }
    }
}

/// See [`LiveRun::catches_up`].
pub(in crate::engine) struct OfRun {
    healing: Arc<Healing>,
    job: JobId,
}

impl Drop for OfRun {
    fn drop(&mut self) {
        self.healing.lock().of_run_ended(self.job);
        self.healing.ended.notify_all();
    }
}

/// What becomes of a catch-up that a later run goes before.
pub(in crate::engine) fn overtaken() -> EngineError {
    EngineError::new(ErrorKind::Interrupted, "a later backup of the same paths goes first")
}

/// Whether nothing has come after it.
fn is_newest(hub: &Hub, copy: &CopyName, record: &SnapshotRecord) -> Result<bool, EngineError> {
    let newest = hub.store.snapshots(copy)?.newest(&record.root)?;
    Ok(newest.is_some_and(|newest| newest.run == record.run))
}

impl Drop for LiveRun {
    fn drop(&mut self) {
        self.healing.lock().live_ended(self.live);
        self.healing.ring();
    }
}

/// To ask a conversation to end may take seconds: nobody waits for that.
fn stop_all(stops: impl Iterator<Item = Stop>) {
    for stop in stops {
        thread::spawn(move || stop.ask());
    }
}

/// Starts the thread. It ends soon after `shutdown` was given and [`Healing::ring`] called; catch-ups are cut off then, and
/// go on from the destination's staging another time.
pub(in crate::engine) fn start(hub: &Arc<Hub>, shutdown: &Shutdown) -> Option<JoinHandle<()>> {
    let (hub, shutdown) = (Arc::clone(hub), shutdown.clone());
    let heal = move || {
        let watch = hub.board.watch();
        while !shutdown.is_triggered() {
            let wait = round(&hub).min(EVERY);
            select! {
                recv(watch.bell()) -> _ => {}
                recv(hub.healing.bell.1) -> _ => {}
                default(wait) => {}
            }
        }
        let jobs = hub.healing.lock().all();
        stop_all(jobs.iter().map(|(_, stop)| stop.clone()));
        let jobs: Vec<JobId> = jobs.into_iter().map(|(job, _)| job).collect();
        hub.healing.wait_for(&jobs, SUPERSEDE_PATIENCE);
    };
    let thread = thread::Builder::new().name("heal".to_owned()).spawn(heal);
    thread.inspect_err(|error| tracing::warn!("cannot start a thread: {error}; destinations do not catch up")).ok()
}

/// Begins what can begin now. Returns after how long to look again.
fn round(hub: &Arc<Hub>) -> Duration {
    let there = hub.board.list();
    let lacks = match lacks(hub, &there) {
        Ok(lacks) => lacks,
        Err(error) => {
            tracing::warn!("what destinations lack is not known: {error}");
            return EVERY;
        }
    };
    let now = Instant::now();
    let mut agenda = hub.healing.lock();
    agenda.forget_others(&there);
    // Asked with the agenda in hand: a run that takes its lease after this finds what begins now, and ends it.
    let held = hub.leases.held();
    let (begun, wait) = agenda.next(lacks, now, &|scope| held.iter().any(|(other, _)| scope.overlaps(other)));
    drop(agenda);
    for (job, stop, lack) in begun {
        let of = Arc::clone(hub);
        let under_way = UnderWay { healing: Arc::clone(&hub.healing), job, failure: Some(ErrorKind::Failed) };
        let spawned = thread::Builder::new().name("catch-up".to_owned()).spawn(move || {
            // All of it, not its one field.
            let mut under_way = under_way;
            let outcome = catch_up(&of, &lack, &stop);
            tell(&lack, &outcome);
            under_way.failure = outcome.err().map(|error| error.kind);
        });
        if let Err(error) = spawned {
            tracing::warn!("cannot start a thread: {error}; a destination has to wait");
        }
    }
    wait
}

/// The newest backup of each root, wherever it is not the newest that a destination holds; who lacks least first.
fn lacks(hub: &Hub, there: &[Destination]) -> Result<Vec<Lack>, EngineError> {
    let mut lacks = Vec::new();
    if there.is_empty() {
        return Ok(lacks);
    }
    for copy in hub.store.copies()? {
        let wanted: Vec<_> = there.iter().filter(|destination| destination.wants.admits(&copy)).collect();
        if wanted.is_empty() {
            continue;
        }
        let snapshots = hub.store.snapshots(&copy)?;
        let (roots, all) = (snapshots.roots()?, snapshots.list()?);
        for record in roots {
            for destination in &wanted {
                let head = destination.head(&copy, &record.root);
                if head.is_some_and(|head| head.run == record.run) {
                    continue;
                }
                lacks.push(Lack {
                    id: destination.id,
                    visit: destination.visit,
                    name: destination.name.clone(),
                    copy: copy.clone(),
                    head: head.map(|head| head.manifest),
                    missing: behind(&all, &copy, &record.root, destination),
                    record: Arc::clone(&record),
                });
            }
        }
    }
    lacks.sort_by_key(|lack| lack.missing);
    Ok(lacks)
}

/// Brings it; its number over there.
fn catch_up(hub: &Hub, lack: &Lack, stop: &Stop) -> Result<u64, EngineError> {
    let mut link = summon(&hub.board, (lack.id, lack.visit), &|| stop.is_asked()).map_err(|error| stop.or(error))?;
    if !is_newest(hub, &lack.copy, &lack.record)? {
        return Err(overtaken());
    }
    let shown = hub.board.begin_run(lack.id, &lack.copy, &lack.record.root);
    let due = Due { copy: &lack.copy, record: &lack.record, head: lack.head };
    let watchdog = Watchdog::new(Instant::now());
    let told = |bytes, total| {
        watchdog.told(bytes, total, Instant::now());
        shown.advance(bytes, total);
    };
    let caught_up = watchdog.watch(stop, || catch_up::run(hub, &due, &mut link, stop, &told))?;
    // Who has something newer cannot show the older one in its plain copy.
    if !caught_up.had_it {
        prove(hub, lack, &mut link).map_err(|error| stop.or(error))?;
    }
    Ok(caught_up.receipt.snapshot)
}

/// Has the destination show that it holds what it says.
fn prove(hub: &Hub, lack: &Lack, link: &mut Link) -> Result<(), EngineError> {
    let question = Question::about(hub, &lack.copy, &lack.record, &[])?;
    if question.is_empty() {
        return Ok(());
    }
    let (challenge, expected) = question.ask()?;
    link.send(challenge)?;
    // It may have to finish what follows a commit; for ever it has not.
    let until = Instant::now() + Duration::from_secs(COMMIT_SECS);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match link.recv_timeout(PROOF_PATIENCE.min(left))? {
            Some(Message::Busy(_)) if !left.is_zero() => {}
            Some(Message::Proof(proof)) if proof.digest == expected => return Ok(()),
            Some(Message::Refused(refused)) => return Err(refused.into()),
            Some(Message::Busy(_)) | None => {
                return Err(EngineError::new(ErrorKind::Unreachable, "it has not shown in time what it holds"));
            }
            Some(Message::Proof(_)) => {
                let message = "it says that it holds the snapshot, and cannot show it: its copy is damaged";
                return Err(EngineError::new(ErrorKind::Failed, message));
            }
            Some(other) => return Err(unexpected(&other, "waiting for a proof").into()),
        }
    }
}

fn tell(lack: &Lack, outcome: &Result<u64, EngineError>) {
    let Lack { name, copy, record, .. } = lack;
    let (number, root) = (record.number, &record.root);
    match outcome {
        Ok(there) => tracing::info!(
            "destination '{name}' has caught up with '/{root}' of {copy}: snapshot {number}, {there} there"
        ),
        Err(error) if matches!(error.kind, ErrorKind::Interrupted | ErrorKind::Unreachable) => {
            tracing::info!("destination '{name}' did not catch up with '/{root}' of {copy}: {error}");
        }
        Err(error) => tracing::warn!("destination '{name}' cannot catch up with '/{root}' of {copy}: {error}"),
    }
}
