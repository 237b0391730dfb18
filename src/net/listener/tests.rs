//! Tests of the listener.

use std::io::{Read, Write};
use std::net::TcpStream as StdStream;
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::*;
use crate::backup::bytes::Bytes;
use crate::backup::limits::HANDSHAKE_FRAME_BYTES_MAX;
use crate::net::client::{ConnectError, ConnectOptions, Connected, connect};
use crate::net::handshake::{HandshakeError, client_hello, read_hello};
use crate::net::identity::{Identity, PublicKey};
use crate::net::message::{Busy, HELLO_MAGIC, Hello, Message, PROTOCOL_VERSION, RefusalKind};
use crate::net::testing::welcome;

struct Daemon {
    key: PublicKey,
    port: u16,
    shutdown: Shutdown,
    served: JoinHandle<usize>,
}

impl Daemon {
    fn start(limits: ListenLimits, handler: impl Fn(Incoming) + Send + Sync + 'static) -> Self {
        Self::timed(limits, Timing::default(), handler)
    }

    fn timed(limits: ListenLimits, timing: Timing, handler: impl Fn(Incoming) + Send + Sync + 'static) -> Self {
        let identity = Identity::generate().unwrap();
        let mut listener = Listener::bind("[::]:0".parse().unwrap()).unwrap();
        listener.timing = timing;
        let (key, port, shutdown) = (identity.public(), listener.local_addr().port(), Shutdown::new());
        let signal = shutdown.clone();
        let shown = Arc::new(ServerKey::new(&identity).unwrap());
        let serve =
            move || listener.serve(&shown, limits, &Connections::default(), &signal, Arc::new(handler)).unwrap();
        Self { key, port, shutdown, served: std::thread::spawn(serve) }
    }

    fn stop(self) -> usize {
        self.shutdown.trigger();
        self.served.join().unwrap()
    }

    fn connect(&self, identity: &Identity, bind: Option<&str>) -> Connected {
        connect(&options(identity, self.port, bind, Some(self.key))).unwrap()
    }

    /// A client that says hello and does not wait for an answer.
    fn greet(&self) -> Connected {
        let connected = self.connect(&Identity::generate().unwrap(), None);
        connected.link.send(hello()).unwrap();
        connected
    }

    /// A TCP connection, and nothing more.
    fn open(&self) -> StdStream {
        StdStream::connect(("127.0.0.1", self.port)).unwrap()
    }
}

fn hello() -> Hello {
    let (magic, version, bytes) = (HELLO_MAGIC, PROTOCOL_VERSION, Bytes::default());
    Hello { magic, version, features: 0, software: bytes.clone(), user: bytes }
}

fn options<'a>(
    identity: &'a Identity,
    port: u16,
    bind: Option<&str>,
    expected: Option<PublicKey>,
) -> ConnectOptions<'a> {
    let bind = bind.map(|b| b.parse().unwrap());
    ConnectOptions { server: format!("127.0.0.1:{port}"), bind, identity, expected, timeout: Duration::from_secs(20) }
}

/// A handler that welcomes, reports the peer, and waits for the end of the conversation.
fn host() -> (impl Fn(Incoming) + Send + Sync, mpsc::Receiver<PeerInfo>) {
    let (tell, told) = mpsc::channel();
    let handler = move |mut incoming: Incoming| {
        let _ = tell.send(incoming.peer);
        if read_hello(&mut incoming.link).is_err() {
            return;
        }
        match incoming.entrance.admit(false) {
            Ok(()) => incoming.link.send(welcome()).unwrap(),
            Err(refused) => return drop(incoming.link.send(refused)),
        }
        while let Ok(message) = incoming.link.recv() {
            let _ = incoming.link.send(message);
        }
    };
    (handler, told)
}

#[test]
fn both_ends_know_each_other() {
    let (handler, peers) = host();
    let daemon = Daemon::start(ListenLimits::default(), handler);
    let me = Some(rustix::process::getuid().as_raw());
    for (bind, ip) in [(None, "127.0.0.1"), (Some("127.0.0.2:0"), "127.0.0.2")] {
        let identity = Identity::generate().unwrap();
        let mut connected = daemon.connect(&identity, bind);
        assert_eq!(client_hello(&mut connected.link, b"u", "test").map(Message::from), Ok(welcome()));
        let seen = peers.recv().unwrap();
        assert_eq!((seen.key, seen.uid, seen.ip().to_string()), (identity.public(), me, ip.to_owned()));
        assert!(seen.is_loopback() && seen.addr.is_ipv4(), "{seen:?}");
        assert_eq!((connected.peer.key, connected.peer.uid), (daemon.key, me));
        assert_eq!((connected.peer.local, connected.peer.addr), (seen.addr, seen.local));
        assert!(connected.link.counters().sent() > 100 && connected.link.counters().received() > 100);
    }
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn another_daemon_is_refused_and_hears_nothing() {
    let (handler, peers) = host();
    let daemon = Daemon::start(ListenLimits::default(), handler);
    let identity = Identity::generate().unwrap();
    let expected = identity.public();
    let error = connect(&options(&identity, daemon.port, None, Some(expected))).err().unwrap();
    let server = format!("127.0.0.1:{}", daemon.port);
    assert_eq!(error, ConnectError::WrongKey { server, expected, found: daemon.key });
    let text = error.to_string();
    assert!(text.contains(&expected.fingerprint()) && text.contains(&daemon.key.fingerprint()), "{text}");
    let mut first_contact = connect(&options(&identity, daemon.port, None, None)).unwrap();
    assert_eq!(first_contact.peer.key, daemon.key);
    // The daemon may not have seen our key yet: its answer says that the connection came through.
    client_hello(&mut first_contact.link, b"u", "test").unwrap();
    drop(first_contact);
    assert_eq!(daemon.stop(), 0);
    assert_eq!(peers.iter().count(), 1, "the refused connection came through");
}

#[test]
fn who_is_not_there_or_no_daemon_is_told_apart() {
    let identity = Identity::generate().unwrap();
    let free = StdListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    let web = std::thread::spawn(move || {
        let (mut stream, _) = free.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let error = connect(&options(&identity, port, None, None)).err().unwrap();
    assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
    web.join().unwrap();
    let error = connect(&options(&identity, port, None, None)).err().unwrap();
    assert!(matches!(&error, ConnectError::Unreachable { why, .. } if why.contains("rbbackupd")), "{error:?}");
    let error = connect(&options(&identity, port, Some("[::1]:0"), None)).err().unwrap();
    assert!(matches!(&error, ConnectError::Unreachable { why, .. } if why.contains("::1")), "{error:?}");
    let bad = ConnectOptions { server: "a:b".into(), ..options(&identity, port, None, None) };
    assert!(matches!(connect(&bad), Err(ConnectError::BadName { .. })));
}

#[test]
fn a_full_daemon_says_so_and_has_room_again() {
    let (handler, peers) = host();
    let daemon = Daemon::start(ListenLimits { max_sessions: 1, ..ListenLimits::default() }, handler);
    let identity = Identity::generate().unwrap();
    let mut first = daemon.connect(&identity, None);
    client_hello(&mut first.link, b"u", "test").unwrap();
    peers.recv().unwrap();
    let mut second = daemon.connect(&identity, None);
    match client_hello(&mut second.link, b"u", "test") {
        Err(HandshakeError::Refused(refused)) => assert_eq!(refused.kind, RefusalKind::Unavailable),
        other => panic!("{other:?}"),
    }
    drop(first);
    // The slot is free when both ends have ended, which nobody tells us: try until it is.
    let welcome_again = (0..1000).any(|_| {
        let mut third = daemon.connect(&identity, None);
        client_hello(&mut third.link, b"u", "test").is_ok()
    });
    assert!(welcome_again);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn garbage_and_silence_before_tls_disturb_nobody() {
    let (handler, peers) = host();
    let daemon = Daemon::start(ListenLimits::default(), handler);
    let silent: Vec<_> = (0..20).map(|_| daemon.open()).collect();
    let mut noisy = daemon.open();
    noisy.write_all(&[0x5a; 100_000]).ok();
    let mut answer = Vec::new();
    let _ = noisy.read_to_end(&mut answer);
    let mut good = daemon.connect(&Identity::generate().unwrap(), None);
    client_hello(&mut good.link, b"u", "test").unwrap();
    drop((silent, good));
    assert_eq!(daemon.stop(), 0);
    assert_eq!(peers.iter().count(), 1);
}

#[test]
fn a_stop_waits_for_handlers_but_not_for_ever() {
    for (drain, left) in [(Duration::from_secs(30), 0), (Duration::from_millis(50), 1)] {
        let (tell, told) = mpsc::channel();
        let release = Shutdown::new();
        let held = release.clone();
        let handler = move |incoming: Incoming| {
            tell.send(()).unwrap();
            held.wait();
            drop(incoming);
        };
        let daemon = Daemon::start(ListenLimits { drain, ..ListenLimits::default() }, handler);
        let connected = daemon.greet();
        told.recv().unwrap();
        daemon.shutdown.trigger();
        if left == 0 {
            release.trigger();
        }
        let port = daemon.port;
        assert_eq!(daemon.stop(), left);
        assert!(StdStream::connect(("127.0.0.1", port)).is_err(), "it still listens");
        release.trigger();
        drop(connected);
    }
}

#[test]
fn a_panic_in_a_handler_costs_its_session_only() {
    let daemon = Daemon::start(ListenLimits { max_sessions: 1, ..ListenLimits::default() }, |incoming| {
        drop(incoming);
        panic!("a test's panic");
    });
    let mut connected = daemon.greet();
    assert!(connected.link.recv().is_err());
    drop(connected);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_taken_address_is_named() {
    let first = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let error = Listener::bind(first.local_addr()).err().unwrap().to_string();
    assert!(error.contains(&first.local_addr().to_string()), "{error}");
}

/// Deadlines that a test can wait for, for guests only.
fn hasty() -> Timing {
    Timing { handshake: Duration::from_secs(2), ..Timing::default() }
}

/// Reads until the daemon closes it; how long that took.
fn closed_after(mut stream: StdStream) -> Duration {
    let start = std::time::Instant::now();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    match stream.read_to_end(&mut Vec::new()) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("it stays open"),
        _ => start.elapsed(),
    }
}

#[test]
fn the_time_of_a_guest_counts_from_the_connection_whatever_it_does() {
    let (held, holding) = mpsc::channel();
    // Whoever comes is never answered.
    let daemon = Daemon::timed(ListenLimits::default(), hasty(), move |incoming| held.send(incoming).unwrap());
    let start = std::time::Instant::now();
    let silent = daemon.open();
    let mut no_word = daemon.connect(&Identity::generate().unwrap(), None);
    let mut unanswered = daemon.greet();
    // One that goes on talking: every byte of it comes in time, and the whole does not.
    let mut slow = daemon.open();
    let dripping = std::thread::spawn(move || {
        let head = [22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3];
        let drip = head.into_iter().chain(std::iter::repeat(7));
        for byte in drip {
            if slow.write_all(&[byte]).is_err() {
                return std::time::Instant::now();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        unreachable!()
    });
    closed_after(silent);
    for link in [&mut no_word.link, &mut unanswered.link] {
        assert!(matches!(link.recv(), Err(LinkError::Lost { .. } | LinkError::Closed)));
    }
    let last = dripping.join().unwrap();
    let (least, most) = (hasty().handshake, hasty().handshake * 5);
    for took in [start.elapsed(), last - start] {
        assert!(took >= least && took < most, "{took:?}");
    }
    let mut incoming = holding.recv().unwrap();
    // What it had said is not listened to any more.
    let Err(LinkError::Lost { why }) = incoming.link.recv() else { panic!("it is still there") };
    assert_eq!(why, "it was not welcome within 2 s");
    assert!(holding.try_recv().is_err(), "a handler was started for one that says nothing");
    drop((incoming, no_word, unanswered));
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn who_is_welcome_has_all_the_time_there_is() {
    let (handler, _peers) = host();
    let daemon = Daemon::timed(ListenLimits::default(), hasty(), handler);
    let mut good = daemon.connect(&Identity::generate().unwrap(), None);
    client_hello(&mut good.link, b"u", "test").unwrap();
    // As long as one that connects now has.
    closed_after(daemon.open());
    good.link.send(Busy { phase: 3 }).unwrap();
    assert_eq!(good.link.recv(), Ok(Busy { phase: 3 }.into()));
    drop(good);
    assert_eq!(daemon.stop(), 0);
}

/// Says `bytes` again and again until it is not listened to; how much was taken.
fn pour(mut stream: impl Write, bytes: &[u8]) -> usize {
    let mut taken = 0;
    while taken < 64 << 20 && stream.write_all(bytes).is_ok() {
        taken += bytes.len();
    }
    taken
}

/// What the kernel takes of a connection that nobody reads.
const SOCKET_BYTES: usize = 16 << 20;

#[test]
fn a_guest_may_say_so_much_and_no_more_below_tls_too() {
    let (handler, peers) = host();
    let daemon = Daemon::start(ListenLimits::default(), handler);
    let start = std::time::Instant::now();
    // A ClientHello of 64 KiB, in records of 16 KiB, and in records of one byte.
    let head = [1, 0, 255, 255, 3, 3];
    let record = |bytes: &[u8]| [&[22, 3, 1][..], &(bytes.len() as u16).to_be_bytes(), bytes].concat();
    let mut large = daemon.open();
    large.write_all(&record(&head)).unwrap();
    assert!(pour(large, &record(&[7; 16_000])) < SOCKET_BYTES);
    let mut small = daemon.open();
    small.write_all(&record(&head)).unwrap();
    assert!(pour(small, &record(&[7])) < SOCKET_BYTES);
    // After TLS: messages that are short enough, and together are not.
    let mut link = daemon.connect(&Identity::generate().unwrap(), None).link;
    let long = Message::Refused(Refused { kind: RefusalKind::Failed, message: Bytes(vec![1; 60 * 1024]) });
    let said = std::iter::repeat_with(|| link.send(long.clone())).take_while(Result::is_ok).count();
    assert!(said * 60 * 1024 < SOCKET_BYTES);
    assert!(matches!(link.recv(), Err(LinkError::Lost { .. } | LinkError::Closed)));
    assert!(start.elapsed() < Timing::default().handshake, "it took the time, not the bytes");
    drop(link);
    assert_eq!(daemon.stop(), 0);
    assert!(peers.iter().count() <= 1);
}

#[test]
fn the_allowance_is_spent_to_the_byte() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    runtime::handle().unwrap().block_on(async {
        let (mut there, here) = tokio::io::duplex(1 << 20);
        let probation = Probation::new();
        let mut socket = Socket::guest(here, Arc::default(), probation.clone());
        there.write_all(&vec![1; HANDSHAKE_FRAME_BYTES_MAX + 1]).await.unwrap();
        let mut said = vec![0; HANDSHAKE_FRAME_BYTES_MAX];
        socket.read_exact(&mut said).await.unwrap();
        let error = socket.read(&mut said).await.unwrap_err().to_string();
        assert_eq!(error, "it said more than 64 KiB before it was welcome");
        probation.end();
        assert_eq!(socket.read(&mut said).await.unwrap(), 1, "the limit stays after the welcome");
    });
}

#[test]
fn a_crowd_keeps_nobody_out() {
    let (handler, _peers) = host();
    let limits = ListenLimits { of_address: 8, ..ListenLimits::default() };
    let daemon = Daemon::start(limits, handler);
    let crowd: Vec<_> = (0..200).map(|_| daemon.open()).collect();
    // Those of the crowd that came first had to go, without a word, long before their time.
    let start = std::time::Instant::now();
    let mut crowd = crowd.into_iter();
    for stream in crowd.by_ref().take(192) {
        closed_after(stream);
    }
    assert!(start.elapsed() < Duration::from_secs(9));
    let mut good = daemon.connect(&Identity::generate().unwrap(), None);
    client_hello(&mut good.link, b"u", "test").unwrap();
    // A session is no guest: it stays, however many come.
    let more: Vec<_> = (0..50).map(|_| daemon.open()).collect();
    good.link.send(Busy { phase: 1 }).unwrap();
    assert_eq!(good.link.recv(), Ok(Busy { phase: 1 }.into()));
    drop((crowd, more, good));
    assert_eq!(daemon.stop(), 0);
}
