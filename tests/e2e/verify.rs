//! Verify finds what is damaged, names it, and puts right what it can; stats; `--of`; the way of an administrator.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::client::Client;
use crate::support::daemon::{World, login, rbbackupd};
use crate::support::trees::{assert_same, noise, plant, set_mode, write};

/// Flips one bit in the middle, without changing anything else that can be helped.
fn flip(path: &Path) {
    let times = fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_modified(times).unwrap();
}

/// A client without a daemon.
fn local(world: &World, options: &[&str]) -> Client {
    Client::new(&world.path("local"), &["--store", world.store.to_str().unwrap()]).with(options)
}

fn files_below(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![top.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// What is kept of the past: retired files and packs.
fn history(world: &World) -> Vec<PathBuf> {
    let own = world.store.join(".rbbackup");
    [files_below(&own.join("retired")), files_below(&own.join("vault"))].concat()
}

fn verify(client: &Client, code: i32) -> (Vec<Value>, Value) {
    let said = client.run(&["verify", "--json"]);
    assert_eq!(said.code, code, "{}{}", said.stdout, said.stderr);
    let damages = said.objects().into_iter().filter(|object| object["type"] == "damage").collect();
    (damages, said.object("verify"))
}

fn intact(client: &Client) -> Value {
    let (damages, done) = verify(client, 0);
    assert_eq!((damages.len(), &done["damages"]), (0, &0.into()));
    done
}

#[test]
fn a_damaged_plain_file_is_named_and_comes_again_with_the_next_backup() {
    let (world, _daemon, client) = World::served();
    plant(&world.source);
    client.push("-rd", &world.source);
    let done = intact(&client);
    assert_eq!(done["snapshots"], 1);
    assert!(done["files"].as_u64().unwrap() > 3 && done["bytes"].as_u64().unwrap() > 100, "{done}");
    write(&world.source.join("victim"), noise(1, 5000));
    write(&world.source.join("taken"), "x");
    client.push("-rd", &world.source);
    flip(&world.copy().join("victim"));
    fs::remove_file(world.copy().join("taken")).unwrap();
    let (damages, done) = verify(&client, 1);
    assert_eq!((damages.len(), &done["damages"]), (2, &2.into()), "{damages:?}");
    assert_eq!(damages[0]["path"], world.source.join("taken").to_str().unwrap());
    assert_eq!(damages[1]["path"], world.source.join("victim").to_str().unwrap());
    assert!(damages[1]["message"].as_str().unwrap().contains("not what was backed up"), "{damages:?}");
    assert!(damages.iter().all(|damage| damage["outcome"] == "next_run" && damage["snapshots"] == 1), "{damages:?}");
    let only = client.run(&["verify", "-q", world.source.join("taken").to_str().unwrap()]);
    assert_eq!((only.code, only.stdout.as_str()), (1, ""), "{}", only.stderr);
    assert!(only.stderr.lines().count() == 1 && only.stderr.contains("taken"), "{}", only.stderr);
    client.push("-rd", &world.source);
    assert_same(&world.copy(), &world.source);
    intact(&client);
}

#[test]
fn what_history_has_is_put_right_at_once() {
    let (world, _daemon, client) = World::served();
    let (file, copy) = (world.source.join("d/file"), world.copy().join("d/file"));
    let old = noise(2, 300_000);
    for content in [&old, &noise(3, 300_000), &old] {
        write(&file, content);
        set_mode(&file, 0o640);
        client.push("-rd", &world.source);
        // Once it is packed, what comes back to the copy stays in history, too.
        world.packed();
    }
    intact(&client);
    flip(&copy);
    let (damages, _) = verify(&client, 1);
    assert_eq!((damages.len(), &damages[0]["outcome"]), (1, &"healed".into()), "{damages:?}");
    assert_same(&world.copy(), &world.source);
    let again = client.push("-rd", &world.source);
    assert_eq!((&again["updated"], &again["content_bytes_sent"]), (&0.into(), &0.into()), "{again}");
    intact(&client);
}

#[test]
fn lost_history_is_named_with_the_snapshots_that_it_touches() {
    let (world, daemon, client) = World::served();
    write(&world.source.join("stays"), noise(5, 2000));
    write(&world.source.join("gone"), noise(6, 40_000));
    for round in 0..3 {
        write(&world.source.join("round"), format!("{round}"));
        client.push("-rd", &world.source);
    }
    fs::remove_file(world.source.join("gone")).unwrap();
    client.push("-rd", &world.source);
    intact(&client);
    world.packed();
    history(&world).iter().for_each(|path| flip(path));
    let _daemon = daemon.restart();
    let (damages, _) = verify(&client, 1);
    let gone = world.source.join("gone");
    let named = damages.iter().find(|damage| damage["path"] == gone.to_str().unwrap());
    let named = named.unwrap_or_else(|| panic!("{damages:?}"));
    assert_eq!(named["snapshots"], 3, "{damages:?}");
    assert!(damages.iter().all(|damage| damage["outcome"] == "stays"), "{damages:?}");
    assert_same(&world.copy(), &world.source);
}

#[test]
fn damaged_records_and_manifests_are_named() {
    let (world, daemon, client) = World::served();
    plant(&world.source);
    client.push("-rd", &world.source);
    write(&world.source.join("more"), "more");
    client.push("-rd", &world.source);
    drop(daemon);
    let folder = world.store.join(".rbbackup/snapshots").join(format!("127.0.0.1@{}", login()));
    for file in files_below(&folder) {
        let whole = fs::read(&file).unwrap();
        flip(&file);
        let said = rbbackupd(&["verify", world.store.to_str().unwrap(), "--json"]);
        assert_eq!(said.code, 1, "{}: {}{}", file.display(), said.stdout, said.stderr);
        let damages: Vec<Value> = said.objects().into_iter().filter(|object| object["type"] == "damage").collect();
        let number = file.file_name().unwrap().to_str().unwrap().trim_start_matches('0')[..1].to_owned();
        let names_it = |damage: &Value| {
            damage["path"] == file.to_str().unwrap() || damage["path"] == format!("snapshot {number}").as_str()
        };
        assert!(damages.iter().any(names_it), "{}: {damages:?}", file.display());
        fs::write(&file, whole).unwrap();
    }
    assert_eq!(rbbackupd(&["verify", world.store.to_str().unwrap(), "-q"]).code, 0);
}

#[test]
fn parts_cover_everything_one_after_the_other() {
    let (world, daemon, client) = World::served();
    for i in 0..40 {
        write(&world.source.join(format!("f{i}")), format!("content {i}"));
    }
    client.push("-rd", &world.source);
    flip(&world.copy().join("f7"));
    let mut found = 0;
    let mut files = 0;
    for part in 1..=3 {
        let said = client.run(&["verify", "--sample", "1/3", "--json"]);
        let done = said.object("verify");
        assert_eq!(done["part"], part);
        files += done["files"].as_u64().unwrap();
        found += done["damages"].as_u64().unwrap();
    }
    assert_eq!((found, files), (1, 39), "the damaged one is not counted");
    let _daemon = daemon.restart();
    let again = client.run(&["verify", "--sample", "1/3"]);
    assert!(again.said().contains("part 1 of 3"), "{}", again.said());
    client.run(&["verify", "--sample", "3"]).expect(2, &["1/N"]);
}

#[test]
fn an_administrator_reaches_the_daemon_and_the_store_alike() {
    let (world, daemon, client) = World::served();
    plant(&world.source);
    client.push("-rd", &world.source);
    let store = world.store.to_str().unwrap();
    let beside = rbbackupd(&["stats", store, "--json"]);
    assert_eq!(beside.code, 0, "{}", beside.stderr);
    let stats = beside.object("stats");
    assert_eq!((&stats["node"], &stats["user"]), (&"127.0.0.1".into(), &login().into()));
    assert_eq!((&stats["snapshots"], &stats["roots"][0]["newest"]), (&1.into(), &1.into()));
    assert!(stats["verified_secs"].is_null() && stats["current_bytes"] == stats["logical_bytes"], "{stats}");
    rbbackupd(&["verify", store]).expect(0, &["all intact"]);
    let plain = |path: &&PathBuf| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() > 0);
    flip(files_below(&world.copy()).iter().find(plain).unwrap());
    rbbackupd(&["verify", store]).expect(1, &["damaged: /"]);
    drop(daemon);
    // Nobody listens any more; the socket may be left.
    local(&world, &[]).push("-rd", &world.source);
    rbbackupd(&["verify", store]).expect(0, &["all intact"]);
    rbbackupd(&["stats", store]).expect(0, &["verified", "intact"]);
    let nowhere = world.path("nowhere");
    rbbackupd(&["verify", nowhere.to_str().unwrap()]).expect(1, &["nowhere"]);
    assert!(!nowhere.exists(), "asking does not make a store");
}

#[test]
fn another_s_copy_takes_the_admin_right_or_the_store_itself() {
    let (world, daemon, client) = World::served();
    write(&world.source.join("secret"), "s");
    client.push("-rd", &world.source);
    let of = format!("127.0.0.1/{}", login());
    let secret = world.source.join("secret");
    let stranger = world.client(&daemon, "stranger").with(&["--bind", "127.0.0.2"]);
    stranger.run(&["ls"]).expect(0, &[]);
    stranger.run(&["--of", &of, "ls", secret.to_str().unwrap()]).expect(12, &["admin"]);
    let local = local(&world, &["--user", "other"]);
    local.run(&["--of", &of, "ls", secret.to_str().unwrap()]).expect(0, &["secret"]);
    local.run(&["ls", secret.to_str().unwrap()]).expect(1, &["no backup"]);
    local.run(&["--of", "10.0.0.1/x", "ls"]).expect(1, &["there is no copy '10.0.0.1/x'", of.as_str()]);
    local.run(&["--of", &of, "-r", world.source.to_str().unwrap()]).expect(2, &["changes one's own"]);
}

/// Content that was moved lies in the copy only, outside of what is looked at.
#[test]
fn what_was_moved_elsewhere_is_not_missing() {
    let (world, _daemon, client) = World::served();
    write(&world.source.join("in/small"), noise(1, 2000));
    write(&world.source.join("in/large"), noise(2, 600_000));
    client.push("-rd", &world.source);
    fs::rename(world.source.join("in"), world.source.join("out")).unwrap();
    write(&world.source.join("in/other"), "x");
    client.push("-rd", &world.source);
    intact(&client);
    client.run(&["verify".as_ref(), world.source.join("in").as_os_str()]).expect(0, &["all intact"]);
}

#[test]
fn a_run_without_folders_leaves_what_it_does_not_look_at_intact() {
    let (world, _daemon, client) = World::served();
    write(&world.source.join("deep/er/file"), noise(1, 2000));
    write(&world.source.join("top"), noise(2, 2000));
    client.push("-rd", &world.source);
    write(&world.source.join("top"), noise(3, 2000));
    client.push("-d", &world.source);
    intact(&client);
    client.push("-rd", &world.source.join("deep"));
    intact(&client);
    write(&world.source.join("deep/er/file"), noise(4, 2000));
    client.push("-rd", &world.source.join("deep"));
    intact(&client);
    client.run(&["forget".as_ref(), world.source.join("deep").as_os_str()]).expect(0, &[]);
    intact(&client);
    client.run(&["forget".as_ref(), world.source.as_os_str()]).expect(0, &[]);
    intact(&client);
}

/// What only the copy has cannot come again.
#[test]
fn a_damaged_file_that_the_source_does_not_have_any_more_is_not_promised() {
    let (world, _daemon, client) = World::served();
    write(&world.source.join("kept"), noise(1, 2000));
    write(&world.source.join("there"), "x");
    client.push("-r", &world.source);
    fs::remove_file(world.source.join("kept")).unwrap();
    client.push("-r", &world.source);
    intact(&client);
    flip(&world.copy().join("kept"));
    let (damages, _) = verify(&client, 1);
    assert_eq!((damages.len(), &damages[0]["outcome"]), (1, &"stays".into()), "{damages:?}");
}

/// A damaged blob must not be the reason to throw away the good content that comes again.
#[test]
fn what_is_damaged_in_history_is_packed_anew() {
    let (world, mut daemon, client) = World::served();
    let file = world.source.join("file");
    let mut packs = Vec::new();
    for round in 0..3 {
        for content in [noise(1, 90_000), noise(2 + round, 90_000)] {
            write(&file, content);
            client.push("-rd", &world.source);
        }
        world.packed();
        packs = files_below(&world.store.join(".rbbackup/vault"));
        if round == 0 {
            packs.iter().for_each(|pack| flip(pack));
            daemon.stop();
            daemon = daemon.restart();
            verify(&client, 1);
        }
    }
    assert!(packs.len() > 1);
    let to = world.path("to");
    let said = client.run(&["restore", "--at", "1", "--to", to.to_str().unwrap(), world.source.to_str().unwrap()]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(fs::read(to.join("source/file")).unwrap() == noise(1, 90_000));
}
