//! Time and pace: who is silent for too long, whether N are within reach, whether the source may go on.

use super::machine::{Machine, Phase};
use super::target::{Stage, Target};
use super::{Action, Level, Reason};

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

    /// Whether the source may go on. While it may, nobody's queue is full: who has no room goes, once the source would wait
    /// for it alone. True: somebody went.
    pub(super) fn pace(&mut self) -> bool {
        let pause = self.phase == Phase::Content && self.must_wait();
        if pause != self.paused && self.phase != Phase::Ended {
            self.paused = pause;
            self.actions.push(if pause { Action::Pause } else { Action::Resume });
        }
        let full = if self.phase == Phase::Content && !pause { self.ids_where(is_full) } else { Vec::new() };
        for id in &full {
            self.drop_target(*id, Reason::Slow);
        }
        !full.is_empty()
    }

    /// The own store sets the pace; and who is full, whoever it is, for as long as those who are needed have something
    /// left to do: they lose nothing meanwhile, and a moment's standstill of the fastest does not leave the run to the
    /// slowest.
    fn must_wait(&self) -> bool {
        let running = |level: Level| self.count(|target| target.stage == Stage::Running && target.level == level);
        let [idle, at_work, full] = [Level::Empty, Level::Some, Level::Full].map(running);
        let own = self.own.as_ref().map(|own| own.level);
        if own.is_none() && idle + at_work + full == 0 {
            // With nobody there to take it, content would be sent in vain. Who holds the run from an earlier attempt needs
            // none, but the manifest has to come.
            return self.count(|target| matches!(target.stage, Stage::Early(_))) == 0;
        }
        // Who holds the snapshot already, in a round for returners, needs nothing.
        let needed = self.rules.wanted.saturating_sub(self.holders());
        let would_idle = own.is_none_or(|level| level == Level::Empty) && idle >= needed;
        own == Some(Level::Full) || (full > 0 && !would_idle)
    }
}

fn is_full(target: &Target) -> bool {
    target.stage == Stage::Running && target.level == Level::Full
}
