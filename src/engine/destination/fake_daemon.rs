//! What a daemon says to a destination, word by word, for tests.

use crate::backup::digest::{Digest, RunId};
use crate::backup::entry::{Entry, FileContent, Kind, Link as HardLink, Meta, OwnerNames, SizeClass};
use crate::backup::manifest::ManifestHasher;
use crate::backup::relpath::RelPath;
use crate::engine::client::now;
use crate::engine::hub::Who;
use crate::engine::wire::entry_to_wire;
use crate::net::link::Link;
use crate::net::message::{Begin, Changes, Files, Manifest, ManifestEnd, Message, Progress, WireChange};
use crate::store::names::CopyName;
use crate::store::registry::{Identity, Right};

/// The root of all its runs.
pub(super) const ROOT: &str = "home/u";
/// What the one file in it holds.
pub(super) const TEXT: &str = "hello";

/// Whose runs they are.
pub(super) fn source() -> Who {
    let copy = CopyName::new(b"10.0.0.1", b"u").unwrap();
    let identity = Identity { copy, key: Some([3; 32]), rights: vec![Right::Backup], created: now() };
    Who { identity, address: Some("10.0.0.1".parse().unwrap()), software: "rbbackup 1".to_owned() }
}

/// A run's first word.
pub(super) fn begin(run: u8) -> Begin {
    Begin {
        run: RunId([run; 16]),
        root: ROOT.as_bytes().into(),
        recursive: true,
        delete: true,
        delete_excluded: false,
        force_delete: true,
        dry_run: false,
        filters: Vec::new(),
        wait_secs: 0,
        file_system: 0,
        base: None,
        copies: 0,
        wait_copies_secs: 0,
        retry_secs: 0,
    }
}

/// The next message that is no sign of life.
pub(super) fn heard(link: &mut Link) -> Message {
    loop {
        match link.recv().unwrap() {
            Message::Busy(_) => {}
            other => return other,
        }
    }
}

/// Sends the root with one file.
pub(super) fn send_tree(link: &Link) {
    let meta = Meta { mode: 0o700, ..Default::default() };
    let content = FileContent {
        size: TEXT.len() as u64,
        digest: Digest::of(TEXT.as_bytes()),
        class: SizeClass::Whole,
        link: HardLink::Single,
        sparse: false,
        unstable: false,
    };
    let dir = Entry { path: RelPath::root(), meta: meta.clone(), kind: Kind::Dir };
    let file = Entry { path: RelPath::new(b"f").unwrap(), meta, kind: Kind::File(content) };
    let files = Files { entries: vec![entry_to_wire(&file)] };
    link.send(Message::Files(files, TEXT.as_bytes().to_vec())).unwrap();
    link.send(Progress { bytes_done: 5, bytes_total: 5, files_done: 1, total_known: true }).unwrap();
    let entries = [dir, file];
    let mut hasher = ManifestHasher::new();
    entries.iter().for_each(|entry| hasher.push(entry));
    let head = Manifest {
        base: None,
        digest: hasher.finish(&OwnerNames::default()),
        entries: entries.len() as u64,
        incomplete: false,
        users: Vec::new(),
        groups: Vec::new(),
        errors: Vec::new(),
    };
    link.send(head).unwrap();
    let changes = entries.iter().map(|entry| WireChange::Put(entry_to_wire(entry))).collect();
    link.send(Changes { changes }).unwrap();
    link.send(ManifestEnd { bytes_read: 0 }).unwrap();
}
