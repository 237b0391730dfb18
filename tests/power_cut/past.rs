//! Power cuts while a daemon packs what was retired, and while it prunes: packs are rewritten and removed, snapshots
//! expire. What a clone holds is intact, every snapshot that is left is what the source was, and the next pruning and the
//! next run go through.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::support::past::{Years, assert_intact, keep_two, prune};
use super::support::patience::{PATIENCE, wait_until, waited};
use super::support::rng::Rng;
use super::support::state::{State, differences, read};
use super::support::world::{World, snapshots};
use super::{Clone, Disk, MIRROR, Mount, mount_clone, must, path};

/// Clones of each file system; `RBBACKUP_TEST_CLONES` asks for more.
const CLONES: usize = 4;

/// What is being done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Else,
    Packing,
    Pruning,
}

struct Progress {
    /// `states[i]` is snapshot `i`; 0 is nothing.
    states: Mutex<Vec<State>>,
    /// And since when.
    work: Mutex<(Work, Instant)>,
    /// How long packing and pruning took the last time.
    took: Mutex<[Duration; 2]>,
    /// Snapshots for which there is a receipt, all that are begun.
    receipts: AtomicUsize,
    stop: AtomicBool,
}

impl Progress {
    fn begin(&self, work: Work) {
        let mut now = self.work.lock().unwrap();
        let took = now.1.elapsed();
        let place = match now.0 {
            Work::Packing => Some(0),
            Work::Pruning => Some(1),
            Work::Else => None,
        };
        if let Some(place) = place {
            self.took.lock().unwrap()[place] = took;
        }
        *now = (work, Instant::now());
    }
}

/// Stops the backups, also when the test fails: a scope waits for its threads.
struct StopAtEnd<'a>(&'a Progress);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::SeqCst);
    }
}

/// Backs up, waits until it is packed, prunes, and so on.
fn live(world: &World, seed: u64, progress: &Progress) {
    let mut years = Years::plant(&world.source, seed);
    let retired = world.store.join(".rbbackup/retired");
    while !progress.stop.load(Ordering::SeqCst) {
        let daemon = world.daemon(None);
        for _ in 0..3 {
            for push in 0..3 {
                years.go_on(&world.source);
                let number = {
                    let mut states = progress.states.lock().unwrap();
                    states.push(read(&world.source));
                    states.len() - 1
                };
                world.push(&daemon, &world.source, MIRROR);
                if push == 2 {
                    // By the last receipt, all that came before is about to be packed.
                    progress.begin(Work::Packing);
                }
                progress.receipts.store(number, Ordering::SeqCst);
            }
            wait_until("history to be packed", || retired.read_dir().unwrap().next().is_none());
            progress.begin(Work::Pruning);
            prune(world, &world.store, true, "between the cuts");
            progress.begin(Work::Else);
        }
        daemon.stop();
    }
}

/// Takes clones in turns while it packs and while it prunes.
fn gather(world: &World, disk: &Path, rng: &mut Rng, progress: &Progress) -> Vec<Clone> {
    let wanted = std::env::var("RBBACKUP_TEST_CLONES").map_or(CLONES, |text| text.parse().unwrap());
    let mut clones = Vec::new();
    let seed = rng.next();
    std::thread::scope(|scope| {
        let backups = scope.spawn(|| live(world, seed, progress));
        let _stop = StopAtEnd(progress);
        // What is to be cut has happened once.
        assert!(waited(PATIENCE, || !progress.took.lock().unwrap()[1].is_zero() || backups.is_finished()));
        while clones.len() < wanted && !backups.is_finished() {
            let (work, place) = if clones.len() % 2 == 0 { (Work::Pruning, 1) } else { (Work::Packing, 0) };
            let is_elsewhere = |now: Work| now != work && !backups.is_finished();
            assert!(waited(PATIENCE, || is_elsewhere(progress.work.lock().unwrap().0)));
            assert!(waited(PATIENCE, || !is_elsewhere(progress.work.lock().unwrap().0)));
            // Not to wait for anything: the cut is to come at a random moment.
            let most = progress.took.lock().unwrap()[place].as_micros() as u64;
            std::thread::sleep(Duration::from_micros(rng.below(most + 1)));
            let image = disk.with_extension(format!("{}", clones.len()));
            let at_least = progress.receipts.load(Ordering::SeqCst);
            must("cp", &["--reflink=always", path(disk), path(&image)]);
            let at_most = progress.states.lock().unwrap().len() - 1;
            clones.push(Clone { image, at_least, at_most });
        }
    });
    clones
}

/// How many snapshots it has, whether something waits to be packed, and what pruning it said.
fn judge(world: &mut World, clone: &Clone, mount: &Path, states: &[State]) -> (usize, bool, String) {
    let store = mount.join("store");
    let what = format!("{}: states {} to {}", clone.image.display(), clone.at_least, clone.at_most);
    let waits = store.join(".rbbackup/retired").read_dir().unwrap().next().is_some();
    // This daemon lets nothing go that is younger than its default says.
    let config = world.config.take();
    let daemon = world.daemon_on(&store, None);
    let numbers: Vec<u64> = snapshots(&store).iter().map(|record| record.number).collect();
    let newest = numbers.last().copied().unwrap_or_default();
    assert!((clone.at_least..=clone.at_most).contains(&(newest as usize)), "{what}: it has {numbers:?}");
    assert!(numbers.contains(&(newest - 1)), "{what}: two are kept, and it has {numbers:?}");
    let found = read(&world.copy_in(&store).unwrap());
    let differing = differences(&found, &states[newest as usize]);
    assert!(differing.is_empty(), "{what}: not what snapshot {newest} was:\n{}", differing.join("\n"));
    assert_intact(world, &store, states, &what);
    daemon.stop();
    world.config = config;
    let what = format!("{what}, and pruned again");
    let said = prune(world, &store, false, &what);
    // One that took much away may keep what was before it, too.
    let left: Vec<u64> = snapshots(&store).iter().map(|record| record.number).collect();
    assert!(left.ends_with(&[newest - 1, newest]), "{what}: {left:?}");
    let daemon = world.daemon_on(&store, None);
    world.push(&daemon, &world.source, MIRROR);
    let differing = differences(&read(&world.copy_in(&store).unwrap()), &read(&world.source));
    assert!(differing.is_empty(), "{what}, and run again:\n{}", differing.join("\n"));
    daemon.stop();
    let mut states = states.to_vec();
    states.truncate(newest as usize + 1);
    states.push(read(&world.source));
    assert_intact(world, &store, &states, &what);
    (numbers.len(), waits, said)
}

/// See the module.
pub fn cut(mut world: World, disk: &Disk<'_>) {
    keep_two(&mut world);
    let mut rng = Rng::announced(&format!("power cuts of the past on {}", disk.name));
    let progress = Progress {
        states: Mutex::new(vec![State::new()]),
        work: Mutex::new((Work::Else, Instant::now())),
        took: Mutex::default(),
        receipts: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
    };
    let clones = {
        let mount = Mount::new(&disk.image, &world.dir.path().join("disk"), "");
        world.store = mount.0.join("store");
        gather(&world, &disk.image, &mut rng, &progress)
    };
    let states = progress.states.into_inner().unwrap();
    for clone in &clones {
        let mount = mount_clone(&world, disk, clone);
        let (snapshots, waits, pruned) = judge(&mut world, clone, &mount.0, &states);
        let waits = if waits { ", something to pack" } else { "" };
        eprintln!("state {}: {snapshots} snapshots{waits}; pruned: {}", clone.at_least, pruned.trim());
        drop(mount);
        std::fs::remove_file(&clone.image).unwrap();
    }
    let took = progress.took.into_inner().unwrap();
    eprintln!("{}: {} clones; packing and pruning took {took:?}", disk.name, clones.len());
}
