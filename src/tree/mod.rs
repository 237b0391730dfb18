//! L1, a tree on disk, as both sides see it.
//!
//! Everything here works on an open directory and one name below it ([`safe_dir::SafeDir`]): a path that came from a
//! peer can never be led outside by a symbolic link, and no two calls can be talked into meaning different things by
//! somebody who renames in between. Two kinds of paths are not a peer's: those of the program's own files ([`own`], which
//! follows no link either), and those that the person at the keyboard named ([`operator`], which does). Files are opened
//! by path here and nowhere else (`tests/tidy.rs`). Nothing here knows of the network or of a store.

#![allow(clippy::disallowed_methods)]

pub mod confine;
pub mod dir_cache;
pub mod error;
pub mod file_system;
pub mod metadata;
pub mod operator;
pub mod own;
pub mod read;
pub mod safe_dir;
pub mod shared_read;
pub mod stat;
pub mod walk;
pub mod write;
pub mod xattrs;
