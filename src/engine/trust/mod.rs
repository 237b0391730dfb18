//! Who is let in, and who is not any more (DESIGN 8).
//!
//! ```text
//! on the daemon                                          on the client
//! admit       a peer's first words: whose key is it,     known       keys and pins of the servers that we know
//!             is it invited, what may it do              join        redeem an invitation
//! identities  invitations, users, revoking, rights       rekey       another key for ourselves
//! keys        the daemon's own key, and how it changes   follow      a server that changed its key
//!                        who administers the store: `manage` asks what `identities` answers
//! ```
//!
//! Always holds: nothing is done for a peer before `admit` has said who it is; what changes who may come in is on the
//! disk before it is answered, and ends the connections that were let in under what held before.

pub(super) mod admit;
pub(super) mod follow;
pub(super) mod identities;
pub mod join;
pub(super) mod keys;
pub(super) mod known;
pub mod manage;
pub mod rekey;

pub use self::known::joined_user;

use crate::net::identity::PublicKey;
use crate::store::registry::Right;

/// What a daemon's key signs the next one over for; the signature is over both.
const SUCCESSION: &str = "succession of a daemon";
/// What a client's new key signs for: the daemon's key, the old one and itself.
const REKEY: &str = "rekey of a client";

/// Rights as bits, as they travel.
fn rights_to_bits(rights: &[Right]) -> u8 {
    Right::ALL.iter().enumerate().filter(|(_, right)| rights.contains(right)).fold(0, |bits, (i, _)| bits | 1 << i)
}

/// None: a bit that is no right.
fn rights_from_bits(bits: u8) -> Option<Vec<Right>> {
    let all = Right::ALL.iter().enumerate();
    (bits >> Right::ALL.len() == 0).then(|| all.filter(|(i, _)| bits >> i & 1 == 1).map(|(_, right)| *right).collect())
}

/// Whether one key signed the next one over.
fn is_signed_over(from: PublicKey, to: PublicKey, signature: &[u8]) -> bool {
    from.has_signed(SUCCESSION, &[&from.0, &to.0], signature)
}
