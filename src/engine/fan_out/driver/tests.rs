//! Pace, step by step: what is queued for whom, and whether the source is listened to.

use std::thread;

use super::*;
use crate::backup::fanout::Level;
use crate::backup::limits::TARGET_QUEUE_BYTES;
use crate::engine::fan_out::scripted::{Destination, Fixture, PATIENCE, wanted};
use crate::engine::live::LiveGuard;
use crate::net::message::{Chunks, FileOpen};

const MIB: usize = 1 << 20;
const FIRST: TargetId = TargetId(1);

/// Steps until it is so.
fn until(driver: &mut Driver<'_>, is_so: impl Fn(&Driver<'_>) -> bool) {
    let (end, ticks) = (Instant::now() + PATIENCE, tick(Duration::from_millis(5)));
    while !is_so(driver) {
        assert!(Instant::now() < end && driver.end.is_none(), "waited in vain");
        driver.step(&ticks).unwrap();
    }
}

fn level(driver: &Driver<'_>, target: TargetId) -> Level {
    driver.conns[&target].target.level()
}

/// A driver whose source may send; its own store takes all that comes. Also the destination's end of its link.
fn with_driver(copies: u32, test: impl FnOnce(Driver<'_>, Link)) {
    let fixture = Fixture::new();
    let destination: Destination = fixture.destination(1);
    let begin = wanted(copies);
    let root = RelPath::new(begin.root.as_slice()).unwrap();
    let live = LiveGuard::unseen();
    let run = Run { hub: &fixture.hub, who: &fixture.who, begin: &begin, root, lease: None, live: &live };
    let (_told, source) = bounded(1);
    let (answers, said) = unbounded();
    let (start_own, started) = bounded(1);
    let (ours, mut store) = Link::pair();
    let (busy, _far) = Link::pair();
    let ends = Ends { source, answers, busy: busy.sender.clone(), start_own, own: Some(ours) };
    thread::scope(|scope| {
        scope.spawn(move || {
            started.recv().unwrap();
            store.send(Granted { base_known: false, ask: false }).unwrap();
            while store.recv().is_ok() {}
        });
        let joining = scope.spawn(|| destination.granted());
        let mut driver = Driver::new(&run, ends);
        until(&mut driver, |_| said.try_iter().any(|message| matches!(message, Message::Granted(_))));
        let open = FileOpen { file: 0, path: b"large"[..].into(), size: 1 << 30, class: 3, base: None };
        driver.source_said(Ok(open.into())).unwrap();
        test(driver, joining.join().unwrap());
    });
}

fn chunk() -> Result<Message, LinkError> {
    Ok(Message::Chunks(Chunks { file: 0, lens: vec![MIB as u32] }, vec![1; MIB]))
}

#[test]
fn the_source_waits_for_room_at_whom_it_needs() {
    with_driver(1, |mut driver, mut link| {
        let mut sent = 0;
        loop {
            driver.source_said(chunk()).unwrap();
            sent += 1;
            assert!(sent < 2 * TARGET_QUEUE_BYTES / MIB, "it has no bound");
            // The own store may be the one that has to catch its breath; and the link itself still takes a message.
            until(&mut driver, |driver| level(driver, TargetId::OWN) == Level::Empty);
            if level(&driver, FIRST) == Level::Full && driver.paused {
                break;
            }
        }
        thread::scope(|scope| {
            let reading = scope.spawn(move || (0..sent).all(|_| link.recv().is_ok()));
            until(&mut driver, |driver| !driver.paused);
            drop(driver);
            drop(reading);
        });
    });
}

#[test]
fn the_source_does_not_wait_for_whom_it_does_not_need() {
    with_driver(0, |mut driver, link| {
        let mut sent = 0;
        while driver.conns.contains_key(&FIRST) {
            until(&mut driver, |driver| !driver.paused);
            driver.source_said(chunk()).unwrap();
            sent += 1;
            assert!(sent < 2 * TARGET_QUEUE_BYTES / MIB, "it has no bound");
        }
        until(&mut driver, |driver| level(driver, TargetId::OWN) == Level::Empty);
        assert!(!driver.paused && sent >= TARGET_QUEUE_BYTES / MIB);
        drop(link);
    });
}
