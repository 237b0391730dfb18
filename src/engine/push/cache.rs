//! The client's hash cache during a run: the old one is read along with the scan, which tells what equals it; the new
//! one is written only once something differs.
//!
//! The new cache *is* the new manifest. As long as every record equals the old cache's next one, nothing is written and
//! nothing is hashed; at the first difference the equal records so far are copied over. Published by rename when the
//! run is committed, so a lost run costs a re-read and never a wrong backup.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};

use super::changes::{ChangeNotes, Changes};
use crate::backup::digest::Digest;
use crate::backup::entry::OwnerNames;
use crate::backup::hash_cache::{CACHE_MAGIC, CacheHeader, CacheRecord};
use crate::backup::manifest::ManifestHasher;
use crate::backup::sorted_file::{SortedError, SortedReader, SortedWriter};
use crate::engine::error::{EngineError, ErrorKind};
use crate::tree::{operator, own};

pub(super) type Reader = SortedReader<BufReader<File>, CacheRecord>;
type Writer = SortedWriter<BufWriter<File>, CacheRecord>;

/// Records of the old cache that are passed over by seeking rather than by reading.
const SEEK_BEYOND: u64 = 1024;

/// Where the cache of one (daemon, user, root) lies.
#[derive(Clone, Debug)]
pub(super) struct CachePaths {
    pub(super) current: PathBuf,
    pub(super) next: PathBuf,
}

impl CachePaths {
    /// `CACHE_DIR/<store id>/<digest of user and root>`.
    pub(super) fn new(cache_dir: &Path, store: [u8; 16], user: &[u8], root: &[u8]) -> Result<Self, EngineError> {
        let store: String = store.iter().map(|b| format!("{b:02x}")).collect();
        let dir = cache_dir.join(store);
        let dir = operator::make_own(&dir, 0o700)
            .map_err(|e| failed(format!("cannot create the cache folder '{}': {e}", dir.display())))?;
        let name = Digest::of(&[user, b"\0", root].concat()).to_hex();
        let current = dir.join(&name[..32]);
        let next = dir.join(format!("{}.{}.new", &name[..32], std::process::id()));
        Ok(Self { current, next })
    }

    /// The cache of the last run; none when there is none or it is damaged (that costs a re-read).
    pub(super) fn open(&self) -> Option<(CacheHeader, Reader)> {
        let file = own::open(&self.current).ok()?;
        match SortedReader::open(BufReader::with_capacity(256 * 1024, file), CACHE_MAGIC) {
            Ok((header, reader)) => Some((header, reader)),
            Err(error) => {
                tracing::warn!("the hash cache {} is not usable and will be rebuilt: {error}", self.current.display());
                None
            }
        }
    }

    /// A reader of the cache that this run wrote.
    pub(super) fn open_next(&self) -> Result<Reader, EngineError> {
        let file = own::open(&self.next)
            .map_err(|e| failed(format!("cannot read the new hash cache '{}': {e}", self.next.display())))?;
        let (_, reader) = SortedReader::open::<CacheHeader>(BufReader::with_capacity(256 * 1024, file), CACHE_MAGIC)
            .map_err(|e| failed(format!("the new hash cache '{}' is damaged: {e}", self.next.display())))?;
        Ok(reader)
    }

    /// Makes the new cache the current one.
    pub(super) fn publish(&self) {
        if let Err(error) = own::rename(&self.next, &self.current) {
            tracing::warn!("cannot keep the hash cache {}: {error}", self.current.display());
        }
    }

    /// Forgets the cache of a run that failed.
    pub(super) fn discard(&self) {
        let _ = own::remove(&self.next);
    }
}

pub(super) fn failed(message: String) -> EngineError {
    EngineError::new(ErrorKind::Failed, message)
}

/// What the run's manifest is.
#[derive(Clone, Debug)]
pub(super) struct CacheEnd {
    /// Nothing differs from the old cache; no new one was written.
    pub(super) unchanged: bool,
    pub(super) manifest: Digest,
    pub(super) entries: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// What differs from the old cache, if it was to be noted and could be.
    pub(super) changes: Option<Changes>,
}

/// Writes the new cache, lazily. See the module.
pub(super) struct CacheKeeper {
    paths: CachePaths,
    old: Option<(CacheHeader, Reader)>,
    /// Number of the record that it reads next.
    at: u64,
    header: CacheHeader,
    /// Records that equal the first ones of the old cache.
    same: u64,
    writer: Option<(Writer, ManifestHasher)>,
    note_changes: bool,
    notes: Option<ChangeNotes>,
    files: u64,
    bytes: u64,
    entries: u64,
}

impl CacheKeeper {
    /// `header` is the new cache's, but for what is known only at the end. `note_changes`: the manifest will travel as
    /// changes to the old cache's.
    pub(super) fn new(paths: CachePaths, header: CacheHeader, note_changes: bool) -> Self {
        let old = paths.open();
        let (writer, notes) = (None, None);
        Self { paths, old, at: 0, header, same: 0, writer, note_changes, notes, files: 0, bytes: 0, entries: 0 }
    }

    /// The manifest of the old cache.
    pub(super) fn old_manifest(&self) -> Option<Digest> {
        self.old.as_ref().map(|(header, _)| header.manifest)
    }

    /// The next record of the new manifest, canonical order. `same_as`: the number of the old record that it is known to
    /// equal; others are compared.
    pub(super) fn push(&mut self, record: &CacheRecord, same_as: Option<u64>) -> Result<(), EngineError> {
        self.entries += 1;
        if let Some(content) = record.entry.file() {
            self.files += 1;
            self.bytes += content.size;
        }
        if self.writer.is_none() {
            if same_as == Some(self.same) {
                self.same += 1;
                return Ok(());
            }
            let next = self.old_at_same();
            if matches!(&next, Some(Ok(old)) if old == record) {
                self.same += 1;
                return Ok(());
            }
            self.start(next)?;
        }
        if let Some(notes) = &mut self.notes {
            notes.push(record)?;
        }
        if let Some((writer, hasher)) = &mut self.writer {
            hasher.push(&record.entry);
            writer.push(record).map_err(|e| failed(format!("cannot write the hash cache: {e}")))?;
        }
        Ok(())
    }

    /// The old cache's record after those that were equal.
    fn old_at_same(&mut self) -> Option<Result<CacheRecord, SortedError>> {
        let (_, reader) = self.old.as_mut()?;
        // Those that lie close are read over: seeking reads a block from its beginning.
        if self.same - self.at > SEEK_BEYOND {
            if let Err(error) = reader.seek_ordinal(self.same) {
                return Some(Err(error));
            }
            self.at = self.same;
        }
        while self.at < self.same {
            self.at += 1;
            if let Err(error) = reader.next()? {
                return Some(Err(error));
            }
        }
        self.at += 1;
        reader.next()
    }

    /// Copies the records that were equal so far. `next`: the old cache's record that differs.
    fn start(&mut self, next: Option<Result<CacheRecord, SortedError>>) -> Result<(), EngineError> {
        let cannot = |e: &dyn std::fmt::Display| failed(format!("cannot write the hash cache: {e}"));
        let file = own::create(&self.paths.next).map_err(|e| cannot(&e))?;
        let sink = BufWriter::with_capacity(256 * 1024, file);
        let mut writer = SortedWriter::create(sink, CACHE_MAGIC, &self.header).map_err(|e| cannot(&e))?;
        let mut hasher = ManifestHasher::new();
        if self.same > 0 {
            let Some((_, old)) = self.paths.open() else {
                return Err(failed("the hash cache vanished during the run; run it again".to_owned()));
            };
            for record in old.take(usize::try_from(self.same).unwrap_or(usize::MAX)) {
                let record = record.map_err(|e| cannot(&e))?;
                hasher.push(&record.entry);
                writer.push(&record).map_err(|e| cannot(&e))?;
            }
        }
        let old = self.old.take().map(|(_, reader)| reader);
        if self.note_changes {
            self.notes = Some(ChangeNotes::new(&self.paths.next.with_extension("changes"), old, next)?);
        }
        self.writer = Some((writer, hasher));
        Ok(())
    }

    /// All records are in.
    pub(super) fn finish(mut self, owners: &OwnerNames) -> Result<CacheEnd, EngineError> {
        let (files, bytes, entries) = (self.files, self.bytes, self.entries);
        if self.writer.is_none() {
            if let Some((header, reader)) = &self.old
                && header.owners == *owners
                && reader.records() == self.same
            {
                let manifest = header.manifest;
                return Ok(CacheEnd { unchanged: true, manifest, entries, files, bytes, changes: None });
            }
            let next = self.old_at_same();
            self.start(next)?;
        }
        let Some((mut writer, hasher)) = self.writer else {
            return Err(failed("the hash cache was not started".to_owned()));
        };
        let manifest = hasher.finish(owners);
        let header = CacheHeader { manifest, owners: owners.clone(), ..self.header };
        writer.set_header(&header).map_err(|e| failed(format!("cannot write the hash cache: {e}")))?;
        let (sink, _) = writer.finish().map_err(|e| failed(format!("cannot write the hash cache: {e}")))?;
        sink.into_inner().map_err(|e| failed(format!("cannot write the hash cache: {}", e.error())))?;
        let changes = self.notes.map(ChangeNotes::finish).transpose()?.flatten();
        Ok(CacheEnd { unchanged: false, manifest, entries, files, bytes, changes })
    }
}
