//! A model of the copy's file system, as far as a commit sees it: names lead to inodes, a rename takes a whole subtree
//! along and never replaces, and a name that comes or goes changes the time of its directory.

use std::collections::BTreeMap;

use crate::backup::bytes::Bytes;
use crate::backup::digest::Digest;
use crate::backup::entry::{Entry, FileContent, Kind, Link, Meta, SizeClass};
use crate::backup::fingerprint::Timestamp;
use crate::backup::plan::{Present, PresentKind, Wanted};
use crate::backup::relpath::RelPath;

/// Where a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    Copy,
    Staging,
    Slot(u32),
    /// In the copy, outside of the root.
    Elsewhere,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    Dir,
    File(u8),
    Symlink(u8),
    Fifo,
    /// At the source only: the copy never holds one.
    Device,
    /// In the copy only.
    Other,
}

#[derive(Clone, Debug)]
pub struct Inode {
    pub node: Node,
    pub meta: Meta,
}

#[derive(Clone, Debug, Default)]
pub struct World {
    pub names: BTreeMap<(Area, RelPath), u64>,
    pub inodes: BTreeMap<u64, Inode>,
    /// Names come and go without a trace: while a tree is made up.
    pub quiet: bool,
}

pub fn rel(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

/// Content number 0 is empty.
pub fn content(n: u8) -> Vec<u8> {
    vec![n; usize::from(n)]
}

pub fn meta(n: u8) -> Meta {
    let mode = if n & 1 == 0 { 0o644 } else { 0o755 };
    Meta { mode, mtime: Timestamp { secs: i64::from(n >> 1), nanos: 0 }, ..Meta::default() }
}

impl World {
    pub fn with_root() -> Self {
        let mut world = Self { quiet: true, ..Self::default() };
        world.add(Area::Copy, &RelPath::root(), Node::Dir, meta(0));
        world
    }

    /// `a/` is a directory, `a=3` a file with content 3, `a->3` a symlink, `a|` a fifo, `a~` another name of the path
    /// after it (`b~a`).
    pub fn of(lines: &[&str]) -> Self {
        let mut world = Self::with_root();
        for line in lines {
            if let Some(path) = line.strip_suffix('/') {
                world.add(Area::Copy, &rel(path), Node::Dir, meta(0));
            } else if let Some((path, n)) = line.split_once("->") {
                world.add(Area::Copy, &rel(path), Node::Symlink(n.parse().unwrap()), meta(0));
            } else if let Some((path, n)) = line.split_once('=') {
                world.add(Area::Copy, &rel(path), Node::File(n.parse().unwrap()), meta(0));
            } else if let Some(path) = line.strip_suffix('|') {
                world.add(Area::Copy, &rel(path), Node::Fifo, meta(0));
            } else if let Some(path) = line.strip_suffix('!') {
                world.add(Area::Copy, &rel(path), Node::Device, meta(0));
            } else if let Some((path, to)) = line.split_once('~') {
                let ino = world.at(Area::Copy, &rel(to)).unwrap();
                world.link(ino, Area::Copy, &rel(path));
            }
        }
        world
    }

    pub fn at(&self, area: Area, path: &RelPath) -> Option<u64> {
        self.names.get(&(area, path.clone())).copied()
    }

    pub fn node(&self, area: Area, path: &RelPath) -> Option<&Inode> {
        self.inodes.get(&self.at(area, path)?)
    }

    pub fn within(&self, area: Area, path: &RelPath) -> Vec<(RelPath, u64)> {
        let from = self.names.range((area, path.clone())..);
        let inside = from.take_while(|((a, p), _)| *a == area && p.is_within(path));
        inside.map(|((_, p), ino)| (p.clone(), *ino)).collect()
    }

    pub fn add(&mut self, area: Area, path: &RelPath, node: Node, meta: Meta) -> u64 {
        let ino = self.inodes.keys().next_back().map_or(100, |last| last + 1);
        self.inodes.insert(ino, Inode { node, meta });
        self.link(ino, area, path);
        ino
    }

    pub fn link(&mut self, ino: u64, area: Area, path: &RelPath) {
        assert!(self.at(area, path).is_none(), "{path:?} exists in {area:?}");
        self.disturb(area, path);
        self.names.insert((area, path.clone()), ino);
    }

    fn disturb(&mut self, area: Area, path: &RelPath) {
        if let (Some(parent), true) = (path.parent(), area != Area::Elsewhere) {
            let ino = self.at(area, &parent).unwrap_or_else(|| panic!("no directory for {path:?} in {area:?}"));
            let inode = self.inodes.get_mut(&ino).unwrap();
            assert_eq!(inode.node, Node::Dir, "{parent:?}");
            if !self.quiet {
                inode.meta.mtime = Timestamp { secs: 1_000_000, nanos: 0 };
            }
        }
    }

    /// RENAME_NOREPLACE.
    pub fn rename(&mut self, from: (Area, &RelPath), to: (Area, &RelPath)) {
        let moved = self.within(from.0, from.1);
        assert!(!moved.is_empty(), "ENOENT {from:?}");
        assert!(self.at(to.0, to.1).is_none(), "EEXIST {from:?} -> {to:?}");
        assert!(from.0 != to.0 || !to.1.is_within(from.1), "EINVAL {from:?} -> {to:?}");
        self.disturb(from.0, from.1);
        self.disturb(to.0, to.1);
        for (path, ino) in moved {
            self.names.remove(&(from.0, path.clone()));
            let below = path.strip_prefix(from.1).unwrap();
            self.names.insert((to.0, to.1.join_path(&below).unwrap()), ino);
        }
    }

    pub fn remove_tree(&mut self, area: Area, path: &RelPath) {
        if self.at(area, path).is_some() {
            self.disturb(area, path);
        }
        for (path, _) in self.within(area, path) {
            self.names.remove(&(area, path));
        }
    }

    /// The copy as the stat pass reports it.
    pub fn present(&self) -> BTreeMap<RelPath, Present> {
        let names = |ino, place| self.names.iter().filter(|((area, _), at)| *area == place && **at == ino).count();
        let all = self.within(Area::Copy, &RelPath::root()).into_iter();
        all.map(|(path, ino)| {
            let Inode { node, meta } = self.inodes[&ino].clone();
            let (kind, size, digest) = match node {
                Node::Dir => (PresentKind::Dir, 0, None),
                Node::File(n) => (PresentKind::File, u64::from(n), Some(Digest::of(&content(n)))),
                Node::Symlink(n) => (PresentKind::Symlink, 0, Some(Digest::of(&content(n)))),
                Node::Fifo => (PresentKind::Fifo, 0, None),
                Node::Device | Node::Other => (PresentKind::Other, 0, None),
            };
            let within = kind == PresentKind::File && names(ino, Area::Copy) > 1;
            let outside = kind == PresentKind::File && names(ino, Area::Elsewhere) > 0;
            (path.clone(), Present { path, kind, ino, size, digest, meta, within, outside })
        })
        .collect()
    }

    /// The tree as a source's manifest.
    pub fn wanted(&self) -> BTreeMap<RelPath, Wanted> {
        let all = self.within(Area::Copy, &RelPath::root());
        let mut names: BTreeMap<u64, Vec<RelPath>> = BTreeMap::new();
        for (path, ino) in &all {
            names.entry(*ino).or_default().push(path.clone());
        }
        all.into_iter()
            .map(|(path, ino)| {
                let Inode { node, meta } = self.inodes[&ino].clone();
                let leader = &names[&ino][0];
                let link = match (names[&ino].len(), *leader == path) {
                    (1, _) => Link::Single,
                    (_, true) => Link::Leader,
                    _ => Link::Follower(leader.clone()),
                };
                let form = (node != Node::Device).then(|| meta.clone());
                let entry = Entry { path: path.clone(), meta, kind: kind(&node, link) };
                (path, Wanted { entry, form })
            })
            .collect()
    }
}

pub fn kind(node: &Node, link: Link) -> Kind {
    match node {
        Node::Dir => Kind::Dir,
        Node::File(n) => Kind::File(FileContent {
            size: u64::from(*n),
            digest: Digest::of(&content(*n)),
            class: SizeClass::Whole,
            link,
            sparse: false,
            unstable: false,
        }),
        Node::Symlink(n) => Kind::Symlink { target: Bytes(content(*n)) },
        Node::Fifo => Kind::Fifo,
        Node::Device | Node::Other => Kind::CharDevice { major: 1, minor: 3 },
    }
}
