//! Tests of the command line.

use std::cell::RefCell;

use super::*;
use crate::engine::error::ErrorKind;

/// Runs a backup of `names` in a fresh folder (those that start with `x` do not exist there) with a fake engine.
fn backup(names: &[&str], engine: impl Fn(&str) -> Result<Summary, EngineError>) -> (Exit, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    for name in names.iter().filter(|name| !name.starts_with('x') && !name.contains('/')) {
        std::fs::write(dir.path().join(name), b"").unwrap();
    }
    let env = Environment {
        home: Some(dir.path().into()),
        login: Some("u".into()),
        cwd: Some(dir.path().into()),
        ..Default::default()
    };
    let line = ["rbbackup", "-q"].iter().chain(names).map(OsString::from);
    let (shared, request) = args::parse(line).unwrap();
    let Request::Backup(args) = request else { panic!() };
    let settings = Settings::load(&shared, &env).unwrap();
    let tried = RefCell::new(Vec::new());
    let command = Command { settings: &settings, env: &env, terminal: &Terminal::of_process() };
    let exit = command.backup(&args, |_, options, _| {
        let name = options.root.file_name().unwrap().to_str().unwrap().to_owned();
        tried.borrow_mut().push(name.clone());
        engine(&name)
    });
    (exit.unwrap(), tried.into_inner())
}

fn error(kind: ErrorKind) -> Result<Summary, EngineError> {
    Err(EngineError::new(kind, "a sentence"))
}

#[test]
fn every_path_is_a_run_and_the_gravest_reason_decides() {
    let (exit, tried) = backup(&["a", "b", "c"], |name| match name {
        "a" => Ok(Summary { errors: 1, incomplete: true, ..Summary::example() }),
        "b" => error(ErrorKind::Locked),
        _ => Ok(Summary::example()),
    });
    assert_eq!((exit, tried.len()), (Exit::Locked, 3));
    assert_eq!(backup(&["a"], |_| Ok(Summary::example())).0, Exit::Done);
    assert_eq!(backup(&["a"], |_| Ok(Summary { incomplete: true, ..Summary::example() })).0, Exit::Incomplete);
}

#[test]
fn a_missing_path_fails_and_the_others_are_backed_up() {
    let (exit, tried) = backup(&["x", "a"], |_| Ok(Summary::example()));
    assert_eq!((exit, tried), (Exit::Failed, vec!["a".to_owned()]));
}

#[test]
fn without_a_server_the_other_paths_are_not_tried() {
    let (exit, tried) = backup(&["a", "b", "c"], |_| error(ErrorKind::Unreachable));
    assert_eq!((exit, tried.len()), (Exit::Unreachable, 1));
    let (exit, tried) = backup(&["a", "b"], |_| error(ErrorKind::Guard));
    assert_eq!((exit, tried.len()), (Exit::Guard, 2));
}

#[test]
fn the_same_root_twice_is_one_run() {
    let (_, tried) = backup(&["a", "./a", "b/../a"], |_| Ok(Summary::example()));
    assert_eq!(tried, ["a"]);
}

#[test]
fn what_could_not_be_restored_is_exit_3() {
    assert_eq!(restore_exit(&RestoreSummary::default()), Exit::Done);
    let noted = RestoreSummary { notes: vec!["owner of x".into()], ..Default::default() };
    assert_eq!(restore_exit(&noted), Exit::Incomplete);
    assert_eq!(restore_exit(&RestoreSummary { errors: 1, ..Default::default() }), Exit::Incomplete);
}

#[test]
fn two_paths_that_would_be_restored_into_each_other_are_refused() {
    let same = ["/a/docs", "/b/docs"].map(PathBuf::from);
    assert!(refuse_same_place(&same).unwrap_err().contains("'/a/docs' and '/b/docs'"));
    assert!(refuse_same_place(&["/a/docs", "/b/doc"].map(PathBuf::from)).is_ok());
}
