//! Check 9: whose directory is it?

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::client::Client;
use crate::support::daemon::{Daemon, World, is_root, login, skipped};
use crate::support::trees::{assert_same, write};

/// A client with an XDG configuration folder of its own.
fn client(world: &World, daemon: &Daemon, name: &str, bind: &str, user: &str) -> Client {
    let home = world.path(name);
    let config = home.join("config");
    Client::new(&home, &["-s", &daemon.address, "--bind", bind, "--user", user])
        .var("XDG_CONFIG_HOME", config.to_str().unwrap())
        .var("XDG_CACHE_HOME", home.join("cache").to_str().unwrap())
}

#[test]
fn two_addresses_and_two_users_are_four_directories() {
    if !is_root() {
        return skipped("only root may use any user name on this machine");
    }
    let world = World::new();
    let daemon = Daemon::start(&world.store, &["--trust-first-use"]);
    let file = world.source.join("file");
    let all = [("127.0.0.1", "ana"), ("127.0.0.1", "bob"), ("127.0.0.2", "ana"), ("127.0.0.2", "bob")];
    let clients = all.map(|(bind, user)| client(&world, &daemon, &format!("{user}{bind}"), bind, user));
    for ((bind, user), client) in all.iter().zip(&clients) {
        write(&file, format!("{user} of {bind}"));
        assert_eq!(client.push("-r", &world.source)["snapshot"], 1, "numbers are each copy's own");
    }
    for ((bind, user), client) in all.iter().zip(&clients) {
        let copy = world.copy_for(bind, user, &world.source);
        assert_eq!(fs::read_to_string(copy.join("file")).unwrap(), format!("{user} of {bind}"));
        let status = client.run(&["--json", "status"]).object("status");
        assert_eq!((&status["node"], &status["user"]), (&(*bind).into(), &(*user).into()));
        let here = world.path(&format!("back-{user}{bind}"));
        let (file, to) = (file.as_os_str(), here.as_os_str());
        client.run(&["restore".as_ref(), file, "--to".as_ref(), to]).expect(0, &[]);
        assert_eq!(fs::read_to_string(here.join("file")).unwrap(), format!("{user} of {bind}"), "none sees another's");
    }
}

#[test]
fn a_key_goes_on_in_its_first_directory_from_any_address() {
    if !is_root() {
        return skipped("only root may use any user name on this machine");
    }
    let world = World::new();
    let daemon = Daemon::start(&world.store, &["--trust-first-use"]);
    write(&world.source.join("file"), "1");
    client(&world, &daemon, "home", "127.0.0.1", "ana").push("-r", &world.source);
    let second = client(&world, &daemon, "home", "127.0.0.2", "ana");
    let summary = second.push("-r", &world.source);
    assert_eq!((&summary["snapshot"], &summary["content_bytes_sent"]), (&2.into(), &0.into()), "{summary}");
    write(&world.source.join("file"), "22");
    assert_eq!(second.push("-r", &world.source)["content_bytes_sent"], 2);
    assert!(!world.store.join("127.0.0.2").exists());
    assert_same(&world.copy_for("127.0.0.1", "ana", &world.source), &world.source);
}

#[test]
fn another_key_does_not_get_a_directory_that_is_taken() {
    if !is_root() {
        return skipped("only root may use any user name on this machine");
    }
    let world = World::new();
    let daemon = Daemon::start(&world.store, &["--trust-first-use"]);
    write(&world.source.join("file"), "mine");
    client(&world, &daemon, "home", "127.0.0.1", "ana").push("-r", &world.source);
    let thief = client(&world, &daemon, "other", "127.0.0.1", "ana");
    write(&world.source.join("file"), "stolen");
    thief.try_push("-rd --force-delete", &world.source).expect(12, &["127.0.0.1/ana"]);
    thief.run(&["ls"]).expect(12, &[]);
    let copy = world.copy_for("127.0.0.1", "ana", &world.source);
    assert_eq!(fs::read(copy.join("file")).unwrap(), b"mine");
    let _daemon = daemon.restart();
    thief.try_push("-r", &world.source).expect(12, &[]);
}

/// The way out that the refusal tells (issue 5, item 2).
#[test]
fn another_machine_behind_the_same_address_is_told_both_ways_out() {
    let (world, daemon, client) = World::served();
    write(&world.source.join("file"), "mine");
    client.push("-r", &world.source);
    let refused = world.client(&daemon, "new").try_push("-r", &world.source);
    let replace = format!("rbbackupd invite {} --node 127.0.0.1 --replace-key", login());
    refused.expect(12, &[&replace, &format!("rbbackupd invite {} --node NAME", login())]);
}

/// A daemon with another key at a known address is not talked to.
#[test]
fn a_server_that_shows_another_key_gets_nothing() {
    let (world, daemon, client) = World::served();
    write(&world.source.join("file"), "x");
    client.push("-r", &world.source);
    let address = daemon.address.clone();
    drop(daemon);
    let other = Daemon::start_on(&world.path("other"), &[], &address).unwrap();
    client.try_push("-r", &world.source).expect(12, &["Nothing was sent"]);
    assert!(!world.path("other/127.0.0.1").exists());
    drop(other);
}

#[test]
fn keys_and_folders_are_for_nobody_else() {
    let (world, daemon, client) = World::served();
    write(&world.source.join("file"), "x");
    client.push("-r", &world.source);
    let mode = |path: std::path::PathBuf| path.metadata().unwrap().permissions().mode() & 0o777;
    let key = client.home.join(".config/rbbackup/servers").join(&daemon.address).join(format!("{}.key", login()));
    assert_eq!(mode(key), 0o600);
    assert_eq!(mode(world.store.join(".rbbackup/key")), 0o600);
    for folder in [".rbbackup", "127.0.0.1", &format!("127.0.0.1/{}", login())] {
        assert_eq!(mode(world.store.join(folder)), 0o700, "{folder}");
    }
}

/// On one machine everybody is who the kernel says.
#[test]
fn a_user_cannot_pass_for_another() {
    if !is_root() {
        return skipped("being two users needs root");
    }
    let world = World::new();
    let daemon = world.daemon();
    write(&world.source.join("file"), "x");
    let nobody = world.client(&daemon, "nobody").as_uid(65534);
    nobody.with(&["--user", "daemon"]).try_push("-r", &world.source).expect(12, &["daemon"]);
    assert!(!world.store.join("127.0.0.1/daemon").exists());
    nobody.push("-r", &world.source);
    assert_same(&world.copy_for("127.0.0.1", "nobody", &world.source), &world.source);
    let root = world.client(&daemon, "root");
    root.with(&["--user", "nobody"]).try_push("-r", &world.source).expect(12, &[]);
}
