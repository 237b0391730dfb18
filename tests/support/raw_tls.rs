//! A peer that says any bytes, inside TLS or without it. It comes from 127.0.0.2, so that it is another node than the
//! clients of a test.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use rbbackup::net::frame::{FRAME_HEAD_BYTES, Frame, decode_frame};
use rbbackup::net::message::{HELLO_MAGIC, Hello, Message, PROTOCOL_VERSION};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, ResolvesClientCert};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};

use super::daemon::{Daemon, login};

/// Longer than the daemon takes to end a connection that it does not like, far shorter than its own deadlines.
const PATIENCE: Duration = Duration::from_secs(20);
/// What stands before an Ed25519 key in a SubjectPublicKeyInfo.
const SPKI_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// How a peer introduces itself in TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// As a client does.
    Key,
    /// A certificate of X.509.
    Certificate,
    /// Nothing.
    Nothing,
}

/// A connection from 127.0.0.2.
pub fn connect(daemon: &Daemon) -> TcpStream {
    let (from, to): (SocketAddr, SocketAddr) = ("127.0.0.2:0".parse().unwrap(), daemon.address.parse().unwrap());
    let socket: OwnedFd =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &from).unwrap();
    rustix::net::connect(&socket, &to).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Hears all until the daemon closes; how many bytes that were. Panics when it does not.
pub fn closes(mut stream: impl Read) -> usize {
    let mut heard = 0;
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return heard,
            Ok(len) => heard += len,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                panic!("the daemon leaves the connection open")
            }
            Err(_) => return heard,
        }
    }
}

/// A conversation inside TLS.
pub struct Raw {
    stream: StreamOwned<ClientConnection, TcpStream>,
    heard: Vec<u8>,
}

impl Raw {
    /// After the handshake of TLS, as far as a client can tell.
    pub fn dial(daemon: &Daemon, shows: Shows, protocol: &[u8]) -> io::Result<Self> {
        let provider = Arc::new(default_provider());
        // The same each time: it owns the folder from then on.
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let pkcs8 = pair.to_pkcs8v1().unwrap().as_ref().to_vec();
        let key =
            provider.key_provider.load_private_key(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8))).unwrap();
        let shown = [&SPKI_HEAD[..], pair.public_key().as_ref()].concat();
        let certified = Arc::new(CertifiedKey::new(vec![CertificateDer::from(shown)], key));
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Trusting));
        let mut config = match shows {
            Shows::Key => {
                builder.with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified)))
            }
            Shows::Certificate => builder.with_client_cert_resolver(Arc::new(Certificate(certified))),
            Shows::Nothing => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = ServerName::IpAddress(std::net::IpAddr::from([127, 0, 0, 1]).into());
        let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, connect(daemon));
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self { stream, heard: Vec::new() })
    }

    /// A stranger, before its first word.
    pub fn stranger(daemon: &Daemon) -> Self {
        Self::dial(daemon, Shows::Key, b"rbbackup").unwrap()
    }

    /// One that has been let in.
    pub fn welcome(daemon: &Daemon) -> Self {
        let mut raw = Self::stranger(daemon);
        raw.say(&frame(hello(login().as_bytes())));
        let answer = raw.hear();
        assert!(matches!(answer, Some(Message::Welcome(_))), "{answer:?}");
        raw
    }

    /// Says bytes; a daemon that has closed already does not hear them.
    pub fn say(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).and_then(|()| self.stream.flush());
    }

    /// Whether these bytes were taken.
    pub fn try_say(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).and_then(|()| self.stream.flush()).is_ok()
    }

    /// The next message, signs of life aside; none: the daemon has closed.
    pub fn hear(&mut self) -> Option<Message> {
        loop {
            if let Some((message, used)) = decode_frame(&self.heard).expect("the daemon keeps to the protocol") {
                self.heard.drain(..used);
                match message {
                    None | Some(Message::Busy(_)) => continue,
                    message => return message,
                }
            }
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(len) => self.heard.extend_from_slice(&buffer[..len]),
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    panic!("the daemon neither answers nor closes")
                }
                Err(_) => return None,
            }
        }
    }

    /// Says goodbye and listens on.
    pub fn half_close(&mut self) {
        self.stream.conn.send_close_notify();
        let _ = self.stream.conn.complete_io(&mut self.stream.sock);
        let _ = self.stream.sock.shutdown(std::net::Shutdown::Write);
    }

    /// The socket, for who wants to cut it.
    pub fn socket(&self) -> &TcpStream {
        &self.stream.sock
    }
}

/// A client's first word.
pub fn hello(user: &[u8]) -> Hello {
    let (magic, version) = (HELLO_MAGIC, PROTOCOL_VERSION);
    Hello { magic, version, features: 0, software: b"a test".as_slice().into(), user: user.into() }
}

/// A message as it travels.
pub fn frame(message: impl Into<Message>) -> Vec<u8> {
    Frame::encode(message.into()).unwrap().into_bytes()
}

/// LENGTH and KIND of a frame that says it has so many bytes of body.
pub fn head(kind: u8, body_bytes: u32) -> [u8; FRAME_HEAD_BYTES] {
    let [a, b, c, d] = body_bytes.wrapping_add(1).to_le_bytes();
    [a, b, c, d, kind]
}

/// Shows its key as if it were a certificate of X.509.
#[derive(Debug)]
struct Certificate(Arc<CertifiedKey>);

impl ResolvesClientCert for Certificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Takes any daemon.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
