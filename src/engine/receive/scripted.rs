//! For tests: a source that says each message of a run itself.

use crate::backup::digest::{Digest, RunId};
use crate::backup::entry::{Entry, FileContent, Kind, Link as HardLink, Meta, OwnerNames, SizeClass};
use crate::backup::manifest::ManifestHasher;
use crate::backup::relpath::RelPath;
use crate::engine::wire::entry_to_wire;
use crate::net::link::{Link, LinkError, LinkSender};
use crate::net::message::{Begin, Changes, Files, Manifest, ManifestEnd, Message, WireChange};

/// The root of all its runs.
pub(in crate::engine) const ROOT: &str = "home/u";

/// A run's first word.
pub(in crate::engine) fn begin(run: u8) -> Begin {
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
pub(in crate::engine) fn heard(link: &mut Link) -> Message {
    loop {
        match link.recv().unwrap() {
            Message::Busy(_) => {}
            other => return other,
        }
    }
}

/// The root, and these small files in it: path and content.
fn tree(files: &[(&str, &str)]) -> Vec<Entry> {
    let entry = |path: &str, kind| {
        let meta = Meta { mode: 0o700, ..Default::default() };
        Entry { path: RelPath::new(path.as_bytes()).unwrap(), meta, kind }
    };
    let file = |text: &str| FileContent {
        size: text.len() as u64,
        digest: Digest::of(text.as_bytes()),
        class: SizeClass::Whole,
        link: HardLink::Single,
        sparse: false,
        unstable: false,
    };
    let files = files.iter().map(|(path, text)| entry(path, Kind::File(file(text))));
    [entry("", Kind::Dir)].into_iter().chain(files).collect()
}

/// Sends their content, unasked.
pub(in crate::engine) fn send_files(link: &Link, files: &[(&str, &str)]) {
    say_files(&link.sender, files).unwrap();
}

/// [`send_files`] to a store that may have had enough.
pub(in crate::engine) fn say_files(link: &LinkSender, files: &[(&str, &str)]) -> Result<(), LinkError> {
    tree(files)[1..].iter().zip(files).try_for_each(|(entry, (_, text))| {
        let files = Files { entries: vec![entry_to_wire(entry)] };
        link.send(Message::Files(files, text.as_bytes().to_vec()))
    })
}

/// Sends the whole manifest.
pub(in crate::engine) fn send_manifest(link: &Link, files: &[(&str, &str)]) {
    say_manifest(&link.sender, files, false).unwrap();
}

/// The same of a source that could not be read whole.
pub(in crate::engine) fn send_incomplete(link: &Link, files: &[(&str, &str)]) {
    say_manifest(&link.sender, files, true).unwrap();
}

/// Either to a store that may have had enough.
pub(in crate::engine) fn say_manifest(
    link: &LinkSender,
    files: &[(&str, &str)],
    incomplete: bool,
) -> Result<(), LinkError> {
    let entries = tree(files);
    let mut hasher = ManifestHasher::new();
    entries.iter().for_each(|entry| hasher.push(entry));
    let head = Manifest {
        base: None,
        digest: hasher.finish(&OwnerNames::default()),
        entries: entries.len() as u64,
        incomplete,
        users: Vec::new(),
        groups: Vec::new(),
        errors: Vec::new(),
    };
    link.send(head)?;
    let changes = entries.iter().map(|entry| WireChange::Put(entry_to_wire(entry))).collect();
    link.send(Changes { changes })?;
    link.send(ManifestEnd { bytes_read: 0 })
}
