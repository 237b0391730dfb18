//! The entries at and below one path of a snapshot, as the client sees them.
//!
//! Paths are made relative to the path that was asked for, and groups of hard links are closed: a follower whose first
//! name is not sent becomes a first name itself.

use std::collections::HashMap;

use crate::backup::digest::Digest;
use crate::backup::entry::{Entry, Kind, Link};
use crate::backup::manifest::ManifestHeader;
use crate::backup::relpath::RelPath;
use crate::engine::error::EngineError;
use crate::store::snapshots::{ManifestReader, Snapshots};

/// Most entries of one `Tree`.
pub(super) const ENTRIES_MAX: usize = 512;
/// Roughly the most bytes of one `Tree`; far below a control frame's limit, one more entry always fits.
const TREE_BYTES_TARGET: usize = 384 * 1024;
/// Records that are passed over one by one before it is cheaper to seek.
const PASSED_MAX: usize = 1024;

/// See the module.
pub(super) struct Entries<'a> {
    snapshots: &'a Snapshots,
    number: u64,
    inner: RelPath,
    shallow: bool,
    reader: ManifestReader,
    passed: usize,
    /// First names that were sent, by their path in the snapshot.
    leaders: HashMap<RelPath, (RelPath, Digest)>,
}

impl<'a> Entries<'a> {
    /// Starts at `inner`, a path below the snapshot's root.
    pub(super) fn open(
        snapshots: &'a Snapshots,
        number: u64,
        inner: &RelPath,
        shallow: bool,
    ) -> Result<Self, EngineError> {
        let reader = snapshots.open_manifest_from(number, inner)?;
        let inner = inner.clone();
        Ok(Self { snapshots, number, inner, shallow, reader, passed: 0, leaders: HashMap::new() })
    }

    pub(super) fn header(&self) -> &ManifestHeader {
        self.reader.header()
    }

    fn step(&mut self) -> Result<Option<Entry>, EngineError> {
        loop {
            let Some(record) = self.reader.next() else { return Ok(None) };
            let mut entry = record?.entry;
            let Some(path) = entry.path.strip_prefix(&self.inner) else { return Ok(None) };
            if self.shallow && path.depth() > 1 {
                self.pass_over(&path)?;
                continue;
            }
            self.close_links(&mut entry, &path);
            entry.path = path;
            return Ok(Some(entry));
        }
    }

    /// `path` lies too deep. When there is much of that, the whole folder is jumped over.
    fn pass_over(&mut self, path: &RelPath) -> Result<(), EngineError> {
        self.passed += 1;
        if self.passed < PASSED_MAX {
            return Ok(());
        }
        self.passed = 0;
        // Within a folder comes `name/…`, and `/` sorts before every other byte: nothing lies between that and this.
        let after = path.components().next().map(|name| [name, b"\x01"].concat());
        if let Some(next) = after.and_then(|name| self.inner.join(&name).ok()) {
            self.reader = self.snapshots.open_manifest_from(self.number, &next)?;
        }
        Ok(())
    }

    fn close_links(&mut self, entry: &mut Entry, path: &RelPath) {
        let Kind::File(content) = &mut entry.kind else { return };
        let original = match &content.link {
            Link::Single => return,
            Link::Leader => entry.path.clone(),
            Link::Follower(leader) => leader.clone(),
        };
        match self.leaders.get(&original) {
            Some((first, digest)) if *digest == content.digest => content.link = Link::Follower(first.clone()),
            _ => {
                content.link = Link::Leader;
                self.leaders.insert(original, (path.clone(), content.digest));
            }
        }
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

/// Entries in batches that fit a frame.
pub(super) struct Batches<'a> {
    entries: Entries<'a>,
    next: Option<Entry>,
}

impl<'a> Batches<'a> {
    pub(super) fn new(entries: Entries<'a>) -> Self {
        Self { entries, next: None }
    }
}

/// About what an entry takes on the wire.
fn weight(entry: &Entry) -> usize {
    let more = match &entry.kind {
        Kind::File(content) => match &content.link {
            Link::Follower(leader) => 64 + leader.as_bytes().len(),
            _ => 64,
        },
        Kind::Symlink { target } => target.0.len(),
        _ => 0,
    };
    let xattrs: usize = entry.meta.xattrs.iter().map(|x| x.name.0.len() + x.value.0.len() + 16).sum();
    64 + entry.path.as_bytes().len() + more + xattrs
}

impl Iterator for Batches<'_> {
    type Item = Result<Vec<Entry>, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(entry) = self.next.take().map(Ok).or_else(|| self.entries.next()) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error)),
            };
            bytes += weight(&entry);
            if !batch.is_empty() && (batch.len() >= ENTRIES_MAX || bytes > TREE_BYTES_TARGET) {
                self.next = Some(entry);
                break;
            }
            batch.push(entry);
        }
        (!batch.is_empty()).then_some(Ok(batch))
    }
}
