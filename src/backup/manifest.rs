//! The manifest: all entries of one backup in canonical order, and the changes between two of them.
//!
//! The **digest** of a manifest is BLAKE3 of `TAG | (len u32 | entry)* | 0 u32 | len u32 | owner names`, each part in
//! bincode's standard form, lengths little endian. Client and store compute it for themselves and agree on it; with the
//! run id it names the snapshot on every target. `kept` entries (what the copy holds beyond what the source had) are
//! the store's own matter and are not in it.
//!
//! On disk a manifest is a sorted file of [`ManifestRecord`], or of [`ChangeRecord`] against an earlier one. Always
//! holds: `apply(a, diff(a, b)) = b`. A change that does not fit its base (a removal of what is not there) is passed
//! over: the digest of the outcome is what tells whether both sides meant the same.

use std::iter::Peekable;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::entry::{Entry, Link, OwnerNames};
use super::relpath::RelPath;
use super::sorted_file::SortedRecord;

/// Magic of a full manifest file.
pub const MANIFEST_MAGIC: [u8; 8] = *b"RBMANI01";
/// Magic of a file of changes.
pub const CHANGES_MAGIC: [u8; 8] = *b"RBCHNG01";
/// A chain of changes longer than this is replaced by a full manifest.
pub const CHAIN_LINKS_MAX: u32 = 16;
/// So is one whose changes together exceed this part of the entries.
pub const CHAIN_CHANGES_PERCENT_MAX: u64 = 20;

/// First bytes that go into a manifest's digest.
const TAG: &[u8] = b"rbbackup manifest 1\n";
/// Encoded entries are gathered to this size before they are hashed: BLAKE3 is slow on small pieces.
const HASH_BUFFER_BYTES: usize = 64 * 1024;

/// One entry of a snapshot's manifest as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRecord {
    /// The entry.
    pub entry: Entry,
    /// The source did not have it (or it was unseen); the copy does.
    pub kept: bool,
}

/// One change to a base manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeRecord {
    /// New, or in place of the base's record of the same path.
    Put(ManifestRecord),
    /// The base's record of this path is gone (only it; what is below has its own).
    Remove(RelPath),
}

impl SortedRecord for ManifestRecord {
    fn path(&self) -> &RelPath {
        &self.entry.path
    }
}

impl SortedRecord for ChangeRecord {
    fn path(&self) -> &RelPath {
        match self {
            Self::Put(record) => record.path(),
            Self::Remove(path) => path,
        }
    }
}

/// How much a manifest holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ManifestCounts {
    /// Entries of the source, directories included; with the digest this is what both sides agree on.
    pub entries: u64,
    /// Regular files among them; each name of a hard link counts.
    pub files: u64,
    /// Bytes of those files; hard-linked content counts once.
    pub bytes: u64,
    /// Further entries that only the copy has.
    pub kept: u64,
}

impl ManifestCounts {
    /// Counts an entry of the source.
    pub fn add(&mut self, entry: &Entry) {
        self.entries += 1;
        if let Some(file) = entry.file() {
            self.files += 1;
            if !matches!(file.link, Link::Follower(_)) {
                self.bytes = self.bytes.saturating_add(file.size);
            }
        }
    }

    /// Counts a stored record.
    pub fn add_record(&mut self, record: &ManifestRecord) {
        if record.kept {
            self.kept += 1;
        } else {
            self.add(&record.entry);
        }
    }
}

/// Header of a full manifest file and of a file of changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestHeader {
    /// Digest of the manifest that this file (with its base) amounts to.
    pub digest: Digest,
    /// What it holds.
    pub counts: ManifestCounts,
    /// Names behind the numbers.
    pub owners: OwnerNames,
    /// What the changes apply to; none in a full manifest.
    pub base: Option<ChainBase>,
}

/// The place of a file of changes in its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainBase {
    /// Number of the snapshot whose manifest the changes apply to.
    pub snapshot: u64,
    /// Files of changes in the chain, this one included.
    pub links: u32,
    /// Changes in all of them together.
    pub changes: u64,
}

impl ChainBase {
    /// The place of `changes` made to snapshot `number` whose own header has `base`; none when the chain would get too
    /// long or too heavy for `entries` entries, and a full manifest is due.
    pub fn next(number: u64, base: Option<&Self>, changes: u64, entries: u64) -> Option<Self> {
        let (links, before) = base.map_or((0, 0), |base| (base.links, base.changes));
        let next = Self { snapshot: number, links: links.checked_add(1)?, changes: before.checked_add(changes)? };
        let light = next.changes.saturating_mul(100) <= entries.saturating_mul(CHAIN_CHANGES_PERCENT_MAX);
        (next.links <= CHAIN_LINKS_MAX && light).then_some(next)
    }
}

/// Computes a manifest's digest and counts from its entries, pushed in canonical order.
pub struct ManifestHasher {
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
    counts: ManifestCounts,
}

impl Default for ManifestHasher {
    fn default() -> Self {
        Self::new()
    }
}

impl ManifestHasher {
    /// Of no entries yet.
    pub fn new() -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(TAG);
        Self { hasher, buffer: Vec::with_capacity(HASH_BUFFER_BYTES + 4096), counts: ManifestCounts::default() }
    }

    /// Adds the next entry of the source.
    pub fn push(&mut self, entry: &Entry) {
        self.counts.add(entry);
        self.part(entry);
    }

    /// Adds a stored record: an entry that is `kept` counts, but is not in the digest.
    pub fn push_record(&mut self, record: &ManifestRecord) {
        if record.kept {
            self.counts.kept += 1;
        } else {
            self.push(&record.entry);
        }
    }

    /// What was pushed so far.
    pub fn counts(&self) -> ManifestCounts {
        self.counts
    }

    /// The manifest's digest.
    pub fn finish(mut self, owners: &OwnerNames) -> Digest {
        self.buffer.extend_from_slice(&[0; 4]);
        self.part(owners);
        self.hasher.update(&self.buffer);
        self.hasher.finalize().into()
    }

    fn part<T: Serialize>(&mut self, value: &T) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 4]);
        // Writing to memory cannot fail, and no type here refuses to be encoded; should one ever do so, its part is cut
        // short, its length with it, and the digest is still that of exactly what was encoded.
        let _ = bincode::serde::encode_into_std_write(value, &mut self.buffer, bincode::config::standard());
        let len = (self.buffer.len() - start - 4) as u32;
        if let Some(place) = self.buffer.get_mut(start..start + 4) {
            place.copy_from_slice(&len.to_le_bytes());
        }
        if self.buffer.len() >= HASH_BUFFER_BYTES {
            self.hasher.update(&self.buffer);
            self.buffer.clear();
        }
    }
}

/// `base` with `changes` made to it. Both in canonical order; the first error ends it.
pub fn apply<E>(
    base: impl Iterator<Item = Result<ManifestRecord, E>>,
    changes: impl Iterator<Item = Result<ChangeRecord, E>>,
) -> impl Iterator<Item = Result<ManifestRecord, E>> {
    let merged = merge(base, changes).filter_map(|pair| match pair {
        Ok((_, Some(ChangeRecord::Put(record)))) => Some(Ok(record)),
        Ok((_, Some(ChangeRecord::Remove(_)))) => None,
        Ok((base, None)) => base.map(Ok),
        Err(error) => Some(Err(error)),
    });
    merged.fuse()
}

/// The changes that lead from `old` to `new`. Both in canonical order; the first error ends it.
pub fn diff<E>(
    old: impl Iterator<Item = Result<ManifestRecord, E>>,
    new: impl Iterator<Item = Result<ManifestRecord, E>>,
) -> impl Iterator<Item = Result<ChangeRecord, E>> {
    merge(old, new).filter_map(|pair| match pair {
        Ok((Some(old), None)) => Some(Ok(ChangeRecord::Remove(old.entry.path))),
        Ok((Some(old), Some(new))) if old == new => None,
        Ok((_, new)) => new.map(ChangeRecord::Put).map(Ok),
        Err(error) => Some(Err(error)),
    })
}

/// Pairs two sorted streams by path; what only one has stands alone. The first error ends it.
pub fn merge<A: SortedRecord, B: SortedRecord, E>(
    left: impl Iterator<Item = Result<A, E>>,
    right: impl Iterator<Item = Result<B, E>>,
) -> impl Iterator<Item = Result<(Option<A>, Option<B>), E>> {
    Merge { left: left.peekable(), right: right.peekable(), ended: false }
}

struct Merge<L: Iterator, R: Iterator> {
    left: Peekable<L>,
    right: Peekable<R>,
    ended: bool,
}

impl<A, B, E, L, R> Iterator for Merge<L, R>
where
    A: SortedRecord,
    B: SortedRecord,
    L: Iterator<Item = Result<A, E>>,
    R: Iterator<Item = Result<B, E>>,
{
    type Item = Result<(Option<A>, Option<B>), E>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        // An error counts as "first", so that it comes out before anything behind it.
        let (take_left, take_right) = match (self.left.peek(), self.right.peek()) {
            (None, None) => (false, false),
            (Some(Err(_)), _) | (Some(_), None) => (true, false),
            (_, Some(Err(_))) | (None, Some(_)) => (false, true),
            (Some(Ok(a)), Some(Ok(b))) => (a.path() <= b.path(), b.path() <= a.path()),
        };
        let left = if take_left { self.left.next().transpose() } else { Ok(None) };
        let right = if take_right { self.right.next().transpose() } else { Ok(None) };
        match (left, right) {
            (Ok(None), Ok(None)) => {
                self.ended = true;
                None
            }
            (Ok(a), Ok(b)) => Some(Ok((a, b))),
            (Err(error), _) | (_, Err(error)) => {
                self.ended = true;
                Some(Err(error))
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
