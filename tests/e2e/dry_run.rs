//! What `-n` says is what then happens, to the byte; and nothing has happened before.

use std::fs;

use crate::support::client::Client;
use crate::support::daemon::World;
use crate::support::proxy::Proxy;
use crate::support::trees::{assert_same, hole, many, noise, plant, write};

/// A dry run, then a real one of the same: both say the same, and the dry one leaves the copy alone.
#[track_caller]
fn both(world: &World, client: &Client, flags: &str) {
    let dry = client.push(&format!("{flags} -n"), &world.source);
    // On a busy machine the line may be taken for a slow one: of that a dry run knows nothing.
    let real = client.push(&format!("{flags} --compress never"), &world.source);
    for count in ["content_bytes_sent", "created", "updated", "moved", "deleted", "touched", "manifest", "bytes"] {
        assert_eq!(dry[count], real[count], "{count}:\n{dry}\n{real}");
    }
    assert!(dry["snapshot"].is_null());
}

#[test]
fn a_dry_run_counts_what_then_travels() {
    let (world, _daemon, client) = World::served();
    let source = |name: &str| world.source.join(name);
    // An empty copy is not asked what it has.
    plant(&world.source);
    write(&source("docs/again"), fs::read(source("large")).unwrap());
    write(&source("docs/readme"), "read me\n");
    let zeros = fs::File::create(source("zeros")).unwrap();
    zeros.set_len(12 << 20).unwrap();
    both(&world, &client, "-r");
    // What is there is not sent again: whole, in pieces, under another name, from another file.
    let mut large = fs::read(source("large")).unwrap();
    large.splice(300_000..300_000, *b"inserted");
    write(&source("large"), &large);
    write(&source("twice/one"), noise(9, 400_000));
    write(&source("twice/two"), noise(9, 400_000));
    write(&source("small/one"), "the same");
    write(&source("small/two"), "the same");
    fs::rename(source("docs/private"), source("docs/public")).unwrap();
    fs::hard_link(source("twice/one"), source("twice/link")).unwrap();
    hole(&source("more holes"));
    both(&world, &client, "-r");
    fs::remove_dir_all(source("twice")).unwrap();
    write(&source("twice"), "a file now");
    both(&world, &client, "-rd");
    fs::remove_dir_all(client.home.join(".cache")).unwrap();
    many(&world.source, 3, 3);
    both(&world, &client, "-rd");
    assert_same(&world.copy(), &world.source);
}

/// Holes are one chunk over and over: they hardly travel, also into an empty copy.
#[test]
fn holes_do_not_travel() {
    let (world, _daemon, client) = World::served();
    fs::File::create(world.source.join("zeros")).unwrap().set_len(40 << 20).unwrap();
    let summary = client.push("-r", &world.source);
    assert!(summary["content_bytes_sent"].as_u64().unwrap() < 4 << 20, "{summary}");
    assert_same(&world.copy(), &world.source);
}

/// What a cut run left in staging counts, and a dry run in between leaves it there.
#[test]
fn a_dry_run_leaves_what_is_staged() {
    let world = World::new();
    let daemon = world.daemon();
    write(&world.source.join("small"), "small");
    write(&world.source.join("large"), noise(1, 20 << 20));
    let proxy = Proxy::to(&daemon.address);
    let home = world.path("home-a");
    let cut = Client::new(&home, &["-s", &proxy.address, "--retry-for", "0s"]);
    proxy.cut(12 << 20, 1);
    cut.push_code("-r", &world.source, 10);
    // What the daemon still takes of the run that was cut is waited for.
    let dry = cut.push("-r -n --wait=1m", &world.source);
    let again = cut.push("-r -n", &world.source);
    assert_eq!(dry["content_bytes_sent"], again["content_bytes_sent"]);
    assert!(dry["content_bytes_sent"].as_u64().unwrap() < 16 << 20, "{dry}");
    let real = cut.push("-r", &world.source);
    assert_eq!(dry["content_bytes_sent"], real["content_bytes_sent"]);
    assert_same(&world.copy(), &world.source);
}

#[test]
fn a_store_that_is_not_there_is_not_made() {
    let world = World::new();
    plant(&world.source);
    let store = world.store.to_str().unwrap();
    let client = Client::new(&world.path("home-a"), &["--store", store]);
    let said = client.run(&["-rn".as_ref(), world.source.as_os_str()]);
    let root = format!("create {}\n", world.source.display());
    said.expect(0, &["there is no store at", "would be made", "would send", &root]);
    assert!(!world.store.exists());
    let left: Vec<_> = fs::read_dir(client.home.join(".cache/rbbackup")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    // A folder without a store in it stays one, too.
    fs::create_dir(&world.store).unwrap();
    client.push("-rn", &world.source);
    assert!(fs::read_dir(&world.store).unwrap().next().is_none());
    both(&world, &client, "-r");
    both(&world, &client, "-rd");
    // What could not be made is an error also now.
    let nowhere = Client::new(&world.path("home-a"), &["--store", "/not/there/at all"]);
    nowhere.push_code("-rn", &world.source, 1);
}
