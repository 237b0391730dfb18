//! tracing on stderr, one event a line. Control bytes are escaped, so that a file name can neither forge a line nor
//! reach the terminal, and lines go above the bars.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::terminal::Terminal;
use crate::backup::bytes::escape;

/// Who logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Says nothing below a warning, unless asked: cron mails every line.
    Client,
    /// Tells what it does.
    Daemon,
}

/// The filter that goes with so many `-v`; `RBBACKUP_LOG` (tracing's syntax: `info,rbbackup::net=trace`) wins.
fn filter(program: Program, quiet: bool, verbose: u8, variable: Option<&str>) -> Result<EnvFilter, String> {
    let level = match (program, quiet, verbose) {
        (_, true, _) => "error",
        (Program::Client, _, 0 | 1) => "warn",
        (Program::Client, _, 2) | (Program::Daemon, _, 0) => "info",
        (Program::Client, _, 3) | (Program::Daemon, _, 1) => "debug",
        _ => "trace",
    };
    let directives = variable.map_or_else(|| format!("warn,rbbackup={level},rbbackupd={level}"), str::to_owned);
    EnvFilter::try_new(&directives).map_err(|e| format!("RBBACKUP_LOG '{}': {e}", escape(directives.as_bytes())))
}

/// Starts the log. Only the first call of a process counts.
///
/// # Errors
/// A sentence when `variable` (the value of `RBBACKUP_LOG`) is no filter.
pub fn start(
    program: Program,
    quiet: bool,
    verbose: u8,
    variable: Option<&str>,
    terminal: Terminal,
) -> Result<(), String> {
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter(program, quiet, verbose, variable)?)
        .with_writer(Lines(terminal))
        .with_ansi(false)
        .with_target(verbose > 1);
    // The journal adds the time by itself; a client's lines belong to a run that a person or cron has just started.
    let no_time = program == Program::Client || std::env::var_os("JOURNAL_STREAM").is_some();
    // An error means that a log runs already: a test, or a second start.
    let _ = if no_time { log.without_time().try_init() } else { log.try_init() };
    Ok(())
}

struct Lines(Terminal);

/// Writes one event.
struct Line<'a>(&'a Terminal);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Line(&self.0)
    }
}

impl Write for Line<'_> {
    /// tracing-subscriber hands over an event in one piece.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.say(&escaped(event));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn escaped(event: &[u8]) -> String {
    escape(event.strip_suffix(b"\n").unwrap_or(event))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_without_control_bytes() {
        assert_eq!(escaped(b" WARN a\nb\x1b[31m\xff\n"), " WARN a\\x0ab\\x1b[31m\\xff");
    }

    #[test]
    fn levels() {
        let shown = |program, quiet, verbose| filter(program, quiet, verbose, None).unwrap().to_string();
        assert!(shown(Program::Client, false, 0).contains("rbbackup=warn"));
        assert!(shown(Program::Client, false, 2).contains("rbbackup=info"));
        assert!(shown(Program::Daemon, false, 0).contains("rbbackup=info"));
        assert!(shown(Program::Daemon, true, 0).contains("rbbackup=error"));
        assert!(filter(Program::Client, false, 0, Some("a=b=c")).unwrap_err().contains("'a=b=c'"));
    }
}
