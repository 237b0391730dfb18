//! Tests of what a commit looks at before its journal.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::backup::entry::Meta;
use crate::store::journal::TouchStep;

struct Nothing;

impl Publish for Nothing {
    fn prepare(&self) -> Result<(), SnapshotError> {
        Ok(())
    }

    fn begin(&self) -> Result<(), SnapshotError> {
        Ok(())
    }

    fn publish(&self) -> Result<(), SnapshotError> {
        Ok(())
    }
}

struct Case {
    temp: tempfile::TempDir,
    dirs: CommitDirs,
    journal: Journal,
}

fn whole(dirs: &CommitDirs, journal: &Journal, publish: &dyn Publish) -> Result<(), CommitError> {
    let ready = make_ready(dirs, journal, publish, &|_| {})?;
    commit(ready, dirs, journal, publish, &|_| {})
}

impl Case {
    /// A copy that holds `home/old`, and staging with `r/new` for the root `home`.
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        for dir in ["copy/home", "own/journal", "own/retired", "own/staging/s/tree/r/new"] {
            fs::create_dir_all(temp.path().join(dir)).unwrap();
        }
        fs::write(temp.path().join("copy/home/old"), "old").unwrap();
        let open = |name| Arc::new(SafeDir::open_operator(&temp.path().join(name)).unwrap());
        let (own, copy) = (open("own"), open("copy"));
        let dirs = CommitDirs { own, copy, policy: StorePolicy { is_root: false }, turn: Arc::default() };
        let empty = || Bytes(Vec::new());
        let journal = Journal {
            run: RunId([7; 16]),
            node: empty(),
            user: empty(),
            root: rel("home"),
            staging: Bytes(b"s".to_vec()),
            record: empty(),
            parks: Vec::new(),
            places: Vec::new(),
            touches: Vec::new(),
        };
        Self { temp, dirs, journal }
    }

    fn ino(&self, path: &str) -> u64 {
        fs::symlink_metadata(self.temp.path().join(path)).unwrap().ino()
    }

    fn park(&mut self, path: &str, slot: u32) {
        let ino = self.ino(&format!("copy/{path}"));
        self.journal.parks.push(ParkStep { path: rel(path), ino, to: 0, slot });
    }

    fn place(&mut self, path: &str, ino: u64, slot: u32) {
        self.journal.places.push(PlaceStep { path: rel(path), ino, slot });
    }

    fn commit(&self) -> Result<(), CommitError> {
        whole(&self.dirs, &self.journal, &Nothing)
    }

    /// Refused with nothing done.
    fn refused(&self, path: &str) {
        let error = self.commit().unwrap_err();
        assert!(matches!(&error, CommitError::Changed { path: at } if *at == rel(path)), "{error}");
        assert_eq!(self.dirs.own.open_dir(&rel("journal")).unwrap().names().unwrap().len(), 0);
        assert!(self.temp.path().join("copy/home/old").exists());
    }
}

#[test]
fn what_arrives_is_placed() {
    let mut case = Case::new();
    case.place("home/new", case.ino("own/staging/s/tree/r/new"), 0);
    case.commit().unwrap();
    assert!(case.temp.path().join("copy/home/new").is_dir());
}

#[test]
fn a_place_that_somebody_took_meanwhile_is_noticed_before_the_journal() {
    let mut case = Case::new();
    case.place("home/new", case.ino("own/staging/s/tree/r/new"), 0);
    fs::create_dir(case.temp.path().join("copy/home/new")).unwrap();
    case.refused("home/new");
}

#[test]
fn a_name_that_leaves_is_free() {
    let mut case = Case::new();
    fs::rename(case.temp.path().join("own/staging/s/tree/r/new"), case.temp.path().join("own/staging/s/tree/r/old"))
        .unwrap();
    case.park("home/old", 1);
    case.place("home/old", case.ino("own/staging/s/tree/r/old"), 0);
    case.commit().unwrap();
    assert!(case.temp.path().join("copy/home/old").is_dir());
}

#[test]
fn a_place_without_its_directory_is_noticed() {
    let mut case = Case::new();
    fs::create_dir_all(case.temp.path().join("own/staging/s/tree/r/gone/x")).unwrap();
    case.place("home/gone/x", case.ino("own/staging/s/tree/r/gone/x"), 0);
    case.refused("home/gone/x");
}

#[test]
fn what_goes_into_a_directory_that_arrives_needs_no_place_yet() {
    let mut case = Case::new();
    case.place("home/new", case.ino("own/staging/s/tree/r/new"), 0);
    case.park("home/old", 1);
    case.journal.parks[0].to = 1;
    case.place("home/new/moved", case.ino("copy/home/old"), 1);
    case.commit().unwrap();
    assert_eq!(fs::read(case.temp.path().join("copy/home/new/moved")).unwrap(), b"old");
}

#[test]
fn a_name_that_somebody_took_in_a_directory_that_moves_is_noticed() {
    let mut case = Case::new();
    fs::create_dir(case.temp.path().join("copy/home/dir")).unwrap();
    fs::rename(case.temp.path().join("own/staging/s/tree/r/new"), case.temp.path().join("new")).unwrap();
    fs::create_dir_all(case.temp.path().join("own/staging/s/tree/r/moved")).unwrap();
    fs::rename(case.temp.path().join("new"), case.temp.path().join("own/staging/s/tree/r/moved/new")).unwrap();
    case.park("home/dir", 1);
    case.journal.parks[0].to = 1;
    case.place("home/moved", case.ino("copy/home/dir"), 1);
    case.place("home/moved/new", case.ino("own/staging/s/tree/r/moved/new"), 0);
    fs::write(case.temp.path().join("copy/home/dir/new"), "a stranger").unwrap();
    case.refused("home/moved/new");
    fs::remove_file(case.temp.path().join("copy/home/dir/new")).unwrap();
    case.commit().unwrap();
    assert!(case.temp.path().join("copy/home/moved/new").is_dir());
}

#[test]
fn what_is_to_be_touched_must_be_there_and_be_what_it_was() {
    let touch = |path: &str, kind| TouchStep { path: rel(path), form: Meta { mode: 0o600, ..Meta::default() }, kind };
    let mut case = Case::new();
    fs::create_dir(case.temp.path().join("copy/home/dir")).unwrap();
    fs::write(case.temp.path().join("copy/home/dir/file"), "").unwrap();
    case.park("home/dir", 1);
    case.journal.parks[0].to = 1;
    case.place("home/moved", case.ino("copy/home/dir"), 1);
    for (path, kind) in
        [("home/gone", 1), ("home/gone", 0), ("home/old", 0), ("home/moved/gone", 1), ("home/moved/file", 2)]
    {
        case.journal.touches = vec![touch(path, kind)];
        case.refused(path);
    }
    case.journal.touches = vec![touch("home/moved/file", 1), touch("home/old", 1)];
    case.commit().unwrap();
    let mode = |path: &str| fs::metadata(case.temp.path().join("copy").join(path)).unwrap().mode() & 0o777;
    assert_eq!((mode("home/moved/file"), mode("home/old")), (0o600, 0o600));
}

#[test]
fn staged_things_that_are_not_there_are_noticed() {
    let mut case = Case::new();
    case.place("home/new", case.ino("own/staging/s/tree/r/new") + 1, 0);
    case.refused("home/new");
    let mut case = Case::new();
    case.place("home/new", case.ino("copy/home/old"), 5);
    case.refused("home/new");
}

/// A full disk at one of the two steps.
struct Full {
    prepares: bool,
    full: std::cell::Cell<bool>,
}

impl Full {
    fn at(&self, step: bool) -> Result<(), SnapshotError> {
        if step && self.full.get() { Err(SnapshotError::NoSpace { path: "record".into() }) } else { Ok(()) }
    }
}

impl Publish for Full {
    fn prepare(&self) -> Result<(), SnapshotError> {
        self.at(self.prepares)
    }

    fn begin(&self) -> Result<(), SnapshotError> {
        Ok(())
    }

    fn publish(&self) -> Result<(), SnapshotError> {
        self.at(!self.prepares)
    }
}

#[test]
fn a_full_disk_is_met_before_the_journal_or_the_commit_is_finished_later() {
    let mut case = Case::new();
    case.place("home/new", case.ino("own/staging/s/tree/r/new"), 0);
    let publish = Full { prepares: true, full: std::cell::Cell::new(true) };
    let error = whole(&case.dirs, &case.journal, &publish).unwrap_err();
    assert!(matches!(error, CommitError::Publish(SnapshotError::NoSpace { .. })) && !error.is_flush(), "{error}");
    assert_eq!(pending(&case.dirs.own).unwrap(), Pending::default());
    let publish = Full { prepares: false, ..publish };
    let error = whole(&case.dirs, &case.journal, &publish).unwrap_err();
    assert!(matches!(error, CommitError::Unfinished(_)) && !error.is_flush(), "{error}");
    assert_eq!(pending(&case.dirs.own).unwrap().whole, [case.journal.run]);
    publish.full.set(false);
    let journal = read_journal(&case.dirs.own, case.journal.run).unwrap().unwrap();
    replay(&case.dirs, &journal, &publish).unwrap();
    assert_eq!(pending(&case.dirs.own).unwrap(), Pending::default());
    assert!(case.temp.path().join("copy/home/new").is_dir());
}
