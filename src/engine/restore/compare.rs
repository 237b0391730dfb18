//! The comparer: entry after entry in canonical order, what is there is looked at and what is wanted decided.
//!
//! A batch is dealt with in three steps: folders, symlinks and the like are made while it is walked; files of the right
//! size are hashed by as many threads as there are cores; then the batch is entered in the table and its `Want` sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crossbeam_channel::Receiver;

use super::folders::{Around, Folders};
use super::receive::CheckedTree;
use super::settle::{is_left_alone, same_content, same_special, settle};
use super::table::{Awaited, Slot};
use super::tally::Became;
use super::{Overwrite, Shared, extras};
use crate::backup::entry::{Entry, FileContent, Kind, Link};
use crate::backup::relpath::RelPath;
use crate::engine::error::EngineError;
use crate::engine::observer::Event;
use crate::engine::wire::{Bits, WireError};
use crate::net::link::LinkSender;
use crate::net::message::Want;
use crate::tree::dir_cache::{DIRS_OPEN_DEFAULT, DirCache};
use crate::tree::error::TreeError;
use crate::tree::metadata::{Place, apply_restored};
use crate::tree::safe_dir::SafeDir;
use crate::tree::stat::{FileKind, Stat};

/// What is left to do when everything is written.
#[derive(Default)]
pub(super) struct Compared {
    /// Not one entry.
    pub(super) nothing_came: bool,
    /// Further names of files, in canonical order.
    pub(super) links: Vec<Entry>,
    /// Folders that get their metadata, in canonical order.
    pub(super) folders: Vec<Entry>,
}

/// An open folder and a name in it.
pub(super) type Spot = (Arc<SafeDir>, Vec<u8>);

/// A file that is there with the right size: only its hash tells.
struct ToHash {
    slot: usize,
    dir: Arc<SafeDir>,
    there: Stat,
    entry: Entry,
    place: RelPath,
}

/// See the module.
pub(super) struct Comparer<'a> {
    pub(super) shared: &'a Shared<'a>,
    link: &'a LinkSender,
    pub(super) dirs: Option<DirCache>,
    pub(super) folders: Folders,
    last: Option<RelPath>,
    pub(super) compared: Compared,
    /// Of the batch in hand.
    slots: Vec<Slot>,
    to_hash: Vec<ToHash>,
}

impl<'a> Comparer<'a> {
    pub(super) fn new(shared: &'a Shared<'a>, link: &'a LinkSender) -> Self {
        Self {
            shared,
            link,
            dirs: None,
            folders: Folders::default(),
            last: None,
            compared: Compared::default(),
            slots: Vec::new(),
            to_hash: Vec::new(),
        }
    }

    /// Deals with all batches.
    ///
    /// # Errors
    /// The target cannot be opened, the disk is full, the server broke the protocol or has gone.
    pub(super) fn run(mut self, trees: &Receiver<CheckedTree>) -> Result<Compared, EngineError> {
        for tree in trees {
            if self.shared.table.is_stopped() {
                break;
            }
            self.batch(tree)?;
        }
        if self.last.is_none() {
            // If the link broke, that is the cause: the caller knows.
            self.compared.nothing_came = true;
            return Ok(self.compared);
        }
        // What has not come yet is not what the snapshot lacks: `--delete` takes nothing away for it.
        if self.shared.table.is_whole() {
            self.folders.end(self.shared);
        }
        Ok(self.compared)
    }

    fn batch(&mut self, tree: CheckedTree) -> Result<(), EngineError> {
        for entry in tree.entries {
            self.in_order(&entry)?;
            self.count(&entry);
            let path = entry.path.clone();
            let slot = match self.entry(entry) {
                Ok(slot) => slot,
                Err(error) if error.is_no_space() || error.is_read_only() => return Err(error.into()),
                Err(error) => {
                    self.shared.failed(&path, &error.to_string());
                    Slot::Nothing
                }
            };
            self.slots.push(slot);
        }
        self.hash();
        let slots = std::mem::take(&mut self.slots);
        if self.shared.options.dry_run {
            return Ok(());
        }
        let mut bits = Bits::default();
        slots.iter().for_each(|slot| bits.push(matches!(slot, Slot::Awaited(_))));
        // First in the table: content may come as soon as it is asked for.
        self.shared.table.add(tree.batch, slots);
        if !self.shared.table.all {
            self.link.send(Want { batch: tree.batch, bits: bits.into_wire() })?;
        }
        Ok(())
    }

    /// Strictly ascending, the restored path itself first.
    fn in_order(&mut self, entry: &Entry) -> Result<(), EngineError> {
        let good = match &self.last {
            None => entry.path.is_root(),
            Some(last) => entry.path > *last,
        };
        if !good {
            return Err(WireError::Bounds("entries are not in order").into());
        }
        if self.last.is_none() {
            let ground = self.shared.target.open(entry.is_dir(), self.shared.options)?;
            self.dirs = ground.base.clone().map(|base| DirCache::new(base, DIRS_OPEN_DEFAULT));
            let _ = self.shared.ground.set(ground);
            self.warn_of_delete();
        }
        self.last = Some(entry.path.clone());
        Ok(())
    }

    fn warn_of_delete(&self) {
        let granted = self.shared.granted;
        if self.shared.options.delete && !granted.complete {
            let note = "nothing was deleted: the snapshot is incomplete, and what could not be read then may be here";
            self.shared.tally.note(note.to_owned());
        }
    }

    fn count(&self, entry: &Entry) {
        if let Some(content) = entry.file() {
            let further = matches!(content.link, Link::Follower(_));
            self.shared.tally.file(if further { 0 } else { content.size });
        }
    }

    /// Content that the server sends unasked comes for every file; what is not wanted of it is passed over.
    fn unwanted(&self, entry: &Entry) -> Slot {
        match entry.file() {
            Some(content) if !matches!(content.link, Link::Follower(_)) => {
                if self.shared.table.all {
                    return Slot::Ignored(content.size);
                }
                self.shared.observer.event(&Event::Advanced { bytes: content.size });
                Slot::Nothing
            }
            _ => Slot::Nothing,
        }
    }

    fn entry(&mut self, entry: Entry) -> Result<Slot, TreeError> {
        if entry.path.is_root() {
            return self.top(entry);
        }
        let unwanted = self.unwanted(&entry);
        match self.folders.go_to(self.shared, &entry.path) {
            Around::Blocked => {
                if entry.is_dir() {
                    self.blocked(&entry.path);
                }
                return Ok(unwanted);
            }
            Around::Unknown => {
                self.shared.failed(&entry.path, "not restored: the snapshot does not have its folder");
                return Ok(unwanted);
            }
            Around::Fresh => return self.place(entry, None),
            Around::Present => {}
        }
        let there = match self.parent(&entry.path)? {
            Some((dir, name)) => match dir.stat(&name) {
                Ok(stat) => Some(stat),
                Err(e) if e.is_not_found() => None,
                Err(e) => {
                    self.shared.failed(&entry.path, &e.to_string());
                    return Ok(unwanted);
                }
            },
            None => None,
        };
        self.place(entry, there)
    }

    /// The restored path itself.
    fn top(&mut self, entry: Entry) -> Result<Slot, TreeError> {
        let Some(ground) = self.shared.ground.get() else { return Ok(Slot::Nothing) };
        if !entry.is_dir() {
            let there = match self.parent(&entry.path)? {
                Some((dir, name)) => dir.stat(&name).ok(),
                None => None,
            };
            return self.place(entry, there);
        }
        let there = match &ground.base {
            Some(base) if ground.existed => Some(base.stat_self()?),
            _ => None,
        };
        self.folder(entry, there)?;
        Ok(Slot::Nothing)
    }

    /// The folder that holds an entry's place, and its name there. None: a dry run, and there is no such folder.
    pub(super) fn parent(&mut self, path: &RelPath) -> Result<Option<Spot>, TreeError> {
        let (Some(dirs), Some(ground)) = (&mut self.dirs, self.shared.ground.get()) else { return Ok(None) };
        let place = ground.place(path);
        let (dir, name) = dirs.parent_of(&place)?;
        Ok(Some((dir, name.to_vec())))
    }

    fn place(&mut self, entry: Entry, there: Option<Stat>) -> Result<Slot, TreeError> {
        if entry.is_dir() {
            self.folder(entry, there)?;
            return Ok(Slot::Nothing);
        }
        if let Some(stat) = &there {
            if is_left_alone(self.shared.options, &entry, stat) {
                self.shared.tally.count(Became::Unchanged);
                return Ok(self.unwanted(&entry));
            }
            if stat.kind == FileKind::Dir && !self.clear_folder(&entry.path)? {
                return Ok(self.unwanted(&entry));
            }
        }
        let replaces = there.is_some();
        let there = there.filter(|stat| stat.kind != FileKind::Dir);
        match entry.file().cloned() {
            Some(FileContent { link: Link::Follower(_), .. }) => {
                self.compared.links.push(entry);
                Ok(Slot::Nothing)
            }
            Some(content) => self.file(entry, &content, there, replaces),
            None => self.special(&entry, there.as_ref(), replaces).map(|()| Slot::Nothing),
        }
    }

    /// A folder stands where something else is to be; it goes only with `--delete`.
    fn clear_folder(&mut self, path: &RelPath) -> Result<bool, TreeError> {
        if !self.shared.options.delete || !self.shared.granted.complete {
            self.shared.failed(path, "not restored: a folder is in its place, and only --delete removes one");
            return Ok(false);
        }
        let Some((dir, name)) = self.parent(path)? else { return Ok(false) };
        if let (Some(dirs), Some(ground)) = (&mut self.dirs, self.shared.ground.get()) {
            dirs.forget(&ground.place(path));
        }
        Ok(extras::remove(self.shared, &dir, &name, path))
    }

    fn file(
        &mut self,
        entry: Entry,
        content: &FileContent,
        there: Option<Stat>,
        replaces: bool,
    ) -> Result<Slot, TreeError> {
        let place = self.shared.ground.get().map(|ground| ground.place(&entry.path)).unwrap_or_default();
        let hashed = self.shared.options.overwrite != Overwrite::Always && !self.shared.table.all;
        let candidate = there.filter(|stat| hashed && stat.kind == FileKind::File && stat.size == content.size);
        if let Some(there) = candidate
            && let Some((dir, _)) = self.parent(&entry.path)?
        {
            self.to_hash.push(ToHash { slot: self.slots.len(), dir, there, entry, place });
            return Ok(Slot::Nothing);
        }
        Ok(self.wanted(entry, place, replaces))
    }

    fn wanted(&self, entry: Entry, place: RelPath, existed: bool) -> Slot {
        if self.shared.options.dry_run {
            self.shared.plan_line(if existed { "update" } else { "create" }, &entry.path);
            self.shared.tally.count(if existed { Became::Updated } else { Became::Created });
            self.shared.tally.received(entry.file().map_or(0, |content| content.size));
        }
        Slot::Awaited(Box::new(Awaited { entry, place, existed }))
    }

    /// Hashes what is there, on all cores; what is the same gets its metadata, the rest is wanted.
    fn hash(&mut self) {
        let files = std::mem::take(&mut self.to_hash);
        let next = AtomicUsize::new(0);
        let shared = self.shared;
        let work = || {
            let mut wanted = Vec::new();
            while let Some((i, file)) = files.get(next.load(Ordering::Relaxed)).and_then(|_| {
                let i = next.fetch_add(1, Ordering::Relaxed);
                Some((i, files.get(i)?))
            }) {
                if !is_same(shared, file) {
                    wanted.push(i);
                }
            }
            wanted
        };
        let threads = thread::available_parallelism().map_or(2, std::num::NonZero::get).min(files.len());
        let mut wanted = thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut wanted = work();
            others.into_iter().for_each(|other| wanted.extend(other.join().unwrap_or_default()));
            wanted
        });
        wanted.sort_unstable();
        let mut files: Vec<Option<ToHash>> = files.into_iter().map(Some).collect();
        for i in wanted {
            let Some(ToHash { slot, entry, place, .. }) = files.get_mut(i).and_then(Option::take) else { continue };
            let wanted = self.wanted(entry, place, true);
            if let Some(slot) = self.slots.get_mut(slot) {
                *slot = wanted;
            }
        }
    }

    fn special(&mut self, entry: &Entry, there: Option<&Stat>, replaces: bool) -> Result<(), TreeError> {
        let (shared, dry_run) = (self.shared, self.shared.options.dry_run);
        // In a dry run the folder may be missing too.
        let parent = if dry_run && there.is_none() { None } else { self.parent(&entry.path)? };
        let Some((dir, name)) = parent else {
            shared.plan_line(if replaces { "update" } else { "create" }, &entry.path);
            shared.tally.count(if replaces { Became::Updated } else { Became::Created });
            return Ok(());
        };
        if let Some(there) = there.filter(|there| same_special(&dir, &name, there, entry)) {
            settle(self.shared, &dir, &name, there, entry);
            return Ok(());
        }
        self.shared.plan_line(if replaces { "update" } else { "create" }, &entry.path);
        if !self.shared.options.dry_run {
            let temp = self.shared.temp.next();
            let mode = entry.meta.mode & 0o777;
            match &entry.kind {
                Kind::Symlink { target } => dir.symlink(&target.0, &temp)?,
                Kind::Fifo => dir.mkfifo(&temp, mode)?,
                Kind::CharDevice { major, minor } => dir.mknod(&temp, FileKind::CharDevice, mode, *major, *minor)?,
                Kind::BlockDevice { major, minor } => dir.mknod(&temp, FileKind::BlockDevice, mode, *major, *minor)?,
                Kind::Dir | Kind::File(_) => return Ok(()),
            }
            self.shared.notes(&entry.path, apply_restored(Place::Name(&dir, &temp), entry));
            if let Err(error) = dir.rename(&temp, &dir, &name) {
                let _ = dir.unlink(&temp);
                return Err(error);
            }
        }
        self.shared.tally.count(if replaces { Became::Updated } else { Became::Created });
        Ok(())
    }
}

/// Whether a file that is there is what the snapshot names; then its metadata is put right.
fn is_same(shared: &Shared<'_>, file: &ToHash) -> bool {
    let (Some(name), Some(content)) = (file.place.name(), file.entry.file()) else { return false };
    // A file that cannot be read is replaced.
    if !same_content(&file.dir, name, &file.there, content).unwrap_or(false) {
        return false;
    }
    settle(shared, &file.dir, name, &file.there, &file.entry);
    if content.link == Link::Leader {
        shared.table.leader_is_good(&file.entry.path);
    }
    shared.observer.event(&Event::Advanced { bytes: content.size });
    true
}
