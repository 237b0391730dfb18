//! The real programs, end to end: a daemon on a free loopback port, clients with folders of their own, TLS between
//! them. What a user would notice, one file a subject; the numbers of issue 2's checks stand at the tests.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod backup;
mod beside;
mod catch_up;
mod client_console;
mod clocks;
mod confine;
mod console;
mod console_tls;
mod crowd;
mod cut;
mod damage;
mod delete;
mod delta;
mod destinations;
mod dry_run;
mod fan_out;
mod forget;
mod hostile;
mod identity;
mod interrupt;
mod join;
mod long;
mod loopback;
mod metadata;
mod modes;
mod output;
mod pace;
mod past;
mod places;
mod prune;
mod purge;
mod race;
mod raw;
mod reader;
mod refusals;
mod rehash;
mod relay;
mod relay_lost;
mod restore;
mod rights;
mod roots;
mod screen;
mod slow;
mod space;
mod stores;
mod trouble;
mod unseen;
mod vault;
mod verify;
mod versions;
mod wire;
