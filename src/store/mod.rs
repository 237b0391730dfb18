//! L2, where copies live: a folder of plain files per identity, and beside them everything that makes backups whole.
//!
//! ```text
//! layout      names in `.rbbackup`, opening and locking a store      registry   which key owns which folder
//! names       checked node and user names                            invitations who will be let in
//!                                                                    catalog    cache: path -> fingerprint and digest
//! leases      who may change which paths now                         snapshots  immutable records and manifests
//! staging     what has arrived and is not committed                  runs       one record of every run
//! vault       history, in packs                                      present    what does the copy really hold?
//! commit      from staging to the copy, whole or not at all          journal    what a commit will do, durable first
//! succession  from one key of the daemon to the next                  follows    whose backups a destination keeps
//! state_text  the small TOML files, read
//! ```
//!
//! It knows `tree` and `backup`, never `net`. Its own small files are written by `tree::own`.

pub mod catalog;
pub mod commit;
pub mod console_links;
pub(crate) mod failpoint;
pub mod follows;
pub mod invitations;
pub mod journal;
pub mod layout;
pub mod leases;
pub mod names;
pub mod present;
pub mod registry;
pub mod runs;
pub mod snapshots;
pub mod staging;
mod state_text;
pub mod succession;
pub mod vault;
pub mod verified;

pub(crate) use crate::tree::own as durable;
