//! The journal of a commit: everything that is needed to finish it after a crash, in one sealed file.
//!
//! ```text
//! .rbbackup/journal/<run id>     MAGIC "RBJOURNL" | version u32 | length u64 | bincode Journal | BLAKE3 of all before
//! ```
//! Written to a temporary name, flushed, renamed, its directory flushed: a journal that is visible is whole. While it
//! exists the copy may be between two states; once it is gone the commit is over.

use serde::{Deserialize, Serialize};

use crate::backup::bytes::Bytes;
use crate::backup::digest::Digest;
use crate::backup::digest::RunId;
use crate::backup::entry::Meta;
use crate::backup::plan::{ParkTo, PresentKind};
use crate::backup::relpath::RelPath;

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

/// Why a journal cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Bytes are not what was written.
    #[error("it is damaged: {what}")]
    Damaged {
        /// What is wrong.
        what: &'static str,
    },
    /// Written by another version of this program.
    #[error("it has version {found}, this program reads version {VERSION}")]
    OtherVersion {
        /// Its version.
        found: u32,
    },
    /// It cannot be encoded.
    #[error("it cannot be encoded: {what}")]
    Encode {
        /// Why.
        what: String,
    },
}

const HEAD_LEN: usize = MAGIC.len() + 4 + 8;
const SEAL_LEN: usize = 32;

impl Journal {
    /// The sealed form.
    ///
    /// # Errors
    /// Short of memory only.
    pub fn encode(&self) -> Result<Vec<u8>, JournalError> {
        let body = bincode::serde::encode_to_vec(self, bincode::config::standard())
            .map_err(|e| JournalError::Encode { what: e.to_string() })?;
        let mut out = Vec::with_capacity(HEAD_LEN + body.len() + SEAL_LEN);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(body.len() as u64).to_le_bytes());
        out.extend_from_slice(&body);
        let seal = Digest::of(&out);
        out.extend_from_slice(&seal.0);
        Ok(out)
    }

    /// Back from [`Journal::encode`]. The seal is checked before anything is decoded.
    ///
    /// # Errors
    /// Damaged, or another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, JournalError> {
        let damaged = |what| JournalError::Damaged { what };
        let rest = bytes.strip_prefix(&MAGIC).ok_or_else(|| damaged("it is not a journal"))?;
        let (version, rest) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("it is cut short"))?;
        let found = u32::from_le_bytes(*version);
        if found != VERSION {
            return Err(JournalError::OtherVersion { found });
        }
        let (len, rest) = rest.split_first_chunk::<8>().ok_or_else(|| damaged("it is cut short"))?;
        let (body, seal) = rest.split_last_chunk::<SEAL_LEN>().ok_or_else(|| damaged("it is cut short"))?;
        if body.len() as u64 != u64::from_le_bytes(*len) {
            return Err(damaged("its length is not what it says"));
        }
        let sealed = bytes.get(..bytes.len() - SEAL_LEN).unwrap_or_default();
        if Digest::of(sealed).0 != *seal {
            return Err(damaged("its seal does not match"));
        }
        // No limit: a journal has no greatest length, and what is claimed in it takes no memory before it is there.
        let (journal, read): (Journal, usize) = bincode::serde::decode_from_slice(body, bincode::config::standard())
            .map_err(|_| damaged("it does not decode"))?;
        if read == body.len() { Ok(journal) } else { Err(damaged("it has trailing bytes")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_byte_is_found() {
        let path = RelPath::new(b"a/b").unwrap();
        let journal = Journal {
            run: RunId([7; 16]),
            node: Bytes(b"127.0.0.1".to_vec()),
            user: Bytes(b"u".to_vec()),
            root: RelPath::root(),
            staging: Bytes(b"s".to_vec()),
            record: Bytes(vec![1, 2, 3]),
            parks: vec![ParkStep { path: path.clone(), ino: 5, to: 0, slot: 1 }],
            places: vec![PlaceStep { path: path.clone(), ino: 6, slot: 0 }],
            touches: vec![TouchStep { path, form: Meta::default(), kind: 1 }],
        };
        let bytes = journal.encode().unwrap();
        assert_eq!(Journal::decode(&bytes).unwrap(), journal);
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 0x40;
            assert!(Journal::decode(&bad).is_err(), "byte {i}");
            assert!(Journal::decode(&bytes[..i]).is_err(), "cut at {i}");
        }
    }

    /// Found by fuzzing: it took as much memory as a number in it said.
    #[test]
    fn a_length_that_cannot_be_claims_no_memory() {
        let body = [&[7; 16][..], &[0xfd], &u64::MAX.to_le_bytes()].concat();
        let mut bytes = [&MAGIC[..], &VERSION.to_le_bytes(), &(body.len() as u64).to_le_bytes(), &body].concat();
        let seal = Digest::of(&bytes);
        bytes.extend_from_slice(&seal.0);
        assert_eq!(Journal::decode(&bytes), Err(JournalError::Damaged { what: "it does not decode" }));
    }
}
