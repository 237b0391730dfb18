//! Random interleavings of everything that can happen, each moment checked by the oracle; then the run must end: in
//! silence, and well, if whoever is needed comes.

use proptest::prelude::*;

use super::super::*;
use super::world::{MANIFEST, OTHER, Owes, RUN, World, rules, secs, snapshot};
use super::{OWN, is_own};

/// Destinations that there may be.
const DESTINATIONS: u32 = 5;

/// What happens next, as far as it can.
#[derive(Clone, Copy, Debug)]
enum Step {
    Obey(u32),
    Err(u32, u8),
    Lose(u32),
    Refuse(u32),
    Connect(u32),
    Leave(u32),
    Level(u32, Level),
    Busy(u32, u8),
    Progress(u32),
    Ask,
    SendManifest,
    Everybody,
    Pass(u64),
    SourceLost,
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..=DESTINATIONS;
    let level = prop_oneof![Just(Level::Empty), Just(Level::Some), Just(Level::Full)];
    prop_oneof![
        20 => who.clone().prop_map(Step::Obey),
        3 => (who.clone(), 0u8..6).prop_map(|(who, how)| Step::Err(who, how)),
        2 => (1..=DESTINATIONS).prop_map(Step::Lose),
        1 => who.clone().prop_map(Step::Refuse),
        4 => (1..=DESTINATIONS).prop_map(Step::Connect),
        2 => (1..=DESTINATIONS).prop_map(Step::Leave),
        5 => (who.clone(), level).prop_map(|(who, level)| Step::Level(who, level)),
        2 => (who.clone(), 1u8..3).prop_map(|(who, phase)| Step::Busy(who, phase)),
        1 => who.prop_map(Step::Progress),
        6 => Just(Step::Ask),
        5 => Just(Step::SendManifest),
        3 => Just(Step::Everybody),
        5 => prop_oneof![Just(1u64), Just(2), Just(10), Just(29), Just(31)].prop_map(Step::Pass),
        1 => Just(Step::SourceLost),
    ]
}

fn take(world: &mut World, step: Step) {
    let part = |world: &World, id| world.peers.get(&id).and_then(|peer| peer.owes);
    match step {
        Step::Obey(id) => {
            world.obey(TargetId(id));
        }
        Step::Err(id, how) => err(world, TargetId(id), how),
        Step::Lose(id) if world.peers.contains_key(&TargetId(id)) => world.lose(TargetId(id)),
        Step::Refuse(id) if part(world, TargetId(id)).is_some() => {
            world.tell(Event::Refused { target: TargetId(id), why: "no".to_owned() });
        }
        Step::Connect(id) => world.connect(TargetId(id)),
        Step::Leave(id) if world.peers.contains_key(&TargetId(id)) => {
            world.tell(Event::Gone { target: TargetId(id) });
        }
        Step::Level(id, level) if part(world, TargetId(id)) == Some(Owes::Nothing) => {
            world.tell(Event::Queue { target: TargetId(id), level });
        }
        Step::Busy(id, phase) if part(world, TargetId(id)).is_some() => {
            world.tell(Event::Busy { target: TargetId(id), phase });
        }
        Step::Progress(id) if part(world, TargetId(id)).is_some() => {
            world.tell(Event::Progress { target: TargetId(id) });
        }
        Step::Ask => world.ask(),
        Step::SendManifest => world.send_manifest(),
        Step::Everybody => {
            for id in 0..=DESTINATIONS {
                if world.end.is_none() {
                    world.obey(TargetId(id));
                }
            }
        }
        Step::Pass(time) => world.pass(secs(time)),
        Step::SourceLost => {
            world.tell(Event::SourceLost);
        }
        _ => {}
    }
}

/// Does what it is asked for in another way than expected.
fn err(world: &mut World, target: TargetId, how: u8) {
    let Some(owes) = world.peers.get(&target).and_then(|peer| peer.owes) else { return };
    let said = match how {
        0 | 1 => snapshot(MANIFEST),
        2 => SnapshotName { run: RunId([0; 16]), manifest: MANIFEST },
        _ => snapshot(OTHER),
    };
    assert_eq!(snapshot(MANIFEST).run, RUN);
    let event = match owes {
        Owes::Grant => Event::AlreadyHeld { target, snapshot: said },
        Owes::Verdict if how == 5 => Event::Prepared { target, manifest: OTHER },
        Owes::Verdict => Event::Missing { target },
        Owes::Commit => Event::Committed { target, snapshot: said },
        Owes::CatchUp => Event::CaughtUp { target, snapshot: said },
        Owes::Proof => Event::Proved { target, right: how < 2 },
        // Out of turn.
        Owes::Nothing if how == 5 => Event::Committed { target, snapshot: said },
        Owes::Nothing => return,
    };
    world.tell(event);
}

fn run(own: bool, wanted: u32, destinations: u32, gather_for: Option<u64>, steps: &[Step]) -> World {
    let gather_for = gather_for.map(secs);
    let mut world = World::new(Rules { gather_for, ..rules(own, wanted) }, destinations);
    for step in steps {
        if world.end.is_none() {
            take(&mut world, *step);
        }
    }
    world
}

/// Only the own store and the source do anything any more, and time passes.
fn silence(world: &mut World) {
    let bound = secs(30 + 600 + 60) * 4;
    let until = world.now + bound;
    while world.end.is_none() && world.now < until {
        world.go_on(is_own);
        if world.end.is_none() {
            world.pass(secs(10));
        }
    }
}

/// As many new destinations come as are needed, and do all that they are asked for.
fn help(world: &mut World) {
    let first = DESTINATIONS + 1;
    for id in first..first + world.wanted() {
        if world.end.is_none() {
            world.connect(TargetId(id));
        }
    }
    for _ in 0..200 {
        if world.end.is_some() {
            return;
        }
        world.go_on(|id| id == OWN || id.0 >= first);
        if world.end.is_none() {
            world.pass(secs(1));
        }
    }
}

proptest! {
    #[test]
    fn what_must_hold_holds_and_every_run_ends(
        own: bool,
        wanted in 0u32..4,
        destinations in 0u32..4,
        gather_for in proptest::option::of(0u64..40),
        steps in proptest::collection::vec(step(), 0..70),
    ) {
        let mut world = run(own, wanted, destinations, gather_for, &steps);
        let began = world.history.iter().any(|moment| moment.actions.iter().any(|a| matches!(a, Action::Start { .. })));
        silence(&mut world);
        let waits_for_ever = !began && gather_for.is_none();
        prop_assert!(world.end.is_some() || waits_for_ever, "it does not end: {:?}", world.history.last());
    }

    #[test]
    fn if_the_needed_come_it_ends_well(
        own: bool,
        wanted in 0u32..4,
        destinations in 0u32..4,
        steps in proptest::collection::vec(step(), 0..40),
    ) {
        let mut world = run(own, wanted, destinations, None, &steps);
        if world.end.is_some() || world.source_lost {
            return Ok(());
        }
        let rounds = world.history.iter().filter(|moment| moment.actions.contains(&Action::AskSource)).count();
        help(&mut world);
        let outcome = world.outcome().cloned();
        let well = outcome == Some(Outcome::Done);
        // The source does not send for ever.
        prop_assert!(well || rounds >= 2, "{outcome:?}: {:?}", world.history);
    }
}
