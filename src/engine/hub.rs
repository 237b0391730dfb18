//! [`Hub`]: everything that the sessions of one open store share, in the daemon as with `--store`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::client::now;
use super::clock::Clock;
use super::error::{EngineError, ErrorKind};
use super::fan_out::board::Board;
use super::fan_out::heal::Healing;
use super::fan_out::pace::Pace;
use super::live::Live;
use super::recover::{self, Pending};
use super::room::Accounts;
use super::rules::{Rules, RulesInForce};
use super::trust::keys::Keys;
use super::upkeep::Bell;
use super::vaults::Vaults;
use crate::backup::digest::RunId;
use crate::backup::fingerprint::Timestamp;
use crate::backup::relpath::RelPath;
use crate::backup::snapshot::ClientInfo;
use crate::net::connections::Connections;
use crate::store::catalog::{Catalog, CopyId};
use crate::store::commit::{CommitDirs, CommitError};
use crate::store::invitations::Invitations;
use crate::store::layout::{OpenMode, Store};
use crate::store::leases::Leases;
use crate::store::names::CopyName;
use crate::store::registry::{Identity, Registry};
use crate::store::staging::Staging;
use crate::tree::safe_dir::SafeDir;

/// What an operator decides.
#[derive(Clone, Debug, Default)]
pub(crate) struct HubOptions {
    /// Accept a first contact from any address.
    pub(crate) trust_first_use: bool,
    /// The folder is a relay's state: no copy is kept.
    pub(crate) relay: bool,
    /// How much is kept, and how much may be stored, until that is changed.
    pub(crate) rules: Rules,
    /// What time it is.
    pub(crate) clock: Clock,
}

impl HubOptions {
    /// The store engine inside the client's process.
    pub(crate) fn in_process() -> Self {
        Self::default()
    }
}

/// See the module.
pub(crate) struct Hub {
    pub(crate) store: Store,
    pub(crate) own: Arc<SafeDir>,
    pub(crate) catalog: Catalog,
    pub(crate) registry: Registry,
    pub(crate) invitations: Invitations,
    /// The daemon's own key.
    pub(super) keys: Keys,
    pub(crate) leases: Arc<Leases>,
    pub(crate) options: HubOptions,
    pub(crate) started: Instant,
    pub(crate) sessions: AtomicU32,
    /// What an operator may change meanwhile.
    pub(super) rules: RulesInForce,
    /// Of the listener, by key.
    pub(crate) connections: Connections,
    /// How much the copies take.
    pub(super) accounts: Accounts,
    /// A flush failed: nothing is written any more.
    closed: AtomicBool,
    /// Commits that could not be finished; their copies take nothing new.
    pending: Pending,
    /// Roots whose copy is known to be exactly a snapshot's manifest: by copy and root, the snapshot's number.
    exact: Mutex<HashMap<(CopyName, RelPath), u64>>,
    /// Whose turn it is to change a copy.
    turns: Mutex<HashMap<CopyName, Arc<Mutex<()>>>>,
    /// Held while a staging folder is opened or taken away; when unclaimed ones were looked for last.
    pub(super) swept: Mutex<Timestamp>,
    pub(super) vaults: Vaults,
    /// Held by who packs, prunes, or puts a damaged file aside: what is packed relies on what the vault has. Taken before
    /// any lease: who has it may wait until none is held.
    pub(super) housekeeping: Mutex<()>,
    /// Wakes upkeep.
    pub(super) bell: Bell,
    /// Which destinations are connected.
    pub(super) board: Board,
    /// Brings them up to date.
    pub(super) healing: Arc<Healing>,
    /// How long a run waits for them.
    pub(super) pace: Pace,
    /// What goes on, for those who watch.
    pub(super) live: Live,
}

impl Hub {
    /// Opens the store (made if it is an empty place), finishes what a crash interrupted, opens the catalog.
    ///
    /// # Errors
    /// The store cannot be used: each with the sentence that says why.
    pub(crate) fn open(store: &Path, options: HubOptions) -> Result<Self, EngineError> {
        let store = if options.relay { Store::open_or_create_relay(store) } else { Store::open_or_create(store) }?;
        let own = Arc::new(store.meta_dir()?);
        let pending = recover::finish_commits(&store, &own)?;
        let catalog = Catalog::open(&store.catalog_path())?;
        Self::with(store, own, catalog, pending, options)
    }

    /// Opens the store to read it: beside a daemon, from a file system that is read-only, whatever became of the
    /// catalog. Nothing is changed, and what a crash interrupted stays as it is.
    ///
    /// # Errors
    /// There is no store, or it cannot be read.
    pub(crate) fn open_to_read(store: &Path) -> Result<Self, EngineError> {
        let store = Store::open(store, OpenMode::ReadOnly)?;
        let own = Arc::new(store.meta_dir()?);
        let catalog = Catalog::open_to_read(&store.catalog_path())?;
        Self::with(store, own, catalog, Pending::default(), HubOptions::in_process())
    }

    fn with(
        store: Store,
        own: Arc<SafeDir>,
        catalog: Catalog,
        pending: Pending,
        mut options: HubOptions,
    ) -> Result<Self, EngineError> {
        let registry = Registry::open(&store.registry_path())?;
        let invitations = Invitations::new(&store.meta_path("invitations"));
        Ok(Self {
            store,
            own,
            catalog,
            registry,
            invitations,
            keys: Keys::default(),
            leases: Leases::new(),
            rules: RulesInForce::new(std::mem::take(&mut options.rules)),
            options,
            started: Instant::now(),
            sessions: AtomicU32::new(0),
            connections: Connections::default(),
            accounts: Accounts::default(),
            closed: AtomicBool::new(false),
            pending,
            exact: Mutex::default(),
            turns: Mutex::default(),
            swept: Mutex::new(now()),
            vaults: Vaults::default(),
            housekeeping: Mutex::default(),
            bell: Bell::default(),
            board: Board::default(),
            healing: Arc::default(),
            pace: Pace::default(),
            live: Live::default(),
        })
    }

    /// A folder of `.rbbackup`.
    pub(crate) fn own_dir(&self, name: &str) -> Result<SafeDir, EngineError> {
        Ok(self.own.open_dir(&RelPath::new(name.as_bytes()).unwrap_or_default())?)
    }

    /// The staging of a root whose lease is held.
    pub(crate) fn open_staging(&self, copy: &CopyName, root: &RelPath) -> Result<Staging, EngineError> {
        let _swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Staging::open(&self.own_dir("staging")?, copy, root, self.store.policy())?)
    }

    /// This moment, by the store's clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    /// Whether another process may be the one that writes.
    pub(crate) fn is_read_only(&self) -> bool {
        self.store.mode() == OpenMode::ReadOnly
    }

    /// Whether it only passes on.
    pub(crate) fn is_relay(&self) -> bool {
        self.options.relay
    }

    /// Whether a commit waits to be finished.
    pub(super) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// What a commit to a copy works in.
    pub(crate) fn commit_dirs(&self, copy: &OpenCopy) -> CommitDirs {
        let turn = self.turn(&copy.name);
        CommitDirs { own: Arc::clone(&self.own), copy: Arc::clone(&copy.dir), policy: self.store.policy(), turn }
    }

    fn turn(&self, copy: &CopyName) -> Arc<Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(copy.clone()).or_default())
    }

    /// Finishes what an earlier commit of this copy left to do. To be asked with the lease in hand: who waited for it
    /// may wait for a commit that failed.
    ///
    /// # Errors
    /// Nothing can be written: to the store, since a flush failed, or to this copy, since that commit cannot be finished.
    pub(crate) fn make_ready(&self, copy: &CopyName) -> Result<(), EngineError> {
        self.check_flushed()?;
        let retried = self.pending.retry(&self.store, &self.own, copy, &|name| self.turn(name));
        retried.map_err(|(why, flush)| {
            if flush {
                self.close();
            }
            why
        })
    }

    /// Refuses what [`Hub::make_ready`] would, and does nothing. To be asked right before a commit.
    pub(crate) fn check_open(&self, copy: &CopyName) -> Result<(), EngineError> {
        self.check_flushed()?;
        self.pending.check(copy)
    }

    /// To be asked right before a commit: the copy is open, and who began the run is still let in.
    pub(crate) fn check_commit(&self, who: &Who) -> Result<(), EngineError> {
        self.check_open(who.copy())?;
        self.registry.refresh(&who.identity)?;
        Ok(())
    }

    /// Why this copy takes nothing new, if an interrupted commit is the reason.
    pub(crate) fn waits_for(&self, copy: &CopyName) -> Option<EngineError> {
        self.pending.check(copy).err()
    }

    fn check_flushed(&self) -> Result<(), EngineError> {
        if self.is_read_only() {
            return Err(EngineError::new(ErrorKind::Failed, "the store was opened to be read only"));
        }
        if self.closed.load(Ordering::SeqCst) {
            let message = "the store is closed for writing since the disk failed to flush; look at the disk, then restart rbbackupd";
            return Err(EngineError::new(ErrorKind::Failed, message));
        }
        Ok(())
    }

    /// Whether nothing is written any more.
    pub(super) fn is_closed(&self) -> bool {
        self.check_flushed().is_err()
    }

    /// No more writing: the disk did not take a flush.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// What to make of a commit that failed. Before its journal is written an error costs that run alone. Afterwards
    /// the copy is closed until the commit is finished: another run would clear away what the journal still needs.
    /// After a flush that failed only the next start can tell what is on disk.
    pub(crate) fn commit_failed(&self, run: RunId, copy: &CopyName, error: CommitError) -> EngineError {
        if error.is_flush() {
            self.close();
        } else if matches!(error, CommitError::Unfinished(_)) {
            tracing::error!("{copy}: {error}");
            self.pending.add(&self.store, run, copy, &error);
        }
        error.into()
    }

    /// The snapshot that the copy below `root` is exactly, if that is known.
    pub(crate) fn exact(&self, copy: &CopyName, root: &RelPath) -> Option<u64> {
        let exact = self.exact.lock().unwrap_or_else(PoisonError::into_inner);
        exact.get(&(copy.clone(), root.clone())).copied()
    }

    /// What lies below `root` has changed or may have: nothing that overlaps is known to be exact, but `snapshot`, if
    /// given, is what the root holds now.
    pub(crate) fn set_exact(&self, copy: &CopyName, root: &RelPath, snapshot: Option<u64>) {
        let mut exact = self.exact.lock().unwrap_or_else(PoisonError::into_inner);
        exact.retain(|(c, r), _| c != copy || !(r.is_within(root) || root.is_within(r)));
        if let Some(number) = snapshot {
            exact.insert((copy.clone(), root.clone()), number);
        }
    }
}

/// Who a session is with.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    pub(crate) identity: Identity,
    pub(crate) address: Option<IpAddr>,
    pub(crate) software: String,
}

impl Who {
    /// Its copy.
    pub(crate) fn copy(&self) -> &CopyName {
        &self.identity.copy
    }

    /// For records.
    pub(crate) fn info(&self) -> ClientInfo {
        let address = self.address.map_or_else(|| "local".to_owned(), |a| a.to_string());
        ClientInfo { key: self.identity.key.unwrap_or_default(), address, software: self.software.clone() }
    }

    /// For people: `user at address`, with the copy's node where that is another name.
    pub(crate) fn name(&self) -> String {
        let copy = self.copy();
        match self.address {
            Some(address) if copy.node() != address.to_string() => format!("{copy} at {address}"),
            Some(address) => format!("{} at {address}", copy.user()),
            None => format!("{} on this machine (--store)", copy.user()),
        }
    }
}

/// One copy, open for work.
pub(crate) struct OpenCopy {
    pub(crate) name: CopyName,
    pub(crate) id: CopyId,
    pub(crate) dir: Arc<SafeDir>,
}

impl OpenCopy {
    /// Opens the copy's folder, made if missing.
    pub(crate) fn open(hub: &Hub, name: &CopyName) -> Result<Self, EngineError> {
        let dir = Arc::new(hub.store.copy_dir(name)?);
        Ok(Self { name: name.clone(), id: hub.catalog.copy_id(name)?, dir })
    }
}
