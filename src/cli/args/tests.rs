//! The command line is read as it is meant, and what cannot be meant is refused.

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
    let Request::Restore(args) = run("restore a b --to /t --overwrite newer --delete -n").unwrap().1 else { panic!() };
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
