//! Trees written as one line each: `d dir`, `f path=content`, `F path=seed` (a large file), `h path=other` (hard link),
//! `s path=target`, `p fifo`; `@` is the top itself. `f path=content,640` has a mode, `f path=content,x` an xattr.
//! Directories on the way are made. Times follow from what a thing is, so a moved one keeps its own.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::rng::Rng;

/// Large enough to travel in chunks.
const LARGE_BYTES: usize = 3 << 20;

/// Makes the tree at `top`, which must not be there.
pub fn build(top: &Path, spec: &str) {
    let at = |path: &str| if path == "@" { top.to_path_buf() } else { top.join(path) };
    let words: Vec<&str> = spec.split_whitespace().collect();
    for pair in words.chunks(2) {
        let [kind, what] = pair else { panic!("a kind without a path: {spec}") };
        let (path, value) = what.split_once('=').unwrap_or((what, ""));
        let place = at(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        match *kind {
            "d" => fs::create_dir_all(&place).unwrap(),
            "f" => file(&place, value),
            "F" => write(&place, &large(value), value),
            "h" => fs::hard_link(at(value), &place).unwrap(),
            "s" => {
                std::os::unix::fs::symlink(value, &place).unwrap();
                set_mtime(&place, hash(value));
            }
            "p" => {
                rustix::fs::mknodat(rustix::fs::CWD, &place, rustix::fs::FileType::Fifo, 0o640.into(), 0).unwrap();
                set_mtime(&place, 7);
            }
            other => panic!("no such kind: {other}"),
        }
    }
    set_dir_times(top);
}

/// Seeds that differ by their last digit only make files that share all but a few bytes.
fn large(value: &str) -> Vec<u8> {
    let (base, edit) = value.split_at(value.len() - 1);
    let mut bytes = Rng::new(hash(base)).bytes(LARGE_BYTES);
    bytes.splice(LARGE_BYTES / 2..LARGE_BYTES / 2, edit.bytes());
    bytes
}

fn file(place: &Path, value: &str) {
    let (content, extra) = value.split_once(',').unwrap_or((value, ""));
    write(place, content.as_bytes(), content);
    match extra {
        "" => {}
        "x" => xattr::set(place, "user.test", b"value").unwrap(),
        mode => {
            let mode = u32::from_str_radix(mode, 8).unwrap();
            fs::set_permissions(place, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}

fn write(place: &Path, content: &[u8], label: &str) {
    fs::write(place, content).unwrap();
    fs::set_permissions(place, fs::Permissions::from_mode(0o644)).unwrap();
    set_mtime(place, hash(label));
}

/// Every directory's time follows from the names in it.
fn set_dir_times(dir: &Path) {
    if !dir.symlink_metadata().unwrap().is_dir() {
        return;
    }
    let mut names: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    names.iter().for_each(|path| set_dir_times(path));
    let listing: Vec<_> = names.iter().map(|path| path.file_name().unwrap().to_string_lossy()).collect();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    set_mtime(dir, hash(&listing.join("/")));
}

fn hash(text: &str) -> u64 {
    u64::from_le_bytes(blake3::hash(text.as_bytes()).as_bytes()[..8].try_into().unwrap())
}

/// Some time in 2001 to 2033, to the nanosecond.
pub fn set_mtime(place: &Path, number: u64) {
    let time =
        rustix::fs::Timespec { tv_sec: 1_000_000_000 + (number >> 34) as i64, tv_nsec: (number % 1_000_000_000) as _ };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, place, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// A folder that is removed and made anew, for a store that starts over.
pub fn make_dir(path: &Path) {
    fs::DirBuilder::new().mode(0o700).create(path).unwrap();
}
