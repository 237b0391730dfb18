//! Exit codes, DESIGN 13: one table, in the order that decides when several reasons apply.

use std::process::ExitCode;

/// How a command ended. Scripts rely on the numbers: they never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// Done.
    Done,
    /// Failed, or damage found.
    Failed,
    /// Wrong arguments or configuration.
    Usage,
    /// Committed, but some sources could not be read; or restored, but not all could be applied.
    Incomplete,
    /// Server not reachable, or lost and not regained.
    Unreachable,
    /// Locked by another run.
    Locked,
    /// Identity or rights.
    NotAllowed,
    /// No space or over quota.
    NoSpace,
    /// Delete guard.
    Guard,
    /// Fewer copies than asked.
    Copies,
    /// Interrupted.
    Interrupted,
}

/// Code and meaning; of several reasons the one that stands first here decides.
const TABLE: [(Exit, u8, &str); 11] = [
    (Exit::Interrupted, 130, "interrupted"),
    (Exit::NotAllowed, 12, "not allowed (identity, rights)"),
    (Exit::Unreachable, 10, "server not reachable, or lost and not regained"),
    (Exit::NoSpace, 13, "no space or over quota"),
    (Exit::Guard, 14, "the delete guard refused"),
    (Exit::Locked, 11, "locked by another run"),
    (Exit::Usage, 2, "wrong arguments or configuration"),
    (Exit::Failed, 1, "failed, or damage found"),
    (Exit::Copies, 15, "fewer copies than asked"),
    (Exit::Incomplete, 3, "committed, but some sources could not be read; or restored, but not all could be applied"),
    (Exit::Done, 0, "done"),
];

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        TABLE.iter().find(|row| row.0 == self).map_or(1, |row| row.1)
    }

    /// Back from a number; one that is not in the table is a failure.
    pub fn from_code(code: u8) -> Self {
        TABLE.iter().find(|row| row.1 == code).map_or(Self::Failed, |row| row.0)
    }

    /// Of several reasons, the one that decides; [`Exit::Done`] of none.
    pub fn decide(reasons: impl IntoIterator<Item = Self>) -> Self {
        let rank = |exit: &Self| TABLE.iter().position(|row| row.0 == *exit);
        reasons.into_iter().min_by_key(rank).unwrap_or(Self::Done)
    }

    /// The table for `--help`, by number.
    pub fn help() -> String {
        let mut rows = TABLE;
        rows.sort_by_key(|row| row.1);
        let mut text = String::from("Exit codes:\n");
        for (_, code, meaning) in rows {
            text.push_str(&format!("  {code:>3}  {meaning}\n"));
        }
        text
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::error::ErrorKind;

    #[test]
    fn order_of_several_reasons_is_the_design_s() {
        let order = [130, 12, 10, 13, 14, 11, 2, 1, 15, 3, 0];
        for (i, first) in order.iter().enumerate() {
            for later in &order[i..] {
                let both = [Exit::from_code(*later), Exit::from_code(*first)];
                assert_eq!(Exit::decide(both).code(), *first, "{first} before {later}");
            }
        }
        assert_eq!(Exit::decide([]), Exit::Done);
    }

    #[test]
    fn every_code_of_the_engine_is_in_the_table() {
        use ErrorKind::{Failed, Guard, Interrupted, Locked, NoSpace, NotAllowed, Unreachable};
        for kind in [Failed, Unreachable, Locked, NotAllowed, NoSpace, Guard, Interrupted] {
            assert_eq!(Exit::from_code(kind.exit_code()).code(), kind.exit_code());
        }
        assert_eq!(Exit::from_code(77), Exit::Failed);
    }

    #[test]
    fn help_names_every_code() {
        let help = Exit::help();
        for (_, code, meaning) in TABLE {
            assert!(help.contains(&format!("{code:>3}  {meaning}\n")));
        }
    }
}
