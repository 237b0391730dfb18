//! A dry run against a store that is not there yet makes none: it plans against an empty one beside the hash caches,
//! which is gone with the run.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::backup::bytes::escape;
use crate::engine::client::{ClientOptions, Target, random_run_id};
use crate::engine::error::{EngineError, ErrorKind};
use crate::store::layout::Store;
use crate::tree::{operator, own};

/// The empty store, and the options that lead to it.
pub(super) struct StandIn {
    dir: PathBuf,
    pub(super) client: ClientOptions,
    /// Says so to the user.
    pub(super) note: String,
}

impl StandIn {
    /// One for the store of `client`, if that is still to be made.
    ///
    /// # Errors
    /// The store could not be made or opened, or there is no place for the stand-in.
    pub(super) fn of(client: &ClientOptions) -> Result<Option<Self>, EngineError> {
        let Target::Store(store) = &client.target else { return Ok(None) };
        if Store::is_made(store)? {
            return Ok(None);
        }
        let dir = client.cache_dir.join(format!("dry-run-{}", random_run_id()?));
        let dir = operator::make_own(&dir, 0o700).map_err(|e| {
            EngineError::new(ErrorKind::Failed, format!("cannot create the folder '{}': {e}", dir.display()))
        })?;
        let client =
            ClientOptions { target: Target::Store(dir.join("store")), cache_dir: dir.join("cache"), ..client.clone() };
        let shown = escape(store.as_os_str().as_bytes());
        let note = format!("there is no store at '{shown}' yet; it would be made");
        Ok(Some(Self { dir, client, note }))
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        if let Err(error) = own::remove_tree(&self.dir) {
            tracing::warn!("cannot remove the folder '{}': {error}", self.dir.display());
        }
    }
}
