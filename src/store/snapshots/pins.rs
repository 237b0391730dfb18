//! [`SnapshotPin`]: as long as somebody reads a snapshot, what it names is not given back, expired or not.
//!
//! The process that has the store's lock, and alone lets anything go, counts its own readers. A reader in another process
//! (`--store` beside a daemon) holds a shared lock on the file of the record, which stays the same file when it becomes
//! `N.base`; whoever prunes asks, behind that rename, whether he could have it to himself. So a reader who holds it
//! and still finds it under its first name is always seen. The kernel lets go of it with the reader, however that ends, and
//! nothing is written: a store that may only be read is pinned like any other. Where a file system has no locks there is
//! no pin, and who reads says so when the snapshot is gone ([`SnapshotPin::is_lost`]).

use std::fs::{File, TryLockError};
use std::io;
use std::sync::{Arc, PoisonError};

use super::{BASE_SUFFIX, OpenMode, RECORD_SUFFIX, SnapshotError, Snapshots, State, io_error};
use crate::tree::own;

/// Records that are locked at once by who only reads: each is an open file. Who reads more than these (verify) holds the
/// oldest, which expire first.
const LOCKED_MAX: usize = 64;

/// As long as this lives, what the snapshot names can be read, expired or not.
pub struct SnapshotPin {
    snapshots: Arc<Snapshots>,
    number: u64,
    lock: Option<File>,
}

impl SnapshotPin {
    /// Whether the snapshot has expired although this pin was held, because the pin could not be told to other processes.
    pub fn is_lost(&self) -> bool {
        let expired = || matches!(self.snapshots.record(self.number), Err(SnapshotError::Unknown { .. }));
        self.snapshots.mode == OpenMode::ReadOnly && self.lock.is_none() && expired()
    }
}

impl Drop for SnapshotPin {
    fn drop(&mut self) {
        let mut state = self.snapshots.state.lock().unwrap_or_else(PoisonError::into_inner);
        let left = state.pins.get(&self.number).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            state.pins.remove(&self.number);
        } else {
            state.pins.insert(self.number, left);
        }
    }
}

impl Snapshots {
    /// Keeps a snapshot readable until the pin is dropped.
    ///
    /// # Errors
    /// [`SnapshotError::Unknown`]: it has expired.
    pub fn pin(self: &Arc<Self>, number: u64) -> Result<SnapshotPin, SnapshotError> {
        let mut state = self.state()?;
        if !state.records.contains_key(&number) {
            return Err(SnapshotError::Unknown { number });
        }
        let other_process = self.mode == OpenMode::ReadOnly && state.pins.len() < LOCKED_MAX;
        let lock = if other_process { self.lock_record(number)? } else { None };
        *state.pins.entry(number).or_default() += 1;
        Ok(SnapshotPin { snapshots: Arc::clone(self), number, lock })
    }

    /// None: this file system has no locks.
    fn lock_record(&self, number: u64) -> Result<Option<File>, SnapshotError> {
        let path = self.path(number, RECORD_SUFFIX);
        let expired = SnapshotError::Unknown { number };
        let file = match own::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(expired),
            other => other.map_err(|e| io_error(&path, e))?,
        };
        match file.try_lock_shared() {
            // Nobody asks before it has its other name.
            Err(TryLockError::WouldBlock) => return Err(expired),
            Err(TryLockError::Error(error)) => {
                tracing::debug!("'{}' cannot be locked: {error}", path.display());
                return Ok(None);
            }
            Ok(()) => {}
        }
        // Who prunes may have asked before it was locked.
        if own::exists(&path).map_err(|e| io_error(&path, e))? { Ok(Some(file)) } else { Err(expired) }
    }

    /// Whether an expired snapshot is being read, by this process or another.
    pub(super) fn is_pinned(&self, state: &State, number: u64) -> bool {
        if state.pins.contains_key(&number) {
            return true;
        }
        let path = self.path(number, BASE_SUFFIX);
        // Some file systems lock only for themselves what could be written.
        let file = own::open_write(&path).or_else(|_| own::open(&path));
        file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
    }
}
