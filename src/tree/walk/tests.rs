//! Tests of the walker.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;
use crate::backup::relpath::RelPath;

fn rel(bytes: &[u8]) -> RelPath {
    RelPath::new(bytes).unwrap()
}

fn all(options: &WalkOptions) -> Vec<WalkItem> {
    let mut items = Vec::new();
    walk(options, &mut |batch| {
        assert!(!batch.is_empty() && batch.len() <= BATCH_MAX);
        items.extend(batch);
        ControlFlow::Continue(())
    })
    .unwrap();
    items
}

fn entries(items: &[WalkItem]) -> Vec<&SourceEntry> {
    items.iter().filter_map(|i| if let WalkItem::Entry(e) = i { Some(e) } else { None }).collect()
}

fn paths(items: &[WalkItem]) -> Vec<String> {
    entries(items).iter().map(|e| e.path.to_string()).collect()
}

fn unseen(items: &[WalkItem]) -> Vec<(String, UnseenReason)> {
    let pick =
        |i: &WalkItem| if let WalkItem::Unseen { path, why } = i { Some((path.to_string(), *why)) } else { None };
    items.iter().filter_map(pick).collect()
}

fn tree(files: &[&str]) -> (tempfile::TempDir, WalkOptions) {
    let temp = tempfile::tempdir().unwrap();
    for file in files {
        let path = temp.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, file).unwrap();
    }
    let options = WalkOptions::new(temp.path());
    (temp, options)
}

#[test]
fn canonical_order_and_true_stats() {
    let (temp, options) = tree(&["a/b/c", "a.b", "a b", "a-", "a/b.x", "z"]);
    symlink("nowhere", temp.path().join("a/l")).unwrap();
    std::fs::hard_link(temp.path().join("z"), temp.path().join("a/h")).unwrap();
    let items = all(&options);
    assert_eq!(paths(&items), ["", "a", "a/b", "a/b/c", "a/b.x", "a/h", "a/l", "a b", "a-", "a.b", "z"]);
    assert!(entries(&items).windows(2).all(|w| w[0].path < w[1].path));
    for entry in entries(&items) {
        let real = std::fs::symlink_metadata(temp.path().join(OsStr::from_bytes(entry.path.as_bytes()))).unwrap();
        let stat = entry.stat;
        assert_eq!((stat.ino, stat.size, stat.mtime.secs), (real.ino(), real.size(), real.mtime()));
        assert_eq!((stat.ctime.secs, i64::from(stat.ctime.nanos)), (real.ctime(), real.ctime_nsec()));
        assert_eq!(entry.target.is_some(), stat.kind == FileKind::Symlink);
        assert!(entry.xattrs.is_none() && entry.read_xattrs().unwrap().is_empty());
        assert_eq!(
            entry.open().is_ok(),
            stat.kind == FileKind::File || (stat.kind == FileKind::Dir && entry.path != RelPath::root())
        );
    }
    assert!(entries(&items)[0].open().is_err(), "a folder has no content");
}

#[test]
fn a_root_may_be_a_link_to_a_folder_a_file_or_missing() {
    let (temp, _) = tree(&["d/f", "file"]);
    symlink("d", temp.path().join("to-dir")).unwrap();
    symlink("file", temp.path().join("to-file")).unwrap();
    let at = |name: &str| WalkOptions::new(temp.path().join(name));
    assert_eq!(paths(&all(&at("to-dir"))), ["", "f"]);
    for (name, kind) in [("file", FileKind::File), ("to-file", FileKind::Symlink)] {
        let items = all(&at(name));
        let [WalkItem::Entry(entry)] = items.as_slice() else { panic!("{items:?}") };
        assert!(entry.path.is_root() && entry.stat.kind == kind && entry.name() == Some(name.as_bytes()));
        assert_eq!(entry.open().is_ok(), kind == FileKind::File);
    }
    let missing = walk(&at("nothing"), &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(missing.is_not_found() && missing.to_string().contains("nothing"), "{missing}");
    assert!(walk(&at("file/below"), &mut |_| ControlFlow::Continue(())).is_err());
}

#[test]
fn without_recursion_only_the_direct_files() {
    let (_temp, mut options) = tree(&["d/f", "e/g", "x"]);
    options.recursive = false;
    let items = all(&options);
    assert_eq!(paths(&items), ["", "x"]);
    let expected = ["d", "e"].map(|d| (d.to_owned(), UnseenReason::NotRecursive));
    assert_eq!(unseen(&items), expected);
}

#[test]
fn what_is_excluded_is_not_reported() {
    let (temp, mut options) = tree(&["keep/a.o", "keep/b.c", "skip/x/y", "c/CACHEDIR.TAG", "c/data", "n/CACHEDIR.TAG"]);
    std::fs::write(temp.path().join("c/CACHEDIR.TAG"), b"Signature: 8a477f597d28d172789f06886806bc55\nmore").unwrap();
    options.filter = Filter::new(&[b"*.o"[..].into(), b"/skip/"[..].into()]).unwrap();
    options.exclude_caches = true;
    let items = all(&options);
    assert_eq!(paths(&items), ["", "keep", "keep/b.c", "n", "n/CACHEDIR.TAG"]);
    assert_eq!(unseen(&items), [("c".to_owned(), UnseenReason::Cache)]);
}

#[test]
fn sockets_and_the_store_are_skipped_with_a_word() {
    let (temp, mut options) = tree(&["store/copy", "x"]);
    let _socket = std::os::unix::net::UnixListener::bind(temp.path().join("s")).unwrap();
    let store = std::fs::metadata(temp.path().join("store")).unwrap();
    options.skip = vec![(store.dev(), store.ino())];
    let items = all(&options);
    assert_eq!(paths(&items), ["", "x"]);
    let skipped: Vec<_> = items
        .iter()
        .filter_map(|i| if let WalkItem::Skipped { path, .. } = i { Some(path.to_string()) } else { None })
        .collect();
    assert_eq!(skipped, ["s", "store"]);
    assert_eq!(unseen(&items), [("store".to_owned(), UnseenReason::Store)]);
}

#[test]
fn names_are_bytes() {
    let (temp, options) = tree(&[]);
    let names: BTreeSet<&[u8]> = [&b"\xff\xfe"[..], b"a\nb", b"-x", &[b'\x80'; 255]].into();
    for name in &names {
        std::fs::write(temp.path().join(OsStr::from_bytes(name)), b"").unwrap();
    }
    let items = all(&options);
    let found: BTreeSet<&[u8]> = entries(&items).iter().filter_map(|e| e.name()).collect();
    assert_eq!(found, names);
}

/// Far deeper than the open directories, and than one system call's path: nothing is lost, no descriptor leaks.
#[test]
fn deep_trees_are_walked_whole() {
    for (name, depth) in [(&b"d"[..], 1500), (&[b'n'; 200], 20)] {
        let (temp, options) = tree(&[]);
        let top = SafeDir::open_operator(temp.path()).unwrap();
        let path = rel(&vec![name; depth].join(&b'/'));
        top.make_dirs(&path, 0o700).unwrap().create_new(b"leaf", 0o600).unwrap();
        // One file beside every directory: the walk comes back to each of them.
        let mut dir = top.try_clone().unwrap();
        for _ in 0..depth {
            dir.create_new(b"z", 0o600).unwrap();
            dir = dir.open_child(name).unwrap();
        }
        let mut open_most = 0;
        let mut found = Vec::new();
        walk(&options, &mut |batch| {
            open_most = open_most.max(std::fs::read_dir("/proc/self/fd").unwrap().count());
            found.extend(batch.into_iter().map(|i| if let WalkItem::Entry(e) = i { e.path } else { panic!("{i:?}") }));
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(found.len(), 2 * depth + 2);
        assert!(found.is_sorted() && found.contains(&path.join(b"leaf").unwrap()));
        assert!(open_most < 700, "{open_most} descriptors");
        top.remove_tree(name).unwrap();
    }
    let long = [[b'n'; 255].as_slice(); 16].join(&b'/');
    let (temp, options) = tree(&[]);
    let top = SafeDir::open_operator(temp.path()).unwrap();
    top.make_dirs(&rel(&long), 0o700).unwrap().create_new(b"too-long", 0o600).unwrap();
    let items = all(&options);
    assert_eq!(entries(&items).len(), 17, "4095 bytes are a path, 4104 are not");
    assert_eq!(unseen(&items), [(rel(&long).to_string(), UnseenReason::Unreadable)]);
    assert!(items.iter().any(|i| matches!(i, WalkItem::Failed { .. })));
    top.remove_tree(&[b'n'; 255]).unwrap();
}

/// As root's tests run too: the thread becomes somebody else.
#[test]
fn an_unreadable_folder_is_seen_and_what_it_holds_is_unseen() {
    let (temp, options) = tree(&["no-read/f", "no-search/f", "ok"]);
    let set = |path: &str, mode| {
        std::fs::set_permissions(temp.path().join(path), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set("", 0o755);
    set("no-read", 0o300);
    set("no-search", 0o444);
    let items = std::thread::scope(|scope| {
        let walker = scope.spawn(|| {
            if rustix::process::geteuid().is_root() {
                rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(1234)).unwrap();
            }
            all(&options)
        });
        walker.join().unwrap()
    });
    if rustix::process::geteuid().is_root() {
        set("", 0o700);
    }
    assert_eq!(paths(&items), ["", "no-read", "no-search", "ok"]);
    let expected = ["no-read", "no-search/f"].map(|p| (p.to_owned(), UnseenReason::Unreadable));
    assert_eq!(unseen(&items), expected);
    let failed: Vec<_> =
        items.iter().filter_map(|i| if let WalkItem::Failed { why, .. } = i { Some(why) } else { None }).collect();
    assert!(
        failed.len() == 2 && failed[0].contains("no-read") && failed[0].contains(temp.path().to_str().unwrap()),
        "{failed:?}"
    );
    set("no-read", 0o700);
    set("no-search", 0o700);
}

#[test]
fn a_mount_below_the_root_is_unseen_and_the_kernels_own_is_never_walked() {
    // The system's own tree has both.
    let mut options = WalkOptions::new("/");
    options.filter = Filter::new(&["/*", "!/proc"].map(|p| p.as_bytes().into())).unwrap();
    let mut root_only = options.clone();
    root_only.one_file_system = true;
    let own = |items: &[WalkItem]| {
        unseen(items).into_iter().filter(|(_, why)| *why == UnseenReason::KernelFileSystem).count()
    };
    if !std::path::Path::new("/proc/self").exists() {
        return;
    }
    let items = all(&options);
    assert_eq!(own(&items), 1);
    assert_eq!(paths(&items), [""]);
    let items = all(&root_only);
    assert!(unseen(&items).contains(&("proc".to_owned(), UnseenReason::OtherFileSystem)));
    assert!(!paths(&items).iter().any(|p| p.starts_with("proc")));
}

#[test]
fn xattrs_are_read_at_once_when_asked_for() {
    let (temp, mut options) = tree(&["d/f"]);
    xattr::set(temp.path().join("d/f"), "user.u", b"1").unwrap();
    xattr::set(temp.path().join("d"), "user.d", b"2").unwrap();
    options.read_xattrs = true;
    let items = all(&options);
    let counts: Vec<_> = entries(&items).iter().map(|e| e.xattrs.as_ref().unwrap().len()).collect();
    assert_eq!(counts, [0, 1, 1]);
    assert_eq!(entries(&items)[2].read_xattrs().unwrap(), *entries(&items)[2].xattrs.as_ref().unwrap());
}

#[test]
fn the_sink_may_end_the_walk() {
    let names: Vec<String> = (0..600).map(|i| format!("f{i}")).collect();
    let (_temp, options) = tree(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut batches = 0;
    walk(&options, &mut |_| {
        batches += 1;
        ControlFlow::Break(())
    })
    .unwrap();
    assert_eq!(batches, 1);
}

/// While somebody renames and swaps as fast as they can, the walk neither leaves the root nor fails as a whole.
#[test]
fn a_walk_of_a_changing_tree_stays_inside() {
    let (temp, options) = tree(&["d/a/in", "d/b/in", "d/c/in"]);
    let outside = tempfile::tempdir().unwrap();
    std::fs::create_dir(outside.path().join("a")).unwrap();
    std::fs::write(outside.path().join("a/secret"), b"x").unwrap();
    symlink(outside.path(), temp.path().join("evil")).unwrap();
    let top = SafeDir::open_operator(temp.path()).unwrap();
    let secret = std::fs::metadata(outside.path().join("a/secret")).unwrap().ino();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                top.exchange(b"d", &top, b"evil").unwrap();
            }
        });
        for _ in 0..2000 {
            let items = all(&options);
            assert!(entries(&items).iter().all(|e| e.stat.ino != secret));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// Of the sources, or of `RBBACKUP_WALK=DIR`: `cargo test --release --lib walk_speed -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn walk_speed() {
    let root = std::env::var_os("RBBACKUP_WALK").unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/src").into());
    for read_xattrs in [false, false, false, true] {
        let mut options = WalkOptions::new(&root);
        options.read_xattrs = read_xattrs;
        let (mut count, begin) = (0, std::time::Instant::now());
        walk(&options, &mut |batch| {
            count += batch.len();
            ControlFlow::Continue(())
        })
        .unwrap();
        println!("{count} items, xattrs {read_xattrs}: {:.3} s", begin.elapsed().as_secs_f64());
    }
}
