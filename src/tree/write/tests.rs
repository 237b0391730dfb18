//! Tests of the writer.

use std::os::unix::fs::MetadataExt;

use proptest::prelude::*;

use super::*;
use crate::backup::fingerprint::Timestamp;
use crate::tree::metadata::XattrScope;
use crate::tree::xattrs::{read_xattrs, xattr};

fn scratch() -> (tempfile::TempDir, SafeDir) {
    let temp = tempfile::tempdir().unwrap();
    let dir = SafeDir::open_operator(temp.path()).unwrap();
    (temp, dir)
}

fn form(mode: u32) -> DiskForm {
    let mtime = Timestamp { secs: 1_000_000_000, nanos: 7 };
    DiskForm { kind: Some(FileKind::File), mode, owner: None, mtime, xattrs: vec![], scope: XattrScope::Plain }
}

#[test]
fn a_finished_file_is_what_was_asked_for() {
    let (temp, dir) = scratch();
    let mut writer = FileWriter::create(&dir, b"f", 0o640, false).unwrap();
    writer.write(b"hello ").unwrap();
    writer.write(b"world").unwrap();
    let mut want = form(0o444);
    want.xattrs = vec![xattr(b"user.u", b"1")];
    assert!(writer.finish(&want).unwrap().is_empty());
    assert_eq!(std::fs::read(temp.path().join("f")).unwrap(), b"hello world");
    assert!(!want.diff(&dir.stat(b"f").unwrap(), Some(&read_xattrs(&dir, b"f").unwrap())).any());
    assert!(FileWriter::create(&dir, b"f", 0o640, false).unwrap_err().is_exists());
}

#[test]
fn an_interrupted_file_is_gone_on_with() {
    let (temp, dir) = scratch();
    let mut writer = FileWriter::create(&dir, b"f", 0o600, false).unwrap();
    writer.write(b"0123456789").unwrap();
    drop(writer);
    assert!(FileWriter::append(&dir, b"f", 11, false).is_err());
    let mut writer = FileWriter::append(&dir, b"f", 4, false).unwrap();
    writer.write(b"xy").unwrap();
    writer.finish(&form(0o600)).unwrap();
    assert_eq!(std::fs::read(temp.path().join("f")).unwrap(), b"0123xy");
    let mut writer = FileWriter::open(&dir, b"f", true).unwrap();
    writer.write_at(1, &[0, 0]).unwrap();
    writer.finish(&form(0o600)).unwrap();
    assert_eq!(std::fs::read(temp.path().join("f")).unwrap(), b"0\0\x003xy");
    dir.symlink(b"f", b"l").unwrap();
    assert!(FileWriter::append(&dir, b"l", 0, false).unwrap_err().is_escape());
    assert!(FileWriter::open(&dir, b"l", false).unwrap_err().is_escape());
}

#[test]
fn holes_stay_holes() {
    let (temp, dir) = scratch();
    let mut writer = FileWriter::create(&dir, b"f", 0o600, true).unwrap();
    let mib = vec![0; 1024 * 1024];
    for _ in 0..8 {
        writer.write(&mib).unwrap();
    }
    writer.write(b"data").unwrap();
    writer.write(&mib).unwrap();
    writer.finish(&form(0o600)).unwrap();
    let written = dir.stat(b"f").unwrap();
    assert_eq!(written.size, 9 * 1024 * 1024 + 4);
    assert!(std::fs::metadata(temp.path().join("f")).unwrap().blocks() * 512 < 64 * 1024);
    assert!(written.may_have_holes());
    let source = dir.open_read(b"f").unwrap();
    let mut copy = FileWriter::create(&dir, b"g", 0o600, true).unwrap();
    copy.copy_range(&source, 0, 0, written.size).unwrap();
    copy.finish(&form(0o600)).unwrap();
    let copied = dir.stat(b"g").unwrap();
    assert!(copied.size == written.size && copied.blocks * 512 < 64 * 1024);
    assert!(std::fs::read(temp.path().join("f")).unwrap() == std::fs::read(temp.path().join("g")).unwrap());
}

#[test]
fn ranges_are_copied_from_another_file() {
    let (temp, dir) = scratch();
    let content: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 253) as u8).collect();
    std::fs::write(temp.path().join("s"), &content).unwrap();
    let source = dir.open_read(b"s").unwrap();
    let mut writer = FileWriter::create(&dir, b"f", 0o600, false).unwrap();
    writer.copy_range(&source, 1000, 5, 2_500_000).unwrap();
    writer.write_at(0, b"01234").unwrap();
    assert!(writer.copy_range(&source, 2_999_999, 0, 2).is_err(), "the source ends before that");
    drop(writer);
    let written = std::fs::read(temp.path().join("f")).unwrap();
    assert_eq!(written.len(), 2_500_005);
    assert!(written[5..] == content[1000..2_501_000]);
    let mut clone = FileWriter::create(&dir, b"c", 0o600, false).unwrap();
    if !clone.clone_from(&source).unwrap() {
        clone.copy_range(&source, 0, 0, content.len() as u64).unwrap();
    }
    clone.finish(&form(0o600)).unwrap();
    assert!(std::fs::read(temp.path().join("c")).unwrap() == content);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the pieces: a sparse file reads as what was written, and runs never begin or end with a block of zeros.
    #[test]
    fn a_sparse_file_reads_the_same(blocks in proptest::collection::vec((0_u8..3, 1_usize..9000), 0..12), piece in 1_usize..20_000) {
        let content: Vec<u8> = blocks.iter().flat_map(|(byte, len)| std::iter::repeat_n(*byte / 2, *len)).collect();
        let (temp, dir) = scratch();
        let mut writer = FileWriter::create(&dir, b"f", 0o600, true).unwrap();
        for part in content.chunks(piece) {
            writer.write(part).unwrap();
        }
        writer.finish(&form(0o600)).unwrap();
        prop_assert_eq!(dir.stat(b"f").unwrap().size, content.len() as u64);
        prop_assert!(std::fs::read(temp.path().join("f")).unwrap() == content);
        let runs: Vec<_> = DataRuns::new(0, &content).collect();
        let data: usize = runs.iter().map(|(_, data)| data.iter().filter(|b| **b != 0).count()).sum();
        prop_assert_eq!(data, content.iter().filter(|b| **b != 0).count());
        prop_assert!(runs.iter().all(|(at, data)| at % 4096 == 0 && data[..data.len().min(4096)].iter().any(|b| *b != 0)));
    }
}
