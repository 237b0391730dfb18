//! STUB, to be replaced: backs up one root.

use std::path::PathBuf;
use std::time::Duration;

use super::client::ClientOptions;
use super::error::EngineError;
use super::observer::{Observer, Summary};
use crate::backup::bytes::Bytes;

/// What to back up, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushOptions {
    /// Absolute, lexically normalised.
    pub root: PathBuf,
    /// `-r`.
    pub recursive: bool,
    /// `-d`.
    pub delete: bool,
    /// `--delete-excluded`.
    pub delete_excluded: bool,
    /// `--force-delete`.
    pub force_delete: bool,
    /// `-n`.
    pub dry_run: bool,
    /// gitignore patterns in order, the last match wins.
    pub filters: Vec<Bytes>,
    /// Leave out what a CACHEDIR.TAG marks.
    pub exclude_caches: bool,
    /// Do not cross mount points.
    pub one_file_system: bool,
    /// Queue behind a lock; `Duration::MAX` = for ever.
    pub wait: Option<Duration>,
}

/// Backs up one root.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub fn push(_: &ClientOptions, _: &PushOptions, _: &dyn Observer) -> Result<Summary, EngineError> {
    Err(EngineError::not_built_yet())
}
