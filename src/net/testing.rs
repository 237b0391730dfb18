//! For the tests of `net`: both ends of a real TLS connection over loopback, and both ends of a pipe in a time of its
//! own.

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
    handshake: Duration::from_secs(1),
};

pub(super) fn welcome() -> Message {
    let (magic, version, bytes) = (HELLO_MAGIC, PROTOCOL_VERSION, Bytes::default());
    let (node, user) = (bytes.clone(), bytes.clone());
    Welcome { magic, version, features: 0, software: bytes, store: [0; 16], store_place: (0, 0), node, user }.into()
}

/// Both ends after the handshake.
pub(super) fn streams() -> (ClientStream, ServerStream) {
    counted_streams(&Arc::default())
}

/// The same, the client's counted.
fn counted_streams(counters: &Arc<LinkCounters>) -> (ClientStream, ServerStream) {
    let configs = |client: Identity, server: Identity| {
        let client = tls::client_config(&client, Some(server.public()), Arc::default()).unwrap();
        (client, tls::server_config(Arc::new(tls::ServerKey::new(&server).unwrap())).unwrap())
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
            let socket = Socket::new(stream, counters.clone());
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
    let counters = Arc::<LinkCounters>::default();
    let (client, server) = counted_streams(&counters);
    let _guard = runtime::handle().unwrap().enter();
    let (there, _) = connection::spawn(client, Role::Client, timing, counters);
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

/// Client's and daemon's link after the welcome, over a pipe of 64 KiB in a runtime whose time passes only in
/// [`Virtual::wait`]: no hiccup of a busy machine is taken for a silence, and a long one is over at once.
///
/// It does not pass by itself, as paused time does, because tokio knows nothing of the threads that use the links: a
/// thread that loses its core in the middle of waking a task would find that an age had passed.
pub(super) struct Virtual {
    runtime: tokio::runtime::Handle,
    over: Arc<tokio::sync::Notify>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Virtual {
    pub(super) fn welcomed_links(timing: Timing) -> (Self, Link, Link) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let handle = runtime.handle().clone();
        let (client, server) = tokio::io::duplex(64 << 10);
        let (mut client, daemon) = {
            let _guard = handle.enter();
            let (client, _) = connection::spawn(client, Role::Client, timing, Arc::<LinkCounters>::default());
            let (daemon, _) = connection::spawn(server, Role::Daemon, timing, Arc::<LinkCounters>::default());
            (client, daemon)
        };
        let over = Arc::new(tokio::sync::Notify::new());
        let ending = over.clone();
        let thread = std::thread::spawn(move || {
            // As long as a blocking call is under way, paused time stands still.
            let (end, ended) = std::sync::mpsc::channel::<()>();
            runtime.spawn_blocking(move || ended.recv());
            runtime.block_on(ending.notified());
            drop(end);
        });
        daemon.send(welcome()).unwrap();
        assert!(matches!(client.recv(), Ok(Message::Welcome(_))));
        (Self { runtime: handle, over, thread: Some(thread) }, client, daemon)
    }

    /// Lets `time` pass there, in steps in which everybody gets to act.
    pub(super) fn wait(&self, time: Duration) {
        const STEP: Duration = Duration::from_millis(20);
        let (passed, wait) = std::sync::mpsc::channel();
        self.runtime.spawn(async move {
            for _ in 0..time.as_millis() / STEP.as_millis() {
                tokio::time::advance(STEP).await;
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
            }
            passed.send(())
        });
        wait.recv().unwrap();
    }
}

impl Drop for Virtual {
    fn drop(&mut self) {
        self.over.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
