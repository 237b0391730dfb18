//! A timeline of a store against its manifests, read one by one; sizes and speed of many.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::super::tests::{Fixture, put, rel};
use super::*;
use crate::backup::sorted_file::SortedRecord;

/// Root, number and path of everything, and its size.
type Whole = BTreeMap<(RelPath, u64, RelPath), u64>;

fn size_of(record: &ManifestRecord) -> u64 {
    record.entry.file().map_or(0, |file| file.size)
}

fn one_by_one(snapshots: &Snapshots, within: &RelPath) -> Whole {
    let mut whole = Whole::new();
    for record in snapshots.list().unwrap() {
        for found in snapshots.open_manifest(record.number).unwrap() {
            let found = found.unwrap();
            let path = record.root.join_path(found.path()).unwrap();
            if path.is_within(within) {
                whole.insert((record.root.clone(), record.number, path), size_of(&found));
            }
        }
    }
    whole
}

fn at_once(snapshots: &Snapshots, histories: impl IntoIterator<Item = PathHistory>) -> Whole {
    let mut whole = Whole::new();
    for PathHistory { path, versions } in histories {
        for version in versions {
            let of_root = |n: &u64| snapshots.record(*n).is_ok_and(|record| record.root == *version.root);
            for number in (version.first..=version.last).filter(of_root) {
                whole.insert(((*version.root).clone(), number, path.clone()), size_of(&version.record));
            }
        }
    }
    whole
}

/// Two roots, one in the other, with gaps in the numbers, unchanged runs, and chains that begin anew.
fn some_snapshots() -> Fixture {
    let f = Fixture::new();
    let mut random = 7_u64;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
    for round in 0..60_u64 {
        let root = if round % 3 == 0 { "home/u" } else { "home" };
        let mut changes = BTreeMap::new();
        let count = if newest.contains_key(root) { next(4) } else { 40 };
        for _ in 0..count {
            let path = format!("{}/f{:02}", ["u", "v", "u.v"][next(3) as usize], next(60));
            let change = if next(3) == 0 { ChangeRecord::Remove(rel(&path)) } else { put(&path, next(50)) };
            changes.insert(rel(&path), change);
        }
        let record = f.commit(root, newest.get(root).copied(), changes.into_values().collect());
        newest.insert(root, record.number);
        if round % 7 == 0 {
            f.snapshots.next_number().unwrap();
        }
    }
    f
}

fn numbers(snapshots: &Snapshots) -> Vec<u64> {
    snapshots.list().unwrap().iter().map(|record| record.number).collect()
}

#[test]
fn a_timeline_tells_what_the_manifests_tell_one_by_one() {
    let f = some_snapshots();
    let kinds: Vec<_> = f.snapshots.list().unwrap().iter().map(|record| record.manifest_file).collect();
    assert!(kinds.iter().filter(|kind| **kind == ManifestRef::Full).count() > 3, "{kinds:?}");
    assert!(kinds.iter().any(|kind| matches!(kind, ManifestRef::Same { .. })), "{kinds:?}");
    for within in ["", "home", "home/u", "home/u/v", "home/u/u/f01", "home/v", "etc", "hom"] {
        let timeline = f.snapshots.timeline(&numbers(&f.snapshots), &rel(within)).unwrap();
        let found = at_once(&f.snapshots, timeline.map(Result::unwrap));
        assert_eq!(found, one_by_one(&f.snapshots, &rel(within)), "{within}");
    }
}

#[test]
fn one_path_is_asked_for_without_reading_the_rest() {
    let f = some_snapshots();
    let all = one_by_one(&f.snapshots, &RelPath::root());
    let mut paths: BTreeSet<RelPath> = all.keys().map(|(_, _, path)| path.clone()).collect();
    paths.extend(["home/u/none", "home/u", "etc", ""].map(rel));
    for path in paths {
        let found = f.snapshots.mentions(&numbers(&f.snapshots), &path).unwrap();
        assert!(found.iter().all(|history| history.path == path));
        let expected: Whole = all.iter().filter(|((_, _, p), _)| *p == path).map(|(k, v)| (k.clone(), *v)).collect();
        assert_eq!(at_once(&f.snapshots, found), expected, "{path}");
    }
}

#[test]
fn only_the_snapshots_that_are_named_count() {
    let f = Fixture::new();
    f.commit("home", None, (0..30).map(|i| put(&format!("f{i:02}"), 1)).collect());
    f.commit("home", Some(1), vec![put("f00", 2), put("f01", 2)]);
    f.commit("home", Some(2), vec![put("f00", 3), ChangeRecord::Remove(rel("f02"))]);
    let of = |numbers: &[u64], path: &str| {
        let found = f.snapshots.mentions(numbers, &rel(path)).unwrap();
        let versions = found.map(|history| history.versions).unwrap_or_default();
        versions.iter().map(|v| (v.first, v.last, size_of(&v.record), v.newest)).collect::<Vec<_>>()
    };
    assert_eq!(of(&[1, 3], "home/f00"), [(1, 1, 1, false), (3, 3, 3, true)]);
    assert_eq!(of(&[3], "home/f01"), [(3, 3, 2, true)]);
    assert_eq!(of(&[3], "home/f02"), []);
    assert_eq!(of(&[2, 2, 1], "home/f02"), [(1, 2, 1, true)]);
    assert!(f.snapshots.timeline(&[4], &RelPath::root()).is_err());
}

#[test]
fn what_expires_while_it_is_asked_for_is_asked_for_no_more() {
    let f = some_snapshots();
    let all = numbers(&f.snapshots);
    let mut asked = Vec::new();
    let found = f.snapshots.steadily(|records| {
        let numbers: Vec<u64> = records.iter().map(|record| record.number).collect();
        asked.push(numbers.len());
        if asked.len() == 1 {
            // Between the list and the first file.
            f.snapshots.expire(&all[..all.len() - 2]).unwrap();
            assert!(f.snapshots.clear_expired(&|_| true).unwrap().0 > 0);
        }
        f.snapshots.timeline(&numbers, &rel("home/u"))
    });
    assert_eq!(asked, [all.len(), 2]);
    let found = at_once(&f.snapshots, found.unwrap().map(Result::unwrap));
    assert_eq!(found, one_by_one(&f.snapshots, &rel("home/u")));
}

#[test]
fn a_damaged_file_is_named_whichever_way_it_is_read() {
    let f = some_snapshots();
    let all = numbers(&f.snapshots);
    let records = f.snapshots.list().unwrap();
    let victim = records.iter().find(|r| matches!(r.manifest_file, ManifestRef::Changes { .. })).unwrap().number;
    let path = f.snapshots.path(victim, CHANGES_SUFFIX);
    let mut bytes = fs::read(&path).unwrap();
    bytes[10] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = f.snapshots.timeline(&all, &RelPath::root()).unwrap().find_map(Result::err).unwrap();
    assert!(error.to_string().contains(".changes"), "{error}");
    let first = one_of_file(&f, victim);
    let error = f.snapshots.mentions(&all, &first).unwrap_err();
    assert!(error.to_string().contains(".changes"), "{error}");
}

/// A path that lies below the root of this snapshot.
fn one_of_file(f: &Fixture, number: u64) -> RelPath {
    f.snapshots.record(number).unwrap().root.join(b"u").unwrap()
}
