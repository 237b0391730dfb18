//! [`Stopwatch`]: how long each part of a run took, for `-v` and `RBBACKUP_LOG=debug`.

use std::time::Instant;

/// Tells the log how long it is since the last lap.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// The part that ends now.
    pub(crate) fn lap(&mut self, part: &str) {
        tracing::debug!("{part}: {:.0} ms", self.0.elapsed().as_secs_f64() * 1000.0);
        self.0 = Instant::now();
    }
}
