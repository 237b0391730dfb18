//! Issue 4, item 5: what a slow destination does to a run. Who is needed sets the pace, who is not never does, and the
//! daemon's memory stays bounded either way.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::client::{Client, Outcome};
use crate::support::daemon::{Daemon, World};
use crate::support::destination::{Destination, wait_for_names};
use crate::support::patience::{wait_until, waited};
use crate::support::proxy::Proxy;
use crate::support::rng::Rng;
use crate::support::trees::assert_same;

const MIB: u64 = 1024 * 1024;
/// User name of the destination behind the narrow wire, which is a client with a key of its own.
const SLOW: &str = "slow";
/// User name of the source, behind a wire of its own.
const SOURCE: &str = "source";
/// What a daemon may take for a run to two destinations.
const MEMORY_MAX: u64 = 128 * MIB;
/// What waits for one destination at most, about.
const QUEUE: u64 = 16 * MIB;
/// How far a source gets ahead of a destination: its queue, what the links and their sockets hold.
const AHEAD_MAX: u64 = 64 * MIB;
/// For gigabytes.
const LONG: Duration = Duration::from_secs(1800);

/// A source and two destinations, of which one is behind a narrow wire.
struct Narrow {
    world: World,
    daemon: Daemon,
    fast: Destination,
    slow: Destination,
    /// The slow one's.
    wire: Proxy,
    /// The source's; as wide as they come.
    upload: Proxy,
}

impl Narrow {
    fn new() -> Self {
        let (world, daemon, client) = World::served();
        let (wire, upload) = (Proxy::to(&daemon.address), Proxy::to(&daemon.address));
        let fast = Destination::start(&client, &world.path("at-fast"), &["--name", "fast", "--json"]);
        let behind_wire = Client::new(&world.path("home-slow"), &["-s", &wire.address, "--user", SLOW]);
        let slow = Destination::start(&behind_wire, &world.path("at-slow"), &["--name", "slow", "--json"]);
        wait_for_names(&client, &["fast", "slow"]);
        Self { world, daemon, fast, slow, wire, upload }
    }

    fn begin(&self, options: &str) -> Child {
        let source = Client::new(&self.world.path("home-source"), &["-s", &self.upload.address, "--user", SOURCE]);
        let mut args: Vec<&str> = vec!["--json", "--progress=never", "-rd"];
        args.extend(options.split_whitespace());
        args.push(self.world.source.to_str().unwrap());
        source.start(&args)
    }

    /// How far the source is ahead of the slow one.
    fn ahead(&self, before: (u64, u64)) -> u64 {
        (self.upload.passed() - before.0).saturating_sub(self.wire.passed_back() - before.1)
    }

    fn copy_in(&self, store: &Path) -> PathBuf {
        store.join("127.0.0.1").join(SOURCE).join(self.world.source.strip_prefix("/").unwrap())
    }

    #[track_caller]
    fn assert_held(&self, destination: &Destination) {
        assert_same(&self.copy_in(&destination.store), &self.world.source);
    }

    /// The daemon's peak, printed.
    #[track_caller]
    fn assert_memory(&self, when: &str) {
        let peak = self.daemon.peak_memory();
        eprintln!("the daemon's peak {when}: {} MiB", peak / MIB);
        assert!(peak < MEMORY_MAX, "{peak} bytes {when}");
    }
}

/// A file that does not compress, at the cost of writing it.
fn fill(path: &Path, seed: u64, bytes: u64) {
    let (mut rng, mut file) = (Rng::new(seed), File::create(path).unwrap());
    for _ in 0..bytes / MIB {
        file.write_all(&rng.bytes(MIB as usize)).unwrap();
    }
}

/// Many files, of which each is cut into chunks.
fn plant(top: &Path, seed: u64, bytes: u64) {
    for file in 0..bytes / (8 * MIB) {
        fill(&top.join(format!("{seed}-{file:04}")), seed << 32 | file, 8 * MIB);
    }
}

fn copy<'a>(summary: &'a Value, name: &str) -> &'a Value {
    let copies = summary["copies"].as_array().unwrap();
    copies.iter().find(|copy| copy["name"] == name).unwrap_or_else(|| panic!("'{name}' is not in {summary}"))
}

/// A needed destination takes `first` bytes as slowly as the wire is, and the rest fast.
fn needed(narrow: &Narrow, first: u64, then: u64) {
    let before = (narrow.upload.passed(), narrow.wire.passed_back());
    let mut run = narrow.begin("--copies 2");
    let mut most = 0;
    let mut is_ahead = |narrow: &Narrow, bytes: u64| {
        most = most.max(narrow.ahead(before));
        most >= bytes
    };
    wait_until("the source to get ahead", || is_ahead(narrow, QUEUE));
    wait_until("some to pass", || !is_ahead(narrow, u64::MAX) && narrow.wire.passed_back() >= before.1 + first);
    narrow.wire.throttle_back(then);
    wait_until("the run to end", || !is_ahead(narrow, u64::MAX) && run.try_wait().unwrap().is_some());
    let run = Outcome::end(run);
    run.expect(0, &[]);
    for name in ["fast", "slow"] {
        assert_eq!(copy(&run.summary(), name)["state"], "held", "{}", run.said());
    }
    eprintln!("the source was at most {} MiB ahead", most / MIB);
    assert!(most < AHEAD_MAX, "{most} bytes ahead");
    narrow.assert_memory("with a slow one that is needed");
    narrow.assert_held(&narrow.fast);
    narrow.assert_held(&narrow.slow);
}

/// A destination that is not needed takes next to nothing of `content`, and nobody waits for it.
fn not_needed(narrow: &Narrow, content: u64) {
    let before = narrow.wire.passed_back();
    left_behind(narrow, narrow.begin("--copies 1"), before, content);
}

/// How such a run ends, at whose begin so much had passed.
fn left_behind(narrow: &Narrow, mut run: Child, before: u64, content: u64) {
    assert!(waited(LONG, || run.try_wait().unwrap().is_some()), "the run hangs");
    let passed = narrow.wire.passed_back() - before;
    let run = Outcome::end(run);
    run.expect(0, &[]);
    let summary = run.summary();
    assert!(passed < content / 2, "{passed} bytes had passed when the source was done: {summary}");
    assert_eq!(copy(&summary, "fast")["state"], "held", "{summary}");
    assert_eq!(copy(&summary, "slow")["state"], "behind", "{summary}");
    assert!(copy(&summary, "slow")["reason"].as_str().unwrap().contains("slower"), "{summary}");
    narrow.assert_memory("with a slow one that is not needed");
    narrow.assert_held(&narrow.fast);
}

#[test]
fn a_needed_destination_that_is_slow_slows_the_source_and_takes_no_memory() {
    let narrow = Narrow::new();
    plant(&narrow.world.source, 1, 96 * MIB);
    narrow.wire.throttle_back(MIB / 4);
    needed(&narrow, 0, 16 * MIB);
}

#[test]
fn a_destination_that_is_not_needed_and_slow_is_left_behind_and_catches_up() {
    let narrow = Narrow::new();
    plant(&narrow.world.source, 1, 64 * MIB);
    narrow.wire.throttle_back(MIB / 4);
    not_needed(&narrow, 64 * MIB);
    narrow.wire.open();
    let last = narrow.copy_in(&narrow.slow.store).join("1-0007");
    wait_until("it to catch up", || last.exists());
    narrow.assert_held(&narrow.slow);
    narrow.assert_memory("after its catch-up");
}

/// A disk that wakes up, a flush that takes its time.
#[test]
fn a_fast_destination_that_stands_still_for_a_moment_is_not_taken_for_the_slow_one() {
    let content = 64 * MIB;
    for first in [0, MIB] {
        let narrow = Narrow::new();
        plant(&narrow.world.source, 1, content);
        narrow.wire.throttle_back(MIB / 4);
        let (before, sent) = (narrow.wire.passed_back(), narrow.upload.passed());
        let stand_still = |is_to: bool| narrow.fast.signal(if is_to { Signal::STOP } else { Signal::CONT });
        stand_still(first == 0);
        let run = narrow.begin("--copies 1");
        wait_until("the run to begin", || narrow.upload.passed() > sent + first);
        stand_still(true);
        // Longer than who is not needed has for an answer.
        std::thread::sleep(Duration::from_secs(3));
        stand_still(false);
        left_behind(&narrow, run, before, content);
    }
}

/// `RBBACKUP_PACE_MIB=4096` makes it the 4 GB, which needs three times as much room.
#[test]
#[ignore = "slow: a gigabyte goes through, and for most of a minute a megabyte a second"]
fn memory_stays_bounded_at_a_megabyte_a_second_while_gigabytes_go_through() {
    let mib: u64 = std::env::var("RBBACKUP_PACE_MIB").map_or(1024, |mib| mib.parse().unwrap());
    let narrow = Narrow::new();
    narrow.wire.throttle_back(1_000_000);
    plant(&narrow.world.source, 1, 96 * MIB);
    // For longer than a silence may be.
    needed(&narrow, 40_000_000, 0);
    narrow.wire.throttle_back(1_000_000);
    plant(&narrow.world.source, 2, mib * MIB);
    let begun = Instant::now();
    not_needed(&narrow, mib * MIB);
    eprintln!("{mib} MiB in {:?}", begun.elapsed());
}
