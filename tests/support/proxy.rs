//! A wire between client and daemon that can be cut or stalled: bytes pass until the next cut is due, then both ends
//! are closed; the next connection passes again. What has passed arrives, as it does on a wire: only what is still with
//! the client is lost.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

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
    /// The same for the bytes of the server.
    passed_back: AtomicU64,
    cuts_back: Mutex<Vec<u64>>,
    /// From here on nothing passes; the connections stay.
    stall_at: AtomicU64,
    stalled: AtomicBool,
    /// From here on everything waits, and nothing is lost.
    pause_at: AtomicU64,
    paused: AtomicBool,
    /// Bytes of the server a second, all connections together; 0: as many as come.
    rate_back: AtomicU64,
    /// Milliseconds that the first bytes of a connection take each way: a long line, as the two find out at the beginning.
    way_millis: AtomicU64,
    /// When the next ones may pass.
    free_at: Mutex<Option<Instant>>,
    connections: AtomicU64,
}

impl Proxy {
    /// A wire to `server`.
    pub fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let never = || AtomicU64::new(u64::MAX);
        let state = State { server: server.to_owned(), stall_at: never(), pause_at: never(), ..State::default() };
        let state = Arc::new(state);
        let shared = state.clone();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&shared.server) else { continue };
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let state = shared.clone();
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || upstream(&state, from, to));
                let shared = shared.clone();
                std::thread::spawn(move || downstream(&shared, server, client));
            }
        });
        Self { address, state }
    }

    /// Cuts after `every` further bytes of the clients, `count` times.
    pub fn cut(&self, every: u64, count: u64) {
        let from = self.passed();
        *self.state.cuts.lock().unwrap() = (1..=count).rev().map(|i| from + i * every).collect();
    }

    /// Cuts after `every` further bytes of the server, `count` times.
    pub fn cut_back(&self, every: u64, count: u64) {
        let from = self.passed_back();
        *self.state.cuts_back.lock().unwrap() = (1..=count).rev().map(|i| from + i * every).collect();
    }

    /// Lets `after` further bytes of the clients pass, then nothing.
    pub fn stall(&self, after: u64) {
        self.state.stall_at.store(self.passed() + after, Ordering::SeqCst);
    }

    /// Waits until nothing passes any more.
    pub fn wait_stalled(&self) {
        wait_until("the wire to stall", || self.state.stalled.load(Ordering::SeqCst));
    }

    /// Holds the clients' bytes back once `after` further ones have passed.
    pub fn pause(&self, after: u64) {
        self.state.pause_at.store(self.passed() + after, Ordering::SeqCst);
    }

    /// Waits until bytes are held back.
    pub fn wait_paused(&self) {
        wait_until("the wire to pause", || self.state.paused.load(Ordering::SeqCst));
    }

    /// Lets so many bytes of the server pass a second, and no more.
    pub fn throttle_back(&self, bytes_a_second: u64) {
        self.state.rate_back.store(bytes_a_second, Ordering::SeqCst);
    }

    /// Connections seem to be long: a round trip takes twice as long, and more.
    pub fn lengthen(&self, millis: u64) {
        self.state.way_millis.store(millis, Ordering::SeqCst);
    }

    /// New connections pass again, and what was held back goes on, as fast as it can.
    pub fn open(&self) {
        self.throttle_back(0);
        self.state.stall_at.store(u64::MAX, Ordering::SeqCst);
        self.state.pause_at.store(u64::MAX, Ordering::SeqCst);
        self.state.stalled.store(false, Ordering::SeqCst);
    }

    /// Bytes of the clients that have passed.
    pub fn passed(&self) -> u64 {
        self.state.passed.load(Ordering::SeqCst)
    }

    /// Bytes of the server that have passed.
    pub fn passed_back(&self) -> u64 {
        self.state.passed_back.load(Ordering::SeqCst)
    }

    /// Cuts that are still to come.
    pub fn cuts_left(&self) -> usize {
        self.state.cuts.lock().unwrap().len() + self.state.cuts_back.lock().unwrap().len()
    }

    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::SeqCst)
    }
}

/// Bytes of a connection, each way, that its length is shown by.
const SHOWN_BYTES: u64 = 16 * 1024;

impl State {
    /// This is what makes the wire long: nothing waits for it to be over.
    fn go_the_way(&self, passed: u64) {
        if passed < SHOWN_BYTES {
            std::thread::sleep(Duration::from_millis(self.way_millis.load(Ordering::SeqCst)));
        }
    }

    /// This is what makes the wire narrow: nothing waits for it to be over.
    fn wait_for_turn(&self, bytes: u64) {
        let rate = self.rate_back.load(Ordering::SeqCst);
        if rate == 0 {
            return;
        }
        let turn = {
            let mut free_at = self.free_at.lock().unwrap();
            let turn = free_at.unwrap_or_else(Instant::now).max(Instant::now());
            *free_at = Some(turn + Duration::from_secs_f64(bytes as f64 / rate as f64));
            turn
        };
        std::thread::sleep(turn.saturating_duration_since(Instant::now()));
    }
}

/// Cuts. The server's side is only told that nothing more comes: closing it with something unread in it would throw
/// away what is on its way there.
fn cut(client: &TcpStream, server: &TcpStream) {
    let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Write));
}

fn upstream(state: &State, mut client: TcpStream, mut server: TcpStream) {
    let (mut buffer, mut own) = (vec![0; 16 * 1024], 0);
    while let Ok(bytes @ 1..) = client.read(&mut buffer) {
        state.go_the_way(own);
        own += bytes as u64;
        let passed = state.passed.load(Ordering::SeqCst) + bytes as u64;
        if passed > state.stall_at.load(Ordering::SeqCst) {
            state.stalled.store(true, Ordering::SeqCst);
            // Nothing passes, but whoever goes is seen to go: reads into the void until then.
            while let Ok(1..) = client.read(&mut buffer) {}
            break;
        }
        if passed > state.pause_at.load(Ordering::SeqCst) {
            state.paused.store(true, Ordering::SeqCst);
            wait_until("the wire to open", || passed <= state.pause_at.load(Ordering::SeqCst));
        }
        let due = state.cuts.lock().unwrap().pop_if(|cut| *cut <= passed).is_some();
        if due || server.write_all(&buffer[..bytes]).is_err() {
            break;
        }
        state.passed.store(passed, Ordering::SeqCst);
    }
    cut(&client, &server);
}

fn downstream(state: &State, mut server: TcpStream, mut client: TcpStream) {
    let (mut buffer, mut own) = (vec![0; 16 * 1024], 0);
    while let Ok(bytes @ 1..) = server.read(&mut buffer) {
        state.go_the_way(own);
        own += bytes as u64;
        let passed = state.passed_back.load(Ordering::SeqCst) + bytes as u64;
        state.wait_for_turn(bytes as u64);
        let due = state.cuts_back.lock().unwrap().pop_if(|cut| *cut <= passed).is_some();
        if due || client.write_all(&buffer[..bytes]).is_err() {
            break;
        }
        state.passed_back.store(passed, Ordering::SeqCst);
    }
    cut(&client, &server);
    let _ = std::io::copy(&mut server, &mut std::io::sink());
}
