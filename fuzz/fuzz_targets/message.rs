//! Messages, and what they become once they are believed: `kind u8 | head length u16 | head | payload`.
//!
//! What passes is within the limits, means the same when it is sent on, and shows no control byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbbackup::backup::bytes::Bytes;
use rbbackup::backup::filter::Filter;
use rbbackup::backup::limits::{NAME_BYTES_MAX, PATH_BYTES_MAX, XATTRS_BYTES_MAX, XATTRS_COUNT_MAX};
use rbbackup::backup::manifest::ManifestHasher;
use rbbackup::backup::relpath::RelPath;
use rbbackup::backup::snapshot::errors_from_wire;
use rbbackup::backup::when::When;
use rbbackup::engine::fuzzing::{
    Bits, Change, change_from_wire, entry_bytes, entry_from_wire, entry_to_wire, owners_from_wire, sentence, sentences,
};
use rbbackup::net::message::{At, Message, WireChange, WireEntry};
use rbbackup::store::names::CopyName;
use rbbackup_fuzz::{take_piece, take_u16};

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    let bulk = Message::is_bulk(*kind) == Some(true);
    let (head, payload) = if bulk { take_piece(rest) } else { (rest, &[][..]) };
    let Ok(message) = Message::decode(*kind, head, payload.to_vec()) else { return };
    assert_eq!(message.kind(), *kind);
    believe(message);
});

fn believe(message: Message) {
    match message {
        Message::Files(files, _) => files.entries.into_iter().for_each(entry),
        Message::FileDone(done) => done.entry.into_iter().for_each(entry),
        Message::Tree(tree) => tree.entries.into_iter().for_each(entry),
        Message::HistoryList(list) => list.versions.into_iter().for_each(|version| entry(version.entry)),
        Message::FindList(list) => list.found.into_iter().for_each(|found| entry(found.entry)),
        Message::Changes(changes) => changes.changes.into_iter().for_each(change),
        Message::Manifest(head) => {
            if let Ok(owners) = owners_from_wire(head.users.clone(), head.groups.clone()) {
                assert_eq!((&owners.users, &owners.groups), (&head.users, &head.groups));
                ManifestHasher::new().finish(&owners);
            }
            let errors = errors_from_wire(&head.errors);
            errors.iter().for_each(|error| assert_shows(error));
            sentences(errors);
        }
        Message::ReadGranted(granted) => drop(owners_from_wire(granted.users, granted.groups)),
        Message::Begin(begin) => {
            path(&begin.root);
            drop(Filter::new(&begin.filters));
        }
        Message::FileOpen(open) => path(&open.path),
        Message::Missing(missing) => missing.paths.iter().for_each(path),
        Message::Need(need) => bits(need.bits),
        Message::Want(want) => bits(want.bits),
        Message::Read(read) => {
            path(&read.path);
            assert_eq!(At::from(When::from(read.at)), read.at);
        }
        Message::Refused(refused) => assert_shows(&sentence(&refused.message)),
        Message::Hello(hello) => assert_shows(&sentence(&hello.user)),
        Message::For(told) => {
            if let Ok(copy) = CopyName::new(told.node.as_slice(), told.user.as_slice()) {
                assert_shows(&copy.to_string());
                assert_eq!(CopyName::from_component(copy.component().as_bytes()), Some(copy));
            }
        }
        _ => {}
    }
}

fn entry(wire: WireEntry) {
    let Ok(entry) = entry_from_wire(wire.clone()) else { return };
    assert!(entry.meta.mode <= 0o7777 && entry.meta.mtime.nanos < 1_000_000_000);
    assert!(entry.meta.xattrs.len() <= XATTRS_COUNT_MAX);
    let xattrs: usize = entry.meta.xattrs.iter().map(|x| x.name.0.len() + x.value.0.len()).sum();
    assert!(xattrs <= XATTRS_BYTES_MAX && entry_bytes(&wire) >= xattrs);
    let again = entry_to_wire(&entry);
    assert_eq!(entry_from_wire(again).as_ref(), Ok(&entry));
    let mut hasher = ManifestHasher::new();
    hasher.push(&entry);
    assert_eq!(hasher.counts().entries, 1);
}

fn change(wire: WireChange) {
    if let WireChange::Put(wire) = &wire {
        entry(wire.clone());
    }
    match change_from_wire(wire) {
        Ok(Change::Put(entry)) => path(&entry.path.as_bytes().into()),
        Ok(change) => path(&change.path().as_bytes().into()),
        Err(error) => assert_shows(&error.to_string()),
    }
}

fn path(bytes: &Bytes) {
    match RelPath::new(bytes.as_slice()) {
        Ok(path) => {
            assert!(path.as_bytes().len() <= PATH_BYTES_MAX && !path.as_bytes().contains(&0));
            assert!(path.components().all(|part| part.len() <= NAME_BYTES_MAX && part != b".." && part != b"."));
        }
        Err(error) => assert_shows(&error.to_string()),
    }
}

fn bits(bytes: Bytes) {
    let (asked, _) = take_u16(bytes.as_slice());
    let count = bytes.0.len();
    if let Ok(bits) = Bits::from_wire(bytes, asked) {
        assert_eq!(asked.div_ceil(8), count);
        assert!((asked..asked + 16).all(|i| !bits.get(i)));
    }
}

fn assert_shows(text: &str) {
    assert!(!text.chars().any(char::is_control), "a control byte is shown: {text:?}");
}
