//! Tests of the lease table.

use proptest::prelude::*;

use super::*;

fn rel(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

fn holder(n: u8) -> Holder {
    Holder { key: [n; 32], run: RunId([n; 16]), name: format!("run {n}"), since: Timestamp { secs: 1, nanos: 0 } }
}

fn overlap(a: (&str, bool), b: (&str, bool)) -> bool {
    let scope = |(root, recursive): (&str, bool)| Scope { copy: "n/u".into(), root: rel(root), recursive };
    assert_eq!(scope(a).overlaps(&scope(b)), scope(b).overlaps(&scope(a)));
    scope(a).overlaps(&scope(b))
}

#[test]
fn nested_roots_overlap_through_r() {
    assert!(overlap(("home/u", true), ("home/u", false)));
    assert!(overlap(("home/u", true), ("home/u/docs", false)));
    assert!(overlap(("home/u", true), ("home/u/docs/a/b", true)));
    assert!(overlap(("", true), ("home", false)));
    assert!(!overlap(("home/u", false), ("home/u/docs", true)));
    assert!(!overlap(("home/u", false), ("home/u/docs/a", false)));
    assert!(!overlap(("home/u", true), ("home/u2", true)));
    assert!(!overlap(("home/u/docs", true), ("home/u/music", true)));
}

#[test]
fn a_folder_without_r_overlaps_a_file_in_it() {
    assert!(overlap(("home/u", false), ("home/u/notes.txt", false)));
}

#[test]
fn copies_do_not_disturb_each_other() {
    let mut table = LeaseTable::new();
    table.try_acquire("n/u", &rel("a"), true, holder(1)).unwrap();
    table.try_acquire("n/v", &rel("a"), true, holder(2)).unwrap();
    let conflict = table.try_acquire("n/u", &rel("a/b"), true, holder(3)).unwrap_err();
    assert_eq!(conflict.holder, holder(1));
    assert_eq!(conflict.to_string(), "locked by the backup of '/a' (run 1)");
}

#[test]
fn nobody_overtakes_whom_they_would_delay() {
    let mut table = LeaseTable::new();
    let first = table.try_acquire("n/u", &rel("a/b"), true, holder(1)).unwrap();
    let waiting = table.enqueue("n/u", &rel("a"), true, holder(2));
    assert!(matches!(table.poll(waiting), Some(Err(conflict)) if conflict.holder == holder(1)));
    let late = table.try_acquire("n/u", &rel("a/c"), true, holder(3)).unwrap_err();
    assert_eq!((late.holder, late.queued), (holder(2), true));
    let disjoint = table.try_acquire("n/u", &rel("z"), true, holder(4)).unwrap();
    let behind = table.enqueue("n/u", &rel("a/c"), true, holder(5));
    assert!(table.release(first));
    assert!(matches!(table.poll(behind), Some(Err(conflict)) if conflict.queued));
    assert_eq!(table.poll(waiting), Some(Ok(())));
    assert_eq!(table.poll(waiting), Some(Ok(())));
    assert!(table.release(waiting) && table.release(disjoint));
    assert!(!table.release(waiting));
    assert_eq!(table.poll(waiting), None);
    assert_eq!(table.poll(behind), Some(Ok(())));
    assert_eq!((table.held().count(), table.queued().count()), (1, 0));
}

#[test]
fn who_leaves_the_queue_holds_up_nobody() {
    let mut table = LeaseTable::new();
    table.try_acquire("n/u", &rel("a/b"), true, holder(1)).unwrap();
    let waiting = table.enqueue("n/u", &rel("a"), true, holder(2));
    assert!(table.release(waiting));
    table.try_acquire("n/u", &rel("a/c"), true, holder(3)).unwrap();
}

#[test]
fn the_same_run_takes_its_lease_over() {
    let mut table = LeaseTable::new();
    let old = table.try_acquire("n/u", &rel("a"), true, holder(1)).unwrap();
    let other_run = Holder { run: RunId([9; 16]), ..holder(1) };
    let other_key = Holder { key: [9; 32], ..holder(1) };
    assert_eq!(table.take_over("n/u", &rel("a"), true, other_run), None);
    assert_eq!(table.take_over("n/u", &rel("a"), true, other_key), None);
    assert_eq!(table.take_over("n/u", &rel("a/b"), true, holder(1)), None);
    let new = table.take_over("n/u", &rel("a"), true, holder(1)).unwrap();
    assert!(!table.release(old), "the lost connection's late release must not end the new lease");
    assert!(table.try_acquire("n/u", &rel("a"), true, holder(2)).is_err());
    assert!(table.release(new));
    table.try_acquire("n/u", &rel("a"), true, holder(2)).unwrap();
}

#[derive(Clone, Debug)]
enum Step {
    Try(&'static str, bool),
    Enqueue(&'static str, bool),
    Poll(usize),
    Release(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let root = proptest::sample::select(vec!["", "a", "a/b", "a/b/c", "a/d", "ab", "z", "z/y"]);
    prop_oneof![
        (root.clone(), any::<bool>()).prop_map(|(root, r)| Step::Try(root, r)),
        (root, any::<bool>()).prop_map(|(root, r)| Step::Enqueue(root, r)),
        (0usize..12).prop_map(Step::Poll),
        (0usize..12).prop_map(Step::Release),
    ]
}

proptest! {
    /// Against a list in the order of asking: a claim may be granted when nothing before it in the queue and nothing
    /// that is held overlaps it.
    #[test]
    fn behaves_as_a_fair_list(steps in proptest::collection::vec(step(), 1..60)) {
        let mut table = LeaseTable::new();
        let mut model: Vec<(LeaseId, Scope, bool)> = Vec::new();
        for (n, step) in steps.into_iter().enumerate() {
            let scope = |root: &str, recursive| Scope { copy: "n/u".into(), root: rel(root), recursive };
            let free = |scope: &Scope, model: &[(LeaseId, Scope, bool)], place: usize| {
                !model.iter().enumerate().any(|(i, (_, other, held))| (*held || i < place) && other.overlaps(scope))
            };
            match step {
                Step::Try(root, recursive) => {
                    let expected = free(&scope(root, recursive), &model, model.len());
                    let result = table.try_acquire("n/u", &rel(root), recursive, holder(n as u8));
                    prop_assert_eq!(result.is_ok(), expected);
                    model.extend(result.ok().map(|id| (id, scope(root, recursive), true)));
                }
                Step::Enqueue(root, recursive) => {
                    let id = table.enqueue("n/u", &rel(root), recursive, holder(n as u8));
                    model.push((id, scope(root, recursive), false));
                }
                Step::Poll(i) if i < model.len() => {
                    let (id, scope, held) = model[i].clone();
                    let expected = held || free(&scope, &model, i);
                    prop_assert_eq!(table.poll(id).unwrap().is_ok(), expected);
                    model[i].2 = expected;
                }
                Step::Release(i) if i < model.len() => prop_assert!(table.release(model.remove(i).0)),
                Step::Poll(_) | Step::Release(_) => {}
            }
            let held: Vec<&Scope> = table.held().map(|(scope, _)| scope).collect();
            for (i, a) in held.iter().enumerate() {
                prop_assert!(held[i + 1..].iter().all(|b| !a.overlaps(b)));
            }
        }
        // With nothing held, everybody gets a turn in order.
        for (id, ..) in model.iter().filter(|(.., held)| *held) {
            table.release(*id);
        }
        for (id, ..) in model.iter().filter(|(.., held)| !held) {
            prop_assert_eq!(table.poll(*id), Some(Ok(())));
            table.release(*id);
        }
    }
}
