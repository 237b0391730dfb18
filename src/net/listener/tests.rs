//! Tests of the listener.

use std::io::{Read, Write};
use std::net::TcpStream as StdStream;
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::*;
use crate::net::client::{ConnectError, ConnectOptions, Connected, connect};
use crate::net::handshake::{HandshakeError, client_hello, read_hello};
use crate::net::identity::{Identity, PublicKey};
use crate::net::message::Message;
use crate::net::testing::welcome;

struct Daemon {
    key: PublicKey,
    port: u16,
    shutdown: Shutdown,
    served: JoinHandle<usize>,
}

impl Daemon {
    fn start(limits: ListenLimits, handler: impl Fn(Incoming) + Send + Sync + 'static) -> Self {
        let identity = Identity::generate().unwrap();
        let listener = Listener::bind("[::]:0".parse().unwrap()).unwrap();
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
        tell.send(incoming.peer).unwrap();
        if read_hello(&mut incoming.link).is_ok() {
            incoming.link.send(welcome()).unwrap();
            while incoming.link.recv().is_ok() {}
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
    let open = || StdStream::connect(("127.0.0.1", daemon.port)).unwrap();
    let silent: Vec<_> = (0..20).map(|_| open()).collect();
    let mut noisy = open();
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
        let connected = daemon.connect(&Identity::generate().unwrap(), None);
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
    let mut connected = daemon.connect(&Identity::generate().unwrap(), None);
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
