//! [`Reporter`]: the engine's observer of one run, and what is said when it ends.
//!
//! What is said to whom: a path that failed always; the last lines, and what was skipped, to a person at a terminal or
//! with `-v`. That the very store was skipped is said always: a backup of `/` lacks it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::args::ProgressMode;
use super::render;
use super::settings::Voice;
use super::terminal::Terminal;
use super::ticker::{Show, Ticker};
use crate::backup::bytes::escape;
use crate::engine::observer::{Event, Observer, Summary};
use crate::engine::progress::Tracker;
use crate::engine::restore::RestoreSummary;
use crate::json;

/// Listens to one run.
#[derive(Debug)]
pub struct Reporter {
    voice: Voice,
    terminal: Terminal,
    tracker: Arc<Mutex<Tracker>>,
    ticker: Ticker,
    /// Somebody watches how far it is.
    total: bool,
}

/// How progress is to be shown.
pub(super) fn show(voice: Voice, stderr_is_terminal: bool) -> Show {
    match (voice.quiet || voice.progress == ProgressMode::Never, voice.json) {
        (true, _) => Show::Nothing,
        (false, true) => Show::Json,
        (false, false) if stderr_is_terminal => Show::Bars,
        (false, false) if voice.progress == ProgressMode::Always => Show::Lines,
        (false, false) => Show::Nothing,
    }
}

impl Reporter {
    /// A run begins.
    pub fn begin(voice: Voice, terminal: &Terminal) -> Self {
        let tracker = Arc::new(Mutex::new(Tracker::new(Instant::now())));
        let show = show(voice, terminal.stderr_is_terminal());
        let ticker = Ticker::start(show, tracker.clone(), terminal.clone());
        let total =
            matches!(show, Show::Bars | Show::Lines) || (show == Show::Json && voice.progress == ProgressMode::Always);
        Self { voice, terminal: terminal.clone(), tracker, ticker, total }
    }

    /// Whether results are told at all: to a person, or when asked for.
    fn chatty(&self) -> bool {
        !self.voice.quiet && (self.voice.verbose > 0 || self.terminal.somebody_looks())
    }

    /// The end of a backup: takes the bars away and prints the last lines.
    pub fn summary(mut self, summary: &Summary) {
        self.ticker.finish();
        if self.voice.json {
            return self.terminal.out(&json::summary(summary));
        }
        // Who lacks it is told whatever is asked: it is why the run did not do what it was asked to.
        for line in render::copy_lines(&summary.copies, self.chatty()) {
            self.terminal.say(&line);
        }
        // A dry run is a question: it is answered also without a terminal.
        if !self.chatty() && (self.voice.quiet || summary.snapshot.is_some()) {
            return;
        }
        self.notes(&summary.notes);
        for line in render::summary_lines(summary) {
            self.terminal.out(&line);
        }
    }

    /// The end of `forget`: nothing travelled.
    pub fn forgotten(mut self, summary: &Summary) {
        self.ticker.finish();
        if self.voice.json {
            return self.terminal.out(&json::summary(summary));
        }
        self.notes(&summary.notes);
        if self.chatty() {
            let [first, _] = render::summary_lines(summary);
            self.terminal.out(&first);
        }
    }

    /// The end of a restore. What could not be applied is always told.
    pub fn restored(mut self, summary: &RestoreSummary, dry_run: bool) {
        self.ticker.finish();
        if self.voice.json {
            return self.terminal.out(&json::restore_summary(summary));
        }
        self.notes(&summary.notes);
        if self.chatty() || (dry_run && !self.voice.quiet) {
            for line in render::restore_lines(summary, dry_run) {
                self.terminal.out(&line);
            }
        }
    }

    /// The run failed as a whole.
    pub fn failed(mut self, path: &[u8], message: &str, exit_code: u8) {
        self.ticker.finish();
        if self.voice.json {
            self.terminal.out(&json::error(Some(path), message, Some(exit_code)));
        } else {
            self.terminal.say(&format!("rbbackup: {}: {}", escape(path), escape(message.as_bytes())));
        }
    }

    fn notes(&self, notes: &[String]) {
        for note in notes {
            self.terminal.say(&format!("note: {}", escape(note.as_bytes())));
        }
    }

    fn skipped(&self, path: &[u8], why: &str) {
        let always = why.contains("store");
        if !self.voice.quiet && (always || self.chatty()) {
            self.terminal.say(&format!("skipped {}: {}", escape(path), escape(why.as_bytes())));
        }
    }

    fn path_failed(&self, path: &[u8], why: &str) {
        if self.voice.json {
            self.terminal.out(&json::error(Some(path), why, None));
        } else {
            self.terminal.say(&failed_line(path, why));
        }
    }
}

/// A path that failed: named once, also when the reason names it.
fn failed_line(path: &[u8], why: &str) -> String {
    let (path, why) = (escape(path), escape(why.as_bytes()));
    if why.contains(&format!("'{path}'")) { format!("error: {why}") } else { format!("error: {path}: {why}") }
}

impl Observer for Reporter {
    fn wants_total(&self) -> bool {
        self.total
    }

    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Failed { path, why } => self.path_failed(path, why),
            Event::Skipped { path, why } => self.skipped(path, why),
            Event::Warned { path, why } if !self.voice.quiet => {
                self.terminal.say(&format!("warning: {}: {}", escape(path), escape(why.as_bytes())));
            }
            Event::PlanLine { action, path, other } if self.voice.json && self.voice.verbose > 0 => {
                self.terminal.out(&json::plan(action, path, other));
            }
            Event::PlanLine { action, path, other } if !self.voice.json && !self.voice.quiet => {
                self.terminal.out(&render::plan_line(action, path, other));
            }
            Event::FileDone { path } if self.voice.verbose > 0 && !self.voice.json => {
                self.terminal.say(&escape(path));
            }
            Event::Gathering { connected, wanted } if !self.voice.quiet && !self.voice.json => {
                self.terminal.say(&render::gathering_line(*connected, *wanted));
            }
            Event::Gathering { connected, wanted } if self.voice.json => {
                self.terminal.out(&json::gathering(*connected, *wanted));
            }
            Event::Queued(behind) if self.voice.verbose > 0 => {
                self.terminal.say(&format!("queued: {}", escape(behind.as_bytes())));
            }
            Event::Reconnecting { why, in_secs } if self.chatty() => {
                let why = escape(why.as_bytes());
                self.terminal.say(&format!("connection lost ({why}), trying again in {in_secs} s"));
            }
            _ => {}
        }
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner).apply(event, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_shown_where_somebody_or_something_wants_it() {
        let voice = Voice::default();
        assert_eq!(show(voice, true), Show::Bars);
        assert_eq!(show(voice, false), Show::Nothing);
        assert_eq!(show(Voice { quiet: true, ..voice }, true), Show::Nothing);
        assert_eq!(show(Voice { progress: ProgressMode::Never, ..voice }, true), Show::Nothing);
        assert_eq!(show(Voice { progress: ProgressMode::Always, ..voice }, false), Show::Lines);
        assert_eq!(show(Voice { json: true, ..voice }, true), Show::Json);
        assert_eq!(show(Voice { json: true, progress: ProgressMode::Never, ..voice }, false), Show::Nothing);
    }

    #[test]
    fn a_path_that_failed_is_named_once() {
        assert_eq!(failed_line(b"/a\xff", "cannot open '/a\\xff': denied"), "error: cannot open '/a\\xff': denied");
        assert_eq!(failed_line(b"/a", "cannot open '/ab': denied"), "error: /a: cannot open '/ab': denied");
        assert_eq!(failed_line(b"/a\n", "it stopped"), "error: /a\\x0a: it stopped");
    }
}
