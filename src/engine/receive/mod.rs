//! The store's side of a backup: DESIGN's journey from `Begin` to the receipt.
//!
//! ```text
//! link ── Files ──> writers × cores ──┐
//!   │                                 ├──> staging (content, verified)
//!   ├── Chunks ──> content.rs ────────┘
//!   ├── Offer  ──> content.rs: Need          pass (stat pass of the copy, its own thread; answers wait for it)
//!   └── Manifest, Changes ──> incoming.rs (spooled)
//! ManifestEnd ──> feed.rs: present × wanted ──> plan ──> prepare ──> finish.rs: commit, catalog, receipt
//! ```
//! All of it holds the lease; a lost connection lets it go and leaves staging to the next run.

mod ancestors;
mod busy;
mod content;
mod feed;
mod finish;
mod flusher;
mod hold;
mod incoming;
mod large;
mod manifest_file;
#[cfg(test)]
pub(in crate::engine) mod scripted;
mod vaulted;
mod watch;

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

pub(super) use self::feed::present_of;
pub(super) use self::hold::Terms;
pub(super) use self::watch::Watch;

use self::busy::Busy;
use self::content::ContentReceiver;
use self::feed::Planned;
use self::flusher::Flusher;
use self::incoming::Incoming;
use super::client::now;
use super::error::{EngineError, ErrorKind, show_conflict};
use super::hub::{Hub, OpenCopy, Who};
use super::observer::{Event, Phase};
use super::room::Room;
use super::run_id;
use super::run_log::RunLog;
use super::stopwatch::Stopwatch;
use super::wire::unexpected;
use crate::backup::digest::Digest;
use crate::backup::filter::Filter;
use crate::backup::fingerprint::Timestamp;
use crate::backup::lease::Holder;
use crate::backup::limits::{FILTER_BYTES_MAX, FILTER_COUNT_MAX, MISSING_ROUNDS_MAX};
use crate::backup::plan::{MissingContent, Prepare};
use crate::backup::relpath::RelPath;
use crate::backup::snapshot::{RunKind, SnapshotRecord};
use crate::net::link::{Link, LinkCounters};
use crate::net::message::{Begin, Committed, Granted, Message, Missing, Waiting};
use crate::store::catalog::CatalogReader;
use crate::store::leases::{LeaseGuard, LeaseRequest};
use crate::store::present::{Pass, PassPlace, pass};
use crate::store::snapshots::Snapshots;
use crate::store::staging::Staging;
use crate::store::vault::Vault;

/// The catalog's clock granularity: a change this shortly before a look may be followed by one that it does not show.
/// The store's file system is local; its timestamps tick at least this often.
pub(crate) const STORE_TICK_NANOS: u32 = 20_000_000;

/// A connection whose run goes on over another one is closed when nothing has come for so long.
const OLD_LINK_QUIET: Duration = Duration::from_millis(500);
/// And in any case after so many looks.
const OLD_LINK_LOOKS_MAX: u32 = 20;
/// What a stat pass could not look at that is told in the log.
const NOTES_LOGGED_MAX: usize = 100;

/// One run on the store's side.
pub(super) struct Run<'a> {
    pub(super) hub: &'a Hub,
    pub(super) who: &'a Who,
    pub(super) begin: &'a Begin,
    terms: &'a Terms,
    log: &'a RunLog,
    pub(super) root: RelPath,
    pub(super) filter: Filter,
    pub(super) copy: OpenCopy,
    pub(super) snapshots: Arc<Snapshots>,
    /// The root's newest snapshot.
    pub(super) newest: Option<Arc<SnapshotRecord>>,
    pub(super) base_known: bool,
    pub(super) staging: Staging,
    pub(super) reader: CatalogReader,
    pub(super) vault: Arc<Vault>,
    pub(super) lease: LeaseGuard,
    /// How much more may be staged.
    pub(super) room: Room<'a>,
    /// Large files that were put together of chunks that are damaged: all of theirs must arrive now.
    pub(super) distrusted: Mutex<HashSet<RelPath>>,
    busy: &'a Busy,
}

/// Serves a backup; its receipt has been sent when this returns, and is told. A dry run's too.
///
/// # Errors
/// Why it is refused or failed; the copy is as it was.
pub(super) fn serve(
    hub: &Hub,
    who: &Who,
    link: &mut Link,
    begin: &Begin,
    terms: &Terms,
) -> Result<Committed, EngineError> {
    let root = RelPath::new(begin.root.as_slice()).map_err(super::wire::WireError::from)?;
    let log = RunLog::begin(begin.run, RunKind::Backup, &root);
    let busy = Busy::new(link.sender.clone());
    let served = thread::scope(|scope| {
        let _ending = busy.ending();
        scope.spawn(|| busy.run(busy::EVERY));
        serve_run(hub, who, link, (begin, terms, &busy), root, &log)
    });
    if !begin.dry_run {
        log.end(hub, who, served.as_ref().map(|_| ()));
    }
    served
}

fn serve_run(
    hub: &Hub,
    who: &Who,
    link: &mut Link,
    (begin, terms, busy): (&Begin, &Terms, &Busy),
    root: RelPath,
    log: &RunLog,
) -> Result<Committed, EngineError> {
    let pattern_bytes: usize = begin.filters.iter().map(|f| f.0.len()).sum();
    if begin.filters.len() > FILTER_COUNT_MAX || pattern_bytes > FILTER_BYTES_MAX {
        return Err(EngineError::new(ErrorKind::Usage, "too many or too long exclude patterns"));
    }
    let filter = Filter::new(&begin.filters).map_err(|e| EngineError::new(ErrorKind::Usage, e.to_string()))?;
    let snapshots = hub.store.snapshots(who.copy())?;
    let lease = lease(hub, who, link, begin, &root)?;
    // Whatever of it takes long: an interrupted commit, another run's rows, a vault that is opened.
    busy.at_work(0);
    hub.make_ready(who.copy())?;
    if let Some(record) = snapshots.by_run(begin.run)? {
        let receipt = receipt_again(&record, RunKind::Backup, &root)?;
        busy.leave();
        link.send(receipt.clone())?;
        return Ok(receipt);
    }
    run_id::check(hub, who.copy(), &root, begin.run)?;
    let copy = OpenCopy::open(hub, who.copy())?;
    ancestors::check(&copy, &snapshots, &root)?;
    let staging = hub.open_staging(who.copy(), &root)?;
    staging.adopt()?;
    let room = Room::of(hub, who, &root, staging.bytes())?;
    let newest = snapshots.newest(&root)?.filter(|r| r.kind == RunKind::Backup);
    let base_known = begin.base.is_some() && newest.as_ref().map(|r| r.manifest) == begin.base;
    let vault = hub.vault(who.copy())?;
    let reader = hub.catalog.reader()?;
    let run = Run {
        hub,
        who,
        begin,
        terms,
        log,
        root,
        filter,
        copy,
        snapshots,
        newest,
        base_known,
        staging,
        reader,
        vault,
        lease,
        room,
        distrusted: Mutex::default(),
        busy,
    };
    let served = run.serve(link);
    // A dry run leaves what others have staged.
    if !begin.dry_run && matches!(&served, Err(error) if error.kind == ErrorKind::NoSpace) {
        run.make_room();
    }
    served
}

/// Gets the lease, telling the client while it waits.
///
/// # Errors
/// Who holds it; or the client does not wait any more.
pub(super) fn lease(
    hub: &Hub,
    who: &Who,
    link: &mut Link,
    begin: &Begin,
    root: &RelPath,
) -> Result<LeaseGuard, EngineError> {
    let wait = match begin.wait_secs {
        0 => None,
        u32::MAX => Some(Duration::MAX),
        secs => Some(Duration::from_secs(secs.into())),
    };
    let key = who.identity.key.unwrap_or_default();
    let request = LeaseRequest {
        copy: who.copy().clone(),
        root: root.clone(),
        recursive: begin.recursive,
        holder: Holder { key, run: begin.run, name: who.name(), since: now() },
        wait,
        on_revoke: {
            let (sender, counters) = (link.sender.clone(), link.counters());
            Arc::new(move || {
                let (sender, counters) = (sender.clone(), Arc::clone(&counters));
                thread::spawn(move || {
                    wait_until_quiet(&counters);
                    sender.close();
                });
            })
        },
    };
    let mut told = None;
    let granted = hub.leases.acquire(request, &mut |conflict| {
        let holder = show_conflict(conflict);
        if told.as_ref() == Some(&holder) {
            // Any message means that the client does not want to wait any more; so does a lost link.
            return matches!(link.receiver.recv_timeout(Duration::from_millis(1)), Ok(None));
        }
        told = Some(holder.clone());
        link.sender.send(Waiting { holder: holder.into_bytes().into() }).is_ok()
    });
    Ok(granted?)
}

/// What an old connection still has to deliver need not be sent again by the new one: a wire that was cut ends by itself
/// when all has been read, and one that only hangs is soon quiet.
fn wait_until_quiet(counters: &LinkCounters) {
    let mut received = counters.received();
    for _ in 0..OLD_LINK_LOOKS_MAX {
        thread::sleep(OLD_LINK_QUIET);
        let now = counters.received();
        if std::mem::replace(&mut received, now) == now {
            return;
        }
    }
}

/// The result of the stat pass, once it is there.
#[derive(Default)]
pub(super) struct PassResult {
    done: Mutex<Option<Result<Pass, EngineError>>>,
    ready: Condvar,
}

impl PassResult {
    fn set(&self, result: Result<Pass, EngineError>) {
        *self.done.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        self.ready.notify_all();
    }

    /// Waits for the pass and uses what it found.
    pub(super) fn with<T>(&self, use_it: impl FnOnce(&Pass) -> T) -> Result<T, EngineError> {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let done = self.ready.wait_while(done, |done| done.is_none()).unwrap_or_else(PoisonError::into_inner);
        match &*done {
            Some(Ok(pass)) => Ok(use_it(pass)),
            Some(Err(why)) => Err(why.clone()),
            None => Err(EngineError::new(ErrorKind::Failed, "the copy was not looked at")),
        }
    }
}

/// The stat pass of a run.
fn look(hub: &Hub, copy: &OpenCopy, root: &RelPath, recursive: bool) -> Result<Pass, EngineError> {
    let reader = hub.catalog.reader()?;
    let safe_before = tick_before_now();
    let place = PassPlace { copy_dir: &copy.dir, copy: copy.id, root, recursive, safe_before };
    let mut watch = Stopwatch::start();
    let found = pass(&hub.catalog, &reader, &place)?;
    for note in found.notes.iter().take(NOTES_LOGGED_MAX) {
        tracing::warn!("{note}");
    }
    watch.lap(&format!("stat pass ({} entries, {} repaired)", found.entries, found.repaired));
    Ok(found)
}

impl Run<'_> {
    fn serve(&self, link: &mut Link) -> Result<Committed, EngineError> {
        let found = PassResult::default();
        let (hub, copy, root, recursive) = (self.hub, &self.copy, &self.root, self.begin.recursive);
        thread::scope(|scope| {
            let result = &found;
            scope.spawn(move || result.set(look(hub, copy, root, recursive)));
            let (flusher, flush_thread) = Flusher::new(Arc::clone(&hub.own));
            scope.spawn(move || flush_thread.run(hub));
            self.exchange(link, &found, flusher)
        })
    }

    /// The disk is full: what arrived is worth less than a store that can be used. Unless a journal needs it.
    fn make_room(&self) {
        let committed = self.hub.check_open(&self.copy.name).is_err()
            || self.snapshots.by_run(self.begin.run).map_or(true, |record| record.is_some());
        if committed {
            return;
        }
        let hex = self.begin.run.to_hex();
        let places = [("staging", self.staging.id.as_bytes()), ("retired", hex.as_bytes())];
        let removed = places.into_iter().try_for_each(|(folder, name)| {
            let removed = self.hub.own_dir(folder)?.remove_tree(name);
            Ok::<(), EngineError>(removed.or_else(|e| if e.is_not_found() { Ok(()) } else { Err(e) })?)
        });
        self.snapshots.discard(self.begin.run);
        self.room.given_back();
        if let Err(error) = removed {
            tracing::warn!("what the run left in the full store could not be removed: {error}");
        }
    }

    /// Everything that the plan places is here, or is made of what the store has: does that fit? A dry run asks of what it
    /// misses, too.
    fn check_room(&self, planned: &Planned) -> Result<(), EngineError> {
        let (mut staged, mut copied) = (0_u64, 0_u64);
        for step in planned.plan.prepare.iter() {
            let step = step.map_err(|e| self.staging.spool_error(e))?;
            match &step.what {
                Prepare::Staged => staged = staged.saturating_add(self.staging.bytes_of(&step.path)?),
                Prepare::Copy { content, .. } => copied = copied.saturating_add(content.size),
                _ => {}
            }
        }
        let grows = planned.bytes > self.newest.as_ref().map_or(0, |record| record.bytes);
        if self.begin.dry_run {
            return self.room.foresee(staged, planned.plan.bytes_missing().saturating_add(copied), grows);
        }
        self.room.check(staged, copied, grows)
    }

    /// Whether nothing at all is here that a client could be spared.
    fn nothing_here(&self) -> Result<bool, EngineError> {
        let names = self.copy.dir.names()?;
        let (reader, id) = (&self.reader, self.copy.id);
        let no_history = reader.retired_totals(id)?.0 == 0 && reader.packs(id)?.is_empty();
        Ok(names.is_empty() && self.staging.is_empty() && reader.is_empty(id)? && no_history)
    }

    fn exchange(&self, link: &mut Link, found: &PassResult, flusher: Flusher) -> Result<Committed, EngineError> {
        let ask = !self.nothing_here()?;
        self.enters(Phase::Receiving);
        self.busy.leave();
        link.send(Granted { base_known: self.base_known, ask })?;
        let mut received = 0;
        // The message that took back a run that was prepared.
        let mut first = None;
        for _ in 0..MISSING_ROUNDS_MAX {
            let mut watch = Stopwatch::start();
            let incoming = self.content(link, first.take(), found, &flusher, &mut received)?;
            flusher.complete();
            self.log.heard(received, &incoming.errors);
            watch.lap("receiving");
            self.enters(Phase::Committing);
            self.busy.enter(1);
            let planned = self.plan(&incoming, found)?;
            watch.lap("plan");
            let missing = if self.begin.dry_run {
                return finish::dry_run(self, link, &incoming, &planned);
            } else if planned.plan.missing.is_empty() {
                self.check_room(&planned)?;
                match finish::commit(self, link, &incoming, planned, received)? {
                    finish::Finished::Committed(receipt) => return Ok(*receipt),
                    finish::Finished::Missing(missing) => missing,
                    finish::Finished::Again(message) => {
                        first = Some(*message);
                        continue;
                    }
                }
            } else {
                planned.plan.missing
            };
            self.busy.leave();
            self.enters(Phase::Receiving);
            ask_for(link, &missing)?;
        }
        Err(EngineError::new(ErrorKind::Failed, "the content that was asked for did not come"))
    }

    /// Tells who looks on.
    fn enters(&self, phase: Phase) {
        if let Some(observer) = &self.terms.observer {
            observer.event(&Event::Phase(phase));
        }
    }

    /// Takes content until the manifest is complete.
    fn content(
        &self,
        link: &mut Link,
        mut first: Option<Message>,
        found: &PassResult,
        flusher: &Flusher,
        received: &mut u64,
    ) -> Result<Incoming, EngineError> {
        let mut incoming: Option<Incoming> = None;
        let (complete, bytes) = ContentReceiver::with(self, found, flusher, |content| {
            loop {
                let message = match first.take() {
                    Some(message) => message,
                    None => link.receiver.recv()?,
                };
                self.busy.at_work(1);
                match message {
                    Message::Manifest(head) => incoming = Some(Incoming::begin(self, head)?),
                    Message::Changes(changes) => match &mut incoming {
                        Some(incoming) => incoming.changes(&self.room, changes)?,
                        None => return Err(unexpected(&Message::Changes(changes), "receiving content").into()),
                    },
                    Message::ManifestEnd(end) => match incoming.take() {
                        Some(incoming) => return incoming.end(end),
                        None => return Err(unexpected(&Message::ManifestEnd(end), "receiving content").into()),
                    },
                    other => content.message(&link.sender, other)?,
                }
                self.busy.leave();
            }
        })?;
        *received += bytes;
        Ok(complete)
    }
}

/// This moment less the store's tick.
pub(super) fn tick_before_now() -> Timestamp {
    now().minus(0, STORE_TICK_NANOS)
}

fn ask_for(link: &Link, missing: &[MissingContent]) -> Result<(), EngineError> {
    let mut seen: HashSet<(&RelPath, &Digest)> = HashSet::new();
    let paths: Vec<_> = missing.iter().filter(|m| seen.insert((&m.path, &m.digest))).map(|m| &m.path).collect();
    let batches = paths.chunks(128);
    let last = batches.len();
    for (i, batch) in batches.enumerate() {
        let paths = batch.iter().map(|p| p.as_bytes().into()).collect();
        link.send(Missing { paths, last: i + 1 == last })?;
    }
    Ok(())
}

/// The receipt of a run that asks again after it was committed; its id cannot be used for anything else.
pub(super) fn receipt_again(record: &SnapshotRecord, kind: RunKind, root: &RelPath) -> Result<Committed, EngineError> {
    if record.kind == kind && record.root == *root {
        return Ok(receipt_of(record));
    }
    let message = format!("run {} is committed already, and was for '/{}'", record.run, record.root);
    Err(EngineError::new(ErrorKind::Failed, message))
}

/// The receipt of a snapshot that is committed.
pub(super) fn receipt_of(record: &SnapshotRecord) -> Committed {
    Committed {
        run: record.run,
        snapshot: record.number,
        manifest: record.manifest,
        counts: record.counts,
        files: record.files,
        bytes: record.bytes,
        bytes_missing: 0,
        incomplete: !record.complete,
        notes: Vec::new(),
        copies: Vec::new(),
        enough: true,
    }
}

#[cfg(test)]
mod tests;
