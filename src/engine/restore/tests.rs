//! Restore, list, status and forget against a real store in a temporary folder, over a link in memory.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Mutex;

use super::*;
use crate::engine::inspect;
use crate::engine::observer::Silent;
use crate::engine::push::{PushOptions, push};

mod cut;
mod hostile;

/// A source, a store and a place to restore to.
struct World {
    temp: tempfile::TempDir,
    client: ClientOptions,
}

/// Everything about one path that a user would notice.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    what: String,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

type Picture = BTreeMap<Vec<u8>, Seen>;
fn picture(root: &Path) -> Picture {
    let mut seen = BTreeMap::new();
    look(root, Vec::new(), &mut seen, &mut BTreeMap::new());
    seen
}

fn look(path: &Path, name: Vec<u8>, seen: &mut Picture, firsts: &mut BTreeMap<u64, Vec<u8>>) {
    let meta = fs::symlink_metadata(path).unwrap();
    let mut names = Vec::new();
    let what = if meta.is_dir() {
        names = fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_vec()).collect();
        names.sort();
        "folder".to_owned()
    } else if meta.is_symlink() {
        format!("-> {}", fs::read_link(path).unwrap().display())
    } else if meta.is_file() {
        let first = firsts.entry(meta.ino()).or_insert_with(|| name.clone()).clone();
        let shared = if meta.nlink() > 1 { escape(&first) } else { String::new() };
        format!("{} {} {shared}", meta.len(), blake3::hash(&fs::read(path).unwrap()))
    } else {
        format!("special {:?}", meta.file_type())
    };
    let mode = if meta.is_symlink() { 0 } else { meta.mode() };
    let xattrs = xattr::list(path).unwrap().map(|n| (n.clone().into_vec(), xattr::get(path, &n).unwrap().unwrap()));
    let mut xattrs: Vec<_> = xattrs.filter(|(name, _)| name.starts_with(b"user.")).collect();
    xattrs.sort();
    let (owner, mtime) = ((meta.uid(), meta.gid()), (meta.mtime(), meta.mtime_nsec()));
    seen.insert(name.clone(), Seen { mode, owner, mtime, what, xattrs });
    for child in names {
        let full = if name.is_empty() { child.clone() } else { [&name[..], b"/", &child].concat() };
        look(&path.join(std::ffi::OsString::from_vec(child)), full, seen, firsts);
    }
}

fn set_mtime(path: &Path, secs: i64, nanos: i64) {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
    let time = Timespec { tv_sec: secs, tv_nsec: nanos };
    utimensat(CWD, path, &Timestamps { last_access: time, last_modification: time }, AtFlags::SYMLINK_NOFOLLOW)
        .unwrap();
}

impl World {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let client = ClientOptions::of_store(&temp.path().join("store"), temp.path());
        fs::create_dir(temp.path().join("src")).unwrap();
        Self { temp, client }
    }

    fn src(&self) -> PathBuf {
        self.temp.path().join("src")
    }

    fn out(&self) -> PathBuf {
        self.temp.path().join("out/src")
    }

    /// Where a path of the source stands in the plain copy.
    fn copy(&self, path: &str) -> PathBuf {
        let src = self.src();
        self.temp.path().join("store/127.0.0.1/u").join(src.strip_prefix("/").unwrap()).join(path)
    }

    fn write(&self, path: &str, content: &[u8]) -> PathBuf {
        let path = self.src().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// One of everything.
    fn fill(&self) {
        let src = self.src();
        for i in 0..300 {
            self.write(&format!("many/d{}/f{i}", i % 7), format!("content {i}").repeat(i).as_bytes());
        }
        let big: Vec<u8> = (0..3_500_001_u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        self.write("big", &big);
        self.write("empty", b"");
        self.write("exactly", &vec![7; 1 << 20]);
        let sparse = fs::File::create(src.join("sparse")).unwrap();
        sparse.set_len(20 << 20).unwrap();
        sparse.write_all_at(b"middle", 9_000_000).unwrap();
        let first = self.write("links/a", b"linked");
        fs::hard_link(&first, src.join("links/z")).unwrap();
        fs::create_dir(src.join("more")).unwrap();
        fs::hard_link(&first, src.join("more/b")).unwrap();
        fs::hard_link(&first, src.join("more/c")).unwrap();
        symlink("../nowhere", src.join("more/dangling")).unwrap();
        set_mtime(&src.join("more/dangling"), 1_234_567_890, 7);
        rustix::fs::mknodat(rustix::fs::CWD, src.join("pipe"), rustix::fs::FileType::Fifo, 0o640.into(), 0).unwrap();
        self.write("mode", b"x");
        fs::set_permissions(src.join("mode"), fs::Permissions::from_mode(0o4711)).unwrap();
        let odd = std::ffi::OsString::from_vec(b"-odd \xff\n".to_vec());
        fs::write(src.join(odd), b"odd").unwrap();
        if xattr::set(src.join("big"), "user.colour", b"blue\0").is_ok() {
            xattr::set(src.join("more"), "user.shape", b"round").unwrap();
        }
        set_mtime(&src.join("big"), 1_000_000_000, 123_456_789);
        self.write("closed/inside", b"shut");
        fs::set_permissions(src.join("closed"), fs::Permissions::from_mode(0o555)).unwrap();
        set_mtime(&src.join("closed"), -5, 3);
        set_mtime(&src, 1_500_000_000, 1);
    }

    fn push(&self) {
        self.push_with(true);
    }

    fn push_with(&self, delete: bool) {
        let options =
            PushOptions { root: self.src(), recursive: true, delete, force_delete: true, ..Default::default() };
        let summary = push(&self.client, &options, &Silent).unwrap();
        assert_eq!((summary.errors, summary.notes), (0, vec![]));
    }

    fn options(&self, path: &str) -> RestoreOptions {
        RestoreOptions {
            when: When::Latest,
            path: self.src().join(path).components().collect(),
            to: Some(self.temp.path().join("out")),
            overwrite: Overwrite::Changed,
            delete: false,
            dry_run: false,
        }
    }

    fn restore(&self, options: &RestoreOptions) -> RestoreSummary {
        restore(&self.client, options, &Silent).unwrap()
    }

    /// Restores all of the source, without a word.
    fn restore_all(&self) -> RestoreSummary {
        let summary = self.restore(&self.options(""));
        assert_eq!((summary.errors, &summary.notes[..]), (0, &[][..]));
        summary
    }
}

/// Remembers what was told.
#[derive(Default)]
struct Ears(Mutex<Vec<String>>);

impl Observer for Ears {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Failed { path, why } => self.0.lock().unwrap().push(format!("{}: {why}", escape(path))),
            Event::PlanLine { action, path, .. } => self.0.lock().unwrap().push(format!("{action} {}", escape(path))),
            _ => {}
        }
    }
}

#[test]
fn an_empty_place_gets_everything() {
    let world = World::new();
    world.fill();
    world.push();
    let summary = world.restore_all();
    assert_eq!(picture(&world.out()), picture(&world.src()));
    let sparse = fs::metadata(world.out().join("sparse")).unwrap();
    assert!(sparse.blocks() * 512 < 1 << 20, "holes come back");
    assert_eq!(summary.created, picture(&world.src()).len() as u64);
    assert!(summary.bytes == summary.content_bytes_received && summary.complete && summary.snapshot == 1);
    // A second time there is nothing to do.
    let again = world.restore_all();
    assert_eq!((again.content_bytes_received, again.created, again.updated, again.touched), (0, 0, 0, 0));
    assert_eq!(again.unchanged, summary.created);
    assert_eq!(picture(&world.out()), picture(&world.src()));
}

#[test]
fn onto_a_damaged_tree_only_what_differs_travels() {
    let world = World::new();
    world.fill();
    world.push();
    world.restore_all();
    let out = world.out();
    fs::remove_file(out.join("many/d3/f3")).unwrap();
    let damaged = out.join("many/d4/f200");
    let size = fs::metadata(&damaged).unwrap().len();
    let before = fs::metadata(&damaged).unwrap();
    fs::OpenOptions::new().write(true).open(&damaged).unwrap().write_all_at(b"X", 5).unwrap();
    set_mtime(&damaged, before.mtime(), before.mtime_nsec());
    fs::set_permissions(out.join("exactly"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(out.join("more/dangling")).unwrap();
    symlink("/etc", out.join("more/dangling")).unwrap();
    // A file for a folder, a separate file for a hard link.
    fs::remove_dir_all(out.join("many/d5")).unwrap();
    fs::write(out.join("many/d5"), "in the way").unwrap();
    fs::remove_file(out.join("more/c")).unwrap();
    fs::write(out.join("more/c"), "linked").unwrap();
    fs::write(out.join("mine"), "stays").unwrap();
    let summary = world.restore_all();
    let d5: u64 = picture(&world.src())
        .iter()
        .filter(|(path, _)| path.starts_with(b"many/d5/"))
        .map(|(_, seen)| seen.what.split(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    let f3 = "content 3".repeat(3).len() as u64;
    assert_eq!(summary.content_bytes_received, f3 + size + d5);
    let mut now = picture(&out);
    assert!(now.remove(&b"mine"[..]).is_some());
    assert_eq!(now, picture(&world.src()));
    let deleted = world.restore(&RestoreOptions { delete: true, ..world.options("") });
    assert_eq!((deleted.deleted, deleted.errors), (1, 0));
    assert_eq!(picture(&out), picture(&world.src()));
}

#[test]
fn a_link_in_the_target_is_not_followed() {
    let world = World::new();
    world.write("sub/file", b"from the backup");
    world.push();
    let outside = world.temp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::create_dir_all(world.out()).unwrap();
    symlink(&outside, world.out().join("sub")).unwrap();
    world.restore_all();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(picture(&world.out()), picture(&world.src()));
}

#[test]
fn overwrite_says_what_happens_to_files_that_are_there() {
    let world = World::new();
    for name in ["older", "newer", "same"] {
        set_mtime(&world.write(name, b"backed up"), 1_000_000, 0);
    }
    world.push();
    let prepare = || {
        let _ = fs::remove_dir_all(world.out());
        fs::create_dir_all(world.out()).unwrap();
        for (name, time, content) in
            [("older", 999_999, "local one"), ("newer", 1_000_001, "local one"), ("same", 1_000_000, "backed up")]
        {
            fs::write(world.out().join(name), content).unwrap();
            set_mtime(&world.out().join(name), time, 0);
        }
    };
    let restored = |overwrite| {
        prepare();
        let summary = world.restore(&RestoreOptions { overwrite, ..world.options("") });
        let local = |name: &str| fs::read(world.out().join(name)).unwrap() == b"local one";
        (local("older"), local("newer"), summary.content_bytes_received)
    };
    assert_eq!(restored(Overwrite::Changed), (false, false, 18));
    assert_eq!(restored(Overwrite::Always), (false, false, 27));
    assert_eq!(restored(Overwrite::Newer), (false, true, 9));
    assert_eq!(restored(Overwrite::Never), (true, true, 0));
}

#[test]
fn a_folder_goes_for_a_file_only_with_delete() {
    let world = World::new();
    world.write("thing", b"a file");
    world.push();
    fs::create_dir_all(world.out().join("thing/deep")).unwrap();
    let summary = world.restore(&world.options(""));
    assert_eq!(summary.errors, 1);
    assert!(world.out().join("thing/deep").is_dir());
    let summary = world.restore(&RestoreOptions { delete: true, ..world.options("") });
    assert_eq!((summary.errors, summary.deleted, summary.updated), (0, 1, 1));
    assert_eq!(picture(&world.out()), picture(&world.src()));
}

#[test]
fn a_dry_run_tells_and_changes_nothing() {
    let world = World::new();
    world.fill();
    world.push();
    let dry = RestoreOptions { dry_run: true, ..world.options("") };
    let summary = world.restore(&dry);
    assert!(!world.out().exists() && !world.temp.path().join("out").exists());
    assert_eq!(summary.created, picture(&world.src()).len() as u64);
    assert_eq!(summary.content_bytes_received, summary.bytes);
    world.restore_all();
    fs::remove_dir_all(world.out().join("more")).unwrap();
    let ears = Ears::default();
    let summary = restore(&world.client, &dry, &ears).unwrap();
    assert_eq!((summary.created, summary.errors), (4, 0), "{:?}", ears.0);
    world.restore_all();
    fs::remove_file(world.out().join("empty")).unwrap();
    fs::write(world.out().join("mode"), b"y").unwrap();
    fs::write(world.out().join("extra"), b"y").unwrap();
    fs::set_permissions(world.out().join("big"), fs::Permissions::from_mode(0o600)).unwrap();
    set_mtime(&world.out(), 1_500_000_000, 1);
    let before = picture(&world.out());
    let ears = Ears::default();
    let dry = RestoreOptions { delete: true, ..dry };
    let summary = restore(&world.client, &dry, &ears).unwrap();
    assert_eq!((summary.created, summary.updated, summary.deleted, summary.touched), (1, 1, 1, 1));
    let out = escape(world.out().as_os_str().as_bytes());
    let mut told = ears.0.into_inner().unwrap();
    told.sort();
    let lines = ["create O/empty", "delete O/extra", "touch O/big", "update O/mode"];
    assert_eq!(told, lines.map(|line| line.replace('O', &out)));
    assert_eq!(picture(&world.out()), before);
}

#[test]
fn one_file_or_one_folder_comes_alone_and_to_its_own_place_too() {
    let world = World::new();
    world.fill();
    world.push();
    world.restore(&world.options("more"));
    let out = world.temp.path().join("out");
    let (now, was) = (picture(&out.join("more")), picture(&world.src().join("more")));
    assert_eq!(now, was, "a hard link whose first name lies elsewhere is a link all the same");
    assert_eq!(fs::metadata(out.join("more/b")).unwrap().nlink(), 2);
    world.restore(&world.options("big"));
    assert_eq!(picture(&out.join("big")), picture(&world.src().join("big")));
    let whole = picture(&world.src());
    fs::remove_dir_all(world.src().join("many")).unwrap();
    world.write("big", b"no");
    let back = RestoreOptions { to: None, ..world.options("") };
    world.restore(&back);
    assert_eq!(picture(&world.src()), whole);
    let ears = Ears::default();
    let missing = restore(&world.client, &world.options("not/there"), &ears).unwrap_err();
    assert_eq!(missing.kind, ErrorKind::Absent);
    assert!(missing.message.contains("not/there"), "{missing}");
}

#[test]
fn what_the_newest_backup_lacks_comes_from_history() {
    let world = World::new();
    world.write("keep", b"k");
    world.write("sub/gone", b"gone but kept in history");
    world.write("changed", b"first version");
    world.push();
    fs::remove_dir_all(world.src().join("sub")).unwrap();
    world.write("changed", b"second version");
    world.push();
    let summary = world.restore(&world.options("sub"));
    assert_eq!((summary.snapshot, summary.errors), (1, 0));
    assert_eq!(fs::read(world.temp.path().join("out/sub/gone")).unwrap(), b"gone but kept in history");
    assert_eq!(world.restore_all().snapshot, 2);
    assert_eq!(picture(&world.out()), picture(&world.src()));
    // Without the catalog nothing is lost.
    for name in ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"] {
        let _ = fs::remove_file(world.temp.path().join("store/.rbbackup").join(name));
    }
    fs::remove_dir_all(world.temp.path().join("out")).unwrap();
    assert_eq!(world.restore(&world.options("sub")).errors, 0);
}

#[test]
fn damage_in_the_store_is_told_and_never_written() {
    let world = World::new();
    world.fill();
    world.write("twin", &vec![7; 1 << 20]);
    world.push();
    let damage = |path: &str, at: u64| {
        let file = fs::OpenOptions::new().write(true).open(world.copy(path)).unwrap();
        let meta = file.metadata().unwrap();
        file.write_all_at(b"\xaa\x55", at).unwrap();
        set_mtime(&world.copy(path), meta.mtime(), meta.mtime_nsec());
    };
    damage("many/d1/f8", 3);
    damage("big", 13_000_000);
    damage("exactly", 3);
    fs::remove_file(world.copy("mode")).unwrap();
    let ears = Ears::default();
    let summary = restore(&world.client, &world.options(""), &ears).unwrap();
    let told = ears.0.into_inner().unwrap();
    assert_eq!((summary.errors, told.len()), (3, 3), "{told:?}");
    for name in ["many/d1/f8", "big", "mode"] {
        assert!(told.iter().any(|line| line.contains(&format!("/{name}: "))), "{name}: {told:?}");
        assert!(!world.out().join(name).exists());
    }
    // Its content stands elsewhere in the copy.
    assert_eq!(fs::read(world.out().join("exactly")).unwrap(), vec![7; 1 << 20]);
    let leftovers = picture(&world.out()).keys().filter(|path| path.windows(10).any(|w| w == b".rbbackup-")).count();
    assert_eq!(leftovers, 0);
}

#[test]
fn an_incomplete_or_shallow_snapshot_deletes_nothing_it_did_not_see() {
    let world = World::new();
    world.write("file", b"x");
    world.write("folder/inner", b"y");
    let options = PushOptions { root: world.src(), ..Default::default() };
    push(&world.client, &options, &Silent).unwrap();
    world.write("later", b"z");
    let back = RestoreOptions { to: None, delete: true, ..world.options("") };
    let summary = world.restore(&back);
    assert_eq!((summary.deleted, summary.errors), (1, 0));
    assert!(world.src().join("folder/inner").exists() && !world.src().join("later").exists());
}

#[test]
fn listing_status_and_forget() {
    let world = World::new();
    world.fill();
    let list = |path: Option<&Path>| {
        let mut lines = Vec::new();
        let listing = inspect::list(&world.client, path, When::Latest, &mut |e| {
            lines.push((e.path, e.entry, e.user));
            std::ops::ControlFlow::Continue(())
        });
        listing.map(|listing| (listing, lines))
    };
    let nothing = list(Some(&world.src())).unwrap_err();
    assert!(nothing.message.contains("does not exist"), "{nothing}");
    world.push();
    let (listing, lines) = list(Some(&world.src())).unwrap();
    assert_eq!(listing.unwrap().snapshot, 1);
    let top = picture(&world.src()).keys().filter(|path| !path.is_empty() && !path.contains(&b'/')).count();
    assert_eq!(lines.len(), top);
    let many = world.src().join("many");
    assert!(lines.iter().any(|(path, entry, user)| {
        *path == many.as_os_str().as_bytes() && entry.path.as_bytes() == b"many" && entry.is_dir() && user.is_some()
    }));
    assert_eq!(list(Some(&world.src().join("big"))).unwrap().1.len(), 1);
    let (none, roots) = list(None).unwrap();
    assert!(none.is_none() && roots.len() == 1 && roots[0].0 == world.src().as_os_str().as_bytes());
    let status = inspect::status(&world.client).unwrap();
    assert_eq!((status.roots.len(), status.roots[0].snapshot, status.retired_files), (1, 1, 0));
    let summary = inspect::forget(&world.client, &world.src(), &Silent).unwrap();
    assert!(summary.deleted > 300 && !world.copy("").join("big").exists());
    let status = inspect::status(&world.client).unwrap();
    assert!(status.roots.is_empty() && status.retired_files > 300, "{status:?}");
    world.restore_all();
    assert_eq!(picture(&world.out()), picture(&world.src()), "what was forgotten is still in history");
    let error = inspect::forget(&world.client, &world.src(), &Silent).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Failed);
}

#[test]
fn what_an_earlier_killed_restore_left_does_not_disturb() {
    let world = World::new();
    world.write("a", b"x");
    world.push();
    fs::create_dir_all(world.out()).unwrap();
    fs::File::create(world.out().join(".rbbackup-0-0")).unwrap().write_all(b"old").unwrap();
    assert_eq!(world.restore_all().created, 1);
}
