//! Journals on disk: `journal/<run id>`, whole or not there.

use std::io::Write;

use super::{CommitDirs, CommitError, rel};
use crate::backup::bytes::escape;
use crate::backup::digest::RunId;
use crate::store::journal::Journal;
use crate::tree::error::TreeError;
use crate::tree::safe_dir::SafeDir;

pub(super) fn write_journal(dirs: &CommitDirs, journal: &Journal) -> Result<(), CommitError> {
    let (name, temporary) = (journal.run.to_hex(), format!("{}.tmp", journal.run.to_hex()));
    let bytes = journal.encode().map_err(|source| CommitError::Journal { name: name.clone(), source })?;
    let folder = dirs.own.open_dir(&rel("journal"))?;
    let io = |e: std::io::Error| TreeError::new("write", b"journal", temporary.as_bytes(), e);
    match folder.unlink(temporary.as_bytes()) {
        Err(e) if !e.is_not_found() => return Err(e.into()),
        _ => {}
    }
    let mut file = folder.create_new(temporary.as_bytes(), 0o600)?;
    if let Err(error) = file.write_all(&bytes) {
        // Best effort: it would take space that is wanted elsewhere, and the next start clears it otherwise.
        let _ = folder.unlink(temporary.as_bytes());
        return Err(io(error).into());
    }
    file.sync_all().map_err(|e| CommitError::Flush(io(e)))?;
    folder.rename(temporary.as_bytes(), &folder, name.as_bytes())?;
    folder.sync().map_err(CommitError::Flush)
}

/// The runs whose commits were interrupted; journals that were never whole are removed. Other names are none of ours.
///
/// # Errors
/// The store's disk fails.
pub fn pending(own: &SafeDir) -> Result<Vec<RunId>, CommitError> {
    let folder = own.open_dir(&rel("journal"))?;
    let mut runs = Vec::new();
    for entry in folder.names()? {
        match std::str::from_utf8(&entry.name).ok().and_then(RunId::from_hex) {
            Some(run) => runs.push(run),
            None if entry.name.ends_with(b".tmp") => folder.unlink(&entry.name)?,
            None => tracing::warn!("'{}' is no journal, and is left alone", escape(&entry.name)),
        }
    }
    runs.sort_unstable();
    Ok(runs)
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
