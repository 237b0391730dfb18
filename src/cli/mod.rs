//! L5, the command line: arguments, configuration, progress bars, output, exit codes.
//!
//! ```text
//! argv, environment, config.toml
//!        |  args, environment, config        (pure: values in, `Settings` out)
//!        v
//! client / daemon                            (run the engine, one root after the other)
//!        |  report = the engine's Observer
//!        +-> progress (pure)  -> ticker -> bars on stderr | lines on stderr | json on stdout
//!        +-> render   (pure)  -> the two last lines, ls, status
//!        v
//! exit                                       (one table, and the order of several reasons)
//! ```
//!
//! The engine calls [`report::Reporter`] from several threads; it only notes what happened. One ticker thread per run
//! draws a few times a second from those notes, so a slow terminal never slows a backup down.
//!
//! What is printed where: results and `--json` go to stdout; bars, errors and logs to stderr. Without a terminal (cron)
//! a run that went well prints nothing.

pub mod admin;
pub mod args;
mod checkup;
pub mod client;
mod client_console;
pub mod config;
pub mod console;
pub mod daemon;
pub mod daemon_config;
mod daemon_settings;
pub mod environment;
pub mod exit;
pub mod filters;
mod identities;
mod interrupt;
mod join;
pub mod logging;
mod open_files;
mod past;
mod prune_report;
mod purge;
mod receive;
pub mod render;
pub mod report;
pub mod settings;
pub mod signals;
pub mod terminal;
pub mod ticker;
pub mod units;
pub mod when;
