//! Sentences that tell what is in the way, and how to get past it.

use std::fs;
use std::net::UdpSocket;

use crate::support::client::{Client, Outcome};
use crate::support::daemon::{Daemon, World, login, skipped};
use crate::support::proxy::Proxy;
use crate::support::trees::{assert_same, many, noise, write};

#[test]
fn a_root_below_what_is_a_file_in_the_copy_names_both() {
    let (world, _daemon, client) = World::served();
    let source = |name: &str| world.source.join(name);
    write(&source("thing"), "a file");
    client.push("-r", &world.source);
    fs::remove_file(source("thing")).unwrap();
    write(&source("thing/deep/inside"), "a folder now");
    let deep = source("thing/deep");
    let refused = client.run(&["-r".as_ref(), deep.as_os_str()]);
    let (root, thing) = (world.source.display(), source("thing"));
    let words = [format!("the root '{}'", deep.display()), format!("'{}' is no folder", thing.display())];
    refused.expect(1, &[&words[0], &words[1], &format!("rbbackup forget {root}")]);
    client.push("-r", &world.source);
    client.push("-r", &deep);
    assert_same(&world.copy(), &world.source);
}

#[test]
fn a_lock_tells_since_when() {
    let world = World::new();
    let daemon = world.daemon();
    let proxy = Proxy::to(&daemon.address);
    write(&world.source.join("large"), noise(1, 4 << 20));
    let holder = Client::new(&world.path("home-a"), &["-s", &proxy.address]);
    proxy.stall(1 << 20);
    let mut running = holder.start(&["-r".as_ref(), world.source.as_os_str()]);
    proxy.wait_stalled();
    // The same key, past the wire that stands still.
    let key = |server: &str| holder.home.join(format!(".config/rbbackup/servers/{server}/{}.key", login()));
    fs::create_dir_all(key(&daemon.address).parent().unwrap()).unwrap();
    fs::copy(key(&proxy.address), key(&daemon.address)).unwrap();
    let other = Client::new(&holder.home, &["-s", &daemon.address]);
    let refused = other.run(&["-r".as_ref(), world.source.as_os_str()]);
    refused.expect(11, &["locked by the backup of", ", since 20", " UTC"]);
    other.run(&["status"]).expect(0, &["running ", ", since 20"]);
    running.kill().unwrap();
    Outcome::end(running);
}

#[test]
fn another_daemon_s_key_names_the_pin() {
    let (world, mut daemon, client) = World::served();
    write(&world.source.join("file"), "1");
    client.push("-r", &world.source);
    daemon.stop();
    let address = daemon.address.clone();
    drop(daemon);
    let other = Daemon::start_on(&world.path("other"), &[], &address).unwrap();
    let pin = client.home.join(format!(".config/rbbackup/servers/{address}/pin"));
    let refused = client.run(&["-r".as_ref(), world.source.as_os_str()]);
    refused.expect(12, &["another daemon answers there", &format!("remove '{}'", pin.display())]);
    assert_eq!(refused.said().matches("set up anew on purpose").count(), 1, "{}", refused.said());
    fs::remove_file(pin).unwrap();
    client.push("-r", &world.source);
    drop(other);
}

/// The daemon of this very machine, by its address in the network: its store is not copied into itself.
#[test]
fn the_store_is_left_out_also_by_the_address_in_the_network() {
    let route = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        // Sends nothing: it only asks which of our addresses would be used.
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    let Ok(own) = route.map(|addr| addr.ip()).and_then(|ip| std::net::TcpListener::bind((ip, 0))) else {
        return skipped("this machine has no address in a network");
    };
    let listen = own.local_addr().unwrap().to_string();
    drop(own);
    let mut world = World::new();
    many(&world.source, 1, 2);
    world.store = world.source.join("store");
    let daemon = Daemon::start_on(&world.store, &["--trust-first-use"], &listen).unwrap();
    let client = world.client(&daemon, "a");
    let unknown = client.run(&["-r".as_ref(), world.source.as_os_str()]);
    unknown.expect(12, &["is not known here", "rbbackup join", "Nothing was sent"]);
    assert!(!daemon.log().contains(&login()), "it heard the user name: {}", daemon.log());
    let client = client.with(&["--trust-first-use"]);
    for _ in 0..2 {
        let outcome = client.run(&["-r".as_ref(), world.source.as_os_str()]);
        outcome.expect(0, &["skipped", "the store that this backup is written to"]);
    }
    let ip = listen.rsplit_once(':').unwrap().0;
    let copy = world.copy_for(ip, &login(), &world.source);
    assert!(copy.join("f00/001").exists() && !copy.join("store").exists());
}
