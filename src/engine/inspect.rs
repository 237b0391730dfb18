//! STUB, to be replaced: `ls`, `status` and `forget`.

use std::path::Path;

use super::client::ClientOptions;
use super::error::EngineError;
use super::observer::{Observer, Summary};
use crate::backup::entry::Entry;

/// One line of `ls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedEntry {
    /// Absolute path.
    pub path: Vec<u8>,
    /// The entry (its own path is relative to the snapshot's root).
    pub entry: Entry,
    /// Owner's name, if the snapshot knows it.
    pub user: Option<Vec<u8>>,
    /// Group's name, if the snapshot knows it.
    pub group: Option<Vec<u8>>,
}

/// Which snapshot answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Snapshot's number.
    pub snapshot: u64,
    /// Its root, absolute.
    pub root: Vec<u8>,
    /// When it was received, seconds since 1970.
    pub time_secs: i64,
    /// Whether it is complete.
    pub complete: bool,
}

/// One root of the asking identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootStatus {
    /// Absolute path.
    pub root: Vec<u8>,
    /// Number of its newest snapshot.
    pub snapshot: u64,
    /// When it was received, seconds since 1970.
    pub time_secs: i64,
    /// Whether it is complete.
    pub complete: bool,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The daemon, my identity, my roots, running backups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusReport {
    /// `HOST:PORT`, or the store's folder.
    pub target: String,
    /// The daemon's program and version.
    pub software: Vec<u8>,
    /// The store's id.
    pub store: [u8; 16],
    /// The daemon's key; none with `--store`.
    pub daemon_key: Option<String>,
    /// My key; none with `--store`.
    pub my_key: Option<String>,
    /// Node directory that I own.
    pub node: Vec<u8>,
    /// User directory that I own.
    pub user: Vec<u8>,
    /// Seconds since the daemon started.
    pub uptime_secs: u64,
    /// Sessions now.
    pub sessions: u32,
    /// My roots.
    pub roots: Vec<RootStatus>,
    /// My running backups, in words.
    pub running: Vec<Vec<u8>>,
    /// Retired files of mine.
    pub retired_files: u64,
    /// Their bytes.
    pub retired_bytes: u64,
    /// Free bytes of the store's file system.
    pub space_free: u64,
    /// All bytes of the store's file system.
    pub space_total: u64,
}

/// Lists what the newest snapshot holds at `path`; without one, the roots (then no snapshot answers).
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub fn list(
    _: &ClientOptions,
    _: Option<&Path>,
    _: &mut dyn FnMut(ListedEntry),
) -> Result<Option<Listing>, EngineError> {
    Err(EngineError::not_built_yet())
}

/// Asks the daemon how it is.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub fn status(_: &ClientOptions) -> Result<StatusReport, EngineError> {
    Err(EngineError::not_built_yet())
}

/// Takes a root out of the copy; its files go to history.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub fn forget(_: &ClientOptions, _: &Path, _: &dyn Observer) -> Result<Summary, EngineError> {
    Err(EngineError::not_built_yet())
}
