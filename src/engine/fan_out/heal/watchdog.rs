//! [`Watchdog`]: ends a catch-up whose far end is not heard of any more, so that nobody keeps a place for ever.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded};

use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::stop::Stop;

/// No word of it, and nothing sent either, for so long. Our own part may take a while: reading two manifests, for one.
const SILENT: Duration = Duration::from_secs(120);
/// It says that it is at work, and nothing moves for so long.
const STUCK: Duration = Duration::from_secs(3600);
/// How often it looks.
const LOOK: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Watchdog(Mutex<Seen>);

struct Seen {
    /// Bytes dealt with, of so many.
    at: (u64, Option<u64>),
    moved: Instant,
    heard: Instant,
}

impl Watchdog {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(Seen { at: (0, None), moved: now, heard: now }))
    }

    /// What a catch-up tells.
    pub(super) fn told(&self, bytes: u64, total: Option<u64>, now: Instant) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.heard = now;
        if std::mem::replace(&mut seen.at, (bytes, total)) != (bytes, total) {
            seen.moved = now;
        }
    }

    /// Why it is to end.
    fn verdict(&self, now: Instant) -> Option<&'static str> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(seen.heard) >= SILENT {
            return Some("it showed no sign of life");
        }
        (now.saturating_duration_since(seen.moved) >= STUCK).then_some("it was busy with one thing for too long")
    }

    /// Does `work`, which ends soon after `stop` is asked; it is when there is a verdict, which is the error then.
    pub(super) fn watch<T>(
        &self,
        stop: &Stop,
        work: impl FnOnce() -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let (over, is_over) = bounded::<()>(0);
        thread::scope(|scope| {
            let watching = scope.spawn(move || {
                loop {
                    match (is_over.recv_timeout(LOOK), self.verdict(Instant::now())) {
                        (Err(RecvTimeoutError::Timeout), None) => {}
                        (Err(RecvTimeoutError::Timeout), Some(why)) => {
                            stop.ask();
                            return Some(why);
                        }
                        _ => return None,
                    }
                }
            });
            let done = work();
            drop(over);
            match (done, watching.join()) {
                (Err(_), Ok(Some(why))) => Err(EngineError::new(ErrorKind::Unreachable, why)),
                (done, _) => done,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_silent_and_who_is_stuck_is_ended() {
        let start = Instant::now();
        let dog = Watchdog::new(start);
        assert_eq!(dog.verdict(start + SILENT - LOOK), None);
        assert_eq!(dog.verdict(start + SILENT), Some("it showed no sign of life"));
        // Busy, but nothing moves.
        let mut now = start;
        while now < start + STUCK {
            assert_eq!(dog.verdict(now), None);
            now += SILENT / 2;
            dog.told(0, None, now);
        }
        assert!(dog.verdict(now).is_some_and(|why| why.contains("busy")));
        dog.told(1, None, now);
        assert_eq!(dog.verdict(now), None);
        dog.told(1, Some(5), now + STUCK);
        assert_eq!(dog.verdict(now + STUCK), None, "the total is news too");
    }

    #[test]
    fn work_that_is_over_is_not_waited_for_and_one_that_hangs_is_stopped() {
        let stop = Stop::default();
        assert_eq!(Watchdog::new(Instant::now()).watch(&stop, || Ok(7)).ok(), Some(7));
        assert!(!stop.is_asked());
        let long_ago = Instant::now().checked_sub(SILENT).unwrap();
        let hangs = || {
            stop.pause(Duration::from_secs(60));
            Err::<(), _>(stop.or(EngineError::new(ErrorKind::Failed, "it was not stopped")))
        };
        let error = Watchdog::new(long_ago).watch(&stop, hangs).unwrap_err();
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Unreachable, "it showed no sign of life"));
    }
}
