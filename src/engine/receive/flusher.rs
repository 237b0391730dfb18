//! Early write-back: while content still arrives, what has arrived is flushed, so that the commit's flush finds little.
//!
//! One thread a run. An error from an early flush is an error of the run: the store is closed for writing, as after any
//! other flush that failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::engine::hub::Hub;
use crate::tree::safe_dir::SafeDir;

/// Content that arrives between two early flushes.
const FLUSH_EVERY_BYTES: u64 = 96 * 1024 * 1024;

/// Asks for early flushes.
pub(super) struct Flusher {
    ask: Sender<()>,
    arrived: AtomicU64,
}

/// The thread's side.
pub(super) struct FlushThread {
    asked: Receiver<()>,
    own: Arc<SafeDir>,
}

impl Flusher {
    pub(super) fn new(own: Arc<SafeDir>) -> (Self, FlushThread) {
        let (ask, asked) = bounded(1);
        (Self { ask, arrived: AtomicU64::new(0) }, FlushThread { asked, own })
    }

    /// This much has been written to staging.
    pub(super) fn arrived(&self, bytes: u64) {
        let before = self.arrived.fetch_add(bytes, Ordering::Relaxed);
        if before / FLUSH_EVERY_BYTES != (before + bytes) / FLUSH_EVERY_BYTES {
            self.flush();
        }
    }

    /// All content is there: the disk may as well begin with the rest.
    pub(super) fn complete(&self) {
        if self.arrived.swap(0, Ordering::Relaxed) > 0 {
            self.flush();
        }
    }

    fn flush(&self) {
        // A flush that is under way or asked for already will do.
        let _ = self.ask.try_send(());
    }
}

impl FlushThread {
    /// Flushes when asked, until the [`Flusher`] is dropped.
    pub(super) fn run(self, hub: &Hub) {
        for () in self.asked {
            if let Err(error) = self.own.sync_fs() {
                tracing::error!("an early flush failed, the store is closed for writing: {error}");
                hub.close();
                return;
            }
        }
    }
}
