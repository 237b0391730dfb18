//! L1, the transport: frames, messages, TLS, links. It knows nothing of backups but ids and limits.

pub mod message;
