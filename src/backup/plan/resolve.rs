//! Lays out the steps: where each arriving name comes from, where each leaving name goes.

use std::collections::{HashMap, HashSet};
use std::io;

use super::compare::{Arrival, Heir, Leaders, Leave, Planner, same_form};
use super::{
    Contents, Line, LinkFrom, MissingContent, Park, ParkTo, Place, PlaceFrom, Plan, Prepare, PrepareStep, Present,
    PresentKind, Touch,
};
use crate::backup::digest::Digest;
use crate::backup::entry::{FileContent, Kind, Link, Meta};
use crate::backup::relpath::RelPath;

/// A directory on the way to the current arrival. `fresh`: it is placed from staging with what is staged below it;
/// `form` is taken when a name is placed into it one by one, which disturbs its time.
struct ArrivingDir {
    path: RelPath,
    fresh: bool,
    form: Option<Meta>,
}

/// How a file arrives.
enum FileFrom {
    /// It stands in staging.
    Prepared(Prepare),
    /// It is placed from the name it had.
    Moved,
    /// Its content is nowhere.
    Missing,
}

struct Resolver<'a> {
    silent: bool,
    shallow: bool,
    contents: &'a dyn Contents,
    plan: Plan,
    leaves: Vec<Leave>,
    /// Leaving files by content, those not yet used as a source last.
    sources: HashMap<Digest, Vec<usize>>,
    used: HashSet<usize>,
    leaders: Leaders,
    staged_leaders: HashMap<RelPath, Digest>,
    missing_leaders: HashSet<RelPath>,
    aside: HashSet<RelPath>,
    preserved: HashSet<u64>,
    dirs: Vec<ArrivingDir>,
    slots: u32,
}

/// `aside`: see [`aside()`].
pub(super) fn resolve(
    planner: Planner,
    arrivals: impl Iterator<Item = io::Result<Arrival>>,
    aside: HashSet<RelPath>,
    contents: &dyn Contents,
) -> io::Result<Plan> {
    let mut sources: HashMap<Digest, Vec<usize>> = HashMap::new();
    for (i, leave) in planner.leaves.iter().enumerate().rev() {
        if let (PresentKind::File, false, Some(digest)) =
            (leave.present.kind, leave.present.is_shared(), leave.present.digest)
        {
            sources.entry(digest).or_default().push(i);
        }
    }
    let mut resolver = Resolver {
        silent: planner.options.silent,
        shallow: planner.options.shallow,
        contents,
        plan: planner.plan,
        leaves: planner.leaves,
        sources,
        used: HashSet::new(),
        leaders: planner.leaders,
        staged_leaders: HashMap::new(),
        missing_leaders: HashSet::new(),
        aside,
        preserved: HashSet::new(),
        dirs: Vec::new(),
        slots: 0,
    };
    for arrival in arrivals {
        resolver.arrive(arrival?)?;
    }
    resolver.leave_all();
    let mut plan = resolver.plan;
    plan.parks.sort_by(|a, b| b.path.cmp(&a.path));
    plan.places.sort_by(|a, b| a.path.cmp(&b.path));
    plan.touches.sort_by(|a, b| a.path.cmp(&b.path));
    plan.lines.sort_by(|a, b| a.path().cmp(b.path()));
    Ok(plan)
}

/// New directories into which a directory moves that is to hold something new itself. That stands in staging below the
/// new directory, which would take it along when it is placed, and the moved one would find its name taken.
pub(super) fn aside(arrivals: &[Arrival]) -> HashSet<RelPath> {
    let mut aside = HashSet::new();
    let mut dirs: Vec<&Arrival> = Vec::new();
    for arrival in arrivals {
        let path = &arrival.wanted.entry.path;
        while dirs.pop_if(|dir| !path.is_within(&dir.wanted.entry.path)).is_some() {}
        if arrival.moved.is_none()
            && let Some(moved) = dirs.iter().rposition(|dir| dir.moved.is_some())
        {
            let fresh = dirs[..moved].iter().filter(|dir| dir.moved.is_none());
            aside.extend(fresh.map(|dir| dir.wanted.entry.path.clone()));
        }
        if arrival.wanted.entry.is_dir() {
            dirs.push(arrival);
        }
    }
    aside
}

impl Resolver<'_> {
    fn say(&mut self, line: impl FnOnce() -> Line) {
        if !self.silent {
            self.plan.lines.push(line());
        }
    }

    fn slot(&mut self) -> u32 {
        self.slots += 1;
        self.slots
    }

    fn arrive(&mut self, arrival: Arrival) -> io::Result<()> {
        let Arrival { wanted, replaces, moved } = arrival;
        let path = wanted.entry.path;
        let Some(form) = wanted.form else { return Ok(()) };
        while self.dirs.pop_if(|dir| !path.is_within(&dir.path)).is_some() {}
        if let Some(present) = moved {
            self.hold(&present, &path);
            self.dirs.push(ArrivingDir { path, fresh: false, form: None });
            return Ok(());
        }
        let what = match wanted.entry.kind {
            Kind::Dir if self.aside.contains(&path) => Prepare::DirAside { slot: self.slot() },
            Kind::Dir => Prepare::Dir,
            Kind::Symlink { target } => Prepare::Symlink { target },
            Kind::Fifo => Prepare::Fifo,
            Kind::File(content) => match self.file(&path, &content, &form) {
                FileFrom::Moved => return Ok(()),
                FileFrom::Missing => {
                    self.count(&path, replaces);
                    return Ok(());
                }
                FileFrom::Prepared(what) => what,
            },
            Kind::CharDevice { .. } | Kind::BlockDevice { .. } => return Ok(()),
        };
        self.count(&path, replaces);
        match what {
            Prepare::DirAside { slot } => self.place(&path, PlaceFrom::Hold(slot)),
            _ if self.dirs.last().is_some_and(|dir| dir.fresh) => {}
            _ => self.place(&path, PlaceFrom::Staged),
        }
        if let Prepare::Dir | Prepare::DirAside { .. } = what {
            let fresh = what == Prepare::Dir;
            self.dirs.push(ArrivingDir { path: path.clone(), fresh, form: Some(form.clone()) });
        }
        self.plan.prepare.push(PrepareStep { path, what, form })
    }

    /// Places one name, which disturbs the time of a directory that has arrived before it.
    fn place(&mut self, path: &RelPath, from: PlaceFrom) {
        if let Some(dir) = self.dirs.last_mut()
            && let Some(form) = dir.form.take()
        {
            self.plan.touches.push(Touch { path: dir.path.clone(), form, kind: PresentKind::Dir });
        }
        self.plan.places.push(Place { path: path.clone(), from });
    }

    fn count(&mut self, path: &RelPath, replaces: bool) {
        if replaces {
            self.plan.counts.updated += 1;
            self.say(|| Line::Update(path.clone()));
        } else {
            self.plan.counts.created += 1;
            self.say(|| Line::Create(path.clone()));
        }
    }

    /// How a file's content comes to stand at its path.
    fn file(&mut self, path: &RelPath, content: &FileContent, form: &Meta) -> FileFrom {
        let group = match &content.link {
            Link::Single => None,
            Link::Leader => Some(path),
            Link::Follower(leader) => Some(leader),
        };
        if let Some(group) = group {
            if self.staged_leaders.get(group) == Some(&content.digest) {
                return FileFrom::Prepared(Prepare::Link { from: LinkFrom::Staged(group.clone()) });
            }
            if let Some(at) = self.leaders.get(group).filter(|at| at.digest == content.digest) {
                return FileFrom::Prepared(Prepare::Link { from: LinkFrom::Present(at.old.clone()) });
            }
            if group != path && self.missing_leaders.contains(group) {
                // This path is planned again when the leader's content has come.
                return FileFrom::Missing;
            }
        }
        let staged = self.contents.is_staged(path, &content.digest, content.size);
        if !staged && self.move_file(path, content, form) {
            return FileFrom::Moved;
        }
        let what = if staged {
            Prepare::Staged
        } else if let Some(from) = self.contents.find(&content.digest, content.size) {
            Prepare::Copy { from, content: content.clone() }
        } else {
            self.plan.missing.push(MissingContent { path: path.clone(), digest: content.digest, size: content.size });
            if content.link == Link::Leader {
                self.missing_leaders.insert(path.clone());
            }
            return FileFrom::Missing;
        };
        if content.link == Link::Leader {
            self.staged_leaders.insert(path.clone(), content.digest);
        }
        FileFrom::Prepared(what)
    }

    /// Takes a leaving file with this content for `path`, if there is one: with the same metadata if possible.
    fn move_file(&mut self, path: &RelPath, content: &FileContent, form: &Meta) -> bool {
        let Some(candidates) = self.sources.get_mut(&content.digest) else { return false };
        let leaves = &self.leaves;
        if candidates.last().is_some_and(|i| leaves[*i].present.size != content.size) {
            return false;
        }
        let same = |i: &usize| same_form(&leaves[*i].present.meta, form, PresentKind::File);
        let recent = candidates.len().saturating_sub(8);
        let pick = candidates[recent..].iter().rposition(same).map_or(candidates.len().wrapping_sub(1), |i| i + recent);
        if pick >= candidates.len() {
            return false;
        }
        let at = candidates.remove(pick);
        self.used.insert(at);
        let present = self.leaves[at].present.clone();
        if !same_form(&present.meta, form, PresentKind::File) {
            self.plan.touches.push(Touch { path: path.clone(), form: form.clone(), kind: PresentKind::File });
        }
        if content.link == Link::Leader {
            self.leaders.settle(path, &present, content.digest);
        }
        self.plan.counts.moved += 1;
        self.hold(&present, path);
        true
    }

    /// Parks something aside and places it under its new name.
    fn hold(&mut self, present: &Present, path: &RelPath) {
        let slot = self.slot();
        self.say(|| Line::Move(present.path.clone(), path.clone()));
        self.plan.parks.push(Park {
            path: present.path.clone(),
            ino: present.ino,
            is_dir: present.kind == PresentKind::Dir,
            to: ParkTo::Hold,
            slot,
            preserve: false,
        });
        self.place(path, PlaceFrom::Hold(slot));
    }

    /// Everything that leaves and was not moved.
    fn leave_all(&mut self) {
        let mut i = 0;
        while i < self.leaves.len() {
            let inner = self.leaves[i].inner;
            if !self.used.contains(&i) {
                self.leave_one(i, inner);
            }
            i += 1 + inner;
        }
    }

    fn leave_one(&mut self, i: usize, inner: usize) {
        let Leave { present: top, heir, .. } = self.leaves[i].clone();
        if heir == Heir::Nothing {
            self.say(|| Line::Delete(top.path.clone()));
            self.plan.counts.deleted += 1;
        }
        let mut has_files = self.shallow && top.kind == PresentKind::Dir;
        if top.kind == PresentKind::File {
            // A file that gets new content is not a deletion.
            self.plan.files_gone += u64::from(heir != Heir::File);
            if top.is_shared() {
                return self.park_shared(&top);
            }
            has_files = true;
        }
        for j in i + 1..=i + inner {
            if self.used.contains(&j) {
                continue;
            }
            self.plan.counts.deleted += 1;
            let present = self.leaves[j].present.clone();
            if present.kind == PresentKind::File {
                self.plan.files_gone += 1;
                if present.is_shared() {
                    self.park_shared(&present);
                } else {
                    has_files = true;
                }
            }
        }
        self.park(&top, if has_files { ParkTo::Retire } else { ParkTo::Trash }, false);
    }

    /// One name of an inode that may have others in the copy: its content is copied into history, once, unless a
    /// hard-link group of the copy goes on with it.
    fn park_shared(&mut self, present: &Present) {
        let preserve = !self.leaders.has_ino(present.ino) && self.preserved.insert(present.ino);
        self.park(present, ParkTo::Trash, preserve);
    }

    fn park(&mut self, present: &Present, to: ParkTo, preserve: bool) {
        let slot = self.slot();
        self.plan.parks.push(Park {
            path: present.path.clone(),
            ino: present.ino,
            is_dir: present.kind == PresentKind::Dir,
            to,
            slot,
            preserve,
        });
    }
}
