//! What the plain copy shows of modes and kinds, and that a daemon which is not root never locks itself out.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, makedev, mknodat};

use crate::support::client::Client;
use crate::support::daemon::{Daemon, World, is_root, login, skipped};
use crate::support::trees::{assert_same, assert_shape, set_mode, shape, write};

const NOBODY: u32 = 65534;

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().mode() & 0o7777
}

fn restore(client: &Client, world: &World, to: &str) -> PathBuf {
    let to = world.path(to);
    client.run(&["restore", world.source.to_str().unwrap(), "--to", to.to_str().unwrap()]).expect(0, &[]);
    to.join("source")
}

/// Also folders that were there before, or that somebody opened: it is said, and put right.
#[test]
fn node_and_user_folders_are_for_nobody_else() {
    let world = World::new();
    let user = world.store.join("127.0.0.1").join(login());
    fs::create_dir_all(&user).unwrap();
    set_mode(&world.store.join("127.0.0.1"), 0o755);
    set_mode(&user, 0o777);
    let daemon = world.daemon();
    let client = world.client(&daemon, "a");
    write(&world.source.join("file"), "one");
    client.push("-r", &world.source);
    assert_eq!([mode(user.parent().unwrap()), mode(&user)], [0o700; 2]);
    daemon.wait_for("had the mode 0777; it is 0700 again");
    set_mode(&user, 0o1775);
    write(&world.source.join("file"), "two");
    client.push("-r", &world.source);
    assert_eq!(mode(&user), 0o700);
    daemon.wait_for("had the mode 1775");
}

/// A program of root's with a set-id bit would be one for everybody who reaches the store; a device would be one, too.
#[test]
fn set_id_bits_and_devices_are_in_the_manifest_alone() {
    let (world, _daemon, client) = World::served();
    for (name, bits) in [("setuid", 0o4755), ("setgid", 0o2755), ("both", 0o6711)] {
        write(&world.source.join(name), name);
        set_mode(&world.source.join(name), bits);
    }
    fs::create_dir(world.source.join("shared")).unwrap();
    set_mode(&world.source.join("shared"), 0o2775);
    fs::create_dir(world.source.join("sticky")).unwrap();
    set_mode(&world.source.join("sticky"), 0o1777);
    mknodat(CWD, world.source.join("pipe"), FileType::Fifo, 0o640.into(), 0).unwrap();
    if is_root() {
        mknodat(CWD, world.source.join("null"), FileType::CharacterDevice, 0o666.into(), makedev(1, 3)).unwrap();
        mknodat(CWD, world.source.join("disk"), FileType::BlockDevice, 0o600.into(), makedev(7, 99)).unwrap();
    }
    client.push("-r", &world.source);
    let at = |name: &str| mode(&world.copy().join(name));
    assert_eq!([at("setuid"), at("setgid"), at("both"), at("shared")], [0o755, 0o755, 0o711, 0o775]);
    assert_eq!(at("sticky"), 0o1777, "the sticky bit gives nobody anything");
    assert!(world.copy().join("pipe").symlink_metadata().unwrap().file_type().is_fifo());
    assert!(!world.copy().join("null").exists() && !world.copy().join("disk").exists());
    assert_same(&restore(&client, &world, "to"), &world.source);
    // Who looks again finds nothing to do.
    let again = client.push("-r", &world.source);
    assert_eq!((&again["updated"], &again["touched"], &again["created"]), (&0.into(), &0.into(), &0.into()), "{again}");
}

/// Files and folders that even their owner may not touch: the store of another user takes them, changes them, removes them,
/// and gives them back as they were.
#[test]
fn a_daemon_that_is_not_root_never_locks_itself_out() {
    if !is_root() {
        return skipped("being two users needs root");
    }
    let world = World::new();
    let store = world.path("home-nobody/store");
    fs::create_dir(store.parent().unwrap()).unwrap();
    let daemon = Daemon::start_as(NOBODY, &store, &[]);
    // The source is root's, who can read all of it; the store is another's, whose daemon root must be told to believe.
    let nobody = world.client(&daemon, "nobody").as_uid(NOBODY);
    nobody.run(&["status"]).expect(0, &[]);
    let client = world.client(&daemon, "root");
    let pin = Path::new(".config/rbbackup/servers").join(&daemon.address).join("pin");
    write(&client.home.join(&pin), fs::read(nobody.home.join(&pin)).unwrap());
    let at = |name: &str| world.source.join(name);
    write(&at("closed/file"), "in a closed folder");
    write(&at("frozen/deep/file"), "in a folder for reading only");
    write(&at("none"), "nobody may");
    let close = |world: &World| {
        set_mode(&world.source.join("none"), 0o000);
        set_mode(&world.source.join("closed/file"), 0o000);
        set_mode(&world.source.join("closed"), 0o000);
        set_mode(&world.source.join("frozen/deep"), 0o555);
        set_mode(&world.source.join("frozen"), 0o555);
    };
    close(&world);
    client.push("-r", &world.source);
    let copy = store.join("127.0.0.1/root").join(world.source.strip_prefix("/").unwrap());
    assert_eq!(copy.metadata().unwrap().uid(), NOBODY);
    assert_eq!(
        [mode(&copy.join("none")), mode(&copy.join("closed")), mode(&copy.join("frozen"))],
        [0o600, 0o700, 0o755]
    );
    // Changed, added to, thinned out, moved: while they have these modes.
    write(&at("closed/file"), "in a closed folder, changed");
    write(&at("closed/new"), "new");
    write(&at("frozen/deep/new"), "new");
    fs::remove_file(at("frozen/deep/file")).unwrap();
    fs::rename(at("none"), at("frozen/none")).unwrap();
    close_again(&world);
    client.push("-rd --force-delete", &world.source);
    let back = restore(&client, &world, "to");
    let mut wanted = shape(&world.source);
    assert_shape(&back, &wanted);
    assert_eq!(mode(&back.join("closed")), 0o000);
    // All of it away, file in the place of a folder: nothing is in the way.
    set_mode(&at("closed"), 0o700);
    fs::remove_dir_all(at("closed")).unwrap();
    write(&at("closed"), "a file now");
    set_mode(&at("closed"), 0o000);
    client.push("-rd --force-delete", &world.source);
    wanted = shape(&world.source);
    assert_shape(&restore(&client, &world, "to2"), &wanted);
    client.run(&["verify"]).expect(0, &[]);
}

fn close_again(world: &World) {
    set_mode(&world.source.join("closed/file"), 0o000);
    set_mode(&world.source.join("closed"), 0o000);
    set_mode(&world.source.join("frozen/deep"), 0o555);
}

/// What packaging/rbbackupd.service leaves root is enough, and no more than that is asked for.
#[test]
fn the_capabilities_of_the_unit_are_enough_for_owners_and_closed_folders() {
    if !is_root() {
        return skipped("giving up capabilities needs root");
    }
    let unit = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/rbbackupd.service")).unwrap();
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let kept: Vec<String> =
        line.split(' ').map(|cap| format!("+{}", cap.strip_prefix("CAP_").unwrap().to_lowercase())).collect();
    let mut command = std::process::Command::new("setpriv");
    command.arg("--bounding-set").arg(format!("-all,{}", kept.join(","))).arg("--inh-caps").arg("-all");
    if !command.arg("true").status().is_ok_and(|status| status.success()) {
        return skipped("there is no setpriv");
    }
    let world = World::new();
    let mut command = std::process::Command::new("setpriv");
    command.arg("--bounding-set").arg(format!("-all,{}", kept.join(","))).arg("--inh-caps").arg("-all");
    command.arg(env!("CARGO_BIN_EXE_rbbackupd"));
    let daemon = Daemon::launch(command, &world.store, &[], "127.0.0.1:0").unwrap_or_else(|(_, log)| panic!("{log}"));
    let client = world.client(&daemon, "a");
    for (name, owner) in [("one", 1), ("two", 2), ("three/deep", 3)] {
        write(&world.source.join(name), name);
        std::os::unix::fs::chown(world.source.join(name), Some(owner), Some(owner + 10)).unwrap();
        set_mode(&world.source.join(name), 0o600);
    }
    std::os::unix::fs::chown(world.source.join("three"), Some(4), Some(4)).unwrap();
    set_mode(&world.source.join("three"), 0o500);
    client.push("-r", &world.source);
    assert_same(&world.copy(), &world.source);
    write(&world.source.join("three/deep"), "changed");
    write(&world.source.join("three/new"), "new");
    fs::remove_file(world.source.join("one")).unwrap();
    client.push("-rd --force-delete", &world.source);
    assert_same(&world.copy(), &world.source);
    client.run(&["verify"]).expect(0, &[]);
}
