//! Large files: what changed within them is sent, and no more.

use std::fs;
use std::path::Path;

use crate::support::client::Client;
use crate::support::daemon::World;
use crate::support::trees::{allocated, assert_same, hole, noise, write};

const MIB: usize = 1024 * 1024;

/// Check 5.
#[test]
fn a_byte_at_the_head_of_a_large_file_costs_a_chunk() {
    let (world, mut daemon, client) = World::served();
    let mut content = noise(5, 24 * MIB);
    let file = world.source.join("disk.img");
    write(&file, &content);
    assert_eq!(client.push("-r", &world.source)["content_bytes_sent"], 24 * MIB);
    content.insert(0, 7);
    write(&file, &content);
    let summary = client.push("-rd", &world.source);
    assert!(summary["content_bytes_sent"].as_u64().unwrap() < 256 * 1024, "{summary}");
    assert!(summary["wire_bytes_sent"].as_u64().unwrap() < 300 * 1024, "{summary}");
    assert_same(&world.copy(), &world.source);
    // In the middle, at the end, and with the cache gone.
    content.splice(11 * MIB..12 * MIB, noise(6, 3));
    content.extend_from_slice(b"end");
    write(&file, &content);
    fs::remove_dir_all(client.home.join(".cache")).unwrap();
    costs_little(&client, &world);
    // Under another name, with a change.
    let other = world.source.join("other.img");
    fs::rename(&file, &other).unwrap();
    content[20 * MIB] ^= 1;
    write(&other, &content);
    costs_little(&client, &world);
    // A part of it as a file of its own; and against a daemon that has lost what it knew.
    write(&world.source.join("part"), &content[3 * MIB..9 * MIB]);
    costs_little(&client, &world);
    daemon.kill();
    for name in ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"] {
        let _ = fs::remove_file(world.store.join(".rbbackup").join(name));
    }
    let _daemon = daemon.restart();
    content.insert(7 * MIB, 1);
    write(&other, &content);
    costs_little(&client, &world);
}

#[track_caller]
fn costs_little(client: &Client, world: &World) {
    let summary = client.push("-rd", &world.source);
    let sent = summary["content_bytes_sent"].as_u64().unwrap();
    assert!(sent < 512 * 1024, "{summary}");
    assert_same(&world.copy(), &world.source);
}

/// Content that the copy holds under any name is not sent, and neither is what left it.
#[test]
fn what_is_there_already_is_not_sent_again() {
    let (world, _daemon, client) = World::served();
    let at = |name: &str| world.source.join(name);
    write(&at("small"), noise(1, 5_000));
    write(&at("large"), noise(2, 900_000));
    client.push("-rd", &world.source);
    let copied = |from: &str, to: &str| fs::copy(at(from), at(to)).map(|_| ()).unwrap();
    copied("small", "small2");
    copied("large", "large2");
    nothing_is_sent(&client, &world.source);
    assert_same(&world.copy(), &world.source);
    for name in ["small", "small2", "large", "large2"] {
        fs::rename(at(name), world.path(name)).unwrap();
    }
    write(&at("other"), "");
    nothing_is_sent(&client, &world.source);
    fs::rename(world.path("small"), at("back")).unwrap();
    fs::rename(world.path("large"), at("large again")).unwrap();
    nothing_is_sent(&client, &world.source);
    assert_same(&world.copy(), &world.source);
}

#[track_caller]
fn nothing_is_sent(client: &Client, root: &Path) {
    let summary = client.push("-rd", root);
    assert_eq!(summary["content_bytes_sent"], 0, "{summary}");
}

/// Holes are zeros: they travel once, also at the first backup, and are holes in the copy.
#[test]
fn the_zeros_of_a_hole_are_not_sent() {
    let (world, _daemon, client) = World::served();
    let file = world.source.join("disk.img");
    hole(&file);
    fs::File::options().write(true).open(&file).unwrap().set_len(40 * MIB as u64).unwrap();
    costs_little(&client, &world);
    assert!(allocated(&world.copy().join("disk.img")) < 64 * 1024);
    assert_eq!(client.push("-r", &world.source)["content_bytes_sent"], 0);
}

#[test]
fn a_file_of_several_names_travels_once() {
    let (world, _daemon, client) = World::served();
    for (one, other, bytes) in [("large", "docs/large too", 2_000_000), ("small", "docs/small too", 5_000)] {
        write(&world.source.join(one), noise(bytes, bytes as usize));
        fs::create_dir_all(world.source.join("docs")).unwrap();
        fs::hard_link(world.source.join(one), world.source.join(other)).unwrap();
    }
    assert_eq!(client.push("-r", &world.source)["content_bytes_sent"], 2_005_000);
    write(&world.source.join("large"), noise(3, 2_000_000));
    assert_eq!(client.push("-r", &world.source)["content_bytes_sent"], 2_000_000);
    assert_same(&world.copy(), &world.source);
}
