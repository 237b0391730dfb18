//! Kills the daemon at every step of the commits of many plans, and its recovery at one step after another.
//!
//! Whatever the step: when the daemon is up again the copy is the tree of before or of after, down to times and links;
//! which of the two follows from whether the journal was durable; the next run goes through and leaves nothing behind;
//! and every content that ever was in the copy is still in it or in history.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/crash/mod.rs"]
mod support;

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use support::history::History;
use support::patience::wait_until;
use support::spec::build;
use support::state::{State, after, contents, differences, read};
use support::world::{World, assert_no_leftovers, finish, snapshots};

/// Points at which the commit has not happened if the daemon dies there.
const BEFORE: [&str; 4] = ["before-flush", "before-journal", "journal-written", "record-begun"];
/// Points after which it has happened, once the daemon is started again.
const AFTER: [&str; 10] = [
    "after-journal",
    "park",
    "after-parks",
    "place",
    "after-places",
    "touch",
    "before-second-flush",
    "before-record",
    "after-record",
    "after-journal-removed",
];
/// Points at which history is packed: no commit is under way.
const PACKING: [&str; 4] = ["pack-written", "pack-named", "pack-known", "pack-file-gone"];
/// Points of pruning; tests/e2e/prune.rs kills there.
const PRUNING: [&str; 5] = ["expire", "expired-manifest", "expired-record", "pack-rewritten", "pack-forgotten"];
/// Points of a purge; tests/e2e/purge.rs kills there.
const PURGING: [&str; 1] = ["purged"];
/// Steps of one plan; more means that the loop does not end.
const STEPS_MAX: u32 = 100;

/// One run: which of the two trees, what of it, how.
struct Step {
    tree: usize,
    root: &'static str,
    flags: &'static [&'static str],
}

const fn step(tree: usize, root: &'static str, flags: &'static [&'static str]) -> Step {
    Step { tree, root, flags }
}

const MIRROR: &[&str] = &["-rd", "--force-delete"];
const KEEP: &[&str] = &["-r"];

/// There and back.
const BOTH_WAYS: &[Step] = &[step(1, "", MIRROR), step(0, "", MIRROR)];

/// A store that goes from state to state.
struct Trial {
    world: World,
    trees: [PathBuf; 2],
    current: usize,
    now: State,
    ever: HashSet<[u8; 32]>,
    history: History,
    recoveries: u32,
}

impl Trial {
    fn new(trees: [&str; 2]) -> Self {
        let world = World::new();
        let places = [world.dir.path().join("tree0"), world.dir.path().join("tree1")];
        for (place, spec) in places.iter().zip(trees) {
            build(place, spec);
        }
        std::fs::rename(&places[0], &world.source).unwrap();
        Self {
            world,
            trees: places,
            current: 0,
            now: State::new(),
            ever: HashSet::new(),
            history: History::default(),
            recoveries: 0,
        }
    }

    fn put(&mut self, tree: usize) {
        if tree != self.current {
            std::fs::rename(&self.world.source, &self.trees[self.current]).unwrap();
            std::fs::rename(&self.trees[tree], &self.world.source).unwrap();
            self.current = tree;
        }
    }

    fn copy(&self) -> State {
        self.world.copy_in(&self.world.store).map(|copy| read(&copy)).unwrap_or_default()
    }

    /// One run with the daemon dying at `point` (if it comes there); whether it did.
    fn run(&mut self, step: &Step, point: &str, nth: u32) -> bool {
        self.put(step.tree);
        let what = format!("tree {} '{}' {:?}, killed at {point}:{nth}", step.tree, step.root, step.flags);
        let (delete, recursive) = (step.flags.contains(&"-rd"), step.flags[0].contains('r'));
        let wanted = after(&self.now, &read(&self.world.source), Path::new(step.root), delete, recursive);
        let runs = if self.now.is_empty() { 0 } else { snapshots(&self.world.store).len() };
        let root = if step.root.is_empty() { self.world.source.clone() } else { self.world.source.join(step.root) };

        let mut daemon = self.world.daemon(Some(&format!("{point}:{nth}")));
        let (status, said) = finish(self.world.start_push(&daemon, &root, step.flags));
        if status.success() {
            assert!(!daemon.is_dead(), "{what}: it died after its receipt");
            self.settled(step, &wanted, &what);
            return false;
        }
        assert_eq!(status.code(), Some(10), "{what}: {said}");
        daemon.kill();

        self.assert_readable(&what);
        self.kill_the_recovery();
        let daemon = self.world.daemon(None);
        let (found, committed) = (self.copy(), AFTER.contains(&point));
        let expected = if committed { &wanted } else { &self.now };
        assert_same(&found, expected, step.root, &format!("{what}, after the restart"));
        assert_eq!(snapshots(&self.world.store).len(), runs + usize::from(committed), "{what}: snapshots");
        assert_no_leftovers(&self.world.store, !committed);
        self.world.push(&daemon, &root, step.flags);
        self.settled(step, &wanted, &format!("{what}, and run again"));
        true
    }

    /// Nobody is up: who reads the disk gets what the newest snapshot holds, wherever the commit has come to.
    fn assert_readable(&self, what: &str) {
        for record in snapshots(&self.world.store).iter().rev().take(1) {
            let to = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
            let mut command = self.world.command(env!("CARGO_BIN_EXE_rbbackup"));
            command.arg("--store").arg(&self.world.store).args(["-q", "restore", "--at", &record.number.to_string()]);
            let root = Path::new("/").join(std::ffi::OsStr::from_bytes(record.root.as_bytes()));
            let restore = command.arg("--to").arg(to.path()).arg(root).stderr(std::process::Stdio::piped());
            let began = std::time::Instant::now();
            let (status, said) = finish(restore.spawn().unwrap());
            assert!(
                status.success(),
                "{what}: restore of snapshot {} without a daemon: {status}: {said}",
                record.number
            );
            assert!(began.elapsed().as_secs() < 20, "{what}: something was waited for");
        }
    }

    /// Starts daemons that die at one point of their recovery after the other.
    fn kill_the_recovery(&mut self) {
        for _ in 0..2 {
            let point = AFTER[self.recoveries as usize % AFTER.len()];
            let nth = 1 + self.recoveries / AFTER.len() as u32 % 3;
            self.recoveries += 1;
            self.world.daemon(Some(&format!("{point}:{nth}"))).kill();
        }
    }

    /// A run is committed: the copy is `wanted`, nothing lies about, nothing is lost.
    fn settled(&mut self, step: &Step, wanted: &State, what: &str) {
        self.now = self.copy();
        assert_same(&self.now, wanted, step.root, what);
        assert_no_leftovers(&self.world.store, false);
        self.ever.extend(contents(&self.now));
        let held: HashSet<_> = self.history.contents(&self.world.store).union(&contents(&self.now)).copied().collect();
        assert!(self.ever.is_subset(&held), "{what}: content is lost");
    }
}

/// What leads to a root below the top is no part of it: its time is another run's business.
fn assert_same(found: &State, wanted: &State, root: &str, what: &str) {
    let mut wanted = wanted.clone();
    for up in Path::new(root).ancestors().skip(1) {
        if let (Some(node), Some(found)) = (wanted.get_mut(up), found.get(up)) {
            node.mtime = found.mtime;
        }
    }
    let differences = differences(found, &wanted);
    assert!(differences.is_empty(), "{what}:\n{}", differences.join("\n"));
}

/// Every point, every time that it is come to, in every step of the cycle.
fn kill_everywhere(trees: [&str; 2], cycle: &[Step]) {
    if !cfg!(feature = "failpoints") {
        eprintln!("skipped: the daemon has no failpoints; build with --features failpoints");
        return;
    }
    let mut trial = Trial::new(trees);
    // A first backup is killed too.
    let first = step(0, "", cycle[0].flags);
    for point in BEFORE.iter().chain(&AFTER) {
        let mut nth = 1;
        while cycle.iter().fold(trial.now.is_empty() && trial.run(&first, point, nth), |died, step| {
            trial.run(step, point, nth) || died
        }) {
            nth += 1;
            assert!(nth < STEPS_MAX, "{point} does not end");
        }
    }
}

#[test]
fn every_failpoint_is_known_here() {
    fn visit(dir: &Path, found: &mut HashSet<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, found);
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                let calls = text.split("failpoint(\"").skip(1).filter_map(|rest| rest.split('"').next());
                found.extend(calls.map(str::to_owned));
            }
        }
    }
    let mut found = HashSet::new();
    visit(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    let known: HashSet<String> = BEFORE
        .iter()
        .chain(&AFTER)
        .chain(&PACKING)
        .chain(&PRUNING)
        .chain(&PURGING)
        .map(|&name| name.to_owned())
        .collect();
    assert_eq!(found, known);
}

/// Every point of packing, every time that it is come to: whatever it was, history holds all that it held, is packed by
/// the next start, and gives everything back.
#[test]
#[ignore = "slow: kills the daemon at every step; needs --features failpoints"]
fn packing_is_killed_everywhere() {
    if !cfg!(feature = "failpoints") {
        eprintln!("skipped: the daemon has no failpoints; build with --features failpoints");
        return;
    }
    let trees = ["f a=1 F b=one0 f d/c=3 F d/e=two1 s l=a", "f a=2 F b=one1 f d/c=33 F d/e=two0 p l"];
    let mut trial = Trial::new(trees);
    let root = trial.world.source.clone();
    trial.world.push(&trial.world.daemon(None), &root, MIRROR);
    trial.ever.extend(contents(&trial.copy()));
    let own = trial.world.store.join(".rbbackup");
    let names = |dir: &str| std::fs::read_dir(own.join(dir)).unwrap().count();
    let mut kills = 0;
    for (n, point) in PACKING.iter().enumerate() {
        for nth in 1.. {
            assert!(nth < STEPS_MAX, "{point} does not end");
            trial.put(1 - trial.current);
            // New content each time, or there would soon be nothing to pack.
            std::fs::write(root.join("new"), format!("{n} {nth}")).unwrap();
            let what = format!("killed at {point}:{nth}");
            let mut daemon = trial.world.daemon(Some(&format!("{point}:{nth}")));
            // The receipt may be lost with the daemon.
            let (status, said) = finish(trial.world.start_push(&daemon, &root, MIRROR));
            assert!(status.success() || status.code() == Some(10), "{what}: {said}");
            wait_until(&what, || daemon.is_dead() || names("retired") == 0);
            let died = daemon.is_dead();
            daemon.kill();
            let daemon = trial.world.daemon(None);
            wait_until("what is left to be packed", || names("retired") == 0);
            trial.now = trial.copy();
            assert_same(&trial.now, &read(&root), "", &what);
            trial.ever.extend(contents(&trial.now));
            let held = trial.history.contents(&trial.world.store);
            let held: HashSet<_> = held.union(&contents(&trial.now)).copied().collect();
            assert!(trial.ever.is_subset(&held), "{what}: content is lost");
            daemon.stop();
            let vault = own.join("vault").read_dir().unwrap().next().unwrap().unwrap().path();
            let unfinished = vault.read_dir().unwrap().filter(|e| e.as_ref().unwrap().path().is_file()).count();
            assert_eq!(unfinished, 0, "{what}");
            if !died {
                break;
            }
            kills += 1;
        }
    }
    assert!(kills >= 6, "only {kills} kills");
}

macro_rules! plans {
    ($($name:ident: $from:literal => $to:literal, $cycle:expr;)*) => {
        $(
            #[test]
            #[ignore = "slow: kills the daemon at every step; needs --features failpoints"]
            fn $name() {
                kill_everywhere([$from, $to], $cycle);
            }
        )*
    };
}

plans! {
    two_files_swap: "f a=1 f b=2 f c=3" => "f a=2 f b=1 f c=3", BOTH_WAYS;
    a_chain_moves_on: "f a=1 f b=2 f c=3" => "f b=1 f c=2 f d=3", BOTH_WAYS;
    three_go_round: "f a=1 f b=2 f x/c=3" => "f a=2 f b=3 f x/c=1", BOTH_WAYS;
    file_and_directory_change_places: "f x=1 f y/a=2 f y/b/c=3 d y/e" => "f x/a=2 f x/b/c=3 d x/e f y=1", BOTH_WAYS;
    a_file_becomes_a_directory: "f x=1 f k=0" => "f x/x=1 f x/new=2 f k=0", BOTH_WAYS;
    a_directory_moves_with_edits:
        "f d/a=1 f d/b=2 f d/c/d=3 f d/c/e=4 f d/f=5 f d/g=6" =>
        "f e/a=1 f e/b=two f e/c/d=3 f e/c/e=4 f e/f=5 f e/new=9 f d=file", BOTH_WAYS;
    directories_swap_with_edits:
        "f d/a=1 f d/b=2 f d/c=3 f e/a=4 f e/b=5 f e/c=6" =>
        "f e/a=1 f e/b=2 f e/c=33 f d/a=4 f d/b=5 f d/c=6 f d/n=7", BOTH_WAYS;
    directories_move_into_each_other:
        "f p/m/a=1 f p/m/b=2 f p/m/k/x=3 f p/m/k/y=4 f p/o=5" =>
        "f n/m/a=1 f n/m/b=2 f n/m/new/q=8 f n/fresh=7 f k/x=3 f k/y=4 f k/p/o=5", BOTH_WAYS;
    a_directory_moves_below_itself: "f a/x=1 f a/y=2 f a/z=3" => "f a/b/x=1 f a/b/y=2 f a/b/z=3", BOTH_WAYS;
    hard_links_form_and_split: "f a=1 f b=1 f x/c=2" => "f a=1 h b=a h x/c=a h x/d=a", BOTH_WAYS;
    hard_links_move: "f a=1 h b=a h x/c=a f z=9" => "f x/a=1 h x/b=x/a h y=x/a f z=9", BOTH_WAYS;
    hard_link_groups_exchange_members: "f a=1 h b=a f c=2 h d=c" => "f a=1 h c=a f b=2 h d=b", BOTH_WAYS;
    hard_links_get_new_content: "f a=1 h b=a h d/c=a" => "f a=one h b=a f d/c=1", BOTH_WAYS;
    hard_links_move_with_their_directory:
        "f d/a=1 h d/b=d/a f d/c=2 f d/e=3 h o=d/a" => "f e/a=1 h e/b=e/a f e/c=2 f e/e=3 f o=4", BOTH_WAYS;
    a_large_file_leaves_its_link: "F a=one0 h b=a f c=1" => "F a=one0 F b=one1 f c=1", BOTH_WAYS;
    a_large_file_changes: "F a=one0 F b=two0" => "F b=one1 F c=two0", BOTH_WAYS;
    things_are_deleted: "f a=1 f d/b=2 f d/e/c=3 d d/f s l=a p q f k=0 f x=5 h y=x" => "f k=0 d d f y=5", BOTH_WAYS;
    types_change: "f a=1 d b f c/d=2 s e=a p f s g=c" => "s a=c f b=3 s c=b p e d f f g/h=1", BOTH_WAYS;
    types_change_and_nothing_is_deleted:
        "f a=1 d b f c/d=2 s e=a p f f k/l=7" => "s a=c f b=3 s c=b p e d f f n/m=8",
        &[step(1, "", KEEP), step(0, "", KEEP)];
    files_move_and_nothing_is_deleted:
        "f a=1 f d/b=2 f d/c=3 h d/h=a" => "f b=1 f e/b=2 f e/c=3 h e/h=b", &[step(1, "", KEEP), step(0, "", KEEP)];
    contents_and_metadata_change:
        "f a=1 f b=2 f c=3,640 f d/e=4,x f d/g=5 s l=a" => "f a=one f b=2,600 f c=3 f d/e=4 f d/g=5,x s l=b", BOTH_WAYS;
    nested_roots:
        "f a=1 f sub/a=2 f sub/d/b=3 f sub/d/c=4 f o=5" => "f a=one f sub/e/b=3 f sub/e/c=4 f sub/a=22 f o=2",
        &[step(1, "sub", MIRROR), step(1, "", MIRROR), step(0, "sub", MIRROR), step(0, "", MIRROR)];
    a_nested_root_comes_and_goes:
        "f a=1 f sub=2" => "f a=1 f sub/d/b=2 f sub/d/c=4",
        &[step(1, "", MIRROR), step(1, "sub/d", MIRROR), step(1, "", KEEP)];
    only_direct_files:
        "f a=1 f b=2 f d/e=3 f x/y=4" => "f a=2 f b=1 f c=3 d d f x=4",
        &[step(1, "", &["-d", "--force-delete"]), step(0, "", MIRROR)];
    the_root_is_a_file_and_a_directory: "f @=1" => "f a=1 f b/c=2", BOTH_WAYS;
}
