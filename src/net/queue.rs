//! [`Queue`]: the bounded queue between a plain thread and a task, either way round, or between two threads.
//!
//! One mechanism for all, because a link needs three things at once that no channel at hand has together: waiting with
//! a deadline in a thread, waiting in a task, and an end that carries its reason while what was queued before is still
//! delivered. Any number of threads may push; one thread or task pops. No more than one task waits on either side.
//!
//! It is bounded in items and in bytes: a peer may fill each message to its limit. One item always fits.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::link::LinkError;
use crate::backup::limits::BULK_FRAME_BYTES_MAX;

/// Words that find room in a queue that is full.
const WORDS_SPARE: usize = 4;
/// A word is as short as this.
const WORD_BYTES_MAX: usize = 1024;

/// A bounded queue with an end that has a reason.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    items_max: usize,
    /// Bytes of an item that count.
    weigh: fn(&T) -> usize,
    /// Something to pop, or the end: for a thread, and for a task.
    filled: Condvar,
    filled_task: Notify,
    /// Space, or the end: for threads, and for a task.
    space: Condvar,
    space_task: Notify,
}

struct State<T> {
    items: VecDeque<T>,
    bytes: usize,
    end: Option<LinkError>,
}

impl<T> Queue<T> {
    pub(super) fn new(items_max: usize, weigh: fn(&T) -> usize) -> Self {
        Self {
            state: Mutex::new(State { items: VecDeque::with_capacity(items_max), bytes: 0, end: None }),
            items_max,
            weigh,
            filled: Condvar::new(),
            filled_task: Notify::new(),
            space: Condvar::new(),
            space_task: Notify::new(),
        }
    }

    /// Appends; waits in this thread while the queue is full.
    pub(super) fn push(&self, item: T) -> Result<(), LinkError> {
        let mut state = self.lock();
        loop {
            if let Some(end) = &state.end {
                return Err(end.clone());
            }
            if self.fits(&state, &item) {
                self.put(&mut state, item);
                return Ok(());
            }
            state = self.space.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Appends if there is space, and a short word also beyond it ([`WORDS_SPARE`]): a line that is busy is always full, and
    /// what keeps a conversation alive is said on it all the same. False: there is none.
    pub(super) fn try_push(&self, item: T) -> Result<bool, LinkError> {
        let mut state = self.lock();
        match &state.end {
            Some(end) => Err(end.clone()),
            None if !self.fits(&state, &item) && !self.is_spare_word(&state, &item) => Ok(false),
            None => {
                self.put(&mut state, item);
                Ok(true)
            }
        }
    }

    /// Appends; the task waits while the queue is full. Says whether it had to wait. Cancel-safe but for `item`.
    pub(super) async fn push_async(&self, item: T) -> Result<bool, LinkError> {
        let mut waited = false;
        loop {
            {
                let mut state = self.lock();
                if let Some(end) = &state.end {
                    return Err(end.clone());
                }
                if self.fits(&state, &item) {
                    self.put(&mut state, item);
                    return Ok(waited);
                }
            }
            waited = true;
            self.space_task.notified().await;
        }
    }

    /// Takes the first; waits in this thread, until `deadline` if there is one. `Ok(None)`: the deadline passed.
    pub(super) fn pop(&self, deadline: Option<Instant>) -> Result<Option<T>, LinkError> {
        let mut state = self.lock();
        loop {
            if let Some(item) = self.take(&mut state)? {
                return Ok(Some(item));
            }
            state = match deadline {
                None => self.filled.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(None);
                    }
                    self.filled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Takes the first if there is one.
    pub(super) fn try_pop(&self) -> Result<Option<T>, LinkError> {
        self.take(&mut self.lock())
    }

    /// Takes the first; the task waits. Cancel-safe. `Ok(None)`: `patience` is over.
    pub(super) async fn pop_async(&self, patience: Duration) -> Result<Option<T>, LinkError> {
        let wait = async {
            loop {
                if let Some(item) = self.try_pop()? {
                    return Ok(item);
                }
                self.filled_task.notified().await;
            }
        };
        match tokio::time::timeout(patience, wait).await {
            Ok(item) => item.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Waits in a task until there is something to take; false: it ended without. Cancel-safe. Only while no other task
    /// waits to pop.
    pub(super) async fn something(&self) -> bool {
        loop {
            {
                let state = self.lock();
                if !state.items.is_empty() || state.end.is_some() {
                    return !state.items.is_empty();
                }
            }
            self.filled_task.notified().await;
        }
    }

    /// Ends the queue: pushes fail from now on; pops fail once it is empty. The first reason stays.
    pub(super) fn end(&self, reason: LinkError) {
        let mut state = self.lock();
        if state.end.is_none() {
            state.end = Some(reason);
        }
        drop(state);
        self.filled.notify_all();
        self.space.notify_all();
        self.filled_task.notify_one();
        self.space_task.notify_one();
    }

    /// Ends the queue and throws away what is queued, in one step: nothing is popped any more. The reason is told in
    /// place of an earlier one, which would have let what was queued be delivered.
    pub(super) fn cut(&self, reason: LinkError) {
        let items = {
            let mut state = self.lock();
            state.end = Some(reason.clone());
            state.bytes = 0;
            std::mem::take(&mut state.items)
        };
        drop(items);
        self.end(reason);
    }

    /// Throws away what is queued.
    pub(super) fn clear(&self) {
        let items = {
            let mut state = self.lock();
            state.bytes = 0;
            std::mem::take(&mut state.items)
        };
        drop(items);
    }

    fn fits(&self, state: &State<T>, item: &T) -> bool {
        state.items.is_empty()
            || state.items.len() < self.items_max && state.bytes + (self.weigh)(item) <= BULK_FRAME_BYTES_MAX
    }

    fn is_spare_word(&self, state: &State<T>, item: &T) -> bool {
        state.items.len() < self.items_max + WORDS_SPARE && (self.weigh)(item) <= WORD_BYTES_MAX
    }

    fn put(&self, state: &mut State<T>, item: T) {
        state.bytes += (self.weigh)(&item);
        state.items.push_back(item);
        self.filled.notify_one();
        self.filled_task.notify_one();
    }

    fn take(&self, state: &mut State<T>) -> Result<Option<T>, LinkError> {
        match (state.items.pop_front(), &state.end) {
            (Some(item), _) => {
                state.bytes = state.bytes.saturating_sub((self.weigh)(&item));
                self.space.notify_one();
                self.space_task.notify_one();
                Ok(Some(item))
            }
            (None, Some(end)) => Err(end.clone()),
            (None, None) => Ok(None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_full_by_count_and_by_bytes() {
        let queue = Queue::new(3, |bytes: &usize| *bytes);
        let push = |bytes: usize| queue.try_push(bytes).unwrap();
        // One fits, whatever it is; with it nothing does but words.
        let long = WORD_BYTES_MAX + 1;
        assert_eq!([push(BULK_FRAME_BYTES_MAX + 1), push(long), push(1)], [true, false, true]);
        queue.clear();
        assert_eq!([push(BULK_FRAME_BYTES_MAX - long), push(long + 1), push(long)], [true, false, true]);
        queue.clear();
        assert_eq!([push(long), push(long), push(long), push(long)], [true, true, true, false]);
        // And of those not any number.
        assert_eq!([push(1), push(1), push(1), push(1), push(1)], [true, true, true, true, false]);
        queue.cut(LinkError::Revoked);
        assert_eq!((queue.try_pop(), queue.try_push(1)), (Err(LinkError::Revoked), Err(LinkError::Revoked)));
    }
}
