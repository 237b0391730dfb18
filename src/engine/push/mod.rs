//! Backs up one root: the client's side of DESIGN's journey.
//!
//! ```text
//!  scan.rs ── items (bounded, canonical order) ──> send.rs ──> link ──> daemon
//!  walk+cache │ jobs                                 ▲  ▲                  │
//!             └──> hash.rs × cores ── content ───────┘  └── replies ───────┘
//! ```
//! Threads: one scan, one hashing thread a core, one that listens to the daemon, and the caller's, which sends. All
//! queues are bounded; content in flight by `budget::Budget`. The link's end stops everything: each thread ends when
//! its neighbour's queue closes.

mod budget;
mod cache;
mod changes;
mod estimate;
mod files;
mod found;
mod hash;
#[cfg(test)]
mod hostile;
mod manifest;
mod owners;
mod pulse;
mod resend;
mod scan;
mod send;
mod stand_in;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub(super) use self::manifest::ChangesSender;
pub(super) use self::send::offer_items;

use self::budget::Budget;
use self::cache::{CacheEnd, CacheKeeper, CachePaths};
use self::found::Found;
use self::manifest::{Answer, ManifestSender};
use self::pulse::Pulse;
use self::send::{ContentSender, Replies, Sink};
use self::stand_in::StandIn;
use super::client::{self, ClientOptions, Session};
use super::error::{EngineError, ErrorKind};
use super::observer::{Below, Event, Observer, Phase, Summary};
use super::patience::Patience;
use super::source::Source;
use super::stopwatch::Stopwatch;
use super::wire::{sentence, summary_of, unexpected};
use crate::backup::bytes::Bytes;
use crate::backup::digest::{Digest, RunId};
use crate::backup::entry::OwnerNames;
use crate::backup::hash_cache::CacheHeader;
use crate::backup::limits::{CHUNK_BYTES_MAX, MISSING_ROUNDS_MAX, WINDOW_BYTES};
use crate::net::link::{Link, LinkError, LinkReceiver};
use crate::net::message::{Begin, Committed, Gathering, Granted, Message, Welcome};

/// Jobs that may wait for the hashing pool.
const JOBS_QUEUED_MAX: usize = 16;

/// An attempt that sent more content than this has got on, even if it was cut: the largest frame is one chunk.
const PROGRESS_BYTES: u64 = CHUNK_BYTES_MAX as u64;
/// How long a daemon that closed the link is listened to for its reason.
const LAST_WORD_PATIENCE: Duration = Duration::from_secs(2);

/// What to back up, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushOptions {
    /// Absolute, lexically normalised.
    pub root: PathBuf,
    /// `-r`.
    pub recursive: bool,
    /// `-d`.
    pub delete: bool,
    /// `--delete-excluded`.
    pub delete_excluded: bool,
    /// `--force-delete`.
    pub force_delete: bool,
    /// `--rehash`: read every file.
    pub rehash: bool,
    /// `-n`.
    pub dry_run: bool,
    /// gitignore patterns in order, the last match wins.
    pub filters: Vec<Bytes>,
    /// Leave out what a CACHEDIR.TAG marks.
    pub exclude_caches: bool,
    /// Do not cross mount points.
    pub one_file_system: bool,
    /// Queue behind a lock; `Duration::MAX` = for ever.
    pub wait: Option<Duration>,
    /// `--copies`: destinations that must hold it; 0 = not asked.
    pub copies: u32,
    /// `--wait-copies`: how long to wait for so many; none = for ever.
    pub wait_copies: Option<Duration>,
}

/// Backs up one root; a lost connection is tried again with back-off for [`ClientOptions::retry_for`].
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub fn push(client: &ClientOptions, options: &PushOptions, observer: &dyn Observer) -> Result<Summary, EngineError> {
    let started = Instant::now();
    let source = Source::open(&options.root)?;
    let observer = &Below::new(source.absolute(), observer);
    let run = client::random_run_id()?;
    let stand_in = if options.dry_run { StandIn::of(client)? } else { None };
    let client = stand_in.as_ref().map_or(client, |stand_in| &stand_in.client);
    let (mut patience, mut spent) = (Patience::new(client, observer), Spent::default());
    loop {
        let mut now = Spent::default();
        let attempt = Attempt { client, options, observer, source: &source, run };
        let outcome = attempt.run(&mut now);
        spent.add(&now);
        match outcome {
            Ok(summary) => {
                let mut summary = Summary { elapsed_secs: started.elapsed().as_secs_f64(), ..spent.of(summary) };
                summary.notes.extend(stand_in.iter().map(|stand_in| stand_in.note.clone()));
                return Ok(summary);
            }
            Err(error) => patience.after(error, now.reached, now.content > PROGRESS_BYTES)?,
        }
    }
}

/// What an attempt came to and what it cost, or all of them together.
#[derive(Default)]
struct Spent {
    /// The server answered.
    reached: bool,
    /// Content bytes that were read.
    read: u64,
    /// Content bytes that were sent.
    content: u64,
    wire_sent: u64,
    wire_received: u64,
}

impl Spent {
    fn add(&mut self, one: &Self) {
        self.read += one.read;
        self.content += one.content;
        self.wire_sent += one.wire_sent;
        self.wire_received += one.wire_received;
    }

    fn of(&self, summary: Summary) -> Summary {
        Summary {
            bytes_read: self.read,
            content_bytes_sent: self.content,
            wire_bytes_sent: self.wire_sent,
            wire_bytes_received: self.wire_received,
            ..summary
        }
    }
}

struct Attempt<'a> {
    client: &'a ClientOptions,
    options: &'a PushOptions,
    observer: &'a dyn Observer,
    source: &'a Source,
    run: RunId,
}

impl Attempt<'_> {
    fn run(&self, spent: &mut Spent) -> Result<Summary, EngineError> {
        self.observer.event(&Event::Phase(Phase::Waiting));
        let Session { link, welcome, guest, .. } = client::open(self.client)?;
        spent.reached = true;
        // The link has ended when this returns, well or not; a store in this process then closes.
        let outcome = self.over(link, &welcome, spent);
        if let Some(guest) = guest {
            guest.finish();
        }
        outcome
    }

    /// All of it, over a link past the handshake, which is closed at the end.
    fn over(&self, link: Link, welcome: &Welcome, spent: &mut Spent) -> Result<Summary, EngineError> {
        let counters = link.counters();
        let user = self.client.user.as_bytes();
        let paths = CachePaths::new(&self.client.cache_dir, welcome.store, user, self.source.name.as_bytes())?;
        let Link { sender, mut receiver, .. } = link;
        let base = paths.open().map(|(header, _)| header.manifest);
        sender.send(self.begin(base))?;
        let granted = match self.granted(&mut receiver)? {
            Ok(granted) => granted,
            Err(receipt) => {
                paths.publish();
                return Ok(summary(self.source, &receipt, &Found::default(), None));
            }
        };
        let base = base.filter(|_| granted.base_known);
        let (reply_sender, replies) = crossbeam_channel::bounded(64);
        let pulse = Pulse::new(self.observer, &sender);
        let attempt = &Attempt { observer: &pulse, ..*self };
        let outcome = thread::scope(|scope| {
            let observer = self.observer;
            scope.spawn(move || listen(receiver, &reply_sender, observer));
            let mut work = Work { attempt, link: &sender, replies: &replies, paths: &paths, granted, base };
            let mut content = ContentSender::new(work.link, work.replies, attempt.observer);
            let outcome = work.run(&mut content, welcome.store_place).map_err(|error| last_word(error, &replies));
            (spent.read, spent.content) = (content.found.bytes_read, content.found.content_bytes_sent);
            // Whoever listens for us ends with the link.
            sender.close();
            drop(replies);
            outcome
        });
        drop(sender);
        (spent.wire_sent, spent.wire_received) = (counters.sent(), counters.received());
        if outcome.is_err() {
            paths.discard();
            // What was still queued has not been sent.
            spent.content = spent.content.min(spent.wire_sent);
        }
        outcome
    }

    fn begin(&self, base: Option<Digest>) -> Begin {
        let secs = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        Begin {
            run: self.run,
            root: self.source.name.as_bytes().into(),
            // A root that is a file has nothing below it.
            recursive: self.options.recursive && self.source.file_name.is_none(),
            delete: self.options.delete,
            delete_excluded: self.options.delete_excluded,
            force_delete: self.options.force_delete,
            dry_run: self.options.dry_run,
            filters: self.options.filters.clone(),
            wait_secs: self.options.wait.map_or(0, secs),
            file_system: self.source.file_system,
            base,
            // A dry run changes nothing anywhere.
            copies: if self.options.dry_run { 0 } else { self.options.copies },
            wait_copies_secs: self.options.wait_copies.map_or(u32::MAX, secs),
            retry_secs: secs(self.client.retry_for),
        }
    }

    /// Waits for the lease; a run that is committed already gets its receipt.
    fn granted(&self, receiver: &mut LinkReceiver) -> Result<Result<Granted, Box<Committed>>, EngineError> {
        loop {
            match receiver.recv()? {
                Message::Granted(granted) => return Ok(Ok(granted)),
                Message::Committed(receipt) => return Ok(Err(Box::new(receipt))),
                Message::Waiting(waiting) => self.observer.event(&Event::Queued(&sentence(&waiting.holder))),
                Message::Gathering(told) => gathering(self.observer, &told),
                Message::Busy(_) => {}
                Message::Refused(refused) => return Err(refused.into()),
                other => return Err(unexpected(&other, "asking for a lease").into()),
            }
        }
    }
}

/// A daemon that refuses says why and closes; whoever is still sending notices the closing first.
fn last_word(error: EngineError, replies: &Replies) -> EngineError {
    if error.kind != ErrorKind::Unreachable {
        return error;
    }
    while let Ok(Ok(message)) = replies.recv_timeout(LAST_WORD_PATIENCE) {
        if let Message::Refused(refused) = message {
            return refused.into();
        }
    }
    error
}

fn gathering(observer: &dyn Observer, told: &Gathering) {
    observer.event(&Event::Gathering { connected: told.connected, wanted: told.wanted });
}

/// Passes the daemon's messages on until the link or the run ends.
fn listen(
    mut receiver: LinkReceiver,
    replies: &crossbeam_channel::Sender<Result<Message, LinkError>>,
    observer: &dyn Observer,
) {
    loop {
        let message = receiver.recv();
        // Destinations come and go at any time.
        if let Ok(Message::Gathering(told)) = &message {
            gathering(observer, told);
            continue;
        }
        let end = message.is_err();
        if replies.send(message).is_err() || end {
            return;
        }
    }
}

/// One attempt, once the lease is there.
struct Work<'a> {
    attempt: &'a Attempt<'a>,
    link: &'a crate::net::link::LinkSender,
    replies: &'a Replies,
    paths: &'a CachePaths,
    granted: Granted,
    base: Option<Digest>,
}

impl Work<'_> {
    fn run(&mut self, sender: &mut ContentSender<'_>, store_place: (u64, u64)) -> Result<Summary, EngineError> {
        let (options, observer, source) = (self.attempt.options, self.attempt.observer, self.attempt.source);
        observer.event(&Event::Phase(Phase::Scanning));
        let started = client::now();
        let safe_before = started.minus(2, 0);
        let header = CacheHeader {
            manifest: Digest([0; 32]),
            root: source.name.clone(),
            recursive: options.recursive,
            complete: false,
            scan_started: started,
            owners: OwnerNames::default(),
            file_system: source.file_system,
        };
        let keeper = CacheKeeper::new(self.paths.clone(), header.clone(), self.base.is_some());
        let old_manifest = keeper.old_manifest();
        (sender.ask, sender.dry_run) = (self.granted.ask, options.dry_run);
        sender.sink = Sink::Cache(Box::new(keeper));
        let walk = source.walk_options(options, store_place)?;
        let mut watch = Stopwatch::start();
        self.scan(walk, sender, safe_before, old_manifest)?;
        watch.lap("scan and content");
        let owners = sender.owners.names();
        let Sink::Cache(keeper) = std::mem::replace(&mut sender.sink, Sink::List(Vec::new())) else {
            return Err(EngineError::new(ErrorKind::Failed, "the hash cache was lost"));
        };
        let mut end = keeper.finish(&owners)?;
        watch.lap("new cache");
        let mut unknown = None;
        for _ in 0..MISSING_ROUNDS_MAX {
            observer.event(&Event::Phase(Phase::Committing));
            sender.found.unseen.sort();
            sender.found.unseen.dedup();
            let manifest = ManifestSender {
                link: self.link,
                replies: self.replies,
                observer,
                paths: self.paths,
                base: self.base,
                owners: &owners,
                found: &sender.found,
            };
            match manifest.send(&end)? {
                Answer::Committed(receipt) => {
                    if options.dry_run {
                        self.paths.discard();
                    } else if !end.unchanged {
                        self.paths.publish();
                    }
                    return Ok(summary(source, &receipt, &sender.found, Some(&end)));
                }
                Answer::Missing(missing) => unknown = self.resend(sender, &missing, &mut end, &header, &owners)?,
            }
        }
        let message = match unknown {
            Some(path) => format!("the server asks for '{path}' again and again, which is no file of this backup"),
            None => "files changed faster than they could be sent; run it again".to_owned(),
        };
        Err(EngineError::new(ErrorKind::Failed, message))
    }

    fn scan(
        &self,
        walk: crate::tree::walk::WalkOptions,
        sender: &mut ContentSender<'_>,
        safe_before: crate::backup::fingerprint::Timestamp,
        old_manifest: Option<Digest>,
    ) -> Result<(), EngineError> {
        let (jobs, job_queue) = crossbeam_channel::bounded(JOBS_QUEUED_MAX);
        let (items, item_queue) = scan::queue();
        // What is not asked about leaves as soon as it is read.
        let budget = Budget::new(if self.granted.ask { WINDOW_BYTES } else { WINDOW_BYTES / 2 });
        let cache = self.paths.clone();
        let window = budget.clone();
        let ahead = self.attempt.observer.wants_total().then(|| walk.clone());
        let (observer, paths, over) = (self.attempt.observer, self.paths, AtomicBool::new(false));
        let scan = scan::Scan {
            walk,
            cache,
            old_manifest,
            jobs,
            items,
            budget,
            safe_before,
            force_delete: self.attempt.options.force_delete,
            rehash: self.attempt.options.rehash,
        };
        let threads = thread::available_parallelism().map_or(2, std::num::NonZero::get);
        thread::scope(|scope| {
            let walker = scope.spawn(move || scan.run());
            if let Some(walk) = &ahead {
                let over = &over;
                scope.spawn(move || {
                    if let Some(bytes) = estimate::estimate(walk, paths, over) {
                        observer.event(&Event::Estimated { bytes });
                    }
                });
            }
            for _ in 0..threads {
                let jobs = job_queue.clone();
                scope.spawn(move || hash::work(&jobs, safe_before));
            }
            let sent = sender.run(&item_queue);
            over.store(true, Ordering::Relaxed);
            // Nobody waits for room or for a place in a queue that nobody empties.
            window.close();
            drop((item_queue, job_queue));
            let walked = walker.join().unwrap_or_else(|_| Err("the scan stopped".to_owned()));
            sent?;
            walked.map_err(|why| EngineError::new(ErrorKind::Failed, why))
        })
    }

    /// Some: a path that was asked for and cannot be given.
    fn resend(
        &self,
        sender: &mut ContentSender<'_>,
        missing: &[crate::backup::relpath::RelPath],
        end: &mut CacheEnd,
        header: &CacheHeader,
        owners: &OwnerNames,
    ) -> Result<Option<crate::backup::relpath::RelPath>, EngineError> {
        let source = self.attempt.source;
        let records = if end.unchanged { self.paths.open().map(|(_, r)| r) } else { Some(self.paths.open_next()?) };
        let records = records.ok_or_else(|| EngineError::new(ErrorKind::Failed, "the hash cache vanished"))?;
        sender.ask = true;
        let root = (&source.dir, source.file_name.as_deref());
        let mut resent = resend::resend(sender, root, records, missing, client::now().minus(2, 0))?;
        if !resent.overrides.is_empty() {
            resend::rewrite(self.paths, end, header, owners, &mut resent.overrides)?;
        }
        Ok(resent.unknown)
    }
}

fn summary(source: &Source, receipt: &Committed, found: &Found, end: Option<&CacheEnd>) -> Summary {
    Summary {
        files: end.map_or(receipt.files, |e| e.files),
        bytes: end.map_or(receipt.bytes, |e| e.bytes),
        bytes_read: found.bytes_read,
        content_bytes_sent: found.content_bytes_sent,
        errors: found.failed,
        altered: found.altered,
        ..summary_of(source.absolute(), receipt)
    }
}
