//! A scripted destination with a client's own key: it takes what it is sent, keeps nothing, and says what it is told to say.

use std::thread;

use rbbackup::backup::digest::Digest;
use rbbackup::net::client::{ConnectOptions, connect};
use rbbackup::net::handshake::client_hello;
use rbbackup::net::identity::Identity;
use rbbackup::net::link::{Link, LinkError};
use rbbackup::net::message::{Attend, Begin, Committed, Granted, Join, Message, Missing, Need, Prepared, Proof};

use super::client::Client;
use super::daemon::{Daemon, PATIENCE, login};

/// What it lies about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// The manifest that it prepared is another one.
    Prepared,
    /// The manifest that it committed is another one.
    Committed,
    /// It has nothing to show for what it says.
    Proof,
    /// No lie: told to commit, it never answers.
    Mute,
    /// It misses what is in no manifest, and what is no file.
    Missing,
}

/// Attends until the daemon lets it go.
pub fn attend(daemon: &Daemon, client: &Client, name: &str, lie: Lie) {
    let dial = {
        let key = client.home.join(".config/rbbackup/servers").join(&daemon.address).join(format!("{}.key", login()));
        assert!(key.is_file(), "the client has no key yet: {}", key.display());
        let server = daemon.address.clone();
        move || {
            let identity = Identity::load_or_create(&key).unwrap();
            let server = server.clone();
            let options = ConnectOptions { server, bind: None, identity: &identity, expected: None, timeout: PATIENCE };
            let mut link = connect(&options)?.link;
            client_hello(&mut link, login().as_bytes(), "a test")?;
            Ok::<Link, Box<dyn std::error::Error>>(link)
        }
    };
    let mut control = dial().unwrap();
    let store = blake3::hash(name.as_bytes()).as_bytes()[..16].try_into().unwrap();
    let name = name.as_bytes().into();
    control.send(Attend { name, store, from: Vec::new(), space: (1, 2), heads: Vec::new(), more: false }).unwrap();
    thread::spawn(move || {
        while let Ok(message) = control.recv() {
            let Message::Summon(summon) = message else { continue };
            let dial = dial.clone();
            thread::spawn(move || {
                // The daemon may let go of a liar at any time.
                let Ok(mut data) = dial() else { return };
                let _ = data.send(Join { call: summon.call }).and_then(|()| serve(&mut data, lie));
            });
        }
    });
}

/// One run.
fn serve(link: &mut Link, lie: Lie) -> Result<(), LinkError> {
    let (mut begin, mut manifest) = (None::<Begin>, Digest([0; 32]));
    let or_wrong = |right: Digest, which: Lie| if lie == which { Digest([9; 32]) } else { right };
    loop {
        match link.recv()? {
            Message::Begin(begun) => {
                begin = Some(begun);
                link.send(Granted { base_known: false, ask: false })?;
            }
            // It has everything.
            Message::Offer(offer) => {
                let bits = vec![0; offer.digests.len().div_ceil(8)];
                link.send(Need { batch: offer.batch, bits: bits.into() })?;
            }
            Message::Manifest(head) => manifest = head.digest,
            Message::ManifestEnd(_) if lie == Lie::Missing => {
                let paths = ["", "d", "d/nowhere"].map(|path| path.as_bytes().into()).to_vec();
                link.send(Missing { paths, last: true })?;
            }
            Message::ManifestEnd(_) => {
                let run = begin.as_ref().unwrap().run;
                link.send(Prepared { run, manifest: or_wrong(manifest, Lie::Prepared), entries: 1 })?;
            }
            Message::Commit(_) if lie == Lie::Mute => {}
            Message::Commit(commit) => link.send(Committed {
                run: commit.run,
                snapshot: 1,
                manifest: or_wrong(manifest, Lie::Committed),
                counts: [0; 6],
                files: 1,
                bytes: 1,
                bytes_missing: 0,
                incomplete: false,
                notes: Vec::new(),
                copies: Vec::new(),
                enough: true,
            })?,
            Message::Challenge(_) => link.send(Proof { digest: Digest([7; 32]) })?,
            _ => {}
        }
    }
}
