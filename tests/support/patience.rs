//! Waiting for what other processes do: the one place where tests look again and again, and the limit for it.

use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// Longer than anything here may take, on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits for something to become true.
#[track_caller]
pub fn wait_until(what: &str, done: impl FnMut() -> bool) {
    assert!(waited(PATIENCE, done), "waited in vain for {what}");
}

/// Whether it became true in time.
pub fn waited(patience: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + patience;
    while !done() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    true
}

/// Waits for the end of a program that should end.
#[track_caller]
pub fn wait(child: &mut Child) -> ExitStatus {
    ended(child).expect("a program hangs")
}

/// The same; none: it hangs, and was killed.
pub fn ended(child: &mut Child) -> Option<ExitStatus> {
    let mut status = None;
    let ended = waited(PATIENCE, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    if !ended {
        let _ = child.kill();
    }
    status
}
