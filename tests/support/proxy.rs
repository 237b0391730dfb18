//! A wire between client and daemon that can be cut or stalled: bytes pass until the next cut is due, then both ends
//! are closed; the next connection passes again. What has passed arrives, as it does on a wire: only what is still with
//! the client is lost.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::daemon::wait_until;

/// The wire.
pub struct Proxy {
    /// `127.0.0.1:PORT`, for clients.
    pub address: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    server: String,
    /// Bytes of the clients that have passed, all connections together.
    passed: AtomicU64,
    /// Counts of `passed` at which the connection is cut, the next one last.
    cuts: Mutex<Vec<u64>>,
    /// From here on nothing passes; the connections stay.
    stall_at: AtomicU64,
    stalled: AtomicBool,
    connections: AtomicU64,
}

impl Proxy {
    /// A wire to `server`.
    pub fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state =
            Arc::new(State { server: server.to_owned(), stall_at: AtomicU64::new(u64::MAX), ..State::default() });
        let shared = state.clone();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&shared.server) else { continue };
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let state = shared.clone();
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || upstream(&state, from, to));
                std::thread::spawn(move || downstream(server, client));
            }
        });
        Self { address, state }
    }

    /// Cuts after `every` further bytes of the clients, `count` times.
    pub fn cut(&self, every: u64, count: u64) {
        let from = self.passed();
        *self.state.cuts.lock().unwrap() = (1..=count).rev().map(|i| from + i * every).collect();
    }

    /// Lets `after` further bytes of the clients pass, then nothing.
    pub fn stall(&self, after: u64) {
        self.state.stall_at.store(self.passed() + after, Ordering::SeqCst);
    }

    /// Waits until nothing passes any more.
    pub fn wait_stalled(&self) {
        wait_until("the wire to stall", || self.state.stalled.load(Ordering::SeqCst));
    }

    /// New connections pass again.
    pub fn open(&self) {
        self.state.stall_at.store(u64::MAX, Ordering::SeqCst);
        self.state.stalled.store(false, Ordering::SeqCst);
    }

    /// Bytes of the clients that have passed.
    pub fn passed(&self) -> u64 {
        self.state.passed.load(Ordering::SeqCst)
    }

    /// Cuts that are still to come.
    pub fn cuts_left(&self) -> usize {
        self.state.cuts.lock().unwrap().len()
    }

    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::SeqCst)
    }
}

/// Cuts. The server's side is only told that nothing more comes: closing it with something unread in it would throw
/// away what is on its way there.
fn cut(client: &TcpStream, server: &TcpStream) {
    let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Write));
}

fn upstream(state: &State, mut client: TcpStream, mut server: TcpStream) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(bytes @ 1..) = client.read(&mut buffer) {
        let passed = state.passed.load(Ordering::SeqCst) + bytes as u64;
        if passed > state.stall_at.load(Ordering::SeqCst) {
            state.stalled.store(true, Ordering::SeqCst);
            // Nothing passes, but whoever goes is seen to go: reads into the void until then.
            while let Ok(1..) = client.read(&mut buffer) {}
            break;
        }
        let due = state.cuts.lock().unwrap().pop_if(|cut| *cut <= passed).is_some();
        if due || server.write_all(&buffer[..bytes]).is_err() {
            break;
        }
        state.passed.store(passed, Ordering::SeqCst);
    }
    cut(&client, &server);
}

fn downstream(mut server: TcpStream, mut client: TcpStream) {
    let _ = std::io::copy(&mut server, &mut client);
    let _ = std::io::copy(&mut server, &mut std::io::sink());
    cut(&client, &server);
}
