//! [`Held`]: the snapshot that a request is answered from, kept from expiring until it is read, and what to say when that
//! could not be helped.

use std::sync::Arc;

use crate::backup::relpath::RelPath;
use crate::backup::snapshot::SnapshotRecord;
use crate::backup::when::{When, expired_meanwhile};
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::past_serve::choose;
use crate::store::snapshots::{SnapshotError, SnapshotPin, Snapshots};

/// Times that another snapshot is chosen because the one at hand has just expired.
const AGAIN_MAX: u32 = 5;

/// See the module.
pub(in crate::engine) struct Held {
    pub(super) snapshots: Arc<Snapshots>,
    pub(super) record: Arc<SnapshotRecord>,
    /// The path that was asked for, below the snapshot's root.
    pub(super) inner: RelPath,
    pin: SnapshotPin,
}

impl Held {
    /// The snapshot that has `path` at that time.
    ///
    /// # Errors
    /// A sentence that says which snapshots have it, or what there is; or a manifest cannot be read.
    pub(super) fn choose(snapshots: Arc<Snapshots>, path: &RelPath, when: When) -> Result<Self, EngineError> {
        for _ in 0..AGAIN_MAX {
            let (record, inner) = choose(&snapshots, path, when)?;
            match snapshots.pin(record.number) {
                Ok(pin) => return Ok(Self { snapshots, record, inner, pin }),
                Err(SnapshotError::Unknown { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(EngineError::new(ErrorKind::Failed, "snapshots expire faster than they can be read; try again"))
    }

    /// That the snapshot has expired, if that is so and nothing held it.
    pub(super) fn gone(&self) -> Option<EngineError> {
        if !self.pin.is_lost() {
            return None;
        }
        let left: Vec<u64> = self.snapshots.list().ok()?.iter().map(|record| record.number).collect();
        Some(EngineError::new(ErrorKind::Failed, expired_meanwhile(self.record.number, &left)))
    }

    /// Whether this path of the copy was taken out of the snapshot since it was chosen.
    pub(super) fn is_purged(&self, path: &RelPath) -> bool {
        let number = self.record.number;
        self.snapshots
            .purges()
            .is_ok_and(|purges| purges.iter().any(|purge| number <= purge.until && path.is_within(&purge.path)))
    }
}
