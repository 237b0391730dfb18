//! What follows from where everybody stands: the run goes on to its next phase, as far as it can.

use std::collections::BTreeSet;
use std::time::Duration;

use super::machine::{Machine, Pending, Phase};
use super::target::{Stage, Target};
use super::{Action, GRACES_MAX, Outcome, Reason, TargetId};

impl Machine {
    pub(super) fn advance(&mut self) {
        loop {
            self.watch_reach();
            let before = self.phase;
            if self.source_lost && !matches!(before, Phase::CommittingOwn | Phase::Committing) {
                self.end(Outcome::Abandoned);
            } else if self.decided
                && matches!(before, Phase::Content | Phase::Verdicts)
                && self.holders() >= self.rules.wanted
            {
                // A round for returners has become needless.
                self.enter(Phase::Waiting);
            }
            match self.phase {
                Phase::Gathering => self.gather(),
                Phase::OpeningOwn => self.open_own(),
                Phase::Opening => self.open(),
                Phase::Content => self.reply(),
                Phase::Verdicts => self.judge(),
                Phase::CommittingOwn => self.commit_others(),
                Phase::Committing => self.settle_commits(),
                Phase::Waiting => self.wait(),
                Phase::Ended => {}
            }
            if self.phase == before {
                return;
            }
        }
    }

    fn is_relay(&self) -> bool {
        self.own.is_none()
    }

    /// Destinations that hold the snapshot, proved.
    pub(super) fn holders(&self) -> u32 {
        self.count(|target| target.stage == Stage::Held)
    }

    fn own_is(&self, stage: &Stage) -> bool {
        self.own.as_ref().is_none_or(|own| own.stage == *stage)
    }

    /// Whether all who owe this phase's part have done it. Who is not needed has a little time, then it is dropped.
    fn is_settled(&mut self, owing: &Stage, done: u32, least: Duration) -> bool {
        let pending = self.ids_where(|target| target.stage == *owing);
        if pending.is_empty() {
            return true;
        }
        if pending.contains(&TargetId::OWN) || done < self.rules.wanted {
            self.met = None;
            return false;
        }
        if !self.grace_is_over(least) {
            return false;
        }
        for id in pending {
            self.drop_target(id, Reason::Slow);
        }
        true
    }

    /// Own store and N others have done this phase's part, and the others have had their time.
    fn grace_is_over(&mut self, least: Duration) -> bool {
        let met = *self.met.get_or_insert(self.now);
        let took = met.saturating_sub(self.entered).min(self.rules.grace.saturating_mul(GRACES_MAX));
        self.now >= met + least.max(took)
    }

    fn gather(&mut self) {
        self.announce();
        if self.count(|target| target.connected) < self.rules.wanted {
            if self.rules.gather_for.is_some_and(|patience| self.now >= patience) {
                self.name_the_connected();
                self.end(Outcome::TooFew);
            }
        } else if let Some(own) = &mut self.own {
            own.enter(Stage::Starting, self.now);
            self.actions.push(Action::Start { target: TargetId::OWN });
            self.enter(Phase::OpeningOwn);
        } else {
            self.start_others();
        }
    }

    fn name_the_connected(&mut self) {
        self.others.values_mut().filter(|target| target.connected).for_each(|target| target.named = true);
    }

    fn open_own(&mut self) {
        if self.own_is(&Stage::Held) {
            // An earlier attempt of this run came as far as that; the others catch up.
            self.name_the_connected();
            self.enter(Phase::Waiting);
        } else if self.own_is(&Stage::Running) {
            self.start_others();
        }
    }

    fn start_others(&mut self) {
        for id in self.ids_where(|target| target.stage == Stage::Idle && target.connected) {
            self.start(id, Stage::Starting, Action::Start { target: id });
        }
        self.enter(Phase::Opening);
    }

    fn start(&mut self, id: TargetId, stage: Stage, action: Action) {
        let now = self.now;
        if let Some(target) = self.target(id) {
            target.enter(stage, now);
            self.actions.push(action);
        }
    }

    /// Relay: whoever comes while N are out of reach takes part from now on.
    fn recruit(&mut self) {
        if self.is_relay() && self.count(Target::is_in) < self.rules.wanted {
            for id in self.ids_where(Target::can_enter) {
                self.start(id, Stage::Starting, Action::Start { target: id });
            }
        }
    }

    /// Relay: nothing is to be had any more from waiting.
    fn give_up_if_late(&mut self) {
        if self.is_relay() && self.is_late() {
            self.end(Outcome::TooFew);
        }
    }

    /// N have been out of reach for too long.
    fn is_late(&self) -> bool {
        self.short_since.is_some_and(|since| self.now >= since + self.rules.retry_for)
    }

    fn open(&mut self) {
        self.recruit();
        let done = self.count(|target| matches!(target.stage, Stage::Running | Stage::Early(_)));
        let settled = self.is_settled(&Stage::Starting, done, self.first_grace());
        if settled && (!self.is_relay() || done >= self.rules.wanted) {
            self.actions.push(Action::Grant);
            self.enter(Phase::Content);
        } else {
            self.give_up_if_late();
        }
    }

    /// Answers the source's questions, in the order in which they were asked: what follows on an answer is put together in
    /// that order.
    fn reply(&mut self) {
        self.recruit();
        let still_wanted = self.still_wanted();
        while let Some((question, pending)) = self.questions.pop_first() {
            let has_answered =
                |(id, target): &(&TargetId, &Target)| target.stage == Stage::Running && !pending.silent.contains(id);
            let done = u32::try_from(self.others.iter().filter(has_answered).count()).unwrap_or(u32::MAX);
            let met = done >= still_wanted && !pending.silent.contains(&TargetId::OWN);
            let met = met.then(|| pending.met.unwrap_or(self.now));
            let may_wait =
                |id: &TargetId| met.is_none() || self.others.get(id).is_some_and(|t| !self.is_out_of_patience(t));
            let (wait, late): (BTreeSet<_>, BTreeSet<_>) = pending.silent.iter().copied().partition(may_wait);
            late.into_iter().for_each(|id| self.drop_target(id, Reason::Slow));
            if !wait.is_empty() {
                self.questions.insert(question, Pending { silent: wait, met });
                break;
            }
            self.actions.push(Action::Reply { question });
        }
        self.give_up_if_late();
    }

    /// Everybody has the manifest: another round, or the commit.
    fn judge(&mut self) {
        self.recruit();
        let has_spoken =
            |stage: &Stage| !matches!(stage, Stage::Idle | Stage::Out(_) | Stage::Starting | Stage::Judging);
        let spoken = self.count(|target| has_spoken(&target.stage));
        let grace = self.rules.grace;
        if !(self.is_settled(&Stage::Judging, spoken, grace) && self.is_settled(&Stage::Starting, spoken, grace)) {
            return self.give_up_if_late();
        }
        let ready = self.count(|target| matches!(target.stage, Stage::Prepared | Stage::Early(_) | Stage::Held));
        let enough = ready >= self.rules.wanted;
        let can_commit = enough && self.own_is(&Stage::Prepared);
        let missing = self.ids_where(|target| target.stage == Stage::Missing);
        // Another round for who is not needed would hold up the others.
        if !missing.is_empty() && !can_commit && self.rounds < self.rules.rounds_max {
            for id in self.ids_where(|target| matches!(target.stage, Stage::Missing | Stage::Prepared)) {
                self.set_stage(id, Stage::Running);
            }
            // Each round has its own account.
            self.others.values_mut().for_each(|target| target.held_up = Duration::ZERO);
            self.actions.push(Action::AskSource);
            return self.enter(Phase::Content);
        }
        for id in missing {
            self.drop_target(id, if can_commit { Reason::Slow } else { Reason::KeepsMissing });
        }
        if self.phase != Phase::Verdicts {
            // The own store was among them.
        } else if self.own.is_some() {
            self.decided = true;
            self.set_stage(TargetId::OWN, Stage::Committing);
            self.actions.push(Action::Commit { target: TargetId::OWN });
            self.enter(Phase::CommittingOwn);
        } else if enough || self.decided {
            self.decided = true;
            self.commit_others();
        } else {
            self.give_up_if_late();
        }
    }

    /// The own store, where there is one, holds the snapshot: now those who are prepared.
    fn commit_others(&mut self) {
        if !self.own_is(&Stage::Held) {
            return;
        }
        for id in self.ids_where(|target| target.stage == Stage::Prepared) {
            self.set_stage(id, Stage::Committing);
            self.actions.push(Action::Commit { target: id });
        }
        self.challenge_the_early();
        self.enter(Phase::Committing);
    }

    /// Those who held the snapshot from the start are to prove it as well.
    fn challenge_the_early(&mut self) {
        for id in self.ids_where(|target| matches!(target.stage, Stage::Early(_))) {
            self.set_stage(id, Stage::Proving);
            self.actions.push(Action::Challenge { target: id });
        }
    }

    fn settle_commits(&mut self) {
        let pending = self.count(|target| matches!(target.stage, Stage::Committing | Stage::Proving));
        let enough = self.holders() >= self.rules.wanted;
        if pending == 0 || (enough && self.grace_is_over(self.rules.grace)) {
            self.enter(Phase::Waiting);
        }
    }

    /// Until N hold the snapshot, or nobody is waited for any more.
    fn wait(&mut self) {
        if self.holders() >= self.rules.wanted {
            return self.end(Outcome::Done);
        }
        self.announce();
        if self.is_late() {
            return self.end(Outcome::TooFew);
        }
        if !self.is_relay() {
            for id in self.ids_where(Target::can_enter) {
                self.start(id, Stage::Healing, Action::CatchUp { target: id });
            }
            return;
        }
        self.recruit();
        self.challenge_the_early();
        let unsettled = self.count(|target| matches!(target.stage, Stage::Committing | Stage::Proving));
        if unsettled == 0 && self.count(|target| target.stage == Stage::Missing) > 0 {
            self.enter(Phase::Verdicts);
        }
    }
}
