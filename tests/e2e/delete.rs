//! What `-d`, `-r` and exclusion leave and take away, and the guard.

use std::fs;

use crate::support::daemon::{World, skipped};
use crate::support::mount::Mount;
use crate::support::trees::{assert_same, many, write};

/// Check 2.
#[test]
fn without_d_what_is_gone_stays_and_with_it_goes() {
    let (world, _daemon, client) = World::served();
    many(&world.source, 3, 5);
    client.push("-r", &world.source);
    fs::remove_dir_all(world.source.join("f01")).unwrap();
    fs::remove_file(world.source.join("f02/003")).unwrap();
    write(&world.source.join("f02/new"), "new");
    let summary = client.push("-r", &world.source);
    assert_eq!((&summary["created"], &summary["deleted"]), (&1.into(), &0.into()));
    assert!(world.copy().join("f01/004").exists() && world.copy().join("f02/003").exists());
    let summary = client.push("-rd", &world.source);
    assert_same(&world.copy(), &world.source);
    assert!(summary["deleted"].as_u64().unwrap() >= 6, "{summary}");
    assert_eq!(summary["content_bytes_sent"], 0);
}

/// Check 2.
#[test]
fn without_r_only_direct_files_count() {
    let (world, _daemon, client) = World::served();
    many(&world.source, 1, 3);
    write(&world.source.join("direct"), "1");
    write(&world.source.join("other"), "2");
    client.push("", &world.source);
    assert!(world.copy().join("direct").exists() && !world.copy().join("f00").exists());
    client.push("-r", &world.source);
    fs::remove_file(world.source.join("other")).unwrap();
    fs::remove_dir_all(world.source.join("f00")).unwrap();
    write(&world.source.join("direct"), "changed");
    client.push("-d", &world.source);
    assert!(!world.copy().join("other").exists(), "a direct file that is gone goes");
    assert!(world.copy().join("f00/002").exists(), "what lies deeper is not looked at");
    assert_eq!(fs::read(world.copy().join("direct")).unwrap(), b"changed");
    client.push("-rd", &world.source);
    assert_same(&world.copy(), &world.source);
}

/// Check 11.
#[test]
fn an_emptied_source_is_refused_until_it_is_meant() {
    let (world, _daemon, client) = World::served();
    many(&world.source, 2, 10);
    client.push("-r", &world.source);
    fs::rename(&world.source, world.path("aside")).unwrap();
    fs::create_dir(&world.source).unwrap();
    let refused = client.run(&["-rd".as_ref(), world.source.as_os_str()]);
    refused.expect(14, &["the source is empty", "20 files", "--force-delete"]);
    assert_same(&world.copy().join("f00"), &world.path("aside/f00"));
    client.run(&["-rd".as_ref(), "-n".as_ref(), world.source.as_os_str()]).expect(14, &["--force-delete"]);
    client.push("-r", &world.source);
    assert!(world.copy().join("f01/009").exists());
    client.push("-rd --force-delete", &world.source);
    assert_same(&world.copy(), &world.source);
}

#[test]
fn many_deletions_at_once_are_refused() {
    let (world, _daemon, client) = World::served();
    many(&world.source, 3, 101);
    client.push("-r", &world.source);
    fs::rename(world.source.join("f01"), world.source.join("moved")).unwrap();
    client.push("-rd", &world.source);
    fs::remove_dir_all(world.source.join("f00")).unwrap();
    let refused = client.run(&["-rd".as_ref(), world.source.as_os_str()]);
    refused.expect(14, &["101 of 303 files", "--force-delete"]);
    assert!(world.copy().join("f00/000").exists());
}

/// A great part of the tree becomes one file: also without `-d` that looks like an accident.
#[test]
fn a_folder_of_many_files_that_becomes_a_file_is_refused() {
    let (world, _daemon, client) = World::served();
    many(&world.source, 1, 120);
    client.push("-r", &world.source);
    fs::remove_dir_all(world.source.join("f00")).unwrap();
    write(&world.source.join("f00"), "a file");
    client.run(&["-r".as_ref(), world.source.as_os_str()]).expect(14, &["120 of 120"]);
    assert!(world.copy().join("f00/000").exists());
}

/// Check 11: what is excluded is neither sent nor deleted.
#[test]
fn excluded_paths_lose_nothing() {
    let (world, _daemon, client) = World::served();
    many(&world.source, 2, 3);
    write(&world.source.join("f00/keep.o"), "object");
    write(&world.source.join("build/out"), "built");
    client.push("-r", &world.source);
    fs::remove_file(world.source.join("f00/keep.o")).unwrap();
    fs::remove_dir_all(world.source.join("build")).unwrap();
    write(&world.source.join("f01/new.o"), "never");
    client.push("-rd --exclude *.o --exclude build/", &world.source);
    assert!(world.copy().join("f00/keep.o").exists() && world.copy().join("build/out").exists());
    assert!(!world.copy().join("f01/new.o").exists());
    client.push("-rd --delete-excluded --exclude *.o", &world.source);
    assert!(!world.copy().join("f00/keep.o").exists(), "--delete-excluded");
    assert!(!world.copy().join("build").exists(), "not excluded any more, and gone");
}

#[test]
fn patterns_are_gitignore_s_and_the_last_match_counts() {
    let (world, _daemon, client) = World::served();
    for name in ["a.log", "keep.log", "sub/b.log", "sub/c.txt", "top/x", "sub/top/y", "# odd"] {
        write(&world.source.join(name), name);
    }
    write(&world.path("patterns"), "# a comment\n\n*.log\n!keep.log\n/top\n");
    let patterns = world.path("patterns");
    client.push(&format!("-r --exclude-from {}", patterns.display()), &world.source);
    let has = |name: &str| world.copy().join(name).exists();
    assert!(!has("a.log") && !has("sub/b.log") && !has("top"));
    assert!(has("keep.log") && has("sub/c.txt") && has("sub/top/y") && has("# odd"));
}

#[test]
fn caches_are_left_out_when_asked() {
    let (world, _daemon, client) = World::served();
    many(&world.source, 2, 2);
    write(&world.source.join("f01/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55\n");
    write(&world.source.join("f00/CACHEDIR.TAG"), "no signature");
    client.push("-r --exclude-caches", &world.source);
    assert!(world.copy().join("f00/001").exists());
    assert!(!world.copy().join("f01/001").exists());
}

/// Check 11: a mount point below the root, with `--one-file-system`.
#[test]
fn what_is_mounted_below_the_root_loses_nothing() {
    let (world, _daemon, client) = World::served();
    many(&world.source, 1, 3);
    let disk = world.source.join("disk");
    fs::create_dir(&disk).unwrap();
    let Some(mount) = Mount::tmpfs(&disk, "size=1m") else { return skipped("mounting needs root") };
    write(&disk.join("precious"), "precious");
    client.push("-r", &world.source);
    assert!(world.copy().join("disk/precious").exists());
    client.push("-rd --one-file-system", &world.source);
    assert!(world.copy().join("disk/precious").exists(), "not looked at, not deleted");
    drop(mount);
}

/// What the folder below a mount point shows once nothing is mounted there is not what the source lost.
#[test]
fn what_was_mounted_below_the_root_loses_nothing() {
    let (world, _daemon, client) = World::served();
    many(&world.source, 1, 3);
    let disk = world.source.join("disk");
    fs::create_dir(&disk).unwrap();
    let Some(mount) = Mount::tmpfs(&disk, "size=1m") else { return skipped("mounting needs root") };
    write(&disk.join("precious/one"), "precious");
    client.push("-r", &world.source);
    drop(mount);
    // However often it is seen so.
    for _ in 0..2 {
        let outcome = client.try_push("-rd", &world.source);
        outcome.expect(0, &["warning", "/disk: something was mounted here", "\"incomplete\":false"]);
        assert_eq!(outcome.summary()["deleted"], 0);
        assert!(world.copy().join("disk/precious/one").exists());
    }
    let Some(mount) = Mount::tmpfs(&disk, "size=1m") else { return skipped("mounting needs root") };
    write(&disk.join("precious/two"), "also");
    let outcome = client.try_push("-rd", &world.source);
    assert!(!outcome.said().contains("warning"), "{}", outcome.said());
    assert_same(&world.copy(), &world.source);
    drop(mount);
    client.push("-rd --force-delete", &world.source);
    assert_same(&world.copy(), &world.source);
    // A folder that is emptied is one, whatever was mounted once.
    write(&disk.join("own"), "not mounted");
    client.push("-rd", &world.source);
    fs::remove_file(disk.join("own")).unwrap();
    assert_eq!(client.push("-rd", &world.source)["deleted"], 1);
}
