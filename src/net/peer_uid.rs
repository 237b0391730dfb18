//! Whose process is at the other end of a connection on this machine?
//!
//! The kernel lists all TCP sockets with their owners:
//!
//! ```text
//! /proc/net/tcp   sl local_address rem_address   st tx_queue:rx_queue tr:tm->when retrnsmt   uid timeout inode …
//!                  0: 0100007F:221A 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000       0 12345 …
//! ```
//!
//! The peer's row is the one whose local address is the peer's and whose remote address is ours. Addresses are 32-bit words
//! as the CPU reads them, ports are numbers. `st` 01 is ESTABLISHED. An inode of 0 is a socket without a process (not
//! accepted yet, or orphaned): its uid says nothing. An IPv4 connection may stand in `tcp6`, too, as `::ffff:a.b.c.d`.
//!
//! A peer that resets its connection frees its port at once. Somebody else who gets that port and comes here would stand in
//! the list where it stood, and it could choose whom: it takes all other ports first. So our own end is looked for *after* the
//! peer's was found: as long as ours, known by its inode, is ESTABLISHED, nobody else can have had these addresses.
//!
//! No uid found is no trust, never an error.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;

use super::peer::canonical;

/// More of the list than this is not read: 100 000 sockets.
const LIST_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The list is not one picture in time; a row that moved while it was read can be missed.
const TRIES: u32 = 3;
/// Between the first two; it grows.
const PAUSE: Duration = Duration::from_millis(20);
const ESTABLISHED: u8 = 1;

/// Both ends of a connection, and the inode of ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    inode: u64,
}

impl Ends {
    /// Those of a socket of ours.
    ///
    /// # Errors
    /// The system's: it is not connected any more.
    pub(super) fn of(stream: &TcpStream) -> io::Result<Self> {
        let (peer, local) = (canonical(stream.peer_addr()?), canonical(stream.local_addr()?));
        Ok(Self { peer, local, inode: rustix::fs::fstat(stream)?.st_ino })
    }
}

/// The uid of the other end. Blocks while it reads.
pub(super) fn look_up(ends: &Ends) -> Option<u32> {
    (0..TRIES).find_map(|n| {
        // The list is read in pieces while others come and go: a row may be missed.
        std::thread::sleep(PAUSE * n);
        let theirs = listed(ends.peer, ends.local)?;
        // After it: see above.
        let ours = listed(ends.local, ends.peer)?;
        (ours.inode == ends.inode).then_some(theirs.uid)
    })
}

/// The row of a socket that a process has.
fn listed(local: SocketAddr, remote: SocketAddr) -> Option<Row> {
    ["/proc/self/net/tcp", "/proc/self/net/tcp6"].iter().find_map(|path| {
        let file = File::open(path).ok()?;
        find_row(BufReader::new(file.take(LIST_BYTES_MAX)), local, remote)
    })
}

/// The uid of a peer's socket, in a list that was read.
#[cfg(any(test, fuzzing))]
pub fn find(list: impl BufRead, peer: SocketAddr, local: SocketAddr) -> Option<u32> {
    find_row(list, peer, local).map(|row| row.uid)
}

fn find_row(list: impl BufRead, local: SocketAddr, remote: SocketAddr) -> Option<Row> {
    list.split(b'\n').map_while(Result::ok).find_map(|line| {
        let row = parse(std::str::from_utf8(&line).ok()?)?;
        let matches = row.local == local && row.remote == remote && row.state == ESTABLISHED && row.inode != 0;
        matches.then_some(row)
    })
}

#[derive(Debug, PartialEq, Eq)]
struct Row {
    local: SocketAddr,
    remote: SocketAddr,
    state: u8,
    uid: u32,
    inode: u64,
}

fn parse(line: &str) -> Option<Row> {
    let mut fields = line.split_ascii_whitespace();
    let local = parse_address(fields.nth(1)?)?;
    let remote = parse_address(fields.next()?)?;
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    // tx_queue:rx_queue, tr:tm->when, retrnsmt
    let uid = fields.nth(3)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    Some(Row { local, remote, state, uid, inode })
}

fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    if !address.is_ascii() {
        return None;
    }
    let words: Option<Vec<[u8; 4]>> = address
        .as_bytes()
        .chunks(8)
        .map(|word| Some(u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?.to_ne_bytes()))
        .collect();
    let ip = match (words?.as_slice(), address.len()) {
        ([word], 8) => IpAddr::from(Ipv4Addr::from(*word)),
        ([a, b, c, d], 32) => {
            let bytes: [u8; 16] = [*a, *b, *c, *d].concat().try_into().ok()?;
            IpAddr::from(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(canonical(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;
    use crate::net::runtime;

    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:221A 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 111 1 0 100 0 0 10 0
   1: 0100007F:221A 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 0 1 0 20 4 30 10 -1
   2: 0200007F:C350 0100007F:221A 01 00000000:00000000 02:000005DC 00000000  1001        0 222 2 0 20 4 30 10 -1
   3: 0100007F:C351 0100007F:221A 06 00000000:00000000 03:00001234 00000000     0        0 0 3 0
   4: 0100007F:C350 0100007F:221A 01 00000000:00000000 02:000005DC 00000000  1002        0 333 2 0 20 4 30 10 -1
";
    const TCP6: &str = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0000000000000000FFFF00000100007F:221A 0000000000000000FFFF00000100007F:C350 01 00000000:00000000 00:00000000 00000000    33        0 444 1 0 20 4 30 10 -1
   1: 00000000000000000000000001000000:221A 00000000000000000000000001000000:C350 01 00000000:00000000 00:00000000 00000000    34        0 555 1 0 20 4 30 10 -1
";

    fn uid(list: &str, peer: &str, local: &str) -> Option<u32> {
        find(list.as_bytes(), peer.parse().unwrap(), local.parse().unwrap())
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn the_row_of_the_other_end_is_found() {
        assert_eq!(uid(TCP, "127.0.0.1:50000", "127.0.0.1:8730"), Some(1002));
        assert_eq!(uid(TCP, "127.0.0.2:50000", "127.0.0.1:8730"), Some(1001));
        assert_eq!(uid(TCP6, "127.0.0.1:8730", "127.0.0.1:50000"), Some(33));
        assert_eq!(uid(TCP6, "[::1]:8730", "[::1]:50000"), Some(34));
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn sockets_without_a_process_say_nothing() {
        assert_eq!(uid(TCP, "127.0.0.1:8730", "127.0.0.1:50000"), None, "inode 0");
        assert_eq!(uid(TCP, "127.0.0.1:50001", "127.0.0.1:8730"), None, "TIME_WAIT");
        assert_eq!(uid(TCP, "127.0.0.1:8730", "0.0.0.0:0"), None, "LISTEN");
        assert_eq!(uid(TCP, "127.0.0.9:1", "127.0.0.1:8730"), None);
    }

    #[test]
    fn a_live_connection_is_ours_and_one_that_was_reset_is_nobodys() {
        runtime::handle().unwrap().block_on(live_and_reset());
    }

    async fn live_and_reset() {
        for address in ["127.0.0.1:0", "[::]:0"] {
            let listener = TcpListener::bind(address).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let (accepted, _) = listener.accept().await.unwrap();
            let me = rustix::process::getuid().as_raw();
            let (here, there) = (Ends::of(&accepted).unwrap(), Ends::of(&client).unwrap());
            assert_eq!(look_up(&here), Some(me), "the daemon's view, {address}");
            assert_eq!(look_up(&there), Some(me), "the client's view");
            assert_eq!(look_up(&Ends { peer: SocketAddr::new(here.peer.ip(), 1), ..here }), None);

            // Its port is free at once, and another one comes from there.
            let from = client.local_addr().unwrap();
            client.set_zero_linger().unwrap();
            drop(client);
            let again = TcpSocket::new_v4().unwrap();
            again.bind(from).unwrap();
            let again = again.connect(there.peer).await.unwrap();
            let (accepted_again, _) = listener.accept().await.unwrap();
            assert_eq!(look_up(&here), None, "that is not who it was");
            assert_eq!(look_up(&Ends::of(&accepted_again).unwrap()), Some(me));
            drop(again);
        }
    }

    proptest! {
        #[test]
        fn any_line_is_survived(line in ".{0,120}") {
            let _ = parse(&line);
            let _ = parse(&format!("0: {line} {line}"));
            let _ = parse_address(&line);
        }
    }
}
