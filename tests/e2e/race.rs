//! The symlink race (WANTS 1): somebody swaps a folder for a link that leads outside, all the time, while ten thousand files are
//! written, replaced and removed in it. Not one byte and not one name comes to be outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::support::daemon::World;
use crate::support::trees::{assert_same, shape, write};

/// In every run of the tests, and as many as WANTS 1 asks for.
const FEW: usize = 1_000;
const MANY: usize = 10_000;

/// Swaps `folder` and a link to `outside`, until it is stopped; then the folder is in its place.
struct Swapper {
    stop: Arc<AtomicBool>,
    swaps: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Swapper {
    fn start(folder: &Path, outside: &Path) -> Self {
        let link = folder.parent().unwrap().join("the other");
        std::os::unix::fs::symlink(outside, &link).unwrap();
        let (stop, swaps) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (until, count, folder) = (stop.clone(), swaps.clone(), folder.to_path_buf());
        let swap = move || {
            while !until.load(Ordering::Relaxed) || count.load(Ordering::Relaxed) % 2 == 1 {
                // A commit may have moved what we know by name: then there is nothing to swap for a while.
                if renameat_with(CWD, &folder, CWD, &link, RenameFlags::EXCHANGE).is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                } else if until.load(Ordering::Relaxed) {
                    break;
                }
                thread::sleep(Duration::from_micros(20));
            }
            if link.is_symlink() {
                let _ = fs::remove_file(&link);
            }
        };
        Self { stop, swaps, thread: Some(thread::spawn(swap)) }
    }

    fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.swaps.load(Ordering::Relaxed)
    }
}

/// What must stay as it is: it has the names that are written, replaced and removed inside.
fn victims(world: &World, files: usize) -> PathBuf {
    let outside = world.path("outside");
    for n in (0..files).step_by(100) {
        write(&outside.join(name(n)), format!("victim {n}"));
    }
    outside
}

fn name(n: usize) -> String {
    format!("f{n:05}")
}

fn fill(folder: &Path, files: usize, word: &str) {
    fs::create_dir_all(folder).unwrap();
    for n in 0..files {
        fs::write(folder.join(name(n)), format!("{word} {n}")).unwrap();
    }
}

#[test]
fn nothing_is_written_through_a_folder_of_the_copy_that_becomes_a_link() {
    write_to_the_copy(FEW);
}

#[test]
#[ignore = "slow: ten thousand files are written three times"]
fn nor_are_ten_thousand() {
    write_to_the_copy(MANY);
}

fn write_to_the_copy(files: usize) {
    let (world, daemon, client) = World::served();
    let client = client.with(&["--retry-for", "0"]);
    let (inside, outside) = (world.source.join("in"), victims(&world, files));
    write(&inside.join("first"), "there before");
    client.push("-r", &world.source);
    let before = shape(&outside);
    let swapper = Swapper::start(&world.copy().join("in"), &outside);
    // Whatever becomes of these runs: they are refused, or find the folder while it is there.
    fill(&inside, files, "new");
    let mut codes = vec![client.try_push("-r", &world.source).code];
    fill(&inside, files, "changed content");
    codes.push(client.try_push("-r", &world.source).code);
    for n in (0..files).step_by(2) {
        fs::remove_file(inside.join(name(n))).unwrap();
    }
    codes.push(client.try_push("-rd --force-delete", &world.source).code);
    let swaps = swapper.end();
    assert_eq!(shape(&outside), before, "after {swaps} swaps, {codes:?}");
    assert!(swaps > 20, "{swaps} swaps");
    // The daemon is there, and puts all right. What a commit had to move may have been the link, which is gone: then it says
    // what to do.
    if client.try_push("-rd --force-delete", &world.source).said().contains("move the journal away") {
        for journal in fs::read_dir(world.store.join(".rbbackup/journal")).unwrap() {
            let journal = journal.unwrap();
            fs::rename(journal.path(), world.path(journal.file_name().to_str().unwrap())).unwrap();
        }
    }
    client.push("-rd --force-delete", &world.source);
    assert_same(&world.copy(), &world.source);
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}

#[test]
fn nothing_is_restored_through_a_folder_of_the_target_that_becomes_a_link() {
    restore_to_the_target(FEW);
}

#[test]
#[ignore = "slow: ten thousand files are restored three times"]
fn nor_are_ten_thousand_restored() {
    restore_to_the_target(MANY);
}

fn restore_to_the_target(files: usize) {
    let (world, _daemon, client) = World::served();
    let (inside, outside) = (world.source.join("in"), victims(&world, files));
    fill(&inside, files, "content");
    client.push("-r", &world.source);
    let target = world.path("to/source");
    fill(&target.join("in"), files, "old content");
    write(&target.join("in/extra"), "not in the backup");
    let before = shape(&outside);
    let swapper = Swapper::start(&target.join("in"), &outside);
    let to = world.path("to");
    let restore = |flags: &[&str]| {
        let args = [&["restore", world.source.to_str().unwrap(), "--to", to.to_str().unwrap()], flags].concat();
        client.with(&["--retry-for", "0"]).run(&args).code
    };
    let codes = [restore(&[]), restore(&["--overwrite", "always"]), restore(&["--delete"])];
    let swaps = swapper.end();
    assert_eq!(shape(&outside), before, "after {swaps} swaps, {codes:?}");
    assert!(swaps > 20, "{swaps} swaps");
    assert_eq!(restore(&["--delete"]), 0);
    assert_same(&target, &world.source);
}
