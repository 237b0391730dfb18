//! `rbbackup join`: redeems an invitation. From then on the server knows our key, and we know its.
//!
//! ```text
//! TLS, the server shows the key that the token names  ─▶  our key, durable  ─▶  Hello, Redeem  ─▶  Welcome
//!     ─▶  it is our key there, its key is pinned; refused: nothing is left
//! ```
//! When the answer is lost the key stays beside its place, and the same command again redeems the invitation with it.

use std::path::Path;

use super::known::{Known, Unsettled};
use crate::backup::bytes::escape;
use crate::backup::token::Token;
use crate::engine::client::{ClientOptions, Target, connect_error, dial, handshake_error, software};
use crate::engine::error::{EngineError, ErrorKind};
use crate::net::client::connect;
use crate::net::handshake::client_redeem;
use crate::net::identity::{Identity, PublicKey};

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The server's key, for people to compare.
    pub daemon_key: String,
    /// Ours.
    pub my_key: String,
    /// Node directory that we own there.
    pub node: Vec<u8>,
    /// User directory that we own there.
    pub user: Vec<u8>,
    /// The user name is not the login name: it is kept, and used from now on.
    pub keeps_user: bool,
}

/// Redeems the invitation of `text` at the server of `client`, whose user name is the token's. `login`: our login name.
///
/// # Errors
/// The token is wrong, used or expired, or the server another (12); it cannot be reached (10).
pub fn join(client: &ClientOptions, text: &str, login: Option<&str>) -> Result<Joined, EngineError> {
    let Target::Server { server, bind } = &client.target else {
        return Err(EngineError::new(ErrorKind::Usage, "an invitation is redeemed at a server: '--store' is none"));
    };
    let token = Token::parse(text).map_err(|e| EngineError::new(ErrorKind::NotAllowed, e.to_string()))?;
    let known = Known::new(&client.state_dir, server, &token.user);
    let daemon = PublicKey(token.daemon);
    let (identity, is_new) = key(&known)?;
    let connected = connect(&dial(server, *bind, &identity, Some(daemon)));
    let connected =
        connected.map_err(|error| connect_error(&known, error, "another daemon than the one that invited"))?;
    if is_new {
        known.keep(Unsettled::Joining, &identity)?;
    }
    let mut link = connected.link;
    client.stop.begin(&link.sender)?;
    let redeemed =
        client_redeem(&mut link, token.user.as_bytes(), &software(), token.secret.0).map_err(handshake_error);
    let welcome = match redeemed {
        Ok(welcome) => welcome,
        Err(error) => {
            // A refusal is final; an answer that was lost may have been a yes.
            if is_new && error.kind == ErrorKind::NotAllowed {
                known.forget(Unsettled::Joining);
            }
            return Err(client.stop.or(error));
        }
    };
    if is_new {
        known.settle(Unsettled::Joining)?;
    }
    known.keep_pin(&daemon)?;
    let keeps_user = login != Some(token.user.as_str());
    if keeps_user {
        known.keep_user()?;
    }
    tracing::info!("joined {} as '{}'", escape(server.as_bytes()), escape(token.user.as_bytes()));
    Ok(Joined {
        daemon_key: daemon.fingerprint(),
        my_key: identity.public().fingerprint(),
        node: welcome.node.0,
        user: welcome.user.0,
        keeps_user,
    })
}

/// The key that we have there, else one that an earlier try left, else a new one; and whether it is not ours yet.
fn key(known: &Known) -> Result<(Identity, bool), EngineError> {
    if let Some(identity) = known.present()? {
        return Ok((identity, false));
    }
    if let Some(identity) = known.left(Unsettled::Joining)? {
        return Ok((identity, true));
    }
    let made = Identity::generate().map_err(|e| EngineError::new(ErrorKind::Failed, e.to_string()))?;
    Ok((made, true))
}

/// Reads a token from a file or a pipe: the first line that is not empty.
///
/// # Errors
/// There is none, or it cannot be read.
pub fn read_token(from: impl std::io::BufRead, name: &Path) -> Result<String, EngineError> {
    let shown = escape(name.as_os_str().as_encoded_bytes());
    let mut lines = std::io::BufRead::lines(std::io::Read::take(from, 64 * 1024));
    let line = lines.find(|line| line.as_ref().map_or(true, |line| !line.trim().is_empty()));
    match line {
        Some(Ok(line)) => Ok(line),
        Some(Err(e)) => Err(EngineError::new(ErrorKind::Usage, format!("cannot read the token from {shown}: {e}"))),
        None => Err(EngineError::new(ErrorKind::Usage, format!("there is no token in {shown}"))),
    }
}
