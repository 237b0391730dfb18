//! Which snapshots stay and which go, and why: values in, a verdict with its reasons out.
//!
//! Each root is judged by itself, and with `-r` apart from without: a run that looks at a folder's own files alone does not
//! stand for the tree. A verdict depends on the records, the policy and the store's clock alone. What a client says of the
//! time counts for nothing. Whatever the policy says, these stay:
//!
//! - what is younger than `min_age`; what the clock says is of the future is young;
//! - the newest record of a root, and its last complete snapshot;
//! - the predecessor of a run that shrank its root beyond the delete guard, and that run's own record, which tells of it,
//!   until somebody releases it;
//! - what was there before many runs did the same together, or one overwrote most of it: see `decline`.
//!
//! A period (an hour, a day, …, on the server's wall clock) is stood for by its newest complete snapshot. An incomplete
//! one stands for a period only if no complete one falls into it: whoever has one file that can never be read still has a
//! history. Periods without a snapshot are not counted, so `daily = 7` means seven days on which there was a backup.
//!
//! Always holds: more of any count, or of `within` or `min_age`, never lets go of more; and what is left is left again when
//! it is judged again.

use std::collections::BTreeMap;

use super::fingerprint::Timestamp;
use super::guard::{GuardInput, check};
use super::relpath::RelPath;
use super::snapshot::{RunKind, SnapshotRecord};

mod decline;
mod reason;

pub use decline::{DECLINE_SECS, LARGEST_SECS, OVERWRITTEN_SECS};
pub use reason::Reason;

const DAY_SECS: u64 = 24 * 3600;

/// How much of the past is kept. The default is what the shipped configuration file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// All that is not older than this; `u64::MAX`: all there is.
    pub within_secs: u64,
    /// So many of the newest.
    pub last: u32,
    /// One an hour, for so many hours that have one.
    pub hourly: u32,
    /// One a day.
    pub daily: u32,
    /// One a week, which begins on Monday.
    pub weekly: u32,
    /// One a month.
    pub monthly: u32,
    /// One a year.
    pub yearly: u32,
    /// Nothing younger goes, whatever the counts say.
    pub min_age_secs: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            within_secs: 0,
            last: 10,
            hourly: 48,
            daily: 30,
            weekly: 12,
            monthly: 24,
            yearly: 10,
            min_age_secs: 30 * DAY_SECS,
        }
    }
}

/// What a record is judged by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its number; a higher one is newer, whatever the times say.
    pub number: u64,
    /// Its root.
    pub root: RelPath,
    /// Backup or forget.
    pub kind: RunKind,
    /// When it was committed, on the store's clock.
    pub received: Timestamp,
    /// What the server's time zone added to UTC at that moment.
    pub offset_secs: i32,
    /// All of the source could be read.
    pub complete: bool,
    /// `-r`.
    pub recursive: bool,
    /// Files in it.
    pub files: u64,
    /// It took away more than the delete guard lets pass, and was not released.
    pub shrank: bool,
    /// As many as that it overwrote or took away.
    pub overwrote: bool,
    /// An admin has said that what was there before it may go.
    pub released: bool,
}

impl Candidate {
    /// That of a record; `released`: an admin has said that what it took away may go.
    pub fn of(record: &SnapshotRecord, offset_secs: i32, released: bool) -> Self {
        Self {
            number: record.number,
            root: record.root.clone(),
            kind: record.kind,
            received: record.received,
            offset_secs,
            complete: record.complete,
            recursive: record.recursive,
            files: record.files,
            shrank: !released && shrank(record),
            overwrote: overwrote(record),
            released,
        }
    }

    fn is_backup(&self) -> bool {
        self.kind == RunKind::Backup
    }

    /// Whether two are judged together.
    fn is_of(&self, other: &Self) -> bool {
        self.series() == other.series()
    }

    fn series(&self) -> (&RelPath, bool) {
        (&self.root, self.recursive)
    }
}

/// Whether a run took away more than the delete guard lets pass without being told to.
pub fn shrank(record: &SnapshotRecord) -> bool {
    let [_, _, _, deleted, ..] = record.counts;
    exceeds(record, deleted, record.files == 0)
}

/// Whether as much as that was overwritten or taken away.
fn overwrote(record: &SnapshotRecord) -> bool {
    let [_, updated, _, deleted, ..] = record.counts;
    exceeds(record, updated.saturating_add(deleted), false)
}

/// Whether the guard would let that many of what a run found go.
fn exceeds(record: &SnapshotRecord, files_going: u64, root_empty: bool) -> bool {
    let [_, found @ ..] = record.counts;
    let files_before = found.iter().fold(0_u64, |sum, count| sum.saturating_add(*count));
    check(&GuardInput { files_before, files_going, root_empty, ..GuardInput::default() }).is_err()
}

/// A stretch of time for which one snapshot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Period {
    /// An hour of the wall clock.
    Hour,
    /// A day.
    Day,
    /// Monday to Sunday.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

impl Period {
    const ALL: [Self; 5] = [Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];

    fn count(self, policy: &Policy) -> u32 {
        match self {
            Self::Hour => policy.hourly,
            Self::Day => policy.daily,
            Self::Week => policy.weekly,
            Self::Month => policy.monthly,
            Self::Year => policy.yearly,
        }
    }

    /// The number of the period that a moment falls into, ascending.
    fn of(self, candidate: &Candidate) -> i64 {
        let local = candidate.received.secs.saturating_add(i64::from(candidate.offset_secs));
        let day = local.div_euclid(DAY_SECS as i64);
        match self {
            Self::Hour => local.div_euclid(3600),
            Self::Day => day,
            // The first day of 1970 was a Thursday.
            Self::Week => (day + 3).div_euclid(7),
            Self::Month => {
                let (year, month) = year_and_month(day);
                year * 12 + month
            }
            Self::Year => year_and_month(day).0,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
        }
    }
}

/// Year and month (0 to 11) of a day counted from 1970-01-01, in the Gregorian calendar: a year that begins in March
/// has its leap day last (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn year_and_month(day: i64) -> (i64, i64) {
    let day = day + 719_468;
    let (era, day) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let month = (5 * (day - (365 * year + year / 4 - year / 100)) + 2) / 153;
    let march_year = year + era * 400;
    if month < 10 { (march_year, month + 2) } else { (march_year + 1, month - 10) }
}

/// What becomes of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Its number.
    pub number: u64,
    /// Whether it stays.
    pub keep: bool,
    /// Why; never empty.
    pub reasons: Vec<Reason>,
}

/// Takes a number and why it stays.
type Keep<'a> = dyn FnMut(u64, Reason) + 'a;

/// Judges all records of one copy; one verdict each, by number.
pub fn decide(candidates: &[Candidate], policy: &Policy, now: Timestamp) -> Vec<Verdict> {
    let mut all: BTreeMap<(&RelPath, bool), Vec<&Candidate>> = BTreeMap::new();
    let mut kept: BTreeMap<u64, Vec<Reason>> = BTreeMap::new();
    for candidate in candidates {
        all.entry(candidate.series()).or_default().push(candidate);
    }
    for mut series in all.into_values() {
        series.sort_by_key(|candidate| candidate.number);
        let mut keep = |number: u64, reason| {
            let reasons = kept.entry(number).or_default();
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        };
        decline::keep_before_losses(&series, policy, now, &mut keep);
        series.reverse();
        keep_always(&series, policy, now, &mut keep);
        keep_by_policy(&series, policy, now, &mut keep);
        series.reverse();
        keep_released(&series, &mut kept);
    }
    let mut verdicts: Vec<Verdict> = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let found = kept.remove(&candidate.number);
        let goes = || match (candidate.kind, candidate.complete) {
            (RunKind::Forget, _) => Reason::Forgotten,
            (RunKind::Backup, true) => Reason::NoRule,
            (RunKind::Backup, false) => Reason::Incomplete,
        };
        let keep = found.is_some();
        verdicts.push(Verdict { number: candidate.number, keep, reasons: found.unwrap_or_else(|| vec![goes()]) });
    }
    verdicts.sort_by_key(|verdict| verdict.number);
    verdicts
}

/// The records to release so that a snapshot goes which is kept for this reason.
pub fn release_for(candidates: &[Candidate], number: u64, reason: Reason) -> Vec<u64> {
    match reason {
        Reason::BeforeShrink { by } | Reason::BeforeOverwrite { by } | Reason::Largest { by } => vec![by],
        Reason::Shrank | Reason::Overwrote => vec![number],
        Reason::BeforeDecline { by } => decline::descent(candidates, by),
        Reason::Declined => decline::descent(candidates, number),
        _ => Vec::new(),
    }
}

/// What no policy can change. `series`: the records of a root, newest first.
fn keep_always(series: &[&Candidate], policy: &Policy, now: Timestamp, keep: &mut Keep<'_>) {
    let is_complete = |candidate: &&&Candidate| candidate.is_backup() && candidate.complete;
    if let Some(newest) = series.first() {
        keep(newest.number, Reason::Newest);
    }
    if let Some(complete) = series.iter().find(is_complete) {
        keep(complete.number, Reason::LastComplete);
    }
    for candidate in series.iter().filter(|candidate| age_secs(candidate, now) < policy.min_age_secs) {
        keep(candidate.number, Reason::Young { min_age_secs: policy.min_age_secs });
    }
}

/// What tells that somebody released what was there before it, as long as some of that is left: without it the rest would
/// be held again. `series`: oldest first.
fn keep_released(series: &[&Candidate], kept: &mut BTreeMap<u64, Vec<Reason>>) {
    let mut left = false;
    for candidate in series {
        let stays = kept.contains_key(&candidate.number);
        if candidate.released && left {
            kept.entry(candidate.number).or_default().push(Reason::Released);
        }
        left |= stays;
    }
}

/// What the policy keeps. `series`: the records of a root, newest first.
fn keep_by_policy(series: &[&Candidate], policy: &Policy, now: Timestamp, keep: &mut Keep<'_>) {
    let backups: Vec<&Candidate> = series.iter().copied().filter(|candidate| candidate.is_backup()).collect();
    let Policy { within_secs, last, .. } = *policy;
    for candidate in backups.iter().filter(|c| within_secs == u64::MAX || age_secs(c, now) < within_secs) {
        keep(candidate.number, Reason::Within { within_secs });
    }
    let (complete, incomplete): (Vec<&Candidate>, Vec<&Candidate>) = backups.iter().partition(|c| c.complete);
    for (rank, candidate) in (1..=last).zip(complete.iter().chain(&incomplete)) {
        keep(candidate.number, Reason::Last { rank, of: last });
    }
    for period in Period::ALL {
        let of = period.count(policy);
        // Who comes first stands for the period: complete ones, newest first, then the others.
        let mut periods: BTreeMap<i64, u64> = BTreeMap::new();
        for candidate in complete.iter().chain(&incomplete) {
            periods.entry(period.of(candidate)).or_insert(candidate.number);
        }
        for (rank, number) in (1..=of).zip(periods.values().rev()) {
            keep(*number, Reason::Period { period, rank, of });
        }
    }
}

fn age_secs(candidate: &Candidate, now: Timestamp) -> u64 {
    u64::try_from(now.secs.saturating_sub(candidate.received.secs)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
