//! A large file: cut as it was when it came, offered piece by piece, and only what is needed of it sent.
//!
//! Where the far end knows the recipe of what the base has at this path, chunks of that are offered as ranges. Should the
//! place that is read turn out to be damaged, the pieces begin anew from another one: what was sent is then forgotten, the
//! file opened again.

use std::collections::{HashMap, VecDeque};

use crossbeam_channel::Receiver;

use super::offer::cut_as;
use super::{Task, content_of};
use crate::backup::chunker::{Chunker, Recipe};
use crate::backup::digest::Digest;
use crate::backup::entry::{Entry, SizeClass};
use crate::backup::limits::CHUNK_FRAME_BYTES;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::push::offer_items;
use crate::engine::restore_serve::Finder;
use crate::engine::wire::{Bits, class_to_wire, entry_to_wire};
use crate::net::message::{Chunks, FileDone, FileOpen, Message, Need};
use crate::store::vault::Known;

/// Bytes that are read at once.
const PIECE_BYTES: usize = 1024 * 1024;
/// Pieces that may wait for their answer.
const PIECES_MAX: usize = 3;
/// Recipes with fewer chunks are offered chunk by chunk: asking for the base would cost a round trip.
const RANGE_CHUNKS_MIN: usize = 64;

/// Sends it. `old`: the content that the base has at its path.
pub(super) fn send(
    task: &Task<'_>,
    finder: &mut Finder<'_>,
    entry: &Entry,
    old: Option<Digest>,
) -> Result<(), EngineError> {
    let content = content_of(entry)?;
    let uncut = || EngineError::new(ErrorKind::Failed, format!("'{}' is not cut into chunks", entry.path));
    let class = cut_as(content).ok_or_else(uncut)?;
    let wanted = task.wanted(entry, content)?;
    let base = old.and_then(|old| Some((old, base_recipe(task, &old, class)?)));
    let mut sending = Sending { task, entry, class, base, open: None };
    let mut failure = None;
    let sent = finder.pieces(&wanted, PIECE_BYTES, &mut |offset, bytes, last| {
        failure = sending.piece(offset, &bytes, last).err();
        failure.is_none()
    });
    match failure {
        Some(error) => Err(error),
        None => {
            sent.map_err(|why| task.damaged(&wanted, &why))?;
            sending.finish()
        }
    }
}

/// How the base's file is cut, if that is worth asking for.
fn base_recipe(task: &Task<'_>, digest: &Digest, class: SizeClass) -> Option<Recipe> {
    let look = || -> Result<Option<Recipe>, EngineError> {
        let (reader, copy) = (task.hub.catalog.reader()?, task.hub.catalog.copy_id(task.copy)?);
        match reader.recipe(copy, digest)? {
            Some(recipe) => Ok(Some(recipe)),
            None => Ok(task.hub.vault(task.copy)?.recipe(Some(Known { reader: &reader, copy }), digest)?),
        }
    };
    // Without it the same chunks are named one by one.
    let found = look().inspect_err(|error| tracing::debug!("no recipe of {digest}: {error}")).ok().flatten();
    found.filter(|recipe| recipe.class == class && recipe.chunks.len() >= RANGE_CHUNKS_MIN)
}

struct Sending<'a> {
    task: &'a Task<'a>,
    entry: &'a Entry,
    class: SizeClass,
    base: Option<(Digest, Recipe)>,
    open: Option<Open>,
}

/// The file as it is open at the far end.
struct Open {
    file: u32,
    chunker: Chunker,
    /// What the far end can find in the base, and where.
    known: HashMap<Digest, u32>,
    /// What follows the last cut.
    rest: Vec<u8>,
    unanswered: VecDeque<Piece>,
}

/// Chunks that wait for their answer.
struct Piece {
    need: Receiver<Need>,
    data: Vec<u8>,
    lens: Vec<u32>,
}

impl Sending<'_> {
    /// What comes next in the file; from its beginning once more if what came before was damaged.
    fn piece(&mut self, offset: u64, bytes: &[u8], last: bool) -> Result<(), EngineError> {
        self.task.failed()?;
        if offset == 0 {
            self.begin()?;
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        open.rest.extend_from_slice(bytes);
        let (mut done, mut chunks) = (0, Vec::new());
        while let Some(buffer) = open.rest.get(done..)
            && let Some(len) = open.chunker.cut(buffer, last)
        {
            let chunk = buffer.get(..len).unwrap_or(buffer);
            chunks.push((Digest::of(chunk), u32::try_from(chunk.len()).unwrap_or(u32::MAX)));
            done += chunk.len();
        }
        if chunks.is_empty() {
            return Ok(());
        }
        let rest = open.rest.split_off(done);
        let data = std::mem::replace(&mut open.rest, rest);
        let lens = chunks.iter().map(|(_, len)| *len).collect();
        let items = offer_items(&chunks, &open.known);
        let need = self.task.answers.offer_chunks(&self.task.link, open.file, items)?;
        open.unanswered.push_back(Piece { need, data, lens });
        while open.unanswered.len() >= PIECES_MAX {
            open.settle(self.task)?;
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), EngineError> {
        if let Some(open) = self.open.take() {
            // Answers that are still to come find nobody.
            self.task.link.send(FileDone { file: open.file, entry: None })?;
        }
        let (path, size) = (self.entry.path.as_bytes().into(), content_of(self.entry)?.size);
        let (class, base) = (class_to_wire(self.class), self.base.as_ref().map(|(digest, _)| *digest));
        let opening = |file| FileOpen { file, path, size, class, base };
        let (file, base_known) = self.task.answers.open(&self.task.link, opening)?;
        let recipe = self.base.iter().filter(|_| base_known).flat_map(|(_, recipe)| &recipe.chunks);
        let known = (0..).zip(recipe).map(|(i, (digest, _))| (*digest, i)).collect();
        let chunker = Chunker::new(self.class);
        self.open = Some(Open { file, chunker, known, rest: Vec::new(), unanswered: VecDeque::new() });
        Ok(())
    }

    /// All of it has been verified.
    fn finish(mut self) -> Result<(), EngineError> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        while !open.unanswered.is_empty() {
            open.settle(self.task)?;
        }
        self.task.link.send(FileDone { file: open.file, entry: Some(entry_to_wire(self.entry)) })?;
        Ok(self.task.tally.advance(&self.task.link, 0, 1)?)
    }
}

impl Open {
    /// Waits for the oldest answer, and sends what is needed, in frames of a few chunks.
    fn settle(&mut self, task: &Task<'_>) -> Result<(), EngineError> {
        let Some(Piece { need, data, lens }) = self.unanswered.pop_front() else { return Ok(()) };
        let need = task.answers.wait(&need)?;
        let bits = Bits::from_wire(need.bits, lens.len())?;
        let (mut rest, mut frame, mut payload) = (&data[..], Vec::new(), Vec::new());
        for (i, len) in lens.into_iter().enumerate() {
            let (chunk, after) = rest.split_at_checked(len as usize).unwrap_or((rest, &[]));
            rest = after;
            if !bits.get(i) {
                continue;
            }
            if !frame.is_empty() && payload.len() + chunk.len() > CHUNK_FRAME_BYTES {
                let lens = std::mem::take(&mut frame);
                task.link.send(Message::Chunks(Chunks { file: self.file, lens }, std::mem::take(&mut payload)))?;
            }
            frame.push(len);
            payload.extend_from_slice(chunk);
        }
        if !frame.is_empty() {
            task.link.send(Message::Chunks(Chunks { file: self.file, lens: frame }, payload))?;
        }
        Ok(task.tally.advance(&task.link, data.len() as u64, 0)?)
    }
}
