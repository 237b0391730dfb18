//! Taking a path out of history for good: the client's side. The store's is `serve`.

use std::path::Path;

use super::client::{self, ClientOptions, Session};
use super::error::EngineError;
use super::inspect;
use super::wire::unexpected;
use crate::net::link::Link;
use crate::net::message::{Message, Purge};

mod serve;

pub(super) use serve::serve;

/// A path that goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurgedPath {
    /// Absolute.
    pub path: Vec<u8>,
    /// First snapshot that has it.
    pub first: u64,
    /// Last snapshot that has it.
    pub last: u64,
}

/// What went, or would go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PurgeReport {
    /// It is done.
    pub done: bool,
    /// Paths.
    pub paths: u64,
    /// Snapshots that had any of them.
    pub snapshots: u64,
    /// Contents that nothing else names.
    pub contents: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Takes `path` and all below it out of history, or, unless `really`, asks what that would remove. Each path is told before
/// anything is removed.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub fn purge(
    client: &ClientOptions,
    path: &Path,
    really: bool,
    told: &mut dyn FnMut(&PurgedPath),
) -> Result<PurgeReport, EngineError> {
    let path = inspect::absolute(path)?;
    let request = Purge { run: client::random_run_id()?, path: path.as_bytes().into(), really };
    let opened = if really { client::open_of(client) } else { client::open_to_read(client) };
    let Session { mut link, guest, .. } = opened?;
    let done = inspect::ask(&mut link, request).and_then(|()| listen(&mut link, told));
    inspect::end(link, guest);
    done.map_err(|error| client.stop.or(error))
}

fn listen(link: &mut Link, told: &mut dyn FnMut(&PurgedPath)) -> Result<PurgeReport, EngineError> {
    loop {
        match inspect::answer(link)? {
            Message::PurgeList(list) => {
                for found in list.paths {
                    let path = inspect::with_slash(&found.path.0);
                    told(&PurgedPath { path, first: found.first, last: found.last });
                }
            }
            Message::Purged(end) => {
                let (done, paths, snapshots) = (end.done, end.paths, end.snapshots);
                return Ok(PurgeReport { done, paths, snapshots, contents: end.contents, bytes: end.bytes });
            }
            other => return Err(unexpected(&other, "purging").into()),
        }
    }
}
