//! Tests of the door to the file system.

use std::ffi::OsStr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;

use super::*;

fn rel(bytes: &[u8]) -> RelPath {
    RelPath::new(bytes).unwrap()
}

fn scratch() -> (tempfile::TempDir, SafeDir) {
    let temp = tempfile::tempdir().unwrap();
    let dir = SafeDir::open_operator(temp.path()).unwrap();
    (temp, dir)
}

fn path_of(temp: &tempfile::TempDir, name: &[u8]) -> PathBuf {
    temp.path().join(OsStr::from_bytes(name))
}

const BOTH: [Resolver; 2] = [Resolver::Kernel, Resolver::Components];

#[test]
fn no_symbolic_link_is_followed_on_either_way() {
    let (temp, dir) = scratch();
    let outside = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(outside.path().join("in")).unwrap();
    std::fs::create_dir_all(temp.path().join("real/in")).unwrap();
    symlink(outside.path(), temp.path().join("out")).unwrap();
    symlink("real", temp.path().join("inner")).unwrap();
    std::fs::write(temp.path().join("file"), b"x").unwrap();
    for by in BOTH {
        assert!(dir.open_dir_by(&rel(b"real/in"), by).is_ok());
        for bad in [&b"out"[..], b"out/in", b"inner", b"inner/in"] {
            let error = dir.open_dir_by(&rel(bad), by).unwrap_err();
            assert!(error.is_escape(), "{by:?} {error}");
        }
        assert!(dir.open_dir_by(&rel(b"file"), by).unwrap_err().is_not_found(), "a file is no folder");
        assert!(dir.open_dir_by(&rel(b"none/in"), by).unwrap_err().is_not_found());
    }
    assert!(dir.open_child(b"out").unwrap_err().is_escape());
    symlink("file", temp.path().join("link")).unwrap();
    assert!(dir.open_read(b"link").unwrap_err().is_escape());
    assert!(dir.open_write(b"link").unwrap_err().is_escape());
    assert!(dir.create_new(b"link", 0o600).unwrap_err().is_exists());
    assert!(dir.make_dirs(&rel(b"out/new"), 0o700).unwrap_err().is_escape());
    assert!(!outside.path().join("new").exists());
}

#[test]
fn an_operators_path_may_be_a_symbolic_link() {
    let (temp, dir) = scratch();
    dir.mkdir(b"real", 0o700).unwrap();
    symlink("real", temp.path().join("store")).unwrap();
    SafeDir::open_operator(&temp.path().join("store")).unwrap().mkdir(b"x", 0o700).unwrap();
    assert!(temp.path().join("real/x").is_dir());
}

#[test]
fn bad_names_never_reach_the_kernel() {
    let (_temp, dir) = scratch();
    dir.mkdir(b"a", 0o700).unwrap();
    let long = [b'x'; 256];
    for bad in [&b""[..], b".", b"..", b"a/b", b"/etc", b"a\0b", &long] {
        assert!(dir.stat(bad).is_err());
        assert!(dir.open_read(bad).is_err());
        assert!(dir.create_new(bad, 0o600).is_err());
        assert!(dir.mkdir(bad, 0o700).is_err());
        assert!(dir.symlink(b"t", bad).is_err());
        assert!(dir.rename(b"a", &dir, bad).is_err());
        assert!(dir.rename(bad, &dir, b"b").is_err());
        assert!(dir.link(bad, &dir, b"b").is_err());
        assert!(dir.remove_tree(bad).is_err());
        assert!(dir.open_child(bad).is_err());
        assert!(super::super::xattrs::read_xattrs(&dir, bad).is_err());
    }
    assert_eq!(dir.names().unwrap().len(), 1);
}

/// Somebody swaps a directory for a link to the outside, as fast as they can, while files are created "in" it.
#[test]
fn a_swapped_in_symbolic_link_gets_zero_bytes_outside() {
    let (temp, dir) = scratch();
    let outside = tempfile::tempdir().unwrap();
    std::fs::create_dir(outside.path().join("sub")).unwrap();
    std::fs::create_dir_all(temp.path().join("d/sub")).unwrap();
    symlink(outside.path(), temp.path().join("evil")).unwrap();
    let stop = AtomicBool::new(false);
    let (made, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                dir.exchange(b"d", &dir, b"evil").unwrap();
            }
        });
        // The other thread may get its turn late.
        let took_place = || made.load(Ordering::Relaxed) > 0 && refused.load(Ordering::Relaxed) > 0;
        for i in (0..1_000_000_usize).take_while(|i| *i < 10_000 || !took_place()) {
            let by = BOTH[i % 2];
            let path = rel(if i % 4 < 2 { b"d/sub" } else { b"d" });
            let name = format!("f{i}");
            match dir.open_dir_by(&path, by).and_then(|d| d.create_new(name.as_bytes(), 0o600)) {
                Ok(_) => made.fetch_add(1, Ordering::Relaxed),
                Err(_) => refused.fetch_add(1, Ordering::Relaxed),
            };
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(made.load(Ordering::Relaxed) > 0 && refused.load(Ordering::Relaxed) > 0, "the race took place");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(outside.path().join("sub")).unwrap().count(), 0);
}

#[test]
fn names_are_bytes() {
    let (temp, dir) = scratch();
    let longest = [b'\xfe'; 255];
    let mut names: Vec<&[u8]> = vec![b"-rf", b"a\nb", b"\xff\xfe", b" ", "año".as_bytes(), b"*", &longest];
    for name in &names {
        dir.create_new(name, 0o600).unwrap();
        assert_eq!(dir.stat(name).unwrap().kind, FileKind::File);
        assert!(path_of(&temp, name).is_file());
    }
    names.sort_unstable();
    let listed = dir.names().unwrap();
    assert_eq!(listed.iter().map(|n| n.name.as_slice()).collect::<Vec<_>>(), names);
    assert!(listed.iter().all(|n| n.is_dir != Some(true)));
    let error = dir.open_child(b"no\x1bsuch").unwrap_err();
    assert!(error.to_string().contains("no\\x1bsuch"), "{error}");
}

#[test]
fn paths_as_long_as_they_may_be() {
    let (_temp, dir) = scratch();
    let long_names = [[b'n'; 255].as_slice(); 16].join(&b'/');
    let many_names = vec![b"d".as_slice(); 2048].join(&b'/');
    for bytes in [long_names, many_names] {
        assert!(bytes.len() == 4095);
        let path = rel(&bytes);
        dir.make_dirs(&path, 0o700).unwrap().create_new(b"leaf", 0o600).unwrap();
        for by in BOTH {
            assert!(dir.open_dir_by(&path, by).unwrap().stat(b"leaf").is_ok());
        }
    }
    // Deeper than a path can say, and with far more levels than descriptors.
    let mut deep = dir.open_dir(&rel(&vec![b"d".as_slice(); 2048].join(&b'/'))).unwrap();
    for _ in 0..800 {
        deep.mkdir(b"e", 0o700).unwrap();
        deep = deep.open_child(b"e").unwrap();
    }
    dir.remove_tree(b"d").unwrap();
    dir.remove_tree(&[b'n'; 255]).unwrap();
    assert!(dir.names().unwrap().is_empty());
}

#[test]
fn remove_tree_takes_links_not_what_they_point_to() {
    let (temp, dir) = scratch();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("keep"), b"x").unwrap();
    for sub in ["t/a/b", "t/c", "t/z/y/x"] {
        std::fs::create_dir_all(temp.path().join(sub)).unwrap();
        std::fs::write(temp.path().join(sub).join("f"), b"x").unwrap();
        symlink(outside.path(), temp.path().join(sub).join("link")).unwrap();
    }
    dir.remove_tree(b"t").unwrap();
    assert!(dir.names().unwrap().is_empty());
    assert!(outside.path().join("keep").exists());
    dir.symlink(outside.path().as_os_str().as_bytes(), b"top").unwrap();
    dir.remove_tree(b"top").unwrap();
    assert!(outside.path().join("keep").exists());
    assert!(dir.remove_tree(b"top").unwrap_err().is_not_found());
}

#[test]
fn leaf_calls_do_what_they_say() {
    let (temp, dir) = scratch();
    let sub = dir.make_dirs(&rel(b"s/t"), 0o700).unwrap();
    assert_eq!(sub.stat_self().unwrap().ino, dir.make_dirs(&rel(b"s/t"), 0o700).unwrap().stat_self().unwrap().ino);
    std::fs::write(temp.path().join("a"), b"a").unwrap();
    std::fs::write(temp.path().join("b"), b"bb").unwrap();
    assert!(dir.rename_noreplace(b"a", &dir, b"b").unwrap_err().is_exists());
    assert!(dir.rename_after_look(b"a", &dir, b"b").unwrap_err().is_exists());
    dir.rename_after_look(b"a", &sub, b"a").unwrap();
    sub.rename_noreplace(b"a", &dir, b"a").unwrap();
    dir.exchange(b"a", &dir, b"b").unwrap();
    assert_eq!(std::fs::read(temp.path().join("a")).unwrap(), b"bb");
    dir.link(b"a", &sub, b"hard").unwrap();
    assert_eq!(dir.stat(b"a").unwrap().nlink, 2);
    assert!(dir.stat(b"a").unwrap().same_inode(&sub.stat(b"hard").unwrap()));
    dir.symlink(b"no/where\xff", b"l").unwrap();
    assert_eq!(dir.read_link(b"l").unwrap(), b"no/where\xff");
    dir.link(b"l", &sub, b"l2").unwrap();
    assert_eq!(sub.stat(b"l2").unwrap().kind, FileKind::Symlink);
    dir.mkfifo(b"p", 0o600).unwrap();
    assert!(std::fs::metadata(temp.path().join("p")).unwrap().file_type().is_fifo());
    drop(dir.open_read(b"p").unwrap()); // does not wait for a writer
    assert!(dir.rmdir(b"s").unwrap_err().is_not_empty());
    dir.rename(b"b", &dir, b"a").unwrap();
    dir.unlink(b"a").unwrap();
    assert!(dir.stat(b"a").unwrap_err().is_not_found());
    dir.sync().unwrap();
    let stat = dir.stat(b"s").unwrap();
    let real = std::fs::metadata(temp.path().join("s")).unwrap();
    assert_eq!((stat.ino, stat.dev, stat.uid, stat.nlink), (real.ino(), real.dev(), real.uid(), real.nlink() as u32));
    assert_eq!((stat.mtime.secs, i64::from(stat.mtime.nanos)), (real.mtime(), real.mtime_nsec()));
    assert_eq!(stat.mode, real.mode() & 0o7777);
    if rustix::process::geteuid().is_root() {
        dir.mknod(b"null", FileKind::CharDevice, 0o600, 1, 3).unwrap();
        let stat = dir.stat(b"null").unwrap();
        assert_eq!((stat.kind, stat.rdev_major, stat.rdev_minor), (FileKind::CharDevice, 1, 3));
    }
    assert!(dir.mknod(b"x", FileKind::File, 0o600, 1, 3).is_err());
}

/// The symlink race: a folder on the way, or the last one, is swapped for a link to outside all the time. Whichever way the
/// path is resolved, what is written lands inside or is refused.
#[test]
fn a_folder_that_becomes_a_link_again_and_again_leads_nowhere() {
    use std::sync::atomic::AtomicBool;

    use rustix::fs::{RenameFlags, renameat_with};
    for (by, swapped) in
        [(Resolver::Kernel, "a"), (Resolver::Kernel, "a/b"), (Resolver::Components, "a"), (Resolver::Components, "a/b")]
    {
        let temp = tempfile::tempdir().unwrap();
        let (inside, outside) = (temp.path().join("inside"), temp.path().join("outside"));
        std::fs::create_dir_all(inside.join("a/b")).unwrap();
        std::fs::create_dir_all(outside.join("b")).unwrap();
        let (folder, link) = (inside.join(swapped), temp.path().join("link"));
        let leads = if swapped == "a" { outside.clone() } else { outside.join("b") };
        std::os::unix::fs::symlink(leads, &link).unwrap();
        let top = SafeDir::open_operator(&inside).unwrap();
        let path = RelPath::new(b"a/b").unwrap();
        let stop = AtomicBool::new(false);
        let (mut written, mut refused, mut odd) = (0, 0, None);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let _ = renameat_with(CWD, &folder, CWD, &link, RenameFlags::EXCHANGE);
                    std::thread::yield_now();
                }
            });
            for n in 0..1_000_000 {
                // The other thread may get its turn late.
                if n >= 10_000 && written > 0 && refused > 0 {
                    break;
                }
                match top.open_dir_by(&path, by).and_then(|dir| dir.create_new(format!("{n}").as_bytes(), 0o600)) {
                    Ok(_) => written += 1,
                    // "Not a directory" is what a link is called that is a folder again when it is looked at.
                    Err(e) if e.is_escape() || e.is_not_a_directory() => refused += 1,
                    Err(e) => odd = Some(e),
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(odd.is_none(), "{odd:?}");
        assert!(written > 0 && refused > 0, "{by:?} {swapped}: {written} written, {refused} refused");
        assert_eq!(std::fs::read_dir(outside.join("b")).unwrap().count(), 0, "{by:?} {swapped}");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1, "{by:?} {swapped}");
    }
}
