//! How much a hundred snapshots take, and how fast they answer.

use std::fs::File;
use std::io::BufWriter;
use std::time::Instant;

use super::super::draft::ManifestDraft;
use super::super::tests::{Fixture, put, rel};
use super::*;
use crate::backup::digest::Digest;
use crate::backup::entry::OwnerNames;
use crate::backup::manifest::{CHAIN_LINKS_MAX, ChainBase, ManifestCounts};
use crate::backup::sorted_file::SortedWriter;

/// How many entries a measurement is to have: `RBBACKUP_ENTRIES`.
fn entries_asked(default: u64) -> u64 {
    std::env::var("RBBACKUP_ENTRIES").map_or(default, |text| text.parse().unwrap())
}

fn name(i: u64) -> String {
    format!("projects/linux-{:02}/drivers/net/dir{:05}/some_file_{i:07}.c", i / 50_000, i / 50)
}

/// Whether round `round` changes entry `i`: one in a hundred, at random places.
fn changes(i: u64, round: u64) -> bool {
    let mixed = (i ^ (round << 40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32).is_multiple_of(100)
}

fn content(i: u64, round: u64) -> u64 {
    i << 8 | round
}

fn bytes_of(f: &Fixture, number: u64, suffix: &str) -> u64 {
    f.snapshots.path(number, suffix).metadata().map_or(0, |meta| meta.len())
}

/// A hundred snapshots of so many entries, each made as a run makes it. Bytes of all manifests, and of a full one.
fn grow(entries: u64) -> (u64, u64) {
    let f = Fixture::new();
    f.commit("home", None, (0..entries).map(|i| put(&name(i), content(i, 0))).collect());
    for round in 1..100 {
        let changed = (0..entries).filter(|i| changes(*i, round)).map(|i| put(&name(i), content(i, round)));
        f.commit("home", Some(round), changed.collect());
    }
    let both = |number| bytes_of(&f, number, MANIFEST_SUFFIX) + bytes_of(&f, number, CHANGES_SUFFIX);
    ((1..=100).map(both).sum(), bytes_of(&f, 1, MANIFEST_SUFFIX))
}

#[test]
fn a_hundred_snapshots_take_less_than_ten_manifests() {
    let (all, one) = grow(1000);
    assert!(all < 10 * one, "{all} bytes, a full manifest takes {one}");
}

#[test]
#[ignore = "a measurement"]
fn hundred_snapshots_of_many_entries() {
    let entries = entries_asked(5000);
    let (all, one) = grow(entries);
    println!(
        "{entries} entries, 100 snapshots, 1 % changed: {all} bytes, a full manifest {one}: {:.2}",
        all as f64 / one as f64
    );
    assert!(all < 10 * one);
}

/// Writes snapshot `number` of the files whose last change each `latest` tells, without reading what was before.
fn write<T: IntoChange>(f: &Fixture, number: u64, base: Option<ChainBase>, records: impl Iterator<Item = T>) {
    std::fs::create_dir_all(f.snapshots.path(number, "").parent().unwrap()).unwrap();
    let file = BufWriter::new(File::create(f.snapshots.path(number, T::SUFFIX)).unwrap());
    let (digest, counts) = (Digest::of(&number.to_le_bytes()), ManifestCounts::default());
    let header = ManifestHeader { digest, counts, owners: OwnerNames::default(), base };
    let mut writer = SortedWriter::create(file, T::MAGIC, &header).unwrap();
    records.for_each(|record| writer.push(&record).unwrap());
    writer.finish().unwrap();
    let manifest_file = base.map_or(ManifestRef::Full, |base| ManifestRef::Changes { base: base.snapshot });
    let draft = ManifestDraft { manifest_file, name: None, digest, counts, changes: 0 };
    let record = f.record("home", &draft);
    assert_eq!(record.number, number);
    f.snapshots.publish(&record, None).unwrap();
}

fn full(change: ChangeRecord) -> ManifestRecord {
    match change {
        ChangeRecord::Put(record) => record,
        ChangeRecord::Remove(_) => unreachable!(),
    }
}

#[test]
#[ignore = "a measurement"]
fn history_find_and_ls_speed() {
    let entries = entries_asked(10_000);
    let f = Fixture::new();
    let mut latest = vec![0; entries as usize];
    let mut links = 0;
    for number in 1..=100 {
        let changed: Vec<u64> = (0..entries).filter(|i| number > 1 && changes(*i, number)).collect();
        changed.iter().for_each(|i| latest[*i as usize] = number);
        if number == 1 || links == CHAIN_LINKS_MAX {
            links = 0;
            write(&f, number, None, (0..entries).map(|i| full(put(&name(i), content(i, latest[i as usize])))));
        } else {
            links += 1;
            let base = ChainBase { snapshot: number - 1, links, changes: 0 };
            write(&f, number, Some(base), changed.into_iter().map(|i| put(&name(i), content(i, number))));
        }
    }
    let numbers: Vec<u64> = (1..=100).collect();
    // As a process with the lock has them, and as one that only reads.
    let reader = Snapshots::open(f.snapshots.path(1, "").parent().unwrap(), super::super::OpenMode::ReadOnly).unwrap();
    for (who, snapshots) in [("daemon", &f.snapshots), ("reader", &reader)] {
        let timed = |what: &str, run: &mut dyn FnMut() -> u64| {
            let start = Instant::now();
            let found = run();
            println!("{who}, {entries} entries, 100 snapshots, {what}: {found} in {:?}", start.elapsed());
        };
        let path = rel(&format!("home/{}", name(entries / 2 + 7)));
        timed("history of a path, versions", &mut || {
            snapshots.mentions(&numbers, &path).unwrap().unwrap().versions.len() as u64
        });
        let folder = path.parent().unwrap();
        let inner = folder.strip_prefix(&rel("home")).unwrap();
        timed("a folder of the newest, entries", &mut || {
            let (found, _) = snapshots.newest_containing(&path).unwrap().unwrap();
            let records = snapshots.open_manifest_from(found.number, &inner).unwrap();
            records.take_while(|record| record.as_ref().unwrap().entry.path.is_within(&inner)).count() as u64
        });
        timed("a folder in all, paths", &mut || snapshots.timeline(&numbers, &folder).unwrap().count() as u64);
    }
    let start = Instant::now();
    let versions: usize =
        f.snapshots.timeline(&numbers, &RelPath::root()).unwrap().map(|path| path.unwrap().versions.len()).sum();
    println!("all paths in all snapshots: {versions} versions in {:?}", start.elapsed());
}
