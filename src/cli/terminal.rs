//! The one door to stdout and stderr while a run goes on: a line goes above the bars and never tears them.
//!
//! A reader that went away (`rbbackup ls | head`) is no error and never a panic: a backup does not fail because nobody
//! looks at it any more.

use std::io::{BufWriter, IsTerminal, Stdout, Write};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressDrawTarget};

/// Cheap to clone; all clones share the same bars.
#[derive(Clone, Debug)]
pub struct Terminal {
    bars: MultiProgress,
    stdout_is_terminal: bool,
    stderr_is_terminal: bool,
    /// Held while bars are drawn; true when none are to be drawn any more.
    closed: Arc<Mutex<bool>>,
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
            closed: Arc::default(),
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

    /// Calls `draw` with the place where bars are added, unless the terminal is closed.
    pub fn draw(&self, draw: impl FnOnce(&MultiProgress)) {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        if !*closed {
            draw(&self.bars);
        }
    }

    /// A result, on stdout.
    pub fn out(&self, line: &str) {
        let print = || {
            let mut stdout = std::io::stdout().lock();
            writeln!(stdout, "{line}").and_then(|()| stdout.flush())
        };
        // Nobody reads it any more: see above.
        let _ = if self.stdout_is_terminal { self.bars.suspend(print) } else { print() };
    }

    /// A word, on stderr.
    pub fn say(&self, line: &str) {
        self.bars.suspend(|| {
            // Nobody is left to tell.
            let _ = writeln!(std::io::stderr().lock(), "{line}");
        });
    }

    /// Removes the bars for good, also those of a run that still goes on.
    pub fn close(&self) {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        *closed = true;
        // Nobody is left to tell.
        let _ = self.bars.clear();
        self.bars.set_draw_target(ProgressDrawTarget::hidden());
    }
}

/// Many results in a row, on stdout, while no bars are shown: buffered, a listing may have millions of lines.
#[derive(Debug)]
pub struct Page {
    stdout: BufWriter<Stdout>,
    reader_gone: bool,
}

impl Default for Page {
    fn default() -> Self {
        Self { stdout: BufWriter::with_capacity(64 * 1024, std::io::stdout()), reader_gone: false }
    }
}

impl Page {
    /// Adds a line; what is left is written when the page is dropped.
    pub fn line(&mut self, line: &str) {
        if !self.reader_gone {
            self.reader_gone = writeln!(self.stdout, "{line}").is_err();
        }
    }
}
