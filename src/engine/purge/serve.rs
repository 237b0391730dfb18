//! Takes a path out of history.
//!
//! ```text
//! look: what goes  ─▶  record, durable  ─▶  staging of the copy goes  ─▶  pack what is retired  ─▶  sweep
//! ```
//!
//! From the record on no reader finds the path, and what only it named is needed by nobody: killed anywhere behind it, the
//! next pruning (or the same request again) does the rest. All of it under a lease on the whole copy, so that no run promises
//! content that is about to go or commits a manifest beside it, and under `Hub::housekeeping`: nothing else packs or sweeps.
//! The housekeeping comes first, for who has it may be waiting until no lease is held.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read as _;
use std::sync::{Arc, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use crate::backup::digest::Digest;
use crate::backup::lease::Holder;
use crate::backup::limits::KEEPALIVE_SECS;
use crate::backup::purge::PurgeRecord;
use crate::backup::relpath::RelPath;
use crate::engine::client::now;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::hub::{Hub, Who};
use crate::engine::past_serve::parts::Parts;
use crate::engine::upkeep::Pace;
use crate::engine::wire::WireError;
use crate::engine::{pack, prune};
use crate::net::link::{Link, LinkSender};
use crate::net::message::{Busy, Purge, PurgeList, Purged, PurgesList, WirePurge, WirePurged};
use crate::store::failpoint::failpoint;
use crate::store::leases::{LeaseGuard, LeaseRequest};
use crate::store::names::CopyName;
use crate::store::registry::Right;
use crate::store::snapshots::{SnapshotError, Snapshots};
use crate::tree::safe_dir::SafeDir;

/// Snapshots whose manifests are read in one pass: each may have a file open.
const SNAPSHOTS_AT_ONCE: usize = 32;
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// The longest text that says whose a staging folder is; longer than any path.
const OWNER_BYTES_MAX: u64 = 64 * 1024;
/// What it is at, for `Busy`.
const PHASE: u8 = 2;

/// Who reads the store's files has no key, and could remove them all without us.
fn check(who: &Who) -> Result<(), EngineError> {
    if who.identity.may(Right::Admin) || who.address.is_none() {
        return Ok(());
    }
    let message = format!("{} does not have the right to purge: it takes 'admin'", who.name());
    Err(EngineError::new(ErrorKind::NotAllowed, message))
}

/// Tells what was purged.
///
/// # Errors
/// Not allowed, the records cannot be read, or the client has gone.
pub(in crate::engine) fn serve_list(hub: &Hub, who: &Who, link: &Link) -> Result<(), EngineError> {
    check(who)?;
    let mut purges = hub.store.snapshots(who.copy())?.purges()?;
    purges.sort_by_key(|purge| purge.time);
    let known = hub.registry.list();
    let mut parts = Parts::new(link, |purges, more| PurgesList { purges, more }.into());
    for purge in purges {
        let key = Some(purge.client.key).filter(|key| *key != [0; 32]);
        let owner = key.and_then(|key| known.iter().find(|member| member.has_had(key)));
        let by = match owner {
            Some(member) => format!("{} at {}", member.identity.copy, purge.client.address),
            None if key.is_none() => "who administers the store".to_owned(),
            None => format!("a key that is not known any more, at {}", purge.client.address),
        };
        let path = purge.path.as_bytes();
        let bytes = path.len() + by.len() + 64;
        let wire = WirePurge {
            path: path.into(),
            time_secs: purge.time.secs,
            until: purge.until,
            by: by.into_bytes().into(),
            paths: purge.paths,
            snapshots: purge.snapshots,
            contents: purge.contents,
            bytes: purge.bytes,
        };
        parts.push(wire, bytes)?;
    }
    parts.finish()
}

/// Serves the request.
///
/// # Errors
/// Not allowed, the path is in a newest backup or in none, the copy is locked, or the store fails.
pub(in crate::engine) fn serve(hub: &Hub, who: &Who, link: &Link, request: &Purge) -> Result<(), EngineError> {
    check(who)?;
    let path = RelPath::new(request.path.as_slice()).map_err(WireError::from)?;
    let snapshots = hub.store.snapshots(who.copy())?;
    if let Some((_, why)) = snapshots.damaged()?.first() {
        let message = format!("nothing is purged, for what other paths need is not known: {why}");
        return Err(EngineError::new(ErrorKind::Failed, message));
    }
    let busy = Beat::new(&link.sender);
    if !request.really {
        let found = look(&snapshots, &path)?;
        found.tell(link)?;
        return Ok(link.send(found.end(false))?);
    }
    let _alone = housekeeping(hub, &busy)?;
    let _lease = lease(hub, who, request)?;
    hub.make_ready(who.copy())?;
    let found = look(&snapshots, &path)?;
    found.tell(link)?;
    if !found.paths.is_empty() {
        let until = snapshots.all()?.last().map_or(0, |record| record.number);
        let Purged { paths, snapshots: touched, contents, bytes, .. } = found.end(true);
        let (time, client) = (hub.now(), who.info());
        let record =
            PurgeRecord { run: request.run, path, until, time, client, paths, snapshots: touched, contents, bytes };
        snapshots.purge(&record)?;
        let (name, by) = (record.path.to_string(), who.name());
        tracing::warn!("'/{name}' of {} was purged by {by}: {paths} paths, {bytes} bytes", who.copy());
        failpoint("purged");
    }
    give_back(hub, who.copy(), &busy)?;
    Ok(link.send(found.end(true))?)
}

/// Says that it goes on, now and then.
struct Beat<'a> {
    link: &'a LinkSender,
    said: Cell<Instant>,
}

impl<'a> Beat<'a> {
    fn new(link: &'a LinkSender) -> Self {
        Self { link, said: Cell::new(Instant::now()) }
    }

    /// False: the client has gone.
    fn go_on(&self) -> bool {
        if self.said.get().elapsed() < Duration::from_secs(KEEPALIVE_SECS) / 2 {
            return true;
        }
        self.said.set(Instant::now());
        self.link.try_send(Busy { phase: PHASE }).is_ok()
    }
}

fn housekeeping<'a>(hub: &'a Hub, busy: &Beat<'_>) -> Result<MutexGuard<'a, ()>, EngineError> {
    loop {
        match hub.housekeeping.try_lock() {
            Ok(alone) => return Ok(alone),
            Err(TryLockError::Poisoned(alone)) => return Ok(PoisonError::into_inner(alone)),
            Err(TryLockError::WouldBlock) if busy.go_on() => thread::sleep(LOOK_AGAIN),
            Err(TryLockError::WouldBlock) => {
                return Err(EngineError::new(ErrorKind::Interrupted, "the client has gone; nothing was purged"));
            }
        }
    }
}

fn lease(hub: &Hub, who: &Who, request: &Purge) -> Result<LeaseGuard, EngineError> {
    let key = who.identity.key.unwrap_or_default();
    let holder = Holder { key, run: request.run, name: who.name(), since: now() };
    let (copy, root) = (who.copy().clone(), RelPath::root());
    let request = LeaseRequest { copy, root, recursive: true, holder, wait: None, on_revoke: Arc::new(|| {}) };
    Ok(hub.leases.acquire(request, &mut |_| true)?)
}

/// What goes.
struct Found {
    /// First and last snapshot of each path.
    paths: BTreeMap<RelPath, (u64, u64)>,
    snapshots: HashSet<u64>,
    /// Contents that nothing else names, and their bytes.
    contents: HashMap<Digest, u64>,
}

impl Found {
    fn tell(&self, link: &Link) -> Result<(), EngineError> {
        let mut parts = Parts::new(link, |paths, more| PurgeList { paths, more }.into());
        for (path, (first, last)) in &self.paths {
            let path = path.as_bytes();
            parts.push(WirePurged { path: path.into(), first: *first, last: *last }, path.len() + 24)?;
        }
        parts.finish()
    }

    fn end(&self, done: bool) -> Purged {
        Purged {
            done,
            paths: self.paths.len() as u64,
            snapshots: self.snapshots.len() as u64,
            contents: self.contents.len() as u64,
            bytes: self.contents.values().fold(0, |sum, bytes| sum.saturating_add(*bytes)),
        }
    }
}

/// # Errors
/// The path is in the newest backup of a root, or in none, and was never purged; or manifests cannot be read.
fn look(snapshots: &Snapshots, path: &RelPath) -> Result<Found, EngineError> {
    let found = snapshots.steadily(|records| {
        let roots: HashMap<u64, RelPath> = records.iter().map(|record| (record.number, record.root.clone())).collect();
        let numbers: Vec<u64> = records.iter().map(|record| record.number).collect();
        let mut found = Found { paths: BTreeMap::new(), snapshots: HashSet::new(), contents: HashMap::new() };
        for numbers in numbers.chunks(SNAPSHOTS_AT_ONCE) {
            for history in snapshots.timeline(numbers, path)? {
                found.add(history?, numbers, &roots);
            }
        }
        found.keep_what_others_have(snapshots, &numbers, path)?;
        Ok(found)
    })?;
    for record in snapshots.roots()? {
        if found.snapshots.contains(&record.number) {
            let message = format!(
                "'/{path}' is in the newest backup of '/{}': delete it at the source and back up with -d first",
                record.root
            );
            return Err(EngineError::new(ErrorKind::Failed, message));
        }
    }
    if found.paths.is_empty() && !snapshots.purges()?.iter().any(|purge| path.is_within(&purge.path)) {
        let message = format!("no backup has '/{path}'; 'rbbackup find NAME' looks for names in all of them");
        return Err(EngineError::new(ErrorKind::Failed, message));
    }
    Ok(found)
}

impl Found {
    fn add(&mut self, history: crate::backup::timeline::PathHistory, numbers: &[u64], roots: &HashMap<u64, RelPath>) {
        for version in &history.versions {
            let (first, last) = self.paths.entry(history.path.clone()).or_insert((version.first, version.last));
            (*first, *last) = ((*first).min(version.first), (*last).max(version.last));
            let is_one = |number: &&u64| {
                (version.first..=version.last).contains(*number) && roots.get(*number) == Some(&*version.root)
            };
            self.snapshots.extend(numbers.iter().filter(is_one));
            if let Some(file) = version.record.entry.file() {
                self.contents.insert(file.digest, file.size);
            }
        }
    }

    /// Content that another path has does not go.
    fn keep_what_others_have(
        &mut self,
        snapshots: &Snapshots,
        numbers: &[u64],
        path: &RelPath,
    ) -> Result<(), SnapshotError> {
        if self.contents.is_empty() {
            return Ok(());
        }
        for numbers in numbers.chunks(SNAPSHOTS_AT_ONCE) {
            for history in snapshots.timeline(numbers, &RelPath::root())? {
                let history = history?;
                if history.path.is_within(path) {
                    continue;
                }
                for file in history.versions.iter().filter_map(|version| version.record.entry.file()) {
                    self.contents.remove(&file.digest);
                }
            }
        }
        Ok(())
    }
}

/// What nobody names any more goes from everywhere.
fn give_back(hub: &Hub, copy: &CopyName, busy: &Beat<'_>) -> Result<(), EngineError> {
    let go_on = || busy.go_on();
    let done = clear_staging(hub, copy)
        .and_then(|()| pack::pack_one(hub, copy, &Pace::at_once(hub, &go_on)))
        .and_then(|whole| prune::sweep_purged(hub, copy, &go_on).map(|_| whole));
    let not_all = |why: &str| {
        let message = format!("it is out of history, but its content is not all removed yet: {why}; do it again");
        EngineError::new(ErrorKind::Failed, message)
    };
    match done {
        Ok(true) => Ok(()),
        Ok(false) => Err(not_all("some retired files could not be packed, the daemon's log names them")),
        Err(error) => Err(not_all(&error.message)),
    }
}

/// What runs that were cut left may be just that; they send it again.
fn clear_staging(hub: &Hub, copy: &CopyName) -> Result<(), EngineError> {
    let _swept = hub.swept.lock().unwrap_or_else(PoisonError::into_inner);
    let staging = hub.own_dir("staging")?;
    for entry in staging.names()? {
        if staging_is_of(&staging, &entry.name, copy) {
            staging.remove_tree(&entry.name)?;
        }
    }
    Ok(())
}

fn staging_is_of(staging: &SafeDir, name: &[u8], copy: &CopyName) -> bool {
    let owner = staging.open_child(name).and_then(|dir| dir.open_read(b"owner"));
    let mut text = Vec::new();
    let read = owner.map(|file| file.take(OWNER_BYTES_MAX).read_to_end(&mut text));
    matches!(read, Ok(Ok(_))) && text.starts_with(format!("copy {}\n", copy.component()).as_bytes())
}
