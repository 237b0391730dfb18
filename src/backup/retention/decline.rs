//! What stays because what came after holds less: a root that loses its files bit by bit, and one that is overwritten.
//!
//! One run that goes beyond the delete guard is seen in its own counts. Many runs, each within it, are not: 24 % and again
//! 24 %, or a thousand times one file. So states are compared, not runs. A record *is short of* an earlier one when the guard
//! would have stopped a single run from the one to the other. Then these stay until somebody releases the later one:
//!
//! - of what it is short of, all that was not older than `min_age` (at least [`DECLINE_SECS`]) when it came: among those is
//!   the last good state, whatever was done to the counts in between;
//! - the largest of the [`LARGEST_SECS`] before it, for who takes longer than that.
//!
//! The largest of the last year stays in any case, for it may be needed later. What is complete can only be pushed out by
//! what is called complete: an incomplete record is short of none of those.
//!
//! A run that overwrote most of what it found leaves the counts as they are. What was there before it stays for
//! [`OVERWRITTEN_SECS`], unless that had just overwritten most of the root itself: some roots are written anew every night.
//!
//! Always holds: whether one record is short of another depends on these two alone. So what is left when others have expired
//! is judged the same, and a record that tells of a loss stays as long as what it tells of.

use std::collections::BTreeSet;

use super::{Candidate, DAY_SECS, Keep, Policy, Reason, age_secs};
use crate::backup::fingerprint::Timestamp;
use crate::backup::guard::{GuardInput, check};

/// A loss that took no longer than this is undone by what was there before it, exactly.
pub const DECLINE_SECS: u64 = 30 * DAY_SECS;
/// So long the largest of a root stays.
pub const LARGEST_SECS: u64 = 365 * DAY_SECS;
/// So long what was overwritten stays.
pub const OVERWRITTEN_SECS: u64 = 365 * DAY_SECS;

/// Whether the guard would have stopped a run from the one state to the other.
fn is_short_of(after: &Candidate, before: &Candidate) -> bool {
    before.is_backup() && (after.complete || !before.complete) && is_stopped(before.files, after.files)
}

fn is_stopped(before: u64, after: u64) -> bool {
    let (files_going, root_empty) = (before.saturating_sub(after), after == 0);
    check(&GuardInput { files_before: before, files_going, root_empty, ..GuardInput::default() }).is_err()
}

fn secs_between(before: &Candidate, after: &Candidate) -> u64 {
    age_secs(before, after.received)
}

/// The records of one root that must stay. `series`: oldest first.
pub(super) fn keep_before_losses(series: &[&Candidate], policy: &Policy, now: Timestamp, keep: &mut Keep<'_>) {
    // What was released is where a root begins anew.
    for part in series.chunk_by(|_, next| !next.released) {
        keep_recent(part, policy.min_age_secs.max(DECLINE_SECS), keep);
        let is_last = part.last().map(|c| c.number) == series.last().map(|c| c.number);
        let any_complete = series.iter().any(|c| c.is_backup() && c.complete);
        let usable: Vec<_> = part.iter().copied().filter(|c| c.complete || !any_complete).collect();
        keep_largest(&usable, is_last.then_some(now), keep);
    }
    keep_shrunken(series, keep);
    keep_overwritten(series, now, keep);
}

/// What was there before a single run that took most of it away.
fn keep_shrunken(series: &[&Candidate], keep: &mut Keep<'_>) {
    for (at, run) in series.iter().enumerate().filter(|(_, run)| run.shrank) {
        let held = predecessors(series.get(..at).unwrap_or_default());
        if !held.is_empty() {
            keep(run.number, Reason::Shrank);
        }
        held.into_iter().for_each(|number| keep(number, Reason::BeforeShrink { by: run.number }));
    }
}

fn hold(before: &Candidate, after: &Candidate, keep: &mut Keep<'_>) {
    keep(before.number, Reason::BeforeDecline { by: after.number });
    keep(after.number, Reason::Declined);
}

/// What was not older than `recent_secs` when the first came that is short of it.
fn keep_recent(part: &[&Candidate], recent_secs: u64, keep: &mut Keep<'_>) {
    // The least that any later one holds: as a rule nobody is short of anything, and that is soon told.
    let mut least = u64::MAX;
    let mut fewest: Vec<u64> = Vec::with_capacity(part.len());
    for candidate in part.iter().rev() {
        fewest.push(least);
        least = least.min(candidate.files);
    }
    for (at, (before, least)) in part.iter().zip(fewest.into_iter().rev()).enumerate() {
        if !is_stopped(before.files, least) {
            continue;
        }
        let first = part.iter().skip(at + 1).find(|after| is_short_of(after, before));
        if let Some(after) = first.filter(|after| secs_between(before, after) <= recent_secs) {
            hold(before, after, keep);
        }
    }
}

/// The largest of the year before the first that is short of it. `now`: it may yet be needed, and stays in any case.
fn keep_largest(usable: &[&Candidate], now: Option<Timestamp>, keep: &mut Keep<'_>) {
    let largest = |until: usize, moment: Timestamp| {
        let earlier = usable.iter().take(until).enumerate();
        let recent = earlier.filter(|(_, c)| c.is_backup() && age_secs(c, moment) <= LARGEST_SECS);
        recent.max_by_key(|(at, c)| (c.files, *at)).map(|(at, _)| at)
    };
    let (mut most, mut held): (Option<&Candidate>, BTreeSet<u64>) = (None, BTreeSet::new());
    for (at, after) in usable.iter().copied().enumerate() {
        if most.is_some_and(|most| is_short_of(after, most))
            && let Some(before) = largest(at, after.received).and_then(|before| usable.get(before))
            && is_short_of(after, before)
            && held.insert(before.number)
        {
            hold(before, after, keep);
        }
        most = most.filter(|most| most.files > after.files || !after.is_backup()).or(Some(after));
    }
    if let Some(at) = now.and_then(|now| largest(usable.len(), now))
        && let (Some(top), Some(next)) = (usable.get(at), usable.get(at + 1))
        && is_stopped(top.files, 0)
    {
        keep(top.number, Reason::Largest { by: next.number });
    }
}

/// What was there before a run that overwrote most of it.
fn keep_overwritten(series: &[&Candidate], now: Timestamp, keep: &mut Keep<'_>) {
    for (at, run) in series.iter().enumerate() {
        if !run.overwrote || run.released || age_secs(run, now) >= OVERWRITTEN_SECS {
            continue;
        }
        let before = series.get(..at).unwrap_or_default();
        let held = predecessors(before);
        if before.iter().rev().find(|c| c.is_backup()).is_none_or(|last| last.overwrote) {
            continue;
        }
        keep(run.number, Reason::Overwrote);
        held.into_iter().for_each(|number| keep(number, Reason::BeforeOverwrite { by: run.number }));
    }
}

/// What a run that took something away found: the backup before it, and, should that be incomplete and lack something, the
/// last complete one. `before`: oldest first.
fn predecessors(before: &[&Candidate]) -> BTreeSet<u64> {
    let last = before.iter().rev().find(|c| c.is_backup());
    let complete = before.iter().rev().find(|c| c.is_backup() && c.complete);
    [last, complete].into_iter().flatten().map(|c| c.number).collect()
}

/// What to release so that one loss is, however many steps it took: `by`, and as far as the root does not grow again the
/// first that is short of that, and so on.
pub(super) fn descent(candidates: &[Candidate], by: u64) -> Vec<u64> {
    let Some(first) = candidates.iter().find(|c| c.number == by) else { return Vec::new() };
    let mut series: Vec<&Candidate> = candidates.iter().filter(|c| c.number >= by && c.is_of(first)).collect();
    series.sort_by_key(|c| c.number);
    let (mut steps, mut last) = (vec![by], first);
    for next in series.chunk_by(|one, next| next.files <= one.files).next().unwrap_or_default() {
        if is_stopped(last.files, next.files) {
            steps.push(next.number);
            last = next;
        }
    }
    steps
}
