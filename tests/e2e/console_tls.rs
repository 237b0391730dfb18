//! A console that other machines reach: TLS by the administrator's certificate, and a password.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::daemon::{Daemon, World};

const PASSWORD: &str = "correct horse battery";

/// What is answered to a request over TLS to `localhost`: the head and the body, as they came.
fn ask(port: u16, roots: &RootCertStore, request: &str) -> String {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots.clone()).with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(("127.0.0.1", port)).unwrap());
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // The other side may close without a word.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

#[test]
fn other_machines_come_in_by_tls_and_a_password_alone() {
    let world = World::new();
    let (path, free) = (|name: &str| world.path(name), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let port = free.local_addr().unwrap().port();
    drop(free);
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(path("cert.pem"), cert.pem()).unwrap();
    fs::write(path("key.pem"), signing_key.serialize_pem()).unwrap();
    fs::write(path("password"), format!("{PASSWORD}\n")).unwrap();
    for secret in ["key.pem", "password"] {
        fs::set_permissions(path(secret), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let config = format!(
        "[console]\ncertificate = '{}'\nkey = '{}'\npassword-file = '{}'\nnames = [\"backup.example\"]\n",
        path("cert.pem").display(),
        path("key.pem").display(),
        path("password").display()
    );
    fs::write(path("config"), config).unwrap();
    let console = format!("0.0.0.0:{port}");
    let config = path("config");
    let _daemon = Daemon::start(&world.store, &["--config", config.to_str().unwrap(), "--console", &console]);
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let host = format!("Host: localhost:{port}\r\nConnection: close\r\n");
    let sign_in = |password: &str| {
        let body = format!("{{\"password\": \"{password}\"}}");
        let length = body.len();
        ask(
            port,
            &roots,
            &format!(
                "POST /api/v1/session HTTP/1.1\r\n{host}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            ),
        )
    };
    let overview =
        |cookie: &str| ask(port, &roots, &format!("GET /api/v1/overview HTTP/1.1\r\n{host}Cookie: {cookie}\r\n\r\n"));
    let nobody = overview("");
    assert!(nobody.starts_with("HTTP/1.1 401") && nobody.contains("\"password\":true"), "{nobody}");
    assert!(sign_in("wrong").starts_with("HTTP/1.1 401"));
    let opened = sign_in(PASSWORD);
    assert!(opened.starts_with("HTTP/1.1 200"), "{opened}");
    let cookie = opened.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(cookie.contains("; Secure") && cookie.contains("HttpOnly"), "{cookie}");
    assert!(overview(cookie.split(';').next().unwrap()).starts_with("HTTP/1.1 200"));
    // By other names only those that were said.
    let by = |name: &str| ask(port, &roots, &format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"));
    assert!(by("backup.example").starts_with("HTTP/1.1 200") && by("evil.example").starts_with("HTTP/1.1 403"));
    // Ten wrong ones, and nobody from there is listened to for a while; without TLS nobody at all.
    (0..9).for_each(|_| drop(sign_in("wrong")));
    let refused = sign_in(PASSWORD);
    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    let mut plain = TcpStream::connect(("127.0.0.1", port)).unwrap();
    plain.write_all(format!("GET / HTTP/1.1\r\n{host}\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}
