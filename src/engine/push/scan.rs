//! The client's scan: walks the source, merges it with the hash cache, and hands out what must be read.
//!
//! ```text
//! walk (tree::walk) ──WalkItem──> Merge ──Item, in canonical order──> send.rs
//!                                   └──Job──> hashing pool ──reply──────┘
//! ```
//! The queue of items is bounded by count, content by the [`Budget`].

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::budget::Budget;
use super::cache::{CachePaths, Reader};
use super::hash::{Job, LargeJob, LargePiece, SmallJob, SmallRead, ToRead, pieces};
use crate::backup::chunker::class_after;
use crate::backup::digest::Digest;
use crate::backup::entry::{Entry, FileContent, Kind, Link, Meta, SizeClass};
use crate::backup::fingerprint::{Fingerprint, Timestamp};
use crate::backup::hash_cache::CacheRecord;
use crate::backup::limits::{BATCH_BYTES_TARGET, BATCH_COUNT_MAX};
use crate::backup::relpath::RelPath;
use crate::tree::error::TreeError;
use crate::tree::stat::FileKind;
use crate::tree::walk::{SourceEntry, WalkItem, WalkOptions, walk};

/// Vouched-for records that travel together.
const READY_MAX: usize = 512;
/// Items that may wait for the sender.
const ITEMS_QUEUED_MAX: usize = 128;
/// Directories that the files of one job may hold open.
const JOB_DIRS_MAX: usize = 16;
/// Budget that a small file holds beside its content: empty ones take memory, too.
const FILE_SHARE: u64 = 512;
/// Budget that a large file holds while it is read and asked about.
const LARGE_FILE_SHARE: u64 = 24 * 1024 * 1024;

/// Said of what was there when its folder was listed.
pub(super) const VANISHED: &str = "it vanished during the run";

/// An entry that needs no reading.
pub(super) struct Known {
    pub(super) record: CacheRecord,
    /// The number of the old cache's record that it equals.
    pub(super) same_as: Option<u64>,
}

/// The scan's output, canonical order.
pub(super) enum Item {
    /// Entries that need no reading.
    Ready(Vec<Known>),
    /// Small files being read; interleaved with entries that need no reading: none takes the next file.
    Small { order: Vec<Option<Known>>, reply: Receiver<SmallRead>, bytes: u64 },
    /// A large file being read.
    Large {
        path: RelPath,
        size: u64,
        class: SizeClass,
        sparse: bool,
        old: Option<Box<CacheRecord>>,
        pieces: Receiver<LargePiece>,
        share: super::budget::Share,
    },
    /// Not seen: keep what the copy has.
    Unseen(RelPath),
    /// Empty, and something was mounted on it at the last run: a word is due.
    Unmounted(RelPath),
    /// Not in the backup, harmlessly.
    Skipped(RelPath, String),
    /// Could not be read.
    Failed(RelPath, String),
}

/// What the scan works with.
pub(super) struct Scan {
    pub(super) walk: WalkOptions,
    pub(super) cache: CachePaths,
    /// The manifest of the old cache: another one that lies there by now has other numbers.
    pub(super) old_manifest: Option<Digest>,
    pub(super) jobs: Sender<Job>,
    pub(super) items: Sender<Item>,
    pub(super) budget: Budget,
    pub(super) safe_before: Timestamp,
    /// A folder on which nothing is mounted any more is empty because somebody meant it.
    pub(super) force_delete: bool,
    /// Read every file, whatever vouches for it.
    pub(super) rehash: bool,
}

/// A queue of items.
pub(super) fn queue() -> (Sender<Item>, Receiver<Item>) {
    bounded(ITEMS_QUEUED_MAX)
}

impl Scan {
    /// Walks to the end, or until the sender has gone.
    ///
    /// # Errors
    /// A sentence: the root itself cannot be walked.
    pub(super) fn run(self) -> Result<(), String> {
        let mut merge = Merge::new(&self);
        let walked = walk(&self.walk, &mut |batch| {
            for item in batch {
                if merge.item(item).is_err() {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        });
        let _ = merge.flush();
        walked.map_err(|error| error.to_string())
    }
}

/// The sender has gone: the run failed there.
struct Gone;

/// The old cache, read along with a walk.
pub(super) struct Peek {
    reader: Reader,
    next: Option<CacheRecord>,
    /// Number of the next one.
    number: u64,
}

impl Peek {
    pub(super) fn new(mut reader: Reader) -> Self {
        let next = reader.next().and_then(Result::ok);
        Self { reader, next, number: 0 }
    }

    /// The record of this path and its number; those before it are passed over.
    pub(super) fn at(&mut self, path: &RelPath) -> Option<(CacheRecord, u64)> {
        while self.next.as_ref().is_some_and(|r| r.entry.path < *path) {
            self.take();
        }
        let number = self.number;
        if self.next.as_ref().is_some_and(|r| r.entry.path == *path) {
            return self.take().map(|record| (record, number));
        }
        None
    }

    fn take(&mut self) -> Option<CacheRecord> {
        self.number += 1;
        std::mem::replace(&mut self.next, self.reader.next().and_then(Result::ok))
    }
}

/// What a file below a renamed directory is recognised by. (A rename of the file itself changes its ctime: it is read.)
#[derive(PartialEq, Eq, Hash)]
struct Inode {
    ino: u64,
    size: u64,
    mtime: Timestamp,
    ctime: Timestamp,
}

#[derive(Clone, Copy)]
struct Content {
    digest: Digest,
    class: SizeClass,
    /// It has no xattrs.
    plain: bool,
}

struct Merge<'a> {
    scan: &'a Scan,
    old: Option<Peek>,
    /// Its numbers are those that the sender knows.
    numbered: bool,
    /// Cached files by fingerprint; read on the first path that the cache does not know.
    renamed: Option<HashMap<Inode, Content>>,
    /// First path of each inode that has several.
    links: HashMap<(u64, u64), RelPath>,
    order: Vec<Option<Known>>,
    files: Vec<ToRead>,
    bytes: u64,
    /// Directories that the files of the next job hold open.
    dirs: usize,
}

impl<'a> Merge<'a> {
    fn new(scan: &'a Scan) -> Self {
        let (header, old) = scan.cache.open().map(|(header, reader)| (header, Peek::new(reader))).unzip();
        Self {
            old,
            numbered: header.map(|header| header.manifest) == scan.old_manifest,
            renamed: None,
            links: HashMap::new(),
            order: Vec::new(),
            files: Vec::new(),
            bytes: 0,
            dirs: 0,
            scan,
        }
    }

    fn item(&mut self, item: WalkItem) -> Result<(), Gone> {
        let other = match item {
            WalkItem::Entry(entry) => return self.entry(entry),
            WalkItem::Unseen { path, .. } => Item::Unseen(path),
            WalkItem::Skipped { path, why } => Item::Skipped(path, why.to_owned()),
            WalkItem::Failed { path, why } => Item::Failed(path, why),
        };
        self.other(other)
    }

    fn entry(&mut self, walked: SourceEntry) -> Result<(), Gone> {
        let stat = &walked.stat;
        let fingerprint = walked.fingerprint();
        let (old, number) = self.old.as_mut().and_then(|old| old.at(&walked.path)).unzip();
        let kind = match stat.kind {
            FileKind::Dir => Kind::Dir,
            FileKind::Symlink => Kind::Symlink { target: walked.target.clone().unwrap_or_default() },
            FileKind::Fifo => Kind::Fifo,
            FileKind::CharDevice => Kind::CharDevice { major: stat.rdev_major, minor: stat.rdev_minor },
            FileKind::BlockDevice => Kind::BlockDevice { major: stat.rdev_major, minor: stat.rdev_minor },
            FileKind::File => return self.file(walked, fingerprint, old.zip(number)),
            FileKind::Socket | FileKind::Unknown => return Ok(()),
        };
        let mut mounted = walked.mounted;
        if !mounted && old.as_ref().is_some_and(|old| old.mounted) && !self.scan.force_delete && walked.is_empty_dir() {
            // So it stays, run after run, until something is there again.
            mounted = true;
            self.other(Item::Unmounted(walked.path.clone()))?;
        }
        let vouched = old.filter(|old| !old.racy && old.fingerprint == fingerprint);
        let mut racy = fingerprint.is_racy(self.scan.safe_before);
        let meta = match self.meta(&walked, vouched.as_ref()) {
            Ok(meta) => meta,
            // What it holds may be in the manifest already, and needs its directory: it goes without its attributes,
            // and nothing vouches for that.
            Err(item) if walked.stat.kind == FileKind::Dir => {
                self.other(item)?;
                racy = true;
                walked.stat.meta()
            }
            Err(item) => return self.other(item),
        };
        let entry = Entry { path: walked.path, meta, kind };
        let record = CacheRecord { entry, fingerprint, racy, recipe: None, mounted };
        self.ready(record, vouched.as_ref().zip(number))
    }

    /// Metadata; xattrs are read only where no fingerprint vouches for those of the last run (they move ctime).
    fn meta(&self, walked: &SourceEntry, vouched: Option<&CacheRecord>) -> Result<Meta, Item> {
        let xattrs = match vouched {
            Some(old) => old.entry.meta.xattrs.clone(),
            None => walked.read_xattrs().map_err(|e| unreadable(&walked.path, &e))?,
        };
        Ok(Meta { xattrs, ..walked.stat.meta() })
    }

    fn other(&mut self, item: Item) -> Result<(), Gone> {
        self.flush()?;
        self.scan.items.send(item).map_err(|_| Gone)
    }

    fn file(
        &mut self,
        walked: SourceEntry,
        fingerprint: Fingerprint,
        old: Option<(CacheRecord, u64)>,
    ) -> Result<(), Gone> {
        let (old, number) = old.unzip();
        let stat = &walked.stat;
        let link = self.link(&walked.path, stat.dev, stat.ino, u64::from(stat.nlink));
        let (size, sparse) = (stat.size, stat.may_have_holes());
        let before = old.as_ref().and_then(|r| r.entry.file()).map(|c| c.class);
        let class = class_after(before, size);
        let unknown = Digest([0; 32]);
        let mut content = FileContent { size, digest: unknown, class, link, sparse, unstable: false };
        let vouched = old.as_ref().filter(|old| old.vouches_for(&fingerprint).is_some());
        let expected =
            vouched.filter(|_| self.scan.rehash).and_then(|old| Some((fingerprint, old.entry.file()?.digest)));
        let known = match vouched.and_then(|old| old.entry.file()) {
            _ if self.scan.rehash => None,
            Some(known) => Some(Content { digest: known.digest, class: known.class, plain: false }),
            None if old.is_none() && !fingerprint.is_racy(self.scan.safe_before) => self.renamed(fingerprint),
            None => None,
        };
        if let Some(known) = known {
            (content.digest, content.class) = (known.digest, known.class);
            let meta = match vouched {
                // Attributes cannot change without the ctime, by which it was recognised.
                None if known.plain => walked.stat.meta(),
                _ => match self.meta(&walked, vouched) {
                    Ok(meta) => meta,
                    Err(item) => return self.other(item),
                },
            };
            let recipe = vouched.and_then(|old| old.recipe.clone());
            let entry = Entry { path: walked.path, meta, kind: Kind::File(content) };
            let record = CacheRecord { entry, fingerprint, racy: false, recipe, mounted: false };
            return self.ready(record, vouched.zip(number));
        }
        if matches!(content.link, Link::Follower(_)) {
            // The leader's content is its own; the sender puts it in.
            let meta = match self.meta(&walked, vouched) {
                Ok(meta) => meta,
                Err(item) => return self.other(item),
            };
            let entry = Entry { path: walked.path, meta, kind: Kind::File(content) };
            let record = CacheRecord { entry, fingerprint, racy: true, recipe: None, mounted: false };
            return self.ready(record, None);
        }
        let name = walked.name().unwrap_or(b".").to_vec();
        let entry = Entry { meta: walked.stat.meta(), path: walked.path, kind: Kind::File(content) };
        let (ino_believed, seen) = (walked.ino_believed, walked.ino_believed.then_some(walked.stat));
        let had = before.is_some();
        let file = ToRead { dir: walked.dir, name, entry, size, seen, ino_believed, had, expected };
        if class == SizeClass::Whole { self.small(file) } else { self.large(file, class, old) }
    }

    fn link(&mut self, path: &RelPath, dev: u64, ino: u64, nlink: u64) -> Link {
        if nlink < 2 {
            return Link::Single;
        }
        match self.links.entry((dev, ino)) {
            std::collections::hash_map::Entry::Occupied(first) => Link::Follower(first.get().clone()),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(path.clone());
                Link::Leader
            }
        }
    }

    /// A file that the cache knows under another path.
    fn renamed(&mut self, fingerprint: Fingerprint) -> Option<Content> {
        self.old.as_ref().filter(|_| fingerprint.ino != 0)?;
        let cache = &self.scan.cache;
        let map = self.renamed.get_or_insert_with(|| by_inode(cache));
        let Fingerprint { ino, size, mtime, ctime } = fingerprint;
        map.get(&Inode { ino, size, mtime, ctime }).copied()
    }

    /// `old`: what the cache has of this path, and its number there.
    fn ready(&mut self, record: CacheRecord, old: Option<(&CacheRecord, u64)>) -> Result<(), Gone> {
        let same_as = old.filter(|(old, _)| self.numbered && **old == record).map(|(_, number)| number);
        self.order.push(Some(Known { record, same_as }));
        if self.files.is_empty() && self.order.len() >= READY_MAX || self.order.len() >= 4 * BATCH_COUNT_MAX {
            self.flush()?;
        }
        Ok(())
    }

    fn small(&mut self, file: ToRead) -> Result<(), Gone> {
        if self.files.last().is_none_or(|last| !Arc::ptr_eq(&last.dir, &file.dir)) {
            self.dirs += 1;
        }
        self.bytes += file.size;
        self.order.push(None);
        self.files.push(file);
        if self.bytes >= BATCH_BYTES_TARGET as u64 || self.files.len() >= BATCH_COUNT_MAX || self.dirs >= JOB_DIRS_MAX {
            self.flush()?;
        }
        Ok(())
    }

    fn large(&mut self, file: ToRead, class: SizeClass, old: Option<CacheRecord>) -> Result<(), Gone> {
        self.flush()?;
        let share = self.scan.budget.take(LARGE_FILE_SHARE.min(file.size)).ok_or(Gone)?;
        let (sender, receiver) = pieces();
        let (path, size) = (file.entry.path.clone(), file.size);
        let sparse = file.entry.file().is_some_and(|content| content.sparse);
        let old = old.map(Box::new);
        let item = Item::Large { path, size, class, sparse, old, pieces: receiver, share };
        self.scan.items.send(item).map_err(|_| Gone)?;
        self.scan.jobs.send(Job::Large(Box::new(LargeJob { file, class, pieces: sender }))).map_err(|_| Gone)
    }

    fn flush(&mut self) -> Result<(), Gone> {
        if self.order.is_empty() {
            return Ok(());
        }
        let order = std::mem::take(&mut self.order);
        if self.files.is_empty() {
            return self.scan.items.send(Item::Ready(order.into_iter().flatten().collect())).map_err(|_| Gone);
        }
        let files = std::mem::take(&mut self.files);
        let bytes = std::mem::take(&mut self.bytes);
        self.dirs = 0;
        let share = self.scan.budget.take(bytes + files.len() as u64 * FILE_SHARE).ok_or(Gone)?;
        let (reply, receiver) = bounded(1);
        self.scan.items.send(Item::Small { order, reply: receiver, bytes }).map_err(|_| Gone)?;
        self.scan.jobs.send(Job::Small(SmallJob { files, share, reply })).map_err(|_| Gone)
    }
}

/// What is gone by now is no error: it vanished.
fn unreadable(path: &RelPath, error: &TreeError) -> Item {
    if error.is_not_found() {
        return Item::Skipped(path.clone(), VANISHED.to_owned());
    }
    Item::Failed(path.clone(), error.to_string())
}

fn by_inode(cache: &CachePaths) -> HashMap<Inode, Content> {
    let mut map = HashMap::new();
    for record in cache.open().into_iter().flat_map(|(_, reader)| reader).filter_map(Result::ok) {
        if let (false, Some(content)) = (record.racy || record.fingerprint.ino == 0, record.entry.file()) {
            let Fingerprint { ino, size, mtime, ctime } = record.fingerprint;
            let plain = record.entry.meta.xattrs.is_empty();
            let known = Content { digest: content.digest, class: content.class, plain };
            map.insert(Inode { ino, size, mtime, ctime }, known);
        }
    }
    map
}

#[cfg(test)]
mod tests;
