//! A peer's first words on the daemon's side: whose key is it, and may it come in?
//!
//! ```text
//! Succeed          answered with what everybody may know; the conversation is over
//! Hello + Redeem   the invitation's secret and the key that came with TLS: from now on they belong together
//! Hello            a key that is known; else, on this machine, whoever the kernel says it is; else nobody
//! ```

use std::os::unix::ffi::OsStrExt;

use super::keys;
use crate::backup::bytes::escape;
use crate::backup::token::Secret;
use crate::engine::client::now;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::hub::{Hub, Who};
use crate::engine::login_names;
use crate::net::connections::ConnectionId;
use crate::net::handshake::{First, read_first};
use crate::net::identity::PublicKey;
use crate::net::listener::Incoming;
use crate::net::message::{Hello, Redeem, Refused};
use crate::net::peer::PeerInfo;
use crate::store::invitations::InvitationError;
use crate::store::registry::{Grant, Identity, RegistryError, Right, Trust};

/// Whose connection it is; none: there is nothing more to say to it.
pub(in crate::engine) fn greet(hub: &Hub, incoming: &mut Incoming) -> Option<Who> {
    let Incoming { link, peer, connection, .. } = incoming;
    let (hello, redeem) = match read_first(link) {
        Ok(First::Hello(hello, redeem)) => (hello, redeem),
        Ok(First::Succeed(succeed)) => {
            let _ = keys::tell(hub, link, &succeed).map_err(|error| tracing::info!("{}: {error}", peer.addr));
            return None;
        }
        Err(error) => {
            tracing::info!("{} did not say hello: {error}", peer.addr);
            return None;
        }
    };
    let identity = match redeem {
        Some(redeem) => invited(hub, peer, *connection, &hello, &redeem),
        None => known(hub, peer, &hello),
    };
    match identity {
        Ok(identity) => Some(Who { identity, address: Some(peer.ip()), software: escape(hello.software.as_slice()) }),
        Err(error) => {
            tracing::warn!("{} was refused: {error}", peer.addr);
            let _ = link.send(Refused::from(&error));
            None
        }
    }
}

/// A key that is known, or that the place it comes from vouches for.
fn known(hub: &Hub, peer: &PeerInfo, hello: &Hello) -> Result<Identity, EngineError> {
    let user = hello.user.as_slice();
    let trust = if hub.options.trust_first_use {
        Trust::FirstUse
    } else if peer.is_loopback() {
        Trust::LoopbackUid(peer.uid.is_some_and(|uid| user_belongs_to(user, uid)))
    } else {
        Trust::No
    };
    let mut identity = hub.registry.resolve(peer.key.0, peer.ip(), user, trust, now())?;
    if may_receive(peer) {
        identity.rights.push(Right::Receive);
    }
    Ok(identity)
}

/// A key that comes with an invitation's secret. Who was let in there before has to come again.
fn invited(
    hub: &Hub,
    peer: &PeerInfo,
    connection: ConnectionId,
    hello: &Hello,
    redeem: &Redeem,
) -> Result<Identity, EngineError> {
    let (key, ip, now) = (peer.key.0, peer.ip(), now());
    let user = String::from_utf8_lossy(hello.user.as_slice());
    let allow = |grant: &Grant| Ok::<_, EngineError>(hub.registry.foresee(key, ip, grant, now).map(drop)?);
    let grant = hub.invitations.redeem(Secret(redeem.secret), &user, key, now, allow)?;
    let before = hub.registry.list();
    let identity = hub.registry.admit(key, ip, &grant, now)?;
    let earlier = before.into_iter().map(|member| member.identity).find(|earlier| earlier.copy == identity.copy);
    if let Some(key) = earlier.filter(|earlier| *earlier != identity).and_then(|earlier| earlier.key) {
        hub.connections.end_others(&PublicKey(key), connection);
    }
    tracing::info!("{}: the key {} redeemed an invitation, and owns {} now", peer.addr, peer.key, identity.copy);
    Ok(identity)
}

/// Whether the peer is a program of this machine that could read the store anyway: then it may be a destination.
fn may_receive(peer: &PeerInfo) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    peer.is_loopback() && peer.uid.is_some_and(|uid| uid == 0 || uid == ours)
}

/// Whether a login name is that of a uid; root may use any.
fn user_belongs_to(user: &[u8], uid: u32) -> bool {
    uid == 0 || login_names::of(uid).is_some_and(|name| name.as_bytes() == user)
}

impl From<InvitationError> for EngineError {
    fn from(error: InvitationError) -> Self {
        let kind = match error {
            InvitationError::NotKnown
            | InvitationError::Redeemed
            | InvitationError::Expired
            | InvitationError::OtherUser { .. } => ErrorKind::NotAllowed,
            _ => ErrorKind::Failed,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<RegistryError> for EngineError {
    fn from(error: RegistryError) -> Self {
        let kind = match error {
            RegistryError::Damaged { .. } | RegistryError::Io { .. } => ErrorKind::Failed,
            _ => ErrorKind::NotAllowed,
        };
        Self::new(kind, error.to_string())
    }
}
