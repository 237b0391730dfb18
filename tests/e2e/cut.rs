//! A wire that is cut: what has arrived stays, and the run goes on by itself.

use crate::support::client::{Client, Outcome};
use crate::support::daemon::World;
use crate::support::proxy::Proxy;
use crate::support::trees::{assert_same, noise, write};

const MIB: u64 = 1024 * 1024;
/// What two sockets hold of a connection that is cut: given to the system, and never on the wire.
const SOCKETS_BYTES: u64 = 6 * MIB;

/// Check 7. What is lost is a frame at each cut, and the offers that are made again.
#[test]
fn twenty_cuts_in_one_large_file_cost_less_than_a_twentieth() {
    let world = World::new();
    let daemon = world.daemon();
    let proxy = Proxy::to(&daemon.address);
    let client = Client::new(&world.path("home"), &["-s", &proxy.address]);
    let size = 64 * MIB;
    write(&world.source.join("large"), noise(9, size as usize));
    proxy.cut(size / 21, 20);
    let summary = client.push("-r", &world.source);
    assert_eq!((proxy.cuts_left(), proxy.connections()), (0, 21));
    assert_same(&world.copy(), &world.source);
    assert!(proxy.passed() < size / 100 * 105, "{} bytes passed, {size} were to be sent", proxy.passed());
    // The summary is of all attempts together.
    let sent = summary["content_bytes_sent"].as_u64().unwrap();
    assert!(sent >= size && sent < size + 20 * SOCKETS_BYTES, "{summary}");
    assert!(summary["wire_bytes_sent"].as_u64().unwrap() >= proxy.passed(), "{summary}");
    assert_eq!(client.push("-r", &world.source)["content_bytes_sent"], 0);
}

#[test]
fn small_files_that_have_arrived_are_not_sent_again() {
    let world = World::new();
    let daemon = world.daemon();
    let proxy = Proxy::to(&daemon.address);
    let client = Client::new(&world.path("home"), &["-s", &proxy.address]);
    for file in 0..400 {
        write(&world.source.join(format!("f{file:03}")), noise(file, 50_000));
    }
    proxy.cut(6_000_000, 3);
    client.push("-r", &world.source);
    assert_eq!(proxy.cuts_left(), 0);
    assert_same(&world.copy(), &world.source);
    // At each cut the frame of a megabyte that it interrupts.
    assert!(proxy.passed() < 400 * 50_000 + 3 * 3 * MIB / 2, "{} bytes passed", proxy.passed());
}

/// What a cut run left is of use also when every file has moved on by one since: logs are rotated.
#[test]
fn what_has_arrived_is_found_under_other_names() {
    let world = World::new();
    let daemon = world.daemon();
    let proxy = Proxy::to(&daemon.address);
    let client = Client::new(&world.path("home"), &["-s", &proxy.address, "--retry-for", "0"]);
    let log = |number: u64| world.source.join(format!("log.{number:02}"));
    for number in 0..40 {
        write(&log(number), noise(number, 100_000));
    }
    // The last file does not arrive whole.
    write(&world.source.join("zlarge"), noise(99, 8 << 20));
    proxy.cut(9 << 20, 1);
    assert_eq!(client.try_push("-rd", &world.source).code, 10);
    for number in (0..40).rev() {
        std::fs::rename(log(number), log(number + 1)).unwrap();
    }
    write(&log(0), noise(77, 100_000));
    // What the daemon still takes of the run that was cut is waited for.
    let summary = client.push("-rd --wait=1m", &world.source);
    assert_same(&world.copy(), &world.source);
    let sent = summary["content_bytes_sent"].as_u64().unwrap();
    assert!(sent < 6 << 20, "one log and the rest of the large file: {summary}");
}

/// The daemon is killed while a client is at it, and started again.
#[test]
fn a_daemon_that_restarts_in_between_is_waited_for() {
    let world = World::new();
    let mut daemon = world.daemon();
    let proxy = Proxy::to(&daemon.address);
    let client = Client::new(&world.path("home"), &["-s", &proxy.address]);
    write(&world.source.join("file"), noise(1, 8 << 20));
    proxy.stall(3 * MIB);
    let run = client.start(&["-r".as_ref(), world.source.as_os_str()]);
    proxy.wait_stalled();
    daemon.kill();
    proxy.open();
    let _daemon = daemon.restart();
    Outcome::end(run).expect(0, &[]);
    assert_same(&world.copy(), &world.source);
}

#[test]
fn a_server_that_does_not_come_back_is_given_up() {
    let world = World::new();
    let mut daemon = world.daemon();
    let proxy = Proxy::to(&daemon.address);
    let client = Client::new(&world.path("home"), &["-s", &proxy.address, "--retry-for", "1s"]);
    write(&world.source.join("file"), noise(1, 8 << 20));
    proxy.stall(3 * MIB);
    let run = client.start(&["-r".as_ref(), world.source.as_os_str()]);
    proxy.wait_stalled();
    daemon.kill();
    Outcome::end(run).expect(10, &["rbbackupd"]);
    assert!(!world.copy().exists());
}

/// What has been written is compared by the next attempt and does not come again.
#[test]
fn a_restore_goes_on_after_a_cut() {
    let world = World::new();
    let daemon = world.daemon();
    let proxy = Proxy::to(&daemon.address);
    let client = Client::new(&world.path("home"), &["-s", &proxy.address]);
    for file in 0..400 {
        write(&world.source.join(format!("f{file:03}")), noise(file, 50_000));
    }
    write(&world.source.join("large"), noise(1, 3 << 20));
    client.push("-r", &world.source);
    let before = proxy.passed_back();
    proxy.cut_back(6_000_000, 3);
    let to = world.path("to");
    let outcome = client.run(&["restore", "--json", world.source.to_str().unwrap(), "--to", to.to_str().unwrap()]);
    outcome.expect(0, &[]);
    assert_eq!(proxy.cuts_left(), 0);
    assert_same(&to.join("source"), &world.source);
    let names = std::fs::read_dir(to.join("source")).unwrap().count();
    assert_eq!(names, 401, "nothing temporary is left");
    let passed = proxy.passed_back() - before;
    // The summary is of all attempts together.
    let summary = outcome.summary();
    assert!(summary["content_bytes_received"].as_u64().unwrap() >= 400 * 50_000 + 3 * MIB, "{summary}");
    assert!(passed < 400 * 50_000 + 3 * MIB + 3 * 5 * MIB, "{passed} bytes came");
}

/// A restore that gets nowhere is given up: here the daemon sends half a file and is lost, each time.
#[test]
fn a_restore_that_gets_nowhere_is_given_up() {
    let world = World::new();
    let daemon = world.daemon();
    let proxy = Proxy::to(&daemon.address);
    let client = Client::new(&world.path("home"), &["-s", &proxy.address, "--retry-for", "1s"]);
    let file = world.source.join("large");
    write(&file, noise(1, 6 << 20));
    client.push("-r", &world.source);
    proxy.cut_back(3 * MIB, 1000);
    let to = world.path("to");
    client.run(&["restore", file.to_str().unwrap(), "--to", to.to_str().unwrap()]).expect(10, &["lost"]);
    assert!(!to.join("large").exists());
}

/// A connection that is cut, wherever, and is cut again whenever it is there again, was lost, and is given up some time.
#[test]
fn a_restore_that_is_cut_and_cut_again_anywhere_is_a_lost_connection() {
    let world = World::new();
    let daemon = world.daemon();
    let proxy = Proxy::to(&daemon.address);
    let client = Client::new(&world.path("home"), &["-s", &proxy.address, "--retry-for", "1s"]);
    for file in 0..40 {
        write(&world.source.join(format!("d{}/f{file:03}", file % 3)), noise(file, 1_500));
    }
    client.push("-r", &world.source);
    let to = world.path("to");
    let words = ["restore", "--delete", "--to", to.to_str().unwrap(), world.source.to_str().unwrap()];
    // In the handshake; in the entries; in the content, without which each attempt makes its folders ready anew.
    for every in [200, 1900, 3600, 12_000] {
        proxy.cut_back(every, 1000);
        client.run(&words).expect(10, &["cut off"]);
    }
    proxy.cut_back(0, 0);
    client.run(&words).expect(0, &[]);
    assert_same(&to.join("source"), &world.source);
}
