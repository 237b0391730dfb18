//! [`DirCache`]: the parents of the paths in hand stay open, so that one `openat2` serves a directory, not a file.
//!
//! Work comes in canonical order, so a handful of directories is enough. An open directory follows its inode: whoever
//! moves or removes a directory tells the cache ([`DirCache::forget`]).

use std::sync::Arc;

use rustix::io::Errno;

use super::error::TreeError;
use super::safe_dir::SafeDir;
use crate::backup::relpath::RelPath;

/// Enough for depth-first work on any usual tree.
pub const DIRS_OPEN_DEFAULT: usize = 48;

/// `path` as its parent and its last component; none for the root.
pub fn split(path: &RelPath) -> Option<(RelPath, &[u8])> {
    Some((path.parent()?, path.name()?))
}

/// Open directories below one root, the last used first.
#[derive(Debug)]
pub struct DirCache {
    root: Arc<SafeDir>,
    open: Vec<(RelPath, Arc<SafeDir>)>,
    open_max: usize,
}

impl DirCache {
    /// Keeps at most `open_max` directories below `root` open.
    pub fn new(root: Arc<SafeDir>, open_max: usize) -> Self {
        Self { root, open: Vec::new(), open_max: open_max.max(1) }
    }

    /// The root itself.
    pub fn root(&self) -> &Arc<SafeDir> {
        &self.root
    }

    /// The directory that holds `path`, open, and the name of `path` in it.
    ///
    /// # Errors
    /// Those of [`SafeDir::open_dir`]; EINVAL for the root, which has no parent here.
    pub fn parent_of<'p>(&mut self, path: &'p RelPath) -> Result<(Arc<SafeDir>, &'p [u8]), TreeError> {
        let name =
            path.name().ok_or_else(|| TreeError::new("find the parent of", self.root.label(), b"", Errno::INVAL))?;
        let parent_len = path.as_bytes().len().saturating_sub(name.len() + 1);
        let parent = path.as_bytes().get(..parent_len).unwrap_or_default();
        if let Some(dir) = self.hit(parent) {
            return Ok((dir, name));
        }
        let dir = self.dir(&path.parent().unwrap_or_default())?;
        Ok((dir, name))
    }

    /// The directory at `path`, open.
    ///
    /// # Errors
    /// Those of [`SafeDir::open_dir`].
    pub fn dir(&mut self, path: &RelPath) -> Result<Arc<SafeDir>, TreeError> {
        if let Some(dir) = self.hit(path.as_bytes()) {
            return Ok(dir);
        }
        let above = split(path).and_then(|(parent, name)| Some((self.hit(parent.as_bytes())?, name)));
        let dir = Arc::new(match above {
            Some((parent, name)) => parent.open_child(name)?,
            None => self.root.open_dir(path)?,
        });
        self.open.truncate(self.open_max - 1);
        self.open.insert(0, (path.clone(), dir.clone()));
        Ok(dir)
    }

    /// Forgets `path` and all below it: it was moved, replaced or removed.
    pub fn forget(&mut self, path: &RelPath) {
        self.open.retain(|(open, _)| !open.is_within(path));
    }

    fn hit(&mut self, path: &[u8]) -> Option<Arc<SafeDir>> {
        if path.is_empty() {
            return Some(self.root.clone());
        }
        let at = self.open.iter().position(|(open, _)| open.as_bytes() == path)?;
        if let Some(recent) = self.open.get_mut(..=at) {
            recent.rotate_right(1);
        }
        self.open.first().map(|(_, dir)| dir.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rel(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn parents_are_opened_once_and_the_oldest_goes() {
        let temp = tempfile::tempdir().unwrap();
        for dir in ["a/b", "c", "d"] {
            std::fs::create_dir_all(temp.path().join(dir)).unwrap();
        }
        let mut cache = DirCache::new(Arc::new(SafeDir::open_operator(temp.path()).unwrap()), 2);
        let (first, name) = cache.parent_of(&rel("a/b/x")).map(|(d, n)| (d, n.to_vec())).unwrap();
        assert_eq!(name, b"x");
        assert!(Arc::ptr_eq(&first, &cache.dir(&rel("a/b")).unwrap()));
        cache.dir(&rel("c")).unwrap();
        assert!(Arc::ptr_eq(&first, &cache.dir(&rel("a/b")).unwrap()));
        cache.dir(&rel("d")).unwrap();
        assert!(cache.open.iter().all(|(path, _)| *path != rel("c")), "the least recently used one went");
        cache.forget(&rel("a"));
        assert!(!Arc::ptr_eq(&first, &cache.dir(&rel("a/b")).unwrap()));
        let top = rel("top");
        let (root, name) = cache.parent_of(&top).unwrap();
        assert!(Arc::ptr_eq(&root, cache.root()) && name == b"top");
        assert!(cache.parent_of(&RelPath::root()).is_err());
    }
}
