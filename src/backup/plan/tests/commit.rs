//! A plan, made and executed on the model exactly as a commit does it, and what must hold afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::world::{Area, Inode, Node, World, content, kind};
use crate::backup::digest::Digest;
use crate::backup::entry::{Link, Meta};
use crate::backup::plan::{
    ContentPlace, Contents, LinkFrom, ParkTo, PlaceFrom, Plan, PlanOptions, Planner, Prepare, PrepareStep, Present,
    PresentKind, Wanted,
};
use crate::backup::relpath::RelPath;
use crate::backup::spool::Spill;

/// A copy, what is wanted of it, and what the store has.
#[derive(Clone)]
pub struct Case {
    pub copy: World,
    pub wanted: BTreeMap<RelPath, Wanted>,
    /// Tops of unseen subtrees.
    pub unseen: Vec<RelPath>,
    pub delete: bool,
    pub staged: BTreeMap<RelPath, u8>,
    pub retired: BTreeSet<u8>,
}

struct Store<'a> {
    case: &'a Case,
}

fn number(digest: &Digest) -> u8 {
    (0..=u8::MAX).find(|n| Digest::of(&content(*n)) == *digest).unwrap()
}

impl Contents for Store<'_> {
    fn is_staged(&self, path: &RelPath, digest: &Digest, _: u64) -> bool {
        self.case.staged.get(path).is_some_and(|n| *n == number(digest))
    }

    fn find(&self, digest: &Digest, size: u64) -> Option<ContentPlace> {
        let n = number(digest);
        assert_eq!(size, u64::from(n));
        let staged = self.case.staged.iter().find(|(_, m)| **m == n);
        let here = |(path, ino): (RelPath, u64)| (self.case.copy.inodes[&ino].node == Node::File(n)).then_some(path);
        let copy = || self.case.copy.within(Area::Copy, &RelPath::root()).into_iter().find_map(here);
        staged
            .map(|_| ContentPlace::Staged)
            .or_else(|| copy().map(ContentPlace::Copy))
            .or_else(|| self.case.retired.contains(&n).then(|| ContentPlace::Retired(RelPath::root())))
    }
}

#[derive(Clone, Debug)]
enum Step {
    Park { ino: u64, path: RelPath, slot: u32, placed: Option<RelPath> },
    Place { ino: u64, path: RelPath, from: (Area, RelPath) },
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((area, path), ino) in &self.copy.names {
            let Inode { node, meta } = &self.copy.inodes[ino];
            writeln!(f, "{area:?} {path:?} #{ino} {node:?} {:o} {}", meta.mode, meta.mtime.secs)?;
        }
        for Wanted { entry, .. } in self.wanted.values() {
            let file = entry.file().map(|file| (file.size, &file.link));
            let kind = if file.is_some() { String::new() } else { format!("{:?}", entry.kind) };
            writeln!(f, "wants {:?} {kind}{file:?} {:o} {}", entry.path, entry.meta.mode, entry.meta.mtime.secs)?;
        }
        let Self { unseen, delete, staged, retired, .. } = self;
        writeln!(f, "unseen {unseen:?}, delete {delete}, staged {staged:?}, retired {retired:?}")
    }
}

impl Case {
    pub fn new(present: &[&str], wanted: &[&str], delete: bool) -> Self {
        Self {
            copy: World::of(present),
            wanted: World::of(wanted).wanted(),
            unseen: Vec::new(),
            delete,
            staged: BTreeMap::new(),
            retired: BTreeSet::new(),
        }
    }

    fn is_unseen(&self, path: &RelPath) -> bool {
        self.unseen.iter().any(|top| path.is_within(top))
    }

    pub fn plan(&self) -> Plan {
        let mut present = self.copy.present();
        let options = PlanOptions { delete: self.delete, silent: false, shallow: false };
        // Lists leave memory at the second item: what is tried here is tried with them.
        let mut planner = Planner::new(options, &Spill::to_memory(2));
        let paths: BTreeSet<RelPath> = present.keys().chain(self.wanted.keys()).cloned().collect();
        for path in paths {
            planner.push(present.remove(&path), self.wanted.get(&path).cloned(), self.is_unseen(&path)).unwrap();
        }
        planner.finish(&Store { case: self }).unwrap()
    }

    /// Sends what is missing, then plans again, as a run does.
    pub fn plan_with_content(&mut self) -> Plan {
        let plan = self.plan();
        for missing in &plan.missing {
            assert_eq!(Store { case: self }.find(&missing.digest, missing.size), None);
        }
        for missing in &plan.missing {
            self.staged.insert(missing.path.clone(), number(&missing.digest));
        }
        if plan.missing.is_empty() {
            return plan;
        }
        assert!(!plan.is_empty());
        let complete = self.plan();
        assert_eq!(complete.missing, []);
        complete
    }

    /// Plans, commits, and checks everything; gives the plan and the copy as it is then.
    pub fn check(&mut self) -> (Plan, World) {
        let plan = self.plan_with_content();
        let before = prepared(self, &plan);
        let steps = steps(&before, &plan);
        let mut after = before.clone();
        run(&mut after, &steps);
        self.check_counts(&plan, &steps);
        self.check_content(&plan, &after);
        touch(&mut after, &plan);
        self.check_result(&plan, &after);
        for cut in 0..steps.len() {
            let mut replayed = before.clone();
            run(&mut replayed, &steps[..cut]);
            run(&mut replayed, &steps);
            touch(&mut replayed, &plan);
            assert_eq!(replayed.names, after.names, "cut after {cut} steps");
            self.check_result(&plan, &replayed);
        }
        let mut copy = after;
        copy.names.retain(|(area, _), _| matches!(area, Area::Copy | Area::Elsewhere));
        let again = Case { copy: copy.clone(), staged: BTreeMap::new(), ..self.clone() }.plan();
        assert!(again.is_empty() && again.prepare.is_empty() && again.lines.is_empty(), "{again:#?}");
        assert_eq!(again.kept, plan.kept);
        (plan, copy)
    }

    /// What the copy holds beyond what is wanted.
    fn kept(&self) -> BTreeSet<RelPath> {
        let present = self.copy.present();
        let above = |path: &RelPath| std::iter::successors(path.parent(), RelPath::parent).collect::<Vec<_>>();
        let taken = |p: &RelPath| above(p).iter().any(|up| self.wanted.get(up).is_some_and(|w| !w.entry.is_dir()));
        let gone = |p: &RelPath| self.wanted.contains_key(p) || taken(p);
        let mut kept = BTreeSet::new();
        for path in present.keys().filter(|p| !gone(p) && (!self.delete || self.is_unseen(p))) {
            kept.extend(above(path).into_iter().filter(|up| !self.wanted.contains_key(up)));
            kept.insert(path.clone());
        }
        kept
    }

    fn check_result(&self, plan: &Plan, after: &World) {
        let kept = self.kept();
        assert_eq!(plan.kept, kept.iter().cloned().collect::<Vec<_>>());
        let (old, new) = (self.copy.present(), after.present());
        let expected: BTreeSet<_> =
            kept.iter().chain(self.wanted.values().filter(|w| w.form.is_some()).map(|w| &w.entry.path)).collect();
        assert_eq!(new.keys().collect::<BTreeSet<_>>(), expected);
        for (name, ino) in self.copy.names.iter().filter(|((area, _), _)| *area == Area::Elsewhere) {
            assert_eq!(after.names.get(name), Some(ino), "{name:?}");
            assert_eq!(after.inodes[ino].meta, self.copy.inodes[ino].meta, "{name:?} is another root's");
        }
        let mut groups: BTreeMap<u64, RelPath> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for wanted in self.wanted.values() {
            let (Some(form), path) = (&wanted.form, &wanted.entry.path) else { continue };
            let is = &new[path];
            check_form(is, form);
            assert_eq!(is.kind == PresentKind::Dir, wanted.entry.is_dir(), "{path:?}");
            if let Some(file) = wanted.entry.file() {
                assert_eq!((is.digest, is.size), (Some(file.digest), file.size), "{path:?}");
                let group = match &file.link {
                    Link::Follower(leader) => leader,
                    link => {
                        assert!(*link == Link::Leader || !is.within, "{path:?} has other names");
                        assert!(seen.insert(is.ino), "{path:?} is the inode of another group");
                        path
                    }
                };
                assert_eq!(groups.entry(is.ino).or_insert_with(|| group.clone()), group, "{path:?}");
            } else {
                let node = &after.node(Area::Copy, path).unwrap().node;
                assert_eq!(kind(node, Link::Single), wanted.entry.kind, "{path:?}");
            }
        }
        for path in &kept {
            let (was, is) = (&old[path], &new[path]);
            assert_eq!((was.ino, was.kind, was.digest), (is.ino, is.kind, is.digest), "{path:?}");
            // A kept name of a wanted group shows what the group shows.
            if !groups.contains_key(&is.ino) {
                check_form(is, &was.meta);
            }
        }
    }

    /// Content that was in the copy is there still, or in history.
    fn check_content(&self, plan: &Plan, after: &World) {
        let file = |world: &World, ino: u64| match world.inodes[&ino].node {
            Node::File(n) => Some(n),
            _ => None,
        };
        let mut held: BTreeSet<u8> = BTreeSet::new();
        held.extend(after.within(Area::Copy, &RelPath::root()).iter().filter_map(|(_, ino)| file(after, *ino)));
        for park in &plan.parks {
            let parked = after.within(Area::Slot(park.slot), &RelPath::root());
            match park.to {
                ParkTo::Retire => held.extend(parked.iter().filter_map(|(_, ino)| file(after, *ino))),
                ParkTo::Hold => assert_eq!(parked, []),
                ParkTo::Trash => held.extend(file(after, park.ino).filter(|_| park.preserve)),
            }
            assert!(!park.preserve || park.to == ParkTo::Trash);
        }
        for (path, ino) in self.copy.within(Area::Copy, &RelPath::root()) {
            let kept = file(&self.copy, ino).is_none_or(|n| held.contains(&n));
            assert!(kept, "the content of {path:?} is lost: {plan:#?}");
        }
    }

    fn check_counts(&self, plan: &Plan, steps: &[Step]) {
        let present = self.copy.present();
        // Where each name went that was moved, by itself or with its directory.
        let mut world = prepared(self, plan);
        let mut moved: BTreeMap<RelPath, RelPath> = BTreeMap::new();
        let mut dirs: Vec<(RelPath, RelPath)> = Vec::new();
        for step in steps {
            if let Step::Park { path, placed: Some(to), .. } = step {
                for (old, _) in world.within(Area::Copy, path) {
                    let new = to.join_path(&old.strip_prefix(path).unwrap()).unwrap();
                    assert_eq!(moved.insert(old, new), None);
                }
                dirs.push((path.clone(), to.clone()));
            }
            run(&mut world, std::slice::from_ref(step));
        }
        let form = |path: &RelPath| self.wanted.get(path).filter(|w| w.form.is_some());
        let renamed = |path: &RelPath| {
            let (from, to) =
                dirs.iter().filter(|(from, _)| path.is_within(from)).max_by_key(|(from, _)| from.depth())?;
            let new = to.join_path(&path.strip_prefix(from)?).unwrap();
            // A directory whose place another one takes is gone with all it holds.
            let taken = dirs.iter().any(|(_, t)| t != to && t.is_within(to) && *t != new && new.is_within(t));
            form(&new).filter(|_| !taken)
        };
        let kept = self.kept();
        let leaving = |p: &Present| !kept.contains(&p.path) && !moved.contains_key(&p.path);
        let deleted =
            present.values().filter(|p| leaving(p) && !self.wanted.contains_key(&p.path) && renamed(&p.path).is_none());
        let by_file = |p: &Present| {
            let heir = form(&p.path).or_else(|| renamed(&p.path).filter(|_| !self.wanted.contains_key(&p.path)));
            heir.is_some_and(|w| w.entry.file().is_some())
        };
        let files = present.values().filter(|p| p.kind == PresentKind::File);
        let counts = plan.counts;
        assert_eq!(counts.deleted, deleted.count() as u64, "deleted {plan:#?}");
        assert_eq!(counts.moved, moved.len() as u64, "moved");
        assert_eq!(plan.files_before, files.clone().count() as u64);
        assert_eq!(plan.files_gone, files.filter(|p| leaving(p) && !by_file(p)).count() as u64, "gone {plan:#?}");
        let fates = counts.created + counts.updated + counts.moved + counts.touched + counts.unchanged;
        let formless = |p: &RelPath| self.wanted.get(p).is_some_and(|w| w.form.is_none());
        let all =
            self.wanted.values().filter(|w| w.form.is_some()).count() + present.keys().filter(|p| formless(p)).count();
        assert_eq!(fates, all as u64, "{plan:#?}");
    }
}

fn check_form(is: &Present, form: &Meta) {
    let mode = is.kind != PresentKind::Symlink;
    let shown = Meta { mode: if mode { is.meta.mode } else { form.mode }, ..is.meta.clone() };
    assert_eq!(shown, *form, "{:?}", is.path);
}

/// The plan's preparations, which stand in canonical order.
pub fn prepare_steps(plan: &Plan) -> Vec<PrepareStep> {
    let steps: Vec<PrepareStep> = plan.prepare.iter().map(|step| step.unwrap().into_owned()).collect();
    assert!(steps.is_sorted_by(|a, b| a.path < b.path), "{steps:#?}");
    steps
}

/// The copy's world with everything in staging that the plan asks for, and nothing else.
fn prepared(case: &Case, plan: &Plan) -> World {
    let mut world = case.copy.clone();
    world.quiet = false;
    for (path, n) in &case.staged {
        dirs_for(&mut world, path);
        world.add(Area::Staging, path, Node::File(*n), Meta::default());
    }
    for step in &prepare_steps(plan) {
        let (area, path) = match step.what {
            Prepare::DirAside { slot } => (Area::Slot(slot), RelPath::root()),
            _ => (Area::Staging, step.path.clone()),
        };
        if area == Area::Staging {
            dirs_for(&mut world, &path);
        }
        // What was staged before the plan knew better makes room.
        let keep = matches!(step.what, Prepare::Staged)
            || (step.what == Prepare::Dir && world.node(area, &path).is_some_and(|i| i.node == Node::Dir));
        if !keep && world.at(area, &path).is_some() {
            world.remove_tree(area, &path);
        }
        let node = match &step.what {
            Prepare::Dir | Prepare::DirAside { .. } => Node::Dir,
            Prepare::Symlink { target } => Node::Symlink(u8::try_from(target.0.len()).unwrap()),
            Prepare::Fifo => Node::Fifo,
            Prepare::Staged => Node::File(case.staged[&path]),
            Prepare::Copy { from, content } => {
                let n = number(&content.digest);
                let there = match from {
                    ContentPlace::Staged => case.staged.values().any(|staged| *staged == n),
                    ContentPlace::Copy(path) => world.node(Area::Copy, path).is_some_and(|i| i.node == Node::File(n)),
                    ContentPlace::Retired(_) | ContentPlace::Vault => case.retired.contains(&n),
                };
                assert!(there, "{step:?}");
                Node::File(n)
            }
            Prepare::Link { from } => {
                let ino = match from {
                    LinkFrom::Staged(path) => world.at(Area::Staging, path),
                    LinkFrom::Present(path) => world.at(Area::Copy, path),
                };
                world.link(ino.unwrap(), Area::Staging, &path);
                continue;
            }
        };
        match world.at(area, &path) {
            Some(ino) => assert_eq!(world.inodes[&ino].node, node),
            None => {
                world.add(area, &path, node, Meta::default());
            }
        }
    }
    clean(&mut world, plan);
    for step in prepare_steps(plan).iter().filter(|step| !matches!(step.what, Prepare::Link { .. })) {
        let ino = match step.what {
            Prepare::DirAside { slot } => world.at(Area::Slot(slot), &RelPath::root()),
            _ => world.at(Area::Staging, &step.path),
        };
        world.inodes.get_mut(&ino.unwrap()).unwrap().meta = step.form.clone();
    }
    world
}

/// Staging holds what the plan names, and the directories that lead there.
fn clean(world: &mut World, plan: &Plan) {
    let named: BTreeSet<RelPath> = prepare_steps(plan)
        .iter()
        .filter(|s| !matches!(s.what, Prepare::DirAside { .. }))
        .map(|s| s.path.clone())
        .collect();
    let leads = |path: &RelPath| named.range::<RelPath, _>(path..).next().is_some_and(|p| p.is_within(path));
    world.names.retain(|(area, path), _| *area != Area::Staging || leads(path));
}

fn dirs_for(world: &mut World, path: &RelPath) {
    let above: Vec<_> = std::iter::successors(path.parent(), RelPath::parent).collect();
    for dir in above.into_iter().rev() {
        match world.node(Area::Staging, &dir) {
            Some(Inode { node: Node::Dir, .. }) => {}
            Some(_) => panic!("{dir:?} in staging is no directory"),
            None => {
                world.add(Area::Staging, &dir, Node::Dir, Meta::default());
            }
        }
    }
}

/// The steps with the inodes that a journal names.
fn steps(world: &World, plan: &Plan) -> Vec<Step> {
    let mut steps = Vec::new();
    let slots: BTreeSet<u32> = plan.parks.iter().map(|p| p.slot).collect();
    assert_eq!(slots.len(), plan.parks.len());
    for park in &plan.parks {
        let place = plan.places.iter().find(|p| p.from == PlaceFrom::Hold(park.slot));
        assert_eq!(place.is_some(), park.to == ParkTo::Hold);
        let placed = place.map(|p| p.path.clone());
        let node = world.node(Area::Copy, &park.path).unwrap();
        assert_eq!((node.node == Node::Dir, world.at(Area::Copy, &park.path)), (park.is_dir, Some(park.ino)));
        steps.push(Step::Park { ino: park.ino, path: park.path.clone(), slot: park.slot, placed });
    }
    for place in &plan.places {
        let (ino, from) = match place.from {
            PlaceFrom::Staged => (world.at(Area::Staging, &place.path), (Area::Staging, place.path.clone())),
            PlaceFrom::Hold(slot) => {
                let parked = plan.parks.iter().find(|p| p.slot == slot).map(|p| p.ino);
                let aside = world.at(Area::Slot(slot), &RelPath::root());
                assert!(parked.is_none() || aside.is_none());
                (parked.or(aside), (Area::Slot(slot), RelPath::root()))
            }
        };
        let ino = ino.unwrap_or_else(|| panic!("{place:?} is not prepared: {plan:#?}"));
        steps.push(Step::Place { ino, path: place.path.clone(), from });
    }
    steps
}

/// Does what is not done yet: inode at its target = done, at its source = do.
fn run(world: &mut World, steps: &[Step]) {
    let root = RelPath::root();
    for step in steps {
        match step {
            Step::Park { ino, path, slot, placed } => {
                if world.at(Area::Slot(*slot), &root) == Some(*ino) {
                } else if world.at(Area::Copy, path) == Some(*ino) {
                    world.rename((Area::Copy, path), (Area::Slot(*slot), &root));
                } else {
                    // It has gone on to where this plan places it.
                    let gone_on = placed.as_ref().and_then(|path| world.at(Area::Copy, path));
                    assert_eq!(gone_on, Some(*ino), "nowhere: {step:?}");
                }
            }
            Step::Place { ino, path, from } => {
                if world.at(Area::Copy, path) != Some(*ino) {
                    assert_eq!(world.at(from.0, &from.1), Some(*ino), "nowhere: {step:?}");
                    world.rename((from.0, &from.1), (Area::Copy, path));
                }
            }
        }
    }
}

fn touch(world: &mut World, plan: &Plan) {
    let paths: BTreeSet<_> = plan.touches.iter().map(|t| &t.path).collect();
    assert_eq!(paths.len(), plan.touches.len(), "a path is touched twice: {:#?}", plan.touches);
    for touch in &plan.touches {
        let ino = world.at(Area::Copy, &touch.path).unwrap_or_else(|| panic!("{touch:?}"));
        world.inodes.get_mut(&ino).unwrap().meta = touch.form.clone();
    }
}
