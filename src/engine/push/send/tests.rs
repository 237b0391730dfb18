//! What is offered, answered and sent, with a store that says each word itself.

use super::*;
use crate::backup::digest::Digest;
use crate::backup::entry::{Entry, Meta, SizeClass};
use crate::backup::fingerprint::Fingerprint;
use crate::engine::observer::Silent;
use crate::engine::push::budget::Budget;
use crate::net::link::Link as NetLink;
use crate::net::message::WireChunk;

/// An empty file, read.
fn empty_file(number: u32) -> Item {
    let content = FileContent {
        size: 0,
        digest: Digest::of(b""),
        class: SizeClass::Whole,
        link: Link::Single,
        sparse: false,
        unstable: false,
    };
    let path = RelPath::new(number.to_string().as_bytes()).unwrap();
    let entry = Entry { path, meta: Meta::default(), kind: Kind::File(content) };
    let record = CacheRecord { entry, fingerprint: Fingerprint::default(), racy: false, recipe: None, mounted: false };
    let (reply, read) = crossbeam_channel::bounded(1);
    let outcomes = vec![Outcome::Read { record: Box::new(record), altered: false, had: false }];
    let share = Budget::new(1).take(0).unwrap();
    reply.send(SmallRead { outcomes, payload: Vec::new(), share }).unwrap();
    Item::Small { order: vec![None], reply: read, bytes: 0 }
}

#[test]
fn only_so_many_offers_wait_however_small_they_are() {
    let (link, daemon) = NetLink::pair();
    let (reply, replies) = crossbeam_channel::unbounded();
    let (items, queue) = crossbeam_channel::unbounded();
    let count = 2 * OFFERS_MAX as u32;
    (0..count).for_each(|number| items.send(empty_file(number)).unwrap());
    drop(items);
    std::thread::scope(|scope| {
        // They end with this test, however it ends; else nobody would.
        let (reply, mut daemon) = (reply, daemon);
        let sending = scope.spawn(|| ContentSender::new(&link.sender, &replies, &Silent).run(&queue));
        let mut heard = || daemon.recv_timeout(std::time::Duration::from_millis(200)).unwrap();
        let mut answered = 0;
        for batch in 0..count {
            if batch == OFFERS_MAX as u32 {
                assert_eq!(heard(), None, "one more than may wait");
            }
            if batch >= OFFERS_MAX as u32 {
                reply.send(Ok(Need { batch: answered, bits: vec![0].into() }.into())).unwrap();
                answered += 1;
            }
            let offered = std::iter::from_fn(|| Some(heard())).take(100).flatten().next();
            assert!(matches!(offered, Some(Message::Offer(offer)) if offer.batch == batch));
        }
        for batch in answered..count {
            reply.send(Ok(Need { batch, bits: vec![0].into() }.into())).unwrap();
        }
        sending.join().unwrap().unwrap();
    });
}

#[test]
fn runs_of_known_chunks_become_ranges() {
    let id = |n: u8| Digest([n; 32]);
    let known = HashMap::from([(id(1), 10), (id(2), 11), (id(3), 12)]);
    let chunks = [(id(1), 5), (id(2), 6), (id(9), 7), (id(3), 8), (id(1), 5)];
    let items = offer_items(&chunks, &known);
    let range = |first, count| WireChunk::Range { first, count };
    assert_eq!(items, [range(10, 2), WireChunk::New { digest: id(9), len: 7 }, range(12, 1), range(10, 1)]);
}

/// Answers that no offer asked for, or that name more than was offered, end the run, and nothing was sent for them.
#[test]
fn only_what_was_offered_can_be_needed() {
    for need in [
        Need { batch: 7, bits: vec![1].into() },
        Need { batch: 0, bits: vec![0xff].into() },
        Need { batch: 0, bits: vec![1, 1].into() },
        Need { batch: 0, bits: vec![].into() },
    ] {
        let (link, mut daemon) = NetLink::pair();
        let (reply, replies) = crossbeam_channel::unbounded();
        let (items, queue) = crossbeam_channel::unbounded();
        items.send(empty_file(0)).unwrap();
        reply.send(Ok(need.clone().into())).unwrap();
        drop((items, reply));
        let mut sender = ContentSender::new(&link.sender, &replies, &Silent);
        sender.ask = true;
        let error = sender.run(&queue).unwrap_err();
        assert!(error.message.contains("protocol"), "{need:?}: {error}");
        while let Some(message) = daemon.recv_timeout(std::time::Duration::from_millis(50)).unwrap() {
            assert!(matches!(message, Message::Offer(_)), "{need:?}: {message:?}");
        }
    }
}
