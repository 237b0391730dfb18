//! A run that is one of several: prepared first, committed when it is told to.
//!
//! ```text
//! everything staged, durable, the manifest agreed on ── Prepared ──>
//!      <── Commit      the commit goes on from its journal: no flush of what was flushed already
//!      <── other       the round is taken back: what was made ready goes, staging stays, the message is taken as usual
//!      link lost       the same, and the run ends; staging waits for the next one
//! ```
//! Nothing of the copy has changed before the word; it is looked at once more after it.

use std::sync::Arc;

use super::Run;
use crate::backup::digest::RunId;
use crate::backup::snapshot::SnapshotRecord;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::observer::Observer;
use crate::net::link::Link;
use crate::net::message::{Message, Prepared};

/// How a run is served for somebody who has more than this store to look after.
#[derive(Clone, Default)]
pub(in crate::engine) struct Terms {
    /// Say that all is prepared, and wait for the word.
    pub(in crate::engine) hold: bool,
    /// Whoever has the receipt stays on the line, and is told that what follows it goes on.
    pub(in crate::engine) stays: bool,
    /// The run that this one follows where it comes from; not the newest one here if this store has missed some.
    pub(in crate::engine) parent: Option<RunId>,
    /// Looks on at what arrives.
    pub(in crate::engine) observer: Option<Arc<dyn Observer>>,
}

/// Says that the run is prepared and waits for the word; at once if nobody asked. Some: it is taken back by this message.
///
/// # Errors
/// The link, the lease or the store are lost: the run is over, nothing has happened.
pub(super) fn until_told(
    run: &Run<'_>,
    link: &mut Link,
    record: &SnapshotRecord,
) -> Result<Option<Box<Message>>, EngineError> {
    if !run.terms.hold {
        return Ok(None);
    }
    let word = ask(run, link, record);
    if !matches!(word, Ok(None)) {
        take_back(run);
    }
    word
}

fn ask(run: &Run<'_>, link: &mut Link, record: &SnapshotRecord) -> Result<Option<Box<Message>>, EngineError> {
    run.busy.leave();
    link.send(Prepared { run: record.run, manifest: record.manifest, entries: record.entries })?;
    match link.recv()? {
        Message::Commit(commit) if commit.run == record.run => {}
        other => return Ok(Some(Box::new(other))),
    }
    run.busy.enter(4);
    // It may have been long.
    run.lease.check().map_err(|e| EngineError::new(ErrorKind::Unreachable, e.to_string()))?;
    run.hub.check_commit(run.who)?;
    Ok(None)
}

/// What a crash here would leave to the next start.
fn take_back(run: &Run<'_>) {
    let removed = run.hub.own_dir("retired").and_then(|dir| {
        let removed = dir.remove_tree(run.begin.run.to_hex().as_bytes());
        Ok(removed.or_else(|e| if e.is_not_found() { Ok(()) } else { Err(e) })?)
    });
    match removed {
        // Last: the draft tells whose they were.
        Ok(()) => run.snapshots.discard(run.begin.run),
        Err(error) => tracing::warn!("copies that were made for a run that was taken back are left: {error}"),
    }
}
