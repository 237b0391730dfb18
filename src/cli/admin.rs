//! Commands of `rbbackupd`: what an operator does to a store.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::daemon_config::DaemonConfig;
use super::environment::Environment;
use super::exit::Exit;
use super::signals;
use super::terminal::Terminal;
use super::{json, prune_report};
use crate::backup::bytes::escape;
use crate::engine::error::EngineError;
use crate::engine::prune::{prune_store, release_in_store};
use crate::engine::stop::Stop;
use crate::store::names::CopyName;

/// What to do instead of serving.
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Let snapshots expire that no rule keeps, and give back the space that only they needed
    Prune(PruneArgs),
    /// Let go what was there before a run that took most of a root away
    Release(ReleaseArgs),
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

fn parse_copy(text: &str) -> Result<CopyName, String> {
    let (node, user) = text.split_once('/').ok_or("write NODE/USER")?;
    CopyName::new(node.as_bytes(), user.as_bytes()).map_err(|e| e.to_string())
}

/// Runs the command.
pub fn run(command: &AdminCommand, terminal: &Terminal) -> Exit {
    let env = Environment::of_process();
    let (json, done) = match command {
        AdminCommand::Prune(args) => (args.json, prune(args, &env, terminal)),
        AdminCommand::Release(args) => (false, release(args, &env, terminal)),
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

enum Failure {
    Usage(String),
    Engine(EngineError),
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

fn prune(args: &PruneArgs, env: &Environment, terminal: &Terminal) -> Result<Exit, Failure> {
    let config = DaemonConfig::load(args.config.as_deref()).map_err(|e| Failure::Usage(e.to_string()))?;
    let store = env.absolute(&args.store).map_err(Failure::Usage)?;
    let stop = Stop::default();
    let asked = stop.clone();
    let watching = signals::watch(move |count, _| {
        if count > 1 {
            std::process::exit(Exit::Interrupted.code().into());
        }
        asked.ask();
    });
    watching.map_err(|e| Failure::Usage(format!("cannot watch signals: {e}")))?;
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
    for run in release_in_store(&store, &args.copy, args.number)? {
        terminal.out(&format!("what snapshot {run} of {} took away is kept no longer than other things", args.copy));
    }
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
