//! [`Busy`]: tells the client that its run goes on while nothing else is said: from its lease to its leave to send; while a
//! message keeps us at work (the first question waits for the stat pass, the disk may be slow); from the end of its manifest
//! to the answer, whatever takes so long (the plan, preparing, flushes, placing); and to a daemon, which stays on the line,
//! what follows its receipt.
//!
//! One thread a run says so every [`EVERY`], and each phase after the manifest when it begins. Nothing waits for a peer that does not
//! read: what finds no room in the link's queue is dropped, for something that will be read is queued then.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::backup::limits::KEEPALIVE_SECS;
use crate::net::link::LinkSender;
use crate::net::message;

/// How often a run says that it goes on.
pub(super) const EVERY: Duration = Duration::from_secs(KEEPALIVE_SECS);

/// See the module.
pub(super) struct Busy {
    link: LinkSender,
    state: Mutex<State>,
    over: Condvar,
}

#[derive(Default)]
struct State {
    /// None: the client is not waiting for us.
    phase: Option<u8>,
    over: bool,
}

impl Busy {
    pub(super) fn new(link: LinkSender) -> Self {
        Self { link, state: Mutex::default(), over: Condvar::new() }
    }

    /// A phase begins: 1 looking at the copy, 2 preparing, 3 flushing, 4 placing, 5 what follows the receipt.
    pub(super) fn enter(&self, phase: u8) {
        let mut state = self.state();
        state.phase = Some(phase);
        self.say(&state);
    }

    /// The same, but it need not be said before it has taken a while: 0 what there is from before, 1 a message.
    pub(super) fn at_work(&self, phase: u8) {
        self.state().phase = Some(phase);
    }

    /// The answer comes: nothing of this may follow it.
    pub(super) fn leave(&self) {
        self.state().phase = None;
    }

    /// The thread; ends when the [`Ending`] is dropped.
    pub(super) fn run(&self, every: Duration) {
        let mut state = self.state();
        while !state.over {
            let woken = self.over.wait_timeout(state, every).unwrap_or_else(PoisonError::into_inner);
            state = woken.0;
            if !state.over && woken.1.timed_out() {
                self.say(&state);
            }
        }
    }

    /// Ends the thread when it is dropped.
    pub(super) fn ending(&self) -> Ending<'_> {
        Ending(self)
    }

    fn say(&self, state: &State) {
        if let Some(phase) = state.phase {
            // A client that has gone does not stop a run that has come this far.
            let _ = self.link.try_send(message::Busy { phase });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Busy::ending`].
pub(super) struct Ending<'a>(&'a Busy);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.state().over = true;
        self.0.over.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::limits::LINK_QUEUE_MAX;
    use crate::net::link::Link;
    use crate::net::message::Missing;

    #[test]
    fn whoever_waits_hears_of_it_again_and_again_but_not_after_the_answer() {
        let (ours, mut theirs) = Link::pair();
        let busy = Busy::new(ours.sender.clone());
        std::thread::scope(|scope| {
            let ending = busy.ending();
            scope.spawn(|| busy.run(Duration::from_millis(1)));
            busy.enter(1);
            for _ in 0..3 * LINK_QUEUE_MAX {
                assert_eq!(theirs.recv(), Ok(message::Busy { phase: 1 }.into()));
            }
            busy.leave();
            ours.send(Missing { paths: Vec::new(), last: true }).unwrap();
            drop(ending);
        });
        drop((busy, ours));
        let mut rest = Vec::new();
        while let Ok(message) = theirs.recv() {
            rest.push(message);
        }
        assert_eq!(rest.last(), Some(&Missing { paths: Vec::new(), last: true }.into()));
    }

    #[test]
    fn work_is_told_of_once_it_takes_a_while() {
        let (ours, mut theirs) = Link::pair();
        let busy = Busy::new(ours.sender.clone());
        busy.at_work(1);
        assert_eq!(theirs.recv_timeout(Duration::ZERO), Ok(None));
        std::thread::scope(|scope| {
            let ending = busy.ending();
            scope.spawn(|| busy.run(Duration::from_millis(1)));
            assert_eq!(theirs.recv(), Ok(message::Busy { phase: 1 }.into()));
            drop(ending);
        });
    }

    #[test]
    fn a_peer_that_does_not_read_stalls_nothing() {
        let (ours, mut theirs) = Link::pair();
        let busy = Busy::new(ours.sender.clone());
        for phase in 0..100 {
            busy.enter(phase);
        }
        for phase in 0..LINK_QUEUE_MAX as u8 {
            assert_eq!(theirs.recv(), Ok(message::Busy { phase }.into()));
        }
    }
}
