//! Backups with random changes, verify, prune and restore, all at once and again and again: nothing is ever reported as
//! damaged, and what every snapshot holds is what the source was.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::{Client, Outcome};
use crate::support::daemon::{Daemon, World, shell};
use crate::support::forest::Forest;
use crate::support::rng::Rng;
use crate::support::trees::{assert_same, noise, write};

fn keep_all_but(last: u32) -> String {
    format!(
        "[retention]\nlast = {last}\nhourly = 0\ndaily = 0\nweekly = 0\nmonthly = 0\nyearly = 0\nmin-age = 0\nwithin = 0\n"
    )
}

fn copy_of(source: &Path, to: PathBuf) -> PathBuf {
    shell("cp", &["-a".as_ref(), source.as_os_str(), to.as_os_str()]);
    to
}

/// Moves whole trees and large files about; most of it is never in history, only under another name.
fn shuffle(source: &Path, round: u64, rng: &mut Rng) {
    let names = ["a", "b", "z"];
    let (from, to) = (names[rng.below(3) as usize], names[rng.below(3) as usize]);
    let spare = source.join("spare");
    if from != to {
        let _ = fs::rename(source.join(to), &spare);
        let _ = fs::rename(source.join(from), source.join(to));
        let _ = fs::rename(&spare, source.join(from));
    }
    let mut image = noise(7, 700_000);
    let at = rng.below(690_000) as usize;
    image[at..at + 8].copy_from_slice(&round.to_le_bytes());
    write(&source.join("image"), image);
}

fn rounds(served: bool, how_long: Duration, name: &str) {
    let mut rng = Rng::announced(name);
    let world = World::new();
    fs::remove_dir(&world.source).unwrap();
    let mut forest = Forest::plant(&world.source, rng.next());
    for top in ["a", "b", "z"] {
        for i in 0..60 {
            write(&world.source.join(top).join(format!("f{i}")), format!("{top} {i}"));
        }
        write(&world.source.join(top).join("large"), noise(rng.next(), 400_000));
    }
    let config = world.path("rbbackupd.toml");
    fs::write(&config, keep_all_but(6)).unwrap();
    let daemon = served.then(|| Daemon::start(&world.store, &["--config", config.to_str().unwrap()]));
    let client = world.client(daemon.as_ref().unwrap(), "a");
    let store = world.store.to_str().unwrap();
    let (over, newest) = (&AtomicBool::new(false), AtomicU64::new(0));
    let first = copy_of(&world.source, world.path("kept-1"));
    client.push("-rd --force-delete", &world.source);
    assert!(first.exists());
    newest.store(1, Ordering::SeqCst);
    let ends = Instant::now() + how_long;
    let guard = || !over.load(Ordering::SeqCst);
    let (guard, newest, client, world) = (&guard, &newest, &client, &world);
    thread::scope(|scope| {
        let verified = scope.spawn(|| {
            let mut times = 0;
            while guard() {
                let said = client.run(&["verify"]);
                assert_eq!(said.code, 0, "verify: {}{}", said.stdout, said.stderr);
                let below = client.run(&["verify".as_ref(), world.source.join("a").as_os_str()]);
                assert_eq!(below.code, 0, "verify a: {}{}", below.stdout, below.stderr);
                times += 1;
            }
            times
        });
        let pruned = scope.spawn(|| {
            let mut times = 0;
            while guard() {
                let said = Outcome::of(Command::new(env!("CARGO_BIN_EXE_rbbackupd")).args([
                    "prune",
                    store,
                    "--config",
                    config.to_str().unwrap(),
                ]));
                if !said.stderr.contains("in use by another process") {
                    assert_eq!(said.code, 0, "prune: {}{}", said.stdout, said.stderr);
                    times += 1;
                }
                thread::sleep(Duration::from_millis(20));
            }
            times
        });
        let restored = scope.spawn(|| restores(world, client, newest, guard, "to"));
        let beside = scope.spawn(|| {
            let reader = Client::new(&world.path("reader"), &["--store", store]);
            let of = format!("127.0.0.1/{}", crate::support::daemon::login());
            restores(world, &reader.with(&["--of", &of]), newest, guard, "beside")
        });
        let mut number = 1;
        while Instant::now() < ends && !verified.is_finished() && !restored.is_finished() && !beside.is_finished() {
            forest.grow();
            shuffle(&world.source, number, &mut rng);
            number += 1;
            copy_of(&world.source, world.path(&format!("kept-{number}")));
            let said = client.try_push("-rd --force-delete", &world.source);
            if said.code != 0 {
                over.store(true, Ordering::SeqCst);
                panic!("backup {number}: {}{}", said.stdout, said.stderr);
            }
            assert_eq!(said.summary()["snapshot"], number);
            newest.store(number, Ordering::SeqCst);
        }
        over.store(true, Ordering::SeqCst);
        let counts =
            (verified.join().unwrap(), pruned.join().unwrap(), restored.join().unwrap(), beside.join().unwrap());
        println!("{number} backups; verified, pruned, restored, restored beside: {counts:?}");
    });
}

/// Restores snapshots, most often old ones, and compares each. Those that have expired are told so.
fn restores(world: &World, client: &Client, newest: &AtomicU64, go_on: &(dyn Fn() -> bool + Sync), to: &str) -> u64 {
    let (mut times, mut step) = (0, 0);
    while go_on() {
        step += 1;
        let highest = newest.load(Ordering::SeqCst);
        let number = highest.saturating_sub(step % 6).max(1);
        let to = world.path(to);
        let words = ["restore", "-q", "--at", &number.to_string(), "--to", to.to_str().unwrap()].map(str::to_owned);
        let mut args: Vec<&std::ffi::OsStr> = words.iter().map(|word| word.as_ref()).collect();
        args.push(world.source.as_os_str());
        let said = client.run(&args);
        if said.code == 0 {
            assert_same(&to.join("source"), &world.path(&format!("kept-{number}")));
            times += 1;
        } else {
            assert!(
                said.stderr.contains("pruned"),
                "restore of {number} (of {highest}): {}{}",
                said.stdout,
                said.stderr
            );
        }
        let _ = fs::remove_dir_all(&to);
    }
    times
}

#[test]
#[ignore = "slow: a minute of everything at once"]
fn nothing_is_damaged_while_everything_runs_at_once() {
    rounds(true, Duration::from_secs(60), "nothing_is_damaged_while_everything_runs_at_once");
}
