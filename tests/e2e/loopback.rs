//! On one machine trust comes from the kernel's word whose a socket is: what somebody else there can make of that.

use std::fs;

use crate::support::client::Client;
use crate::support::daemon::{Daemon, World, is_root, login, skipped, wait_until};
use crate::support::middle::{End, Middle, Rules};
use crate::support::trees::write;

const NOBODY: u32 = 65534;

/// What a stranger who waits at the daemon's port gets to see.
fn squatted(world: &World, client: &Client, squatter: &Middle, words: &str) {
    write(&world.source.join("file"), "a secret of some length");
    client.try_push("-r", &world.source).expect(12, &[words]);
    client.run(&["ls"]).expect(12, &[words]);
    let seen = squatter.seen();
    for word in [login().as_str(), "a secret of some length", world.source.to_str().unwrap()] {
        assert!(!seen.windows(word.len()).any(|window| window == word.as_bytes()), "'{word}' was shown");
    }
}

/// The daemon is down, and another user's program has its port: one that passes all on to a daemon of that user's.
#[test]
fn a_port_that_another_user_took_is_not_trusted_on_first_contact() {
    if !is_root() {
        return skipped("being two users needs root");
    }
    let world = World::new();
    // Another's daemon behind it completes every handshake.
    let other = Daemon::start(&world.path("other"), &["--trust-first-use"]);
    let squatter = Middle::between("127.0.0.1:0", &other.address, Rules { uid: Some(NOBODY), ..Rules::default() });
    let client = Client::new(&world.path("home"), &["-s", &squatter.address]);
    squatted(&world, &client, &squatter, "runs as another user of this machine (uid 65534)");
    assert!(squatter.connections() >= 2);
    assert!(!other.log().contains("snapshot") && !world.path("other/127.0.0.1").exists());
    assert_eq!(fs::read_dir(world.path("other/.rbbackup/registry")).unwrap().count(), 0, "not even who asked");
    let pins = client.home.join(".config/rbbackup/servers").join(&squatter.address).join("pin");
    assert!(!pins.exists(), "his key is not kept");
}

#[test]
fn who_takes_the_port_of_a_daemon_that_is_known_shows_another_key() {
    if !is_root() {
        return skipped("being two users needs root");
    }
    let (world, daemon, client) = World::served();
    write(&world.source.join("file"), "x");
    client.push("-r", &world.source);
    let address = daemon.address.clone();
    drop(daemon);
    let other = Daemon::start(&world.path("other"), &["--trust-first-use"]);
    let squatter = Middle::between(&address, &other.address, Rules { uid: Some(NOBODY), ..Rules::default() });
    squatted(&world, &client, &squatter, "Nothing was sent");
    assert_eq!(fs::read_dir(world.path("other/.rbbackup/registry")).unwrap().count(), 0);
}

/// A port where nobody answers in TLS: the client gives up, and has said nothing.
#[test]
fn a_port_that_only_listens_hears_no_more_than_hello_of_tls() {
    let world = World::new();
    let silent = Middle::between("127.0.0.1:0", "", Rules::default());
    let client = Client::new(&world.path("home"), &["-s", &silent.address, "--retry-for", "0"]);
    write(&world.source.join("file"), "a secret of some length");
    client.try_push("-r", &world.source).expect(10, &[]);
    assert!((1..2048).contains(&silent.up_bytes()), "{} bytes", silent.up_bytes());
    assert!(!silent.seen().windows(6).any(|window| window == b"secret"));
}

/// A socket whose process has closed it belongs to nobody, and the kernel lists it as uid 0: however early or late it is
/// closed, its claim to be root is not believed.
#[test]
fn a_closed_socket_is_not_root() {
    if !is_root() {
        return skipped("being two users needs root");
    }
    let world = World::new();
    let daemon = world.daemon();
    let wire = Middle::between("127.0.0.1:0", &daemon.address, Rules { uid: Some(NOBODY), ..Rules::default() });
    write(&world.source.join("file"), "x");
    let claims =
        |name: &str| Client::new(&world.path(name), &["-s", &wire.address, "--user", "root", "--retry-for", "0"]);
    // The client knows the daemon: what it thinks of the wire is not what is tried here.
    let honest = Client::new(&world.path("honest"), &["-s", &daemon.address]);
    honest.push("-r", &world.source);
    let pin = |client: &Client| {
        let to = client.home.join(".config/rbbackup/servers").join(&wire.address);
        fs::create_dir_all(&to).unwrap();
        let from = honest.home.join(".config/rbbackup/servers").join(&daemon.address).join("pin");
        fs::copy(from, to.join("pin")).unwrap();
    };
    let registered = || fs::read_dir(world.store.join(".rbbackup/registry")).unwrap().count();
    let before = registered();
    let whole = claims("whole");
    pin(&whole);
    whole.try_push("-r", &world.source).expect(12, &[]);
    let bytes = wire.up_bytes();
    assert!(bytes > 200, "{bytes}");
    let mut tries = 0;
    for end in [End::Close, End::ShutdownWrite, End::ShutdownBoth] {
        // The last bytes are where the key is proved and the name is said.
        for at in [bytes - 120, bytes - 60, bytes - 30, bytes - 10, bytes - 1, bytes, bytes + 1] {
            tries += 1;
            wire.set(Rules { uid: Some(NOBODY), end: Some((at, end)), ..Rules::default() });
            let client = claims(&format!("try-{tries}"));
            pin(&client);
            let ended = client.try_push("-r", &world.source);
            assert!(ended.code == 10 || ended.code == 12, "{end:?} at {at}: {}", ended.said());
        }
    }
    wait_until("the daemon to have seen all", || wire.connections() > tries);
    assert_eq!(registered(), before, "a closed socket was let in");
    honest.push("-r", &world.source);
}
