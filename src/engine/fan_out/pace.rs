//! [`Pace`]: how long the targets of a run are waited for, and the [`Clock`] by which they are. One pace for a daemon's
//! process; tests have a shorter one.

use std::time::{Duration, Instant};

use crate::backup::limits::{COMMIT_SECS, SILENCE_SECS};

/// Who is not needed has so long to answer after all others.
const GRACE: Duration = Duration::from_secs(2);

/// Whoever drives a run looks at the time at least every second; a standstill beyond this is its own.
const STEP_MAX: Duration = Duration::from_secs(2);

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

/// The time that somebody has watched: a daemon that stood still (a machine that slept, or had no memory) has not heard
/// what its targets said meanwhile, and does not take that for their silence.
#[derive(Debug)]
pub(super) struct Clock {
    looked: Instant,
    passed: Duration,
}

impl Default for Clock {
    fn default() -> Self {
        Self { looked: Instant::now(), passed: Duration::ZERO }
    }
}

impl Clock {
    /// What has passed since this was made.
    pub(super) fn now(&mut self) -> Duration {
        self.passed_after(self.looked.elapsed())
    }

    fn passed_after(&mut self, step: Duration) -> Duration {
        self.looked += step;
        self.passed += step.min(STEP_MAX);
        self.passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standstill_counts_as_two_seconds() {
        let mut clock = Clock::default();
        for (millis, passed) in [(300, 300), (2000, 2300), (3_600_000, 4300), (1, 4301)] {
            let step = Duration::from_millis(millis);
            assert_eq!(clock.passed_after(step), Duration::from_millis(passed));
        }
        assert!(clock.looked > Instant::now());
    }
}
