//! Time and pace: who is silent for too long, whether N are within reach, whether the source may go on.

use std::collections::BTreeSet;
use std::time::Duration;

use super::machine::{Machine, Phase};
use super::target::{Stage, Target};
use super::{Action, GRACES_MAX, Level, Reason, TargetId};

/// An answer that comes within this part of a grace is not late.
const MOMENTS: u32 = 8;

impl Machine {
    /// Who owes nothing cannot be late: its time begins when it owes something.
    pub(super) fn rest(&mut self) {
        let now = self.now;
        let asked: Vec<_> = self.questions.values().flat_map(|pending| pending.silent.iter().copied()).collect();
        for (id, target) in &mut self.others {
            if !target.owes() && !asked.contains(id) {
                target.alive(now);
            }
        }
    }

    /// The own store is in this process: it ends by itself.
    pub(super) fn drop_the_silent(&mut self) {
        let late = |target: &Target| {
            if !target.is_in() {
                None
            } else if self.now >= target.alive_at + self.rules.stall {
                Some(Reason::Stalled)
            } else if target.busy.is_some_and(|busy| busy.is_too_long(self.now, self.rules.busy_max)) {
                Some(Reason::BusyTooLong)
            } else {
                None
            }
        };
        let late: Vec<_> = self.others.iter().filter_map(|(id, target)| Some((*id, late(target)?))).collect();
        for (id, reason) in late {
            self.drop_target(id, reason);
        }
    }

    /// Counts who holds the snapshot, who may come to hold it, and who could enter at once.
    pub(super) fn watch_reach(&mut self) {
        let reach = self.count(|target| target.is_in() || target.can_enter());
        if reach >= self.rules.wanted {
            self.short_since = None;
        } else {
            self.short_since.get_or_insert(self.now);
        }
    }

    /// Whether the source may go on. While it may, nobody's queue is full: who has no room goes, once it is not worth
    /// waiting for. True: somebody went.
    pub(super) fn pace(&mut self) -> bool {
        let go = self.not_worth_waiting_for();
        let pause = self.phase == Phase::Content && self.must_wait(&go);
        if pause != self.paused && self.phase != Phase::Ended {
            self.paused = pause;
            self.actions.push(if pause { Action::Pause } else { Action::Resume });
        }
        for id in &go {
            self.drop_target(*id, Reason::Slow);
        }
        !go.is_empty()
    }

    /// The own store sets the pace; and who is full, whoever it is.
    fn must_wait(&self, go: &[TargetId]) -> bool {
        if self.own.is_none() && self.count(|target| target.stage == Stage::Running) == 0 {
            // With nobody there to take it, content would be sent in vain. Who holds the run from an earlier attempt needs
            // none, but the manifest has to come.
            return self.count(|target| matches!(target.stage, Stage::Early(_))) == 0;
        }
        self.own_is_full() || self.ids_where(is_full).iter().any(|id| *id != TargetId::OWN && !go.contains(id))
    }

    /// Who is full, is not needed, and has had its time. While those who are needed have something left to do they lose
    /// little by waiting for it: a moment's standstill of the fastest is not to leave the run to the slowest.
    fn not_worth_waiting_for(&self) -> Vec<TargetId> {
        let mut full = self.ids_where(is_full);
        if full.is_empty() || !self.others_have_room() {
            return Vec::new();
        }
        let would_idle = self.would_idle();
        full.retain(|id| would_idle || self.others.get(id).is_some_and(|target| self.is_out_of_patience(target)));
        full
    }

    /// Whether the source could go on but for those who are full and not needed.
    fn others_have_room(&self) -> bool {
        let room = self.count(|target| target.stage == Stage::Running && target.level != Level::Full);
        self.phase == Phase::Content && !self.own_is_full() && room >= self.still_wanted()
    }

    /// Whether own store, and as many others as are needed, have nothing left to do.
    fn would_idle(&self) -> bool {
        let asked: BTreeSet<_> = self.questions.values().flat_map(|pending| &pending.silent).collect();
        let is_idle = |id: &TargetId, target: &Target| {
            target.stage == Stage::Running && target.level == Level::Empty && !asked.contains(id)
        };
        let idle = self.others.iter().filter(|(id, target)| is_idle(id, target)).count();
        self.own.as_ref().is_none_or(|own| is_idle(&TargetId::OWN, own))
            && u32::try_from(idle).unwrap_or(u32::MAX) >= self.still_wanted()
    }

    fn own_is_full(&self) -> bool {
        self.own.as_ref().is_some_and(|own| own.level == Level::Full)
    }

    /// Destinations that are needed beside those that hold the snapshot.
    pub(super) fn still_wanted(&self) -> u32 {
        self.rules.wanted.saturating_sub(self.holders())
    }

    /// What who is not needed has for its first words: it may have to wake a disk first, and look at all that it has.
    pub(super) fn first_grace(&self) -> Duration {
        self.graces(GRACES_MAX)
    }

    /// Whether the run has waited for it long enough: two graces, and a tenth of the time that content takes.
    pub(super) fn is_out_of_patience(&self, target: &Target) -> bool {
        let grace = if target.has_answered { self.graces(2) } else { self.first_grace() };
        target.held_up >= grace + self.now.saturating_sub(self.entered) / 10
    }

    /// Where copies are wanted so many: who is let go cannot become one of the N.
    fn graces(&self, times: u32) -> Duration {
        self.rules.grace.saturating_mul(if self.rules.wanted == 0 { 1 } else { times })
    }

    /// The time since the last event, to those for whom the run has waited. An answer may take a moment: the source asks
    /// ahead, so that a long line alone holds up nothing.
    pub(super) fn charge(&mut self, passed: Duration) {
        let (now, moment) = (self.now, self.rules.grace / MOMENTS);
        let first = self.questions.first_key_value().map(|(_, pending)| pending);
        let asked = first.and_then(|pending| Some((now.saturating_sub(pending.met? + moment), &pending.silent)));
        for (id, target) in &mut self.others {
            let by_answer = asked.filter(|(_, silent)| silent.contains(id)).map_or(Duration::ZERO, |(late, _)| late);
            let by_queue = if target.holds_up { passed } else { Duration::ZERO };
            target.held_up += by_queue.max(by_answer.min(passed));
        }
    }

    /// For whose queue the source waits from now on, though it could do without.
    pub(super) fn watch_who_holds_up(&mut self) {
        let others_have_room = self.others.values().any(is_full) && self.others_have_room();
        self.others.values_mut().for_each(|target| target.holds_up = others_have_room && is_full(target));
    }
}

fn is_full(target: &Target) -> bool {
    target.stage == Stage::Running && target.level == Level::Full
}
