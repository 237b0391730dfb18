//! The one tokio runtime of the process: it carries every connection, and nothing else runs on it.
//!
//! Started at first use and never stopped: connections end when their links do.

use std::io;
use std::sync::OnceLock;

use tokio::runtime::{Builder, Handle, Runtime};

/// Encryption is its only real work; more threads than this would take cores from hashing and disks.
const WORKERS_MAX: usize = 8;

/// The runtime's handle. Its `block_on` is for plain threads only.
///
/// # Errors
/// The threads could not be started when it was first asked for.
pub fn handle() -> io::Result<&'static Handle> {
    static RUNTIME: OnceLock<Result<Runtime, io::ErrorKind>> = OnceLock::new();
    match RUNTIME.get_or_init(|| start().map_err(|e| e.kind())) {
        Ok(runtime) => Ok(runtime.handle()),
        Err(kind) => Err((*kind).into()),
    }
}

fn start() -> io::Result<Runtime> {
    let workers = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, WORKERS_MAX);
    Builder::new_multi_thread().worker_threads(workers).thread_name("net").enable_all().build()
}
