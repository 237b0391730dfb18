//! Somebody in another process reads what expires: it is kept for him, or he is told what became of it.

use std::thread;

use super::*;
use crate::backup::bytes::Bytes;
use crate::engine::hub::Who;
use crate::engine::restore_serve;
use crate::net::link::Link as Conversation;
use crate::net::message::{At, Message, Read, Want};
use crate::store::registry::{Identity, Registry};
use crate::store::snapshots::Snapshots;

const MIB: usize = 1024 * 1024;

/// Reads snapshot 1 as another process would, and prunes when it knows what is there and has no content yet.
/// `prepare`: does something to the reader's snapshots, and what it returns is kept. The messages behind the entries.
fn read_while_it_expires<T>(f: &Fixture, prepare: impl FnOnce(&Arc<Snapshots>) -> T) -> Vec<Message> {
    f.hub.store.copy_dir(&f.copy).unwrap();
    let other = Hub::open_to_read(&f.dir.path().join("store")).unwrap();
    let _kept = prepare(&other.store.snapshots(&f.copy).unwrap());
    let identity = Identity { copy: f.copy.clone(), ..Registry::local(b"u", f.now).unwrap() };
    let who = Who { identity, address: None, software: String::new() };
    let (mut ours, mut theirs) = Conversation::pair();
    thread::scope(|scope| {
        scope.spawn(|| {
            let read = Read {
                path: b"home/f000".as_slice().into(),
                shallow: false,
                content: true,
                all: false,
                at: At::Number(1),
            };
            let served = restore_serve::serve(&other, &who, &mut theirs, read);
            if let Err(error) = served {
                let _ = theirs.send(crate::net::message::Refused::from(&error));
            }
            drop(theirs);
        });
        assert!(matches!(ours.recv().unwrap(), Message::ReadGranted(granted) if granted.snapshot == 1));
        assert!(matches!(ours.recv().unwrap(), Message::Tree(_)));
        assert!(matches!(ours.recv().unwrap(), Message::TreeEnd(_)));
        // Who in another process reads what has not expired yet cannot be seen.
        let report = f.prune_unforeseen();
        assert!(!report.snapshots[0].keep && report.trouble.is_none());
        ours.send(Want { batch: 0, bits: Bytes(vec![1]) }).unwrap();
        let mut said = Vec::new();
        while let Ok(message) = ours.recv() {
            let is_last = matches!(&message, Message::Refused(_) | Message::Content(..));
            said.push(message);
            if is_last {
                break;
            }
        }
        drop(ours);
        said
    })
}

#[test]
fn a_reader_in_another_process_finishes_what_it_began_and_then_it_goes() {
    let f = Fixture::new();
    let (old, new) = (noise(1, MIB / 4), noise(2, 2000));
    f.commit(90, &[&old]);
    f.commit(80, &[&new]);
    f.pack_whole(70, &[&old]);
    let said = read_while_it_expires(&f, |_| ());
    let [Message::Content(_, bytes)] = said.as_slice() else { panic!("{said:?}") };
    assert!(*bytes == old && f.gives(&old));
    assert_eq!(clean(&f.prune()).packs_removed, 1, "nobody reads it any more");
    assert!(!f.gives(&old) && f.snapshots().all().unwrap().len() == 1);
}

#[test]
fn one_that_could_not_be_held_is_said_to_have_expired() {
    let f = Fixture::new();
    let (old, new) = (noise(1, 2000), noise(2, 2000));
    f.commit(90, &[&old]);
    let others: Vec<u64> = (0..64).map(|_| f.commit(80, &[&new])).collect();
    f.pack_whole(70, &[&old]);
    // So many that one more is not locked, as if there were no locks.
    let pin_all = |snapshots: &Arc<Snapshots>| -> Vec<SnapshotPin> {
        others.iter().map(|number| snapshots.pin(*number).unwrap()).collect()
    };
    let said = read_while_it_expires(&f, pin_all);
    let [Message::Refused(refused)] = said.as_slice() else { panic!("{said:?}") };
    let message = String::from_utf8_lossy(refused.message.as_slice());
    assert_eq!(message, "snapshot 1 expired while it was read; there are 65");
}
