//! STUB, to be replaced: the long-running daemon.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::error::EngineError;
use crate::net::shutdown::Shutdown;

/// What the daemon is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonOptions {
    /// The store's folder.
    pub store: PathBuf,
    /// Where to listen; `[::]` accepts IPv4 too.
    pub listen: SocketAddr,
    /// Sessions at once.
    pub max_sessions: usize,
    /// Accept a first contact from any address.
    pub trust_first_use: bool,
}

/// Serves until `shutdown` is triggered, then drains.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
#[allow(clippy::needless_pass_by_value)]
pub fn run(_: DaemonOptions, _: Shutdown) -> Result<(), EngineError> {
    Err(EngineError::not_built_yet())
}
