//! The manifest, as changes to the base or whole, and what the far end says to it.
//!
//! What our copy holds beyond the manifest travels as `Unseen`: the far end keeps what it has there. Of a kept folder all
//! that is in it is kept, so its own name is enough.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::Task;
use super::offer::{Step, steps};
use crate::backup::limits::COMMIT_SECS;
use crate::backup::relpath::RelPath;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::push::ChangesSender;
use crate::engine::wire::{WireError, entry_to_wire, sentences, unexpected};
use crate::net::link::LinkError;
use crate::net::message::{Committed, Manifest, ManifestEnd, Message, WireChange};

/// What the far end says to a manifest.
pub(super) enum Answer {
    /// Done.
    Committed(Box<Committed>),
    /// Content is missing at these paths.
    Missing(Vec<RelPath>),
}

/// Sends all of it and waits for the answer.
pub(super) fn send(task: &Task<'_>, verdict: &Receiver<Result<Message, EngineError>>) -> Result<Answer, EngineError> {
    let record = task.record;
    let owners = task.snapshots.open_manifest(record.number)?.header().owners.clone();
    task.link.send(Manifest {
        base: task.base.map(|(_, digest)| digest),
        digest: record.manifest,
        entries: record.entries,
        incomplete: !record.complete,
        users: owners.users,
        groups: owners.groups,
        errors: sentences(record.errors.iter().cloned()),
    })?;
    let mut changes = ChangesSender::new(&task.link);
    let mut kept_folder: Option<RelPath> = None;
    for step in steps(task)? {
        match step? {
            Step::Put { entry, .. } => changes.push(WireChange::Put(entry_to_wire(&entry)))?,
            Step::Gone(path) => changes.push(WireChange::Remove(path.as_bytes().into()))?,
            Step::Kept(path, was_seen) => {
                if was_seen {
                    changes.push(WireChange::Remove(path.as_bytes().into()))?;
                }
                if kept_folder.as_ref().is_none_or(|folder| !path.is_within(folder)) {
                    changes.push(WireChange::Unseen(path.as_bytes().into()))?;
                    kept_folder = Some(path);
                }
            }
        }
    }
    changes.flush()?;
    task.link.send(ManifestEnd { bytes_read: 0 })?;
    answer(task, verdict)
}

fn answer(task: &Task<'_>, verdict: &Receiver<Result<Message, EngineError>>) -> Result<Answer, EngineError> {
    let mut missing = Vec::new();
    loop {
        let said = match verdict.recv_timeout(Duration::from_secs(COMMIT_SECS)) {
            Ok(said) => said?,
            Err(RecvTimeoutError::Disconnected) => return Err(LinkError::Closed.into()),
            Err(RecvTimeoutError::Timeout) => {
                let message = format!("the destination did not finish the commit within {COMMIT_SECS} s");
                return Err(EngineError::new(ErrorKind::Unreachable, message));
            }
        };
        match said {
            Message::Committed(receipt) => return Ok(Answer::Committed(Box::new(receipt))),
            Message::Missing(part) => {
                for path in &part.paths {
                    missing.push(RelPath::new(&path.0).map_err(WireError::from)?);
                }
                if missing.len() as u64 > task.record.entries {
                    let message = "the destination asks for more than the snapshot has";
                    return Err(EngineError::new(ErrorKind::Failed, message));
                }
                if part.last {
                    return Ok(Answer::Missing(missing));
                }
            }
            other => return Err(unexpected(&other, "waiting for the receipt").into()),
        }
    }
}
