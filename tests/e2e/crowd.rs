//! Peers that come in crowds: nobody is kept out, and what they cost the daemon is bounded.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rbbackup::backup::limits::HANDSHAKES_MAX;
use rustix::net::{AddressFamily, SocketType, ipproto};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::client::{Client, Outcome};
use crate::support::daemon::{Daemon, World, rbbackupd, skipped};
use crate::support::patience::waited;
use crate::support::proxy::Proxy;
use crate::support::trees::{assert_same, noise, plant, write};

const CROWD: usize = 10_000;
/// What the first bytes of a TLS connection look like; the rest never comes.
const BEGUN: &[u8] = &[22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3];

/// A connection from one of this machine's many addresses.
fn connect(from: Ipv4Addr, to: SocketAddr) -> rustix::io::Result<TcpStream> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::TCP))?;
    rustix::net::bind(&socket, &SocketAddr::from((from, 0)))?;
    rustix::net::connect(&socket, &to)?;
    Ok(TcpStream::from(socket))
}

fn room_for(files: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.is_none_or(|most| most >= files)
}

#[test]
fn ten_thousand_connections_keep_nobody_out() {
    if !room_for(CROWD as u64 + 500) {
        return skipped("this process may not have 10 500 files open");
    }
    let (world, daemon, client) = World::served();
    plant(&world.source);
    client.push("-r", &world.source);
    let (files, threads, memory) = (daemon.open_files(), daemon.threads(), daemon.peak_memory());
    let to: SocketAddr = daemon.address.parse().unwrap();
    let all_here = AtomicBool::new(false);
    let (mut runs, mut slowest) = (0, Duration::ZERO);
    thread::scope(|scope| {
        let crowd = scope.spawn(|| {
            let mut crowd = Vec::with_capacity(CROWD);
            for i in 0..CROWD {
                let from = Ipv4Addr::new(127, 0, 0, 2 + (i % 8) as u8);
                let mut stream = connect(from, to).unwrap();
                if i % 2 == 0 {
                    let _ = stream.write_all(BEGUN);
                }
                crowd.push(stream);
            }
            all_here.store(true, Ordering::SeqCst);
            crowd
        });
        // Backups meanwhile, and one more when all of them are there.
        let mut last = false;
        while !last {
            last = all_here.load(Ordering::SeqCst);
            write(&world.source.join("counter"), format!("{runs}"));
            let start = Instant::now();
            client.push("-r", &world.source);
            slowest = slowest.max(start.elapsed());
            runs += 1;
            let (open, at_work) = (daemon.open_files() - files, daemon.threads().saturating_sub(threads));
            assert!(open <= 2 * HANDSHAKES_MAX + 40, "{open} more files are open");
            assert!(at_work <= 16, "{at_work} threads for peers that have not said a word");
        }
        assert_eq!(crowd.join().unwrap().len(), CROWD);
    });
    let grown = daemon.peak_memory().saturating_sub(memory) >> 20;
    eprintln!("{runs} runs beside {CROWD} connections, the slowest {slowest:?}; {grown} MiB more memory");
    assert!(grown < 128, "{grown} MiB more memory");
    assert_same(&world.copy(), &world.source);
}

/// An address of this machine that others see, too; whether anybody is there does not matter.
fn outer_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|address| !address.is_loopback())
}

/// With a limit of one session, whoever comes second is told so, and is served when the first is done.
fn one_at_a_time(limit: &str, names: [&str; 2], said: &str) {
    let Some(here) = outer_address() else { return skipped("this machine has no address but its own") };
    let world = World::new();
    let config = world.path("rbbackupd.toml");
    write(&config, format!("[limits]\n{limit} = 1\n"));
    let daemon = Daemon::start_on(&world.store, &["--config", config.to_str().unwrap()], &format!("{here}:0")).unwrap();
    // The first one's wire will stand still; its end here is on that address, too.
    let wire = Proxy::to(&daemon.address);
    let joined = |name: &str, address: &str| {
        let client = Client::new(&world.path(name), &[]);
        let invited = rbbackupd(&["invite", name, "--store", world.store.to_str().unwrap()]);
        client.run(&["join", address, invited.stdout.trim()]).expect(0, &["joined"]);
        client
    };
    let first = joined(names[0], &wire.address);
    let second = if names[0] == names[1] {
        let servers = world.path(names[0]).join(".config/rbbackup/servers");
        let [known, direct] = [&wire.address, &daemon.address].map(|address| servers.join(address));
        Outcome::of(Command::new("cp").arg("-a").args([known, direct])).expect(0, &[]);
        first.clone()
    } else {
        joined(names[1], &daemon.address)
    };
    write(&world.path("large/file"), noise(1, 8 << 20));
    plant(&world.source);
    wire.pause(2 << 20);
    let run = first.start(&["-s", &wire.address, "-r", world.path("large").to_str().unwrap()]);
    wire.wait_paused();
    let push = |options: &[&str]| {
        second.start(&[&["-s", &daemon.address], options, &["-r", world.source.to_str().unwrap()]].concat())
    };
    Outcome::end(push(&["--retry-for", "0s"])).expect(10, &[said, "try again later"]);
    // Whoever has time is served in turn.
    let mut waiting = push(&["-v"]);
    assert!(!waited(Duration::from_millis(500), || waiting.try_wait().unwrap().is_some()), "it has given up");
    wire.open();
    Outcome::end(run).expect(0, &[]);
    Outcome::end(waiting).expect(0, &[said]);
    assert_same(&world.copy_for(&here.to_string(), names[1], &world.source), &world.source);
}

#[test]
fn an_identity_has_so_many_sessions_at_once() {
    one_at_a_time("sessions-per-identity", ["ana", "ana"], "1 sessions of this identity are under way");
}

#[test]
fn an_address_has_so_many_sessions_at_once() {
    one_at_a_time("connections-per-address", ["ana", "ben"], "are under way, as many as one address may have");
}
