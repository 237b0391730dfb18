//! A scripted peer with a client's own key: it asks for a lease and holds it until it is dropped.

use std::path::Path;
use std::time::Duration;

use rbbackup::backup::digest::RunId;
use rbbackup::net::client::{ConnectOptions, connect};
use rbbackup::net::handshake::client_hello;
use rbbackup::net::identity::Identity;
use rbbackup::net::link::Link;
use rbbackup::net::message::{Begin, Committed, Granted, Message};

use super::client::Client;
use super::daemon::{Daemon, PATIENCE, login};

/// Holds a lease as long as it lives.
pub struct Holder {
    link: Link,
}

impl Holder {
    /// What it talks through.
    pub fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    /// Gets the lease of a backup of `root`, as `client` would; the client must have been there before.
    pub fn take(daemon: &Daemon, client: &Client, root: &Path, recursive: bool) -> Self {
        let link = dial(daemon, client);
        let root = root.to_str().unwrap().trim_start_matches('/');
        let run: [u8; 16] = blake3::hash(root.as_bytes()).as_bytes()[..16].try_into().unwrap();
        Self::granted(link, begin(RunId(run), root, recursive, 0)).0
    }

    /// Begins a run again that may be committed somewhere.
    pub fn again(daemon: &Daemon, client: &Client, root: &Path, run: RunId) -> (Self, Granted) {
        let root = root.to_str().unwrap().trim_start_matches('/');
        Self::granted(dial(daemon, client), begin(run, root, true, 1))
    }

    fn granted(mut link: Link, begin: Begin) -> (Self, Granted) {
        link.send(begin).unwrap();
        loop {
            match link.recv_timeout(Duration::from_secs(60)).unwrap() {
                Some(Message::Granted(granted)) => return (Self { link }, granted),
                Some(Message::Gathering(_)) => {}
                other => panic!("{other:?} instead of a lease"),
            }
        }
    }
}

/// What a source hears that begins a run again which is committed: it had lost its receipt.
pub fn receipt_again(daemon: &Daemon, client: &Client, root: &Path, run: [u8; 16], copies: u32) -> Committed {
    let mut link = dial(daemon, client);
    link.send(begin(RunId(run), root.to_str().unwrap().trim_start_matches('/'), true, copies)).unwrap();
    loop {
        match link.recv_timeout(Duration::from_secs(60)).unwrap() {
            Some(Message::Committed(receipt)) => return receipt,
            Some(Message::Gathering(_) | Message::Busy(_)) => {}
            other => panic!("{other:?} instead of a receipt"),
        }
    }
}

/// The same under the login name.
pub fn dial(daemon: &Daemon, client: &Client) -> Link {
    dial_as(daemon, client, &login())
}

/// What the daemon says to a request that it does not serve.
pub fn refusal_of(mut link: Link, request: impl Into<Message>) -> String {
    link.send(request).unwrap();
    match link.recv_timeout(PATIENCE).unwrap() {
        Some(Message::Refused(refused)) => String::from_utf8(refused.message.0).unwrap(),
        other => panic!("{other:?} instead of a refusal"),
    }
}

/// A conversation under a client's key and user name; the client must have been there before.
pub fn dial_as(daemon: &Daemon, client: &Client, user: &str) -> Link {
    let key = client.home.join(".config/rbbackup/servers").join(&daemon.address).join(format!("{user}.key"));
    assert!(key.is_file(), "the client has no key yet: {}", key.display());
    let identity = Identity::load_or_create(&key).unwrap();
    let server = daemon.address.clone();
    let options = ConnectOptions { server, bind: None, identity: &identity, expected: None, timeout: PATIENCE };
    let mut link = connect(&options).unwrap().link;
    client_hello(&mut link, user.as_bytes(), "a test").unwrap();
    link
}

fn begin(run: RunId, root: &str, recursive: bool, copies: u32) -> Begin {
    Begin {
        run,
        root: root.as_bytes().into(),
        recursive,
        delete: true,
        delete_excluded: false,
        force_delete: true,
        dry_run: false,
        filters: Vec::new(),
        wait_secs: 0,
        file_system: 0,
        base: None,
        copies,
        wait_copies_secs: 60,
        retry_secs: 60,
    }
}
