//! What must hold of every run, said as plainly as possible: each rule looks through the whole history anew. Slow, and
//! independent of how the machine keeps its books.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::*;
use super::world::{Moment, World, snapshot, target_of};

/// Checks the last moment of a world.
pub(super) fn check(world: &World) {
    let facts = Facts { world, history: &world.history };
    facts.nobody_is_ahead();
    facts.the_source_waits_only_for_who_is_needed();
    facts.replies_wait_for_all_who_stay();
    facts.drops_have_a_cause();
    facts.silence_is_noticed();
    facts.the_end_is_true();
}

struct Facts<'a> {
    world: &'a World,
    history: &'a [Moment],
}

impl Facts<'_> {
    fn last(&self) -> &Moment {
        self.history.last().expect("a moment")
    }

    fn actions(&self) -> impl DoubleEndedIterator<Item = &Action> {
        self.history.iter().flat_map(|moment| &moment.actions)
    }

    fn own(&self) -> bool {
        self.world.rules.own
    }

    /// The manifest that counts: what the source sent last, or what the own store held from the start.
    fn manifest(&self) -> Option<Digest> {
        let of = |moment: &Moment| match &moment.event {
            Event::ManifestSent { manifest } => Some(*manifest),
            Event::AlreadyHeld { target: TargetId::OWN, snapshot } => Some(snapshot.manifest),
            _ => None,
        };
        self.history.iter().rev().find_map(of)
    }

    /// The target says, on its present connection, that it holds the snapshot.
    fn says_it_holds(&self, id: TargetId) -> bool {
        let Some(manifest) = self.manifest() else { return false };
        let right = |said: &SnapshotName| *said == snapshot(manifest);
        self.history.iter().any(|moment| match &moment.event {
            Event::Committed { target, snapshot }
            | Event::CaughtUp { target, snapshot }
            | Event::AlreadyHeld { target, snapshot } => *target == id && right(snapshot),
            _ => false,
        })
    }

    /// It said so, and then proved it.
    fn holds(&self, id: TargetId) -> bool {
        let proved = Event::Proved { target: id, right: true };
        self.says_it_holds(id) && (id == TargetId::OWN || self.history.iter().any(|moment| moment.event == proved))
    }

    fn destinations(&self) -> impl Iterator<Item = TargetId> {
        self.world.peers.keys().copied().filter(|id| *id != TargetId::OWN)
    }

    fn holders(&self) -> u32 {
        self.destinations().filter(|id| self.holds(*id)).count() as u32
    }

    /// Of a target's present part in the run: since it was started last. None: it takes no part.
    fn since_start(&self, id: TargetId) -> Option<&[Moment]> {
        let starts =
            |action: &Action| matches!(action, Action::Start { target } | Action::CatchUp { target } if *target == id);
        let start = self.history.iter().rposition(|moment| moment.actions.iter().any(starts))?;
        let part = &self.history[start..];
        let dropped = |action: &Action| matches!(action, Action::Drop { target, .. } if *target == id);
        let lost = |event: &Event| matches!(event, Event::Lost { target, .. } | Event::Refused { target, .. } if *target == id);
        // In one moment it may be dropped and started again.
        let at_once = part[0].actions.iter().skip_while(|action| !starts(action)).any(dropped);
        let over = at_once || part[1..].iter().any(|m| m.actions.iter().any(dropped) || lost(&m.event));
        (!over).then_some(part)
    }

    /// Prepared in this round, with the right manifest; or the run was there from the start.
    fn is_prepared(&self, id: TargetId) -> bool {
        let Some(part) = self.since_start(id) else { return false };
        let round = part.iter().rposition(|moment| moment.actions.contains(&Action::AskSource)).unwrap_or(0);
        let manifest = self.manifest();
        part[round..].iter().any(
            |m| matches!(m.event, Event::Prepared { target, manifest: made } if target == id && Some(made) == manifest),
        ) || self.says_it_holds(id)
    }

    fn nobody_is_ahead(&self) {
        let last = self.last();
        for action in &last.actions {
            match action {
                Action::Commit { target: TargetId::OWN } => {
                    assert!(self.is_prepared(TargetId::OWN));
                    for id in self.destinations().filter(|id| self.since_start(*id).is_some()) {
                        assert!(self.is_prepared(id), "{id:?} is not prepared and takes part");
                    }
                }
                Action::Commit { target } if self.own() => {
                    assert!(self.says_it_holds(TargetId::OWN), "{target:?} would be ahead of the own store");
                }
                Action::CatchUp { target } => {
                    assert!(self.own() && self.says_it_holds(TargetId::OWN), "{target:?} catches up with nothing");
                }
                Action::Commit { target } => {
                    let earlier = &self.history[..self.history.len() - 1];
                    let decided = earlier.iter().flat_map(|m| &m.actions).any(|a| matches!(a, Action::Commit { .. }));
                    let prepared = self.destinations().filter(|id| self.is_prepared(*id)).count() as u32;
                    assert!(decided || prepared >= self.world.wanted(), "{target:?} commits too early");
                    assert!(self.is_prepared(*target));
                }
                _ => {}
            }
        }
    }

    fn takes_content(&self, id: TargetId) -> bool {
        let granted = Event::Granted { target: id };
        let takes = self.since_start(id).is_some_and(|part| part.iter().any(|moment| moment.event == granted));
        takes && !self.says_it_holds(id)
    }

    fn level(&self, id: TargetId) -> Level {
        let part = self.since_start(id).unwrap_or_default();
        let of = |m: &Moment| match m.event {
            Event::Queue { target, level } if target == id => Some(level),
            _ => None,
        };
        part.iter().rev().find_map(of).unwrap_or_default()
    }

    fn the_source_waits_only_for_who_is_needed(&self) {
        if self.world.end.is_some() {
            return;
        }
        let told = self.actions().rev().find(|action| matches!(action, Action::Pause | Action::Resume));
        let paused = told == Some(&Action::Pause);
        let running: Vec<_> = self.destinations().filter(|id| self.takes_content(*id)).collect();
        let at = |level: Level| running.iter().filter(|id| self.level(**id) == level).count() as u32;
        let own = self.own().then(|| self.level(TargetId::OWN));
        let nobody = !self.own() && running.is_empty();
        let needed_are_idle = own.is_none_or(|own| own == Level::Empty)
            && at(Level::Empty) >= self.world.wanted().saturating_sub(self.holders());
        // Who owes an answer has something to do.
        let somebody_needed_is_at_work = !needed_are_idle || !self.world.open_questions.is_empty();
        if paused {
            let waits_for_the_full = at(Level::Full) > 0 && somebody_needed_is_at_work;
            assert!(
                own == Some(Level::Full) || nobody || waits_for_the_full,
                "the source waits for nobody who is needed"
            );
        } else if self.world.sending {
            assert!(own != Some(Level::Full), "the own store would be overrun");
            assert_eq!(at(Level::Full), 0, "somebody is full, and the source goes on");
        }
    }

    fn replies_wait_for_all_who_stay(&self) {
        for action in &self.last().actions {
            let Action::Reply { question } = action else { continue };
            let asked =
                self.history.iter().position(|m| m.event == Event::Asked { question: *question }).expect("asked");
            for id in self.world.peers.keys().copied().filter(|id| self.takes_content(*id)) {
                let answer = Event::Answered { target: id, question: *question };
                let answered = self.history[asked..].iter().any(|moment| moment.event == answer);
                let granted = self.history[asked..].iter().any(|moment| moment.event == Event::Granted { target: id });
                assert!(answered || granted, "{id:?} was not waited for, and stays");
            }
        }
    }

    fn drops_have_a_cause(&self) {
        let last = self.last();
        for action in &last.actions {
            let Action::Drop { target: id, reason } = action else { continue };
            let heard = |m: &&Moment| target_of(&m.event) == Some(*id);
            match reason {
                Reason::Slow => {
                    let counts = |id: &TargetId| self.since_start(*id).is_some() || self.holds(*id);
                    let others = self.destinations().filter(counts).count() as u32;
                    assert!(others >= self.world.wanted(), "{id:?} is needed, however slow");
                }
                Reason::Stalled => {
                    let before = self.history.iter().rev().find(heard).map_or(Duration::ZERO, |m| m.at);
                    assert!(last.at >= before + self.world.rules.stall, "{id:?} was heard of");
                }
                Reason::BusyTooLong => {
                    let other =
                        self.history.iter().rev().filter(heard).find(|m| !matches!(m.event, Event::Busy { .. }));
                    assert!(last.at >= other.map_or(Duration::ZERO, |m| m.at) + self.world.rules.busy_max);
                }
                Reason::Away => assert_eq!(last.event, Event::Gone { target: *id }),
                _ => assert_eq!(target_of(&last.event).unwrap_or(*id), *id, "{id:?} is not whom this is about"),
            }
        }
    }

    fn silence_is_noticed(&self) {
        let now = self.last().at;
        for (id, peer) in &self.world.peers {
            // What waits for who holds the snapshot is of no matter any more.
            if *id != TargetId::OWN && self.world.end.is_none() && peer.is_owing() && !self.holds(*id) {
                assert!(now < peer.alive_at + self.world.rules.stall, "{id:?} owes {:?} and is silent", peer.owes);
            }
        }
    }

    fn the_end_is_true(&self) {
        let Some((outcome, receipt)) = &self.world.end else { return };
        let own_holds = !self.own() || self.says_it_holds(TargetId::OWN);
        match outcome {
            Outcome::Done => assert!(own_holds && self.holders() >= self.world.wanted(), "too few for a success"),
            Outcome::TooFew => assert!(self.holders() < self.world.wanted(), "enough hold it"),
            Outcome::OwnFailed(_) => {
                assert!(self.own() && !own_holds);
                assert_eq!(self.holders(), 0);
            }
            Outcome::Abandoned => assert!(self.world.source_lost),
        }
        let ids: Vec<TargetId> = receipt.iter().map(|line| line.target).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "somebody is named twice");
        assert_eq!(ids.contains(&TargetId::OWN), self.own());
        for action in self.actions() {
            if let Action::Start { target } | Action::CatchUp { target } = action {
                assert!(ids.contains(target), "{target:?} took part and is not named");
            }
        }
        for line in receipt {
            let held = line.state == TargetState::Held;
            assert_eq!(held, self.holds(line.target), "{line:?}");
        }
    }
}
