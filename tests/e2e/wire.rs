//! What is seen on the wire, and what becomes of who changes it there.

use std::fs;
use std::sync::{Arc, Mutex};

use rbbackup::net::connections::Connections;
use rbbackup::net::identity::Identity;
use rbbackup::net::link::LinkError;
use rbbackup::net::listener::{ListenLimits, Listener};
use rbbackup::net::shutdown::Shutdown;
use rbbackup::net::tls::ServerKey;

use crate::support::client::Client;
use crate::support::daemon::{Daemon, World, login};
use crate::support::destination::Destination;
use crate::support::middle::{Meddle, Middle, Rules};
use crate::support::trees::{assert_same, noise, write};

const NAME: &str = "a-name-nobody-may-see.txt";
const TEXT: &str = "content that nobody on the way may read";

fn holds(seen: &[u8], word: &[u8]) -> bool {
    seen.windows(word.len()).any(|window| window == word)
}

#[test]
fn a_capture_holds_no_name_and_no_content() {
    let world = World::new();
    let daemon = world.daemon();
    let middle = Middle::between("127.0.0.1:0", &daemon.address, Rules::default());
    let client = Client::new(&world.path("home"), &["-s", &middle.address]);
    let file = world.source.join("a-folder-nobody-may-see").join(NAME);
    write(&file, TEXT);
    let random = noise(9, 300_000);
    fs::write(world.source.join("large"), &random).unwrap();

    let there = Destination::start(&client, &world.path("there"), &["--name", "the-destination"]);
    client.push("--copies 1 -r", &world.source);
    client.push("--copies 1 -rd", &world.source);
    client.run(&["ls", world.source.to_str().unwrap()]).expect(0, &["a-folder", "large"]);
    client.run(&["find", "a-name-nobody*"]).expect(0, &[NAME]);
    let out = world.path("out");
    client.run(&["restore".as_ref(), file.as_os_str(), "--to".as_ref(), out.as_os_str()]).expect(0, &[]);
    assert_eq!(fs::read_to_string(out.join(NAME)).unwrap(), TEXT);
    assert_eq!(
        fs::read(there.store.join("127.0.0.1").join(login()).join(file.strip_prefix("/").unwrap())).unwrap(),
        TEXT.as_bytes()
    );

    let seen = middle.seen();
    assert!(seen.len() > 600_000 && middle.connections() >= 7, "{} bytes passed", seen.len());
    let source = world.source.to_str().unwrap();
    let node = format!("127.0.0.1/{}", login());
    for word in [NAME, TEXT, "a-folder-nobody", source, &source[1..], &node, "the-destination", "rbbackup 0."] {
        assert!(!holds(&seen, word.as_bytes()), "'{word}' was seen on the wire");
    }
    for piece in [&random[..64], &random[150_000..150_064], &random[random.len() - 64..]] {
        assert!(!holds(&seen, piece));
    }
    // What the capture would look like without TLS: the words are found where they are.
    assert!(holds(TEXT.as_bytes(), b"nobody on the way"));
}

/// A client that knows the daemon.
fn known() -> (World, Daemon, Client) {
    let (world, daemon, client) = World::served();
    write(&world.source.join("file"), "first");
    client.push("-r", &world.source);
    (world, daemon, client)
}

#[test]
fn a_man_in_the_middle_with_another_key_is_told_nothing() {
    let (world, daemon, client) = known();
    let address = daemon.address.clone();
    drop(daemon);
    // The daemon has moved, and he stands where it was, with a key of his own.
    let moved = world.daemon();
    let before = moved.log();
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let listener = Listener::bind(address.parse().unwrap()).unwrap();
    let told = heard.clone();
    std::thread::spawn(move || {
        let handler = move |mut incoming: rbbackup::net::listener::Incoming| {
            let word = match incoming.link.recv() {
                Err(LinkError::Closed | LinkError::Lost { .. }) => return,
                other => format!("{other:?}"),
            };
            told.lock().unwrap().push(word);
        };
        let limits = ListenLimits::default();
        let key = Arc::new(ServerKey::new(&Identity::generate().unwrap()).unwrap());
        listener.serve(&key, limits, &Connections::default(), &Shutdown::new(), Arc::new(handler))
    });
    write(&world.source.join("file"), "second");
    client.try_push("-r", &world.source).expect(12, &["Nothing was sent"]);
    client.run(&["ls"]).expect(12, &["Nothing was sent"]);
    // Asked under a key of that moment: how did the server that I know come to this key? Nothing else.
    let heard = heard.lock().unwrap();
    assert!(heard.iter().all(|word| word.starts_with("Ok(Succeed(")), "{heard:?}");
    assert_eq!(moved.log(), before, "the daemon was not asked for anything");
    assert_eq!(fs::read_to_string(world.copy().join("file")).unwrap(), "first");
}

#[test]
fn whoever_changes_what_passes_ends_the_connection_and_nothing_wrong_is_committed() {
    let world = World::new();
    let daemon = world.daemon();
    let middle = Middle::between("127.0.0.1:0", &daemon.address, Rules::default());
    let client = Client::new(&world.path("home"), &["-s", &middle.address]);
    write(&world.source.join("file"), "first");
    fs::write(world.source.join("large"), noise(3, 400_000)).unwrap();
    client.push("-r", &world.source);
    let once = client.with(&["--retry-for", "0"]);
    let mut round = 0;
    for meddle in [Meddle::Flip, Meddle::Repeat, Meddle::Swap, Meddle::Drop, Meddle::Shorten] {
        // In the handshake, right after it, in the middle of the content.
        for (up, nth) in [(true, 0), (true, 3), (true, 6), (false, 1), (false, 3)] {
            round += 1;
            let what = Some((nth, meddle));
            let before = middle.meddled();
            middle.set(if up {
                Rules { up: what, ..Rules::default() }
            } else {
                Rules { down: what, ..Rules::default() }
            });
            write(&world.source.join("file"), format!("round {round}"));
            fs::write(world.source.join("large"), noise(100 + round, 400_000)).unwrap();
            let ended = once.try_push("-rd", &world.source);
            let was = middle.meddled() > before;
            let said = format!("{meddle:?} {what:?} {up}: {} {}", ended.code, ended.said());
            let whole = fs::read_to_string(world.copy().join("file")).unwrap() == format!("round {round}");
            // What is changed after the commit loses the receipt, not the backup.
            assert!(!was || ended.code != 0, "{said}");
            assert!(was || ended.code == 0, "{said}");
            if whole {
                assert_same(&world.copy(), &world.source);
            }
            middle.set(Rules::default());
            // The run that was cut may still be about to end.
            client.push("-rd --wait=1m", &world.source);
            assert_same(&world.copy(), &world.source);
        }
    }
    assert!(middle.meddled() >= 20, "{}", middle.meddled());
    client.run(&["verify"]).expect(0, &[]);
}
