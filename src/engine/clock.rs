//! [`Clock`]: the store's idea of the time: when a snapshot was received, and what is old enough to go.
//!
//! Nothing that a client says of the time comes near it. Tests let years pass with it.

use std::fmt;
use std::sync::Arc;

use super::client;
use crate::backup::fingerprint::Timestamp;

/// See the module. The default is the machine's.
#[derive(Clone)]
pub(crate) struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// One that is asked for the time.
    #[cfg(test)]
    pub(crate) fn new(tells: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(tells))
    }

    /// This moment.
    pub(crate) fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self(Arc::new(client::now))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
