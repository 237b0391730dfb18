//! [`Budget`]: content in flight, in bytes, never more than the window.
//!
//! Taken **in order of the scan** before a read is handed to the pool, given back when the content has left (sent, or
//! found to be there). Because the order of taking is the order of sending, the head of the line always has its share:
//! no deadlock.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A bounded number of bytes, shared.
#[derive(Clone)]
pub(super) struct Budget {
    inner: Arc<Inner>,
}

struct Inner {
    free: Mutex<Free>,
    more: Condvar,
    all: u64,
}

struct Free {
    bytes: u64,
    closed: bool,
}

/// Bytes taken from the budget; given back on drop.
pub(super) struct Share {
    inner: Arc<Inner>,
    bytes: u64,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Budget {
    pub(super) fn new(bytes: u64) -> Self {
        let free = Mutex::new(Free { bytes, closed: false });
        Self { inner: Arc::new(Inner { free, more: Condvar::new(), all: bytes }) }
    }

    /// Waits until `bytes` are free (or, for more than there are, until all is); none once the run is over.
    pub(super) fn take(&self, bytes: u64) -> Option<Share> {
        let bytes = bytes.min(self.inner.all);
        let waiting = |free: &mut Free| free.bytes < bytes && !free.closed;
        let mut free = self.inner.more.wait_while(self.inner.lock(), waiting).unwrap_or_else(PoisonError::into_inner);
        if free.closed {
            return None;
        }
        free.bytes -= bytes;
        Some(Share { inner: Arc::clone(&self.inner), bytes })
    }

    /// The run is over: whoever waits stops waiting.
    pub(super) fn close(&self) {
        self.inner.lock().closed = true;
        self.inner.more.notify_all();
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.inner.lock().bytes += self.bytes;
        self.inner.more.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back() {
        let budget = Budget::new(10);
        let all = budget.take(100);
        let waiter = std::thread::spawn({
            let budget = budget.clone();
            move || budget.take(3).is_some()
        });
        drop(all);
        assert!(waiter.join().unwrap());
        assert!(budget.take(10).is_some());
    }

    #[test]
    fn a_run_that_ends_lets_go_of_whoever_waits() {
        let budget = Budget::new(10);
        let _all = budget.take(10);
        let waiter = std::thread::spawn({
            let budget = budget.clone();
            move || budget.take(3).is_none()
        });
        budget.close();
        assert!(waiter.join().unwrap());
    }
}
