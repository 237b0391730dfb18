//! [`UnderWay`]: under which names the files of a copy stand that a commit has moved, before a manifest or the catalog says
//! so. A commit whose daemon died stays like that until the next start; its journal tells.

use std::collections::{BTreeMap, HashMap};

use crate::backup::plan::ParkTo;
use crate::backup::relpath::RelPath;
use crate::store::commit::{CommitError, pending, read_journal};
use crate::store::journal::{Journal, park_number};
use crate::store::names::CopyName;
use crate::tree::safe_dir::SafeDir;

/// Of each journal, names that leave and where they arrive; files below a folder go with it.
#[derive(Default)]
pub(super) struct UnderWay(Vec<BTreeMap<RelPath, RelPath>>);

impl UnderWay {
    /// Reads the journals of a copy; what cannot be read is told in the log.
    pub(super) fn read(own: &SafeDir, copy: &CopyName) -> Self {
        let read = || -> Result<Vec<Journal>, CommitError> {
            pending(own)?.whole.into_iter().filter_map(|run| read_journal(own, run).transpose()).collect()
        };
        let journals = read().inspect_err(|error| tracing::warn!("a commit under way cannot be followed: {error}"));
        let ours = |journal: &Journal| {
            journal.node.as_slice() == copy.node().as_bytes() && journal.user.as_slice() == copy.user().as_bytes()
        };
        Self(journals.unwrap_or_default().iter().filter(|journal| ours(journal)).map(moves).collect())
    }

    /// Where what stood there may stand now.
    pub(super) fn now_at<'a>(&'a self, before: &'a RelPath) -> impl Iterator<Item = RelPath> + 'a {
        let above = || std::iter::successors(Some(before.clone()), RelPath::parent);
        self.0.iter().filter_map(move |moves| {
            let (from, to) = above().find_map(|path| moves.get_key_value(&path))?;
            to.join_path(&before.strip_prefix(from)?).ok()
        })
    }
}

fn moves(journal: &Journal) -> BTreeMap<RelPath, RelPath> {
    let arrive: HashMap<u32, &RelPath> = journal.places.iter().map(|place| (place.slot, &place.path)).collect();
    let held = journal.parks.iter().filter(|park| park.to == park_number(ParkTo::Hold));
    held.filter_map(|park| Some((park.path.clone(), (*arrive.get(&park.slot)?).clone()))).collect()
}
