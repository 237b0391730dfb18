//! Small files: read, verified, and sent in one message.

use super::{Task, content_of};
use crate::backup::entry::Entry;
use crate::engine::error::EngineError;
use crate::engine::restore_serve::Finder;
use crate::engine::wire::entry_to_wire;
use crate::net::message::{Files, Message};

/// Sends them. One that cannot be read ends the run: a snapshot is whole or not there at all.
pub(super) fn send(task: &Task<'_>, finder: &mut Finder<'_>, files: &[Entry]) -> Result<(), EngineError> {
    let mut payload = Vec::new();
    for entry in files {
        let wanted = task.wanted(entry, content_of(entry)?)?;
        finder.whole(&wanted, &mut payload).map_err(|why| task.damaged(&wanted, &why))?;
    }
    let entries = files.iter().map(entry_to_wire).collect();
    let bytes = payload.len() as u64;
    task.link.send(Message::Files(Files { entries }, payload))?;
    Ok(task.tally.advance(&task.link, bytes, files.len() as u64)?)
}
