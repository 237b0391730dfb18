//! Who is waited for, and for how long.

use std::time::Duration;

use super::super::*;
use super::world::{World, rules, secs};
use super::{A, B, C, OWN, prepared, sending};

/// On a disk that all share, all are slow: who is not needed has as long as the others took, within bounds.
#[test]
fn who_is_not_needed_may_take_as_long_as_the_others_took() {
    for (took, has) in [(0, 2), (1, 2), (5, 5), (100, 10)] {
        // Verdicts.
        let mut world = sending(true, 1, 2);
        world.send_manifest();
        for _ in 0..took {
            world.now += secs(1);
            for target in [OWN, A, B] {
                world.tell(Event::Busy { target, phase: 2 });
            }
        }
        world.obey(OWN);
        world.obey(A);
        world.pass(secs(has - 1));
        assert!(world.outcome().is_none() && world.peer(B).owes.is_some(), "{took} s");
        world.pass(secs(1));
        assert!(world.peer(B).owes.is_none(), "{took} s");
        // Commits: the own store's counts, which comes first.
        let mut world = prepared(true, 1, 2);
        for _ in 0..took {
            world.now += secs(1);
            world.tell(Event::Busy { target: OWN, phase: 4 });
        }
        world.obey(OWN);
        world.go_on(|target| target == A);
        world.pass(secs(has - 1));
        assert_eq!(world.outcome(), None, "{took} s");
        world.pass(secs(1));
        assert_eq!(world.receipt(), ["store held", "d1 held", "d2 behind"]);
        let (_, receipt) = world.end.as_ref().unwrap();
        assert_eq!(receipt[2].state, TargetState::Behind(Reason::AtWork), "it goes on by itself");
    }
}

#[test]
fn the_slowest_needed_one_sets_the_pace() {
    let full = |target| Event::Queue { target, level: Level::Full };
    let mut world = sending(true, 2, 3);
    let slow = |target| Action::Drop { target, reason: Reason::Slow };
    assert_eq!(world.tell(full(C)), [slow(C)], "not needed");
    assert_eq!(world.tell(full(B)), [Action::Pause], "needed now");
    world.pass(secs(20));
    world.tell(Event::Progress { target: B });
    world.pass(secs(20));
    assert_eq!(world.tell(Event::Queue { target: B, level: Level::Some }), [Action::Resume]);
    assert_eq!(world.tell(full(OWN)), [Action::Pause]);
    let mut world = sending(true, 0, 1);
    assert_eq!(world.tell(full(A)), [slow(A)]);
    // In a round for returners who holds the snapshot counts.
    let mut world = prepared(false, 2, 2);
    world.connect(C);
    world.obey(A);
    world.obey(A);
    world.lose(B);
    world.obey(B);
    world.obey(C);
    assert!(world.sending);
    assert_eq!(world.tell(full(B)), [slow(B)]);
}

/// The queue of who is fast fills up in a fraction of a second.
#[test]
fn a_moments_standstill_of_the_fastest_does_not_leave_the_run_to_the_slowest() {
    let level = |target, level| Event::Queue { target, level };
    let mut world = sending(true, 1, 2);
    for target in [OWN, A, B] {
        assert_eq!(world.tell(level(target, Level::Some)), []);
    }
    // A stands still, and B's line is slow.
    assert_eq!(world.tell(level(A, Level::Full)), [Action::Pause]);
    assert_eq!(world.tell(level(B, Level::Full)), []);
    assert_eq!(world.tell(level(OWN, Level::Empty)), []);
    assert_eq!(world.tell(level(B, Level::Some)), [], "there is something left to do for B");
    assert_eq!(world.tell(level(A, Level::Some)), [Action::Resume]);
    assert_eq!(world.tell(level(B, Level::Full)), [Action::Pause], "and for A");
    let slow = |target| [Action::Resume, Action::Drop { target, reason: Reason::Slow }];
    assert_eq!(world.tell(level(A, Level::Empty)), slow(B));
    // Who stands still for as long as a slow one takes for all that waited is no better.
    let mut world = sending(true, 1, 2);
    world.tell(level(B, Level::Some));
    assert_eq!(world.tell(level(A, Level::Full)), [Action::Pause]);
    assert_eq!(world.tell(level(B, Level::Empty)), slow(A));
    // Nor is the own store, which is always needed.
    let mut world = sending(true, 0, 1);
    world.tell(level(OWN, Level::Some));
    assert_eq!(world.tell(level(A, Level::Full)), [Action::Pause]);
    assert_eq!(world.tell(level(OWN, Level::Empty)), slow(A));
}

#[test]
fn who_does_not_enter_has_longer_where_copies_are_wanted() {
    for (wanted, has) in [(0, 2), (1, 10)] {
        let mut world = World::new(rules(true, wanted), 2);
        world.obey(OWN);
        world.obey(A);
        world.pass(secs(has - 1));
        assert!(!world.sending, "{wanted} copies");
        world.pass(secs(1));
        assert!(world.sending && world.peer(B).owes.is_none(), "{wanted} copies");
    }
}

/// Each time a little, by a queue or an answer: all of it together counts, and not what passes while it holds up nobody.
#[test]
fn who_holds_up_the_run_again_and_again_goes() {
    let level = |target, level| Event::Queue { target, level };
    let half = Duration::from_millis(250);
    for (wanted, has) in [(0, 2), (1, 4)] {
        let mut world = sending(true, wanted, 2);
        let (began, mut held_up) = (world.now, Duration::ZERO);
        // Its first answer does not count.
        let answer = |world: &mut World, late: Duration| {
            world.ask();
            let question = *world.open_questions.first().unwrap();
            world.tell(Event::Answered { target: OWN, question });
            world.tell(Event::Answered { target: A, question });
            world.now += late;
            world.tell(Event::Tick);
            if world.peer(B).owes.is_some() {
                world.tell(Event::Answered { target: B, question });
            }
        };
        answer(&mut world, secs(1));
        while world.peer(B).owes.is_some() {
            for target in [OWN, A] {
                world.tell(level(target, Level::Some));
            }
            world.tell(level(B, Level::Full));
            world.now += half;
            world.tell(level(B, Level::Some));
            world.now += half;
            answer(&mut world, 2 * half);
            world.now += half;
            world.tell(Event::Tick);
            held_up += 3 * half;
        }
        // An answer that comes at once is not late.
        let has = secs(has) + (world.now - began) / 10;
        assert!(held_up > has && held_up <= has * 3 / 2 + secs(1), "{held_up:?} instead of {has:?}");
    }
    // Nobody waits for it while the one that is needed has no room either.
    let mut world = sending(true, 1, 2);
    for target in [A, B] {
        world.tell(level(target, Level::Full));
    }
    for _ in 0..25 {
        world.now += secs(1);
        for target in [A, B] {
            world.tell(Event::Progress { target });
        }
    }
    assert!(world.peer(B).owes.is_some());
}

/// The source asks ahead, and the answers of who is far away come as fast as those of the others, only later.
#[test]
fn a_long_line_alone_holds_up_nothing() {
    for (own, wanted, behind) in [(true, 0, 2), (true, 0, 20), (true, 1, 20), (false, 1, 20)] {
        let mut world = sending(own, wanted, 2);
        let mut asked = Vec::new();
        for _ in 0..250 {
            world.now += Duration::from_millis(100);
            world.ask();
            let question = Question(asked.len() as u64 + 1);
            asked.push(question);
            if own {
                world.tell(Event::Answered { target: OWN, question });
            }
            world.tell(Event::Answered { target: A, question });
            if let Some(question) = asked.len().checked_sub(behind).and_then(|at| asked.get(at)) {
                world.tell(Event::Answered { target: B, question: *question });
            }
        }
        assert!(world.peer(B).owes.is_some(), "{own} {wanted}: {behind} behind");
    }
}

#[test]
fn a_question_waits_for_n_and_a_little_for_the_rest() {
    let mut world = sending(true, 1, 2);
    world.ask();
    let question = Question(1);
    world.tell(Event::Answered { target: A, question });
    world.pass(secs(5));
    assert_eq!(world.tell(Event::Answered { target: OWN, question }), [], "the rest has time from now on");
    // It may be the best of all.
    world.pass(secs(11));
    world.now += secs(1);
    let told = world.tell(Event::Tick);
    assert_eq!(told, [Action::Drop { target: B, reason: Reason::Slow }, Action::Reply { question }]);
    // Who goes for another reason is not waited for either.
    let mut world = sending(true, 1, 2);
    world.ask();
    world.tell(Event::Answered { target: OWN, question });
    world.tell(Event::Answered { target: A, question });
    let told = world.tell(Event::Queue { target: B, level: Level::Full });
    assert_eq!(told, [Action::Drop { target: B, reason: Reason::Slow }, Action::Reply { question }]);
    // Needed ones are waited for, as long as they live.
    let mut world = sending(true, 2, 2);
    world.ask();
    world.tell(Event::Answered { target: OWN, question });
    world.tell(Event::Answered { target: A, question });
    for _ in 0..3 {
        world.pass(secs(29));
        world.tell(Event::Busy { target: B, phase: 1 });
    }
    assert_eq!(world.tell(Event::Answered { target: B, question }), [Action::Reply { question }]);
}

#[test]
fn a_stopped_one_is_dropped_after_30_seconds_and_a_busy_one_after_10_minutes() {
    let mut world = sending(true, 2, 2);
    world.pass(secs(1000));
    world.ask();
    world.tell(Event::Answered { target: OWN, question: Question(1) });
    world.tell(Event::Answered { target: A, question: Question(1) });
    world.pass(secs(29));
    assert!(world.peer(B).owes.is_some(), "it owed nothing before it was asked");
    world.now += secs(1);
    let told = world.tell(Event::Tick);
    assert_eq!(told, [Action::Drop { target: B, reason: Reason::Stalled }, Action::Reply { question: Question(1) }]);

    let mut world = prepared(true, 2, 2);
    world.obey(OWN);
    for phase in [3, 4] {
        for _ in 0..59 {
            world.now += secs(10);
            for target in [A, B] {
                world.tell(Event::Busy { target, phase });
            }
        }
    }
    assert!(world.peer(B).owes.is_some(), "another phase is progress");
    world.now += secs(10);
    world.tell(Event::Busy { target: A, phase: 4 });
    world.now += secs(1);
    world.obey(A);
    world.tell(Event::Busy { target: B, phase: 4 });
    world.now += secs(10);
    let told = world.tell(Event::Busy { target: B, phase: 4 });
    assert!(told.contains(&Action::Drop { target: B, reason: Reason::BusyTooLong }), "{told:?}");
}
