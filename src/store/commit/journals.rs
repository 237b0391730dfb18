//! Journals on disk: `journal/<run id>`, whole or not there, and `<run id>.tmp` until it is.

use std::io::Write;

use super::{CommitDirs, CommitError, rel};
use crate::backup::bytes::escape;
use crate::backup::digest::RunId;
use crate::store::journal::Journal;
use crate::tree::error::TreeError;
use crate::tree::safe_dir::SafeDir;

/// What the name of a journal ends with that is not carried out yet.
const TEMPORARY: &str = ".tmp";

/// A journal that is written and flushed, but has not got its name: it is not carried out.
pub(super) struct JournalDraft {
    folder: SafeDir,
    run: RunId,
}

impl JournalDraft {
    /// Writes it.
    pub(super) fn write(dirs: &CommitDirs, journal: &Journal) -> Result<Self, CommitError> {
        let (name, temporary) = (journal.run.to_hex(), temporary(journal.run));
        let bytes = journal.encode().map_err(|source| CommitError::Journal { name, source })?;
        let folder = dirs.own.open_dir(&rel("journal"))?;
        let io = |e: std::io::Error| TreeError::new("write", b"journal", temporary.as_bytes(), e);
        match folder.unlink(temporary.as_bytes()) {
            Err(e) if !e.is_not_found() => return Err(e.into()),
            _ => {}
        }
        let mut file = folder.create_new(temporary.as_bytes(), 0o600)?;
        let draft = Self { folder, run: journal.run };
        if let Err(error) = file.write_all(&bytes) {
            draft.discard();
            return Err(io(error).into());
        }
        file.sync_all().map_err(|e| CommitError::Flush(io(e)))?;
        Ok(draft)
    }

    /// From here on the commit will be finished.
    pub(super) fn activate(self) -> Result<(), CommitError> {
        self.folder.rename(temporary(self.run).as_bytes(), &self.folder, self.run.to_hex().as_bytes())?;
        self.folder.sync().map_err(CommitError::Flush)
    }

    /// The commit does not happen. Best effort, for the space it takes; the next start clears it otherwise.
    pub(super) fn discard(self) {
        let _ = self.folder.unlink(temporary(self.run).as_bytes());
    }
}

fn temporary(run: RunId) -> String {
    format!("{}{TEMPORARY}", run.to_hex())
}

/// What a crash left of journals.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Runs whose commits are to be finished.
    pub whole: Vec<RunId>,
    /// Runs whose journals never got their names: they changed nothing.
    pub drafts: Vec<RunId>,
}

/// The runs whose commits were interrupted. Names that are none of ours are left alone.
///
/// # Errors
/// The store's disk fails.
pub fn pending(own: &SafeDir) -> Result<Pending, CommitError> {
    let folder = own.open_dir(&rel("journal"))?;
    let mut found = Pending::default();
    for entry in folder.names()? {
        let name = std::str::from_utf8(&entry.name).unwrap_or_default();
        if let Some(run) = RunId::from_hex(name) {
            found.whole.push(run);
        } else if let Some(run) = name.strip_suffix(TEMPORARY).and_then(RunId::from_hex) {
            found.drafts.push(run);
        } else {
            tracing::warn!("'{}' is no journal, and is left alone", escape(&entry.name));
        }
    }
    found.whole.sort_unstable();
    Ok(found)
}

/// Removes a journal that never got its name.
///
/// # Errors
/// The store's disk fails.
pub fn remove_draft(own: &SafeDir, run: RunId) -> Result<(), CommitError> {
    Ok(own.open_dir(&rel("journal"))?.unlink(temporary(run).as_bytes())?)
}

/// The journal of a run; none: it is not there (any more).
///
/// # Errors
/// It is damaged, or the store's disk fails: nothing of it is carried out.
pub fn read_journal(own: &SafeDir, run: RunId) -> Result<Option<Journal>, CommitError> {
    let name = run.to_hex();
    let mut file = match own.open_dir(&rel("journal"))?.open_read(name.as_bytes()) {
        Err(e) if e.is_not_found() => return Ok(None),
        other => other?,
    };
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut bytes)
        .map_err(|e| TreeError::new("read", b"journal", name.as_bytes(), e))?;
    Journal::decode(&bytes).map(Some).map_err(|source| CommitError::Journal { name, source })
}

/// The commit is over.
///
/// # Errors
/// The store's disk fails.
pub fn remove_journal(own: &SafeDir, run: RunId) -> Result<(), CommitError> {
    let folder = own.open_dir(&rel("journal"))?;
    folder.unlink(run.to_hex().as_bytes())?;
    folder.sync().map_err(CommitError::Flush)
}
