//! [`Snapshots`]: the committed runs of one copy, immutable records and their manifests.
//!
//! ```text
//! snapshots/<node>@<user>/
//!   000000000007.snapshot    sealed record (backup::snapshot); its presence is what makes the run committed
//!   000000000007.manifest    a full manifest, or
//!   000000000007.changes     changes to the manifest of an earlier number, or neither: the same as an earlier one's
//!   000000000003.base        the record of a snapshot that expired: not listed, but others' manifests stand on its own
//!   000000000009.released    empty: what this run took away may go
//!   000000000012-….purge     a path that nobody finds any more, see `purged`
//!   .tmp-<run id>            a draft: a manifest of a run that is not committed yet
//!   .tmp-<run id>.record     its record; `.begun` right before its journal gets its name. It also tells whose a journal is that
//!                            cannot be read, and by its name whether the run can have changed anything
//! ```
//!
//! A record is only ever added, never replaced; how it expires stands in `expiry`. The manifest is in place and durable before its record is written. All
//! that [`Snapshots::publish`] does can be done again after a crash with the same outcome. The records are read once
//! by the process that has the store's lock, which alone adds some; a process that only reads looks again each time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::layout::OpenMode;
use crate::backup::digest::{Digest, RunId};
use crate::backup::purge::{Hidden, PurgeRecord, Purges};
use crate::backup::relpath::{PathError, RelPath};
use crate::backup::snapshot::{ManifestRef, RecordError, RunKind, SnapshotRecord};
use crate::backup::sorted_file::SortedError;
use crate::tree::own;

mod check;
mod draft;
mod expiry;
mod manifests;
mod pins;
mod purged;
mod record_draft;
mod segments;
#[cfg(test)]
mod tests;

pub use check::DamagedManifest;
pub use draft::{ManifestDraft, begun_name, draft_name, record_draft_name};
pub use manifests::ManifestReader;
pub use pins::SnapshotPin;
pub use segments::TimelineReader;

const RECORD_SUFFIX: &str = ".snapshot";
const BASE_SUFFIX: &str = ".base";
const RELEASED_SUFFIX: &str = ".released";
const RECORD_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// A folder that was changed later may be changed once more without another time.
const SETTLES_AFTER: Duration = Duration::from_secs(2);

/// Why snapshots cannot be read or added.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// There is no such snapshot.
    #[error("there is no snapshot {number}")]
    Unknown {
        /// Its number.
        number: u64,
    },
    /// Another run has that number already: a defect.
    #[error("snapshot {number} exists already and is another run's")]
    Exists {
        /// Its number.
        number: u64,
    },
    /// A record cannot be read.
    #[error("the snapshot record '{}' cannot be used: {source}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        source: RecordError,
    },
    /// A manifest cannot be read or written.
    #[error("the manifest '{}' cannot be used: {source}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SortedError,
    },
    /// A root and a path below it do not make a path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The disk is full.
    #[error("no space left to write '{}'", path.display())]
    NoSpace {
        /// File or folder.
        path: PathBuf,
    },
    /// The operating system's fault.
    #[error("cannot use '{}': {source}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The snapshots of one copy.
pub struct Snapshots {
    dir: PathBuf,
    mode: OpenMode,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    loaded: bool,
    /// When the folder was changed last, as of the last look into it, if that was long enough before the look: who finds the
    /// same time finds the same names.
    settled: Option<SystemTime>,
    records: BTreeMap<u64, Arc<SnapshotRecord>>,
    damaged: BTreeMap<u64, String>,
    /// Expired ones whose files are still there.
    bases: BTreeMap<u64, Arc<SnapshotRecord>>,
    /// Runs whose deletions may become final.
    released: BTreeSet<u64>,
    /// What was purged, by the name of its record.
    purges: BTreeMap<String, Arc<PurgeRecord>>,
    /// All of that, found by path.
    hides: Arc<Purges>,
    /// Snapshots that somebody reads, and how many do.
    pins: BTreeMap<u64, usize>,
    /// Highest number given out.
    reserved: u64,
}

impl State {
    /// A record that is listed, or has expired and is still there.
    fn link(&self, number: u64) -> Option<&Arc<SnapshotRecord>> {
        self.records.get(&number).or_else(|| self.bases.get(&number))
    }

    /// Reads a record, unless it is known.
    fn learn(&mut self, path: &Path, number: u64, expired: bool) -> Result<(), SnapshotError> {
        let (known, other) = if expired { (&mut self.bases, &self.records) } else { (&mut self.records, &self.bases) };
        if known.contains_key(&number) {
            return Ok(());
        }
        if let Some(record) = other.get(&number) {
            known.insert(number, record.clone());
            return Ok(());
        }
        match read_record(path, number)? {
            None => {}
            Some(Ok(record)) => {
                self.damaged.remove(&number);
                known.insert(number, Arc::new(record));
            }
            Some(Err(source)) => {
                let error = SnapshotError::Record { path: path.to_path_buf(), source };
                self.damaged.insert(number, error.to_string());
            }
        }
        Ok(())
    }
}

impl Snapshots {
    /// The snapshots in `dir`, which need not exist yet.
    ///
    /// # Errors
    /// [`SnapshotError::Io`]; a damaged record is no error here, see [`Snapshots::damaged`].
    pub fn open(dir: &Path, mode: OpenMode) -> Result<Self, SnapshotError> {
        let snapshots = Self { dir: dir.to_path_buf(), mode, state: Mutex::default() };
        drop(snapshots.state()?);
        Ok(snapshots)
    }

    /// All records, oldest first.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn list(&self) -> Result<Vec<Arc<SnapshotRecord>>, SnapshotError> {
        Ok(self.state()?.records.values().cloned().collect())
    }

    /// Numbers of records that cannot be read, and why.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn damaged(&self) -> Result<Vec<(u64, String)>, SnapshotError> {
        Ok(self.state()?.damaged.iter().map(|(number, why)| (*number, why.clone())).collect())
    }

    /// The record of this number.
    ///
    /// # Errors
    /// [`SnapshotError::Unknown`], [`SnapshotError::Io`].
    pub fn record(&self, number: u64) -> Result<Arc<SnapshotRecord>, SnapshotError> {
        self.state()?.records.get(&number).cloned().ok_or(SnapshotError::Unknown { number })
    }

    /// The newest record of exactly this root, which may be that it was forgotten ([`RunKind::Forget`]).
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn newest(&self, root: &RelPath) -> Result<Option<Arc<SnapshotRecord>>, SnapshotError> {
        self.newest_where(|record| record.root == *root)
    }

    /// The newest record of each root that has not been forgotten, sorted by root.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn roots(&self) -> Result<Vec<Arc<SnapshotRecord>>, SnapshotError> {
        let mut newest: BTreeMap<RelPath, Arc<SnapshotRecord>> = BTreeMap::new();
        for record in self.state()?.records.values() {
            newest.insert(record.root.clone(), record.clone());
        }
        Ok(newest.into_values().filter(|record| record.kind == RunKind::Backup).collect())
    }

    /// The record of this run, if it is committed; also if it has expired, as long as that is known.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn by_run(&self, run: RunId) -> Result<Option<Arc<SnapshotRecord>>, SnapshotError> {
        Ok(self.all()?.into_iter().find(|record| record.run == run))
    }

    /// The newest backup of this root with this manifest, as long as all of that can be read: a base that both sides know.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn by_manifest(&self, root: &RelPath, manifest: &Digest) -> Result<Option<Arc<SnapshotRecord>>, SnapshotError> {
        let hides = self.state()?.hides.clone();
        self.newest_where(|record| {
            let whole = Hidden::of(&hides, root, record.number).is_empty();
            whole && record.root == *root && record.manifest == *manifest && record.kind == RunKind::Backup
        })
    }

    /// The newest snapshot whose manifest has this path (copy coordinates), and the path below that snapshot's root.
    ///
    /// # Errors
    /// [`SnapshotError`]; a manifest that cannot be read is an error, not a snapshot that lacks the path.
    pub fn newest_containing(&self, path: &RelPath) -> Result<Option<(Arc<SnapshotRecord>, RelPath)>, SnapshotError> {
        for record in self.list()?.into_iter().rev() {
            let Some(inner) = path.strip_prefix(&record.root) else { continue };
            if record.kind == RunKind::Backup && self.find(record.number, &inner)?.is_some() {
                return Ok(Some((record, inner)));
            }
        }
        Ok(None)
    }

    /// A number that no other run gets. A run that fails leaves a gap.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn next_number(&self) -> Result<u64, SnapshotError> {
        let mut state = self.state()?;
        let highest = |numbers: Option<&u64>| numbers.copied().unwrap_or(0);
        let taken = highest(state.records.keys().next_back()).max(highest(state.damaged.keys().next_back()));
        state.reserved = state.reserved.max(taken).max(highest(state.bases.keys().next_back())) + 1;
        Ok(state.reserved)
    }

    /// Commits: puts the draft into place and writes the record; durable when this returns. The same record may be
    /// published again (replay of a journal), with the draft gone or not.
    ///
    /// # Errors
    /// [`SnapshotError::Exists`] when another run has the number; else the disk's.
    pub fn publish(&self, record: &SnapshotRecord, draft: Option<&str>) -> Result<(), SnapshotError> {
        let mut state = self.state()?;
        let path = self.path(record.number, RECORD_SUFFIX);
        let bytes = record.encode().map_err(|source| SnapshotError::Record { path: path.clone(), source })?;
        if let Some(present) = state.records.get(&record.number) {
            // Compared as written: encoding shortens a record whose errors are too many.
            return match present.encode() {
                Ok(same) if same == bytes => Ok(()),
                _ => Err(SnapshotError::Exists { number: record.number }),
            };
        }
        if state.damaged.contains_key(&record.number) || state.bases.contains_key(&record.number) {
            return Err(SnapshotError::Exists { number: record.number });
        }
        self.make_dir()?;
        self.place_manifest(record, draft)?;
        self.place_record(record, &bytes).map_err(|e| io_error(&path, e))?;
        // What is remembered is what another process would read.
        let kept = SnapshotRecord::decode(&bytes).map_err(|source| SnapshotError::Record { path, source })?;
        state.reserved = state.reserved.max(record.number);
        state.records.insert(record.number, Arc::new(kept));
        Ok(())
    }

    /// Bytes of all records and manifests.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn bytes_on_disk(&self) -> Result<u64, SnapshotError> {
        let names = match own::names(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
            other => other.map_err(|e| io_error(&self.dir, e))?,
        };
        Ok(names.iter().filter_map(|name| own::look(&self.dir.join(name)).ok()).map(|found| found.size).sum())
    }

    fn place_manifest(&self, record: &SnapshotRecord, draft: Option<&str>) -> Result<(), SnapshotError> {
        let Some(suffix) = manifests::suffix(record.manifest_file) else { return Ok(()) };
        let place = self.path(record.number, suffix);
        let fail = |e| io_error(&place, e);
        if let Some(draft) = draft.map(|name| self.dir.join(name)).filter(|draft| own::is_file(draft)) {
            // Cheap when the commit's flush has just written it. Whatever its error, what is on disk is not known then.
            own::open(&draft).and_then(|file| file.sync_all()).map_err(io::Error::other).map_err(fail)?;
            own::rename(&draft, &place).map_err(fail)?;
        } else if !own::is_file(&place) {
            return Err(fail(io::Error::from(io::ErrorKind::NotFound)));
        }
        // The directory is flushed before the record is written: no record without its manifest.
        own::sync_dir(&self.dir).map_err(fail)
    }

    /// By renaming its draft, which needs no space, if that is whole.
    fn place_record(&self, record: &SnapshotRecord, bytes: &[u8]) -> io::Result<()> {
        let name = name_of(record.number, RECORD_SUFFIX);
        let is_whole = |draft: &PathBuf| own::read_file(draft, RECORD_BYTES_MAX).is_ok_and(|found| found == bytes);
        let Some(draft) = self.record_drafts(record.run).into_iter().find(is_whole) else {
            return own::write_file(&self.dir, &name, bytes);
        };
        own::open(&draft).and_then(|file| file.sync_all()).map_err(io::Error::other)?;
        own::rename(&draft, &self.dir.join(name))?;
        own::sync_dir(&self.dir).map_err(io::Error::other)
    }

    fn make_dir(&self) -> Result<(), SnapshotError> {
        if own::is_dir(&self.dir) {
            return Ok(());
        }
        let fail = |e| io_error(&self.dir, e);
        own::make_dir(&self.dir).map_err(fail)?;
        self.dir.parent().map_or(Ok(()), own::sync_dir).map_err(fail)
    }

    fn newest_where(
        &self,
        wanted: impl Fn(&SnapshotRecord) -> bool,
    ) -> Result<Option<Arc<SnapshotRecord>>, SnapshotError> {
        Ok(self.state()?.records.values().rev().find(|record| wanted(record)).cloned())
    }

    fn path(&self, number: u64, suffix: &str) -> PathBuf {
        self.dir.join(name_of(number, suffix))
    }

    /// The state, with all records that there are.
    fn state(&self) -> Result<MutexGuard<'_, State>, SnapshotError> {
        // Records are put in one by one, each whole: a panic elsewhere leaves nothing half done.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.loaded && self.mode == OpenMode::Write {
            return Ok(state);
        }
        let changed = own::metadata(&self.dir).and_then(|found| found.modified()).ok();
        if state.settled.is_some() && state.settled == changed {
            return Ok(state);
        }
        let settled = changed.filter(|at| at.elapsed().is_ok_and(|since| since >= SETTLES_AFTER));
        let names = match own::names(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                state.loaded = true;
                return Ok(state);
            }
            other => other.map_err(|e| io_error(&self.dir, e))?,
        };
        let (mut listed, mut expired) = (BTreeSet::new(), BTreeSet::new());
        for name in &names {
            let path = self.dir.join(name);
            state.released.extend(number_in(name, RELEASED_SUFFIX));
            if let Some(number) = number_in(name, RECORD_SUFFIX) {
                listed.insert(number);
                state.learn(&path, number, false)?;
            } else if let Some(number) = number_in(name, BASE_SUFFIX) {
                expired.insert(number);
                state.learn(&path, number, true)?;
            }
        }
        // Behind the records: one that is good takes back what was said of its number.
        for name in &names {
            state.learn_purge(&self.dir.join(name))?;
        }
        // Who only reads sees snapshots expire.
        state.records.retain(|number, _| listed.contains(number));
        state.bases.retain(|number, _| expired.contains(number));
        (state.loaded, state.settled) = (true, settled);
        Ok(state)
    }
}

/// None: it has just expired, or went.
fn read_record(path: &Path, number: u64) -> Result<Option<Result<SnapshotRecord, RecordError>>, SnapshotError> {
    let bytes = match own::read_file(path, RECORD_BYTES_MAX) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|e| io_error(path, e))?,
    };
    Ok(Some(SnapshotRecord::decode(&bytes).and_then(|record| {
        if record.number == number {
            Ok(record)
        } else {
            Err(RecordError::Damaged { what: format!("it is that of snapshot {}", record.number) })
        }
    })))
}

fn name_of(number: u64, suffix: &str) -> String {
    format!("{number:012}{suffix}")
}

fn number_in(name: &std::ffi::OsStr, suffix: &str) -> Option<u64> {
    let number = name.to_str()?.strip_suffix(suffix)?;
    // One spelling only.
    number.parse().ok().filter(|parsed| name_of(*parsed, "") == number)
}

fn io_error(path: &Path, source: io::Error) -> SnapshotError {
    let path = path.to_path_buf();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => SnapshotError::NoSpace { path },
        _ => SnapshotError::Io { path, source },
    }
}

fn sorted_error(path: &Path, source: SortedError) -> SnapshotError {
    match source {
        SortedError::Io(source) => io_error(path, source),
        source => SnapshotError::Manifest { path: path.to_path_buf(), source },
    }
}
