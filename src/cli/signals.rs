//! SIGINT and SIGTERM, in a thread of their own; nothing here runs inside a signal handler.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Calls `on_signal` with 1 at the first SIGINT or SIGTERM, with 2 at the second, and so on, and with which of the two
/// it is.
///
/// # Errors
/// When signals cannot be watched.
pub fn watch(mut on_signal: impl FnMut(u32, SignalKind) + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut interrupt, mut terminate) = {
        let _guard = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let body = move || {
        runtime.block_on(async {
            let mut count = 0;
            loop {
                // Both are cancel-safe: a signal that arrives meanwhile is kept.
                let (got, kind) = tokio::select! {
                    got = interrupt.recv() => (got, SignalKind::interrupt()),
                    got = terminate.recv() => (got, SignalKind::terminate()),
                };
                if got.is_none() {
                    return;
                }
                count += 1;
                on_signal(count, kind);
            }
        });
    };
    std::thread::Builder::new().name("signals".into()).spawn(body).map(|_| ())
}
