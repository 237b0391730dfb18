//! What a process that serves can still do: shown by what happens when something else takes the store's place, for the kernel
//! holds it to the folder that was there when it began.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::client::{Client, Outcome};
use crate::support::daemon::{Daemon, World, is_root, skipped};
use crate::support::destination::{Destination, wait_for_names};
use crate::support::trees::{assert_same, shape, write};

/// False, with a word, where the kernel cannot.
fn is_confined(said: &str) -> bool {
    let confined = said.contains("confined by Landlock");
    if !confined {
        skipped("this kernel has no Landlock");
    }
    confined
}

/// Puts another folder with the same content in the place of `folder`; gives the first one's new name.
fn replace(folder: &Path) -> std::path::PathBuf {
    let moved = folder.with_extension("moved");
    fs::rename(folder, &moved).unwrap();
    Outcome::of(Command::new("cp").arg("-a").args([&moved, folder])).expect(0, &[]);
    moved
}

/// What a bug that leads the daemon elsewhere comes to: nothing is read and nothing written there.
#[test]
fn a_daemon_is_held_to_the_store_that_it_began_with() {
    let (world, daemon, client) = World::served();
    write(&world.source.join("file"), "one");
    client.push("-r", &world.source);
    daemon.wait_for("serves");
    if !is_confined(&daemon.log()) {
        return;
    }
    let moved = replace(&world.store);
    let before = shape(&world.store);
    write(&world.source.join("file"), "two");
    let outcome = client.try_push("-r", &world.source);
    assert_ne!(outcome.code, 0, "{}", outcome.said());
    assert_eq!(shape(&world.store), before, "something was written outside");
    // What it was held to is as good as before.
    fs::remove_dir_all(&world.store).unwrap();
    fs::rename(&moved, &world.store).unwrap();
    client.push("-r", &world.source);
    assert_same(&world.copy(), &world.source);
}

/// Without it the same daemon goes where it is led: the test above shows something.
#[test]
fn a_daemon_that_is_told_not_to_is_not_held() {
    let world = World::new();
    let daemon = Daemon::start(&world.store, &["--no-confine"]);
    let client = world.client(&daemon, "a");
    write(&world.source.join("file"), "one");
    client.push("-r", &world.source);
    assert!(daemon.log().contains("not confined, as --no-confine says"), "{}", daemon.log());
    let _moved = replace(&world.store);
    let before = shape(&world.store);
    write(&world.source.join("file"), "two");
    client.try_push("-r", &world.source);
    assert_ne!(shape(&world.store), before, "it wrote what it was led to");
}

/// Each thread, whenever it was started: the kernel's rules are a thread's.
#[test]
fn no_thread_of_a_daemon_gains_privileges() {
    for options in [&[][..], &["--no-confine"][..]] {
        let world = World::new();
        let daemon = Daemon::start(&world.store, options);
        let client = world.client(&daemon, "a");
        write(&world.source.join("file"), "one");
        client.push("-r", &world.source);
        let mut threads = 0;
        for task in fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap() {
            // A thread that has ended meanwhile.
            let Ok(status) = fs::read_to_string(task.unwrap().path().join("status")) else { continue };
            assert!(status.contains("NoNewPrivs:\t1"), "{status}");
            threads += 1;
        }
        assert!(threads > 3, "{threads} threads");
    }
}

#[test]
fn a_destination_is_held_to_its_folder() {
    let (world, _daemon, client) = World::served();
    let mut destination = Destination::start(&client, &world.path("kept"), &["--name", "d", "-vv"]);
    wait_for_names(&client, &["d"]);
    if !is_confined(&destination.said()) {
        return;
    }
    write(&world.source.join("file"), "one");
    client.push("-r --copies 1", &world.source);
    let moved = replace(&destination.store);
    let before = shape(&destination.store);
    write(&world.source.join("file"), "two");
    let outcome = client.with(&["--retry-for", "0"]).try_push("-r --copies 1", &world.source);
    assert_ne!(outcome.code, 0, "{}", outcome.said());
    assert_eq!(shape(&destination.store), before, "something was written outside");
    destination.stop();
    fs::remove_dir_all(&destination.store).unwrap();
    fs::rename(&moved, &destination.store).unwrap();
}

/// What finds a host is not taken away.
#[test]
fn a_destination_still_finds_its_server_by_name() {
    let (world, daemon, client) = World::served();
    let named = daemon.address.replace("127.0.0.1", "localhost");
    write(&world.source.join("file"), "one");
    client.push("-r", &world.source);
    // The same key under the other name.
    let servers = client.home.join(".config/rbbackup/servers");
    let copied = Outcome::of(Command::new("cp").arg("-a").args([servers.join(&daemon.address), servers.join(&named)]));
    copied.expect(0, &[]);
    let by_name = Client::new(&client.home, &["-s", &named, "--bind", "127.0.0.1"]);
    let _destination = Destination::start(&by_name, &world.path("kept"), &["--name", "d"]);
    wait_for_names(&client, &["d"]);
    client.push("-r --copies 1", &world.source);
}

/// Who comes over loopback is known by name although a confined daemon cannot read who there is.
#[test]
fn login_names_are_still_known() {
    if !is_root() {
        return skipped("being two users needs root");
    }
    let world = World::new();
    let daemon = world.daemon();
    write(&world.source.join("file"), "one");
    let nobody = world.client(&daemon, "nobody").as_uid(65534);
    nobody.push("-r", &world.source);
    assert_same(&world.copy_for("127.0.0.1", "nobody", &world.source), &world.source);
}
