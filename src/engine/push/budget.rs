//! [`Budget`]: content in flight, in bytes, never more than the window.
//!
//! Taken **in order of the scan** before a read is handed to the pool, given back when the content has left (sent, or
//! found to be there). Because the order of taking is the order of sending, the head of the line always has its share:
//! no deadlock.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// A bounded number of bytes, shared.
#[derive(Clone)]
pub(super) struct Budget {
    inner: Arc<Inner>,
}

struct Inner {
    free: Mutex<u64>,
    more: Condvar,
    all: u64,
}

/// Bytes taken from the budget; given back on drop.
pub(super) struct Share {
    inner: Arc<Inner>,
    bytes: u64,
}

impl Budget {
    pub(super) fn new(bytes: u64) -> Self {
        Self { inner: Arc::new(Inner { free: Mutex::new(bytes), more: Condvar::new(), all: bytes }) }
    }

    /// Waits until `bytes` are free (or, for more than there are, until all is).
    pub(super) fn take(&self, bytes: u64) -> Share {
        let bytes = bytes.min(self.inner.all);
        let free = self.inner.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.inner.more.wait_while(free, |free| *free < bytes).unwrap_or_else(PoisonError::into_inner);
        *free -= bytes;
        Share { inner: Arc::clone(&self.inner), bytes }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        *self.inner.free.lock().unwrap_or_else(PoisonError::into_inner) += self.bytes;
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
            move || drop(budget.take(3))
        });
        drop(all);
        waiter.join().unwrap();
        drop(budget.take(10));
    }
}
