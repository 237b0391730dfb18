//! Content as it arrives: answers offers, hands small files to the writers, assembles the open large file.
//!
//! Offers are answered in the order they came. "I have it" is given for what staging, the copy, `retired/` or
//! the vault hold; little of these is destroyed while the run lives (retiring and packing move, they do not remove), and
//! the plan finds content by its digest wherever it went. What turns out to be damaged when it is used is asked for again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::feed::form_of;
use super::flusher::Flusher;
use super::large::{Base, Large, Lens, Writer};
use super::watch::Watch;
use super::{PassResult, Run};
use crate::backup::chunker::Recipe;
use crate::backup::digest::Digest;
use crate::backup::entry::{Entry, SizeClass};
use crate::backup::limits::{BATCH_BYTES_TARGET, BATCH_COUNT_MAX, FILES_OPEN_MAX, PROMISED_COUNT_MAX};
use crate::backup::relpath::RelPath;
use crate::backup::whole_hash::Piece;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::room::Room;
use crate::engine::wire::{Bits, WireError, class_from_wire, entry_from_wire, unexpected};
use crate::net::link::{LinkError, LinkSender};
use crate::net::message::{
    Bases, ChunkOffer, Chunks, FileDone, FileOpen, FileReady, Files, Message, Need, Offer, WireChunk,
};
use crate::store::catalog::{RowKind, Update};
use crate::store::staging::{Chunk, KnownChunks, LargeWriter, Staging, chunks_of};
use crate::tree::metadata::StorePolicy;

/// Files of the store that stay open as sources of chunks.
const SOURCES_OPEN_MAX: usize = 8;
/// Content of one message of small files: several of these wait for a writer.
const FILES_BYTES_MAX: usize = 2 * BATCH_BYTES_TARGET;
/// Large files of a run that may turn out not to be what was announced.
const DISTRUSTED_MAX: usize = 16 * 1024;
/// Batches of small files that may wait for a writer.
const BATCHES_QUEUED_MAX: usize = 4;

/// Takes content into staging.
pub(super) struct ContentReceiver<'a> {
    run: &'a Run<'a>,
    found: &'a PassResult,
    writers: Sender<(Files, Vec<u8>)>,
    shared: &'a Shared<'a>,
    large: HashMap<u32, Large>,
    sources: SourceFiles,
    /// Of the offer that comes next.
    bases: Option<Bases>,
    watch: Watch,
}

/// What the writers tell.
struct Shared<'a> {
    /// Asked for and on its way: not asked for twice.
    promised: Mutex<HashSet<Digest>>,
    bytes: AtomicU64,
    failed: Mutex<Option<EngineError>>,
    flusher: &'a Flusher,
}

impl Shared<'_> {
    fn promised(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.promised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This content is asked for; remembered as far as there is room.
    fn promise(&self, digest: &Digest) {
        let mut promised = self.promised();
        if promised.len() < PROMISED_COUNT_MAX {
            promised.insert(*digest);
        }
    }

    fn keep_promise(&self, digests: &[Digest]) {
        let mut promised = self.promised();
        for digest in digests {
            promised.remove(digest);
        }
    }

    fn arrived(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.flusher.arrived(bytes as u64);
    }
}

/// Files of the store that chunks are copied from, open; the last few.
#[derive(Default)]
struct SourceFiles(Vec<(Digest, Arc<std::fs::File>)>);

impl<'a> ContentReceiver<'a> {
    /// Runs `use_it` with a receiver, and its writers beside it; all content is in staging when this returns. Tells how
    /// many bytes of it there were.
    pub(super) fn with<T>(
        run: &'a Run<'a>,
        found: &'a PassResult,
        flusher: &'a Flusher,
        use_it: impl FnOnce(&mut ContentReceiver<'_>) -> Result<T, EngineError>,
    ) -> Result<(T, u64), EngineError> {
        let (sender, receiver) = bounded(BATCHES_QUEUED_MAX);
        let (bytes, failed) = (AtomicU64::new(0), Mutex::new(None));
        let shared = Shared { promised: Mutex::default(), bytes, failed, flusher };
        let count = thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let (staging, room, policy) = (&run.staging, &run.room, run.hub.store.policy());
        let outcome = thread::scope(|scope| {
            for _ in 0..count {
                let (receiver, shared) = (receiver.clone(), &shared);
                scope.spawn(move || write_batches(staging, room, policy, &receiver, shared));
            }
            drop(receiver);
            let mut content = ContentReceiver {
                run,
                found,
                writers: sender,
                shared: &shared,
                large: HashMap::new(),
                sources: SourceFiles::default(),
                bases: None,
                watch: Watch::new(run.terms.observer.clone()),
            };
            use_it(&mut content)
        });
        // A writer's failure is the cause, whatever came of it.
        match shared.failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok((outcome?, shared.bytes.into_inner())),
        }
    }

    /// One message of the content phase.
    pub(super) fn message(&mut self, link: &LinkSender, message: Message) -> Result<(), EngineError> {
        self.watch.message(&message);
        match message {
            Message::Bases(bases) => self.bases(bases),
            Message::Offer(offer) => self.offer(link, &offer),
            Message::Files(files, payload) => self.files(files, payload),
            Message::FileDeltas(told, payload) => self.file_deltas(told, &payload),
            Message::FileOpen(open) => self.open(link, &open),
            Message::ChunkOffer(offer) => self.chunk_offer(link, offer),
            Message::Chunks(chunks, payload) => self.chunks(&chunks, &Arc::new(payload)),
            Message::ChunkDeltas(told, payload) => self.chunk_deltas(told, &payload),
            Message::FileDone(done) => self.done(done),
            Message::Busy(_) | Message::Progress(_) => Ok(()),
            other => Err(unexpected(&other, "receiving content").into()),
        }
    }

    fn offer(&mut self, link: &LinkSender, offer: &Offer) -> Result<(), EngineError> {
        if offer.digests.len() > BATCH_COUNT_MAX {
            return Err(WireError::Bounds("an offer has too many items").into());
        }
        self.found.with(|_| ())?;
        let mut bits = Bits::default();
        for digest in &offer.digests {
            // In this order: a promise is forgotten only once its content is staged.
            let have = self.shared.promised().contains(digest) || self.run.has(digest)?;
            if !have {
                self.shared.promise(digest);
            }
            bits.push(!have);
        }
        self.answer_bases(link, offer.batch, &bits, None)?;
        answer(link, Need { batch: offer.batch, bits: bits.into_wire() })
    }

    fn files(&mut self, files: Files, payload: Vec<u8>) -> Result<(), EngineError> {
        if payload.len() > FILES_BYTES_MAX {
            return Err(WireError::Bounds("the small files of one message are too large").into());
        }
        if self.writers.send((files, payload)).is_err() {
            return Err(EngineError::new(ErrorKind::Failed, "writing to the store failed"));
        }
        self.failed()
    }

    /// Stops early when a writer has failed.
    fn failed(&self) -> Result<(), EngineError> {
        match &*self.shared.failed.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    fn open(&mut self, link: &LinkSender, open: &FileOpen) -> Result<(), EngineError> {
        let path = RelPath::new(open.path.as_slice()).map_err(WireError::from)?;
        let class = class_from_wire(open.class)
            .filter(|c| *c != SizeClass::Whole)
            .ok_or(WireError::Bounds("a large file has no size class"))?;
        let mut base = None;
        if let Some(digest) = &open.base {
            self.found.with(|_| ())?;
            // Ranges count chunks of its class.
            let others = self.large.values().filter_map(|large| large.base.as_ref());
            let shared =
                others.filter(|base| base.digest == *digest && base.recipe.class == class).map(Arc::clone).next();
            let known = || Ok::<_, EngineError>(self.run.recipe(digest)?.filter(|recipe| recipe.class == class));
            base = match shared {
                Some(base) => Some(base),
                None => known()?.map(|recipe| Arc::new(Base::new(*digest, recipe))),
            };
            answer(link, FileReady { file: open.file, base_known: base.is_some() })?;
        }
        if self.large.len() >= FILES_OPEN_MAX {
            return Err(WireError::Bounds("too many large files are open").into());
        }
        // Two that write to one file: what the one has verified, the other could change.
        if self.large.contains_key(&open.file) || self.large.values().any(|large| large.path == path) {
            return Err(WireError::Bounds("a large file is opened that is open").into());
        }
        self.learn_recipe(&path, class)?;
        self.run.room.begin_file()?;
        let writer = if self.run.begin.dry_run {
            Writer::Nowhere(KnownChunks::staged(&self.run.staging, &path, class))
        } else {
            Writer::Staging(Box::new(LargeWriter::open(&self.run.staging, &path, class)?))
        };
        let trusts = !self.run.distrusted.lock().unwrap_or_else(PoisonError::into_inner).contains(&path);
        self.large
            .insert(open.file, Large { path, writer, trusts, lens: Lens::new(class), base, base_digest: open.base });
        Ok(())
    }

    /// A large file that somebody else put into the copy, or whose recipe was lost with the catalog, is cut now, so that
    /// what it shares with the one that comes need not travel.
    fn learn_recipe(&self, path: &RelPath, class: SizeClass) -> Result<(), EngineError> {
        if self.found.with(|pass| pass.entries)? == 0 {
            return Ok(());
        }
        let (run, id) = (self.run, self.run.copy.id);
        let at = run.root.join_path(path).map_err(WireError::from)?;
        let row = run.reader.get(id, &at)?.filter(|row| row.kind == RowKind::File);
        let Some(digest) = row.and_then(|row| row.digest) else { return Ok(()) };
        if run.reader.recipe(id, &digest)?.is_some() {
            return Ok(());
        }
        let dir = run.copy.dir.open_dir(&at.parent().unwrap_or_default());
        let Ok(file) = dir.and_then(|dir| dir.open_read(at.name().unwrap_or_default())) else { return Ok(()) };
        let recipe = Recipe { class, chunks: chunks_of(&file, class).into() };
        run.hub.catalog.apply(id, [Update::PutRecipe { digest, recipe }])?;
        Ok(())
    }

    fn chunk_offer(&mut self, link: &LinkSender, offer: ChunkOffer) -> Result<(), EngineError> {
        let mut large = self.large.remove(&offer.file).ok_or(NOT_OPEN)?;
        self.found.with(|_| ())?;
        let (mut bits, base) = (Bits::default(), large.base.clone());
        check_count(&offer.items)?;
        for item in offer.items {
            let (chunks, offset) = expand(&item, base.as_deref())?;
            let mut at = offset;
            for (digest, len) in chunks {
                large.lens.next(len)?;
                let from = self.locate(&mut large, &digest, len, at)?;
                at = at.map(|at| at + u64::from(len));
                bits.push(matches!(from, Chunk::Arrives));
                large.writer.announce(digest, len, from)?;
                self.composed(large.writer.take_written())?;
                self.distrust(&mut large)?;
            }
        }
        self.answer_bases(link, offer.batch, &bits, large.base_digest)?;
        self.large.insert(offer.file, large);
        // A client has a window of content that it was asked for; what waits behind that is not much more.
        if self.large.values().map(|large| large.writer.waiting()).sum::<usize>() > PROMISED_COUNT_MAX {
            return Err(WireError::Bounds("too many chunks are announced before the first of them arrives").into());
        }
        answer(link, Need { batch: offer.batch, bits: bits.into_wire() })
    }

    /// Where a chunk of the open file is. `at`: its offset in the base, if it is part of it.
    fn locate(&mut self, large: &mut Large, digest: &Digest, len: u32, at: Option<u64>) -> Result<Chunk, EngineError> {
        if let Some(own) = large.writer.own(digest, len) {
            return Ok(own);
        }
        if !large.trusts {
            return Ok(Chunk::Arrives);
        }
        if let (Some(base), Some(offset)) = (large.base_digest, at)
            && let Some(file) = self.sources.get(self.run, &base)?
        {
            return Ok(Chunk::Stored { file, offset, of: base });
        }
        let place = self.run.reader.find_chunk(self.run.copy.id, digest)?.filter(|place| place.len == len);
        if let Some(place) = place
            && let Some(file) = self.sources.get(self.run, &place.file)?
        {
            return Ok(Chunk::Stored { file, offset: place.offset, of: place.file });
        }
        Ok(self.run.vault_chunk(digest, len)?.unwrap_or(Chunk::Arrives))
    }

    /// A file of the store that does not hold what the catalog says is not offered again, to nobody; and what was made
    /// of it comes again without any help of the store, or it might fail as often as there are damaged files.
    fn distrust(&mut self, large: &mut Large) -> Result<(), EngineError> {
        let damaged = large.writer.take_damaged();
        if damaged.is_empty() {
            return Ok(());
        }
        large.trusts = false;
        self.doubt(large.path.clone())?;
        self.sources.0.retain(|(digest, _)| !damaged.contains(digest));
        super::feed::forget_content(self.run, &damaged)
    }

    /// A file comes again without any help of the store.
    fn doubt(&self, path: RelPath) -> Result<(), EngineError> {
        let mut distrusted = self.run.distrusted.lock().unwrap_or_else(PoisonError::into_inner);
        if distrusted.len() >= DISTRUSTED_MAX {
            let message = "too many large files were not what was announced; is the memory of the source damaged?";
            return Err(EngineError::new(ErrorKind::Failed, message));
        }
        distrusted.insert(path);
        Ok(())
    }

    fn chunks(&mut self, chunks: &Chunks, payload: &Arc<Vec<u8>>) -> Result<(), EngineError> {
        self.run.room.take(payload.len() as u64, 0)?;
        let mut large = self.large.remove(&chunks.file).ok_or(NOT_OPEN)?;
        let mut at = 0;
        for len in &chunks.lens {
            let Writer::Staging(writer) = &mut large.writer else { return Err(NOT_OPEN.into()) };
            if writer.is_settled() {
                // It was not offered before.
                large.lens.next(*len)?;
            }
            let end = at + *len as usize;
            if at == end || end > payload.len() {
                return Err(WireError::Bounds("chunks are not as long as they say").into());
            }
            writer.arrive(&Piece::new(payload, at..end))?;
            at = end;
        }
        // Chunks that follow and were at hand already.
        self.composed(large.writer.take_written().saturating_sub(payload.len() as u64))?;
        if at < payload.len() {
            return Err(WireError::Bounds("chunks have bytes left over").into());
        }
        self.distrust(&mut large)?;
        self.large.insert(chunks.file, large);
        self.shared.arrived(payload.len());
        Ok(())
    }

    /// So many bytes were made of what the store has; the disk may begin with them.
    fn composed(&self, bytes: u64) -> Result<(), EngineError> {
        self.run.room.compose(bytes)?;
        self.shared.flusher.arrived(bytes);
        Ok(())
    }

    fn done(&mut self, done: FileDone) -> Result<(), EngineError> {
        let large = self.large.remove(&done.file).ok_or(NOT_OPEN)?;
        let Some(entry) = done.entry else { return Ok(()) };
        let entry = entry_from_wire(entry)?;
        let content = entry.file().ok_or(WireError::Bounds("a large file is no file"))?.clone();
        let form = form_of(self.run.hub.store.policy(), &entry, None).unwrap_or_default();
        let Writer::Staging(writer) = large.writer else { return Err(NOT_OPEN.into()) };
        let recipe = writer.finish(&self.run.staging, &form, content.digest, content.sparse)?;
        if recipe.is_none() {
            self.doubt(large.path)?;
        }
        let update = recipe.map(|recipe| Update::PutRecipe { digest: content.digest, recipe });
        self.run.hub.catalog.apply(self.run.copy.id, update)?;
        Ok(())
    }
}

/// A link that is lost takes no answer, but what came before it broke is still to be received, and is worth keeping.
fn answer(link: &LinkSender, message: impl Into<Message>) -> Result<(), EngineError> {
    match link.send(message) {
        Err(LinkError::Unsendable(error)) => Err(LinkError::Unsendable(error).into()),
        _ => Ok(()),
    }
}

const NOT_OPEN: WireError = WireError::Bounds("chunks of a file that is not open");

/// How many chunks an offer is of: an answer has a bit for each.
fn check_count(items: &[WireChunk]) -> Result<(), WireError> {
    let count = items.iter().fold(0_u64, |sum, item| match item {
        WireChunk::New { .. } => sum + 1,
        // An empty range is an item, too.
        WireChunk::Range { count, .. } => sum + u64::from(*count).max(1),
    });
    if count > BATCH_COUNT_MAX as u64 { Err(WireError::Bounds("an offer has too many items")) } else { Ok(()) }
}

/// Chunks, and where in the base they begin.
type Expanded = (Vec<(Digest, u32)>, Option<u64>);

fn expand(item: &WireChunk, base: Option<&Base>) -> Result<Expanded, WireError> {
    match item {
        WireChunk::New { digest, len } => Ok((vec![(*digest, *len)], None)),
        WireChunk::Range { first, count } => {
            let base = base.ok_or(WireError::Bounds("a range without a base"))?;
            let (range, start) = base.range(*first, *count).ok_or(WireError::Bounds("a range beyond the base"))?;
            Ok((range.to_vec(), Some(start)))
        }
    }
}

impl SourceFiles {
    /// An open file of the copy, or of what it retired, with this content.
    fn get(&mut self, run: &Run<'_>, digest: &Digest) -> Result<Option<Arc<std::fs::File>>, EngineError> {
        if let Some((_, file)) = self.0.iter().find(|(d, _)| d == digest) {
            return Ok(Some(Arc::clone(file)));
        }
        for row in run.reader.find_content(run.copy.id, digest)? {
            let Some(name) = row.path.name() else { continue };
            let dir = run.copy.dir.open_dir(&row.path.parent().unwrap_or_default());
            if let Ok(file) = dir.and_then(|dir| dir.open_read(name)) {
                return Ok(Some(self.keep(*digest, file)));
            }
        }
        let Some(place) = run.reader.retired(run.copy.id, digest)? else { return Ok(None) };
        let Some(name) = place.name() else { return Ok(None) };
        let dir = run.hub.own_dir("retired")?.open_dir(&place.parent().unwrap_or_default());
        Ok(dir.and_then(|dir| dir.open_read(name)).ok().map(|file| self.keep(*digest, file)))
    }

    fn keep(&mut self, digest: Digest, file: std::fs::File) -> Arc<std::fs::File> {
        let file = Arc::new(file);
        self.0.truncate(SOURCES_OPEN_MAX - 1);
        self.0.insert(0, (digest, Arc::clone(&file)));
        file
    }
}

fn write_batches(
    staging: &Staging,
    room: &Room<'_>,
    policy: StorePolicy,
    batches: &Receiver<(Files, Vec<u8>)>,
    shared: &Shared<'_>,
) {
    for (files, payload) in batches {
        let fits = room.take(payload.len() as u64, files.entries.len() as u64);
        match fits.and_then(|()| write_batch(staging, policy, files, &payload)) {
            Ok(staged) => shared.keep_promise(&staged),
            Err(error) => {
                shared.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                return;
            }
        }
        shared.arrived(payload.len());
    }
}

/// Verifies and stages small files; tells their contents.
fn write_batch(
    staging: &Staging,
    policy: StorePolicy,
    files: Files,
    payload: &[u8],
) -> Result<Vec<Digest>, EngineError> {
    if files.entries.len() > BATCH_COUNT_MAX {
        return Err(WireError::Bounds("too many files in one message").into());
    }
    let (mut rest, mut staged) = (payload, Vec::with_capacity(files.entries.len()));
    for entry in files.entries {
        let entry: Entry = entry_from_wire(entry)?;
        let content = entry.file().ok_or(WireError::Bounds("a small file is no file"))?;
        let len = usize::try_from(content.size).unwrap_or(usize::MAX);
        let (bytes, after) =
            rest.split_at_checked(len).ok_or(WireError::Bounds("files are not as long as they say"))?;
        if Digest::of(bytes) != content.digest {
            let message = format!("the content of '{}' is not what its digest says", entry.path);
            return Err(EngineError::new(ErrorKind::Failed, message));
        }
        let form = form_of(policy, &entry, None).unwrap_or_default();
        staging.put(&entry.path, &form, content.digest, bytes)?;
        staged.push(content.digest);
        rest = after;
    }
    if rest.is_empty() { Ok(staged) } else { Err(WireError::Bounds("files have bytes left over").into()) }
}

mod deltas;
#[cfg(test)]
mod tests;
