//! Tests of ending a key's connections, with real sockets.

use std::sync::{Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::*;
use crate::backup::bytes::Bytes;
use crate::net::client::{ConnectOptions, connect};
use crate::net::handshake::{client_hello, read_hello};
use crate::net::identity::Identity;
use crate::net::link::Link;
use crate::net::listener::{Incoming, ListenLimits, Listener};
use crate::net::message::{Busy, Chunks, HELLO_MAGIC, Hello, Message, PROTOCOL_VERSION};
use crate::net::shutdown::Shutdown;
use crate::net::testing::welcome;
use crate::net::tls::ServerKey;

const PATIENCE: Duration = Duration::from_secs(20);

/// A listener whose handlers give what comes in to the test.
struct Served {
    connections: Connections,
    port: u16,
    shutdown: Shutdown,
    incoming: mpsc::Receiver<Incoming>,
    serving: JoinHandle<usize>,
}

impl Served {
    fn start() -> Self {
        let (connections, shutdown) = (Connections::default(), Shutdown::new());
        let shown = Arc::new(ServerKey::new(&Identity::generate().unwrap()).unwrap());
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().port();
        let (give, incoming) = mpsc::channel();
        let give = Mutex::new(give);
        let (known, signal) = (connections.clone(), shutdown.clone());
        let handler = Arc::new(move |incoming: Incoming| give.lock().unwrap().send(incoming).unwrap());
        let serving =
            thread::spawn(move || listener.serve(&shown, ListenLimits::default(), &known, &signal, handler).unwrap());
        Self { connections, port, shutdown, incoming, serving }
    }

    fn connect(&self, identity: &Identity) -> Link {
        let server = format!("127.0.0.1:{}", self.port);
        let options = ConnectOptions { server, bind: None, identity, expected: None, timeout: PATIENCE };
        connect(&options).unwrap().link
    }

    /// A client that has been welcome, and the daemon's end of it.
    fn welcomed(&self, identity: &Identity) -> (Link, Incoming) {
        let mut client = self.connect(identity);
        let saying = thread::spawn(move || {
            client_hello(&mut client, b"u", "test").unwrap();
            client
        });
        let mut here = self.incoming.recv_timeout(PATIENCE).unwrap();
        read_hello(&mut here.link).unwrap();
        here.link.send(welcome()).unwrap();
        (saying.join().unwrap(), here)
    }

    fn stop(self) {
        self.shutdown.trigger();
        drop(self.incoming);
        assert_eq!(self.serving.join().unwrap(), 0);
    }

    /// Until the tasks of the key's connections have ended, which nobody tells us.
    fn wait_until_gone(&self, key: &PublicKey) {
        let start = std::time::Instant::now();
        while self.connections.count(key) > 0 {
            assert!(start.elapsed() < PATIENCE, "{} are left", self.connections.count(key));
            thread::yield_now();
        }
    }
}

fn is_over(client: &mut Link) -> bool {
    loop {
        match client.recv_timeout(PATIENCE) {
            Ok(Some(_)) => {}
            Ok(None) => return false,
            Err(end) => return matches!(end, LinkError::Closed | LinkError::Lost { .. }),
        }
    }
}

#[test]
fn a_revoked_key_loses_all_its_connections_at_once_and_nobody_else_any() {
    let served = Served::start();
    let (thief, owner) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let mut stolen: Vec<_> = (0..3).map(|_| served.welcomed(&thief)).collect();
    let (good, mut here) = served.welcomed(&owner);
    assert_eq!((served.connections.count(&thief.public()), served.connections.count(&owner.public())), (3, 1));

    assert_eq!(served.connections.end(&thief.public()), 3);
    for (client, incoming) in &mut stolen {
        assert_eq!(incoming.link.recv(), Err(LinkError::Revoked));
        assert_eq!(incoming.link.send(Busy { phase: 1 }), Err(LinkError::Revoked));
        assert!(is_over(client), "the socket stays open");
    }
    served.wait_until_gone(&thief.public());
    assert_eq!(served.connections.end(&thief.public()), 0);

    good.send(Busy { phase: 7 }).unwrap();
    assert_eq!(here.link.recv(), Ok(Busy { phase: 7 }.into()));
    assert_eq!(served.connections.count(&owner.public()), 1);
    drop((stolen, good, here));
    served.wait_until_gone(&owner.public());
    served.stop();
}

#[test]
fn who_asks_for_it_stays() {
    let served = Served::start();
    let key = Identity::generate().unwrap();
    let (asking, mut asked) = served.welcomed(&key);
    let (mut other, here) = served.welcomed(&key);
    assert_eq!(served.connections.end_others(&key.public(), asked.connection), 1);
    assert!(is_over(&mut other));
    asked.link.send(Busy { phase: 1 }).unwrap();
    assert_eq!(asked.link.recv_timeout(Duration::from_millis(1)), Ok(None), "it was ended as well");
    drop((asking, asked, other, here));
    served.stop();
}

#[test]
fn a_key_that_was_not_welcome_yet_is_ended_too() {
    let served = Served::start();
    let key = Identity::generate().unwrap();
    let mut client = served.connect(&key);
    let (magic, version, bytes) = (HELLO_MAGIC, PROTOCOL_VERSION, Bytes::default());
    client.send(Hello { magic, version, features: 0, software: bytes.clone(), user: bytes }).unwrap();
    // Its hello has come, and is not answered.
    let mut incoming = served.incoming.recv_timeout(PATIENCE).unwrap();
    assert_eq!(served.connections.end(&key.public()), 1);
    assert!(is_over(&mut client));
    assert_eq!(incoming.link.recv(), Err(LinkError::Revoked), "what it had said is still listened to");
    drop(incoming);
    served.wait_until_gone(&key.public());
    served.stop();
}

#[test]
fn what_is_queued_is_neither_sent_nor_delivered() {
    let served = Served::start();
    let key = Identity::generate().unwrap();
    let (mut client, mut here) = served.welcomed(&key);
    // The one thread waits for room to send, and the client takes nothing.
    let sender = here.link.sender.clone();
    let (begun, begin) = mpsc::channel();
    let pouring = thread::spawn(move || {
        for file in 0.. {
            let chunks = Message::Chunks(Chunks { file, lens: vec![1 << 20] }, vec![0; 1 << 20]);
            if let Err(end) = sender.send(chunks) {
                return (file, end);
            }
            let _ = begun.send(());
        }
        unreachable!()
    });
    // Until it stands still: the queue is full then.
    while begin.recv_timeout(Duration::from_millis(500)).is_ok() {}
    for phase in 0..2 {
        client.send(Busy { phase }).unwrap();
    }
    // The second is in the queue or on its way there.
    assert_eq!(here.link.recv(), Ok(Busy { phase: 0 }.into()));
    assert_eq!(served.connections.end(&key.public()), 1);
    assert_eq!(here.link.recv(), Err(LinkError::Revoked));
    let (sent, end) = pouring.join().unwrap();
    assert_eq!(end, LinkError::Revoked);
    let mut arrived = 0;
    while let Ok(Some(_)) = client.recv_timeout(PATIENCE) {
        arrived += 1;
    }
    assert!(arrived < sent, "all {sent} that were queued arrived");
    drop((client, here));
    served.stop();
}
