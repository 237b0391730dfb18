//! Why a snapshot stays or goes, in words.

use std::fmt;

use super::{DAY_SECS, Period};

/// Why a snapshot stays, or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Stays: younger than `min_age`.
    Young {
        /// The policy's.
        min_age_secs: u64,
    },
    /// Stays: the newest record of its root.
    Newest,
    /// Stays: the last of its root that is complete.
    LastComplete,
    /// Stays: what was there before a run that shrank the root.
    BeforeShrink {
        /// That run's number.
        by: u64,
    },
    /// Stays: it shrank its root, and nobody has released that.
    Shrank,
    /// Stays: runs after it have together taken most of it away.
    BeforeDecline {
        /// The first that is short of it.
        by: u64,
    },
    /// Stays: it is short of what was there before, and nobody has released that.
    Declined,
    /// Stays: the largest of its root within a year.
    Largest {
        /// The one after it.
        by: u64,
    },
    /// Stays: what was there before a run that overwrote most of the root.
    BeforeOverwrite {
        /// That run's number.
        by: u64,
    },
    /// Stays: it overwrote most of its root.
    Overwrote,
    /// Stays: somebody released what was there before it, which is not all gone.
    Released,
    /// Stays: younger than `within`.
    Within {
        /// The policy's.
        within_secs: u64,
    },
    /// Stays: one of the newest.
    Last {
        /// Counts from 1, the newest first.
        rank: u32,
        /// The policy's.
        of: u32,
    },
    /// Stays: stands for a period.
    Period {
        /// For what.
        period: Period,
        /// Counts from 1, the newest period first.
        rank: u32,
        /// The policy's.
        of: u32,
    },
    /// Goes: others stand for its time, or its time is over.
    NoRule,
    /// Goes: it is incomplete.
    Incomplete,
    /// Goes: it tells that a root was forgotten, which was backed up again since.
    Forgotten,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Young { min_age_secs } => write!(f, "younger than {} (min-age)", Span(min_age_secs)),
            Self::Newest => f.write_str("the newest of its root"),
            Self::LastComplete => f.write_str("the last complete one of its root"),
            Self::BeforeShrink { by } => write!(f, "what was there before snapshot {by} took most of it away"),
            Self::Shrank => f.write_str("took most of its root away, which was not released"),
            Self::BeforeDecline { by } => {
                write!(f, "what was there before runs up to snapshot {by} took most of it away")
            }
            Self::Declined => f.write_str("has lost most of what was there before, which was not released"),
            Self::Largest { .. } => f.write_str("the largest of its root within a year"),
            Self::BeforeOverwrite { by } => {
                write!(f, "what was there before snapshot {by} overwrote most of it, less than a year ago")
            }
            Self::Overwrote => f.write_str("overwrote most of its root, less than a year ago"),
            Self::Released => f.write_str("what was there before it was released, and is not all gone"),
            Self::Within { within_secs: u64::MAX } => f.write_str("everything is kept (within)"),
            Self::Within { within_secs } => write!(f, "younger than {} (within)", Span(within_secs)),
            Self::Last { rank, of } => write!(f, "last {rank} of {of}"),
            Self::Period { period, rank, of } => write!(f, "{} {rank} of {of}", period.name()),
            Self::NoRule => f.write_str("no rule keeps it"),
            Self::Incomplete => f.write_str("incomplete, and no rule keeps it"),
            Self::Forgotten => f.write_str("tells that the root was forgotten, which was backed up again since"),
        }
    }
}

/// A time span in the largest unit that fits.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, unit) = match self.0 {
            secs if secs % DAY_SECS == 0 && secs > 0 => (secs / DAY_SECS, "day"),
            secs if secs % 3600 == 0 && secs > 0 => (secs / 3600, "hour"),
            secs => (secs, "second"),
        };
        write!(f, "{count} {unit}{}", if count == 1 { "" } else { "s" })
    }
}
