//! Issue 4: destinations. The daemon's list of who is connected is true; who may be one; what a destination says when it
//! cannot be.

use std::time::{Duration, Instant};

use crate::support::client::Client;
use crate::support::daemon::{Daemon, World, is_root, rbbackupd, skipped};
use crate::support::destination::{Destination, listed, names, wait_for_names};
use crate::support::patience::wait_until;
use crate::support::trees::write;

/// Far less than the silence after which a connection is dead, and far more than it takes to see that one was closed.
const AT_ONCE: Duration = Duration::from_secs(20);

#[test]
fn the_list_is_who_is_there_and_whoever_closes_leaves_it_at_once() {
    let (world, _daemon, client) = World::served();
    assert!(names(&client).is_empty());
    let mut first = Destination::start(&client, &world.path("d1"), &["--name", "one"]);
    let mut second = Destination::start(&client, &world.path("d2"), &["--name", "two"]);
    wait_for_names(&client, &["one", "two"]);
    let [one, _] = &listed(&client)[..] else { panic!("two") };
    assert_eq!((&one["address"], &one["behind"], &one["running"]), (&"127.0.0.1".into(), &0.into(), &().into()));
    assert!(one["space_total"].as_u64() > Some(0) && one["since_secs"].as_i64() > Some(1_600_000_000), "{one}");
    client.run(&["status"]).expect(0, &["copy      one at 127.0.0.1, since ", "up to date"]);
    let begun = Instant::now();
    first.kill();
    wait_for_names(&client, &["two"]);
    assert!(second.stop().success(), "{}", second.said());
    wait_for_names(&client, &[]);
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert_eq!(second.said(), "", "it is silent without a terminal");
    // What it leaves is a store like any other.
    let local = Client::new(&world.path("home-local"), &["--store", world.path("d2").to_str().unwrap()]);
    local.run(&["ls"]).expect(0, &[]);
}

#[test]
fn a_destination_waits_for_its_daemon_and_comes_back_to_it() {
    let (world, daemon, client) = World::served();
    let address = daemon.address.clone();
    let store = world.store.clone();
    drop(daemon);
    let mut destination = Destination::start(&client, &world.path("d"), &["--name", "nas", "--json"]);
    wait_until("the destination to miss its daemon", || {
        destination.objects().iter().any(|o| o["type"] == "connection" && o["connected"] == false)
    });
    let daemon = Daemon::start_on(&store, &[], &address).unwrap();
    wait_for_names(&client, &["nas"]);
    // Killed, and stopped in order.
    let mut daemon = daemon.restart();
    wait_for_names(&client, &["nas"]);
    let begun = Instant::now();
    assert!(daemon.stop().success());
    assert!(begun.elapsed() < AT_ONCE, "a destination held up the drain: {:?}", begun.elapsed());
    assert!(!daemon.log().contains("cut off"), "{}", daemon.log());
    let _daemon = daemon.restart();
    wait_for_names(&client, &["nas"]);
    wait_until("the third connection to be told", || {
        destination.objects().iter().filter(|o| o["connected"] == true).count() >= 3
    });
    assert!(destination.stop().success());
}

/// To a program, to a person who asked, and to nobody.
#[test]
fn what_arrives_is_told_to_whoever_asked() {
    let (world, _daemon, client) = World::served();
    write(&world.source.join("small"), "12345");
    write(&world.source.join("large"), vec![7; 300_000]);
    client.push("-r", &world.source);
    let start = |name: &str, options: &[&str]| {
        Destination::start(&client, &world.path(name), &[&["--name", name], options].concat())
    };
    let (json, verbose, silent) = (start("json", &["--json"]), start("verbose", &["-v"]), start("silent", &[]));
    let up_to_date = || listed(&client).iter().filter(|one| one["behind"] == 0).count();
    wait_until("three that are up to date", || up_to_date() == 3);
    wait_until("the summary", || json.objects().iter().any(|o| o["type"] == "summary"));
    let (root, user) = (world.source.to_str().unwrap(), crate::support::daemon::login());
    let mut files = Vec::new();
    for object in json.objects().iter().filter(|o| o["type"] != "connection") {
        assert_eq!((&object["node"], &object["root"]), (&"127.0.0.1".into(), &root.into()), "{object}");
        assert_eq!(object["user"], user.as_str());
        match object["type"].as_str().unwrap() {
            "file" => files.push((object["path"].clone(), object["bytes"].clone())),
            "summary" => assert_eq!((&object["snapshot"], &object["files"]), (&1.into(), &2.into()), "{object}"),
            other => assert_eq!(other, "progress"),
        }
    }
    files.sort_by_key(|file| file.1.as_u64());
    let path = |name: &str| serde_json::Value::from(format!("{root}/{name}"));
    assert_eq!(files, [(path("small"), 5.into()), (path("large"), 300_000.into())]);
    let lines = [format!("127.0.0.1/{user} {root}/small\n"), format!("127.0.0.1/{user} {root} (snapshot 1): 2 files")];
    wait_until("the list", || lines.iter().all(|line| verbose.said().contains(line)));
    assert_eq!(silent.said(), "");
}

#[test]
fn two_of_one_name_are_shown_apart() {
    let (world, _daemon, client) = World::served();
    let mut first = Destination::start(&client, &world.path("d1"), &["--name", "nas"]);
    wait_for_names(&client, &["nas"]);
    let _second = Destination::start(&client, &world.path("d2"), &["--name", "nas"]);
    wait_for_names(&client, &["nas", "nas (2)"]);
    first.kill();
    wait_for_names(&client, &["nas (2)"]);
    let _again = Destination::start(&client, &world.path("d1"), &["--name", "nas"]);
    wait_for_names(&client, &["nas", "nas (2)"]);
}

#[test]
fn who_takes_only_another_s_backups_is_no_destination_of_mine() {
    let (world, _daemon, client) = World::served();
    let user = crate::support::daemon::login();
    let mine = format!("127.0.0.1/{user}");
    let _mine = Destination::start(&client, &world.path("d1"), &["--name", "mine", "--from", "x", "--from", &mine]);
    let _other = Destination::start(&client, &world.path("d2"), &["--name", "other", "--from", "10.0.0.9"]);
    let _node = Destination::start(&client, &world.path("d3"), &["--name", "node", "--from", "127.0.0.1"]);
    wait_for_names(&client, &["mine", "node"]);
}

#[test]
fn what_cannot_be_is_a_usage_error() {
    let (world, _daemon, client) = World::served();
    let dir = world.path("d");
    let dir = dir.to_str().unwrap();
    for (args, words) in [
        (&["receive"][..], "DIR"),
        (&["receive", dir, "--name", ""], "cannot be a name"),
        (&["receive", dir, "--from", "../x"], "NODE/USER"),
        (&["receive", dir, "--copies", "2"], "--copies"),
        (&["receive", dir, "-rd"], "-r"),
        (&["-n", "receive", dir], "belongs to a backup"),
        (&["receive", dir, "--of", "a/b"], "--of"),
        (&["receive", dir, "--retry-for", "5s"], "for ever"),
        (&["receive", dir, "--config", "/nowhere/c.toml"], "/nowhere/c.toml"),
    ] {
        client.run(args).expect(2, &[words]);
    }
    let nowhere = Client::new(&world.path("home-n"), &[]);
    nowhere.run(&["--store", dir, "receive", dir]).expect(2, &["--store"]);
    nowhere.var("RBBACKUP_STORE", dir).run(&["receive", dir]).expect(2, &["--server"]);
    nowhere.run(&["-s", "nas:x", "receive", dir]).expect(2, &["nas:x", "HOST:PORT"]);
}

#[test]
fn a_folder_that_cannot_be_a_store_is_named_with_the_reason() {
    let (world, mut daemon, client) = World::served();
    let file = world.path("file");
    write(&file, "x");
    let receive = |dir: &std::path::Path| client.run(&["receive", dir.to_str().unwrap()]);
    receive(&file).expect(1, &[file.to_str().unwrap()]);
    receive(&world.store).expect(1, &[world.store.to_str().unwrap()]);
    let _one = Destination::start(&client, &world.path("d"), &["--name", "nas"]);
    wait_for_names(&client, &["nas"]);
    receive(&world.path("d")).expect(1, &[world.path("d").to_str().unwrap()]);
    // A copy of the daemon's own store would pass for it.
    assert!(daemon.stop().success());
    let copy = world.path("copy");
    crate::support::daemon::shell("cp", &["-a".as_ref(), world.store.as_os_str(), copy.as_os_str()]);
    let _daemon = daemon.restart();
    receive(&copy).expect(1, &["copy of this daemon's own store"]);
    wait_for_names(&client, &["nas"]);
}

/// Whoever is a destination sees what all sources store: on one machine root and the daemon's own user may, others only if
/// the administrator says so.
#[test]
fn to_be_a_destination_is_a_right_of_its_own() {
    if !is_root() {
        return skipped("being two users needs root");
    }
    let world = World::new();
    let daemon = world.daemon();
    let nobody = world.client(&daemon, "nobody").as_uid(65534);
    let store = nobody.home.join("d");
    let refused = nobody.run(&["receive", store.to_str().unwrap()]);
    refused.expect(12, &["may not be a destination", "rbbackupd set 127.0.0.1/nobody --rights …,receive"]);
    let root = world.client(&daemon, "root");
    assert!(names(&root).is_empty());
    let set = ["set", "127.0.0.1/nobody", "--rights", "receive", "--store", world.store.to_str().unwrap()];
    rbbackupd(&set).expect(0, &["may receive"]);
    let mut destination = Destination::start(&nobody, &store, &["--name", "nobody's"]);
    wait_for_names(&root, &["nobody's"]);
    assert!(destination.stop().success(), "{}", destination.said());
}

/// However it is let in.
#[test]
fn whoever_the_daemon_lets_in_is_no_destination_yet() {
    if !is_root() {
        return skipped("being two users needs root");
    }
    let world = World::new();
    let daemon = Daemon::start(&world.store, &["--trust-first-use"]);
    let nobody = world.client(&daemon, "nobody").as_uid(65534).with(&["--user", "ana", "--bind", "127.0.0.2"]);
    let store = nobody.home.join("d");
    nobody.run(&["receive", store.to_str().unwrap()]).expect(12, &["may not be a destination", "set 127.0.0.2/ana"]);
}

/// A daemon with another key is not obeyed.
#[test]
fn a_destination_obeys_only_the_daemon_that_it_knows() {
    let (world, daemon, client) = World::served();
    let mut destination = Destination::start(&client, &world.path("d"), &["--name", "nas"]);
    wait_for_names(&client, &["nas"]);
    let address = daemon.address.clone();
    drop(daemon);
    let _other = Daemon::start_on(&world.path("other"), &[], &address).unwrap();
    assert_eq!(destination.wait().code(), Some(12));
    wait_until("the reason", || destination.said().contains("another daemon answers there"));
}

/// Each server has a `127.0.0.1/root`: what one passes on must not replace what came from elsewhere.
#[test]
fn a_destination_s_folder_keeps_what_one_server_passes_on_and_nothing_else() {
    let (world, daemon, client) = World::served();
    write(&world.source.join("plan"), "mine");
    let dir = world.path("d");
    let receive = ["receive", dir.to_str().unwrap()];
    let mut destination = Destination::start(&client, &dir, &["--name", "nas"]);
    wait_for_names(&client, &["nas"]);
    client.run(&["-r", "--copies", "1", world.source.to_str().unwrap()]).expect(0, &[]);
    assert!(destination.stop().success());
    let local = Client::new(&world.path("home-local"), &["--store", dir.to_str().unwrap()]);
    local.run(&["-r", world.source.to_str().unwrap()]).expect(12, &[dir.to_str().unwrap(), "through the server"]);
    let other = Daemon::start(&world.path("other"), &[]);
    let stranger = world.client(&other, "stranger");
    stranger.run(&receive).expect(12, &[dir.to_str().unwrap(), "another server passed on", "follows"]);
    // Nor what was backed up there without a server.
    let own = world.path("own");
    let of_its_own = Client::new(&world.path("home-own"), &["--store", own.to_str().unwrap()]);
    of_its_own.run(&["-r", world.source.to_str().unwrap()]).expect(0, &[]);
    client.run(&["receive", own.to_str().unwrap()]).expect(12, &[own.to_str().unwrap(), "no server passed on"]);
    // When the server is lost its destination takes its place, and is none any more.
    drop(daemon);
    let heir = Daemon::start(&dir, &[]);
    let client = world.client(&heir, "again");
    client.run(&["-r", world.source.to_str().unwrap()]).expect(0, &[]);
    drop(heir);
    stranger.run(&receive).expect(12, &[dir.to_str().unwrap(), "no server passed on"]);
}

#[test]
#[ignore = "slow: half a minute of silence"]
fn whoever_falls_silent_leaves_the_list_within_thirty_seconds() {
    let (world, _daemon, client) = World::served();
    let destination = Destination::start(&client, &world.path("d"), &["--name", "nas"]);
    wait_for_names(&client, &["nas"]);
    destination.signal(rustix::process::Signal::STOP);
    let stopped = Instant::now();
    wait_for_names(&client, &[]);
    assert!(stopped.elapsed() < Duration::from_secs(32), "{:?}", stopped.elapsed());
    destination.signal(rustix::process::Signal::CONT);
    wait_for_names(&client, &["nas"]);
}
