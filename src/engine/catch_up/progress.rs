//! How far it is: for the far end's bars, and for who asks the daemon.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::net::link::{LinkError, LinkSender};
use crate::net::message::Progress;

/// Told at most this often.
const EVERY: Duration = Duration::from_secs(1);

/// Who wants to know: bytes that are dealt with, of so many once that is known. Told again while the far end only says that it
/// is at work. Must not wait.
pub(in crate::engine) type Told<'a> = dyn Fn(u64, Option<u64>) + Sync + 'a;

/// See the module.
pub(super) struct Tally<'a> {
    told: &'a Told<'a>,
    total: AtomicU64,
    total_known: AtomicBool,
    done: AtomicU64,
    files: AtomicU64,
    last: Mutex<Option<Instant>>,
}

impl<'a> Tally<'a> {
    pub(super) fn new(told: &'a Told<'a>) -> Self {
        Self {
            told,
            total: AtomicU64::new(0),
            total_known: AtomicBool::new(false),
            done: AtomicU64::new(0),
            files: AtomicU64::new(0),
            last: Mutex::new(None),
        }
    }

    /// So much more has to be dealt with.
    pub(super) fn plan(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// There is no more than that.
    pub(super) fn planned(&self) {
        self.total_known.store(true, Ordering::Relaxed);
    }

    /// The far end is at work.
    pub(super) fn alive(&self) {
        let (total, total_known) = (self.total.load(Ordering::Relaxed), self.total_known.load(Ordering::Relaxed));
        // What is sent once more is dealt with once.
        (self.told)(self.done.load(Ordering::Relaxed).min(total), total_known.then_some(total));
    }

    /// So much was sent, or is not needed.
    pub(super) fn advance(&self, link: &LinkSender, bytes: u64, files: u64) -> Result<(), LinkError> {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        self.files.fetch_add(files, Ordering::Relaxed);
        {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_some_and(|last| last.elapsed() < EVERY) {
                return Ok(());
            }
            *last = Some(Instant::now());
        }
        self.alive();
        let (total, total_known) = (self.total.load(Ordering::Relaxed), self.total_known.load(Ordering::Relaxed));
        let bytes_done = self.done.load(Ordering::Relaxed).min(total);
        let files_done = self.files.load(Ordering::Relaxed);
        link.send(Progress { bytes_done, bytes_total: total, files_done, total_known })
    }
}
