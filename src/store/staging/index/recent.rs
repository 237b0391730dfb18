//! What was staged last, in memory.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use crate::backup::digest::Digest;
use crate::backup::relpath::RelPath;
use crate::store::staging::StagedFile;

#[derive(Default)]
pub(super) struct Recent {
    /// By a hash: each file is looked for several times on its way into the copy.
    files: HashMap<Arc<RelPath>, StagedFile>,
    /// Their paths, in order.
    order: BTreeSet<Arc<RelPath>>,
    by_digest: HashMap<Digest, Arc<RelPath>>,
}

impl Recent {
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    pub(super) fn get(&self, path: &RelPath) -> Option<&StagedFile> {
        self.files.get(path)
    }

    /// Where this content stands; of several places the last.
    pub(super) fn place_of(&self, digest: &Digest) -> Option<&RelPath> {
        self.by_digest.get(digest).map(|path| &**path)
    }

    /// The files at `path` and within it.
    pub(super) fn within(&self, path: &RelPath) -> Vec<Arc<RelPath>> {
        let from = (Bound::Included(path), Bound::Unbounded);
        self.order.range::<RelPath, _>(from).take_while(|known| known.is_within(path)).map(Arc::clone).collect()
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&RelPath, &StagedFile)> {
        self.order.iter().filter_map(|path| Some((&**path, self.files.get(path)?)))
    }

    pub(super) fn enter(&mut self, path: &RelPath, file: StagedFile) {
        let path = Arc::new(path.clone());
        self.by_digest.insert(file.digest, Arc::clone(&path));
        self.order.insert(Arc::clone(&path));
        self.files.insert(path, file);
    }

    pub(super) fn remove(&mut self, path: &RelPath) -> Option<StagedFile> {
        let file = self.files.remove(path)?;
        self.order.remove(path);
        if self.by_digest.get(&file.digest).is_some_and(|known| **known == *path) {
            self.by_digest.remove(&file.digest);
        }
        Some(file)
    }

    /// Of a content that stood at several places the one that was known may have gone.
    pub(super) fn find_contents_again(&mut self) {
        self.by_digest = self.files.iter().map(|(path, file)| (file.digest, Arc::clone(path))).collect();
    }

    pub(super) fn clear(&mut self) {
        self.files.clear();
        self.order.clear();
        self.by_digest.clear();
    }
}
