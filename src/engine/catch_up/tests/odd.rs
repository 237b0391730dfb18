//! Less common: runs without `-r` or `-d`, snapshots that cannot be passed on, far ends that say what cannot be.

use super::*;
use crate::backup::bytes::Bytes;
use crate::engine::purge::{Purger, purge};
use crate::net::message::{Busy, FileReady, Missing, Need, Waiting};

#[test]
fn with_and_without_r_and_d_the_copies_stay_alike() {
    for seed in 3..=4 {
        let (world, mut dice) = (World::new(), Dice::new(seed));
        for round in 0..6 {
            trees::change(&world.src(), &mut dice);
            for name in ["x", "y", "z"] {
                match dice.roll(3) {
                    0 => world.write(name, &noise(300, dice.roll(9) as u8)),
                    1 => drop(fs::remove_file(world.src().join(name))),
                    _ => {}
                }
            }
            let (recursive, delete) = (round == 0 || !dice.one_in(3), !dice.one_in(3));
            world.push_with(PushOptions { root: world.src(), recursive, delete, ..Default::default() });
            world.catch_up();
            assert_eq!(picture(&world.copy("a", "")), picture(&world.copy("b", "")), "{seed}, {round}");
            assert_eq!(world.restored("a"), world.restored("b"));
        }
    }
}

#[test]
fn a_snapshot_that_lost_a_path_for_good_is_not_passed_on_but_the_newest_is() {
    let world = World::new();
    world.write("secret", b"secret");
    world.write("other", b"other");
    world.push();
    fs::remove_file(world.src().join("secret")).unwrap();
    world.push();
    let client = world.client("a");
    assert!(purge(Purger::Client(&client), &world.src().join("secret"), true, &mut |_| {}).unwrap().done);
    {
        let a = world.hub("a");
        let copy = a.store.copies().unwrap().remove(0);
        let old = a.store.snapshots(&copy).unwrap().list().unwrap().remove(0);
        let (mut ours, mut theirs) = Link::pair();
        let due = Due { copy: &copy, record: &old, head: None };
        let error = run(&a, &due, &mut ours, &Stop::default(), &|_, _| {}).unwrap_err();
        assert!(error.message.contains("was taken out of snapshot 1"), "{error}");
        assert!(theirs.recv_timeout(Duration::ZERO).unwrap().is_none(), "nothing is begun");
    }
    world.catch_up();
    world.assert_same();
}

/// What a far end does that has been asked to begin.
type Script = fn(&mut Link, &SnapshotRecord);

fn recv_until(link: &mut Link, is_it: fn(&Message) -> bool) {
    while !is_it(&link.recv().unwrap()) {}
}

fn grant(link: &mut Link) {
    link.send(Granted { base_known: false, ask: true }).unwrap();
}

fn receipt(record: &SnapshotRecord) -> Committed {
    receive::receipt_of(record)
}

const SCRIPTS: [(&str, Script); 6] = [
    ("which is not what it was sent", |link, record| {
        link.send(Committed { manifest: Digest([1; 32]), ..receipt(record) }).unwrap();
    }),
    ("which is not what it was sent", |link, record| {
        grant(link);
        recv_until(link, |message| matches!(message, Message::Offer(_)));
        link.send(Need { batch: 0, bits: Bytes(vec![0]) }).unwrap();
        recv_until(link, |message| matches!(message, Message::ManifestEnd(_)));
        link.send(Committed { run: crate::backup::digest::RunId([1; 16]), ..receipt(record) }).unwrap();
    }),
    ("answered what was not asked", |link, _| {
        grant(link);
        link.send(FileReady { file: 7, base_known: true }).unwrap();
        let _ = link.recv();
    }),
    ("not as many bits", |link, _| {
        grant(link);
        recv_until(link, |message| matches!(message, Message::Offer(_)));
        link.send(Need { batch: 0, bits: Bytes(vec![0; 9]) }).unwrap();
        let _ = link.recv();
    }),
    ("which is in no manifest", |link, _| {
        grant(link);
        recv_until(link, |message| matches!(message, Message::Offer(_)));
        link.send(Need { batch: 0, bits: Bytes(vec![0]) }).unwrap();
        recv_until(link, |message| matches!(message, Message::ManifestEnd(_)));
        link.send(Missing { paths: vec![b"etc/passwd"[..].into()], last: true }).unwrap();
        let _ = link.recv();
    }),
    ("asks for more than the snapshot has", |link, _| {
        grant(link);
        recv_until(link, |message| matches!(message, Message::Offer(_)));
        link.send(Need { batch: 0, bits: Bytes(vec![0]) }).unwrap();
        recv_until(link, |message| matches!(message, Message::ManifestEnd(_)));
        while link.send(Missing { paths: vec![b"f"[..].into(); 100], last: false }).is_ok() {}
    }),
];

#[test]
fn a_far_end_that_says_what_cannot_be_is_not_believed() {
    let world = World::new();
    world.write("f", b"content");
    world.push();
    let a = world.hub("a");
    let (copy, record) = (a.store.copies().unwrap().remove(0), newest(&a).unwrap());
    for (words, script) in SCRIPTS {
        thread::scope(|scope| {
            let (mut ours, mut theirs) = Link::pair();
            let record = &record;
            scope.spawn(move || {
                recv_until(&mut theirs, |message| matches!(message, Message::Begin(_)));
                script(&mut theirs, record);
            });
            let due = Due { copy: &copy, record, head: None };
            let error = run(&a, &due, &mut ours, &Stop::default(), &|_, _| {}).unwrap_err();
            drop(ours);
            assert!(error.kind == ErrorKind::Failed && error.message.contains(words), "{words}: {error}");
        });
    }
}

#[test]
fn a_far_end_that_is_at_work_is_heard_to_be() {
    let world = World::new();
    world.write("f", b"content");
    world.push();
    let a = world.hub("a");
    let (copy, record) = (a.store.copies().unwrap().remove(0), newest(&a).unwrap());
    let told = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let (mut ours, mut theirs) = Link::pair();
        let record = &record;
        scope.spawn(move || {
            recv_until(&mut theirs, |message| matches!(message, Message::Begin(_)));
            theirs.send(Waiting { holder: Bytes::default() }).unwrap();
            grant(&mut theirs);
            recv_until(&mut theirs, |message| matches!(message, Message::Offer(_)));
            theirs.send(Need { batch: 0, bits: Bytes(vec![1]) }).unwrap();
            recv_until(&mut theirs, |message| matches!(message, Message::ManifestEnd(_)));
            for phase in 1..4 {
                theirs.send(Busy { phase }).unwrap();
            }
            theirs.send(receipt(record)).unwrap();
        });
        let due = Due { copy: &copy, record, head: None };
        let tell = |bytes, total| told.lock().unwrap().push((bytes, total));
        assert!(!run(&a, &due, &mut ours, &Stop::default(), &tell).unwrap().had_it);
    });
    let told = told.into_inner().unwrap();
    assert_eq!(told.first(), Some(&(0, None)), "it waits for a lease");
    assert!(told.ends_with(&[(7, Some(7)); 3]), "{told:?}");
}
