//! The store's side of going back: which snapshots there are, what they hold, what changed between them. It reads
//! committed snapshots only and waits for no lease.

mod choose;

pub(super) use choose::choose;
