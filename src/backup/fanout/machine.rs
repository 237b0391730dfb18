//! [`Machine`]: takes events one by one. What they change stands here; what follows from it in `steps` and `pace`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::target::{Stage, Target};
use super::{Action, Event, Level, Outcome, Question, Reason, ReceiptLine, Rules, SnapshotName, TargetId, TargetKind};
use crate::backup::digest::Digest;

/// How far the run has come; see the picture in [`super`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Gathering,
    /// The own store is asked first: it has the lock.
    OpeningOwn,
    Opening,
    Content,
    Verdicts,
    CommittingOwn,
    Committing,
    Waiting,
    Ended,
}

/// A question that is not answered yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    pub(super) silent: BTreeSet<TargetId>,
    /// Since when it is the first one, and own store and N others have answered.
    pub(super) met: Option<Duration>,
}

/// One run. See [`super`].
#[derive(Clone, Debug)]
pub struct Machine {
    pub(super) rules: Rules,
    pub(super) phase: Phase,
    /// None: relay.
    pub(super) own: Option<Target>,
    pub(super) others: BTreeMap<TargetId, Target>,
    pub(super) questions: BTreeMap<Question, Pending>,
    /// Of this round; all that hold the snapshot hold this one.
    pub(super) manifest: Option<Digest>,
    pub(super) rounds: u32,
    /// Somebody was told to commit: the run cannot be taken back.
    pub(super) decided: bool,
    pub(super) paused: bool,
    /// When this phase began; the commits' with the own store's.
    pub(super) entered: Duration,
    /// Since when own store and N others have done this phase's part.
    pub(super) met: Option<Duration>,
    /// Since when N are out of reach.
    pub(super) short_since: Option<Duration>,
    pub(super) source_lost: bool,
    /// What was announced last.
    told: Option<u32>,
    pub(super) now: Duration,
    pub(super) actions: Vec<Action>,
}

impl Machine {
    /// A run begins, with those who are on the list. All times are counted from now.
    pub fn begin(rules: Rules, connected: impl IntoIterator<Item = (TargetId, String)>) -> (Self, Vec<Action>) {
        let wanted = if rules.own { rules.wanted } else { rules.wanted.max(1) };
        let own = rules.own.then(|| Target::new(String::new()));
        let others = connected.into_iter().filter(|(id, _)| *id != TargetId::OWN);
        let mut machine = Self {
            rules: Rules { wanted, ..rules },
            phase: Phase::Gathering,
            own,
            others: others.map(|(id, name)| (id, Target::new(name))).collect(),
            questions: BTreeMap::new(),
            manifest: None,
            rounds: 0,
            decided: false,
            paused: false,
            entered: Duration::ZERO,
            met: None,
            short_since: None,
            source_lost: false,
            told: None,
            now: Duration::ZERO,
            actions: Vec::new(),
        };
        let actions = machine.apply(Duration::ZERO, Event::Tick);
        (machine, actions)
    }

    /// Takes what happened at `now`; a time that goes back counts as the last one. Nothing follows [`Action::End`].
    pub fn apply(&mut self, now: Duration, event: Event) -> Vec<Action> {
        if self.phase == Phase::Ended {
            return Vec::new();
        }
        let passed = now.saturating_sub(self.now);
        self.now += passed;
        self.charge(passed);
        self.rest();
        self.take(event);
        self.drop_the_silent();
        self.advance();
        if self.pace() {
            self.advance();
            self.pace();
        }
        self.watch_who_holds_up();
        std::mem::take(&mut self.actions)
    }

    /// Whether the run is over.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Ended
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Tick => {}
            Event::SourceLost => self.source_lost = true,
            Event::Asked { question } => self.asked(question),
            Event::ManifestSent { manifest } => self.manifest_sent(manifest),
            Event::Connected { target, name } if target != TargetId::OWN => {
                let arrived = Target::new(name.clone());
                self.others.entry(target).or_insert(arrived).arrive(name);
            }
            Event::Connected { .. } => {}
            Event::Gone { target } => self.gone(target),
            Event::Queue { target, level } => self.heard(target, |target| target.level = level),
            Event::Progress { target } => self.heard(target, |_| ()),
            Event::Busy { target, phase } => {
                let now = self.now;
                if let Some(target) = self.target(target) {
                    target.busy(phase, now);
                }
            }
            Event::Granted { target } => self.granted(target),
            Event::AlreadyHeld { target, snapshot } => self.already_held(target, snapshot),
            Event::Answered { target, question } => self.answered(target, question),
            Event::Missing { target } => self.verdict(target, None),
            Event::Prepared { target, manifest } => self.verdict(target, Some(manifest)),
            Event::Committed { target, snapshot } => self.holds(target, &Stage::Committing, snapshot),
            Event::CaughtUp { target, snapshot } => self.holds(target, &Stage::Healing, snapshot),
            Event::Proved { target, right } => self.proved(target, right),
            Event::Refused { target, why } => self.drop_target(target, Reason::Refused(why)),
            Event::Lost { target, why } => self.drop_target(target, Reason::Lost(why)),
        }
    }

    pub(super) fn target(&mut self, id: TargetId) -> Option<&mut Target> {
        if id == TargetId::OWN { self.own.as_mut() } else { self.others.get_mut(&id) }
    }

    /// A sign of life.
    fn heard(&mut self, id: TargetId, change: impl FnOnce(&mut Target)) {
        let now = self.now;
        if let Some(target) = self.target(id).filter(|target| target.is_in()) {
            target.alive(now);
            change(target);
        }
    }

    /// An answer that is only right in one stage: the target goes on to the next one. What comes of a target that is out
    /// already is too late, and nothing else.
    fn answer(&mut self, id: TargetId, due: &Stage, next: Stage) -> bool {
        let now = self.now;
        let Some(target) = self.target(id).filter(|target| target.is_in()) else { return false };
        if target.stage != *due {
            self.drop_target(id, Reason::OutOfTurn);
            return false;
        }
        target.alive(now);
        target.stage = next;
        true
    }

    fn asked(&mut self, question: Question) {
        let silent = self.ids_where(|target| target.stage == Stage::Running);
        self.questions.insert(question, Pending { silent: silent.into_iter().collect(), ..Pending::default() });
    }

    fn answered(&mut self, id: TargetId, question: Question) {
        // What was replied to is forgotten, and so is who did not matter for it.
        let due = self.questions.get_mut(&question).is_some_and(|pending| pending.silent.remove(&id));
        if due {
            self.heard(id, Target::answers);
        }
    }

    fn granted(&mut self, id: TargetId) {
        // The manifest of this round has passed: it misses everything, and the next round is for it.
        let late = !matches!(self.phase, Phase::OpeningOwn | Phase::Opening | Phase::Content);
        self.answer(id, &Stage::Starting, if late { Stage::Missing } else { Stage::Running });
    }

    fn already_held(&mut self, id: TargetId, snapshot: SnapshotName) {
        let SnapshotName { run, manifest } = snapshot;
        if !self.answer(id, &Stage::Starting, Stage::Early(manifest)) {
            return;
        }
        if run != self.rules.run {
            self.drop_target(id, Reason::OtherSnapshot);
        } else if id == TargetId::OWN {
            (self.manifest, self.decided) = (Some(manifest), true);
            self.set_stage(id, Stage::Held);
        } else {
            self.compare_early();
        }
    }

    /// Whether those who held the run from the start hold this very snapshot.
    fn compare_early(&mut self) {
        let Some(manifest) = self.manifest else { return };
        for id in self.ids_where(|target| matches!(target.stage, Stage::Early(held) if held != manifest)) {
            self.drop_target(id, Reason::OtherSnapshot);
        }
    }

    fn manifest_sent(&mut self, manifest: Digest) {
        if self.phase != Phase::Content {
            return;
        }
        self.manifest = Some(manifest);
        self.rounds += 1;
        for id in self.ids_where(|target| target.stage == Stage::Running) {
            self.set_stage(id, Stage::Judging);
        }
        self.compare_early();
        self.enter(Phase::Verdicts);
    }

    fn verdict(&mut self, id: TargetId, prepared: Option<Digest>) {
        let next = if prepared.is_some() { Stage::Prepared } else { Stage::Missing };
        if self.answer(id, &Stage::Judging, next) && prepared.is_some() && prepared != self.manifest {
            self.drop_target(id, Reason::OtherManifest);
        }
    }

    fn holds(&mut self, id: TargetId, due: &Stage, snapshot: SnapshotName) {
        let own = id == TargetId::OWN;
        if !self.answer(id, due, if own { due.clone() } else { Stage::Proving }) {
            return;
        }
        if snapshot.run != self.rules.run || Some(snapshot.manifest) != self.manifest {
            self.drop_target(id, Reason::OtherSnapshot);
        } else if own {
            self.set_stage(id, Stage::Held);
        } else {
            self.actions.push(Action::Challenge { target: id });
        }
    }

    fn proved(&mut self, id: TargetId, right: bool) {
        if self.answer(id, &Stage::Proving, Stage::Proving) {
            if right {
                self.set_stage(id, Stage::Held);
            } else {
                self.drop_target(id, Reason::Unproved);
            }
        }
    }

    fn gone(&mut self, id: TargetId) {
        let Some(target) = self.others.get_mut(&id) else { return };
        target.connected = false;
        if target.stage == Stage::Starting {
            self.drop_target(id, Reason::Away);
        }
    }

    /// It takes no part any more. Who holds the snapshot goes on holding it, whatever becomes of its connection.
    pub(super) fn drop_target(&mut self, id: TargetId, reason: Reason) {
        let Some(target) = self.target(id).filter(|target| target.is_in() && target.stage != Stage::Held) else {
            return;
        };
        (target.stage, target.level) = (Stage::Out(reason.clone()), Level::Empty);
        for pending in self.questions.values_mut() {
            pending.silent.remove(&id);
        }
        if id == TargetId::OWN {
            self.end(Outcome::OwnFailed(reason));
        } else {
            self.actions.push(Action::Drop { target: id, reason });
        }
    }

    pub(super) fn set_stage(&mut self, id: TargetId, stage: Stage) {
        if let Some(target) = self.target(id) {
            target.stage = stage;
        }
    }

    pub(super) fn enter(&mut self, phase: Phase) {
        if self.phase == Phase::Ended {
            return;
        }
        if self.phase != Phase::CommittingOwn {
            self.entered = self.now;
        }
        (self.phase, self.met) = (phase, None);
    }

    /// All targets, the own store first.
    pub(super) fn all(&self) -> impl Iterator<Item = (TargetId, &Target)> {
        self.own.iter().map(|own| (TargetId::OWN, own)).chain(self.others.iter().map(|(id, target)| (*id, target)))
    }

    pub(super) fn ids_where(&self, is: impl Fn(&Target) -> bool) -> Vec<TargetId> {
        self.all().filter(|(_, target)| is(target)).map(|(id, _)| id).collect()
    }

    /// Destinations of which this is true.
    pub(super) fn count(&self, is: impl Fn(&Target) -> bool) -> u32 {
        let count = self.others.values().filter(|target| is(target)).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Says how many there are, if that is news.
    pub(super) fn announce(&mut self) {
        let (connected, wanted) = (self.count(|target| target.connected), self.rules.wanted);
        if wanted > 0 && self.told.replace(connected) != Some(connected) {
            self.actions.push(Action::Announce { connected, wanted });
        }
    }

    pub(super) fn end(&mut self, outcome: Outcome) {
        if self.phase == Phase::Ended {
            return;
        }
        self.phase = Phase::Ended;
        let named = self.all().filter(|(id, target)| *id == TargetId::OWN || target.named);
        let line = |(target, of): (TargetId, &Target)| {
            let kind = if target == TargetId::OWN { TargetKind::Store } else { TargetKind::Destination };
            ReceiptLine { target, name: of.name.clone(), kind, state: of.state() }
        };
        let receipt = named.map(line).collect();
        self.actions.push(Action::End { outcome, receipt });
    }
}
