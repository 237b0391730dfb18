//! `kill -9` at random moments: of the daemon, of the client, of a daemon that is just recovering. The seed is printed.
//!
//! After every kill the copy is the tree of the last commit or the one that was on its way, hash for hash, and never
//! older than a receipt; the next run goes through. After a kill of pruning all that is left is intact, and restores as
//! the source was.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/crash/mod.rs"]
mod support;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use support::forest::Forest;
use support::history::History;
use support::past::{Years, assert_intact, keep_two, prune};
use support::rng::Rng;
use support::state::{State, contents, differences, read};
use support::world::{Daemon, World, assert_no_leftovers, finish, snapshots};

/// Kills of the daemon.
const DAEMON_KILLS: u32 = 200;
/// Kills of the client.
const CLIENT_KILLS: u32 = 60;
/// Kills of pruning.
const PRUNE_KILLS: u32 = 16;
const MIRROR: &[&str] = &["-rd", "--force-delete"];

struct Trial {
    world: World,
    rng: Rng,
    forest: Forest,
    /// What the copy was at the last commit that is known.
    old: State,
    runs: usize,
    ever: HashSet<[u8; 32]>,
    history: History,
    /// How long a run takes that nobody kills.
    whole: Duration,
}

impl Trial {
    fn new(test: &str) -> Self {
        let (world, mut rng) = (World::new(), Rng::announced(test));
        let forest = Forest::plant(&world.source, rng.next());
        let mut trial = Self {
            world,
            rng,
            forest,
            old: State::new(),
            runs: 0,
            ever: HashSet::new(),
            history: History::default(),
            whole: Duration::ZERO,
        };
        let daemon = trial.world.daemon(None);
        trial.complete(&daemon, "the first backup");
        trial.forest.grow();
        trial.complete(&daemon, "the second backup");
        trial
    }

    fn copy(&self) -> State {
        self.world.copy_in(&self.world.store).map(|copy| read(&copy)).unwrap_or_default()
    }

    /// A run that nobody disturbs.
    fn complete(&mut self, daemon: &Daemon, what: &str) {
        let began = Instant::now();
        self.world.push(daemon, &self.world.source, MIRROR);
        self.whole = began.elapsed();
        self.settled(&read(&self.world.source), what);
        assert_no_leftovers(&self.world.store, false);
    }

    fn settled(&mut self, wanted: &State, what: &str) {
        self.old = self.copy();
        let differences = differences(&self.old, wanted);
        assert!(differences.is_empty(), "{what}:\n{}", differences.join("\n"));
        self.runs = snapshots(&self.world.store).len();
        self.ever.extend(contents(&self.old));
        let held: HashSet<_> = self.history.contents(&self.world.store).union(&contents(&self.old)).copied().collect();
        assert!(self.ever.is_subset(&held), "{what}: content is lost");
    }

    /// After a kill, with a daemon that is up: the state of before or after. Whether it is that of after.
    fn judge(&mut self, receipt: bool, what: &str) -> bool {
        let (found, new) = (self.copy(), read(&self.world.source));
        let runs = snapshots(&self.world.store).len();
        let committed = runs > self.runs;
        assert!(runs <= self.runs + 1, "{what}: {runs} snapshots after {}", self.runs);
        assert!(committed || !receipt, "{what}: older than its receipt");
        let differences = differences(&found, if committed { &new } else { &self.old });
        assert!(differences.is_empty(), "{what} (committed: {committed}):\n{}", differences.join("\n"));
        assert_no_leftovers(&self.world.store, true);
        if committed {
            self.settled(&new, what);
        }
        committed
    }

    /// Sleeps, not to wait for anything: the kill is to come at a random moment. For how long it did.
    fn nap(&mut self, most: Duration) -> Duration {
        let nap = Duration::from_micros(self.rng.below(most.as_micros() as u64 + 1));
        std::thread::sleep(nap);
        nap
    }
}

#[test]
#[ignore = "slow: 200 kills of the daemon"]
fn the_daemon_is_killed_at_random() {
    let mut trial = Trial::new("the_daemon_is_killed_at_random");
    let mut committed_runs = 0;
    for kill in 0..DAEMON_KILLS {
        trial.forest.grow();
        let mut daemon = trial.world.daemon(None);
        let client = trial.world.start_push(&daemon, &trial.world.source, MIRROR);
        // Most of a short run is its beginning; what matters is its end.
        let most = trial.whole * 5 / 4;
        let nap = trial.nap(most);
        daemon.kill();
        let (status, said) = finish(client);
        let what = format!("kill {kill} after {nap:?} of {most:?}");
        assert!(status.success() || status.code() == Some(10), "{what}: {status}: {said}");
        // A recovery may be killed too, at any moment.
        for _ in 0..trial.rng.below(3) {
            let mut daemon = trial.world.start_daemon(&trial.world.store, None);
            trial.nap(Duration::from_millis(25));
            daemon.kill();
        }
        let daemon = trial.world.daemon(None);
        committed_runs += u32::from(trial.judge(status.success(), &what));
        // Now and then the tree changes on before the run is done again: staging passes to another run.
        if trial.rng.below(3) > 0 {
            trial.complete(&daemon, &format!("{what}, and run again"));
        }
    }
    eprintln!("{committed_runs} of {DAEMON_KILLS} kills came after the commit");
}

#[test]
#[ignore = "slow: 60 kills of the client"]
fn the_client_is_killed_at_random() {
    let mut trial = Trial::new("the_client_is_killed_at_random");
    let daemon = trial.world.daemon(None);
    for kill in 0..CLIENT_KILLS {
        trial.forest.grow();
        let mut client = trial.world.start_push(&daemon, &trial.world.source, MIRROR);
        let most = trial.whole * 5 / 4;
        let nap = trial.nap(most);
        let _ = client.kill();
        let (status, _) = finish(client);
        let what = format!("kill {kill} of the client after {nap:?} of {most:?}");
        // Nothing has to be unlocked or restarted: the next run starts at once, or waits for a commit under way.
        trial.world.push(&daemon, &trial.world.source, &["-rd", "--force-delete", "--wait=20s"]);
        let runs = snapshots(&trial.world.store).len();
        assert!((trial.runs + 1..=trial.runs + 2).contains(&runs), "{what}: {runs} snapshots ({status})");
        trial.settled(&read(&trial.world.source), &what);
        assert_no_leftovers(&trial.world.store, false);
    }
}

/// Without a daemon, pruning packs first: that is killed, too.
#[test]
#[ignore = "slow: 16 kills of pruning"]
fn pruning_is_killed_at_random() {
    let (mut world, mut rng) = (World::new(), Rng::announced("pruning_is_killed_at_random"));
    keep_two(&mut world);
    let mut years = Years::plant(&world.source, rng.next());
    let (mut states, mut whole, mut unfinished) = (vec![State::new()], Duration::ZERO, 0);
    for kill in 0..=PRUNE_KILLS {
        // A daemon that is killed at once leaves what was retired to pruning, most of the time.
        let mut daemon = world.daemon(None);
        for _ in 0..3 {
            years.go_on(&world.source);
            states.push(read(&world.source));
            world.push(&daemon, &world.source, MIRROR);
        }
        daemon.kill();
        if kill == 0 {
            let began = Instant::now();
            prune(&world, &world.store, false, "the first pruning");
            whole = began.elapsed();
            continue;
        }
        let mut pruning = world.command(env!("CARGO_BIN_EXE_rbbackupd"));
        let config = world.config.as_ref().unwrap();
        let mut pruning = pruning.arg("prune").arg(&world.store).arg("--config").arg(config).spawn().unwrap();
        // Not to wait for anything: the kill is to come at a random moment.
        let nap = Duration::from_micros(rng.below(whole.as_micros() as u64 + 1));
        std::thread::sleep(nap);
        let _ = pruning.kill();
        unfinished += u32::from(!pruning.wait().unwrap().success());
        let what = format!("kill {kill} of pruning after {nap:?} of {whole:?}");
        assert_intact(&world, &world.store, &states, &what);
        prune(&world, &world.store, false, &what);
        let numbers: Vec<usize> = snapshots(&world.store).iter().map(|record| record.number as usize).collect();
        // One that took much away may keep what was before it, too.
        assert!(numbers.ends_with(&[states.len() - 2, states.len() - 1]), "{what}: {numbers:?}");
        assert_intact(&world, &world.store, &states, &format!("{what}, and pruned again"));
        assert_no_leftovers(&world.store, false);
    }
    eprintln!("{unfinished} of {PRUNE_KILLS} kills came before the end");
}
