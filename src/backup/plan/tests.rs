//! What every rule of the plan promises, one small test each; [`model`] tries them all together.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod commit;
mod model;
mod world;

use super::*;
use commit::{Case, prepare_steps};
use world::{Area, World, meta, rel};

fn check(present: &[&str], wanted: &[&str]) -> Plan {
    Case::new(present, wanted, true).check().0
}

fn counts(created: u64, updated: u64, moved: u64, deleted: u64, touched: u64, unchanged: u64) -> Counts {
    Counts { created, updated, moved, deleted, touched, unchanged }
}

fn parks_to(plan: &Plan, to: ParkTo) -> usize {
    plan.parks.iter().filter(|park| park.to == to).count()
}

#[test]
fn nothing_to_do_is_an_empty_plan() {
    let tree = ["a/", "a/x=1", "b->2", "c|", "d=3", "e~d"];
    let plan = check(&tree, &tree);
    assert!(plan.is_empty());
    assert_eq!((plan.counts, plan.files_before, plan.files_gone), (counts(0, 0, 0, 0, 0, 7), 3, 0));
}

#[test]
fn a_new_directory_is_one_rename_whatever_it_holds() {
    let plan = check(&[], &["a/", "a/b/", "a/b/x=1", "a/c->2", "a/d|"]);
    assert_eq!(plan.places, [Place { path: rel("a"), from: PlaceFrom::Staged }]);
    assert_eq!((plan.prepare.len(), plan.counts.created), (5, 5));
}

#[test]
fn a_moved_file_is_placed_again_and_nothing_is_sent() {
    let plan = Case::new(&["a=1"], &["b=1"], true).plan();
    assert_eq!((plan.missing.len(), plan.prepare.len()), (0, 0));
    let plan = check(&["a=1"], &["b=1"]);
    assert_eq!(plan.lines, [Line::Move(rel("a"), rel("b"))]);
    assert_eq!((plan.counts, plan.files_gone), (counts(0, 0, 1, 0, 0, 1), 0));
}

#[test]
fn without_delete_a_moved_file_stays_and_is_copied() {
    let (plan, _) = Case::new(&["a=1"], &["b=1"], false).check();
    assert_eq!(plan.kept, [rel("a")]);
    assert!(
        matches!(prepare_steps(&plan)[0].what, Prepare::Copy { from: ContentPlace::Copy(ref from), .. } if *from == rel("a"))
    );
}

#[test]
fn a_swap_and_a_chain_are_moves() {
    let swap = check(&["a=1", "b=2"], &["a=2", "b=1"]);
    assert_eq!((parks_to(&swap, ParkTo::Hold), swap.counts.moved, swap.files_gone), (2, 2, 0));
    let chain = check(&["a=1", "b=2"], &["b=1", "c=2"]);
    assert_eq!((parks_to(&chain, ParkTo::Hold), chain.counts.moved, chain.files_gone), (2, 2, 0));
}

#[test]
fn a_renamed_directory_with_a_thousand_files_and_three_edits_is_one_rename() {
    let file = |dir: &str, i: u32, n: u32| format!("{dir}/s{}/f{i}={n}", i % 10);
    let tree = |dir: &str, edits: u32| {
        let dirs = (0..10).map(|i| format!("{dir}/s{i}/"));
        let files = (0..1000).map(|i| file(dir, i, if i < edits { 250 } else { i % 200 }));
        [format!("{dir}/")].into_iter().chain(dirs).chain(files).collect::<Vec<_>>()
    };
    let (old, new) = (tree("old", 0), tree("new", 3));
    let lines = |tree: &[String]| World::of(&tree.iter().map(String::as_str).collect::<Vec<_>>());
    let mut case = Case { copy: lines(&old), wanted: lines(&new).wanted(), ..Case::new(&[], &[], true) };
    let plan = case.plan_with_content();
    let held: Vec<_> = plan.parks.iter().filter(|park| park.to == ParkTo::Hold).map(|park| &park.path).collect();
    assert_eq!(held, [&rel("old")]);
    assert_eq!((plan.parks.len(), plan.places.len(), plan.prepare.len()), (4, 4, 3));
    assert_eq!((plan.counts, plan.files_gone), (counts(0, 3, 1008, 0, 0, 1), 0));
    case.check();
}

#[test]
fn a_rename_inside_a_renamed_directory_is_one_rename_too() {
    let plan = check(
        &["a/", "a/x/", "a/x/1=1", "a/x/2=2", "a/3=3", "a/4=4", "a/5=5"],
        &["b/", "b/y/", "b/y/1=1", "b/y/2=2", "b/3=3", "b/4=4", "b/5=5"],
    );
    assert_eq!((parks_to(&plan, ParkTo::Hold), plan.prepare.len(), plan.counts.moved), (2, 0, 7));
}

#[test]
fn a_directory_takes_the_place_of_another_inside_a_renamed_one() {
    let plan = check(
        &["q/", "q/f=1", "q/b/", "q/b/g=9", "x/", "x/1=1", "x/2=2", "x/3=3"],
        &["n/", "n/f=1", "n/b/", "n/b/1=1", "n/b/2=2", "n/b/3=3"],
    );
    assert_eq!((parks_to(&plan, ParkTo::Hold), plan.prepare.len(), plan.files_gone), (2, 0, 1));
}

#[test]
fn a_directory_moves_out_of_a_deleted_one_and_leaves_what_it_does_not_take() {
    let plan = check(&["z/", "z/a/", "z/a/f=1", "z/a/g=2", "z/h=3"], &["a/", "a/f=1"]);
    assert_eq!((parks_to(&plan, ParkTo::Hold), plan.counts), (1, counts(0, 0, 2, 3, 0, 1)));
    assert_eq!(plan.files_gone, 2);
}

#[test]
fn a_directory_moves_into_a_new_one_that_must_not_bring_what_belongs_into_the_moved_one() {
    let plan = check(&["a/", "a/1=1", "a/2=2"], &["n/", "n/s=4", "n/a/", "n/a/1=1", "n/a/2=2", "n/a/new=3"]);
    assert_eq!(parks_to(&plan, ParkTo::Hold), 1);
    assert!(matches!(prepare_steps(&plan)[0], PrepareStep { what: Prepare::DirAside { .. }, .. }));
}

#[test]
fn an_unseen_subtree_keeps_the_directories_above_it() {
    let mut case = Case::new(&["d/", "d/p/", "d/p/x=1", "d/y=2"], &[], true);
    case.unseen = vec![rel("d/p")];
    let (plan, _) = case.check();
    assert_eq!(plan.kept, [rel("d"), rel("d/p"), rel("d/p/x")]);
    assert_eq!((plan.counts.deleted, plan.files_gone), (1, 1));
}

#[test]
fn keeping_an_unseen_subtree_is_no_work_for_ever() {
    let mut case = Case::new(&["d/", "d/p/", "d/p/x=1"], &[], true);
    case.unseen = vec![rel("d/p")];
    assert!(case.check().0.is_empty());
}

#[test]
fn a_type_change_goes_without_delete_and_counts_for_the_guard() {
    for delete in [false, true] {
        let (plan, _) = Case::new(&["a/", "a/x=1", "b=2"], &["a=3", "b/"], delete).check();
        assert_eq!((plan.counts.updated, plan.counts.deleted, plan.files_gone), (2, 1, 2));
        assert_eq!((plan.kept.len(), parks_to(&plan, ParkTo::Retire)), (0, 2));
    }
    let device = check(&["a=1"], &["a!"]);
    assert_eq!((device.counts.updated, device.files_gone, device.places.len()), (1, 1, 0));
    assert!(check(&[], &["a!"]).is_empty());
}

#[test]
fn the_guard_counts_neither_moved_nor_updated_files() {
    let plan = check(&["a=1", "b=2", "c=3", "d/", "d/x=4"], &["a=9", "e=2", "f/", "f/x=4"]);
    assert_eq!((plan.files_before, plan.files_gone), (4, 1));
    // What a moved directory does not take along is gone, also where a file takes the old directory's place.
    let plan = check(&["d/", "d/s/", "d/s/x=1", "d/s/y=2", "d/s/z=3"], &["d=7", "s/", "s/x=1", "s/y=2"]);
    assert_eq!((plan.counts.deleted, plan.files_gone), (1, 1));
}

#[test]
fn what_is_missing_has_a_line_but_no_step() {
    let plan = Case::new(&["a=1"], &["a=2", "b=3", "c~b"], true).plan();
    assert_eq!(plan.lines, [Line::Update(rel("a")), Line::Create(rel("b")), Line::Create(rel("c"))]);
    assert_eq!(plan.missing.iter().map(|m| &m.path).collect::<Vec<_>>(), [&rel("a"), &rel("b")]);
    assert_eq!((plan.counts, plan.places.len()), (counts(2, 1, 0, 0, 0, 1), 0));
    assert!(!plan.is_empty());
}

#[test]
fn a_directory_whose_names_change_gets_its_time_back() {
    let plan = check(&["d/", "d/x=1", "e/", "e/y=1"], &["d/", "d/z=2", "e/", "e/y=1"]);
    assert_eq!(plan.touches.iter().map(|t| &t.path).collect::<Vec<_>>(), [&rel("d")]);
    assert_eq!(plan.counts.touched, 0);
}

#[test]
fn metadata_alone_is_a_touch() {
    let mut source = World::of(&["a=1"]);
    let ino = source.at(Area::Copy, &rel("a")).unwrap();
    source.inodes.get_mut(&ino).unwrap().meta = meta(5);
    let (plan, _) = Case { wanted: source.wanted(), ..Case::new(&["a=1"], &[], true) }.check();
    assert_eq!((plan.parks.len(), plan.lines, plan.counts), (0, vec![Line::Touch(rel("a"))], counts(0, 0, 0, 0, 1, 1)));
}

#[test]
fn a_new_first_name_of_a_file_is_linked_and_disturbs_none() {
    let plan = check(&["b=1", "c~b"], &["a=1", "b~a", "c~a"]);
    assert_eq!(prepare_steps(&plan)[0].what, Prepare::Link { from: LinkFrom::Present(rel("b")) });
    assert_eq!((plan.parks.len(), plan.counts), (0, counts(1, 0, 0, 0, 0, 3)));
}

#[test]
fn one_inode_is_never_two_groups() {
    let plan = check(&["a=1", "b~a", "c~a", "d~a"], &["a=1", "b~a", "c=1", "d~c"]);
    assert_eq!((parks_to(&plan, ParkTo::Trash), plan.counts.unchanged, plan.files_gone), (2, 3, 0));
    assert!(plan.parks.iter().all(|park| !park.preserve), "the group a, b has the content");
}

#[test]
fn the_last_names_of_a_file_save_its_content_once() {
    let plan = check(&["a=1", "b~a"], &[]);
    assert_eq!((parks_to(&plan, ParkTo::Trash), plan.parks.iter().filter(|park| park.preserve).count()), (2, 1));
    assert_eq!((plan.counts.deleted, plan.files_gone), (2, 2));
}

#[test]
fn the_root_itself_can_arrive_and_change_its_type() {
    let mut case = Case::new(&[], &["x=1"], true);
    case.copy = World::default();
    assert_eq!(case.check().0.places, [Place { path: rel(""), from: PlaceFrom::Staged }]);
    let mut file = World::default();
    file.add(Area::Copy, &rel(""), world::Node::File(1), meta(0));
    let mut case = Case { wanted: file.wanted(), ..Case::new(&["a=2"], &[], true) };
    assert_eq!(case.check().0.files_gone, 1);
    let mut back = Case { copy: file, ..Case::new(&[], &["a=2"], true) };
    assert_eq!(back.check().0.files_gone, 1);
}

#[test]
fn a_follower_of_a_leader_that_is_nowhere_is_not_lost() {
    let mut case = Case::new(&[], &["a=1", "b~a"], true);
    case.wanted.remove(&rel("a"));
    assert_eq!(case.plan().missing.len(), 1);
    case.staged.insert(rel("b"), 1);
    assert_eq!(case.plan().places, [Place { path: rel("b"), from: PlaceFrom::Staged }]);
}
