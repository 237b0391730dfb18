//! The client's content phase: takes the scan's items in order, offers what was read, sends what is needed.
//!
//! Every wait listens to the daemon's answers too ([`ContentSender::wait`]), so an answer always frees its share of the
//! budget and the scan goes on: no round trip a file, no deadlock. Offers are answered in order.

use std::collections::{BTreeMap, HashMap};

use crossbeam_channel::{Receiver, select};

use self::deltas::{SumsOf, Told};
pub(in crate::engine) use self::large::offer_items;
use self::large::{OpenFile, WaitingChunks};
use super::budget::Share;
use super::cache::CacheKeeper;
use super::files::in_messages;
use super::found::Found;
use super::hash::{Outcome, SmallRead};
use super::owners::Owners;
use super::scan::{Item, Known};
use crate::backup::delta::DELTA_BYTES_MIN;
use crate::backup::entry::{FileContent, Kind, Link};
use crate::backup::hash_cache::CacheRecord;
use crate::backup::relpath::RelPath;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::observer::{Event, Observer, Phase};
use crate::engine::wire::{Bits, unexpected};
use crate::net::link::{LinkError, LinkSender};
use crate::net::message::{FileReady, Message, Need, Offer, Sums, WireBasis};

mod deltas;
mod large;

/// Offers that may wait for their answer: however small what they offer is, their number is bounded too.
const OFFERS_MAX: usize = 256;

/// Answers of the daemon, passed on by a thread that listens.
pub(super) type Replies = Receiver<Result<Message, LinkError>>;

/// An offer that waits for its answer.
enum Waiting {
    Small { files: Vec<CacheRecord>, payload: Vec<u8>, _share: Share },
    Chunks(WaitingChunks),
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
    /// Of the batch that is answered next.
    sums: Option<Sums>,
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
            sums: None,
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
        let (mut outcomes, inside) = (outcomes.into_iter(), self.looks_inside());
        let (mut files, mut bases) = (Vec::new(), Vec::new());
        // Where each file's bytes are; followers' need not travel.
        let (mut at, mut kept, mut dropped) = (0, 0, false);
        for slot in order {
            if let Some(Known { record, same_as }) = slot {
                self.keep(record, same_as)?;
                continue;
            }
            match outcomes.next() {
                Some(Outcome::Read { record, altered, had }) => {
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
                        if inside && had && len >= DELTA_BYTES_MIN {
                            let path = record.entry.path.as_bytes().into();
                            bases.push(WireBasis::File { item: files.len() as u32, path });
                        }
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
        self.ask_for_sums(batch, bases)?;
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
            Message::Sums(sums) => {
                self.sums = Some(sums);
                Ok(())
            }
            Message::Busy(_) => Ok(()),
            Message::Refused(refused) => Err(refused.into()),
            other => Err(unexpected(&other, "sending content").into()),
        }
    }

    fn need(&mut self, need: Need) -> Result<(), EngineError> {
        let sums = SumsOf::of(self.sums.take().filter(|sums| sums.batch == need.batch))?;
        match self.waiting.remove(&need.batch) {
            Some(Waiting::Small { files, payload, _share }) => {
                let bits = Bits::from_wire(need.bits, files.len())?;
                let all = payload.len() as u64;
                let (mut wanted, mut bytes, mut at) = (Vec::new(), Vec::new(), 0);
                let mut told = Told::default();
                for (i, record) in files.into_iter().enumerate() {
                    let len = record.entry.file().map_or(0, |c| c.size) as usize;
                    let content = &payload[at..at + len];
                    at += len;
                    if !bits.get(i) {
                        continue;
                    }
                    match sums.patch(i, 0, content) {
                        Some(patch) => told.push(record, patch),
                        None => {
                            bytes.extend_from_slice(content);
                            wanted.push(record);
                        }
                    }
                }
                self.observer.event(&Event::Advanced { bytes: all - bytes.len() as u64 - told.bytes });
                self.send_files(&wanted, bytes)?;
                self.send_deltas(told)
            }
            Some(Waiting::Chunks(waiting)) => self.chunks_needed(waiting, need.bits, &sums),
            None => Err(EngineError::new(
                ErrorKind::Failed,
                "the other side broke the protocol: it answered an offer that was not made",
            )),
        }
    }
}

#[cfg(test)]
mod tests;
