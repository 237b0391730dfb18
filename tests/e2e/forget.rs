//! Roots that lie in one another: what one of them loses, the others keep.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::support::client::Client;
use crate::support::daemon::World;
use crate::support::trees::{assert_same, many, set_mode, set_time, write};

fn forget(client: &Client, root: &Path) -> crate::support::client::Outcome {
    client.run(&["forget".as_ref(), root.as_os_str()])
}

#[test]
fn a_root_below_one_that_is_not_recursive_is_forgotten() {
    let (world, _daemon, client) = World::served();
    many(&world.source, 2, 3);
    write(&world.source.join("direct"), "1");
    write(&world.source.join("single"), "2");
    let below = world.source.join("f00");
    client.push("", &world.source);
    client.push("-r", &below);
    client.push("", &world.source.join("single"));
    forget(&client, &below).expect(0, &[]);
    assert!(!world.copy().join("f00").exists(), "nobody else looks there");
    assert!(world.copy().join("direct").exists());
    // The file is the folder's, too.
    forget(&client, &world.source.join("single")).expect(0, &[]);
    assert!(world.copy().join("single").exists());
    // A root below keeps what is its own.
    client.push("-r", &world.source);
    client.push("-r", &below);
    forget(&client, &world.source).expect(0, &[]);
    assert_same(&world.copy().join("f00"), &below);
    assert!(!world.copy().join("f01").exists() && !world.copy().join("direct").exists());
    client.push("-r", &world.source);
    assert_same(&world.copy(), &world.source);
}

#[test]
fn what_is_no_root_is_told_why() {
    let (world, _daemon, client) = World::served();
    many(&world.source, 2, 1);
    forget(&client, &world.source).expect(1, &["is not a root that was backed up here", "rbbackup status"]);
    client.push("-r", &world.source);
    let source = world.source.display();
    let part = format!("'{source}/f00' is no root of its own, but a part of the root '{source}'");
    forget(&client, &world.source.join("f00")).expect(1, &[&part]);
    forget(&client, Path::new("/")).expect(1, &[&format!("'/' is no root, but '{source}' below it is")]);
    forget(&client, &world.source).expect(0, &[]);
    forget(&client, &world.source).expect(1, &["was forgotten already"]);
}

/// `/` as root, and forgotten: the copy's own folder stays, and other roots below keep what is theirs.
#[test]
fn the_root_of_the_machine_is_forgotten() {
    let (world, _daemon, client) = World::served();
    let dir = world.dir.path().canonicalize().unwrap();
    many(&world.source, 2, 2);
    let other = dir.join("other");
    many(&other, 1, 2);
    let (mut patterns, mut above) = (String::new(), Path::new("/").to_path_buf());
    for name in dir.strip_prefix("/").unwrap().components().chain(Path::new("source").components()) {
        let shown = above.display().to_string();
        above = above.join(name);
        patterns += &format!("{}/*\n!{}\n", shown.trim_end_matches('/'), above.display());
    }
    write(&world.path("patterns"), patterns);
    client.push(&format!("-r --exclude-from {}", world.path("patterns").display()), Path::new("/"));
    client.push("-r", &other);
    assert_same(&world.copy_of(&dir.join("source")), &world.source);
    forget(&client, Path::new("/")).expect(0, &[]);
    assert!(!world.copy_of(&dir.join("source")).exists());
    assert_same(&world.copy_of(&other), &other);
    client.push("-r", &world.source);
    client.push("-rd", &other);
    assert_same(&world.copy_of(&dir.join("source")), &world.source);
}

/// Two names of one inode in two roots of one copy: what one run does never shows in the other.
#[test]
fn hard_links_across_roots_are_two_files() {
    let (world, _daemon, client) = World::served();
    let source = |name: &str| world.source.join(name);
    write(&source("a/x"), "one inode, three names");
    fs::create_dir(source("b")).unwrap();
    fs::hard_link(source("a/x"), source("b/y")).unwrap();
    fs::hard_link(source("a/x"), source("b/z")).unwrap();
    set_time(&source("a/x"), 1_000_000_000, 1);
    // Apart from the start, and together at first: the copy links what one run saw together.
    for together in [false, true] {
        if together {
            client.push("-r", &world.source);
        }
        client.push("-r", &source("a"));
        client.push("-r", &source("b"));
        let copy = |name: &str| world.copy().join(name);
        // Of the content of one root's file.
        fs::write(source("a/x"), if together { "changed again" } else { "changed" }).unwrap();
        let old = fs::read(copy("b/y")).unwrap();
        client.push("-r", &source("a"));
        assert_eq!(fs::read(copy("b/y")).unwrap(), old, "together: {together}");
        assert_eq!(fs::read(copy("a/x")).unwrap(), fs::read(source("a/x")).unwrap());
        client.push("-r", &source("b"));
        if together {
            client.push("-r", &world.source);
        }
        // Of its mode and time only.
        let old = fs::metadata(copy("b/y")).unwrap();
        set_mode(&source("a/x"), if together { 0o600 } else { 0o640 });
        set_time(&source("a/x"), 1_100_000_000, 1);
        client.push("-r", &source("a"));
        let now = fs::metadata(copy("b/y")).unwrap();
        assert_eq!((now.mode(), now.mtime()), (old.mode(), old.mtime()), "together: {together}");
        assert_same(&world.copy().join("a"), &source("a"));
        client.push("-r", &source("b"));
        assert_same(&world.copy().join("b"), &source("b"));
    }
    client.push("-r", &world.source);
    assert_same(&world.copy(), &world.source);
}
