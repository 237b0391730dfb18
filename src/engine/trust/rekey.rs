//! `rbbackup rekey`: another key for ourselves at a server, which forgets the old one.
//!
//! ```text
//! key.next, durable  ─▶  Rekey, signed by the new key, sent under the old one  ─▶  Rekeyed  ─▶  key.next becomes key
//! ```
//! When the answer is lost nobody knows which key the server has. Then `settle` shows it the new one, the next time that
//! it refuses the old.

use super::REKEY;
use super::known::{Known, Unsettled};
use crate::engine::client::{ClientOptions, Target, dial, handshake_error, open, software};
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::inspect;
use crate::engine::wire::unexpected;
use crate::net::client::connect;
use crate::net::handshake::client_hello;
use crate::net::identity::{Identity, PublicKey};
use crate::net::message::{Message, Rekey};

/// Exchanges our key; the new one's fingerprint.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code; the old key goes on then, unless only the answer was lost.
pub fn rekey(client: &ClientOptions) -> Result<String, EngineError> {
    let Target::Server { server, .. } = &client.target else {
        return Err(EngineError::new(ErrorKind::Usage, "who uses a store directly has no key there"));
    };
    let mut session = open(client)?;
    let known = Known::new(&client.state_dir, server, &client.user);
    let (old, daemon) = (known.identity()?, known.pin()?);
    let daemon = daemon.ok_or_else(|| EngineError::new(ErrorKind::Failed, "the server's key is not known"))?;
    let new = Identity::generate().map_err(|e| EngineError::new(ErrorKind::Failed, e.to_string()))?;
    let key = new.public();
    known.keep(Unsettled::Next, &new)?;
    let signature = new.sign(REKEY, &[&daemon.0, &old.public().0, &key.0]);
    let answered = inspect::ask(&mut session.link, Rekey { key: key.0, signature: signature.into() })
        .and_then(|()| inspect::answer(&mut session.link));
    match answered {
        Ok(Message::Rekeyed(_)) => {
            known.settle(Unsettled::Next)?;
            Ok(key.fingerprint())
        }
        Ok(other) => Err(unexpected(&other, "exchanging a key").into()),
        Err(error) => {
            if error.kind != ErrorKind::Unreachable {
                known.forget(Unsettled::Next);
            }
            Err(client.stop.or(error))
        }
    }
}

/// After a refusal: whether an exchange whose answer was lost is the reason. Then the new key is ours from now on.
///
/// # Errors
/// The server cannot be reached, or a key cannot be read.
pub(in crate::engine) fn settle(
    client: &ClientOptions,
    known: &Known,
    expected: PublicKey,
) -> Result<bool, EngineError> {
    let (Target::Server { server, bind }, Some(next)) = (&client.target, known.left(Unsettled::Next)?) else {
        return Ok(false);
    };
    let connected = connect(&dial(server, *bind, &next, Some(expected)));
    let Ok(connected) = connected else { return Ok(false) };
    let mut link = connected.link;
    match client_hello(&mut link, client.user.as_bytes(), &software()).map_err(handshake_error) {
        Ok(_) => {
            known.settle(Unsettled::Next)?;
            tracing::info!("the key that was made by an earlier 'rekey' is in force at {server}");
            Ok(true)
        }
        Err(_) => Ok(false),
    }
}
