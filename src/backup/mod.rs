//! L0, the backup logic: pure data and decisions.
//!
//! Nothing here opens a file or a socket, reads a clock or draws a random number; what depends on those comes in as an
//! argument. That makes every rule of a backup testable without a disk, and keeps the logic strictly apart from the
//! network ([`crate::net`]), which takes only ids and limits from here. The one thread that is started here
//! ([`whole_hash`]) computes, and nothing else.

pub mod block_hash;
pub mod bytes;
pub mod chunker;
pub mod delta;
pub mod difference;
pub mod digest;
pub mod digest_filter;
pub mod entry;
pub mod fanout;
pub mod filter;
pub mod fingerprint;
pub mod guard;
pub mod hash_cache;
pub mod lease;
pub mod limits;
pub mod manifest;
pub mod plan;
pub mod purge;
pub mod relpath;
pub mod retention;
pub mod snapshot;
pub mod sorted_file;
pub mod spool;
pub mod timeline;
pub mod token;
pub mod when;
pub mod whole_hash;
