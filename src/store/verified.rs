//! [`VerifiedState`]: when a copy was verified last, and which part comes next. `verified/<node>@<user>`, TOML, for `status`
//! and for `--sample`. It may be deleted: then the first part comes next.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::names::CopyName;
use crate::tree::own;

const BYTES_MAX: u64 = 16 * 1024;
const VERSION: u32 = 1;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedState {
    version: u32,
    /// The part that was looked at, from 1; 0: all of it.
    pub part: u32,
    /// How many parts there are; 1 or less: all at once.
    pub parts: u32,
    /// When, seconds since 1970.
    pub ended_secs: i64,
    /// Damages that were found then.
    pub damages: u64,
    /// When all of it had been looked at last, in one run or in parts; 0: never.
    pub complete_secs: i64,
}

impl VerifiedState {
    /// What `before` becomes after a run.
    pub fn new(before: Option<&Self>, part: u32, parts: u32, ended_secs: i64, damages: u64) -> Self {
        let whole = part == 0 || part == parts;
        let complete_secs = if whole { ended_secs } else { before.map_or(0, |before| before.complete_secs) };
        Self { version: VERSION, part, parts, ended_secs, damages, complete_secs }
    }

    /// As it was left; none: never verified, or it cannot be understood.
    pub fn load(folder: &Path, copy: &CopyName) -> Option<Self> {
        let bytes = own::read_file(&folder.join(copy.component()), BYTES_MAX).ok()?;
        let state: Self = toml::from_str(std::str::from_utf8(&bytes).ok()?).ok()?;
        Some(state).filter(|state| state.version == VERSION)
    }

    /// Keeps it.
    ///
    /// # Errors
    /// The disk's.
    pub fn save(&self, folder: &Path, copy: &CopyName) -> io::Result<()> {
        own::make_dir(folder)?;
        let text = toml::to_string(self).map_err(io::Error::other)?;
        own::write_file_lazily(folder, &copy.component(), text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept_and_damage_is_nothing_known() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, copy) = (dir.path().join("verified"), CopyName::local(b"u").unwrap());
        assert_eq!(VerifiedState::load(&folder, &copy), None);
        let first = VerifiedState::new(None, 29, 30, 100, 2);
        assert_eq!(first.complete_secs, 0);
        let last = VerifiedState::new(Some(&first), 30, 30, 200, 0);
        assert_eq!(last.complete_secs, 200);
        last.save(&folder, &copy).unwrap();
        assert_eq!(VerifiedState::load(&folder, &copy), Some(last));
        std::fs::write(folder.join(copy.component()), "version = 2").unwrap();
        assert_eq!(VerifiedState::load(&folder, &copy), None);
    }
}
