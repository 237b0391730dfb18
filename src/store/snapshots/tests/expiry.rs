//! Snapshots that expire: what others stand on stays, whatever happens in between.

use std::fs::{self, File};

use super::*;

impl Fixture {
    /// 1 full, 2 changes it, 3 is the same as 2, 4 changes that, 5 is another root's.
    fn chain() -> Self {
        let f = Self::new();
        f.commit("home", None, thirty());
        f.commit("home", Some(1), vec![put("f10", 99)]);
        f.commit("home", Some(2), vec![]);
        f.commit("home", Some(3), vec![put("f11", 99)]);
        f.commit("etc", None, vec![put("a", 1)]);
        f
    }

    fn reopened(&self, mode: OpenMode) -> Snapshots {
        Snapshots::open(&self.dir.path().join("n@u"), mode).unwrap()
    }

    fn place(&self, name: &str) -> PathBuf {
        self.dir.path().join("n@u").join(format!("00000000000{name}"))
    }
}

fn numbers(snapshots: &Snapshots) -> Vec<u64> {
    snapshots.list().unwrap().iter().map(|record| record.number).collect()
}

fn content(snapshots: &Snapshots, number: u64) -> Vec<ManifestRecord> {
    snapshots.open_manifest(number).unwrap().map(Result::unwrap).collect()
}

fn all_may(_: &SnapshotRecord) -> bool {
    true
}

#[test]
fn what_stands_on_an_expired_snapshot_reads_as_before() {
    let f = Fixture::chain();
    let before = content(&f.snapshots, 4);
    let run = f.snapshots.record(2).unwrap().run;
    assert_eq!(f.snapshots.expire(&[1, 2, 3, 77]).unwrap(), 3);
    assert_eq!(f.snapshots.clear_expired(&all_may).unwrap().0, 1, "3 has no file that another needs");
    for snapshots in [&f.snapshots, &f.reopened(OpenMode::Write), &f.reopened(OpenMode::ReadOnly)] {
        assert_eq!(numbers(snapshots), [4, 5]);
        assert_eq!(content(snapshots, 4), before);
        assert_eq!(snapshots.find(4, &rel("f10")).unwrap().unwrap().entry.file().unwrap().size, 99);
        assert!(matches!(snapshots.record(2), Err(SnapshotError::Unknown { number: 2 })));
        assert_eq!(snapshots.newest(&rel("home")).unwrap().unwrap().number, 4);
        assert_eq!(snapshots.by_run(run).unwrap().unwrap().number, 2, "its receipt is still known");
        assert_eq!(snapshots.all().unwrap().len(), 4);
    }
    let next = f.commit("home", Some(4), vec![put("f12", 99)]);
    assert_eq!((next.number, f.paths(6, "").len()), (6, 30), "and the chain goes on");
}

#[test]
fn it_goes_when_nothing_stands_on_it() {
    let f = Fixture::chain();
    f.commit("home", None, thirty());
    f.snapshots.expire(&[1, 2, 3, 4]).unwrap();
    assert_eq!(f.snapshots.clear_expired(&|record| record.number != 2).unwrap().0, 2, "2 stays, and 1 below it");
    assert_eq!(f.snapshots.clear_expired(&all_may).unwrap().0, 2);
    let names = ["5.manifest", "5.snapshot", "6.manifest", "6.snapshot"];
    assert_eq!(f.files(), names.map(|name| format!("00000000000{name}")));
    assert_eq!(f.snapshots.clear_expired(&all_may).unwrap().0, 0);
}

#[test]
fn the_highest_number_stays_so_that_none_is_given_out_twice() {
    let f = Fixture::chain();
    assert_eq!(f.snapshots.expire(&[1, 2, 3, 4, 5]).unwrap(), 4);
    f.snapshots.clear_expired(&all_may).unwrap();
    assert_eq!(numbers(&f.snapshots), [5]);
    assert_eq!(f.reopened(OpenMode::Write).next_number().unwrap(), 6);
}

#[test]
fn what_is_being_read_stays() {
    let f = Fixture::chain();
    let Fixture { dir, snapshots } = f;
    let snapshots = Arc::new(snapshots);
    let f = Fixture { dir, snapshots: Snapshots::open(Path::new("/nonexistent"), OpenMode::ReadOnly).unwrap() };
    let before = content(&snapshots, 2);
    let (pin, again) = (snapshots.pin(2).unwrap(), snapshots.pin(2).unwrap());
    snapshots.expire(&[1, 2, 3, 4]).unwrap();
    assert!(snapshots.pin(4).is_err(), "too late");
    let needed = || snapshots.needed(&[]).unwrap();
    for pin in [pin, again] {
        snapshots.clear_expired(&all_may).unwrap();
        assert_eq!(needed(), [2, 5]);
        assert_eq!(content(&snapshots, 2), before);
        drop(pin);
    }
    snapshots.clear_expired(&all_may).unwrap();
    assert_eq!(needed(), [5]);
    assert_eq!(f.files().len(), 2);
}

#[test]
fn a_reader_sees_snapshots_expire_and_can_finish_what_it_began() {
    let f = Fixture::chain();
    let reader = f.reopened(OpenMode::ReadOnly);
    let mut begun = reader.open_manifest(2).unwrap();
    begun.next().unwrap().unwrap();
    f.snapshots.expire(&[1, 2, 3, 4]).unwrap();
    f.snapshots.clear_expired(&all_may).unwrap();
    assert_eq!(numbers(&reader), [5]);
    assert_eq!(begun.map(Result::unwrap).count(), 29);
    assert!(matches!(reader.open_manifest(2), Err(SnapshotError::Unknown { number: 2 })));
}

#[test]
fn a_reader_of_a_folder_that_rests_sees_what_changes_then() {
    let f = Fixture::chain();
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    File::open(f.dir.path().join("n@u")).unwrap().set_modified(long_ago).unwrap();
    let reader = f.reopened(OpenMode::ReadOnly);
    assert_eq!(numbers(&reader), [1, 2, 3, 4, 5]);
    assert_eq!(reader.state.lock().unwrap().settled, Some(long_ago), "it is not read again and again");
    f.snapshots.expire(&[1, 2]).unwrap();
    assert_eq!(numbers(&reader), [3, 4, 5]);
    f.commit("etc", None, vec![put("a", 2)]);
    assert_eq!(numbers(&reader), [3, 4, 5, 6]);
}

#[test]
fn with_a_record_that_cannot_be_read_nothing_goes() {
    let f = Fixture::chain();
    fs::write(f.place("3.snapshot"), "garbage").unwrap();
    let snapshots = f.reopened(OpenMode::Write);
    snapshots.expire(&[1, 2, 4]).unwrap();
    assert_eq!(snapshots.clear_expired(&all_may).unwrap().0, 0);
    fs::remove_file(f.place("3.snapshot")).unwrap();
    assert_eq!(f.reopened(OpenMode::Write).clear_expired(&all_may).unwrap().0, 3);
}

#[test]
fn a_crash_in_either_phase_is_finished_by_the_next_call() {
    // What each step of the two phases leaves behind, for 1 and 2 of a root whose 3 is full again.
    let fixture = || {
        let f = Fixture::new();
        f.commit("home", None, thirty());
        f.commit("home", Some(1), vec![put("f10", 99)]);
        f.commit("home", None, thirty());
        f
    };
    let steps: [(&str, Option<&str>); 6] = [
        ("1.snapshot", Some("1.base")),
        ("2.snapshot", Some("2.base")),
        ("1.manifest", None),
        ("2.changes", None),
        ("1.base", None),
        ("2.base", None),
    ];
    for crash in 0..=steps.len() {
        let f = fixture();
        for (from, to) in &steps[..crash] {
            match to {
                Some(to) => fs::rename(f.place(from), f.place(to)).unwrap(),
                None => fs::remove_file(f.place(from)).unwrap(),
            }
        }
        let snapshots = f.reopened(OpenMode::Write);
        assert!(snapshots.damaged().unwrap().is_empty(), "step {crash}");
        for number in numbers(&snapshots) {
            assert_eq!(content(&snapshots, number).len(), 30, "step {crash}, snapshot {number}");
        }
        snapshots.expire(&[1, 2]).unwrap();
        snapshots.clear_expired(&all_may).unwrap();
        assert_eq!(f.files(), ["3.manifest", "3.snapshot"].map(|name| format!("00000000000{name}")), "step {crash}");
    }
}

#[test]
fn a_release_is_remembered_and_goes_with_its_snapshot() {
    let f = Fixture::chain();
    f.snapshots.release(2).unwrap();
    assert!(matches!(f.snapshots.release(9), Err(SnapshotError::Unknown { number: 9 })));
    let reopened = f.reopened(OpenMode::Write);
    assert_eq!((reopened.is_released(1).unwrap(), reopened.is_released(2).unwrap()), (false, true));
    f.snapshots.expire(&[1, 2, 3, 4]).unwrap();
    f.snapshots.clear_expired(&all_may).unwrap();
    assert!(!f.place("2.released").exists() && !f.snapshots.is_released(2).unwrap());
}

#[test]
fn whichever_expire_the_others_read_as_before_one_by_one_and_at_once() {
    let mut f = Fixture::new();
    let mut random = 11_u64;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut known: BTreeMap<u64, Vec<ManifestRecord>> = BTreeMap::new();
    let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
    for round in 0..100 {
        let root = if next(3) == 0 { "etc" } else { "home" };
        let count = if newest.contains_key(root) { next(5) } else { 40 };
        let mut changes = BTreeMap::new();
        for _ in 0..count {
            let path = format!("f{:02}", next(60));
            let change = if next(3) == 0 { ChangeRecord::Remove(rel(&path)) } else { put(&path, next(50)) };
            changes.insert(rel(&path), change);
        }
        let number = f.commit(root, newest.get(root).copied(), changes.into_values().collect()).number;
        newest.insert(root, number);
        known.insert(number, content(&f.snapshots, number));
        let expires = next(4) == 0;
        if expires {
            let goes = |number: &u64| !newest.values().any(|newest| newest == number);
            let gone: Vec<u64> = known.keys().copied().filter(goes).filter(|_| next(3) == 0).collect();
            f.snapshots.expire(&gone).unwrap();
            f.snapshots.clear_expired(&all_may).unwrap();
            gone.iter().for_each(|number| drop(known.remove(number)));
        }
        if next(5) == 0 {
            f.snapshots = f.reopened(OpenMode::Write);
        }
        assert_eq!(numbers(&f.snapshots), known.keys().copied().collect::<Vec<_>>(), "round {round}");
        if !expires {
            continue;
        }
        for (number, before) in &known {
            assert_eq!(content(&f.snapshots, *number), *before, "round {round}, snapshot {number}");
        }
        let all = f.snapshots.timeline(&numbers(&f.snapshots), &RelPath::root()).unwrap();
        let seen: u64 = all.flat_map(|history| history.unwrap().versions).map(|version| version.snapshots).sum();
        assert_eq!(seen, known.values().map(|records| records.len() as u64).sum::<u64>(), "round {round}");
    }
    assert!(known.len() > 5, "{}", known.len());
}

#[test]
fn what_another_process_reads_stays_as_long_as_that_holds_it() {
    let f = Fixture::chain();
    let before = content(&f.snapshots, 2);
    let needed = || f.snapshots.needed(&[]).unwrap();
    let reader = Arc::new(f.reopened(OpenMode::ReadOnly));
    let pin = reader.pin(2).unwrap();
    f.snapshots.expire(&[1, 2, 3, 4]).unwrap();
    assert!(matches!(reader.pin(4), Err(SnapshotError::Unknown { number: 4 })), "too late");
    f.snapshots.clear_expired(&all_may).unwrap();
    assert_eq!((needed(), content(&reader, 2)), (vec![2, 5], before));
    assert!(!pin.is_lost());
    drop((pin, reader));
    f.snapshots.clear_expired(&all_may).unwrap();
    assert_eq!((needed(), f.files().len()), (vec![5], 2));
}
