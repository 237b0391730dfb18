//! Write-back begins while content still comes, so that the last flush finds little (measured: a tenth of the time of a
//! whole kernel tree). An error here is left to that last flush: the kernel tells it again, or the write fails.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::Shared;

/// Content between two flushes.
const FLUSH_EVERY_BYTES: u64 = 128 * 1024 * 1024;
/// How often is looked how much has come.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Flushes now and then, until `done` is closed.
pub(super) fn run(shared: &Shared<'_>, done: &Receiver<()>) {
    let mut next = FLUSH_EVERY_BYTES;
    while done.recv_timeout(LOOK_AGAIN) == Err(RecvTimeoutError::Timeout) {
        let Some(base) = shared.ground.get().and_then(|ground| ground.base.as_ref()) else { continue };
        if shared.tally.bytes_received() >= next {
            if let Err(error) = base.sync_fs() {
                tracing::debug!("an early flush failed: {error}");
            }
            next = shared.tally.bytes_received() + FLUSH_EVERY_BYTES;
        }
    }
}
