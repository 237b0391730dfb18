//! Going back, the client's side: one file's content as it was, and questions about many snapshots.

mod ask;
mod cat;

use super::client::Guest;
use super::error::EngineError;
use crate::net::link::Link;
use crate::net::message::Message;

pub use ask::{
    Between, DifferenceInfo, FoundInfo, RunInfo, SnapshotInfo, VersionInfo, diff, find, history, runs, snapshots,
};
pub use cat::cat;

/// What a server says, or why it refuses.
fn answer(link: &mut Link) -> Result<Message, EngineError> {
    loop {
        match link.recv()? {
            Message::Busy(_) => {}
            Message::Refused(refused) => return Err(refused.into()),
            other => return Ok(other),
        }
    }
}

/// Ends a conversation, well or not: a store in this process is closed before the next one opens it.
fn end(link: Link, guest: Option<Guest>) {
    link.sender.close();
    drop(link);
    if let Some(guest) = guest {
        guest.finish();
    }
}
