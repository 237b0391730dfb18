//! Lists of a run that are too long for memory: each in a file without a name, in the run's folder.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::Staging;
use crate::backup::spool::{Overflow, Spill};
use crate::tree::error::TreeError;
use crate::tree::safe_dir::SafeDir;

/// Items of a list that stay in memory: more than most runs have. Some 40 MiB.
const ITEMS_MAX: usize = 128 * 1024;
/// Tests that know the inside, and those that kill the program, try all they try with lists that have left it. With the
/// feature `failpoints` those that have many files say another number in `RBBACKUP_ITEMS_MAX`.
const ITEMS_MAX_TESTS: usize = 8;

/// See [`ITEMS_MAX`].
pub(super) fn items_max() -> usize {
    if cfg!(feature = "failpoints") {
        let said = std::env::var("RBBACKUP_ITEMS_MAX").ok().and_then(|said| said.parse().ok());
        return said.unwrap_or(ITEMS_MAX_TESTS);
    }
    if cfg!(test) { ITEMS_MAX_TESTS } else { ITEMS_MAX }
}

/// The name that such a file has for a moment. One thread makes them.
const NAME: &[u8] = b"list";

impl Staging {
    /// For the lists of this run.
    pub fn spill(&self) -> Spill {
        let dir = Arc::clone(&self.dir);
        Spill::after(items_max(), move || Ok(Box::new(Unnamed(unnamed(&dir, NAME).map_err(|e| e.source)?))))
    }

    /// A list that could not be kept.
    pub(crate) fn spool_error(&self, error: io::Error) -> TreeError {
        TreeError::new("keep a list in", self.dir.label(), b"", error)
    }
}

/// A new file that goes when it is closed. It has this name for a moment; what a crash left there is taken away first.
pub(super) fn unnamed(dir: &SafeDir, name: &[u8]) -> Result<File, TreeError> {
    dir.unlink(name).or_else(|e| if e.is_not_found() { Ok(()) } else { Err(e) })?;
    let file = dir.create_new(name, 0o600)?;
    dir.unlink(name)?;
    Ok(file)
}

struct Unnamed(File);

impl Overflow for Unnamed {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        self.0.read_exact_at(buf, at)
    }
}
