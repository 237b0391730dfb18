//! [`Links`]: the data connections of a destination, each with its thread; so that all can be closed and waited for.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::backup::limits::SESSIONS_MAX;
use crate::engine::stop::Stop;

/// See the module.
#[derive(Default)]
pub(super) struct Links(Mutex<State>);

#[derive(Default)]
struct State {
    open: Vec<(Stop, JoinHandle<()>)>,
    closed: bool,
}

impl Links {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `serve` in a thread of its own, unless all is closed or there are too many; its conversation is the stop's.
    pub(super) fn spawn(&self, serve: impl FnOnce(Stop) + Send + 'static) {
        let mut state = self.lock();
        state.open.retain(|(_, thread)| !thread.is_finished());
        if state.closed || state.open.len() >= SESSIONS_MAX {
            // Who called waits no longer than for any who does not answer.
            return;
        }
        let stop = Stop::default();
        let mine = stop.clone();
        match thread::Builder::new().name("data".to_owned()).spawn(move || serve(mine)) {
            Ok(thread) => state.open.push((stop, thread)),
            Err(error) => tracing::warn!("no thread for a data connection: {error}"),
        }
    }

    /// Closes all and opens none any more. Side by side: each may take seconds if the other side is silent.
    pub(super) fn close(&self) {
        let stops: Vec<Stop> = {
            let mut state = self.lock();
            state.closed = true;
            state.open.iter().map(|(stop, _)| stop.clone()).collect()
        };
        thread::scope(|scope| {
            for stop in &stops {
                scope.spawn(|| stop.ask());
            }
        });
    }

    /// Waits until all are over.
    pub(super) fn wait(&self) {
        let open = std::mem::take(&mut self.lock().open);
        for (_, thread) in open {
            let _ = thread.join();
        }
    }
}
