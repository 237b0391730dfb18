//! Reading manifests: a chain of changes over a full one looks like one sorted stream.

use std::fs::File;
use std::path::PathBuf;

use super::{ManifestRef, SnapshotError, Snapshots, io_error, sorted_error};
use crate::backup::manifest::{
    self, CHAIN_LINKS_MAX, CHANGES_MAGIC, ChangeRecord, MANIFEST_MAGIC, ManifestHeader, ManifestRecord,
};
use crate::backup::purge::Hidden;
use crate::backup::relpath::RelPath;
use crate::backup::sorted_file::{SortedError, SortedReader, SortedRecord};
use crate::tree::own;

pub(super) const MANIFEST_SUFFIX: &str = ".manifest";
pub(super) const CHANGES_SUFFIX: &str = ".changes";

/// The records of a snapshot's manifest in canonical order, `kept` ones included; the first error ends it.
pub struct ManifestReader {
    header: ManifestHeader,
    records: Box<dyn Iterator<Item = Result<ManifestRecord, SnapshotError>> + Send>,
}

impl ManifestReader {
    /// Digest, counts and names of the manifest (its newest file's).
    pub fn header(&self) -> &ManifestHeader {
        &self.header
    }
}

impl Iterator for ManifestReader {
    type Item = Result<ManifestRecord, SnapshotError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.records.next()
    }
}

/// A manifest file, and what its errors are told with.
struct Layer<T> {
    path: PathBuf,
    reader: SortedReader<File, T>,
    hidden: Hidden,
}

impl<T: SortedRecord> Layer<T> {
    fn open(path: PathBuf, magic: [u8; 8], hidden: Hidden) -> Result<(ManifestHeader, Self), SnapshotError> {
        let file = own::open(&path).map_err(|e| io_error(&path, e))?;
        let (header, reader) = SortedReader::open(file, magic).map_err(|e| sorted_error(&path, e))?;
        Ok((header, Self { path, reader, hidden }))
    }

    fn seek(&mut self, from: &RelPath) -> Result<(), SnapshotError> {
        self.reader.seek(from).map_err(|e| sorted_error(&self.path, e))
    }

    fn find(&mut self, path: &RelPath) -> Result<Option<T>, SnapshotError> {
        if self.hidden.has(path) {
            return Ok(None);
        }
        self.reader.get(path).map_err(|e| sorted_error(&self.path, e))
    }

    fn draw(
        &mut self,
        count: usize,
        random: &mut dyn FnMut(u64) -> u64,
        paths: &mut Vec<RelPath>,
    ) -> Result<(), SnapshotError> {
        let records = self.reader.records();
        let mut ordinals: Vec<u64> = (0..if records == 0 { 0 } else { count }).map(|_| random(records)).collect();
        // Neighbours are in one block, which is read once.
        ordinals.sort_unstable();
        ordinals.dedup();
        for ordinal in ordinals {
            let sought = self.reader.seek_ordinal(ordinal).and_then(|()| self.reader.next().transpose());
            paths.extend(sought.map_err(|e| sorted_error(&self.path, e))?.map(|record: T| record.path().clone()));
        }
        Ok(())
    }

    fn records(self) -> impl Iterator<Item = Result<T, SnapshotError>> {
        let Self { path, reader, hidden } = self;
        let records = reader.map(move |record: Result<T, _>| record.map_err(|e| sorted_error(&path, e)));
        records.filter(move |record| !matches!(record, Ok(record) if hidden.has(record.path())))
    }
}

/// A full manifest and what was changed since, newest first.
struct Chain {
    header: ManifestHeader,
    changes: Vec<Layer<ChangeRecord>>,
    full: Layer<ManifestRecord>,
}

/// How the file of a snapshot's own manifest ends; none: it has no file of its own.
pub(super) fn suffix(place: ManifestRef) -> Option<&'static str> {
    match place {
        ManifestRef::Full => Some(MANIFEST_SUFFIX),
        ManifestRef::Changes { .. } => Some(CHANGES_SUFFIX),
        ManifestRef::Same { .. } => None,
    }
}

impl Snapshots {
    /// The manifest of a snapshot, from its first record.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn open_manifest(&self, number: u64) -> Result<ManifestReader, SnapshotError> {
        self.open_manifest_from(number, &RelPath::root())
    }

    /// The manifest of a snapshot, from the first record at or after `from`.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn open_manifest_from(&self, number: u64, from: &RelPath) -> Result<ManifestReader, SnapshotError> {
        let Chain { header, changes, mut full } = self.chain(number)?;
        if !from.is_root() {
            full.seek(from)?;
        }
        let mut records: Box<dyn Iterator<Item = Result<ManifestRecord, SnapshotError>> + Send> =
            Box::new(full.records());
        for mut layer in changes.into_iter().rev() {
            if !from.is_root() {
                layer.seek(from)?;
            }
            records = Box::new(manifest::apply(records, layer.records()));
        }
        Ok(ManifestReader { header, records })
    }

    /// The record of one path in a snapshot's manifest.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn find(&self, number: u64, path: &RelPath) -> Result<Option<ManifestRecord>, SnapshotError> {
        let mut chain = self.chain(number)?;
        for layer in &mut chain.changes {
            match layer.find(path)? {
                Some(ChangeRecord::Put(record)) => return Ok(Some(record)),
                Some(ChangeRecord::Remove(_)) => return Ok(None),
                None => {}
            }
        }
        chain.full.find(path)
    }

    /// Paths of a snapshot at random: first `count` of those that its own file of changes names, if it has one (they may
    /// be gone), then as many of all. `random(n)` is below n.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn some_paths(
        &self,
        number: u64,
        count: usize,
        random: &mut dyn FnMut(u64) -> u64,
    ) -> Result<Vec<RelPath>, SnapshotError> {
        let mut chain = self.chain(number)?;
        let mut paths = Vec::with_capacity(2 * count);
        if let Some(newest) = chain.changes.first_mut() {
            newest.draw(count, random, &mut paths)?;
        }
        chain.full.draw(count, random, &mut paths)?;
        Ok(paths)
    }

    /// The number whose files hold the manifest of `number`: itself, unless it is the same as an earlier one's.
    pub(super) fn effective(&self, number: u64) -> Result<u64, SnapshotError> {
        match self.link(number)?.manifest_file {
            // Never the same as one that is itself the same, see [`ManifestRef::Same`].
            ManifestRef::Same { of } => Ok(of),
            _ => Ok(number),
        }
    }

    fn chain(&self, number: u64) -> Result<Chain, SnapshotError> {
        let mut at = self.effective(number)?;
        let mut changes = Vec::new();
        let mut newest = None;
        for _ in 0..=CHAIN_LINKS_MAX {
            let record = self.link(at)?;
            let hidden = self.hidden(&record.root, at)?;
            match record.manifest_file {
                ManifestRef::Full => {
                    let (header, full) = Layer::open(self.path(at, MANIFEST_SUFFIX), MANIFEST_MAGIC, hidden)?;
                    return Ok(Chain { header: newest.unwrap_or(header), changes, full });
                }
                ManifestRef::Changes { base } => {
                    let (header, layer) = Layer::open(self.path(at, CHANGES_SUFFIX), CHANGES_MAGIC, hidden)?;
                    newest.get_or_insert(header);
                    changes.push(layer);
                    at = base;
                }
                ManifestRef::Same { of } => at = of,
            }
        }
        let what = format!("its chain of changes has more than {CHAIN_LINKS_MAX} links");
        Err(sorted_error(&self.path(number, CHANGES_SUFFIX), SortedError::Damaged { what }))
    }
}
