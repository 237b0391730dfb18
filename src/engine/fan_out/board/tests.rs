//! Tests of the board.

use std::time::Duration;

use super::*;
use crate::net::link::LinkError;
use crate::net::message::Message;

fn said(name: &str) -> Said {
    Said { name: name.to_owned(), wants: Wants::default(), space: (1, 2), heads: Heads::new() }
}

fn enter(board: &Board, id: u8, name: &str, link: &Link) -> Attendance {
    let line = Line { sender: &link.sender, key: Some([id; 32]), address: None, now: Timestamp::default() };
    board.enter(DestinationId([id; 16]), said(name), line).unwrap()
}

fn copy(user: &str) -> CopyName {
    CopyName::new(b"10.0.0.1", user.as_bytes()).unwrap()
}

fn names(board: &Board) -> Vec<String> {
    board.list().into_iter().map(|destination| destination.name).collect()
}

fn told(subscription: &mut Subscription) -> Vec<String> {
    let name = |id: DestinationId| id.0[0];
    let events = subscription.events().into_iter().map(|event| match event {
        BoardEvent::Connected(d) => format!("+{}", name(d.id)),
        BoardEvent::Changed => "=".to_owned(),
        BoardEvent::Gone(id) => format!("-{}", name(id)),
    });
    events.collect()
}

fn head(byte: u8) -> HeldHead {
    HeldHead { run: RunId([byte; 16]), manifest: Digest([byte; 32]) }
}

#[test]
fn an_entry_is_there_as_long_as_its_connection() {
    let (board, (link, _far)) = (Board::default(), Link::pair());
    let first = enter(&board, 1, "nas", &link);
    assert_eq!(names(&board), ["nas"]);
    assert_eq!(board.find(DestinationId([1; 16])).unwrap().space, (1, 2));
    drop(first);
    assert!(names(&board).is_empty() && board.find(DestinationId([1; 16])).is_none());
}

#[test]
fn two_of_one_name_are_told_apart_for_as_long_as_they_are_there() {
    let (board, (link, _far)) = (Board::default(), Link::pair());
    let first = enter(&board, 1, "nas", &link);
    let second = enter(&board, 2, "nas", &link);
    let _third = enter(&board, 3, "nas", &link);
    assert_eq!(names(&board), ["nas", "nas (2)", "nas (3)"]);
    drop(first);
    assert!(second.say(said("nas")));
    assert_eq!(names(&board), ["nas (2)", "nas (3)"]);
    let _again = enter(&board, 1, "nas", &link);
    assert_eq!(names(&board), ["nas", "nas (2)", "nas (3)"]);
}

#[test]
fn the_newest_connection_of_a_store_counts() {
    let (board, (old, mut old_far), (new, _far)) = (Board::default(), Link::pair(), Link::pair());
    let mut run = board.subscribe(&copy("u"));
    let before = enter(&board, 1, "nas", &old);
    assert_eq!(told(&mut run), ["+1"]);
    let (answers, _got) = bounded(1);
    let call = board.call(DestinationId([1; 16]), &answers).unwrap();
    let now = enter(&board, 1, "nas", &new);
    assert_eq!(old_far.recv().unwrap(), Message::Summon(Summon { call: call.0 }));
    assert!(matches!(old_far.recv(), Ok(Message::Refused(_))), "the older one is told");
    assert_eq!(old_far.recv(), Err(LinkError::Closed), "and ended");
    assert!(!board.deliver(call.0, Some([1; 32]), Link::pair().0), "what it was asked is void");
    assert_eq!(told(&mut run), ["-1", "+1"]);
    assert!(!before.say(said("other")));
    drop(before);
    assert_eq!(names(&board), ["nas"]);
    assert_eq!(told(&mut run), [""; 0]);
    drop(now);
    assert_eq!(told(&mut run), ["-1"]);
}

#[test]
fn a_subscription_tells_each_change_once_and_only_of_those_who_want_the_copy() {
    let (board, (link, _far)) = (Board::default(), Link::pair());
    let first = enter(&board, 1, "a", &link);
    let (mut run, mut all) = (board.subscribe(&copy("u")), board.watch());
    run.bell().try_recv().unwrap();
    assert_eq!(told(&mut run), ["+1"]);
    assert!(run.bell().try_recv().is_err());
    let only = Wants(vec![("10.0.0.1".to_owned(), Some("other".to_owned())), ("10.0.0.9".to_owned(), None)]);
    let line = Line { sender: &link.sender, key: None, address: None, now: Timestamp::default() };
    let _second = board.enter(DestinationId([2; 16]), Said { wants: only, ..said("b") }, line).unwrap();
    assert_eq!(told(&mut run), [""; 0]);
    assert_eq!(told(&mut all), ["+1", "+2"]);
    let heads = Heads::from([((copy("u"), RelPath::root()), head(1))]);
    for space in 0..3 {
        assert!(first.say(Said { heads: heads.clone(), space: (space, 9), ..said("a") }));
    }
    assert_eq!(told(&mut run), ["="]);
    assert!(first.say(Said { heads, space: (7, 9), ..said("a") }));
    assert_eq!(told(&mut run), [""; 0], "space is no news");
    assert_eq!(board.find(DestinationId([1; 16])).unwrap().space, (7, 9));
    board.holds(DestinationId([1; 16]), &copy("u"), &RelPath::root(), head(2));
    assert_eq!(told(&mut run), ["="]);
    let changed = board.find(DestinationId([1; 16])).unwrap();
    assert_eq!(changed.head(&copy("u"), &RelPath::root()), Some(head(2)));
    drop(first);
    assert_eq!(told(&mut run), ["-1"]);
}

#[test]
fn whose_runs_are_wanted() {
    let wants = |all: &[(&str, Option<&str>)]| {
        let all = all.iter().map(|(node, user)| ((*node).to_owned(), user.map(str::to_owned)));
        Wants(all.collect())
    };
    assert!(wants(&[]).admits(&copy("u")));
    assert!(wants(&[("10.0.0.1", None)]).admits(&copy("u")));
    assert!(wants(&[("x", None), ("10.0.0.1", Some("u"))]).admits(&copy("u")));
    assert!(!wants(&[("10.0.0.1", Some("v"))]).admits(&copy("u")));
    assert!(!wants(&[("10.0.0.2", Some("u"))]).admits(&copy("u")));
}

#[test]
fn only_who_was_called_can_answer_and_only_once() {
    let (board, (link, mut far)) = (Board::default(), Link::pair());
    let id = DestinationId([1; 16]);
    let (answers, got) = bounded(4);
    assert!(board.call(id, &answers).is_none(), "it is not there");
    let there = enter(&board, 1, "a", &link);
    let call = board.call(id, &answers).unwrap();
    assert_eq!(far.recv().unwrap(), Message::Summon(Summon { call: call.0 }));
    assert!(!board.deliver(call.0, Some([2; 32]), Link::pair().0), "another key");
    assert!(!board.deliver(call.0 + 1, Some([1; 32]), Link::pair().0), "another call");
    let (data, mut data_far) = Link::pair();
    assert!(board.deliver(call.0, Some([1; 32]), data));
    let answer = got.try_recv().unwrap();
    assert_eq!((answer.call, answer.id), (call, id));
    answer.link.send(Summon { call: 9 }).unwrap();
    assert_eq!(data_far.recv().unwrap(), Message::Summon(Summon { call: 9 }));
    assert!(!board.deliver(call.0, Some([1; 32]), Link::pair().0), "twice");
    let cancelled = board.call(id, &answers).unwrap();
    board.cancel(cancelled);
    assert!(!board.deliver(cancelled.0, Some([1; 32]), Link::pair().0));
    let left = board.call(id, &answers).unwrap();
    drop(there);
    assert!(!board.deliver(left.0, Some([1; 32]), Link::pair().0), "it left");
    assert!(got.is_empty());
}

#[test]
fn a_destination_that_takes_no_summon_is_not_called() {
    let (board, (link, _far)) = (Board::default(), Link::pair());
    let _there = enter(&board, 1, "a", &link);
    let (answers, _got) = bounded(1);
    let calls = (0..100).take_while(|_| board.call(DestinationId([1; 16]), &answers).is_some()).count();
    // A few words fit into a queue that is full.
    assert!((crate::backup::limits::LINK_QUEUE_MAX..50).contains(&calls), "{calls}");
}

#[test]
fn the_end_lets_destinations_go_once_no_run_needs_them() {
    let (board, (link, mut far)) = (Board::default(), Link::pair());
    let _there = enter(&board, 1, "a", &link);
    let (run, _healing) = (board.subscribe(&copy("u")), board.watch());
    board.end();
    assert_eq!(far.recv_timeout(Duration::ZERO), Ok(None));
    let line = Line { sender: &link.sender, key: None, address: None, now: Timestamp::default() };
    assert!(board.enter(DestinationId([2; 16]), said("b"), line).is_none());
    drop(run);
    assert_eq!(far.recv_timeout(Duration::ZERO), Err(LinkError::Closed));
}

#[test]
fn a_run_is_shown_in_words_and_another_s_without_its_name() {
    let (board, (link, _far)) = (Board::default(), Link::pair());
    let _there = enter(&board, 1, "a", &link);
    let id = DestinationId([1; 16]);
    let run = board.begin_run(id, &copy("u"), &RelPath::new(b"home/u").unwrap());
    let words = |who: &str, all| board.running(id).iter().map(|run| run.words(&copy(who), all)).collect::<Vec<_>>();
    assert_eq!(words("u", false), ["'/home/u'"]);
    run.advance(50, Some(200));
    assert_eq!(words("u", false), ["'/home/u', 25 %"]);
    assert_eq!(words("v", false), ["a backup of another, 25 %"]);
    assert_eq!(words("v", true), ["'/home/u' of 10.0.0.1/u, 25 %"]);
    drop(run);
    assert!(words("u", true).is_empty());
}
