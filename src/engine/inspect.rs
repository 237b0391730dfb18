//! `ls`, `status` and `forget`: the client's side of what needs one question and its answer.

use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use super::client::{self, ClientOptions, Guest, Session, Target};
use super::error::{EngineError, ErrorKind};
use super::observer::{Event, Observer, Phase, Summary};
use super::wire::{WireError, entry_from_wire, owners_from_wire, summary_of, unexpected};
use crate::backup::bytes::{Bytes, escape};
use crate::backup::entry::Entry;
use crate::backup::relpath::RelPath;
use crate::backup::when::When;
use crate::net::link::Link;
use crate::net::message::{Forget, Message, Read, Status, WireDestination};

/// One line of `ls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedEntry {
    /// Absolute path.
    pub path: Vec<u8>,
    /// The entry (its own path is relative to the snapshot's root).
    pub entry: Entry,
    /// Owner's name, if the snapshot knows it.
    pub user: Option<Vec<u8>>,
    /// Group's name, if the snapshot knows it.
    pub group: Option<Vec<u8>>,
}

/// Which snapshot answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Snapshot's number.
    pub snapshot: u64,
    /// Its root, absolute.
    pub root: Vec<u8>,
    /// When it was received, seconds since 1970.
    pub time_secs: i64,
    /// Whether it is complete.
    pub complete: bool,
}

/// One root of the asking identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootStatus {
    /// Absolute path.
    pub root: Vec<u8>,
    /// Number of its newest snapshot.
    pub snapshot: u64,
    /// When it was received, seconds since 1970.
    pub time_secs: i64,
    /// Whether it is complete.
    pub complete: bool,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A destination that is connected to the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationStatus {
    /// What people call it.
    pub name: Vec<u8>,
    /// Where it is.
    pub address: Vec<u8>,
    /// Since when, seconds since 1970.
    pub since_secs: i64,
    /// Free bytes of its file system.
    pub space_free: u64,
    /// All bytes of its file system.
    pub space_total: u64,
    /// My snapshots that it does not hold.
    pub behind: u64,
    /// What is running to it, in words; empty when nothing is.
    pub running: Vec<u8>,
}

impl From<WireDestination> for DestinationStatus {
    fn from(told: WireDestination) -> Self {
        Self {
            name: told.name.0,
            address: told.address.0,
            since_secs: told.since_secs,
            space_free: told.space.0,
            space_total: told.space.1,
            behind: told.behind,
            running: told.running.0,
        }
    }
}

/// The daemon, its destinations, my identity, my roots, running backups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusReport {
    /// `HOST:PORT`, or the store's folder.
    pub target: String,
    /// The daemon's program and version.
    pub software: Vec<u8>,
    /// The store's id.
    pub store: [u8; 16],
    /// The daemon's key; none with `--store`.
    pub daemon_key: Option<String>,
    /// My key; none with `--store`.
    pub my_key: Option<String>,
    /// Node directory that I own.
    pub node: Vec<u8>,
    /// User directory that I own.
    pub user: Vec<u8>,
    /// Seconds since the daemon started.
    pub uptime_secs: u64,
    /// Sessions now.
    pub sessions: u32,
    /// My roots.
    pub roots: Vec<RootStatus>,
    /// My running backups, in words.
    pub running: Vec<Vec<u8>>,
    /// Destinations that take my backups.
    pub destinations: Vec<DestinationStatus>,
    /// What left my copy and is kept: files that wait to be packed, and pieces that are.
    pub retired_files: u64,
    /// Their bytes.
    pub retired_bytes: u64,
    /// Free bytes of the store's file system.
    pub space_free: u64,
    /// All bytes of the store's file system.
    pub space_total: u64,
    /// Most bytes that my copy, its history and what is staged may take; none: no quota.
    pub quota_bytes: Option<u64>,
    /// What counts against it; 0 without one.
    pub used_bytes: u64,
    /// The daemon keeps nothing, and only passes on.
    pub relay: bool,
}

/// What a server says to a request, or why it refuses.
pub(super) fn answer(link: &mut Link) -> Result<Message, EngineError> {
    loop {
        match link.recv()? {
            Message::Busy(_) => {}
            Message::Refused(refused) => return Err(refused.into()),
            other => return Ok(other),
        }
    }
}

/// Asks. When the other side has closed already, it may have said why: that somebody is not allowed is not answered
/// before the next question.
pub(super) fn ask(link: &mut Link, request: impl Into<Message>) -> Result<(), EngineError> {
    let Err(error) = link.send(request) else { return Ok(()) };
    while let Ok(message) = link.recv() {
        if let Message::Refused(refused) = message {
            return Err(refused.into());
        }
    }
    Err(error.into())
}

pub(super) fn absolute(path: &Path) -> Result<RelPath, EngineError> {
    RelPath::from_absolute(path.as_os_str().as_bytes()).map_err(|e| EngineError::new(ErrorKind::Usage, e.to_string()))
}

pub(super) fn with_slash(path: &[u8]) -> Vec<u8> {
    [b"/", path].concat()
}

/// Ends a conversation, well or not: a store in this process is closed before the next one opens it.
pub(super) fn end(link: Link, guest: Option<Guest>) {
    link.sender.close();
    drop(link);
    if let Some(guest) = guest {
        guest.finish();
    }
}

/// Lists what the snapshot of that time holds at `path`: a folder's names, or the file itself; without a path, the roots
/// (then no snapshot answers). `listed` says when it has enough.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub fn list(
    client: &ClientOptions,
    path: Option<&Path>,
    when: When,
    listed: &mut dyn FnMut(ListedEntry) -> ControlFlow<()>,
) -> Result<Option<Listing>, EngineError> {
    let path = path.map(absolute).transpose()?;
    let Session { mut link, guest, .. } = client::open_to_read(client)?;
    let listing = list_over(&mut link, path.as_ref(), when, listed);
    end(link, guest);
    listing.map_err(|error| client.stop.or(error))
}

fn list_over(
    link: &mut Link,
    path: Option<&RelPath>,
    when: When,
    listed: &mut dyn FnMut(ListedEntry) -> ControlFlow<()>,
) -> Result<Option<Listing>, EngineError> {
    let asked = path.cloned().unwrap_or_default();
    // Without content `all` means the path itself, even if it is the empty one.
    let all = path.is_some();
    let read = Read { path: asked.as_bytes().into(), shallow: true, content: false, all, at: when.into() };
    ask(link, read)?;
    let granted = match answer(link)? {
        Message::ReadGranted(granted) => granted,
        other => return Err(unexpected(&other, "listing").into()),
    };
    let owners = owners_from_wire(granted.users, granted.groups)?;
    let root = RelPath::new(granted.root.as_slice()).map_err(WireError::from)?;
    let name = |names: &[(u32, Bytes)], id: u32| {
        names.binary_search_by_key(&id, |(number, _)| *number).ok().and_then(|i| Some(names.get(i)?.1.0.clone()))
    };
    'all: loop {
        let tree = match answer(link)? {
            Message::Tree(tree) => tree,
            Message::TreeEnd(_) => break,
            other => return Err(unexpected(&other, "listing").into()),
        };
        for entry in tree.entries {
            let mut entry = entry_from_wire(entry)?;
            if path.is_some() && entry.path.is_root() && entry.is_dir() {
                continue;
            }
            let full = asked.join_path(&entry.path).map_err(WireError::from)?;
            entry.path = if path.is_some() { full.strip_prefix(&root).unwrap_or_default() } else { RelPath::root() };
            let (user, group) = (name(&owners.users, entry.meta.uid), name(&owners.groups, entry.meta.gid));
            if listed(ListedEntry { path: with_slash(full.as_bytes()), entry, user, group }).is_break() {
                break 'all;
            }
        }
    }
    let (snapshot, time_secs, complete) = (granted.snapshot, granted.time_secs, granted.complete);
    Ok(path.map(|_| Listing { snapshot, root: with_slash(root.as_bytes()), time_secs, complete }))
}

/// Asks the daemon how it is.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub fn status(client: &ClientOptions) -> Result<StatusReport, EngineError> {
    let Session { mut link, welcome, guest, keys } = client::open_to_read(client)?;
    let reply = ask(&mut link, Status {}).and_then(|()| match answer(&mut link)? {
        Message::StatusReply(reply) => Ok(reply),
        other => Err(unexpected(&other, "asking for the status").into()),
    });
    end(link, guest);
    let reply = reply.map_err(|error| client.stop.or(error))?;
    let roots = reply.roots.into_iter().map(|(root, snapshot, time_secs, complete, files, bytes)| RootStatus {
        root: with_slash(&root.0),
        snapshot,
        time_secs,
        complete,
        files,
        bytes,
    });
    let (daemon_key, my_key) = keys.unzip();
    Ok(StatusReport {
        target: match &client.target {
            Target::Server { server, .. } => server.clone(),
            Target::Store(store) | Target::Admin(store) => escape(store.as_os_str().as_bytes()),
        },
        software: welcome.software.0,
        store: welcome.store,
        daemon_key,
        my_key,
        node: welcome.node.0,
        user: welcome.user.0,
        uptime_secs: reply.uptime_secs,
        sessions: reply.sessions,
        roots: roots.collect(),
        running: reply.running.into_iter().map(|line| line.0).collect(),
        destinations: reply.destinations.into_iter().map(DestinationStatus::from).collect(),
        retired_files: reply.retired.0,
        retired_bytes: reply.retired.1,
        space_free: reply.space.0,
        space_total: reply.space.1,
        quota_bytes: Some(reply.quota.1).filter(|quota| *quota > 0),
        used_bytes: reply.quota.0,
        relay: reply.relay,
    })
}

/// Takes a root out of the copy; its files go to history.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub fn forget(client: &ClientOptions, root: &Path, observer: &dyn Observer) -> Result<Summary, EngineError> {
    let started = Instant::now();
    let root = absolute(root)?;
    observer.event(&Event::Phase(Phase::Waiting));
    let Session { mut link, guest, .. } = client::open(client)?;
    observer.event(&Event::Phase(Phase::Committing));
    let request = Forget { run: client::random_run_id()?, root: root.as_bytes().into() };
    let receipt = link.send(request).map_err(EngineError::from).and_then(|()| match answer(&mut link)? {
        Message::Committed(receipt) => Ok(receipt),
        other => Err(unexpected(&other, "forgetting a root").into()),
    });
    let counters = link.counters();
    end(link, guest);
    let receipt = receipt.map_err(|error| client.stop.or(error))?;
    Ok(Summary {
        wire_bytes_sent: counters.sent(),
        wire_bytes_received: counters.received(),
        elapsed_secs: started.elapsed().as_secs_f64(),
        ..summary_of(with_slash(root.as_bytes()), &receipt)
    })
}
