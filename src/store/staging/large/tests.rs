//! Large files with zeros in them.

use super::*;
use crate::store::names::CopyName;
use crate::tree::metadata::StorePolicy;
use crate::tree::safe_dir::SafeDir;

const LEN: usize = 40_000;

fn staging(temp: &tempfile::TempDir) -> Staging {
    let parent = SafeDir::open_operator(temp.path()).unwrap();
    Staging::open(&parent, &CopyName::local(b"u").unwrap(), &RelPath::root(), StorePolicy { is_root: false }).unwrap()
}

fn open(staging: &Staging) -> LargeWriter {
    LargeWriter::open(staging, &RelPath::new(b"f").unwrap(), SizeClass::Kib64).unwrap()
}

/// One byte over and over; from 100 on the second half is zeros.
fn chunk(byte: u8) -> Vec<u8> {
    let mut chunk = vec![byte; LEN];
    if byte >= 100 {
        chunk[LEN / 2..].fill(0);
    }
    chunk
}

fn piece(byte: u8) -> Piece {
    Piece::new(&Arc::new(chunk(byte)), 0..LEN)
}

/// Offers the chunks of a file, and sends what is asked for.
fn write(writer: &mut LargeWriter, content: &[u8]) -> usize {
    let mut sent = 0;
    for byte in content {
        let (digest, len) = (Digest::of(piece(*byte).as_slice()), LEN as u32);
        let own = writer.own(&digest, len);
        let arrives = own.is_none();
        writer.announce(digest, len, own.unwrap_or(Chunk::Arrives)).unwrap();
        if arrives {
            writer.arrive(&piece(*byte)).unwrap();
            sent += 1;
        }
    }
    sent
}

fn finish(writer: LargeWriter, staging: &Staging, content: &[u8]) {
    let whole: Vec<u8> = content.iter().flat_map(|byte| chunk(*byte)).collect();
    let form = Meta { mode: 0o600, ..Meta::default() };
    let recipe = writer.finish(staging, &form, Digest::of(&whole), false).unwrap().unwrap();
    assert_eq!(recipe.size(), whole.len() as u64);
    let (dir, name) = staging.parent(&RelPath::new(b"f").unwrap()).unwrap();
    let mut found = Vec::new();
    std::io::Read::read_to_end(&mut dir.open_read(&name).unwrap(), &mut found).unwrap();
    assert!(found == whole);
}

#[test]
fn zeros_are_read_again_where_they_were_not_written() {
    let temp = tempfile::tempdir().unwrap();
    let files: [&[u8]; 6] = [
        &[0, 0, 0, 0],
        &[1, 0, 0, 1, 0, 0],
        &[0, 0, 2, 0, 0, 2, 2, 0],
        &[100, 0, 100],
        &[0, 100, 0, 0, 100],
        &[100, 0, 0, 101, 100, 0, 101],
    ];
    for content in files {
        let staging = staging(&temp);
        let mut writer = open(&staging);
        let distinct = content.iter().collect::<std::collections::BTreeSet<_>>().len();
        assert_eq!(write(&mut writer, content), distinct, "each content is sent once");
        assert!(writer.take_written() <= content.iter().filter(|byte| **byte != 0).count() as u64 * LEN as u64);
        finish(writer, &staging, content);
        staging.remove(&SafeDir::open_operator(temp.path()).unwrap()).unwrap();
    }
}

/// Zeros that come where an earlier attempt left something else are written.
#[test]
fn zeros_take_the_place_of_what_was_left() {
    let temp = tempfile::tempdir().unwrap();
    let staging = staging(&temp);
    let mut writer = open(&staging);
    write(&mut writer, &[1, 2, 3, 4]);
    drop(writer);
    let content = [1, 0, 0, 4, 0, 0];
    let mut writer = open(&staging);
    write(&mut writer, &content);
    finish(writer, &staging, &content);
}
