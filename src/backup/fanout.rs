//! The rules of distributed backup (DESIGN 9): one run, its own store, and N destinations. Events in, actions out.
//!
//! No I/O, no clock: whoever drives the [`Machine`] tells what happened and when, and carries out what it is told, in
//! order. One machine is one run, from its `Begin` to its receipt:
//!
//! ```text
//! Gathering ── N connected ──▶ Opening ── all granted ──▶ Content ── manifest passed on ──▶ Verdicts
//!     │        (own store first, it has the lock)            ▲                                 │  │
//!     │                                                      └── somebody misses content: AskSource
//!     │                                                                                        ▼
//!     │  nobody came in time                 Waiting ◀── fewer than N hold it ── Committing ◀──┘ all prepared
//!     ▼                                      │  ▲                                own store first, then the others,
//!    End ◀── N hold it, or too late ─────────┘  └ returners: catch-up,           each proves what it says
//!                                                 or (relay) another round
//! ```
//!
//! What always holds (`fanout/tests` checks it against a naive model):
//! - **Never ahead.** With an own store no destination is told to commit before that store holds the snapshot. Without one
//!   (relay) none is before N are prepared.
//! - **Never too few.** A run is [`Outcome::Done`] only if its own store, where there is one, and N destinations hold the
//!   snapshot; a destination holds it when it named run and manifest as we know them, and then proved it.
//! - **Pace.** Destinations beyond the N that are needed do not hold up the source. Whose queue is full while own store
//!   and N others have nothing left to do leaves the run and heals later; and so does for whom alone (a full queue, an
//!   answer that does not come) the run has waited longer than [`Rules::grace`] and a tenth of its time in all. Where
//!   copies are wanted that is two graces, and [`GRACES_MAX`] for the lease and the first answer: who is let go cannot
//!   become one of the N, and the run would be as slow as who happened to be first. A verdict or a commit may take a grace
//!   longer than those of the N; or as long as theirs (a slow disk that all share), up to [`GRACES_MAX`] graces.
//! - **In order.** Questions are replied to in the order in which they were asked.
//! - **It ends.** Whoever owes an answer and shows no sign of life for [`Rules::stall`] leaves the run; who only says that
//!   it is busy has [`Rules::busy_max`]. N out of reach is waited for [`Rules::retry_for`].
//! - **The receipt** names everybody who was connected when the run began, and who took part later, exactly once.
//!
//! With an own store the content has a home, so nothing waits for a destination that got lost: the store goes on, and
//! returners catch up from it. Without one a returner enters in the middle: it is sent what comes from then on, answers the
//! manifest with what it misses, and the source sends that; a round is a round for everybody, also for the prepared.

mod machine;
mod pace;
mod steps;
mod target;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use super::digest::{Digest, RunId};

pub use self::machine::Machine;

/// The longest that who is not needed is waited for in one phase, in times of [`Rules::grace`].
pub const GRACES_MAX: u32 = 5;

/// One target of a run. The driver gives a destination the same id as long as the run lasts, however often it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(pub u32);

impl TargetId {
    /// The store of the daemon itself; no destination has this id.
    pub const OWN: Self = Self(0);
}

/// Something that was passed on to all who take part and that each answers once: an offer, a file's base. Never used
/// twice within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question(pub u64);

/// What names a snapshot on every target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotName {
    /// The run.
    pub run: RunId,
    /// Digest of the manifest (seen part).
    pub manifest: Digest,
}

/// What the run was asked for, and the patience it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The run.
    pub run: RunId,
    /// The daemon keeps a copy itself; false: relay.
    pub own: bool,
    /// `--copies`: destinations that must hold the snapshot. Without an own store at least 1.
    pub wanted: u32,
    /// `--wait-copies`: how long N destinations are waited for before the run begins; none: for ever.
    pub gather_for: Option<Duration>,
    /// `--retry-for`: how long N are waited for once they are out of reach.
    pub retry_for: Duration,
    /// No sign of life for so long, while something is owed: dropped.
    pub stall: Duration,
    /// Nothing but "busy" with the same thing for so long, or four times as long with whatever: dropped.
    pub busy_max: Duration,
    /// The measure of what those may cost who are not needed: see the module, pace.
    pub grace: Duration,
    /// Rounds of content and manifest, the first included.
    pub rounds_max: u32,
}

/// How much waits to be sent to a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Nothing.
    #[default]
    Empty,
    /// Something; there is room for more.
    Some,
    /// One message more would be too many.
    Full,
}

/// What happened. Events of a target's connection that was dropped or lost must not be told any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A destination is on the list (again).
    Connected {
        /// Which.
        target: TargetId,
        /// How people call it.
        name: String,
    },
    /// It left the list: closed, or silent for too long.
    Gone {
        /// Which.
        target: TargetId,
    },
    /// It takes part: its lease is there.
    Granted {
        /// Which.
        target: TargetId,
    },
    /// Instead of [`Event::Granted`]: this run is committed there already.
    AlreadyHeld {
        /// Which.
        target: TargetId,
        /// What it holds.
        snapshot: SnapshotName,
    },
    /// A question was passed on to all who take part.
    Asked {
        /// Which.
        question: Question,
    },
    /// It answered one.
    Answered {
        /// Who.
        target: TargetId,
        /// Which.
        question: Question,
    },
    /// What waits to be sent to it has changed.
    Queue {
        /// Whose.
        target: TargetId,
        /// How much it is now.
        level: Level,
    },
    /// A sign of life: it took something, or said something that is no answer.
    Progress {
        /// Who.
        target: TargetId,
    },
    /// It says that it is at work.
    Busy {
        /// Who.
        target: TargetId,
        /// At what; a new phase is progress, a few times.
        phase: u8,
    },
    /// The manifest of this round was passed on to all who take part; each owes a verdict.
    ManifestSent {
        /// Its digest, as the source says.
        manifest: Digest,
    },
    /// Its verdict: content is missing (the driver keeps the paths).
    Missing {
        /// Who.
        target: TargetId,
    },
    /// Its verdict: all is staged and durable, and makes this manifest.
    Prepared {
        /// Who.
        target: TargetId,
        /// What it will hold.
        manifest: Digest,
    },
    /// It says that it holds the snapshot durably.
    Committed {
        /// Who.
        target: TargetId,
        /// What it holds.
        snapshot: SnapshotName,
    },
    /// Its catch-up ended well: the same, from the daemon's store.
    CaughtUp {
        /// Who.
        target: TargetId,
        /// What it holds.
        snapshot: SnapshotName,
    },
    /// Its answer to the challenge.
    Proved {
        /// Who.
        target: TargetId,
        /// Whether it was the right one.
        right: bool,
    },
    /// It refuses, or breaks the protocol: no use to try again in this run.
    Refused {
        /// Who.
        target: TargetId,
        /// A sentence.
        why: String,
    },
    /// Its data connection, or its catch-up, ended before its time.
    Lost {
        /// Whose.
        target: TargetId,
        /// A sentence.
        why: String,
    },
    /// The source's connection ended.
    SourceLost,
    /// Time has passed. To be told about once a second.
    Tick,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell the source how many destinations there are. With N given only.
    Announce {
        /// On the list now.
        connected: u32,
        /// N.
        wanted: u32,
    },
    /// Ask it to take part: a data connection, then `Begin`.
    Start {
        /// Whom.
        target: TargetId,
    },
    /// Tell the source that it may send: `Granted`, made of what those said who take part.
    Grant,
    /// Answer the source's question with what those said who take part.
    Reply {
        /// Which.
        question: Question,
    },
    /// Take no message from the source.
    Pause,
    /// Take them again.
    Resume,
    /// Ask the source for all that is missing (it may be nothing) and for the manifest again: a new round.
    AskSource,
    /// Commit.
    Commit {
        /// Who.
        target: TargetId,
    },
    /// Ask it to prove what it holds.
    Challenge {
        /// Whom.
        target: TargetId,
    },
    /// Bring it up to date from the own store.
    CatchUp {
        /// Whom.
        target: TargetId,
    },
    /// It takes no part any more: close its data connection, stop its catch-up, send it nothing.
    Drop {
        /// Whom.
        target: TargetId,
        /// Why; [`Reason::heals`] says whether the daemon brings it up to date later.
        reason: Reason,
    },
    /// The run is over; nothing follows. Data connections may be closed (a commit under way ends by itself).
    End {
        /// How.
        outcome: Outcome,
        /// Who holds the snapshot and who does not.
        receipt: Vec<ReceiptLine>,
    },
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As many as wanted hold it.
    Done,
    /// Fewer: exit code 15. The snapshot stays where it arrived.
    TooFew,
    /// The own store refused or failed; nobody has the snapshot. The driver passes its words on.
    OwnFailed(Reason),
    /// The source went away; nobody waits for the receipt.
    Abandoned,
}

/// What kind of target it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// The daemon's own store.
    Store,
    /// A destination.
    Destination,
}

/// What became of the snapshot on a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetState {
    /// It holds it, durably.
    Held,
    /// It does not, or is not known to, and will: by catching up, or with the next run.
    Behind(Reason),
    /// It does not, and somebody has to look at it.
    Failed(Reason),
}

/// One line of the receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptLine {
    /// Which.
    pub target: TargetId,
    /// How people call it; empty for the own store.
    pub name: String,
    /// What it is.
    pub kind: TargetKind,
    /// What became of it.
    pub state: TargetState,
}

/// Why a target does not hold the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It showed no sign of life.
    Stalled,
    /// It was busy with one thing for too long.
    BusyTooLong,
    /// It is not needed, and would have held up the others.
    Slow,
    /// Its connection was lost; why, in words.
    Lost(String),
    /// It left the list before it took part.
    Away,
    /// The run ended before it had an answer.
    Unfinished,
    /// The run ended while it committed or caught up, which goes on without it.
    AtWork,
    /// It refused or broke the protocol; in words.
    Refused(String),
    /// It made another manifest of what was sent.
    OtherManifest,
    /// It says that it holds another snapshot than the run's.
    OtherSnapshot,
    /// It could not prove that it holds what it says.
    Unproved,
    /// It missed content again and again.
    KeepsMissing,
    /// It spoke out of turn.
    OutOfTurn,
}

impl Reason {
    /// Whether it will come right by itself.
    pub fn heals(&self) -> bool {
        use Reason::{AtWork, Away, BusyTooLong, Lost, Slow, Stalled, Unfinished};
        matches!(self, Stalled | BusyTooLong | Slow | Lost(_) | Away | Unfinished | AtWork)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stalled => f.write_str("it showed no sign of life"),
            Self::BusyTooLong => f.write_str("it was busy with one thing for too long"),
            Self::Slow => f.write_str("it was slower than the copies that were asked for"),
            Self::Lost(why) | Self::Refused(why) => f.write_str(why),
            Self::Away => f.write_str("it went away"),
            Self::Unfinished => f.write_str("the run ended before it was done"),
            Self::AtWork => f.write_str("it was still at work when the run ended, and goes on by itself"),
            Self::OtherManifest => f.write_str("it made another manifest of what it was sent"),
            Self::OtherSnapshot => f.write_str("it says that it holds another snapshot"),
            Self::Unproved => f.write_str("it could not prove that it holds the snapshot"),
            Self::KeepsMissing => f.write_str("content that was sent did not arrive, again and again"),
            Self::OutOfTurn => f.write_str("it broke the protocol: it spoke out of turn"),
        }
    }
}
