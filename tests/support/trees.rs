//! Trees to back up, and the comparison of two of them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::daemon::is_root;
use super::state::{State, differences, read};

/// Bytes that do not compress and are the same in every run.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

/// Writes a file, its folders made.
pub fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Sets the time of the last change.
pub fn set_time(path: &Path, secs: u64, nanos: u32) {
    let time = UNIX_EPOCH + Duration::new(secs, nanos);
    File::open(path).unwrap().set_modified(time).unwrap();
}

pub fn time_of(path: &Path) -> SystemTime {
    path.symlink_metadata().unwrap().modified().unwrap()
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// A little of everything that a plain copy holds: modes, times with nanoseconds, links of both kinds, a pipe, xattrs,
/// an empty file and folder, a hole, a file of many chunks, names with every byte.
pub fn plant(top: &Path) {
    write(&top.join("readme"), "read me\n");
    write(&top.join("empty"), "");
    write(&top.join("docs/a/b/c/deep"), "deep\n");
    write(&top.join("docs/script"), "#!/bin/sh\n");
    set_mode(&top.join("docs/script"), 0o751);
    write(&top.join("docs/private"), "private");
    set_mode(&top.join("docs/private"), 0o600);
    write(&top.join("large"), noise(1, 700_000));
    write(&top.join("twin/one"), "one inode, three names");
    fs::hard_link(top.join("twin/one"), top.join("twin/two")).unwrap();
    fs::hard_link(top.join("twin/one"), top.join("docs/a/three")).unwrap();
    symlink("docs/a", top.join("link")).unwrap();
    symlink("/nowhere/at all", top.join("docs/broken")).unwrap();
    make_fifo(&top.join("docs/pipe"));
    fs::create_dir(top.join("hollow")).unwrap();
    set_mode(&top.join("hollow"), 0o711);
    hole(&top.join("holes"));
    xattr::set(top.join("readme"), "user.colour", b"blue\0green").unwrap();
    xattr::set(top.join("docs"), "user.folder", b"").unwrap();
    every_byte(&top.join("names"));
    set_time(&top.join("readme"), 1_000_000_000, 123_456_789);
    set_time(&top.join("docs/a/b"), 1_100_000_000, 1);
    set_time(&top.join("large"), 1_500_000_000, 999_999_999);
}

/// A file of 4 MiB with 8 KiB in it.
pub fn hole(path: &Path) {
    let file = File::create(path).unwrap();
    file.write_all_at(&noise(2, 4096), 1 << 20).unwrap();
    file.write_all_at(&noise(3, 4096), 3 << 20).unwrap();
    file.set_len(4 << 20).unwrap();
}

/// Bytes on disk.
pub fn allocated(path: &Path) -> u64 {
    path.metadata().unwrap().blocks() * 512
}

pub fn make_fifo(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o640);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

/// A file for every byte that a name can hold, and longest names.
fn every_byte(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    for byte in (1..=255u8).filter(|byte| *byte != b'/') {
        let name = [b"n".as_slice(), &[byte], b"n"].concat();
        write(&dir.join(OsStr::from_bytes(&name)), [byte]);
    }
    write(&dir.join("l".repeat(255)), "long");
    write(&dir.join("..."), "dots");
    write(&dir.join("-rf"), "option");
    write(&dir.join(" "), "blank");
    write(&dir.join(".rbbackup/format"), "not the store's");
}

/// `folders` folders of `files` small files each, all different.
pub fn many(top: &Path, folders: usize, files: usize) {
    for folder in 0..folders {
        for file in 0..files {
            write(&top.join(format!("f{folder:02}/{file:03}")), format!("file {file} of {folder}"));
        }
    }
}

/// A tree as a plain copy shall show it; a daemon that is not root does not set owners.
pub fn shape(top: &Path) -> State {
    let mut state = read(top);
    if !is_root() {
        state.values_mut().for_each(|node| node.owner = (0, 0));
    }
    state
}

/// Two trees must be the same.
#[track_caller]
pub fn assert_same(found: &Path, wanted: &Path) {
    assert_shape(found, &shape(wanted));
}

/// A tree must be so.
#[track_caller]
pub fn assert_shape(found: &Path, wanted: &State) {
    let differences = differences(&shape(found), wanted);
    assert!(differences.is_empty(), "{}:\n{}", found.display(), differences.join("\n"));
}

/// Waits until at least so many bytes of a run are in the staging of a store.
#[track_caller]
pub fn wait_staged(store: &Path, bytes: u64) {
    fn held(dir: &Path) -> u64 {
        let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
        let each = entries.flatten().map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => held(&entry.path()),
            // A file that arrives has holes.
            Ok(meta) => std::os::unix::fs::MetadataExt::blocks(&meta) * 512,
            Err(_) => 0,
        });
        each.sum()
    }
    super::patience::wait_until("the content to be staged", || held(&store.join(".rbbackup/staging")) >= bytes);
}
