//! Paths that were taken out of history for good.
//!
//! ```text
//! 000000000012-<run id>.purge   sealed record (backup::purge): which path, in the manifest files of which numbers
//! ```
//!
//! Manifest files stay as they are; every way to read them asks [`Snapshots::hidden`] what to pass over, so that from the
//! moment when the record is durable nothing names what was purged: no command shows it, prune's mark does not keep its
//! content. Only [`Snapshots::purged_contents`] looks at it once more: what must go although its pack is young.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::segments::Place;
use super::{ManifestRef, RECORD_BYTES_MAX, SnapshotError, Snapshots, State, io_error, name_of};
use crate::backup::digest::Digest;
use crate::backup::manifest::ChangeRecord;
use crate::backup::purge::{Hidden, PurgeRecord};
use crate::backup::relpath::RelPath;
use crate::tree::own;

/// A manifest of which more than so many parts were purged is read whole.
const PARTS_MAX: usize = 32;
pub(super) const PURGE_SUFFIX: &str = ".purge";

impl State {
    /// Reads a purge record, if the path is that of one and it is not known. One that cannot be read counts as a damaged record:
    /// nothing is pruned then, and verify names it.
    pub(super) fn learn_purge(&mut self, path: &Path) -> Result<(), SnapshotError> {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(()) };
        let Some(stem) = name.strip_suffix(PURGE_SUFFIX) else { return Ok(()) };
        if self.purges.contains_key(name) || name.starts_with(own::TEMP_PREFIX) {
            return Ok(());
        }
        let bytes = match own::read_file(path, RECORD_BYTES_MAX) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|e| io_error(path, e))?,
        };
        match PurgeRecord::decode(&bytes) {
            Ok(record) => {
                self.add_purge(name.to_owned(), record);
            }
            Err(source) => {
                let number = stem.split('-').next().and_then(|digits| digits.parse().ok()).unwrap_or(0);
                let error = SnapshotError::Record { path: path.to_path_buf(), source };
                self.damaged.entry(number).or_insert_with(|| error.to_string());
            }
        }
        Ok(())
    }

    fn add_purge(&mut self, name: String, record: PurgeRecord) {
        Arc::make_mut(&mut self.hides).add(&record);
        self.purges.insert(name, Arc::new(record));
    }
}

impl Snapshots {
    /// What was purged, oldest first.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn purges(&self) -> Result<Vec<Arc<PurgeRecord>>, SnapshotError> {
        Ok(self.state()?.purges.values().cloned().collect())
    }

    /// Takes a path out of history: durable when this returns. Who holds a lease on the whole copy may call it: no
    /// manifest of a number up to the record's comes into being beside it.
    ///
    /// # Errors
    /// The disk's.
    pub fn purge(&self, record: &PurgeRecord) -> Result<(), SnapshotError> {
        let mut state = self.state()?;
        let name = format!("{}-{}{PURGE_SUFFIX}", name_of(record.until, ""), record.run);
        let path = self.dir.join(&name);
        let bytes = record.encode().map_err(|source| SnapshotError::Record { path: path.clone(), source })?;
        own::write_file(&self.dir, &name, &bytes).map_err(|e| io_error(&path, e))?;
        state.add_purge(name, record.clone());
        Ok(())
    }

    /// What a reader of the manifest file of this number passes over; `root` is that of its snapshot.
    pub(super) fn hidden(&self, root: &RelPath, number: u64) -> Result<Hidden, SnapshotError> {
        Ok(Hidden::of(&self.state()?.hides, root, number))
    }

    /// Whether a snapshot may have less than its record says.
    ///
    /// # Errors
    /// [`SnapshotError::Unknown`], [`SnapshotError::Io`].
    pub fn is_purged(&self, number: u64) -> Result<bool, SnapshotError> {
        let root = self.link(number)?.root.clone();
        Ok(!self.hidden(&root, number)?.is_empty())
    }

    /// The contents of all files that purged paths ever had, as far as their manifests are still there. Other paths may
    /// have some of them, too.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn purged_contents(&self) -> Result<HashSet<Digest>, SnapshotError> {
        let mut contents = HashSet::new();
        let purges = self.purges()?;
        if purges.is_empty() {
            return Ok(contents);
        }
        for record in self.all()? {
            let full = match record.manifest_file {
                ManifestRef::Same { .. } => continue,
                other => other == ManifestRef::Full,
            };
            let hidden = self.hidden(&record.root, record.number)?;
            let below = |purge: &PurgeRecord| match purge.path.strip_prefix(&record.root) {
                None => record.root.is_within(&purge.path).then(RelPath::root),
                inner => inner,
            };
            let of_it = purges.iter().filter(|purge| record.number <= purge.until);
            let mut parts: Vec<RelPath> = of_it.filter_map(|purge| below(purge)).collect();
            if parts.len() > PARTS_MAX {
                parts = vec![RelPath::root()];
            }
            for inner in parts {
                let root = record.root.clone();
                let place = Place { number: record.number, full, base: None, root, snapshots: Vec::new() };
                for found in self.records_in(&place, &inner, Hidden::default())? {
                    if let ChangeRecord::Put(found) = found?
                        && let Some(file) = found.entry.file()
                        && hidden.has(&found.entry.path)
                    {
                        contents.insert(file.digest);
                    }
                }
            }
        }
        Ok(contents)
    }
}
