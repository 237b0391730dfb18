//! One conversation on the store's side: who is it, what does it want, one request after the other.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::client::{now, software};
use super::error::{EngineError, ErrorKind};
use super::fan_out::{self, attend};
use super::hub::{Hub, Who};
use super::{
    forget, inspect_serve, past_serve, prune_serve, purge, receive, recover, relay, restore_serve, stats, verify,
};
use crate::backup::bytes::escape;
use crate::net::handshake::{HandshakeError, read_hello};
use crate::net::link::{Link, LinkError};
use crate::net::listener::Incoming;
use crate::net::message::{HELLO_MAGIC, Hello, Join, Message, Of, PROTOCOL_VERSION, RefusalKind, Refused, Welcome};
use crate::net::peer::PeerInfo;
use crate::store::names::CopyName;
use crate::store::registry::{Identity, Registry, Right, Trust};

/// Most copies that an error names.
const COPIES_SHOWN_MAX: usize = 5;

/// Serves one connection of the daemon.
pub(crate) fn serve(hub: &Arc<Hub>, incoming: Incoming) {
    let Incoming { mut link, peer, .. } = incoming;
    let hello = match read_hello(&mut link) {
        Ok(hello) => hello,
        Err(error) => {
            tracing::info!("{} did not say hello: {error}", peer.addr);
            return;
        }
    };
    match identify(hub, &peer, &hello) {
        Ok(who) => converse(hub, link, &who),
        Err(error) => {
            tracing::warn!("{} was refused: {error}", peer.addr);
            let _ = link.send(Refused::from(&error));
        }
    }
}

/// Serves the client of this process (`--store`).
pub(crate) fn serve_local(hub: &Arc<Hub>, mut link: Link) {
    let served = read_hello(&mut link).map_err(hello_error).and_then(|hello| {
        let identity = Registry::local(hello.user.as_slice(), now())?;
        Ok(Who { identity, address: None, software: escape(hello.software.as_slice()) })
    });
    match served {
        Ok(who) => converse(hub, link, &who),
        Err(error) => {
            let _ = link.send(Refused::from(&error));
        }
    }
}

/// A store that kept what a server passes on, and takes backups itself now, follows nobody any more: the one would replace
/// the other. Without a daemon that is more likely a mistake.
fn keeps_its_own(hub: &Hub, who: &Who) -> Result<(), EngineError> {
    if hub.store.follows()?.is_none() {
        return Ok(());
    }
    let root = escape(hub.store.root().as_os_str().as_encoded_bytes());
    if who.address.is_none() {
        let message = format!(
            "'{root}' keeps what a server passes on to a destination: back up to another folder, or through the server"
        );
        return Err(EngineError::new(ErrorKind::NotAllowed, message));
    }
    hub.store.follow_nobody()?;
    tracing::warn!(
        "'{root}' was a destination's store; it takes backups itself now, and can be no destination any more"
    );
    Ok(())
}

/// Serves who administers the store: through `control.sock`, or in the process that holds the store's lock.
pub(crate) fn serve_admin(hub: &Arc<Hub>, mut link: Link) {
    let served = read_hello(&mut link).map_err(hello_error).and_then(|hello| {
        let identity = Identity { rights: ADMIN_RIGHTS.to_vec(), ..Registry::local(hello.user.as_slice(), now())? };
        Ok(Who { identity, address: None, software: escape(hello.software.as_slice()) })
    });
    match served {
        Ok(who) => converse(hub, link, &who),
        Err(error) => {
            let _ = link.send(Refused::from(&error));
        }
    }
}

/// What an administrator may do in any copy. Backups are its owner's.
const ADMIN_RIGHTS: [Right; 2] = [Right::Restore, Right::Admin];

/// Whoever `who` is, about this copy.
fn of(hub: &Hub, who: &Who, of: &Of) -> Result<Who, EngineError> {
    // Who reads the store's files has no key, and could read them all without us.
    if !who.identity.may(Right::Admin) && who.address.is_some() {
        let message = format!("{} does not have the right to read another's copy (--of): it takes 'admin'", who.name());
        return Err(EngineError::new(ErrorKind::NotAllowed, message));
    }
    let copy = CopyName::new(of.node.as_slice(), of.user.as_slice())
        .map_err(|e| EngineError::new(ErrorKind::Usage, e.to_string()))?;
    let known = hub.store.copies()?;
    if !known.contains(&copy) {
        let shown: Vec<String> = known.iter().take(COPIES_SHOWN_MAX).map(|copy| format!("'{copy}'")).collect();
        let more = if known.len() > shown.len() { " and others" } else { "" };
        let message = format!("there is no copy '{copy}' in this store; it has {}{more}", shown.join(", "));
        return Err(EngineError::new(ErrorKind::Failed, message));
    }
    Ok(Who { identity: Identity { copy, rights: ADMIN_RIGHTS.to_vec(), ..who.identity.clone() }, ..who.clone() })
}

fn hello_error(error: HandshakeError) -> EngineError {
    EngineError::new(ErrorKind::Failed, error.to_string())
}

/// Whose key is this, and may it come in?
fn identify(hub: &Hub, peer: &PeerInfo, hello: &Hello) -> Result<Who, EngineError> {
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
    Ok(Who { identity, address: Some(peer.ip()), software: escape(hello.software.as_slice()) })
}

/// Whether the peer is a program of this machine that could read the store anyway: then it may be a destination.
fn may_receive(peer: &PeerInfo) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    peer.is_loopback() && peer.uid.is_some_and(|uid| uid == 0 || uid == ours)
}

/// Whether a login name is that of a uid; root may use any.
fn user_belongs_to(user: &[u8], uid: u32) -> bool {
    use std::os::unix::ffi::OsStrExt;
    uid == 0 || uzers::get_user_by_uid(uid).is_some_and(|known| known.name().as_bytes() == user)
}

fn converse(hub: &Arc<Hub>, mut link: Link, who: &Who) {
    hub.sessions.fetch_add(1, Ordering::SeqCst);
    let span = tracing::info_span!("session", who = %who.name());
    let _entered = span.enter();
    match requests(hub, &mut link, who) {
        Ok(None) => {}
        Ok(Some(join)) => attend::join(hub, who, link, &join),
        Err(error) => {
            // In the client's own process the client says it, to the same reader.
            match who.address {
                Some(_) => tracing::warn!("{error}"),
                None => tracing::debug!("{error}"),
            }
            let _ = link.send(Refused::from(&error));
        }
    }
    hub.sessions.fetch_sub(1, Ordering::SeqCst);
    hub.bell.ring();
    hub.healing.ring();
    if let Err(error) = recover::sweep(hub, now()) {
        tracing::warn!("unclaimed staging was not cleared: {error}");
    }
}

/// Why somebody may not do what a right is needed for, and the way out.
fn lacks(who: &Who, right: Right) -> EngineError {
    let name = who.name();
    let message = match right {
        Right::Receive => format!(
            "{name} may not be a destination: what all sources store would be shown to it. The server's administrator \
             stops rbbackupd, adds \"receive\" to the rights in the file of node '{}' and user '{}' in \
             .rbbackup/registry, and starts it again",
            who.copy().node(),
            who.copy().user()
        ),
        _ => format!("{name} does not have the right to do this"),
    };
    EngineError::new(ErrorKind::NotAllowed, message)
}

/// Serves one request after the other. Some: a destination joins, and the link is to be given to who called it.
fn requests(hub: &Arc<Hub>, link: &mut Link, me: &Who) -> Result<Option<Join>, EngineError> {
    let mut who = me.clone();
    let place = hub.store.root_dir().stat_self()?;
    link.send(Welcome {
        magic: HELLO_MAGIC,
        version: PROTOCOL_VERSION,
        features: 0,
        software: software().into_bytes().into(),
        store: hub.store.id(),
        node: who.copy().node().as_bytes().into(),
        user: who.copy().user().as_bytes().into(),
        store_place: (place.dev, place.ino),
    })?;
    loop {
        let request = match link.recv() {
            Ok(request) => request,
            Err(LinkError::Closed | LinkError::Lost { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let right = match &request {
            Message::Begin(_) | Message::Forget(_) => Right::Backup,
            Message::Attend(_) | Message::Join(_) => Right::Receive,
            _ => Right::Restore,
        };
        if !who.identity.may(right) {
            return Err(lacks(&who, right));
        }
        if hub.is_relay() {
            relay::check(&request)?;
        }
        let who = &mut who;
        if matches!(request, Message::Begin(_)) {
            keeps_its_own(hub, who)?;
        }
        match request {
            Message::Begin(begin) if begin.dry_run && hub.is_relay() => {
                relay::dry_run(hub, who, link, &begin)?;
                return Ok(None);
            }
            Message::Of(copy) => *who = of(hub, me, &copy)?,
            Message::Begin(begin) if fan_out::concerns(hub, who, &begin) => {
                fan_out::serve(hub, who, link, &begin)?;
                return Ok(None);
            }
            Message::Begin(begin) => drop(receive::serve(hub, who, link, &begin, &receive::Terms::default())?),
            Message::Read(read) => restore_serve::serve(hub, who, link, read)?,
            Message::Snapshots(asked) => past_serve::snapshots(hub, who, link, asked)?,
            Message::History(asked) => past_serve::history(hub, who, link, asked)?,
            Message::Find(asked) => past_serve::find(hub, who, link, asked)?,
            Message::Diff(asked) => past_serve::diff(hub, who, link, asked)?,
            Message::Runs(asked) => past_serve::runs(hub, who, link, asked)?,
            Message::Forget(request) => forget::serve(hub, who, link, request)?,
            Message::Verify(request) => verify::serve(hub, who, link, &request)?,
            Message::Purge(request) => purge::serve(hub, who, link, &request)?,
            Message::Purges(_) => purge::serve_list(hub, who, link)?,
            Message::Prune(_) => prune_serve::prune(hub, who, link)?,
            Message::Release(request) => prune_serve::release(hub, who, link, &request)?,
            Message::Stats(request) => stats::serve(hub, who, link, &request)?,
            Message::Status(_) => inspect_serve::status(hub, who, link)?,
            Message::Attend(first) => {
                attend::serve(hub, who, link, first)?;
                return Ok(None);
            }
            Message::Join(join) => return Ok(Some(join)),
            other => {
                let message = format!("unexpected message {}", other.name()).into_bytes().into();
                link.send(Refused { kind: RefusalKind::Protocol, message })?;
                return Ok(None);
            }
        }
    }
}
