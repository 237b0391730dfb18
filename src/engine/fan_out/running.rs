//! [`Running`]: what is on its way to a destination, for those who ask how it goes.

use super::board::DestinationId;
use crate::backup::relpath::RelPath;
use crate::store::names::CopyName;

/// A run to a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Running {
    /// Where to.
    pub(in crate::engine) id: DestinationId,
    /// Whose.
    pub(in crate::engine) copy: CopyName,
    /// Of what.
    pub(in crate::engine) root: RelPath,
    /// Bytes of files that are dealt with, of so many, if that is known.
    pub(in crate::engine) progress: (u64, Option<u64>),
}

impl Running {
    pub(super) fn new(id: DestinationId, copy: CopyName, root: RelPath) -> Self {
        Self { id, copy, root, progress: (0, None) }
    }

    /// In words. Who may not know of other copies learns only that there is one.
    pub(in crate::engine) fn words(&self, asking: &CopyName, may_see_all: bool) -> String {
        let what = if self.copy == *asking {
            format!("'/{}'", self.root)
        } else if may_see_all {
            format!("'/{}' of {}", self.root, self.copy)
        } else {
            "a backup of another".to_owned()
        };
        match self.progress {
            (bytes, Some(total)) if total > 0 => {
                let percent = u128::from(bytes.min(total)) * 100 / u128::from(total);
                format!("{what}, {percent} %")
            }
            _ => what,
        }
    }
}
