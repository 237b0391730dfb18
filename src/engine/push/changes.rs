//! What differs between the old hash cache and the new one, noted while the new one is made.
//!
//! The manifest travels as these changes. Noting them beside the scan, where time is to be had, spares reading both
//! caches again when everybody waits for the commit. They go to a file without a name: O(changes), gone with the run.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;

use super::cache::{Reader, failed};
use crate::backup::hash_cache::CacheRecord;
use crate::backup::manifest::{CHANGES_MAGIC, ChangeRecord, ManifestRecord};
use crate::backup::sorted_file::{SortedError, SortedReader, SortedWriter};
use crate::engine::error::EngineError;
use crate::tree::own;
use crate::tree::shared_read::SharedRead;

fn cannot(error: &dyn std::fmt::Display) -> EngineError {
    failed(format!("cannot note the manifest's changes in the cache folder: {error}"))
}

/// What the old cache's reader said last.
type Next = Option<Result<CacheRecord, SortedError>>;

/// Takes the new records from the first one that differs, and what is left of the old ones. Both in canonical order.
pub(super) struct ChangeNotes {
    old: Option<Reader>,
    next: Option<CacheRecord>,
    damaged: bool,
    file: File,
    writer: SortedWriter<BufWriter<File>, ChangeRecord>,
}

impl ChangeNotes {
    /// `next`, then the rest of `old`, is what the new records are compared with. The file lies at `path` for a moment.
    pub(super) fn new(path: &Path, old: Option<Reader>, next: Next) -> Result<Self, EngineError> {
        let file = own::create(path).map_err(|e| cannot(&e))?;
        own::remove(path).map_err(|e| cannot(&e))?;
        let sink = BufWriter::with_capacity(64 * 1024, file.try_clone().map_err(|e| cannot(&e))?);
        let writer = SortedWriter::create(sink, CHANGES_MAGIC, &()).map_err(|e| cannot(&e))?;
        let mut notes = Self { old, next: None, damaged: false, file, writer };
        match next {
            Some(Err(_)) => notes.damaged = true,
            other => notes.next = other.and_then(Result::ok),
        }
        Ok(notes)
    }

    /// The next record of the new cache.
    pub(super) fn push(&mut self, new: &CacheRecord) -> Result<(), EngineError> {
        self.gone_before(Some(new))?;
        let old = match &self.next {
            Some(old) if old.entry.path == new.entry.path => self.advance(),
            _ => None,
        };
        if old.is_none_or(|old| old.entry != new.entry) {
            let record = ManifestRecord { entry: new.entry.clone(), kept: false };
            self.writer.push(&ChangeRecord::Put(record)).map_err(|e| cannot(&e))?;
        }
        Ok(())
    }

    /// All records are in. None: the old cache turned out to be damaged, and nothing can be said of it.
    pub(super) fn finish(mut self) -> Result<Option<Changes>, EngineError> {
        self.gone_before(None)?;
        let (sink, _) = self.writer.finish().map_err(|e| cannot(&e))?;
        sink.into_inner().map_err(|e| cannot(e.error()))?;
        Ok((!self.damaged).then(|| Changes(SharedRead::new(Arc::new(self.file)))))
    }

    /// Old records before `new` (or all) are gone.
    fn gone_before(&mut self, new: Option<&CacheRecord>) -> Result<(), EngineError> {
        while self.next.as_ref().is_some_and(|old| new.is_none_or(|new| old.entry.path < new.entry.path)) {
            if let Some(old) = self.advance() {
                self.writer.push(&ChangeRecord::Remove(old.entry.path)).map_err(|e| cannot(&e))?;
            }
        }
        Ok(())
    }

    fn advance(&mut self) -> Option<CacheRecord> {
        let next = match self.old.as_mut().and_then(Iterator::next) {
            Some(Err(error)) => {
                tracing::warn!("the hash cache is damaged ({error}); the manifest travels as a whole");
                (self.old, self.damaged) = (None, true);
                None
            }
            other => other.and_then(Result::ok),
        };
        std::mem::replace(&mut self.next, next)
    }
}

/// The changes, to be read any number of times.
#[derive(Clone, Debug)]
pub(super) struct Changes(SharedRead);

impl Changes {
    pub(super) fn read(&self) -> Result<impl Iterator<Item = Result<ChangeRecord, SortedError>> + use<>, EngineError> {
        let ((), reader) = SortedReader::open(self.0.clone(), CHANGES_MAGIC).map_err(|e| cannot(&e))?;
        Ok(reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::entry::{Entry, Kind, Meta};
    use crate::backup::fingerprint::Fingerprint;
    use crate::backup::hash_cache::{CACHE_MAGIC, CacheHeader};
    use crate::backup::relpath::RelPath;
    use std::io::BufReader;

    fn record(path: &str, mode: u32) -> CacheRecord {
        let meta = Meta { mode, uid: 0, gid: 0, mtime: Default::default(), xattrs: Vec::new() };
        let entry = Entry { path: RelPath::new(path.as_bytes()).unwrap(), meta, kind: Kind::Dir };
        CacheRecord { entry, fingerprint: Fingerprint::default(), racy: false, recipe: None, mounted: false }
    }

    #[test]
    fn what_came_went_and_changed_is_noted_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache");
        let header = CacheHeader {
            manifest: crate::backup::digest::Digest([0; 32]),
            root: RelPath::root(),
            recursive: true,
            complete: true,
            scan_started: Default::default(),
            owners: Default::default(),
            file_system: 0,
        };
        let file = File::create(&cache).unwrap();
        let mut writer = SortedWriter::create(file, CACHE_MAGIC, &header).unwrap();
        for path in ["b", "c", "d", "y", "z"] {
            writer.push(&record(path, 1)).unwrap();
        }
        writer.finish().unwrap();
        let open = || SortedReader::open::<CacheHeader>(BufReader::new(File::open(&cache).unwrap()), CACHE_MAGIC);
        let mut old: Reader = open().unwrap().1;
        let first = old.next();
        let mut notes = ChangeNotes::new(&folder.path().join("notes"), Some(old), first).unwrap();
        // The fingerprint is no part of the manifest.
        let racy = CacheRecord { racy: true, ..record("c", 1) };
        for new in [record("a", 1), racy, record("d", 2), record("x", 1), record("y", 1)] {
            notes.push(&new).unwrap();
        }
        let changes = notes.finish().unwrap().unwrap();
        for _ in 0..2 {
            let told: Vec<String> = changes.read().unwrap().map(|c| shown(&c.unwrap())).collect();
            assert_eq!(told, ["+a", "-b", "+d", "+x", "-z"]);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the notes have no name");
    }

    fn shown(change: &ChangeRecord) -> String {
        match change {
            ChangeRecord::Put(record) => format!("+{}", record.entry.path),
            ChangeRecord::Remove(path) => format!("-{path}"),
        }
    }
}
