//! One thing that is there already, compared with its entry: is it the same, and if so, has it the right metadata?

use super::Shared;
use super::tally::Became;
use super::{Overwrite, RestoreOptions};
use crate::backup::digest::Digest;
use crate::backup::entry::{Entry, FileContent, Kind};
use crate::tree::error::TreeError;
use crate::tree::metadata::{Place, apply, kind_of, restored_form};
use crate::tree::read::{FileReader, READ_BYTES};
use crate::tree::safe_dir::SafeDir;
use crate::tree::stat::Stat;
use crate::tree::xattrs::read_xattrs;

/// Whether what is there stays as it is, whatever the snapshot has. `--overwrite` is about files and what is like them;
/// folders are always gone into.
pub(super) fn is_left_alone(options: &RestoreOptions, entry: &Entry, there: &Stat) -> bool {
    match options.overwrite {
        Overwrite::Never => true,
        Overwrite::Newer => there.mtime >= entry.meta.mtime,
        Overwrite::Changed | Overwrite::Always => false,
    }
}

/// Whether the content of a file is what the entry names. A size that matches proves nothing: it is hashed.
pub(super) fn same_content(dir: &SafeDir, name: &[u8], there: &Stat, wanted: &FileContent) -> Result<bool, TreeError> {
    if there.size != wanted.size {
        return Ok(false);
    }
    let mut reader = FileReader::open(dir, name)?;
    let mut hasher = blake3::Hasher::new();
    let mut buf = vec![0; usize::try_from(wanted.size).unwrap_or(READ_BYTES).clamp(1, READ_BYTES)];
    loop {
        let len = reader.read(&mut buf)?;
        hasher.update(buf.get(..len).unwrap_or_default());
        if len < buf.len() || reader.offset() >= wanted.size {
            break;
        }
    }
    Ok(reader.offset() == wanted.size && Digest::from(hasher.finalize()) == wanted.digest)
}

/// Whether something that is neither file nor folder is what the entry says.
pub(super) fn same_special(dir: &SafeDir, name: &[u8], there: &Stat, entry: &Entry) -> bool {
    if there.kind != kind_of(&entry.kind) {
        return false;
    }
    match &entry.kind {
        Kind::Symlink { target } => dir.read_link(name).is_ok_and(|found| found == target.0),
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            (there.rdev_major, there.rdev_minor) == (*major, *minor)
        }
        _ => true,
    }
}

/// Whether the metadata of what is there differs from the entry's. One call where there are no xattrs.
pub(super) fn metadata_differs(dir: &SafeDir, name: &[u8], there: &Stat, entry: &Entry) -> bool {
    let xattrs = read_xattrs(dir, name).ok();
    restored_form(entry).diff(there, xattrs.as_deref()).any()
}

/// What is there is the same; its metadata is put right.
pub(super) fn settle(shared: &Shared<'_>, dir: &SafeDir, name: &[u8], there: &Stat, entry: &Entry) {
    if !metadata_differs(dir, name, there, entry) {
        shared.tally.count(Became::Unchanged);
        return;
    }
    shared.plan_line("touch", &entry.path);
    if !shared.options.dry_run {
        match apply(Place::Name(dir, name), &restored_form(entry)) {
            Ok(notes) => shared.notes(&entry.path, notes),
            Err(error) => shared.notes(&entry.path, vec![error.to_string()]),
        }
    }
    shared.tally.count(Became::Touched);
}
