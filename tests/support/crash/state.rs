//! What a tree on disk is, down to what a restore would show: names, kinds, contents, links among each other, modes,
//! owners, times, xattrs. Two states are compared, and what a run should make of one is computed without the program.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// One name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub kind: Kind,
    pub mode: u32,
    pub owner: (u32, u32),
    pub mtime: (i64, i64),
    pub xattrs: BTreeMap<OsString, Vec<u8>>,
    /// Names with the same number are one inode.
    pub group: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Dir,
    File([u8; 32]),
    Symlink(PathBuf),
    Fifo,
    /// A device or a socket: type bits and device number.
    Special(u32, u64),
}

/// A tree by path below its top; the top itself is the empty path. Empty: it is not there.
pub type State = BTreeMap<PathBuf, Node>;

/// Reads a tree. What vanishes meanwhile is a failure of the test.
pub fn read(top: &Path) -> State {
    let mut state = State::new();
    if top.symlink_metadata().is_ok() {
        read_below(top, Path::new(""), &mut state);
    }
    regroup(state)
}

fn read_below(top: &Path, path: &Path, state: &mut State) {
    let full = if path.as_os_str().is_empty() { top.to_path_buf() } else { top.join(path) };
    let meta = full.symlink_metadata().unwrap();
    let file_type = meta.file_type();
    let kind = if file_type.is_dir() {
        Kind::Dir
    } else if file_type.is_symlink() {
        Kind::Symlink(std::fs::read_link(&full).unwrap())
    } else if file_type.is_fifo() {
        Kind::Fifo
    } else if !file_type.is_file() {
        Kind::Special(meta.mode() & 0o170_000, meta.rdev())
    } else {
        Kind::File(blake3::hash(&std::fs::read(&full).unwrap()).into())
    };
    let plain = matches!(kind, Kind::Dir | Kind::File(_));
    let names = if plain { xattr::list(&full).map(Vec::from_iter).unwrap_or_default() } else { Vec::new() };
    let ours = |name: &OsString| [&b"user."[..], b"system.posix_acl_"].iter().any(|ns| name.as_bytes().starts_with(ns));
    let xattrs =
        names.into_iter().filter(ours).map(|name| (name.clone(), xattr::get(&full, &name).unwrap().unwrap())).collect();
    let node = Node {
        mode: if file_type.is_symlink() { 0o777 } else { meta.mode() & 0o7777 },
        owner: (meta.uid(), meta.gid()),
        mtime: (meta.mtime(), meta.mtime_nsec()),
        xattrs,
        group: if matches!(kind, Kind::File(_)) { meta.ino() } else { 0 },
        kind,
    };
    let is_dir = node.kind == Kind::Dir;
    state.insert(path.to_path_buf(), node);
    if is_dir {
        for entry in std::fs::read_dir(&full).unwrap() {
            read_below(top, &path.join(entry.unwrap().file_name()), state);
        }
    }
}

/// Group numbers become those of the order of first names, so that states of different disks compare.
fn regroup(mut state: State) -> State {
    let mut seen = HashMap::new();
    for node in state.values_mut().filter(|n| matches!(n.kind, Kind::File(_))) {
        let next = seen.len() as u64 + 1;
        node.group = *seen.entry(node.group).or_insert(next);
    }
    state
}

/// What a run over `root` (below the top) makes of `before` when the source is `source`.
pub fn after(before: &State, source: &State, root: &Path, delete: bool, recursive: bool) -> State {
    let within = |path: &Path| path.starts_with(root);
    let seen = |path: &Path| within(path) && (recursive || path.strip_prefix(root).unwrap().components().count() <= 1);
    let direct_dir = |path: &Path, node: &Node| path != root && node.kind == Kind::Dir;
    let wanted: State = source
        .iter()
        .filter(|(path, node)| seen(path) && (recursive || !direct_dir(path, node)))
        .map(|(path, node)| {
            (path.clone(), Node { group: if node.group > 0 { node.group | 1 << 62 } else { 0 }, ..node.clone() })
        })
        .collect();
    let mut state = wanted.clone();
    for (path, node) in before {
        let replaced = path.ancestors().skip(1).any(|up| wanted.get(up).is_some_and(|node| node.kind != Kind::Dir));
        let shallow = !recursive && within(path) && (direct_dir(path, node) || !seen(path));
        if !state.contains_key(path) && !replaced && (!within(path) || !delete || shallow) {
            state.insert(path.clone(), node.clone());
        }
    }
    // What leads to the root is made if it must be; its time is another run's business.
    regroup(state)
}

/// Contents of a state.
pub fn contents(state: &State) -> HashSet<[u8; 32]> {
    state.values().filter_map(|node| if let Kind::File(digest) = node.kind { Some(digest) } else { None }).collect()
}

/// The first differences, in words; empty: they are equal.
pub fn differences(found: &State, wanted: &State) -> Vec<String> {
    let mut out = Vec::new();
    for (path, node) in wanted {
        match found.get(path) {
            None => out.push(format!("'{}' is missing: {node:?}", path.display())),
            Some(other) if other != node => {
                out.push(format!("'{}' is {other:?} instead of {node:?}", path.display()));
            }
            Some(_) => {}
        }
    }
    for (path, node) in found.iter().filter(|(path, _)| !wanted.contains_key(*path)) {
        out.push(format!("'{}' is too much: {node:?}", path.display()));
    }
    out.truncate(12);
    out
}
