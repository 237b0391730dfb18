//! The files whose content is on its way, by batch and index; the comparer fills it, the receiver empties it.

use std::collections::{HashMap, HashSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::backup::entry::Entry;
use crate::backup::relpath::RelPath;
use crate::engine::error::{EngineError, ErrorKind};

/// A file that is to be written.
#[derive(Debug)]
pub(super) struct Awaited {
    pub(super) entry: Entry,
    /// Below the ground's base.
    pub(super) place: RelPath,
    /// Something is there that it replaces.
    pub(super) existed: bool,
}

/// What is to happen with the content of one entry of a batch.
#[derive(Debug)]
pub(super) enum Slot {
    /// None comes.
    Nothing,
    /// It is written.
    Awaited(Box<Awaited>),
    /// It comes unasked and is passed over.
    Ignored(u64),
}

/// See the module.
pub(super) struct Table {
    /// All content comes unasked.
    pub(super) all: bool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    batches: HashMap<u32, (Vec<Slot>, usize)>,
    /// Batches that the comparer has dealt with.
    dealt: u32,
    /// Files whose content has not come yet.
    outstanding: u64,
    compared: bool,
    /// The server has said that no more entries come.
    ended: bool,
    stopped: bool,
    failure: Option<EngineError>,
    /// First names of hard links that hold what they should.
    leaders: HashSet<RelPath>,
}

fn protocol(what: &str) -> EngineError {
    EngineError::new(ErrorKind::Failed, format!("the other side broke the protocol: {what}"))
}

impl Table {
    pub(super) fn new(all: bool) -> Self {
        Self { all, state: Mutex::default(), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The comparer has dealt with the next batch.
    pub(super) fn add(&self, batch: u32, slots: Vec<Slot>) {
        let mut state = self.state();
        let left = slots.iter().filter(|slot| !matches!(slot, Slot::Nothing)).count();
        state.dealt = batch + 1;
        state.outstanding += left as u64;
        if left > 0 {
            state.batches.insert(batch, (slots, left));
        }
        self.changed.notify_all();
    }

    /// Takes out a file whose content begins to come. Content that comes unasked may be here before the comparer is.
    pub(super) fn take(&self, batch: u32, index: u32, trees: u32) -> Result<Slot, EngineError> {
        let mut state = self.state();
        while self.all && batch < trees && state.dealt <= batch && !state.compared && !state.stopped {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.stopped {
            return Err(EngineError::new(ErrorKind::Failed, "the restore was stopped"));
        }
        let not_asked = || protocol("content came that was not asked for");
        let (slots, left) = state.batches.get_mut(&batch).ok_or_else(not_asked)?;
        let slot = slots.get_mut(index as usize).ok_or_else(not_asked)?;
        if matches!(slot, Slot::Nothing) {
            return Err(not_asked());
        }
        let taken = std::mem::replace(slot, Slot::Nothing);
        *left -= 1;
        if *left == 0 {
            state.batches.remove(&batch);
        }
        state.outstanding -= 1;
        Ok(taken)
    }

    /// The comparer has ended, well or not.
    pub(super) fn compared(&self) {
        self.state().compared = true;
        self.changed.notify_all();
    }

    /// The server has said that no more entries come. To be called before the comparer can find that none do.
    pub(super) fn entries_ended(&self) {
        self.state().ended = true;
    }

    /// Whether the comparer has seen all that the snapshot has, and not what came before the link broke.
    pub(super) fn is_whole(&self) -> bool {
        let state = self.state();
        state.ended && !state.stopped
    }

    /// Whether all content has begun to come and none will be asked for any more.
    pub(super) fn is_complete(&self) -> bool {
        let state = self.state();
        state.compared && state.outstanding == 0
    }

    /// Nothing more is to be done; `error` says why, if it is not told otherwise.
    pub(super) fn stop(&self, error: Option<EngineError>) {
        let mut state = self.state();
        state.stopped = true;
        if state.failure.is_none() {
            state.failure = error;
        }
        self.changed.notify_all();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    /// Why it was stopped.
    pub(super) fn failure(&self) -> Option<EngineError> {
        self.state().failure.clone()
    }

    /// This first name of a hard link holds what it should.
    pub(super) fn leader_is_good(&self, path: &RelPath) {
        self.state().leaders.insert(path.clone());
    }

    /// Whether it does.
    pub(super) fn is_good_leader(&self, path: &RelPath) -> bool {
        self.state().leaders.contains(path)
    }
}
