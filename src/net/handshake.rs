//! The first two messages: `Hello` and what answers it.
//!
//! ```text
//! client                     daemon
//! Hello            ->        within HANDSHAKE_SECS of the connection
//!                  <-        Welcome | VersionMismatch | Refused, within SILENCE_SECS
//! ```
//!
//! The daemon's engine sends `Welcome` or `Refused` itself, after it asked the registry; a version that it does not
//! speak is answered here.

use std::time::Duration;

use super::link::{Link, LinkError};
use super::message::{HELLO_MAGIC, Hello, Message, PROTOCOL_VERSION, Refused, VersionMismatch, Welcome};
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

/// Says `Hello` and waits to be welcome.
///
/// # Errors
/// [`HandshakeError`].
pub fn client_hello(link: &mut Link, user: &[u8], software: &str) -> Result<Welcome, HandshakeError> {
    let hello = Hello {
        magic: HELLO_MAGIC,
        version: PROTOCOL_VERSION,
        features: 0,
        software: Bytes::from(software.as_bytes()),
        user: Bytes::from(user),
    };
    // A daemon that is full says so and closes without having listened: its word counts more than our failure.
    let sent = link.send(hello);
    match link.recv_timeout(Duration::from_secs(SILENCE_SECS)) {
        Ok(Some(Message::Welcome(welcome))) => check_welcome(welcome),
        Ok(Some(Message::VersionMismatch(VersionMismatch { lowest, highest }))) => {
            Err(HandshakeError::Version { lowest, highest })
        }
        Ok(Some(Message::Refused(refused))) => Err(HandshakeError::Refused(refused)),
        Ok(Some(other)) => Err(HandshakeError::Unexpected { what: format!("{} instead of Welcome", other.name()) }),
        Ok(None) => Err(HandshakeError::Silent { secs: SILENCE_SECS }),
        Err(error) => Err(sent.err().unwrap_or(error).into()),
    }
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

/// Waits for `Hello`; a version that is not spoken here is answered with `VersionMismatch`.
///
/// # Errors
/// [`HandshakeError`]; the link is of no more use then.
pub fn read_hello(link: &mut Link) -> Result<Hello, HandshakeError> {
    read_hello_within(link, Duration::from_secs(HANDSHAKE_SECS))
}

fn read_hello_within(link: &mut Link, patience: Duration) -> Result<Hello, HandshakeError> {
    let hello = match link.recv_timeout(patience)? {
        Some(Message::Hello(hello)) if hello.magic == HELLO_MAGIC => hello,
        Some(Message::Hello(_)) => {
            return Err(HandshakeError::Unexpected { what: "a Hello of something else".into() });
        }
        Some(other) => {
            return Err(HandshakeError::Unexpected { what: format!("{} instead of Hello", other.name()) });
        }
        None => return Err(HandshakeError::Silent { secs: patience.as_secs() }),
    };
    if hello.version != PROTOCOL_VERSION {
        let _ = link.send(VersionMismatch { lowest: PROTOCOL_VERSION, highest: PROTOCOL_VERSION });
        return Err(HandshakeError::Version { lowest: hello.version, highest: hello.version });
    }
    Ok(hello)
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
    fn silence_and_the_end_are_told_apart() {
        let (client, mut daemon) = Link::pair();
        let silent = read_hello_within(&mut daemon, Duration::from_millis(2));
        assert_eq!(silent, Err(HandshakeError::Silent { secs: 0 }));
        drop(client);
        assert_eq!(read_hello(&mut daemon), Err(HandshakeError::Link(LinkError::Closed)));
    }
}
