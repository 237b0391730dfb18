//! One target, as far as the rules look at it.

use std::time::Duration;

use super::{Level, Reason, TargetState};
use crate::backup::digest::Digest;

/// Times a destination may enter the run with one connection: at the start, and once to make good.
const TRIES: u8 = 2;
/// However often what it is busy with changes: it has as many times [`super::Rules::busy_max`] in all.
const BUSY_TIMES: u32 = 4;

/// Where a target stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// On the list or not; it takes no part.
    Idle,
    /// Asked to take part; owes `Granted`.
    Starting,
    /// It said at once that it holds the run, with this manifest; whether that is ours is not known yet.
    Early(Digest),
    /// Takes content.
    Running,
    /// Has the manifest; owes its verdict.
    Judging,
    /// Its verdict: content is missing. Or it came too late for the manifest.
    Missing,
    /// Its verdict: all is there.
    Prepared,
    /// Told to commit.
    Committing,
    /// Says that it holds the snapshot, and is to prove it.
    Proving,
    /// Catching up from the own store.
    Healing,
    /// Holds the snapshot.
    Held,
    /// Out of the run.
    Out(Reason),
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) name: String,
    /// On the list.
    pub(super) connected: bool,
    /// Times it may still enter.
    pub(super) tries: u8,
    /// The receipt names it.
    pub(super) named: bool,
    pub(super) stage: Stage,
    pub(super) level: Level,
    /// The source waits for room in its queue, and could do without it.
    pub(super) holds_up: bool,
    /// For how long the run has waited for it alone in this round, by its queue or an answer; anew from its first answer on.
    pub(super) held_up: Duration,
    /// It has answered something since it entered.
    pub(super) has_answered: bool,
    /// Its last sign of life, or when it began to owe something.
    pub(super) alive_at: Duration,
    /// What it is busy with.
    pub(super) busy: Option<Busy>,
}

/// It says that it is at work, and nothing else.
#[derive(Clone, Copy, Debug)]
pub(super) struct Busy {
    phase: u8,
    /// With this phase.
    since: Duration,
    /// With anything.
    first: Duration,
}

impl Busy {
    pub(super) fn is_too_long(&self, now: Duration, busy_max: Duration) -> bool {
        now >= self.since + busy_max || now >= self.first + busy_max * BUSY_TIMES
    }
}

impl Target {
    pub(super) fn new(name: String) -> Self {
        let (stage, level, alive_at) = (Stage::Idle, Level::Empty, Duration::ZERO);
        Self {
            name,
            connected: true,
            tries: TRIES,
            named: false,
            stage,
            level,
            holds_up: false,
            held_up: Duration::ZERO,
            has_answered: false,
            alive_at,
            busy: None,
        }
    }

    /// It is on the list (again).
    pub(super) fn arrive(&mut self, name: String) {
        (self.name, self.connected, self.tries) = (name, true, TRIES);
    }

    /// It enters: takes part, or catches up.
    pub(super) fn enter(&mut self, stage: Stage, now: Duration) {
        (self.stage, self.level, self.busy, self.alive_at) = (stage, Level::Empty, None, now);
        (self.named, self.tries) = (true, self.tries.saturating_sub(1));
        (self.holds_up, self.held_up, self.has_answered) = (false, Duration::ZERO, false);
    }

    /// It has answered a question.
    pub(super) fn answers(&mut self) {
        if !std::mem::replace(&mut self.has_answered, true) {
            self.held_up = Duration::ZERO;
        }
    }

    /// Something was heard of it.
    pub(super) fn alive(&mut self, now: Duration) {
        (self.alive_at, self.busy) = (now, None);
    }

    /// It is at work.
    pub(super) fn busy(&mut self, phase: u8, now: Duration) {
        self.alive_at = now;
        let busy = self.busy.get_or_insert(Busy { phase, since: now, first: now });
        if busy.phase != phase {
            (busy.phase, busy.since) = (phase, now);
        }
    }

    /// Something is under way with it, or done: what is dropped when it fails.
    pub(super) fn is_in(&self) -> bool {
        !matches!(self.stage, Stage::Idle | Stage::Out(_))
    }

    /// It could enter now.
    pub(super) fn can_enter(&self) -> bool {
        let out = match &self.stage {
            Stage::Idle => true,
            Stage::Out(reason) => reason.heals(),
            _ => false,
        };
        out && self.connected && self.tries > 0
    }

    /// An answer is to come, questions aside.
    pub(super) fn owes(&self) -> bool {
        use Stage::{Committing, Healing, Judging, Proving, Starting};
        self.level != Level::Empty || matches!(self.stage, Starting | Judging | Committing | Proving | Healing)
    }

    /// For the receipt.
    pub(super) fn state(&self) -> TargetState {
        match &self.stage {
            Stage::Held => TargetState::Held,
            Stage::Out(reason) if reason.heals() => TargetState::Behind(reason.clone()),
            Stage::Out(reason) => TargetState::Failed(reason.clone()),
            Stage::Idle if !self.connected => TargetState::Behind(Reason::Away),
            Stage::Committing | Stage::Proving | Stage::Healing => TargetState::Behind(Reason::AtWork),
            _ => TargetState::Behind(Reason::Unfinished),
        }
    }
}
