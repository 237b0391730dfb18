//! What an operator would notice of pruning: what is needed stays readable, and space comes back.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::*;
use crate::backup::chunker::Recipe;
use crate::backup::digest::Digest;
use crate::backup::entry::{Entry, FileContent, Kind, Link, Meta, OwnerNames, SizeClass};
use crate::backup::manifest::{ChangeRecord, ManifestRecord};
use crate::backup::snapshot::{ClientInfo, RunKind, SnapshotRecord};
use crate::engine::client::now;
use crate::store::catalog::Update;
use crate::store::snapshots::{SnapshotError, SnapshotPin};
use crate::store::vault::{BlobKind, Known, PackId};

mod purged;
mod readers;

const DAY: i64 = 24 * 3600;
/// Keeps the newest alone.
const ONE: Policy = Policy {
    within_secs: 0,
    last: 1,
    hourly: 0,
    daily: 0,
    weekly: 0,
    monthly: 0,
    yearly: 0,
    min_age_secs: 7 * 24 * 3600,
};

struct Fixture {
    dir: tempfile::TempDir,
    hub: Hub,
    copy: CopyName,
    now: Timestamp,
}

/// Bytes that do not shrink.
fn noise(seed: u32, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub::open(&dir.path().join("store"), HubOptions::default()).unwrap();
        let copy = CopyName::new(b"n", b"u").unwrap();
        Self { dir, hub, copy, now: now() }
    }

    fn reopened(self) -> Self {
        let Self { dir, hub, copy, now } = self;
        drop(hub);
        let hub = Hub::open(&dir.path().join("store"), HubOptions::default()).unwrap();
        Self { dir, hub, copy, now }
    }

    fn snapshots(&self) -> Arc<Snapshots> {
        self.hub.store.snapshots(&self.copy).unwrap()
    }

    /// A snapshot of so many days ago with files of these contents.
    fn commit(&self, days: i64, contents: &[&[u8]]) -> u64 {
        let snapshots = self.snapshots();
        let put = |(n, content): (usize, &&[u8])| {
            let file = FileContent {
                size: content.len() as u64,
                digest: Digest::of(content),
                class: SizeClass::Whole,
                link: Link::Single,
                sparse: false,
                unstable: false,
            };
            let path = RelPath::new(format!("f{n:03}").as_bytes()).unwrap();
            let entry = Entry { path, meta: Meta::default(), kind: Kind::File(file) };
            Ok::<_, SnapshotError>(ChangeRecord::Put(ManifestRecord { entry, kept: false }))
        };
        let number = snapshots.next_number().unwrap();
        let run = RunId([u8::try_from(number).unwrap(); 16]);
        let changes = contents.iter().enumerate().map(put);
        let draft = snapshots.draft(run, None, &OwnerNames::default(), 0, changes).unwrap();
        let record = SnapshotRecord {
            number,
            kind: RunKind::Backup,
            root: RelPath::new(b"home").unwrap(),
            recursive: true,
            delete: true,
            run,
            parent: None,
            manifest: draft.digest,
            manifest_file: draft.manifest_file,
            received: self.now.minus(days * DAY, 0),
            complete: true,
            counts: [0; 6],
            entries: draft.counts.entries,
            files: draft.counts.files,
            bytes: draft.counts.bytes,
            content_bytes: 0,
            errors: Vec::new(),
            errors_total: 0,
            file_system: 0,
            client: ClientInfo::default(),
        };
        snapshots.publish(&record, draft.name.as_deref()).unwrap();
        number
    }

    fn commit_record(&self, number: u64) -> SnapshotRecord {
        (*self.snapshots().record(number).unwrap()).clone()
    }

    /// A pack with these blobs, that many days old.
    fn pack(&self, days: u64, blobs: &[(BlobKind, Digest, &[u8])]) -> PackId {
        let vault = self.hub.vault(&self.copy).unwrap();
        let mut writer = vault.writer();
        for (kind, digest, raw) in blobs {
            writer.add(*kind, *digest, raw).unwrap();
        }
        let index = writer.finish().unwrap().unwrap();
        let id = index.pack;
        let old = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
        fs::File::open(vault.pack_path(id)).unwrap().set_modified(old).unwrap();
        let copy = self.hub.catalog.copy_id(&self.copy).unwrap();
        self.hub.catalog.apply(copy, [Update::PutPack(index)]).unwrap();
        id
    }

    fn pack_whole(&self, days: u64, contents: &[&[u8]]) -> PackId {
        let blobs: Vec<_> = contents.iter().map(|raw| (BlobKind::Content, Digest::of(raw), *raw)).collect();
        self.pack(days, &blobs)
    }

    fn prune_unforeseen(&self) -> CopyReport {
        let retention = Retention { default: ONE, copies: BTreeMap::new() };
        let mut report = prune(&self.hub, &retention, self.now, false, &|| true).unwrap();
        report.copies.pop().unwrap()
    }

    /// What it says before and what it does is the same.
    fn prune(&self) -> CopyReport {
        let retention = Retention { default: ONE, copies: BTreeMap::new() };
        let mut said = prune(&self.hub, &retention, self.now, true, &|| true).unwrap();
        let (said, done) = (said.copies.pop().unwrap(), self.prune_unforeseen());
        assert_eq!((&said.snapshots, said.record_bytes), (&done.snapshots, done.record_bytes));
        if done.trouble.is_none() {
            let removed = |swept: Swept| (swept.packs_removed, swept.bytes_removed, swept.packs_written);
            assert_eq!(removed(said.swept), removed(done.swept));
            let off = said.swept.bytes_written.abs_diff(done.swept.bytes_written);
            assert!(said.trouble.is_none() && off <= done.swept.bytes_written / 20, "{said:?} {done:?}");
            assert_eq!(said.exact, done.swept.packs_written == 0);
        }
        done
    }

    fn packs(&self) -> Vec<PackId> {
        self.hub.vault(&self.copy).unwrap().packs().unwrap()
    }

    /// Whether the vault gives this content, found as a restore finds it.
    fn gives(&self, content: &[u8]) -> bool {
        let vault = self.hub.vault(&self.copy).unwrap();
        let (reader, copy) = (self.hub.catalog.reader().unwrap(), self.hub.catalog.copy_id(&self.copy).unwrap());
        let found = vault.content(Some(Known { reader: &reader, copy }), &Digest::of(content)).unwrap();
        let mut bytes = Vec::new();
        found.is_some_and(|mut found| std::io::Read::read_to_end(&mut found, &mut bytes).is_ok() && bytes == content)
    }

    fn pack_path(&self, pack: PackId) -> PathBuf {
        self.hub.vault(&self.copy).unwrap().pack_path(pack)
    }
}

fn clean(report: &CopyReport) -> Swept {
    assert_eq!(report.trouble, None);
    report.swept
}

#[test]
fn what_only_expired_snapshots_needed_goes_and_the_rest_stays_readable() {
    let f = Fixture::new();
    let [dead, live, both] = [1, 2, 3].map(|seed| noise(seed, 3000));
    f.commit(90, &[&dead, &both]);
    f.commit(80, &[&live, &both]);
    let dead_alone = f.pack_whole(70, &[&dead]);
    let full = f.pack_whole(70, &[&live, &both]);
    assert!(f.gives(&dead));
    let swept = clean(&f.prune());
    assert_eq!((swept.packs_removed, swept.packs_written), (1, 0));
    assert_eq!(f.packs(), [full]);
    assert!(!f.pack_path(dead_alone).exists());
    assert!(!f.gives(&dead) && f.gives(&live) && f.gives(&both));
    assert_eq!(clean(&f.prune()), Swept::default(), "there is nothing left to do");
    let f = f.reopened();
    assert!(f.gives(&live) && f.gives(&both));
}

#[test]
fn a_pack_with_little_that_is_needed_is_rewritten_and_keeps_its_age() {
    let f = Fixture::new();
    let contents: Vec<Vec<u8>> = (0..10).map(|seed| noise(seed, 2000)).collect();
    let all: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    f.commit(80, &all[..5]);
    let sparse = f.pack_whole(70, &all);
    let enough = f.pack_whole(70, &[&contents[0], &contents[1], &contents[2], &contents[9]]);
    let swept = clean(&f.prune());
    assert_eq!((swept.packs_removed, swept.packs_written), (1, 1), "0 to 2 are in the other pack as well");
    assert!(swept.bytes_removed > 20_000 && swept.bytes_written < 4500, "{swept:?}");
    let packs = f.packs();
    assert!(packs.len() == 2 && packs.contains(&enough) && !packs.contains(&sparse));
    assert!(contents[..5].iter().all(|content| f.gives(content)));
    assert!(contents[5..9].iter().all(|content| !f.gives(content)));
    for pack in packs {
        let age = f.pack_path(pack).metadata().unwrap().modified().unwrap().elapsed().unwrap();
        assert!(age > Duration::from_secs(69 * 24 * 3600), "a new pack is as old as what is in it");
    }
}

#[test]
fn chunks_stay_as_long_as_a_recipe_needs_them() {
    let f = Fixture::new();
    let chunks: Vec<Vec<u8>> = (0..4).map(|seed| noise(seed, 40_000)).collect();
    let file = |parts: &[usize]| {
        let whole: Vec<u8> = parts.iter().flat_map(|part| chunks[*part].clone()).collect();
        let chunks = parts.iter().map(|part| (Digest::of(&chunks[*part]), 40_000)).collect();
        (Digest::of(&whole), Recipe { class: SizeClass::Kib64, chunks }.encode(), whole)
    };
    let ((old, old_recipe, old_whole), (new, new_recipe, new_whole)) = (file(&[0, 1, 2]), file(&[0, 1, 3]));
    f.commit(90, &[&old_whole]);
    f.commit(80, &[&new_whole]);
    f.pack_whole(70, &[&chunks[2]]);
    f.pack(70, &[(BlobKind::Recipe, old, &old_recipe)]);
    let [a, b] = [0, 1].map(|chunk| (BlobKind::Content, Digest::of(&chunks[chunk]), chunks[chunk].as_slice()));
    f.pack(70, &[a, b]);
    f.pack(70, &[(BlobKind::Recipe, new, &new_recipe), (BlobKind::Content, Digest::of(&chunks[3]), &chunks[3])]);
    assert_eq!(clean(&f.prune()).packs_removed, 2, "a recipe, and the chunk that only it named");
    assert!(f.gives(&new_whole) && !f.gives(&old_whole));
}

#[test]
fn what_no_manifest_ever_named_stays_while_its_pack_is_young() {
    let f = Fixture::new();
    let [foreign, chunk, needed] = [1, 2, 3].map(|seed| noise(seed, 2000));
    f.commit(80, &[&needed]);
    let recipe = Recipe { class: SizeClass::Kib64, chunks: [(Digest::of(&chunk), 2000)].into() };
    f.pack(
        6,
        &[(BlobKind::Content, Digest::of(&foreign), &foreign), (BlobKind::Recipe, Digest::of(b"x"), &recipe.encode())],
    );
    f.pack_whole(70, &[&chunk]);
    assert_eq!(clean(&f.prune()), Swept::default(), "not even a chunk in an old pack that a young recipe needs");
    let later = Fixture { now: f.now.minus(-2 * DAY, 0), ..f };
    assert_eq!(clean(&later.prune()).packs_removed, 2);
    assert!(!later.gives(&foreign));
}

#[test]
fn a_crowd_of_small_packs_becomes_one_of_each_age() {
    let f = Fixture::new();
    let contents: Vec<Vec<u8>> = (0..40).map(|seed| noise(seed, 500)).collect();
    f.commit(80, &contents.iter().map(Vec::as_slice).collect::<Vec<_>>());
    for (n, content) in contents.iter().enumerate() {
        f.pack_whole(if n % 2 == 0 { 70 } else { 1 }, &[content]);
    }
    let swept = clean(&f.prune());
    assert_eq!((swept.packs_removed, swept.packs_written, f.packs().len()), (40, 2, 2));
    assert!(contents.iter().all(|content| f.gives(content)));
    let f = f.reopened();
    assert!(contents.iter().all(|content| f.gives(content)));
    assert_eq!(clean(&f.prune()), Swept::default());
}

#[test]
fn killed_before_the_old_packs_went_it_goes_on_and_loses_nothing() {
    let f = Fixture::new();
    let contents: Vec<Vec<u8>> = (0..20).map(|seed| noise(seed, 500)).collect();
    let all: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    f.commit(80, &all);
    for content in &contents {
        f.pack_whole(70, &[content]);
    }
    // The new pack is durable and nothing else was done: the same blobs in the same order.
    f.pack_whole(70, &all);
    let f = f.reopened();
    clean(&f.prune());
    assert!(contents.iter().all(|content| f.gives(content)), "the new pack may be the one that was there");
    assert_eq!(f.packs().len(), 1);
    // The catalog forgot a pack that is still there.
    let (copy, pack) = (f.hub.catalog.copy_id(&f.copy).unwrap(), f.packs()[0]);
    f.hub.catalog.apply(copy, [Update::RemovePack(pack)]).unwrap();
    let f = f.reopened();
    clean(&f.prune());
    assert!(contents.iter().all(|content| f.gives(content)));
}

#[test]
fn what_is_being_read_keeps_its_content_until_it_is_read() {
    let f = Fixture::new();
    let (old, new) = (noise(1, 2000), noise(2, 2000));
    let first = f.commit(90, &[&old]);
    f.commit(80, &[&new]);
    f.pack_whole(70, &[&old]);
    let pin: SnapshotPin = f.snapshots().pin(first).unwrap();
    let report = f.prune();
    assert!(!report.snapshots[0].keep && clean(&report) == Swept::default());
    assert!(f.gives(&old) && f.snapshots().open_manifest(first).unwrap().count() == 1);
    drop(pin);
    assert_eq!(clean(&f.prune()).packs_removed, 1);
    assert!(!f.gives(&old) && f.snapshots().open_manifest(first).is_err());
}

#[test]
fn another_process_that_reads_finds_what_was_rewritten_meanwhile() {
    let f = Fixture::new();
    let contents: Vec<Vec<u8>> = (0..8).map(|seed| noise(seed, 2000)).collect();
    f.commit(80, &[&contents[0], &contents[1]]);
    f.pack_whole(70, &contents.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let other = Hub::open_to_read(&f.dir.path().join("store")).unwrap();
    let vault = other.vault(&f.copy).unwrap();
    let read = |known: Option<Known<'_>>, content: &[u8]| {
        vault.blob(known, BlobKind::Content, &Digest::of(content)).unwrap().as_deref() == Some(content)
    };
    let (reader, copy) = (other.catalog.reader().unwrap(), f.hub.catalog.copy_id(&f.copy).unwrap());
    let with_catalog = Some(Known { reader: &reader, copy });
    // Without a catalog it has read the indexes of the packs that there were.
    assert!(read(None, &contents[0]) && read(with_catalog, &contents[0]));
    assert_eq!(clean(&f.prune()).packs_written, 1);
    assert!(read(None, &contents[1]) && read(with_catalog, &contents[1]));
}

#[test]
fn damage_that_hides_what_is_needed_stops_the_sweep_of_that_copy_and_is_named() {
    let f = Fixture::new();
    let (dead, live) = (noise(1, 2000), noise(2, 2000));
    f.commit(80, &[&live]);
    f.pack_whole(70, &[&dead]);
    let broken = f.pack_whole(70, &[&live]);
    let bytes = fs::read(f.pack_path(broken)).unwrap();
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    fs::write(f.pack_path(broken), flipped).unwrap();
    let f = f.reopened();
    let report = f.prune();
    assert!(report.trouble.unwrap().contains(&broken.to_hex()) && report.swept == Swept::default());
    assert_eq!(f.packs().len(), 2);
    fs::write(f.pack_path(broken), bytes).unwrap();
    assert_eq!(clean(&f.reopened().prune()).packs_removed, 1);
}

#[test]
fn a_damaged_pack_is_not_rewritten_and_the_others_are() {
    let f = Fixture::new();
    let contents: Vec<Vec<u8>> = (0..8).map(|seed| noise(seed, 2000)).collect();
    f.commit(80, &[&contents[0], &contents[4]]);
    let [first, second] =
        [0, 4].map(|from| f.pack_whole(70, &contents[from..from + 4].iter().map(Vec::as_slice).collect::<Vec<_>>()));
    let mut bytes = fs::read(f.pack_path(first)).unwrap();
    bytes[100] ^= 1;
    let time = f.pack_path(first).metadata().unwrap().modified().unwrap();
    fs::write(f.pack_path(first), bytes).unwrap();
    fs::File::open(f.pack_path(first)).unwrap().set_modified(time).unwrap();
    let f = f.reopened();
    let report = f.prune();
    assert!(report.trouble.unwrap().contains(&first.to_hex()));
    assert!(f.pack_path(first).exists() && !f.pack_path(second).exists());
    assert!(f.gives(&contents[4]));
}

#[test]
fn one_who_is_told_to_stop_stops_and_the_next_time_goes_on() {
    let f = Fixture::new();
    let contents: Vec<Vec<u8>> = (0..20).map(|seed| noise(seed, 500)).collect();
    f.commit(80, &contents.iter().map(Vec::as_slice).collect::<Vec<_>>());
    for content in &contents {
        f.pack_whole(70, &[content]);
    }
    let retention = Retention { default: ONE, copies: BTreeMap::new() };
    for asked in 0..60 {
        let left = std::cell::Cell::new(asked);
        let go_on = || left.replace(left.get().max(1) - 1) > 0;
        let done = prune(&f.hub, &retention, f.now, false, &go_on);
        assert!(contents.iter().all(|content| f.gives(content)), "after {asked} questions");
        if let Err(error) = done {
            assert_eq!(error.kind, ErrorKind::Interrupted);
        }
    }
    clean(&f.prune());
    assert_eq!(f.packs().len(), 1);
}

#[test]
#[ignore = "a measurement"]
fn speed_of_the_mark() {
    let (entries, rounds) = (5_000, 100);
    let f = Fixture::new();
    let snapshots = f.snapshots();
    let put = |n: u64, content: u64| {
        let digest = Digest::of(&[n.to_le_bytes(), content.to_le_bytes()].concat());
        let path = RelPath::new(format!("d{:03}/file-{n:06}", n / 100).as_bytes()).unwrap();
        let file = FileContent {
            size: 1,
            digest,
            class: SizeClass::Whole,
            link: Link::Single,
            sparse: false,
            unstable: false,
        };
        let entry = Entry { path, meta: Meta::default(), kind: Kind::File(file) };
        Ok::<_, SnapshotError>(ChangeRecord::Put(ManifestRecord { entry, kept: false }))
    };
    let mut template = f.commit_record(f.commit(90, &[]));
    let mut base = None;
    for round in 1..=rounds {
        let run = RunId([u8::try_from(round).unwrap() + 100; 16]);
        let changed = (0..entries).filter(|n| base.is_none() || n % 100 == round % 100);
        let draft = snapshots.draft(run, base, &OwnerNames::default(), 0, changed.map(|n| put(n, round))).unwrap();
        let (number, manifest, manifest_file) = (snapshots.next_number().unwrap(), draft.digest, draft.manifest_file);
        template = SnapshotRecord { number, run, manifest, manifest_file, ..template };
        snapshots.publish(&template, draft.name.as_deref()).unwrap();
        base = Some(number);
    }
    let began = std::time::Instant::now();
    let numbers: Vec<u64> = snapshots.list().unwrap().iter().map(|record| record.number).collect();
    mark::Live::of_snapshots(&snapshots, &numbers, &f.hub.vault(&f.copy).unwrap(), &[], &|| true).unwrap();
    println!("{rounds} snapshots of {entries} entries, 1 % changed a round: marked in {:?}", began.elapsed());
}
