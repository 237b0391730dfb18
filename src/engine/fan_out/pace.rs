//! [`Pace`]: how long the targets of a run are waited for. One for a daemon's process; tests have a shorter one.

use std::time::Duration;

use crate::backup::limits::{COMMIT_SECS, SILENCE_SECS};

/// Who is not needed has so long to answer after all others.
const GRACE: Duration = Duration::from_secs(2);

/// See [`Rules`](crate::backup::fanout::Rules), of which these are a part.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Pace {
    /// Silent for so long, while something is owed: dropped.
    pub(super) stall: Duration,
    /// Busy with the same thing for so long: dropped.
    pub(super) busy_max: Duration,
    /// For those who are not needed.
    pub(super) grace: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { stall: Duration::from_secs(SILENCE_SECS), busy_max: Duration::from_secs(COMMIT_SECS), grace: GRACE }
    }
}
