//! The link between the two stores: what goes over it is counted, and it can be cut.

use super::*;

/// What went over the wire.
#[derive(Clone, Debug, Default)]
pub(super) struct Traffic {
    pub(super) content: u64,
    pub(super) offered: usize,
    pub(super) chunks_named: usize,
    pub(super) puts: usize,
    pub(super) removes: Vec<String>,
    pub(super) unseen: Vec<String>,
    pub(super) files: Vec<String>,
    pub(super) based: usize,
    pub(super) given_up: usize,
}

/// After so many bytes of content the wire is cut.
pub(super) type Cut = Option<u64>;

pub(super) fn attempt_between(a: &Hub, b: &Hub, cut: Cut, cancel: &Stop) -> (Result<Committed, EngineError>, Traffic) {
    let copy = a.store.copies().unwrap().remove(0);
    let record = newest(a).unwrap();
    let due = Due { copy: &copy, record: &record, head: newest(b).map(|record| record.manifest) };
    let traffic = Mutex::new(Traffic::default());
    let outcome = thread::scope(|scope| {
        let (mut ours, there) = Link::pair();
        let (back, mut theirs) = Link::pair();
        let traffic = &traffic;
        scope.spawn(move || serve(b, &mut theirs));
        let Link { sender: to_us, receiver: mut from_us, .. } = there;
        let Link { sender: to_them, receiver: mut from_them, .. } = back;
        let answers = to_us.clone();
        scope.spawn(move || {
            while let Ok(message) = from_them.recv() {
                if answers.send(message).is_err() {
                    break;
                }
            }
            answers.close();
        });
        scope.spawn(move || {
            while let Ok(message) = from_us.recv() {
                let so_far = note(&mut traffic.lock().unwrap(), &message);
                if cut.is_some_and(|cut| so_far > cut) || to_them.send(message).is_err() {
                    break;
                }
            }
            to_them.close();
            to_us.close();
        });
        let outcome = run(a, &due, &mut ours, cancel, &|_, _| {});
        drop(ours);
        outcome.map(|caught_up| caught_up.receipt)
    });
    (outcome, traffic.into_inner().unwrap())
}

pub(in crate::engine) fn send(a: &Hub, b: &Hub, due: &Due<'_>) {
    thread::scope(|scope| {
        let (mut ours, mut theirs) = Link::pair();
        scope.spawn(move || serve(b, &mut theirs));
        run(a, due, &mut ours, &Stop::default(), &|_, _| {}).unwrap();
    });
}

fn note(traffic: &mut Traffic, message: &Message) -> u64 {
    let text = |bytes: &crate::backup::bytes::Bytes| String::from_utf8_lossy(bytes.as_slice()).into_owned();
    match message {
        Message::Offer(offer) => traffic.offered += offer.digests.len(),
        Message::Files(files, payload) => {
            traffic.content += payload.len() as u64;
            traffic.files.extend(files.entries.iter().map(|entry| text(&entry.path)));
        }
        Message::Chunks(_, payload) => traffic.content += payload.len() as u64,
        Message::ChunkOffer(offer) => traffic.chunks_named += offer.items.len(),
        Message::FileOpen(open) => traffic.based += usize::from(open.base.is_some()),
        Message::FileDone(done) => traffic.given_up += usize::from(done.entry.is_none()),
        Message::Changes(changes) => {
            for change in &changes.changes {
                match change {
                    WireChange::Put(_) => traffic.puts += 1,
                    WireChange::Remove(path) => traffic.removes.push(text(path)),
                    WireChange::Unseen(path) => traffic.unseen.push(text(path)),
                }
            }
        }
        _ => {}
    }
    traffic.content
}

/// A destination, once it has joined.
pub(in crate::engine) fn serve(hub: &Hub, link: &mut Link) {
    let Ok(Message::For(whose)) = link.recv() else { return };
    let Ok(Message::Begin(begin)) = link.recv() else { return };
    assert!(!whose.hold && begin.delete && begin.force_delete);
    let who = who_of(&whose).unwrap();
    let terms = Terms { hold: whose.hold, stays: false, parent: whose.parent, observer: None };
    if let Err(error) = receive::serve(hub, &who, link, &begin, &terms) {
        let _ = link.send(Refused::from(&error));
    }
}
