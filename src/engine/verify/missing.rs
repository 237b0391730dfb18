//! Content that was found nowhere is searched once more, as a restore would: it may have moved while we looked (a commit,
//! the packer, a sweep), or lie outside of what was looked at. Only what cannot be delivered then is told.

use std::thread;
use std::time::{Duration, Instant};

use super::stored::distinct;
use super::walk::Walked;
use super::{Found, Job};
use crate::backup::digest::Digest;
use crate::backup::relpath::RelPath;
use crate::backup::timeline::PathHistory;
use crate::engine::error::EngineError;
use crate::engine::restore_serve::deliverable;
use crate::store::snapshots::Snapshots;

/// Searches, and the pause between two.
const LOOKS_MAX: u32 = 3;
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How long a commit under way is waited for.
const COMMIT_WAIT: Duration = Duration::from_secs(30);

/// Content that is missing, by the first path that had it.
struct Lost {
    path: RelPath,
    digest: Digest,
    size: u64,
    first: u64,
    last: u64,
}

impl Job<'_, '_> {
    /// Tells of each content that is nowhere, by the first path that had it.
    pub(super) fn name_missing(
        &mut self,
        snapshots: &Snapshots,
        numbers: &[u64],
        walked: &Walked,
    ) -> Result<(), EngineError> {
        let mut lost = self.first_paths(snapshots, numbers, walked)?;
        for look in 0..LOOKS_MAX {
            if lost.is_empty() {
                return Ok(());
            }
            if look > 0 {
                thread::sleep(LOOK_AGAIN);
                self.wait_for_commits()?;
            }
            let mut still = Vec::new();
            let mut is_there = deliverable(self.hub, self.copy)?;
            for lost in lost {
                if !is_there(&lost.path, lost.digest, lost.size) {
                    still.push(lost);
                }
                self.pace.beat(0)?;
            }
            lost = still;
        }
        for Lost { path, digest, size, first, last } in lost {
            let spans = walked.needed.get(&digest).map_or(&[][..], |need| &need.spans);
            let touched = distinct(snapshots, spans)?;
            if touched == 0 {
                // Whatever named it has expired meanwhile.
                continue;
            }
            let why = format!(
                "its content of snapshots {first} to {last} ({size} bytes, BLAKE3 {digest}) is in no undamaged place"
            );
            self.tell(Found::new([b"/", path.as_bytes()].concat(), why, touched))?;
        }
        Ok(())
    }

    fn first_paths(&self, snapshots: &Snapshots, numbers: &[u64], walked: &Walked) -> Result<Vec<Lost>, EngineError> {
        let mut left = walked.missing.clone();
        let mut lost = Vec::new();
        if left.is_empty() {
            return Ok(lost);
        }
        for history in snapshots.timeline(numbers, self.within)? {
            let PathHistory { path, versions } = history?;
            for version in versions {
                let Some(content) = version.record.entry.file() else { continue };
                if left.remove(&content.digest) {
                    let (digest, size) = (content.digest, content.size);
                    lost.push(Lost { path: path.clone(), digest, size, first: version.first, last: version.last });
                }
            }
            if left.is_empty() {
                break;
            }
        }
        Ok(lost)
    }

    /// Who looks without a lease waits until no commit moves things about.
    pub(super) fn wait_for_commits(&mut self) -> Result<(), EngineError> {
        let since = Instant::now();
        while !self.hub.is_pending()
            && self.hub.own_dir("journal")?.names().is_ok_and(|names| !names.is_empty())
            && since.elapsed() < COMMIT_WAIT
        {
            thread::sleep(LOOK_AGAIN);
            self.pace.beat(0)?;
        }
        Ok(())
    }
}
