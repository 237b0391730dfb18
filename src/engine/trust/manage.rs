//! What an administrator asks about identities: of the daemon that serves the store, or, where none runs, of the store
//! itself. A relay's state is as good.

use std::path::Path;

use super::{rights_from_bits, rights_to_bits};
use crate::backup::token::{Secret, Token};
use crate::engine::admin;
use crate::engine::client::Session;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::inspect;
use crate::engine::stop::Stop;
use crate::engine::wire::unexpected;
use crate::net::identity::PublicKey;
use crate::net::link::Link;
use crate::net::message::{Change, Invite, Message, RekeyDaemon, Revoke, Uninvite, Users, WireInvitation, WireUser};
use crate::store::invitations::InvitationId;
use crate::store::names::CopyName;
use crate::store::registry::Right;

/// Whom to invite, and to what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InviteOptions {
    /// User name.
    pub user: String,
    /// Node; none: the address from which it is redeemed.
    pub node: Option<String>,
    /// None: the usual, or those of the key that is replaced.
    pub rights: Option<Vec<Right>>,
    /// None: no quota, or that of the key that is replaced.
    pub quota_bytes: Option<u64>,
    /// How long it can be redeemed.
    pub valid_secs: u64,
    /// The key that redeems it takes the place of the directory's present one.
    pub replace_key: bool,
}

/// An invitation, as it is handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handed {
    /// Names it.
    pub id: InvitationId,
    /// The token's text. Whoever has it can redeem it.
    pub token: String,
    /// The daemon's key, for people to compare.
    pub daemon_key: String,
    /// When it ends, seconds since 1970.
    pub expires_secs: i64,
}

/// Makes an invitation.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub fn invite(store: &Path, options: &InviteOptions, stop: &Stop) -> Result<Handed, EngineError> {
    let request = Invite {
        user: options.user.as_bytes().into(),
        node: options.node.as_deref().unwrap_or_default().as_bytes().into(),
        rights: options.rights.as_deref().map(rights_to_bits),
        quota_bytes: options.quota_bytes,
        valid_secs: options.valid_secs,
        replace: options.replace_key,
    };
    match ask(store, request, stop)? {
        Message::Invited(invited) => {
            let secret = Secret(invited.secret);
            let token = Token { daemon: invited.daemon, secret, user: options.user.clone() }.to_text();
            let daemon_key = PublicKey(invited.daemon).fingerprint();
            Ok(Handed { id: InvitationId(invited.id), token, daemon_key, expires_secs: invited.expires_secs })
        }
        other => Err(unexpected(&other, "making an invitation").into()),
    }
}

/// An identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserReport {
    /// Its node directory.
    pub node: Vec<u8>,
    /// Its user directory.
    pub user: Vec<u8>,
    /// Its key's fingerprint.
    pub key: String,
    /// What it may do.
    pub rights: Vec<Right>,
    /// Most bytes that it may take.
    pub quota_bytes: Option<u64>,
    /// First contact, seconds since 1970.
    pub created_secs: i64,
    /// Since when its key opens nothing.
    pub revoked_secs: Option<i64>,
    /// When its newest backup was received, seconds since 1970; 0: there is none.
    pub newest_secs: i64,
    /// Its connections now.
    pub connections: u32,
}

/// An invitation that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvitationReport {
    /// Names it.
    pub id: InvitationId,
    /// User name.
    pub user: Vec<u8>,
    /// Node; empty: the address from which it is redeemed.
    pub node: Vec<u8>,
    /// None: the usual, or as before.
    pub rights: Option<Vec<Right>>,
    /// None: no quota, or as before.
    pub quota_bytes: Option<u64>,
    /// It replaces a key.
    pub replace: bool,
    /// When it ends, seconds since 1970.
    pub expires_secs: i64,
}

/// Who is known, and who is invited.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub fn users(store: &Path, stop: &Stop) -> Result<(Vec<UserReport>, Vec<InvitationReport>), EngineError> {
    converse(store, Users {}, stop, |link| {
        let (mut users, mut invitations) = (Vec::new(), Vec::new());
        loop {
            match inspect::answer(link)? {
                Message::UserList(list) => {
                    users.extend(list.users.into_iter().map(user));
                    invitations.extend(list.invitations.into_iter().map(invitation));
                    if !list.more {
                        return Ok((users, invitations));
                    }
                }
                other => return Err(unexpected(&other, "asking who is known").into()),
            }
        }
    })
}

fn user(told: WireUser) -> UserReport {
    UserReport {
        node: told.node.0,
        user: told.user.0,
        key: PublicKey(told.key).fingerprint(),
        rights: rights_from_bits(told.rights).unwrap_or_default(),
        quota_bytes: told.quota_bytes,
        created_secs: told.created_secs,
        revoked_secs: told.revoked_secs,
        newest_secs: told.newest_secs,
        connections: told.connections,
    }
}

fn invitation(told: WireInvitation) -> InvitationReport {
    InvitationReport {
        id: InvitationId(told.id),
        user: told.user.0,
        node: told.node.0,
        rights: told.rights.and_then(rights_from_bits),
        quota_bytes: told.quota_bytes,
        replace: told.replace,
        expires_secs: told.expires_secs,
    }
}

/// Whom to shut out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// The key of this identity.
    Identity(CopyName),
    /// Whoever has this invitation.
    Invitation(InvitationId),
}

/// Shuts somebody out; how many connections ended.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub fn revoke(store: &Path, whom: &Revoked, stop: &Stop) -> Result<u32, EngineError> {
    let request = match whom {
        Revoked::Identity(copy) => {
            Message::from(Revoke { node: copy.node().as_bytes().into(), user: copy.user().as_bytes().into() })
        }
        Revoked::Invitation(id) => Uninvite { id: id.0 }.into(),
    };
    settled(ask(store, request, stop)?)
}

/// Gives other rights, or another quota; how many connections ended.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub fn change(
    store: &Path,
    copy: &CopyName,
    rights: Option<&[Right]>,
    quota_bytes: Option<Option<u64>>,
    stop: &Stop,
) -> Result<u32, EngineError> {
    let (node, user) = (copy.node().as_bytes().into(), copy.user().as_bytes().into());
    settled(ask(store, Change { node, user, rights: rights.map(rights_to_bits), quota_bytes }, stop)?)
}

/// Exchanges the daemon's key; the new one's fingerprint.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub fn rekey_daemon(store: &Path, stop: &Stop) -> Result<String, EngineError> {
    match ask(store, RekeyDaemon {}, stop)? {
        Message::DaemonRekeyed(rekeyed) => Ok(PublicKey(rekeyed.key).fingerprint()),
        other => Err(unexpected(&other, "exchanging the daemon's key").into()),
    }
}

fn settled(answer: Message) -> Result<u32, EngineError> {
    match answer {
        Message::Settled(settled) => Ok(settled.connections),
        other => Err(EngineError::new(ErrorKind::Failed, unexpected(&other, "changing who comes in").to_string())),
    }
}

fn ask(store: &Path, request: impl Into<Message>, stop: &Stop) -> Result<Message, EngineError> {
    converse(store, request, stop, inspect::answer)
}

fn converse<T>(
    store: &Path,
    request: impl Into<Message>,
    stop: &Stop,
    listen: impl FnOnce(&mut Link) -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    let Session { mut link, guest, .. } = admin::open_any(store, stop)?;
    let done = inspect::ask(&mut link, request).and_then(|()| listen(&mut link));
    inspect::end(link, guest);
    done.map_err(|error| stop.or(error))
}
