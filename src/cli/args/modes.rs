//! Options that are one of a few words.

use clap::ValueEnum;

use crate::net::packing::Compress;

/// `--progress`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProgressMode {
    /// On a terminal only
    #[default]
    Auto,
    /// Also without a terminal, as a line every second
    Always,
    /// No
    Never,
}

/// `--compress`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CompressMode {
    /// Where the line to the server is slow
    #[default]
    Auto,
    /// Also where it costs time
    Always,
    /// No
    Never,
}

impl From<CompressMode> for Compress {
    fn from(mode: CompressMode) -> Self {
        match mode {
            CompressMode::Auto => Self::Auto,
            CompressMode::Always => Self::Always,
            CompressMode::Never => Self::Never,
        }
    }
}
