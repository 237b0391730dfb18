//! Arguments of the commands that look back.

use std::ffi::OsString;
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
    /// List the snapshots: number, time, size, what was sent, root
    Snapshots {
        /// Only those of roots that this is in, or that are below it
        #[arg(value_name = "PATH")]
        path: Option<PathBuf>,
    },
    /// List the contents that a path had: first and last seen, size, digest
    History {
        /// A file or directory
        #[arg(value_name = "PATH")]
        path: PathBuf,
    },
    /// Find paths in all snapshots, also deleted ones
    Find {
        /// In gitignore's words: a name, an absolute path, or the end of one
        #[arg(value_name = "GLOB")]
        glob: OsString,
    },
    /// Show what was created, changed, moved and deleted between two moments
    Diff {
        /// From: a snapshot's number, 2026-11-03, '2026-11-03 14:00', '2 days ago' or latest
        #[arg(value_name = "WHEN", value_parser = parse_when_now)]
        from: When,
        /// To [default: latest]; a PATH of such a name is written ./NAME
        #[arg(value_name = "WHEN", allow_hyphen_values = false)]
        to: Option<OsString>,
        /// At and below this only
        #[arg(value_name = "PATH")]
        path: Option<PathBuf>,
    },
    /// Show how the last runs ended, also those that failed
    Runs {
        /// How many
        #[arg(long, value_name = "N", default_value_t = 20)]
        last: u32,
    },
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
