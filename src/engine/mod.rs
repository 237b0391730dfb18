//! L3, one file per use case; the only place where logic, disk and network meet.

pub mod observer;
