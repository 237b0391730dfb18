//! [`Runs`]: one immutable record of every run of a copy, failed ones too, with its errors.
//!
//! `runs/<node>@<user>/<end secs>.<end nanos>-<run id>.run`: the names sort by time. This is a log for people, not what
//! a restore stands on, so no run waits for it to reach the disk: what a power cut damages is passed over in a list. The
//! oldest go when there are too many: a client that is refused again and again shall not fill the disk.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::backup::snapshot::{RecordError, RunRecord};
use crate::tree::own;

const SUFFIX: &str = ".run";
const RECORD_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Records that a copy keeps.
const RECORDS_MAX: usize = 10_000;

/// Why a run's record cannot be kept or listed.
#[derive(Debug, thiserror::Error)]
pub enum RunsError {
    /// The record cannot be encoded.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The operating system's fault.
    #[error("cannot use '{}': {source}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The run records of one copy.
pub struct Runs {
    dir: PathBuf,
}

impl Runs {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf() }
    }

    /// Keeps a record.
    ///
    /// # Errors
    /// [`RunsError`]; a run that is committed stays committed.
    pub fn put(&self, record: &RunRecord) -> Result<(), RunsError> {
        let fail = |source| RunsError::Io { path: self.dir.clone(), source };
        own::make_dir(&self.dir).map_err(fail)?;
        let name = format!("{:012}.{:09}-{}{SUFFIX}", record.ended.secs.max(0), record.ended.nanos, record.run);
        own::write_file_lazily(&self.dir, &name, &record.encode()?).map_err(fail)?;
        self.keep(RECORDS_MAX)
    }

    /// Removes the oldest beyond so many.
    fn keep(&self, count_max: usize) -> Result<(), RunsError> {
        for name in self.names()?.iter().skip(count_max) {
            let path = self.dir.join(name);
            own::remove(&path).map_err(|source| RunsError::Io { path, source })?;
        }
        Ok(())
    }

    /// The newest records, newest first; damaged ones are passed over.
    ///
    /// # Errors
    /// [`RunsError::Io`].
    pub fn newest(&self, count_max: usize) -> Result<Vec<RunRecord>, RunsError> {
        let read = |name: &OsString| {
            let bytes = own::read_file(&self.dir.join(name), RECORD_BYTES_MAX).ok()?;
            RunRecord::decode(&bytes).ok()
        };
        Ok(self.names()?.iter().filter_map(read).take(count_max).collect())
    }

    /// All names, newest first.
    fn names(&self) -> Result<Vec<OsString>, RunsError> {
        let fail = |source| RunsError::Io { path: self.dir.clone(), source };
        let mut names = match own::names(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(fail)?,
        };
        names.retain(|name| {
            let name = name.as_encoded_bytes();
            name.ends_with(SUFFIX.as_bytes()) && !name.starts_with(own::TEMP_PREFIX.as_bytes())
        });
        names.reverse();
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::backup::digest::RunId;
    use crate::backup::fingerprint::Timestamp;
    use crate::backup::relpath::RelPath;
    use crate::backup::snapshot::{ClientInfo, RunKind, RunOutcome};

    fn record(n: u8) -> RunRecord {
        RunRecord {
            run: RunId([n; 16]),
            kind: RunKind::Backup,
            root: RelPath::new(b"home").unwrap(),
            started: Timestamp::default(),
            ended: Timestamp { secs: i64::from(n), nanos: 0 },
            outcome: RunOutcome::Failed { exit_code: 13, message: "full".into() },
            content_bytes: 0,
            errors: vec!["a: gone".into()],
            errors_total: 1,
            client: ClientInfo::default(),
        }
    }

    #[test]
    fn the_newest_come_first_and_damage_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let runs = Runs::new(&dir.path().join("n@u"));
        assert!(runs.newest(9).unwrap().is_empty());
        for n in [2, 1, 3] {
            runs.put(&record(n)).unwrap();
        }
        fs::write(dir.path().join("n@u/9-x.run"), b"").unwrap();
        assert_eq!(runs.newest(2).unwrap(), [record(3), record(2)]);
        fs::remove_file(dir.path().join("n@u/9-x.run")).unwrap();
        runs.keep(2).unwrap();
        assert_eq!(runs.newest(9).unwrap(), [record(3), record(2)], "the oldest went");
    }
}
