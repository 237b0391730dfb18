//! The first messages: `Hello`, perhaps with `Redeem`, and what answers them; or `Succeed` instead.
//!
//! ```text
//! client                     daemon
//! Hello [Redeem]   ->        within HANDSHAKE_SECS of the connection
//!                  <-        Welcome | VersionMismatch | Refused, within SILENCE_SECS
//! Succeed          ->
//!                  <-        Succession
//! ```
//!
//! The daemon's engine sends `Welcome` or `Refused` itself, after it asked the registry; a version that it does not
//! speak is answered here.

use std::time::{Duration, Instant};

use super::link::{Link, LinkError};
use super::message::{
    FEATURE_PLAIN, FEATURE_REDEEM, HELLO_MAGIC, Hello, Message, PROTOCOL_VERSION, Redeem, Refused, Succeed, Succession,
    VersionMismatch, Welcome,
};
use super::packing::Compress;
use crate::backup::bytes::{Bytes, escape};
use crate::backup::limits::{HANDSHAKE_SECS, SILENCE_SECS};

/// Why the two did not get to talk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The connection ended or broke.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The peer did not speak in time.
    #[error("the other side said nothing for {secs} s")]
    Silent {
        /// How long it was waited for.
        secs: u64,
    },
    /// The daemon said no.
    #[error("refused: {}", escape(&.0.message.0))]
    Refused(Refused),
    /// No version that both speak.
    #[error(
        "the other side speaks the protocol's versions {lowest} to {highest}, this program {PROTOCOL_VERSION}: \
         bring the older one up to date"
    )]
    Version {
        /// Lowest version of the peer.
        lowest: u32,
        /// Highest version of the peer.
        highest: u32,
    },
    /// Another message than the protocol has here.
    #[error("the other side broke the protocol: {what}")]
    Unexpected {
        /// In words.
        what: String,
    },
}

/// What a peer says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// Who it is, and the invitation that it has.
    Hello(Hello, Option<Redeem>),
    /// It knows the daemon under another key.
    Succeed(Succeed),
}

/// Says `Hello` and waits to be welcome.
///
/// # Errors
/// [`HandshakeError`].
pub fn client_hello(link: &mut Link, user: &[u8], software: &str) -> Result<Welcome, HandshakeError> {
    let sent = link.send(hello(plain(link), user, software));
    welcomed(link, sent)
}

/// Says `Hello`, shows an invitation's secret, and waits to be welcome.
///
/// # Errors
/// [`HandshakeError`].
pub fn client_redeem(
    link: &mut Link,
    user: &[u8],
    software: &str,
    secret: [u8; 16],
) -> Result<Welcome, HandshakeError> {
    let sent =
        link.send(hello(FEATURE_REDEEM | plain(link), user, software)).and_then(|()| link.send(Redeem { secret }));
    welcomed(link, sent)
}

/// Asks how the daemon came from the key `from` to its present one.
///
/// # Errors
/// [`HandshakeError`].
pub fn client_succeed(link: &mut Link, from: [u8; 32]) -> Result<Succession, HandshakeError> {
    let sent = link.send(Succeed { from });
    match answer(link, sent)? {
        Message::Succession(succession) => Ok(succession),
        other => Err(unexpected(&other, "Succession")),
    }
}

/// What this side does not send, it does not want either.
fn plain(link: &Link) -> u64 {
    if link.sender.is_never_packed() { FEATURE_PLAIN } else { 0 }
}

fn hello(features: u64, user: &[u8], software: &str) -> Hello {
    let software = Bytes::from(software.as_bytes());
    Hello { magic: HELLO_MAGIC, version: PROTOCOL_VERSION, features, software, user: Bytes::from(user) }
}

fn welcomed(link: &mut Link, sent: Result<(), LinkError>) -> Result<Welcome, HandshakeError> {
    match answer(link, sent)? {
        Message::Welcome(welcome) => check_welcome(welcome),
        Message::VersionMismatch(VersionMismatch { lowest, highest }) => {
            Err(HandshakeError::Version { lowest, highest })
        }
        other => Err(unexpected(&other, "Welcome")),
    }
}

/// A daemon that is full says so and closes without having listened: its word counts more than our failure to send.
fn answer(link: &mut Link, sent: Result<(), LinkError>) -> Result<Message, HandshakeError> {
    match link.recv_timeout(Duration::from_secs(SILENCE_SECS)) {
        Ok(Some(Message::Refused(refused))) => Err(HandshakeError::Refused(refused)),
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err(HandshakeError::Silent { secs: SILENCE_SECS }),
        Err(error) => Err(sent.err().unwrap_or(error).into()),
    }
}

fn unexpected(message: &Message, instead_of: &str) -> HandshakeError {
    HandshakeError::Unexpected { what: format!("{} instead of {instead_of}", message.name()) }
}

fn check_welcome(welcome: Welcome) -> Result<Welcome, HandshakeError> {
    if welcome.magic != HELLO_MAGIC {
        return Err(HandshakeError::Unexpected { what: "a Welcome of something else".into() });
    }
    if welcome.version != PROTOCOL_VERSION {
        return Err(HandshakeError::Version { lowest: welcome.version, highest: welcome.version });
    }
    Ok(welcome)
}

/// Waits for what a peer says first; a version that is not spoken here is answered with `VersionMismatch`.
///
/// # Errors
/// [`HandshakeError`]; the link is of no more use then.
pub fn read_first(link: &mut Link) -> Result<First, HandshakeError> {
    read_first_within(link, Duration::from_secs(HANDSHAKE_SECS))
}

/// The same where nothing but a plain `Hello` makes sense: in one's own process, and on `control.sock`.
///
/// # Errors
/// [`HandshakeError`].
pub fn read_hello(link: &mut Link) -> Result<Hello, HandshakeError> {
    match read_first(link)? {
        First::Hello(hello, _) => Ok(hello),
        First::Succeed(succeed) => Err(unexpected(&succeed.into(), "Hello")),
    }
}

fn read_first_within(link: &mut Link, patience: Duration) -> Result<First, HandshakeError> {
    let silent = || HandshakeError::Silent { secs: patience.as_secs() };
    let began = Instant::now();
    let hello = match link.recv_timeout(patience)?.ok_or_else(silent)? {
        Message::Hello(hello) if hello.magic == HELLO_MAGIC => hello,
        Message::Hello(_) => return Err(HandshakeError::Unexpected { what: "a Hello of something else".into() }),
        Message::Succeed(succeed) => return Ok(First::Succeed(succeed)),
        other => return Err(unexpected(&other, "Hello")),
    };
    if hello.version != PROTOCOL_VERSION {
        let _ = link.send(VersionMismatch { lowest: PROTOCOL_VERSION, highest: PROTOCOL_VERSION });
        return Err(HandshakeError::Version { lowest: hello.version, highest: hello.version });
    }
    if hello.features & FEATURE_PLAIN != 0 {
        link.sender.set_compress(Compress::Never);
    }
    if hello.features & FEATURE_REDEEM == 0 {
        return Ok(First::Hello(hello, None));
    }
    match link.recv_timeout(patience.saturating_sub(began.elapsed()))?.ok_or_else(silent)? {
        Message::Redeem(redeem) => Ok(First::Hello(hello, Some(redeem))),
        other => Err(unexpected(&other, "Redeem")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::message::{Busy, RefusalKind};

    fn welcome(version: u32) -> Welcome {
        let bytes = Bytes::default();
        let (magic, node, user) = (HELLO_MAGIC, bytes.clone(), bytes.clone());
        Welcome { magic, version, features: 0, software: bytes, store: [1; 16], store_place: (0, 0), node, user }
    }

    /// What a client makes of `answer`, and what the daemon heard.
    fn answered(answer: impl Into<Message>) -> (Result<Welcome, HandshakeError>, Result<Hello, HandshakeError>) {
        let (mut client, mut daemon) = Link::pair();
        daemon.send(answer).unwrap();
        let got = client_hello(&mut client, b"ana", "test 1");
        (got, read_hello(&mut daemon))
    }

    #[test]
    fn a_welcome_is_given_and_taken() {
        let (got, heard) = answered(welcome(PROTOCOL_VERSION));
        assert_eq!(got, Ok(welcome(PROTOCOL_VERSION)));
        let heard = heard.unwrap();
        assert_eq!((heard.user.as_slice(), heard.software.as_slice()), (&b"ana"[..], &b"test 1"[..]));
    }

    #[test]
    fn every_other_answer_is_an_error_that_says_what() {
        let refused = Refused { kind: RefusalKind::NotAllowed, message: Bytes(b"no \x1b".to_vec()) };
        let error = answered(refused.clone()).0.unwrap_err();
        assert_eq!(error, HandshakeError::Refused(refused));
        assert_eq!(error.to_string(), "refused: no \\x1b");
        let mismatch = VersionMismatch { lowest: 2, highest: 3 };
        assert_eq!(answered(mismatch).0, Err(HandshakeError::Version { lowest: 2, highest: 3 }));
        assert!(matches!(answered(welcome(9)).0, Err(HandshakeError::Version { lowest: 9, highest: 9 })));
        assert!(matches!(answered(Busy { phase: 0 }).0, Err(HandshakeError::Unexpected { .. })));
    }

    #[test]
    fn another_version_is_answered() {
        let (mut client, mut daemon) = Link::pair();
        let bytes = Bytes::default();
        let hello = Hello { magic: HELLO_MAGIC, version: 7, features: 0, software: bytes.clone(), user: bytes };
        client.send(hello.clone()).unwrap();
        assert_eq!(read_hello(&mut daemon), Err(HandshakeError::Version { lowest: 7, highest: 7 }));
        let answer = VersionMismatch { lowest: PROTOCOL_VERSION, highest: PROTOCOL_VERSION };
        assert_eq!(client.recv(), Ok(answer.into()));
        client.send(Hello { magic: 1, ..hello }).unwrap();
        assert!(matches!(read_hello(&mut daemon), Err(HandshakeError::Unexpected { .. })));
    }

    #[test]
    fn an_invitation_comes_right_behind_hello() {
        let (mut client, mut daemon) = Link::pair();
        daemon.send(welcome(PROTOCOL_VERSION)).unwrap();
        client_redeem(&mut client, b"ana", "test 1", [7; 16]).unwrap();
        let Ok(First::Hello(hello, Some(redeem))) = read_first(&mut daemon) else { panic!("an invitation") };
        assert_eq!((hello.user.as_slice(), redeem.secret), (&b"ana"[..], [7; 16]));
        assert!(!format!("{redeem:?}").contains('7'));
        // Announced, and not there.
        client.send(super::hello(FEATURE_REDEEM, b"ana", "")).unwrap();
        client.send(Busy { phase: 0 }).unwrap();
        assert!(matches!(read_first(&mut daemon), Err(HandshakeError::Unexpected { .. })));
        client.send(super::hello(FEATURE_REDEEM, b"ana", "")).unwrap();
        let silent = read_first_within(&mut daemon, Duration::from_millis(2));
        assert!(matches!(silent, Err(HandshakeError::Silent { .. })));
    }

    #[test]
    fn who_knows_another_key_asks_how_it_came() {
        let (mut client, mut daemon) = Link::pair();
        daemon.send(Succession { steps: Vec::new() }).unwrap();
        assert_eq!(client_succeed(&mut client, [3; 32]), Ok(Succession { steps: Vec::new() }));
        assert_eq!(read_first(&mut daemon), Ok(First::Succeed(Succeed { from: [3; 32] })));
        daemon.send(welcome(PROTOCOL_VERSION)).unwrap();
        assert!(matches!(client_succeed(&mut client, [3; 32]), Err(HandshakeError::Unexpected { .. })));
        assert!(read_hello(&mut daemon).is_err(), "no Hello");
    }

    #[test]
    fn silence_and_the_end_are_told_apart() {
        let (client, mut daemon) = Link::pair();
        let silent = read_first_within(&mut daemon, Duration::from_millis(2));
        assert_eq!(silent, Err(HandshakeError::Silent { secs: 0 }));
        drop(client);
        assert_eq!(read_hello(&mut daemon), Err(HandshakeError::Link(LinkError::Closed)));
    }
}
