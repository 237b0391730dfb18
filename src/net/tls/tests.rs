//! Tests of TLS, with real handshakes.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use rustls::server::AlwaysResolvesServerRawPublicKeys;

use super::*;

/// Handshake and one byte from the server, over memory. Both results, for the client's comes before it is judged.
fn shake(client: ClientConfig, server: ServerConfig) -> (Result<(), String>, Result<(), String>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let connect = async move {
        let mut stream = TlsConnector::from(Arc::new(client)).connect(server_name(), ours).await?;
        stream.read_u8().await.map(|_| ())
    };
    let accept = async move {
        let mut stream = TlsAcceptor::from(Arc::new(server)).accept(theirs).await?;
        stream.write_u8(1).await?;
        stream.flush().await
    };
    let (a, b) = runtime.block_on(async { tokio::join!(connect, accept) });
    (a.map_err(|e: std::io::Error| e.to_string()), b.map_err(|e: std::io::Error| e.to_string()))
}

/// `holder`'s secret with `shown`'s public key: what somebody has who copied a public key.
fn forged(holder: &Identity, shown: &Identity) -> Arc<CertifiedKey> {
    let honest = certified_key(holder, &provider()).unwrap();
    let spki = CertificateDer::from(shown.public().to_spki());
    Arc::new(CertifiedKey::new(vec![spki], honest.key.clone()))
}

fn shows(identity: &Identity) -> Arc<ServerKey> {
    Arc::new(ServerKey::new(identity).unwrap())
}

#[test]
fn a_daemon_s_key_is_exchanged_while_it_listens() {
    let (client, old, new) =
        (Identity::generate().unwrap(), Identity::generate().unwrap(), Identity::generate().unwrap());
    let key = shows(&old);
    let server = server_config(Arc::clone(&key)).unwrap();
    let expects = |identity: &Identity| client_config(&client, Some(identity.public()), SeenKey::default()).unwrap();
    assert_eq!(shake(expects(&old), server.clone()), (Ok(()), Ok(())));
    key.exchange(&new).unwrap();
    assert_eq!(shake(expects(&new), server.clone()), (Ok(()), Ok(())));
    assert!(shake(expects(&old), server).0.is_err());
}

#[test]
fn keys_are_seen_by_the_client() {
    let (client, server) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    for expected in [None, Some(server.public())] {
        let seen = SeenKey::default();
        let config = client_config(&client, expected, seen.clone()).unwrap();
        assert_eq!(shake(config, server_config(shows(&server)).unwrap()), (Ok(()), Ok(())));
        assert_eq!(*seen.lock().unwrap(), Some(server.public()));
    }
}

#[test]
fn another_key_fails_the_handshake() {
    let (client, server) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let config = client_config(&client, Some(client.public()), SeenKey::default()).unwrap();
    let (a, b) = shake(config, server_config(shows(&server)).unwrap());
    assert!(a.is_err() && b.is_err(), "{a:?} {b:?}");
}

#[test]
fn a_public_key_without_its_secret_is_worth_nothing() {
    let (victim, thief) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let honest = Identity::generate().unwrap();

    let mut client = client_config(&thief, None, SeenKey::default()).unwrap();
    client.client_auth_cert_resolver = Arc::new(AlwaysResolvesClientRawPublicKeys::new(forged(&thief, &victim)));
    let (_, accepted) = shake(client, server_config(shows(&honest)).unwrap());
    assert!(accepted.is_err(), "the daemon took a stolen public key");

    let mut server = server_config(shows(&thief)).unwrap();
    server.cert_resolver = Arc::new(AlwaysResolvesServerRawPublicKeys::new(forged(&thief, &victim)));
    let client = client_config(&honest, Some(victim.public()), SeenKey::default()).unwrap();
    let (connected, _) = shake(client, server);
    assert!(connected.is_err(), "the client took a stolen public key");
}

#[test]
fn another_protocol_is_refused() {
    let (client, server) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let mut config = client_config(&client, None, SeenKey::default()).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (a, b) = shake(config, server_config(shows(&server)).unwrap());
    assert!(a.is_err() && b.is_err());
}
