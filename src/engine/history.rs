//! How much history a copy has: what is packed, and what waits in `retired/` to be.

use super::error::EngineError;
use super::hub::Hub;
use crate::backup::relpath::RelPath;
use crate::store::names::CopyName;
use crate::tree::stat::FileKind;

/// How many files and pieces left the copy and are kept, and their bytes, as the catalog knows it.
///
/// # Errors
/// The catalog cannot be read; the store's disk fails.
pub(super) fn known(hub: &Hub, copy: &CopyName) -> Result<(u64, u64), EngineError> {
    // In step with the packs.
    drop(hub.vault(copy)?);
    let known = hub.catalog.reader().and_then(|reader| {
        let id = hub.catalog.copy_id(copy)?;
        let ((files, bytes), vault) = (reader.retired_totals(id)?, reader.vault_totals(id)?);
        Ok((files + vault.blobs, bytes + vault.bytes))
    });
    match known {
        Ok(known) => Ok(known),
        // Somebody else's catalog may be gone or in use: the files themselves can be counted.
        Err(_) if hub.is_read_only() => count(hub, copy),
        Err(error) => Err(error.into()),
    }
}

/// How many retired files and packed pieces the copy has, and the bytes of both, as they lie there.
///
/// # Errors
/// The store's disk fails.
pub(super) fn count(hub: &Hub, copy: &CopyName) -> Result<(u64, u64), EngineError> {
    let (mut files, mut bytes) = retired(hub, copy)?;
    let vault = hub.vault(copy)?;
    for pack in vault.packs()? {
        let index = vault.index(pack)?;
        (files, bytes) = (files + index.blobs.len() as u64, bytes + index.bytes);
    }
    Ok((files, bytes))
}

/// How many retired files the copy has that are not packed yet, and their bytes.
///
/// # Errors
/// The store's disk fails.
pub(super) fn retired(hub: &Hub, copy: &CopyName) -> Result<(u64, u64), EngineError> {
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
