//! What is in `retired/` and the catalog does not know: it was lost, or a crash came between a commit and what it tells.
//!
//! A thread of the daemon hashes it, run by run, and stops where it is when the daemon does; the next start goes on. Until
//! then nothing is lost: a restore finds retired files by their size, and content that is not known is sent again.

use std::collections::HashMap;

use super::error::EngineError;
use super::hub::Hub;
use crate::backup::chunker::{Recipe, class_for};
use crate::backup::digest::{Digest, RunId};
use crate::backup::entry::SizeClass;
use crate::backup::relpath::RelPath;
use crate::store::catalog::{CopyId, Update};
use crate::store::names::CopyName;
use crate::store::staging::{chunks_of, hash_file};
use crate::tree::error::TreeError;
use crate::tree::safe_dir::SafeDir;
use crate::tree::stat::FileKind;

/// Updates that are gathered before they are written to the catalog.
const UPDATES_MAX: usize = 512;

/// Tells the catalog of everything retired that it does not know; how many runs that were. `go_on` is asked before each
/// file.
///
/// # Errors
/// The catalog or the store's disk fail; files that cannot be read are passed over.
pub(super) fn learn(hub: &Hub, go_on: &dyn Fn() -> bool) -> Result<u64, EngineError> {
    let mut copies: HashMap<RunId, CopyId> = HashMap::new();
    for copy in hub.store.copies()? {
        let id = hub.catalog.copy_id(&copy)?;
        copies.extend(hub.store.snapshots(&copy)?.all()?.iter().map(|record| (record.run, id)));
    }
    let (reader, retired) = (hub.catalog.reader()?, hub.own_dir("retired")?);
    let mut learnt = 0;
    for entry in retired.names()? {
        let Some(run) = std::str::from_utf8(&entry.name).ok().and_then(RunId::from_hex) else { continue };
        // Without a record it is not known whose it is.
        let Some(id) = copies.get(&run).copied() else { continue };
        if reader.knows_retired(id, run)? {
            continue;
        }
        if !learn_run(hub, id, run, &retired, go_on)? {
            break;
        }
        learnt += 1;
    }
    Ok(learnt)
}

/// How many retired files the copy has, and their bytes, as they lie there.
///
/// # Errors
/// The store's disk fails.
pub(super) fn count(hub: &Hub, copy: &CopyName) -> Result<(u64, u64), EngineError> {
    let retired = hub.own_dir("retired")?;
    let (mut files, mut bytes) = (0, 0_u64);
    for record in hub.store.snapshots(copy)?.all()? {
        let mut folders: Vec<RelPath> = RelPath::new(record.run.to_hex().as_bytes()).into_iter().collect();
        while let Some(path) = folders.pop() {
            let Ok(dir) = retired.open_dir(&path) else { continue };
            for entry in dir.names()? {
                match dir.stat(&entry.name) {
                    Ok(stat) if stat.kind == FileKind::Dir => folders.extend(path.join(&entry.name)),
                    Ok(stat) if stat.kind == FileKind::File => (files, bytes) = (files + 1, bytes + stat.size),
                    _ => {}
                }
            }
        }
    }
    Ok((files, bytes))
}

/// False: it was told to stop.
fn learn_run(
    hub: &Hub,
    copy: CopyId,
    run: RunId,
    retired: &SafeDir,
    go_on: &dyn Fn() -> bool,
) -> Result<bool, EngineError> {
    let mut updates = Vec::new();
    let mut folders: Vec<RelPath> = RelPath::new(run.to_hex().as_bytes()).into_iter().collect();
    while let Some(path) = folders.pop() {
        let dir = retired.open_dir(&path)?;
        for entry in dir.names()? {
            if !go_on() {
                return Ok(false);
            }
            let Ok(place) = path.join(&entry.name) else { continue };
            match dir.stat(&entry.name) {
                Ok(stat) if stat.kind == FileKind::Dir => folders.push(place),
                Ok(stat) if stat.kind == FileKind::File => match look(&dir, &entry.name, stat.size) {
                    Ok((digest, recipe)) => {
                        updates.push(Update::PutRetired { digest, size: stat.size, place });
                        updates.extend(recipe.map(|recipe| Update::PutRecipe { digest, recipe }));
                    }
                    Err(error) => tracing::warn!("a retired file is passed over: {error}"),
                },
                _ => {}
            }
            if updates.len() >= UPDATES_MAX {
                hub.catalog.apply(copy, std::mem::take(&mut updates))?;
            }
        }
    }
    updates.push(Update::RetiredRun(run));
    hub.catalog.apply(copy, updates)?;
    Ok(true)
}

/// The content, and how it is cut if it is a large file's.
fn look(dir: &SafeDir, name: &[u8], size: u64) -> Result<(Digest, Option<Recipe>), TreeError> {
    let fail = |e| TreeError::new("read", dir.label(), name, e);
    let mut file = dir.open_read(name)?;
    let digest = hash_file(&mut file).map_err(fail)?;
    let class = class_for(size);
    let recipe = (class != SizeClass::Whole).then(|| Recipe { class, chunks: chunks_of(&file, class).into() });
    Ok((digest, recipe))
}
