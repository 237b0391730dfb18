//! What is shown of a run: which it is, how far, with what trouble, and how it ended.

use crate::engine::error::ErrorKind;
use crate::engine::observer::{CopyState, Held, Summary};
use crate::engine::progress::View;
use crate::engine::restore::RestoreSummary;
use crate::net::message::Committed;

/// Files of a run that are shown as done.
pub const RECENT_MAX: usize = 50;
/// Problems of a run that are shown.
pub const PROBLEMS_MAX: usize = 100;
/// Runs that are shown after their end.
pub const ENDED_MAX: usize = 20;

/// Exit code of a run that could not read everything.
const INCOMPLETE: u8 = 3;

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunPurpose {
    /// A source's content goes to a store.
    Backup,
    /// A store's content comes back.
    Restore,
    /// At a destination: it arrives.
    Receive,
}

impl RunPurpose {
    /// For people and programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::Receive => "receive",
        }
    }
}

/// Which run it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunName {
    /// Names it; the attempts of a run that was cut off and goes on have the same.
    pub id: String,
    /// What it does.
    pub purpose: RunPurpose,
    /// Node directory of the copy.
    pub node: String,
    /// User directory of the copy.
    pub user: String,
    /// Absolute path.
    pub root: Vec<u8>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RunEnd {
    /// As the command line's.
    pub exit_code: u8,
    /// Why it is not 0, in words.
    pub message: String,
    /// The snapshot that it became.
    pub snapshot: Option<u64>,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl From<&Committed> for RunEnd {
    fn from(receipt: &Committed) -> Self {
        let exit_code = match receipt {
            Committed { enough: false, .. } => ErrorKind::Copies.exit_code(),
            Committed { incomplete: true, .. } => INCOMPLETE,
            _ => 0,
        };
        let snapshot = Some(receipt.snapshot);
        Self { exit_code, message: String::new(), snapshot, files: receipt.files, bytes: receipt.bytes }
    }
}

impl From<&Summary> for RunEnd {
    fn from(summary: &Summary) -> Self {
        let lacks = |copy: &&CopyState| copy.destination && copy.state == Held::Failed;
        let (exit_code, message) = match summary {
            Summary { altered: 1.., .. } => (1, "files changed although nothing says so: look at the disk".to_owned()),
            Summary { enough: false, copies, .. } => {
                let lacking = copies.iter().filter(lacks).map(|copy| format!("{}: {}", copy.name, copy.reason));
                let why: Vec<String> = lacking.collect();
                (ErrorKind::Copies.exit_code(), format!("fewer destinations hold it than asked ({})", why.join("; ")))
            }
            Summary { errors: 1.., .. } => (INCOMPLETE, format!("{} could not be read", summary.errors)),
            Summary { incomplete: true, .. } => (INCOMPLETE, "not everything could be read".to_owned()),
            _ => (0, summary.notes.join("; ")),
        };
        Self { exit_code, message, snapshot: summary.snapshot, files: summary.files, bytes: summary.bytes }
    }
}

impl From<&RestoreSummary> for RunEnd {
    fn from(summary: &RestoreSummary) -> Self {
        let is_whole = summary.errors == 0 && summary.notes.is_empty();
        let failed = (summary.errors > 0).then(|| format!("{} could not be restored", summary.errors));
        let message: Vec<String> = failed.into_iter().chain(summary.notes.iter().cloned()).collect();
        Self {
            exit_code: if is_whole { 0 } else { INCOMPLETE },
            message: message.join("; "),
            snapshot: Some(summary.snapshot),
            files: summary.files,
            bytes: summary.bytes,
        }
    }
}

/// A file that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentFile {
    /// Absolute path.
    pub path: Vec<u8>,
    /// Its size; none: it is not known any more.
    pub bytes: Option<u64>,
}

/// A path that failed, or that a person should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Absolute path.
    pub path: Vec<u8>,
    /// Why, in words.
    pub why: String,
}

/// The first problems of a run, and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    /// At most [`PROBLEMS_MAX`].
    pub first: Vec<Problem>,
    /// All of them.
    pub total: u64,
}

/// A run, at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct RunView {
    /// Which.
    pub name: RunName,
    /// How far it is.
    pub view: View,
    /// Since when, seconds since 1970.
    pub since_secs: i64,
    /// Destinations that are connected, of those that it waits for.
    pub gathering: Option<(u32, u32)>,
    /// The last files that were done, newest first.
    pub recent: Vec<RecentFile>,
    /// What went wrong with single paths.
    pub problems: Problems,
}

/// A run that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedRun {
    /// Which.
    pub name: RunName,
    /// How.
    pub end: RunEnd,
    /// When it began, seconds since 1970.
    pub started_secs: i64,
    /// When it ended.
    pub ended_secs: i64,
    /// What went wrong with single paths.
    pub problems: Problems,
}

/// All that goes on, at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LiveView {
    /// Oldest first.
    pub runs: Vec<RunView>,
    /// Newest first.
    pub ended: Vec<EndedRun>,
}
