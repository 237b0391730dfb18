//! [`Stop`]: a person asks a running command to end.
//!
//! To stop is to close the conversation with the store: every thread of a run ends when the link does, and the store
//! keeps in staging what has arrived. There is no flag that all loops would have to look at. Always holds: `Stop` keeps
//! no link open that nobody else does.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::error::{EngineError, ErrorKind};
use crate::net::link::{LinkSender, WeakLinkSender};

/// Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    asked: Condvar,
}

#[derive(Debug, Default)]
struct State {
    asked: bool,
    link: Option<WeakLinkSender>,
}

impl PartialEq for Stop {
    /// Options are alike whoever can stop them.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Stop {}

impl Stop {
    /// Closes the conversation under way, if there is one, and keeps new ones from beginning. Waits, for a few seconds,
    /// until what was queued is sent.
    pub fn ask(&self) {
        let link = {
            let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.asked = true;
            state.link.take()
        };
        self.0.asked.notify_all();
        if let Some(link) = link.and_then(|link| link.upgrade()) {
            link.close();
        }
    }

    /// Whether there is a conversation to be closed.
    pub fn is_talking(&self) -> bool {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.link.as_ref().is_some_and(|link| link.upgrade().is_some())
    }

    /// Whether somebody asked.
    pub fn is_asked(&self) -> bool {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).asked
    }

    /// A conversation begins, unless somebody asked.
    pub(crate) fn begin(&self, link: &LinkSender) -> Result<(), EngineError> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.asked {
            return Err(interrupted());
        }
        state.link = Some(link.downgrade());
        Ok(())
    }

    /// Waits, but no longer than until somebody asks.
    pub(crate) fn pause(&self, time: Duration) {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        // A poisoned lock has nothing to say about the time.
        drop(self.0.asked.wait_timeout_while(state, time, |state| !state.asked));
    }

    /// What ended the conversation, if it was not its end by itself.
    pub(crate) fn or(&self, error: EngineError) -> EngineError {
        if self.is_asked() { interrupted() } else { error }
    }
}

fn interrupted() -> EngineError {
    EngineError::new(ErrorKind::Interrupted, "interrupted")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::link::{Link, LinkError};

    #[test]
    fn a_stop_ends_the_conversation_and_lets_no_other_begin() {
        let (stop, (ours, mut theirs)) = (Stop::default(), Link::pair());
        stop.begin(&ours.sender).unwrap();
        let failed = EngineError::new(ErrorKind::Failed, "x");
        assert_eq!(stop.or(failed.clone()).kind, ErrorKind::Failed);
        let asking = stop.clone();
        std::thread::spawn(move || asking.ask());
        assert_eq!(theirs.recv(), Err(LinkError::Closed));
        stop.pause(Duration::MAX);
        assert_eq!(stop.or(failed).kind, ErrorKind::Interrupted);
        assert_eq!(stop.begin(&ours.sender).unwrap_err().exit_code(), 130);
    }

    #[test]
    fn a_conversation_that_is_over_is_not_kept_open() {
        let (stop, (ours, mut theirs)) = (Stop::default(), Link::pair());
        stop.begin(&ours.sender).unwrap();
        assert!(stop.is_talking());
        drop(ours);
        assert!(!stop.is_talking());
        assert_eq!(theirs.recv(), Err(LinkError::Closed));
        stop.ask();
    }
}
