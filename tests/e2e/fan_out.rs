//! Issue 4: one run, several machines. The numbers of its checks stand at the tests.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::client::Client;
use crate::support::daemon::{PATIENCE, World, login, wait};
use crate::support::destination::{Destination, wait_for_names};
use crate::support::patience::wait_until;
use crate::support::trees::{assert_same, noise, plant, write};

const NAMES: [&str; 3] = ["one", "two", "three"];
const MIB: u64 = 1024 * 1024;

fn start(world: &World, client: &Client, name: &str) -> Destination {
    Destination::start(client, &world.path(&format!("at-{name}")), &["--name", name, "--json"])
}

/// All three, connected.
fn three(world: &World, client: &Client) -> Vec<Destination> {
    let all = NAMES.iter().map(|name| start(world, client, name)).collect();
    wait_for_names(client, &["one", "three", "two"]);
    all
}

/// Where a destination keeps the copy of `path`.
fn copy_in(store: &Path, path: &Path) -> PathBuf {
    store.join("127.0.0.1").join(login()).join(path.strip_prefix("/").unwrap())
}

/// What a destination said of the runs that came to their end.
fn summaries(destination: &Destination) -> Vec<Value> {
    destination.objects().into_iter().filter(|object| object["type"] == "summary").collect()
}

/// A target's line in the receipt.
fn copy<'a>(summary: &'a Value, name: &str) -> &'a Value {
    let copies = summary["copies"].as_array().unwrap();
    copies.iter().find(|copy| copy["name"] == name).unwrap_or_else(|| panic!("'{name}' is not in {summary}"))
}

/// Checks 1 and 3.
#[test]
fn three_destinations_get_one_upload_and_then_only_the_change() {
    let (world, _daemon, client) = World::served();
    let all = three(&world, &client);
    plant(&world.source);
    write(&world.source.join("big"), noise(1, 4 << 20));
    for file in 0..40 {
        write(&world.source.join(format!("small/{file}")), noise(100 + file, 50_000));
    }
    let summary = client.push("-rd --copies 3", &world.source);
    assert_eq!(summary["copies"].as_array().unwrap().len(), 4, "{summary}");
    for name in NAMES {
        assert_eq!(
            (&copy(&summary, name)["state"], &copy(&summary, name)["kind"]),
            (&"held".into(), &"destination".into())
        );
    }
    assert_eq!(copy(&summary, "")["kind"], "store", "{summary}");
    let content = (4 << 20) + 40 * 50_000 + 700_000_u64;
    let sent = summary["wire_bytes_sent"].as_u64().unwrap();
    assert!(sent > content && sent < content + MIB, "{sent} of {content}");
    assert_same(&world.copy(), &world.source);
    for destination in &all {
        assert_same(&copy_in(&destination.store, &world.source), &world.source);
    }
    write(&world.source.join("big"), [&noise(1, 4 << 20)[..], b"and more"].concat());
    write(&world.source.join("new"), noise(2, 100_000));
    fs::rename(world.source.join("small"), world.source.join("little")).unwrap();
    let summary = client.push("-rd --copies 3", &world.source);
    assert!(summary["wire_bytes_sent"].as_u64().unwrap() < MIB, "{summary}");
    for destination in &all {
        assert_same(&copy_in(&destination.store, &world.source), &world.source);
        wait_until("its second summary", || summaries(destination).len() == 2);
        let arrived = &summaries(destination)[1];
        assert!(arrived["wire_bytes_received"].as_u64().unwrap() < MIB, "{arrived}");
    }
}

/// Check 2.
#[test]
fn a_run_waits_for_as_many_as_it_wants_and_counts_who_is_there() {
    let (world, daemon, client) = World::served();
    write(&world.source.join("a"), "one");
    let mut one = start(&world, &client, "one");
    let two = start(&world, &client, "two");
    wait_for_names(&client, &["one", "two"]);
    let args = ["--json", "-rd", "--copies", "3", world.source.to_str().unwrap()];
    let mut run = client.start(&args);
    let (sender, said) = std::sync::mpsc::channel();
    let stdout = run.stdout.take().unwrap();
    let reading = std::thread::spawn(move || {
        for line in std::io::BufRead::lines(std::io::BufReader::new(stdout)).map_while(Result::ok) {
            let object: Value = serde_json::from_str(&line).unwrap();
            if object["type"] == "gathering" {
                sender.send((object["connected"].as_u64().unwrap(), object["wanted"].as_u64().unwrap())).unwrap();
            }
        }
    });
    let next = || said.recv_timeout(PATIENCE).unwrap();
    assert_eq!(next(), (2, 3));
    one.kill();
    assert_eq!(next(), (1, 3));
    let three = start(&world, &client, "three");
    assert_eq!(next(), (2, 3));
    assert!(!world.copy().exists());
    let one = start(&world, &client, "one");
    assert_eq!(next(), (3, 3));
    assert!(wait(&mut run).success(), "{}", daemon.log());
    reading.join().unwrap();
    for destination in [one, two, three] {
        assert_same(&copy_in(&destination.store, &world.source), &world.source);
    }
}

#[test]
fn who_does_not_come_in_time_is_exit_15_and_nothing_is_backed_up() {
    let (world, _daemon, client) = World::served();
    write(&world.source.join("a"), "one");
    let _one = start(&world, &client, "one");
    wait_for_names(&client, &["one"]);
    let run = client.run(&["-rd", "--copies", "2", "--wait-copies", "1s", world.source.to_str().unwrap()]);
    run.expect(15, &["1 of 2 destinations are connected"]);
    assert!(!world.copy().exists());
}

/// Who asks for nothing gets its receipt from the daemon's store, and from who is there.
#[test]
fn destinations_take_part_in_every_run_that_they_want() {
    let (world, _daemon, client) = World::served();
    write(&world.source.join("a"), "one");
    let one = start(&world, &client, "one");
    wait_for_names(&client, &["one"]);
    let summary = client.push("-rd", &world.source);
    assert_eq!(summary["copies"].as_array().unwrap().len(), 2, "{summary}");
    wait_until("its copy", || copy_in(&one.store, &world.source).join("a").exists());
    client.push("-n -rd", &world.source);
}
