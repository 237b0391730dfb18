//! The store's side of going back: which snapshots there are, what they hold, what changed between them. It reads
//! committed snapshots only and waits for no lease. What can be long comes in parts and is not held: `history` asks each
//! manifest file for one path, `find` and `diff` read each once, side by side ([`crate::backup::timeline`]).

mod choose;
mod diff;
mod history;
mod list;
pub(in crate::engine) mod parts;

pub(super) use choose::choose;
pub(super) use diff::diff;
#[cfg(fuzzing)]
pub use history::literal_folder;
pub(super) use history::{find, history};
pub(super) use list::{runs, snapshots};
