//! A server that only passes on (`rbbackupd --relay`): issue 4's check 7, and what a relay does differently.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rbbackup::backup::snapshot::SnapshotRecord;
use rbbackup::store::layout::{OpenMode, Store};
use rbbackup::store::names::CopyName;

use crate::fan_out::{copy, copy_in, only_a_change_travels, plant_all_sizes, start, summaries};
use crate::support::client::{Client, Outcome};
use crate::support::daemon::{Daemon, World, login, skipped, wait_until};
use crate::support::destination::{Destination, wait_for_names};
use crate::support::fake_destination::{self, Lie};
use crate::support::holder::Holder;
use crate::support::mount::Mount;
use crate::support::trees::{assert_same, noise, write};

const MIB: u64 = 1024 * 1024;
/// What a relay may keep for itself: its key, who it knows, an empty catalog.
const STATE_BYTES_MAX: u64 = MIB;

pub fn relayed() -> (World, Daemon, Client) {
    let world = World::new();
    let relay = Daemon::relay(&world.path("state"));
    let client = world.client(&relay, "a");
    (world, relay, client)
}

pub fn two(world: &World, client: &Client) -> [Destination; 2] {
    let all = ["one", "two"].map(|name| start(world, client, name));
    wait_for_names(client, &["one", "two"]);
    all
}

/// The snapshots that a destination holds of the client.
pub fn records(destination: &Destination) -> Vec<Arc<SnapshotRecord>> {
    let store = Store::open(&destination.store, OpenMode::ReadOnly).unwrap();
    let copy = CopyName::new(b"127.0.0.1", login().as_bytes()).unwrap();
    store.snapshots(&copy).unwrap().list().unwrap()
}

/// Bytes of all files below.
fn bytes_in(dir: &Path) -> u64 {
    let all = walkdir::WalkDir::new(dir).into_iter().map(|entry| entry.unwrap().metadata().unwrap());
    all.filter(fs::Metadata::is_file).map(|file| file.len()).sum()
}

#[track_caller]
pub fn assert_keeps_nothing(world: &World) {
    let state = world.path("state");
    let names: Vec<_> = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [".rbbackup"]);
    for empty in ["staging", "journal", "retired", "snapshots", "runs", "vault"] {
        assert_eq!(fs::read_dir(state.join(".rbbackup").join(empty)).unwrap().count(), 0, "{empty}");
    }
    let bytes = bytes_in(&state);
    assert!(bytes < STATE_BYTES_MAX, "{bytes}");
}

/// Check 7.
#[test]
fn one_upload_reaches_all_and_the_relay_keeps_nothing() {
    let (world, relay, client) = relayed();
    let all = two(&world, &client);
    let content = plant_all_sizes(&world);
    let summary = client.push("-rd --copies 2", &world.source);
    let lines = summary["copies"].as_array().unwrap();
    assert!(lines.len() == 2 && lines.iter().all(|line| line["state"] == "held"), "{summary}");
    assert!(lines.iter().all(|line| line["kind"] == "destination"), "{summary}");
    assert_eq!((&summary["snapshot"], &summary["updated"]), (&1.into(), &0.into()), "{summary}");
    assert!(summary["created"].as_u64() > Some(40) && summary["files"].as_u64() > Some(40), "{summary}");
    let sent = summary["wire_bytes_sent"].as_u64().unwrap();
    assert!(sent > content && sent < content + MIB, "{sent} of {content}");
    only_a_change_travels(&world, &client, &all);
    let status = client.run(&["--json", "status"]).object("status");
    assert_eq!((&status["relay"], status["roots"].as_array().map(Vec::len)), (&true.into(), Some(0)), "{status}");
    client.run(&["status"]).expect(0, &["keeps nothing", "one at 127.0.0.1", "two at"]);
    relay.wait_for("as a relay");
    assert_keeps_nothing(&world);
}

#[test]
fn a_relay_waits_for_its_first_destination_and_says_so_only_then() {
    let (world, _relay, client) = relayed();
    write(&world.source.join("a"), "one");
    client.run(&["-rd", "--copies", "1", "--wait-copies", "0", world.source.to_str().unwrap()]).expect(15, &["0 of 1"]);
    let run = client.start(&["-rd", world.source.to_str().unwrap()]);
    wait_until("it to wait", || {
        let status = client.run(&["--json", "status"]).object("status");
        !status["running"].as_array().unwrap().is_empty()
    });
    let one = start(&world, &client, "one");
    Outcome::end(run).expect(0, &["0 of 1 destinations are connected, waiting for 1 more"]);
    assert_same(&copy_in(&one.store, &world.source), &world.source);
    // Now there is nothing to say: cron is silent.
    write(&world.source.join("a"), "two");
    let again = client.run(&["-rd", world.source.to_str().unwrap()]);
    assert_eq!((again.code, again.said().as_str()), (0, ""));
    assert_same(&copy_in(&one.store, &world.source), &world.source);
}

#[test]
fn a_run_that_waits_at_a_relay_does_not_hold_up_the_drain() {
    let (world, mut relay, client) = relayed();
    write(&world.source.join("a"), "one");
    let run = client.start(&["-rd", "--retry-for", "2m", world.source.to_str().unwrap()]);
    wait_until("it to wait", || client.run(&["--json", "status"]).object("status")["sessions"].as_u64().unwrap() >= 2);
    assert!(relay.stop().success());
    assert!(!relay.log().contains("cut off"), "{}", relay.log());
    let _relay = relay.restart();
    let one = start(&world, &client, "one");
    Outcome::end(run).expect(0, &[]);
    assert_same(&copy_in(&one.store, &world.source), &world.source);
}

/// Check 6, at a relay.
#[test]
fn one_root_of_one_identity_has_one_run_at_a_time() {
    let (world, relay, client) = relayed();
    write(&world.source.join("d/a"), "one");
    let all = two(&world, &client);
    let holder = Holder::take(&relay, &client, &world.source, true);
    client.try_push("-rd", &world.source.join("d")).expect(11, &["locked by the backup"]);
    drop(holder);
    client.push("-rd --copies 2 --wait=1m", &world.source);
    // The lock is gone with the receipt.
    client.push("-rd --copies 2", &world.source);
    assert_same(&copy_in(&all[0].store, &world.source), &world.source);
}

#[test]
fn who_asks_a_relay_for_what_it_does_not_have_is_sent_to_a_destination() {
    let (world, _relay, client) = relayed();
    write(&world.source.join("a"), "one");
    let one = start(&world, &client, "one");
    wait_for_names(&client, &["one"]);
    client.push("-rd", &world.source);
    let path = world.source.to_str().unwrap();
    let to = world.path("back");
    for command in [
        &["ls"][..],
        &["ls", path],
        &["restore", path, "--to", to.to_str().unwrap()],
        &["history", path],
        &["snapshots"],
        &["verify"],
        &["runs"],
        &["diff", "1"],
        &["forget", path],
        &["purge", path, "--yes"],
    ] {
        let said = client.run(command);
        assert!(said.code != 0 && said.said().contains("is a relay"), "{command:?}: {} {}", said.code, said.said());
    }
    let of = format!("127.0.0.1/{}", login());
    let there = Client::new(&world.path("home-there"), &["--store", one.store.to_str().unwrap(), "--of", &of]);
    there.run(&["ls", path]).expect(0, &["/a"]);
}

#[test]
fn a_relays_state_is_no_store_and_a_store_is_no_relays_state() {
    let (world, relay, client) = relayed();
    client.run(&["status"]).expect(0, &[]);
    drop(relay);
    let state = world.path("state");
    let (_, said) = Daemon::start_on(&state, &[], "127.0.0.1:0").err().unwrap();
    assert!(said.contains("is the state of a relay"), "{said}");
    let there = Client::new(&world.path("home-there"), &["--store", state.to_str().unwrap()]);
    there.run(&["ls"]).expect(1, &["is the state of a relay"]);
    write(&world.source.join("a"), "one");
    there.run(&["-rd", world.source.to_str().unwrap()]).expect(1, &["is the state of a relay"]);
    let store = world.path("a-store");
    drop(Daemon::start(&store, &[]));
    let options = ["--state", store.to_str().unwrap()];
    let (_, said) = Daemon::start_on(Path::new("--relay"), &options, "127.0.0.1:0").err().unwrap();
    assert!(said.contains("is a store, and a relay keeps nothing"), "{said}");
    // What is left out and what is too much is an error of usage.
    let (status, said) = Daemon::start_on(&state, &["--relay"], "127.0.0.1:0").err().unwrap();
    assert!(status.code() == Some(2) && said.contains("leave STORE out"), "{said}");
    let (status, said) = Daemon::start_on(&store, &options, "127.0.0.1:0").err().unwrap();
    assert!(status.code() == Some(2) && said.contains("belongs to '--relay'"), "{said}");
}

#[test]
fn a_dry_run_is_planned_by_a_destination_and_changes_nothing() {
    let (world, _relay, client) = relayed();
    write(&world.source.join("a"), noise(1, 10_000));
    let path = world.source.to_str().unwrap();
    client.run(&["-rdn", path]).expect(15, &["no destination is connected"]);
    let one = start(&world, &client, "one");
    wait_for_names(&client, &["one"]);
    client.run(&["-rdn", path]).expect(0, &["create", "a", "would send"]);
    assert!(!copy_in(&one.store, &world.source).exists() && summaries(&one).is_empty());
    client.push("-rd", &world.source);
    write(&world.source.join("a"), noise(2, 20_000));
    let asked = client.run(&["-rdn", path]);
    asked.expect(0, &["update", "dry run"]);
    assert!(!asked.stdout.contains("create"), "{}", asked.stdout);
    client.push("-rd", &world.source);
    assert_same(&copy_in(&one.store, &world.source), &world.source);
    assert_keeps_nothing(&world);
}

/// The delete guard stands where the copies are, and what it says is the source's to know.
#[test]
fn the_delete_guard_of_the_destinations_refuses_the_run() {
    let (world, _relay, client) = relayed();
    let all = two(&world, &client);
    for file in 0..12 {
        write(&world.source.join(format!("f{file}")), "x");
    }
    client.push("-rd --copies 2", &world.source);
    fs::remove_dir_all(&world.source).unwrap();
    fs::create_dir(&world.source).unwrap();
    client.try_push("-rd --copies 1", &world.source).expect(14, &["destination '"]);
    for destination in &all {
        assert!(copy_in(&destination.store, &world.source).join("f3").exists());
    }
    client.push("-rd --copies 2 --force-delete", &world.source);
    for destination in &all {
        assert!(!copy_in(&destination.store, &world.source).join("f3").exists());
    }
}

/// Nobody is waited for who would have to come from nowhere.
#[test]
fn what_all_destinations_refuse_is_refused_at_once_and_for_their_reason() {
    let (world, _relay, client) = relayed();
    let place = world.path("at-one");
    fs::create_dir(&place).unwrap();
    let Some(_mount) = Mount::tmpfs(&place, "size=3m") else { return skipped("mounting needs root") };
    let _one = start(&world, &client, "one");
    wait_for_names(&client, &["one"]);
    write(&world.source.join("big"), noise(1, 8 << 20));
    client.try_push("-rd", &world.source).expect(13, &["destination 'one'", "space"]);
    // Beside one that takes it, it is the other's trouble alone.
    let two = start(&world, &client, "two");
    wait_for_names(&client, &["one", "two"]);
    let summary = client.push("-rd", &world.source);
    assert!(copy(&summary, "one")["state"] != "held" && copy(&summary, "two")["state"] == "held", "{summary}");
    assert_same(&copy_in(&two.store, &world.source), &world.source);
}

/// A relay has no copy to compare with; what passed through it is enough.
#[test]
fn who_only_says_that_it_holds_the_run_is_found_out() {
    let (world, relay, client) = relayed();
    write(&world.source.join("a"), noise(1, 100_000));
    let honest = start(&world, &client, "honest");
    wait_for_names(&client, &["honest"]);
    fake_destination::attend(&relay, &client, "liar", Lie::Proof);
    wait_for_names(&client, &["honest", "liar"]);
    let summary = client.push("-rd", &world.source);
    let liar = copy(&summary, "liar");
    assert_eq!(liar["state"], "failed", "{summary}");
    assert!(liar["reason"].as_str().unwrap().contains("could not prove"), "{summary}");
    assert_eq!(copy(&summary, "honest")["state"], "held", "{summary}");
    assert_same(&copy_in(&honest.store, &world.source), &world.source);
}

/// A relay brings nobody up to date; the next run does, whatever was missed.
#[test]
fn who_missed_a_run_gets_all_that_it_lacks_with_the_next_one() {
    let (world, _relay, client) = relayed();
    let [one, mut other] = two(&world, &client);
    write(&world.source.join("a"), noise(1, 100_000));
    client.push("-rd --copies 2", &world.source);
    other.kill();
    wait_for_names(&client, &["one"]);
    write(&world.source.join("b"), noise(2, 300_000));
    client.push("-rd", &world.source);
    let other = start(&world, &client, "two");
    wait_for_names(&client, &["one", "two"]);
    write(&world.source.join("c"), noise(3, 100_000));
    let summary = client.push("-rd --copies 2", &world.source);
    let sent = summary["wire_bytes_sent"].as_u64().unwrap();
    assert!(sent > 400_000 && sent < 700_000, "{sent}");
    for destination in [&one, &other] {
        assert_same(&copy_in(&destination.store, &world.source), &world.source);
    }
    let (whole, gaps) = (records(&one), records(&other));
    assert_eq!((whole.len(), gaps.len()), (3, 2), "the missed one is not made up for");
    assert_eq!(
        whole.iter().map(|record| record.parent).collect::<Vec<_>>()[1..],
        [Some(whole[0].run), Some(whole[1].run)]
    );
    assert_eq!((gaps[1].run, gaps[1].parent), (whole[2].run, Some(whole[1].run)), "and can be seen to be missed");
}
