//! L3, one file per use case; the only place where logic, disk and network meet.

pub mod client;
pub mod daemon;
pub mod error;
pub mod inspect;
pub mod observer;
pub mod push;
pub mod restore;
