//! `rbbackup`: takes a request apart, runs the engine for one PATH after the other, and decides the exit code.
//!
//! Each PATH is a run of its own. One that fails does not keep the others from being backed up, unless they would fail
//! for the same reason: no server, no right, or an interrupt.

use std::ffi::OsString;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::args::{self, BackupArgs, PastArgs, Request, RestoreArgs, SharedArgs};
use super::checkup::{self, Manner};
use super::environment::Environment;
use super::exit::Exit;
use super::interrupt::Interrupt;
use super::logging::{self, Program};
use super::purge::PurgeArgs;
use super::report::Reporter;
use super::settings::Settings;
use super::terminal::{Page, Terminal};
use super::{client_console, join, past, purge, receive, render};
use crate::backup::bytes::escape;
use crate::backup::when::When;
use crate::engine::admin::{self, Asker};
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::observer::{Observer, Summary};
use crate::engine::purge::Purger;
use crate::engine::push::{PushOptions, push};
use crate::engine::restore::{RestoreOptions, RestoreSummary, restore};
use crate::engine::{client::ClientOptions, inspect};
use crate::json;
use crate::tree::operator;

/// The whole client: `argv` with the program's name in, exit code out.
pub fn main(argv: impl IntoIterator<Item = OsString>) -> Exit {
    super::open_files::raise_limit();
    let terminal = Terminal::of_process();
    let (shared, request) = match args::parse(argv) {
        Ok(parsed) => parsed,
        Err(error) => return print_clap(&error),
    };
    let json = shared.json;
    match run(&shared, &request, &terminal) {
        Ok(exit) => exit,
        Err(message) => {
            complain(&terminal, json, &message, Exit::Usage);
            Exit::Usage
        }
    }
}

/// What clap has to say: help and version go to stdout and are no failure.
pub(super) fn print_clap(error: &clap::Error) -> Exit {
    // A reader that went away needs no help.
    let _ = error.print();
    u8::try_from(error.exit_code()).map_or(Exit::Usage, Exit::from_code)
}

fn complain(terminal: &Terminal, json: bool, message: &str, exit: Exit) {
    if json {
        terminal.out(&json::error(None, message, Some(exit.code())));
    } else {
        terminal.say(&format!("rbbackup: {}", escape(message.as_bytes())));
    }
}

/// # Errors
/// A sentence on what is wrong with arguments, environment or configuration.
fn run(shared: &SharedArgs, request: &Request, terminal: &Terminal) -> Result<Exit, String> {
    let env = Environment::of_process();
    if let Request::Run(name) = request {
        let (shared, request) = client_console::of_profile(name, shared, &env)?;
        return run(&shared, &request, terminal);
    }
    let settings = Settings::load(shared, &env).map_err(|e| e.to_string())?;
    let voice = settings.voice;
    let log = env.text_var("RBBACKUP_LOG")?;
    logging::start(Program::Client, voice.quiet, voice.verbose, log.as_deref(), terminal.clone())?;
    if let Request::Receive(args) = request {
        let done = receive::run(&settings, &env, terminal, args)?;
        return Ok(done.map_or_else(|error| refused(terminal, voice.json, &error), |()| Exit::Done));
    }
    if let Request::Console(args) = request {
        let done = client_console::run(&settings, &env, terminal, args);
        return Ok(done.unwrap_or_else(|error| refused(terminal, voice.json, &error)));
    }
    let interrupt = Interrupt::watch(settings.client.stop.clone(), terminal, voice.json);
    let command = Command { settings: &settings, env: &env, terminal };
    let exit = match request {
        Request::Backup(args) => command.backup(args, push),
        Request::Restore(args) => command.restore(args, restore),
        Request::List(path, when) => command.list(path.as_deref(), *when),
        Request::Past(args) => command.past(args),
        Request::Forget(root) => command.forget(root),
        Request::Purge(args) => command.purge(args),
        Request::Join(args) => {
            Ok(join::run_join(&settings, &env, terminal, args).unwrap_or_else(|error| command.refused(&error)))
        }
        Request::Rekey => Ok(join::run_rekey(&settings, terminal).unwrap_or_else(|error| command.refused(&error))),
        // These have signals of their own, or are others by now.
        Request::Receive(_) | Request::Console(_) | Request::Run(_) => Ok(Exit::Done),
        Request::Status => Ok(command.status()),
        Request::Verify(path, parts) => command.verify(path.as_deref(), *parts),
    }?;
    if exit == Exit::Interrupted {
        interrupt.tell();
    }
    Ok(exit)
}

struct Command<'a> {
    settings: &'a Settings,
    env: &'a Environment,
    terminal: &'a Terminal,
}

impl Command<'_> {
    fn backup(
        &self,
        args: &BackupArgs,
        push: impl Fn(&ClientOptions, &PushOptions, &dyn Observer) -> Result<Summary, EngineError>,
    ) -> Result<Exit, String> {
        let mut options = self.settings.push_options(args, self.env).map_err(|e| e.to_string())?;
        self.each(&self.absolute_all(&args.paths)?, |path, reporter| {
            if let Err(error) = operator::look_at_name(path) {
                return fail(reporter, path, &why_missing(&error), Exit::Failed);
            }
            path.clone_into(&mut options.root);
            match push(&self.settings.client, &options, &reporter) {
                Ok(summary) => {
                    reporter.summary(&summary);
                    backup_exit(&summary)
                }
                Err(error) => fail_engine(reporter, path, &error),
            }
        })
    }

    fn restore(
        &self,
        args: &RestoreArgs,
        restore: impl Fn(&ClientOptions, &RestoreOptions, &dyn Observer) -> Result<RestoreSummary, EngineError>,
    ) -> Result<Exit, String> {
        let paths = self.absolute_all(&args.paths)?;
        let to = args.to.as_ref().map(|to| self.env.absolute(to)).transpose()?;
        if to.is_some() {
            refuse_same_place(&paths)?;
        }
        self.each(&paths, |path, reporter| {
            let options = RestoreOptions {
                path: path.to_path_buf(),
                when: args.at.at,
                to: to.clone(),
                overwrite: args.overwrite.into(),
                delete: args.delete,
                dry_run: args.dry_run,
            };
            match restore(&self.settings.client, &options, &reporter) {
                Ok(summary) => {
                    reporter.restored(&summary, args.dry_run);
                    restore_exit(&summary)
                }
                Err(error) => fail_engine(reporter, path, &error),
            }
        })
    }

    fn list(&self, path: Option<&Path>, when: When) -> Result<Exit, String> {
        let path = path.map(|path| self.env.absolute(path)).transpose()?;
        let json = self.settings.voice.json;
        let mut page = Page::default();
        let mut print = |listed: inspect::ListedEntry| {
            page.line(&if json { json::entry(&listed) } else { render::listed_line(&listed) });
            ControlFlow::Continue(())
        };
        let listed = inspect::list(&self.settings.client, path.as_deref(), when, &mut print);
        drop(page);
        Ok(match listed {
            Ok(listing) => {
                if let Some(listing) = listing.filter(|_| !json && !self.settings.voice.quiet) {
                    self.terminal.say(&render::listing_line(&listing));
                }
                Exit::Done
            }
            Err(error) => self.refused(&error),
        })
    }

    fn past(&self, args: &PastArgs) -> Result<Exit, String> {
        Ok(past::run(self.settings, self.env, self.terminal, args)?
            .map_or_else(|error| self.refused(&error), |()| Exit::Done))
    }

    fn status(&self) -> Exit {
        let report = match inspect::status(&self.settings.client) {
            Ok(report) => report,
            Err(error) => return self.refused(&error),
        };
        if self.settings.voice.json {
            self.terminal.out(&json::status(&report));
        } else {
            render::status_lines(&report).iter().for_each(|line| self.terminal.out(line));
        }
        if report.relay {
            // It has no history to tell of.
            return Exit::Done;
        }
        let asker = Asker::Client(&self.settings.client);
        if self.settings.voice.json {
            return checkup::run_stats(asker, self.manner(), self.terminal).unwrap_or_else(|e| self.refused(&e));
        }
        match admin::stats(asker) {
            Ok(copies) => {
                let lines = copies.iter().flat_map(checkup::history_lines);
                lines.for_each(|line| self.terminal.out(&line));
                Exit::Done
            }
            Err(error) => self.refused(&error),
        }
    }

    fn verify(&self, path: Option<&Path>, parts: u32) -> Result<Exit, String> {
        let path = path.map(|path| self.env.absolute(path)).transpose()?;
        let asker = Asker::Client(&self.settings.client);
        let done = checkup::run_verify(asker, path.as_deref(), parts, self.manner(), self.terminal);
        Ok(done.unwrap_or_else(|error| self.refused(&error)))
    }

    fn manner(&self) -> Manner {
        Manner { json: self.settings.voice.json, quiet: self.settings.voice.quiet }
    }

    fn forget(&self, root: &Path) -> Result<Exit, String> {
        self.each(&[self.env.absolute(root)?], |root, reporter| {
            match inspect::forget(&self.settings.client, root, &reporter) {
                Ok(summary) => {
                    reporter.forgotten(&summary);
                    backup_exit(&summary)
                }
                Err(error) => fail_engine(reporter, root, &error),
            }
        })
    }

    fn purge(&self, args: &PurgeArgs) -> Result<Exit, String> {
        let path = args.path.as_deref().map(|path| self.env.absolute(path)).transpose()?;
        let purger = Purger::Client(&self.settings.client);
        let done = purge::run(purger, path.as_deref(), args.yes, self.manner(), self.terminal);
        Ok(done.map_or_else(|error| self.refused(&error), |()| Exit::Done))
    }

    fn refused(&self, error: &EngineError) -> Exit {
        refused(self.terminal, self.settings.voice.json, error)
    }

    /// Absolute paths, each once: the same root given twice is one run.
    fn absolute_all(&self, paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
        let mut all: Vec<PathBuf> = Vec::with_capacity(paths.len());
        for path in paths {
            let path = self.env.absolute(path)?;
            if !all.contains(&path) {
                all.push(path);
            }
        }
        Ok(all)
    }

    fn each(&self, paths: &[PathBuf], mut run: impl FnMut(&Path, Reporter) -> Exit) -> Result<Exit, String> {
        let mut exits = Vec::with_capacity(paths.len());
        for (i, path) in paths.iter().enumerate() {
            let exit = run(path, Reporter::begin(self.settings.voice, self.terminal));
            exits.push(exit);
            if exit == Exit::Interrupted {
                break;
            }
            if matches!(exit, Exit::Unreachable | Exit::NotAllowed) {
                for left in &paths[i + 1..] {
                    let reporter = Reporter::begin(self.settings.voice, self.terminal);
                    exits.push(fail(reporter, left, "not tried, for the same reason", exit));
                }
                break;
            }
        }
        Ok(Exit::decide(exits))
    }
}

fn refused(terminal: &Terminal, json: bool, error: &EngineError) -> Exit {
    let exit = Exit::from_code(error.exit_code());
    if exit != Exit::Interrupted {
        complain(terminal, json, &error.to_string(), exit);
    }
    exit
}

fn fail(reporter: Reporter, path: &Path, message: &str, exit: Exit) -> Exit {
    reporter.failed(path.as_os_str().as_bytes(), message, exit.code());
    exit
}

fn fail_engine(reporter: Reporter, path: &Path, error: &EngineError) -> Exit {
    if error.kind == ErrorKind::Interrupted {
        // That is said once, whatever was under way.
        return Exit::Interrupted;
    }
    fail(reporter, path, &error.to_string(), Exit::from_code(error.exit_code()))
}

fn why_missing(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file or directory; nothing was backed up".to_owned(),
        _ => format!("cannot be looked at: {error}"),
    }
}

fn backup_exit(summary: &Summary) -> Exit {
    if summary.altered > 0 {
        return Exit::Failed;
    }
    if !summary.enough {
        return Exit::Copies;
    }
    if summary.errors > 0 || summary.incomplete { Exit::Incomplete } else { Exit::Done }
}

fn restore_exit(summary: &RestoreSummary) -> Exit {
    if summary.errors > 0 || !summary.notes.is_empty() { Exit::Incomplete } else { Exit::Done }
}

/// With `--to` each PATH lands under its last component: two of the same name would be written into each other.
fn refuse_same_place(paths: &[PathBuf]) -> Result<(), String> {
    for (i, path) in paths.iter().enumerate() {
        if let Some(other) = paths[..i].iter().find(|other| other.file_name() == path.file_name()) {
            let show = |path: &Path| escape(path.as_os_str().as_bytes());
            return Err(format!("'{}' and '{}' would be restored to the same place", show(other), show(path)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
