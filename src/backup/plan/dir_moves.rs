//! Directories that went from one name to another: one rename, whatever they hold.
//!
//! Every file that leaves one place and arrives at another votes for the pairs of directories (one that leaves as a
//! whole, one that is new) that explain it. The topmost pair with the votes of half of what the old directory held is
//! a move; what differs inside is then compared path by path, as if the directory had always had its new name.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;

use super::compare::{Arrival, Leave, Planner, Verdict, heir, settle, verdict};
use super::{PresentKind, Touch};
use crate::backup::digest::Digest;
use crate::backup::entry::Meta;
use crate::backup::relpath::RelPath;
use crate::backup::spool::Spool;

/// Same-named files with the same content that may vote; more are copies of one another and say little.
const CANDIDATES_MAX: usize = 4;

/// How often to look again: a directory that was renamed inside a renamed one is found in the next round.
const ROUNDS_MAX: usize = 8;

/// A directory move: index of the leave, index of the arrival.
type Pair = (usize, usize);

/// Whether there can be any: some file of a directory that leaves arrives somewhere. One pass over what arrives.
pub(super) fn are_possible(leaves: &[Leave], arrivals: &Spool<Arrival>) -> io::Result<bool> {
    if !leaves.iter().any(|leave| leave.present.kind == PresentKind::Dir) {
        return Ok(false);
    }
    let files = leaves.iter().filter(|leave| leave.present.kind == PresentKind::File);
    let leaving: HashSet<(Digest, &[u8])> =
        files.filter_map(|file| Some((file.present.digest?, file.present.path.name()?))).collect();
    if leaving.is_empty() {
        return Ok(false);
    }
    for arrival in arrivals.iter() {
        let entry = &arrival?.wanted.entry;
        if let (Some(content), Some(name)) = (entry.file(), entry.path.name())
            && leaving.contains(&(content.digest, name))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Finds directory moves and takes them out of the planner's leaves and of what arrives.
pub(super) fn find(planner: &mut Planner, mut arrivals: Vec<Arrival>) -> Vec<Arrival> {
    let mut robbed = HashSet::new();
    for _ in 0..ROUNDS_MAX {
        let pairs = accept(planner, &arrivals, &votes(planner, &arrivals));
        if pairs.is_empty() {
            break;
        }
        arrivals = apply(planner, arrivals, &pairs, &mut robbed);
    }
    arrivals
}

/// Makes moves of the pairs. Arrivals keep their order, so a hard-link group's leader is settled before its followers;
/// what a moved directory does not take along leaves by itself, outside of any directory that leaves as a whole.
/// `robbed`: directories (old paths) out of which one has moved, which disturbs their time if they move in their turn.
fn apply(planner: &mut Planner, before: Vec<Arrival>, pairs: &[Pair], robbed: &mut HashSet<RelPath>) -> Vec<Arrival> {
    robbed.extend(pairs.iter().filter_map(|(leave, _)| planner.leaves[*leave].present.path.parent()));
    let mut moved = take_moved(&mut planner.leaves, pairs);
    let mut all = before.into_iter().enumerate().peekable();
    let mut arrivals = Vec::new();
    while let Some((i, arrival)) = all.next() {
        let Some(old) = moved.remove(&i) else {
            arrivals.push(arrival);
            continue;
        };
        let root = arrival.wanted.entry.path.clone();
        let mut new = vec![arrival];
        while let Some((_, inner)) = all.next_if(|(_, a)| a.wanted.entry.path.is_within(&root)) {
            new.push(inner);
        }
        let inside = reconcile(planner, old, new, robbed);
        planner.leaves.extend(inside.leaves);
        arrivals.extend(inside.arrivals);
    }
    arrivals
}

/// Takes the leaves of each pair out; by the index of its arrival.
fn take_moved(leaves: &mut Vec<Leave>, pairs: &[Pair]) -> HashMap<usize, Vec<Leave>> {
    let mut owner: Vec<Option<usize>> = vec![None; leaves.len()];
    for (leave, arrival) in pairs {
        owner[*leave..=*leave + leaves[*leave].inner].fill(Some(*arrival));
    }
    let mut taken_before = Vec::with_capacity(owner.len() + 1);
    let mut taken = 0;
    for owner in &owner {
        taken_before.push(taken);
        taken += usize::from(owner.is_some());
    }
    taken_before.push(taken);
    let mut moved: HashMap<usize, Vec<Leave>> = HashMap::new();
    for (i, mut leave) in std::mem::take(leaves).into_iter().enumerate() {
        if let Some(arrival) = owner[i] {
            moved.entry(arrival).or_default().push(leave);
        } else {
            // A directory that leaves as a whole around moved ones holds that much less.
            leave.inner -= taken_before[i + 1 + leave.inner] - taken_before[i + 1];
            leaves.push(leave);
        }
    }
    moved
}

fn votes(planner: &Planner, arrivals: &[Arrival]) -> BTreeMap<Pair, u64> {
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
    let arriving: HashMap<&RelPath, usize> = arrivals
        .iter()
        .enumerate()
        .filter(|(_, a)| a.wanted.entry.is_dir() && a.moved.is_none())
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
    for arrival in arrivals {
        let path = &arrival.wanted.entry.path;
        let (Some(content), Some(name)) = (arrival.wanted.entry.file(), path.name()) else { continue };
        for old in by_content.get(&(content.digest, name)).into_iter().flatten() {
            vote(old, path, &leaving, &arriving, &mut votes);
        }
    }
    votes
}

/// A vote for every pair of directories whose rename turns `old` into `new`.
fn vote(
    old: &RelPath,
    new: &RelPath,
    leaving: &HashMap<&RelPath, usize>,
    arriving: &HashMap<&RelPath, usize>,
    votes: &mut BTreeMap<Pair, u64>,
) {
    let (mut old, mut new) = (old.parent(), new.parent());
    while let (Some(from), Some(to)) = (&old, &new) {
        let (Some(leave), Some(arrival)) = (leaving.get(from), arriving.get(to)) else { return };
        *votes.entry((*leave, *arrival)).or_insert(0) += 1;
        if from.name() != to.name() {
            return;
        }
        (old, new) = (from.parent(), to.parent());
    }
}

/// The pairs with enough votes, topmost first, none inside another on either side; ordered by leave.
fn accept(planner: &Planner, arrivals: &[Arrival], votes: &BTreeMap<Pair, u64>) -> Vec<Pair> {
    let mut by_votes: Vec<_> = votes.iter().map(|(pair, n)| (*n, *pair)).collect();
    by_votes.sort_by_key(|(n, pair)| (std::cmp::Reverse(*n), *pair));
    let (mut old_taken, mut new_taken) = (Apart::default(), Apart::default());
    let mut accepted: Vec<Pair> = Vec::new();
    for (n, (leave, arrival)) in by_votes {
        let old = &planner.leaves[leave];
        let (old_path, new_path) = (&old.present.path, &arrivals[arrival].wanted.entry.path);
        if new_path.is_within(old_path) || !old_taken.is_free(old_path) || !new_taken.is_free(new_path) {
            continue;
        }
        let held = planner.leaves[leave + 1..=leave + old.inner].iter();
        let files = held.filter(|l| l.present.kind == PresentKind::File).count() as u64;
        if n * 2 >= files {
            accepted.push((leave, arrival));
            old_taken.take(old_path);
            new_taken.take(new_path);
        }
    }
    accepted.sort_unstable();
    accepted
}

/// Paths none of which lies within another.
#[derive(Default)]
struct Apart {
    taken: HashSet<RelPath>,
    above: HashSet<RelPath>,
}

impl Apart {
    fn is_free(&self, path: &RelPath) -> bool {
        let mut up = Some(path.clone());
        !self.above.contains(path)
            && std::iter::from_fn(|| {
                let here = up.take()?;
                up = here.parent();
                Some(here)
            })
            .all(|p| !self.taken.contains(&p))
    }

    fn take(&mut self, path: &RelPath) {
        self.taken.insert(path.clone());
        let mut up = path.parent();
        while let Some(path) = up {
            up = path.parent();
            self.above.insert(path);
        }
    }
}

/// What a comparison inside a moved directory left over.
struct Inside<'a> {
    leaves: Vec<Leave>,
    arrivals: Vec<Arrival>,
    /// Directories that stay inside, by their new path.
    dirs: HashMap<RelPath, Meta>,
    disturbed: HashSet<RelPath>,
    robbed: &'a HashSet<RelPath>,
}

/// Compares what a directory held, itself first, with what it is to hold under its new name.
fn reconcile<'a>(
    planner: &mut Planner,
    old: Vec<Leave>,
    new: Vec<Arrival>,
    robbed: &'a HashSet<RelPath>,
) -> Inside<'a> {
    let mut inside = Inside::new(robbed);
    let mut old = old.into_iter().peekable();
    let mut new = new.into_iter().peekable();
    let (mut old_root, mut new_root) = (RelPath::root(), RelPath::root());
    if let (Some(leave), Some(arrival)) = (old.next(), new.next()) {
        old_root = leave.present.path.clone();
        new_root = arrival.wanted.entry.path.clone();
        inside.both(planner, leave.clone(), arrival.clone(), &mut std::iter::empty(), None);
        inside.arrivals.push(Arrival { moved: Some(Box::new(leave.present)), ..arrival });
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
    for path in std::mem::take(&mut inside.disturbed) {
        if let Some(form) = inside.dirs.remove(&path) {
            planner.plan.touches.push(Touch { path, form, kind: PresentKind::Dir });
        }
    }
    inside
}

impl<'a> Inside<'a> {
    fn new(robbed: &'a HashSet<RelPath>) -> Self {
        let (leaves, arrivals) = (Vec::new(), Vec::new());
        Self { leaves, arrivals, dirs: HashMap::new(), disturbed: HashSet::new(), robbed }
    }

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
        // What an earlier round moved here is not what was here.
        let verdict = match arrival.moved {
            Some(_) => Verdict::Differs,
            None => verdict(&leave.present, &arrival.wanted, &form, &planner.leaders),
        };
        let Verdict::Same { touch } = verdict else {
            leave.heir = heir(&leave.present, &arrival.wanted);
            arrival.replaces = true;
            self.leave(leave, rest, parent.clone());
            self.arrive(arrival, parent);
            return;
        };
        planner.plan.counts.moved += 1;
        settle(&mut planner.leaders, &leave.present, &arrival.wanted);
        let kind = leave.present.kind;
        if touch {
            planner.plan.touches.push(Touch { path, form, kind });
        } else if kind == PresentKind::Dir {
            if self.robbed.contains(&leave.present.path) {
                self.disturbed.insert(path.clone());
            }
            self.dirs.insert(path, form);
        }
    }
}
