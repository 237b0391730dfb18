//! What was purged is read by nobody, and what came later is.

use super::*;
use crate::backup::manifest::ManifestRecord;

fn purge_of(path: &str, until: u64) -> PurgeRecord {
    PurgeRecord {
        run: RunId([9; 16]),
        path: rel(path),
        until,
        time: Timestamp::default(),
        client: ClientInfo::default(),
        paths: 1,
        snapshots: 1,
        contents: 1,
        bytes: 1,
    }
}

fn versions(snapshots: &Snapshots, path: &str) -> Vec<(u64, u64)> {
    let numbers: Vec<u64> = snapshots.list().unwrap().iter().map(|record| record.number).collect();
    let by_path = snapshots.mentions(&numbers, &rel(path)).unwrap().map(|history| history.versions);
    let mut pass = snapshots.timeline(&numbers, &RelPath::root()).unwrap();
    let in_pass = pass.find(|found| found.as_ref().unwrap().path == rel(path)).map(|found| found.unwrap().versions);
    assert_eq!(by_path, in_pass);
    by_path.unwrap_or_default().iter().map(|version| (version.first, version.last)).collect()
}

#[test]
fn a_purged_path_is_read_by_nobody_until_a_later_backup_has_it() {
    let f = Fixture::new();
    f.commit("home", None, vec![put("a", 1), put("dir/secret", 2), put("z", 3)]);
    let second = f.commit("home", Some(1), vec![put("dir/secret", 4)]);
    f.commit("home/dir", None, vec![put("secret", 5)]);
    f.commit("home/dir", Some(3), vec![ChangeRecord::Remove(rel("secret"))]);
    f.commit("home", Some(2), vec![ChangeRecord::Remove(rel("dir/secret"))]);
    assert_eq!(versions(&f.snapshots, "home/dir/secret").len(), 3);
    assert!(f.snapshots.purged_contents().unwrap().is_empty());
    f.snapshots.purge(&purge_of("home/dir/secret", 5)).unwrap();
    // By the one that wrote it, and by one that opens the folder.
    let reader = Snapshots::open(&f.dir.path().join("n@u"), OpenMode::ReadOnly).unwrap();
    for snapshots in [&f.snapshots, &reader] {
        assert_eq!(versions(snapshots, "home/dir/secret"), []);
        assert_eq!(versions(snapshots, "home/z"), [(1, 5)]);
        for number in [1, 2] {
            assert_eq!(snapshots.find(number, &rel("dir/secret")).unwrap(), None);
            let records = snapshots.open_manifest(number).unwrap();
            let paths: Vec<_> = records.map(|record: Result<ManifestRecord, _>| record.unwrap().entry.path).collect();
            assert_eq!(paths, [rel("a"), rel("z")]);
        }
        assert!(snapshots.is_purged(1).unwrap() && snapshots.purged_contents().unwrap().len() == 3);
        // It is not what its digest says any more: nobody may build on it.
        assert_eq!(snapshots.by_manifest(&rel("home"), &second.manifest).unwrap(), None);
        assert_eq!(snapshots.purges().unwrap().len(), 1);
    }
    // The same path, later.
    f.commit("home", Some(5), vec![put("dir/secret", 2)]);
    assert_eq!(versions(&f.snapshots, "home/dir/secret"), [(6, 6)]);
    assert!(f.snapshots.find(6, &rel("dir/secret")).unwrap().is_some() && !f.snapshots.is_purged(6).unwrap());
}

#[test]
fn a_damaged_purge_record_is_told() {
    let f = Fixture::new();
    f.commit("home", None, vec![put("a", 1)]);
    f.snapshots.purge(&purge_of("home/a", 1)).unwrap();
    let folder = f.dir.path().join("n@u");
    let name = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path());
    let path = name.into_iter().find(|path| path.extension().is_some_and(|e| e == "purge")).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let again = Snapshots::open(&folder, OpenMode::Write).unwrap();
    assert!(again.damaged().unwrap()[0].1.contains(".purge"), "{:?}", again.damaged());
}

#[test]
fn of_many_parts_of_a_manifest_the_contents_are_the_same_as_of_few() {
    for count in [5, 100] {
        let f = Fixture::new();
        f.commit("home", None, (0..200).map(|i| put(&format!("d/f{i:03}"), i)).collect());
        f.commit("home/d/f000", None, vec![put("", 1000)]);
        for i in 0..count {
            let run = RunId([u8::try_from(i).unwrap(); 16]);
            f.snapshots.purge(&PurgeRecord { run, ..purge_of(&format!("home/d/f{i:03}"), 2) }).unwrap();
        }
        assert_eq!(f.snapshots.purged_contents().unwrap().len(), count + 1);
    }
}

#[test]
#[ignore = "a measurement"]
fn reading_beside_thousands_of_purges() {
    let f = Fixture::new();
    let name = |i: u64| format!("projects/dir{:03}/file-{i:06}", i / 100);
    f.commit("home", None, (0..5_000).map(|i| put(&name(i), i)).collect());
    for round in 1..100 {
        f.commit("home", Some(round), (0..5_000).filter(|i| i % 100 == round).map(|i| put(&name(i), i + 1)).collect());
    }
    let measure = |what: &str| {
        for mode in [OpenMode::Write, OpenMode::ReadOnly] {
            let took = |name: &str, work: &mut dyn FnMut()| {
                let began = std::time::Instant::now();
                work();
                println!("{what}, {mode:?}: {name} {:?}", began.elapsed());
            };
            let mut opened = None;
            took("open", &mut || opened = Some(Snapshots::open(&f.dir.path().join("n@u"), mode).unwrap()));
            let snapshots = opened.unwrap();
            let numbers: Vec<u64> = snapshots.list().unwrap().iter().map(|record| record.number).collect();
            let path = rel(&format!("home/{}", name(2_344)));
            took("ls", &mut || {
                let (record, inner) = snapshots.newest_containing(&path).unwrap().unwrap();
                let records = snapshots.open_manifest_from(record.number, &inner).unwrap();
                assert!(records.take(100).count() == 100);
            });
            took("history", &mut || assert!(snapshots.mentions(&numbers, &path).unwrap().is_some()));
            took("find", &mut || {
                assert!(snapshots.timeline(&numbers, &RelPath::root()).unwrap().count() > 3_000);
            });
        }
    };
    measure("no purge");
    for i in 0..5000_u64 {
        let run = RunId(*Digest::of(&i.to_le_bytes()).0.first_chunk().unwrap());
        f.snapshots.purge(&PurgeRecord { run, ..purge_of(&format!("home/{}", name(4 * i + 1)), 99) }).unwrap();
    }
    measure("5000 purges");
}
