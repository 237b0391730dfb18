//! What the crash tests share: seeded randomness, states of trees, the real programs around a store.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub mod forest;
pub mod history;
pub mod past;
#[path = "../patience.rs"]
pub mod patience;
pub mod rng;
pub mod spec;
pub mod state;
pub mod world;
