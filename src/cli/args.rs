//! The client's arguments.
//!
//! The plain form (`rbbackup -rd PATH...`) and the subcommands stand side by side: the first word that is no option
//! decides. A PATH that is called like a subcommand is written `./ls`. What belongs to one form only is an error in the
//! other: an option that is silently ignored is how backups go wrong.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args as _, CommandFactory, FromArgMatches, Parser, Subcommand};

pub use self::modes::{CompressMode, ProgressMode};
use self::past::AtArgs;
pub use self::past::PastArgs;
pub use self::receive::ReceiveArgs;
pub use self::restore::{OverwriteMode, RestoreArgs};
use super::checkup::parse_sample;
use super::client_console::ConsoleArgs;
use super::exit::Exit;
use super::join::JoinArgs;
use super::purge::PurgeArgs;
use super::units::{parse_address, parse_time, parse_wait};
use crate::backup::when::When;

mod modes;
mod past;
mod receive;
mod restore;

/// Copies files to a server and sends only what the server does not have.
#[derive(Debug, Parser)]
#[command(
    name = "rbbackup",
    version,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true,
    override_usage = "rbbackup [OPTIONS] PATH...\n       rbbackup [OPTIONS] COMMAND",
    after_help = Exit::help(),
    subcommand_help_heading = "Commands (a PATH of such a name is written ./NAME)"
)]
struct Args {
    #[command(flatten)]
    backup: BackupArgs,
    #[command(flatten)]
    shared: SharedArgs,
    #[command(subcommand)]
    command: Option<CommandArgs>,
}

/// Options of every command.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub struct SharedArgs {
    /// The daemon [default: 127.0.0.1:8730] [env: RBBACKUP_SERVER]
    #[arg(short, long, global = true, value_name = "HOST[:PORT]", conflicts_with = "store")]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub server: Option<String>,
    /// Local address to connect from
    #[arg(long, global = true, value_name = "ADDR[:PORT]", conflicts_with = "store", value_parser = parse_bind)]
    pub bind: Option<std::net::SocketAddr>,
    /// No daemon: use the store in this folder directly [env: RBBACKUP_STORE]
    #[arg(long, global = true, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// User name to back up under [default: login name] [env: RBBACKUP_USER]
    #[arg(long, global = true, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub user: Option<String>,
    /// Read (or purge) the copy of another: its two folders in the store; takes the admin right, or --store
    #[arg(long, global = true, value_name = "NODE/USER", value_parser = parse_copy)]
    pub of: Option<(String, String)>,
    /// Believe a server on another machine that is not known yet (safer: join)
    #[arg(long, global = true, conflicts_with = "store")]
    pub trust_first_use: bool,
    /// How long to try again when the connection is lost [default: 10m]
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_time)]
    pub retry_for: Option<Duration>,
    /// Pack what is sent and send only what changed inside files: by what the line shows, or as said [default: auto]
    #[arg(long, global = true, value_name = "WHEN")]
    pub compress: Option<CompressMode>,
    /// Print JSON, one object a line, and nothing else on stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// Print errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print each file and what was skipped (twice: how it went)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Show progress bars
    #[arg(long, global = true, value_name = "WHEN")]
    pub progress: Option<ProgressMode>,
}

/// Options of a backup.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct BackupArgs {
    /// What to back up: files, or directories (without -r only the files directly in them)
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// Directories with all they hold
    #[arg(short, long)]
    pub recursive: bool,
    /// Delete in the copy what is gone here (it stays in history)
    #[arg(short, long)]
    pub delete: bool,
    /// Only print what would be done, and how much would be sent
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Leave out what this gitignore pattern matches
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<OsString>,
    /// Read such patterns from a file
    #[arg(long, value_name = "FILE")]
    pub exclude_from: Vec<PathBuf>,
    /// Leave out directories that a CACHEDIR.TAG marks
    #[arg(long)]
    pub exclude_caches: bool,
    /// Do not cross into other file systems
    #[arg(long)]
    pub one_file_system: bool,
    /// Queue when another run holds the lock [for ever when no TIME is given]
    #[arg(long, value_name = "TIME", value_parser = parse_wait)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "forever")]
    pub wait: Option<Duration>,
    /// Done only when so many destinations (rbbackup receive) hold it durably, beside the server
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub copies: Option<u32>,
    /// Longest wait until so many are connected [for ever]
    #[arg(long, value_name = "TIME", value_parser = parse_wait, requires = "copies")]
    pub wait_copies: Option<Duration>,
    /// Read every file again, and tell which changed although nothing says so (a failing disk)
    #[arg(long)]
    pub rehash: bool,
    /// Delete although the delete guard says that it looks like an accident
    #[arg(long, requires = "delete")]
    pub force_delete: bool,
    /// Delete in the copy also what is excluded here
    #[arg(long, requires = "delete")]
    pub delete_excluded: bool,
    /// `--exclude` and `--exclude-from` in the order in which they were written: the last match wins.
    #[arg(skip)]
    pub filter_sources: Vec<FilterSource>,
}

/// Where patterns come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilterSource {
    /// One pattern.
    Pattern(OsString),
    /// A file of patterns.
    File(PathBuf),
}

#[derive(Debug, Subcommand)]
enum CommandArgs {
    /// Write files back from a backup
    Restore(RestoreArgs),
    /// List what a backup holds; without PATH, the roots
    Ls {
        /// A file or directory
        #[arg(value_name = "PATH")]
        path: Option<PathBuf>,
        #[command(flatten)]
        at: AtArgs,
    },
    #[command(flatten)]
    Past(PastArgs),
    /// Take a root out of the copy; its files go to history
    Forget {
        /// The root, as it was given to the backup
        #[arg(value_name = "ROOT")]
        root: PathBuf,
    },
    /// Take a path out of history for good (takes the admin right, or --store)
    Purge(PurgeArgs),
    /// Redeem an invitation: from then on the server knows this machine's key
    Join(JoinArgs),
    /// Take another key at the server; it forgets the one before
    Rekey,
    /// Be a destination: keep a store in DIR, with all that a daemon passes on
    Receive(ReceiveArgs),
    /// Show the daemon, its destinations, my identity and running backups
    Status,
    /// Set, start and watch it all in the browser
    Console(ConsoleArgs),
    /// Run a profile that was made in the console
    Run {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Read all of it again: is it still what was backed up?
    Verify {
        /// Only this file or directory
        #[arg(value_name = "PATH")]
        path: Option<PathBuf>,
        /// Only the next of N parts; N runs look at everything
        #[arg(long, value_name = "1/N", value_parser = parse_sample)]
        sample: Option<u32>,
    },
}

/// What the user asked for.
#[derive(Clone, Debug)]
pub enum Request {
    /// `rbbackup PATH...`
    Backup(BackupArgs),
    /// `rbbackup restore PATH...`
    Restore(RestoreArgs),
    /// `rbbackup ls [PATH]`, and of when
    List(Option<PathBuf>, When),
    /// `rbbackup cat PATH` and others
    Past(PastArgs),
    /// `rbbackup forget ROOT`
    Forget(PathBuf),
    /// `rbbackup purge PATH`
    Purge(PurgeArgs),
    /// `rbbackup join HOST [TOKEN]`
    Join(JoinArgs),
    /// `rbbackup rekey`
    Rekey,
    /// `rbbackup receive DIR`
    Receive(ReceiveArgs),
    /// `rbbackup status`
    Status,
    /// `rbbackup console`
    Console(ConsoleArgs),
    /// `rbbackup run NAME`
    Run(String),
    /// `rbbackup verify [PATH]`; how many parts (0: all at once).
    Verify(Option<PathBuf>, u32),
}

/// Reads the command line (`argv` with the program's name).
///
/// # Errors
/// clap's: usage errors, and what `--help` and `--version` print.
pub fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<(SharedArgs, Request), clap::Error> {
    let matches = Args::command().try_get_matches_from(argv)?;
    let Args { mut backup, shared, command } = Args::from_arg_matches(&matches)?;
    let Some(command) = command else {
        refuse_of(&shared, "a backup")?;
        backup.filter_sources = filters_in_order(&matches, &backup);
        return Ok((shared, Request::Backup(backup)));
    };
    refuse_backup_options(&matches)?;
    let request = match command {
        CommandArgs::Restore(args) => Request::Restore(args),
        CommandArgs::Ls { path, at } => Request::List(path, at.at),
        CommandArgs::Past(args) => Request::Past(args),
        CommandArgs::Forget { root } => {
            refuse_of(&shared, "'forget'")?;
            Request::Forget(root)
        }
        CommandArgs::Purge(args) => Request::Purge(args),
        CommandArgs::Receive(args) => {
            refuse_for_receive(&shared, &args)?;
            Request::Receive(args)
        }
        CommandArgs::Join(args) => {
            refuse_for_join(&shared)?;
            Request::Join(args)
        }
        CommandArgs::Rekey => {
            refuse_of(&shared, "'rekey'")?;
            Request::Rekey
        }
        CommandArgs::Status => Request::Status,
        CommandArgs::Console(args) => {
            refuse_of(&shared, "'console'")?;
            Request::Console(args)
        }
        CommandArgs::Run { name } => {
            refuse_of(&shared, "'run'")?;
            Request::Run(name)
        }
        CommandArgs::Verify { path, sample } => Request::Verify(path, sample.unwrap_or(0)),
    };
    Ok((shared, request))
}

fn refuse_of(shared: &SharedArgs, what: &str) -> Result<(), clap::Error> {
    let message = || format!("'--of' reads another's copy; {what} changes one's own");
    shared.of.as_ref().map_or(Ok(()), |_| Err(usage_error(&message())))
}

/// The server and the user name are in the command itself, and in the token.
fn refuse_for_join(shared: &SharedArgs) -> Result<(), clap::Error> {
    refuse_of(shared, "'join'")?;
    match (&shared.server, &shared.store, &shared.user) {
        (None, None, None) => Ok(()),
        (None, None, Some(_)) => Err(usage_error("the user name of 'join' is in the token: leave '--user' out")),
        _ => Err(usage_error("'join' names its server itself: rbbackup join HOST TOKEN")),
    }
}

/// What every command has and a destination can have no use for.
fn refuse_for_receive(shared: &SharedArgs, args: &ReceiveArgs) -> Result<(), clap::Error> {
    refuse_of(shared, "'receive'")?;
    if shared.store.is_some() {
        return Err(usage_error("'receive' keeps its store in DIR and takes it from a daemon: '--store' is no daemon"));
    }
    if shared.retry_for.is_some() {
        return Err(usage_error("'receive' tries its daemon for ever: '--retry-for' has no meaning here"));
    }
    args.check().map_err(|message| usage_error(&message))
}

/// An error of usage that clap cannot know of, shown its way and with its exit code.
pub fn usage_error(message: &str) -> clap::Error {
    Args::command().error(ErrorKind::ArgumentConflict, message)
}

fn parse_copy(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((node, user)) if !node.is_empty() && !user.is_empty() => Ok((node.to_owned(), user.to_owned())),
        _ => Err("write NODE/USER, as the folders in the store are called (192.168.1.20/u)".to_owned()),
    }
}

fn parse_bind(text: &str) -> Result<std::net::SocketAddr, String> {
    parse_address(text, 0)
}

fn refuse_backup_options(matches: &ArgMatches) -> Result<(), clap::Error> {
    let name = matches.subcommand_name().unwrap_or_default();
    let backup_only = BackupArgs::augment_args(clap::Command::new("backup"));
    for arg in backup_only.get_arguments() {
        let id = arg.get_id().as_str();
        if matches.value_source(id) != Some(ValueSource::CommandLine) {
            continue;
        }
        return Err(usage_error(&match arg.get_long() {
            Some(long) => format!(
                "'--{long}' before '{name}' belongs to a backup; options of '{name}' stand after it, \
                 and a PATH called '{name}' is written './{name}'"
            ),
            None => format!("'{name}' is a command; a PATH of that name is written './{name}'"),
        }));
    }
    Ok(())
}

fn filters_in_order(matches: &ArgMatches, backup: &BackupArgs) -> Vec<FilterSource> {
    let indices = |id: &str| matches.indices_of(id).into_iter().flatten().collect::<Vec<_>>();
    let patterns = backup.exclude.iter().cloned().map(FilterSource::Pattern);
    let files = backup.exclude_from.iter().cloned().map(FilterSource::File);
    let mut all: Vec<(usize, FilterSource)> = indices("exclude").into_iter().zip(patterns).collect();
    all.extend(indices("exclude_from").into_iter().zip(files));
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, source)| source).collect()
}

#[cfg(test)]
mod tests;
