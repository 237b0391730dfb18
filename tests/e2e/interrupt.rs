//! Ctrl-C, from both sides.

use std::io::{BufRead, BufReader};
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::client::{Client, Outcome};
use crate::support::daemon::{World, wait};
use crate::support::proxy::Proxy;
use crate::support::trees::{assert_same, noise, write};

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).unwrap();
}

/// One line and 130; the daemon keeps what has arrived, and lets the next one in at once.
#[test]
fn an_interrupted_backup_is_gone_on_with() {
    let world = World::new();
    let daemon = world.daemon();
    write(&world.source.join("large"), noise(1, 12 << 20));
    write(&world.path("second/file"), "2");
    let proxy = Proxy::to(&daemon.address);
    let client = Client::new(&world.path("home-a"), &["-s", &proxy.address]);
    proxy.stall(8 << 20);
    let second = world.path("second");
    let running = client.start(&["-r".as_ref(), world.source.as_os_str(), second.as_os_str()]);
    proxy.wait_stalled();
    interrupt(&running);
    let ended = Outcome::end(running);
    assert_eq!((ended.code, ended.said().as_str()), (130, "rbbackup: interrupted\n"));
    proxy.open();
    let summary = client.push("-r --wait=1m", &world.source);
    assert!(summary["content_bytes_sent"].as_u64().unwrap() < 8 << 20, "{summary}");
    assert_same(&world.copy(), &world.source);
    assert!(!world.copy_of(&second).exists());
}

/// Somebody who waits for a lock has a conversation, too; with `--json` the line is an object.
#[test]
fn whoever_waits_can_be_interrupted() {
    let world = World::new();
    let daemon = world.daemon();
    write(&world.source.join("large"), noise(1, 4 << 20));
    let proxy = Proxy::to(&daemon.address);
    let client = Client::new(&world.path("home-a"), &["-s", &proxy.address]);
    proxy.stall(1 << 20);
    let mut holder = client.start(&["-r".as_ref(), world.source.as_os_str()]);
    proxy.wait_stalled();
    // New connections pass; the holder's stands still.
    proxy.open();
    let mut waiting = client.start(&["-r".as_ref(), "--wait".as_ref(), "--json".as_ref(), world.source.as_os_str()]);
    let mut said = BufReader::new(waiting.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(said.any(|line| line.contains("queued: locked by")), "it does not wait");
    interrupt(&waiting);
    let last = said.last().unwrap();
    assert!(last.contains(r#""message":"interrupted","exit_code":130"#), "{last}");
    assert_eq!(wait(&mut waiting).code(), Some(130));
    holder.kill().unwrap();
    Outcome::end(holder);
    client.push("-r --wait=1m", &world.source);
    assert_same(&world.copy(), &world.source);
}

/// What failed for one PATH leaves the store free for the next, also with the store in this process.
#[test]
fn a_refused_path_leaves_the_store_to_the_next() {
    let world = World::new();
    let client = Client::new(&world.path("home-a"), &["--store", world.store.to_str().unwrap()]);
    let second = world.path("second");
    for i in 0..12 {
        write(&world.source.join(format!("{i}")), "1");
    }
    write(&second.join("file"), "2");
    client.push("-r", &world.source);
    std::fs::remove_dir_all(&world.source).unwrap();
    std::fs::create_dir(&world.source).unwrap();
    let outcome = client.run(&["-rd".as_ref(), world.source.as_os_str(), second.as_os_str()]);
    outcome.expect(14, &["--force-delete"]);
    assert!(!outcome.said().contains("in use"), "{}", outcome.said());
    assert_same(&world.copy_of(&second), &second);
}
