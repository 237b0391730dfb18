//! Counts and notes of a restore, filled by several threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::RestoreSummary;

/// Most notes that are kept word for word.
const NOTES_MAX: usize = 200;

/// What became of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Became {
    Created,
    Updated,
    Deleted,
    Touched,
    Unchanged,
}

/// See the module.
#[derive(Default)]
pub(super) struct Tally {
    became: [AtomicU64; 5],
    files: AtomicU64,
    bytes: AtomicU64,
    received: AtomicU64,
    errors: AtomicU64,
    notes: Mutex<(Vec<String>, u64)>,
}

impl Tally {
    pub(super) fn count(&self, became: Became) {
        if let Some(counter) = self.became.get(became as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A file is part of what is restored; `bytes` is 0 for a further name of one that was counted.
    pub(super) fn file(&self, bytes: u64) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Content bytes that came (in a dry run: would come).
    pub(super) fn received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// How much has come so far.
    pub(super) fn bytes_received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(super) fn failed(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note(&self, note: String) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.0.len() < NOTES_MAX {
            notes.0.push(note);
        } else {
            notes.1 += 1;
        }
    }

    /// The part of the summary that is counted here.
    pub(super) fn summary(&self) -> RestoreSummary {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let [created, updated, deleted, touched, unchanged] = &self.became;
        let (mut notes, more) = self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if more > 0 {
            notes.push(format!("and {more} more that could not be applied"));
        }
        RestoreSummary {
            created: get(created),
            updated: get(updated),
            deleted: get(deleted),
            touched: get(touched),
            unchanged: get(unchanged),
            files: get(&self.files),
            bytes: get(&self.bytes),
            content_bytes_received: get(&self.received),
            errors: get(&self.errors),
            notes,
            ..RestoreSummary::default()
        }
    }
}
