//! Peers that are let in and break the rules: they are told so, and the daemon goes on.

use rbbackup::backup::bytes::Bytes;
use rbbackup::backup::digest::Digest;
use rbbackup::backup::limits::UNSEEN_BYTES_MAX;
use rbbackup::net::link::Link;
use rbbackup::net::message::{
    Busy, Changes, ChunkOffer, FileOpen, Manifest, ManifestEnd, Message, WireChange, WireChunk,
};

use crate::support::client::Client;
use crate::support::daemon::{Daemon, World};
use crate::support::holder::Holder;
use crate::support::trees::{assert_same, plant};

/// The daemon's last word.
fn refusal(link: &mut Link) -> String {
    loop {
        match link.recv().expect("a refusal") {
            Message::Refused(refused) => return String::from_utf8(refused.message.0).unwrap(),
            Message::Need(_) | Message::Busy(_) => {}
            other => panic!("{other:?} instead of a refusal"),
        }
    }
}

/// A run that says `words`, and what the daemon says to it.
fn answer(world: &World, daemon: &Daemon, client: &Client, words: impl Fn(&Link)) -> String {
    let mut holder = Holder::take(daemon, client, &world.path("elsewhere"), true);
    words(holder.link());
    refusal(holder.link())
}

fn offer(link: &Link, lens: &[u32]) {
    link.send(FileOpen { file: 0, path: b"large".as_slice().into(), size: 1 << 20, class: 1, base: None }).unwrap();
    let chunk = |(i, len): (usize, &u32)| WireChunk::New { digest: Digest::of(&i.to_le_bytes()), len: *len };
    let items = lens.iter().enumerate().map(chunk).collect();
    let _ = link.send(ChunkOffer { batch: 0, file: 0, items });
}

#[test]
fn what_is_beyond_a_limit_is_refused_by_name() {
    let (world, daemon, client) = World::served();
    plant(&world.source);
    client.push("-r", &world.source);
    let answer = |words: &dyn Fn(&Link)| answer(&world, &daemon, &client, words);
    let said = answer(&|link| offer(link, &[65536, 7, 65536]));
    assert!(said.contains("too small"), "{said}");
    for len in [0, 96 * 1024 + 1] {
        let said = answer(&|link| offer(link, &[len]));
        assert!(said.contains("empty or too large"), "{said}");
    }
    let said = answer(&|link| {
        let (users, groups, errors) = (Vec::new(), Vec::new(), Vec::new());
        let digest = Digest([0; 32]);
        let _ = link.send(Manifest { base: None, digest, entries: 0, incomplete: true, users, groups, errors });
        for i in 0..UNSEEN_BYTES_MAX / (200 * 3900) + 1 {
            let path = |k: usize| {
                let name = format!("{i:08}{k:08}{}", "x".repeat(200));
                WireChange::Unseen(Bytes(vec![name; 18].join("/").into_bytes()))
            };
            // It closes the link when it has had enough.
            if link.send(Changes { changes: (0..200).map(path).collect() }).is_err() {
                return;
            }
        }
    });
    assert!(said.contains("could not be seen"), "{said}");
    client.push("-r", &world.source);
    assert_same(&world.copy(), &world.source);
}

/// A client waits ten minutes for a sign; whatever takes long after its last word, the sign comes at once and again.
#[test]
fn who_has_said_everything_is_told_that_the_run_goes_on() {
    let (world, daemon, client) = World::served();
    plant(&world.source);
    client.push("-r", &world.source);
    let mut holder = Holder::take(&daemon, &client, &world.path("elsewhere"), true);
    let link = holder.link();
    let (users, groups, errors) = (Vec::new(), Vec::new(), Vec::new());
    let digest = Digest([0; 32]);
    link.send(Manifest { base: None, digest, entries: 0, incomplete: false, users, groups, errors }).unwrap();
    link.send(ManifestEnd { bytes_read: 0 }).unwrap();
    assert_eq!(link.recv(), Ok(Busy { phase: 1 }.into()), "before the stat pass and the plan are done");
}
