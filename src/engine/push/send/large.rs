//! Large files: offered piece by piece, as ranges of what they were and new chunks; several at a time.

use std::collections::HashMap;
use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::deltas::{Alignment, Older, Patch, SumsOf};
use super::{ContentSender, Waiting};
use crate::backup::bytes::Bytes;
use crate::backup::digest::Digest;
use crate::backup::entry::SizeClass;
use crate::backup::hash_cache::CacheRecord;
use crate::backup::limits::CHUNK_FRAME_BYTES;
use crate::backup::relpath::RelPath;
use crate::engine::error::EngineError;
use crate::engine::observer::Event;
use crate::engine::push::budget::Share;
use crate::engine::push::hash::{LargePiece, Outcome};
use crate::engine::wire::{Bits, class_to_wire, entry_to_wire};
use crate::net::message::{ChunkDeltas, ChunkOffer, Chunks, FileDone, FileOpen, Message, WireChunk};

/// Chunk offers of the open file that may wait for their answer.
const CHUNK_OFFERS_MAX: usize = 12;
/// Recipes with fewer chunks are offered chunk by chunk: asking for the base would cost a round trip.
const RANGE_CHUNKS_MIN: usize = 64;

/// An offer of chunks that waits for its answer.
pub(super) struct WaitingChunks {
    file: u32,
    data: Arc<Vec<u8>>,
    lens: Vec<u32>,
    /// The parts of the base that were named for some of them.
    older: Vec<Older>,
}

/// Chunks that travel together.
#[derive(Default)]
struct ChunkFrame {
    lens: Vec<u32>,
    payload: Vec<u8>,
}

/// A large file between its opening and its end; the next one may be offered meanwhile.
pub(super) struct OpenFile {
    path: RelPath,
    /// Offers that wait for their answer.
    waiting: usize,
    /// Its end, once all of it has been offered.
    done: Option<FileDone>,
    _share: Share,
}

impl ContentSender<'_> {
    /// Sends the chunks that are needed, in their order: as they are, or by what the store has of the base.
    pub(super) fn chunks_needed(
        &mut self,
        waiting: WaitingChunks,
        bits: Bytes,
        sums: &SumsOf,
    ) -> Result<(), EngineError> {
        self.chunk_offers -= 1;
        let WaitingChunks { file, data, lens, older } = waiting;
        let bits = Bits::from_wire(bits, lens.len())?;
        let (mut frame, mut told) = (ChunkFrame::default(), Vec::new());
        let (mut at, mut needed) = (0, 0);
        for (i, len) in lens.iter().enumerate() {
            let chunk = data.get(at..at + *len as usize).unwrap_or_default();
            at += chunk.len();
            if !bits.get(i) {
                continue;
            }
            needed += chunk.len() as u64;
            let of = older.iter().find(|older| (older.first..older.first + older.count).contains(&i));
            match of.and_then(|older| sums.patch(older.first, older.offset, chunk)) {
                Some(patch) => {
                    self.send_chunks(file, &mut frame)?;
                    told.push((*len, patch));
                }
                None => {
                    self.send_chunk_deltas(file, std::mem::take(&mut told))?;
                    self.add_chunk(file, &mut frame, chunk)?;
                }
            }
        }
        self.observer.event(&Event::Advanced { bytes: data.len() as u64 - needed });
        self.send_chunks(file, &mut frame)?;
        self.send_chunk_deltas(file, told)?;
        if let Some(open) = self.open.get_mut(&file) {
            open.waiting -= 1;
        }
        self.close_if_done(file)
    }

    fn send_chunk_deltas(&mut self, file: u32, told: Vec<(u32, Patch)>) -> Result<(), EngineError> {
        if told.is_empty() {
            return Ok(());
        }
        let bytes = told.iter().map(|(len, _)| u64::from(*len)).sum();
        let (mut chunks, mut payload) = (Vec::with_capacity(told.len()), Vec::new());
        for (len, patch) in told {
            payload.extend_from_slice(&patch.literals);
            chunks.push((len, patch.delta));
        }
        self.found.content_bytes_sent += payload.len() as u64;
        self.link.send(Message::ChunkDeltas(ChunkDeltas { file, chunks }, payload))?;
        self.observer.event(&Event::Advanced { bytes });
        Ok(())
    }

    /// In frames of a few chunks: a frame that a cut interrupts is lost whole.
    fn add_chunk(&mut self, file: u32, frame: &mut ChunkFrame, chunk: &[u8]) -> Result<(), EngineError> {
        if frame.payload.len() + chunk.len() > CHUNK_FRAME_BYTES {
            self.send_chunks(file, frame)?;
        }
        if frame.lens.is_empty() {
            frame.payload.reserve_exact(CHUNK_FRAME_BYTES.max(chunk.len()));
        }
        frame.lens.push(chunk.len() as u32);
        frame.payload.extend_from_slice(chunk);
        Ok(())
    }

    /// Sends what is in the frame, which is empty then.
    fn send_chunks(&mut self, file: u32, frame: &mut ChunkFrame) -> Result<(), EngineError> {
        let ChunkFrame { lens, payload } = std::mem::take(frame);
        if lens.is_empty() {
            return Ok(());
        }
        let bytes = payload.len() as u64;
        self.found.content_bytes_sent += bytes;
        if !self.dry_run {
            self.link.send(Message::Chunks(Chunks { file, lens }, payload))?;
        }
        self.observer.event(&Event::Advanced { bytes });
        Ok(())
    }

    /// Offers a large file piece by piece; its answers may come while the next file is offered.
    pub(super) fn large(
        &mut self,
        path: RelPath,
        (size, class): (u64, SizeClass),
        ask: bool,
        old: Option<&CacheRecord>,
        pieces: &Receiver<LargePiece>,
        share: Share,
    ) -> Result<(), EngineError> {
        let file = self.file;
        self.file += 1;
        let before = old.filter(|_| ask).and_then(|old| {
            let recipe = old.recipe.as_ref().filter(|recipe| recipe.class == class)?;
            Some((old.entry.file()?.digest, recipe))
        });
        let ranges = before.filter(|(_, recipe)| recipe.chunks.len() >= RANGE_CHUNKS_MIN);
        let inside = before.filter(|_| self.looks_inside());
        let base = inside.or(ranges);
        let mut alignment = inside.map(|(_, recipe)| Alignment::with(recipe));
        let wire_path = path.as_bytes().into();
        let open = FileOpen { file, path: wire_path, size, class: class_to_wire(class), base: base.map(|b| b.0) };
        self.link.send(open)?;
        self.open.insert(file, OpenFile { path: path.clone(), waiting: 0, done: None, _share: share });
        let mut known: HashMap<Digest, u32> = HashMap::new();
        if let Some((_, recipe)) = ranges {
            while self.ready.as_ref().is_none_or(|ready| ready.file != file) {
                self.one_reply()?;
            }
            if self.ready.take().is_some_and(|ready| ready.base_known) {
                known = (0..).zip(&recipe.chunks).map(|(i, (digest, _))| (*digest, i)).collect();
            }
        }
        loop {
            let outcome = match self.wait(pieces)? {
                Some(LargePiece::Data { data, chunks }) => {
                    self.found.bytes_read += data.len() as u64;
                    if ask {
                        self.piece(file, data, &chunks, &known, alignment.as_mut())?;
                    } else {
                        self.send_all(file, &data, &chunks)?;
                    }
                    continue;
                }
                Some(LargePiece::End(outcome)) => *outcome,
                None => Outcome::Failed(path, "reading it stopped".to_owned()),
            };
            return self.large_end(file, outcome);
        }
    }

    /// Sends a piece without asking.
    fn send_all(&mut self, file: u32, data: &[u8], chunks: &[(Digest, u32)]) -> Result<(), EngineError> {
        let (mut frame, mut rest) = (ChunkFrame::default(), data);
        for (_, len) in chunks {
            let (chunk, after) = rest.split_at_checked(*len as usize).unwrap_or((rest, &[]));
            self.add_chunk(file, &mut frame, chunk)?;
            rest = after;
        }
        self.send_chunks(file, &mut frame)
    }

    fn piece(
        &mut self,
        file: u32,
        data: Arc<Vec<u8>>,
        chunks: &[(Digest, u32)],
        known: &HashMap<Digest, u32>,
        alignment: Option<&mut Alignment>,
    ) -> Result<(), EngineError> {
        let lens: Vec<u32> = chunks.iter().map(|(_, len)| *len).collect();
        let batch = self.next_batch();
        let older = alignment.map_or_else(Vec::new, |alignment| alignment.next(chunks));
        self.ask_for_sums(batch, older.iter().map(|older| older.to_wire()).collect())?;
        self.link.send(ChunkOffer { batch, file, items: offer_items(chunks, known) })?;
        self.waiting.insert(batch, Waiting::Chunks(WaitingChunks { file, data, lens, older }));
        self.chunk_offers += 1;
        if let Some(open) = self.open.get_mut(&file) {
            open.waiting += 1;
        }
        while self.chunk_offers >= CHUNK_OFFERS_MAX {
            self.one_reply()?;
        }
        Ok(())
    }

    fn large_end(&mut self, file: u32, outcome: Outcome) -> Result<(), EngineError> {
        let mut entry = None;
        match outcome {
            Outcome::Read { record, altered, .. } => {
                self.look_at_altered(altered, &record);
                let record = self.keep(*record, None)?;
                entry = (!self.dry_run).then(|| entry_to_wire(&record.entry));
            }
            Outcome::Vanished(path) => self.vanished(&path),
            Outcome::Failed(path, why) => self.failed(path, &why),
        }
        if let Some(open) = self.open.get_mut(&file) {
            open.done = Some(FileDone { file, entry });
        }
        self.close_if_done(file)
    }

    /// The end of a file goes out once all its offers are answered and what was needed is sent.
    fn close_if_done(&mut self, file: u32) -> Result<(), EngineError> {
        let ready = self.open.get(&file).is_some_and(|open| open.waiting == 0 && open.done.is_some());
        if !ready {
            return Ok(());
        }
        if let Some(open) = self.open.remove(&file) {
            self.observer.event(&Event::FileDone { path: open.path.as_bytes() });
            if let Some(done) = open.done {
                self.link.send(done)?;
            }
        }
        Ok(())
    }
}

/// Chunks as ranges of the base's recipe where they follow one another there.
pub(in crate::engine) fn offer_items(chunks: &[(Digest, u32)], known: &HashMap<Digest, u32>) -> Vec<WireChunk> {
    let mut items: Vec<WireChunk> = Vec::new();
    for (digest, len) in chunks {
        match (known.get(digest), items.last_mut()) {
            (Some(at), Some(WireChunk::Range { first, count })) if *first + *count == *at => *count += 1,
            (Some(at), _) => items.push(WireChunk::Range { first: *at, count: 1 }),
            (None, _) => items.push(WireChunk::New { digest: *digest, len: *len }),
        }
    }
    items
}
