//! What a key may do that has one right, message by message: whoever stole it says what he likes.

use rbbackup::backup::digest::RunId;
use rbbackup::net::message::{
    Find, Forget, History, Message, Of, Prune, Purge, Purges, RefusalKind, Release, Runs, Snapshots, Stats, Verify,
};

use crate::support::client::Outcome;
use crate::support::daemon::{World, login};
use crate::support::holder::dial;
use crate::support::trees::write;

const RUN: RunId = RunId([7; 16]);

/// What no right of a client's allows.
fn of_admins() -> Vec<Message> {
    let (node, user) = (b"127.0.0.1".as_slice().into(), login().into_bytes().into());
    let purge = |really| Purge { run: RUN, path: b"home".as_slice().into(), really };
    vec![
        Prune {}.into(),
        Release { number: 1 }.into(),
        purge(true).into(),
        purge(false).into(),
        Purges {}.into(),
        Verify { path: Vec::new().into(), all: true, parts: 1 }.into(),
        Stats { all: true }.into(),
        Of { node, user }.into(),
    ]
}

fn of_readers() -> Vec<Message> {
    let path = || Vec::new().into();
    vec![
        Snapshots { path: path() }.into(),
        History { path: path() }.into(),
        Find { pattern: b"*".as_slice().into() }.into(),
        Runs { count: 1 }.into(),
        Verify { path: path(), all: false, parts: 1 }.into(),
    ]
}

fn of_writers() -> Vec<Message> {
    vec![Forget { run: RUN, root: b"home".as_slice().into() }.into()]
}

#[test]
fn a_key_with_one_right_can_do_nothing_that_takes_another() {
    let (world, daemon, client) = World::served();
    write(&world.source.join("file"), "x");
    client.push("-r", &world.source);
    let copy = format!("127.0.0.1/{}", login());
    let set = |rights: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rbbackupd"));
        command.args(["set", &copy, "--rights", rights, "--store"]).arg(&world.store);
        Outcome::of(&mut command).expect(0, &[]);
    };
    let refused = |rights: &str, message: Message| {
        let mut link = dial(&daemon, &client);
        let said = format!("{rights}: {message:?}");
        link.send(message).unwrap();
        let heard = link.recv().unwrap();
        assert!(matches!(&heard, Message::Refused(no) if no.kind == RefusalKind::NotAllowed), "{said}: {heard:?}");
    };
    for rights in ["backup", "restore", "receive"] {
        set(rights);
        of_admins().into_iter().for_each(|message| refused(rights, message));
        if rights != "restore" {
            of_readers().into_iter().for_each(|message| refused(rights, message));
        }
        if rights != "backup" {
            of_writers().into_iter().for_each(|message| refused(rights, message));
        }
    }
    set("backup,restore");
    client.run(&["snapshots"]).expect(0, &[]);
    client.push("-r", &world.source);
}
