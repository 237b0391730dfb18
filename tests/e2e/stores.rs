//! Check 11: stores that cannot be written to. The error is clear, the last backup intact.

use std::fs;

use rustix::process::Signal;

use crate::support::client::{Client, Outcome};
use crate::support::daemon::{Daemon, World, skipped};
use crate::support::mount::Mount;
use crate::support::proxy::Proxy;
use crate::support::trees::{assert_same, assert_shape, many, noise, shape, write};

/// The store is full: 13, and what was there is there. With room again, or with less to back up, all is well.
#[test]
fn a_full_store_keeps_the_last_backup() {
    let world = World::new();
    fs::create_dir(&world.store).unwrap();
    let Some(mount) = Mount::tmpfs(&world.store, "size=12m") else { return skipped("mounting needs root") };
    // Without a reserve: what is met is the disk's own end, not the limit before it (`space` tests that one).
    let (daemon, client) = world.served_with("[limits]\nreserve = 0\n");
    many(&world.source, 2, 3);
    write(&world.source.join("large"), noise(1, 2 << 20));
    client.push("-r", &world.source);
    let last = shape(&world.copy());
    // One large file, and many small ones.
    write(&world.source.join("huge"), noise(2, 24 << 20));
    client.try_push("-rd", &world.source).expect(13, &["No space left", world.store.to_str().unwrap()]);
    assert_shape(&world.copy(), &last);
    fs::remove_file(world.source.join("huge")).unwrap();
    for file in 0..300 {
        write(&world.source.join(format!("more/{file}")), noise(file, 100_000));
    }
    client.try_push("-rd", &world.source).expect(13, &["No space left"]);
    assert_shape(&world.copy(), &last);
    fs::remove_dir_all(world.source.join("more")).unwrap();
    write(&world.source.join("small"), "small");
    client.push("-rd", &world.source);
    assert_same(&world.copy(), &world.source);
    drop((daemon, mount));
}

#[test]
fn a_read_only_store_is_refused() {
    let (world, mut daemon, client) = World::served();
    many(&world.source, 1, 3);
    client.push("-r", &world.source);
    assert!(daemon.stop().success());
    let store = world.path("read-only");
    fs::create_dir(&store).unwrap();
    let Some(mount) = Mount::read_only(&world.store, &store) else { return skipped("mounting needs root") };
    let (status, said) = Daemon::start_on(&store, &[], "127.0.0.1:0").map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("Read-only file system") && said.contains(store.to_str().unwrap()), "{said}");
    let embedded = Client::new(&world.path("home"), &["--store", store.to_str().unwrap()]);
    embedded.try_push("-r", &world.source).expect(1, &["Read-only file system"]);
    drop(mount);
    assert_same(&world.copy(), &world.source);
}

#[test]
fn a_store_of_a_newer_version_is_refused() {
    let (world, mut daemon, client) = World::served();
    many(&world.source, 1, 3);
    client.push("-r", &world.source);
    assert!(daemon.stop().success());
    let format = world.store.join(".rbbackup/format");
    let text = fs::read_to_string(&format).unwrap();
    fs::write(&format, text.replace('1', "2")).unwrap();
    let (status, said) = Daemon::start_on(&world.store, &[], "127.0.0.1:0").map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("newer") && said.contains(world.store.to_str().unwrap()), "{said}");
    let embedded = Client::new(&world.path("home"), &["--store", world.store.to_str().unwrap()]);
    embedded.try_push("-r", &world.source).expect(1, &["newer"]);
    fs::write(&format, text).unwrap();
    let _daemon = daemon.restart();
    client.push("-r", &world.source);
    assert_same(&world.copy(), &world.source);
}

#[test]
fn what_cannot_be_a_store_is_refused() {
    let world = World::new();
    write(&world.path("file"), "a file");
    write(&world.source.join("file"), "x");
    for (store, words) in [("file", "file"), ("nothing/below", "nothing"), ("file/below", "file")] {
        let store = world.path(store);
        let (status, said) = Daemon::start_on(&store, &[], "127.0.0.1:0").map(|_| ()).unwrap_err();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains(words), "{said}");
        let embedded = Client::new(&world.path("home"), &["--store", store.to_str().unwrap()]);
        embedded.try_push("-r", &world.source).expect(1, &[words]);
    }
    // Two daemons on one store.
    let daemon = world.daemon();
    let (status, said) = Daemon::start_on(&world.store, &[], "127.0.0.1:0").map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("in use by another process"), "{said}");
    drop(daemon);
}

/// What is being backed up is finished, nothing new is begun; then the daemon ends.
#[test]
fn a_daemon_that_is_told_to_stop_lets_a_run_finish() {
    for signal in [Signal::TERM, Signal::INT] {
        let world = World::new();
        let mut daemon = world.daemon();
        let proxy = Proxy::to(&daemon.address);
        let slow = Client::new(&world.path("home"), &["-s", &proxy.address]);
        write(&world.source.join("large"), noise(1, 8 << 20));
        proxy.pause(3 << 20);
        let run = slow.start(&["-r".as_ref(), world.source.as_os_str()]);
        proxy.wait_paused();
        daemon.terminate(signal);
        daemon.wait_for("draining");
        let late = world.client(&daemon, "late").with(&["--retry-for", "0s"]);
        late.try_push("-r", &world.source).expect(10, &[]);
        proxy.open();
        Outcome::end(run).expect(0, &[]);
        assert_eq!(daemon.wait().code(), Some(0), "{}", daemon.log());
        assert_same(&world.copy(), &world.source);
    }
}

/// Sockets are no files: skipped, which is no failure; as a PATH they are nothing that could be backed up.
#[test]
fn sockets_are_skipped_with_a_word() {
    let (world, _daemon, client) = World::served();
    many(&world.source, 1, 1);
    let socket = world.source.join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    client.run(&["-rv".as_ref(), world.source.as_os_str()]).expect(0, &["/socket: a socket"]);
    assert!(!world.copy().join("socket").exists() && world.copy().join("f00/000").exists());
    let outcome = client.run(&["-r".as_ref(), socket.as_os_str()]);
    outcome.expect(1, &["socket"]);
}
