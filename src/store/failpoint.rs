//! Failpoints: with the feature `failpoints`, `RBBACKUP_FAILPOINT=name[:n]` kills this process, as `kill -9` would, when
//! it comes to the point `name` for the n-th time. Without the feature they are nothing.

/// A point in the commit path at which a test may kill the process.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn failpoint(_: &str) {}

/// A point in the commit path at which a test may kill the process.
#[cfg(feature = "failpoints")]
pub(crate) fn failpoint(name: &str) {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let Ok(wanted) = std::env::var("RBBACKUP_FAILPOINT") else { return };
    let (point, nth) = wanted.split_once(':').unwrap_or((&wanted, "1"));
    if point == name && COUNT.fetch_add(1, Ordering::SeqCst) + 1 >= nth.parse().unwrap_or(1) {
        let me = rustix::process::getpid();
        let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
        std::thread::park();
    }
}
