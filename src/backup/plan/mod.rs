//! The plan: what turns the copy's present state under a root into the new manifest.
//!
//! Pure and printable (a dry run prints it). [`Planner`] is fed the two states side by side in canonical order and
//! keeps only what differs; [`Planner::finish`] finds directories and files that moved, decides where each arriving
//! content comes from, and lays out the steps:
//!
//! ```text
//! push(present, wanted) …   compare.rs   leaves (names that go), arrivals (names that come), touches, kept
//!        │
//!        ▼
//! finish(contents)          dir_moves.rs a whole directory that went here and came there: one rename
//!                           resolve.rs   every other arrival: staged | moved | copied | linked | missing
//!        ▼
//! Plan { parks (deepest first), prepare, places (parents first), touches, … }
//! ```
//!
//! All paths are relative to the run's root; leaving names are paths of the state before, arriving names of the state
//! after. A commit parks everything that leaves its name, then places everything that arrives, so cycles (a↔b),
//! file↔directory and hard links need no special case.

mod compare;
mod dir_moves;
mod resolve;
#[cfg(test)]
mod tests;

pub use compare::{PlanOptions, Planner};

use serde::{Deserialize, Serialize};

use super::bytes::Bytes;
use super::digest::Digest;
use super::entry::{Entry, FileContent, Meta};
use super::relpath::RelPath;
use super::spool::Spool;

/// What kind of thing the copy holds at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PresentKind {
    /// Directory.
    Dir,
    /// Regular file.
    File,
    /// Symbolic link.
    Symlink,
    /// Named pipe.
    Fifo,
    /// Anything else that somebody put there.
    Other,
}

/// What the copy holds at a path, after the stat pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Present {
    /// Below the run's root.
    pub path: RelPath,
    /// Kind.
    pub kind: PresentKind,
    /// Inode.
    pub ino: u64,
    /// Bytes, for a file.
    pub size: u64,
    /// BLAKE3 of a file's content or of a symlink's target.
    pub digest: Option<Digest>,
    /// Metadata as on disk.
    pub meta: Meta,
    /// Another path below the root is the same inode.
    pub within: bool,
    /// A path outside of the root is, where nothing may change: this name may leave the inode, not alter it.
    pub outside: bool,
}

impl Present {
    /// Another path is the same inode, wherever.
    pub fn is_shared(&self) -> bool {
        self.within || self.outside
    }
}

/// What the new manifest wants at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The manifest's entry.
    pub entry: Entry,
    /// The metadata that the plain copy should show; none: the entry lives in the manifest alone (devices).
    pub form: Option<Meta>,
}

/// Where content lies that an arriving file can be made from without the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContentPlace {
    /// Staged, under another path of this run or without one.
    Staged,
    /// In the copy, at a path relative to the copy.
    Copy(RelPath),
    /// A retired file, by its place below `retired/`.
    Retired(RelPath),
    /// In the vault, under its digest.
    Vault,
}

/// What the store knows about content: asked once per arriving file.
pub trait Contents {
    /// Whether exactly this content is staged for this path.
    fn is_staged(&self, path: &RelPath, digest: &Digest, size: u64) -> bool;
    /// Any place that holds this content, verified when it is used.
    fn find(&self, digest: &Digest, size: u64) -> Option<ContentPlace>;
}

/// Where a name that leaves goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParkTo {
    /// Into history.
    Retire,
    /// Aside, to be placed again by this plan under the same slot.
    Hold,
    /// Aside, to be unlinked once the commit is durable: nothing that history needs.
    Trash,
}

/// A name that leaves. `slot` is unique within the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Park {
    /// Old path.
    pub path: RelPath,
    /// The inode that must be there.
    pub ino: u64,
    /// A directory goes with all it still holds.
    pub is_dir: bool,
    /// Where to.
    pub to: ParkTo,
    /// Names the parking place.
    pub slot: u32,
    /// Other links of this inode stay in the copy: its content is copied into history first.
    pub preserve: bool,
}

/// Where a hard link's first name is, before the commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkFrom {
    /// In staging, at this path.
    Staged(RelPath),
    /// In the copy, at this old path below the root.
    Present(RelPath),
}

/// What must stand in staging before the commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Prepare {
    /// A new directory.
    Dir,
    /// A new directory, made empty at the parking place of this slot and placed from there, so that it does not take
    /// along what is staged below its path: some of that belongs into a directory that moves into this one.
    DirAside {
        /// Names the parking place.
        slot: u32,
    },
    /// A symlink.
    Symlink {
        /// Where it points to.
        target: Bytes,
    },
    /// A named pipe.
    Fifo,
    /// The content has arrived.
    Staged,
    /// The content is copied from within the store.
    Copy {
        /// From where.
        from: ContentPlace,
        /// What it must be.
        content: FileContent,
    },
    /// Another name of a file.
    Link {
        /// Which.
        from: LinkFrom,
    },
}

/// One thing to stand in staging, at the path where it will be placed ([`Prepare::DirAside`] stands elsewhere).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrepareStep {
    /// New path.
    pub path: RelPath,
    /// What.
    pub what: Prepare,
    /// Its metadata on disk. Not to be set on a [`Prepare::Link`]: it is an inode that stands elsewhere already, in
    /// staging with its own step or in the live copy, where a touch sets it in its turn.
    pub form: Meta,
}

/// Where a placed thing comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceFrom {
    /// Staging, at the same path; a directory brings all that is staged below it, so nothing may be left in staging
    /// below it but what `prepare` names.
    Staged,
    /// The parking place of this slot.
    Hold(u32),
}

/// A name that arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// New path.
    pub path: RelPath,
    /// From where.
    pub from: PlaceFrom,
}

/// Metadata to set on something that stays or has been placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touch {
    /// New path.
    pub path: RelPath,
    /// What it is to show.
    pub form: Meta,
    /// Symlinks are touched without following.
    pub kind: PresentKind,
}

/// Content that the client has to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingContent {
    /// Path that wants it.
    pub path: RelPath,
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub size: u64,
}

/// How many paths of which fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    /// New paths.
    pub created: u64,
    /// Files with new content, and type changes.
    pub updated: u64,
    /// Paths that only changed their name.
    pub moved: u64,
    /// Paths gone.
    pub deleted: u64,
    /// Paths with new metadata only.
    pub touched: u64,
    /// Everything else.
    pub unchanged: u64,
}

/// What is printed of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A new path.
    Create(RelPath),
    /// New content or type.
    Update(RelPath),
    /// A new name (from, to).
    Move(RelPath, RelPath),
    /// A path goes (a directory stands for all it holds).
    Delete(RelPath),
    /// New metadata.
    Touch(RelPath),
}

impl Line {
    /// The path it is sorted by.
    pub fn path(&self) -> &RelPath {
        match self {
            Self::Create(path) | Self::Update(path) | Self::Move(_, path) | Self::Delete(path) | Self::Touch(path) => {
                path
            }
        }
    }
}

/// The plan. See the module.
#[derive(Debug, Default)]
pub struct Plan {
    /// Names that leave, deepest first.
    pub parks: Vec<Park>,
    /// What must be staged, canonical order.
    pub prepare: Spool<PrepareStep>,
    /// Names that arrive, parents first.
    pub places: Vec<Place>,
    /// Metadata, after all places, each path once, canonical order.
    pub touches: Vec<Touch>,
    /// Paths that the copy keeps beyond the manifest, canonical order.
    pub kept: Vec<RelPath>,
    /// Content that is nowhere in the store. The paths that want it have lines and counts, but no steps: a plan that
    /// misses content can be printed, not executed.
    pub missing: Vec<MissingContent>,
    /// What to print, canonical order (a move by its new name).
    pub lines: Vec<Line>,
    /// Counts.
    pub counts: Counts,
    /// Files that go and are not moved, for the delete guard.
    pub files_gone: u64,
    /// Files that the copy held under the root.
    pub files_before: u64,
}

impl Plan {
    /// Nothing to do on disk.
    pub fn is_empty(&self) -> bool {
        self.parks.is_empty() && self.places.is_empty() && self.touches.is_empty() && self.missing.is_empty()
    }

    /// How much the client has to send.
    pub fn bytes_missing(&self) -> u64 {
        self.missing.iter().fold(0, |sum, missing| missing.size.saturating_add(sum))
    }
}
