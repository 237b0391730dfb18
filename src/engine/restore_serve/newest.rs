//! Where in the copy content is, told by the newest manifests: for a catalog that was lost.
//!
//! The catalog knows every file of the copy by its content; without it an older version is found at its own path, in
//! history, or here: what was moved since lies in the copy under another name, and the newest manifest of its root says
//! which. Made only once something was found nowhere else, it holds the names of each content of the copy, about a hundred
//! bytes each, while that restore goes on; several, for one of these files may be damaged or gone. Digests are shortened:
//! what is found is verified as everything is.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::backup::digest::Digest;
use crate::backup::relpath::RelPath;
use crate::backup::snapshot::SnapshotRecord;
use crate::store::snapshots::{SnapshotError, Snapshots};

/// Names of one content that are kept: of an empty file, say, a copy may have a great many.
const NAMES_MAX: usize = 16;

/// See the module.
#[derive(Default)]
pub(super) struct Newest {
    places: HashMap<u64, Box<[u8]>>,
    /// Of contents that have several names, all but the first.
    more: HashMap<u64, Vec<Box<[u8]>>>,
}

fn short(digest: &Digest) -> u64 {
    digest.0.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

impl Newest {
    /// Reads the newest manifest of each root; of one that cannot be read, as far as it can. That is told in the log.
    pub(super) fn read(snapshots: &Snapshots, roots: &[Arc<SnapshotRecord>]) -> Self {
        let mut newest = Self::default();
        for record in roots {
            if let Err(error) = newest.read_one(snapshots, record) {
                tracing::warn!("a newest manifest cannot be used: {error}");
            }
        }
        newest
    }

    fn read_one(&mut self, snapshots: &Snapshots, record: &SnapshotRecord) -> Result<(), SnapshotError> {
        for found in snapshots.open_manifest(record.number)? {
            let entry = found?.entry;
            if let Some(content) = entry.file() {
                let path = record.root.join_path(&entry.path)?;
                self.add(short(&content.digest), path.as_bytes().into());
            }
        }
        Ok(())
    }

    fn add(&mut self, content: u64, path: Box<[u8]>) {
        match self.places.entry(content) {
            Entry::Vacant(first) => drop(first.insert(path)),
            Entry::Occupied(_) => {
                let more = self.more.entry(content).or_default();
                if more.len() + 1 < NAMES_MAX {
                    more.push(path);
                }
            }
        }
    }

    /// Paths that may hold this content.
    pub(super) fn places(&self, digest: &Digest) -> Vec<RelPath> {
        let content = short(digest);
        let all = self.places.get(&content).into_iter().chain(self.more.get(&content).into_iter().flatten());
        all.filter_map(|path| RelPath::new(path).ok()).collect()
    }
}
