//! What is lost beside a relay, or the relay itself: in the middle of a run, between commits, before the receipt.

use std::path::PathBuf;
use std::process::Child;

use rbbackup::backup::digest::Digest;
use rbbackup::net::message::{Manifest, ManifestEnd, Message, Offer};

use crate::fan_out::{
    MIB, SOCKETS_BYTES, SOURCE, begin_to_the_middle, copy, copy_in, plant_long, source_behind, start, summaries,
};
use crate::relay::{assert_keeps_nothing, records, relayed, two};
use crate::support::client::{Client, Outcome};
use crate::support::daemon::{Daemon, World, wait, wait_until};
use crate::support::destination::{Destination, names, wait_for_names};
use crate::support::fake_destination::{self, Lie};
use crate::support::holder::Holder;
use crate::support::proxy::Proxy;
use crate::support::trees::{assert_same, noise, wait_staged, write};

/// A source behind a wire that stalls in the middle of its content, and two destinations of a relay.
struct Middle {
    world: World,
    relay: Daemon,
    client: Client,
    proxy: Proxy,
    all: [Destination; 2],
    /// Bytes that the source has.
    content: u64,
}

impl Middle {
    fn new() -> Self {
        let (world, relay, client) = relayed();
        let proxy = Proxy::to(&relay.address);
        let all = two(&world, &client);
        let content = plant_long(&world);
        Self { world, relay, client, proxy, all, content }
    }

    /// A run that has come to its middle.
    fn begin(&self, options: &str) -> Child {
        begin_to_the_middle(&self.world, &self.proxy, options)
    }

    fn copy_in(&self, destination: &Destination) -> PathBuf {
        destination.store.join("127.0.0.1").join(SOURCE).join(self.world.source.strip_prefix("/").unwrap())
    }
}

#[test]
fn a_relay_that_is_killed_in_the_middle_costs_little_twice() {
    let middle = Middle::new();
    let run = middle.begin("--copies 2 --retry-for 2m");
    // What is still on its way in the relay is lost with it.
    middle.all.iter().for_each(|destination| wait_staged(&destination.store, 4 * MIB));
    let relay = middle.relay.restart();
    middle.proxy.open();
    Outcome::end(run).expect(0, &[]);
    let (passed, content) = (middle.proxy.passed(), middle.content);
    assert!(passed < content + SOCKETS_BYTES, "{passed} of {content}");
    for destination in &middle.all {
        let copy = destination.store.join("127.0.0.1").join(SOURCE);
        assert_same(&copy.join(middle.world.source.strip_prefix("/").unwrap()), &middle.world.source);
    }
    assert_keeps_nothing(&middle.world);
    drop(relay);
}

#[test]
fn fewer_than_wanted_commit_nothing_anywhere() {
    let mut middle = Middle::new();
    let run = middle.begin("--copies 2 --retry-for 2s");
    middle.all[1].kill();
    middle.proxy.open();
    Outcome::end(run).expect(15, &["fewer than 2 destinations", "'two': "]);
    assert!(!middle.copy_in(&middle.all[0]).join("big").exists());
}

#[test]
fn who_comes_back_in_time_is_sent_what_it_missed() {
    let mut middle = Middle::new();
    let run = middle.begin("--copies 2 --retry-for 2m");
    middle.all[1].kill();
    wait_for_names(&middle.client, &["one"]);
    middle.proxy.open();
    let back = start(&middle.world, &middle.client, "two");
    let run = Outcome::end(run);
    run.expect(0, &[]);
    assert_eq!(copy(&run.summary(), "two")["state"], "held", "{}", run.said());
    for destination in [&middle.all[0], &back] {
        assert_same(&middle.copy_in(destination), &middle.world.source);
    }
}

/// A relay knows no manifest: what changes say is of use only to who has what they change.
#[test]
fn who_comes_late_and_lacks_what_the_run_builds_on_is_waited_for() {
    let mut middle = Middle::new();
    let source = source_behind(&middle.world, &middle.proxy);
    source.push("-rd --copies 2", &middle.world.source);
    write(&middle.world.source.join("more"), noise(7, 9 << 20));
    let run = middle.begin("--copies 2 --retry-for 2m");
    middle.all[1].kill();
    wait_for_names(&middle.client, &["one"]);
    middle.proxy.open();
    let fresh = start(&middle.world, &middle.client, "three");
    let run = Outcome::end(run);
    run.expect(0, &[]);
    assert_eq!(copy(&run.summary(), "three")["state"], "held", "{}", run.said());
    for destination in [&middle.all[0], &fresh] {
        assert_same(&middle.copy_in(destination), &middle.world.source);
    }
}

#[test]
fn a_source_that_is_cut_off_goes_on_where_it_was() {
    let middle = Middle::new();
    middle.proxy.cut(4 * MIB, 2);
    let source = source_behind(&middle.world, &middle.proxy);
    let summary = source.push("-rd --copies 2", &middle.world.source);
    assert_eq!(middle.proxy.cuts_left(), 0);
    let (passed, content) = (middle.proxy.passed(), middle.content);
    assert!(passed < content + 4 * MIB, "{passed} of {content}");
    for (destination, name) in middle.all.iter().zip(["one", "two"]) {
        assert_eq!(copy(&summary, name)["state"], "held", "{summary}");
        assert_same(&middle.copy_in(destination), &middle.world.source);
    }
}

/// All had committed when the relay was lost, and only the receipt with it.
#[test]
fn a_run_that_all_hold_needs_no_content_to_get_its_receipt() {
    let (world, relay, client) = relayed();
    write(&world.source.join("a"), noise(1, 100_000));
    let one = start(&world, &client, "one");
    client.push("-rd", &world.source);
    let held = records(&one).pop().unwrap();
    let again = |digest: Digest| {
        let (mut source, granted) = Holder::again(&relay, &client, &world.source, held.run);
        assert!(granted.ask, "what all have is not to be sent");
        let link = source.link();
        link.send(Offer { batch: 0, digests: vec![Digest::of(b"anything")] }).unwrap();
        let Message::Need(need) = link.recv().unwrap() else { panic!("no answer to the offer") };
        assert_eq!(need.bits.as_slice(), [0]);
        let (users, groups, errors) = (Vec::new(), Vec::new(), Vec::new());
        link.send(Manifest { base: None, digest, entries: 2, incomplete: false, users, groups, errors }).unwrap();
        link.send(ManifestEnd { bytes_read: 0 }).unwrap();
        loop {
            match link.recv().unwrap() {
                Message::Busy(_) | Message::Gathering(_) => {}
                other => return (source, other),
            }
        }
    };
    let (source, Message::Committed(receipt)) = again(held.manifest) else { panic!("no receipt") };
    // The lock goes with the receipt, whatever is still to be put away.
    drop(Holder::take(&relay, &client, &world.source, true));
    drop(source);
    assert_eq!((receipt.run, receipt.snapshot, receipt.enough, receipt.copies.len()), (held.run, 1, true, 1));
    let (_, Message::Refused(refused)) = again(Digest([9; 32])) else { panic!("a run is not two snapshots") };
    assert!(String::from_utf8_lossy(refused.message.as_slice()).contains("since 'one' committed this run"));
    assert_eq!(records(&one).len(), 1);
}

/// One has committed, the other was told to, when the relay is lost.
fn killed_between_commits() -> (World, Daemon, Client, Destination, Child) {
    let (world, mut relay, client) = relayed();
    write(&world.source.join("a"), noise(1, 100_000));
    write(&world.source.join("b"), noise(2, 100_000));
    let one = start(&world, &client, "one");
    wait_for_names(&client, &["one"]);
    fake_destination::attend(&relay, &client, "mute", Lie::Mute);
    wait_until("both", || names(&client).len() == 2);
    let args = ["--json", "--progress=never", "-rd", "--copies", "2", "--retry-for", "2m"];
    let run = client.start(&[&args[..], &[world.source.to_str().unwrap()]].concat());
    wait_until("one's commit", || copy_in(&one.store, &world.source).join("b").exists());
    wait_until("its summary", || summaries(&one).len() == 1);
    relay.kill();
    (world, relay, client, one, run)
}

#[test]
fn a_relay_that_is_lost_between_commits_brings_the_others_to_the_same_run() {
    let (world, relay, client, one, run) = killed_between_commits();
    let _relay = relay.restart();
    let two = start(&world, &client, "two");
    let run = Outcome::end(run);
    run.expect(0, &[]);
    let summary = run.summary();
    for name in ["one", "two"] {
        assert_eq!(copy(&summary, name)["state"], "held", "{summary}");
    }
    for destination in [&one, &two] {
        assert_same(&copy_in(&destination.store, &world.source), &world.source);
    }
    wait_until("its summary", || summaries(&two).len() == 1);
    assert_eq!(summaries(&one)[0]["run"], summaries(&two)[0]["run"]);
}

/// One run id names one snapshot: with other content the run ends, and the next one brings all together.
#[test]
fn a_run_that_one_holds_does_not_go_on_with_other_content() {
    let (world, relay, client, one, run) = killed_between_commits();
    write(&world.source.join("a"), noise(3, 100_000));
    let _relay = relay.restart();
    let two = start(&world, &client, "two");
    let run = Outcome::end(run);
    run.expect(1, &["files have changed since 'one' committed this run"]);
    assert!(!copy_in(&two.store, &world.source).join("a").exists());
    client.push("-rd --copies 2", &world.source);
    for destination in [&one, &two] {
        assert_same(&copy_in(&destination.store, &world.source), &world.source);
    }
}

#[test]
fn two_sources_share_a_relay() {
    let middle = Middle::new();
    let mut run = middle.begin("--copies 2");
    write(&middle.world.path("other/a"), noise(3, 1_000_000));
    let other = middle.client.push("-rd --copies 2", &middle.world.path("other"));
    assert_eq!(copy(&other, "two")["state"], "held");
    middle.proxy.open();
    assert!(wait(&mut run).success());
    for destination in &middle.all {
        assert_same(&middle.copy_in(destination), &middle.world.source);
        assert_same(&copy_in(&destination.store, &middle.world.path("other")), &middle.world.path("other"));
    }
}
