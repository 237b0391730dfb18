//! L3, one file per use case; the only place where logic, disk and network meet.
//!
//! Engine code is synchronous and lives in plain threads; `net` carries its messages ([`crate::net::link::Link`]).
//! The client's side and the store's side of one use case stand side by side:
//!
//! | use case | client | store |
//! | --- | --- | --- |
//! | back up | [`push`] | `receive` |
//! | restore, list | [`restore`], [`inspect`] | `restore_serve` |
//! | go back | [`past`] | `past_serve`, `restore_serve` |
//! | forget a root | [`inspect`] | `forget` |
//! | take a path out of history | [`purge`] | [`purge`] |
//! | status | [`inspect`] | `inspect_serve` |
//! | verify, statistics | [`admin`] | [`verify`], `stats` |
//! | prune, release | [`admin`] | [`prune`], `prune_serve` |
//! | be a destination | [`destination`] | `fan_out` |
//! | pass on only | | `fan_out`, `relay` |
//!
//! What may run side by side on one store (leases, DESIGN 7):
//!
//! | | backup or forget, overlapping root | backup, disjoint root | restore, list, status |
//! | --- | --- | --- | --- |
//! | backup, forget or purge (the whole copy) | waits or exits 11 | yes | yes: reads committed snapshots only |
//! | restore, list, status | yes | yes | yes |
//! | verify | waits; its own brief leases refuse nobody | yes | yes |
//! | pack, prune (one at a time) | pauses, 10 minutes at most | the same | yes: what is read is pinned, or looked for again |
//!
//! [`trust`] says who is let in. `hub` is what the sessions of one store share, `session` one conversation, `wire` checks what a peer says,
//! [`observer`] tells what happens, `recover` finishes what a crash interrupted, `vaults` opens history, `run_log` writes
//! down how each run ended, [`confine`] what a process keeps of its rights (`login_names` is outside of it), `run_id` keeps the runs of different copies apart. `upkeep` is the one thread that works beside the sessions: `pack` moves what was retired into
//! the vaults, [`prune`] lets go what no rule keeps. [`room`] says how much a run may stage,
//! [`rules`] what an operator changes meanwhile. Who watches looks at [`live`], from [`inside`] the daemon; [`progress`] tells how far a run is.

pub mod admin;
mod catch_up;
pub mod client;
mod clock;
pub mod confine;
pub mod daemon;
pub mod destination;
pub mod error;
mod fan_out;
mod forget;
mod history;
#[cfg(test)]
pub(in crate::engine) mod hostile;
mod hub;
pub mod inside;
pub mod inspect;
mod inspect_serve;
pub mod live;
mod login_names;
pub mod observer;
mod pack;
pub mod past;
mod past_serve;
mod patience;
mod placed;
pub mod progress;
pub mod prune;
mod prune_serve;
pub mod purge;
pub mod push;
mod receive;
mod recover;
mod relay;
pub mod restore;
mod restore_serve;
pub mod room;
pub mod rules;
mod run_id;
mod run_log;
mod session;
mod source;
mod stats;
pub mod stop;
mod stopwatch;
pub mod trust;
mod upkeep;
mod vaults;
pub mod verify;
mod wire;

/// What `fuzz/` reaches beyond the public modules.
#[cfg(fuzzing)]
pub mod fuzzing {
    pub use super::past_serve::literal_folder;
    pub use super::wire::{
        Bits, Change, change_from_wire, entry_bytes, entry_from_wire, entry_to_wire, owners_from_wire, sentence,
        sentences,
    };
}
