//! Issue 4: catch-up. A destination that was away, or is new, gets what it lacks from the daemon's store, by itself.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::client::Client;
use crate::support::daemon::{Daemon, World, is_root, login};
use crate::support::destination::{Destination, listed};
use crate::support::patience::wait_until;
use crate::support::proxy::Proxy;
use crate::support::trees::{assert_same, noise, plant, write};

/// By how many backups a destination is behind; none: it is not there.
fn behind(client: &Client, name: &str) -> Option<u64> {
    listed(client).iter().find(|one| one["name"] == name)?["behind"].as_u64()
}

#[track_caller]
fn wait_until_up_to_date(client: &Client, name: &str) {
    wait_until(&format!("'{name}' to catch up"), || behind(client, name) == Some(0));
}

/// Where a destination keeps the copy of `path`.
fn copy_in(store: &Path, path: &Path) -> PathBuf {
    store.join("127.0.0.1").join(login()).join(path.strip_prefix("/").unwrap())
}

/// The same client over another wire: with the same keys.
fn over(client: &Client, daemon: &Daemon, wire: &Proxy) -> Client {
    let servers = client.home.join(".config/rbbackup/servers");
    std::os::unix::fs::symlink(servers.join(&daemon.address), servers.join(&wire.address)).unwrap();
    Client::new(&client.home, &["-s", &wire.address])
}

/// What a destination said of the runs that came to its end.
fn summaries(destination: &Destination) -> Vec<Value> {
    destination.objects().into_iter().filter(|object| object["type"] == "summary").collect()
}

#[test]
fn who_was_away_for_two_backups_catches_up_with_no_source_there() {
    let (world, _daemon, client) = World::served();
    let store = world.path("d");
    plant(&world.source);
    write(&world.source.join("big"), noise(1, 3_000_000));
    client.push("-rd", &world.source);
    let mut destination = Destination::start(&client, &store, &["--name", "nas", "--json"]);
    wait_until_up_to_date(&client, "nas");
    assert_same(&copy_in(&store, &world.source), &world.copy());
    destination.kill();
    write(&world.source.join("passing"), "by");
    client.push("-rd", &world.source);
    fs::remove_file(world.source.join("passing")).unwrap();
    fs::rename(world.source.join("docs"), world.source.join("papers")).unwrap();
    let file = fs::OpenOptions::new().write(true).open(world.source.join("big")).unwrap();
    file.write_all_at(b"a little", 1_000_000).unwrap();
    client.push("-rd", &world.source);
    let destination = Destination::start(&client, &store, &["--name", "nas", "--json"]);
    wait_until_up_to_date(&client, "nas");
    assert_same(&copy_in(&store, &world.source), &world.copy());
    wait_until("its summary", || !summaries(&destination).is_empty());
    let summary = &summaries(&destination)[0];
    assert!(summary["wire_bytes_received"].as_u64().unwrap() < 500_000, "only the change travels: {summary}");
    // Beside it, its store can be restored from like any other.
    let of = format!("127.0.0.1/{}", login());
    let (source, to) = (world.source.to_str().unwrap(), world.path("out"));
    let local = Client::new(&world.path("home-local"), &["--store", store.to_str().unwrap()]);
    local.run(&["restore", source, "--of", &of, "--to", to.to_str().unwrap()]).expect(0, &[]);
    assert_same(&to.join("source"), &world.source);
}

#[test]
fn who_is_new_gets_every_root_and_takes_part_in_what_comes() {
    let (world, daemon, client) = World::served();
    write(&world.source.join("a"), "one");
    client.push("-rd", &world.source);
    write(&world.path("other/b"), noise(2, 500_000));
    client.push("-rd", &world.path("other"));
    let stores = [world.path("d1"), world.path("d2"), world.path("d3")];
    let names = ["one", "two", "three"];
    let start = |i: usize| Destination::start(&client, &stores[i], &["--name", names[i]]);
    let _all: Vec<_> = (0..3).map(start).collect();
    for name in names {
        wait_until_up_to_date(&client, name);
    }
    write(&world.source.join("a"), "two");
    client.push("-rd", &world.source);
    for (name, store) in names.iter().zip(&stores) {
        wait_until_up_to_date(&client, name);
        assert_same(&copy_in(store, &world.source), &world.source);
        assert_same(&copy_in(store, &world.path("other")), &world.path("other"));
    }
    // The daemon comes back: they do too, and nothing is to be done.
    let daemon = daemon.restart();
    for name in names {
        wait_until_up_to_date(&client, name);
    }
    assert!(!daemon.log().contains("has caught up"), "{}", daemon.log());
}

#[test]
fn damage_in_the_daemon_s_store_is_named_and_passes_when_the_next_backup_has_put_it_right() {
    let (world, daemon, client) = World::served();
    write(&world.source.join("good"), "good");
    write(&world.source.join("d/bad"), "0123456789");
    client.push("-rd", &world.source);
    let file = fs::OpenOptions::new().write(true).open(world.copy().join("d/bad")).unwrap();
    file.write_all_at(b"X", 4).unwrap();
    let store = world.path("d");
    let _destination = Destination::start(&client, &store, &["--name", "nas"]);
    daemon.wait_for("destination 'nas' cannot catch up");
    assert!(daemon.log().contains("source/d/bad' of snapshot 1 cannot be passed on"), "{}", daemon.log());
    assert_eq!(behind(&client, "nas"), Some(1));
    if is_root() {
        // Whoever asks: what is up to date has what everybody has backed up.
        assert_eq!(behind(&client.with(&["--user", "another"]), "nas"), Some(1));
    }
    assert!(!copy_in(&store, &world.source).join("good").exists());
    client.push("-rd", &world.source);
    wait_until_up_to_date(&client, "nas");
    assert_same(&copy_in(&store, &world.source), &world.source);
}

#[test]
fn a_wire_that_is_cut_costs_what_was_on_it() {
    const ALL: u64 = 60_000_000;
    let (world, daemon, client) = World::served();
    write(&world.source.join("z-big"), noise(1, 30_000_000));
    for i in 0..300 {
        write(&world.source.join(format!("f{i:03}")), noise(2 + i, 100_000));
    }
    client.push("-rd", &world.source);
    let wire = Proxy::to(&daemon.address);
    wire.cut_back(ALL / 4, 2);
    let store = world.path("d");
    let far = over(&client, &daemon, &wire);
    let _destination = Destination::start(&far, &store, &["--name", "nas"]);
    wait_until_up_to_date(&client, "nas");
    assert_eq!(wire.cuts_left(), 0);
    assert_same(&copy_in(&store, &world.source), &world.source);
    // Sent anew after each cut it would be half as much again.
    let passed = wire.passed_back();
    assert!((ALL..ALL + ALL / 3).contains(&passed), "{passed}");
    let log = daemon.log();
    assert!(log.contains("'nas' did not catch up") || log.contains("'nas' has left"), "{log}");
}

#[test]
fn a_daemon_that_is_to_stop_does_not_wait_for_who_is_called_and_does_not_come() {
    let (world, mut daemon, client) = World::served();
    write(&world.source.join("a"), "one");
    client.push("-rd", &world.source);
    let wire = Proxy::to(&daemon.address);
    let store = world.path("d");
    let far = over(&client, &daemon, &wire);
    let _destination = Destination::start(&far, &store, &["--name", "nas"]);
    wait_until_up_to_date(&client, "nas");
    // Called, it cannot be heard.
    wire.pause(0);
    write(&world.source.join("a"), "two");
    client.push("-rd", &world.source);
    wire.wait_paused();
    let begun = Instant::now();
    assert!(daemon.stop().success());
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(!daemon.log().contains("cut off"), "{}", daemon.log());
    wire.open();
    let _daemon = daemon.restart();
    wait_until_up_to_date(&client, "nas");
    assert_same(&copy_in(&store, &world.source), &world.source);
}
