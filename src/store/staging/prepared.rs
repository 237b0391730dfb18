//! [`Prepared`]: what stands ready for a plan, beside its steps.

use std::borrow::Cow;
use std::io;

use serde::{Deserialize, Serialize};

use super::SmallStat;
use crate::backup::digest::Digest;
use crate::backup::plan::{Plan, Prepare, PrepareStep};
use crate::backup::spool::{Spill, Spool};

/// One thing that stands ready.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PreparedItem {
    /// As it is now; a rename changes the ctime of what is placed by itself.
    pub stat: SmallStat,
    /// Digest of a file's content or of a symlink's target.
    pub digest: Option<Digest>,
}

/// An item for each of the plan's `prepare` steps. Directories are ready after what is in them, so they stand apart.
#[derive(Debug, Default)]
pub struct Prepared {
    others: Spool<PreparedItem>,
    /// In the order of their steps; one that is not ready yet has none.
    dirs: Vec<Option<PreparedItem>>,
}

/// Whether a step makes a directory.
pub(super) fn is_dir(step: &PrepareStep) -> bool {
    matches!(step.what, Prepare::Dir | Prepare::DirAside { .. })
}

impl Prepared {
    /// Nothing yet.
    pub(super) fn new(spill: Spill) -> Self {
        Self { others: Spool::new(spill), dirs: Vec::new() }
    }

    /// The next that is no directory.
    pub(super) fn push(&mut self, item: PreparedItem) -> io::Result<()> {
        self.others.push(item)
    }

    /// The next directory; names it for [`Prepared::set_dir`].
    pub(super) fn push_dir(&mut self) -> usize {
        self.dirs.push(None);
        self.dirs.len() - 1
    }

    pub(super) fn set_dir(&mut self, dir: usize, item: PreparedItem) {
        if let Some(place) = self.dirs.get_mut(dir) {
            *place = Some(item);
        }
    }

    /// Each step of the plan that this was made for, with what stands ready for it.
    ///
    /// # Errors
    /// A list that went to the disk cannot be read.
    pub fn beside<'a>(
        &'a self,
        plan: &'a Plan,
    ) -> impl Iterator<Item = io::Result<(Cow<'a, PrepareStep>, Cow<'a, PreparedItem>)>> {
        let (mut others, mut dirs) = (self.others.iter(), self.dirs.iter());
        plan.prepare.iter().map(move |step| {
            let step = step?;
            let item = if is_dir(&step) {
                dirs.next().and_then(Option::as_ref).map(|item| Ok(Cow::Borrowed(item)))
            } else {
                others.next()
            };
            let item = item.ok_or_else(|| io::Error::other(format!("'{}' does not stand ready", step.path)))?;
            Ok((step, item?))
        })
    }
}
