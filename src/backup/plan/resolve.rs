//! Lays out the steps: where each arriving name comes from, where each leaving name goes.

use std::collections::{HashMap, HashSet};

use super::compare::{Arrival, LeaderAt, Leave, Planner, same_form};
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

struct Resolver<'a> {
    contents: &'a dyn Contents,
    plan: Plan,
    leaves: Vec<Leave>,
    /// Leaving files by content, those not yet used as a source last.
    sources: HashMap<Digest, Vec<usize>>,
    used: HashSet<usize>,
    leaders: HashMap<RelPath, LeaderAt>,
    staged_leaders: HashSet<RelPath>,
    dirs: Vec<ArrivingDir>,
    slots: u32,
}

pub(super) fn resolve(planner: Planner, contents: &dyn Contents) -> Plan {
    let mut sources: HashMap<Digest, Vec<usize>> = HashMap::new();
    for (i, leave) in planner.leaves.iter().enumerate().rev() {
        if let (PresentKind::File, false, Some(digest)) =
            (leave.present.kind, leave.present.shared, leave.present.digest)
        {
            sources.entry(digest).or_default().push(i);
        }
    }
    let mut resolver = Resolver {
        contents,
        plan: planner.plan,
        leaves: planner.leaves,
        sources,
        used: HashSet::new(),
        leaders: planner.leaders,
        staged_leaders: HashSet::new(),
        dirs: Vec::new(),
        slots: 0,
    };
    for arrival in planner.arrivals {
        resolver.arrive(arrival);
    }
    resolver.leave_all();
    let mut plan = resolver.plan;
    plan.parks.sort_by(|a, b| b.path.cmp(&a.path));
    plan.places.sort_by(|a, b| a.path.cmp(&b.path));
    plan
}

impl Resolver<'_> {
    fn slot(&mut self) -> u32 {
        self.slots += 1;
        self.slots
    }

    fn arrive(&mut self, arrival: Arrival) {
        let Arrival { wanted, replaces, moved } = arrival;
        let path = wanted.entry.path;
        let Some(form) = wanted.form else { return };
        while self.dirs.pop_if(|dir| !path.is_within(&dir.path)).is_some() {}
        if let Some(present) = moved {
            self.hold(&present, &path);
            self.dirs.push(ArrivingDir { path, fresh: false, form: None });
            return;
        }
        let what = match wanted.entry.kind {
            Kind::Dir => Prepare::Dir,
            Kind::Symlink { target } => Prepare::Symlink { target },
            Kind::Fifo => Prepare::Fifo,
            Kind::File(content) => {
                let Some(what) = self.file(&path, content, &form) else { return };
                what
            }
            Kind::CharDevice { .. } | Kind::BlockDevice { .. } => return,
        };
        self.count(&path, replaces);
        let placed_with_parent = self.dirs.last().is_some_and(|dir| dir.fresh);
        if !placed_with_parent {
            self.plan.places.push(Place { path: path.clone(), from: PlaceFrom::Staged });
        }
        if what == Prepare::Dir {
            self.dirs.push(ArrivingDir { path: path.clone(), fresh: true, form: Some(form.clone()) });
        }
        self.plan.prepare.push(PrepareStep { path, what, form });
    }

    fn count(&mut self, path: &RelPath, replaces: bool) {
        if replaces {
            self.plan.counts.updated += 1;
            self.plan.lines.push(Line::Update(path.clone()));
        } else {
            self.plan.counts.created += 1;
            self.plan.lines.push(Line::Create(path.clone()));
        }
    }

    /// How a file's content comes to stand in staging; none when it needs no staging (moved) or is missing.
    fn file(&mut self, path: &RelPath, content: FileContent, form: &Meta) -> Option<Prepare> {
        if let Link::Follower(leader) = &content.link {
            if self.staged_leaders.contains(leader) {
                return Some(Prepare::Link { from: LinkFrom::Staged(leader.clone()) });
            }
            if let Some(at) = self.leaders.get(leader) {
                return Some(Prepare::Link { from: LinkFrom::Present(at.old.clone()) });
            }
            // The leader's content is missing; this path is planned again with it.
            return None;
        }
        let staged = self.contents.is_staged(path, &content.digest);
        if !staged && self.move_file(path, &content, form) {
            return None;
        }
        let what = if staged {
            Prepare::Staged
        } else if let Some(from) = self.contents.find(&content.digest, content.size) {
            Prepare::Copy { from, content: content.clone() }
        } else {
            self.plan.missing.push(MissingContent { path: path.clone(), digest: content.digest, size: content.size });
            return None;
        };
        if content.link == Link::Leader {
            self.staged_leaders.insert(path.clone());
        }
        Some(what)
    }

    /// Takes a leaving file with this content for `path`, if there is one: with the same metadata if possible.
    fn move_file(&mut self, path: &RelPath, content: &FileContent, form: &Meta) -> bool {
        let Some(candidates) = self.sources.get_mut(&content.digest) else { return false };
        let leaves = &self.leaves;
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
            self.leaders.insert(path.clone(), LeaderAt { ino: present.ino, old: present.path.clone() });
        }
        self.plan.counts.moved += 1;
        self.hold(&present, path);
        true
    }

    /// Parks something aside and places it under its new name.
    fn hold(&mut self, present: &Present, path: &RelPath) {
        let slot = self.slot();
        if let Some(dir) = self.dirs.last_mut()
            && let Some(form) = dir.form.take()
        {
            self.plan.touches.push(Touch { path: dir.path.clone(), form, kind: PresentKind::Dir });
        }
        self.plan.lines.push(Line::Move(present.path.clone(), path.clone()));
        self.plan.parks.push(Park {
            path: present.path.clone(),
            ino: present.ino,
            is_dir: present.kind == PresentKind::Dir,
            to: ParkTo::Hold,
            slot,
            preserve: false,
        });
        self.plan.places.push(Place { path: path.clone(), from: PlaceFrom::Hold(slot) });
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
        let top = self.leaves[i].clone();
        if !top.replaced {
            self.plan.lines.push(Line::Delete(top.present.path.clone()));
            self.plan.counts.deleted += 1;
        }
        // A file that gets new content is not a deletion.
        let updated = top.replaced && top.present.kind == PresentKind::File;
        if top.present.kind == PresentKind::File && !updated {
            self.plan.files_gone += 1;
        }
        let mut has_files = top.present.kind == PresentKind::File;
        for j in i + 1..=i + inner {
            if self.used.contains(&j) {
                continue;
            }
            self.plan.counts.deleted += 1;
            let present = self.leaves[j].present.clone();
            if present.kind == PresentKind::File {
                self.plan.files_gone += 1;
                if present.shared {
                    self.park(&present, ParkTo::Trash, true);
                } else {
                    has_files = true;
                }
            }
        }
        let preserve = top.present.kind == PresentKind::File && top.present.shared;
        let to = if has_files && !preserve { ParkTo::Retire } else { ParkTo::Trash };
        self.park(&top.present, to, preserve);
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
