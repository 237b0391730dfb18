//! Taking a path out of history for good: the client's side. The store's is `serve`.

use std::path::Path;

use super::client::{self, ClientOptions, Guest, Session};
use super::error::EngineError;
use super::stop::Stop;
use super::wire::unexpected;
use super::{admin, inspect};
use crate::net::link::Link;
use crate::net::message::{Message, Of, Purge, Purges, WirePurge};
use crate::store::names::CopyName;

mod serve;

pub(super) use serve::{serve, serve_list};

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

/// A purge that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastPurge {
    /// Absolute.
    pub path: Vec<u8>,
    /// When, seconds since 1970.
    pub time_secs: i64,
    /// The highest snapshot that it holds for.
    pub until: u64,
    /// Who asked for it, as text.
    pub by: Vec<u8>,
    /// What went.
    pub went: PurgeReport,
}

/// Who asks, about whose copy.
#[derive(Clone, Copy, Debug)]
pub enum Purger<'a> {
    /// A client with the admin right, or with the store in its own hands.
    Client(&'a ClientOptions),
    /// An administrator of the store in this folder, through the daemon that serves it if there is one.
    Admin(&'a Path, &'a CopyName, &'a Stop),
}

impl Purger<'_> {
    fn open(self, to_write: bool) -> Result<(Link, Option<Guest>), EngineError> {
        match self {
            Self::Client(options) => {
                let opened = if to_write { client::open_of(options) } else { client::open_to_read(options) };
                opened.map(|Session { link, guest, .. }| (link, guest))
            }
            Self::Admin(store, copy, stop) => {
                let Session { link, guest, .. } = admin::open_admin(store, stop)?;
                link.send(Of { node: copy.node().as_bytes().into(), user: copy.user().as_bytes().into() })?;
                Ok((link, guest))
            }
        }
    }

    fn ask<T>(
        self,
        request: impl Into<Message>,
        to_write: bool,
        listen: impl FnOnce(&mut Link) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let (mut link, guest) = self.open(to_write)?;
        let done = inspect::ask(&mut link, request).and_then(|()| listen(&mut link));
        inspect::end(link, guest);
        done.map_err(|error| match self {
            Self::Client(options) => options.stop.or(error),
            Self::Admin(.., stop) => stop.or(error),
        })
    }
}

/// Takes `path` and all below it out of history, or, unless `really`, asks what that would remove. Each path is told before
/// anything is removed.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub fn purge(
    purger: Purger<'_>,
    path: &Path,
    really: bool,
    told: &mut dyn FnMut(&PurgedPath),
) -> Result<PurgeReport, EngineError> {
    let path = inspect::absolute(path)?;
    let request = Purge { run: client::random_run_id()?, path: path.as_bytes().into(), really };
    purger.ask(request, really, |link| listen(link, told))
}

/// Asks what was purged, oldest first.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub fn list(purger: Purger<'_>, told: &mut dyn FnMut(&PastPurge)) -> Result<(), EngineError> {
    purger.ask(Purges {}, false, |link| {
        loop {
            let list = match inspect::answer(link)? {
                Message::PurgesList(list) => list,
                other => return Err(unexpected(&other, "asking what was purged").into()),
            };
            for WirePurge { path, time_secs, until, by, paths, snapshots, contents, bytes } in list.purges {
                let went = PurgeReport { done: true, paths, snapshots, contents, bytes };
                told(&PastPurge { path: inspect::with_slash(&path.0), time_secs, until, by: by.0, went });
            }
            if !list.more {
                return Ok(());
            }
        }
    })
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
