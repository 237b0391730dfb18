//! [`Shutdown`]: a signal that is given once and seen by everybody, threads and tasks alike.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Given once, never taken back. Clones are the same signal.
#[derive(Clone, Default)]
pub struct Shutdown {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    given: Mutex<bool>,
    threads: Condvar,
    tasks: Notify,
}

impl Shutdown {
    /// A signal that has not been given.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the signal.
    pub fn trigger(&self) {
        *self.inner.given.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.inner.threads.notify_all();
        self.inner.tasks.notify_waiters();
    }

    /// Whether it has been given.
    pub fn is_triggered(&self) -> bool {
        *self.inner.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits in this thread until it is given.
    pub fn wait(&self) {
        let mut given = self.inner.given.lock().unwrap_or_else(PoisonError::into_inner);
        while !*given {
            given = self.inner.threads.wait(given).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits in this thread, at most `patience`; says whether it was given.
    pub fn wait_timeout(&self, patience: Duration) -> bool {
        let deadline = Instant::now().checked_add(patience);
        let mut given = self.inner.given.lock().unwrap_or_else(PoisonError::into_inner);
        while !*given {
            let left = deadline.map_or(patience, |d| d.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            given = self.inner.threads.wait_timeout(given, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *given
    }

    /// Waits in a task until it is given. Cancel-safe.
    pub async fn triggered(&self) {
        let mut notified = std::pin::pin!(self.inner.tasks.notified());
        loop {
            // Enlist before looking, so that a signal in between is not missed.
            notified.as_mut().enable();
            if self.is_triggered() {
                return;
            }
            notified.as_mut().await;
            notified.set(self.inner.tasks.notified());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_reaches_threads_and_tasks_before_and_after() {
        let signal = Shutdown::new();
        assert!(!signal.is_triggered());
        assert!(!signal.wait_timeout(Duration::from_millis(1)));
        let waiting = signal.clone();
        let thread = std::thread::spawn(move || waiting.wait());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let giving = signal.clone();
        runtime.block_on(async { tokio::join!(signal.triggered(), async { giving.trigger() }) });
        thread.join().unwrap();
        assert!(signal.wait_timeout(Duration::ZERO));
        runtime.block_on(signal.triggered());
    }
}
