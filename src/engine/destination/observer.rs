//! What a destination does, told to who looks on. The engine knows nothing of bars and lines.
//!
//! Each run has an observer of its own: several arrive at the same time.

use std::sync::Arc;
use std::time::Duration;

use crate::backup::digest::{Digest, RunId};
use crate::engine::error::EngineError;
use crate::engine::observer::{Below, Event, Observer};

/// A run that arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrivingRun {
    /// The source's node.
    pub node: String,
    /// The source's user.
    pub user: String,
    /// Absolute path at the source.
    pub root: Vec<u8>,
}

/// A run that arrived: it is durable here.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrived {
    /// The run.
    pub run: RunId,
    /// The snapshot's number here.
    pub snapshot: u64,
    /// Manifest digest.
    pub manifest: Digest,
    /// The source could not read all of it.
    pub incomplete: bool,
    /// Files in the manifest.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that came on the wire for it.
    pub wire_bytes_received: u64,
    /// Wall time.
    pub elapsed_secs: f64,
}

/// Listens to one run: `FileBegun`, `Advanced`, `FileDone` with absolute paths, and `Source`.
pub trait Arrival: Observer {
    /// It is over.
    fn end(&self, outcome: Result<&Arrived, &EngineError>);
}

/// Listens to a destination.
pub trait Receiving: Send + Sync {
    /// The daemon has us on its list.
    fn attending(&self, server: &str);

    /// The daemon is not there, or was lost.
    fn lost(&self, why: &str, again_in: Duration);

    /// A run begins to arrive.
    fn begin(&self, run: &ArrivingRun) -> Arc<dyn Arrival>;
}

/// Tells of paths below a root by their absolute names.
pub(super) struct Rooted {
    pub(super) root: Vec<u8>,
    pub(super) arrival: Arc<dyn Arrival>,
}

impl Observer for Rooted {
    fn event(&self, event: &Event<'_>) {
        let observer: &dyn Observer = &*self.arrival;
        Below::new(self.root.clone(), observer).event(event);
    }
}
