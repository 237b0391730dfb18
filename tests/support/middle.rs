//! A man in the middle: sees every byte of both sides, and may change whole TLS records or end the connection at any byte.
//!
//! A TLS record is `type u8 | version u16 | length u16 | body`; 23 is what carries content, once the handshake is over. Who
//! holds no key can do no more than this: flip, repeat, swap, drop and cut records.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const APPLICATION_DATA: u8 = 23;
const HEADER_LEN: usize = 5;

/// What is done to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meddle {
    /// One bit of its body.
    Flip,
    /// It is sent twice.
    Repeat,
    /// It is sent after the one that follows.
    Swap,
    /// It is not sent.
    Drop,
    /// Its body is cut, and its length says so.
    Shorten,
}

/// How the connection to the server ends once so many bytes of the client have passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// `close`.
    Close,
    /// No more bytes; what comes back is still read.
    ShutdownWrite,
    /// Neither.
    ShutdownBoth,
}

/// What he does besides listening; all of it once for each connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// Whose his sockets are (for root only).
    pub uid: Option<u32>,
    /// To the record of this number, from 0, that comes from the client.
    pub up: Option<(u64, Meddle)>,
    /// From the server.
    pub down: Option<(u64, Meddle)>,
    /// After so many bytes of the client.
    pub end: Option<(u64, End)>,
}

/// See the module. Ends with the test's process.
pub struct Middle {
    pub address: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    rules: Mutex<Rules>,
    seen: Mutex<Vec<u8>>,
    up_bytes: AtomicU64,
    connections: AtomicU64,
    meddled: AtomicU64,
}

impl Middle {
    /// Listens at `at` (`127.0.0.1:0`: anywhere) for who wants to go to `server`; empty: to nobody, and all is read.
    pub fn between(at: &str, server: &str, rules: Rules) -> Self {
        let state = Arc::new(State { rules: Mutex::new(rules), ..State::default() });
        let (shared, at, server) = (state.clone(), at.to_owned(), server.to_owned());
        let (told, address) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            // A socket is its maker's; a thread of its own is somebody else's for the kernel alone.
            if let Some(uid) = rules.uid {
                rustix::thread::set_thread_groups(&[]).unwrap();
                rustix::thread::set_thread_gid(rustix::fs::Gid::from_raw(uid)).unwrap();
                rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(uid)).unwrap();
            }
            let listener = TcpListener::bind(&at).unwrap();
            told.send(listener.local_addr().unwrap().to_string()).unwrap();
            for client in listener.incoming().map_while(Result::ok) {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                serve(&shared, client, &server);
            }
        });
        Self { address: address.recv().unwrap(), state }
    }

    /// Other rules, from the next connection on.
    pub fn set(&self, rules: Rules) {
        *self.state.rules.lock().unwrap() = rules;
    }

    /// All bytes that have passed, of both sides, in the order in which they came.
    pub fn seen(&self) -> Vec<u8> {
        self.state.seen.lock().unwrap().clone()
    }

    /// Bytes of the clients.
    pub fn up_bytes(&self) -> u64 {
        self.state.up_bytes.load(Ordering::SeqCst)
    }

    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Records that he has done something to.
    pub fn meddled(&self) -> u64 {
        self.state.meddled.load(Ordering::SeqCst)
    }
}

fn serve(state: &Arc<State>, client: TcpStream, server: &str) {
    let rules = *state.rules.lock().unwrap();
    let up = state.clone();
    if server.is_empty() {
        std::thread::spawn(move || passed(&up, client, None, None, true));
        return;
    }
    let Ok(server) = TcpStream::connect(server) else { return };
    let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (down, closes) = (state.clone(), rules.end.is_some());
    std::thread::spawn(move || {
        if let Some((bytes, end)) = rules.end {
            ended(&up, from, to, bytes, end);
        } else {
            passed(&up, from, Some(to), rules.up, true);
        }
    });
    // `close` closes nothing as long as somebody else holds the socket.
    if closes {
        drop(server);
        return;
    }
    std::thread::spawn(move || passed(&down, server, Some(client), rules.down, false));
}

/// Passes the first bytes of the client on, and ends the way to the server.
fn ended(state: &State, mut client: TcpStream, mut server: TcpStream, bytes: u64, end: End) {
    // The server's side of the handshake has to come back, or there would be no more bytes of the client.
    let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let back = std::thread::spawn(move || drop(std::io::copy(&mut from, &mut to)));
    let mut left = bytes;
    let mut buffer = [0; 16 * 1024];
    while left > 0
        && let Ok(read @ 1..) = client.read(&mut buffer)
    {
        let some = read.min(usize::try_from(left).unwrap());
        state.up_bytes.fetch_add(some as u64, Ordering::SeqCst);
        if server.write_all(&buffer[..some]).is_err() {
            break;
        }
        left -= some as u64;
    }
    let _ = server.shutdown(match end {
        End::ShutdownWrite => Shutdown::Write,
        End::Close | End::ShutdownBoth => Shutdown::Both,
    });
    // What the server says to that is still heard; the socket is somebody's until then, unless it is closed.
    if end == End::Close {
        drop(server);
        let _ = back.join();
    } else {
        let _ = back.join();
        drop(server);
    }
    let _ = client.shutdown(Shutdown::Both);
}

/// Passes records on.
fn passed(state: &State, mut from: TcpStream, to: Option<TcpStream>, meddle: Option<(u64, Meddle)>, is_up: bool) {
    let (mut number, mut held): (u64, Option<Vec<u8>>) = (0, None);
    let mut to = to;
    let mut put = |bytes: &[u8]| to.as_mut().is_none_or(|to| to.write_all(bytes).is_ok());
    while let Some(mut record) = record(&mut from) {
        state.seen.lock().unwrap().extend(&record);
        if is_up {
            state.up_bytes.fetch_add(record.len() as u64, Ordering::SeqCst);
        }
        let mut what = None;
        if record[0] == APPLICATION_DATA {
            what = meddle.filter(|(at, _)| *at == number).map(|(_, what)| what);
            number += 1;
        }
        state.meddled.fetch_add(u64::from(what.is_some()), Ordering::SeqCst);
        let sent = match what {
            None => put(&record) && held.take().is_none_or(|held| put(&held)),
            Some(Meddle::Flip) => {
                *record.last_mut().unwrap() ^= 1;
                put(&record)
            }
            Some(Meddle::Repeat) => put(&record) && put(&record),
            Some(Meddle::Swap) => {
                held = Some(record);
                true
            }
            Some(Meddle::Drop) => true,
            Some(Meddle::Shorten) => {
                record.pop();
                let len = u16::try_from(record.len() - HEADER_LEN).unwrap();
                record[3..HEADER_LEN].copy_from_slice(&len.to_be_bytes());
                put(&record)
            }
        };
        if !sent {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    if let Some(to) = to {
        let _ = to.shutdown(Shutdown::Both);
    }
}

fn record(from: &mut TcpStream) -> Option<Vec<u8>> {
    let mut record = vec![0; HEADER_LEN];
    from.read_exact(&mut record).ok()?;
    let len = usize::from(u16::from_be_bytes([record[3], record[4]]));
    record.resize(HEADER_LEN + len, 0);
    from.read_exact(&mut record[HEADER_LEN..]).ok()?;
    Some(record)
}
