//! [`Planner`]: the comparison, path by path, of what the copy holds with what the manifest wants.
//!
//! Keeps O(differences), those that arrive in a [`Spool`], and the stack of directories that lead to the current path: a
//! directory whose names change gets its time set again at the end, and a directory that is gone leaves as one if nothing
//! below it stays.

use std::collections::{HashMap, HashSet};
use std::io;

use serde::{Deserialize, Serialize};

use super::resolve::{aside, resolve};
use super::{Contents, Counts, Line, Plan, Present, PresentKind, Touch, Wanted};
use crate::backup::digest::Digest;
use crate::backup::entry::{Kind, Link, Meta};
use crate::backup::relpath::RelPath;
use crate::backup::spool::{Spill, Spool};

/// How the comparison treats what is gone.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlanOptions {
    /// `-d`: what the manifest does not have leaves the copy.
    pub delete: bool,
    /// Nobody will print the plan: it has no lines.
    pub silent: bool,
    /// What lies deeper than the root's own names was not looked at: a directory that leaves may hold files that the
    /// planner was never shown, so it goes into history, not to the unlinked.
    pub shallow: bool,
}

/// A name that leaves.
#[derive(Clone, Debug)]
pub(super) struct Leave {
    pub present: Present,
    /// What takes its name.
    pub heir: Heir,
    /// For a directory that goes as a whole: the next `inner` leaves are what it holds.
    pub inner: usize,
}

/// What takes the name of something that leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heir {
    /// Nothing: it is deleted.
    Nothing,
    /// A file in place of a file: an update.
    File,
    /// Another type: what was there is gone.
    OtherType,
}

/// A name that arrives.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Arrival {
    pub wanted: Wanted,
    /// Something else had this name.
    pub replaces: bool,
    /// The directory that this one was before it got this name.
    /// (Boxed: few have moved, and of new files there may be many.)
    pub moved: Option<Box<Present>>,
}

/// Where the inode of a hard-link group is before the commit, when the copy has it already.
#[derive(Clone, Debug)]
pub(super) struct LeaderAt {
    pub ino: u64,
    pub old: RelPath,
    pub digest: Digest,
}

/// Which inode of the copy becomes which hard-link group, named by its leader: one inode is never two groups.
#[derive(Debug, Default)]
pub(super) struct Leaders {
    groups: HashMap<RelPath, LeaderAt>,
    inos: HashSet<u64>,
}

impl Leaders {
    pub(super) fn get(&self, leader: &RelPath) -> Option<&LeaderAt> {
        self.groups.get(leader)
    }

    /// Whether the copy keeps this inode as some group.
    pub(super) fn has_ino(&self, ino: u64) -> bool {
        self.inos.contains(&ino)
    }

    /// The first member found in the copy, whichever it is, gives the group its inode.
    pub(super) fn settle(&mut self, leader: &RelPath, present: &Present, digest: Digest) {
        if !self.groups.contains_key(leader) {
            let at = LeaderAt { ino: present.ino, old: present.path.clone(), digest };
            self.groups.insert(leader.clone(), at);
            self.inos.insert(present.ino);
        }
    }

    fn accept(&self, leader: &RelPath, present: &Present) -> bool {
        self.get(leader).map_or(!self.has_ino(present.ino), |at| at.ino == present.ino)
    }
}

/// A directory on the way to the current path.
struct OpenDir {
    path: RelPath,
    state: DirState,
}

enum DirState {
    /// Stays; `retime` is its metadata until its names are first disturbed.
    Stays { retime: Option<Meta> },
    /// New: its metadata is set in staging.
    Arrives,
    /// Gone, unless something below is kept. `at` is its place in `leaves`.
    Gone { at: usize, replaced: bool, kept_below: bool, disturbed: bool },
}

/// See the module.
pub struct Planner {
    pub(super) options: PlanOptions,
    pub(super) leaves: Vec<Leave>,
    pub(super) leaders: Leaders,
    pub(super) plan: Plan,
    arrivals: Spool<Arrival>,
    stack: Vec<OpenDir>,
    last: Option<RelPath>,
}

impl Planner {
    /// A planner that has seen nothing. `spill`: where what arrives goes when it is much.
    pub fn new(options: PlanOptions, spill: &Spill) -> Self {
        Self {
            options,
            leaves: Vec::new(),
            leaders: Leaders::default(),
            plan: Plan { prepare: Spool::new(spill.clone()), ..Plan::default() },
            arrivals: Spool::new(spill.clone()),
            stack: Vec::new(),
            last: None,
        }
    }

    /// The next path in canonical order: what is there, what is wanted, and whether it is protected (unseen: never
    /// deleted). A path that is neither present nor wanted must not be pushed.
    ///
    /// # Errors
    /// What a [`Spool`] says.
    pub fn push(&mut self, present: Option<Present>, wanted: Option<Wanted>, protected: bool) -> io::Result<()> {
        let Some(path) = present.as_ref().map(|p| &p.path).or(wanted.as_ref().map(|w| &w.entry.path)) else {
            return Ok(());
        };
        debug_assert!(self.last.as_ref().is_none_or(|last| last < path), "{path:?} after {:?}", self.last);
        self.close_dirs_until(path);
        self.last.get_or_insert_default().clone_from(path);
        if present.as_ref().is_some_and(|p| p.kind == PresentKind::File) {
            self.plan.files_before += 1;
        }
        match (present, wanted) {
            (Some(present), Some(wanted)) => self.both(present, wanted),
            (None, Some(wanted)) => self.arrive(wanted, false),
            (Some(present), None) => {
                self.only_present(present, protected);
                Ok(())
            }
            (None, None) => Ok(()),
        }
    }

    /// Decides where everything comes from.
    ///
    /// # Errors
    /// What a [`Spool`] says.
    pub fn finish(mut self, contents: &dyn Contents) -> io::Result<Plan> {
        while let Some(dir) = self.stack.pop() {
            self.close(&dir);
        }
        let arrivals = std::mem::take(&mut self.arrivals);
        if !super::dir_moves::are_possible(&self.leaves, &arrivals)? {
            return resolve(self, arrivals.into_items(), HashSet::new(), contents);
        }
        // Who looks for what has moved looks at all that arrives, many times.
        let arrivals = arrivals.into_items().collect::<io::Result<Vec<_>>>()?;
        let arrivals = super::dir_moves::find(&mut self, arrivals);
        let aside = aside(&arrivals);
        resolve(self, arrivals.into_iter().map(Ok), aside, contents)
    }

    fn both(&mut self, present: Present, wanted: Wanted) -> io::Result<()> {
        let Some(form) = wanted.form.clone() else {
            self.plan.counts.updated += 1;
            if !self.options.silent {
                self.plan.lines.push(Line::Update(present.path.clone()));
            }
            self.leave(present, Heir::OtherType, true);
            return Ok(());
        };
        match verdict(&present, &wanted, &form, &self.leaders) {
            Verdict::Same { touch } => {
                settle(&mut self.leaders, &present, &wanted);
                let kind = present.kind;
                let retime = (kind == PresentKind::Dir && !touch).then(|| form.clone());
                if touch {
                    self.touch(&wanted.entry.path, form, kind);
                } else {
                    self.plan.counts.unchanged += 1;
                }
                if kind == PresentKind::Dir {
                    self.stack.push(OpenDir { path: wanted.entry.path, state: DirState::Stays { retime } });
                }
                Ok(())
            }
            Verdict::Differs => {
                let gone_dir = present.kind == PresentKind::Dir;
                let heir = heir(&present, &wanted);
                self.leave(present, heir, true);
                if gone_dir {
                    // The old directory's children follow; the arrival is none, so nothing of it lies below.
                    self.arrivals.push(Arrival { wanted, replaces: true, moved: None })
                } else {
                    self.arrive(wanted, true)
                }
            }
        }
    }

    fn touch(&mut self, path: &RelPath, form: Meta, kind: PresentKind) {
        self.plan.counts.touched += 1;
        if !self.options.silent {
            self.plan.lines.push(Line::Touch(path.clone()));
        }
        self.plan.touches.push(Touch { path: path.clone(), form, kind });
    }

    fn arrive(&mut self, wanted: Wanted, replaces: bool) -> io::Result<()> {
        if wanted.form.is_none() {
            return Ok(());
        }
        self.disturb_parent();
        if wanted.entry.is_dir() {
            self.stack.push(OpenDir { path: wanted.entry.path.clone(), state: DirState::Arrives });
        }
        self.arrivals.push(Arrival { wanted, replaces, moved: None })
    }

    fn only_present(&mut self, present: Present, protected: bool) {
        let replaced = matches!(self.stack.last(), Some(OpenDir { state: DirState::Gone { replaced: true, .. }, .. }));
        if !replaced && (!self.options.delete || protected) && present.kind != PresentKind::Dir {
            self.keep(present.path);
        } else if !replaced && (!self.options.delete || protected) {
            self.keep(present.path.clone());
            let state = DirState::Stays { retime: Some(present.meta) };
            self.stack.push(OpenDir { path: present.path, state });
        } else {
            self.leave(present, Heir::Nothing, replaced);
        }
    }

    fn keep(&mut self, path: RelPath) {
        for dir in &mut self.stack {
            if let DirState::Gone { kept_below, .. } = &mut dir.state {
                *kept_below = true;
            }
        }
        self.plan.kept.push(path);
    }

    /// `replaced`: what lies below goes too, whatever protects it, for it or a directory above becomes another type.
    fn leave(&mut self, present: Present, heir: Heir, replaced: bool) {
        if present.kind == PresentKind::Dir {
            // Its parent is disturbed when it is closed, if it goes indeed.
            let state = DirState::Gone { at: self.leaves.len(), replaced, kept_below: false, disturbed: false };
            self.stack.push(OpenDir { path: present.path.clone(), state });
        } else {
            self.disturb_parent();
        }
        self.leaves.push(Leave { present, heir, inner: 0 });
    }

    /// A name in the current directory changes: its time will have to be set again.
    fn disturb_parent(&mut self) {
        let Some(OpenDir { path, state }) = self.stack.last_mut() else { return };
        match state {
            DirState::Stays { retime } => {
                if let Some(form) = retime.take() {
                    self.plan.touches.push(Touch { path: path.clone(), form, kind: PresentKind::Dir });
                }
            }
            DirState::Gone { disturbed, .. } => *disturbed = true,
            DirState::Arrives => {}
        }
    }

    fn close_dirs_until(&mut self, path: &RelPath) {
        while let Some(dir) = self.stack.pop_if(|dir| !path.is_within(&dir.path) || path == &dir.path) {
            self.close(&dir);
        }
    }

    fn close(&mut self, dir: &OpenDir) {
        let DirState::Gone { at, replaced, kept_below, disturbed } = dir.state else { return };
        if kept_below && !replaced {
            // Something below stays, so the directory does.
            let present = self.leaves.remove(at).present;
            self.keep_dir_late(present, disturbed);
        } else {
            self.leaves[at].inner = self.leaves.len() - at - 1;
            self.disturb_parent();
        }
    }

    /// A directory that was thought gone is kept; it belongs before what is kept below it.
    fn keep_dir_late(&mut self, present: Present, disturbed: bool) {
        let at = self.plan.kept.partition_point(|p| *p < present.path);
        self.plan.kept.insert(at, present.path.clone());
        if disturbed {
            self.plan.touches.push(Touch { path: present.path, form: present.meta, kind: PresentKind::Dir });
        }
    }
}

pub(super) enum Verdict {
    Same { touch: bool },
    Differs,
}

/// Whether what is there can stay, and whether its metadata must change.
pub(super) fn verdict(present: &Present, wanted: &Wanted, form: &Meta, leaders: &Leaders) -> Verdict {
    let same = match (&wanted.entry.kind, present.kind) {
        (Kind::Dir, PresentKind::Dir) | (Kind::Fifo, PresentKind::Fifo) => true,
        (Kind::Symlink { target }, PresentKind::Symlink) => present.digest == Some(Digest::of(&target.0)),
        (Kind::File(content), PresentKind::File) => {
            // A digest stands for one size: who says another lies, and what it says is nowhere to be found.
            (present.digest, present.size) == (Some(content.digest), content.size)
                && match &content.link {
                    Link::Single => !present.within,
                    Link::Leader => leaders.accept(&wanted.entry.path, present),
                    Link::Follower(leader) => leaders.accept(leader, present),
                }
        }
        _ => false,
    };
    let touch = !same_form(&present.meta, form, present.kind);
    if same && !(touch && present.outside) { Verdict::Same { touch } } else { Verdict::Differs }
}

/// A hard-linked file that stays, or moves with its directory, gives its group the inode.
pub(super) fn settle(leaders: &mut Leaders, present: &Present, wanted: &Wanted) {
    if let Kind::File(content) = &wanted.entry.kind {
        match &content.link {
            Link::Single => {}
            Link::Leader => leaders.settle(&wanted.entry.path, present, content.digest),
            Link::Follower(leader) => leaders.settle(leader, present, content.digest),
        }
    }
}

/// What `wanted` is to something else under the same name.
pub(super) fn heir(present: &Present, wanted: &Wanted) -> Heir {
    if present.kind == PresentKind::File && wanted.entry.file().is_some() { Heir::File } else { Heir::OtherType }
}

/// Whether the metadata on disk is what is wanted. A symlink has no mode of its own.
pub(super) fn same_form(present: &Meta, form: &Meta, kind: PresentKind) -> bool {
    (kind == PresentKind::Symlink || present.mode == form.mode)
        && present.uid == form.uid
        && present.gid == form.gid
        && present.mtime == form.mtime
        && present.xattrs == form.xattrs
}

impl Counts {
    /// In the wire's order.
    pub fn to_array(self) -> [u64; 6] {
        [self.created, self.updated, self.moved, self.deleted, self.touched, self.unchanged]
    }
}
