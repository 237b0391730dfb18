//! Distributed backup, the daemon's side (DESIGN 9): destinations that attend, runs that are passed on to them.

pub(super) mod attend;
// What runs and healing ask of it is used by them.
#[allow(dead_code)]
pub(super) mod board;
#[allow(dead_code)]
pub(super) mod challenge;
// What live runs ask of it is used by them.
#[allow(dead_code)]
pub(super) mod heal;
#[allow(dead_code)]
mod router;
mod running;
#[allow(dead_code)]
mod target;
pub(super) mod whose;
