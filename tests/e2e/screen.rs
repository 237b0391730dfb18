//! What names and peers contain reaches no terminal and no log as anything but text.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use rbbackup::net::client::{ConnectOptions, connect};
use rbbackup::net::connections::Connections;
use rbbackup::net::handshake::client_hello;
use rbbackup::net::identity::Identity;
use rbbackup::net::listener::{Incoming, ListenLimits, Listener};
use rbbackup::net::message::{HELLO_MAGIC, Message, PROTOCOL_VERSION, RefusalKind, Refused, Welcome};
use rbbackup::net::shutdown::Shutdown;
use rbbackup::net::tls::ServerKey;

use crate::support::client::{Client, Outcome};
use crate::support::daemon::{Daemon, World, login, wait_until};
use crate::support::destination::Destination;
use crate::support::patience::PATIENCE;

/// Turns the direction of writing, ends a line, clears the screen in one character of C1.
const ODD: &str = "\u{202e}\u{2028}\u{9b}2J\x1b[31m\x07\n\r\x7f";

fn is_clean(what: &str, said: &str) {
    let odd = |c: &char| {
        let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}');
        (c.is_control() && *c != '\n') || turns || *c == '\u{fffd}'
    };
    let found: Vec<char> = said.chars().filter(odd).collect();
    assert!(found.is_empty(), "{what} shows {found:?}: {said:?}");
}

fn said(what: &str, outcome: &Outcome) {
    is_clean(what, &outcome.stdout);
    is_clean(what, &outcome.stderr);
}

#[test]
fn no_command_shows_a_name_as_anything_but_text() {
    let (world, daemon, client) = World::served();
    let there = Destination::start(&client.with(&["-v"]), &world.path("there"), &["--name", "d"]);
    // Every byte that a name can have, and the characters that are odd without having an odd byte.
    let folder = world.source.join("all\x1b[2Jof\nthem");
    fs::create_dir(&folder).unwrap();
    let of_byte = |byte: u8| folder.join(std::ffi::OsStr::from_bytes(&[b'n', byte, b'e']));
    for byte in (1..=255).filter(|byte| *byte != b'/') {
        fs::write(of_byte(byte), [byte]).unwrap();
    }
    let odd: PathBuf = folder.join(ODD);
    fs::write(&odd, "one").unwrap();
    std::os::unix::fs::symlink(ODD, folder.join("link")).unwrap();
    let at = |path: &std::path::Path| path.as_os_str().to_owned();
    let run = |words: &[&std::ffi::OsStr]| {
        let outcome = client.run(words);
        said(&format!("{words:?}"), &outcome);
        outcome
    };
    for flags in ["-rn", "-rv", "-rvv", "-rd", "--json -rv", "--progress=always -rv"] {
        let mut words: Vec<std::ffi::OsString> = flags.split(' ').map(Into::into).collect();
        words.push(at(&world.source));
        let outcome = client.run(&words);
        if !flags.contains("always") {
            said(flags, &outcome);
        }
        assert_eq!(outcome.code, 0, "{}", outcome.said());
        fs::write(&odd, flags).unwrap();
    }
    let copies = client.run(&["-r".as_ref(), "--copies".as_ref(), "1".as_ref(), world.source.as_os_str()]);
    said("--copies", &copies);
    let source = at(&world.source);
    let out = at(&world.path("out"));
    let (odd, folder) = (odd.as_os_str(), folder.as_os_str());
    for json in [false, true] {
        for words in [
            vec!["ls".as_ref(), source.as_os_str()],
            vec!["ls".as_ref(), folder],
            vec!["ls".as_ref(), "-v".as_ref(), odd],
            vec!["find".as_ref(), "n*".as_ref()],
            vec!["find".as_ref(), std::ffi::OsStr::new(ODD)],
            vec!["history".as_ref(), odd],
            vec!["diff".as_ref(), "1".as_ref(), "2".as_ref()],
            vec!["snapshots".as_ref()],
            vec!["runs".as_ref()],
            vec!["status".as_ref()],
            vec!["verify".as_ref()],
            vec!["cat".as_ref(), std::ffi::OsStr::new("/no/such\x1b[2J\u{202e}")],
            vec!["restore".as_ref(), "-v".as_ref(), source.as_os_str(), "--to".as_ref(), out.as_os_str()],
            vec!["restore".as_ref(), "-n".as_ref(), std::ffi::OsStr::new("/no/such\x1b[2J")],
            vec!["purge".as_ref(), odd],
            vec!["-r".as_ref(), std::ffi::OsStr::new("/no/such\x1b[2J\n\u{202e}")],
            vec!["-r".as_ref(), "--exclude".as_ref(), std::ffi::OsStr::new("[\x1b[2J"), source.as_os_str()],
            vec!["--user".as_ref(), std::ffi::OsStr::new("u\x1b[2J"), "ls".as_ref()],
            vec!["--of".as_ref(), std::ffi::OsStr::new("n/u\x1b[2J"), "ls".as_ref()],
        ] {
            let words = if json { [vec!["--json".as_ref()], words].concat() } else { words };
            let outcome = run(&words);
            if json {
                for line in outcome.stdout.lines() {
                    serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"));
                }
            }
        }
    }
    let listed = run(&["ls".as_ref(), folder]);
    assert!(listed.stdout.lines().count() >= 254, "{}", listed.stdout.lines().count());
    assert!(
        listed.stdout.contains("n\\x0ae")
            && listed.stdout.contains("n\\xffe")
            && listed.stdout.contains("\\xe2\\x80\\xae")
    );
    run(&["forget".as_ref(), source.as_os_str()]);
    let store = world.store.to_str().unwrap();
    said("prune", &Outcome::of(std::process::Command::new(env!("CARGO_BIN_EXE_rbbackupd")).args(["prune", store])));
    is_clean("the daemon's log", &daemon.log());
    is_clean("receive", &there.said());
}

#[test]
fn what_a_client_says_of_itself_is_text_in_the_log() {
    let (_world, daemon, _) = World::served();
    for user in [login().as_bytes(), ODD.as_bytes(), b"u\xff\x1b[2J"] {
        let identity = Identity::generate().unwrap();
        let server = daemon.address.clone();
        let options = ConnectOptions { server, bind: None, identity: &identity, expected: None, timeout: PATIENCE };
        let mut link = connect(&options).unwrap().link;
        let welcome = client_hello(&mut link, user, &format!("soft{ODD}"));
        let refused = format!("{welcome:?}");
        is_clean("an answer", &refused.replace("\\n", ""));
        let message = Refused { kind: RefusalKind::Failed, message: ODD.as_bytes().into() };
        let _ = link.send(message);
    }
    daemon.wait_for("refused");
    is_clean("the daemon's log", &daemon.log());
}

/// A server that says odd things in every word that it has.
fn hostile(answers: impl Fn(&mut Incoming) + Send + Sync + 'static) -> String {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().to_string();
    std::thread::spawn(move || {
        let handler = move |mut incoming: Incoming| {
            let _ = incoming.link.recv();
            let _ = incoming.entrance.admit(true);
            answers(&mut incoming);
            while incoming.link.recv().is_ok() {}
        };
        let key = Arc::new(ServerKey::new(&Identity::generate().unwrap()).unwrap());
        listener.serve(&key, ListenLimits::default(), &Connections::default(), &Shutdown::new(), Arc::new(handler))
    });
    address
}

fn welcome() -> Message {
    let odd = || ODD.as_bytes().into();
    let (magic, version) = (HELLO_MAGIC, PROTOCOL_VERSION);
    Welcome {
        magic,
        version,
        features: 0,
        software: odd(),
        store: [0; 16],
        store_place: (0, 0),
        node: odd(),
        user: odd(),
    }
    .into()
}

fn refused() -> Message {
    Refused { kind: RefusalKind::Failed, message: format!("no \x1b{ODD}").into_bytes().into() }.into()
}

#[test]
fn what_a_server_says_is_text_on_the_terminal() {
    let world = World::new();
    fs::write(world.source.join("file"), "x").unwrap();
    let at_once = hostile(|incoming| drop(incoming.link.send(refused())));
    let later = hostile(|incoming| {
        let _ = incoming.link.send(welcome());
        let _ = incoming.link.recv();
        let _ = incoming.link.send(refused());
    });
    for (name, address) in [("a", at_once), ("b", later)] {
        let client = Client::new(&world.path(name), &["-s", &address, "--retry-for", "0", "-vvv"]);
        let source = world.source.to_str().unwrap();
        for words in
            [&["ls"][..], &["status"], &["-r", source], &["--json", "-r", source], &["snapshots"], &["find", "x"]]
        {
            let outcome = client.run(words);
            said(&format!("{words:?}"), &outcome);
            assert!(outcome.code != 0, "{words:?}: {}", outcome.said());
        }
        let client = Client::new(&world.path(name), &["-s", &address, "-vvv"]);
        let there = Destination::start(&client, &world.path(&format!("there-{name}")), &[]);
        wait_until("it to be refused", || there.said().contains("no \\x"));
        is_clean("receive", &there.said());
    }
}

/// Everything that a whole session logs, as loudly as can be, and what anybody may read of it on the machine.
#[test]
fn secrets_are_in_no_log_and_no_file_that_others_may_read() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    let daemon = Daemon::start(&world.store, &["-vvv"]);
    let client = world.client(&daemon, "home").var("RBBACKUP_LOG", "trace");
    fs::write(world.source.join("file"), "x").unwrap();
    // The first contact, with an umask that makes nothing private.
    let mut first = std::process::Command::new("sh");
    first.args([
        "-c",
        "umask 000; exec \"$0\" \"$@\"",
        env!("CARGO_BIN_EXE_rbbackup"),
        "-s",
        &daemon.address,
        "status",
    ]);
    Outcome::of(first.env_clear().env("HOME", &client.home)).expect(0, &[]);
    let mut said = String::new();
    for words in [&["-r", world.source.to_str().unwrap()][..], &["ls"], &["status"], &["verify"]] {
        let outcome = client.run(words);
        assert_eq!(outcome.code, 0, "{}", outcome.said());
        said.push_str(&outcome.said());
    }
    said.push_str(&daemon.log());
    assert!(said.contains("TRACE") || said.contains("DEBUG"), "nothing was said");
    let servers = client.home.join(".config/rbbackup/servers").join(&daemon.address);
    for key in [servers.join(format!("{}.key", login())), world.store.join(".rbbackup/key")] {
        assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", key.display());
        let text = fs::read_to_string(&key).unwrap();
        let hex = text.split_whitespace().last().unwrap().to_owned();
        assert_eq!(hex.len(), 64);
        let seed: Vec<u8> = (0..32).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
        let debugged = format!("{seed:?}");
        for form in [hex.clone(), hex.to_uppercase(), hex[..16].to_owned(), debugged[1..40].to_owned()] {
            assert!(!said.contains(&form), "a key is in the log");
        }
    }
    let mut dirs = vec![world.store.join(".rbbackup"), client.home.join(".config/rbbackup")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                dirs.push(entry.path());
            } else if meta.is_file() {
                assert_eq!(meta.permissions().mode() & 0o022, 0, "{} can be changed by others", entry.path().display());
            }
        }
    }
}
