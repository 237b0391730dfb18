//! Check 10: what a restore brings back, onto what, and for whom.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::client::Client;
use crate::support::daemon::{World, is_root, login, skipped};
use crate::support::trees::{
    allocated, assert_same, assert_shape, many, noise, plant, set_mode, set_time, shape, time_of, write,
};

/// A tree with all that a restore should bring, also what the plain copy does not hold.
fn full_tree(source: &Path) {
    plant(source);
    write(&source.join("docs/setuid"), "a program");
    set_mode(&source.join("docs/setuid"), 0o6755);
    fs::create_dir(source.join("sticky")).unwrap();
    set_mode(&source.join("sticky"), 0o3777);
    if is_root() {
        for name in ["docs/script", "hollow", "link"] {
            std::os::unix::fs::lchown(source.join(name), Some(12345), Some(54321)).unwrap();
        }
        let mode = rustix::fs::Mode::from_raw_mode(0o620);
        let kind = rustix::fs::FileType::CharacterDevice;
        rustix::fs::mknodat(rustix::fs::CWD, source.join("docs/null"), kind, mode, rustix::fs::makedev(1, 3)).unwrap();
        set_mode(&source.join("docs/null"), 0o620);
    }
}

/// A restore with `--json`, its exit code and summary.
#[track_caller]
fn restore(client: &Client, code: i32, path: &Path, flags: &[&str]) -> Value {
    let mut args: Vec<&OsStr> = vec!["restore".as_ref(), "--json".as_ref(), path.as_os_str()];
    args.extend(flags.iter().map(OsStr::new));
    let outcome = client.run(&args);
    outcome.expect(code, &[]);
    outcome.summary()
}

#[test]
fn an_empty_folder_becomes_the_source() {
    let (world, _daemon, client) = World::served();
    full_tree(&world.source);
    client.push("-r", &world.source);
    let to = world.path("to");
    let summary = restore(&client, 0, &world.source, &["--to", to.to_str().unwrap()]);
    assert_same(&to.join("source"), &world.source);
    assert!(allocated(&to.join("source/holes")) < 64 * 1024, "holes stay holes");
    if is_root() {
        let null = to.join("source/docs/null").symlink_metadata().unwrap();
        assert!(null.file_type().is_char_device() && null.rdev() == rustix::fs::makedev(1, 3));
        assert_eq!((null.mode() & 0o7777, null.nlink()), (0o620, 1));
    }
    assert_eq!((&summary["errors"], &summary["updated"], &summary["deleted"]), (&0.into(), &0.into(), &0.into()));
    assert_eq!(summary["complete"], true);
    // Again: nothing travels, nothing is touched.
    let again = restore(&client, 0, &world.source, &["--to", to.to_str().unwrap(), "--delete"]);
    for none in ["created", "updated", "deleted", "touched", "content_bytes_received", "errors"] {
        assert_eq!(again[none], 0, "{none}: {again}");
    }
    // To the original place, all of it gone; a folder, a file, and what a link names.
    let wanted = shape(&world.source);
    fs::remove_dir_all(&world.source).unwrap();
    restore(&client, 0, &world.source, &[]);
    assert_shape(&world.source, &wanted);
    let one = world.path("one");
    for part in ["docs/a", "readme", "docs/setuid", "docs/broken", "docs/pipe"] {
        restore(&client, 0, &world.source.join(part), &["--to", one.to_str().unwrap()]);
        let name = Path::new(part).file_name().unwrap();
        let (found, wanted) = (shape(&one.join(name)), shape(&world.source.join(part)));
        assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>(), "{part}");
        assert_eq!(found[Path::new("")].kind, wanted[Path::new("")].kind, "{part}");
        assert_eq!(found[Path::new("")].mode, wanted[Path::new("")].mode, "{part}");
    }
}

/// Every kind of damage; what is asked to be removed is removed.
fn damage(source: &Path) {
    let at = |name: &str| source.join(name);
    fs::remove_file(at("docs/private")).unwrap();
    fs::remove_dir_all(at("docs/a/b")).unwrap();
    let before = time_of(&at("readme"));
    fs::write(at("readme"), "READ ME\n").unwrap();
    fs::File::open(at("readme")).unwrap().set_modified(before).unwrap();
    fs::write(at("docs/script"), "#!/bin/sh\nrm -rf\n").unwrap();
    set_mode(&at("docs/setuid"), 0o755);
    set_time(&at("large"), 5, 5);
    xattr::remove(at("docs"), "user.folder").unwrap();
    xattr::set(at("empty"), "user.stray", b"x").unwrap();
    fs::remove_file(at("twin/two")).unwrap();
    fs::copy(at("twin/one"), at("twin/two")).unwrap();
    fs::remove_file(at("link")).unwrap();
    symlink("elsewhere", at("link")).unwrap();
    fs::remove_file(at("docs/pipe")).unwrap();
    fs::remove_dir(at("hollow")).unwrap();
    write(&at("hollow"), "a file now");
    set_mode(&at("sticky"), 0o700);
}

#[test]
fn onto_a_damaged_tree_only_what_differs_travels() {
    let (world, _daemon, client) = World::served();
    full_tree(&world.source);
    client.push("-r", &world.source);
    let wanted = shape(&world.source);
    damage(&world.source);
    write(&world.source.join("stranger/file"), "not in the backup");
    let damaged = shape(&world.source);
    let dry = restore(&client, 0, &world.source, &["-n"]);
    assert_shape(&world.source, &damaged);
    let summary = restore(&client, 0, &world.source, &[]);
    for count in ["created", "updated", "touched", "content_bytes_received"] {
        assert_eq!(dry[count], summary[count], "{count}: {dry} {summary}");
    }
    let content = "private".len() + "deep\n".len() + "read me\n".len() + "#!/bin/sh\n".len();
    assert_eq!(summary["content_bytes_received"], content, "{summary}");
    let wire = summary["wire_bytes_sent"].as_u64().unwrap() + summary["wire_bytes_received"].as_u64().unwrap();
    assert!(wire < 50_000, "{summary}");
    assert_eq!(summary["deleted"], 0, "{summary}");
    assert!(world.source.join("stranger/file").exists());
    let summary = restore(&client, 0, &world.source, &["--delete"]);
    assert_eq!((&summary["deleted"], &summary["content_bytes_received"]), (&1.into(), &0.into()), "{summary}");
    assert_shape(&world.source, &wanted);
}

/// A folder where the backup has a file is not removed unless that was asked for.
#[test]
fn a_folder_in_the_place_of_a_file_goes_only_with_delete() {
    let (world, _daemon, client) = World::served();
    many(&world.source, 1, 2);
    write(&world.source.join("file"), "a file");
    client.push("-r", &world.source);
    fs::remove_file(world.source.join("file")).unwrap();
    write(&world.source.join("file/precious"), "of today");
    let outcome = client.run(&["restore".as_ref(), world.source.as_os_str()]);
    outcome.expect(3, &["file", "--delete"]);
    assert!(world.source.join("file/precious").exists());
    restore(&client, 0, &world.source, &["--delete"]);
    assert_eq!(fs::read(world.source.join("file")).unwrap(), b"a file");
}

#[test]
fn what_is_there_already_is_overwritten_as_asked() {
    let (world, _daemon, client) = World::served();
    let at = |name: &str| world.source.join(name);
    let change = || {
        write(&at("older"), "changed");
        set_time(&at("older"), 1_000, 0);
        write(&at("newer"), "changed");
        set_time(&at("newer"), 3_000_000_000, 0);
        write(&at("same"), "same");
        set_time(&at("same"), 2_000, 0);
        let _ = fs::remove_file(at("gone"));
    };
    for name in ["older", "newer", "same", "gone"] {
        write(&at(name), name);
        set_time(&at(name), 2_000, 0);
    }
    client.push("-r", &world.source);
    // Which of older, newer, gone are as in the backup afterwards, and what was written.
    let modes = [
        ("changed", [true, true, true], 14),
        ("always", [true, true, true], 18),
        ("newer", [true, false, true], 9),
        ("never", [false, false, true], 4),
    ];
    for (mode, expected, content) in modes {
        change();
        let summary = restore(&client, 0, &world.source, &["--overwrite", mode]);
        let restored = ["older", "newer", "gone"].map(|name| fs::read(at(name)).unwrap() == name.as_bytes());
        assert_eq!(restored, expected, "{mode}: {summary}");
        assert_eq!(summary["content_bytes_received"], content, "{mode}: {summary}");
    }
}

/// What a user may not set is named, all else is there.
#[test]
fn another_user_gets_what_he_may_have() {
    if !is_root() {
        return skipped("files of several owners need root");
    }
    const NOBODY: u32 = 65534;
    let world = World::new();
    let daemon = world.daemon();
    full_tree(&world.source);
    fs::remove_file(world.source.join("docs/null")).unwrap();
    let foreign = PathBuf::from("docs/script");
    for path in shape(&world.source).keys().filter(|path| **path != foreign) {
        let at = if path.as_os_str().is_empty() { world.source.clone() } else { world.source.join(path) };
        let mode = at.symlink_metadata().unwrap().mode() & 0o7777;
        std::os::unix::fs::lchown(&at, Some(NOBODY), Some(NOBODY)).unwrap();
        // A change of owner takes the setuid bit away.
        if !at.is_symlink() {
            set_mode(&at, mode);
        }
    }
    chown(world.source.join(&foreign), Some(12), Some(12)).unwrap();
    set_mode(&world.source.join(&foreign), 0o755);
    let client = world.client(&daemon, "nobody").as_uid(NOBODY);
    client.push("-r", &world.source);
    let to = client.home.join("to");
    let outcome = client.run(&["restore", "--json", world.source.to_str().unwrap(), "--to", to.to_str().unwrap()]);
    outcome.expect(3, &["docs/script", "owner"]);
    let notes = outcome.summary()["notes"].as_array().unwrap().clone();
    assert_eq!(notes.len(), 1, "{notes:?}");
    let mut wanted = shape(&world.source);
    wanted.get_mut(&foreign).unwrap().owner = (NOBODY, NOBODY);
    assert_shape(&to.join("source"), &wanted);
    // In words.
    let words = client.run(&["restore", world.source.to_str().unwrap(), "--to", to.to_str().unwrap()]);
    words.expect(3, &["docs/script"]);
    // Where he may not write: nothing, and it is said.
    let closed = world.path("closed");
    fs::create_dir(&closed).unwrap();
    let refused = client.run(&["restore", world.source.to_str().unwrap(), "--to", closed.to_str().unwrap()]);
    assert_ne!(refused.code, 0, "{}", refused.said());
    refused.expect(refused.code, &["Permission denied", "closed"]);
}

/// A daemon that is not root cannot hold owners in its plain files: they come back all the same.
#[test]
fn owners_come_back_from_a_store_of_another_user() {
    if !is_root() {
        return skipped("files of several owners need root");
    }
    let world = World::new();
    full_tree(&world.source);
    let store = world.path("home-nobody/store");
    let nobody = Client::new(&world.path("home-nobody"), &["--store", store.to_str().unwrap()]).as_uid(65534);
    for path in shape(&world.source).keys() {
        // He must be able to read it.
        let at = world.source.join(path);
        if !at.is_symlink() {
            set_mode(&at, at.symlink_metadata().unwrap().mode() & 0o7777 | 0o555);
        }
    }
    nobody.push("-r", &world.source);
    let root = Client::new(&world.path("home-root"), &["--store", store.to_str().unwrap(), "--user", "nobody"]);
    let to = world.path("to");
    restore(&root, 0, &world.source, &["--to", to.to_str().unwrap()]);
    assert_same(&to.join("source"), &world.source);
}

#[test]
fn what_is_not_in_the_backup_cannot_be_restored() {
    let (world, _daemon, client) = World::served();
    write(&world.source.join("file"), noise(1, 10));
    let path = world.source.join("nothing");
    client.run(&["restore".as_ref(), path.as_os_str()]).expect(1, &["nothing"]);
    client.push("-r", &world.source);
    client.run(&["restore".as_ref(), path.as_os_str()]).expect(1, &["nothing"]);
    assert!(world.store.join("127.0.0.1").join(login()).exists());
}
