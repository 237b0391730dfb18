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
mod tests {
    use super::*;
    use crate::engine::restore::Overwrite;

    fn run(line: &str) -> Result<(SharedArgs, Request), clap::Error> {
        parse(std::iter::once("rbbackup").chain(line.split_whitespace()).map(OsString::from))
    }

    fn backup(line: &str) -> BackupArgs {
        match run(line).unwrap().1 {
            Request::Backup(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn refused(line: &str, words: &str) {
        let error = run(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().contains(words), "{line}: {error}");
    }

    #[test]
    fn clap_is_content() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_plain_form() {
        let args = backup("-rd docs /etc");
        assert!(args.recursive && args.delete && !args.dry_run);
        assert_eq!(args.paths, [PathBuf::from("docs"), PathBuf::from("/etc")]);
        assert_eq!(backup("-- -odd").paths, [PathBuf::from("-odd")]);
        refused("", "PATH");
        refused("-r", "PATH");
        assert_eq!(run("-h").unwrap_err().exit_code(), 0);
        assert_eq!(run("-V").unwrap_err().exit_code(), 0);
    }

    #[test]
    fn the_first_word_decides_between_path_and_command() {
        assert!(matches!(run("ls").unwrap().1, Request::List(None, When::Latest)));
        assert!(matches!(run("--store /s ls docs").unwrap().1, Request::List(Some(_), When::Latest)));
        assert!(matches!(run("-v status").unwrap().1, Request::Status));
        assert!(matches!(run("forget /a").unwrap().1, Request::Forget(_)));
        assert!(matches!(run("purge --of 10.0.0.1/u /a").unwrap().1, Request::Purge(args) if !args.yes));
        assert!(matches!(run("purge /a --yes").unwrap().1, Request::Purge(args) if args.yes));
        assert!(matches!(run("purge --list").unwrap().1, Request::Purge(args) if args.path.is_none()));
        refused("purge", "PATH");
        refused("purge --list /a", "cannot be used");
        assert_eq!(backup("./ls").paths, [PathBuf::from("./ls")]);
        assert_eq!(backup("docs ls").paths.len(), 2);
    }

    #[test]
    fn another_s_copy_is_only_read() {
        assert_eq!(run("ls --of 10.0.0.1/u /a").unwrap().0.of, Some(("10.0.0.1".into(), "u".into())));
        refused("--of 10.0.0.1 ls", "NODE/USER");
        refused("--of 10.0.0.1/u -r docs", "a backup changes");
        refused("forget --of 10.0.0.1/u /a", "'forget' changes");
    }

    #[test]
    fn a_destination_takes_what_it_can_use_and_no_more() {
        let Request::Receive(args) = run("receive /d --name nas --from a --from b/u -s h:1").unwrap().1 else {
            panic!("receive")
        };
        assert_eq!((args.dir, args.name), (PathBuf::from("/d"), Some("nas".to_owned())));
        assert_eq!(args.from, [("a".to_owned(), None), ("b".to_owned(), Some("u".to_owned()))]);
        refused("receive", "DIR");
        refused("receive /d --name=", "--name");
        refused("receive /d --from ../x", "NODE/USER");
        refused("receive /d --store /s", "'--store' is no daemon");
        refused("receive /d --retry-for 5s", "for ever");
        refused("receive /d --of a/b", "'receive' changes");
        refused("receive /d -r", "-r");
        refused("receive /d --copies 2", "--copies");
        refused("-r receive /d", "belongs to a backup");
    }

    #[test]
    fn joining_takes_its_server_and_user_from_the_command_and_the_token() {
        let Request::Join(args) = run("join nas:99 rb1abc --bind 127.0.0.2").unwrap().1 else { panic!("join") };
        assert_eq!((args.host.as_str(), args.token.as_deref()), ("nas:99", Some("rb1abc")));
        assert!(matches!(run("join nas -").unwrap().1, Request::Join(args) if args.token.as_deref() == Some("-")));
        assert!(matches!(run("join nas").unwrap().1, Request::Join(args) if args.token.is_none()));
        assert!(matches!(run("rekey -s nas").unwrap().1, Request::Rekey));
        refused("join", "HOST");
        refused("join nas rb1 -s other", "names its server itself");
        refused("join nas rb1 --store /s", "names its server itself");
        refused("join nas rb1 --user u", "in the token");
        refused("rekey --of a/b", "'rekey' changes");
    }

    #[test]
    fn an_option_of_the_other_form_is_refused_not_ignored() {
        refused("-r ls", "'--recursive' before 'ls' belongs to a backup");
        refused("-n restore docs", "'--dry-run' before 'restore'");
        refused("docs -r ls", "command");
        refused("status -r", "-r");
        refused("restore -r docs", "-r");
        refused("--force-delete docs", "--delete");
    }

    #[test]
    fn shared_options_stand_on_either_side_of_the_command() {
        assert_eq!(run("-s h:1 ls").unwrap().0.server.as_deref(), Some("h:1"));
        assert_eq!(run("ls -s h:1").unwrap().0.server.as_deref(), Some("h:1"));
        assert_eq!(run("restore x -vv").unwrap().0.verbose, 2);
        refused("-s h --store /s docs", "cannot be used");
        refused("--bind 127.0.0.2 --store /s docs", "cannot be used");
        refused("-q -v docs", "cannot be used");
    }

    #[test]
    fn values() {
        assert_eq!(backup("docs").wait, None);
        assert_eq!(backup("--wait docs").wait, Some(Duration::MAX));
        assert_eq!(backup("--wait=5m docs").wait, Some(Duration::from_secs(300)));
        assert_eq!(run("--bind 127.0.0.2 docs").unwrap().0.bind.unwrap().to_string(), "127.0.0.2:0");
        assert_eq!((backup("docs").copies, backup("--copies 3 docs").copies), (None, Some(3)));
        assert_eq!(backup("--copies 1 --wait-copies forever docs").wait_copies, Some(Duration::MAX));
        refused("--copies 0 docs", "0 is not in 1..=1000");
        refused("--copies docs", "invalid value 'docs' for '--copies <N>'");
        refused("--copies", "a value is required for '--copies <N>'");
        refused("--wait-copies 5m docs", "--copies <N>");
        refused("--wait=soon docs", "'soon' is not a time");
        refused("--bind localhost docs", "'localhost' is not an address");
        refused("--progress loud docs", "loud");
        // What an unset shell variable leaves behind.
        assert_eq!(parse(["rbbackup", "-r", ""].map(OsString::from)).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn restore_options() {
        let Request::Restore(args) = run("restore a b --to /t --overwrite newer --delete -n").unwrap().1 else {
            panic!()
        };
        assert_eq!(args.paths.len(), 2);
        assert_eq!(args.to, Some(PathBuf::from("/t")));
        assert_eq!(Overwrite::from(args.overwrite), Overwrite::Newer);
        assert!(args.delete && args.dry_run);
        refused("restore", "PATH");
    }

    #[test]
    fn filters_keep_the_order_in_which_they_were_written() {
        let args = backup("--exclude a --exclude-from f docs --exclude !b --exclude-from=g");
        let pattern = |text: &str| FilterSource::Pattern(text.into());
        let file = |text: &str| FilterSource::File(text.into());
        assert_eq!(args.filter_sources, [pattern("a"), file("f"), pattern("!b"), file("g")]);
    }
}
