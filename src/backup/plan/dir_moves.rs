//! Directories that went from one name to another: one rename, whatever they hold.
//!
//! Every file that leaves one place and arrives at another votes for the topmost pair of directories (one that leaves
//! as a whole, one that is new) that explains it. A pair with the votes of half of what the old directory held is a
//! move; what differs inside is then compared path by path, as if the directory had always had its new name.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::compare::{Arrival, LeaderAt, Leave, Planner, Verdict, verdict};
use super::{PresentKind, Touch};
use crate::backup::digest::Digest;
use crate::backup::entry::{Kind, Link, Meta};
use crate::backup::relpath::RelPath;

/// Same-named files with the same content that may vote; more are copies of one another and say little.
const CANDIDATES_MAX: usize = 4;

/// A directory move: index of the leave, index of the arrival.
type Pair = (usize, usize);

/// Finds directory moves and takes them out of `leaves` and `arrivals`.
pub(super) fn find(planner: &mut Planner) {
    let pairs = accept(planner, &votes(planner));
    for (leave, arrival) in pairs.into_iter().rev() {
        reconcile(planner, leave, arrival);
    }
}

fn votes(planner: &Planner) -> BTreeMap<Pair, u64> {
    let leaving: HashMap<&RelPath, usize> = planner
        .leaves
        .iter()
        .enumerate()
        .filter(|(_, l)| l.present.kind == PresentKind::Dir)
        .map(|(i, l)| (&l.present.path, i))
        .collect();
    let mut votes = BTreeMap::new();
    if leaving.is_empty() {
        return votes;
    }
    let arriving: HashMap<&RelPath, usize> = planner
        .arrivals
        .iter()
        .enumerate()
        .filter(|(_, a)| a.wanted.entry.is_dir())
        .map(|(i, a)| (&a.wanted.entry.path, i))
        .collect();
    let mut by_content: HashMap<(Digest, &[u8]), Vec<&RelPath>> = HashMap::new();
    for leave in &planner.leaves {
        if let (PresentKind::File, Some(digest), Some(name)) =
            (leave.present.kind, leave.present.digest, leave.present.path.name())
        {
            let same = by_content.entry((digest, name)).or_default();
            if same.len() < CANDIDATES_MAX {
                same.push(&leave.present.path);
            }
        }
    }
    for arrival in &planner.arrivals {
        let path = &arrival.wanted.entry.path;
        let (Some(content), Some(name)) = (arrival.wanted.entry.file(), path.name()) else { continue };
        for old in by_content.get(&(content.digest, name)).into_iter().flatten() {
            if let Some(pair) = topmost(old, path, &leaving, &arriving) {
                *votes.entry(pair).or_insert(0) += 1;
            }
        }
    }
    votes
}

/// The topmost pair of directories that turns `old` into `new` by a rename of theirs.
fn topmost(
    old: &RelPath,
    new: &RelPath,
    leaving: &HashMap<&RelPath, usize>,
    arriving: &HashMap<&RelPath, usize>,
) -> Option<Pair> {
    let (mut old, mut new, mut best) = (old.parent()?, new.parent()?, None);
    loop {
        let (Some(from), Some(to)) = (leaving.get(&old), arriving.get(&new)) else { return best };
        best = Some((*from, *to));
        if old.name() != new.name() {
            return best;
        }
        let (Some(up_old), Some(up_new)) = (old.parent(), new.parent()) else { return best };
        (old, new) = (up_old, up_new);
    }
}

/// The pairs with enough votes, none inside another on either side; ordered by leave.
fn accept(planner: &Planner, votes: &BTreeMap<Pair, u64>) -> Vec<Pair> {
    let mut by_votes: Vec<_> = votes.iter().map(|(pair, n)| (*n, *pair)).collect();
    by_votes.sort_by_key(|(n, pair)| (std::cmp::Reverse(*n), *pair));
    let mut accepted: Vec<Pair> = Vec::new();
    for (n, (leave, arrival)) in by_votes {
        let old = &planner.leaves[leave];
        let held = planner.leaves[leave + 1..=leave + old.inner].iter();
        let files = held.filter(|l| l.present.kind == PresentKind::File).count() as u64;
        let new_path = &planner.arrivals[arrival].wanted.entry.path;
        let free = accepted.iter().all(|(l, a)| {
            apart(&planner.leaves[*l].present.path, &old.present.path)
                && apart(&planner.arrivals[*a].wanted.entry.path, new_path)
        });
        if n * 2 >= files && free && !new_path.is_within(&old.present.path) {
            accepted.push((leave, arrival));
        }
    }
    accepted.sort_unstable();
    accepted
}

fn apart(a: &RelPath, b: &RelPath) -> bool {
    !a.is_within(b) && !b.is_within(a)
}

/// What a comparison inside a moved directory left over.
#[derive(Default)]
struct Inside {
    leaves: Vec<Leave>,
    arrivals: Vec<Arrival>,
    /// Directories that stay inside, by their new path.
    dirs: HashMap<RelPath, Meta>,
    disturbed: HashSet<RelPath>,
}

/// Replaces the leave of a directory and the arrival of its new name by a move and what differs inside.
fn reconcile(planner: &mut Planner, leave: usize, arrival: usize) {
    let inner = planner.leaves[leave].inner;
    let old_root = planner.leaves[leave].present.path.clone();
    let new_root = planner.arrivals[arrival].wanted.entry.path.clone();
    let end = planner.arrivals[arrival..].partition_point(|a| a.wanted.entry.path.is_within(&new_root)) + arrival;
    let old: Vec<Leave> = planner.leaves.splice(leave..=leave + inner, []).collect();
    shrink_outer(&mut planner.leaves[..leave], &old_root, inner + 1);
    let new: Vec<Arrival> = planner.arrivals.splice(arrival..end, []).collect();

    let mut inside = Inside::default();
    let mut old = old.into_iter().peekable();
    let mut new = new.into_iter().peekable();
    if let (Some(leave), Some(arrival)) = (old.next(), new.next()) {
        inside.both(planner, leave.clone(), arrival.clone(), &mut std::iter::empty(), None);
        inside.arrivals.push(Arrival { moved: Some(leave.present), ..arrival });
    }
    loop {
        let rel_old = old.peek().and_then(|l| l.present.path.strip_prefix(&old_root));
        let rel_new = new.peek().and_then(|a| a.wanted.entry.path.strip_prefix(&new_root));
        let order = match (&rel_old, &rel_new) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.cmp(b),
        };
        let rel = if order == Ordering::Greater { rel_new } else { rel_old };
        let parent = rel.and_then(|r| r.parent()).and_then(|r| new_root.join_path(&r).ok());
        let leaves = if order == Ordering::Greater { None } else { old.next() };
        let comes = if order == Ordering::Less { None } else { new.next() };
        match (leaves, comes) {
            (Some(l), None) => inside.leave(l, &mut old, parent),
            (None, Some(a)) => inside.arrive(a, parent),
            (Some(l), Some(a)) => inside.both(planner, l, a, &mut old, parent),
            (None, None) => break,
        }
    }
    let Inside { leaves, arrivals, mut dirs, disturbed } = inside;
    for path in disturbed {
        if let Some(form) = dirs.remove(&path) {
            planner.plan.touches.push(Touch { path, form, kind: PresentKind::Dir });
        }
    }
    planner.leaves.splice(leave..leave, leaves);
    planner.arrivals.splice(arrival..arrival, arrivals);
}

/// Directories that leave as a whole around a moved one hold that much less.
fn shrink_outer(before: &mut [Leave], moved: &RelPath, by: usize) {
    for leave in before {
        if leave.present.kind == PresentKind::Dir && moved.is_within(&leave.present.path) {
            leave.inner -= by;
        }
    }
}

impl Inside {
    fn leave(&mut self, leave: Leave, rest: &mut impl Iterator<Item = Leave>, parent: Option<RelPath>) {
        self.disturbed.extend(parent);
        let inner = leave.inner;
        self.leaves.push(leave);
        self.leaves.extend(rest.take(inner));
    }

    fn arrive(&mut self, arrival: Arrival, parent: Option<RelPath>) {
        self.disturbed.extend(parent);
        self.arrivals.push(arrival);
    }

    fn both(
        &mut self,
        planner: &mut Planner,
        mut leave: Leave,
        mut arrival: Arrival,
        rest: &mut impl Iterator<Item = Leave>,
        parent: Option<RelPath>,
    ) {
        let (path, form) = (arrival.wanted.entry.path.clone(), arrival.wanted.form.clone());
        let form = form.unwrap_or_default();
        let Verdict::Same { touch } = verdict(&leave.present, &arrival.wanted, &form, &planner.leaders) else {
            leave.replaced = true;
            arrival.replaces = true;
            self.leave(leave, rest, parent.clone());
            self.arrive(arrival, parent);
            return;
        };
        planner.plan.counts.moved += 1;
        if let Kind::File(content) = &arrival.wanted.entry.kind
            && content.link == Link::Leader
        {
            planner.leaders.insert(path.clone(), LeaderAt { ino: leave.present.ino, old: leave.present.path.clone() });
        }
        let kind = leave.present.kind;
        if touch {
            planner.plan.touches.push(Touch { path, form, kind });
        } else if kind == PresentKind::Dir {
            self.dirs.insert(path, form);
        }
    }
}
