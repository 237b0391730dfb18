//! Commands of `rbbackupd`: what an operator does to a store.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::checkup::{Manner, parse_sample, run_stats, run_verify};
use super::console::{self, LinkArgs};
use super::daemon_settings::config_of;
use super::environment::Environment;
use super::exit::Exit;
use super::identities::{self, InviteArgs, RekeyArgs, RevokeArgs, SetArgs, UsersArgs};
use super::purge::PurgeArgs;
use super::signals;
use super::terminal::Terminal;
use super::{prune_report, purge};
use crate::backup::bytes::escape;
use crate::engine::admin::{self, Asker};
use crate::engine::error::EngineError;
use crate::engine::prune::{prune_store, release_in_store};
use crate::engine::purge::Purger;
use crate::engine::stop::Stop;
use crate::json;
use crate::store::names::CopyName;

/// What to do instead of serving.
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Let snapshots expire that no rule keeps, and give back the space that only they needed
    Prune(PruneArgs),
    /// Read all of it again: is it still what was backed up?
    Verify(VerifyArgs),
    /// Say what each identity and root holds, and what its past takes
    Stats(StatsArgs),
    /// Let go what was there before a run that took most of a root away
    Release(ReleaseArgs),
    /// Take a path out of somebody's history for good
    Purge(PurgeOf),
    /// Print a token with which one machine may join, once
    Invite(InviteArgs),
    /// Say who is known, what each may do, and who is invited
    Users(UsersArgs),
    /// Shut a key out, or take an invitation back
    Revoke(RevokeArgs),
    /// Change what an identity may do, or its quota
    Set(SetArgs),
    /// Give the daemon another key; clients follow by themselves
    Rekey(RekeyArgs),
    /// Print a link that opens the web console of the daemon that serves the store, once
    Console(LinkArgs),
}

/// `prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Folder of the store
    #[arg(value_name = "STORE")]
    store: PathBuf,
    /// Change nothing; say of each snapshot why it stays or goes
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// One JSON object a line on stdout
    #[arg(long)]
    json: bool,
    /// What is kept [default: /etc/rbbackup/rbbackupd.toml, if there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Folder of the store
    #[arg(value_name = "STORE")]
    store: PathBuf,
    /// Only the next of N parts; N runs look at everything
    #[arg(long, value_name = "1/N", value_parser = parse_sample)]
    sample: Option<u32>,
    /// One JSON object a line on stdout
    #[arg(long)]
    json: bool,
    /// Print damages and errors only
    #[arg(short, long)]
    quiet: bool,
}

/// `stats`.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Folder of the store
    #[arg(value_name = "STORE")]
    store: PathBuf,
    /// One JSON object a line on stdout
    #[arg(long)]
    json: bool,
}

/// `release`.
#[derive(Debug, Args)]
pub struct ReleaseArgs {
    /// Folder of the store
    #[arg(value_name = "STORE")]
    store: PathBuf,
    /// Whose
    #[arg(value_name = "NODE/USER", value_parser = parse_copy)]
    copy: CopyName,
    /// The snapshot that is kept, or that of the run
    #[arg(value_name = "NUMBER")]
    number: u64,
}

/// `purge`.
#[derive(Debug, Args)]
pub struct PurgeOf {
    /// Folder of the store
    #[arg(value_name = "STORE")]
    store: PathBuf,
    /// Whose
    #[arg(value_name = "NODE/USER", value_parser = parse_copy)]
    copy: CopyName,
    #[command(flatten)]
    what: PurgeArgs,
    /// One JSON object a line on stdout
    #[arg(long)]
    json: bool,
}

/// Reads `NODE/USER`.
///
/// # Errors
/// A sentence on how it is written.
pub(super) fn parse_copy(text: &str) -> Result<CopyName, String> {
    let (node, user) = text.split_once('/').ok_or("write NODE/USER")?;
    CopyName::new(node.as_bytes(), user.as_bytes()).map_err(|e| e.to_string())
}

/// Runs the command.
pub fn run(command: &AdminCommand, terminal: &Terminal) -> Exit {
    let env = Environment::of_process();
    let (json, done) = match command {
        AdminCommand::Prune(args) => (args.json, prune(args, &env, terminal)),
        AdminCommand::Verify(args) => (args.json, verify(args, &env, terminal)),
        AdminCommand::Stats(args) => (args.json, stats(args, &env, terminal)),
        AdminCommand::Release(args) => (false, release(args, &env, terminal)),
        AdminCommand::Purge(args) => (args.json, purge(args, &env, terminal)),
        AdminCommand::Invite(args) => (args.json(), identities::invite(args, &env, terminal)),
        AdminCommand::Users(args) => (args.json(), identities::users(args, &env, terminal)),
        AdminCommand::Revoke(args) => (args.json(), identities::revoke(args, &env, terminal)),
        AdminCommand::Set(args) => (args.json(), identities::set(args, &env, terminal)),
        AdminCommand::Rekey(args) => (args.json(), identities::rekey(args, &env, terminal)),
        AdminCommand::Console(args) => {
            (args.json(), console::link(args, &env, terminal).map(|()| Exit::Done).map_err(Failure::from))
        }
    };
    let (exit, message) = match done {
        Ok(exit) => return exit,
        Err(Failure::Usage(message)) => (Exit::Usage, message),
        Err(Failure::Engine(error)) => (Exit::from_code(error.exit_code()), error.message),
    };
    if json {
        terminal.out(&json::error(None, &message, Some(exit.code())));
    } else {
        terminal.say(&format!("rbbackupd: {}", escape(message.as_bytes())));
    }
    exit
}

/// Why a command did not do what it was to.
pub(super) enum Failure {
    /// What was asked for cannot be meant so.
    Usage(String),
    /// It was tried.
    Engine(EngineError),
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

/// A signal asks to stop, a second one does not ask.
pub(super) fn stop_at_signals() -> Result<Stop, Failure> {
    let stop = Stop::default();
    let asked = stop.clone();
    let watching = signals::watch(move |count, _| {
        if count > 1 {
            std::process::exit(Exit::Interrupted.code().into());
        }
        asked.ask();
    });
    watching.map_err(|e| Failure::Usage(format!("cannot watch signals: {e}")))?;
    Ok(stop)
}

fn verify(args: &VerifyArgs, env: &Environment, terminal: &Terminal) -> Result<Exit, Failure> {
    let store = env.absolute(&args.store).map_err(Failure::Usage)?;
    let stop = stop_at_signals()?;
    let manner = Manner { json: args.json, quiet: args.quiet };
    Ok(run_verify(Asker::Admin(&store, &stop), None, args.sample.unwrap_or(0), manner, terminal)?)
}

fn stats(args: &StatsArgs, env: &Environment, terminal: &Terminal) -> Result<Exit, Failure> {
    let store = env.absolute(&args.store).map_err(Failure::Usage)?;
    let stop = stop_at_signals()?;
    Ok(run_stats(Asker::Admin(&store, &stop), Manner { json: args.json, quiet: false }, terminal)?)
}

fn prune(args: &PruneArgs, env: &Environment, terminal: &Terminal) -> Result<Exit, Failure> {
    let store = env.absolute(&args.store).map_err(Failure::Usage)?;
    let config = config_of(args.config.as_deref(), &store).map_err(Failure::Usage)?;
    let stop = stop_at_signals()?;
    if !args.dry_run && args.config.is_some() && admin::is_served(&store)? {
        let message = "the daemon that serves this store prunes by its own configuration; leave --config out";
        return Err(Failure::Usage(message.to_owned()));
    }
    if !args.dry_run
        && let Some(done) = admin::prune(&store, &stop)?
    {
        terminal.out(&prune_report::daemon_line(&done, args.json));
        done.troubles.iter().for_each(|trouble| terminal.say(&format!("rbbackupd: {}", escape(trouble))));
        return Ok(if done.troubles.is_empty() { Exit::Done } else { Exit::Failed });
    }
    if args.dry_run && args.config.is_none() && admin::is_served(&store)? {
        let why = "this is by the default configuration; a daemon serves this store: if it was started with --config, \
                   name that here, too";
        terminal.say(&format!("rbbackupd: {why}"));
    }
    let report = prune_store(&store, &config.retention, args.dry_run, &stop)?;
    if args.json {
        prune_report::json_lines(&report).iter().for_each(|line| terminal.out(line));
    } else {
        prune_report::lines(&report).iter().for_each(|line| terminal.out(line));
        for trouble in report.copies.iter().filter_map(|copy| copy.trouble.as_ref()) {
            terminal.say(&format!("rbbackupd: {}", escape(trouble.as_bytes())));
        }
    }
    Ok(if report.is_clean() { Exit::Done } else { Exit::Failed })
}

fn release(args: &ReleaseArgs, env: &Environment, terminal: &Terminal) -> Result<Exit, Failure> {
    let store = env.absolute(&args.store).map_err(Failure::Usage)?;
    let runs = match admin::release(&store, &args.copy, args.number, &stop_at_signals()?)? {
        Some(runs) => runs,
        None => release_in_store(&store, &args.copy, args.number)?,
    };
    for run in runs {
        terminal.out(&format!("what snapshot {run} of {} took away is kept no longer than other things", args.copy));
    }
    Ok(Exit::Done)
}

fn purge(args: &PurgeOf, env: &Environment, terminal: &Terminal) -> Result<Exit, Failure> {
    let store = env.absolute(&args.store).map_err(Failure::Usage)?;
    let path = args.what.path.as_deref().map(|path| env.absolute(path)).transpose().map_err(Failure::Usage)?;
    let stop = stop_at_signals()?;
    let purger = Purger::Admin(&store, &args.copy, &stop);
    let manner = Manner { json: args.json, quiet: false };
    purge::run(purger, path.as_deref(), args.what.yes, manner, terminal)?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_node_and_user() {
        assert_eq!(parse_copy("10.0.0.1/ana").unwrap().to_string(), "10.0.0.1/ana");
        for bad in ["ana", "/ana", "a/b/c", "../x"] {
            assert!(parse_copy(bad).is_err(), "{bad}");
        }
    }
}
