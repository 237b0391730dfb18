//! The readers of one restore: content is read by many at once and leaves in the order in which it was asked for.
//!
//! A ticket is a group of small files, or one large file. Its answer goes into a queue of its own, whose receiving end
//! was put in line when the ticket was made. Memory: [`IN_LINE_MAX`] groups of [`GROUP_BYTES`], or per reader the two
//! pieces of a large file; about 16 MiB together.

use std::thread::{Scope, ScopedJoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::places::{Finder, Store};
use crate::backup::digest::Digest;
use crate::backup::limits::BATCH_BYTES_TARGET;
use crate::backup::relpath::RelPath;
use crate::engine::error::{EngineError, ErrorKind};
use crate::net::link::LinkSender;
use crate::net::message::{Content, Piece, Refused};

/// Reads in flight: what a cold disk needs to be busy.
const READERS: usize = 16;
/// Answers that are being made or wait for their turn.
const IN_LINE_MAX: usize = 32;
/// Small files are gathered to this size, and a larger file is delivered in pieces of it.
const GROUP_BYTES: u64 = BATCH_BYTES_TARGET as u64 / 4;
/// Most files in a group: the first ones should not wait for too many others.
const GROUP_FILES_MAX: usize = 128;

/// A file whose content is wanted.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Wanted {
    pub(in crate::engine) batch: u32,
    pub(in crate::engine) index: u32,
    /// In copy coordinates.
    pub(in crate::engine) path: RelPath,
    pub(in crate::engine) digest: Digest,
    pub(in crate::engine) size: u64,
}

impl Wanted {
    fn piece(&self, offset: u64, len: usize, end: u8) -> Piece {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        Piece { batch: self.batch, index: self.index, offset, len, end }
    }
}

enum Job {
    Small(Vec<Wanted>),
    Large(Wanted),
}

type Answer = (Content, Vec<u8>);

struct Ticket {
    job: Job,
    answer: Sender<Answer>,
}

/// Where tickets go.
pub(super) struct Jobs {
    tickets: Sender<Ticket>,
    line: Sender<Receiver<Answer>>,
}

/// The error of a neighbour that stopped: what stopped it is told by somebody else.
pub(super) fn stopped() -> EngineError {
    EngineError::new(ErrorKind::Unreachable, "the restore was stopped")
}

/// Starts readers and forwarder. They end when the [`Jobs`] are dropped, or the link's end is reached.
pub(super) fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    store: Store<'scope>,
    sender: &LinkSender,
) -> (Jobs, ScopedJoinHandle<'scope, Result<(), EngineError>>) {
    let (tickets, queue) = bounded::<Ticket>(IN_LINE_MAX);
    let (line, in_line) = bounded(IN_LINE_MAX);
    let store = std::sync::Arc::new(store);
    for _ in 0..READERS {
        let (queue, store) = (queue.clone(), store.clone());
        scope.spawn(move || {
            let mut finder = Finder::new(&store);
            for ticket in queue {
                read(&mut finder, &ticket);
            }
        });
    }
    let sender = sender.clone();
    let forwarder = scope.spawn(move || forward(&sender, &in_line, &store));
    (Jobs { tickets, line }, forwarder)
}

fn forward(sender: &LinkSender, in_line: &Receiver<Receiver<Answer>>, store: &Store<'_>) -> Result<(), EngineError> {
    for answers in in_line {
        for (content, payload) in answers {
            if let Some(gone) = store.gone() {
                // At once: a client that waits for content may ask for nothing more.
                sender.send(Refused::from(&gone))?;
                return Err(gone);
            }
            sender.send(crate::net::message::Message::Content(content, payload))?;
        }
    }
    Ok(())
}

/// Makes tickets.
pub(super) struct Dispatcher {
    jobs: Jobs,
    group: Vec<Wanted>,
    bytes: u64,
}

impl Dispatcher {
    pub(super) fn new(jobs: Jobs) -> Self {
        Self { jobs, group: Vec::new(), bytes: 0 }
    }

    /// Content is wanted; it may wait for others to share a message with.
    pub(super) fn push(&mut self, wanted: Wanted) -> Result<(), EngineError> {
        if wanted.size > GROUP_BYTES {
            self.flush()?;
            return self.ticket(Job::Large(wanted));
        }
        if self.bytes + wanted.size > GROUP_BYTES || self.group.len() >= GROUP_FILES_MAX {
            self.flush()?;
        }
        self.bytes += wanted.size;
        self.group.push(wanted);
        Ok(())
    }

    /// Nothing waits any longer.
    pub(super) fn flush(&mut self) -> Result<(), EngineError> {
        self.bytes = 0;
        let group = std::mem::take(&mut self.group);
        if group.is_empty() { Ok(()) } else { self.ticket(Job::Small(group)) }
    }

    fn ticket(&self, job: Job) -> Result<(), EngineError> {
        let (answer, answers) = bounded(1);
        // In line first: the forwarder then never waits for an answer that cannot come.
        self.jobs.line.send(answers).map_err(|_| stopped())?;
        self.jobs.tickets.send(Ticket { job, answer }).map_err(|_| stopped())
    }
}

fn read(finder: &mut Finder<'_>, ticket: &Ticket) {
    match &ticket.job {
        Job::Small(files) => {
            // Whoever does not want the answer any more has gone.
            let _ = ticket.answer.send(read_small(finder, files));
        }
        Job::Large(file) => read_large(finder, file, &ticket.answer),
    }
}

fn read_small(finder: &mut Finder<'_>, files: &[Wanted]) -> Answer {
    let bytes: u64 = files.iter().map(|f| f.size).sum();
    let mut payload = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
    let mut pieces = Vec::with_capacity(files.len());
    for file in files {
        let from = payload.len();
        let end = match finder.whole(file, &mut payload) {
            Ok(()) => 1,
            Err(why) => {
                payload.truncate(from);
                payload.extend_from_slice(why.as_bytes());
                2
            }
        };
        pieces.push(file.piece(0, payload.len() - from, end));
    }
    (Content { pieces }, payload)
}

fn read_large(finder: &mut Finder<'_>, file: &Wanted, answer: &Sender<Answer>) {
    let mut send = |offset: u64, bytes: Vec<u8>, last: bool| {
        let pieces = vec![file.piece(offset, bytes.len(), u8::from(last))];
        answer.send((Content { pieces }, bytes)).is_ok()
    };
    if let Err(why) = finder.pieces(file, GROUP_BYTES as usize, &mut send) {
        let why = why.into_bytes();
        let _ = answer.send((Content { pieces: vec![file.piece(0, why.len(), 2)] }, why));
    }
}
