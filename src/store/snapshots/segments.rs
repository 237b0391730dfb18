//! Many snapshots at once: each manifest file is read once, whatever the number of snapshots that stand on it.
//!
//! [`Snapshots::timeline`] streams all paths below one ([`Timeline`] does the merging), [`Snapshots::mentions`] asks each
//! file for one path. A file that many snapshots share, or that only is what others stand on, is one layer.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::sync::Arc;

use super::manifests::{CHANGES_SUFFIX, MANIFEST_SUFFIX};
use super::{ManifestRef, SnapshotError, SnapshotRecord, Snapshots, io_error, sorted_error};
use crate::backup::manifest::{CHANGES_MAGIC, ChangeRecord, MANIFEST_MAGIC, ManifestHeader, ManifestRecord};
use crate::backup::purge::Hidden;
use crate::backup::relpath::RelPath;
use crate::backup::sorted_file::{SortedError, SortedReader};
use crate::backup::timeline::{Layer, PathHistory, Timeline};
use crate::tree::own;

/// A smaller file is read into memory at once: hundreds of changes need no open file each.
const WHOLE_BYTES_MAX: u64 = 64 * 1024;

/// The records of one manifest file, at and below one path.
pub(super) type Records = Box<dyn Iterator<Item = Result<ChangeRecord, SnapshotError>> + Send>;

/// All paths that some snapshots have, in canonical order. See [`Timeline`].
pub type TimelineReader = Timeline<Records>;

/// A manifest file as part of a timeline.
pub(super) struct Place {
    pub(super) number: u64,
    pub(super) full: bool,
    pub(super) base: Option<usize>,
    pub(super) root: RelPath,
    pub(super) snapshots: Vec<u64>,
}

enum Source {
    File(File),
    Memory(Cursor<Vec<u8>>),
}

impl Read for Source {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buf),
            Self::Memory(bytes) => bytes.read(buf),
        }
    }
}

impl Seek for Source {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::File(file) => file.seek(to),
            Self::Memory(bytes) => bytes.seek(to),
        }
    }
}

/// Times that a question is asked again because a snapshot that it was about expired meanwhile.
const AGAIN_MAX: u32 = 5;

impl Snapshots {
    /// Asks something of all records that are listed. One may expire while its files are opened, by this process or by
    /// another: then it is asked anew of those that are left. What is open stays readable.
    ///
    /// # Errors
    /// Those of `question`.
    pub fn steadily<T>(
        &self,
        mut question: impl FnMut(&[Arc<SnapshotRecord>]) -> Result<T, SnapshotError>,
    ) -> Result<T, SnapshotError> {
        for _ in 0..AGAIN_MAX {
            match question(&self.list()?) {
                Err(SnapshotError::Unknown { .. }) => {}
                Err(SnapshotError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                done => return done,
            }
        }
        question(&self.list()?)
    }

    /// All that the snapshots of these numbers have at and below `within` (a path as the copy has it), path by path.
    /// A root that was forgotten has nothing then: a forget is a snapshot like others.
    ///
    /// # Errors
    /// [`SnapshotError`]; also later, when a file turns out to be damaged.
    pub fn timeline(&self, numbers: &[u64], within: &RelPath) -> Result<TimelineReader, SnapshotError> {
        let mut layers = Vec::new();
        for place in self.places(numbers, within)? {
            let inner = within.strip_prefix(&place.root).unwrap_or_default();
            let records = self.records_below(&place, &inner)?;
            layers.push(place.layer(records));
        }
        Ok(Timeline::new(layers))
    }

    /// All that one path (as the copy has it) was in the snapshots of these numbers; none, if it was in none of them.
    /// Opens one file after the other and reads one block of each.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn mentions(&self, numbers: &[u64], path: &RelPath) -> Result<Option<PathHistory>, SnapshotError> {
        let mut layers = Vec::new();
        for place in self.places(numbers, path)? {
            // A root below the path says nothing of it.
            let found = match path.strip_prefix(&place.root) {
                Some(inner) => self.record_of(&place, &inner)?,
                None => None,
            };
            layers.push(place.layer(found.map(Ok::<_, SnapshotError>).into_iter()));
        }
        Timeline::new(layers).next().transpose()
    }

    /// The files that the manifests of these snapshots stand on, each after what it stands on itself. Of roots that have
    /// nothing to do with `within` none are named.
    pub(super) fn places(&self, numbers: &[u64], within: &RelPath) -> Result<Vec<Place>, SnapshotError> {
        let mut files: BTreeMap<(u64, RelPath), Vec<u64>> = BTreeMap::new();
        for number in numbers {
            let root = &self.link(*number)?.root;
            if !within.is_within(root) && !root.is_within(within) {
                continue;
            }
            let mut at = self.effective(*number)?;
            let named = files.entry((at, root.clone())).or_default();
            if named.contains(number) {
                continue;
            }
            named.push(*number);
            // Down to what is known already: each step leads to a lower number.
            while let ManifestRef::Changes { base } = self.link(at)?.manifest_file {
                at = self.effective(base)?;
                if files.contains_key(&(at, root.clone())) {
                    break;
                }
                files.insert((at, root.clone()), Vec::new());
            }
        }
        let mut known: BTreeMap<(u64, RelPath), usize> = BTreeMap::new();
        let mut places = Vec::new();
        for ((number, root), snapshots) in files {
            let base = match self.link(number)?.manifest_file {
                ManifestRef::Changes { base } => {
                    let key = (self.effective(base)?, root.clone());
                    let found = known.get(&key).copied();
                    // Always there, see above.
                    Some(found.ok_or(SnapshotError::Unknown { number: base })?)
                }
                _ => None,
            };
            known.insert((number, root.clone()), places.len());
            places.push(Place { number, full: base.is_none(), base, root, snapshots });
        }
        Ok(places)
    }

    pub(super) fn records_below(&self, place: &Place, inner: &RelPath) -> Result<Records, SnapshotError> {
        self.records_in(place, inner, self.hidden(&place.root, place.number)?)
    }

    pub(super) fn records_in(&self, place: &Place, inner: &RelPath, hidden: Hidden) -> Result<Records, SnapshotError> {
        if place.full {
            return self.records_of::<ManifestRecord>(place, inner, hidden);
        }
        self.records_of::<ChangeRecord>(place, inner, hidden)
    }

    fn records_of<T>(&self, place: &Place, inner: &RelPath, hidden: Hidden) -> Result<Records, SnapshotError>
    where
        T: IntoChange + 'static,
    {
        let mut reader = self.reader_of::<T>(place)?;
        let path = self.path(place.number, T::SUFFIX);
        if !inner.is_root() {
            reader.seek(inner).map_err(|e| sorted_error(&path, e))?;
        }
        let inner = inner.clone();
        let records = reader
            .map(move |record: Result<T, SortedError>| record.map_err(|e| sorted_error(&path, e)))
            .take_while(move |record| !matches!(record, Ok(record) if !record.path().is_within(&inner)))
            .filter(move |record| !matches!(record, Ok(record) if hidden.has(record.path())))
            .map(|record| record.map(T::into_change));
        Ok(Box::new(records))
    }

    fn record_of(&self, place: &Place, inner: &RelPath) -> Result<Option<ChangeRecord>, SnapshotError> {
        if self.hidden(&place.root, place.number)?.has(inner) {
            return Ok(None);
        }
        if place.full {
            return self.one_of::<ManifestRecord>(place, inner);
        }
        self.one_of::<ChangeRecord>(place, inner)
    }

    fn one_of<T: IntoChange>(&self, place: &Place, inner: &RelPath) -> Result<Option<ChangeRecord>, SnapshotError> {
        let found = self.reader_of::<T>(place)?.get(inner);
        Ok(found.map_err(|e| sorted_error(&self.path(place.number, T::SUFFIX), e))?.map(T::into_change))
    }

    fn reader_of<T: IntoChange>(&self, place: &Place) -> Result<SortedReader<Source, T>, SnapshotError> {
        let path = self.path(place.number, T::SUFFIX);
        let fail = |e| io_error(&path, e);
        let mut file = own::open(&path).map_err(fail)?;
        let source = if file.metadata().map_err(fail)?.len() <= WHOLE_BYTES_MAX {
            let mut bytes = Vec::new();
            file.by_ref().take(WHOLE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(fail)?;
            Source::Memory(Cursor::new(bytes))
        } else {
            Source::File(file)
        };
        let opened = SortedReader::open::<ManifestHeader>(source, T::MAGIC).map_err(|e| sorted_error(&path, e))?;
        Ok(opened.1)
    }
}

impl Place {
    fn layer<I>(self, records: I) -> Layer<I> {
        Layer { base: self.base, root: self.root, snapshots: self.snapshots, records }
    }
}

/// A record of either kind of manifest file.
trait IntoChange: crate::backup::sorted_file::SortedRecord + Send {
    const MAGIC: [u8; 8];
    const SUFFIX: &'static str;
    fn into_change(self) -> ChangeRecord;
}

impl IntoChange for ManifestRecord {
    const MAGIC: [u8; 8] = MANIFEST_MAGIC;
    const SUFFIX: &'static str = MANIFEST_SUFFIX;

    fn into_change(self) -> ChangeRecord {
        ChangeRecord::Put(self)
    }
}

impl IntoChange for ChangeRecord {
    const MAGIC: [u8; 8] = CHANGES_MAGIC;
    const SUFFIX: &'static str = CHANGES_SUFFIX;

    fn into_change(self) -> ChangeRecord {
        self
    }
}

#[cfg(test)]
mod measure;
#[cfg(test)]
mod tests;
