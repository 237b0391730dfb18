//! Arguments of `restore`.

use std::path::PathBuf;

use clap::ValueEnum;

use super::past::AtArgs;
use crate::engine::restore::Overwrite;

/// Options of a restore.
#[derive(Clone, Debug, clap::Args)]
pub struct RestoreArgs {
    /// What to restore
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// Of when.
    #[command(flatten)]
    pub at: AtArgs,
    /// Write to DIR/NAME, NAME being the last component of PATH, instead of the original place
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// What happens to files that are there already
    #[arg(long, value_name = "WHICH", default_value = "changed")]
    pub overwrite: OverwriteMode,
    /// Remove what the backup does not have
    #[arg(long)]
    pub delete: bool,
    /// Only print what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// `--overwrite`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OverwriteMode {
    /// Replace what differs
    Changed,
    /// Write all anew
    Always,
    /// Replace what is older than the backup's
    Newer,
    /// Leave alone
    Never,
}

impl From<OverwriteMode> for Overwrite {
    fn from(mode: OverwriteMode) -> Self {
        match mode {
            OverwriteMode::Changed => Self::Changed,
            OverwriteMode::Always => Self::Always,
            OverwriteMode::Newer => Self::Newer,
            OverwriteMode::Never => Self::Never,
        }
    }
}
