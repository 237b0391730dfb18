//! TLS 1.3 with raw public keys (RFC 7250), both ways.
//!
//! There are no certificates and no authorities: each side shows an Ed25519 key and proves with a signature that it holds
//! the secret half. The daemon takes any key here and decides afterwards what it may do (the registry); the client
//! compares with the key it expects, before it shows its own.
//!
//! Always holds: the signature is really checked, or anybody could show a key that is not his; nothing but TLS 1.3; no
//! tickets and no resumption, which would skip the check; the crypto provider is named, never the process's default.
//!
//! A daemon's key may be exchanged while it listens ([`ServerKey`]).
//!
//! A client's handshake succeeds *before* the daemon has judged its key: only `Welcome` says that it is in.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved, ServerConfig,
    SignatureScheme,
};

use super::identity::{Identity, PublicKey};

/// The protocol's name in TLS (ALPN). It carries no version: `Hello` does.
const ALPN: &[u8] = b"rbbackup";

/// Plaintext and records that TLS may hold back for one connection.
pub(super) const BUFFER_BYTES: usize = 256 * 1024;

/// Where a client's verifier leaves the key that the daemon showed, also one that it refused.
pub(super) type SeenKey = Arc<Mutex<Option<PublicKey>>>;

/// A client's side. With `expected`, another key fails the handshake.
pub(super) fn client_config(
    identity: &Identity,
    expected: Option<PublicKey>,
    seen: SeenKey,
) -> Result<ClientConfig, Error> {
    let provider = Arc::new(provider());
    let verifier = Verifier { algorithms: provider.signature_verification_algorithms, expected, seen: Some(seen) };
    let key = certified_key(identity, &provider)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(key)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

/// The key that a daemon shows: it may be exchanged while it listens, for connections that come later.
#[derive(Debug)]
pub struct ServerKey {
    certified: Mutex<Arc<CertifiedKey>>,
}

impl ServerKey {
    /// Begins with this key.
    ///
    /// # Errors
    /// The key does not serve for TLS, in words.
    pub fn new(identity: &Identity) -> Result<Self, String> {
        let certified = certified_key(identity, &provider()).map_err(|e| e.to_string())?;
        Ok(Self { certified: Mutex::new(certified) })
    }

    /// Shows another one from now on.
    ///
    /// # Errors
    /// The key does not serve for TLS, in words; the one before goes on.
    pub fn exchange(&self, identity: &Identity) -> Result<(), String> {
        let certified = certified_key(identity, &provider()).map_err(|e| e.to_string())?;
        *self.certified.lock().unwrap_or_else(PoisonError::into_inner) = certified;
        Ok(())
    }
}

impl ResolvesServerCert for ServerKey {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.certified.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }
}

/// A daemon's side. Any Ed25519 key may come in; the caller decides.
pub(super) fn server_config(key: Arc<ServerKey>) -> Result<ServerConfig, Error> {
    let provider = Arc::new(provider());
    let verifier = Verifier { algorithms: provider.signature_verification_algorithms, expected: None, seen: None };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(key);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// What a client calls the daemon inside TLS: nobody looks at it.
pub(super) fn server_name() -> ServerName<'static> {
    ServerName::IpAddress(std::net::IpAddr::from([127, 0, 0, 1]).into())
}

/// The key that the peer of a finished handshake proved to hold.
pub(super) fn peer_key(connection: &rustls::CommonState) -> Option<PublicKey> {
    PublicKey::from_spki(connection.peer_certificates()?.first()?)
}

fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    // AES-128 first: it is a third faster than AES-256 where there is an instruction for it, and no weaker here.
    if has_aes() {
        provider.cipher_suites.sort_by_key(|s| s.suite() != rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    } else {
        provider.cipher_suites.sort_by_key(|s| s.suite() != rustls::CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
    }
    provider
}

fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

fn certified_key(identity: &Identity, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, Error> {
    let pkcs8 = identity.to_pkcs8().ok_or_else(|| Error::General("the key cannot be encoded".into()))?;
    let key = provider.key_provider.load_private_key(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8)))?;
    // For raw public keys, rustls carries the SPKI where a certificate would stand.
    let spki = CertificateDer::from(identity.public().to_spki());
    Ok(Arc::new(CertifiedKey::new(vec![spki], key)))
}

/// Checks a peer's key: form, expectation, and possession.
#[derive(Debug)]
struct Verifier {
    algorithms: WebPkiSupportedAlgorithms,
    expected: Option<PublicKey>,
    seen: Option<SeenKey>,
}

impl Verifier {
    fn check_key(&self, spki: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Result<(), Error> {
        if !intermediates.is_empty() {
            return Err(CertificateError::BadEncoding.into());
        }
        let key = PublicKey::from_spki(spki).ok_or(CertificateError::BadEncoding)?;
        if let Some(seen) = &self.seen {
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
        }
        match self.expected {
            Some(expected) if expected != key => Err(CertificateError::ApplicationVerificationFailure.into()),
            _ => Ok(()),
        }
    }

    fn check_signature(
        &self,
        message: &[u8],
        spki: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let spki = SubjectPublicKeyInfoDer::from(spki.as_ref());
        verify_tls13_signature_with_raw_key(message, &spki, signature, &self.algorithms)
    }
}

fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check_key(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check_key(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
