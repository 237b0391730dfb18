//! `rbbackupd`: arguments, signals, exit code. The first SIGTERM or SIGINT drains, the second stops at once: a store is
//! made for being killed at any moment.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::parser::ValueSource;
use clap::{CommandFactory, Parser};

use super::admin::{self, AdminCommand};
use super::client::print_clap;
use super::console::{self, ConsoleArgs};
use super::daemon_settings::{DaemonSettings, Listen};
use super::environment::Environment;
use super::exit::Exit;
use super::logging::{self, Program};
use super::signals;
use super::terminal::Terminal;
use super::units::parse_address;
use crate::backup::bytes::escape;
use crate::backup::limits::{PORT, SESSIONS_MAX};
use crate::console::daemon::ConsoleOptions;
use crate::engine::confine;
use crate::engine::daemon::{self, DaemonOptions};
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::inside::Inside;
use crate::net::shutdown::Shutdown;
use crate::tree::operator;

/// Keeps what rbbackup sends: the newest copy as plain files, and what came before.
#[derive(Debug, Parser)]
#[command(
    name = "rbbackupd",
    version,
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    override_usage = "rbbackupd [OPTIONS] STORE\n       rbbackupd --relay [--state DIR] [OPTIONS]\n       rbbackupd COMMAND",
    subcommand_help_heading = "Commands (a STORE of such a name is written ./NAME)"
)]
struct Args {
    /// Folder of the store; made when it is not there
    #[arg(value_name = "STORE", required_unless_present_any = ["relay", "state"])]
    store: Option<PathBuf>,
    /// Keep nothing: only pass on to destinations (rbbackup receive), at least one of which must hold each backup
    #[arg(long)]
    relay: bool,
    /// A relay's key and who it knows [default: /var/lib/rbbackup/relay; if not root, ~/.local/state/rbbackup/relay]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Address to listen on; the default takes IPv6 and IPv4
    #[arg(long, value_name = "ADDR[:PORT]", default_value = "[::]:8730", value_parser = parse_listen)]
    listen: SocketAddr,
    /// Most sessions at once; further clients are told to come again
    #[arg(long, value_name = "COUNT", default_value_t = sessions_default())]
    max_sessions: NonZeroUsize,
    /// Accept a first contact from any address, not only from this machine
    #[arg(long)]
    trust_first_use: bool,
    /// What is kept, and for how long [default: /etc/rbbackup/rbbackupd.toml, if there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    console: ConsoleArgs,
    /// Do not confine the process to the store: for a file system or a kernel that it does not get on with
    #[arg(long)]
    no_confine: bool,
    /// Print errors only
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,
    /// Print more (twice: all)
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Option<AdminCommand>,
}

fn sessions_default() -> NonZeroUsize {
    NonZeroUsize::new(SESSIONS_MAX).unwrap_or(NonZeroUsize::MIN)
}

fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    parse_address(text, PORT)
}

/// Reads the command line (`argv` with the program's name).
fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<Args, clap::Error> {
    let args = Args::try_parse_from(argv)?;
    let wrong = match &args {
        Args { relay: true, store: Some(_), .. } => {
            "'--relay' keeps no store: leave STORE out (what a relay needs for itself goes to --state DIR)"
        }
        Args { relay: false, state: Some(_), .. } => {
            "'--state' is where a relay keeps its key: it belongs to '--relay'"
        }
        Args { relay: true, config: Some(_), .. } => "'--config' says what a store keeps, and '--relay' keeps nothing",
        _ => return Ok(args),
    };
    Err(Args::command().error(clap::error::ErrorKind::ArgumentConflict, wrong))
}

/// The whole daemon: `argv` with the program's name in, exit code out.
pub fn main(argv: impl IntoIterator<Item = OsString>) -> Exit {
    let argv: Vec<OsString> = argv.into_iter().collect();
    let args = match parse(argv.iter().cloned()) {
        Ok(args) => args,
        Err(error) => return print_clap(&error),
    };
    super::open_files::raise_limit();
    let terminal = Terminal::of_process();
    if let Some(command) = &args.command {
        return admin::run(command, &terminal);
    }
    let complain = |message: &str| terminal.say(&format!("rbbackupd: {}", escape(message.as_bytes())));
    let Prepared { options, console, listen_override } = match prepare(&args, says_listen(&argv), &terminal) {
        Ok(prepared) => prepared,
        Err(message) => {
            complain(&message);
            return Exit::Usage;
        }
    };
    // Before anything starts a thread: it would not be held.
    if let Err(error) = confine::daemon(&options, console.is_some(), args.no_confine) {
        complain(&error.to_string());
        return Exit::from_code(error.exit_code());
    }
    let shutdown = Shutdown::new();
    let to_drain = shutdown.clone();
    let watching = signals::watch(move |count, _| {
        if count > 1 {
            tracing::warn!("stopping at once");
            std::process::exit(Exit::Interrupted.code().into());
        }
        tracing::info!("draining: no new sessions; a second signal stops at once");
        to_drain.trigger();
    });
    if let Err(error) = watching {
        complain(&format!("cannot watch signals: {error}"));
        return Exit::Failed;
    }
    let (ending, screen) = (shutdown.clone(), terminal.clone());
    let beside = move |inside: &Inside, listen: SocketAddr| {
        let Some(options) = console else { return Ok(()) };
        let link = crate::console::daemon::start(options, inside, listen, ending)
            .map_err(|e| EngineError::new(ErrorKind::Failed, e.to_string()))?;
        console::tell(&link, &screen);
        Ok(())
    };
    match daemon::run(options, shutdown, Box::new(beside)) {
        Ok(()) => Exit::Done,
        Err(error) => {
            let hint = match listen_override.filter(|_| error.message.starts_with("cannot listen")) {
                Some(path) => {
                    format!("; the address was set in the console: take 'listen' out of '{}'", path.display())
                }
                None => String::new(),
            };
            complain(&format!("{error}{hint}"));
            Exit::from_code(error.exit_code())
        }
    }
}

/// What the arguments come to.
struct Prepared {
    options: DaemonOptions,
    console: Option<ConsoleOptions>,
    /// Where the address was set in the console, if it was.
    listen_override: Option<PathBuf>,
}

fn prepare(args: &Args, said: bool, terminal: &Terminal) -> Result<Prepared, String> {
    let env = Environment::of_process();
    let store = match args.relay {
        true => relay_state(args, &env)?,
        // clap requires it where there is no command.
        false => env.absolute(args.store.as_deref().unwrap_or(Path::new("")))?,
    };
    let listen = Listen { address: args.listen, said };
    let (settings, config, listen) = DaemonSettings::load(args.config.as_deref(), &store, listen, args.relay)?;
    let log = env.text_var("RBBACKUP_LOG")?;
    logging::start(Program::Daemon, args.quiet, args.verbose, log.as_deref(), terminal.clone())?;
    let listen_override = settings.listen_override();
    let console = args.console.prepare(&config.console, Arc::new(settings))?;
    let options = DaemonOptions {
        store,
        relay: args.relay,
        listen,
        max_sessions: args.max_sessions.get(),
        trust_first_use: args.trust_first_use,
        retention: config.retention,
        verify: config.verify,
        space: config.space,
        address_connections: config.connections.of_address,
        identity_sessions: config.connections.of_identity,
    };
    Ok(Prepared { options, console, listen_override })
}

/// Whether the command line says where to listen.
fn says_listen(argv: &[OsString]) -> bool {
    let matches = Args::command().try_get_matches_from(argv);
    matches.is_ok_and(|matches| matches.value_source("listen") == Some(ValueSource::CommandLine))
}

/// Where a relay keeps what it needs for itself. What lies above is made for the default only: what an operator names may
/// be on a disk that is not there.
fn relay_state(args: &Args, env: &Environment) -> Result<PathBuf, String> {
    if let Some(state) = &args.state {
        return env.absolute(state);
    }
    let state = env.relay_dir(rustix::process::geteuid().is_root());
    let state = state.ok_or("there is no folder for the relay's state: name one with --state DIR")?;
    let above = state.parent().unwrap_or(Path::new("/"));
    operator::make_dirs(above, 0o700).map_err(|e| format!("cannot create the folder '{}': {e}", above.display()))?;
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        super::parse(std::iter::once("rbbackupd").chain(line.split_whitespace()).map(OsString::from))
    }

    #[test]
    fn clap_is_content() {
        Args::command().debug_assert();
    }

    #[test]
    fn defaults_and_options() {
        let args = parse("/srv/backups").unwrap();
        assert_eq!(args.listen.to_string(), format!("[::]:{PORT}"));
        assert_eq!(args.max_sessions.get(), SESSIONS_MAX);
        assert!(!args.trust_first_use);
        let args = parse("s --listen 127.0.0.1 --max-sessions 3 --trust-first-use").unwrap();
        assert_eq!(args.listen.to_string(), format!("127.0.0.1:{PORT}"));
        assert!(args.trust_first_use && args.max_sessions.get() == 3);
        assert_eq!(parse("s --listen [::1]:0").unwrap().listen.to_string(), "[::1]:0");
        let Some(AdminCommand::Prune(_)) = parse("prune s -n --json").unwrap().command else { panic!("prune") };
        assert!(parse("./prune").unwrap().command.is_none());
        for bad in
            ["prune", "--listen ::1 prune s", "release s ana 3", "", "a b", "s --listen nas", "s --max-sessions 0"]
        {
            assert_eq!(parse(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
        let args = parse("--relay --state s --listen ::1").unwrap();
        assert!(args.relay && args.store.is_none() && parse("--relay").unwrap().state.is_none());
        for (bad, why) in [
            ("--relay /srv", "leave STORE out"),
            ("--relay --state s /srv", "leave STORE out"),
            ("/srv --state s", "belongs to '--relay'"),
            ("--state s", "belongs to '--relay'"),
            ("--relay --config c", "keeps nothing"),
        ] {
            let error = parse(bad).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(why), "{bad}: {error}");
        }
        // What an unset shell variable leaves behind.
        assert_eq!(Args::try_parse_from(["rbbackupd", ""]).unwrap_err().exit_code(), 2);
    }
}
