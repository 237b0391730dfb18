//! [`Sampler`]: a few pieces of the content that passes to the targets of a run, to ask for them afterwards. Pure: messages
//! in, randomness as an argument.
//!
//! ```text
//! Files, Chunks      each small file, each chunk: a piece; KEPT_MAX of them are kept, each as likely as any other
//! ChunkOffer, Need   which chunk comes next, and where in its file it lies
//! FileDone           which file it was; forgotten if reading it failed
//! Manifest, Changes  only what the manifest names with this digest is asked for: what came before a file changed is not
//! ```
//! A relay keeps the bytes (at most KEPT_MAX × PIECE_BYTES_MAX, 1 MiB), for it has nothing else to compare with; who has a
//! store keeps the names, and reads its own copy.

use std::collections::{HashMap, VecDeque};

use crate::backup::bytes::Bytes;
use crate::backup::digest::Digest;
use crate::backup::limits::CHALLENGE_RANGES_MAX;
use crate::engine::wire::Bits;
use crate::net::message::{Changes, ChunkOffer, Message, Need, Range, WireChange, WireChunk, WireEntry, WireKind};

/// Pieces that are kept.
pub(super) const KEPT_MAX: usize = CHALLENGE_RANGES_MAX / 2;
/// Bytes of each.
pub(super) const PIECE_BYTES_MAX: usize = 32 * 1024;

/// A piece of content.
struct Piece {
    /// Of a small file, or of a large one that is complete.
    path: Bytes,
    /// The whole file's; none: it is not complete.
    digest: Option<Digest>,
    /// The large file that it belongs to, until that is complete.
    file: Option<u32>,
    offset: u64,
    len: u32,
    /// Empty unless they are to be kept.
    bytes: Vec<u8>,
    /// The manifest names its file so.
    confirmed: bool,
}

/// A large file between its opening and its end.
#[derive(Default)]
struct Open {
    /// Bytes of all that was offered; none: a part of unknown length was among it.
    offered: Option<u64>,
    was_asked: bool,
    /// Where the chunks lie that come next; behind these it is not known.
    next: VecDeque<u64>,
    /// Bytes that came, where nothing is asked.
    came: u64,
}

/// Chunks that were offered.
struct Offered {
    file: u32,
    /// Where the first of them lie, as far as that is known.
    places: Vec<u64>,
    count: usize,
}

/// See the module.
pub(super) struct Sampler {
    keeps_bytes: bool,
    random: Box<dyn FnMut(u64) -> u64>,
    /// Pieces that passed.
    passed: u64,
    kept: Vec<Piece>,
    open: HashMap<u32, Open>,
    /// By batch, until it is answered.
    offers: HashMap<u32, Offered>,
}

impl Sampler {
    /// `random(n)` is below n, or 0.
    pub(super) fn new(keeps_bytes: bool, random: impl FnMut(u64) -> u64 + 'static) -> Self {
        let (kept, open, offers) = (Vec::new(), HashMap::new(), HashMap::new());
        Self { keeps_bytes, random: Box::new(random), passed: 0, kept, open, offers }
    }

    /// A message of the source.
    pub(super) fn see(&mut self, message: &Message) {
        match message {
            Message::Files(files, payload) => self.files(&files.entries, payload),
            Message::FileOpen(open) => {
                self.open.insert(open.file, Open { offered: Some(0), ..Open::default() });
            }
            Message::ChunkOffer(offer) => self.offer(offer),
            Message::Chunks(chunks, payload) => self.chunks(chunks.file, &chunks.lens, payload),
            Message::FileDone(done) => self.done(done.file, done.entry.as_ref()),
            Message::Manifest(_) => self.kept.iter_mut().for_each(|piece| piece.confirmed = false),
            Message::Changes(changes) => self.confirm(changes),
            _ => {}
        }
    }

    /// What the source is answered: which chunks come.
    pub(super) fn replied(&mut self, need: &Need) {
        let Some(Offered { file, places, count }) = self.offers.remove(&need.batch) else { return };
        let Ok(bits) = Bits::from_wire(need.bits.clone(), count) else { return };
        if let Some(open) = self.open.get_mut(&file) {
            open.next.extend(places.into_iter().enumerate().filter(|(i, _)| bits.get(*i)).map(|(_, at)| at));
        }
    }

    /// Files that arrived, as the manifest names them.
    pub(super) fn paths(&self) -> Vec<Bytes> {
        self.confirmed().map(|piece| piece.path.clone()).collect()
    }

    /// What is kept of them, for the question; at most [`KEPT_MAX`].
    pub(super) fn pieces(&self) -> Vec<(Range, &[u8])> {
        let range = |piece: &Piece| Range { path: piece.path.clone(), offset: piece.offset, len: piece.len };
        self.confirmed().map(|piece| (range(piece), piece.bytes.as_slice())).collect()
    }

    fn confirmed(&self) -> impl Iterator<Item = &Piece> {
        self.kept.iter().filter(|piece| piece.confirmed)
    }

    fn files(&mut self, entries: &[WireEntry], payload: &[u8]) {
        let mut rest = payload;
        for entry in entries {
            let WireKind::File { size, digest, .. } = &entry.kind else { return };
            let len = usize::try_from(*size).unwrap_or(usize::MAX);
            // The router refuses what is wrong.
            let Some((content, after)) = rest.split_at_checked(len) else { return };
            rest = after;
            self.piece(content, 0, |piece| (piece.path, piece.digest) = (entry.path.clone(), Some(*digest)));
        }
    }

    fn offer(&mut self, offer: &ChunkOffer) {
        let Some(open) = self.open.get_mut(&offer.file) else { return };
        open.was_asked = true;
        let (mut places, mut count) = (Vec::new(), 0_usize);
        for item in &offer.items {
            match item {
                WireChunk::New { len, .. } => {
                    places.extend(open.offered);
                    open.offered = open.offered.map(|at| at.saturating_add(u64::from(*len)));
                    count += 1;
                }
                // How long these are is written in the base's recipe, which is not here.
                WireChunk::Range { count: more, .. } => {
                    open.offered = None;
                    count = count.saturating_add(*more as usize);
                }
            }
        }
        self.offers.insert(offer.batch, Offered { file: offer.file, places, count });
    }

    fn chunks(&mut self, file: u32, lens: &[u32], payload: &[u8]) {
        let mut rest = payload;
        for len in lens {
            let Some((content, after)) = rest.split_at_checked(*len as usize) else { return };
            rest = after;
            let Some(open) = self.open.get_mut(&file) else { return };
            let at = if open.was_asked { open.next.pop_front() } else { Some(open.came) };
            open.came = open.came.saturating_add(u64::from(*len));
            if let Some(at) = at {
                self.piece(content, at, |piece| piece.file = Some(file));
            }
        }
    }

    fn done(&mut self, file: u32, entry: Option<&WireEntry>) {
        self.open.remove(&file);
        let Some(WireEntry { path, kind: WireKind::File { digest, .. }, .. }) = entry else {
            return self.kept.retain(|piece| piece.file != Some(file));
        };
        for piece in self.kept.iter_mut().filter(|piece| piece.file == Some(file)) {
            (piece.path, piece.digest, piece.file) = (path.clone(), Some(*digest), None);
        }
    }

    fn confirm(&mut self, changes: &Changes) {
        for change in &changes.changes {
            let WireChange::Put(WireEntry { path, kind: WireKind::File { digest, .. }, .. }) = change else { continue };
            let same = |piece: &&mut Piece| piece.digest == Some(*digest) && piece.path == *path;
            self.kept.iter_mut().filter(same).for_each(|piece| piece.confirmed = true);
        }
    }

    /// One more has passed: it is kept, or not.
    fn piece(&mut self, content: &[u8], at: u64, tell: impl FnOnce(&mut Piece)) {
        if content.is_empty() {
            return;
        }
        self.passed += 1;
        let place = if self.kept.len() < KEPT_MAX { KEPT_MAX as u64 } else { (self.random)(self.passed) };
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        if place >= KEPT_MAX && self.kept.len() >= KEPT_MAX {
            return;
        }
        let len = content.len().min(PIECE_BYTES_MAX);
        let start = (self.random)((content.len() - len + 1) as u64);
        let from = usize::try_from(start).unwrap_or(0);
        let bytes = content.get(from..from + len).filter(|_| self.keeps_bytes).unwrap_or_default().to_vec();
        let mut piece = Piece {
            path: Bytes::default(),
            digest: None,
            file: None,
            offset: at.saturating_add(start),
            len: u32::try_from(len).unwrap_or(u32::MAX),
            bytes,
            confirmed: false,
        };
        tell(&mut piece);
        match self.kept.get_mut(place) {
            Some(kept) => *kept = piece,
            None => self.kept.push(piece),
        }
    }
}

#[cfg(test)]
mod tests;
