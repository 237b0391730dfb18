//! Takes what the server sends: entries to the comparer, content to the writers. Nothing is believed of it.

use std::time::Duration;

use crossbeam_channel::{Sender, bounded};

use super::Shared;
use super::table::{Awaited, Slot};
use super::write::{LargePiece, SmallFile, Work};
use crate::backup::entry::Entry;
use crate::backup::limits::BATCH_COUNT_MAX;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::wire::{WireError, entry_from_wire, unexpected};
use crate::net::link::LinkReceiver;
use crate::net::message::{Content, Message, Piece, Tree};

/// Pieces of the open large file that may wait for its writer.
const PIECES_QUEUED_MAX: usize = 4;
/// How often is looked whether the comparer has ended without wanting any more.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Entries of one batch, checked one by one.
pub(super) struct CheckedTree {
    pub(super) batch: u32,
    pub(super) entries: Vec<Entry>,
}

/// The file whose pieces come now.
enum Open {
    Writing { batch: u32, index: u32, size: u64, next: u64, pieces: Sender<LargePiece> },
    Ignoring { batch: u32, index: u32 },
}

struct Receiving<'a> {
    shared: &'a Shared<'a>,
    work: Sender<Work>,
    trees: u32,
    open: Option<Open>,
}

/// Receives until all entries and all content have come.
pub(super) fn receive(
    shared: &Shared<'_>,
    receiver: &mut LinkReceiver,
    trees: Sender<CheckedTree>,
    work: Sender<Work>,
) -> Result<(), EngineError> {
    let mut receiving = Receiving { shared, work, trees: 0, open: None };
    let mut to_comparer = Some(trees);
    loop {
        // Before the end of the entries something always comes; after it, the comparer may want nothing more.
        let message = match &to_comparer {
            Some(_) => Some(receiver.recv()?),
            None if shared.table.is_complete() && receiving.open.is_none() => return Ok(()),
            None => receiver.recv_timeout(LOOK_AGAIN)?,
        };
        if shared.table.is_stopped() {
            return Err(EngineError::new(ErrorKind::Failed, "the restore was stopped"));
        }
        match (message, &to_comparer) {
            (None, _) => {}
            (Some(Message::Tree(tree)), Some(trees)) => {
                let tree = receiving.tree(tree)?;
                // A comparer that has stopped says why.
                trees.send(tree).map_err(|_| EngineError::new(ErrorKind::Unreachable, "comparing stopped"))?;
            }
            (Some(Message::TreeEnd(end)), Some(_)) if end.batches == receiving.trees => {
                shared.table.entries_ended();
                to_comparer = None;
            }
            (Some(Message::Content(content, payload)), _) => receiving.content(content, payload)?,
            (Some(Message::Refused(refused)), _) => return Err(refused.into()),
            (Some(Message::Busy(_)), _) => {}
            (Some(other), _) => return Err(unexpected(&other, "restoring").into()),
        }
    }
}

impl Receiving<'_> {
    fn tree(&mut self, tree: Tree) -> Result<CheckedTree, EngineError> {
        if tree.batch != self.trees || tree.entries.len() > BATCH_COUNT_MAX {
            return Err(WireError::Bounds("a batch of entries is too long or out of turn").into());
        }
        self.trees += 1;
        let entries: Result<Vec<Entry>, WireError> = tree.entries.into_iter().map(entry_from_wire).collect();
        Ok(CheckedTree { batch: tree.batch, entries: entries? })
    }

    fn content(&mut self, content: Content, payload: Vec<u8>) -> Result<(), EngineError> {
        let mut small = Vec::new();
        let mut at = 0_usize;
        for piece in &content.pieces {
            let end = at.checked_add(piece.len as usize).filter(|end| *end <= payload.len());
            let range = at..end.ok_or(WireError::Bounds("content is shorter than its pieces"))?;
            at = range.end;
            if piece.end > 2 {
                return Err(WireError::Bounds("a piece ends in an unknown way").into());
            }
            if self.continues(piece) || piece.end == 0 {
                self.large(piece, payload.get(range).unwrap_or_default())?;
            } else if let Slot::Awaited(file) = self.begin(piece)? {
                small.push(SmallFile { file, range, damaged: piece.end == 2 });
            }
        }
        if at != payload.len() {
            return Err(WireError::Bounds("content is longer than its pieces").into());
        }
        if small.is_empty() { Ok(()) } else { self.send(Work::Small(small, payload)) }
    }

    fn send(&self, work: Work) -> Result<(), EngineError> {
        self.work.send(work).map_err(|_| EngineError::new(ErrorKind::Failed, "writing stopped"))
    }

    /// Whether this piece is the open file's.
    fn continues(&self, piece: &Piece) -> bool {
        match &self.open {
            Some(Open::Writing { batch, index, .. } | Open::Ignoring { batch, index }) => {
                (*batch, *index) == (piece.batch, piece.index)
            }
            None => false,
        }
    }

    /// The first piece of a file.
    fn begin(&mut self, piece: &Piece) -> Result<Slot, EngineError> {
        if self.open.is_some() || piece.offset != 0 {
            return Err(WireError::Bounds("pieces of files are mixed up").into());
        }
        let slot = self.shared.table.take(piece.batch, piece.index, self.trees)?;
        if let Slot::Ignored(bytes) = slot {
            self.shared.observer.event(&crate::engine::observer::Event::Advanced { bytes });
        }
        Ok(slot)
    }

    fn large(&mut self, piece: &Piece, bytes: &[u8]) -> Result<(), EngineError> {
        if !self.continues(piece) {
            self.open = Some(match self.begin(piece)? {
                Slot::Awaited(file) => self.open_large(piece, file)?,
                _ => Open::Ignoring { batch: piece.batch, index: piece.index },
            });
        }
        if let Some(Open::Writing { size, next, pieces, .. }) = &mut self.open {
            let piece = if piece.end == 2 {
                LargePiece::Damaged(String::from_utf8_lossy(bytes).into_owned())
            } else {
                if piece.offset == 0 {
                    *next = 0;
                }
                let end = next.checked_add(bytes.len() as u64).filter(|end| end <= size && piece.offset == *next);
                *next = end.ok_or(WireError::Bounds("a piece is not where it belongs"))?;
                LargePiece::Data { offset: piece.offset, bytes: bytes.to_vec(), last: piece.end == 1 }
            };
            // A writer that failed has told so; the rest of its pieces is passed over.
            let _ = pieces.send(piece);
        }
        if piece.end != 0 {
            self.open = None;
        }
        Ok(())
    }

    fn open_large(&self, piece: &Piece, file: Box<Awaited>) -> Result<Open, EngineError> {
        let (pieces, queue) = bounded(PIECES_QUEUED_MAX);
        let size = file.entry.file().map_or(0, |content| content.size);
        self.send(Work::Large(file, queue))?;
        Ok(Open::Writing { batch: piece.batch, index: piece.index, size, next: 0, pieces })
    }
}
