//! [`Found`]: one damage.

/// What becomes of a damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Outcome {
    /// Nothing here can put it right.
    Stays,
    /// It was put right.
    Healed,
    /// The next run of its root puts it right: the client is asked for it.
    NextRun,
}

impl Outcome {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Stays => 0,
            Self::Healed => 1,
            Self::NextRun => 2,
        }
    }
}

/// Something that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Found {
    /// A path (absolute, as the client knows it) or a file of the store.
    pub(in crate::engine) what: Vec<u8>,
    pub(in crate::engine) why: String,
    /// Snapshots that it touches.
    pub(in crate::engine) snapshots: u64,
    pub(in crate::engine) outcome: Outcome,
}

impl Found {
    pub(super) fn new(what: Vec<u8>, why: impl Into<String>, snapshots: u64) -> Self {
        Self { what, why: why.into(), snapshots, outcome: Outcome::Stays }
    }

    pub(super) fn object(what: String, why: impl Into<String>, snapshots: u64) -> Self {
        Self::new(what.into_bytes(), why, snapshots)
    }

    pub(super) fn with(self, outcome: Outcome) -> Self {
        Self { outcome, ..self }
    }
}
