//! A reader beside who prunes: what it has begun to read stays until it ends, however it ends.

use std::fs;
use std::io::Read;
use std::process::{Child, Command};

use crate::support::client::{Client, Outcome};
use crate::support::daemon::{World, login, wait};

const KEEP_ONE: &str =
    "[retention]\nlast = 1\nhourly = 0\ndaily = 0\nweekly = 0\nmonthly = 0\nyearly = 0\nmin-age = 0\n";
/// More than what a reader whose output nobody takes has in its queues.
const BYTES: usize = 32 * 1024 * 1024;

/// Prunes; says whether anything that has expired is still there.
fn prune_leaves_some(world: &World) -> bool {
    let config = world.path("rbbackupd.toml");
    fs::write(&config, KEEP_ONE).unwrap();
    let mut prune = Command::new(env!("CARGO_BIN_EXE_rbbackupd"));
    prune.arg("prune").arg(&world.store).arg("--config").arg(&config).env_remove("RBBACKUP_LOG");
    Outcome::of(&mut prune).expect(0, &[]);
    let folder = world.store.join(".rbbackup/snapshots").join(format!("127.0.0.1@{}", login()));
    fs::read_dir(folder).unwrap().any(|entry| entry.unwrap().path().extension().is_some_and(|e| e == "base"))
}

/// `cat` of the large file as it was in this snapshot, which has begun and waits for somebody to take its output.
fn begun(world: &World, client: &Client, number: &str) -> (Child, Vec<u8>) {
    let path = world.source.join("large");
    let mut child = client.start(&["cat", "--at", number, path.to_str().unwrap()]);
    let mut first = vec![0];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    (child, first)
}

#[test]
fn what_is_read_beside_a_prune_stays_until_its_reader_ends_or_is_killed() {
    let world = World::new();
    let client = Client::new(&world.path("home"), &["--store", world.store.to_str().unwrap()]);
    let content = |number: u8| {
        let mut bytes = vec![0; BYTES];
        bytes[BYTES - 1] = number;
        bytes
    };
    for number in 1..=2 {
        fs::write(world.source.join("large"), content(number)).unwrap();
        assert_eq!(client.push("-rd", &world.source)["snapshot"], number);
    }
    let (mut reader, mut read) = begun(&world, &client, "1");
    assert!(prune_leaves_some(&world), "somebody reads it");
    reader.stdout.as_mut().unwrap().read_to_end(&mut read).unwrap();
    assert!(wait(&mut reader).success() && read == content(1));
    assert!(!prune_leaves_some(&world), "nobody does");

    fs::remove_file(world.source.join("large")).unwrap();
    client.push("-rd", &world.source);
    let (mut reader, _) = begun(&world, &client, "2");
    assert!(prune_leaves_some(&world));
    reader.kill().unwrap();
    reader.wait().unwrap();
    assert!(!prune_leaves_some(&world), "what is killed holds nothing");
}
