//! Draws a run a few times a second, in a thread of its own that the run never waits for.
//!
//! ```text
//! engine's threads --event--> Mutex<Tracker> <--view-- ticker thread --> bars | lines | json
//! ```
//! The ticker ends when its [`Ticker`] is finished or dropped; then the bars are gone.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::render;
use super::terminal::Terminal;
use crate::engine::progress::{Tracker, View};
use crate::json;

/// A run that is over sooner shows no bars: they would only flicker.
const QUIET_START: Duration = Duration::from_millis(300);
/// Ticks of the drawing.
const BAR_TICK: Duration = Duration::from_millis(100);
/// Ticks of `--json`.
const JSON_TICK: Duration = Duration::from_millis(333);
/// Ticks of `--progress always` without a terminal.
const LINE_TICK: Duration = Duration::from_secs(1);

/// Columns of a bar and of what stands around it: `  [==>  ] `.
const BAR_COLUMNS: usize = 23;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Not at all.
    Nothing,
    /// Two bars on the terminal.
    Bars,
    /// A line a second on stderr.
    Lines,
    /// Objects on stdout.
    Json,
}

/// The running thread.
#[derive(Debug)]
pub struct Ticker {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Starts to draw.
    pub fn start(show: Show, tracker: Arc<Mutex<Tracker>>, terminal: Terminal) -> Self {
        let every = match show {
            Show::Nothing => return Self { stop: None, thread: None },
            Show::Bars => BAR_TICK,
            Show::Lines => LINE_TICK,
            Show::Json => JSON_TICK,
        };
        let (stop, stopped) = channel::<()>();
        let draw = move || {
            let mut canvas = Canvas::new(show, terminal);
            let mut wait = every.max(QUIET_START);
            while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                wait = every;
                let view = tracker.lock().unwrap_or_else(PoisonError::into_inner).view(Instant::now());
                canvas.draw(&view);
            }
            canvas.finish();
        };
        // Without a thread there is no progress to see; the run itself is not touched.
        let thread = std::thread::Builder::new().name("progress".into()).spawn(draw).ok();
        Self { stop: Some(stop), thread }
    }

    /// Stops, and waits until the bars are gone.
    pub fn finish(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A drawing that panicked has nothing to say to a run that is done.
            let _ = thread.join();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.finish();
    }
}

/// What is drawn on. The bars appear with the first view.
struct Canvas {
    show: Show,
    terminal: Terminal,
    bars: Option<(ProgressBar, ProgressBar)>,
    last_line: String,
}

impl Canvas {
    fn new(show: Show, terminal: Terminal) -> Self {
        Self { show, terminal, bars: None, last_line: String::new() }
    }

    fn draw(&mut self, view: &View) {
        match self.show {
            Show::Nothing => {}
            Show::Json => self.terminal.out(&json::progress(view)),
            Show::Lines => {
                let line = render::total_line(view);
                if line != self.last_line {
                    self.terminal.say(&line);
                    self.last_line = line;
                }
            }
            Show::Bars => {
                let bars = &mut self.bars;
                let columns = self.terminal.columns().saturating_sub(BAR_COLUMNS);
                self.terminal.draw(|all| {
                    draw_bars(all, bars, view, columns);
                    true
                });
            }
        }
    }

    fn finish(&mut self) {
        if let Some((file, total)) = self.bars.take() {
            self.terminal.draw(|all| {
                file.finish_and_clear();
                total.finish_and_clear();
                all.remove(&file);
                all.remove(&total);
                false
            });
        }
    }
}

/// `columns` are there beside a bar.
fn draw_bars(all: &MultiProgress, bars: &mut Option<(ProgressBar, ProgressBar)>, view: &View, columns: usize) {
    let (file, total) = bars.get_or_insert_with(|| {
        let [file, total] = [ProgressBar::new(1000), ProgressBar::new(1000)];
        (all.add(file), all.add(total))
    });
    match &view.file {
        Some(now) => {
            file.set_style(style("  [{bar:18.cyan}] {msg}"));
            file.set_message(render::cut(&render::file_line(now, columns), columns));
            file.set_position(permille(now.done, now.bytes));
        }
        None => {
            file.set_style(style("{msg}"));
            file.set_message("");
        }
    }
    match view.permille {
        Some(permille) => {
            total.set_style(style("  [{bar:18.green}] {msg}"));
            total.set_position(permille);
        }
        None => total.set_style(style("  {spinner:<20} {msg}")),
    }
    total.set_message(render::cut(&render::total_line(view), columns));
    total.tick();
}

/// ASCII, so that it looks right in every locale. The templates are constants; one that does not parse would show
/// indicatif's own instead.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
        .tick_chars("|/-\\ ")
}

fn permille(done: u64, all: u64) -> u64 {
    if all == 0 { 1000 } else { u64::try_from(u128::from(done) * 1000 / u128::from(all)).unwrap_or(1000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_parse() {
        for template in ["  [{bar:18.cyan}] {msg}", "{msg}", "  {spinner:<20} {msg}"] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn a_ticker_stops_when_it_is_finished_and_when_it_is_dropped() {
        let tracker = Arc::new(Mutex::new(Tracker::new(Instant::now())));
        let mut ticker = Ticker::start(Show::Bars, tracker.clone(), Terminal::of_process());
        ticker.finish();
        ticker.finish();
        drop(ticker);
        drop(Ticker::start(Show::Bars, tracker.clone(), Terminal::of_process()));
        assert_eq!(Arc::strong_count(&tracker), 1);
    }
}
