//! What a reader of history would notice of the vault.

use std::fs;

use proptest::prelude::*;

use super::*;
use crate::backup::chunker::Recipe;
use crate::backup::digest::Digest;
use crate::backup::entry::SizeClass;
use crate::store::catalog::{Catalog, CatalogReader, CopyId, Update};

struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
    vault: Vault,
    catalog: Catalog,
    reader: CatalogReader,
    copy: CopyId,
}

fn name() -> CopyName {
    CopyName::new(b"n", b"u").unwrap()
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), OpenMode::Write).unwrap();
    let vault = Vault::open(&store, &name()).unwrap();
    let catalog = Catalog::open(&store.catalog_path()).unwrap();
    let copy = catalog.copy_id(&name()).unwrap();
    let reader = catalog.reader().unwrap();
    Fixture { dir, store, vault, catalog, reader, copy }
}

impl Fixture {
    fn known(&self) -> Option<Known<'_>> {
        Some(Known { reader: &self.reader, copy: self.copy })
    }

    fn pack(&self, contents: &[&[u8]]) -> PackIndex {
        let mut writer = self.vault.writer();
        for content in contents {
            writer.add(BlobKind::Content, Digest::of(content), content).unwrap();
        }
        writer.finish().unwrap().unwrap()
    }

    fn list(&self, index: &PackIndex) {
        self.catalog.apply(self.copy, [Update::PutPack(index.clone())]).unwrap();
    }
}

/// Bytes that do not shrink.
fn noise(len: usize, seed: u8) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new_keyed(&[seed; 32]).finalize_xof().fill(&mut out);
    out
}

/// A large file of three chunks, and its recipe.
fn large() -> (Vec<u8>, Recipe, Digest) {
    let content = noise(100_000, 3);
    let chunks = [40_000, 35_000, 25_000].iter().scan(0, |at, len| {
        let chunk = Digest::of(&content[*at..*at + len]);
        *at += len;
        Some((chunk, u32::try_from(*len).unwrap()))
    });
    let recipe = Recipe { class: SizeClass::Kib64, chunks: chunks.collect() };
    let digest = Digest::of(&content);
    (content, recipe, digest)
}

fn pack_large(f: &Fixture) -> PackIndex {
    let (content, recipe, digest) = large();
    let mut writer = f.vault.writer();
    for (offset, chunk, len) in recipe.places() {
        let offset = usize::try_from(offset).unwrap();
        writer.add(BlobKind::Content, chunk, &content[offset..offset + len as usize]).unwrap();
    }
    writer.add(BlobKind::Recipe, digest, &recipe.encode()).unwrap();
    writer.finish().unwrap().unwrap()
}

fn read_content(f: &Fixture, known: Option<Known<'_>>, digest: &Digest) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut reader = f.vault.content(known, digest).unwrap()?;
    let bytes = reader.bytes_left();
    io::Read::read_to_end(&mut reader, &mut out).unwrap();
    assert_eq!(out.len() as u64, bytes);
    Some(out)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_was_added_is_read_back(sizes in prop::collection::vec(0usize..60_000, 1..12), seed: u8, zeros in 0usize..12) {
        let f = fixture();
        let contents: Vec<Vec<u8>> = (0u8..).zip(&sizes).map(|(n, size)| {
            if usize::from(n) % 12 < zeros { vec![n; *size] } else { noise(*size, seed.wrapping_add(n)) }
        }).collect();
        let refs: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
        let index = f.pack(&refs);
        prop_assert_eq!(&f.vault.index(index.pack).unwrap(), &index);
        prop_assert_eq!(f.vault.packs().unwrap(), vec![index.pack]);
        prop_assert!(f.vault.verify(index.pack, &mut |_| true).unwrap());
        f.list(&index);
        prop_assert_eq!(f.reader.pack(f.copy, index.pack).unwrap(), Some(index.clone()));
        for content in contents {
            let digest = Digest::of(&content);
            let place = f.reader.blob(f.copy, BlobKind::Content, &digest).unwrap().unwrap();
            prop_assert_eq!(f.vault.read(&place).unwrap(), content);
            prop_assert_eq!(f.reader.blob(f.copy, BlobKind::Recipe, &digest).unwrap(), None);
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_index(bytes in prop::collection::vec(any::<u8>(), 0..400), count in 0u32..9) {
        let stored = zstd::bulk::compress(&bytes, 1).unwrap();
        let _ = pack::decode_sealed(&stored, u32::try_from(bytes.len()).unwrap(), count);
        let _ = pack::decode_sealed(&bytes, 400, count);
    }
}

#[test]
fn a_blob_is_stored_once_and_compressed_where_that_helps() {
    let f = fixture();
    let (text, noise) = (b"all work and no play ".repeat(5_000), noise(100_000, 1));
    let index = f.pack(&[&text, &noise, &text, b""]);
    let found: Vec<_> = index.blobs.iter().map(|b| (b.codec, b.raw, b.stored)).collect();
    assert_eq!(found.len(), 3);
    assert!(found[0].0 == Codec::Zstd && found[0].2 < found[0].1 / 50, "{found:?}");
    assert_eq!(&found[1..], [(Codec::Raw, 100_000, 100_000), (Codec::Raw, 0, 0)]);
    f.list(&index);
    f.list(&index);
    let totals = f.reader.vault_totals(f.copy).unwrap();
    assert_eq!((totals.packs, totals.blobs, totals.bytes, totals.raw), (1, 3, index.bytes, 205_000));
}

#[test]
fn a_pack_that_is_not_finished_never_was() {
    let f = fixture();
    let mut writer = f.vault.writer();
    assert!(writer.finish().unwrap().is_none() && writer.is_empty());
    writer.add(BlobKind::Content, Digest::of(b"x"), b"x").unwrap();
    assert!(!writer.is_empty() && writer.holds(BlobKind::Content, &Digest::of(b"x")));
    drop(writer);
    let left = || names(&f.store.meta_path("vault/n@u")).unwrap();
    assert_eq!((f.vault.packs().unwrap(), left()), (vec![], vec![]));
    // As a crash leaves it.
    fs::write(f.store.meta_path("vault/n@u/.tmp-0"), b"RBPACK01half").unwrap();
    assert_eq!(Vault::open(&f.store, &name()).unwrap().packs().unwrap(), vec![]);
    assert_eq!(left(), [""; 0]);
}

#[test]
fn one_flipped_byte_anywhere_is_found_and_named() {
    let f = fixture();
    let index = f.pack(&[&b"some text that shrinks, ".repeat(20), &noise(50, 9)]);
    let path = f.vault.pack_path(index.pack);
    let good = fs::read(&path).unwrap();
    let named = |error: VaultError| {
        assert!(error.is_damage() && error.to_string().contains(&index.pack.to_hex()), "{error}");
    };
    let mut found = 0;
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(&path, &bad).unwrap();
        named(f.vault.verify(index.pack, &mut |_| true).unwrap_err());
        // Somebody who knows the index from the catalog, and somebody who reads it now.
        let hit = |blob: &Blob| (blob.offset..blob.offset + u64::from(blob.stored)).contains(&(at as u64));
        for blob in &index.blobs {
            // A bit of a zstd frame may mean nothing; then it harms nothing.
            match f.vault.read(&BlobPlace { pack: index.pack, blob: *blob }) {
                Ok(bytes) => assert_eq!(Digest::of(&bytes), blob.digest, "byte {at}"),
                Err(error) => {
                    assert!(hit(blob), "byte {at}");
                    named(error);
                    found += 1;
                }
            }
        }
        let of_blob = index.blobs.iter().any(hit);
        match f.vault.index(index.pack) {
            Ok(found) => assert!(of_blob && found == index, "byte {at}"),
            Err(error) => named(error),
        }
    }
    let in_blobs: u64 = index.blobs.iter().map(|blob| u64::from(blob.stored)).sum();
    assert!(found + 4 >= in_blobs, "{found} of {in_blobs}");
    for len in [0, 7, 40, good.len() - 1] {
        fs::write(&path, &good[..len]).unwrap();
        named(f.vault.index(index.pack).unwrap_err());
        named(f.vault.verify(index.pack, &mut |_| true).unwrap_err());
    }
    fs::write(&path, good).unwrap();
    assert_eq!(f.vault.index(index.pack).unwrap(), index);
}

#[test]
fn a_large_file_is_put_together_of_its_chunks() {
    let f = fixture();
    let (content, recipe, digest) = large();
    let index = pack_large(&f);
    assert_eq!(read_content(&f, f.known(), &digest), None);
    f.list(&index);
    assert_eq!(f.vault.recipe(f.known(), &digest).unwrap(), Some(recipe));
    assert_eq!(read_content(&f, f.known(), &digest), Some(content));
    // A chunk that is lost is an error in the middle, and no shorter file.
    f.catalog.apply(f.copy, [Update::RemovePack(index.pack)]).unwrap();
    let (recipe_only, mut writer) = (large().1.encode(), f.vault.writer());
    writer.add(BlobKind::Recipe, digest, &recipe_only).unwrap();
    f.list(&writer.finish().unwrap().unwrap());
    let mut reader = f.vault.content(f.known(), &digest).unwrap().unwrap();
    assert!(io::Read::read_to_end(&mut reader, &mut Vec::new()).is_err());
}

#[test]
fn a_pack_that_was_rewritten_meanwhile_is_looked_for_again() {
    let f = fixture();
    let old = f.pack(&[b"one", b"two"]);
    f.list(&old);
    let place = f.reader.blob(f.copy, BlobKind::Content, &Digest::of(b"one")).unwrap().unwrap();
    // As a sweep does it: new pack, catalog, old pack.
    let new = f.pack(&[b"one"]);
    f.catalog.apply(f.copy, [Update::PutPack(new.clone()), Update::RemovePack(old.pack)]).unwrap();
    f.vault.remove(old.pack).unwrap();
    f.vault.remove(old.pack).unwrap();
    assert!(matches!(f.vault.read(&place), Err(VaultError::Gone { .. })));
    assert_eq!(f.vault.blob(f.known(), BlobKind::Content, &Digest::of(b"one")).unwrap().unwrap(), b"one");
    assert_eq!(f.vault.blob(f.known(), BlobKind::Content, &Digest::of(b"two")).unwrap(), None);
    assert_eq!((f.reader.packs(f.copy).unwrap(), f.vault.packs().unwrap()), (vec![new.pack], vec![new.pack]));
}

#[test]
fn of_two_places_the_undamaged_one_is_read() {
    let f = fixture();
    let (one, two) = (f.pack(&[b"one", b"x"]), f.pack(&[b"one", b"y"]));
    f.list(&one);
    f.list(&two);
    for damaged in [&one, &two] {
        let path = f.vault.pack_path(damaged.pack);
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[8] ^= 1;
        fs::write(&path, bad).unwrap();
        assert_eq!(f.vault.blob(f.known(), BlobKind::Content, &Digest::of(b"one")).unwrap().unwrap(), b"one");
        fs::write(&path, good).unwrap();
    }
}

#[test]
fn damaged_blobs_are_not_found_any_more() {
    let f = fixture();
    let (one, two) = (f.pack(&[b"one", b"x"]), f.pack(&[b"one", b"y"]));
    f.list(&one);
    f.list(&two);
    f.catalog.apply(f.copy, [Update::RemoveBlobs(Digest::of(b"one"))]).unwrap();
    let there = |content: &[u8]| f.reader.blob(f.copy, BlobKind::Content, &Digest::of(content)).unwrap().is_some();
    assert_eq!([&b"one"[..], b"x", b"y"].map(there), [false, true, true]);
    assert_eq!(f.reader.packs(f.copy).unwrap().len(), 2);
}

#[test]
fn a_process_that_only_reads_finds_what_its_catalog_does_not_know() {
    let f = fixture();
    let (listed, unlisted) = (f.pack(&[b"listed"]), f.pack(&[b"unlisted"]));
    f.list(&listed);
    let reading = Store::open(f.dir.path(), OpenMode::ReadOnly).unwrap();
    let find = |vault: &Vault, known, content: &[u8]| {
        vault.blob(known, BlobKind::Content, &Digest::of(content)).unwrap().is_some()
    };
    for known in [f.known(), None] {
        let vault = Vault::open(&reading, &name()).unwrap();
        for (content, there) in [(&b"listed"[..], true), (b"unlisted", true), (b"nothing", false)] {
            assert_eq!(find(&vault, known, content), there);
        }
        // Rewritten while we read, by somebody else.
        let new = f.pack(&[b"unlisted", b"more"]);
        f.vault.remove(unlisted.pack).unwrap();
        vault.opened().clear();
        assert!(find(&vault, known, b"unlisted"));
        f.vault.remove(new.pack).unwrap();
        assert_eq!(f.pack(&[b"unlisted"]), unlisted);
    }
    // Packed while we read, by another process.
    let vault = Vault::open(&reading, &name()).unwrap();
    assert!(!find(&vault, None, b"late"));
    f.pack(&[b"late"]);
    assert!(!find(&vault, None, b"late"));
    vault.look_again();
    assert!(find(&vault, None, b"late") && find(&vault, None, b"unlisted"));
    // The one that writes believes its catalog.
    assert!(!find(&f.vault, f.known(), b"unlisted"));
}

/// Packs of version 1 must be read for ever. What is written may differ (another zstd packs otherwise).
#[test]
fn a_pack_of_version_1_is_read() {
    let f = fixture();
    let text = b"the same words, again and again; ".repeat(8);
    let recipe = Recipe {
        class: SizeClass::Kib64,
        chunks: vec![(Digest::of(b"first"), 40_000), (Digest::of(b"second"), 90_000)],
    };
    let mut writer = f.vault.writer();
    writer.add(BlobKind::Content, Digest::of(&text), &text).unwrap();
    writer.add(BlobKind::Content, Digest::of(b"short"), b"short").unwrap();
    writer.add(BlobKind::Recipe, Digest::of(b"first, then second"), &recipe.encode()).unwrap();
    let now = writer.finish().unwrap().unwrap();
    let golden = include_str!("../../../tests/goldens/v1/disk/pack.hex");
    let digits: Vec<u8> = golden.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let bytes: Vec<u8> = digits.chunks(2).map(pair).collect();
    let written = fs::read(f.vault.pack_path(now.pack)).unwrap();
    let hex: Vec<String> = written.chunks(32).map(|l| l.iter().map(|b| format!("{b:02x}")).collect()).collect();
    let mut hasher = blake3::Hasher::new();
    let pack = PackId::of(hasher.update(&bytes));
    fs::create_dir_all(f.vault.pack_path(pack).parent().unwrap()).unwrap();
    fs::write(f.vault.pack_path(pack), bytes).unwrap();
    let index = f.vault.index(pack).unwrap_or_else(|e| panic!("{e}; now it would be\n{}", hex.join("\n")));
    let plain =
        |index: &PackIndex| -> Vec<_> { index.blobs.iter().map(|b| (b.kind, b.digest, b.check, b.raw)).collect() };
    assert_eq!(plain(&index), plain(&now));
    let read = |n: usize| f.vault.read(&BlobPlace { pack, blob: index.blobs[n] }).unwrap();
    assert_eq!((read(0), read(1), read(2)), (text, b"short".to_vec(), recipe.encode()));
}
