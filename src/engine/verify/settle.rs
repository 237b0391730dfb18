//! Paths of the plain copy that are not as they should be: looked at again under a lease, so that no commit is in the way,
//! and put right from history where that has the content.
//!
//! The good file is built in a folder of its own in `staging/`, flushed, and changes places with the bad one in one step; a
//! kill at any moment leaves the one or the other. The bad one goes to `retired/`, for it may be somebody's work; that takes
//! the turn of housekeeping, for the packer removes a folder of `retired/` once it has packed what it saw there. All names of
//! a file that has several get the good one, one after the other. What history
//! does not have the client is asked for by the next run: the catalog forgets the path, so that it is hashed then.

use std::io::{Read, Write};
use std::sync::{Arc, MutexGuard, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use super::stored::distinct;
use super::walk::{Look, Plain, Roots, Walked};
use super::{Found, Job, Outcome};
use crate::backup::digest::{Digest, RunId};
use crate::backup::entry::{Entry, FileContent, Kind, Link};
use crate::backup::lease::Holder;
use crate::backup::manifest::ManifestRecord;
use crate::backup::relpath::RelPath;
use crate::backup::snapshot::SnapshotRecord;
use crate::engine::client::{now, random_run_id};
use crate::engine::error::{EngineError, ErrorKind};
use crate::store::catalog::Update;
use crate::store::leases::{BRIEF_KEY, LeaseGuard, LeaseRequest};
use crate::store::snapshots::Snapshots;
use crate::store::vault::Known;
use crate::tree::dir_cache::{DIRS_OPEN_DEFAULT, DirCache};
use crate::tree::metadata::{Place, apply, disk_form, set_mtime};
use crate::tree::safe_dir::SafeDir;

/// How long a backup of the path is waited for.
const LEASE_WAIT: Duration = Duration::from_secs(30);
/// How long packing or pruning is waited for, and how often is looked.
const TURN_WAIT: Duration = Duration::from_secs(30);
const TURN_LOOK: Duration = Duration::from_millis(20);
const COPY_BYTES: usize = 256 * 1024;

/// Without a lease it is looked so often, for a commit may move things about.
const LOOKS_MAX: u32 = 3;

/// The snapshot, what it says, and why the copy is not so.
type Wrong = (Arc<SnapshotRecord>, ManifestRecord, String);

fn rel(bytes: &[u8]) -> RelPath {
    RelPath::new(bytes).unwrap_or_default()
}

/// The name in its folder by which the good file gets to its next place.
const NAME: &[u8] = b"name";

fn is_linked(entry: &Entry) -> bool {
    entry.file().is_some_and(|content| content.link != Link::Single)
}

/// Where in the copy this entry's file has its names, as the snapshot says.
fn names_of(
    snapshots: &Snapshots,
    record: &SnapshotRecord,
    entry: &Entry,
    path: &RelPath,
) -> Result<Vec<RelPath>, EngineError> {
    let leader = match entry.file().map(|content| &content.link) {
        None | Some(Link::Single) => return Ok(vec![path.clone()]),
        Some(Link::Leader) => &entry.path,
        Some(Link::Follower(leader)) => leader,
    };
    let mut names = Vec::new();
    for found in snapshots.open_manifest(record.number)? {
        let found = found?.entry;
        let follows =
            found.file().is_some_and(|content| matches!(&content.link, Link::Follower(first) if first == leader));
        if follows || found.path == *leader {
            names.extend(record.root.join_path(&found.path));
        }
    }
    Ok(names)
}

impl<'h> Job<'h, '_> {
    /// See the module. What becomes right, or comes with the next run, is not missing.
    pub(super) fn settle(&mut self, snapshots: &Snapshots, walked: &mut Walked) -> Result<(), EngineError> {
        if walked.suspects.is_empty() {
            return Ok(());
        }
        let mut plain = Plain::new(Arc::new(self.hub.store.copy_dir(self.copy)?));
        // Before any lease, as everybody: who has the turn may be waiting until no lease is held.
        let turn = self.turn()?;
        let mut wait = Some(LEASE_WAIT);
        for path in std::mem::take(&mut walked.suspects) {
            let mut lease = self.lease(&path, wait)?;
            if lease.is_none() {
                // Who works that long now is not waited for again.
                wait = None;
            }
            let mut looked = self.look_now(snapshots, &mut plain, &path)?;
            for _ in 1..LOOKS_MAX {
                if lease.is_some() || looked.is_none() {
                    break;
                }
                self.wait_for_commits()?;
                looked = self.look_now(snapshots, &mut plain, &path)?;
            }
            if lease.is_some() && looked.as_ref().is_some_and(|(_, found, _)| is_linked(&found.entry)) {
                // Its other names are anywhere below the root.
                drop(lease.take());
                let root = looked.map(|(record, _, _)| record.root.clone()).unwrap_or_default();
                lease = self.lease(&root, wait)?;
                looked = self.look_now(snapshots, &mut plain, &path)?;
            }
            let Some((record, found, why)) = looked else { continue };
            let entry = found.entry;
            let why = format!("{why} (snapshot {})", record.number);
            let outcome = match &lease {
                None => Outcome::Stays,
                Some(_) => self.put_right(snapshots, &record, &entry, &path, turn.is_some())?,
            };
            // The source does not have it any more: nobody sends it.
            let outcome = if found.kept && outcome == Outcome::NextRun { Outcome::Stays } else { outcome };
            let content = entry.file().map(|content| content.digest);
            let touched = match content.and_then(|digest| walked.needed.get(&digest)) {
                Some(need) => distinct(snapshots, &need.spans)?.max(1),
                None => 1,
            };
            if outcome != Outcome::Stays || found.kept {
                content.map(|digest| walked.missing.remove(&digest));
            }
            drop(lease);
            self.tell(Found::new([b"/", path.as_bytes()].concat(), why, touched).with(outcome))?;
        }
        Ok(())
    }

    /// What the newest snapshot that tells of the path says, and what is wrong with the plain file; none: it is well.
    fn look_now(&self, snapshots: &Snapshots, plain: &mut Plain, path: &RelPath) -> Result<Option<Wrong>, EngineError> {
        plain.forget();
        let roots = Roots::load(snapshots)?;
        for (record, looked) in roots.around(path) {
            let inner = path.strip_prefix(&record.root).unwrap_or_default();
            match snapshots.find(record.number, &inner)? {
                Some(found) => {
                    let look = plain.look(path, &found.entry, &mut |_| Ok(()))?;
                    let wrong = |why| (Arc::clone(record), found, why);
                    return Ok(if let Look::Bad(why) = look { Some(wrong(why)) } else { None });
                }
                None if looked => return Ok(None),
                None => {}
            }
        }
        Ok(None)
    }

    /// The right to look at a path undisturbed, and to mend it; none where nothing may be written.
    fn lease(&mut self, path: &RelPath, wait: Option<Duration>) -> Result<Option<LeaseGuard>, EngineError> {
        if self.hub.is_read_only() {
            return Ok(None);
        }
        let request = LeaseRequest {
            copy: self.copy.clone(),
            root: path.clone(),
            recursive: true,
            holder: Holder { key: BRIEF_KEY, run: random_run_id()?, name: "a verification".into(), since: now() },
            wait,
            on_revoke: Arc::new(|| {}),
        };
        match self.hub.leases.acquire(request, &mut |_| true) {
            Ok(lease) => Ok(Some(lease)),
            // A long backup: it hashes what it meets itself.
            Err(_) => Ok(None),
        }
    }

    /// The turn of housekeeping; none: whoever has it has much to do.
    fn turn(&mut self) -> Result<Option<MutexGuard<'h, ()>>, EngineError> {
        let since = Instant::now();
        loop {
            match self.hub.housekeeping.try_lock() {
                Ok(turn) => return Ok(Some(turn)),
                Err(TryLockError::Poisoned(turn)) => return Ok(Some(turn.into_inner())),
                Err(TryLockError::WouldBlock) if since.elapsed() >= TURN_WAIT => return Ok(None),
                Err(TryLockError::WouldBlock) => {}
            }
            thread::sleep(TURN_LOOK);
            self.pace.beat(0)?;
        }
    }

    /// `may_heal`: nobody packs or prunes meanwhile.
    fn put_right(
        &mut self,
        snapshots: &Snapshots,
        record: &SnapshotRecord,
        entry: &Entry,
        path: &RelPath,
        may_heal: bool,
    ) -> Result<Outcome, EngineError> {
        self.hub.make_ready(self.copy)?;
        let names = names_of(snapshots, record, entry, path)?;
        let id = self.hub.catalog.copy_id(self.copy)?;
        self.hub.catalog.apply(id, names.iter().cloned().map(Update::Remove))?;
        self.hub.set_exact(self.copy, path, None);
        let Kind::File(content) = &entry.kind else { return Ok(Outcome::NextRun) };
        if !may_heal {
            return Ok(Outcome::NextRun);
        }
        match self.heal(&names, entry, content, record.run) {
            Ok(true) => Ok(Outcome::Healed),
            Ok(false) => Ok(Outcome::NextRun),
            Err(error) => {
                tracing::warn!("'/{path}' was not put right: {error}");
                Ok(Outcome::NextRun)
            }
        }
    }

    /// False: history does not have the content.
    fn heal(&self, names: &[RelPath], entry: &Entry, content: &FileContent, run: RunId) -> Result<bool, EngineError> {
        let staging = self.hub.own_dir("staging")?;
        let folder_name = format!("heal-{}", random_run_id()?);
        let folder = staging.make_dirs(&rel(folder_name.as_bytes()), 0o700)?;
        let healed = self.build(&folder, entry, content).and_then(|built| {
            if !built {
                return Ok(false);
            }
            for name in names {
                folder.link(b"new", &folder, NAME)?;
                self.exchange(&folder, name, run)?;
            }
            Ok(true)
        });
        staging.remove_tree(folder_name.as_bytes())?;
        healed
    }

    /// The good file as `new` in `folder`, durable.
    fn build(&self, folder: &SafeDir, entry: &Entry, content: &FileContent) -> Result<bool, EngineError> {
        let vault = self.hub.vault(self.copy)?;
        let (reader, copy) = (self.hub.catalog.reader()?, self.hub.catalog.copy_id(self.copy)?);
        let known = Some(Known { reader: &reader, copy });
        let retired = reader.retired(copy, &content.digest)?;
        let mut source: Box<dyn Read + '_> = match retired.map(|place| self.open_retired(&place)) {
            Some(Ok(file)) => Box::new(file),
            _ => match vault.content(known, &content.digest)? {
                Some(reader) => Box::new(reader),
                None => return Ok(false),
            },
        };
        let failed = |e: std::io::Error| {
            let full = e.kind() == std::io::ErrorKind::StorageFull;
            let kind = if full { ErrorKind::NoSpace } else { ErrorKind::Failed };
            EngineError::new(kind, e.to_string())
        };
        let mut file = folder.create_new(b"new", 0o600)?;
        let (mut hasher, mut buffer) = (blake3::Hasher::new(), vec![0; COPY_BYTES]);
        loop {
            let len = source.read(&mut buffer).map_err(failed)?;
            let piece = buffer.get(..len).unwrap_or_default();
            if piece.is_empty() {
                break;
            }
            hasher.update(piece);
            file.write_all(piece).map_err(failed)?;
        }
        if Digest::from(hasher.finalize()) != content.digest {
            return Ok(false);
        }
        apply(Place::File(&file, b"new"), &disk_form(entry, self.hub.store.policy()))?;
        file.sync_all().map_err(failed)?;
        Ok(true)
    }

    fn open_retired(&self, place: &RelPath) -> Result<std::fs::File, EngineError> {
        let mut dirs = DirCache::new(Arc::new(self.hub.own_dir("retired")?), 1);
        let (dir, name) = dirs.parent_of(place)?;
        Ok(dir.open_read(name)?)
    }

    /// Puts the good file's [`NAME`] in its place. What was there goes to the files that this run retired.
    fn exchange(&self, folder: &SafeDir, path: &RelPath, run: RunId) -> Result<(), EngineError> {
        let mut dirs = DirCache::new(Arc::new(self.hub.store.copy_dir(self.copy)?), DIRS_OPEN_DEFAULT);
        let (dir, name) = dirs.parent_of(path)?;
        let before = dir.stat_self()?;
        let there = match dir.stat(name) {
            Ok(_) => true,
            Err(e) if e.is_not_found() => false,
            Err(e) => return Err(e.into()),
        };
        if there {
            folder.exchange(NAME, &dir, name)?;
            let retired = self.hub.own_dir("retired")?.make_dirs(&rel(run.to_hex().as_bytes()), 0o700)?;
            let aside = format!("damaged-{}", random_run_id()?);
            folder.rename_noreplace(NAME, &retired, aside.as_bytes())?;
        } else {
            folder.rename_noreplace(NAME, &dir, name)?;
        }
        set_mtime(Place::Dir(&dir), before.mtime)?;
        dir.sync_fs()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
