//! Pruning: snapshots that no rule keeps expire, and the space that only they needed is given back.
//!
//! Copy by copy: a verdict for each record (`backup::retention`), then what goes is renamed, then what nothing stands on is
//! removed. One copy's trouble is told in its report and stops no other. Backups, restores and listings go on meanwhile:
//! the newest record of a root, which a run may stand on, does not expire, and a restore pins what it reads. Packing and
//! pruning of one store take turns (`Hub::housekeeping`), as a rule in one thread.
//!
//! A copy with a record that cannot be read, or with a commit that is not finished, is left alone: what must stay is not
//! known there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::PoisonError;

use super::error::{EngineError, ErrorKind};
use super::hub::{Hub, HubOptions};
use super::stop::Stop;
use super::upkeep;
use crate::backup::digest::RunId;
use crate::backup::fingerprint::Timestamp;
use crate::backup::relpath::RelPath;
use crate::backup::retention::{Candidate, Policy, Reason, Verdict, decide, release_for};
use crate::store::names::CopyName;
use crate::store::snapshots::Snapshots;
use crate::tree::own;

mod foresee;
mod mark;
mod sweep;

pub use sweep::Swept;

/// How much of the past is kept, of whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Of everybody who is not named.
    pub default: Policy,
    /// Of those who are.
    pub copies: BTreeMap<CopyName, Policy>,
}

impl Retention {
    /// What holds for a copy.
    pub fn policy(&self, copy: &CopyName) -> Policy {
        self.copies.get(copy).copied().unwrap_or(self.default)
    }
}

/// What pruning did, or, in a dry run, would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Nothing was changed.
    pub dry_run: bool,
    /// By name.
    pub copies: Vec<CopyReport>,
    /// Identities that the configuration names and the store does not have.
    pub strangers: Vec<CopyName>,
}

impl PruneReport {
    /// Snapshots that went, or would go.
    pub fn expired(&self) -> usize {
        self.copies.iter().flat_map(|copy| &copy.snapshots).filter(|snapshot| !snapshot.keep).count()
    }

    /// Whether all was well.
    pub fn is_clean(&self) -> bool {
        self.copies.iter().all(|copy| copy.trouble.is_none())
    }
}

/// What became of one copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyReport {
    /// Which.
    pub copy: CopyName,
    /// All its snapshots, by number.
    pub snapshots: Vec<Judged>,
    /// What was given back of its packs, or would be.
    pub swept: Swept,
    /// Bytes of the records and manifests that went, or would go.
    pub record_bytes: u64,
    /// What would be given back is known to the byte; of what was it always is.
    pub exact: bool,
    /// Why not all was done that is said here.
    pub trouble: Option<String>,
}

impl CopyReport {
    fn of(copy: CopyName) -> Self {
        Self { copy, snapshots: Vec::new(), swept: Swept::default(), record_bytes: 0, exact: true, trouble: None }
    }
}

/// A snapshot and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Its number.
    pub number: u64,
    /// Its root.
    pub root: RelPath,
    /// When it was committed, seconds since 1970.
    pub time_secs: i64,
    /// All of the source could be read.
    pub complete: bool,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether it stays.
    pub keep: bool,
    /// Why.
    pub reasons: Vec<Reason>,
}

impl PruneReport {
    /// Bytes that were given back, or would be, less those that were written.
    pub fn freed(&self) -> u64 {
        let sum = |of: fn(&CopyReport) -> u64| self.copies.iter().map(of).sum::<u64>();
        let removed = sum(|copy| copy.swept.bytes_removed + copy.record_bytes);
        removed.saturating_sub(sum(|copy| copy.swept.bytes_written))
    }

    /// Whether [`PruneReport::freed`] is known, not reckoned.
    pub fn is_exact(&self) -> bool {
        self.copies.iter().all(|copy| copy.exact)
    }
}

/// What pruning of one copy would give back.
struct Foreseen {
    record_bytes: u64,
    swept: Swept,
    exact: bool,
}

/// Prunes the store at `path`, which no other process has open for writing; a dry run only reads, also beside a daemon.
///
/// # Errors
/// The store cannot be opened, or somebody asked to stop.
pub fn prune_store(path: &Path, retention: &Retention, dry_run: bool, stop: &Stop) -> Result<PruneReport, EngineError> {
    let hub = if dry_run { Hub::open_to_read(path)? } else { Hub::open(path, HubOptions::default())? };
    let go_on = || !stop.is_asked();
    if !dry_run {
        // What is not packed cannot be given back.
        upkeep::once(&hub, &go_on);
    }
    prune(&hub, retention, hub.now(), dry_run, &go_on)
}

/// Lets go what snapshot `number` is kept for: as the one that was there before a run that took most of the root away, or
/// as that run. Returns the numbers of the runs that are released.
///
/// # Errors
/// Nothing is kept for that reason, or the store cannot be used.
pub fn release_in_store(path: &Path, copy: &CopyName, number: u64) -> Result<Vec<u64>, EngineError> {
    release(&Hub::open(path, HubOptions::default())?, copy, number)
}

/// See [`prune_store`]. `go_on` is asked between copies and packs.
///
/// # Errors
/// The store cannot be listed, or it was told to stop.
pub(crate) fn prune(
    hub: &Hub,
    retention: &Retention,
    now: Timestamp,
    dry_run: bool,
    go_on: &dyn Fn() -> bool,
) -> Result<PruneReport, EngineError> {
    let mut report = PruneReport { dry_run, ..PruneReport::default() };
    let _alone = (!dry_run).then(|| hub.housekeeping.lock().unwrap_or_else(PoisonError::into_inner));
    let copies = hub.store.copies()?;
    report.strangers.extend(retention.copies.keys().filter(|copy| !copies.contains(copy)).cloned());
    for copy in copies {
        if !go_on() {
            return Err(interrupted());
        }
        let mut done = CopyReport::of(copy);
        match prune_copy(hub, &retention.policy(&done.copy), now, go_on, &mut done, dry_run) {
            Err(error) if error.kind == ErrorKind::Interrupted => return Err(error),
            outcome => done.trouble = outcome.err().map(|error| error.message),
        }
        report.copies.push(done);
    }
    Ok(report)
}

fn prune_copy(
    hub: &Hub,
    policy: &Policy,
    now: Timestamp,
    go_on: &dyn Fn() -> bool,
    report: &mut CopyReport,
    dry_run: bool,
) -> Result<(), EngineError> {
    let snapshots = hub.store.snapshots(&report.copy)?;
    if let Some((_, why)) = snapshots.damaged()?.first() {
        let message = format!("nothing of {} is pruned, for what it needs is not known: {why}", report.copy);
        return Err(EngineError::new(ErrorKind::Failed, message));
    }
    report.snapshots = judge(&snapshots, policy, now)?;
    let gone: Vec<u64> = report.snapshots.iter().filter(|judged| !judged.keep).map(|judged| judged.number).collect();
    let oldest = now.minus(i64::try_from(policy.min_age_secs).unwrap_or(i64::MAX), 0);
    if dry_run {
        let look = || foresee::foresee(hub, &report.copy, &snapshots, &gone, oldest, go_on);
        // A daemon that sweeps meanwhile takes packs away.
        let Foreseen { record_bytes, swept, exact } =
            look().or_else(|_| look()).inspect_err(|_| report.exact = false)?;
        (report.record_bytes, report.swept, report.exact) = (record_bytes, swept, exact);
        return Ok(());
    }
    hub.check_open(&report.copy)?;
    if snapshots.expire(&gone)? > 0 {
        tracing::info!("{}: {} snapshots expired", report.copy, gone.len());
    }
    let is_packed = is_packed(hub);
    (_, report.record_bytes) = snapshots.clear_expired(&|record| is_packed(record.run))?;
    let done = sweep::sweep(hub, &report.copy, &snapshots, oldest, go_on, &mut report.swept);
    let Swept { packs_removed, bytes_removed, packs_written, bytes_written } = report.swept;
    if packs_removed > 0 {
        let freed = bytes_removed.saturating_sub(bytes_written);
        tracing::info!("{}: {packs_removed} packs became {packs_written}, {freed} bytes less", report.copy);
    }
    done
}

/// The record tells whose it is what its run retired, until that is packed.
fn is_packed(hub: &Hub) -> impl Fn(RunId) -> bool + use<> {
    let retired = hub.store.meta_path("retired");
    move |run| !own::exists(&retired.join(run.to_hex())).unwrap_or(true)
}

/// Gives back what was purged from a copy and nothing else needs, and nothing else; `Hub::housekeeping` is held. What it
/// does not get done the next pruning does.
///
/// # Errors
/// As pruning.
pub(super) fn sweep_purged(hub: &Hub, copy: &CopyName, go_on: &dyn Fn() -> bool) -> Result<Swept, EngineError> {
    let mut swept = Swept::default();
    // Every pack is young: what no snapshot names for another reason stays.
    sweep::sweep(hub, copy, &*hub.store.snapshots(copy)?, Timestamp::default(), go_on, &mut swept)?;
    Ok(swept)
}

fn interrupted() -> EngineError {
    EngineError::new(ErrorKind::Interrupted, "interrupted; what was pruned stays pruned")
}

/// A verdict for each snapshot.
fn judge(snapshots: &Snapshots, policy: &Policy, now: Timestamp) -> Result<Vec<Judged>, EngineError> {
    let records = snapshots.list()?;
    let verdicts = decide(&candidates(snapshots)?, policy, now);
    let judged = records.iter().zip(verdicts).map(|(record, Verdict { keep, reasons, .. })| Judged {
        number: record.number,
        root: record.root.clone(),
        time_secs: record.received.secs,
        complete: record.complete,
        files: record.files,
        bytes: record.bytes,
        keep,
        reasons,
    });
    Ok(judged.collect())
}

/// All records, by number.
fn candidates(snapshots: &Snapshots) -> Result<Vec<Candidate>, EngineError> {
    let zone = jiff::tz::TimeZone::system();
    let mut candidates = Vec::new();
    for record in snapshots.list()? {
        let moment = jiff::Timestamp::from_second(record.received.secs);
        let offset_secs = moment.map_or(0, |moment| zone.to_offset(moment).seconds());
        candidates.push(Candidate::of(&record, offset_secs, snapshots.is_released(record.number)?));
    }
    Ok(candidates)
}

/// See [`release_in_store`].
///
/// # Errors
/// As there.
pub(crate) fn release(hub: &Hub, copy: &CopyName, number: u64) -> Result<Vec<u64>, EngineError> {
    let nothing = |what: &str| EngineError::new(ErrorKind::Failed, format!("snapshot {number} of {copy} {what}"));
    if !hub.store.copies()?.contains(copy) {
        return Err(EngineError::new(ErrorKind::Failed, format!("there is no copy {copy} in this store")));
    }
    let snapshots = hub.store.snapshots(copy)?;
    let candidates = candidates(&snapshots)?;
    let verdicts = decide(&candidates, &Policy::default(), hub.now());
    let Some(verdict) = verdicts.iter().find(|verdict| verdict.number == number) else {
        return Err(nothing("does not exist, or has expired"));
    };
    let runs = verdict.reasons.iter().flat_map(|reason| release_for(&candidates, number, *reason));
    let runs: BTreeSet<u64> = runs.collect();
    if runs.is_empty() {
        return Err(nothing("is not kept because of a run that took most of its root away"));
    }
    for run in &runs {
        snapshots.release(*run)?;
    }
    Ok(runs.into_iter().collect())
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod thief;
