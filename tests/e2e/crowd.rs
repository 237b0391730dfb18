//! Peers that come in crowds: nobody is kept out, and what they cost the daemon is bounded.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rbbackup::backup::limits::HANDSHAKES_MAX;
use rustix::net::{AddressFamily, SocketType, ipproto};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::daemon::{World, skipped};
use crate::support::trees::{assert_same, plant, write};

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
