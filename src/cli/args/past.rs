//! Arguments of the commands that look back.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::backup::when::When;
use crate::cli::when::parse_when_now;

/// `--at`.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct AtArgs {
    /// Which snapshot: its number, 2026-11-03, '2026-11-03 14:00', '2 days ago' or latest
    #[arg(long, value_name = "WHEN", default_value = "latest", hide_default_value = true)]
    #[arg(value_parser = parse_when_now, allow_hyphen_values = true)]
    pub at: When,
}

/// The commands that look back.
#[derive(Clone, Debug, Subcommand)]
pub enum PastArgs {
    /// Print a file as the backup has it
    Cat {
        /// The file
        #[arg(value_name = "PATH")]
        path: PathBuf,
        /// Of when.
        #[command(flatten)]
        at: AtArgs,
    },
}
