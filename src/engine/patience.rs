//! [`Patience`]: a server that was lost is tried again for a while, with growing pauses.
//!
//! A server that was never there is not waited for; one that answers that it has no room, or is about to stop, is. An attempt that got on (content arrived and will not travel again)
//! is worth the full patience anew: a run over a bad line ends, however often it is cut.

use std::time::{Duration, Instant};

use super::client::ClientOptions;
use super::error::{EngineError, ErrorKind};
use super::observer::{Event, Observer};

/// Pauses double from the first to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// See the module.
pub(super) struct Patience<'a> {
    client: &'a ClientOptions,
    observer: &'a dyn Observer,
    lost: Option<Instant>,
    pause: Duration,
}

impl<'a> Patience<'a> {
    pub(super) fn new(client: &'a ClientOptions, observer: &'a dyn Observer) -> Self {
        Self { client, observer, lost: None, pause: PAUSE_FIRST }
    }

    /// An attempt failed. Returns when it is time for the next one; `reached`: the server answered, `got_on`: see the
    /// module.
    ///
    /// # Errors
    /// The attempt's, when there is no next one; an interruption comes before it.
    pub(super) fn after(&mut self, error: EngineError, reached: bool, got_on: bool) -> Result<(), EngineError> {
        let error = self.client.stop.or(error);
        if got_on {
            (self.lost, self.pause) = (None, PAUSE_FIRST);
        }
        let never_there = !reached && !error.is_answer && self.lost.is_none();
        let since = *self.lost.get_or_insert_with(Instant::now);
        let late = since.elapsed() + self.pause > self.client.retry_for;
        if error.kind != ErrorKind::Unreachable || never_there || late {
            return Err(error);
        }
        self.observer.event(&Event::Reconnecting { why: &error.message, in_secs: self.pause.as_secs() });
        self.client.stop.pause(self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }
}
