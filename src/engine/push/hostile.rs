//! A server that is up to no good: a client ends with a reason, sends nothing that it did not offer, and keeps no more in
//! memory than its own backup takes.

use std::fs;

use super::*;
use crate::engine::hostile::every_message;
use crate::engine::observer::Silent;
use crate::net::message::{FileReady, HELLO_MAGIC, Missing, Need, PROTOCOL_VERSION, Sums, WireSums};

/// What the source has: small files, and a large one.
const SMALL: [&str; 3] = ["a", "dir/b", "dir/c"];

/// Runs a backup against this server; what came of it, and all that the client said.
fn against(server: impl FnOnce(&mut Server) + Send + 'static) -> (Result<Summary, EngineError>, Vec<Message>) {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("source");
    fs::create_dir_all(root.join("dir")).unwrap();
    fs::write(temp.path().join("secret"), b"not offered").unwrap();
    for name in SMALL {
        fs::write(root.join(name), name).unwrap();
    }
    let large: Vec<u8> = (0..400_000u32).flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
    fs::write(root.join("large"), large).unwrap();
    let (ours, theirs) = Link::pair();
    let serving = thread::spawn(move || {
        let mut serving = Server { link: theirs, heard: Vec::new() };
        server(&mut serving);
        serving.end()
    });
    let client = ClientOptions::of_store(temp.path(), temp.path());
    let options = PushOptions { root: root.clone(), recursive: true, delete: true, ..PushOptions::default() };
    let (source, bytes) = (Source::open(&root).unwrap(), Bytes::default());
    let attempt =
        Attempt { client: &client, options: &options, observer: &Silent, source: &source, run: RunId([1; 16]) };
    let welcome = Welcome {
        magic: HELLO_MAGIC,
        version: PROTOCOL_VERSION,
        features: 0,
        software: bytes.clone(),
        store: [0; 16],
        store_place: (0, 0),
        node: bytes.clone(),
        user: bytes,
    };
    let outcome = attempt.over(ours, &welcome, &mut Spent::default());
    let heard = serving.join().unwrap();
    let named = |message: &Message| match message {
        Message::Files(files, _) => files.entries.iter().all(|e| SMALL.iter().any(|name| name.as_bytes() == e.path.0)),
        Message::FileOpen(open) => open.path.0 == b"large",
        _ => true,
    };
    assert!(heard.iter().all(named), "content that is none of the backup");
    (outcome, heard)
}

struct Server {
    link: Link,
    heard: Vec<Message>,
}

impl Server {
    /// The next message of the client; none: it has gone.
    fn next(&mut self) -> Option<Message> {
        let message = self.link.recv_timeout(Duration::from_secs(60)).ok()?.expect("the client hangs");
        self.heard.push(message.clone());
        Some(message)
    }

    fn say(&self, message: impl Into<Message>) {
        // It may have gone already.
        let _ = self.link.send(message);
    }

    /// Lets the client begin.
    fn grant(&mut self) {
        assert!(matches!(self.next(), Some(Message::Begin(_))));
        self.say(Granted { base_known: false, ask: true });
    }

    /// Takes what comes, asking for nothing, until all has been said.
    fn take_all(&mut self) {
        while let Some(message) = self.next() {
            match message {
                Message::Offer(offer) => self.say(none_of(offer.batch, offer.digests.len())),
                Message::ChunkOffer(offer) => self.say(none_of(offer.batch, offer.items.len())),
                Message::ManifestEnd(_) => return,
                _ => {}
            }
        }
    }

    /// Says nothing more, and hears the rest.
    fn end(mut self) -> Vec<Message> {
        self.link.sender.end();
        while self.next().is_some() {}
        self.heard
    }
}

fn none_of(batch: u32, count: usize) -> Need {
    Need { batch, bits: vec![0; count.div_ceil(8)].into() }
}

/// Each kind of message as the answer at one moment; what is not among `in_order` is refused by name.
fn try_all(reach: fn(&mut Server), in_order: &[&str]) {
    for (name, message) in every_message() {
        let (outcome, _) = against(move |server| {
            reach(server);
            server.say(message);
        });
        let error = outcome.err().map(|error| error.message);
        match error {
            Some(error) if !in_order.contains(&name.as_str()) => {
                assert!(error.contains(&format!("unexpected message {name}")), "{name}: {error}");
            }
            Some(_) => {}
            None => assert_eq!(name, "Committed", "taken for a receipt"),
        }
    }
}

#[test]
fn instead_of_a_lease() {
    let reach = |server: &mut Server| assert!(matches!(server.next(), Some(Message::Begin(_))));
    try_all(reach, &["Granted", "Committed", "Waiting", "Gathering", "Busy", "Refused"]);
}

#[test]
fn while_content_travels() {
    let reach = |server: &mut Server| {
        server.grant();
        while !matches!(server.next(), Some(Message::Offer(_)) | None) {}
    };
    try_all(reach, &["Need", "FileReady", "Sums", "Gathering", "Busy", "Refused"]);
}

#[test]
fn instead_of_a_receipt() {
    let reach = |server: &mut Server| {
        server.grant();
        server.take_all();
    };
    try_all(reach, &["Committed", "Missing", "PlanLines", "Gathering", "Busy", "Refused"]);
}

/// Answers the first offer so.
fn need(answer: fn(u32, usize) -> Vec<Need>) -> EngineError {
    let (outcome, _) = against(move |server| {
        server.grant();
        loop {
            match server.next() {
                Some(Message::Offer(offer)) => {
                    answer(offer.batch, offer.digests.len()).into_iter().for_each(|need| server.say(need));
                    return server.take_all();
                }
                Some(_) => {}
                None => return,
            }
        }
    });
    outcome.unwrap_err()
}

#[test]
fn a_need_for_what_was_not_offered() {
    let error = need(|batch, count| vec![none_of(batch + 1000, count)]);
    assert!(error.message.contains("an offer that was not made"), "{error}");
    let error = need(|batch, count| vec![none_of(batch, count), none_of(batch, count)]);
    assert!(error.message.contains("an offer that was not made"), "{error}");
    let fewer = need(|batch, _| vec![Need { batch, bits: Bytes::default() }]);
    let more = need(|batch, count| vec![none_of(batch, count + 8)]);
    for error in [fewer, more] {
        assert!(error.message.contains("as many bits"), "{error}");
    }
}

#[test]
fn sums_that_are_none() {
    let (outcome, heard) = against(|server| {
        server.grant();
        // Nobody asked for them, and nothing is told by them; but they must be sums.
        let sums = |len| Sums { batch: 0, sums: vec![WireSums { item: 0, block: 256, len, sums: vec![0; 5].into() }] };
        server.say(sums(256));
        server.say(sums(257));
        server.take_all();
    });
    assert!(outcome.unwrap_err().message.contains("sums that are none"));
    assert!(!heard.iter().any(|message| matches!(message, Message::FileDeltas(..) | Message::ChunkDeltas(..))));
}

#[test]
fn ready_for_a_file_that_was_not_opened() {
    let (outcome, heard) = against(|server| {
        server.grant();
        (0..4).for_each(|file| server.say(FileReady { file: file + 7, base_known: true }));
        server.take_all();
        server.say(Missing { paths: vec![], last: true });
    });
    outcome.unwrap_err();
    let ranges =
        |message: &Message| matches!(message, Message::ChunkOffer(offer) if format!("{offer:?}").contains("Range"));
    assert!(!heard.iter().any(ranges), "a base that nobody named");
}

#[test]
fn content_is_missing_that_is_none_of_the_backup() {
    for path in ["../secret", "/etc/passwd", "dir/../../secret", "a\0", "dir//b"] {
        let (outcome, _) = against(move |server| {
            server.grant();
            server.take_all();
            server.say(Missing { paths: vec![path.as_bytes().into()], last: true });
        });
        let error = outcome.unwrap_err();
        assert!(error.message.contains("the path"), "{path}: {error}");
    }
    for path in ["secret", "dir", "", "dir/nothing", "a/below"] {
        let (outcome, heard) = against(move |server| {
            server.grant();
            for _ in 0..MISSING_ROUNDS_MAX {
                server.take_all();
                server.say(Missing { paths: vec![path.as_bytes().into()], last: true });
            }
        });
        outcome.unwrap_err();
        assert!(!heard.iter().any(|message| matches!(message, Message::Files(..))), "{path}");
    }
}

#[test]
fn more_is_missing_than_there_is() {
    let (outcome, _) = against(|server| {
        server.grant();
        server.take_all();
        for _ in 0..10_000 {
            let paths = vec![b"a".as_slice().into(); 1024];
            if server.link.send(Missing { paths, last: false }).is_err() {
                return;
            }
        }
        panic!("ten million paths were taken");
    });
    let error = outcome.unwrap_err();
    assert!(error.message.contains("more content is missing than there is"), "{error}");
}

#[test]
fn a_lease_that_is_given_twice() {
    let (outcome, _) = against(|server| {
        server.grant();
        server.say(Granted { base_known: true, ask: false });
        server.take_all();
    });
    assert!(outcome.unwrap_err().message.contains("unexpected message Granted"));
}
