//! `export`: a folder as a snapshot has it, entry by entry in canonical order, each file's content right after it.
//!
//! Two conversations: one lists, one fetches file after file. Nothing is held but a message of each; what a file's content is
//! worth is said in `cat`.
//!
//! Who lists waits while contents come, and is given up on after some minutes of that, as anybody who takes nothing. Then the
//! same snapshot is listed anew, and what was dealt with passed over.

use std::io::{self, Write};
use std::path::Path;

use super::{answer, cat, end};
use crate::backup::entry::{Entry, Kind};
use crate::backup::relpath::RelPath;
use crate::backup::when::When;
use crate::engine::client::{self, ClientOptions, Session};
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::inspect;
use crate::engine::wire::{WireError, entry_from_wire, unexpected};
use crate::net::link::Link;
use crate::net::message::{Message, Read, ReadGranted};

/// Takes what is exported.
pub trait Exported {
    /// An entry begins; its path is below the one that was asked for, and empty for that itself. What is written next, until
    /// another begins, is its content.
    ///
    /// # Errors
    /// It is not wanted any more.
    fn entry(&mut self, entry: &Entry) -> io::Result<()>;

    /// Where the content goes.
    fn content(&mut self) -> &mut dyn Write;

    /// A file is left out, because the store does not have its content any more, or it was purged since: which, and why. The rest
    /// follows.
    ///
    /// # Errors
    /// It is not wanted any more.
    fn left_out(&mut self, why: &str) -> io::Result<()>;
}

/// How much there is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The snapshot that has it.
    pub snapshot: u64,
    /// Entries at and below the path.
    pub entries: u64,
}

/// How much is at and below `path` in the snapshot of that time.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub fn extent(client: &ClientOptions, path: &Path, when: When) -> Result<Extent, EngineError> {
    let path = inspect::absolute(path)?;
    let Session { mut link, guest, .. } = client::open_to_read(client)?;
    let granted = ask(&mut link, &path, when);
    end(link, guest);
    let ReadGranted { snapshot, entries, .. } = granted.map_err(|error| client.stop.or(error))?;
    Ok(Extent { snapshot, entries })
}

/// Exports `path`, and what is below it, of the snapshot of that time.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code: it is not there, what the store has of a file turned out to be damaged after
/// its beginning was written, or it is not wanted any more.
pub fn export(client: &ClientOptions, path: &Path, when: When, to: &mut dyn Exported) -> Result<(), EngineError> {
    let path = inspect::absolute(path)?;
    let open = || client::open_to_read(client);
    let mut export = Export { path: &path, open: &open, to, contents: None, dealt: None };
    let done = export.all(when);
    if let Some(Session { link, guest, .. }) = export.contents {
        end(link, guest);
    }
    done.map_err(|error| client.stop.or(error))
}

fn ask(link: &mut Link, path: &RelPath, when: When) -> Result<ReadGranted, EngineError> {
    inspect::ask(
        link,
        Read { path: path.as_bytes().into(), shallow: false, content: false, all: true, at: when.into() },
    )?;
    match answer(link)? {
        Message::ReadGranted(granted) => Ok(granted),
        other => Err(unexpected(&other, "asking for a folder").into()),
    }
}

/// How a listing ended.
enum Listed {
    /// With the last entry.
    Whole,
    /// Whoever listed is gone; of which snapshot it was.
    Lost(u64, EngineError),
}

/// One export.
struct Export<'a> {
    path: &'a RelPath,
    open: &'a dyn Fn() -> Result<Session, EngineError>,
    to: &'a mut dyn Exported,
    /// The conversation that fetches.
    contents: Option<Session>,
    /// The last entry that was dealt with.
    dealt: Option<RelPath>,
}

impl Export<'_> {
    fn all(&mut self, mut when: When) -> Result<(), EngineError> {
        loop {
            let before = self.dealt.clone();
            match self.list(when)? {
                Listed::Whole => return Ok(()),
                Listed::Lost(snapshot, _) if self.dealt > before => when = When::Number(snapshot),
                Listed::Lost(_, error) => return Err(error),
            }
        }
    }

    /// Lists, and deals with what was not dealt with before.
    fn list(&mut self, when: When) -> Result<Listed, EngineError> {
        let Session { mut link, guest, .. } = (self.open)()?;
        let listed = self.list_over(&mut link, when);
        end(link, guest);
        listed
    }

    fn list_over(&mut self, link: &mut Link, when: When) -> Result<Listed, EngineError> {
        let snapshot = ask(link, self.path, when)?.snapshot;
        // In canonical order: what comes up to there was dealt with, whatever was purged meanwhile.
        let until = self.dealt.clone();
        loop {
            let tree = match answer(link) {
                Ok(Message::Tree(tree)) => tree,
                Ok(Message::TreeEnd(_)) => return Ok(Listed::Whole),
                Ok(other) => return Err(unexpected(&other, "exporting").into()),
                Err(error) if error.kind == ErrorKind::Unreachable => return Ok(Listed::Lost(snapshot, error)),
                Err(error) => return Err(error),
            };
            for entry in tree.entries {
                let entry = entry_from_wire(entry)?;
                if until.as_ref().is_none_or(|until| entry.path > *until) {
                    self.entry(&entry, snapshot)?;
                    self.dealt = Some(entry.path);
                }
            }
        }
    }

    fn entry(&mut self, entry: &Entry, snapshot: u64) -> Result<(), EngineError> {
        if !matches!(entry.kind, Kind::File(_)) {
            return self.to.entry(entry).map_err(unwanted);
        }
        let full = self.path.join_path(&entry.path).map_err(WireError::from)?;
        let session = match &mut self.contents {
            Some(session) => session,
            none => none.insert((self.open)()?),
        };
        let mut out = Begun { to: &mut *self.to, entry, is_begun: false, is_gone: false };
        let fetched = cat::over(&mut session.link, &full, When::Number(snapshot), &mut out);
        let Begun { is_begun, is_gone, .. } = out;
        if is_gone {
            return Err(unwanted(io::ErrorKind::BrokenPipe.into()));
        }
        match fetched {
            Ok(()) if is_begun => Ok(()),
            // An empty one.
            Ok(()) => self.to.entry(entry).map_err(unwanted),
            Err(error) if matches!(error.kind, ErrorKind::Failed | ErrorKind::Absent) && !is_begun => {
                // What more is said of it would be taken for what is said of the next one.
                if let Some(Session { link, guest, .. }) = self.contents.take() {
                    end(link, guest);
                }
                self.to.left_out(&error.message).map_err(unwanted)
            }
            Err(error) => Err(error),
        }
    }
}

fn unwanted(error: io::Error) -> EngineError {
    EngineError::new(ErrorKind::Failed, format!("what was asked for cannot be written: {error}"))
}

/// Begins a file when its content does, and notes whether the reader went away.
struct Begun<'a> {
    to: &'a mut dyn Exported,
    entry: &'a Entry,
    is_begun: bool,
    is_gone: bool,
}

impl Write for Begun<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut write = || {
            if !self.is_begun && !bytes.is_empty() {
                self.to.entry(self.entry)?;
                self.is_begun = true;
            }
            self.to.content().write(bytes)
        };
        let written = write();
        self.is_gone |= written.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::BrokenPipe);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.content().flush()
    }
}

#[cfg(test)]
mod tests;
