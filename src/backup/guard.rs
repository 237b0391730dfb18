//! The delete guard: stops a run that would take away more than a person is likely to have meant.
//!
//! An emptied, unmounted or half-mounted source looks like a great deletion. Deleted files stay in history anyway; the
//! guard keeps the *copy* useful and the mistake noticed. It counts files that would leave the copy by deletion or by a
//! change of type, with or without `-d`; what moves does not count.

/// More than this many files must go before the share counts.
pub const GUARD_FILES_MAX: u64 = 100;
/// So must be more than this part of what the root holds.
pub const GUARD_PERCENT_MAX: u64 = 25;
/// A root that held this many files is not expected to be empty.
pub const GUARD_EMPTY_FILES_MIN: u64 = 10;

/// What the guard looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct GuardInput {
    /// Files that the copy holds under the root now.
    pub files_before: u64,
    /// Files among them that would go (moves do not count).
    pub files_going: u64,
    /// Directories and other entries that would go.
    pub others_going: u64,
    /// The source root holds nothing.
    pub root_empty: bool,
    /// Id of the root's file system at its last backup; 0 when unknown.
    pub file_system_before: u64,
    /// Id now; 0 when unknown.
    pub file_system_now: u64,
    /// `--force-delete`.
    pub force: bool,
}

/// Why the guard stops a run. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardReason {
    /// Too many at once.
    #[error(
        "{going} of {before} files would be deleted, more than {GUARD_FILES_MAX} and more than {GUARD_PERCENT_MAX} %: \
         nothing was changed; if that is meant, use --force-delete"
    )]
    TooMany {
        /// Files that would go.
        going: u64,
        /// Files before.
        before: u64,
    },
    /// The source is empty.
    #[error(
        "the source is empty and its backup holds {before} files, of which {going} would be deleted: is it mounted? \
         Nothing was changed; if that is meant, use --force-delete"
    )]
    Emptied {
        /// Files that would go.
        going: u64,
        /// Files before.
        before: u64,
    },
    /// Another file system.
    #[error(
        "the source is on another file system than at its last backup, and {going} of {before} files would be deleted \
         ({others} other entries): is the right one mounted? Nothing was changed; if that is meant, use --force-delete"
    )]
    OtherFileSystem {
        /// Files that would go.
        going: u64,
        /// Files before.
        before: u64,
        /// Other entries that would go.
        others: u64,
    },
}

/// Lets the deletions of a run pass, or says why not.
///
/// # Errors
/// [`GuardReason`] is a sentence with the numbers and the way out.
pub fn check(input: &GuardInput) -> Result<(), GuardReason> {
    let GuardInput { files_before: before, files_going: going, others_going: others, .. } = *input;
    if input.force || (going == 0 && others == 0) {
        return Ok(());
    }
    if input.root_empty && before >= GUARD_EMPTY_FILES_MIN && going > 0 {
        return Err(GuardReason::Emptied { going, before });
    }
    let known = input.file_system_before != 0 && input.file_system_now != 0;
    if known && input.file_system_before != input.file_system_now {
        return Err(GuardReason::OtherFileSystem { going, before, others });
    }
    if going > GUARD_FILES_MAX && going.saturating_mul(100) > before.saturating_mul(GUARD_PERCENT_MAX) {
        return Err(GuardReason::TooMany { going, before });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(before: u64, going: u64) -> GuardInput {
        GuardInput { files_before: before, files_going: going, ..GuardInput::default() }
    }

    #[test]
    fn only_many_files_and_a_great_part_are_stopped() {
        assert_eq!(check(&files(1000, 250)), Ok(()));
        assert_eq!(check(&files(1000, 251)), Err(GuardReason::TooMany { going: 251, before: 1000 }));
        assert_eq!(check(&files(101, 100)), Ok(()));
        assert_eq!(check(&files(101, 101)), Err(GuardReason::TooMany { going: 101, before: 101 }));
        assert_eq!(check(&files(u64::MAX, u64::MAX / 8)), Ok(()));
        let message = check(&files(1000, 251)).unwrap_err().to_string();
        assert!(message.starts_with("251 of 1000 files would be deleted") && message.contains("--force-delete"));
    }

    #[test]
    fn an_emptied_root_is_stopped_from_ten_files_on() {
        let emptied = |n| GuardInput { root_empty: true, ..files(n, n) };
        assert_eq!(check(&emptied(9)), Ok(()));
        assert_eq!(check(&emptied(10)), Err(GuardReason::Emptied { going: 10, before: 10 }));
        assert_eq!(check(&GuardInput { root_empty: true, ..files(10, 0) }), Ok(()));
    }

    #[test]
    fn another_file_system_may_delete_nothing() {
        let other = |before, now, going, others| GuardInput {
            file_system_before: before,
            file_system_now: now,
            others_going: others,
            ..files(5, going)
        };
        assert!(matches!(check(&other(1, 2, 1, 0)), Err(GuardReason::OtherFileSystem { .. })));
        assert!(matches!(check(&other(1, 2, 0, 1)), Err(GuardReason::OtherFileSystem { .. })));
        assert_eq!(check(&other(1, 2, 0, 0)), Ok(()));
        assert_eq!(check(&other(1, 1, 5, 5)), Ok(()));
        assert_eq!(check(&other(0, 2, 5, 0)), Ok(()));
        assert_eq!(check(&other(1, 0, 5, 0)), Ok(()));
    }

    #[test]
    fn force_lets_everything_pass() {
        let worst = GuardInput {
            root_empty: true,
            file_system_before: 1,
            file_system_now: 2,
            others_going: 9,
            ..files(1000, 1000)
        };
        assert!(check(&worst).is_err());
        assert_eq!(check(&GuardInput { force: true, ..worst }), Ok(()));
    }
}
