//! What is said, and to whom: silence in cron, objects with `--json`, exit codes that mean something.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::client::{Client, Outcome};
use crate::support::daemon::{World, skipped};
use crate::support::proxy::Proxy;
use crate::support::trees::{assert_same, assert_shape, many, noise, plant, set_time, shape, write};

#[track_caller]
fn silent(client: &Client, args: &[&OsStr]) {
    let outcome = client.run(args);
    outcome.expect(0, &[]);
    assert_eq!(outcome.said(), "", "{args:?}");
}

/// From cron, when all is well: not a word.
#[test]
fn without_a_terminal_it_is_silent_when_all_is_well() {
    let (world, _daemon, client) = World::served();
    plant(&world.source);
    let _socket = std::os::unix::net::UnixListener::bind(world.source.join("socket")).unwrap();
    let (source, to) = (world.source.as_os_str(), world.path("to"));
    silent(&client, &["-r".as_ref(), source]);
    silent(&client, &["-rd".as_ref(), source]);
    silent(&client, &["-rdq".as_ref(), source]);
    write(&world.source.join("readme"), "changed");
    silent(&client, &["-rd".as_ref(), source]);
    silent(&client, &["restore".as_ref(), source, "--to".as_ref(), to.as_os_str()]);
    silent(&client, &["forget".as_ref(), source]);
    // What is wrong is said, on stderr, also with -q.
    for flags in ["-r", "-rq"] {
        let outcome = client.run(&[flags.as_ref(), world.path("nothing").as_os_str()]);
        outcome.expect(1, &["nothing", "there is no such file"]);
        assert_eq!(outcome.stdout, "");
    }
}

const SUMMARY: &[&str] = &[
    "type",
    "root",
    "snapshot",
    "manifest",
    "created",
    "updated",
    "moved",
    "deleted",
    "touched",
    "unchanged",
    "files",
    "bytes",
    "bytes_read",
    "content_bytes_sent",
    "wire_bytes_sent",
    "wire_bytes_received",
    "errors",
    "altered",
    "incomplete",
    "copies",
    "elapsed_secs",
];

fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

/// The fields of the summary are an interface: no more, no less.
#[test]
fn json_is_all_that_stdout_holds() {
    let (world, _daemon, client) = World::served();
    many(&world.source, 2, 3);
    let path = |name: &str| world.path(name).into_os_string();
    let args = ["--json".into(), "-r".into(), path("source"), path("nothing"), path("source/f00")];
    let outcome = client.run(&args);
    outcome.expect(1, &[]);
    assert_eq!(outcome.stderr, "");
    let objects = outcome.objects();
    let types: BTreeSet<_> = objects.iter().map(|object| object["type"].as_str().unwrap()).collect();
    assert!(types.is_subset(&BTreeSet::from(["progress", "error", "summary"])), "{types:?}");
    let summaries: Vec<_> = objects.iter().filter(|object| object["type"] == "summary").collect();
    assert_eq!(summaries.len(), 2);
    let summary = summaries[0];
    assert_eq!(keys(summary), SUMMARY.iter().copied().collect());
    assert_eq!(summary["root"], world.source.to_str().unwrap());
    assert_eq!((&summary["snapshot"], &summary["files"], &summary["created"]), (&1.into(), &6.into(), &9.into()));
    assert_eq!((&summary["errors"], &summary["incomplete"]), (&0.into(), &false.into()));
    assert_eq!(summary["manifest"].as_str().unwrap().len(), 64);
    assert!(summary["elapsed_secs"].as_f64().unwrap() > 0.0);
    let bytes = 6 * "file 0 of 0".len();
    for count in ["bytes", "bytes_read", "content_bytes_sent"] {
        assert_eq!(summary[count], bytes, "{count}");
    }
    for count in ["wire_bytes_sent", "wire_bytes_received"] {
        assert!(summary[count].as_u64().unwrap() > 300, "{count}");
    }
    let error = outcome.object("error");
    assert_eq!((&error["path"], &error["exit_code"]), (&world.path("nothing").to_str().into(), &1.into()));
}

/// Objects of progress while a run goes on: it is stalled, so that it goes on long enough.
#[test]
fn json_tells_of_progress() {
    let world = World::new();
    let mut daemon = world.daemon();
    let proxy = Proxy::to(&daemon.address);
    let client = Client::new(&world.path("home"), &["-s", &proxy.address, "--retry-for", "0s"]);
    write(&world.source.join("large"), noise(1, 8 << 20));
    proxy.stall(2 << 20);
    let mut run = client.start(&["--json".as_ref(), "-r".as_ref(), world.source.as_os_str()]);
    proxy.wait_stalled();
    let stdout = run.stdout.take().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stdout)).map(Result::unwrap);
    let objects = lines.by_ref().map(|line| serde_json::from_str::<Value>(&line).unwrap());
    let told = objects.skip_while(|object| object["bytes_done"] == 0).take(1).next().unwrap();
    assert_eq!(told["type"], "progress", "{told}");
    assert!(told["bytes_done"].as_u64().unwrap() <= 8 << 20 && told["phase"].is_string(), "{told}");
    daemon.kill();
    proxy.open();
    let last: Value = serde_json::from_str(&lines.last().unwrap()).unwrap();
    assert_eq!((&last["type"], &last["exit_code"]), (&"error".into(), &10.into()), "{last}");
    assert_eq!(crate::support::daemon::wait(&mut run).code(), Some(10));
}

#[test]
fn verbose_names_each_file_and_ends_with_two_lines() {
    let (world, _daemon, client) = World::served();
    many(&world.source, 1, 2);
    let _socket = std::os::unix::net::UnixListener::bind(world.source.join("socket")).unwrap();
    let outcome = client.run(&["-rv".as_ref(), world.source.as_os_str()]);
    outcome.expect(0, &["f00/000", "f00/001", "/socket: a socket"]);
    let lines: Vec<_> = outcome.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("4 created") && lines[0].contains("snapshot 1"), "{lines:?}");
    assert!(lines[1].starts_with("sent 22 B of 22 B in 2 files"), "{lines:?}");
}

/// At a terminal: bars on stderr, two lines at the end. `script` makes the terminal.
#[test]
fn a_person_sees_the_result_in_two_lines() {
    if Command::new("script").arg("--version").output().is_err() {
        return skipped("there is no 'script' that makes a terminal");
    }
    let world = World::new();
    many(&world.source, 1, 2);
    let (program, store) = (env!("CARGO_BIN_EXE_rbbackup"), world.store.display());
    let line = format!("{program} --store {store} -r {}", world.source.display());
    let mut command = Command::new("script");
    command.args(["-q", "-e", "-c", &line, "/dev/null"]).env("HOME", world.path("home"));
    let outcome = Outcome::of(command.env("TERM", "xterm").env_remove("XDG_CONFIG_HOME").env_remove("RBBACKUP_SERVER"));
    outcome.expect(0, &["4 created", "in 2 files"]);
    assert_same(&world.copy(), &world.source);
}

/// `-n`: what would be done, step by step, how much would be sent, and nothing is changed.
#[test]
fn a_dry_run_says_what_the_run_then_does() {
    let (world, _daemon, client) = World::served();
    many(&world.source, 1, 3);
    for name in ["gone", "old name", "changed", "touched", "same"] {
        write(&world.source.join(name), noise(name.len() as u64, 300));
    }
    for name in ["large", "the same"] {
        write(&world.source.join(name), noise(9, 300_000));
    }
    compare(&client, &world);
    fs::remove_file(world.source.join("gone")).unwrap();
    fs::rename(world.source.join("old name"), world.source.join("new name")).unwrap();
    write(&world.source.join("changed"), "new");
    write(&world.source.join("new\nline"), "x");
    set_time(&world.source.join("touched"), 5, 5);
    let words = client.run(&["-rdn".as_ref(), world.source.as_os_str()]);
    let at = |action: &str, name: &str| format!("{action} {}/{name}", world.source.display());
    let lines = [at("update", "changed"), at("delete", "gone"), at("create", "new\\x0aline"), at("touch ", "touched")];
    let moved = format!("{} -> {}", at("move  ", "old name"), world.source.join("new name").display());
    words.expect(0, &lines.each_ref().map(String::as_str));
    words.expect(0, &[moved.as_str()]);
    words.expect(0, &["1 created, 1 updated, 1 moved, 1 deleted", "would send 4 B"]);
    assert_eq!(words.stderr, "");
    compare(&client, &world);
    assert_same(&world.copy(), &world.source);
}

/// A dry run, then the run: the same counts, and only the second does anything.
#[track_caller]
fn compare(client: &Client, world: &World) {
    let before = shape(&world.copy());
    let dry = client.push("-rdn", &world.source);
    assert_shape(&world.copy(), &before);
    assert!(dry["snapshot"].is_null());
    let real = client.push("-rd", &world.source);
    let counts = ["created", "updated", "moved", "deleted", "touched", "unchanged", "files", "bytes", "manifest"];
    for count in counts.into_iter().chain(["content_bytes_sent"]) {
        assert_eq!(dry[count], real[count], "{count}: {dry} {real}");
    }
}

#[test]
fn the_configuration_is_heeded_and_its_errors_are_named() {
    let world = World::new();
    let daemon = world.daemon();
    let client = Client::new(&world.path("home"), &[]);
    let config = client.home.join(".config/rbbackup/config.toml");
    write(&world.source.join("kept"), "kept");
    write(&world.source.join("left.o"), "left out");
    let source = world.source.as_os_str();
    write(&config, format!("server = \"{}\"\nexclude = [\"*.o\"]\n", daemon.address));
    silent(&client, &["-r".as_ref(), source]);
    assert!(world.copy().join("kept").exists() && !world.copy().join("left.o").exists());
    // The environment wins over the file, the command line over both.
    client.var("RBBACKUP_SERVER", "127.0.0.1:1").run(&["-r".as_ref(), source]).expect(10, &["127.0.0.1:1"]);
    let both = client.var("RBBACKUP_SERVER", "127.0.0.1:1");
    silent(&both, &["-r".as_ref(), "-s".as_ref(), daemon.address.as_ref(), source]);
    // A misspelt key, with its line; so it is for every command.
    write(&config, format!("# comment\nserver = \"{}\"\nexlude = [\"*.o\"]\n", daemon.address));
    for args in [&["-r".as_ref(), source][..], &["ls".as_ref()], &["status".as_ref()]] {
        client.run(args).expect(2, &["config.toml, line 3", "exlude"]);
    }
    write(&config, "delete = true\n");
    client.run(&["-r".as_ref(), source]).expect(2, &["line 1", "delete"]);
    // Another folder of configuration is another identity.
    let other = world.path("other");
    write(&other.join("rbbackup/config.toml"), "retry-for = \"soon\"\n");
    client.var("XDG_CONFIG_HOME", other.to_str().unwrap()).run(&["status"]).expect(2, &["line 1", "soon"]);
}

#[test]
fn usage_errors_are_two() {
    let (world, _daemon, client) = World::served();
    many(&world.source, 1, 1);
    let source = world.source.to_str().unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&[], "PATH"),
        (&["--nonsense", source], "--nonsense"),
        (&["-r", "--store", "x", source], "--store"),
        (&["--force-delete", source], "--delete"),
        (&["-r", "--wait=soon", source], "soon"),
        (&["-r", "--exclude-from", "/nothing/there", source], "/nothing/there"),
        (&["-r", "restore", source], "restore"),
        (&["restore", source, "--overwrite", "some"], "some"),
        (&["--user", "a/b", "-r", source], "a/b"),
        (&["-r", ""], "PATH"),
    ];
    for (args, word) in cases {
        let outcome = client.run(args);
        assert_eq!(outcome.code, 2, "{args:?}: {}", outcome.said());
        outcome.expect(2, &[word]);
        assert_eq!(outcome.stdout, "", "{args:?}");
    }
    assert!(!world.copy().exists(), "nothing was backed up");
    for (flag, words) in [("-h", "--recursive"), ("--help", "Exit codes"), ("-V", env!("CARGO_PKG_VERSION"))] {
        client.run(&[flag]).expect(0, &[words]);
    }
}

/// Nobody listens there: what to start is said.
#[test]
fn an_absent_daemon_is_ten() {
    let (world, daemon, client) = World::served();
    drop(daemon);
    many(&world.source, 1, 1);
    for args in [&["-r".as_ref(), world.source.as_os_str()][..], &["ls".as_ref()], &["status".as_ref()]] {
        client.run(args).expect(10, &["rbbackupd"]);
    }
}

#[test]
fn a_store_without_a_daemon_is_the_same_store() {
    let world = World::new();
    plant(&world.source);
    let store = world.store.to_str().unwrap();
    let client = Client::new(&world.path("home"), &["--store", store]);
    let first = client.push("-r", &world.source);
    assert_same(&world.copy(), &world.source);
    assert_eq!((&first["snapshot"], &first["wire_bytes_sent"]), (&1.into(), &0.into()));
    let wanted = shape(&world.source);
    fs::remove_dir_all(&world.source).unwrap();
    silent(&client, &["restore".as_ref(), world.source.as_os_str()]);
    assert_shape(&world.source, &wanted);
    client.run(&["ls", world.source.to_str().unwrap()]).expect(0, &["readme"]);
    client.run(&["status"]).expect(0, &[world.source.to_str().unwrap()]);
    // A daemon takes it over, and the other way round.
    let mut daemon = world.daemon();
    let by_wire = world.client(&daemon, "b");
    let refused = client.try_push("-r", &world.source);
    refused.expect(1, &["in use by another process"]);
    daemon.stop();
    client.push("-r", &world.source);
    drop(by_wire);
    // By its environment, relative, through a link.
    std::os::unix::fs::symlink(&world.store, world.path("link")).unwrap();
    let other = Client::new(&world.path("home"), &[]).var("RBBACKUP_STORE", "link").in_dir(world.dir.path());
    assert_eq!(other.push("-r", Path::new("source"))["content_bytes_sent"], 0);
}
