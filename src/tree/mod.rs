//! L1, a tree on disk, as both sides see it.
//!
//! Everything here works on an open directory and one name below it ([`safe_dir::SafeDir`]): a path that came from a
//! peer can never be led outside by a symbolic link, and no two calls can be talked into meaning different things by
//! somebody who renames in between. Nothing here knows of the network or of a store.

pub mod dir_cache;
pub mod error;
pub mod file_system;
pub mod metadata;
pub mod read;
pub mod safe_dir;
pub mod stat;
pub mod walk;
pub mod write;
pub mod xattrs;
