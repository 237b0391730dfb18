//! Backups with random changes, verify, prune and restore, all at once and again and again: nothing is ever reported as
//! damaged, and what every snapshot holds is what the source was.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::{Client, Outcome};
use crate::support::daemon::{Daemon, PATIENCE, World, shell};
use crate::support::forest::Forest;
use crate::support::rng::Rng;
use crate::support::trees::{assert_same, noise, write};

fn keep_all_but(last: u32) -> String {
    format!(
        "[retention]\nlast = {last}\nhourly = 0\ndaily = 0\nweekly = 0\nmonthly = 0\nyearly = 0\nmin-age = 0\nwithin = 0\n"
    )
}

const PUSH: &str = "-rd --force-delete --retry-for 60";

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

/// Tells the others that it is over, however it ends: a scope waits for its threads.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn rounds(kills: bool, how_long: Duration, name: &str) {
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
    fs::write(&config, keep_all_but(15)).unwrap();
    let mut daemon = Daemon::start(&world.store, &["--config", config.to_str().unwrap()]);
    let client = world.client(&daemon, "a");
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
        let is_over = Over(over);
        let verified = scope.spawn(|| {
            let mut times = 0;
            while guard() {
                for args in [&["verify".as_ref()][..], &["verify".as_ref(), world.source.join("a").as_os_str()]] {
                    let said: Outcome = client.run(args);
                    let cut = kills && said.code == 10;
                    assert!(said.code == 0 || cut, "{args:?}: {} {}{}", said.code, said.stdout, said.stderr);
                    times += i32::from(said.code == 0);
                }
            }
            times
        });
        // A daemon prunes when it is told to and when it starts, beside whoever is there again at once. It outlives the others:
        // who restores waits ten minutes for a server that is lost in the middle.
        let pruned = scope.spawn(move || {
            let mut times = 0;
            while guard() {
                if kills {
                    thread::sleep(Duration::from_millis(1500));
                    daemon.kill();
                    daemon = daemon.restart();
                } else {
                    let mut prune = Command::new(env!("CARGO_BIN_EXE_rbbackupd"));
                    let said = Outcome::of(prune.args(["prune", store]));
                    assert_eq!(said.code, 0, "prune: {}{}", said.stdout, said.stderr);
                }
                times += 1;
            }
            (times, daemon)
        });
        let restored = scope.spawn(|| restores(world, client, newest, guard, ("to", kills)));
        let beside = scope.spawn(|| {
            let reader = Client::new(&world.path("reader"), &["--store", store]);
            let of = format!("127.0.0.1/{}", crate::support::daemon::login());
            restores(world, &reader.with(&["--of", &of]), newest, guard, ("beside", false))
        });
        let mut number = 1;
        let is_well =
            || !(verified.is_finished() || pruned.is_finished() || restored.is_finished() || beside.is_finished());
        while Instant::now() < ends && is_well() {
            forest.grow();
            shuffle(&world.source, number, &mut rng);
            let mut said = client.try_push(PUSH, &world.source);
            while kills && said.code == 10 && is_well() && Instant::now() < ends + PATIENCE {
                said = client.try_push(PUSH, &world.source);
            }
            assert_eq!(said.code, 0, "backup {number}: {}{}", said.stdout, said.stderr);
            let got = said.summary()["snapshot"].as_u64().unwrap();
            // One that was committed and could not say so has a number of its own.
            assert!(got == number + 1 || (kills && got > number), "{got} after {number}");
            for number in number + 1..=got {
                copy_of(&world.source, world.path(&format!("kept-{number}")));
            }
            number = got;
            newest.store(number, Ordering::SeqCst);
        }
        drop(is_over);
        let (pruned, _daemon) = pruned.join().unwrap();
        let counts = (verified.join().unwrap(), pruned, restored.join().unwrap(), beside.join().unwrap());
        println!("{number} backups; verified, pruned, restored, restored beside: {counts:?}");
    });
}

/// Restores snapshots, most often old ones, and compares each. Those that have expired are told so.
/// `kills`: a server that is gone at the first word is not waited for.
fn restores(
    world: &World,
    client: &Client,
    newest: &AtomicU64,
    go_on: &(dyn Fn() -> bool + Sync),
    (to, kills): (&str, bool),
) -> u64 {
    let (mut times, mut step) = (0, 0);
    while go_on() {
        step += 1;
        let highest = newest.load(Ordering::SeqCst);
        let number = highest.saturating_sub(step % 6).max(1);
        let to = world.path(to);
        let words = ["restore", "-q", "--at", &number.to_string(), "--to", to.to_str().unwrap()].map(str::to_owned);
        let mut args: Vec<&std::ffi::OsStr> = words.iter().map(AsRef::as_ref).collect();
        args.push(world.source.as_os_str());
        let said = client.run(&args);
        if said.code == 0 {
            assert_same(&to.join("source"), &world.path(&format!("kept-{number}")));
            times += 1;
        } else {
            assert!(
                said.stderr.contains("pruned") || (kills && said.code == 10),
                "restore of {number} (of {highest}): {} {}{}",
                said.code,
                said.stdout,
                said.stderr
            );
        }
        let _ = fs::remove_dir_all(&to);
    }
    times
}

#[test]
#[ignore = "slow: half a minute of everything at once"]
fn nothing_is_damaged_while_everything_runs_at_once() {
    rounds(false, Duration::from_secs(30), "nothing_is_damaged_while_everything_runs_at_once");
}

#[test]
#[ignore = "slow: half a minute of everything at once"]
fn nor_while_the_daemon_is_killed_again_and_again_and_prunes_each_time_it_starts() {
    rounds(true, Duration::from_secs(30), "nor_while_the_daemon_is_killed_again_and_again");
}
