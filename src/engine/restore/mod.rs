//! Writes a path of a snapshot back to disk: the client's side of `Read`.
//!
//! ```text
//! link ──> caller: receive.rs ── Tree ──> compare.rs ──> Want (link)       once all is written:
//!                     │                      │ batches                     finish.rs: hard links,
//!                     └── Content ── table ──┴──> write.rs × writers       folders deepest first, flush
//! ```
//! The comparer decides what differs from what is there, makes folders and everything that has no content; writers
//! place content, each file under a temporary name that is renamed once its hash is right. Every queue is bounded. The
//! caller never waits for the link's other direction: trees that may come at once (`TREES_UNANSWERED_MAX`) fit the
//! queue to the comparer, and writers depend on the disk alone.
//!
//! Always holds: nothing is written through a symbolic link below the target, whatever a server says; a file shows its
//! old content or its verified new one; only what was named with `delete` is removed.
//!
//! Owners are restored by number, as rsync does with `--numeric-ids`: names of the snapshot are not looked up here.

mod compare;
mod enter;
mod extras;
mod finish;
mod flush;
mod folders;
mod receive;
mod settle;
mod table;
mod tally;
mod target;
#[cfg(test)]
mod tests;
mod write;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::thread;
use std::time::Instant;

use crossbeam_channel::bounded;

use self::compare::{Compared, Comparer};
use self::table::Table;
use self::tally::Tally;
use self::target::{Ground, Target, TempNames};
use super::client::{self, ClientOptions, Session};
use super::error::{EngineError, ErrorKind};
use super::inspect;
use super::observer::{Event, Observer, Phase};
use super::patience::Patience;
use super::wire::WireError;
use super::wire::{owners_from_wire, unexpected};
use crate::backup::bytes::escape;
use crate::backup::relpath::RelPath;
use crate::backup::when::When;
use crate::net::link::{Link, LinkReceiver, LinkSender};
use crate::net::message::{Message, Read, ReadGranted};

/// Most batches of entries that a server sends without having got their `Want`.
pub(crate) const TREES_UNANSWERED_MAX: usize = 16;
/// Messages of content that may wait for a writer.
const WORK_QUEUED_MAX: usize = 8;

/// What happens to a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// Replaced when its content or metadata differ.
    Changed,
    /// Always written anew.
    Always,
    /// Replaced when the snapshot's is newer.
    Newer,
    /// Left alone.
    Never,
}

/// What to restore, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreOptions {
    /// Absolute, lexically normalised.
    pub path: PathBuf,
    /// Which snapshot.
    pub when: When,
    /// Absolute DIR: the path lands at `DIR/<last component of path>`. None: the original place.
    pub to: Option<PathBuf>,
    /// What happens to a file that is there already.
    pub overwrite: Overwrite,
    /// Remove what the snapshot does not have.
    pub delete: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// The end of a restore.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct RestoreSummary {
    /// Absolute path that was asked for.
    pub path: Vec<u8>,
    /// Absolute path where it is now.
    pub to: Vec<u8>,
    /// Snapshot's number.
    pub snapshot: u64,
    /// When it was received, seconds since 1970.
    pub time_secs: i64,
    /// Whether the snapshot is complete.
    pub complete: bool,
    /// New paths.
    pub created: u64,
    /// Files with other content, and type changes.
    pub updated: u64,
    /// Paths removed.
    pub deleted: u64,
    /// Paths with new metadata only.
    pub touched: u64,
    /// Everything else.
    pub unchanged: u64,
    /// Files in what was restored.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Content bytes received.
    pub content_bytes_received: u64,
    /// Bytes on the wire.
    pub wire_bytes_sent: u64,
    /// Bytes received on the wire.
    pub wire_bytes_received: u64,
    /// Paths that failed.
    pub errors: u64,
    /// What could not be applied, in words; exit 3 when not empty.
    pub notes: Vec<String>,
    /// Wall time.
    pub elapsed_secs: f64,
}

/// What all threads of one restore share.
struct Shared<'a> {
    options: &'a RestoreOptions,
    observer: &'a dyn Observer,
    target: &'a Target,
    granted: &'a ReadGranted,
    /// (device, inode) of the store, if it is on this machine: never removed.
    store_place: (u64, u64),
    /// Where it goes; known since the first entry.
    ground: OnceLock<Ground>,
    temp: TempNames,
    tally: Tally,
    table: Table,
}

impl Shared<'_> {
    /// The absolute path of an entry, for people.
    fn shown(&self, path: &RelPath) -> Vec<u8> {
        self.target.shown(path)
    }

    /// One path failed; the rest goes on.
    fn failed(&self, path: &RelPath, why: &str) {
        self.tally.failed();
        self.observer.event(&Event::Failed { path: &self.shown(path), why });
    }

    /// What could not be applied to a path.
    fn notes(&self, path: &RelPath, notes: Vec<String>) {
        for note in notes {
            self.tally.note(format!("'{}': {note}", escape(&self.shown(path))));
        }
    }

    fn plan_line(&self, action: &'static str, path: &RelPath) {
        if self.options.dry_run {
            self.observer.event(&Event::PlanLine { action, path: &self.shown(path), other: b"" });
        }
    }
}

/// Restores one path; a lost connection is tried again with back-off for [`ClientOptions::retry_for`], and what was
/// restored before is not fetched again.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub fn restore(
    client: &ClientOptions,
    options: &RestoreOptions,
    observer: &dyn Observer,
) -> Result<RestoreSummary, EngineError> {
    let started = Instant::now();
    let path = inspect::absolute(&options.path)?;
    let target = Target::of(options)?;
    let attempt = Attempt { client, options, observer, path: &path, target: &target };
    let (mut patience, mut spent) = (Patience::new(client, observer), Spent::default());
    loop {
        let mut now = Spent::default();
        let outcome = attempt.run(&mut now);
        spent.add(&now);
        match outcome {
            Ok(summary) => {
                return Ok(RestoreSummary { elapsed_secs: started.elapsed().as_secs_f64(), ..spent.of(summary) });
            }
            Err(error) => patience.after(error, now.reached, now.written > 0)?,
        }
    }
}

/// What an attempt came to and what it cost, or all of them together.
#[derive(Default)]
struct Spent {
    /// The snapshot was granted.
    reached: bool,
    /// Paths that were made or got other content.
    written: u64,
    /// Content bytes that came.
    content: u64,
    wire_sent: u64,
    wire_received: u64,
}

impl Spent {
    fn add(&mut self, one: &Self) {
        self.content += one.content;
        self.wire_sent += one.wire_sent;
        self.wire_received += one.wire_received;
    }

    fn of(&self, summary: RestoreSummary) -> RestoreSummary {
        RestoreSummary {
            content_bytes_received: self.content,
            wire_bytes_sent: self.wire_sent,
            wire_bytes_received: self.wire_received,
            ..summary
        }
    }
}

struct Attempt<'a> {
    client: &'a ClientOptions,
    options: &'a RestoreOptions,
    observer: &'a dyn Observer,
    path: &'a RelPath,
    target: &'a Target,
}

impl Attempt<'_> {
    fn run(&self, spent: &mut Spent) -> Result<RestoreSummary, EngineError> {
        self.observer.event(&Event::Phase(Phase::Waiting));
        let Session { link, welcome, guest, .. } = client::open_to_read(self.client)?;
        // The link has ended when this returns, well or not; a store in this process then closes.
        let counters = link.counters();
        let outcome = self.over(link, welcome.store_place, spent);
        (spent.wire_sent, spent.wire_received) = (counters.sent(), counters.received());
        if let Some(guest) = guest {
            guest.finish();
        }
        outcome
    }

    /// All of it, over a link past the handshake, which is closed at the end.
    fn over(&self, mut link: Link, store_place: (u64, u64), spent: &mut Spent) -> Result<RestoreSummary, EngineError> {
        let dry_run = self.options.dry_run;
        let all = !dry_run && self.target.is_empty();
        let at = self.options.when.into();
        let read = Read { path: self.path.as_bytes().into(), shallow: false, content: !dry_run, all, at };
        inspect::ask(&mut link, read)?;
        let granted = match link.recv()? {
            Message::ReadGranted(granted) => granted,
            Message::Refused(refused) => return Err(refused.into()),
            other => return Err(unexpected(&other, "asking for a snapshot").into()),
        };
        spent.reached = true;
        owners_from_wire(granted.users.clone(), granted.groups.clone())?;
        self.observer.event(&Event::Phase(Phase::Restoring));
        self.observer.event(&Event::Planned { bytes: granted.bytes });
        let shared = Shared {
            options: self.options,
            observer: self.observer,
            target: self.target,
            granted: &granted,
            store_place,
            ground: OnceLock::new(),
            temp: TempNames::new()?,
            tally: Tally::default(),
            table: Table::new(all),
        };
        let Link { sender, mut receiver, .. } = link;
        let compared = exchange(&shared, &sender, &mut receiver);
        let came_to = shared.tally.summary();
        // Folders are touched by each attempt anew: that gets nobody on.
        spent.written = came_to.created + came_to.updated;
        spent.content = came_to.content_bytes_received;
        let compared = compared?;
        sender.close();
        drop((sender, receiver));
        finish::finish(&shared, compared)?;
        Ok(RestoreSummary {
            path: [b"/", self.path.as_bytes()].concat(),
            to: self.target.shown(&RelPath::root()),
            snapshot: granted.snapshot,
            time_secs: granted.time_secs,
            complete: granted.complete,
            ..shared.tally.summary()
        })
    }
}

/// Runs the threads until everything has come and is written.
fn exchange(shared: &Shared<'_>, sender: &LinkSender, receiver: &mut LinkReceiver) -> Result<Compared, EngineError> {
    let (trees, tree_queue) = bounded(TREES_UNANSWERED_MAX);
    let (work, work_queue) = bounded(WORK_QUEUED_MAX);
    let writers = if shared.options.dry_run { 0 } else { write::count() };
    let (received, compared) = thread::scope(|scope| {
        let comparer = scope.spawn(move || {
            let compared = Comparer::new(shared, sender).run(&tree_queue);
            if compared.is_err() {
                // The server need not wait for our answer; its end wakes the receiver.
                sender.close();
            }
            shared.table.compared();
            compared
        });
        for _ in 0..writers {
            let queue = work_queue.clone();
            scope.spawn(move || write::work(shared, &queue));
        }
        drop(work_queue);
        let (done, until_done) = bounded::<()>(0);
        if writers > 0 {
            scope.spawn(move || flush::run(shared, &until_done));
        }
        let received = receive::receive(shared, receiver, trees, work);
        drop(done);
        if received.is_err() {
            sender.close();
            shared.table.stop(None);
        }
        let stopped = || Err(EngineError::new(ErrorKind::Failed, "comparing stopped"));
        (received, comparer.join().unwrap_or_else(|_| stopped()))
    });
    if let Some(error) = shared.table.failure() {
        return Err(error);
    }
    match (received, compared) {
        (Ok(()), Ok(Compared { nothing_came: true, .. })) => {
            Err(WireError::Bounds("the snapshot has no entries at this path").into())
        }
        (Ok(()), compared) => compared,
        // What went wrong here is the cause of a link that ends early.
        (Err(_), Err(error)) if error.kind != ErrorKind::Unreachable => Err(error),
        (Err(error), _) => Err(error),
    }
}
