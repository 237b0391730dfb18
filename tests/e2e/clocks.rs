//! Clocks that are far apart: those of two machines, and what a clock made of files.

use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::places::round;
use crate::support::client::{Client, Outcome};
use crate::support::daemon::{Daemon, World, skipped};
use crate::support::trees::{assert_same, set_time, write};

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// What a client's clock made of its files says nothing about when they were received; and a time that is far ahead does not
/// hide a change.
#[test]
fn clocks_ten_years_apart_are_told_apart() {
    const TEN_YEARS: u64 = 10 * 365 * 86_400;
    let (world, _daemon, client) = World::served();
    let began = now();
    let at = |name: &str| world.source.join(name);
    for (name, secs) in [("ahead", began + TEN_YEARS), ("behind", began - TEN_YEARS), ("first", 1)] {
        write(&at(name), "content");
        set_time(&at(name), secs, 7);
    }
    set_time(&world.source, began + TEN_YEARS, 0);
    client.push("-r", &world.source);
    assert_same(&world.copy(), &world.source);
    let again = client.push("-r", &world.source);
    assert_eq!((&again["content_bytes_sent"], &again["updated"], &again["touched"]), (&0.into(), &0.into(), &0.into()));
    // The same size and the same time, ten years ahead.
    for name in ["ahead", "behind"] {
        let time = fs::metadata(at(name)).unwrap().modified().unwrap();
        fs::write(at(name), "CONTENT").unwrap();
        fs::File::options().write(true).open(at(name)).unwrap().set_modified(time).unwrap();
    }
    client.push("-r", &world.source);
    assert_same(&world.copy(), &world.source);
    // Received when the server says.
    let status = client.run(&["status", "--json"]).objects();
    let times: Vec<u64> = status.iter().flat_map(times_in).collect();
    assert!(!times.is_empty(), "{status:?}");
    assert!(times.iter().all(|secs| (began..=now()).contains(secs)), "{times:?} {status:?}");
    let to = world.path("to");
    client.run(&["restore", world.source.to_str().unwrap(), "--to", to.to_str().unwrap()]).expect(0, &[]);
    assert_same(&to.join("source"), &world.source);
}

/// All that are called `time_secs`, however deep.
fn times_in(value: &serde_json::Value) -> Vec<u64> {
    match value {
        serde_json::Value::Object(keys) => keys
            .iter()
            .flat_map(|(key, value)| match (key.as_str(), value.as_u64()) {
                ("time_secs", Some(secs)) => vec![secs],
                _ => times_in(value),
            })
            .collect(),
        serde_json::Value::Array(values) => values.iter().flat_map(times_in).collect(),
        _ => Vec::new(),
    }
}

/// What makes a program believe in another time; none: there is no `faketime` here.
fn clock(offset: &str) -> Option<[(&'static str, String); 3]> {
    let shown = Command::new("faketime").args(["-f", "+0", "sh", "-c", "printf %s \"$LD_PRELOAD\""]).output().ok()?;
    let library = String::from_utf8(shown.stdout).ok().filter(|library| !library.is_empty())?;
    // How time passes is the same for all.
    let monotonic = "FAKETIME_DONT_FAKE_MONOTONIC";
    Some([("LD_PRELOAD", library), ("FAKETIME", offset.to_owned()), (monotonic, "1".to_owned())])
}

/// Two machines, of which one is ten years ahead or behind: nobody is refused for it, nothing is sent twice, and what is
/// invited for an hour may come within one.
#[test]
fn machines_whose_clocks_are_ten_years_apart_understand_each_other() {
    for (here, there) in [("+10y", "+0"), ("-10y", "+0"), ("+0", "+10y"), ("+0", "-10y")] {
        let (Some(here), Some(there)) = (clock(here), clock(there)) else { return skipped("there is no faketime") };
        let world = World::new();
        let program = |args: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_rbbackupd"));
            command.envs(there.iter().map(|(name, value)| (name, value))).args(args);
            command
        };
        let daemon = Daemon::launch(program(&[]), &world.store, &[], "127.0.0.1:0").unwrap();
        let with_clock = |client| here.iter().fold(client, |client: Client, (name, value)| client.var(name, value));
        let client = with_clock(world.client(&daemon, "a"));
        round(&world, &client);
        let again = client.push("-r", &world.source);
        assert_eq!((&again["content_bytes_sent"], &again["updated"]), (&0.into(), &0.into()), "{again}");

        let store = world.store.to_str().unwrap();
        let invited = Outcome::of(&mut program(&["invite", "invited", "--store", store, "--expires", "1h"]));
        invited.expect(0, &[]);
        let guest = with_clock(Client::new(&world.path("home-b"), &[]));
        guest.run(&["join", &daemon.address, invited.stdout.trim()]).expect(0, &["joined"]);
        guest.with(&["-s", &daemon.address]).push("-r", &world.source);
        assert_same(&world.copy_for("127.0.0.1", "invited", &world.source), &world.source);
    }
}
