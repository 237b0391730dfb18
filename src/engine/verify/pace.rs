//! [`Pace`]: a verification says that it goes on, keeps to a rate, and ends when it is told to.

use std::time::{Duration, Instant};

use crate::backup::limits::KEEPALIVE_SECS;
use crate::engine::error::{EngineError, ErrorKind};
use crate::net::link::LinkSender;
use crate::net::message::Busy;

/// What a verification is at, for `Busy`.
const PHASE: u8 = 5;
/// Longest pause at once.
const NAP_MAX: Duration = Duration::from_millis(200);

/// See the module.
pub(in crate::engine) struct Pace<'a> {
    link: Option<&'a LinkSender>,
    said: Instant,
    /// Bytes a second; none: as fast as it goes.
    rate: Option<u64>,
    began: Instant,
    bytes: u64,
    go_on: Option<&'a dyn Fn() -> bool>,
}

impl<'a> Pace<'a> {
    /// For a client that waits: as fast as it goes.
    pub(in crate::engine) fn of_link(link: &'a LinkSender) -> Self {
        let now = Instant::now();
        Self { link: Some(link), said: now, rate: None, began: now, bytes: 0, go_on: None }
    }

    /// For the daemon itself: politely, until `go_on` is false.
    pub(in crate::engine) fn polite(rate: u64, go_on: &'a dyn Fn() -> bool) -> Self {
        let now = Instant::now();
        Self { link: None, said: now, rate: Some(rate.max(1)), began: now, bytes: 0, go_on: Some(go_on) }
    }

    /// So many bytes were read.
    ///
    /// # Errors
    /// The client has gone; it was told to end.
    pub(super) fn beat(&mut self, bytes: u64) -> Result<(), EngineError> {
        self.bytes += bytes;
        if let Some(link) = self.link
            && self.said.elapsed() > Duration::from_secs(KEEPALIVE_SECS) / 2
        {
            self.said = Instant::now();
            link.send(Busy { phase: PHASE })?;
        }
        let due = self.rate.map(|rate| Duration::from_secs_f64(self.bytes as f64 / rate as f64));
        loop {
            if self.go_on.is_some_and(|go_on| !go_on()) {
                return Err(EngineError::new(ErrorKind::Interrupted, "the verification was told to end"));
            }
            match due.and_then(|due| due.checked_sub(self.began.elapsed())) {
                Some(early) if !early.is_zero() => std::thread::sleep(early.min(NAP_MAX)),
                _ => return Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_polite_one_keeps_to_its_rate_and_ends_when_told() {
        let asked = Cell::new(0);
        let go_on = || {
            asked.set(asked.get() + 1);
            asked.get() < 5
        };
        let mut pace = Pace::polite(1 << 40, &go_on);
        let begin = Instant::now();
        assert!((0..4).all(|_| pace.beat(1024).is_ok()), "fast enough: no pause");
        assert_eq!(pace.beat(1024).unwrap_err().kind, ErrorKind::Interrupted);
        asked.set(0);
        let mut pace = Pace::polite(1000, &go_on);
        pace.beat(100).unwrap();
        assert!(begin.elapsed() >= Duration::from_millis(100), "100 bytes at 1000 a second");
        // An hour's worth: it is not slept through when the end comes.
        assert!(pace.beat(3_600_000).is_err());
    }
}
