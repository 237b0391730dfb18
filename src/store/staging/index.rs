//! What staging has: whole files, by path and by content.
//!
//! Always holds: what it says goes into journals, inodes included, so it never lags behind the disk.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use super::StagedFile;
use crate::backup::digest::Digest;
use crate::backup::relpath::RelPath;

#[derive(Default)]
pub(super) struct Index {
    /// By a hash: each file is looked for several times on its way into the copy.
    files: HashMap<Arc<RelPath>, StagedFile>,
    /// Their paths, in order.
    order: BTreeSet<Arc<RelPath>>,
    by_digest: HashMap<Digest, Arc<RelPath>>,
    /// Set aside.
    spare: HashSet<Digest>,
    /// Begun, and not whole yet.
    begun: HashSet<RelPath>,
}

impl Index {
    pub(super) fn get(&self, path: &RelPath) -> Option<&StagedFile> {
        self.files.get(path)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.spare.is_empty()
    }

    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.by_digest.contains_key(digest) || self.spare.contains(digest)
    }

    /// Where in the tree this content stands.
    pub(super) fn place_of(&self, digest: &Digest) -> Option<RelPath> {
        self.by_digest.get(digest).map(|path| RelPath::clone(path))
    }

    /// Of all files together.
    pub(super) fn bytes(&self) -> u64 {
        self.files.values().fold(0, |sum: u64, file| sum.saturating_add(file.stat.fingerprint.size))
    }

    /// The content that is lost if `path` is.
    pub(super) fn only_at(&self, path: &RelPath) -> Option<Digest> {
        let digest = self.files.get(path)?.digest;
        let lost = self.by_digest.get(&digest).is_some_and(|known| **known == *path) && !self.spare.contains(&digest);
        lost.then_some(digest)
    }

    /// The files at `path` and within it.
    pub(super) fn within(&self, path: &RelPath) -> Vec<Arc<RelPath>> {
        let from = (Bound::Included(path), Bound::Unbounded);
        self.order.range::<RelPath, _>(from).take_while(|known| known.is_within(path)).map(Arc::clone).collect()
    }

    pub(super) fn enter(&mut self, path: &RelPath, file: StagedFile) {
        self.begun.remove(path);
        let path = Arc::new(path.clone());
        self.by_digest.insert(file.digest, Arc::clone(&path));
        self.order.insert(Arc::clone(&path));
        self.files.insert(path, file);
    }

    /// What stands at `path` is not whole any more, and may never be.
    pub(super) fn begin(&mut self, path: &RelPath) {
        self.remove_within(path);
        self.begun.insert(path.clone());
    }

    /// Whether something was begun that is not whole.
    pub(super) fn has_begun(&self) -> bool {
        !self.begun.is_empty()
    }

    pub(super) fn remove_within(&mut self, path: &RelPath) {
        for path in self.within(path) {
            self.order.remove(&path);
            if let Some(file) = self.files.remove(&path)
                && self.by_digest.get(&file.digest).is_some_and(|known| *known == path)
            {
                self.by_digest.remove(&file.digest);
            }
        }
    }

    /// Keeps the files that are wanted; whether there were others.
    pub(super) fn keep_only(&mut self, wanted: &BTreeSet<&RelPath>) -> bool {
        let mut wanted = wanted.iter().peekable();
        let mut is_wanted = |path: &RelPath| {
            while wanted.next_if(|next| **next < path).is_some() {}
            wanted.peek().is_some_and(|next| **next == path)
        };
        let stale: Vec<_> = self.order.iter().filter(|path| !is_wanted(path)).map(Arc::clone).collect();
        for path in &stale {
            self.order.remove(path);
            self.files.remove(path);
        }
        if !stale.is_empty() {
            self.by_digest = self.files.iter().map(|(path, file)| (file.digest, Arc::clone(path))).collect();
        }
        !stale.is_empty()
    }

    /// This content was set aside.
    pub(super) fn set_aside(&mut self, digest: Digest) {
        self.spare.insert(digest);
    }

    /// All that is set aside.
    pub(super) fn adopt_spare(&mut self, found: HashSet<Digest>) {
        self.spare = found;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::fingerprint::Fingerprint;
    use crate::store::staging::SmallStat;
    use crate::tree::stat::FileKind;

    fn rel(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    fn index(files: &[(&str, u8)]) -> Index {
        let mut index = Index::default();
        for (path, content) in files {
            let fingerprint = Fingerprint { size: 10, ..Fingerprint::default() };
            let stat = SmallStat { kind: FileKind::File, fingerprint, mode: 0, uid: 0, gid: 0 };
            index.enter(&rel(path), StagedFile { digest: Digest([*content; 32]), xattrs: Vec::new(), stat });
        }
        index
    }

    fn paths(index: &Index) -> Vec<String> {
        assert_eq!(index.order.len(), index.files.len());
        index.order.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_within_goes_with_its_content() {
        let mut index = index(&[("a", 1), ("d/x", 2), ("d/y/z", 3), ("d.c", 4), ("e", 2)]);
        index.remove_within(&rel("d"));
        assert_eq!(paths(&index), ["a", "d.c", "e"]);
        // The content of `d/x` stands at `e` too, which came later.
        assert!(index.has(&Digest([2; 32])) && !index.has(&Digest([3; 32])));
        assert_eq!((index.bytes(), index.place_of(&Digest([2; 32]))), (30, Some(rel("e"))));
    }

    #[test]
    fn only_what_is_wanted_is_kept() {
        let mut index = index(&[("a", 1), ("b", 2), ("c/d", 3), ("e", 1)]);
        let wanted = [rel("0"), rel("b"), rel("c"), rel("c/d"), rel("z")];
        assert!(index.keep_only(&wanted.iter().collect()));
        assert_eq!(paths(&index), ["b", "c/d"]);
        assert!(!index.has(&Digest([1; 32])) && index.has(&Digest([3; 32])));
        assert!(!index.keep_only(&wanted.iter().collect()));
        assert!(index.keep_only(&BTreeSet::new()) && index.is_empty());
    }

    #[test]
    fn what_was_begun_is_known_until_it_is_whole() {
        let mut index = index(&[("a", 1)]);
        assert!(!index.has_begun());
        index.begin(&rel("a"));
        assert!(index.has_begun() && index.get(&rel("a")).is_none() && !index.has(&Digest([1; 32])));
        let file = self::index(&[("a", 2)]).get(&rel("a")).cloned().unwrap();
        index.enter(&rel("a"), file);
        assert!(!index.has_begun());
    }
}
