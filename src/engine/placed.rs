//! What a commit did, told to the catalog; and what it must not lose, copied into history first.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::client::now;
use super::error::{EngineError, ErrorKind};
use super::hub::{Hub, OpenCopy};
use crate::backup::digest::RunId;
use crate::backup::entry::Meta;
use crate::backup::fingerprint::Timestamp;
use crate::backup::plan::{ParkTo, PlaceFrom, Plan};
use crate::backup::relpath::RelPath;
use crate::store::catalog::{Row, RowKind, Update};
use crate::store::present::{plain_xattrs, row_kind};
use crate::store::staging::{Prepared, PreparedItem};
use crate::tree::dir_cache::{DIRS_OPEN_DEFAULT, DirCache};
use crate::tree::stat::Stat;

/// Where the catalog keeps rows of what a commit holds aside; no path of a client can begin so.
const ASIDE: &[u8] = b".rbbackup-aside";

fn rel(bytes: &[u8]) -> RelPath {
    RelPath::new(bytes).unwrap_or_default()
}

fn at(root: &RelPath, path: &RelPath) -> Result<RelPath, EngineError> {
    root.join_path(path).map_err(|e| EngineError::new(ErrorKind::Failed, e.to_string()))
}

fn retired_place(run: RunId, slot: u32) -> RelPath {
    rel(format!("{run}/{slot}").as_bytes())
}

/// Content whose inode keeps other names in the copy is copied into `retired/` before the commit: nothing that history
/// holds shares an inode with the copy.
pub(super) fn preserve(hub: &Hub, copy: &OpenCopy, root: &RelPath, run: RunId, plan: &Plan) -> Result<(), EngineError> {
    let mut dirs = DirCache::new(Arc::clone(&copy.dir), DIRS_OPEN_DEFAULT);
    for park in plan.parks.iter().filter(|p| p.preserve) {
        let folder = hub.own_dir("retired")?.make_dirs(&rel(run.to_hex().as_bytes()), 0o700)?;
        let path = at(root, &park.path)?;
        let (dir, name) = dirs.parent_of(&path)?;
        let mut source = dir.open_read(name)?;
        let slot = park.slot.to_string();
        // The same run may have been here before, and failed.
        folder.unlink(slot.as_bytes()).or_else(|e| if e.is_not_found() { Ok(()) } else { Err(e) })?;
        let mut target = folder.create_new(slot.as_bytes(), 0o600)?;
        if rustix::fs::ioctl_ficlone(&target, &source).is_err() {
            std::io::copy(&mut source, &mut target).map_err(|e| {
                let kind = if e.raw_os_error() == Some(28) { ErrorKind::NoSpace } else { ErrorKind::Failed };
                EngineError::new(kind, format!("cannot copy '{path}' into history: {e}"))
            })?;
        }
    }
    Ok(())
}

/// Brings the catalog to what the commit makes of the copy; may run beside it. Rows of a commit that fails are put right
/// by the next stat pass, as are those that this does not reach.
pub(super) fn update_catalog(
    hub: &Hub,
    copy: &OpenCopy,
    root: &RelPath,
    run: RunId,
    plan: &Plan,
    prepared: &Prepared,
) -> Result<(), EngineError> {
    // Staged files stood in a private folder until the commit placed them: only a change after that can be unseen.
    let safe_before = now().minus(0, super::receive::STORE_TICK_NANOS);
    let reader = hub.catalog.reader()?;
    let mut updates = Vec::new();
    let parked: HashSet<&RelPath> = plan.parks.iter().map(|p| &p.path).collect();
    for park in &plan.parks {
        let from = at(root, &park.path)?;
        let aside = rel(&[ASIDE, b"/", park.slot.to_string().as_bytes()].concat());
        if park.to == ParkTo::Hold {
            updates.push(Update::MoveTree { from, to: aside });
            continue;
        }
        if park.to == ParkTo::Retire || park.preserve {
            let place = retired_place(run, park.slot);
            for row in reader.range(copy.id, &from) {
                let row = row?;
                let below = row.path.strip_prefix(&from).unwrap_or_default();
                if row.path.strip_prefix(root).is_some_and(|path| left_before(&parked, &park.path, &path)) {
                    continue;
                }
                if let (RowKind::File, Some(digest)) = (row.kind, row.digest) {
                    let place = at(&place, &below)?;
                    updates.push(Update::PutRetired { digest, size: row.fingerprint.size, place });
                }
            }
        }
        updates.push(Update::RemoveTree(from));
    }
    for place in &plan.places {
        if let PlaceFrom::Hold(slot) = place.from {
            let aside = rel(&[ASIDE, b"/", slot.to_string().as_bytes()].concat());
            updates.push(Update::MoveTree { from: aside, to: at(root, &place.path)? });
        }
    }
    // What is prepared has a path that fits, or it could not be placed.
    let mut failed = None;
    let items = prepared.beside(plan).map_while(|ready| ready.map_err(|e| failed = Some(e)).ok());
    let rows = items.filter_map(|(step, item)| {
        Some(Update::Put(row_of(at(root, &step.path).ok()?, &step.form, &item, safe_before)))
    });
    hub.catalog.apply(copy.id, updates.into_iter().chain(rows))?;
    failed.map_or(Ok(()), |e| Err(EngineError::new(ErrorKind::Failed, format!("the plan cannot be read again: {e}"))))
}

/// Whether `path` left `park` by a park of its own, or with one, before `park` itself left: parks are deepest first.
fn left_before(parked: &HashSet<&RelPath>, park: &RelPath, path: &RelPath) -> bool {
    let mut at = Some(path.clone());
    while let Some(here) = at.filter(|here| here != park) {
        if parked.contains(&here) {
            return true;
        }
        at = here.parent();
    }
    false
}

fn row_of(path: RelPath, form: &Meta, item: &PreparedItem, safe_before: Timestamp) -> Row {
    let stat = &item.stat;
    let (kind, fingerprint) = (row_kind(stat.kind), stat.fingerprint);
    let racy = kind == RowKind::File && fingerprint.is_racy(safe_before);
    let xattrs = plain_xattrs(form.xattrs.clone());
    let (mode, uid, gid) = (stat.mode, stat.uid, stat.gid);
    Row { path, kind, fingerprint, mode, uid, gid, racy, digest: item.digest, xattrs }
}

/// Renames and touches change ctime: the paths that they reached, and the directories around them, are looked at once
/// more. After the commit.
pub(super) fn look_again(hub: &Hub, copy: &OpenCopy, root: &RelPath, plan: &Plan) -> Result<(), EngineError> {
    let mut paths = BTreeSet::new();
    for path in plan.places.iter().map(|p| &p.path).chain(plan.touches.iter().map(|t| &t.path)) {
        let path = at(root, path)?;
        paths.extend(path.parent());
        paths.insert(path);
    }
    for park in &plan.parks {
        paths.extend(at(root, &park.path)?.parent());
    }
    let forms = plan.touches.iter().map(|t| Ok((at(root, &t.path)?, t.form.xattrs.clone())));
    let forms = forms.collect::<Result<std::collections::HashMap<_, _>, EngineError>>()?;
    let mut dirs = DirCache::new(Arc::clone(&copy.dir), DIRS_OPEN_DEFAULT);
    let reader = hub.catalog.reader()?;
    let safe_before = now().minus(0, super::receive::STORE_TICK_NANOS);
    let mut updates = Vec::new();
    for path in paths {
        let Some(row) = reader.get(copy.id, &path)? else { continue };
        let stat: Stat = match dirs.parent_of(&path).and_then(|(dir, name)| dir.stat(name)) {
            Ok(stat) => stat,
            Err(_) if path.is_root() => copy.dir.stat_self()?,
            // It changed already; the next stat pass will tell.
            Err(_) => continue,
        };
        let fingerprint = stat.fingerprint();
        // Only renames and touches may have happened to it; a writer's change must not get the old digest.
        let ours = (fingerprint.ino, fingerprint.size) == (row.fingerprint.ino, row.fingerprint.size)
            && (fingerprint.mtime == row.fingerprint.mtime || forms.contains_key(&path));
        let racy = row.kind == RowKind::File && (!ours || fingerprint.is_racy(safe_before));
        let xattrs = forms.get(&path).map_or(row.xattrs.clone(), |x| plain_xattrs(x.clone()));
        let (mode, uid, gid) = (stat.mode, stat.uid, stat.gid);
        updates.push(Update::Put(Row { fingerprint, mode, uid, gid, racy, xattrs, ..row }));
    }
    hub.catalog.apply(copy.id, updates)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_park_of_its_own_is_not_in_its_directorys() {
        let (dir, sub, file) = (rel(b"d"), rel(b"d/sub"), rel(b"d/f"));
        let parked = HashSet::from([&file, &sub, &dir]);
        assert!(left_before(&parked, &dir, &file));
        assert!(left_before(&parked, &dir, &rel(b"d/sub/deep/x")));
        assert!(!left_before(&parked, &dir, &rel(b"d/stays")));
        assert!(!left_before(&parked, &sub, &rel(b"d/sub/deep/x")));
        assert!(!left_before(&parked, &dir, &dir));
        let top = RelPath::root();
        assert!(!left_before(&HashSet::from([&top]), &top, &rel(b"x")));
    }
}
