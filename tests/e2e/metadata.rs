//! What a source is besides its content, and what it does while it is read.

use std::fs;

use crate::support::client::{Client, Outcome};
use crate::support::daemon::World;
use crate::support::proxy::Proxy;
use crate::support::trees::{assert_same, many, noise, plant, set_mode, set_time, write};

/// Files and folders that go after they were listed: reported, and no failure.
#[test]
fn what_vanishes_during_the_run_is_no_error() {
    let world = World::new();
    let daemon = world.daemon();
    let proxy = Proxy::to(&daemon.address);
    let client = Client::new(&world.path("home"), &["-s", &proxy.address]);
    // The first files fill the window, so that the scan waits before those that go.
    for name in ["a1", "a2", "a3"] {
        write(&world.source.join(name), noise(1, 20 << 20));
    }
    many(&world.source.join("z"), 2, 20);
    write(&world.source.join("zz"), "a file");
    proxy.pause(2 << 20);
    let run = client.start(&["-rv".as_ref(), world.source.as_os_str()]);
    proxy.wait_paused();
    fs::remove_dir_all(world.source.join("z")).unwrap();
    fs::remove_file(world.source.join("zz")).unwrap();
    proxy.open();
    Outcome::end(run).expect(0, &["/z: it vanished", "/zz: it vanished"]);
    client.push("-rd --force-delete", &world.source);
    assert_same(&world.copy(), &world.source);
}

/// Mode, times and attributes alone: nothing of the content travels.
#[test]
fn metadata_alone_is_brought_over_without_content() {
    let (world, _daemon, client) = World::served();
    plant(&world.source);
    client.push("-r", &world.source);
    let at = |name: &str| world.source.join(name);
    set_mode(&at("large"), 0o400);
    set_time(&at("docs/script"), 1_234_567_890, 987_654_321);
    xattr::set(at("twin/one"), "user.new", b"on all three names").unwrap();
    set_mode(&at("hollow"), 0o750);
    set_time(&at("docs/a"), 2_000_000_000, 1);
    let summary = client.push("-rd", &world.source);
    assert_same(&world.copy(), &world.source);
    assert_eq!((&summary["content_bytes_sent"], &summary["updated"]), (&0.into(), &0.into()), "{summary}");
    assert!(summary["touched"].as_u64().unwrap() >= 5, "{summary}");
}

/// Access control lists ride in xattrs: u:1:r-- and a mask, as the kernel writes them.
#[test]
fn access_control_lists_are_kept() {
    let (world, _daemon, client) = World::served();
    write(&world.source.join("file"), "x");
    let entry =
        |tag: u16, perm: u16, id: u32| [&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat();
    let none = u32::MAX;
    let list = [(1, 6, none), (2, 4, 1), (4, 4, none), (16, 4, none), (32, 0, none)].map(|(t, p, i)| entry(t, p, i));
    let acl = [&2u32.to_le_bytes()[..], &list.concat()].concat();
    if xattr::set(world.source.join("file"), "system.posix_acl_access", &acl).is_err() {
        return crate::support::daemon::skipped("the file system has no access control lists");
    }
    client.push("-r", &world.source);
    assert_same(&world.copy(), &world.source);
    assert!(xattr::get(world.copy().join("file"), "system.posix_acl_access").unwrap().is_some());
    let to = world.path("to");
    client.run(&["restore", world.source.to_str().unwrap(), "--to", to.to_str().unwrap()]).expect(0, &[]);
    assert_same(&to.join("source"), &world.source);
}
