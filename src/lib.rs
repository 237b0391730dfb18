//! rbbackup: an rsync-like hash backup, client and daemon.
//!
//! A map of the house. Imports point down only (`tests/tidy.rs` holds this):
//!
//! | layer | module | what lives there |
//! | --- | --- | --- |
//! | L5 | [`cli`] | arguments, configuration, progress bars, output, exit codes |
//! | L4 | [`console`] | the web console of both programs |
//! | L4 | [`json`] | objects for programs: lines of `--json`, the console's API |
//! | L3 | [`engine`] | one file per use case; the only place where logic, disk and network meet |
//! | L2 | [`store`] | where copies live: staging, journal, catalog, snapshots, registry |
//! | L1 | [`tree`] | a tree on disk, as both sides see it |
//! | L1 | [`net`] | the transport: frames, messages, TLS, links |
//! | L0 | [`backup`] | the logic, pure: no sockets, no tokio, no file system, no clock, no randomness |

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod backup;
pub mod cli;
pub mod console;
pub mod engine;
pub mod json;
pub mod net;
pub mod store;
pub mod tree;
