//! The one door to stdout and stderr while a run goes on: a line goes above the bars and never tears them.
//!
//! A reader that went away (`rbbackup ls | head`) is no error and never a panic: a backup does not fail because nobody
//! looks at it any more.
//!
//! Whatever a line is made of, nothing in it reaches the terminal but what is seen there: names, and what peers say, are
//! escaped where they are put into a line, and should one be forgotten, here. The codes that draw bars do not come this way.

use std::io::{BufWriter, IsTerminal, Stdout, Write};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressDrawTarget};
use rustix::termios::LocalModes;

use crate::backup::bytes::shown;

/// Cheap to clone; all clones share the same bars.
#[derive(Clone, Debug)]
pub struct Terminal {
    bars: MultiProgress,
    stdout_is_terminal: bool,
    stderr_is_terminal: bool,
    /// Held while bars are drawn.
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Bars are on the screen.
    shown: bool,
    /// None are to be drawn any more.
    closed: bool,
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
            state: Arc::default(),
        }
    }

    /// Whether a person sees stderr.
    pub fn stderr_is_terminal(&self) -> bool {
        self.stderr_is_terminal
    }

    /// How wide the terminal is that stderr goes to; 80 if it does not say.
    pub fn columns(&self) -> usize {
        let size = rustix::termios::tcgetwinsize(std::io::stderr());
        size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(80)
    }

    /// Whether a person is there at all.
    pub fn somebody_looks(&self) -> bool {
        self.stdout_is_terminal || self.stderr_is_terminal
    }

    /// Calls `draw` with the place where bars are added, unless the terminal is closed. It tells whether bars are on the
    /// screen then.
    pub fn draw(&self, draw: impl FnOnce(&MultiProgress) -> bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.closed {
            state.shown = draw(&self.bars);
        }
    }

    /// A result, on stdout.
    pub fn out(&self, line: &str) {
        let print = || {
            let mut stdout = std::io::stdout().lock();
            writeln!(stdout, "{}", shown(line)).and_then(|()| stdout.flush())
        };
        // Nobody reads it any more: see above.
        let _ = if self.stdout_is_terminal { self.bars.suspend(print) } else { print() };
    }

    /// A word, on stderr.
    pub fn say(&self, line: &str) {
        self.bars.suspend(|| {
            // Nobody is left to tell.
            // In one piece: others write to the same terminal.
            let _ = std::io::stderr().lock().write_all(format!("{}\n", shown(line)).as_bytes());
        });
    }

    /// Removes the bars for good, also those of a run that still goes on. `typed`: because somebody typed Ctrl-C.
    pub fn close(&self, typed: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.closed = true;
        let echoed = std::mem::take(&mut state.shown) && typed && shows_interrupts();
        let mut stderr = std::io::stderr();
        // Nobody is left to tell of what fails. The bars end at the right edge, so that the `^C` of the terminal went into
        // the next line: one up before they are cleared, and what is below goes afterwards.
        let _ = if echoed { stderr.write_all(b"\x1b[1A") } else { Ok(()) };
        let _ = self.bars.clear();
        let _ = if echoed { stderr.write_all(b"\x1b[J") } else { Ok(()) };
        self.bars.set_draw_target(ProgressDrawTarget::hidden());
    }
}

/// Whether the terminal that a person types into shows a Ctrl-C as `^C`.
fn shows_interrupts() -> bool {
    let modes = rustix::termios::tcgetattr(std::io::stdin()).map(|terminal| terminal.local_modes);
    modes.is_ok_and(|modes| modes.contains(LocalModes::ECHO | LocalModes::ECHOCTL))
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
            self.reader_gone = writeln!(self.stdout, "{}", shown(line)).is_err();
        }
    }
}
