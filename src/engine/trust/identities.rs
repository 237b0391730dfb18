//! The daemon's answers to who administers the store on its own machine: invitations, users, rights, revoking, its key;
//! and to a client that takes another key.
//!
//! These come through `control.sock`, or from a process that holds the store's lock. The right 'admin' of a client on the
//! network is not enough: whoever steals such a key could let himself in for good.

use super::{REKEY, rights_from_bits, rights_to_bits};
use crate::backup::bytes::Bytes;
use crate::backup::limits::BATCH_COUNT_MAX;
use crate::engine::client::now;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::hub::{Hub, Who};
use crate::net::connections::ConnectionId;
use crate::net::identity::PublicKey;
use crate::net::link::Link;
use crate::net::message::{
    Change, DaemonRekeyed, Invite, Invited, Message, Rekey, Rekeyed, Revoke, Settled, Uninvite, UserList,
    WireInvitation, WireUser,
};
use crate::store::invitations::{Invitation, InvitationId};
use crate::store::names::CopyName;
use crate::store::registry::{Grant, Member, RegistryError, Right};

/// Longest life of an invitation: a year.
const VALID_SECS_MAX: u64 = 366 * 24 * 3600;

/// Answers what is about identities; any other message is given back.
///
/// # Errors
/// Not allowed, the request is not possible, the disk's, or the asker has gone.
pub(in crate::engine) fn serve(
    hub: &Hub,
    who: &Who,
    link: &Link,
    request: Message,
) -> Result<Option<Message>, EngineError> {
    let is_ours = matches!(
        request,
        Message::Invite(_)
            | Message::Users(_)
            | Message::Revoke(_)
            | Message::Uninvite(_)
            | Message::Change(_)
            | Message::RekeyDaemon(_)
    );
    if !is_ours {
        return Ok(Some(request));
    }
    if who.address.is_some() || !who.identity.may(Right::Admin) {
        let message = format!(
            "{} may not decide who comes in: that is for who administers the store on its own machine ('rbbackupd …')",
            who.name()
        );
        return Err(EngineError::new(ErrorKind::NotAllowed, message));
    }
    match request {
        Message::Invite(invite) => link.send(invited(hub, &invite)?)?,
        Message::Users(_) => users(hub, link)?,
        Message::Revoke(request) => link.send(revoke(hub, &request)?)?,
        Message::Uninvite(request) => link.send(uninvite(hub, &request)?)?,
        Message::Change(request) => link.send(change(hub, &request)?)?,
        _ => {
            let key = hub.keys.exchange(&hub.store)?;
            tracing::warn!("the daemon's key is {key} from now on");
            link.send(DaemonRekeyed { key: key.0 })?;
        }
    }
    Ok(None)
}

fn invited(hub: &Hub, invite: &Invite) -> Result<Invited, EngineError> {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes.as_slice()).into_owned();
    let user = text(&invite.user);
    let node = (!invite.node.0.is_empty()).then(|| text(&invite.node));
    // Names that cannot be are refused to who makes the invitation, not to who redeems it.
    let named = match &node {
        Some(node) => CopyName::new(node.as_bytes(), user.as_bytes()),
        None => CopyName::local(user.as_bytes()),
    };
    let copy = named.map_err(|e| usage(e.to_string()))?;
    let owned = hub.registry.list().into_iter().any(|member| member.identity.copy == copy);
    match (&node, invite.replace) {
        (None, true) => {
            let message = "whose key is to be replaced? Say it with --node NODE: 'rbbackupd users' lists them";
            return Err(usage(message.to_owned()));
        }
        (Some(_), true) if !owned => return Err(not_known(copy)),
        (Some(node), false) if owned => {
            return Err(usage(format!(
                "'{copy}' has an owner; to give it to another key, say --replace-key: rbbackupd invite {user} --node {node} --replace-key"
            )));
        }
        _ => {}
    }
    let valid_secs = invite.valid_secs.clamp(1, VALID_SECS_MAX);
    let grant =
        Grant { user, node, rights: rights(invite.rights)?, quota_bytes: invite.quota_bytes, replace: invite.replace };
    let (invitation, secret) = hub.invitations.create(grant, now(), valid_secs)?;
    tracing::info!("invitation {} was made for the user name '{}'", invitation.id, invitation.grant.user);
    Ok(Invited {
        id: invitation.id.0,
        secret: secret.0,
        daemon: hub.keys.public(&hub.store)?.0,
        expires_secs: invitation.expires.secs,
    })
}

fn users(hub: &Hub, link: &Link) -> Result<(), EngineError> {
    let copies = hub.store.copies()?;
    let users: Vec<WireUser> =
        hub.registry.list().iter().map(|member| user(hub, &copies, member)).collect::<Result<_, _>>()?;
    let now = now();
    let open = hub.invitations.list()?.into_iter().filter(|invitation| invitation.is_open(now));
    let invitations: Vec<WireInvitation> = open.map(invitation).collect();
    let (mut users, mut invitations) = (users.chunks(BATCH_COUNT_MAX), invitations.chunks(BATCH_COUNT_MAX));
    loop {
        let (some, others) = (users.next().unwrap_or_default(), invitations.next().unwrap_or_default());
        let more = users.len() + invitations.len() > 0;
        link.send(UserList { users: some.to_vec(), invitations: others.to_vec(), more })?;
        if !more {
            return Ok(());
        }
    }
}

fn user(hub: &Hub, copies: &[CopyName], member: &Member) -> Result<WireUser, EngineError> {
    let identity = &member.identity;
    // A copy that nobody backed up to has no snapshots, and gets none by being asked for.
    let newest = match copies.binary_search(&identity.copy) {
        Ok(_) => hub.store.snapshots(&identity.copy)?.roots()?.iter().map(|record| record.received.secs).max(),
        Err(_) => None,
    };
    let key = identity.key.unwrap_or_default();
    Ok(WireUser {
        node: identity.copy.node().as_bytes().into(),
        user: identity.copy.user().as_bytes().into(),
        key,
        rights: rights_to_bits(&identity.rights),
        quota_bytes: identity.quota_bytes,
        created_secs: identity.created.secs,
        revoked_secs: member.revoked.map(|revoked| revoked.secs),
        newest_secs: newest.unwrap_or(0),
        connections: u32::try_from(hub.connections.count(&PublicKey(key))).unwrap_or(u32::MAX),
    })
}

fn invitation(invitation: Invitation) -> WireInvitation {
    let grant = invitation.grant;
    WireInvitation {
        id: invitation.id.0,
        user: grant.user.into_bytes().into(),
        node: grant.node.unwrap_or_default().into_bytes().into(),
        rights: grant.rights.as_deref().map(rights_to_bits),
        quota_bytes: grant.quota_bytes,
        replace: grant.replace,
        expires_secs: invitation.expires.secs,
    }
}

fn revoke(hub: &Hub, request: &Revoke) -> Result<Settled, EngineError> {
    let copy = copy(&request.node, &request.user)?;
    let key = hub.registry.revoke(&copy, now()).map_err(known_or)?;
    let connections = hub.connections.end(&PublicKey(key));
    tracing::warn!("the key of {copy} was revoked; {connections} connections ended");
    Ok(settled(connections))
}

fn uninvite(hub: &Hub, request: &Uninvite) -> Result<Settled, EngineError> {
    let id = InvitationId(request.id);
    if !hub.invitations.remove(id)? {
        return Err(usage(format!("there is no invitation {id}; 'rbbackupd users' lists them")));
    }
    tracing::info!("invitation {id} was taken back");
    Ok(settled(0))
}

fn change(hub: &Hub, request: &Change) -> Result<Settled, EngineError> {
    let copy = copy(&request.node, &request.user)?;
    let rights = rights(request.rights)?;
    let identity = hub.registry.change(&copy, rights.as_deref(), request.quota_bytes).map_err(known_or)?;
    tracing::info!("{copy} has other rights, or another quota, from now on");
    Ok(settled(hub.connections.end(&PublicKey(identity.key.unwrap_or_default()))))
}

/// A client takes another key; its other connections end.
///
/// # Errors
/// Whoever asks does not hold the new key, the old one is not valid any more, or the disk's.
pub(in crate::engine) fn rekey(
    hub: &Hub,
    who: &Who,
    link: &Link,
    connection: Option<ConnectionId>,
    request: &Rekey,
) -> Result<(), EngineError> {
    let refuse = |message: &str| Err(EngineError::new(ErrorKind::NotAllowed, message));
    let (Some(old), Some(connection)) = (who.identity.key, connection) else {
        return refuse("who uses the store directly has no key to exchange");
    };
    let (daemon, new) = (hub.keys.public(&hub.store)?, PublicKey(request.key));
    if !new.has_signed(REKEY, &[&daemon.0, &old, &new.0], request.signature.as_slice()) {
        return refuse("the new key has not signed for itself");
    }
    hub.registry.rekey(old, who.copy().user(), new.0, now())?;
    tracing::info!("the key of {} is {new} from now on", who.copy());
    hub.connections.end_others(&PublicKey(old), connection);
    Ok(link.send(Rekeyed {})?)
}

fn copy(node: &Bytes, user: &Bytes) -> Result<CopyName, EngineError> {
    CopyName::new(node.as_slice(), user.as_slice()).map_err(|e| usage(e.to_string()))
}

fn rights(bits: Option<u8>) -> Result<Option<Vec<Right>>, EngineError> {
    match bits.map(rights_from_bits) {
        Some(None) => Err(usage("there is no such right".to_owned())),
        rights => Ok(rights.flatten()),
    }
}

fn settled(connections: usize) -> Settled {
    Settled { connections: u32::try_from(connections).unwrap_or(u32::MAX) }
}

/// To an administrator a directory that nobody owns is a slip of the hand.
fn known_or(error: RegistryError) -> EngineError {
    match error {
        RegistryError::NotKnown { copy } => not_known(copy),
        other => other.into(),
    }
}

fn not_known(copy: CopyName) -> EngineError {
    usage(RegistryError::NotKnown { copy }.to_string())
}

fn usage(message: String) -> EngineError {
    EngineError::new(ErrorKind::Usage, message)
}
