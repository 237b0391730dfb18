//! The journal of a commit: everything that is needed to finish it after a crash, in one sealed file.
//!
//! ```text
//! .rbbackup/journal/<run id>     MAGIC "RBJOURNL" | version u32 | length | bincode Journal | BLAKE3     (see encode_sealed)
//! ```
//! Written to a temporary name, flushed, renamed, its directory flushed: a journal that is visible is whole. While it
//! exists the copy may be between two states; once it is gone the commit is over.

use serde::{Deserialize, Serialize};

use crate::backup::bytes::Bytes;
use crate::backup::digest::RunId;
use crate::backup::entry::Meta;
use crate::backup::plan::{ParkTo, PresentKind};
use crate::backup::relpath::RelPath;
use crate::backup::snapshot::{RecordError, decode_sealed, encode_sealed};

const MAGIC: [u8; 8] = *b"RBJOURNL";
const VERSION: u32 = 1;

/// A commit under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// The run.
    pub run: RunId,
    /// The copy: node.
    pub node: Bytes,
    /// The copy: user.
    pub user: Bytes,
    /// The root, in copy coordinates.
    pub root: RelPath,
    /// Folder below `staging/`.
    pub staging: Bytes,
    /// The snapshot record that is published when the steps are done.
    pub record: Bytes,
    /// Names that leave, deepest first.
    pub parks: Vec<ParkStep>,
    /// Names that arrive, parents first.
    pub places: Vec<PlaceStep>,
    /// Metadata, last.
    pub touches: Vec<TouchStep>,
}

/// A name that leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkStep {
    /// In copy coordinates.
    pub path: RelPath,
    /// The inode that leaves.
    pub ino: u64,
    /// 0 into history, 1 aside to be placed again, 2 aside to be unlinked.
    pub to: u8,
    /// Names the parking place.
    pub slot: u32,
}

/// A name that arrives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceStep {
    /// In copy coordinates.
    pub path: RelPath,
    /// The inode that arrives.
    pub ino: u64,
    /// Slot of the parking place; 0: the staged tree, at the path below the root.
    pub slot: u32,
}

/// Metadata of one inode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TouchStep {
    /// In copy coordinates.
    pub path: RelPath,
    /// What it is to show.
    pub form: Meta,
    /// 0 directory, 1 file, 2 symlink, 3 fifo.
    pub kind: u8,
}

/// The number of a parking place's kind.
pub(crate) fn park_number(to: ParkTo) -> u8 {
    match to {
        ParkTo::Retire => 0,
        ParkTo::Hold => 1,
        ParkTo::Trash => 2,
    }
}

/// The number of a kind.
pub(crate) fn kind_number(kind: PresentKind) -> u8 {
    match kind {
        PresentKind::Dir => 0,
        PresentKind::File => 1,
        PresentKind::Symlink => 2,
        PresentKind::Fifo | PresentKind::Other => 3,
    }
}

impl Journal {
    /// The sealed form.
    ///
    /// # Errors
    /// [`RecordError`], short of memory only.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        encode_sealed(MAGIC, VERSION, self)
    }

    /// Back from [`Journal::encode`].
    ///
    /// # Errors
    /// Damaged, or another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        decode_sealed(MAGIC, VERSION, bytes)
    }
}
