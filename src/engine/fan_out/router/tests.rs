//! What goes to whom.

use super::*;
use crate::backup::bytes::Bytes;
use crate::net::message::{Busy, FileDone, ManifestEnd};

const A: TargetId = TargetId(1);
const B: TargetId = TargetId(2);
const C: TargetId = TargetId(3);

fn router(targets: &[TargetId]) -> Router {
    let mut router = Router::default();
    targets.iter().for_each(|target| router.join(*target));
    router
}

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn offer(batch: u32, texts: &[&str]) -> Message {
    Offer { batch, digests: texts.iter().map(|text| digest(text)).collect() }.into()
}

fn need(batch: u32, bits: &[bool]) -> Message {
    let mut all = Bits::default();
    bits.iter().for_each(|bit| all.push(*bit));
    Need { batch, bits: all.into_wire() }.into()
}

fn files(texts: &[&str]) -> Message {
    let entry = |text: &&str| WireEntry {
        path: Bytes::from(text.as_bytes()),
        mode: 0,
        uid: 0,
        gid: 0,
        mtime_secs: 0,
        mtime_nanos: 0,
        xattrs: Vec::new(),
        kind: WireKind::File {
            size: text.len() as u64,
            digest: digest(text),
            class: 0,
            flags: 0,
            leader: Bytes::default(),
        },
    };
    Message::Files(Files { entries: texts.iter().map(entry).collect() }, texts.concat().into_bytes())
}

fn open(file: u32, base: Option<Digest>) -> Message {
    FileOpen { file, path: Bytes::default(), size: 1, class: 1, base }.into()
}

fn chunks(file: u32, texts: &[&str]) -> Message {
    let lens = texts.iter().map(|text| text.len() as u32).collect();
    Message::Chunks(Chunks { file, lens }, texts.concat().into_bytes())
}

fn chunk_offer(batch: u32, file: u32, items: Vec<WireChunk>) -> Message {
    ChunkOffer { batch, file, items }.into()
}

fn new(text: &str) -> WireChunk {
    WireChunk::New { digest: digest(text), len: text.len() as u32 }
}

/// Asks, takes these answers, and gives the reply.
fn ask(router: &mut Router, question: Message, answers: &[(TargetId, Message)]) -> Message {
    let question = router.source(question).unwrap().question.unwrap();
    for (target, answer) in answers {
        assert_eq!(router.answer(*target, answer.clone()).unwrap(), question);
    }
    router.reply(question).unwrap()
}

fn sends(router: &mut Router, message: Message) -> Vec<(TargetId, Message)> {
    router.source(message).unwrap().sends
}

#[test]
fn small_files_go_to_those_who_need_them() {
    let mut router = router(&[A, B, C]);
    let answers = [
        (A, need(0, &[true, true, false, false])),
        (B, need(0, &[false, true, false, true])),
        (C, need(0, &[false; 4])),
    ];
    assert_eq!(ask(&mut router, offer(0, &["a", "both", "none", "b"]), &answers), need(0, &[true, true, false, true]));
    // As they come, in parts.
    assert_eq!(sends(&mut router, files(&["a", "both"])), [(A, files(&["a", "both"])), (B, files(&["both"]))]);
    assert_eq!(sends(&mut router, files(&["b"])), [(B, files(&["b"]))]);
    assert!(router.needed.is_empty() && router.questions.is_empty() && router.batches.is_empty());
    // Nobody was asked: it is for all.
    assert_eq!(sends(&mut router, files(&["new"])).len(), 3);
}

#[test]
fn who_leaves_is_sent_nothing_and_who_answers_late_is_heard_and_no_more() {
    let mut router = router(&[A, B, C]);
    let question = router.source(offer(0, &["x"])).unwrap().question.unwrap();
    router.answer(A, need(0, &[true])).unwrap();
    router.leave(C);
    assert_eq!(router.reply(question), Some(need(0, &[true])));
    assert_eq!(router.reply(question), None);
    assert_eq!(router.answer(B, need(0, &[true])).unwrap(), question);
    assert!(router.answer(B, need(0, &[true])).is_err(), "twice");
    assert!(router.answer(C, need(0, &[true])).is_err(), "it left");
    assert_eq!(sends(&mut router, files(&["x"])), [(A, files(&["x"]))]);
    let wrong = router.source(offer(1, &["y"])).unwrap().question;
    assert!(wrong.is_some() && router.answer(A, need(1, &[true; 9])).is_err());
    assert!(router.answer(A, Busy { phase: 1 }.into()).is_err());
    let end = ManifestEnd { bytes_read: 0 };
    assert_eq!(sends(&mut router, end.clone().into()), [(A, end.clone().into()), (B, end.into())]);
}

#[test]
fn chunks_go_to_those_who_need_them_in_the_order_of_the_offers() {
    let mut router = router(&[A, B]);
    assert_eq!(sends(&mut router, open(0, None)).len(), 2);
    let items = vec![new("one"), WireChunk::Range { first: 4, count: 2 }];
    let answers = [(A, need(0, &[true, false, false])), (B, need(0, &[true, false, true]))];
    assert_eq!(ask(&mut router, chunk_offer(0, 0, items), &answers), need(0, &[true, false, true]));
    let answers = [(A, need(1, &[true])), (B, need(1, &[false]))];
    assert_eq!(ask(&mut router, chunk_offer(1, 0, vec![new("four")]), &answers), need(1, &[true]));
    assert_eq!(
        sends(&mut router, chunks(0, &["one", "three"])),
        [(A, chunks(0, &["one"])), (B, chunks(0, &["one", "three"]))]
    );
    assert_eq!(sends(&mut router, chunks(0, &["four"])), [(A, chunks(0, &["four"]))]);
    assert!(router.source(chunks(0, &["five"])).is_err(), "nobody needs it");
    let done = FileDone { file: 0, entry: None };
    assert_eq!(sends(&mut router, done.clone().into()), [(A, done.clone().into()), (B, done.clone().into())]);
    assert!(router.source(done.into()).is_err(), "it is closed");
    // A file that nobody was asked about.
    sends(&mut router, open(1, None));
    assert_eq!(sends(&mut router, chunks(1, &["all"])), [(A, chunks(1, &["all"])), (B, chunks(1, &["all"]))]);
}

#[test]
fn a_base_is_known_when_all_know_it() {
    let mut router = router(&[A, B]);
    let ready = |file, base_known| Message::from(FileReady { file, base_known });
    let answers = [(A, ready(0, true)), (B, ready(0, true))];
    assert_eq!(ask(&mut router, open(0, Some(digest("base"))), &answers), ready(0, true));
    let answers = [(A, ready(1, true)), (B, ready(1, false))];
    assert_eq!(ask(&mut router, open(1, Some(digest("base"))), &answers), ready(1, false));
}

#[test]
fn who_comes_in_the_middle_gets_nothing_of_files_that_are_open() {
    let mut router = router(&[A]);
    sends(&mut router, open(0, None));
    router.join(B);
    let routed = router.source(chunk_offer(0, 0, vec![new("x")])).unwrap();
    assert_eq!((routed.sends.len(), routed.unasked), (1, vec![B]));
    router.answer(A, need(0, &[true])).unwrap();
    router.reply(routed.question.unwrap()).unwrap();
    assert_eq!(sends(&mut router, chunks(0, &["x"])), [(A, chunks(0, &["x"]))]);
    assert_eq!(sends(&mut router, FileDone { file: 0, entry: None }.into()).len(), 1);
    assert_eq!(sends(&mut router, open(1, None)).len(), 2);
    // Another round: what had been opened is not.
    router.new_round();
    assert!(router.source(chunks(1, &["x"])).is_err());
}

#[test]
fn what_contradicts_itself_is_refused() {
    let mut router = router(&[A, B]);
    assert!(router.source(Busy { phase: 1 }.into()).is_err());
    assert!(router.source(chunk_offer(0, 9, vec![new("x")])).is_err());
    sends(&mut router, open(0, None));
    let many = vec![WireChunk::Range { first: 0, count: u32::MAX }; 3];
    assert!(router.source(chunk_offer(0, 0, many)).is_err());
    let Message::Chunks(head, _) = chunks(0, &["long"]) else { unreachable!() };
    assert!(router.source(Message::Chunks(head, b"lo".to_vec())).is_err());
    let answers = [(A, need(1, &[true, false])), (B, need(1, &[false, true]))];
    ask(&mut router, offer(1, &["first", "second"]), &answers);
    let Message::Files(head, _) = files(&["first", "second"]) else { unreachable!() };
    assert!(router.source(Message::Files(head, b"fir".to_vec())).is_err());
}

#[test]
fn what_a_source_may_ask_for_is_bounded() {
    let mut router = router(&[A]);
    assert!(router.source(offer(0, &[])).is_err());
    let digests = vec![digest("x"); BATCH_COUNT_MAX + 1];
    assert!(router.source(Offer { batch: 0, digests }.into()).is_err());
    sends(&mut router, open(0, Some(digest("base"))));
    assert!(router.source(open(0, None)).is_err(), "it is open");
    assert!(router.source(chunk_offer(0, 0, Vec::new())).is_err());
    let range = |count| vec![WireChunk::Range { first: 0, count }];
    assert!(router.source(chunk_offer(0, 0, range(BATCH_COUNT_MAX as u32 + 1))).is_err());
    sends(&mut router, offer(0, &["x"]));
    assert!(router.source(offer(0, &["y"])).is_err(), "it is not answered yet");
    assert!(router.source(chunk_offer(0, 0, range(1))).is_err());
    assert_eq!(router.questions(), 2);
    (1..FILES_OPEN_MAX as u32).for_each(|file| drop(sends(&mut router, open(file, None))));
    assert!(router.source(open(99, None)).is_err());
}

#[test]
fn what_is_promised_and_does_not_come_is_bounded() {
    let mut router = router(&[A]);
    let all = need_all(BATCH_COUNT_MAX);
    let batches = (PROMISED_COUNT_MAX / BATCH_COUNT_MAX) as u32 + 2;
    for batch in 0..batches {
        let texts: Vec<_> = (0..BATCH_COUNT_MAX).map(|i| format!("{batch} {i}")).collect();
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        ask(&mut router, offer(batch, &texts), &[(A, Need { batch, bits: all.clone() }.into())]);
    }
    assert_eq!(router.needed.len(), PROMISED_COUNT_MAX);
    // Nobody remembers who needs it: it is for all.
    let last = format!("{} 0", batches - 1);
    assert_eq!(sends(&mut router, files(&[&last])).len(), 1);
    router.new_round();
    sends(&mut router, open(0, None));
    let refused = (0..batches).find(|batch| {
        let items = vec![WireChunk::Range { first: 0, count: BATCH_COUNT_MAX as u32 }];
        let Ok(routed) = router.source(chunk_offer(*batch, 0, items)) else { return true };
        router.answer(A, Need { batch: *batch, bits: all.clone() }.into()).unwrap();
        router.reply(routed.question.unwrap());
        false
    });
    assert_eq!(refused, Some(batches - 1));
}

#[test]
fn sets_that_nobody_uses_are_forgotten() {
    let mut sets = HashSet::new();
    for id in 0..3 * SETS_MAX as u32 {
        intern(&mut sets, vec![TargetId(id)]);
    }
    assert!(sets.len() <= SETS_MAX);
    let used: Vec<_> = (0..2 * SETS_MAX as u32).map(|id| intern(&mut sets, vec![TargetId(id)])).collect();
    assert!(sets.len() <= SETS_MAX && used.iter().enumerate().all(|(id, set)| set[..] == [TargetId(id as u32)]));
}

/// All of so many.
fn need_all(count: usize) -> Bytes {
    let mut bits = Bits::default();
    (0..count).for_each(|_| bits.push(true));
    bits.into_wire()
}

#[test]
fn who_answers_out_of_turn_is_refused_and_no_file_is_the_worse_for_it() {
    let mut router = router(&[A, B]);
    sends(&mut router, open(0, None));
    let first = router.source(chunk_offer(0, 0, vec![new("one")])).unwrap().question.unwrap();
    let second = router.source(chunk_offer(1, 0, vec![new("two")])).unwrap().question.unwrap();
    for batch in [0, 1] {
        router.answer(A, need(batch, &[true])).unwrap();
    }
    assert!(router.answer(B, need(1, &[true])).is_err(), "it owes another answer first");
    assert_eq!(router.answer(B, need(0, &[true])).unwrap(), first);
    assert_eq!(router.answer(B, need(1, &[true])).unwrap(), second);
    assert!(router.answer(B, need(1, &[true])).is_err());
    // Other questions are no exception.
    router.source(offer(2, &["x"])).unwrap();
    router.source(open(1, Some(digest("base")))).unwrap();
    assert!(router.answer(A, FileReady { file: 1, base_known: true }.into()).is_err());
    router.answer(A, need(2, &[true])).unwrap();
    router.answer(A, FileReady { file: 1, base_known: true }.into()).unwrap();
    // Who comes again owes what it is asked from then on.
    router.leave(B);
    router.join(B);
    assert!(router.answer(B, need(2, &[true])).is_err());
    router.source(offer(3, &["y"])).unwrap();
    router.answer(B, need(3, &[true])).unwrap();
}
