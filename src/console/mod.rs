//! L4, the web console that both programs carry inside: what it shows is asked of the engine, as any client would.
//!
//! ```text
//! browser ── HTTP ──> serve ──> gate ──> assets                     (the pages: plain files in the binary)
//!                     accept,   Host,    session                    (who is signed in)
//!                     TLS       Origin,  live                       (server-sent events: what goes on)
//!                               session, copies, files, archive     (browsing: both programs)
//!                               CSRF     daemon::{overview, people, …}
//! ```
//! The interface is written down in `docs/api.md`; the pages use nothing else. The engine is synchronous: what asks it runs
//! on a thread of its own (`asking::blocking`), of which there are only so many. Open event streams end with the process.

/// Port of the daemon's.
pub const PORT: u16 = 8731;

mod access;
mod answer;
mod archive;
mod asking;
mod assets;
pub mod client;
mod copies;
pub mod daemon;
mod files;
mod gate;
mod live;
mod serve;
mod session;

pub use self::serve::{Bound, ConsoleError, TlsFiles};
