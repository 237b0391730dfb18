//! `Room`: how much more a run may stage: the copy's quota, and what the file system keeps free.
//!
//! **What counts** against a quota, in bytes: the files of the copy as its snapshots name them, with their whole length (a
//! sparse file's holes too, a file with several names once); history as it lies on disk: what is packed, compressed as it
//! is, what waits to be, and the snapshots' records and manifests; and what is staged, also what a run left that was cut.
//!
//! **Cheap.** No tree is walked: a root's files are known from its newest snapshot, history from two sums in the catalog
//! and one folder's names, and all of it is asked once a run. While content arrives one number is added to. Without a
//! quota not even that is done.
//!
//! **Growing only.** A run that stages nothing is never refused. Who is over the quota may still stage a little
//! (`overdraft`) for a run that leaves its root no larger than it was: whether it does is known only at its end. So is
//! whether a file that is put together of what the store has is needed at all; it counts then.
//!
//! **The reserve** is for what keeps a full disk manageable: commits under way, records, the catalog's log, and packs that
//! are written anew so that others can go. Content is refused while less is free, and new files while inodes run out; a
//! manifest only below half of it. Nothing else is.

mod accounts;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use self::accounts::Account;
pub(crate) use self::accounts::{Accounts, Usage, usage};
use super::error::{EngineError, ErrorKind};
use super::hub::{Hub, Who};
use crate::backup::bytes::{escape, show_bytes};
use crate::backup::relpath::RelPath;
use crate::store::names::CopyName;
use crate::store::registry::Identity;
use crate::store::staging::staging_id;
use crate::tree::file_system::left_of;

/// The file system is asked again when a quarter of what it had beyond the reserve has been staged; at most and at least
/// after so much.
const LOOK_BYTES_MAX: u64 = 16 << 20;
const LOOK_BYTES_MIN: u64 = 256 << 10;
/// The reserve unless somebody says otherwise: this, or a hundredth of the file system if that is less.
const RESERVE_BYTES: u64 = 1 << 30;
/// Inodes that stay free, or a hundredth of them if that is less.
const RESERVE_INODES: u64 = 10_000;
/// What a file takes at least.
const FILE_BYTES: u64 = 4096;
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

/// How far beyond its quota an identity may go, for a run that does not grow.
pub(crate) fn overdraft(quota: u64) -> u64 {
    (quota / 16).min(OVERDRAFT_BYTES_MAX)
}

/// How much of the reserve must be there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    Half,
}

/// What one run may still take. See the module.
pub(crate) struct Room<'a> {
    hub: &'a Hub,
    copy: CopyName,
    quota: Option<Quota>,
    /// What may be staged before the file system is asked again: beyond the reserve, and beyond half of it.
    unasked: [Mutex<u64>; 2],
}

struct Quota {
    bytes: u64,
    account: Arc<Account>,
    /// The run's staging folder.
    id: String,
    /// Bytes of files that were put together of what the store has.
    composed: Mutex<u64>,
}

impl<'a> Room<'a> {
    /// For a run that holds its lease; `staged`: what an earlier one left it.
    ///
    /// # Errors
    /// What the copy takes cannot be found out.
    pub(crate) fn of(hub: &'a Hub, who: &Who, root: &RelPath, staged: u64) -> Result<Self, EngineError> {
        let copy = who.copy().clone();
        let quota = match hub.rules.now().space.quota(&hub.registry.refresh(&who.identity)?) {
            None => None,
            Some(bytes) => {
                let (account, id) = (hub.accounts.of(&copy), staging_id(&copy, root));
                let mut state = account.lock();
                state.look(hub, &copy)?;
                state.staged.insert(id.clone(), staged);
                drop(state);
                Some(Quota { bytes, account, id, composed: Mutex::default() })
            }
        };
        Ok(Self { hub, copy, quota, unasked: Default::default() })
    }

    /// So many bytes of so many files are about to be staged, or have just been.
    ///
    /// # Errors
    /// [`ErrorKind::NoSpace`]: there is no room for them.
    pub(crate) fn take(&self, bytes: u64, files: u64) -> Result<(), EngineError> {
        if bytes == 0 && files == 0 {
            return Ok(());
        }
        self.ask_after(bytes.saturating_add(files.saturating_mul(FILE_BYTES)), Part::Whole)?;
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

    /// So many bytes of a manifest are about to be kept. It counts against no quota before it is committed: a run that
    /// only deletes has one too.
    ///
    /// # Errors
    /// [`ErrorKind::NoSpace`]: half of the reserve is used up.
    pub(crate) fn note(&self, bytes: u64) -> Result<(), EngineError> {
        self.ask_after(bytes, Part::Half)
    }

    /// A file is about to be begun that may come to nothing: one of the copy is offered again when it may have changed.
    ///
    /// # Errors
    /// As [`Room::note`].
    pub(crate) fn begin_file(&self) -> Result<(), EngineError> {
        self.ask_after(FILE_BYTES, Part::Half)
    }

    /// So many bytes of a file have been put together of what the store has. Whether they count is known at the end: the
    /// copy may have this very file. Until then a run may compose as much as its quota.
    ///
    /// # Errors
    /// [`ErrorKind::NoSpace`].
    pub(crate) fn compose(&self, bytes: u64) -> Result<(), EngineError> {
        if bytes == 0 {
            return Ok(());
        }
        self.ask_after(bytes, Part::Whole)?;
        let Some(quota) = &self.quota else { return Ok(()) };
        let mut composed = quota.composed.lock().unwrap_or_else(PoisonError::into_inner);
        *composed = composed.saturating_add(bytes);
        if *composed > quota.bytes {
            return Err(self.over(quota.bytes, Usage { staging: *composed, ..quota.account.lock().usage() }));
        }
        Ok(())
    }

    /// Asks the file system, unless it had room enough a moment ago.
    fn ask_after(&self, bytes: u64, part: Part) -> Result<(), EngineError> {
        let [whole, half] = &self.unasked;
        let unasked = if part == Part::Whole { whole } else { half };
        let mut unasked = unasked.lock().unwrap_or_else(PoisonError::into_inner);
        *unasked = match unasked.checked_sub(bytes) {
            Some(left) => left,
            None => self.beyond_reserve(part)?.saturating_div(4).clamp(LOOK_BYTES_MIN, LOOK_BYTES_MAX),
        };
        Ok(())
    }

    /// All has arrived: `staged` bytes of it are needed, and `copied` more are made of what the store has.
    ///
    /// # Errors
    /// [`ErrorKind::NoSpace`].
    pub(crate) fn check(&self, staged: u64, copied: u64, grows: bool) -> Result<(), EngineError> {
        let new = staged.saturating_add(copied);
        if copied > 0 {
            self.beyond_reserve(Part::Whole)?;
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

    /// What [`Room::check`] would say of the quota to a run that has yet to send most of it: of what it needs `here` bytes are
    /// staged already, and `to_come` are not. Nothing is taken. Of the disk nothing can be said: what is copied may share
    /// blocks, and holes take none.
    ///
    /// # Errors
    /// [`ErrorKind::NoSpace`].
    pub(crate) fn foresee(&self, here: u64, to_come: u64, grows: bool) -> Result<(), EngineError> {
        let Some(quota) = &self.quota else { return Ok(()) };
        let (new, overdraft) = (here.saturating_add(to_come), if grows { 0 } else { overdraft(quota.bytes) });
        let usage = quota.account.lock().usage_with(&quota.id, new);
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
             more at least. Nothing was changed. Deleting helps once history expires; leave out what need not be kept (--exclude), \
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

    /// Free bytes beyond that part of the reserve.
    fn beyond_reserve(&self, part: Part) -> Result<u64, EngineError> {
        // What cannot be asked is found out by writing.
        let Some(disk) = left_of(self.hub.store.root_dir()) else { return Ok(u64::MAX) };
        let reserve = self.hub.rules.now().space.reserve.unwrap_or_else(|| reserve_of(disk.total));
        let part = if part == Part::Whole { 1 } else { 2 };
        let inodes = (disk.inodes_total / 100).min(RESERVE_INODES);
        match disk.bytes.checked_sub(reserve / part) {
            Some(beyond) if disk.inodes >= inodes / part => return Ok(beyond),
            _ => {}
        }
        let root = escape(self.hub.store.root().as_os_str().as_encoded_bytes());
        let message = format!(
            "there is no space left: the disk of '{root}' has {} and {} inodes, and {} and {} inodes are kept free so that the server can be \
             managed ([limits] reserve). Nothing was changed. The server's administrator makes room: a larger disk, or \
             'rbbackupd prune'",
            show_bytes(disk.bytes),
            disk.inodes,
            show_bytes(reserve),
            inodes,
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
