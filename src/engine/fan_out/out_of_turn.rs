//! Runs to several, and every message at every moment, from the source and from a destination: the run ends with a reason or
//! goes on without whoever spoke, and nobody is left behind.

use std::thread::JoinHandle;

use super::scripted::{Destination, FILES, Fixture, PATIENCE, Source, commit, content, wanted};
use crate::backup::digest::RunId;
use crate::engine::error::EngineError;
use crate::engine::hostile::every_message;
use crate::engine::receive::scripted::{send_files, send_manifest};
use crate::net::link::{Link, LinkError};
use crate::net::message::{Begin, Message};

/// Nothing more is said on this link, and what still comes is heard.
fn fall_silent(link: Link) -> Vec<String> {
    let Link { sender, mut receiver, .. } = link;
    drop(sender);
    let mut refusals = Vec::new();
    loop {
        match receiver.recv_timeout(PATIENCE) {
            Ok(Some(Message::Refused(refused))) => refusals.push(String::from_utf8(refused.message.0).unwrap()),
            Ok(Some(_)) => {}
            Ok(None) => panic!("the run does not end"),
            Err(LinkError::Closed) => return refusals,
            Err(other) => panic!("{other}"),
        }
    }
}

type Serving = JoinHandle<Result<(), EngineError>>;

/// Each kind said by the source once `reach` is done. A kind that is not in order ends the run by name.
fn by_source(reach: fn(&mut Source, &Destination) -> Option<Link>, in_order: &[&str]) {
    let fixture = Fixture::new();
    let there = fixture.destination(1);
    for (name, message) in every_message() {
        let mut source = fixture.begin(wanted(1));
        let data = reach(&mut source, &there);
        let _ = source.link.send(message);
        let (link, serving): (Link, Serving) = source.into_parts();
        fall_silent(link);
        let error = serving.join().expect("the run panicked").unwrap_err();
        if !in_order.contains(&name.as_str()) {
            let words = format!("unexpected message {name}");
            assert!(error.message.contains(&words), "{name}: {error}");
        }
        drop(data);
        fixture.wait_gone(&there);
    }
}

#[test]
fn a_source_that_waits_for_destinations() {
    let fixture = Fixture::new();
    for (name, message) in every_message() {
        let source = fixture.begin(wanted(1));
        let _ = source.link.send(message);
        let (link, serving) = source.into_parts();
        fall_silent(link);
        let error = serving.join().expect("the run panicked").unwrap_err();
        assert!(
            name == "Busy" || name == "Progress" || error.message.contains("unexpected message"),
            "{name}: {error}"
        );
    }
}

#[test]
fn a_source_whose_content_travels() {
    let content =
        ["Bases", "Offer", "Files", "FileOpen", "ChunkOffer", "Chunks", "FileDone", "Busy", "Progress", "Manifest"];
    let after_its_head = ["Changes", "ManifestEnd"];
    by_source(
        |source, there| {
            let data = there.granted();
            source.wait_granted();
            Some(data)
        },
        &[&content[..], &after_its_head].concat(),
    );
}

#[test]
fn a_source_that_has_said_everything() {
    by_source(
        |source, there| {
            let mut data = there.granted();
            source.wait_granted();
            send_files(&source.link, &FILES);
            send_manifest(&source.link, &FILES);
            content(&mut data);
            Some(data)
        },
        &["Busy", "Progress"],
    );
}

/// Each kind said by a destination once `reach` is done. It is let go, or waited for; the source is told how it ends.
fn by_destination(reach: fn(&mut Source, &Destination) -> Link) {
    let fixture = Fixture::new();
    let there = fixture.destination(1);
    for (number, (name, message)) in (2..).zip(every_message()) {
        // A run of its own each time: where the own store is quicker than the source falls silent, it holds the run.
        let mut source = fixture.begin(Begin { run: RunId([number; 16]), ..wanted(1) });
        let data = reach(&mut source, &there);
        let _ = data.send(message);
        fall_silent(data);
        let (link, serving) = source.into_parts();
        fall_silent(link);
        assert!(serving.join().unwrap_or_else(|_| panic!("the run panicked at {name}")).is_err(), "{name}");
        fixture.wait_gone(&there);
    }
    // And it may come again.
    let mut source = fixture.begin(wanted(1));
    let mut data = there.granted();
    source.wait_granted();
    send_files(&source.link, &FILES);
    send_manifest(&source.link, &FILES);
    let manifest = content(&mut data).0;
    commit(&mut data, &wanted(1), manifest);
    assert!(source.receipt().0);
}

#[test]
fn a_destination_that_is_asked_to_take_part() {
    by_destination(|_, there| there.begun());
}

#[test]
fn a_destination_that_content_comes_to() {
    by_destination(|source, there| {
        let data = there.granted();
        source.wait_granted();
        data
    });
}

#[test]
fn a_destination_whose_verdict_is_due() {
    by_destination(|source, there| {
        let mut data = there.granted();
        source.wait_granted();
        send_files(&source.link, &FILES);
        send_manifest(&source.link, &FILES);
        content(&mut data);
        data
    });
}
