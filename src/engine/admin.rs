//! Verify, stats and prune, the side that asks: a client about its own copy, an administrator about the whole store.
//!
//! An administrator's way leads through `control.sock` to the daemon that serves the store, and where there is none, into
//! a store engine in this process, which then has the store's lock.

use std::path::Path;
use std::sync::Arc;

use super::client::{self, ClientOptions, Guest, Session, software};
use super::error::{EngineError, ErrorKind};
use super::hub::{Hub, HubOptions};
use super::stop::Stop;
use super::wire::unexpected;
use super::{inspect, session};
use crate::backup::relpath::RelPath;
use crate::net::control;
use crate::net::handshake::client_hello;
use crate::net::link::Link;
use crate::net::message::{CopyStats, Message, Of, Prune, Release, Stats, Verify};
use crate::store::layout::{META_NAME, OpenMode, Store, StoreError};
use crate::store::names::CopyName;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub enum Asker<'a> {
    /// A client, about its own copy or, with `--of`, another's.
    Client(&'a ClientOptions),
    /// An administrator of the store in this folder, about all of it; and what ends the wait for an answer.
    Admin(&'a Path, &'a Stop),
}

impl Asker<'_> {
    fn is_admin(self) -> bool {
        matches!(self, Self::Admin(..))
    }

    fn stop(&self) -> &Stop {
        match self {
            Self::Client(options) => &options.stop,
            Self::Admin(_, stop) => stop,
        }
    }

    fn open(&self) -> Result<Session, EngineError> {
        match self {
            Self::Client(options) => client::open_to_read(options),
            Self::Admin(store, stop) => open_admin(store, stop),
        }
    }
}

/// Damage that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamageReport {
    /// Path or object, as text.
    pub what: Vec<u8>,
    /// What is wrong.
    pub why: Vec<u8>,
    /// Snapshots that it touches.
    pub snapshots: u64,
    /// It was put right.
    pub healed: bool,
    /// The next run of its root puts it right.
    pub next_run: bool,
}

/// What a verification looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Which part, from 1; 0: all of it.
    pub part: u32,
    /// Snapshots whose manifests were read.
    pub snapshots: u64,
    /// Plain files that were hashed.
    pub files: u64,
    /// Packs and retired files that were hashed.
    pub objects: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// How many damages there were.
    pub damages: u64,
}

/// Asks whether all is intact: `path` and what is below it, or everything; all of it, or the next of `parts`.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code. Damage is no error here.
pub fn verify(
    asker: Asker<'_>,
    path: Option<&Path>,
    parts: u32,
    told: &mut dyn FnMut(&DamageReport),
) -> Result<VerifyReport, EngineError> {
    let path = path.map(inspect::absolute).transpose()?.unwrap_or_else(RelPath::root);
    let request = Verify { path: path.as_bytes().into(), all: asker.is_admin(), parts };
    converse(asker, request, |link| {
        loop {
            match inspect::answer(link)? {
                Message::Damage(damage) => told(&DamageReport {
                    what: damage.what.0,
                    why: damage.why.0,
                    snapshots: damage.snapshots,
                    healed: damage.outcome == 1,
                    next_run: damage.outcome == 2,
                }),
                Message::Verified(done) => {
                    let (part, snapshots, files) = (done.part, done.snapshots, done.files);
                    let (objects, bytes, damages) = (done.objects, done.bytes, done.damages);
                    return Ok(VerifyReport { part, snapshots, files, objects, bytes, damages });
                }
                other => return Err(unexpected(&other, "verifying").into()),
            }
        }
    })
}

/// One copy, in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsReport {
    /// Its node directory.
    pub node: Vec<u8>,
    /// Its user directory.
    pub user: Vec<u8>,
    /// Its roots.
    pub roots: Vec<RootReport>,
    /// Snapshots, of roots that were forgotten too.
    pub snapshots: u64,
    /// Bytes of all the files in all of them.
    pub logical_bytes: u64,
    /// Bytes of their records and manifests.
    pub snapshot_bytes: u64,
    /// Files that wait to be packed.
    pub retired_files: u64,
    /// Their bytes.
    pub retired_bytes: u64,
    /// Most bytes that it may take; none: no quota.
    pub quota_bytes: Option<u64>,
    /// What counts against a quota.
    pub used_bytes: u64,
    /// Packs.
    pub packs: u64,
    /// Their bytes.
    pub pack_bytes: u64,
    /// Bytes of the content in them.
    pub raw_bytes: u64,
    /// When it was verified last, seconds since 1970; 0: never.
    pub verified_secs: i64,
    /// Damages that were found then.
    pub damages: u64,
}

impl StatsReport {
    /// Bytes of the newest snapshots: the plain copy, but for what lies in two roots.
    pub fn current_bytes(&self) -> u64 {
        self.roots.iter().fold(0, |sum, root| sum.saturating_add(root.bytes))
    }

    /// Bytes that all of it takes.
    pub fn stored_bytes(&self) -> u64 {
        let parts = [self.current_bytes(), self.snapshot_bytes, self.retired_bytes, self.pack_bytes];
        parts.into_iter().fold(0, u64::saturating_add)
    }
}

/// One root, in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootReport {
    /// Absolute.
    pub path: Vec<u8>,
    /// Its snapshots.
    pub snapshots: u64,
    /// Number of the newest.
    pub newest: u64,
    /// Files in that.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the newest complete one was received, seconds since 1970; 0: there is none.
    pub complete_secs: i64,
}

impl From<CopyStats> for StatsReport {
    fn from(copy: CopyStats) -> Self {
        let roots = copy.roots.into_iter().map(|root| RootReport {
            path: inspect::with_slash(&root.root.0),
            snapshots: root.snapshots,
            newest: root.newest,
            files: root.files,
            bytes: root.bytes,
            complete_secs: root.complete_secs,
        });
        Self {
            node: copy.node.0,
            user: copy.user.0,
            roots: roots.collect(),
            snapshots: copy.snapshots,
            logical_bytes: copy.logical_bytes,
            snapshot_bytes: copy.snapshot_bytes,
            retired_files: copy.retired_files,
            retired_bytes: copy.retired_bytes,
            quota_bytes: Some(copy.quota.1).filter(|quota| *quota > 0),
            used_bytes: copy.quota.0,
            packs: copy.packs,
            pack_bytes: copy.pack_bytes,
            raw_bytes: copy.raw_bytes,
            verified_secs: copy.verified_secs,
            damages: copy.damages,
        }
    }
}

/// Asks what is in the store: one's own copy, or all of them.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub fn stats(asker: Asker<'_>) -> Result<Vec<StatsReport>, EngineError> {
    converse(asker, Stats { all: asker.is_admin() }, |link| {
        let mut copies = Vec::new();
        loop {
            match inspect::answer(link)? {
                Message::CopyStats(copy) => copies.push(copy.into()),
                Message::StatsEnd(_) => return Ok(copies),
                other => return Err(unexpected(&other, "asking for statistics").into()),
            }
        }
    })
}

/// What a daemon's pruning came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PruneDone {
    /// Snapshots that there were.
    pub snapshots: u64,
    /// How many of them expired.
    pub expired: u64,
    /// Packs that were removed.
    pub packs_removed: u64,
    /// Packs that were written with what is still needed of those.
    pub packs_written: u64,
    /// Bytes that were given back, less those that were written.
    pub bytes_freed: u64,
    /// Why something was not done, as text.
    pub troubles: Vec<Vec<u8>>,
}

/// Whether a daemon serves this store.
///
/// # Errors
/// It is no store.
pub fn is_served(store: &Path) -> Result<bool, EngineError> {
    Ok(connect(store)?.is_some())
}

/// Whether a daemon serves this store, or is a relay with this state.
pub fn is_served_at_all(store: &Path) -> bool {
    let folder = match Store::open(store, OpenMode::ReadOnly) {
        Ok(store) => store.meta_path(""),
        Err(_) => store.join(META_NAME),
    };
    control::connect(&folder).is_ok_and(|link| link.is_some())
}

/// Asks the daemon that serves this store to prune, by its own configuration. None: there is no daemon.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub fn prune(store: &Path, stop: &Stop) -> Result<Option<PruneDone>, EngineError> {
    let done = ask_daemon(store, stop, |link| {
        link.send(Prune {})?;
        match inspect::answer(link)? {
            Message::Pruned(done) => Ok(done),
            other => Err(unexpected(&other, "pruning").into()),
        }
    })?;
    Ok(done.map(|done| PruneDone {
        snapshots: done.snapshots,
        expired: done.expired,
        packs_removed: done.packs_removed,
        packs_written: done.packs_written,
        bytes_freed: done.bytes_freed,
        troubles: done.troubles.into_iter().map(|trouble| trouble.0).collect(),
    }))
}

/// Asks the daemon that serves this store to let go what a snapshot is kept for. None: there is no daemon.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub fn release(store: &Path, copy: &CopyName, number: u64, stop: &Stop) -> Result<Option<Vec<u64>>, EngineError> {
    ask_daemon(store, stop, |link| {
        link.send(Of { node: copy.node().as_bytes().into(), user: copy.user().as_bytes().into() })?;
        link.send(Release { number })?;
        match inspect::answer(link)? {
            Message::Released(released) => Ok(released.runs),
            other => Err(unexpected(&other, "releasing a snapshot").into()),
        }
    })
}

fn ask_daemon<T>(
    store: &Path,
    stop: &Stop,
    ask: impl FnOnce(&mut Link) -> Result<T, EngineError>,
) -> Result<Option<T>, EngineError> {
    let Some(mut link) = connect(store)? else { return Ok(None) };
    stop.begin(&link.sender)?;
    client_hello(&mut link, b"root", &software()).map_err(client::handshake_error)?;
    let done = ask(&mut link);
    inspect::end(link, None);
    done.map(Some).map_err(|error| stop.or(error))
}

/// The daemon of a store, if one serves it. What is no store is refused, and not made one.
fn connect(store: &Path) -> Result<Option<Link>, EngineError> {
    control_of(store, &Store::open(store, OpenMode::ReadOnly)?.meta_path(""))
}

fn control_of(store: &Path, folder: &Path) -> Result<Option<Link>, EngineError> {
    control::connect(folder).map_err(|e| {
        EngineError::new(ErrorKind::Failed, format!("the daemon of '{}' cannot be reached: {e}", store.display()))
    })
}

fn converse<T>(
    asker: Asker<'_>,
    request: impl Into<Message>,
    mut listen: impl FnMut(&mut Link) -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    let Session { mut link, guest, .. } = asker.open()?;
    let done = inspect::ask(&mut link, request).and_then(|()| listen(&mut link));
    inspect::end(link, guest);
    done.map_err(|error| asker.stop().or(error))
}

/// The way to who serves this store, or to the store itself where nobody does.
pub(super) fn open_admin(store: &Path, stop: &Stop) -> Result<Session, EngineError> {
    let link = connect(store)?;
    begin_admin(link, || Hub::open(store, HubOptions::in_process()), stop)
}

/// As [`open_admin`]; a relay's state will do as well.
pub(super) fn open_any(store: &Path, stop: &Stop) -> Result<Session, EngineError> {
    match Store::open(store, OpenMode::ReadOnly) {
        Err(StoreError::IsRelay { .. }) => {
            let link = control_of(store, &store.join(META_NAME))?;
            begin_admin(link, || Hub::open(store, HubOptions { relay: true, ..HubOptions::in_process() }), stop)
        }
        Err(error) => Err(error.into()),
        Ok(_) => open_admin(store, stop),
    }
}

fn begin_admin(
    served: Option<Link>,
    open: impl FnOnce() -> Result<Hub, EngineError>,
    stop: &Stop,
) -> Result<Session, EngineError> {
    let (mut link, guest) = match served {
        Some(link) => (link, None),
        None => {
            let hub = Arc::new(open()?);
            let (ours, theirs) = Link::pair();
            let guest = Guest::spawn(move || session::serve_admin(&hub, theirs))?;
            (ours, Some(guest))
        }
    };
    stop.begin(&link.sender)?;
    let welcome = client_hello(&mut link, b"root", &software()).map_err(client::handshake_error)?;
    Ok(Session { link, welcome, guest, keys: None })
}
