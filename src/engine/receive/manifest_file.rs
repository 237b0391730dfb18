//! The manifest as the store keeps it: what the source has, and, flagged `kept`, what the copy holds beyond it.

use std::cmp::Ordering;

use super::Run;
use super::incoming::Incoming;
use crate::backup::digest::RunId;
use crate::backup::entry::{Entry, FileContent, Kind, Link, Meta, SizeClass};
use crate::backup::manifest::{ChangeRecord, ManifestRecord, merge};
use crate::backup::relpath::RelPath;
use crate::backup::snapshot::SnapshotRecord;
use crate::engine::error::{EngineError, ErrorKind};
use crate::store::catalog::{Row, RowKind};
use crate::store::snapshots::{ManifestDraft, Snapshots};

/// Where the new manifest is written, and what it is made from when nothing is kept. Unlike the run it may be used from
/// another thread, while the plan is made.
pub(super) struct Drafter<'a> {
    snapshots: &'a Snapshots,
    run: RunId,
    newest: Option<&'a SnapshotRecord>,
    incoming: &'a Incoming,
}

impl<'a> Drafter<'a> {
    pub(super) fn new(run: &'a Run<'_>, incoming: &'a Incoming) -> Self {
        Self { snapshots: &run.snapshots, run: run.begin.run, newest: run.newest.as_deref(), incoming }
    }

    fn base(&self) -> Option<u64> {
        self.newest.filter(|_| self.incoming.on_base).map(|newest| newest.number)
    }

    /// Whether the base has kept entries, which the client's changes know nothing of.
    fn base_keeps(&self) -> Result<bool, EngineError> {
        let Some(base) = self.base() else { return Ok(false) };
        Ok(self.snapshots.open_manifest(base)?.header().counts.kept > 0)
    }

    /// The draft, if the base keeps nothing: the client's changes as they are. None: [`draft`] must make it.
    pub(super) fn of_seen(&self) -> Result<Option<ManifestDraft>, EngineError> {
        if self.base_keeps()? { Ok(None) } else { self.write(self.incoming.spooled()?).map(Some) }
    }

    /// Writes the draft and checks that both sides mean the same.
    fn write(
        &self,
        changes: impl Iterator<Item = Result<ChangeRecord, EngineError>>,
    ) -> Result<ManifestDraft, EngineError> {
        let incoming = self.incoming;
        let draft = self.snapshots.draft(self.run, self.base(), &incoming.owners, incoming.changes, changes)?;
        if draft.digest != incoming.digest || draft.counts.entries != incoming.entries {
            let message = format!(
                "the manifests of both sides differ: {} entries, digest {} here; {} entries, digest {} there",
                draft.counts.entries, draft.digest, incoming.entries, incoming.digest
            );
            return Err(EngineError::new(ErrorKind::Failed, message));
        }
        Ok(draft)
    }
}

/// Writes the draft of the new manifest.
pub(super) fn draft(run: &Run<'_>, incoming: &Incoming, kept: &[RelPath]) -> Result<ManifestDraft, EngineError> {
    let drafter = Drafter::new(run, incoming);
    if kept.is_empty()
        && let Some(draft) = drafter.of_seen()?
    {
        return Ok(draft);
    }
    drafter.write(with_kept(run, incoming, kept)?)
}

/// The client's changes, with what is kept put in and what was kept and is not any more taken out.
fn with_kept(
    run: &Run<'_>,
    incoming: &Incoming,
    kept: &[RelPath],
) -> Result<impl Iterator<Item = Result<ChangeRecord, EngineError>>, EngineError> {
    let mut kept = kept.iter().peekable();
    let merged = merge(incoming.base(run)?, incoming.spooled()?);
    // Kept paths that neither side of the merge has come between its paths, or after all of them.
    let mut changed: Vec<Result<ChangeRecord, EngineError>> = Vec::new();
    for pair in merged {
        let (old, change) = pair?;
        let path = match (&old, &change) {
            (Some(old), _) => old.entry.path.clone(),
            (None, Some(ChangeRecord::Put(new))) => new.entry.path.clone(),
            (None, Some(ChangeRecord::Remove(path))) => path.clone(),
            (None, None) => continue,
        };
        let mut is_kept = false;
        while let Some(next) = kept.peek() {
            match (*next).cmp(&path) {
                Ordering::Less => changed.push(Ok(ChangeRecord::Put(made_of_copy(run, next)?))),
                Ordering::Equal => is_kept = true,
                Ordering::Greater => break,
            }
            kept.next();
        }
        match (old, change) {
            (_, Some(ChangeRecord::Put(new))) => changed.push(Ok(ChangeRecord::Put(new))),
            (Some(old), _) if is_kept && old.kept => {}
            (Some(old), change) if is_kept && change.is_some() => {
                changed.push(Ok(ChangeRecord::Put(ManifestRecord { kept: true, ..old })));
            }
            (None, Some(ChangeRecord::Remove(_))) => {}
            (Some(old), change) if change.is_some() || old.kept => changed.push(Ok(ChangeRecord::Remove(path))),
            _ => {}
        }
    }
    for path in kept {
        changed.push(Ok(ChangeRecord::Put(made_of_copy(run, path)?)));
    }
    Ok(changed.into_iter())
}

/// A kept path that no manifest knew: described by what is on disk.
fn made_of_copy(run: &Run<'_>, path: &RelPath) -> Result<ManifestRecord, EngineError> {
    let at = run.root.join_path(path).map_err(crate::engine::wire::WireError::from)?;
    let row = run.reader.get(run.copy.id, &at)?;
    let gone = || EngineError::new(ErrorKind::Failed, format!("'{at}' vanished from the copy; run it again"));
    let entry = entry_of(run, row.ok_or_else(gone)?, path.clone())?;
    Ok(ManifestRecord { entry, kept: true })
}

fn entry_of(run: &Run<'_>, row: Row, path: RelPath) -> Result<Entry, EngineError> {
    let kind = match (row.kind, row.digest) {
        (RowKind::File, Some(digest)) => Kind::File(FileContent {
            size: row.fingerprint.size,
            digest,
            class: SizeClass::Whole,
            link: Link::Single,
            sparse: false,
            unstable: false,
        }),
        (RowKind::Symlink, _) => {
            let dir = run.copy.dir.open_dir(&row.path.parent().unwrap_or_default())?;
            Kind::Symlink { target: dir.read_link(row.path.name().unwrap_or_default())?.into() }
        }
        (RowKind::Dir, _) => Kind::Dir,
        _ => Kind::Fifo,
    };
    let mtime = row.fingerprint.mtime;
    Ok(Entry { path, meta: Meta { mode: row.mode, uid: row.uid, gid: row.gid, mtime, xattrs: row.xattrs }, kind })
}
