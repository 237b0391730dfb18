//! Issue 4: one run, several machines. The numbers of its checks stand at the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::client::{Client, Outcome};
use crate::support::daemon::{Daemon, PATIENCE, World, login, skipped, wait};
use crate::support::destination::{Destination, wait_for_names};
use crate::support::fake_destination::{self, Lie};
use crate::support::holder::{Holder, receipt_again};
use crate::support::mount::Mount;
use crate::support::patience::wait_until;
use crate::support::proxy::Proxy;
use crate::support::trees::{assert_same, noise, plant, wait_staged, write};

const NAMES: [&str; 3] = ["one", "two", "three"];
/// After so much silence a peer is dead.
const SILENCE: Duration = Duration::from_secs(30);
/// User name of the source behind the wire.
pub const SOURCE: &str = "source";
pub const MIB: u64 = 1024 * 1024;
/// What two sockets hold of a connection that is lost: it has passed the wire, and never arrived.
pub const SOCKETS_BYTES: u64 = 6 * MIB;

pub fn start(world: &World, client: &Client, name: &str) -> Destination {
    Destination::start(client, &world.path(&format!("at-{name}")), &["--name", name, "--json"])
}

/// All three, connected.
fn three(world: &World, client: &Client) -> Vec<Destination> {
    let all = NAMES.iter().map(|name| start(world, client, name)).collect();
    wait_for_names(client, &["one", "three", "two"]);
    all
}

/// Where a destination keeps the copy of `path`.
pub fn copy_in(store: &Path, path: &Path) -> PathBuf {
    store.join("127.0.0.1").join(login()).join(path.strip_prefix("/").unwrap())
}

/// What a destination said of the runs that came to their end.
pub fn summaries(destination: &Destination) -> Vec<Value> {
    destination.objects().into_iter().filter(|object| object["type"] == "summary").collect()
}

/// A target's line in the receipt.
pub fn copy<'a>(summary: &'a Value, name: &str) -> &'a Value {
    let copies = summary["copies"].as_array().unwrap();
    copies.iter().find(|copy| copy["name"] == name).unwrap_or_else(|| panic!("'{name}' is not in {summary}"))
}

/// What became of all three.
fn states(summary: &Value) -> Vec<&str> {
    NAMES.iter().map(|name| copy(summary, name)["state"].as_str().unwrap()).collect()
}

/// Files of all sizes; how many bytes they have, about.
pub fn plant_all_sizes(world: &World) -> u64 {
    plant(&world.source);
    write(&world.source.join("big"), noise(1, 4 << 20));
    for file in 0..40 {
        write(&world.source.join(format!("small/{file}")), noise(100 + file, 50_000));
    }
    (4 << 20) + 40 * 50_000 + 700_000
}

/// Changes what [`plant_all_sizes`] made a little, and backs it up to all of them: neither the source sends much, nor does
/// any of them receive much.
#[track_caller]
pub fn only_a_change_travels(world: &World, client: &Client, all: &[Destination]) {
    write(&world.source.join("big"), [&noise(1, 4 << 20)[..], b"and more"].concat());
    write(&world.source.join("new"), noise(2, 100_000));
    fs::rename(world.source.join("small"), world.source.join("little")).unwrap();
    let summary = client.push(&format!("-rd --copies {}", all.len()), &world.source);
    assert!(summary["wire_bytes_sent"].as_u64().unwrap() < MIB, "{summary}");
    for destination in all {
        assert_same(&copy_in(&destination.store, &world.source), &world.source);
        wait_until("its second summary", || summaries(destination).len() == 2);
        let arrived = &summaries(destination)[1];
        assert!(arrived["wire_bytes_received"].as_u64().unwrap() < MIB, "{arrived}");
    }
}

/// What a run has that is to be stopped in its middle; how many bytes that is.
pub fn plant_long(world: &World) -> u64 {
    for file in 0..100 {
        write(&world.source.join(format!("d/{file:03}")), noise(file, 50_000));
    }
    write(&world.source.join("big"), noise(1000, 8 << 20));
    100 * 50_000 + (8 << 20)
}

/// A source behind a wire: it has a key of its own, for it reaches the daemon at another address.
pub fn source_behind(world: &World, proxy: &Proxy) -> Client {
    Client::new(&world.path("home-source"), &["-s", &proxy.address, "--user", SOURCE])
}

/// A run of [`source_behind`] that has come to its middle, where its wire stalls.
pub fn begin_to_the_middle(world: &World, proxy: &Proxy, options: &str) -> Child {
    proxy.pause(6 * MIB);
    let mut args: Vec<&str> = vec!["--json", "--progress=never", "-rd"];
    args.extend(options.split_whitespace());
    args.push(world.source.to_str().unwrap());
    let run = source_behind(world, proxy).start(&args);
    proxy.wait_paused();
    run
}

/// Checks 1 and 3.
#[test]
fn three_destinations_get_one_upload_and_then_only_the_change() {
    let (world, _daemon, client) = World::served();
    let all = three(&world, &client);
    let content = plant_all_sizes(&world);
    let summary = client.push("-rd --copies 3", &world.source);
    assert_eq!(summary["copies"].as_array().unwrap().len(), 4, "{summary}");
    for name in NAMES {
        assert_eq!(
            (&copy(&summary, name)["state"], &copy(&summary, name)["kind"]),
            (&"held".into(), &"destination".into())
        );
    }
    assert_eq!(copy(&summary, "")["kind"], "store", "{summary}");
    let sent = summary["wire_bytes_sent"].as_u64().unwrap();
    assert!(sent > content && sent < content + MIB, "{sent} of {content}");
    assert_same(&world.copy(), &world.source);
    for destination in &all {
        assert_same(&copy_in(&destination.store, &world.source), &world.source);
    }
    only_a_change_travels(&world, &client, &all);
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
    // It is told all the same.
    client.run(&["runs"]).expect(0, &["1 of 2 destinations are connected"]);
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

/// A source behind a wire that stalls in the middle of its content, and three destinations.
struct Middle {
    world: World,
    daemon: Daemon,
    /// Beside the wire.
    client: Client,
    proxy: Proxy,
    all: Vec<Destination>,
    /// Bytes that the source has.
    content: u64,
}

impl Middle {
    fn new() -> Self {
        let (world, daemon, client) = World::served();
        let proxy = Proxy::to(&daemon.address);
        let all = three(&world, &client);
        let content = plant_long(&world);
        Self { world, daemon, client, proxy, all, content }
    }

    /// A run that has come to its middle.
    fn begin(&self, options: &str) -> Child {
        begin_to_the_middle(&self.world, &self.proxy, options)
    }

    /// A run that goes on from its middle without the second destination.
    fn begin_and_kill(&mut self, options: &str) -> Child {
        let run = self.begin(options);
        self.all[1].kill();
        self.proxy.open();
        run
    }

    #[track_caller]
    fn assert_held(&self, store: &Path) {
        assert_same(&self.copy_in(store), &self.world.source);
    }

    fn copy_in(&self, store: &Path) -> PathBuf {
        store.join("127.0.0.1").join(SOURCE).join(self.world.source.strip_prefix("/").unwrap())
    }

    /// The daemon's own copy.
    fn copy(&self) -> PathBuf {
        self.copy_in(&self.world.store)
    }
}

/// Check 4.
#[test]
fn who_is_killed_in_the_middle_is_named_and_heals_when_it_is_back() {
    let mut middle = Middle::new();
    let run = middle.begin_and_kill("--copies 2");
    let run = Outcome::end(run);
    run.expect(0, &[]);
    let summary = run.summary();
    assert_eq!(copy(&summary, "two")["state"], "behind", "{summary}");
    assert!(copy(&summary, "two")["reason"].as_str().unwrap().contains("lost"), "{summary}");
    for held in ["one", "three"] {
        assert_eq!(copy(&summary, held)["state"], "held", "{summary}");
    }
    for held in [0, 2] {
        middle.assert_held(&middle.all[held].store);
    }
    let back = start(&middle.world, &middle.client, "two");
    wait_until("it to heal", || middle.copy_in(&back.store).join("big").exists());
    wait_until("its summary", || !summaries(&back).is_empty());
    middle.assert_held(&back.store);
}

#[test]
fn too_few_that_hold_it_are_waited_for_and_then_exit_15() {
    let mut middle = Middle::new();
    let run = middle.begin_and_kill("--copies 3 --retry-for 2s");
    let run = Outcome::end(run);
    run.expect(15, &[]);
    let summary = run.summary();
    assert_eq!(states(&summary), ["held", "behind", "held"]);
    assert_same(&middle.copy(), &middle.world.source);
}

#[test]
fn who_comes_back_in_time_counts() {
    let mut middle = Middle::new();
    let run = middle.begin_and_kill("--copies 3 --retry-for 2m");
    wait_until("the daemon's copy", || middle.copy().join("big").exists());
    let back = start(&middle.world, &middle.client, "two");
    let run = Outcome::end(run);
    run.expect(0, &[]);
    assert_eq!(copy(&run.summary(), "two")["state"], "held", "{}", run.said());
    middle.assert_held(&back.store);
}

/// The second half of check 4.
#[test]
fn a_daemon_that_is_killed_in_the_middle_costs_little_twice() {
    let mut middle = Middle::new();
    let run = middle.begin("--copies 3 --retry-for 2m");
    // What is still on its way in the daemon is lost with it.
    let stores = middle.all.iter().map(|destination| destination.store.as_path());
    stores.chain([middle.world.store.as_path()]).for_each(|store| wait_staged(store, 4 * MIB));
    middle.daemon = middle.daemon.restart();
    middle.proxy.open();
    let run = Outcome::end(run);
    run.expect(0, &[]);
    let (passed, content) = (middle.proxy.passed(), middle.content);
    assert!(passed < content + SOCKETS_BYTES, "{passed} of {content}");
    for destination in &middle.all {
        middle.assert_held(&destination.store);
    }
}

#[test]
fn a_source_that_is_cut_off_goes_on_where_it_was() {
    let middle = Middle::new();
    middle.proxy.cut(4 * MIB, 2);
    let summary = source_behind(&middle.world, &middle.proxy).push("-rd --copies 3", &middle.world.source);
    assert_eq!(middle.proxy.cuts_left(), 0);
    assert_eq!(states(&summary), ["held"; 3], "{summary}");
    let (passed, content) = (middle.proxy.passed(), middle.content);
    assert!(passed < content + 4 * MIB, "{passed} of {content}");
    for destination in &middle.all {
        middle.assert_held(&destination.store);
    }
}

/// Check 5, for one that is not needed: nobody waits for it.
#[test]
fn who_stands_still_and_is_not_needed_holds_up_nobody() {
    let middle = Middle::new();
    let run = middle.begin("--copies 2");
    middle.all[1].signal(rustix::process::Signal::STOP);
    let begun = Instant::now();
    middle.proxy.open();
    let run = Outcome::end(run);
    run.expect(0, &[]);
    assert_eq!(copy(&run.summary(), "two")["state"], "behind", "{}", run.said());
    assert!(begun.elapsed() < SILENCE, "{:?}", begun.elapsed());
    middle.assert_held(&middle.all[2].store);
    middle.all[1].signal(rustix::process::Signal::CONT);
    wait_until("it to heal", || summaries(&middle.all[1]).iter().any(|summary| summary["snapshot"].is_u64()));
    middle.assert_held(&middle.all[1].store);
}

/// Check 5, for one that is needed.
#[test]
#[ignore = "slow: half a minute of silence"]
fn who_stands_still_is_dropped_and_the_others_finish() {
    let middle = Middle::new();
    let run = middle.begin("--copies 3 --retry-for 1s");
    middle.all[1].signal(rustix::process::Signal::STOP);
    let begun = Instant::now();
    middle.proxy.open();
    let run = Outcome::end(run);
    run.expect(15, &[]);
    let summary = run.summary();
    assert_eq!(states(&summary), ["held", "behind", "held"]);
    assert!(begun.elapsed() < SILENCE + Duration::from_secs(15), "{:?}", begun.elapsed());
    middle.assert_held(&middle.all[2].store);
}

/// Check 9: its trouble is its own.
#[test]
fn a_full_disk_fails_one_target_and_the_others_go_on() {
    let (world, _daemon, client) = World::served();
    let place = world.path("at-two");
    fs::create_dir(&place).unwrap();
    let Some(_mount) = Mount::tmpfs(&place, "size=3m") else { return skipped("mounting needs root") };
    let all = three(&world, &client);
    write(&world.source.join("big"), noise(1, 8 << 20));
    let summary = client.push("-rd --copies 2", &world.source);
    let full = copy(&summary, "two");
    assert_eq!(full["state"], "failed", "{summary}");
    assert!(full["reason"].as_str().unwrap().to_lowercase().contains("space"), "{summary}");
    assert_same(&copy_in(&all[2].store, &world.source), &world.source);
    let run = client.run(&["-rd", "--copies", "3", "--retry-for", "1s", world.source.to_str().unwrap()]);
    run.expect(15, &["NOT held by two", "space"]);
}

/// Check 6.
#[test]
fn two_sources_share_three_destinations() {
    let middle = Middle::new();
    let run = middle.begin("--copies 3");
    write(&middle.world.path("other/a"), noise(3, 1_000_000));
    let other = middle.client.push("-rd --copies 3", &middle.world.path("other"));
    assert_eq!(copy(&other, "three")["state"], "held");
    middle.proxy.open();
    Outcome::end(run).expect(0, &[]);
    for destination in &middle.all {
        middle.assert_held(&destination.store);
        assert_same(&copy_in(&destination.store, &middle.world.path("other")), &middle.world.path("other"));
    }
}

#[test]
fn one_root_of_one_identity_has_one_run_at_a_time() {
    let (world, daemon, client) = World::served();
    write(&world.source.join("a"), "one");
    let _all = three(&world, &client);
    let holder = Holder::take(&daemon, &client, &world.source, true);
    let run = client.try_push("-rd --copies 3", &world.source);
    run.expect(11, &["locked by the backup"]);
    drop(holder);
    client.push("-rd --copies 3 --wait=1m", &world.source);
}

/// Check 9: it says that it holds the run, and that is not so.
#[test]
fn a_destination_s_word_is_not_enough() {
    for (lie, reason) in
        [(Lie::Prepared, "another manifest"), (Lie::Committed, "another snapshot"), (Lie::Proof, "could not prove")]
    {
        let (world, daemon, client) = World::served();
        write(&world.source.join("a"), noise(1, 100_000));
        let honest = start(&world, &client, "honest");
        wait_for_names(&client, &["honest"]);
        fake_destination::attend(&daemon, &client, "liar", lie);
        wait_for_names(&client, &["honest", "liar"]);
        let summary = client.push("-rd --copies 1", &world.source);
        let liar = copy(&summary, "liar");
        assert_eq!(liar["state"], "failed", "{lie:?}: {summary}");
        assert!(liar["reason"].as_str().unwrap().contains(reason), "{lie:?}: {summary}");
        assert_eq!(copy(&summary, "honest")["state"], "held", "{lie:?}: {summary}");
        assert_same(&copy_in(&honest.store, &world.source), &world.source);
        write(&world.source.join("a"), noise(2, 100_000));
        client.push_code("-rd --copies 2 --retry-for 0", &world.source, 15);
    }
}

/// It wants what nobody has: its trouble is its own, and nothing of the backup suffers.
#[test]
fn a_destination_that_misses_what_is_not_there_fails_alone() {
    let (world, daemon, client) = World::served();
    write(&world.source.join("d/f"), noise(1, 100_000));
    write(&world.source.join("e"), "e");
    let honest = start(&world, &client, "honest");
    wait_for_names(&client, &["honest"]);
    fake_destination::attend(&daemon, &client, "liar", Lie::Missing);
    wait_for_names(&client, &["honest", "liar"]);
    let summary = client.push_code("-rd --copies 2 --retry-for 0", &world.source, 15);
    assert_eq!(copy(&summary, "liar")["state"], "failed", "{summary}");
    assert!(copy(&summary, "liar")["reason"].as_str().unwrap().contains("again and again"), "{summary}");
    assert_eq!(copy(&summary, "honest")["state"], "held", "{summary}");
    assert_same(&world.copy(), &world.source);
    assert_same(&copy_in(&honest.store, &world.source), &world.source);
    client.push("-rd --copies 1", &world.source);
}

/// The daemon was lost between its own commit and the others': the same run again brings them what it holds.
#[test]
fn a_run_that_the_daemon_holds_already_is_brought_to_who_lacks_it() {
    let (world, daemon, client) = World::served();
    write(&world.source.join("a"), noise(1, 100_000));
    client.push("-rd", &world.source);
    // The record is written after the receipt.
    let recorded = || client.run(&["--json", "runs"]).object("run")["run"].as_str().map(str::to_owned);
    wait_until("the run's record", || recorded().is_some());
    let hex = recorded().unwrap();
    let run: Vec<u8> = (0..16).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
    let asking = std::thread::scope(|scope| {
        let asking = scope.spawn(|| receipt_again(&daemon, &client, &world.source, run.try_into().unwrap(), 1));
        let one = start(&world, &client, "one");
        let receipt = asking.join().unwrap();
        assert_same(&copy_in(&one.store, &world.source), &world.source);
        receipt
    });
    let copies: Vec<_> = asking.copies.iter().map(|copy| (copy.kind, copy.state)).collect();
    assert_eq!((copies, asking.enough, asking.snapshot), (vec![(0, 0), (1, 0)], true, 1));
}

/// A run that waits for destinations waits for the next daemon, too, and does not hold up this one's end.
#[test]
fn a_run_that_waits_does_not_hold_up_the_drain() {
    let (world, mut daemon, client) = World::served();
    write(&world.source.join("a"), "one");
    let run = client.start(&["-rd", "--copies", "1", "--retry-for", "2m", world.source.to_str().unwrap()]);
    wait_until("it to wait", || client.run(&["--json", "status"]).object("status")["sessions"].as_u64().unwrap() >= 2);
    let begun = Instant::now();
    assert!(daemon.stop().success());
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let _daemon = daemon.restart();
    let one = start(&world, &client, "one");
    Outcome::end(run).expect(0, &[]);
    assert_same(&copy_in(&one.store, &world.source), &world.source);
}
