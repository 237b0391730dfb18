//! [`Pace`]: a verification says that it goes on.

use std::time::{Duration, Instant};

use crate::backup::limits::KEEPALIVE_SECS;
use crate::engine::error::EngineError;
use crate::net::link::LinkSender;
use crate::net::message::Busy;

/// What a verification is at, for `Busy`.
const PHASE: u8 = 5;
/// See the module.
pub(in crate::engine) struct Pace<'a> {
    link: &'a LinkSender,
    said: Instant,
}

impl<'a> Pace<'a> {
    /// For a client that waits: as fast as it goes.
    pub(in crate::engine) fn of_link(link: &'a LinkSender) -> Self {
        Self { link, said: Instant::now() }
    }

    /// So many bytes were read.
    ///
    /// # Errors
    /// The client has gone.
    pub(super) fn beat(&mut self, _bytes: u64) -> Result<(), EngineError> {
        if self.said.elapsed() > Duration::from_secs(KEEPALIVE_SECS) / 2 {
            self.said = Instant::now();
            self.link.send(Busy { phase: PHASE })?;
        }
        Ok(())
    }
}
