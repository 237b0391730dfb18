//! What fuzzing starts from: `fuzz/seeds/TARGET/NAME`, made from the goldens and from the examples below, so that a format
//! that changes takes its seeds along. `RBBACKUP_BLESS=1 cargo test --test fuzz_seeds` writes them; without it they must
//! be there, byte for byte, and nothing else. Also: what is fuzzed is what is shipped (the same versions of libraries).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use rbbackup::backup::bytes::Bytes;
use rbbackup::backup::digest::{Digest, RunId};
use rbbackup::backup::entry::Meta;
use rbbackup::backup::hash_cache::{CACHE_MAGIC, CacheHeader, CacheRecord};
use rbbackup::backup::manifest::{CHANGES_MAGIC, ChangeRecord, MANIFEST_MAGIC, ManifestHeader, ManifestRecord};
use rbbackup::backup::relpath::RelPath;
use rbbackup::backup::sorted_file::{SortedReader, SortedRecord};
use rbbackup::backup::token::{Secret, Token};
use rbbackup::net::message::Message;
use rbbackup::store::journal::{Journal, ParkStep, PlaceStep, TouchStep};
use rbbackup::store::{invitations, registry};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// (target, name) and bytes.
type Seeds = BTreeMap<(&'static str, String), Vec<u8>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// The bytes of a golden, whatever comments it has.
fn golden(path: &Path) -> Vec<u8> {
    let text = fs::read_to_string(path).unwrap();
    let digits: String = text.lines().filter(|line| !line.starts_with('#')).collect();
    digits.as_bytes().chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

fn disk(name: &str) -> Vec<u8> {
    golden(&root().join("tests/goldens/v1/disk").join(name).with_extension("hex"))
}

/// With its length before it, as the targets take pieces.
fn piece(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_le_bytes(), bytes].concat()
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, bincode::config::standard()).unwrap()
}

/// Header and records of a golden, as they stand in its blocks.
fn sorted<H: DeserializeOwned + Serialize, T: SortedRecord>(name: &str, magic: [u8; 8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let opened = SortedReader::<_, T>::open::<H>(Cursor::new(disk(name)), magic);
    let (header, records) = opened.unwrap();
    (encode(&header), records.map(|record| encode(&record.unwrap())).collect())
}

fn wire(seeds: &mut Seeds) {
    for file in fs::read_dir(root().join("tests/goldens/v1/wire")).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let frame = golden(&path);
        let (kind, body) = (frame[4], &frame[5..]);
        let message = if Message::is_bulk(kind).unwrap() {
            let (len, body) = body.split_first_chunk::<4>().unwrap();
            let (head, payload) = body.split_at(u32::from_le_bytes(*len) as usize);
            [&[kind], &piece(head)[..], payload].concat()
        } else {
            [&[kind], body].concat()
        };
        seeds.insert(("message", name.clone()), message);
        seeds.insert(("frame", name), frame);
    }
    let begin = seeds[&("frame", "Begin".to_owned())].clone();
    seeds.insert(("frame", "several".to_owned()), [&[1, 0, 0, 0, 0], &begin[..], &[1, 0, 0, 0, 0], &begin].concat());
}

fn records(seeds: &mut Seeds) {
    for (which, name) in [(0, "snapshot"), (1, "run"), (2, "purge")] {
        let file = disk(name);
        seeds.insert(("record", format!("{name}-file")), [&[which], &file[..]].concat());
        seeds.insert(("record", name.to_owned()), [&[which + 3], &file[16..file.len() - 32]].concat());
    }
    let path = RelPath::new(b"a/b").unwrap();
    let journal = Journal {
        run: RunId([7; 16]),
        node: Bytes(b"127.0.0.1".to_vec()),
        user: Bytes(b"u".to_vec()),
        root: RelPath::root(),
        staging: Bytes(b"s".to_vec()),
        record: Bytes(disk("snapshot")),
        parks: vec![ParkStep { path: path.clone(), ino: 5, to: 0, slot: 1 }],
        places: vec![PlaceStep { path: path.clone(), ino: 6, slot: 0 }],
        touches: vec![TouchStep { path, form: Meta::default(), kind: 1 }],
    };
    let file = journal.encode().unwrap();
    seeds.insert(("journal", "file".to_owned()), [&[0], &file[..]].concat());
    seeds.insert(("journal", "body".to_owned()), [&[1], &file[20..file.len() - 32]].concat());
}

fn packs(seeds: &mut Seeds) {
    let file = disk("pack");
    let trailer = &file[file.len() - 36..];
    let number = |at: usize| u32::from_le_bytes(trailer[at..at + 4].try_into().unwrap()) as usize;
    let (blobs, index) = file[8..file.len() - 36].split_at(file.len() - 44 - number(0));
    let index = zstd::bulk::decompress(index, number(4)).unwrap();
    seeds.insert(("pack", "file".to_owned()), [&[0], &file[..]].concat());
    seeds.insert(("pack", "index".to_owned()), [&[1], &piece(blobs)[..], &index].concat());
}

fn sorted_files(seeds: &mut Seeds) {
    let (_, manifest) = sorted::<ManifestHeader, ManifestRecord>("manifest", MANIFEST_MAGIC);
    let half = manifest.len() / 2;
    seeds.insert(
        ("manifest", "halves".to_owned()),
        [piece(&manifest[..half].concat()), manifest[half..].concat()].concat(),
    );
    let every_third: Vec<_> = manifest.iter().step_by(3).cloned().collect();
    seeds.insert(("manifest", "thirds".to_owned()), [piece(&manifest.concat()), every_third.concat()].concat());
    let (_, changes) = sorted::<ManifestHeader, ChangeRecord>("changes", CHANGES_MAGIC);
    for (which, name) in [(2, "blocks"), (3, "lies")] {
        let blocks: Vec<u8> = changes.chunks(2).flat_map(|block| [vec![1], piece(&block.concat())].concat()).collect();
        seeds.insert(("sorted_file", name.to_owned()), [vec![which], blocks].concat());
    }
    let index = [&[1, 4, 9, 1][..], &[0; 16], b"\x01a"].concat();
    seeds.insert(("sorted_file", "index".to_owned()), [vec![1], piece(&[7]), piece(b"1234"), index].concat());
    // Found by fuzzing: names of half a gigabyte in 36 bytes.
    let claim = b"\x03\\ \0\0\x04\x9a/5\x16\0\0\0\xfb\xe8\x03H\xe8\x03\\\x01\0\0\0\0\0\x01\xf8\0\0\xfc\xfea/&4";
    seeds.insert(("sorted_file", "claim".to_owned()), claim.to_vec());
    let (header, cache) = sorted::<CacheHeader, CacheRecord>("hash_cache", CACHE_MAGIC);
    seeds.insert(("hash_cache", "records".to_owned()), [vec![2], piece(&header), cache.concat()].concat());
    seeds.insert(("hash_cache", "file".to_owned()), [&[1], &disk("hash_cache")[8..]].concat());
    let recipe = [&[1][..], &Digest::of(b"c").0, &40_000u32.to_le_bytes(), &Digest::of(b"d").0, &[9, 0, 0, 0]].concat();
    seeds.insert(("hash_cache", "recipe".to_owned()), [&[0], &recipe[..]].concat());
}

/// Who may come in.
fn members(seeds: &mut Seeds) {
    let token = Token { daemon: [0xab; 32], secret: Secret([0x5c; 16]), user: "ana".to_owned() };
    let payload = [&token.daemon[..], &token.secret.0, token.user.as_bytes()].concat();
    seeds.insert(("token", "text".to_owned()), [&[0], token.to_text().as_bytes()].concat());
    seeds.insert(("token", "payload".to_owned()), [&[1], &payload[..]].concat());
    let key = "5f".repeat(32);
    let identity = format!(
        "version = 2\nkey = \"{key}\"\nnode = \"192.168.1.20\"\nuser = \"u\"\nrights = [\"backup\", \"restore\"]\n\
         quota_bytes = 1000000\ncreated_secs = 1700000000\nrevoked_secs = 1700000001\n\
         [[former]]\nkey = \"{key}\"\nuntil_secs = 1700000001\n"
    );
    let invitation = format!(
        "version = 1\nsecret = \"{key}\"\nuser = \"u\"\nnode = \"attic\"\nrights = [\"backup\"]\nquota_bytes = 1000000\n\
         replace = false\ncreated_secs = 1700000000\nexpires_secs = 1700086400\nredeemed_by = \"{key}\"\n"
    );
    // They are good ones, or nothing would be found behind the first key.
    registry::parse(identity.as_bytes()).unwrap();
    invitations::parse(invitation.as_bytes()).unwrap();
    seeds.insert(("registry", "identity".to_owned()), [&[0], identity.as_bytes()].concat());
    seeds.insert(("registry", "invitation".to_owned()), [&[1], invitation.as_bytes()].concat());
}

/// What people and the kernel write.
fn texts(seeds: &mut Seeds) {
    let shipped = fs::read_to_string(root().join("packaging/rbbackupd.toml")).unwrap();
    let list = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                4: 0100007F:C350 0100007F:221A 01 00000000:00000000 02:000005DC 00000000  1002        0 333 2 0 20\n   \
                5: 00000000000000000000000001000000:C350 00000000000000000000000001000000:221A 01 00000000:00000000 \
                00:00000000 00000000    34        0 555 1\n";
    let examples: &[(&'static str, &str, &[u8])] = &[
        (
            "filter",
            "excludes",
            b"*.o\n!keep.o\n/top\ndir/\na/**/z\nsp\\ \n[a-c]x\n{d,e}f\n\na/b/c\nkeep.o\ntop\ndir/x\nsp ",
        ),
        ("filter", "find", b"/home/u/*.c\n\nhome/u/x.c\nhome/u/d/x.c\nhome"),
        ("filter", "comment", b"# no\n\\#yes\n\\!x\n**/a/**\n\n#yes\n!x\nb/a/c"),
        ("text", "date", b"2026-11-03 14:00"),
        ("text", "zone", b"2026-11-03T14:00:00Z"),
        ("text", "ago", b"1 week 2 days ago"),
        ("text", "number", b"12"),
        ("text", "time", b"1h30m"),
        ("text", "address", b"[::1]:8730"),
        ("text", "key", b"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"),
        (
            "config",
            "client",
            b"server = \"host:8730\"\nexclude = [\"*.o\"]\nwait = \"10m\"\nretry-for = 60\nprogress = \"auto\"\n",
        ),
        (
            "config",
            "identity",
            b"[identity.\"192.168.1.20/ana\".retention]\ndaily = 90\nwithin = \"forever\"\n[verify]\nevery = \"1w\"\n",
        ),
        ("config", "shipped", shipped.as_bytes()),
        ("peer_uid", "list", list.as_bytes()),
        ("paths", "nested", b"\x04\x00a/b/c/d"),
        ("paths", "copy", b"\x08\x0010.0.0.1ana@office"),
        ("paths", "absolute", b"\x0f\x00//home/./u/../v/home/v"),
        ("chunker", "text", b"\x01\xd0\x07Wer reitet so spaet durch Nacht und Wind?"),
        ("chunker", "whole", b"\x00\x01\x00abc"),
    ];
    for (target, name, bytes) in examples {
        seeds.insert((target, (*name).to_owned()), bytes.to_vec());
    }
}

/// What travels where bytes count.
fn slow_lines(seeds: &mut Seeds) {
    let old: Vec<u8> = (0..2_000_u32).map(|i| ((i * i) >> 4) as u8).collect();
    let new = [&old[..700], b"changed", &old[900..]].concat();
    seeds.insert(("delta", "edit".to_owned()), [&[0], &piece(&old)[..], &new].concat());
    seeds.insert(("delta", "steps".to_owned()), [&[1], &piece(&[0, 1, 3, 1, 3, 1, 2])[..], b"new"].concat());
    let packed = zstd::bulk::compress(b"packed packed packed", 1).unwrap();
    let body = [&20_u32.to_le_bytes()[..], &packed].concat();
    seeds.insert(("packed", "pieces".to_owned()), [&[0], &piece(b"one")[..], &piece(&old), &piece(b"one")].concat());
    seeds.insert(("packed", "bodies".to_owned()), [&[1], &piece(&body)[..], &piece(&body)].concat());
}

fn all() -> Seeds {
    let mut seeds = Seeds::new();
    for add in [wire, records, packs, sorted_files, members, slow_lines, texts] {
        add(&mut seeds);
    }
    seeds
}

#[test]
fn the_seeds_are_those_of_the_goldens() {
    let (seeds, folder) = (all(), root().join("fuzz/seeds"));
    let path = |(target, name): &(&str, String)| folder.join(target).join(name);
    if std::env::var_os("RBBACKUP_BLESS").is_some() {
        let _ = fs::remove_dir_all(&folder);
        for (key, bytes) in &seeds {
            fs::create_dir_all(folder.join(key.0)).unwrap();
            fs::write(path(key), bytes).unwrap();
        }
    }
    for (key, bytes) in &seeds {
        let found = fs::read(path(key)).unwrap_or_default();
        assert!(found == *bytes, "{} is not what it was made from: RBBACKUP_BLESS=1", path(key).display());
    }
    let files = fs::read_dir(&folder).unwrap().map(|target| fs::read_dir(target.unwrap().path()).unwrap().count());
    assert_eq!(files.sum::<usize>(), seeds.len(), "a seed that nothing makes");
}

#[test]
fn every_target_is_listed_and_has_seeds() {
    let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
    let listed: BTreeSet<String> = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")?.strip_suffix(".rs\"").map(str::to_owned))
        .collect();
    let names = |folder: &str| -> BTreeSet<String> {
        let files = fs::read_dir(root().join("fuzz").join(folder)).unwrap();
        files.map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(listed, names("fuzz_targets"));
    assert_eq!(listed, names("seeds"));
}

#[test]
fn what_is_fuzzed_is_what_is_shipped() {
    let versions = |path: &str| -> BTreeSet<(String, String)> {
        let lock: toml::Table = toml::from_str(&fs::read_to_string(root().join(path)).unwrap()).unwrap();
        let field = |package: &toml::Value, name: &str| package[name].as_str().unwrap().to_owned();
        let packages = lock["package"].as_array().unwrap();
        packages.iter().map(|package| (field(package, "name"), field(package, "version"))).collect()
    };
    let shipped = versions("Cargo.lock");
    let others: Vec<_> = versions("fuzz/Cargo.lock").difference(&shipped).map(|(name, _)| name.clone()).collect();
    assert_eq!(others, ["arbitrary", "libfuzzer-sys", "rbbackup-fuzz"], "fuzz/Cargo.lock follows Cargo.lock");
}
