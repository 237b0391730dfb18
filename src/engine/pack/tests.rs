//! The packer against a real store: what it must not believe, must not touch, and must keep.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;

use super::*;
use crate::backup::fingerprint::Timestamp;
use crate::backup::lease::Holder;
use crate::engine::client::ClientOptions;
use crate::engine::hub::HubOptions;
use crate::engine::observer::Silent;
use crate::engine::push::{PushOptions, push};
use crate::store::leases::LeaseRequest;
use crate::store::staging::chunks_of;

struct Fixture {
    temp: tempfile::TempDir,
    hub: Hub,
    copy: CopyName,
    id: CopyId,
    /// A committed run.
    run: RunId,
}

fn fixture() -> Fixture {
    let temp = tempfile::tempdir().unwrap();
    let (source, store) = (temp.path().join("source"), temp.path().join("store"));
    fs::create_dir(&source).unwrap();
    let client = ClientOptions::of_store(&store, temp.path());
    let options = PushOptions { root: source, recursive: true, ..Default::default() };
    push(&client, &options, &Silent).unwrap();
    let hub = Hub::open(&store, HubOptions::in_process()).unwrap();
    let copy = hub.store.copies().unwrap().remove(0);
    let id = hub.catalog.copy_id(&copy).unwrap();
    let run = hub.store.snapshots(&copy).unwrap().list().unwrap()[0].run;
    Fixture { temp, hub, copy, id, run }
}

impl Fixture {
    fn place(&self, run: RunId, name: &str) -> RelPath {
        RelPath::new(format!("{run}/{name}").as_bytes()).unwrap()
    }

    fn path(&self, place: &RelPath) -> PathBuf {
        self.hub.store.meta_path("retired").join(place.to_string())
    }

    fn retire(&self, run: RunId, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(&self.place(run, name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// The catalog is told what a retired file holds.
    fn say(&self, name: &str, digest: Digest) {
        let place = self.place(self.run, name);
        self.hub.catalog.apply(self.id, [Update::PutRetired { digest, size: 1, place }]).unwrap();
    }

    fn pack(&self) -> PackStats {
        pack(&self.hub, &Pace::new(&self.hub, &|| true)).unwrap()
    }

    fn holds(&self, content: &[u8]) -> bool {
        let (vault, reader) = (self.hub.vault(&self.copy).unwrap(), self.hub.catalog.reader().unwrap());
        let known = Known { reader: &reader, copy: self.id };
        let Some(mut found) = vault.content(Some(known), &Digest::of(content)).unwrap() else { return false };
        let mut out = Vec::new();
        found.read_to_end(&mut out).unwrap();
        out == content
    }

    fn class(&self, content: &[u8]) -> Option<SizeClass> {
        let (vault, reader) = (self.hub.vault(&self.copy).unwrap(), self.hub.catalog.reader().unwrap());
        let known = Known { reader: &reader, copy: self.id };
        vault.recipe(Some(known), &Digest::of(content)).unwrap().map(|recipe| recipe.class)
    }
}

fn noise(len: usize, seed: u8) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new_keyed(&[seed; 32]).finalize_xof().fill(&mut out);
    out
}

#[test]
fn all_that_a_run_retired_is_packed_and_its_folder_goes() {
    let f = fixture();
    let contents = [noise(10, 1), noise(127 * 1024, 2), noise(128 * 1024, 3), noise(3_000_000, 4), Vec::new()];
    for (n, content) in contents.iter().enumerate() {
        f.retire(f.run, &format!("{n}/deep/er/file"), content);
        f.retire(f.run, &format!("again{n}"), content);
    }
    std::os::unix::fs::symlink("x", f.path(&f.place(f.run, "0/link"))).unwrap();
    let stats = f.pack();
    let bytes = contents.iter().map(Vec::len).sum::<usize>() as u64;
    assert_eq!((stats.files, stats.bytes, stats.packs), (10, 2 * bytes, 1));
    assert!(stats.stored < bytes + 10_000, "{stats:?}");
    assert!(contents.iter().all(|content| f.holds(content)));
    assert_eq!(fs::read_dir(f.hub.store.meta_path("retired")).unwrap().count(), 0);
    assert_eq!(f.pack(), PackStats::default());
}

#[test]
fn a_file_keeps_the_class_that_it_was_cut_with() {
    let f = fixture();
    let content = noise(2_000_000, 1);
    let digest = Digest::of(&content);
    let path = f.retire(f.run, "1", &content);
    let chunks = chunks_of(&fs::File::open(path).unwrap(), SizeClass::Kib256).into();
    f.say("1", digest);
    let recipe = Recipe { class: SizeClass::Kib256, chunks };
    f.hub.catalog.apply(f.id, [Update::PutRecipe { digest, recipe }]).unwrap();
    f.pack();
    assert_eq!(f.class(&content), Some(SizeClass::Kib256));
    // Its recipe is the vault's now; the same content comes again, as of a file that went back and left.
    let reader = f.hub.catalog.reader().unwrap();
    assert_eq!(reader.recipe(f.id, &digest).unwrap(), None);
    f.retire(f.run, "2", &content);
    f.say("2", digest);
    let stats = f.pack();
    assert_eq!((stats.files, stats.packs), (1, 0));
    // Of a file that nobody knows the size says it.
    let other = noise(2_000_000, 2);
    f.retire(f.run, "3", &other);
    f.pack();
    assert_eq!(f.class(&other), Some(SizeClass::Kib64));
}

#[test]
fn what_rotted_is_kept_as_it_is_and_not_taken_for_what_it_was() {
    let f = fixture();
    let (was, is) = (noise(5000, 1), noise(5000, 2));
    f.retire(f.run, "1", &is);
    f.say("1", Digest::of(&was));
    f.pack();
    let reader = f.hub.catalog.reader().unwrap();
    assert_eq!(reader.retired(f.id, &Digest::of(&was)).unwrap(), None);
    assert_eq!((f.holds(&was), f.holds(&is)), (false, true));
}

#[test]
fn a_pack_that_somebody_took_away_is_not_believed_in() {
    let f = fixture();
    let contents = [noise(5000, 1), noise(500_000, 2)];
    for round in 0..3 {
        contents.iter().enumerate().for_each(|(n, content)| drop(f.retire(f.run, &n.to_string(), content)));
        let stats = f.pack();
        assert_eq!((stats.files, stats.packs), (2, u64::from(round != 1)), "{round}");
        let vault = f.hub.vault(&f.copy).unwrap();
        if round == 1 {
            vault.packs().unwrap().into_iter().for_each(|pack| fs::remove_file(vault.pack_path(pack)).unwrap());
        }
    }
    assert!(contents.iter().all(|content| f.holds(content)));
}

#[test]
fn only_runs_that_are_over_are_packed() {
    let f = fixture();
    let file = f.retire(f.run, "1", b"content");
    let unknown = f.retire(RunId([7; 16]), "1", b"of a run without a record");
    // A commit that a replay may have to finish.
    let journal = f.hub.store.meta_path("journal").join(f.run.to_hex());
    fs::write(&journal, "x").unwrap();
    assert_eq!(f.pack(), PackStats::default());
    fs::remove_file(journal).unwrap();
    // Its session is still at work.
    let holder = Holder { key: [0; 32], run: f.run, name: String::new(), since: Timestamp::default() };
    let (copy, root) = (f.copy.clone(), RelPath::root());
    let request = LeaseRequest { copy, root, recursive: true, holder, wait: None, on_revoke: Arc::new(|| {}) };
    let lease = f.hub.leases.acquire(request, &mut |_| true).unwrap();
    assert_eq!(f.pack(), PackStats::default());
    drop(lease);
    // It was told to end.
    let asked = Cell::new(0);
    let go_on = || {
        asked.set(asked.get() + 1);
        false
    };
    assert_eq!(pack(&f.hub, &Pace::new(&f.hub, &go_on)).unwrap(), PackStats::default());
    assert!(asked.get() == 1 && file.exists());
    assert_eq!(f.pack().files, 1);
    assert!(!file.exists() && unknown.exists() && f.holds(b"content"));
}

/// As a power cut leaves it: the pack is durable, and the catalog has never heard of it.
#[test]
fn packs_that_the_catalog_does_not_know_are_learnt_when_the_vault_is_opened() {
    let f = fixture();
    f.retire(f.run, "1", b"content");
    f.pack();
    let packs = f.hub.vault(&f.copy).unwrap().packs().unwrap();
    f.hub.catalog.apply(f.id, [Update::RemovePack(packs[0]), Update::PutPack(unknown_pack())]).unwrap();
    assert!(!f.holds(b"content"));
    let Fixture { temp, hub, copy, id, run } = f;
    drop(hub);
    let hub = Hub::open(&temp.path().join("store"), HubOptions::in_process()).unwrap();
    let f = Fixture { temp, hub, copy, id, run };
    assert!(f.holds(b"content"));
    assert_eq!(f.hub.catalog.reader().unwrap().packs(f.id).unwrap(), packs);
    f.retire(f.run, "1", b"content");
    assert_eq!(f.pack().packs, 0);
}

fn unknown_pack() -> crate::store::vault::PackIndex {
    crate::store::vault::PackIndex { pack: PackId([9; 16]), bytes: 100, blobs: Vec::new() }
}

/// Run ids are the clients' choice: one that takes another's must not get its history, nor make it go.
#[test]
fn what_two_copies_claim_is_packed_for_neither() {
    let f = fixture();
    let path = f.retire(f.run, "0/file", b"mine");
    let other = CopyName::new(b"0.0.0.0", b"a").unwrap();
    let record = f.hub.store.snapshots(&f.copy).unwrap().list().unwrap()[0].as_ref().clone();
    let manifest_file = crate::backup::snapshot::ManifestRef::Same { of: 1 };
    let record = crate::backup::snapshot::SnapshotRecord { number: 2, manifest_file, ..record };
    f.hub.store.snapshots(&other).unwrap().publish(&record, None).unwrap();
    assert_eq!(f.pack().files, 0);
    assert!(path.exists());
    let refused = crate::engine::run_id::check(&f.hub, &f.copy, &record.root, f.run).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::NotAllowed);
    crate::engine::run_id::check(&f.hub, &f.copy, &record.root, RunId([7; 16])).unwrap();
}
