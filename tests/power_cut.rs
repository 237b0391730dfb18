//! Power cuts: the store lies on a loop-mounted ext4, xfs or btrfs whose image is cloned at random moments, while
//! backups go on. A clone is what a disk holds at that moment, and nothing of what was in memory.
//!
//! Each clone is mounted (the file system recovers), a daemon started on it (the store recovers): the copy is a state
//! that was on its way at that moment or the one before, never older than a receipt that was given before the clone was
//! taken; history holds all that the states before held; and the next run goes through. Needs root, loop devices and the tools of the file systems.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "power_cut/past.rs"]
mod past;
#[path = "support/crash/mod.rs"]
mod support;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::forest::Forest;
use support::history::History;
use support::patience::waited;
use support::rng::Rng;
use support::state::{State, contents, differences, read};
use support::world::{World, assert_no_leftovers, finish, snapshots};

/// Clones of each file system; `RBBACKUP_TEST_CLONES` asks for more.
const CLONES: usize = 16;
/// No file system may take longer than this to gather them.
const GATHER_MAX: Duration = Duration::from_secs(150);
const MIRROR: &[&str] = &["-rd", "--force-delete"];

/// File systems are made and mounted one after the other: they share loop devices and the disk.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A mounted image; unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    fn new(image: &Path, at: &Path, options: &str) -> Self {
        std::fs::create_dir_all(at).unwrap();
        must("mount", &["-o", &format!("loop{options}"), path(image), path(at)]);
        Self(at.to_path_buf())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if !waited(Duration::from_secs(10), || run("umount", &[path(&self.0)]).is_ok()) {
            eprintln!("'{}' stays mounted", self.0.display());
        }
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(arguments).env("PATH", path).output();
    let output = output.map_err(|e| format!("{program}: {e}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{program} {arguments:?}: {said}")) }
}

fn must(program: &str, arguments: &[&str]) {
    run(program, arguments).unwrap();
}

/// An image with a file system on it. Sparse.
fn image(at: &Path, megabytes: u64, make: &[&str]) -> Result<(), String> {
    std::fs::File::create(at).unwrap().set_len(megabytes << 20).unwrap();
    run(make[0], &[&make[1..], &[path(at)]].concat())
}

/// A disk that can clone files, below `dir`; or why there is none.
fn host(dir: &Path) -> Result<Mount, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("it needs root, to mount file systems".into());
    }
    let (disk, at) = (dir.join("host.img"), dir.join("host"));
    image(&disk, 6144, &["mkfs.xfs", "-q", "-m", "reflink=1"])?;
    std::fs::create_dir_all(&at).unwrap();
    run("mount", &["-o", "loop", path(&disk), path(&at)])?;
    let mount = Mount(at);
    std::fs::write(mount.0.join("probe"), [0; 8192]).unwrap();
    run("cp", &["--reflink=always", path(&mount.0.join("probe")), path(&mount.0.join("probe2"))])?;
    Ok(mount)
}

struct Clone {
    image: PathBuf,
    /// Index of the newest state for which there was a receipt before the clone was begun; 0: none.
    at_least: usize,
    /// Index of the newest state that was on its way when it was done.
    at_most: usize,
}

/// Backs up one state after the other until told to stop. `states[i]` is state `i`; state 0 is nothing.
fn back_up(world: &World, seed: u64, progress: &Progress) {
    let mut forest = Forest::plant(&world.source, seed);
    while !progress.stop.load(Ordering::SeqCst) {
        let daemon = world.daemon(None);
        // A daemon serves several runs, then another takes over.
        for _ in 0..6 {
            let number = {
                let mut states = progress.states.lock().unwrap();
                states.push(read(&world.source));
                states.len() - 1
            };
            progress.begun.store(number, Ordering::SeqCst);
            let (status, said) = finish(world.start_push(&daemon, &world.source, MIRROR));
            assert!(status.success(), "{status}: {said}");
            progress.receipt.store(number, Ordering::SeqCst);
            forest.grow();
        }
        daemon.stop();
    }
}

#[derive(Default)]
struct Progress {
    states: Mutex<Vec<State>>,
    begun: AtomicUsize,
    receipt: AtomicUsize,
    stop: AtomicBool,
}

/// Stops the backups, also when the test fails: a scope waits for its threads.
struct StopAtEnd<'a>(&'a Progress);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::SeqCst);
    }
}

/// Takes clones while backups go on.
fn gather(world: &World, disk: &Path, rng: &mut Rng, progress: &Progress) -> Vec<Clone> {
    let wanted = std::env::var("RBBACKUP_TEST_CLONES").map_or(CLONES, |text| text.parse().unwrap());
    let end = Instant::now() + GATHER_MAX;
    let mut clones = Vec::new();
    let seed = rng.next();
    std::thread::scope(|scope| {
        let backups = scope.spawn(|| back_up(world, seed, progress));
        let _stop = StopAtEnd(progress);
        while clones.len() < wanted && !backups.is_finished() {
            assert!(Instant::now() < end, "only {} clones in {GATHER_MAX:?}", clones.len());
            // Not to wait for anything: the cut is to come at a random moment.
            std::thread::sleep(Duration::from_micros(rng.below(400_000)));
            let image = disk.with_extension(format!("{}", clones.len()));
            let at_least = progress.receipt.load(Ordering::SeqCst);
            must("cp", &["--reflink=always", path(disk), path(&image)]);
            let at_most = progress.begun.load(Ordering::SeqCst);
            clones.push(Clone { image, at_least, at_most });
        }
    });
    clones
}

/// Starts a daemon on a clone; which state it holds.
fn judge(world: &mut World, clone: &Clone, mount: &Path, states: &[State]) -> usize {
    let store = mount.join("store");
    let home = world.home.clone();
    if !store.join(".rbbackup/key").exists() {
        // From before the first start: the daemon gets another key than the one that the client knows.
        assert_eq!(clone.at_least, 0, "{}: the daemon's key is lost", clone.image.display());
        let name = clone.image.extension().unwrap().to_string_lossy().into_owned();
        world.home = world.dir.path().join(format!("home-{name}"));
        std::fs::create_dir(&world.home).unwrap();
    }
    let what = format!("{}: states {} to {}", clone.image.display(), clone.at_least, clone.at_most);
    let daemon = world.daemon_on(&store, None);
    let found = world.copy_in(&store).map(|copy| read(&copy)).unwrap_or_default();
    let held = snapshots(&store).len();
    assert!((clone.at_least..=clone.at_most).contains(&held), "{what}: it has {held} snapshots");
    let differences = differences(&found, &states[held]);
    assert!(differences.is_empty(), "{what}: not what snapshot {held} was:\n{}", differences.join("\n"));
    assert_no_leftovers(&store, true);
    let kept = History::default().contents(&store);
    let kept: HashSet<_> = kept.union(&contents(&found)).copied().collect();
    assert!(states[..=held].iter().all(|state| contents(state).is_subset(&kept)), "{what}: content is lost");
    // The client is ahead of this store, as after a real cut.
    world.push(&daemon, &world.source, MIRROR);
    let found = read(&world.copy_in(&store).unwrap());
    let differences = support::state::differences(&found, &read(&world.source));
    assert!(differences.is_empty(), "{what}, and run again:\n{}", differences.join("\n"));
    assert_no_leftovers(&store, false);
    daemon.stop();
    world.home = home;
    held
}

/// A disk to cut the power of.
struct Disk<'a> {
    name: &'a str,
    image: PathBuf,
    /// Mount options of a clone beside its original.
    again: &'a str,
}

/// Calls `cut` with a world and a disk with this file system, unless there can be none.
fn with_disk(name: &str, megabytes: u64, make: &[&str], again: &str, cut: &dyn Fn(World, &Disk<'_>)) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let world = World::new();
    let host = match host(world.dir.path()) {
        Ok(host) => host,
        Err(why) => {
            eprintln!("skipped on {name}: {why}");
            return;
        }
    };
    let disk = Disk { name, image: host.0.join(format!("{name}.img")), again };
    match image(&disk.image, megabytes, make) {
        Ok(()) => cut(world, &disk),
        Err(why) => eprintln!("skipped on {name}: {why}"),
    }
}

/// What lies on a clone, mounted.
fn mount_clone(world: &World, disk: &Disk<'_>, clone: &Clone) -> Mount {
    // Two file systems with one identity must never be known at once.
    let _ = run("btrfs", &["device", "scan", "--forget"]);
    Mount::new(&clone.image, &world.dir.path().join("clone"), disk.again)
}

fn cut_commits(mut world: World, disk: &Disk<'_>) {
    let name = disk.name;
    let mut rng = Rng::announced(&format!("power cuts on {name}"));
    let progress = Progress::default();
    progress.states.lock().unwrap().push(State::new());
    let clones = {
        let mount = Mount::new(&disk.image, &world.dir.path().join("disk"), "");
        world.store = mount.0.join("store");
        gather(&world, &disk.image, &mut rng, &progress)
    };
    let states = progress.states.into_inner().unwrap();
    let (mut newer, mut pending) = (0, 0);
    for clone in &clones {
        let mount = mount_clone(&world, disk, clone);
        let journals = mount.0.join("store/.rbbackup/journal").read_dir();
        pending += usize::from(journals.is_ok_and(|mut names| names.next().is_some()));
        newer += usize::from(judge(&mut world, clone, &mount.0, &states) > clone.at_least);
        drop(mount);
        std::fs::remove_file(&clone.image).unwrap();
    }
    let (clones, states) = (clones.len(), states.len() - 1);
    eprintln!(
        "{name}: {clones} clones of {states} states; {pending} had a journal to finish, \
         {newer} were newer than the last receipt"
    );
}

/// On one file system: of commits, and of packing and pruning.
macro_rules! cuts {
    ($commits:ident, $past:ident, $($disk:expr),*) => {
        #[test]
        #[ignore = "slow: needs root and loop devices"]
        fn $commits() {
            with_disk($($disk),*, &cut_commits);
        }

        #[test]
        #[ignore = "slow: needs root and loop devices"]
        fn $past() {
            with_disk($($disk),*, &past::cut);
        }
    };
}

cuts!(power_cuts_on_ext4, power_cuts_of_the_past_on_ext4, "ext4", 384, &["mkfs.ext4", "-q", "-F"], "");
cuts!(power_cuts_on_xfs, power_cuts_of_the_past_on_xfs, "xfs", 512, &["mkfs.xfs", "-q"], ",nouuid");
cuts!(power_cuts_on_btrfs, power_cuts_of_the_past_on_btrfs, "btrfs", 512, &["mkfs.btrfs", "-q"], "");
