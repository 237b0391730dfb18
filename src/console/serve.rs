//! Binds, accepts, speaks TLS where it must, and leads each request through the gate to who answers it.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

use super::access::Access;
use super::answer::{Answer, ApiError};
use super::gate::{self, Gate};
use super::live::Watched;
use super::{assets, copies, files, live, session};
use crate::engine::client::{ClientOptions, now};
use crate::net::peer::Neighbourhood;
use crate::net::runtime;
use crate::net::shutdown::Shutdown;

/// A request's head has to be there by then, and TLS has to be spoken.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// Who takes nothing of an answer for so long is gone, or holds the connection for nothing.
const STALL_PATIENCE: Duration = Duration::from_secs(120);
/// Connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 256;
/// Of one address (of IPv6 one network of 64 bits) elsewhere; further ones are closed.
const CONNECTIONS_OF_ADDRESS_MAX: usize = 64;

/// Why there is no console; the sentence says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// The port is taken, or there is no such address.
    #[error("the console cannot listen on {address}: {source}; name another one with --console ADDR:PORT")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Certificate or key.
    #[error("the console's certificate or key cannot be used: {0}")]
    Tls(String),
    /// Threads, or files of the store.
    #[error("the console cannot be started: {0}")]
    Io(#[from] io::Error),
}

/// Certificate chain and key, as PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The chain.
    pub certificate: Vec<u8>,
    /// The key.
    pub key: Vec<u8>,
}

/// A port that is bound, and how it is spoken to.
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer(pub(super) Neighbourhood);

/// How many connections each address has.
#[derive(Clone, Default)]
struct Guests(Arc<Mutex<HashMap<Peer, usize>>>);

/// One of them.
struct Guest {
    guests: Guests,
    peer: Peer,
}

impl Guests {
    /// None: it has its share.
    fn enter(&self, peer: Peer) -> Option<Guest> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(peer).or_default();
        // Who forwards a port to loopback speaks for many.
        if *count >= CONNECTIONS_OF_ADDRESS_MAX && !peer.0.is_loopback() {
            return None;
        }
        *count += 1;
        Some(Guest { guests: self.clone(), peer })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut counts = self.guests.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = counts.get(&self.peer).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            counts.remove(&self.peer);
        } else {
            counts.insert(self.peer, left);
        }
    }
}

/// Whose copy is asked about: node and user; none: one's own.
pub(super) type Whose = Option<(String, String)>;

/// What every request may need.
pub(super) struct Shared {
    pub(super) program: &'static str,
    pub(super) name: String,
    pub(super) host: String,
    pub(super) access: Access,
    pub(super) gate: Gate,
    /// The way to a copy.
    pub(super) ways: Box<dyn Fn(Whose) -> ClientOptions + Send + Sync>,
    /// What goes on.
    pub(super) watched: Arc<dyn Watched>,
    /// Event streams at once.
    pub(super) streams: Arc<Semaphore>,
}

impl Bound {
    /// Binds.
    ///
    /// # Errors
    /// [`ConsoleError`].
    pub fn new(address: SocketAddr, tls: Option<&TlsFiles>) -> Result<Self, ConsoleError> {
        let failed = |source| ConsoleError::Bind { address, source };
        let tls = tls.map(acceptor).transpose()?;
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, tls })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// TLS is spoken.
    pub(super) fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// The start of a URL that leads here from this machine, without a slash at its end.
    pub fn url(&self) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() {
                [127, 0, 0, 1].into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            });
        }
        format!("{}://{address}", if self.is_secure() { "https" } else { "http" })
    }

    /// Serves until the shutdown, on threads of its own; whatever is open then is cut.
    pub(super) fn serve(self, shared: Arc<Shared>, own: Router, shutdown: Shutdown) -> Result<(), ConsoleError> {
        let routes = routes(shared, own);
        let Self { listener, tls, .. } = self;
        let handle = runtime::handle()?;
        let listener = {
            let _entered = handle.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        handle.spawn(async move {
            let (connections, guests) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), Guests::default());
            let accept = async {
                loop {
                    let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
                    let (stream, peer) = match listener.accept().await {
                        Ok((stream, from)) => (stream, Peer(Neighbourhood::of(from.ip()))),
                        Err(error) => {
                            tracing::debug!("console: {error}");
                            tokio::time::sleep(Duration::from_millis(100)).await;
                            continue;
                        }
                    };
                    let Some(guest) = guests.enter(peer) else { continue };
                    let (routes, tls, ending) = (routes.clone().layer(Extension(peer)), tls.clone(), shutdown.clone());
                    tokio::spawn(async move {
                        let _permit = (permit, guest);
                        tokio::select! {
                            () = connection(stream, tls, routes) => {}
                            () = ending.triggered() => {}
                        }
                    });
                }
            };
            tokio::select! {
                () = accept => {}
                () = shutdown.triggered() => {}
            }
        });
        Ok(())
    }
}

fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, ConsoleError> {
    let failed = |why: String| ConsoleError::Tls(why);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&files.certificate).collect();
    let chain = chain.map_err(|e| failed(e.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(&files.key).map_err(|e| failed(e.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|e| failed(e.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn connection(stream: tokio::net::TcpStream, tls: Option<TlsAcceptor>, routes: Router) {
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(STALL_PATIENCE));
    let stream = Box::pin(stream);
    match tls {
        None => http(stream, routes).await,
        Some(tls) => {
            if let Ok(Ok(stream)) = tokio::time::timeout(HEAD_PATIENCE, tls.accept(stream)).await {
                http(stream, routes).await;
            }
        }
    }
}

async fn http(stream: impl AsyncRead + AsyncWrite + Unpin, routes: Router) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    if let Err(error) = served.await {
        tracing::debug!("console: {error}");
    }
}

/// All of it. `own`: what only this program has.
fn routes(shared: Arc<Shared>, own: Router) -> Router {
    let copies = "/api/v1/copies/{node}/{user}";
    let copy = |what: &str| format!("{copies}/{what}");
    Router::new()
        .route("/", get(index))
        .route("/assets/{name}", get(asset))
        .route("/open", get(session::open))
        .route("/api/v1/session", post(session::sign_in).get(session::show).delete(session::sign_out))
        .route("/api/v1/live", get(live::stream))
        .route(&copy("snapshots"), get(copies::snapshots))
        .route(&copy("entries"), get(copies::entries))
        .route(&copy("versions"), get(copies::versions))
        .route(&copy("find"), get(copies::find))
        .route(&copy("diff"), get(copies::diff))
        .route(&copy("runs"), get(copies::runs))
        .route(&copy("file"), get(files::file))
        .route(&copy("preview"), get(files::preview))
        .route(&copy("archive"), get(files::archive))
        .with_state(Arc::clone(&shared))
        .merge(own)
        .fallback(async || ApiError::not_found("there is no such thing here"))
        .method_not_allowed_fallback(async || {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "usage", "this cannot be done with what is there")
        })
        .layer(middleware::from_fn_with_state(shared, pass))
}

/// The gate.
async fn pass(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let mut response = match admit(&shared, request) {
        Ok(request) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    gate::protect(&mut response);
    response
}

fn admit(shared: &Shared, mut request: Request) -> Result<Request, ApiError> {
    shared.gate.check_address(request.headers())?;
    let (path, method) = (request.uri().path(), request.method());
    let is_session = path == "/api/v1/session";
    if !path.starts_with("/api/") || (is_session && *method == Method::POST) {
        return Ok(request);
    }
    let visitor = shared.gate.visitor(&shared.access, method, request.headers(), now().secs)?;
    if !is_session {
        gate::check_role(&visitor, method)?;
    }
    request.extensions_mut().insert(visitor);
    Ok(request)
}

async fn index(headers: HeaderMap) -> Answer {
    assets::page("index.html", headers.get(header::IF_NONE_MATCH))
}

async fn asset(axum::extract::Path(name): axum::extract::Path<String>, headers: HeaderMap) -> Answer {
    assets::page(&name, headers.get(header::IF_NONE_MATCH))
}
