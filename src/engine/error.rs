//! The engine's error and what it means for the exit code.
//!
//! Every lower layer's error becomes one of few kinds here; the message is the sentence that the user reads.

use super::wire::WireError;
use crate::backup::bytes::escape;
use crate::backup::fingerprint::Timestamp;
use crate::backup::lease::Conflict;
use crate::net::link::LinkError;
use crate::net::message::{RefusalKind, Refused};
use crate::store::catalog::CatalogError;
use crate::store::commit::CommitError;
use crate::store::layout::StoreError;
use crate::store::leases::LeaseError;
use crate::store::present::PassError;
use crate::store::snapshots::SnapshotError;
use crate::store::vault::VaultError;
use crate::tree::error::TreeError;

/// Longest sentence that travels.
const REFUSAL_BYTES_MAX: usize = 16 * 1024;

/// What kind of failure it is; each tells what to do, and has its exit code (DESIGN 13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Anything else, or damage found: exit 1.
    Failed,
    /// No snapshot has what was asked for: exit 1.
    Absent,
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
            Self::Failed | Self::Absent => 1,
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
    /// The other side said so itself.
    pub(super) is_answer: bool,
}

impl EngineError {
    /// Puts the two together.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), is_answer: false }
    }

    /// The exit code of DESIGN 13.
    pub fn exit_code(&self) -> u8 {
        self.kind.exit_code()
    }
}

/// A moment for a sentence that travels: in UTC, for the reader's time zone is not known here.
pub(super) fn show_moment(moment: Timestamp) -> String {
    match jiff::Timestamp::from_second(moment.secs) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => format!("@{}", moment.secs),
    }
}

/// Who holds what was asked for, and since when.
pub(super) fn show_conflict(conflict: &Conflict) -> String {
    format!("{conflict}, since {}", show_moment(conflict.holder.since))
}

impl From<LeaseError> for EngineError {
    fn from(error: LeaseError) -> Self {
        match error {
            LeaseError::Locked(conflict) => Self::new(ErrorKind::Locked, show_conflict(&conflict)),
            other => Self::new(ErrorKind::Unreachable, other.to_string()),
        }
    }
}

impl From<LinkError> for EngineError {
    fn from(error: LinkError) -> Self {
        let kind = match error {
            LinkError::Closed | LinkError::Lost { .. } => ErrorKind::Unreachable,
            LinkError::Revoked => ErrorKind::NotAllowed,
            LinkError::Protocol { .. } | LinkError::Unsendable(_) => ErrorKind::Failed,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<TreeError> for EngineError {
    fn from(error: TreeError) -> Self {
        let kind = if error.is_no_space() { ErrorKind::NoSpace } else { ErrorKind::Failed };
        Self::new(kind, error.to_string())
    }
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Tree(error) => error.into(),
            StoreError::Snapshots(error) => error.into(),
            StoreError::NoSpace { .. } => Self::new(ErrorKind::NoSpace, error.to_string()),
            _ => Self::new(ErrorKind::Failed, error.to_string()),
        }
    }
}

impl From<SnapshotError> for EngineError {
    fn from(error: SnapshotError) -> Self {
        let full = matches!(error, SnapshotError::NoSpace { .. });
        Self::new(if full { ErrorKind::NoSpace } else { ErrorKind::Failed }, error.to_string())
    }
}

impl From<CatalogError> for EngineError {
    fn from(error: CatalogError) -> Self {
        let full = matches!(error, CatalogError::NoSpace { .. });
        Self::new(if full { ErrorKind::NoSpace } else { ErrorKind::Failed }, error.to_string())
    }
}

impl From<VaultError> for EngineError {
    fn from(error: VaultError) -> Self {
        let full = matches!(error, VaultError::NoSpace { .. });
        Self::new(if full { ErrorKind::NoSpace } else { ErrorKind::Failed }, error.to_string())
    }
}

impl From<PassError> for EngineError {
    fn from(error: PassError) -> Self {
        match error {
            PassError::Tree(error) => error.into(),
            PassError::Catalog(error) => error.into(),
        }
    }
}

impl From<CommitError> for EngineError {
    fn from(error: CommitError) -> Self {
        let message = error.to_string();
        let kind = match error {
            CommitError::Tree(error) | CommitError::Flush(error) => Self::from(error).kind,
            CommitError::Unfinished(inner) => Self::from(*inner).kind,
            CommitError::Publish(error) => Self::from(error).kind,
            _ => ErrorKind::Failed,
        };
        Self::new(kind, message)
    }
}

impl From<WireError> for EngineError {
    fn from(error: WireError) -> Self {
        Self::new(ErrorKind::Failed, format!("the other side broke the protocol: {error}"))
    }
}

impl From<Refused> for EngineError {
    fn from(refused: Refused) -> Self {
        let kind = match refused.kind {
            RefusalKind::Failed | RefusalKind::Protocol => ErrorKind::Failed,
            RefusalKind::NotAllowed => ErrorKind::NotAllowed,
            RefusalKind::Locked => ErrorKind::Locked,
            RefusalKind::NoSpace => ErrorKind::NoSpace,
            RefusalKind::Guard => ErrorKind::Guard,
            RefusalKind::Unavailable => ErrorKind::Unreachable,
            RefusalKind::Copies => ErrorKind::Copies,
            RefusalKind::Usage => ErrorKind::Usage,
            RefusalKind::Absent => ErrorKind::Absent,
        };
        Self { is_answer: true, ..Self::new(kind, escape(&refused.message.0)) }
    }
}

impl From<&EngineError> for Refused {
    fn from(error: &EngineError) -> Self {
        let kind = match error.kind {
            ErrorKind::NotAllowed => RefusalKind::NotAllowed,
            ErrorKind::Locked => RefusalKind::Locked,
            ErrorKind::NoSpace => RefusalKind::NoSpace,
            ErrorKind::Guard => RefusalKind::Guard,
            ErrorKind::Unreachable => RefusalKind::Unavailable,
            ErrorKind::Copies => RefusalKind::Copies,
            ErrorKind::Usage => RefusalKind::Usage,
            ErrorKind::Absent => RefusalKind::Absent,
            _ => RefusalKind::Failed,
        };
        let mut message = error.message.clone().into_bytes();
        message.truncate(REFUSAL_BYTES_MAX);
        Self { kind, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::digest::RunId;
    use crate::backup::lease::Holder;
    use crate::backup::relpath::RelPath;

    #[test]
    fn a_kind_is_the_same_on_the_other_side() {
        use ErrorKind::{Absent, Copies, Failed, Guard, Locked, NoSpace, NotAllowed, Unreachable, Usage};
        for kind in [Absent, Copies, Failed, Guard, Locked, NoSpace, NotAllowed, Unreachable, Usage] {
            assert_eq!(EngineError::from(Refused::from(&EngineError::new(kind, "why"))).kind, kind);
        }
        // Whoever is interrupted over there has failed as seen from here.
        assert_eq!(Refused::from(&EngineError::new(ErrorKind::Interrupted, "")).kind, RefusalKind::Failed);
    }

    #[test]
    fn a_lock_names_its_holder_and_since_when() {
        let since = Timestamp { secs: 1_790_000_000, nanos: 5 };
        let holder = Holder { key: [0; 32], run: RunId([0; 16]), name: "u at 192.0.2.7".to_owned(), since };
        let root = RelPath::new(b"home/u").unwrap();
        let error = EngineError::from(LeaseError::Locked(Conflict { holder, root, queued: false }));
        let expected = "locked by the backup of '/home/u' (u at 192.0.2.7), since 2026-09-21 14:13:20 UTC";
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Locked, expected));
        assert_eq!(show_moment(Timestamp { secs: i64::MAX, nanos: 0 }), format!("@{}", i64::MAX));
    }
}
