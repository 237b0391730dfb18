//! Going back, the client's side: one file's content as it was, and questions about many snapshots.

mod ask;
mod cat;
mod export;

use super::inspect::{answer, end};

pub use ask::{
    Between, DifferenceInfo, FoundInfo, RunInfo, SnapshotInfo, VersionInfo, diff, find, history, runs, snapshots,
};
pub use cat::cat;
pub use export::{Exported, Extent, export, extent};
