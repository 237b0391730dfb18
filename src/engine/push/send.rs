//! The client's content phase: takes the scan's items in order, offers what was read, sends what is needed.
//!
//! Every wait listens to the daemon's answers too ([`ContentSender::wait`]), so an answer always frees its share of the
//! budget and the scan goes on: no round trip a file, no deadlock. Offers are answered in order.

use std::collections::{BTreeMap, HashMap};

use crossbeam_channel::{Receiver, select};

use super::budget::Share;
use super::cache::CacheKeeper;
use super::files::in_messages;
use super::found::Found;
use super::hash::{LargePiece, Outcome, SmallRead};
use super::owners::Owners;
use super::scan::{Item, Known};
use crate::backup::digest::Digest;
use crate::backup::entry::{FileContent, Kind, Link, SizeClass};
use crate::backup::hash_cache::CacheRecord;
use crate::backup::limits::CHUNK_FRAME_BYTES;
use crate::backup::relpath::RelPath;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::observer::{Event, Observer, Phase};
use crate::engine::wire::{Bits, class_to_wire, entry_to_wire, unexpected};
use crate::net::link::{LinkError, LinkSender};
use crate::net::message::{ChunkOffer, Chunks, FileDone, FileOpen, FileReady, Message, Need, Offer, WireChunk};

/// Chunk offers of the open file that may wait for their answer.
const CHUNK_OFFERS_MAX: usize = 12;
/// Offers that may wait for their answer: however small what they offer is, their number is bounded too.
const OFFERS_MAX: usize = 256;
/// Recipes with fewer chunks are offered chunk by chunk: asking for the base would cost a round trip.
const RANGE_CHUNKS_MIN: usize = 64;

/// Answers of the daemon, passed on by a thread that listens.
pub(super) type Replies = Receiver<Result<Message, LinkError>>;

/// An offer that waits for its answer.
enum Waiting {
    Small { files: Vec<CacheRecord>, payload: Vec<u8>, _share: Share },
    Chunks { file: u32, data: Vec<u8>, lens: Vec<u32> },
}

/// A large file between its opening and its end; the next one may be offered meanwhile.
struct OpenFile {
    path: RelPath,
    /// Offers that wait for their answer.
    waiting: usize,
    /// Its end, once all of it has been offered.
    done: Option<FileDone>,
    _share: Share,
}

/// Where records go.
pub(super) enum Sink {
    /// Into the new cache: a scan.
    Cache(Box<CacheKeeper>),
    /// Into memory: a few files that are sent again.
    List(Vec<CacheRecord>),
}

/// See the module.
pub(super) struct ContentSender<'a> {
    pub(super) link: &'a LinkSender,
    pub(super) replies: &'a Replies,
    pub(super) observer: &'a dyn Observer,
    /// Offer before sending.
    pub(super) ask: bool,
    /// Ask, count, and send nothing.
    pub(super) dry_run: bool,
    pub(super) sink: Sink,
    pub(super) found: Found,
    pub(super) owners: Owners,
    waiting: BTreeMap<u32, Waiting>,
    chunk_offers: usize,
    /// Large files whose offers are not all answered.
    open: BTreeMap<u32, OpenFile>,
    batch: u32,
    file: u32,
    ready: Option<FileReady>,
    leaders: HashMap<RelPath, FileContent>,
}

impl<'a> ContentSender<'a> {
    pub(super) fn new(link: &'a LinkSender, replies: &'a Replies, observer: &'a dyn Observer) -> Self {
        Self {
            link,
            replies,
            observer,
            ask: true,
            dry_run: false,
            sink: Sink::List(Vec::new()),
            found: Found::default(),
            owners: Owners::default(),
            waiting: BTreeMap::new(),
            chunk_offers: 0,
            open: BTreeMap::new(),
            batch: 0,
            file: 0,
            ready: None,
            leaders: HashMap::new(),
        }
    }

    /// Takes items until the scan ends and every offer is answered.
    pub(super) fn run(&mut self, items: &Receiver<Item>) -> Result<(), EngineError> {
        while let Some(item) = self.wait(items)? {
            self.item(item)?;
        }
        self.observer.event(&Event::Phase(Phase::Sending));
        while !self.waiting.is_empty() {
            self.one_reply()?;
        }
        Ok(())
    }

    /// The next of `from`, answering what the daemon says meanwhile; none when `from` is closed.
    fn wait<T>(&mut self, from: &Receiver<T>) -> Result<Option<T>, EngineError> {
        loop {
            let reply = select! {
                recv(from) -> next => return Ok(next.ok()),
                recv(self.replies) -> reply => reply,
            };
            self.reply(reply.unwrap_or(Err(LinkError::Closed))?)?;
        }
    }

    fn one_reply(&mut self) -> Result<(), EngineError> {
        let reply = self.replies.recv().unwrap_or(Err(LinkError::Closed))?;
        self.reply(reply)
    }

    fn item(&mut self, item: Item) -> Result<(), EngineError> {
        match item {
            Item::Ready(records) => {
                for Known { record, same_as } in records {
                    self.keep(record, same_as)?;
                }
            }
            Item::Small { order, reply, bytes } => {
                self.observer.event(&Event::Planned { bytes });
                if let Some(read) = self.wait(&reply)? {
                    self.small(order, read)?;
                }
            }
            Item::Large { path, size, class, sparse, old, pieces, share } => {
                self.observer.event(&Event::Planned { bytes: size });
                self.observer.event(&Event::FileBegun { path: path.as_bytes(), bytes: size });
                // Holes are the same chunk over and over: asked for, it travels once.
                let ask = self.ask || sparse;
                self.large(path, (size, class), ask, old.as_deref(), &pieces, share)?;
            }
            Item::Unseen(path) => self.found.unseen.push(path),
            Item::Unmounted(path) => {
                let why =
                    "something was mounted here at the last backup and is not now: what the copy holds of it stays";
                self.observer.event(&Event::Warned { path: path.as_bytes(), why });
                self.found.unseen.push(path);
            }
            Item::Skipped(path, why) => {
                self.observer.event(&Event::Skipped { path: path.as_bytes(), why: &why });
            }
            Item::Failed(path, why) => self.failed(path, &why),
        }
        Ok(())
    }

    /// Puts a record into the new manifest. Names of one inode agree on its content.
    /// `same_as`: see [`Known`].
    fn keep(&mut self, mut record: CacheRecord, mut same_as: Option<u64>) -> Result<CacheRecord, EngineError> {
        if let Kind::File(content) = &mut record.entry.kind {
            match &content.link {
                Link::Leader => {
                    self.leaders.insert(record.entry.path.clone(), content.clone());
                }
                Link::Follower(leader) => match self.leaders.get(leader) {
                    Some(first) => {
                        let same =
                            (content.digest, content.size, content.class) == (first.digest, first.size, first.class);
                        same_as = same_as.filter(|_| same);
                        (content.digest, content.size, content.class) = (first.digest, first.size, first.class);
                    }
                    // Its first name could not be read, and neither could this one: they are one file.
                    None => {
                        let path = record.entry.path.clone();
                        self.failed(path, "another name of this file could not be read");
                        return Ok(record);
                    }
                },
                Link::Single => {}
            }
        }
        self.owners.add(&record.entry.meta);
        match &mut self.sink {
            Sink::Cache(keeper) => keeper.push(&record, same_as)?,
            Sink::List(records) => records.push(record.clone()),
        }
        Ok(record)
    }

    fn small(&mut self, order: Vec<Option<Known>>, read: SmallRead) -> Result<(), EngineError> {
        let SmallRead { outcomes, mut payload, share } = read;
        let mut outcomes = outcomes.into_iter();
        let mut files = Vec::new();
        // Where each file's bytes are; followers' need not travel.
        let (mut at, mut kept, mut dropped) = (0, 0, false);
        for slot in order {
            if let Some(Known { record, same_as }) = slot {
                self.keep(record, same_as)?;
                continue;
            }
            match outcomes.next() {
                Some(Outcome::Read { record, altered }) => {
                    self.look_at_altered(altered, &record);
                    let len = record.entry.file().map_or(0, |c| c.size) as usize;
                    self.found.bytes_read += len as u64;
                    let record = self.keep(*record, None)?;
                    let follows = matches!(record.entry.file(), Some(FileContent { link: Link::Follower(_), .. }));
                    if follows {
                        dropped = true;
                    } else {
                        if dropped {
                            payload.copy_within(at..at + len, kept);
                        }
                        kept += len;
                        files.push(record);
                    }
                    at += len;
                }
                Some(Outcome::Vanished(path)) => self.vanished(&path),
                Some(Outcome::Failed(path, why)) => self.failed(path, &why),
                None => {}
            }
        }
        payload.truncate(kept);
        if files.is_empty() {
            return Ok(());
        }
        if !self.ask {
            return self.send_files(&files, payload);
        }
        let batch = self.next_batch();
        let digests = files.iter().filter_map(|r| r.entry.file()).map(|c| c.digest).collect();
        self.link.send(Offer { batch, digests })?;
        self.waiting.insert(batch, Waiting::Small { files, payload, _share: share });
        while self.waiting.len() >= OFFERS_MAX {
            self.one_reply()?;
        }
        Ok(())
    }

    fn next_batch(&mut self) -> u32 {
        self.batch += 1;
        self.batch - 1
    }

    fn send_files(&mut self, files: &[CacheRecord], payload: Vec<u8>) -> Result<(), EngineError> {
        if files.is_empty() {
            return Ok(());
        }
        let bytes = payload.len() as u64;
        for record in files {
            self.observer.event(&Event::FileDone { path: record.entry.path.as_bytes() });
        }
        self.found.content_bytes_sent += bytes;
        if !self.dry_run {
            for (files, payload) in in_messages(files, payload) {
                self.link.send(Message::Files(files, payload))?;
            }
        }
        self.observer.event(&Event::Advanced { bytes });
        Ok(())
    }

    fn reply(&mut self, message: Message) -> Result<(), EngineError> {
        match message {
            Message::Need(need) => self.need(need),
            Message::FileReady(ready) => {
                self.ready = Some(ready);
                Ok(())
            }
            Message::Busy(_) => Ok(()),
            Message::Refused(refused) => Err(refused.into()),
            other => Err(unexpected(&other, "sending content").into()),
        }
    }

    fn need(&mut self, need: Need) -> Result<(), EngineError> {
        match self.waiting.remove(&need.batch) {
            Some(Waiting::Small { files, payload, _share }) => {
                let bits = Bits::from_wire(need.bits, files.len())?;
                let all = payload.len() as u64;
                let (mut wanted, mut bytes, mut at) = (Vec::new(), Vec::new(), 0);
                for (i, record) in files.into_iter().enumerate() {
                    let len = record.entry.file().map_or(0, |c| c.size) as usize;
                    if bits.get(i) {
                        bytes.extend_from_slice(&payload[at..at + len]);
                        wanted.push(record);
                    }
                    at += len;
                }
                self.observer.event(&Event::Advanced { bytes: all - bytes.len() as u64 });
                self.send_files(&wanted, bytes)
            }
            Some(Waiting::Chunks { file, data, lens }) => {
                self.chunk_offers -= 1;
                let bits = Bits::from_wire(need.bits, lens.len())?;
                let (mut wanted, mut bytes, mut at) = (Vec::new(), Vec::new(), 0);
                for (i, len) in lens.iter().enumerate() {
                    let end = at + *len as usize;
                    if bits.get(i) {
                        bytes.extend_from_slice(&data[at..end]);
                        wanted.push(*len);
                    }
                    at = end;
                }
                self.observer.event(&Event::Advanced { bytes: (data.len() - bytes.len()) as u64 });
                self.send_chunks(file, wanted, &bytes)?;
                if let Some(open) = self.open.get_mut(&file) {
                    open.waiting -= 1;
                }
                self.close_if_done(file)
            }
            None => Err(EngineError::new(
                ErrorKind::Failed,
                "the other side broke the protocol: it answered an offer that was not made",
            )),
        }
    }

    /// In frames of a few chunks: a frame that a cut interrupts is lost whole.
    fn send_chunks(&mut self, file: u32, lens: Vec<u32>, payload: &[u8]) -> Result<(), EngineError> {
        let (mut frame, mut bytes, mut rest) = (Vec::new(), 0, payload);
        let mut lens = lens.into_iter().peekable();
        while let Some(len) = lens.next() {
            frame.push(len);
            bytes += len as usize;
            if lens.peek().is_some_and(|next| bytes + *next as usize <= CHUNK_FRAME_BYTES) {
                continue;
            }
            let (now, after) = rest.split_at_checked(bytes).unwrap_or((rest, &[]));
            self.found.content_bytes_sent += bytes as u64;
            if !self.dry_run {
                let chunks = Chunks { file, lens: std::mem::take(&mut frame) };
                self.link.send(Message::Chunks(chunks, now.to_vec()))?;
            }
            self.observer.event(&Event::Advanced { bytes: bytes as u64 });
            (bytes, rest) = (0, after);
            frame.clear();
        }
        Ok(())
    }

    /// Offers a large file piece by piece; its answers may come while the next file is offered.
    fn large(
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
        let base = old.filter(|_| ask).and_then(|old| {
            let recipe = old.recipe.as_ref().filter(|r| r.chunks.len() >= RANGE_CHUNKS_MIN && r.class == class)?;
            Some((old.entry.file()?.digest, recipe))
        });
        let wire_path = path.as_bytes().into();
        let open = FileOpen { file, path: wire_path, size, class: class_to_wire(class), base: base.map(|b| b.0) };
        self.link.send(open)?;
        self.open.insert(file, OpenFile { path: path.clone(), waiting: 0, done: None, _share: share });
        let mut known: HashMap<Digest, u32> = HashMap::new();
        if let Some((_, recipe)) = base {
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
                        self.piece(file, data, &chunks, &known)?;
                    } else {
                        self.send_chunks(file, chunks.iter().map(|(_, len)| *len).collect(), &data)?;
                    }
                    continue;
                }
                Some(LargePiece::End(outcome)) => *outcome,
                None => Outcome::Failed(path, "reading it stopped".to_owned()),
            };
            return self.large_end(file, outcome);
        }
    }

    fn piece(
        &mut self,
        file: u32,
        data: Vec<u8>,
        chunks: &[(Digest, u32)],
        known: &HashMap<Digest, u32>,
    ) -> Result<(), EngineError> {
        let lens: Vec<u32> = chunks.iter().map(|(_, len)| *len).collect();
        let batch = self.next_batch();
        self.link.send(ChunkOffer { batch, file, items: offer_items(chunks, known) })?;
        self.waiting.insert(batch, Waiting::Chunks { file, data, lens });
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
            Outcome::Read { record, altered } => {
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

#[cfg(test)]
mod tests;
