//! Quotas and the reserve, against a real store, with a source that says each message itself.

use std::thread;

use super::*;
use crate::engine::client::now;
use crate::engine::hub::HubOptions;
use crate::engine::receive::scripted::{begin, heard, say_files, say_manifest};
use crate::engine::receive::{self, Terms};
use crate::engine::rules::Rules;
use crate::net::link::{Link, LinkError, LinkSender};
use crate::net::message::{Begin, Committed, Message};
use crate::store::registry::Registry;

const QUOTA: u64 = 160_000;

struct Fixture {
    _temp: tempfile::TempDir,
    hub: Hub,
}

impl Fixture {
    fn new(space: SpaceLimits) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let hub = Hub::open(
            temp.path(),
            HubOptions { rules: Rules { space, ..Rules::default() }, ..HubOptions::in_process() },
        )
        .unwrap();
        Self { _temp: temp, hub }
    }

    fn with_quota() -> Self {
        Self::new(SpaceLimits { quota: Some(QUOTA), ..SpaceLimits::default() })
    }

    /// A run that sends these files' content, and then says that its root has `all`.
    fn run(&self, begin: &Begin, sent: &[(&str, &str)], all: &[(&str, &str)]) -> Result<Committed, EngineError> {
        self.say(begin, |link| say_files(link, sent).and_then(|()| say_manifest(link, all, false)))
    }

    /// A run that says `words` once it is granted, until the store has had enough or asks for what was not sent.
    fn say(
        &self,
        begin: &Begin,
        words: impl FnOnce(&LinkSender) -> Result<(), LinkError> + Send,
    ) -> Result<Committed, EngineError> {
        let (mut link, mut theirs) = Link::pair();
        thread::scope(|scope| {
            let serving = scope.spawn(move || {
                let identity = Registry::local(b"u", now()).unwrap();
                let who = Who { identity, address: None, software: String::new() };
                receive::serve(&self.hub, &who, &mut theirs, begin, &Terms::default())
            });
            assert!(matches!(heard(&mut link), Message::Granted(_)));
            let sender = link.sender.clone();
            scope.spawn(move || words(&sender));
            while link.recv().is_ok_and(|said| !matches!(said, Message::Missing(_))) {}
            drop(link);
            serving.join().unwrap()
        })
    }

    fn push(&self, run: u8, sent: &[(&str, &str)], all: &[(&str, &str)]) -> Result<Committed, EngineError> {
        self.run(&begin(run), sent, all)
    }

    /// Bytes of files, history without its records, and staging.
    fn usage(&self) -> (u64, u64, u64) {
        let name = CopyName::local(b"u").unwrap();
        let Usage { copy, history, staging } = usage(&self.hub, &name).unwrap();
        (copy, history - self.hub.store.snapshots(&name).unwrap().bytes_on_disk().unwrap(), staging)
    }

    fn staged(&self) -> usize {
        self.hub.own_dir("staging").unwrap().names().unwrap().len()
    }
}

fn text(letter: &str, bytes: usize) -> String {
    letter.repeat(bytes)
}

fn refusal(outcome: Result<Committed, EngineError>) -> String {
    let error = outcome.expect_err("it was let through");
    assert_eq!((error.kind, error.exit_code()), (ErrorKind::NoSpace, 13), "{error}");
    error.to_string()
}

#[test]
fn what_does_not_fit_is_refused_and_given_back_and_less_always_goes() {
    let f = Fixture::with_quota();
    let (a, b, c) = (text("a", 100_000), text("b", 50_000), text("c", 30_000));
    f.push(1, &[("a", &a), ("b", &b)], &[("a", &a), ("b", &b)]).unwrap();
    assert_eq!(f.usage(), (150_000, 0, 0));
    // More than fits; the overdraft is for those that do not grow.
    let said = refusal(f.push(2, &[("c", &c)], &[("a", &a), ("b", &b), ("c", &c)]));
    assert!(said.contains("KiB of 156 KiB are used (146 KiB in files") && said.contains("29 KiB more"), "{said}");
    let small = text("d", 12_000);
    let said = refusal(f.push(3, &[("d", &small)], &[("a", &a), ("b", &b), ("d", &small)]));
    assert!(said.contains("raise the quota"), "{said}");
    assert_eq!((f.usage(), f.staged()), ((150_000, 0, 0), 0), "it was not given back");
    // A file that shrinks is new content too, and a little of it goes.
    let shrunk = text("a", 15_000);
    f.push(4, &[("a", &shrunk)], &[("a", &shrunk), ("b", &b)]).unwrap();
    assert_eq!(f.usage(), (65_000, 100_000, 0));
    // Over the quota now: what only goes or changes its name always goes.
    f.push(5, &[], &[("renamed", &b)]).unwrap();
    f.push(6, &[], &[]).unwrap();
    assert_eq!(f.usage(), (0, 165_000, 0));
    refusal(f.push(7, &[("e", "e")], &[("e", "e")]));
}

/// It is told what a run would be told, and nothing comes of it.
#[test]
fn a_dry_run_foresees_it() {
    let f = Fixture::with_quota();
    let (a, b, c) = (text("a", 100_000), text("b", 50_000), text("c", 30_000));
    let dry = |run| Begin { dry_run: true, ..begin(run) };
    f.run(&dry(1), &[], &[("a", &a), ("b", &b)]).unwrap();
    // What a run left that was cut counts once.
    f.push(2, &[("a", &a)], &[("a", &a), ("gone", "never sent")]).unwrap_err();
    assert_eq!((f.usage(), f.staged()), ((0, 0, 100_000), 1));
    f.run(&dry(3), &[], &[("a", &a), ("b", &b)]).unwrap();
    let said = refusal(f.run(&dry(4), &[], &[("a", &a), ("b", &b), ("c", &c)]));
    assert!(said.contains("176 KiB more"), "{said}");
    assert_eq!((f.usage(), f.staged()), ((0, 0, 100_000), 1), "it was taken away");
    f.push(5, &[("b", &b)], &[("a", &a), ("b", &b)]).unwrap();
    refusal(f.run(&dry(6), &[], &[("a", &a), ("b", &b), ("c", &c)]));
    f.run(&dry(7), &[], &[("b", &b)]).unwrap();
    assert_eq!((f.usage(), f.staged()), ((150_000, 0, 0), 0));
}

#[test]
fn it_is_refused_while_it_arrives() {
    let f = Fixture::with_quota();
    let files: Vec<(String, String)> =
        (0..50).map(|i| (format!("{i:02}"), text(&(i % 10).to_string(), 20_000))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    // The manifest never comes.
    refusal(f.say(&begin(1), |link| say_files(link, &files)));
    assert_eq!((f.usage(), f.staged()), ((0, 0, 0), 0));
}

/// Files that a run without `-d` leaves behind, other roots, and what runs left that were cut: none of it is a way round.
#[test]
fn everything_counts_that_takes_space() {
    let f = Fixture::with_quota();
    let (a, b, c) = (text("a", 70_000), text("b", 50_000), text("c", 60_000));
    let keeping = |run| Begin { delete: false, ..begin(run) };
    f.run(&keeping(1), &[("a", &a)], &[("a", &a)]).unwrap();
    f.run(&keeping(2), &[("b", &b)], &[("b", &b)]).unwrap();
    assert_eq!(f.usage().0, 120_000, "a file that was kept does not count");
    let below = |run| Begin { root: b"home/u/below".as_slice().into(), ..begin(run) };
    refusal(f.run(&below(3), &[("c", &c)], &[("c", &c)]));
    let c = &c[..30_000];
    f.run(&below(4), &[("c", c)], &[("c", c)]).unwrap();
    assert_eq!(f.usage().0, 150_000, "a root below another one does not count");
    // Of a run to another root something stays in staging.
    let cut = Begin { root: b"srv".as_slice().into(), ..begin(5) };
    let left = &c[..9_000];
    assert!(f.run(&cut, &[("d", left)], &[("d", left), ("gone", "never sent")]).is_err());
    assert_eq!((f.usage().2, f.staged()), (9_000, 1));
    refusal(f.run(&Begin { root: b"opt".as_slice().into(), ..begin(6) }, &[("e", left)], &[("e", left)]));
    // Known anew: after a restart nothing is forgotten.
    let known = f.usage();
    let f = Fixture { hub: reopened(f.hub), _temp: f._temp };
    assert_eq!(f.usage(), known);
}

fn reopened(hub: Hub) -> Hub {
    let (place, options) = (hub.store.root().to_path_buf(), hub.options.clone());
    drop(hub);
    Hub::open(&place, options).unwrap()
}

#[test]
fn a_disk_below_its_reserve_takes_no_content_and_everything_else() {
    let f = Fixture::new(SpaceLimits::default());
    f.push(1, &[("a", "one"), ("b", "two")], &[("a", "one"), ("b", "two")]).unwrap();
    let Fixture { hub, _temp } = f;
    let place = hub.store.root().to_path_buf();
    drop(hub);
    // A little more than there is: half of it is there, and will be while this test runs.
    let disk = rustix::fs::statvfs(&place).unwrap();
    let space = SpaceLimits { reserve: Some(disk.f_bfree * disk.f_frsize / 2 * 3), ..SpaceLimits::default() };
    let hub = Hub::open(&place, HubOptions { rules: Rules { space, ..Rules::default() }, ..HubOptions::in_process() })
        .unwrap();
    let f = Fixture { hub, _temp };
    let said = refusal(f.push(2, &[("c", "three")], &[("a", "one"), ("b", "two"), ("c", "three")]));
    assert!(said.contains("[limits] reserve") && said.contains(&*place.to_string_lossy()), "{said}");
    assert_eq!(f.staged(), 0);
    assert_eq!(f.push(3, &[], &[("b", "two")]).unwrap().snapshot, 2, "deleting needs no room");
    // Half of the reserve is for that; the other half is not for manifests that fill it.
    let Fixture { hub, _temp } = f;
    let space = SpaceLimits { reserve: Some(u64::MAX), ..SpaceLimits::default() };
    drop(hub);
    let hub = Hub::open(&place, HubOptions { rules: Rules { space, ..Rules::default() }, ..HubOptions::in_process() })
        .unwrap();
    let f = Fixture { hub, _temp };
    refusal(f.push(4, &[], &[]));
}

#[test]
fn the_reserve_is_small_on_a_small_disk() {
    assert_eq!(reserve_of(4 << 40), 1 << 30);
    assert_eq!(reserve_of(50 << 30), (50 << 30) / 100);
    assert_eq!((overdraft(QUOTA), overdraft(1 << 40)), (10_000, 64 << 20));
}
