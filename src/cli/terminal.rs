//! The one door to stdout and stderr while a run goes on: a line goes above the bars and never tears them.
//!
//! A reader that went away (`rbbackup ls | head`) is no error and never a panic: a backup does not fail because nobody
//! looks at it any more.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{MultiProgress, ProgressDrawTarget};

/// Cheap to clone; all clones share the same bars.
#[derive(Clone, Debug)]
pub struct Terminal {
    bars: MultiProgress,
    stdout_is_terminal: bool,
    stderr_is_terminal: bool,
    reader_gone: Arc<AtomicBool>,
}

impl Terminal {
    /// This process's.
    pub fn of_process() -> Self {
        let stderr_is_terminal = std::io::stderr().is_terminal();
        let target = if stderr_is_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self {
            bars: MultiProgress::with_draw_target(target),
            stdout_is_terminal: std::io::stdout().is_terminal(),
            stderr_is_terminal,
            reader_gone: Arc::default(),
        }
    }

    /// Whether a person sees stderr.
    pub fn stderr_is_terminal(&self) -> bool {
        self.stderr_is_terminal
    }

    /// Whether a person is there at all.
    pub fn somebody_looks(&self) -> bool {
        self.stdout_is_terminal || self.stderr_is_terminal
    }

    /// Where bars are added.
    pub fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// A result, on stdout.
    pub fn out(&self, line: &str) {
        let print = || {
            let mut stdout = std::io::stdout().lock();
            writeln!(stdout, "{line}").and_then(|()| stdout.flush())
        };
        let printed = if self.stdout_is_terminal { self.bars.suspend(print) } else { print() };
        if printed.is_err() {
            self.reader_gone.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a result could not be printed: who only prints may stop.
    pub fn reader_gone(&self) -> bool {
        self.reader_gone.load(Ordering::Relaxed)
    }

    /// A word, on stderr.
    pub fn say(&self, line: &str) {
        self.bars.suspend(|| {
            // Nobody is left to tell.
            let _ = writeln!(std::io::stderr().lock(), "{line}");
        });
    }

    /// Removes the bars, for good.
    pub fn clear(&self) {
        // As above.
        let _ = self.bars.clear();
    }
}
