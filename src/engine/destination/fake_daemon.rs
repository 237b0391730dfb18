//! What a daemon says to a destination, word by word, for tests.

use crate::engine::client::now;
use crate::engine::hub::Who;
pub(super) use crate::engine::receive::scripted::{ROOT, begin, heard};
use crate::engine::receive::scripted::{send_files, send_manifest};
use crate::net::link::Link;
use crate::net::message::Progress;
use crate::store::names::CopyName;
use crate::store::registry::{Identity, Right};

/// What the one file in it holds.
pub(super) const TEXT: &str = "hello";

/// Whose runs they are.
pub(super) fn source() -> Who {
    let copy = CopyName::new(b"10.0.0.1", b"u").unwrap();
    let identity = Identity::new(copy, Some([3; 32]), now()).with_rights(&[Right::Backup]);
    Who { identity, address: Some("10.0.0.1".parse().unwrap()), software: "rbbackup 1".to_owned() }
}

/// Sends the root with one file, as a source does that tells how far it is.
pub(super) fn send_tree(link: &Link) {
    let files = [("f", TEXT)];
    send_files(link, &files);
    link.send(Progress { bytes_done: 5, bytes_total: 5, files_done: 1, total_known: true }).unwrap();
    send_manifest(link, &files);
}
