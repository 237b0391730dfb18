//! [`Room`]: how much more a run may stage: the copy's quota, and what the file system keeps free.
//!
//! **What counts** against a quota, in bytes: the files of the copy as its snapshots name them, with their whole length (a
//! sparse file's holes too, a file with several names once); history as it lies on disk, packed and compressed; and what
//! is staged, also what a run left that was cut. Manifests and records do not count.
//!
//! **Cheap.** Nothing is walked: a root's files are known from its newest snapshot, history from two sums in the catalog,
//! and both are asked once a run. While content arrives one number is added to. Without a quota not even that is done.
//!
//! **Growing only.** A run that stages nothing is never refused. Who is over the quota may still stage a little
//! ([`overdraft`]) for a run that leaves its root no larger than it was: whether it does is known only at its end.
//!
//! **The reserve** is for what keeps a full disk manageable: commits under way, records, the catalog's log, and packs that
//! are written anew so that others can go. Content is refused while less is free; nothing else is.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::{EngineError, ErrorKind};
use super::history;
use super::hub::{Hub, Who};
use crate::backup::bytes::{escape, show_bytes};
use crate::backup::relpath::RelPath;
use crate::backup::snapshot::SnapshotRecord;
use crate::store::names::CopyName;
use crate::store::registry::Identity;
use crate::store::snapshots::Snapshots;
use crate::store::staging::staging_id;
use crate::tree::error::TreeError;
use crate::tree::safe_dir::SafeDir;
use crate::tree::stat::FileKind;

/// The file system is asked again when so much has been staged.
const LOOK_EVERY_BYTES: u64 = 16 << 20;
/// The reserve unless somebody says otherwise: this, or a hundredth of the file system if that is less.
const RESERVE_BYTES: u64 = 1 << 30;
/// Most that may be staged beyond a quota.
const OVERDRAFT_BYTES_MAX: u64 = 64 << 20;

/// What an operator decides about space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpaceLimits {
    /// Bytes that stay free; none: what fits the file system.
    pub reserve: Option<u64>,
    /// Quota of whoever has none of its own.
    pub quota: Option<u64>,
    /// Quota by copy; none: no quota, whatever the others have.
    pub quotas: BTreeMap<CopyName, Option<u64>>,
}

impl SpaceLimits {
    /// What an identity may take; an administrator's word at the daemon comes before the configuration's.
    pub fn quota(&self, identity: &Identity) -> Option<u64> {
        identity.quota_bytes.or_else(|| self.quota_of(&identity.copy))
    }

    /// What the configuration says of a copy.
    pub fn quota_of(&self, copy: &CopyName) -> Option<u64> {
        self.quotas.get(copy).copied().unwrap_or(self.quota)
    }
}

/// What a copy takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Its files.
    pub(crate) copy: u64,
    /// What left it and is kept.
    pub(crate) history: u64,
    /// What has arrived and is not committed.
    pub(crate) staging: u64,
}

impl Usage {
    /// All of it.
    pub(crate) fn total(&self) -> u64 {
        self.copy.saturating_add(self.history).saturating_add(self.staging)
    }
}

/// The accounts of a hub's copies.
#[derive(Default)]
pub(crate) struct Accounts(Mutex<HashMap<CopyName, Arc<Account>>>);

/// What is known of one copy.
#[derive(Default)]
struct Account {
    state: Mutex<AccountState>,
}

#[derive(Default)]
struct AccountState {
    copy: u64,
    history: u64,
    /// By the staging folder's name.
    staged: HashMap<String, u64>,
    /// Of each root, the bytes of what a snapshot names.
    roots: HashMap<RelPath, (u64, u64)>,
}

impl Account {
    fn lock(&self) -> MutexGuard<'_, AccountState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AccountState {
    fn usage(&self) -> Usage {
        let staging = self.staged.values().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
        Usage { copy: self.copy, history: self.history, staging }
    }

    /// Looks at what may have changed since it was looked at last.
    fn look(&mut self, hub: &Hub, name: &CopyName) -> Result<(), EngineError> {
        let snapshots = hub.store.snapshots(name)?;
        self.copy = self.files(&snapshots)?;
        self.history = history::known(hub, name)?.1;
        self.look_at_staging(&hub.own_dir("staging")?, name)
    }

    /// Bytes of the copy's files. What a root has below another is part of that one's newest snapshot if that is newer.
    fn files(&mut self, snapshots: &Snapshots) -> Result<u64, EngineError> {
        let roots = snapshots.roots()?;
        let is_part = |inner: &SnapshotRecord| {
            let holds = |outer: &SnapshotRecord| outer.recursive && inner.root.is_within(&outer.root);
            roots.iter().any(|outer| outer.number > inner.number && holds(outer))
        };
        let mut sum: u64 = 0;
        for record in roots.iter().filter(|record| !is_part(record)) {
            let bytes = match self.roots.get(&record.root) {
                Some((number, bytes)) if *number == record.number => *bytes,
                _ => record.bytes.saturating_add(kept_bytes(snapshots, record.number)?),
            };
            self.roots.insert(record.root.clone(), (record.number, bytes));
            sum = sum.saturating_add(bytes);
        }
        self.roots.retain(|root, _| roots.iter().any(|record| record.root == *root));
        Ok(sum)
    }

    /// Staging folders come and go without us: of runs that were cut, and when nobody comes back for them.
    fn look_at_staging(&mut self, staging: &SafeDir, name: &CopyName) -> Result<(), EngineError> {
        let there: Vec<String> =
            staging.names()?.into_iter().filter_map(|entry| String::from_utf8(entry.name).ok()).collect();
        self.staged.retain(|id, _| there.contains(id));
        for id in there {
            if self.staged.contains_key(&id) {
                continue;
            }
            let Ok(folder) = staging.open_child(id.as_bytes()) else { continue };
            if is_of(&folder, name) {
                self.staged.insert(id, bytes_within(&folder)?);
            }
        }
        Ok(())
    }
}

/// Bytes of the files that a snapshot says the copy holds beyond what its source had.
fn kept_bytes(snapshots: &Snapshots, number: u64) -> Result<u64, EngineError> {
    let manifest = snapshots.open_manifest(number)?;
    if manifest.header().counts.kept == 0 {
        return Ok(0);
    }
    let mut sum: u64 = 0;
    for record in manifest {
        let record = record?;
        let file = record.entry.file().filter(|_| record.kept);
        sum = sum.saturating_add(file.map_or(0, |file| file.size));
    }
    Ok(sum)
}

/// Whether a staging folder is of this copy: its first line says so.
fn is_of(folder: &SafeDir, name: &CopyName) -> bool {
    use std::io::Read;
    let line = format!("copy {}\n", name.component());
    let mut said = vec![0; line.len()];
    folder.open_read(b"owner").is_ok_and(|mut file| file.read_exact(&mut said).is_ok()) && said == line.as_bytes()
}

/// Bytes of the files in a staging folder that are nowhere else.
fn bytes_within(folder: &SafeDir) -> Result<u64, TreeError> {
    let (mut todo, mut sum) = (vec![RelPath::root()], 0_u64);
    while let Some(path) = todo.pop() {
        let Ok(dir) = folder.open_dir(&path) else { continue };
        for entry in dir.names()? {
            match dir.stat(&entry.name) {
                Ok(stat) if stat.kind == FileKind::Dir => todo.extend(path.join(&entry.name)),
                Ok(stat) if stat.kind == FileKind::File && stat.nlink == 1 => sum = sum.saturating_add(stat.size),
                _ => {}
            }
        }
    }
    Ok(sum)
}

/// What a copy takes, looked at now.
///
/// # Errors
/// The store cannot be read.
pub(crate) fn usage(hub: &Hub, name: &CopyName) -> Result<Usage, EngineError> {
    let account = hub.accounts.of(name);
    let mut state = account.lock();
    state.look(hub, name)?;
    Ok(state.usage())
}

impl Accounts {
    fn of(&self, name: &CopyName) -> Arc<Account> {
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(accounts.entry(name.clone()).or_default())
    }
}

/// How far beyond its quota an identity may go, for a run that does not grow.
pub(crate) fn overdraft(quota: u64) -> u64 {
    (quota / 16).min(OVERDRAFT_BYTES_MAX)
}

/// What one run may still take. See the module.
pub(crate) struct Room<'a> {
    hub: &'a Hub,
    copy: CopyName,
    quota: Option<Quota>,
    /// Staged since the file system was asked.
    unseen: AtomicU64,
}

struct Quota {
    bytes: u64,
    account: Arc<Account>,
    /// The run's staging folder.
    id: String,
}

impl<'a> Room<'a> {
    /// For a run that holds its lease; `staged`: what an earlier one left it.
    ///
    /// # Errors
    /// What the copy takes cannot be found out.
    pub(crate) fn of(hub: &'a Hub, who: &Who, root: &RelPath, staged: u64) -> Result<Self, EngineError> {
        let copy = who.copy().clone();
        let quota = match hub.options.space.quota(&hub.registry.refresh(&who.identity)?) {
            None => None,
            Some(bytes) => {
                let (account, id) = (hub.accounts.of(&copy), staging_id(&copy, root));
                let mut state = account.lock();
                state.look(hub, &copy)?;
                state.staged.insert(id.clone(), staged);
                drop(state);
                Some(Quota { bytes, account, id })
            }
        };
        Ok(Self { hub, copy, quota, unseen: AtomicU64::new(LOOK_EVERY_BYTES) })
    }

    /// So many bytes are about to be staged, or have just been.
    ///
    /// # Errors
    /// [`ErrorKind::NoSpace`]: there is no room for them.
    pub(crate) fn take(&self, bytes: u64) -> Result<(), EngineError> {
        if bytes == 0 {
            return Ok(());
        }
        if self.unseen.fetch_add(bytes, Ordering::Relaxed) >= LOOK_EVERY_BYTES {
            self.unseen.store(0, Ordering::Relaxed);
            self.check_reserve()?;
        }
        let Some(quota) = &self.quota else { return Ok(()) };
        let mut state = quota.account.lock();
        let staged = state.staged.entry(quota.id.clone()).or_default();
        *staged = staged.saturating_add(bytes);
        let usage = state.usage();
        if usage.total() > quota.bytes.saturating_add(overdraft(quota.bytes)) {
            return Err(self.over(quota.bytes, usage));
        }
        Ok(())
    }

    /// All has arrived: `staged` bytes of it are needed, and `copied` more are made of what the store has.
    ///
    /// # Errors
    /// [`ErrorKind::NoSpace`].
    pub(crate) fn check(&self, staged: u64, copied: u64, grows: bool) -> Result<(), EngineError> {
        let new = staged.saturating_add(copied);
        if copied > 0 {
            self.check_reserve()?;
        }
        let Some(quota) = &self.quota else { return Ok(()) };
        let mut state = quota.account.lock();
        state.staged.insert(quota.id.clone(), new);
        let (usage, overdraft) = (state.usage(), if grows { 0 } else { overdraft(quota.bytes) });
        if new > 0 && usage.total() > quota.bytes.saturating_add(overdraft) {
            return Err(self.over(quota.bytes, usage));
        }
        Ok(())
    }

    /// What was staged is part of the copy now.
    pub(crate) fn committed(&self) {
        if let Some(quota) = &self.quota {
            let mut state = quota.account.lock();
            let staged = state.staged.remove(&quota.id).unwrap_or(0);
            // Until it is looked at again: what it replaced is history now, so the sum is right.
            state.copy = state.copy.saturating_add(staged);
        }
    }

    /// What was staged has been removed.
    pub(crate) fn given_back(&self) {
        if let Some(quota) = &self.quota {
            quota.account.lock().staged.remove(&quota.id);
        }
    }

    fn over(&self, quota: u64, usage: Usage) -> EngineError {
        let message = format!(
            "this backup does not fit into the quota of {}: {} of {} are used ({} in files, {} in history), and this needs {} \
             more. Nothing was changed. Deleting helps once history expires; leave out what need not be kept (--exclude), \
             or let the server's administrator raise the quota or prune",
            self.copy,
            show_bytes(usage.copy.saturating_add(usage.history)),
            show_bytes(quota),
            show_bytes(usage.copy),
            show_bytes(usage.history),
            show_bytes(usage.staging),
        );
        EngineError::new(ErrorKind::NoSpace, message)
    }

    fn check_reserve(&self) -> Result<(), EngineError> {
        let Ok(disk) = rustix::fs::statvfs(self.hub.store.root()) else { return Ok(()) };
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        // What the file system itself reserves for root is free for a daemon that is root.
        let free = bytes(if rustix::process::geteuid().is_root() { disk.f_bfree } else { disk.f_bavail });
        let reserve = self.hub.options.space.reserve.unwrap_or_else(|| reserve_of(bytes(disk.f_blocks)));
        if free >= reserve {
            return Ok(());
        }
        let root = escape(self.hub.store.root().as_os_str().as_encoded_bytes());
        let message = format!(
            "the disk of '{root}' has {} left, and {} are kept free so that the server can be managed ([limits] reserve). \
             Nothing was changed. The server's administrator makes room: a larger disk, or 'rbbackupd prune'",
            show_bytes(free),
            show_bytes(reserve)
        );
        Err(EngineError::new(ErrorKind::NoSpace, message))
    }
}

/// The reserve of a file system of this size.
fn reserve_of(bytes: u64) -> u64 {
    (bytes / 100).min(RESERVE_BYTES)
}

#[cfg(test)]
mod tests;
