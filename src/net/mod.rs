//! L1, the transport: frames, messages, TLS, links. It knows nothing of backups but ids and limits.
//!
//! | file | what |
//! | --- | --- |
//! | [`message`] | what is said |
//! | [`frame`] | messages as bytes, without I/O |
//! | [`link`] | what a session talks through: blocking, bounded, on a wire or in memory |
//! | [`connection`] | carries a link over a stream; keepalive, silence, backpressure |
//! | [`packing`], `packer` | when frames travel packed by zstd, and how |
//! | [`identity`], `tls` | Ed25519 keys; TLS 1.3 with raw public keys, both ways |
//! | [`peer`], `peer_uid` | who is at the other end |
//! | [`handshake`] | the first two messages |
//! | [`client`], [`listener`] | the two ways to get a link |
//! | `guests`, `probation`, `sessions` | what who is not welcome yet may use; how many may be |
//! | [`connections`] | those of a listener, by key: a revoked key's are ended |
//! | [`control`] | a third: on this machine, for who administers the store |
//! | [`runtime`], [`shutdown`] | where the tasks run; how they are told to stop |
//!
//! tokio lives here only, and shows only in that its runtime carries the connections: all calls block.

pub mod client;
pub mod connection;
pub mod connections;
pub mod control;
pub mod frame;
mod guests;
pub mod handshake;
pub mod identity;
pub mod link;
pub mod listener;
pub mod message;
mod packer;
pub mod packing;
pub mod peer;
mod peer_uid;
mod probation;
mod queue;
pub mod runtime;
pub mod sessions;
pub mod shutdown;
pub mod socket;
#[cfg(test)]
mod testing;
pub mod tls;

/// What `fuzz/` reaches beyond the public modules.
#[cfg(fuzzing)]
pub mod fuzzing {
    pub use super::packer::{Packer, Unpacker};
    pub use super::peer_uid::find as find_uid;
}
