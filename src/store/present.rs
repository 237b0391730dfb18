//! The daemon's stat pass: what does the copy really hold below a root?
//!
//! Walks the plain copy along with the catalog. What a row's fingerprint vouches for is not read; everything else is
//! looked at again (a file: hashed), and the catalog is put right. Afterwards the rows are the present state.
//! Names are visited in canonical order, through [`SafeDir`] alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use super::catalog::{Catalog, CatalogError, CatalogReader, CopyId, Row, RowKind, Update};
use super::staging::hash_file;
use crate::backup::bytes::escape;
use crate::backup::digest::Digest;
use crate::backup::entry::Xattr;
use crate::backup::fingerprint::Timestamp;
use crate::backup::relpath::RelPath;
use crate::tree::dir_cache::{DIRS_OPEN_DEFAULT, DirCache};
use crate::tree::error::TreeError;
use crate::tree::metadata::read_meta;
use crate::tree::safe_dir::SafeDir;
use crate::tree::stat::{FileKind, Stat};

/// Paths of one batch between the two threads, and batches that may wait.
const BATCH_MAX: usize = 512;
const BATCHES_QUEUED_MAX: usize = 8;
/// Updates that are gathered before they are written to the catalog.
const UPDATES_MAX: usize = 4096;

/// Why the pass failed.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The store's disk.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// How many names an inode has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SharedNames {
    /// In what was looked at.
    pub within: u32,
    /// Altogether, wherever the others are.
    pub all: u32,
}

/// What the pass found.
#[derive(Debug, Default)]
pub struct Pass {
    /// Paths that the copy holds below the root, itself included.
    pub entries: u64,
    /// Paths for which the catalog was wrong.
    pub repaired: u64,
    /// Files whose inode has several names.
    pub shared: HashMap<u64, SharedNames>,
    /// What is there besides could not be read, in words.
    pub notes: Vec<String>,
}

/// Where the pass goes.
pub struct PassPlace<'a> {
    /// The copy's folder.
    pub copy_dir: &'a Arc<SafeDir>,
    /// The copy in the catalog.
    pub copy: CopyId,
    /// The root, in copy coordinates.
    pub root: &'a RelPath,
    /// Everything below, or only what is directly in the root.
    pub recursive: bool,
    /// What changed at or after this moment may have changed again unseen.
    pub safe_before: Timestamp,
}

/// Does the pass. See the module. A second thread lists and stats; this one compares.
///
/// # Errors
/// [`PassError`]: the store's disk or the catalog fail.
pub fn pass(catalog: &Catalog, reader: &CatalogReader, place: &PassPlace<'_>) -> Result<Pass, PassError> {
    let (sender, batches) = std::sync::mpsc::sync_channel(BATCHES_QUEUED_MAX);
    let lister = Lister { root: place.root, recursive: place.recursive, sender, batch: Vec::new() };
    let mut merge = Merge {
        catalog,
        rows: reader.range(place.copy, place.root),
        next: None,
        place,
        dirs: DirCache::new(Arc::clone(place.copy_dir), DIRS_OPEN_DEFAULT),
        pass: Pass::default(),
        updates: Vec::new(),
        links: HashMap::new(),
        unseen_below: None,
    };
    merge.advance()?;
    std::thread::scope(|scope| {
        let listing = scope.spawn(move || lister.list(place.copy_dir));
        for batch in batches {
            for (path, stat) in batch {
                merge.look(&path, &stat)?;
            }
        }
        let notes = listing.join().unwrap_or_else(|_| Err(lost()))?;
        merge.pass.notes.extend(notes);
        Ok::<(), PassError>(())
    })?;
    merge.drop_rows_until(None)?;
    merge.flush()?;
    let Merge { mut pass, links, .. } = merge;
    pass.shared = links;
    Ok(pass)
}

fn lost() -> TreeError {
    TreeError::new("list", b"the copy", b"", rustix::io::Errno::IO)
}

/// Lists the copy below the root in canonical order.
struct Lister<'a> {
    root: &'a RelPath,
    recursive: bool,
    sender: SyncSender<Vec<(RelPath, Stat)>>,
    batch: Vec<(RelPath, Stat)>,
}

impl Lister<'_> {
    fn list(mut self, copy: &SafeDir) -> Result<Vec<String>, TreeError> {
        let mut notes = Vec::new();
        let Some(name) = self.root.name() else {
            self.push(RelPath::root(), copy.stat_self()?);
            self.walk(copy.try_clone()?, &mut notes)?;
            self.send();
            return Ok(notes);
        };
        let found = copy.open_dir(&self.root.parent().unwrap_or_default()).and_then(|dir| Ok((dir.stat(name)?, dir)));
        let (stat, parent) = match found {
            Err(e) if e.is_not_found() => return Ok(notes),
            other => other?,
        };
        self.push(self.root.clone(), stat);
        if stat.kind == FileKind::Dir {
            self.walk(parent.open_child(name)?, &mut notes)?;
        }
        self.send();
        Ok(notes)
    }

    fn walk(&mut self, top: SafeDir, notes: &mut Vec<String>) -> Result<(), TreeError> {
        let mut stack = vec![(top.listing()?, top, self.root.clone())];
        while let Some((pending, dir, path)) = stack.last_mut() {
            let Some((name, _)) = pending.take() else {
                stack.pop();
                continue;
            };
            let Ok(child) = path.join(name) else {
                let shown = escape(name);
                notes.push(format!("'{path}/{shown}' in the copy has a path that is too long; it is left alone"));
                continue;
            };
            let stat = match dir.stat(name) {
                Err(e) if e.is_not_found() => continue,
                other => other?,
            };
            let down = if stat.kind == FileKind::Dir && self.recursive { Some(dir.open_child(name)?) } else { None };
            self.push(child.clone(), stat);
            if let Some(opened) = down {
                stack.push((opened.listing()?, opened, child));
            }
        }
        Ok(())
    }

    fn push(&mut self, path: RelPath, stat: Stat) {
        self.batch.push((path, stat));
        if self.batch.len() >= BATCH_MAX {
            self.send();
        }
    }

    fn send(&mut self) {
        // Whoever compares has failed if it is gone, and says so itself.
        let _ = self.sender.send(std::mem::take(&mut self.batch));
    }
}

struct Merge<'a> {
    catalog: &'a Catalog,
    rows: super::catalog::RowRange<'a>,
    next: Option<Row>,
    place: &'a PassPlace<'a>,
    dirs: DirCache,
    pass: Pass,
    updates: Vec<Update>,
    links: HashMap<u64, SharedNames>,
    /// Without -r: the directory seen last, whose rows are left alone.
    unseen_below: Option<RelPath>,
}

impl Merge<'_> {
    fn advance(&mut self) -> Result<Option<Row>, PassError> {
        let next = self.rows.next().transpose()?;
        Ok(std::mem::replace(&mut self.next, next))
    }

    /// Rows before `path` (or all) stand for nothing that is there any more.
    fn drop_rows_until(&mut self, path: Option<&RelPath>) -> Result<(), PassError> {
        while let Some(row) = &self.next {
            if path.is_some_and(|path| row.path >= *path) {
                return Ok(());
            }
            let gone = row.path.clone();
            // Without -r, what lies deeper is not looked at; but it is gone with its directory.
            let unseen = self.unseen_below.as_ref().is_some_and(|dir| gone.is_within(dir) && gone != *dir);
            if !unseen {
                self.pass.repaired += 1;
                self.updates.push(Update::Remove(gone));
            }
            self.advance()?;
        }
        Ok(())
    }

    /// Compares one path with its row, and puts the row right.
    fn look(&mut self, path: &RelPath, stat: &Stat) -> Result<(), PassError> {
        self.drop_rows_until(Some(path))?;
        self.pass.entries += 1;
        if !self.place.recursive && stat.kind == FileKind::Dir && path != self.place.root {
            self.unseen_below = Some(path.clone());
        }
        if stat.kind == FileKind::File && stat.nlink > 1 {
            let names = self.links.entry(stat.ino).or_default();
            (names.within, names.all) = (names.within + 1, stat.nlink);
        }
        let row = if self.next.as_ref().is_some_and(|row| row.path == *path) { self.advance()? } else { None };
        if row.is_some_and(|row| vouches(&row, stat)) {
            return Ok(());
        }
        self.pass.repaired += 1;
        let (dir, name) = match path.name() {
            Some(_) => self.dirs.parent_of(path)?,
            None => (Arc::clone(self.dirs.root()), &b"."[..]),
        };
        let row = match look_at(&dir, name, path, stat, self.place.safe_before) {
            Ok(row) => row,
            // Somebody took it away just now.
            Err(e) if e.is_not_found() => {
                self.updates.push(Update::Remove(path.clone()));
                return Ok(());
            }
            Err(e) if stat.kind == FileKind::File => {
                // What cannot be read is no content: it comes again, and this stays in history.
                self.pass.notes.push(format!("{e}; its content is taken for lost"));
                unread(path, stat)
            }
            Err(e) => return Err(e.into()),
        };
        self.updates.push(Update::Put(row));
        if self.updates.len() >= UPDATES_MAX { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), PassError> {
        let updates = std::mem::take(&mut self.updates);
        if !updates.is_empty() {
            self.catalog.apply(self.place.copy, updates)?;
        }
        Ok(())
    }
}

fn vouches(row: &Row, stat: &Stat) -> bool {
    !row.racy
        && row.kind == row_kind(stat.kind)
        && row.fingerprint == stat.fingerprint()
        && row.mode == stat.mode
        && (row.uid, row.gid) == (stat.uid, stat.gid)
        && (row.digest.is_some() || !matches!(row.kind, RowKind::File | RowKind::Symlink))
}

/// The catalog's kind of what is on disk.
pub(crate) fn row_kind(kind: FileKind) -> RowKind {
    match kind {
        FileKind::Dir => RowKind::Dir,
        FileKind::File => RowKind::File,
        FileKind::Symlink => RowKind::Symlink,
        FileKind::Fifo => RowKind::Fifo,
        _ => RowKind::Other,
    }
}

/// Xattrs that the plain copy is about; others (a security label) belong to the machine.
pub(crate) fn plain_xattrs(xattrs: Vec<Xattr>) -> Vec<Xattr> {
    let plain = |name: &[u8]| name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_");
    xattrs.into_iter().filter(|x| plain(x.name.as_slice())).collect()
}

/// The row of a file that cannot be read; looked at again by every pass.
fn unread(path: &RelPath, stat: &Stat) -> Row {
    let (fingerprint, mode, uid, gid) = (stat.fingerprint(), stat.mode, stat.uid, stat.gid);
    let (kind, digest, xattrs) = (row_kind(stat.kind), None, Vec::new());
    Row { path: path.clone(), kind, fingerprint, mode, uid, gid, racy: true, digest, xattrs }
}

/// A row made from what is on disk; a file is hashed.
fn look_at(dir: &SafeDir, name: &[u8], path: &RelPath, stat: &Stat, safe_before: Timestamp) -> Result<Row, TreeError> {
    let digest = match stat.kind {
        FileKind::File => {
            let mut file = dir.open_read(name)?;
            Some(hash_file(&mut file).map_err(|e| TreeError::new("read", dir.label(), name, e))?)
        }
        FileKind::Symlink => Some(Digest::of(&dir.read_link(name)?)),
        _ => None,
    };
    let xattrs = match stat.kind {
        // The copy's own folder is the daemon's: a root `/` does not say what it looks like.
        FileKind::Dir if path.is_root() => Vec::new(),
        FileKind::Dir | FileKind::File => plain_xattrs(read_meta(dir, name, stat)?.xattrs),
        _ => Vec::new(),
    };
    let fingerprint = stat.fingerprint();
    let racy = stat.kind == FileKind::File && fingerprint.is_racy(safe_before);
    let (kind, mode, uid, gid) = (row_kind(stat.kind), stat.mode, stat.uid, stat.gid);
    Ok(Row { path: path.clone(), kind, fingerprint, mode, uid, gid, racy, digest, xattrs })
}
