//! A recipe that lies: found and named, never believed again, and nothing wrong restored.

use std::collections::HashSet;

use super::super::fixture::{Fixture, noise};
use super::*;

const SIZE: usize = 6 * 1024 * 1024;

/// Two snapshots with an image, the third without: it is in a pack.
fn with_image(image: &[u8]) -> Fixture {
    let fixture = Fixture::new();
    fixture.push("image", image);
    fixture.push("other", b"x");
    fixture.push("image", b"");
    fixture
}

impl Fixture {
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
}

#[test]
fn a_recipe_of_other_content_is_named_and_is_not_believed_any_more() {
    let image = noise(1, SIZE);
    let fixture = with_image(&image);
    assert_eq!(fixture.verify("", 1).0, []);
    assert_eq!(fixture.restore("image", 1), (Some(image.clone()), 0));
    let pack = fixture.swap_chunks(&image);
    assert_eq!(fixture.restore("image", 1), (None, 1), "no wrong bytes");

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
    assert_eq!(fixture.restore("image", 1), (Some(image.clone()), 0));
    fixture.without_catalog();
    for _ in 0..2 {
        let (found, _) = fixture.verify("", 1);
        assert_eq!((found.len(), found[0].snapshots), (1, 0), "the pack still is what it is: {found:?}");
        let places = fixture.with_hub(|hub, copy| {
            let id = hub.catalog.copy_id(copy).unwrap();
            hub.catalog.reader().unwrap().blob_places(id, BlobKind::Recipe, &Digest::of(&image)).unwrap().len()
        });
        assert_eq!(places, 1, "the right one");
        assert_eq!(fixture.restore("image", 1), (Some(image.clone()), 0));
    }
}

#[test]
fn one_part_of_all_finds_it() {
    let image = noise(2, SIZE);
    let fixture = with_image(&image);
    fixture.swap_chunks(&image);
    let found: Vec<_> = (0..3).map(|_| fixture.verify("", 3).0.len()).collect();
    assert_eq!(found.iter().filter(|count| **count == 2).count(), 1, "{found:?}");
    assert_eq!(found.iter().sum::<usize>(), 2, "{found:?}");
}

/// Eight versions of an image: what they share is read once for all.
#[test]
fn versions_of_an_image_cost_what_differs() {
    let mut image = noise(3, SIZE);
    let fixture = with_image(&image);
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
