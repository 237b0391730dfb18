//! STUB, to be replaced: the engine's error and what it means for the exit code.

/// What kind of failure it is; each tells what to do, and has its exit code (DESIGN 13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Anything else, or damage found: exit 1.
    Failed,
    /// The input must be corrected: exit 2.
    Usage,
    /// Server not reachable, or lost and not regained: exit 10.
    Unreachable,
    /// Locked by another run: exit 11.
    Locked,
    /// Identity or rights: exit 12.
    NotAllowed,
    /// No space or over quota: exit 13.
    NoSpace,
    /// Delete guard: exit 14.
    Guard,
    /// Fewer copies than asked: exit 15.
    Copies,
    /// Interrupted: exit 130.
    Interrupted,
}

impl ErrorKind {
    /// The exit code of DESIGN 13.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 10,
            Self::Locked => 11,
            Self::NotAllowed => 12,
            Self::NoSpace => 13,
            Self::Guard => 14,
            Self::Copies => 15,
            Self::Interrupted => 130,
        }
    }
}

/// A run that did not succeed. The message is a sentence that a user can act on, control bytes escaped.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    /// What kind.
    pub kind: ErrorKind,
    /// The sentence.
    pub message: String,
}

impl EngineError {
    /// Puts the two together.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The exit code of DESIGN 13.
    pub fn exit_code(&self) -> u8 {
        self.kind.exit_code()
    }

    /// What the stubs answer.
    pub(crate) fn not_built_yet() -> Self {
        Self::new(ErrorKind::Failed, "this part of the engine is not built yet")
    }
}
