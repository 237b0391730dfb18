//! Legitimate cases that walls against attackers must not stand in the way of: links and mounts that the operator made, other
//! file systems, odd names, both families of addresses. All of it with a confined daemon.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::Command;

use crate::support::client::{Client, Outcome};
use crate::support::daemon::{Daemon, World, login, skipped};
use crate::support::mount::Mount;
use crate::support::trees::{assert_same, many, plant, write};

/// A backup, a change, a restore, and what was there before the change.
pub fn round(world: &World, client: &Client) {
    plant(&world.source);
    client.push("-r", &world.source);
    write(&world.source.join("readme"), "changed");
    fs::remove_file(world.source.join("docs/script")).unwrap();
    client.push("-rd --force-delete", &world.source);
    assert_same(&world.copy(), &world.source);
    let to = world.path("to");
    client.run(&["restore", world.source.to_str().unwrap(), "--to", to.to_str().unwrap()]).expect(0, &[]);
    assert_same(&to.join("source"), &world.source);
    client.run(&["history", world.source.join("docs/script").to_str().unwrap()]).expect(0, &[]);
    client.run(&["verify"]).expect(0, &[]);
}

#[test]
fn a_store_behind_a_link_on_a_relative_path() {
    let world = World::new();
    let real = world.path("disk/store");
    fs::create_dir_all(&real).unwrap();
    std::os::unix::fs::symlink(world.path("disk"), world.path("link")).unwrap();
    // As one writes it in a shell somewhere below.
    let up = "../".repeat(std::env::current_dir().unwrap().components().count() - 1);
    let store = world.path("link/store");
    let relative = PathBuf::from(format!("{up}{}", store.strip_prefix("/").unwrap().display()));
    let daemon = Daemon::start(&relative, &[]);
    let world = World { store: real, ..world };
    round(&world, &world.client(&daemon, "round"));
}

/// The daemon makes it, with all that is in it, when it is confined already.
#[test]
fn a_store_that_was_not_there_and_a_link_to_it() {
    let world = World::new();
    std::os::unix::fs::symlink(&world.store, world.path("link")).unwrap();
    drop(world.daemon());
    let daemon = Daemon::start(&world.path("link"), &[]);
    round(&world, &world.client(&daemon, "round"));
}

#[test]
fn a_store_on_a_bind_mount_and_below_one() {
    let world = World::new();
    let (disk, at) = (world.path("disk"), world.path("at"));
    fs::create_dir(&disk).unwrap();
    fs::create_dir(&at).unwrap();
    let Some(mount) = Mount::bind(&disk, &at) else { return skipped("mounting needs root") };
    for store in [at.join("below"), at.clone()] {
        let daemon = Daemon::start(&store, &[]);
        let round_world = World { store, ..World::new() };
        round(&round_world, &round_world.client(&daemon, "round"));
    }
    drop(mount);
}

#[test]
fn a_source_that_is_a_link_and_one_below_a_bind_mount() {
    let (world, _daemon, client) = World::served();
    many(&world.path("disk/data"), 2, 3);
    let link = world.path("link");
    std::os::unix::fs::symlink(world.path("disk/data"), &link).unwrap();
    client.push("-r", &link);
    assert_same(&world.copy_of(&link), &world.path("disk/data"));
    let at = world.path("at");
    fs::create_dir(&at).unwrap();
    let Some(_mount) = Mount::bind(&world.path("disk"), &at) else { return skipped("mounting needs root") };
    client.push("-r", &at.join("data"));
    assert_same(&world.copy_of(&at.join("data")), &world.path("disk/data"));
}

/// On another file system than the source's, in an image.
fn on(program: &str, megabytes: u64) {
    let world = World::new();
    let (image, at) = (world.path("image"), world.path("at"));
    fs::File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
    fs::create_dir(&at).unwrap();
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let made = Command::new(program).arg("-q").arg(&image).env("PATH", path).status();
    if !made.is_ok_and(|status| status.success()) {
        return skipped(&format!("there is no {program}"));
    }
    let Some(mount) = Mount::image(&image, &at) else { return skipped("mounting needs root") };
    let store = at.join("store");
    let mut daemon = Daemon::start(&store, &[]);
    let world = World { store, ..world };
    round(&world, &world.client(&daemon, "round"));
    daemon.stop();
    drop((daemon, mount));
}

#[test]
#[ignore = "slow: a file system in an image"]
fn a_store_on_btrfs() {
    on("mkfs.btrfs", 256);
}

#[test]
#[ignore = "slow: a file system in an image"]
fn a_store_on_xfs() {
    on("mkfs.xfs", 384);
}

/// 1 to 255 without the slash, each alone, all in one, at the beginning and at the end of a name.
#[test]
fn names_of_every_byte_go_there_and_back() {
    let (world, _daemon, client) = World::served();
    let bytes: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
    for byte in &bytes {
        // One dot alone is no name.
        if *byte != b'.' {
            write(&world.source.join(OsStr::from_bytes(&[*byte])), [*byte]);
        }
        write(&world.source.join("two").join(OsStr::from_bytes(&[*byte, b'x', *byte])), [*byte]);
    }
    let all = world.source.join(OsStr::from_bytes(&bytes));
    write(&all.join(OsStr::from_bytes(&bytes)), "a name of 254 bytes");
    std::os::unix::fs::symlink(OsStr::from_bytes(&bytes), world.source.join("link")).unwrap();
    client.push("-r", &world.source);
    assert_same(&world.copy(), &world.source);
    let to = world.path("to");
    client.run(&["restore", world.source.to_str().unwrap(), "--to", to.to_str().unwrap()]).expect(0, &[]);
    assert_same(&to.join("source"), &world.source);
    // One by one, by name, and gone again.
    let one = all.join(OsStr::from_bytes(&bytes));
    let to = world.path("one");
    let restored = client.run(&["restore".as_ref(), one.as_os_str(), "--to".as_ref(), to.as_os_str()]);
    restored.expect(0, &[]);
    assert_eq!(fs::read(to.join(OsStr::from_bytes(&bytes))).unwrap(), b"a name of 254 bytes");
    fs::remove_dir_all(&all).unwrap();
    client.push("-rd --force-delete", &world.source);
    assert_same(&world.copy(), &world.source);
    // Nothing of it reaches a terminal as it is.
    let said = client.run(&["ls", world.source.to_str().unwrap()]).said();
    assert!(!said.chars().any(|c| c.is_control() && c != '\n'), "{said:?}");
}

/// One daemon on `[::]`, and who comes over IPv4 is named by his IPv4 address.
#[test]
fn both_families_of_addresses_reach_one_daemon() {
    let world = World::new();
    let Ok(daemon) = Daemon::start_on(&world.store, &[], "[::]:0") else { return skipped("there is no IPv6") };
    let port = daemon.address.rsplit_once(':').unwrap().1.to_owned();
    write(&world.source.join("file"), "one");
    for (host, node) in [("127.0.0.1", "127.0.0.1"), ("[::1]", "::1")] {
        let client = Client::new(&world.path(&format!("home{node}")), &["-s", &format!("{host}:{port}")]);
        client.push("-r", &world.source);
        assert_same(&world.copy_for(node, &login(), &world.source), &world.source);
        client.run(&["ls", world.source.to_str().unwrap()]).expect(0, &["file"]);
    }
    // A key goes on in its first folder, whatever way it comes.
    let servers =
        |home: &str, host: &str| world.path(home).join(".config/rbbackup/servers").join(format!("{host}:{port}"));
    let (known, other) = (servers("home127.0.0.1", "127.0.0.1"), servers("home127.0.0.1", "[::1]"));
    let file_name =
        fs::read_dir(servers("home::1", "[::1]").parent().unwrap()).unwrap().next().unwrap().unwrap().file_name();
    let other = other.with_file_name(file_name);
    Outcome::of(Command::new("cp").arg("-a").args([&known, &other])).expect(0, &[]);
    write(&world.source.join("file"), "two, over IPv6");
    let same_key = Client::new(&world.path("home127.0.0.1"), &["-s", &format!("[::1]:{port}")]);
    same_key.push("-r", &world.source);
    assert_same(&world.copy_for("127.0.0.1", &login(), &world.source), &world.source);
}
