//! What the tests of the whole share: the real programs with folders of their own, trees and their comparison, a wire
//! that can be cut, a peer that holds a lease.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub mod client;
pub mod daemon;
pub mod destination;
pub mod fake_destination;
#[path = "crash/forest.rs"]
pub mod forest;
pub mod holder;
pub mod http;
pub mod middle;
pub mod mount;
pub mod patience;
pub mod proxy;
pub mod raw_tls;
#[path = "crash/rng.rs"]
pub mod rng;
#[path = "crash/spec.rs"]
pub mod spec;
#[path = "crash/state.rs"]
pub mod state;
pub mod trees;
