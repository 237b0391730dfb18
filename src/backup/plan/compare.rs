//! [`Planner`]: the comparison, path by path, of what the copy holds with what the manifest wants.
//!
//! Keeps O(differences), and the stack of directories that lead to the current path: a directory whose names change
//! gets its time set again at the end, and a directory that is gone leaves as one if nothing below it stays.

use std::collections::HashMap;

use super::{Contents, Counts, Line, Plan, Present, PresentKind, Touch, Wanted};
use crate::backup::digest::Digest;
use crate::backup::entry::{Kind, Link, Meta};
use crate::backup::relpath::RelPath;

/// How the comparison treats what is gone.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlanOptions {
    /// `-d`: what the manifest does not have leaves the copy.
    pub delete: bool,
}

/// A name that leaves.
#[derive(Clone, Debug)]
pub(super) struct Leave {
    pub present: Present,
    /// Its name is taken by something else; else it is deleted.
    pub replaced: bool,
    /// For a directory that goes as a whole: the next `inner` leaves are what it holds.
    pub inner: usize,
}

/// A name that arrives.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub wanted: Wanted,
    /// Something else had this name.
    pub replaces: bool,
    /// The directory that this one was before it got this name.
    pub moved: Option<Present>,
}

/// Where the first name of a hard-link group is before the commit, when it is in the copy already.
#[derive(Clone, Debug)]
pub(super) struct LeaderAt {
    pub ino: u64,
    pub old: RelPath,
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
    Gone { at: usize, replaced: bool, kept_below: bool },
}

/// See the module.
pub struct Planner {
    pub(super) options: PlanOptions,
    pub(super) leaves: Vec<Leave>,
    pub(super) arrivals: Vec<Arrival>,
    pub(super) leaders: HashMap<RelPath, LeaderAt>,
    pub(super) plan: Plan,
    stack: Vec<OpenDir>,
    last: Option<RelPath>,
}

impl Planner {
    /// A planner that has seen nothing.
    pub fn new(options: PlanOptions) -> Self {
        Self {
            options,
            leaves: Vec::new(),
            arrivals: Vec::new(),
            leaders: HashMap::new(),
            plan: Plan::default(),
            stack: Vec::new(),
            last: None,
        }
    }

    /// The next path in canonical order: what is there, what is wanted, and whether it is protected (unseen: never
    /// deleted). A path that is neither present nor wanted must not be pushed.
    pub fn push(&mut self, present: Option<Present>, wanted: Option<Wanted>, protected: bool) {
        let Some(path) = present.as_ref().map(|p| &p.path).or(wanted.as_ref().map(|w| &w.entry.path)).cloned() else {
            return;
        };
        debug_assert!(self.last.as_ref().is_none_or(|last| *last < path), "{path:?} after {:?}", self.last);
        self.close_dirs_until(&path);
        self.last = Some(path);
        if present.as_ref().is_some_and(|p| p.kind == PresentKind::File) {
            self.plan.files_before += 1;
        }
        match (present, wanted) {
            (Some(present), Some(wanted)) => self.both(present, wanted),
            (None, Some(wanted)) => self.arrive(wanted, false),
            (Some(present), None) => self.only_present(present, protected),
            (None, None) => {}
        }
    }

    /// Decides where everything comes from.
    pub fn finish(mut self, contents: &dyn Contents) -> Plan {
        while let Some(dir) = self.stack.pop() {
            self.close(dir);
        }
        super::dir_moves::find(&mut self);
        super::resolve::resolve(self, contents)
    }

    fn both(&mut self, present: Present, wanted: Wanted) {
        let Some(form) = wanted.form.clone() else {
            self.leave(present, true);
            return;
        };
        match verdict(&present, &wanted, &form, &self.leaders) {
            Verdict::Same { touch } => {
                if let Kind::File(content) = &wanted.entry.kind
                    && content.link == Link::Leader
                {
                    let at = LeaderAt { ino: present.ino, old: present.path.clone() };
                    self.leaders.insert(wanted.entry.path.clone(), at);
                }
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
            }
            Verdict::Differs => {
                let gone_dir = present.kind == PresentKind::Dir;
                self.leave(present, true);
                if gone_dir {
                    // The old directory's children follow; the arrival is none, so nothing of it lies below.
                    self.arrivals.push(Arrival { wanted, replaces: true, moved: None });
                } else {
                    self.arrive(wanted, true);
                }
            }
        }
    }

    fn touch(&mut self, path: &RelPath, form: Meta, kind: PresentKind) {
        self.plan.counts.touched += 1;
        self.plan.lines.push(Line::Touch(path.clone()));
        self.plan.touches.push(Touch { path: path.clone(), form, kind });
    }

    fn arrive(&mut self, wanted: Wanted, replaces: bool) {
        if wanted.form.is_none() {
            return;
        }
        self.disturb_parent();
        if wanted.entry.is_dir() {
            self.stack.push(OpenDir { path: wanted.entry.path.clone(), state: DirState::Arrives });
        }
        self.arrivals.push(Arrival { wanted, replaces, moved: None });
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
            self.leave(present, replaced);
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

    fn leave(&mut self, present: Present, replaced: bool) {
        self.disturb_parent();
        let at = self.leaves.len();
        if present.kind == PresentKind::Dir {
            let state = DirState::Gone { at, replaced, kept_below: false };
            self.stack.push(OpenDir { path: present.path.clone(), state });
        }
        self.leaves.push(Leave { present, replaced, inner: 0 });
    }

    /// A name in the current directory changes: its time will have to be set again.
    fn disturb_parent(&mut self) {
        if let Some(OpenDir { path, state: DirState::Stays { retime } }) = self.stack.last_mut()
            && let Some(form) = retime.take()
        {
            self.plan.touches.push(Touch { path: path.clone(), form, kind: PresentKind::Dir });
        }
    }

    fn close_dirs_until(&mut self, path: &RelPath) {
        while let Some(dir) = self.stack.pop_if(|dir| !path.is_within(&dir.path) || path == &dir.path) {
            self.close(dir);
        }
    }

    fn close(&mut self, dir: OpenDir) {
        let DirState::Gone { at, replaced, kept_below } = dir.state else { return };
        if kept_below && !replaced {
            // Something below stays, so the directory does; it holds its place in `leaves` as an empty mark.
            let present = self.leaves.remove(at).present;
            let disturbed = self.leaves.len() > at;
            self.keep_dir_late(present, disturbed);
        } else {
            self.leaves[at].inner = self.leaves.len() - at - 1;
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
pub(super) fn verdict(
    present: &Present,
    wanted: &Wanted,
    form: &Meta,
    leaders: &HashMap<RelPath, LeaderAt>,
) -> Verdict {
    let same = match (&wanted.entry.kind, present.kind) {
        (Kind::Dir, PresentKind::Dir) | (Kind::Fifo, PresentKind::Fifo) => true,
        (Kind::Symlink { target }, PresentKind::Symlink) => present.digest == Some(Digest::of(&target.0)),
        (Kind::File(content), PresentKind::File) => {
            present.digest == Some(content.digest)
                && match &content.link {
                    Link::Single => !present.shared,
                    Link::Leader => true,
                    Link::Follower(leader) => leaders.get(leader).is_some_and(|at| at.ino == present.ino),
                }
        }
        _ => false,
    };
    if !same {
        return Verdict::Differs;
    }
    Verdict::Same { touch: !same_form(&present.meta, form, present.kind) }
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
