//! `rbbackup receive DIR`: settings, signals, and what a destination shows: a bar of the file and one of the whole for each
//! run that arrives, and above them the list of what was copied.
//!
//! ```text
//! engine's threads ── events ──▶ Shown (one a run: tracker, ticker) ── lines ──▶ bounded queue ──▶ list ──▶ terminal
//! ```
//! The queue keeps a run from waiting for each line; what is there at once is written at once. A terminal that stands still
//! (Ctrl-S) stops no run: names of files that find no room are counted. A program that reads JSON gets all of it, and has to
//! read. Without a terminal nothing is said but what went wrong. The first SIGTERM or SIGINT ends it in order, the second at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::args::ReceiveArgs;
use super::daemon_config::DaemonConfig;
use super::environment::{Environment, host_name};
use super::exit::Exit;
use super::render;
use super::report::show;
use super::settings::{Settings, Voice};
use super::signals;
use super::terminal::Terminal;
use super::ticker::{Show, Ticker};
use super::units::{show_bytes, show_secs};
use crate::backup::bytes::escape;
use crate::engine::client::Target;
use crate::engine::confine;
use crate::engine::destination::observer::{Arrival, Arrived, ArrivingRun, Receiving};
use crate::engine::destination::{self, ReceiveOptions};
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::observer::{Event, Observer};
use crate::engine::progress::{Label, Tracker};
use crate::net::shutdown::Shutdown;

mod json;

/// Lines that may wait for the terminal.
const LINES_MAX: usize = 1024;
/// Longest that a run waits to have its end told.
const LINE_PATIENCE: Duration = Duration::from_secs(5);

/// The whole command.
///
/// # Errors
/// A sentence on what is wrong with arguments or configuration.
pub(super) fn run(
    settings: &Settings,
    env: &Environment,
    terminal: &Terminal,
    args: &ReceiveArgs,
) -> Result<Result<(), EngineError>, String> {
    if !matches!(settings.client.target, Target::Server { .. }) {
        return Err("'receive' takes backups from a daemon: name it with --server; RBBACKUP_STORE or the \
                    configuration names a store"
            .to_owned());
    }
    let config = DaemonConfig::load(args.config.as_deref()).map_err(|e| e.to_string())?;
    let options = ReceiveOptions {
        client: settings.client.clone(),
        store: env.absolute(&args.dir)?,
        name: args.name.clone().unwrap_or_else(host_name),
        from: args.from.clone(),
        retention: config.retention,
        verify: config.verify,
    };
    // Before anything starts a thread: it would not be held.
    if let Err(error) = confine::destination(&options, args.no_confine) {
        return Ok(Err(error));
    }
    let shutdown = Shutdown::new();
    watch_signals(&shutdown, terminal);
    let screen = Screen::new(settings.voice, terminal);
    let done = destination::run(options, Arc::new(screen.clone()), &shutdown);
    screen.finish();
    Ok(done)
}

fn watch_signals(shutdown: &Shutdown, terminal: &Terminal) {
    let (ending, screen) = (shutdown.clone(), terminal.clone());
    let watching = signals::watch(move |count, kind| {
        screen.close(kind == tokio::signal::unix::SignalKind::interrupt());
        if count > 1 {
            // The store is made for being left at any moment.
            std::process::exit(Exit::Interrupted.code().into());
        }
        ending.trigger();
    });
    if let Err(error) = watching {
        tracing::warn!("cannot watch signals: {error}");
    }
}

/// One line, or several of a kind.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    /// A result, on stdout.
    Out(String),
    /// A word, on stderr.
    Say(String),
}

/// What all runs of a destination are shown on.
struct Screen {
    voice: Voice,
    show: Show,
    terminal: Terminal,
    lines: Mutex<Option<Sender<Line>>>,
    list: Mutex<Option<JoinHandle<()>>>,
    /// Names of files that found no room.
    untold: Arc<AtomicU64>,
    /// Why the daemon was lost, as it was said last.
    lost: Mutex<String>,
}

impl Screen {
    fn new(voice: Voice, terminal: &Terminal) -> Arc<Self> {
        let (lines, queue) = bounded(LINES_MAX);
        let (writer, untold) = (terminal.clone(), Arc::<AtomicU64>::default());
        let count = Arc::clone(&untold);
        let write = move || {
            write_lines(
                &queue,
                &mut |line| match line {
                    Line::Out(text) => writer.out(&text),
                    Line::Say(text) => writer.say(&text),
                },
                &count,
            );
        };
        let list = std::thread::Builder::new().name("list".to_owned()).spawn(write);
        Arc::new(Self {
            voice,
            show: show(voice, terminal.stderr_is_terminal()),
            terminal: terminal.clone(),
            lines: Mutex::new(list.is_ok().then_some(lines)),
            list: Mutex::new(list.ok()),
            untold,
            lost: Mutex::default(),
        })
    }

    /// Whether results are told at all: to a person, or when asked for.
    fn chatty(&self) -> bool {
        !self.voice.quiet && !self.voice.json && (self.voice.verbose > 0 || self.terminal.somebody_looks())
    }

    /// Whether nobody looks at what arrives.
    fn is_mute(&self) -> bool {
        self.show == Show::Nothing && !self.voice.json && !self.chatty()
    }

    fn lines(&self) -> Option<Sender<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What must be told, if there is a way.
    fn line(&self, line: Line) {
        let _ = self.lines().map(|lines| lines.send_timeout(line, LINE_PATIENCE));
    }

    /// The name of a file.
    fn name(&self, line: String) {
        if self.lines().is_some_and(|lines| lines.try_send(Line::Say(line)).is_err()) {
            self.untold.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn json(&self, line: String) {
        let _ = self.lines().map(|lines| lines.send(Line::Out(line)));
    }

    /// Waits until all is written.
    fn finish(&self) {
        drop(self.lines.lock().unwrap_or_else(PoisonError::into_inner).take());
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = list.map(JoinHandle::join);
    }
}

/// Writes what there is in as few pieces as it takes, in order.
fn write_lines(queue: &Receiver<Line>, write: &mut dyn FnMut(Line), untold: &AtomicU64) {
    while let Ok(mut piece) = queue.recv() {
        for line in queue.try_iter().take(LINES_MAX) {
            piece = match (piece, line) {
                (Line::Out(text), Line::Out(next)) => Line::Out(below(text, &next)),
                (Line::Say(text), Line::Say(next)) => Line::Say(below(text, &next)),
                (piece, line) => {
                    write(piece);
                    line
                }
            };
        }
        write(piece);
        match untold.swap(0, Ordering::Relaxed) {
            0 => {}
            more => write(Line::Say(format!("... and {}", render::count(more, "more file", "more files")))),
        }
    }
}

fn below(mut text: String, next: &str) -> String {
    text.push('\n');
    text.push_str(next);
    text
}

impl Receiving for Arc<Screen> {
    fn attending(&self, server: &str) {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).clear();
        if self.voice.json {
            self.json(json::connection(Some(server), None));
        } else if self.chatty() {
            self.line(Line::Say(format!("connected to {}, waiting for backups", escape(server.as_bytes()))));
        }
    }

    fn lost(&self, why: &str, again_in: Duration) {
        let mut last = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = std::mem::replace(&mut *last, why.to_owned()) != why;
        drop(last);
        // Once, not at each attempt.
        if !is_news {
        } else if self.voice.json {
            self.json(json::connection(None, Some((why, again_in))));
        } else if self.chatty() {
            self.line(Line::Say(format!("{}; trying again until it is there", escape(why.as_bytes()))));
        }
    }

    fn begin(&self, run: &ArrivingRun) -> Arc<dyn Arrival> {
        let label = Label { node: run.node.clone(), user: run.user.clone(), root: run.root.clone() };
        let tracker = Arc::new(Mutex::new(Tracker::receiving(label.clone(), Instant::now())));
        let ticker = Ticker::start(self.show, Arc::clone(&tracker), self.terminal.clone());
        Arc::new(Shown {
            screen: Arc::clone(self),
            label,
            tracker,
            ticker: Mutex::new(ticker),
            sizes: Mutex::default(),
        })
    }
}

/// One run that arrives.
struct Shown {
    screen: Arc<Screen>,
    label: Label,
    tracker: Arc<Mutex<Tracker>>,
    ticker: Mutex<Ticker>,
    /// Sizes of the files that have begun and are not done: a handful.
    sizes: Mutex<HashMap<Vec<u8>, u64>>,
}

impl Shown {
    fn file_done(&self, path: &[u8]) {
        let bytes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner).remove(path).unwrap_or_default();
        if self.screen.voice.json {
            self.screen.json(json::file(&self.label, path, bytes));
        } else if self.screen.chatty() {
            let size = show_bytes(bytes);
            let (node, user) = (escape(self.label.node.as_bytes()), escape(self.label.user.as_bytes()));
            self.screen.name(format!("{size:>10}  {node}/{user} {}", escape(path)));
        }
    }

    fn arrived(&self, arrived: &Arrived) {
        if self.screen.voice.json {
            self.screen.json(json::summary(&self.label, arrived));
        } else if self.screen.chatty() {
            self.screen.line(Line::Out(arrived_line(&self.label, arrived)));
        }
    }

    fn failed(&self, error: &EngineError) {
        if self.screen.voice.json {
            return self.screen.json(json::failed(&self.label, error));
        }
        // A run that was cut goes on by itself when its source comes again.
        if error.kind != ErrorKind::Unreachable || self.screen.chatty() {
            let (whose, why) = (render::label(&self.label), escape(error.message.as_bytes()));
            self.screen.line(Line::Say(format!("rbbackup: {whose}: {why}")));
        }
    }
}

/// The end of a run.
fn arrived_line(label: &Label, arrived: &Arrived) -> String {
    format!(
        "{} (snapshot {}{}): {}, {}; {} received in {}",
        render::label(label),
        arrived.snapshot,
        if arrived.incomplete { ", INCOMPLETE" } else { "" },
        render::count(arrived.files, "file", "files"),
        show_bytes(arrived.bytes),
        show_bytes(arrived.wire_bytes_received),
        show_secs(arrived.elapsed_secs)
    )
}

impl Observer for Shown {
    fn event(&self, event: &Event<'_>) {
        if self.screen.is_mute() {
            return;
        }
        match event {
            Event::FileBegun { path, bytes } => {
                self.sizes.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_vec(), *bytes);
            }
            Event::FileDone { path } => self.file_done(path),
            _ => {}
        }
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner).apply(event, Instant::now());
    }
}

impl Arrival for Shown {
    fn end(&self, outcome: Result<&Arrived, &EngineError>) {
        self.ticker.lock().unwrap_or_else(PoisonError::into_inner).finish();
        match outcome {
            // A dry run leaves nothing.
            Ok(arrived) if arrived.snapshot == 0 => {}
            Ok(arrived) => self.arrived(arrived),
            Err(error) => self.failed(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::digest::{Digest, RunId};

    #[test]
    fn a_run_s_last_line() {
        let label = Label { node: "10.0.0.1".into(), user: "u".into(), root: b"/home/\x1b".to_vec() };
        let arrived = Arrived {
            run: RunId([1; 16]),
            snapshot: 7,
            manifest: Digest([2; 32]),
            incomplete: false,
            files: 1,
            bytes: 2048,
            wire_bytes_received: 1024,
            elapsed_secs: 3.2,
        };
        let line = arrived_line(&label, &arrived);
        assert!(line.starts_with("10.0.0.1/u /home/\\x1b (snapshot 7): 1 file, 2"), "{line}");
        assert!(arrived_line(&label, &Arrived { incomplete: true, ..arrived }).contains("7, INCOMPLETE)"));
    }

    #[test]
    fn lines_keep_their_order_and_what_found_no_room_is_counted() {
        let (lines, queue) = bounded(8);
        let say = |text: &str| Line::Say(text.to_owned());
        for line in [say("a"), say("b"), Line::Out("c".to_owned()), say("d")] {
            lines.send(line).unwrap();
        }
        drop(lines);
        let mut written = Vec::new();
        write_lines(&queue, &mut |piece| written.push(piece), &AtomicU64::new(2));
        assert_eq!(written, [say("a\nb"), Line::Out("c".to_owned()), say("d"), say("... and 2 more files")]);
    }

    #[test]
    fn a_host_has_a_name() {
        assert!(!host_name().is_empty());
    }
}
