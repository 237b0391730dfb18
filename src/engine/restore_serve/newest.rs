//! Where in the copy content is, told by the newest manifests: for a catalog that was lost.
//!
//! The catalog knows every file of the copy by its content; without it an older version is found at its own path, in
//! history, or here: what was moved since lies in the copy under another name, and the newest manifest of its root says
//! which. Made only once something was found nowhere else, it holds a name for each content of the copy, about a hundred
//! bytes each, while that restore goes on. Digests are shortened: what is found is verified as everything is.

use std::collections::HashMap;

use crate::backup::digest::Digest;
use crate::backup::relpath::RelPath;
use crate::store::snapshots::{SnapshotError, Snapshots};

/// See the module.
#[derive(Default)]
pub(super) struct Newest {
    places: HashMap<u64, Box<[u8]>>,
}

fn short(digest: &Digest) -> u64 {
    digest.0.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

impl Newest {
    /// Reads the newest manifest of each root.
    ///
    /// # Errors
    /// A manifest cannot be read.
    pub(super) fn read(snapshots: &Snapshots) -> Result<Self, SnapshotError> {
        let mut places = HashMap::new();
        for record in snapshots.roots()? {
            for found in snapshots.open_manifest(record.number)? {
                let entry = found?.entry;
                if let Some(content) = entry.file() {
                    let path = record.root.join_path(&entry.path)?;
                    places.insert(short(&content.digest), path.as_bytes().into());
                }
            }
        }
        Ok(Self { places })
    }

    /// A path that may hold this content.
    pub(super) fn place(&self, digest: &Digest) -> Option<RelPath> {
        RelPath::new(self.places.get(&short(digest))?).ok()
    }
}
