//! Ctrl-C: the conversation with the store is closed in order, so that the store keeps what has arrived for the next
//! run; one line says so, and the exit code is 130. The second time, or where nobody is spoken to, the process just
//! goes: the store, also the one in this process, is made for being left at any moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::SignalKind;

use super::exit::Exit;
use super::signals;
use super::terminal::Terminal;
use crate::engine::stop::Stop;
use crate::json;

/// Longest that an interrupted command takes to end.
const PATIENCE: Duration = Duration::from_secs(3);

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub(super) struct Interrupt {
    stop: Stop,
    terminal: Terminal,
    json: bool,
    told: Arc<AtomicBool>,
}

impl Interrupt {
    /// Watches SIGINT and SIGTERM from now on.
    pub(super) fn watch(stop: Stop, terminal: &Terminal, json: bool) -> Self {
        let interrupt = Self { stop, terminal: terminal.clone(), json, told: Arc::default() };
        let mine = interrupt.clone();
        if let Err(error) = signals::watch(move |count, kind| mine.signal(count, kind)) {
            tracing::warn!("cannot watch signals: {error}");
        }
        interrupt
    }

    fn signal(&self, count: u32, kind: SignalKind) {
        self.terminal.close(kind == SignalKind::interrupt());
        if count > 1 || !self.stop.is_talking() {
            self.leave();
        }
        let (mine, asking) = (self.clone(), self.stop.clone());
        // Closing waits for the peer, and a second signal must not wait for that.
        let closing = std::thread::Builder::new().spawn(move || asking.ask());
        let watching = std::thread::Builder::new().spawn(move || {
            std::thread::sleep(PATIENCE);
            mine.leave();
        });
        if closing.is_err() || watching.is_err() {
            self.leave();
        }
    }

    /// Says so, once.
    pub(super) fn tell(&self) {
        if self.told.swap(true, Ordering::SeqCst) {
            return;
        }
        if self.json {
            self.terminal.out(&json::error(None, "interrupted", Some(Exit::Interrupted.code())));
        } else {
            self.terminal.say("rbbackup: interrupted");
        }
    }

    fn leave(&self) -> ! {
        self.tell();
        std::process::exit(Exit::Interrupted.code().into());
    }
}
