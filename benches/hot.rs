//! The hot parts, each by itself: `cargo bench`, or `cargo bench -- chunker`.
//!
//! For the one who changes one of them: what the programs make of it together is measured by `bench/run.py`. The walk reads a
//! tree of its own, or the one that `RBBACKUP_BENCH_TREE` names.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::hint::black_box;
use std::io::{BufReader, BufWriter, Cursor};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rbbackup::backup::chunker::Chunker;
use rbbackup::backup::delta::{Sums, delta};
use rbbackup::backup::digest::Digest;
use rbbackup::backup::entry::{Entry, FileContent, Kind, Link, Meta, OwnerNames, SizeClass};
use rbbackup::backup::fingerprint::{Fingerprint, Timestamp};
use rbbackup::backup::hash_cache::{CACHE_MAGIC, CacheHeader, CacheRecord};
use rbbackup::backup::manifest::ManifestHasher;
use rbbackup::backup::plan::{ContentPlace, Contents, PlanOptions, Planner, Present, PresentKind, Wanted};
use rbbackup::backup::relpath::RelPath;
use rbbackup::backup::sorted_file::{SortedReader, SortedWriter};
use rbbackup::backup::spool::Spill;
use rbbackup::net::frame::{Frame, decode_frame};
use rbbackup::net::message::{Files, Message, WireEntry, WireKind};
use rbbackup::tree::safe_dir::SafeDir;
use rbbackup::tree::walk::{WalkOptions, walk};

/// Entries of a tree that is large and not strange: 30 names to a folder.
const ENTRIES: u64 = 50_000;

fn path(number: u64) -> RelPath {
    let text = format!("drivers/net/folder-{:05}/source-file-{:02}.c", number / 30, number % 30);
    RelPath::new(text.as_bytes()).unwrap()
}

fn entry(number: u64) -> Entry {
    let content = FileContent {
        size: 10_000 + number,
        digest: Digest::of(&number.to_le_bytes()),
        class: SizeClass::Whole,
        link: Link::Single,
        sparse: false,
        unstable: false,
    };
    let mtime = Timestamp { secs: 1_700_000_000 + number as i64, nanos: 500 };
    Entry { path: path(number), meta: Meta { mode: 0o644, mtime, ..Meta::default() }, kind: Kind::File(content) }
}

fn record(number: u64) -> CacheRecord {
    let entry = entry(number);
    let (time, size) = (entry.meta.mtime, 10_000 + number);
    let fingerprint = Fingerprint { ino: 1_000_000 + number, size, mtime: time, ctime: time };
    CacheRecord { entry, fingerprint, racy: false, recipe: None, mounted: false }
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

fn walks(c: &mut Criterion) {
    let temp = tempfile::tempdir().unwrap();
    let top = std::env::var_os("RBBACKUP_BENCH_TREE").map_or_else(|| made(temp.path()), PathBuf::from);
    let options = WalkOptions::new(top);
    let count = || {
        let mut count = 0;
        walk(&options, &mut |batch| {
            count += batch.len() as u64;
            ControlFlow::Continue(())
        })
        .unwrap();
        count
    };
    let mut group = c.benchmark_group("walk");
    group.throughput(Throughput::Elements(count())).sample_size(20);
    group.bench_function("a tree in memory", |b| b.iter(count));
    group.finish();
}

/// 20 000 empty files.
fn made(top: &Path) -> PathBuf {
    for number in 0..20_000 {
        let file = top.join(format!("{:03}/{:02}", number / 100, number % 100));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "").unwrap();
    }
    top.to_path_buf()
}

fn hash_caches(c: &mut Criterion) {
    let header = CacheHeader {
        manifest: Digest::of(b"m"),
        root: RelPath::root(),
        recursive: true,
        complete: true,
        scan_started: Timestamp::default(),
        owners: OwnerNames::default(),
        file_system: 0,
    };
    let records: Vec<CacheRecord> = (0..ENTRIES).map(record).collect();
    let write = || {
        let mut writer = SortedWriter::create(BufWriter::new(Cursor::new(Vec::new())), CACHE_MAGIC, &header).unwrap();
        records.iter().for_each(|record| writer.push(record).unwrap());
        writer.finish().unwrap().0.into_inner().unwrap().into_inner()
    };
    let file = write();
    let mut group = c.benchmark_group("hash cache");
    group.throughput(Throughput::Elements(ENTRIES)).sample_size(20);
    group.bench_function("write", |b| b.iter(write));
    // What a run without changes does with it: every record is read and compared with what was walked.
    group.bench_function("merge", |b| {
        b.iter(|| {
            let input = BufReader::new(Cursor::new(file.as_slice()));
            let (_, reader) = SortedReader::<_, CacheRecord>::open::<CacheHeader>(input, CACHE_MAGIC).unwrap();
            let vouched = reader.zip(&records).filter(|(old, now)| {
                let old = old.as_ref().unwrap();
                old.entry.path == now.entry.path && old.vouches_for(&now.fingerprint).is_some()
            });
            assert_eq!(vouched.count() as u64, ENTRIES);
        });
    });
    group.bench_function("manifest digest", |b| {
        b.iter(|| {
            let mut hasher = ManifestHasher::new();
            records.iter().for_each(|record| hasher.push(&record.entry));
            hasher.finish(&OwnerNames::default())
        });
    });
    group.finish();
}

fn chunkers(c: &mut Criterion) {
    let content = noise(16 << 20);
    let mut group = c.benchmark_group("chunker");
    group.throughput(Throughput::Bytes(content.len() as u64)).sample_size(20);
    for class in [SizeClass::Kib64, SizeClass::Mib1] {
        group.bench_function(format!("{class:?}"), |b| {
            let chunker = Chunker::new(class);
            b.iter(|| {
                let (mut at, mut chunks) = (0, 0);
                while let Some(len) = chunker.cut(&content[at..], true) {
                    at += len;
                    chunks += 1;
                }
                chunks
            });
        });
    }
    group.bench_function("cut and hash", |b| {
        let chunker = Chunker::new(SizeClass::Kib64);
        b.iter(|| {
            let mut at = 0;
            while let Some(len) = chunker.cut(&content[at..], true) {
                black_box(Digest::of(&content[at..at + len]));
                at += len;
            }
        });
    });
    group.finish();
}

fn deltas(c: &mut Criterion) {
    let old = noise(100_000);
    let mut new = old.clone();
    new.splice(50_000..50_010, *b"something else");
    let mut group = c.benchmark_group("delta");
    group.throughput(Throughput::Bytes(new.len() as u64));
    group.bench_function("sums", |b| b.iter(|| Sums::of(black_box(&old))));
    let sums = Sums::of(&old);
    group.bench_function("one change", |b| b.iter(|| delta(black_box(&new), &sums)));
    let other = noise(200_000).split_off(100_000);
    group.bench_function("all new", |b| b.iter(|| delta(black_box(&other), &sums)));
    group.finish();
}

/// What a megabyte of small files travels as.
fn frames(c: &mut Criterion) {
    let wire = |number: u64| WireEntry {
        path: path(number).as_bytes().into(),
        mode: 0o644,
        uid: 1000,
        gid: 1000,
        mtime_secs: 1_700_000_000,
        mtime_nanos: 5,
        xattrs: Vec::new(),
        kind: WireKind::File {
            size: 10_485,
            digest: Digest::of(&number.to_le_bytes()),
            class: 0,
            flags: 0,
            leader: b""[..].into(),
        },
    };
    let message = Message::Files(Files { entries: (0..100).map(wire).collect() }, noise(1 << 20));
    let bytes = Frame::encode(message.clone()).unwrap().into_bytes();
    let mut group = c.benchmark_group("frame");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("encode", |b| b.iter_batched(|| message.clone(), Frame::encode, BatchSize::LargeInput));
    group.bench_function("decode", |b| b.iter(|| decode_frame(black_box(&bytes)).unwrap()));
    group.finish();
}

fn safe_dirs(c: &mut Criterion) {
    let temp = tempfile::tempdir().unwrap();
    let dir = SafeDir::open_operator(temp.path()).unwrap();
    let (name, mut number) = (|number: u64| format!("file-{number}").into_bytes(), 0);
    c.bench_function("safe_dir/create", |b| {
        b.iter(|| {
            number += 1;
            dir.create_new(&name(number), 0o600).unwrap()
        });
    });
    c.bench_function("safe_dir/stat", |b| b.iter(|| dir.stat(b"file-1").unwrap()));
    let path = RelPath::new(b"a/b/c/d").unwrap();
    dir.make_dirs(&path, 0o700).unwrap();
    c.bench_function("safe_dir/open_dir", |b| b.iter(|| dir.open_dir(black_box(&path)).unwrap()));
}

/// A store in which everything that arrives is staged.
struct Staged;

impl Contents for Staged {
    fn is_staged(&self, _: &RelPath, _: &Digest, _: u64) -> bool {
        true
    }

    fn find(&self, _: &Digest, _: u64) -> Option<ContentPlace> {
        None
    }
}

fn plans(c: &mut Criterion) {
    let present = |number: u64| {
        let Entry { path, meta, kind } = entry(number);
        let digest = if let Kind::File(content) = kind { Some(content.digest) } else { None };
        let (kind, size) = (PresentKind::File, 10_000 + number);
        Present { path, kind, ino: number, size, digest, meta, within: false, outside: false }
    };
    let wanted = |number: u64| {
        let entry = entry(number);
        let form = Some(entry.meta.clone());
        Wanted { entry, form }
    };
    let mut group = c.benchmark_group("plan");
    group.throughput(Throughput::Elements(ENTRIES)).sample_size(20);
    let mut plan = |name: &str, rows: &dyn Fn(u64) -> (Option<Present>, Option<Wanted>)| {
        group.bench_function(name, |b| {
            b.iter_batched(
                || (0..ENTRIES).map(rows).collect::<Vec<_>>(),
                |rows| {
                    let options = PlanOptions { delete: true, silent: true, shallow: false };
                    let mut planner = Planner::new(options, &Spill::default());
                    rows.into_iter().for_each(|(present, wanted)| planner.push(present, wanted, false).unwrap());
                    planner.finish(&Staged).unwrap()
                },
                BatchSize::LargeInput,
            );
        });
    };
    plan("nothing changed", &|number| (Some(present(number)), Some(wanted(number))));
    plan("all is new", &|number| (None, Some(wanted(number))));
    group.finish();
}

criterion_group!(hot, walks, hash_caches, chunkers, deltas, frames, safe_dirs, plans);
criterion_main!(hot);
