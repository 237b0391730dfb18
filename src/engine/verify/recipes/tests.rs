//! A recipe that lies: found and named, never believed again, and nothing wrong restored.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::backup::relpath::RelPath;
use crate::backup::when::When;
use crate::engine::client::{ClientOptions, Target};
use crate::engine::hub::{Hub, HubOptions};
use crate::engine::observer::Silent;
use crate::engine::push::{PushOptions, push};
use crate::engine::restore::{Overwrite, RestoreOptions, restore};
use crate::engine::verify::{Found, Pace, Tally, verify};
use crate::store::catalog::Update;

const SIZE: usize = 6 * 1024 * 1024;

struct Fixture {
    temp: tempfile::TempDir,
    client: ClientOptions,
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

impl Fixture {
    /// Two snapshots with an image, the third without: it is in a pack.
    fn new(image: &[u8]) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let client = ClientOptions {
            target: Target::Store(temp.path().join("store")),
            user: "u".into(),
            of: None,
            state_dir: temp.path().join("state"),
            cache_dir: temp.path().join("cache"),
            retry_for: Duration::ZERO,
            stop: Default::default(),
        };
        fs::create_dir(temp.path().join("source")).unwrap();
        let fixture = Self { temp, client };
        fixture.push("image", image);
        fixture.push("other", b"x");
        fixture.push("image", b"");
        fixture
    }

    fn source(&self) -> PathBuf {
        self.temp.path().join("source")
    }

    /// A snapshot with this file; what leaves the copy is packed.
    fn push(&self, name: &str, content: &[u8]) {
        fs::write(self.source().join(name), content).unwrap();
        let options = PushOptions { root: self.source(), recursive: true, delete: true, ..Default::default() };
        push(&self.client, &options, &Silent).unwrap();
    }

    fn with_hub<T>(&self, with: impl FnOnce(&Hub, &crate::store::names::CopyName) -> T) -> T {
        let hub = Hub::open(&self.temp.path().join("store"), HubOptions::in_process()).unwrap();
        let copy = hub.store.copies().unwrap().remove(0);
        with(&hub, &copy)
    }

    /// The pack whose recipe names this content is written anew with two chunks of equal right in the other's place.
    fn swap_chunks(&self, content: &[u8]) -> String {
        self.with_hub(|hub, copy| {
            let (vault, digest) = (hub.vault(copy).unwrap(), Digest::of(content));
            let packs = vault.packs().unwrap();
            let names_it = |pack: &&PackId| {
                let blobs = vault.index(**pack).unwrap().blobs;
                blobs.iter().any(|blob| blob.kind == BlobKind::Recipe && blob.digest == digest)
            };
            let pack = *packs.iter().find(names_it).unwrap();
            let mut writer = vault.writer();
            for blob in vault.index(pack).unwrap().blobs {
                let mut body = vault.read(&BlobPlace { pack, blob }).unwrap();
                if blob.digest == digest {
                    let mut recipe = Recipe::decode(&body).unwrap();
                    assert!(recipe.chunks.len() > 20);
                    recipe.chunks.swap(4, 5);
                    body = recipe.encode();
                }
                writer.add(blob.kind, blob.digest, &body).unwrap();
            }
            let index = writer.finish().unwrap().unwrap();
            let path = vault.pack_path(index.pack).display().to_string();
            let id = hub.catalog.copy_id(copy).unwrap();
            hub.catalog.apply(id, [Update::RemovePack(pack), Update::PutPack(index)]).unwrap();
            vault.remove(pack).unwrap();
            path
        })
    }

    fn verify(&self, within: &str, parts: u32) -> (Vec<Found>, Tally) {
        self.with_hub(|hub, copy| {
            let mut found = Vec::new();
            let mut tell = |damage| {
                found.push(damage);
                Ok(())
            };
            let within = RelPath::new(within.trim_start_matches('/').as_bytes()).unwrap();
            let go_on = || true;
            let mut pace = Pace::polite(u64::MAX, &go_on);
            let (tally, _) = verify(hub, copy, &within, parts, &mut pace, &mut tell).unwrap();
            (found, tally)
        })
    }

    /// The image of the first snapshot, restored; the errors of that.
    fn restore(&self) -> (Option<Vec<u8>>, u64) {
        let to = tempfile::tempdir_in(self.temp.path()).unwrap();
        let options = RestoreOptions {
            path: self.source().join("image"),
            when: When::Number(1),
            to: Some(to.path().to_path_buf()),
            overwrite: Overwrite::Always,
            delete: false,
            dry_run: false,
        };
        let summary = restore(&self.client, &options, &Silent).unwrap();
        (fs::read(to.path().join("image")).ok(), summary.errors)
    }
}

#[test]
fn a_recipe_of_other_content_is_named_and_is_not_believed_any_more() {
    let image = noise(1, SIZE);
    let fixture = Fixture::new(&image);
    assert_eq!(fixture.verify("", 1).0, []);
    assert_eq!(fixture.restore(), (Some(image.clone()), 0));
    let pack = fixture.swap_chunks(&image);
    assert_eq!(fixture.restore(), (None, 1), "no wrong bytes");

    let path = fixture.source().join("image").display().to_string();
    for within in ["", path.as_str()] {
        let (found, _) = fixture.verify(within, 1);
        let said: Vec<_> = found.iter().map(|found| (String::from_utf8_lossy(&found.what), found.snapshots)).collect();
        assert_eq!(said, [(pack.as_str().into(), 2), (path.as_str().into(), 2)]);
        assert!(found[0].why.contains(&Digest::of(&image).to_hex()), "{}", found[0].why);
    }
    let elsewhere = fixture.source().join("other").display().to_string();
    assert_eq!(fixture.verify(&elsewhere, 1).0, [], "it is not there that it matters");

    // It comes again, and goes again: the packer stores what it found to be wrong.
    fixture.push("image", &image);
    fixture.push("image", b"");
    assert_eq!(fixture.restore(), (Some(image), 0));
    assert_eq!(fixture.verify("", 1).0.len(), 1, "the pack still is what it is");
}

#[test]
fn one_part_of_all_finds_it() {
    let image = noise(2, SIZE);
    let fixture = Fixture::new(&image);
    fixture.swap_chunks(&image);
    let found: Vec<_> = (0..3).map(|_| fixture.verify("", 3).0.len()).collect();
    assert_eq!(found.iter().filter(|count| **count == 2).count(), 1, "{found:?}");
    assert_eq!(found.iter().sum::<usize>(), 2, "{found:?}");
}

/// Eight versions of an image: what they share is read once for all.
#[test]
fn versions_of_an_image_cost_what_differs() {
    let mut image = noise(3, SIZE);
    let fixture = Fixture::new(&image);
    let before = fixture.verify("", 1).1.bytes;
    for version in 0..7 {
        image[SIZE / 2..SIZE / 2 + 1000].copy_from_slice(&noise(10 + version, 1000));
        fixture.push("image", &image);
    }
    fixture.push("image", b"");
    let (found, tally) = fixture.verify("", 1);
    assert_eq!(found, []);
    // Each version: two chunks or so anew in a pack, and the blocks that they touch, read again.
    let more = tally.bytes - before;
    assert!(more < SIZE as u64, "{before} bytes, and {more} for seven versions more");
    let digests: HashSet<Digest> = fixture.with_hub(|hub, copy| {
        let vault = hub.vault(copy).unwrap();
        let blobs = vault.packs().unwrap().into_iter().flat_map(|pack| vault.index(pack).unwrap().blobs);
        blobs.filter(|blob| blob.kind == BlobKind::Recipe).map(|blob| blob.digest).collect()
    });
    assert_eq!(digests.len(), 8);
}
