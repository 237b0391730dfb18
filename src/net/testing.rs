//! For the tests of `net`: both ends of a real TLS connection over loopback.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::connection::{self, Role, Timing};
use super::identity::Identity;
use super::link::{Link, LinkCounters};
use super::message::{HELLO_MAGIC, Message, PROTOCOL_VERSION, Welcome};
use super::socket::Socket;
use super::{runtime, tls};
use crate::backup::bytes::Bytes;

pub(super) type ClientStream = client::TlsStream<Socket<TcpStream>>;
pub(super) type ServerStream = server::TlsStream<Socket<TcpStream>>;

/// Deadlines that a test can wait for, and longer than a busy machine's hiccups.
pub(super) const QUICK: Timing = Timing {
    keepalive: Duration::from_millis(60),
    silence: Duration::from_millis(600),
    stall: Duration::from_secs(20),
    linger: Duration::from_secs(5),
};

pub(super) fn welcome() -> Message {
    let (magic, version, bytes) = (HELLO_MAGIC, PROTOCOL_VERSION, Bytes::default());
    let (node, user) = (bytes.clone(), bytes.clone());
    Welcome { magic, version, features: 0, software: bytes, store: [0; 16], store_place: (0, 0), node, user }.into()
}

/// Both ends after the handshake.
pub(super) fn streams() -> (ClientStream, ServerStream) {
    let configs = |client: Identity, server: Identity| {
        let client = tls::client_config(&client, Some(server.public()), Arc::default()).unwrap();
        (client, tls::server_config(&server).unwrap())
    };
    let (client, server) = configs(Identity::generate().unwrap(), Identity::generate().unwrap());
    runtime::handle().unwrap().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let accept = async {
            let stream = listener.accept().await.unwrap().0;
            stream.set_nodelay(true).unwrap();
            let socket = Socket::new(stream, Arc::default());
            let acceptor = TlsAcceptor::from(Arc::new(server));
            acceptor.accept_with(socket, |s| s.set_buffer_limit(Some(tls::BUFFER_BYTES))).await.unwrap()
        };
        let connect = async {
            let stream = TcpStream::connect(addr).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let connector = TlsConnector::from(Arc::new(client));
            let socket = Socket::new(stream, Arc::default());
            let set = |s: &mut rustls::ClientConnection| s.set_buffer_limit(Some(tls::BUFFER_BYTES));
            connector.connect_with(tls::server_name(), socket, set).await.unwrap()
        };
        tokio::join!(connect, accept)
    })
}

/// The daemon's link, and the raw stream of a client that can say anything.
pub(super) fn raw_client(timing: Timing) -> (ClientStream, Link, JoinHandle<()>) {
    let (client, server) = streams();
    let _guard = runtime::handle().unwrap().enter();
    let (link, task) = connection::spawn(server, Role::Daemon, timing, Arc::<LinkCounters>::default());
    (client, link, task)
}

/// Client's and daemon's link.
pub(super) fn links(timing: Timing) -> (Link, Link) {
    let (client, server) = streams();
    let _guard = runtime::handle().unwrap().enter();
    let (there, _) = connection::spawn(client, Role::Client, timing, Arc::<LinkCounters>::default());
    let (here, _) = connection::spawn(server, Role::Daemon, timing, Arc::<LinkCounters>::default());
    (there, here)
}

/// [`links`] after the welcome.
pub(super) fn welcomed_links(timing: Timing) -> (Link, Link) {
    let (mut client, daemon) = links(timing);
    daemon.send(welcome()).unwrap();
    assert!(matches!(client.recv(), Ok(Message::Welcome(_))));
    (client, daemon)
}
