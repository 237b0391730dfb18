//! What each copy takes: its files, its history, and what is staged. See [the module](super) for what counts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backup::relpath::RelPath;
use crate::backup::snapshot::SnapshotRecord;
use crate::engine::error::EngineError;
use crate::engine::history;
use crate::engine::hub::Hub;
use crate::store::names::CopyName;
use crate::store::snapshots::Snapshots;
use crate::tree::error::TreeError;
use crate::tree::safe_dir::SafeDir;
use crate::tree::stat::FileKind;

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
pub(super) struct Account {
    state: Mutex<AccountState>,
}

#[derive(Default)]
pub(super) struct AccountState {
    pub(super) copy: u64,
    history: u64,
    /// By the staging folder's name.
    pub(super) staged: HashMap<String, u64>,
    /// Of each root, the bytes of what a snapshot names.
    roots: HashMap<RelPath, (u64, u64)>,
}

impl Account {
    pub(super) fn lock(&self) -> MutexGuard<'_, AccountState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AccountState {
    pub(super) fn usage(&self) -> Usage {
        let staging = self.staged.values().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
        Usage { copy: self.copy, history: self.history, staging }
    }

    /// The same, if so many bytes were staged there.
    pub(super) fn usage_with(&self, id: &str, staged: u64) -> Usage {
        let usage = self.usage();
        let before = self.staged.get(id).copied().unwrap_or(0);
        Usage { staging: usage.staging.saturating_sub(before).saturating_add(staged), ..usage }
    }

    /// Looks at what may have changed since it was looked at last.
    pub(super) fn look(&mut self, hub: &Hub, name: &CopyName) -> Result<(), EngineError> {
        let snapshots = hub.store.snapshots(name)?;
        self.copy = self.files(&snapshots)?;
        self.history = history::known(hub, name)?.1.saturating_add(snapshots.bytes_on_disk()?);
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

/// Bytes of the content in a staging folder that is nowhere else.
fn bytes_within(folder: &SafeDir) -> Result<u64, TreeError> {
    let mut todo: Vec<RelPath> = ["tree", "spare"].iter().flat_map(|name| RelPath::new(name.as_bytes())).collect();
    let mut sum: u64 = 0;
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
    pub(super) fn of(&self, name: &CopyName) -> Arc<Account> {
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(accounts.entry(name.clone()).or_default())
    }
}
