//! [`When`]: which snapshot is meant, and what there is instead if it is not there.
//!
//! A root's snapshot at a moment is the newest one that the store had received then; only the store's clock counts. A
//! root that was forgotten by then has none.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::relpath::RelPath;
use super::snapshot::{RunKind, SnapshotRecord};

/// Most runs of numbers that a sentence names.
const RANGES_SHOWN_MAX: usize = 6;

/// Which snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum When {
    /// The newest; for a path that it lacks, the newest that has it.
    #[default]
    Latest,
    /// The one of this number.
    Number(u64),
    /// The newest that was received at or before this second since 1970.
    Before {
        /// The second.
        secs: i64,
    },
}

impl When {
    /// Whether a snapshot was there already.
    pub fn has_seen(self, record: &SnapshotRecord) -> bool {
        match self {
            Self::Latest => true,
            Self::Number(number) => record.number <= number,
            Self::Before { secs } => record.received.secs <= secs,
        }
    }
}

/// The newest record of each root at that time; those of roots that were forgotten by then are not among them. For a
/// number: as it was when that one was made. `records` in ascending order.
pub fn roots_at(records: &[Arc<SnapshotRecord>], when: When) -> BTreeMap<RelPath, Arc<SnapshotRecord>> {
    let mut newest = BTreeMap::new();
    for record in records.iter().filter(|record| when.has_seen(record)) {
        newest.insert(record.root.clone(), record.clone());
    }
    newest.retain(|_, record| record.kind == RunKind::Backup);
    newest
}

/// `3 to 5, 9`: those of `all` for which `has` holds; none in between are left out. Both ascending.
pub fn ranges(all: &[u64], has: impl Fn(u64) -> bool) -> String {
    let mut found: Vec<(u64, u64)> = Vec::new();
    let mut open = false;
    for number in all {
        match found.last_mut() {
            Some((_, last)) if open && has(*number) => *last = *number,
            _ if has(*number) => found.push((*number, *number)),
            _ => {}
        }
        open = has(*number);
    }
    // The newest are those that are looked for.
    let from = found.len().saturating_sub(RANGES_SHOWN_MAX);
    let shown = found.iter().skip(from).map(|(a, b)| if a == b { a.to_string() } else { format!("{a} to {b}") });
    let shown = shown.collect::<Vec<_>>().join(", ");
    if from > 0 { format!("..., {shown}") } else { shown }
}

/// Why there is no snapshot of this number, and which there are: `numbers`, ascending.
pub fn no_such_number(number: u64, numbers: &[u64]) -> String {
    let there_are = format!("there are {}", ranges(numbers, |_| true));
    match (numbers.first(), numbers.last()) {
        (Some(first), Some(_)) if number < *first && number > 0 => format!("snapshot {number} was pruned; {there_are}"),
        (Some(_), Some(last)) if number > *last => format!("there is no snapshot {number} yet; {there_are}"),
        (Some(_), Some(last)) => {
            let next = numbers.iter().find(|other| **other > number).unwrap_or(last);
            let before = numbers.iter().rev().find(|other| **other < number).unwrap_or(next);
            format!("there is no snapshot {number} any more; the nearest are {before} and {next}")
        }
        _ => format!("there is no snapshot {number}: nothing has been backed up here yet"),
    }
}

/// What to say of a snapshot that was there when somebody began to read it.
pub fn expired_meanwhile(number: u64, numbers: &[u64]) -> String {
    match numbers {
        [] => format!("snapshot {number} expired while it was read"),
        numbers => format!("snapshot {number} expired while it was read; there are {}", ranges(numbers, |_| true)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_numbers_are_said_as_such() {
        let all = [1, 2, 3, 5, 8, 9, 12];
        assert_eq!(ranges(&all, |_| true), "1 to 12");
        assert_eq!(ranges(&all, |n| n != 3), "1 to 2, 5 to 12");
        assert_eq!(ranges(&all, |n| n == 5), "5");
        assert_eq!(ranges(&all, |_| false), "");
        let many: Vec<u64> = (1..=40).collect();
        assert_eq!(ranges(&many, |n| n % 2 == 0), "..., 30, 32, 34, 36, 38, 40");
    }

    #[test]
    fn what_is_not_there_is_told_from_what_is() {
        let numbers = [7, 8, 10, 12];
        assert_eq!(no_such_number(5, &numbers), "snapshot 5 was pruned; there are 7 to 12");
        assert_eq!(no_such_number(13, &numbers), "there is no snapshot 13 yet; there are 7 to 12");
        assert_eq!(no_such_number(9, &numbers), "there is no snapshot 9 any more; the nearest are 8 and 10");
        assert!(no_such_number(1, &[]).contains("nothing has been backed up"));
        assert!(no_such_number(0, &numbers).starts_with("there is no snapshot 0 any more"));
    }
}
