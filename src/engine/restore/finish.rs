//! The end of a restore: further names of files, then what folders are to show (deepest first, because every name that
//! is made changes its folder's time), then one flush.

use super::Shared;
use super::compare::Compared;
use super::settle::is_left_alone;
use super::tally::Became;
use crate::backup::entry::{Entry, Link};
use crate::backup::relpath::RelPath;
use crate::engine::error::EngineError;
use crate::tree::dir_cache::{DIRS_OPEN_DEFAULT, DirCache};
use crate::tree::error::TreeError;
use crate::tree::metadata::{Place, apply_restored, restored_form};
use crate::tree::safe_dir::SafeDir;
use crate::tree::stat::FileKind;
use crate::tree::write::FileWriter;

/// See the module.
///
/// # Errors
/// The disk does not take the flush.
pub(super) fn finish(shared: &Shared<'_>, compared: Compared) -> Result<(), EngineError> {
    let Compared { links, folders, .. } = compared;
    let Some(base) = shared.ground.get().and_then(|ground| ground.base.clone()) else {
        // A dry run into a place that is not there.
        for entry in &links {
            shared.plan_line("create", &entry.path);
            shared.tally.count(Became::Created);
        }
        return Ok(());
    };
    let mut dirs = DirCache::new(base.clone(), DIRS_OPEN_DEFAULT);
    for entry in &links {
        if let Err(error) = link(shared, &mut dirs, entry) {
            shared.failed(&entry.path, &error.to_string());
        }
    }
    if shared.options.dry_run {
        return Ok(());
    }
    for entry in folders.iter().rev() {
        match dirs.dir(&entry.path) {
            Ok(dir) => shared.notes(&entry.path, apply_restored(Place::Dir(&dir), entry)),
            Err(error) => shared.failed(&entry.path, &error.to_string()),
        }
    }
    Ok(base.sync_fs()?)
}

/// Gives a file that is in place one more name.
fn link(shared: &Shared<'_>, dirs: &mut DirCache, entry: &Entry) -> Result<(), TreeError> {
    let Some(Link::Follower(leader)) = entry.file().map(|content| &content.link) else { return Ok(()) };
    if shared.options.dry_run {
        return plan(shared, dirs, entry, leader);
    }
    if !shared.table.is_good_leader(leader) {
        shared.failed(&entry.path, &format!("it is another name of '{leader}', which was not restored"));
        return Ok(());
    }
    let (from, from_name) = dirs.parent_of(leader)?;
    let first = from.stat(from_name)?;
    let (dir, name) = dirs.parent_of(&entry.path)?;
    let existed = match dir.stat(name) {
        Ok(there) if there.same_inode(&first) => {
            shared.tally.count(Became::Unchanged);
            return Ok(());
        }
        Ok(there) if is_left_alone(shared.options, entry, &there) => {
            shared.tally.count(Became::Unchanged);
            return Ok(());
        }
        Ok(_) => true,
        Err(e) if e.is_not_found() => false,
        Err(e) => return Err(e),
    };
    let temp = shared.temp.next();
    if let Err(why) = from.link(from_name, &dir, &temp) {
        // Some file systems have no hard links, and there is a most to their number.
        copy(&from, from_name, &dir, &temp, entry)?;
        shared.notes(&entry.path, vec![format!("it is a copy of '{leader}', not another name of it: {why}")]);
    }
    if let Err(error) = dir.rename(&temp, &dir, name) {
        let _ = dir.unlink(&temp);
        return Err(error);
    }
    shared.tally.count(if existed { Became::Updated } else { Became::Created });
    Ok(())
}

fn copy(from: &SafeDir, from_name: &[u8], dir: &SafeDir, temp: &[u8], entry: &Entry) -> Result<(), TreeError> {
    let form = restored_form(entry);
    let content = entry.file();
    let sparse = content.is_some_and(|content| content.sparse);
    let source = from.open_read(from_name)?;
    let mut writer = FileWriter::create(dir, temp, form.mode & 0o777, sparse)?;
    let copied = writer.copy_range(&source, 0, 0, content.map_or(0, |content| content.size));
    let finished = copied.and_then(|()| writer.finish(&form).map(drop));
    if finished.is_err() {
        let _ = dir.unlink(temp);
    }
    finished
}

/// What a dry run says of a further name.
fn plan(shared: &Shared<'_>, dirs: &mut DirCache, entry: &Entry, leader: &RelPath) -> Result<(), TreeError> {
    let mut look = |path: &RelPath| match dirs.parent_of(path).and_then(|(dir, name)| dir.stat(name)) {
        Ok(stat) => Ok(Some(stat)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e),
    };
    let (became, action) = match (look(&entry.path)?, look(leader)?) {
        (None, _) => (Became::Created, Some("create")),
        (Some(there), Some(first)) if there.same_inode(&first) && there.kind == FileKind::File => {
            (Became::Unchanged, None)
        }
        (Some(there), _) if is_left_alone(shared.options, entry, &there) => (Became::Unchanged, None),
        (Some(_), _) => (Became::Updated, Some("update")),
    };
    if let Some(action) = action {
        shared.plan_line(action, &entry.path);
    }
    shared.tally.count(became);
    Ok(())
}
