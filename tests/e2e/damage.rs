//! The damage matrix: whatever is done to whatever file of a store, it is harmless, or verify finds and names it; nothing
//! panics, and no wrong byte is ever restored.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::support::client::{Client, Outcome};
use crate::support::daemon::{World, rbbackupd, shell};
use crate::support::state::{Kind, State, read};
use crate::support::trees::{noise, write};

const DAMAGES: [&str; 5] = ["delete", "truncate", "flip", "flip the end", "garbage"];

/// Without its first file a store is none.
const NO_STORE: &str = "holds no rbbackup store";

fn damage(path: &Path, how: &str) {
    let mut bytes = fs::read(path).unwrap();
    match how {
        "delete" => return fs::remove_file(path).unwrap(),
        "truncate" => bytes.truncate(bytes.len() / 2),
        "flip" => {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
        }
        "flip the end" => *bytes.last_mut().unwrap() ^= 4,
        _ => bytes = noise(99, bytes.len()),
    }
    fs::write(path, bytes).unwrap();
}

/// A store with three snapshots, of which the first two are history, and the trees that they were.
struct Stored {
    world: World,
    trees: Vec<State>,
}

fn client(world: &World, store: &Path, home: &str) -> Client {
    Client::new(&world.path(home), &["--store", store.to_str().unwrap()])
}

fn stored() -> Stored {
    let world = World::new();
    let mut trees = Vec::new();
    for round in 0..3 {
        write(&world.source.join("same"), noise(7, 4_000));
        write(&world.source.join("small"), noise(10 + round, 5_000));
        write(&world.source.join("large"), noise(20 + round, 400_000));
        write(&world.source.join(format!("d/only{round}")), format!("only in round {round}"));
        let _ = fs::remove_file(world.source.join(format!("d/only{}", round.wrapping_sub(1))));
        trees.push(read(&world.source));
        client(&world, &world.store, "home").push("-rd", &world.source);
    }
    Stored { world, trees }
}

fn files_below(top: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![top.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.retain(|path| fs::metadata(path).unwrap().size() > 0);
    found.sort();
    found
}

impl Stored {
    /// A copy of the store in which `path` (relative to it) is damaged.
    fn damaged(&self, path: &Path, how: &str) -> PathBuf {
        let store = self.world.path("damaged");
        let _ = fs::remove_dir_all(&store);
        shell("cp", &["-a".as_ref(), self.world.store.as_os_str(), store.as_os_str()]);
        damage(&store.join(path), how);
        store
    }

    /// Damages it in every way, and looks at what becomes of it. `harmless`: the ways that nobody needs to notice.
    fn survives(&self, path: &Path, harmless: &[&str]) {
        for how in DAMAGES {
            let store = self.damaged(path, how);
            let what = format!("{how} {}", path.display());
            let verified = rbbackupd(&["verify", store.to_str().unwrap()]);
            no_panic(&verified, &what);
            if !harmless.contains(&how) || verified.code != 0 {
                assert_eq!(verified.code, 1, "{what}: {}", verified.said());
                self.is_named(path, &verified, &what);
            }
            self.restores_right_or_not_at_all(&store, &what);
            // The next backup goes through, or says why not; what it says is done is so.
            let again = client(&self.world, &store, "again").try_push("-rd", &self.world.source);
            no_panic(&again, &what);
            if again.code == 0 {
                let copy = store.join("127.0.0.1").join(crate::support::daemon::login());
                let copy = copy.join(self.world.source.strip_prefix("/").unwrap());
                assert_eq!(read(&copy), self.trees[2], "{what}: after another backup");
            }
        }
    }

    /// By its own name, or by a path whose content it held.
    fn is_named(&self, path: &Path, verified: &Outcome, what: &str) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let number = name.split('.').next().unwrap().trim_start_matches('0');
        let source = self.world.source.to_str().unwrap();
        let named = [name.to_owned(), format!("snapshot {number}:"), format!("damaged: {source}"), NO_STORE.to_owned()];
        assert!(named.iter().any(|name| verified.said().contains(name)), "{what}: {}", verified.said());
    }

    fn restores_right_or_not_at_all(&self, store: &Path, what: &str) {
        for (round, tree) in self.trees.iter().enumerate() {
            let to = self.world.path("out");
            let _ = fs::remove_dir_all(&to);
            let at = (round + 1).to_string();
            let words = ["restore", "--at", &at, "--to", to.to_str().unwrap(), self.world.source.to_str().unwrap()];
            let restored = client(&self.world, store, "reader").run(&words);
            no_panic(&restored, what);
            let found = if to.join("source").exists() { read(&to.join("source")) } else { State::new() };
            if restored.code == 0 {
                assert_eq!(found, *tree, "{what}: snapshot {at}");
                continue;
            }
            assert!([1, 3].contains(&restored.code), "{what}: {}", restored.said());
            for (path, node) in found.iter().filter(|(_, node)| matches!(node.kind, Kind::File(_))) {
                assert_eq!(Some(&node.kind), tree.get(path).map(|node| &node.kind), "{what}: {path:?}");
            }
        }
    }
}

fn no_panic(outcome: &Outcome, what: &str) {
    assert!(!outcome.said().contains("panicked"), "{what}: {}", outcome.said());
    assert!(outcome.code >= 0, "{what}: {}", outcome.said());
}

fn below_store(stored: &Stored, folder: &str) -> Vec<PathBuf> {
    let files = files_below(&stored.world.store.join(folder));
    files.iter().map(|path| path.strip_prefix(&stored.world.store).unwrap().to_path_buf()).collect()
}

#[test]
fn plain_files() {
    let stored = stored();
    let files = below_store(&stored, "127.0.0.1");
    assert_eq!(files.len(), 4);
    files.iter().for_each(|path| stored.survives(path, &[]));
}

#[test]
fn packs() {
    let stored = stored();
    let packs = below_store(&stored, ".rbbackup/vault");
    assert!(!packs.is_empty(), "history is packed");
    packs.iter().for_each(|path| stored.survives(path, &[]));
}

#[test]
fn snapshots_and_manifests() {
    let stored = stored();
    let files = below_store(&stored, ".rbbackup/snapshots");
    assert!(files.len() >= 6, "{files:?}");
    for path in files {
        // A snapshot whose record is gone is none: nothing else tells of it.
        let record = path.extension().is_some_and(|extension| extension == "snapshot");
        stored.survives(&path, if record { &["delete"] } else { &[] });
    }
}

#[test]
fn the_catalog_is_a_cache() {
    let stored = stored();
    for path in below_store(&stored, ".rbbackup").iter().filter(|path| path.to_str().unwrap().contains("catalog")) {
        stored.survives(path, &DAMAGES);
    }
}

#[test]
fn journals() {
    let stored = stored();
    let path = Path::new(".rbbackup/journal/0123456789abcdef0123456789abcdef");
    fs::write(stored.world.store.join(path), noise(5, 300)).unwrap();
    stored.survives(path, &["delete"]);
}

#[test]
fn other_files_of_the_store() {
    let stored = stored();
    stored.survives(Path::new(".rbbackup/format"), &[]);
    // Another id that is one: clients read their sources again, and that is all.
    stored.survives(Path::new(".rbbackup/id"), &["flip", "garbage"]);
    rbbackupd(&["verify", stored.world.store.to_str().unwrap()]).expect(0, &["all intact"]);
    for path in below_store(&stored, ".rbbackup/runs").iter().chain(&below_store(&stored, ".rbbackup/verified")) {
        stored.survives(path, &DAMAGES);
    }
}

/// Without a catalog the newest manifest says where moved content is; one of its names may be damaged or gone.
#[test]
fn content_with_two_names_is_found_by_the_good_one_without_a_catalog() {
    let world = World::new();
    let home = client(&world, &world.store, "home");
    let content = noise(1, 5_000);
    write(&world.source.join("old"), &content);
    home.push("-rd", &world.source);
    fs::rename(world.source.join("old"), world.source.join("a")).unwrap();
    write(&world.source.join("b"), &content);
    home.push("-rd", &world.source);
    for (bad, how) in [("a", "delete"), ("b", "delete"), ("a", "flip"), ("b", "flip")] {
        let (store, to) = (world.path(&format!("{how} {bad}")), world.path(&format!("from {how} {bad}")));
        shell("cp", &["-a".as_ref(), world.store.as_os_str(), store.as_os_str()]);
        for name in ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"] {
            let _ = fs::remove_file(store.join(".rbbackup").join(name));
        }
        let copy = store.join(world.copy().strip_prefix(&world.store).unwrap());
        damage(&copy.join(bad), how);
        let (source, to_text) = (world.source.to_str().unwrap(), to.to_str().unwrap());
        client(&world, &store, bad).run(&["restore", "--at", "1", source, "--to", to_text]).expect(0, &[]);
        assert!(fs::read(to.join("source/old")).unwrap() == content, "{how} {bad}");
    }
}
