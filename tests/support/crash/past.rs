//! A source with a past that is worth pruning, and what is left of it: intact, and restored as the source was.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use super::forest::Forest;
use super::rng::Rng;
use super::state::{State, differences, read};
use super::world::{World, finish, snapshots};

/// Keeps two of everything, however young.
const TWO: &str = "[retention]\nlast = 2\nhourly = 0\ndaily = 0\nweekly = 0\nmonthly = 0\nyearly = 0\nmin-age = 0\n";
/// Contents that come and go.
const SEASONS: u64 = 8;
const IMAGE_BYTES: usize = 1 << 20;

/// A tree, an image of which little changes, and files that come and go: so a little of an old pack is needed again.
pub struct Years {
    forest: Forest,
    rng: Rng,
    image: Vec<u8>,
}

impl Years {
    pub fn plant(source: &Path, seed: u64) -> Self {
        fs::create_dir_all(source.join("seasons")).unwrap();
        let mut rng = Rng::new(seed);
        let (forest, image) = (Forest::plant(&source.join("forest"), rng.next()), rng.bytes(IMAGE_BYTES));
        let mut years = Self { forest, rng, image };
        years.go_on(source);
        years
    }

    pub fn go_on(&mut self, source: &Path) {
        self.forest.grow();
        let (at, change) = (self.rng.below(IMAGE_BYTES as u64 - 500) as usize, self.rng.bytes(500));
        self.image[at..at + 500].copy_from_slice(&change);
        fs::write(source.join("image"), &self.image).unwrap();
        for number in 0..SEASONS {
            let path = source.join("seasons").join(number.to_string());
            let _ = fs::remove_file(&path);
            if self.rng.below(3) > 0 {
                fs::write(path, Rng::new(number).bytes(60_000 + 40_000 * number as usize)).unwrap();
            }
        }
    }
}

/// Daemons of this world, and [`prune`], keep two snapshots.
pub fn keep_two(world: &mut World) {
    let path = world.dir.path().join("rbbackupd.toml");
    fs::write(&path, TWO).unwrap();
    world.config = Some(path);
}

/// What `rbbackupd` says, which must succeed.
fn rbbackupd(world: &World, arguments: &[&str], what: &str) -> String {
    let mut command = world.command(env!("CARGO_BIN_EXE_rbbackupd"));
    let output = command.args(arguments).stdout(Stdio::piped()).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}: rbbackupd {arguments:?}: {}: {said}", output.status);
    said
}

/// Prunes a store, by its daemon if it has one.
pub fn prune(world: &World, store: &Path, by_daemon: bool, what: &str) -> String {
    let (store, config) = (store.to_str().unwrap(), world.config.as_ref().unwrap().to_str().unwrap());
    let own = ["prune", store, "--config", config];
    rbbackupd(world, if by_daemon { &own[..2] } else { &own }, what)
}

/// Everything is intact, and every snapshot that is left gives what the source was. `states[n]`: at snapshot n.
pub fn assert_intact(world: &World, store: &Path, states: &[State], what: &str) {
    rbbackupd(world, &["verify", "-q", store.to_str().unwrap()], what);
    for record in snapshots(store) {
        // In memory, if there is such a place: how long a busy disk takes to flush is not this test's business.
        let to = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir_in(world.dir.path())).unwrap();
        let mut command = world.command(env!("CARGO_BIN_EXE_rbbackup"));
        command.arg("--store").arg(store).args(["-q", "restore", "--at", &record.number.to_string(), "--to"]);
        let restore = command.arg(to.path()).arg(&world.source).stderr(Stdio::piped()).spawn().unwrap();
        let (status, said) = finish(restore);
        assert!(status.success(), "{what}: snapshot {}: {status}: {said}", record.number);
        let found = read(&to.path().join("source"));
        let differences = differences(&found, &states[usize::try_from(record.number).unwrap()]);
        assert!(differences.is_empty(), "{what}: not what snapshot {} was:\n{}", record.number, differences.join("\n"));
    }
}
