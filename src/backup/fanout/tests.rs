//! What an operator would notice of the rules, and what must hold whatever happens.

mod oracle;
mod pace;
mod random;
mod world;

use super::*;
use world::{MANIFEST, OTHER, World, rules, secs, snapshot};

const OWN: TargetId = TargetId::OWN;
const A: TargetId = TargetId(1);
const B: TargetId = TargetId(2);
const C: TargetId = TargetId(3);

fn is_own(id: TargetId) -> bool {
    id == OWN
}

/// A world whose targets are all granted; content may come.
fn sending(own: bool, wanted: u32, destinations: u32) -> World {
    let mut world = World::new(rules(own, wanted), destinations);
    for id in [OWN, A, B, C] {
        world.obey(id);
    }
    assert!(world.sending);
    world
}

/// Everybody is prepared; with an own store that one alone is told to commit.
fn prepared(own: bool, wanted: u32, destinations: u32) -> World {
    let mut world = sending(own, wanted, destinations);
    world.send_manifest();
    for id in [OWN, A, B, C] {
        world.obey(id);
    }
    world
}

#[test]
fn three_of_three() {
    let mut world = World::new(rules(true, 3), 3);
    world.go_on(|_| true);
    assert_eq!(world.outcome(), Some(&Outcome::Done));
    assert_eq!(world.receipt(), ["store held", "d1 held", "d2 held", "d3 held"]);
}

#[test]
fn it_says_how_many_there_are_and_starts_when_there_are_enough() {
    let mut world = World::new(rules(true, 3), 2);
    assert_eq!(world.history[0].actions, [Action::Announce { connected: 2, wanted: 3 }]);
    // One leaves before the start: it is off the list, and out of the count.
    assert_eq!(world.tell(Event::Gone { target: B }), [Action::Announce { connected: 1, wanted: 3 }]);
    assert_eq!(world.tell(Event::Tick), [], "nothing new");
    world.connect(C);
    let started = world.tell(Event::Connected { target: TargetId(4), name: "d4".to_owned() });
    assert_eq!(started, [Action::Announce { connected: 3, wanted: 3 }, Action::Start { target: OWN }]);
    let opened = world.tell(Event::Granted { target: OWN });
    assert_eq!(opened, [A, C, TargetId(4)].map(|target| Action::Start { target }));
    world.go_on(|_| true);
    assert_eq!(world.receipt(), ["store held", "d1 held", "d3 held", "d4 held"]);
}

#[test]
fn who_waits_for_copies_waits_as_long_as_was_asked_for() {
    let mut world = World::new(Rules { gather_for: Some(secs(10)), ..rules(true, 2) }, 1);
    world.pass(secs(9));
    assert_eq!(world.outcome(), None);
    world.pass(secs(1));
    assert_eq!(world.outcome(), Some(&Outcome::TooFew));
    assert_eq!(world.receipt(), ["store behind", "d1 behind"]);
    let mut world = World::new(rules(true, 2), 1);
    world.pass(secs(1_000_000));
    assert_eq!(world.outcome(), None, "for ever");
}

#[test]
fn without_copies_the_own_store_alone_decides() {
    let mut world = sending(true, 0, 2);
    assert_eq!(world.history[0].actions, [Action::Start { target: OWN }], "nothing is announced");
    world.send_manifest();
    world.obey(OWN);
    // The others have a little time.
    world.obey(A);
    world.pass(secs(2));
    world.go_on(is_own);
    world.pass(secs(2));
    assert_eq!(world.outcome(), Some(&Outcome::Done));
    assert_eq!(world.receipt(), ["store held", "d1 behind", "d2 behind"]);
}

#[test]
fn the_own_store_comes_first_and_if_it_fails_nobody_commits() {
    let mut world = prepared(true, 2, 2);
    assert!(world.history.last().unwrap().actions.contains(&Action::Commit { target: OWN }));
    let done = world.tell(Event::Committed { target: OWN, snapshot: snapshot(MANIFEST) });
    assert_eq!(done, [A, B].map(|target| Action::Commit { target }));

    let mut world = prepared(true, 2, 2);
    world.tell(Event::Refused { target: OWN, why: "no space".to_owned() });
    assert_eq!(world.outcome(), Some(&Outcome::OwnFailed(Reason::Refused("no space".to_owned()))));
    assert_eq!(world.receipt(), ["store failed", "d1 behind", "d2 behind"]);
}

#[test]
fn a_lost_one_that_is_not_needed_is_named_and_a_needed_one_is_waited_for() {
    let mut world = sending(true, 2, 3);
    world.lose(B);
    world.tell(Event::Gone { target: B });
    world.go_on(|_| true);
    assert_eq!(world.outcome(), Some(&Outcome::Done));
    assert_eq!(world.receipt(), ["store held", "d1 held", "d2 behind", "d3 held"]);

    let mut world = sending(true, 3, 3);
    world.lose(B);
    world.tell(Event::Gone { target: B });
    world.go_on(|_| true);
    assert_eq!(world.outcome(), None);
    world.pass(secs(59));
    assert_eq!(world.outcome(), None);
    world.pass(secs(1));
    assert_eq!(world.outcome(), Some(&Outcome::TooFew));
    assert_eq!(world.receipt(), ["store held", "d1 held", "d2 behind", "d3 held"]);
}

#[test]
fn a_returner_catches_up_from_the_own_store() {
    let mut world = sending(true, 2, 2);
    world.lose(B);
    world.tell(Event::Gone { target: B });
    world.go_on(|_| true);
    world.pass(secs(30));
    let back = world.tell(Event::Connected { target: B, name: "d2".to_owned() });
    assert!(back.contains(&Action::CatchUp { target: B }), "{back:?}");
    // However long that takes, as long as something happens.
    for _ in 0..20 {
        world.pass(secs(29));
        world.tell(Event::Progress { target: B });
    }
    world.go_on(|_| true);
    assert_eq!(world.outcome(), Some(&Outcome::Done));
    assert_eq!(world.receipt(), ["store held", "d1 held", "d2 held"]);
}

#[test]
fn a_run_that_the_own_store_has_already_only_needs_its_copies() {
    let mut world = World::new(rules(true, 1), 1);
    let held = world.tell(Event::AlreadyHeld { target: OWN, snapshot: snapshot(MANIFEST) });
    assert_eq!(held, [Action::Announce { connected: 1, wanted: 1 }, Action::CatchUp { target: A }][1..]);
    world.go_on(|_| true);
    assert_eq!(world.receipt(), ["store held", "d1 held"]);
}

#[test]
fn a_relay_commits_nothing_before_n_are_prepared() {
    let mut world = sending(false, 2, 2);
    world.send_manifest();
    world.obey(A);
    world.lose(B);
    world.tell(Event::Gone { target: B });
    world.pass(secs(59));
    assert!(world.history.iter().flat_map(|m| &m.actions).all(|a| !matches!(a, Action::Commit { .. })));
    world.pass(secs(1));
    assert_eq!(world.outcome(), Some(&Outcome::TooFew));
    assert_eq!(world.receipt(), ["d1 behind", "d2 behind"]);
}

#[test]
fn a_relay_takes_a_returner_in_and_asks_the_source_again() {
    let mut world = sending(false, 2, 2);
    world.lose(B);
    world.tell(Event::Gone { target: B });
    world.send_manifest();
    world.obey(A);
    world.connect(B);
    let granted = world.tell(Event::Granted { target: B });
    assert_eq!(granted, [Action::AskSource]);
    // The round is for everybody.
    world.go_on(|_| true);
    assert_eq!(world.outcome(), Some(&Outcome::Done));
    assert_eq!(world.receipt(), ["d1 held", "d2 held"]);
}

#[test]
fn after_a_relay_was_lost_between_commits_the_same_run_goes_on() {
    let mut world = World::new(rules(false, 2), 2);
    world.tell(Event::AlreadyHeld { target: A, snapshot: snapshot(MANIFEST) });
    world.go_on(|_| true);
    assert_eq!(world.receipt(), ["d1 held", "d2 held"]);
    // With other content it is another snapshot.
    let mut world = World::new(rules(false, 1), 1);
    world.tell(Event::AlreadyHeld { target: A, snapshot: snapshot(OTHER) });
    world.go_on(|_| true);
    world.pass(secs(60));
    assert_eq!((world.outcome(), world.receipt()), (Some(&Outcome::TooFew), vec!["d1 failed".to_owned()]));
}

#[test]
fn a_returner_of_a_relay_may_have_committed_before_it_was_lost() {
    let mut world = prepared(false, 2, 2);
    world.obey(A);
    world.obey(A);
    world.lose(B);
    world.tell(Event::Gone { target: B });
    world.connect(B);
    // No content and no manifest for what it holds; but its word alone is not enough.
    let told = world.tell(Event::AlreadyHeld { target: B, snapshot: snapshot(MANIFEST) });
    assert_eq!(told, [Action::Challenge { target: B }]);
    world.obey(B);
    assert_eq!(
        (world.outcome(), world.receipt()),
        (Some(&Outcome::Done), vec!["d1 held".to_owned(), "d2 held".to_owned()])
    );
    // What it holds may be something else.
    let mut world = prepared(false, 2, 2);
    world.obey(A);
    world.obey(A);
    world.lose(B);
    let told = world.tell(Event::AlreadyHeld { target: B, snapshot: snapshot(OTHER) });
    assert_eq!(told, [Action::Drop { target: B, reason: Reason::OtherSnapshot }]);
}

#[test]
fn a_returner_of_a_relay_that_came_for_the_commit_gets_a_round_of_its_own() {
    let mut world = prepared(false, 2, 2);
    world.obey(A);
    world.obey(A);
    world.lose(B);
    assert_eq!(world.tell(Event::Granted { target: B }), [Action::AskSource]);
    // Nobody else takes part in it: A holds the snapshot.
    world.send_manifest();
    assert_eq!(world.peer(A).owes, Some(world::Owes::Nothing));
    let told = world.tell(Event::Prepared { target: B, manifest: MANIFEST });
    assert_eq!(told, [Action::Commit { target: B }]);
    world.go_on(|_| true);
    assert_eq!(world.receipt(), ["d1 held", "d2 held"]);
}

#[test]
fn who_misses_content_gets_another_round_unless_it_is_not_needed() {
    let missing = |wanted: u32| {
        let mut world = sending(true, wanted, 2);
        world.send_manifest();
        world.obey(OWN);
        world.obey(A);
        world.tell(Event::Missing { target: B })
    };
    assert_eq!(missing(2), [Action::AskSource]);
    let slow = Action::Drop { target: B, reason: Reason::Slow };
    assert_eq!(missing(1), [slow, Action::Commit { target: OWN }]);
    // Rounds come to an end.
    let mut world = sending(true, 2, 2);
    for round in 1..=5 {
        world.send_manifest();
        world.obey(OWN);
        world.obey(A);
        let told = world.tell(Event::Missing { target: B });
        assert_eq!(told.contains(&Action::AskSource), round < 5, "round {round}");
    }
    world.go_on(|_| true);
    world.pass(secs(60));
    assert_eq!(world.receipt(), ["store held", "d1 held", "d2 failed"]);
}

#[test]
fn questions_are_answered_in_the_order_in_which_they_were_asked() {
    let mut world = sending(true, 1, 1);
    world.ask();
    world.ask();
    let [first, second] = [1, 2].map(Question);
    for (target, question) in [(OWN, second), (A, second), (A, first)] {
        assert_eq!(world.tell(Event::Answered { target, question }), []);
    }
    let told = world.tell(Event::Answered { target: OWN, question: first });
    assert_eq!(told, [first, second].map(|question| Action::Reply { question }));

    // Those who came after a question was asked are not waited for, and do not make it overtake another.
    let mut world = sending(false, 2, 3);
    world.ask();
    world.lose(A);
    world.lose(C);
    for target in [A, C] {
        assert!(world.obey(target));
    }
    world.ask();
    for target in [A, C] {
        world.tell(Event::Answered { target, question: second });
    }
    world.now += secs(12);
    let told = world.tell(Event::Tick);
    let replies = [first, second].map(|question| Action::Reply { question });
    assert_eq!(told, [&[Action::Drop { target: B, reason: Reason::Slow }][..], &replies].concat());
}

#[test]
fn who_is_busy_with_ever_new_things_is_not_waited_for_for_ever() {
    let mut world = prepared(true, 1, 1);
    world.obey(OWN);
    let begun = world.now;
    let dropped = Action::Drop { target: A, reason: Reason::BusyTooLong };
    let is_dropped = |world: &mut World, phase| {
        world.now += secs(10);
        world.tell(Event::Busy { target: A, phase }).contains(&dropped)
    };
    let last = (0..=u8::MAX).cycle().take(1000).find(|phase| is_dropped(&mut world, *phase));
    assert!(last.is_some() && world.now >= begun + secs(4 * 600) && world.now < begun + secs(5 * 600));
}

#[test]
fn a_wrong_word_is_a_failure_and_not_a_copy() {
    for (what, event) in [
        ("another manifest", Event::Committed { target: A, snapshot: snapshot(OTHER) }),
        (
            "another run",
            Event::Committed { target: A, snapshot: SnapshotName { run: RunId([0; 16]), manifest: MANIFEST } },
        ),
    ] {
        let mut world = prepared(true, 1, 1);
        world.obey(OWN);
        world.tell(event);
        world.pass(secs(60));
        assert_eq!(world.receipt(), ["store held", "d1 failed"], "{what}");
        assert_eq!(world.outcome(), Some(&Outcome::TooFew));
    }
    let mut world = prepared(true, 1, 1);
    world.obey(OWN);
    world.obey(A);
    world.tell(Event::Proved { target: A, right: false });
    world.pass(secs(60));
    assert_eq!(world.receipt(), ["store held", "d1 failed"], "no proof");
    let mut world = sending(true, 1, 1);
    world.send_manifest();
    world.obey(OWN);
    world.tell(Event::Prepared { target: A, manifest: OTHER });
    world.go_on(is_own);
    world.pass(secs(60));
    assert_eq!(world.receipt(), ["store held", "d1 failed"], "prepared for something else");
}

#[test]
fn a_full_disk_fails_one_and_the_others_go_on() {
    let mut world = sending(true, 2, 3);
    let why = "no space".to_owned();
    world.tell(Event::Refused { target: B, why: why.clone() });
    world.go_on(|_| true);
    assert_eq!(world.outcome(), Some(&Outcome::Done));
    assert_eq!(world.receipt(), ["store held", "d1 held", "d2 failed", "d3 held"]);
    let (_, receipt) = world.end.unwrap();
    assert_eq!(receipt[2].state, TargetState::Failed(Reason::Refused(why)));
}

#[test]
fn who_speaks_out_of_turn_is_not_listened_to_again() {
    let mut world = sending(true, 1, 2);
    let told = world.tell(Event::Committed { target: A, snapshot: snapshot(MANIFEST) });
    assert_eq!(told, [Action::Drop { target: A, reason: Reason::OutOfTurn }]);
    world.go_on(|_| true);
    assert_eq!(world.receipt(), ["store held", "d1 failed", "d2 held"]);
}

#[test]
fn a_lost_source_ends_the_run_but_not_a_commit() {
    let mut world = sending(true, 2, 2);
    world.tell(Event::SourceLost);
    assert_eq!(world.outcome(), Some(&Outcome::Abandoned));
    let mut world = prepared(true, 2, 2);
    world.tell(Event::SourceLost);
    assert_eq!(world.outcome(), None);
    world.go_on(|_| true);
    assert_eq!((world.outcome(), world.receipt().len()), (Some(&Outcome::Abandoned), 3));
    assert!(world.receipt().iter().all(|line| line.ends_with("held")));
}
