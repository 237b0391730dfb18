//! [`Unpacked`]: files of the past that lie below `.rbbackup` as they were: what is retired and not packed yet, and what a
//! commit has put aside on its way to another name. One whose daemon died leaves it there until the next start, which a
//! reader of a disk that nobody writes does not see.

use std::collections::HashMap;

use crate::backup::relpath::RelPath;
use crate::tree::error::TreeError;
use crate::tree::safe_dir::SafeDir;
use crate::tree::stat::FileKind;

/// Files are looked for this deep.
const DEPTH_MAX: usize = 4096;

/// By their size, whatever the catalog knows; paths below `.rbbackup`. What one of them holds is verified as everything is.
#[derive(Default)]
pub(super) struct Unpacked(HashMap<u64, Vec<RelPath>>);

/// Where a retired file lies, of which the catalog says where below `retired/`.
pub(super) fn retired(place: &RelPath) -> Option<RelPath> {
    RelPath::new(b"retired").ok()?.join_path(place).ok()
}

impl Unpacked {
    /// Lists them; what cannot be listed is told in the log, and what goes meanwhile is not missed: it is packed or placed.
    pub(super) fn list(own: &SafeDir) -> Self {
        let mut found = Self::default();
        found.add(own, RelPath::new(b"retired").unwrap_or_default());
        let runs = own.open_child(b"staging").and_then(|staging| staging.names());
        for run in runs.unwrap_or_default() {
            if let Ok(park) = RelPath::new(&[b"staging/", &run.name[..], b"/park"].concat()) {
                found.add(own, park);
            }
        }
        found
    }

    /// Those below a folder. One folder is open at a time.
    fn add(&mut self, own: &SafeDir, top: RelPath) {
        let mut folders = vec![top];
        while let Some(path) = folders.pop() {
            match self.add_files(own, &path, &mut folders) {
                Err(error) if !error.is_not_found() => tracing::warn!("files of history cannot be listed: {error}"),
                _ => {}
            }
        }
    }

    fn add_files(&mut self, own: &SafeDir, path: &RelPath, folders: &mut Vec<RelPath>) -> Result<(), TreeError> {
        let dir = own.open_dir(path)?;
        for entry in dir.names()? {
            let Ok(child) = path.join(&entry.name) else { continue };
            match dir.stat(&entry.name) {
                Ok(stat) if stat.kind == FileKind::File => self.0.entry(stat.size).or_default().push(child),
                Ok(stat) if stat.kind == FileKind::Dir && child.depth() < DEPTH_MAX => folders.push(child),
                _ => {}
            }
        }
        Ok(())
    }

    /// Those of this size.
    pub(super) fn of_size(&self, size: u64) -> Vec<RelPath> {
        self.0.get(&size).cloned().unwrap_or_default()
    }
}
