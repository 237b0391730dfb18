//! The session of a destination's control connection, the daemon's side: `Attend` in, `Summon` out (that is the board's).
//!
//! The entry is on the board exactly as long as this session: a connection that is closed ends it at once, one that is
//! silent after `SILENCE_SECS`. What a destination says is checked here, and bounded.

use super::board::{Attendance, Board, DestinationId, Heads, HeldHead, Line, Said, Wants};
use crate::backup::bytes::{Bytes, escape};
use crate::backup::limits::{BATCH_COUNT_MAX, HEADS_BYTES_MAX, NAME_BYTES_MAX};
use crate::backup::relpath::RelPath;
use crate::engine::client::now;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::hub::{Hub, Who};
use crate::engine::wire::{WireError, unexpected};
use crate::net::link::{Link, LinkError};
use crate::net::message::{Attend, Head, Join, Message};
use crate::store::names::{CopyName, NameError};

/// Bytes that a head takes beside its path and names.
const HEAD_BYTES: usize = 128;

/// What a head counts for.
pub(in crate::engine) fn head_bytes(head: &Head) -> usize {
    HEAD_BYTES + head.node.0.len() + head.user.0.len() + head.root.0.len()
}

/// Serves a control connection until it ends.
///
/// # Errors
/// It says what cannot be, or the daemon is about to stop.
pub(in crate::engine) fn serve(hub: &Hub, who: &Who, link: &mut Link, first: Attend) -> Result<(), EngineError> {
    let id = DestinationId(first.store);
    if first.store == hub.store.id() {
        let message = "its folder is a copy of this daemon's own store, and would pass for it: take an empty folder";
        return Err(EngineError::new(ErrorKind::Failed, message));
    }
    let mut parts = Parts::default();
    let mut attendance: Option<Present> = None;
    let mut next = first;
    loop {
        if next.store != id.0 {
            return Err(refuse("it became another store"));
        }
        if let Some(said) = parts.add(next)? {
            match &attendance {
                None => attendance = Some(Present::enter(&hub.board, id, said, who, link)?),
                Some(present) if !present.attendance.say(said) => return Ok(()),
                Some(_) => {}
            }
        }
        next = match link.recv() {
            Ok(Message::Attend(attend)) => attend,
            Ok(other) => return Err(unexpected(&other, "a destination attends").into()),
            Err(LinkError::Closed | LinkError::Lost { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
    }
}

/// Gives a data connection to who called for it.
pub(in crate::engine) fn join(hub: &Hub, who: &Who, link: Link, join: &Join) {
    if !hub.board.deliver(join.call, who.identity.key, link) {
        tracing::debug!("{} joined too late", who.name());
    }
}

/// An entry, and what the log says of it.
struct Present {
    attendance: Attendance,
    name: String,
}

impl Present {
    fn enter(board: &Board, id: DestinationId, said: Said, who: &Who, link: &Link) -> Result<Self, EngineError> {
        let line = Line { sender: &link.sender, key: who.identity.key, address: who.address, now: now() };
        let Some(attendance) = board.enter(id, said, line) else {
            return Err(EngineError::new(ErrorKind::Unreachable, "the daemon is stopping; try again later"));
        };
        let name = board.find(id).map_or_else(String::new, |destination| destination.name);
        tracing::info!("destination '{name}' is here");
        Ok(Self { attendance, name })
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        tracing::info!("destination '{}' has left", self.name);
    }
}

/// What is said in several messages, until the last one is there.
#[derive(Default)]
struct Parts {
    heads: Heads,
    bytes: usize,
}

impl Parts {
    fn add(&mut self, attend: Attend) -> Result<Option<Said>, EngineError> {
        for head in attend.heads {
            self.bytes += head_bytes(&head);
            if self.bytes > HEADS_BYTES_MAX {
                return Err(refuse("it tells of too many roots"));
            }
            let Head { node, user, root, run, manifest } = head;
            let copy = CopyName::new(node.as_slice(), user.as_slice()).map_err(bad_name)?;
            let root = RelPath::new(root.as_slice()).map_err(WireError::from)?;
            self.heads.insert((copy, root), HeldHead { run, manifest });
        }
        if attend.more {
            return Ok(None);
        }
        let Self { heads, .. } = std::mem::take(self);
        let name = checked_name(attend.name.as_slice())?;
        Ok(Some(Said { name, wants: wants(&attend.from)?, space: attend.space, heads }))
    }
}

fn checked_name(name: &[u8]) -> Result<String, EngineError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(refuse("its name is empty or too long"));
    }
    Ok(escape(name))
}

fn wants(from: &[(Bytes, Bytes)]) -> Result<Wants, EngineError> {
    if from.len() > BATCH_COUNT_MAX {
        return Err(refuse("it names too many whose backups it wants"));
    }
    let one = |(node, user): &(Bytes, Bytes)| {
        // A node is checked together with any user.
        let all = user.0.is_empty();
        let copy = CopyName::new(node.as_slice(), if all { b"all" } else { user.as_slice() }).map_err(bad_name)?;
        Ok((copy.node().to_owned(), (!all).then(|| copy.user().to_owned())))
    };
    Ok(Wants(from.iter().map(one).collect::<Result<_, EngineError>>()?))
}

fn refuse(why: &str) -> EngineError {
    EngineError::new(ErrorKind::Failed, format!("this destination is not taken: {why}"))
}

#[allow(clippy::needless_pass_by_value)]
fn bad_name(error: NameError) -> EngineError {
    refuse(&error.to_string())
}

#[cfg(test)]
mod tests;
