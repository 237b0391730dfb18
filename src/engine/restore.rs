//! STUB, to be replaced: writes a path of a snapshot back to disk.

use std::path::PathBuf;

use super::client::ClientOptions;
use super::error::EngineError;
use super::observer::Observer;

/// What happens to a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// Replaced when its content or metadata differ.
    Changed,
    /// Always written anew.
    Always,
    /// Replaced when the snapshot's is newer.
    Newer,
    /// Left alone.
    Never,
}

/// What to restore, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreOptions {
    /// Absolute, lexically normalised.
    pub path: PathBuf,
    /// Absolute DIR: the path lands at `DIR/<last component of path>`. None: the original place.
    pub to: Option<PathBuf>,
    /// What happens to a file that is there already.
    pub overwrite: Overwrite,
    /// Remove what the snapshot does not have.
    pub delete: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// The end of a restore.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct RestoreSummary {
    /// Absolute path that was asked for.
    pub path: Vec<u8>,
    /// Absolute path where it is now.
    pub to: Vec<u8>,
    /// Snapshot's number.
    pub snapshot: u64,
    /// When it was received, seconds since 1970.
    pub time_secs: i64,
    /// Whether the snapshot is complete.
    pub complete: bool,
    /// New paths.
    pub created: u64,
    /// Files with other content, and type changes.
    pub updated: u64,
    /// Paths removed.
    pub deleted: u64,
    /// Paths with new metadata only.
    pub touched: u64,
    /// Everything else.
    pub unchanged: u64,
    /// Files in what was restored.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Content bytes received.
    pub content_bytes_received: u64,
    /// Bytes on the wire.
    pub wire_bytes_sent: u64,
    /// Bytes received on the wire.
    pub wire_bytes_received: u64,
    /// Paths that failed.
    pub errors: u64,
    /// What could not be applied, in words; exit 3 when not empty.
    pub notes: Vec<String>,
    /// Wall time.
    pub elapsed_secs: f64,
}

/// Restores one path.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub fn restore(_: &ClientOptions, _: &RestoreOptions, _: &dyn Observer) -> Result<RestoreSummary, EngineError> {
    Err(EngineError::not_built_yet())
}
