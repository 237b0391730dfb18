//! Are the manifests what was written? Each file is read once, whole.

use std::path::PathBuf;

use super::manifests::{CHANGES_SUFFIX, MANIFEST_SUFFIX};
use super::{SnapshotError, Snapshots};
use crate::backup::relpath::RelPath;
use crate::tree::own;

/// A manifest file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedManifest {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub why: String,
    /// The snapshots, of those that were asked for, whose manifests stand on it.
    pub snapshots: Vec<u64>,
}

impl Snapshots {
    /// Reads every manifest file that these snapshots stand on. `beat` is called after each with its length.
    ///
    /// # Errors
    /// A number is not known; the first error of `beat`.
    pub fn check_manifests<E: From<SnapshotError>>(
        &self,
        numbers: &[u64],
        beat: &mut dyn FnMut(u64) -> Result<(), E>,
    ) -> Result<Vec<DamagedManifest>, E> {
        let places = self.places(numbers, &RelPath::root())?;
        let mut found: Vec<Option<DamagedManifest>> = Vec::with_capacity(places.len());
        for place in &places {
            let path = self.path(place.number, if place.full { MANIFEST_SUFFIX } else { CHANGES_SUFFIX });
            let length = own::look(&path).map_or(0, |found| found.size);
            let error = match self.records_below(place, &RelPath::root()) {
                Ok(mut records) => records.find_map(Result::err),
                Err(error) => Some(error),
            };
            found.push(error.map(|why| DamagedManifest { path, why: why.to_string(), snapshots: Vec::new() }));
            beat(length)?;
        }
        for (at, place) in places.iter().enumerate() {
            let mut below = Some(at);
            while let Some(here) = below {
                if let Some(Some(damaged)) = found.get_mut(here) {
                    damaged.snapshots.extend(&place.snapshots);
                }
                below = places.get(here).and_then(|place| place.base).filter(|base| *base < here);
            }
        }
        Ok(found.into_iter().flatten().collect())
    }
}
