//! Writing manifests: a draft beside the committed ones, put into place by `publish`.
//!
//! Whether it becomes a full manifest, changes to the base's, or no file at all, is decided here alone: no file when
//! nothing changed, changes while the chain is short and light ([`ChainBase::next`]), else full.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use super::{ManifestRef, RunId, SnapshotError, Snapshots, io_error, sorted_error};
use crate::backup::digest::Digest;
use crate::backup::entry::OwnerNames;
use crate::backup::manifest::{
    self, CHANGES_MAGIC, ChainBase, ChangeRecord, MANIFEST_MAGIC, ManifestCounts, ManifestHasher, ManifestHeader,
    ManifestRecord,
};
use crate::backup::sorted_file::{SortedReader, SortedRecord, SortedWriter};
use crate::tree::own::{self, TEMP_PREFIX};

/// A manifest that is written, but belongs to no committed snapshot yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestDraft {
    /// For the record.
    pub manifest_file: ManifestRef,
    /// For [`Snapshots::publish`]; none when no file is needed. Not flushed yet.
    pub name: Option<String>,
    /// Digest of the seen part.
    pub digest: Digest,
    /// What it holds.
    pub counts: ManifestCounts,
    /// Records that differ from the base.
    pub changes: u64,
}

/// The name of a run's draft; a journal's replay finds it by the run.
pub fn draft_name(run: RunId) -> String {
    format!("{TEMP_PREFIX}{run}")
}

/// The name of the draft of a run's record.
pub fn record_draft_name(run: RunId) -> String {
    format!("{TEMP_PREFIX}{run}.record")
}

/// The name that it has once the commit may have begun to change the copy.
pub fn begun_name(run: RunId) -> String {
    format!("{TEMP_PREFIX}{run}.begun")
}

/// A sorted file being written.
struct Draft<T> {
    path: PathBuf,
    writer: SortedWriter<BufWriter<File>, T>,
}

impl<T: SortedRecord> Draft<T> {
    fn create(path: PathBuf, magic: [u8; 8]) -> Result<Self, SnapshotError> {
        let file = own::create(&path).map_err(|e| io_error(&path, e))?;
        let file = BufWriter::with_capacity(256 * 1024, file);
        let unknown = ManifestHeader {
            digest: Digest([0; 32]),
            counts: ManifestCounts::default(),
            owners: OwnerNames::default(),
            base: None,
        };
        let writer = SortedWriter::create(file, magic, &unknown).map_err(|e| sorted_error(&path, e))?;
        Ok(Self { path, writer })
    }

    fn push(&mut self, record: &T) -> Result<(), SnapshotError> {
        self.writer.push(record).map_err(|e| sorted_error(&self.path, e))
    }

    fn finish(mut self, header: &ManifestHeader) -> Result<(), SnapshotError> {
        let path = &self.path;
        self.writer.set_header(header).map_err(|e| sorted_error(path, e))?;
        let (mut file, _) = self.writer.finish().map_err(|e| sorted_error(path, e))?;
        file.flush().map_err(|e| io_error(path, e))
    }
}

impl Snapshots {
    /// Writes the manifest that `changes` make of the manifest of snapshot `base` (of nothing, without a base), and
    /// computes its digest and counts. The caller flushes it together with everything else before it publishes.
    /// `expected`: about how many changes there are; where they are too many for a chain it spares writing them twice.
    ///
    /// # Errors
    /// [`SnapshotError`], or the first error of `changes`; no draft is left then.
    pub fn draft<E: From<SnapshotError>>(
        &self,
        run: RunId,
        base: Option<u64>,
        owners: &OwnerNames,
        expected: u64,
        changes: impl Iterator<Item = Result<ChangeRecord, E>>,
    ) -> Result<ManifestDraft, E> {
        self.make_dir()?;
        let name = draft_name(run);
        let done = match base {
            None => self.draft_full(&name, owners, added(changes)),
            Some(base) if self.is_too_heavy(base, expected)? => {
                let base = self.open_manifest(base)?.map(|record| record.map_err(E::from));
                self.draft_full(&name, owners, manifest::apply(base, changes))
            }
            Some(base) => self.draft_changes(&name, base, owners, changes),
        };
        if !matches!(&done, Ok(ManifestDraft { name: Some(_), .. })) {
            // Not needed, or not finished; what cannot be removed now is cleared at the next start.
            let _ = own::remove(&self.dir.join(&name));
        }
        done
    }

    /// Whether so many changes would not become a link of the chain.
    fn is_too_heavy(&self, base: u64, changes: u64) -> Result<bool, SnapshotError> {
        let base = self.effective(base)?;
        let reader = self.open_manifest(base)?;
        let ManifestHeader { counts, base: chain, .. } = reader.header();
        Ok(ChainBase::next(base, chain.as_ref(), changes, counts.entries.saturating_add(counts.kept)).is_none())
    }

    fn draft_full<E: From<SnapshotError>>(
        &self,
        name: &str,
        owners: &OwnerNames,
        records: impl Iterator<Item = Result<ManifestRecord, E>>,
    ) -> Result<ManifestDraft, E> {
        let mut hasher = ManifestHasher::new();
        let mut draft = Draft::create(self.dir.join(name), MANIFEST_MAGIC)?;
        let mut written = 0;
        for record in records {
            let record = record?;
            hasher.push_record(&record);
            draft.push(&record)?;
            written += 1;
        }
        let counts = hasher.counts();
        let digest = hasher.finish(owners);
        draft.finish(&ManifestHeader { digest, counts, owners: owners.clone(), base: None })?;
        let name = Some(name.to_string());
        Ok(ManifestDraft { manifest_file: ManifestRef::Full, name, digest, counts, changes: written })
    }

    fn draft_changes<E: From<SnapshotError>>(
        &self,
        name: &str,
        base: u64,
        owners: &OwnerNames,
        changes: impl Iterator<Item = Result<ChangeRecord, E>>,
    ) -> Result<ManifestDraft, E> {
        let base = self.effective(base)?;
        let reader = self.open_manifest(base)?;
        let header = reader.header().clone();
        let path = self.dir.join(name);
        let mut draft = Draft::create(path.clone(), CHANGES_MAGIC)?;
        let mut hasher = ManifestHasher::new();
        let mut written = 0;
        for pair in manifest::merge(reader.map(|record| record.map_err(E::from)), changes) {
            let (old, change) = pair?;
            let differs = match (&old, &change) {
                (_, None) | (None, Some(ChangeRecord::Remove(_))) => None,
                (Some(old), Some(ChangeRecord::Put(new))) if old == new => None,
                (_, change) => change.as_ref(),
            };
            if let Some(change) = differs {
                draft.push(change)?;
                written += 1;
            }
            match change {
                Some(ChangeRecord::Put(new)) => hasher.push_record(&new),
                Some(ChangeRecord::Remove(_)) => {}
                None => old.iter().for_each(|old| hasher.push_record(old)),
            }
        }
        let counts = hasher.counts();
        let digest = hasher.finish(owners);
        let made = ManifestDraft {
            manifest_file: ManifestRef::Same { of: base },
            name: None,
            digest,
            counts,
            changes: written,
        };
        if written == 0 && digest == header.digest {
            return Ok(made);
        }
        let entries = counts.entries.saturating_add(counts.kept);
        let place = ChainBase::next(base, header.base.as_ref(), written, entries);
        draft.finish(&ManifestHeader { digest, counts, owners: owners.clone(), base: place })?;
        if place.is_some() {
            let manifest_file = ManifestRef::Changes { base };
            return Ok(ManifestDraft { manifest_file, name: Some(name.to_string()), ..made });
        }
        // Too long or too heavy a chain: the changes are read back once, and the whole takes their place.
        let file = own::open(&path).map_err(|e| io_error(&path, e))?;
        own::remove(&path).map_err(|e| io_error(&path, e))?;
        let (_, layer) =
            SortedReader::open::<ManifestHeader>(file, CHANGES_MAGIC).map_err(|e| sorted_error(&path, e))?;
        let layer = layer.map(|change: Result<ChangeRecord, _>| change.map_err(|e| sorted_error(&path, e)));
        let whole = manifest::apply(self.open_manifest(base)?, layer);
        let full = self.draft_full(name, owners, whole)?;
        Ok(ManifestDraft { changes: written, ..full })
    }
}

/// Without a base there is nothing to remove.
fn added<E>(changes: impl Iterator<Item = Result<ChangeRecord, E>>) -> impl Iterator<Item = Result<ManifestRecord, E>> {
    changes.filter_map(|change| match change {
        Ok(ChangeRecord::Put(record)) => Some(Ok(record)),
        Ok(ChangeRecord::Remove(_)) => None,
        Err(error) => Some(Err(error)),
    })
}
