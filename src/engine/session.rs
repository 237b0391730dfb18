//! One conversation on the store's side: who is it, what does it want, one request after the other.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::client::{now, software};
use super::error::{EngineError, ErrorKind};
use super::fan_out::{self, attend};
use super::hub::{Hub, Who};
use super::live::{RunEnd, RunName, RunPurpose};
use super::trust::{admit, identities};
use super::wire::WireError;
use super::{
    forget, inspect_serve, past_serve, prune_serve, purge, receive, recover, relay, restore_serve, stats, verify,
};
use crate::backup::bytes::escape;
use crate::backup::relpath::RelPath;
use crate::net::connections::ConnectionId;
use crate::net::handshake::{HandshakeError, read_hello};
use crate::net::link::{Link, LinkError};
use crate::net::listener::Incoming;
use crate::net::message::{
    Begin, HELLO_MAGIC, Join, Message, Of, PROTOCOL_VERSION, RefusalKind, Refused, Verify, Welcome,
};
use crate::store::names::CopyName;
use crate::store::registry::{Identity, Registry, Right};

/// Most copies that an error names.
const COPIES_SHOWN_MAX: usize = 5;

/// Serves one connection of the daemon.
pub(crate) fn serve(hub: &Arc<Hub>, mut incoming: Incoming) {
    let Some(who) = admit::greet(hub, &mut incoming) else { return };
    match incoming.entrance.admit(who.identity.may(Right::Receive)) {
        Ok(()) => converse(hub, incoming.link, &who, Some(incoming.connection)),
        Err(refused) => {
            tracing::info!("{} was refused: {}", who.name(), escape(refused.message.as_slice()));
            let _ = incoming.link.send(refused);
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
        Ok(who) => converse(hub, link, &who, None),
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
        Ok(who) => converse(hub, link, &who, None),
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
        return Err(EngineError::new(ErrorKind::Absent, message));
    }
    Ok(Who { identity: Identity { copy, rights: ADMIN_RIGHTS.to_vec(), ..who.identity.clone() }, ..who.clone() })
}

fn hello_error(error: HandshakeError) -> EngineError {
    EngineError::new(ErrorKind::Failed, error.to_string())
}

/// `connection`: which of the daemon's it is.
fn converse(hub: &Arc<Hub>, mut link: Link, who: &Who, connection: Option<ConnectionId>) {
    hub.sessions.fetch_add(1, Ordering::SeqCst);
    let span = tracing::info_span!("session", who = %who.name());
    let _entered = span.enter();
    match requests(hub, &mut link, who, connection) {
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

/// What a request takes; none: it is for everybody who is known, or whoever serves it looks closer.
fn right_for(request: &Message) -> Option<Right> {
    match request {
        Message::Begin(_) | Message::Forget(_) => Some(Right::Backup),
        Message::Attend(_) | Message::Join(_) => Some(Right::Receive),
        Message::Verify(Verify { all: true, .. }) => None,
        Message::Of(_) | Message::Purge(_) | Message::Purges(_) | Message::Prune(_) | Message::Release(_) => None,
        Message::Status(_) | Message::Stats(_) | Message::Rekey(_) => None,
        _ => Some(Right::Restore),
    }
}

/// Why somebody may not do what a right is needed for, and the way out.
fn lacks(who: &Who, right: Right) -> EngineError {
    let (name, copy) = (who.name(), who.copy());
    let why = match right {
        Right::Receive => "may not be a destination: what all sources store would be shown to it".to_owned(),
        _ => format!("does not have the right '{}'", right.name()),
    };
    let message = format!(
        "{name} {why}. The server's administrator gives it with 'rbbackupd set {copy} --rights …,{}'",
        right.name()
    );
    EngineError::new(ErrorKind::NotAllowed, message)
}

/// A backup, shown to who watches. Broken off: nothing more can be received over the link.
fn backup(hub: &Arc<Hub>, who: &Who, link: &mut Link, begin: &Begin) -> Result<ControlFlow<()>, EngineError> {
    // Nobody is shown what is no path.
    let root = RelPath::new(begin.root.as_slice()).map_err(WireError::from)?;
    let live = hub.live.begin_arriving(RunName {
        id: begin.run.to_string(),
        purpose: RunPurpose::Backup,
        node: who.copy().node().to_owned(),
        user: who.copy().user().to_owned(),
        root: [b"/", root.as_bytes()].concat(),
    });
    let served = if fan_out::concerns(hub, who, begin) {
        fan_out::serve(hub, who, link, begin, &live).map(|()| ControlFlow::Break(()))
    } else {
        let terms = receive::Terms { observer: Some(live.below_root()), ..receive::Terms::default() };
        receive::serve(hub, who, link, begin, &terms).map(|receipt| {
            live.run().came_to(RunEnd::from(&receipt));
            ControlFlow::Continue(())
        })
    };
    live.ends(served.as_ref().err());
    served
}

/// Serves one request after the other. Some: a destination joins, and the link is to be given to who called it.
fn requests(
    hub: &Arc<Hub>,
    link: &mut Link,
    me: &Who,
    connection: Option<ConnectionId>,
) -> Result<Option<Join>, EngineError> {
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
        let Some(request) = identities::serve(hub, &who, link, request)? else { continue };
        if let Some(right) = right_for(&request).filter(|right| !who.identity.may(*right)) {
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
            Message::Begin(begin) if begin.dry_run => {
                receive::serve(hub, who, link, &begin, &receive::Terms::default())?;
            }
            Message::Begin(begin) => {
                if backup(hub, who, link, &begin)?.is_break() {
                    return Ok(None);
                }
            }
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
            Message::Rekey(request) => identities::rekey(hub, me, link, connection, &request)?,
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
