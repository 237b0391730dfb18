//! Peers that say what no client says, byte by byte: strangers, and peers that were let in. Each loses its connection and
//! nothing else happens: others are served meanwhile, memory stays bounded, nothing is left behind.

use std::io::Write;
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use rbbackup::backup::limits::{BULK_FRAME_BYTES_MAX, CONTROL_FRAME_BYTES_MAX, HANDSHAKE_FRAME_BYTES_MAX};
use rbbackup::net::frame::KEEPALIVE_KIND;
use rbbackup::net::message::{At, Hello, Message, Read, Status};

use crate::support::client::Client;
use crate::support::daemon::{Daemon, World, login, wait_until};
use crate::support::raw_tls::{Raw, Shows, closes, connect, frame, head, hello};
use crate::support::trees::{assert_same, plant};

/// What a daemon may have had in memory after all this, beyond what it has for an honest client.
const MEMORY_MAX: u64 = 192 << 20;

/// A daemon that somebody is honest to, while others are not.
struct Trial {
    world: World,
    daemon: Daemon,
    client: Client,
    /// Memory before anybody was dishonest.
    before: u64,
}

impl Trial {
    fn new() -> Self {
        let (world, daemon, client) = World::served();
        plant(&world.source);
        client.push("-r", &world.source);
        let before = daemon.peak_memory();
        Self { world, daemon, client, before }
    }

    /// A backup that changes something.
    fn honest(&self, what: &str) {
        std::fs::write(self.world.source.join("changed"), what).unwrap();
        self.client.push("-r", &self.world.source);
        assert_same(&self.world.copy(), &self.world.source);
    }

    /// Nobody is left, nothing has panicked, and it ends when it is told to.
    fn end(mut self) {
        self.honest("at the end");
        wait_until("all sessions to end", || {
            self.client.run(&["--json", "status"]).object("status")["sessions"].as_u64() == Some(1)
        });
        let memory = self.daemon.peak_memory();
        assert!(memory < self.before + MEMORY_MAX, "{memory} bytes, {} before", self.before);
        assert!(self.daemon.stop().success());
        assert!(!self.daemon.log().contains("panicked"), "{}", self.daemon.log());
    }
}

/// The first bytes of somebody who speaks TLS 1.2 only.
fn tls12() -> Vec<u8> {
    let body = [&[3, 3][..], &[7; 32], &[0], &[0, 4, 0xc0, 0x2f, 0xc0, 0x30], &[1, 0], &[0, 0]].concat();
    let handshake = [&[1, 0, 0, body.len() as u8][..], &body].concat();
    [&[0x16, 3, 1, 0, handshake.len() as u8][..], &handshake].concat()
}

#[test]
fn strangers_who_speak_no_tls_hear_nothing() {
    let trial = Trial::new();
    // They hold their connections open, and somebody sends one byte after the other, as long as the rest lasts.
    let silent: Vec<_> = (0..20).map(|_| connect(&trial.daemon)).collect();
    let mut slow = connect(&trial.daemon);
    let trickle = thread::spawn(move || {
        let mut said = 0;
        while said < 2000 && slow.write_all(&[0x16]).is_ok() {
            said += 1;
            thread::sleep(Duration::from_millis(10));
        }
    });
    let garbage: Vec<u8> = (0..100_000u32).map(|i| (i * 7919 % 251) as u8).collect();
    let openings: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        &garbage,
        &tls12(),
        &[0x16, 3, 1, 0xff, 0xff],
        &[0x15, 3, 3, 0, 2, 2, 40],
        &frame(hello(login().as_bytes())),
    ];
    for opening in openings {
        let mut stream = connect(&trial.daemon);
        let _ = stream.write_all(opening);
        let _ = stream.shutdown(Shutdown::Write);
        let heard = closes(stream);
        assert!(heard < 100, "{heard} bytes to somebody who speaks no TLS");
    }
    trial.honest("meanwhile");
    drop(silent);
    trickle.join().unwrap();
    trial.end();
}

#[test]
fn strangers_without_a_good_key_do_not_get_in() {
    let trial = Trial::new();
    for (shows, protocol) in [
        (Shows::Nothing, &b"rbbackup"[..]),
        (Shows::Certificate, b"rbbackup"),
        (Shows::Key, b"h2"),
        (Shows::Key, b"rbbackup2"),
    ] {
        // A client's handshake may succeed before the daemon has judged it; then nothing is answered.
        if let Ok(mut raw) = Raw::dial(&trial.daemon, shows, protocol) {
            raw.say(&frame(hello(login().as_bytes())));
            let answer = raw.hear();
            assert!(answer.is_none(), "{shows:?} {protocol:?}: {answer:?}");
        }
    }
    trial.end();
}

#[test]
fn strangers_with_a_key_say_hello_or_go() {
    let trial = Trial::new();
    let good = frame(hello(login().as_bytes()));
    let long = [b'x'; HANDSHAKE_FRAME_BYTES_MAX];
    let words: Vec<Vec<u8>> = vec![
        head(1, u32::MAX - 1).to_vec(),
        head(64, BULK_FRAME_BYTES_MAX as u32).to_vec(),
        head(1, HANDSHAKE_FRAME_BYTES_MAX as u32 + 1).to_vec(),
        frame(hello(&long)),
        vec![0, 0, 0, 0, 1],
        [&good[..good.len() - 1], &[]].concat(),
        frame(Hello { magic: 1, ..hello(b"u") }),
        frame(Status {}),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ];
    for bytes in words {
        let mut raw = Raw::stranger(&trial.daemon);
        raw.say(&bytes);
        raw.half_close();
        let answer = raw.hear();
        assert!(answer.is_none(), "{answer:?} to {:?}", &bytes[..5]);
    }
    for user in [&b""[..], b"..", b".rbbackup", b"../../etc", b"a/b", b"-x", b"a\nb", b"\xff\xfe", &[b'u'; 121]] {
        let mut raw = Raw::stranger(&trial.daemon);
        raw.say(&frame(hello(user)));
        let answer = raw.hear();
        assert!(matches!(answer, Some(Message::Refused(_))), "{user:?}: {answer:?}");
        assert!(raw.hear().is_none());
    }
    let mut raw = Raw::stranger(&trial.daemon);
    raw.say(&frame(Hello { version: u32::MAX, ..hello(b"u") }));
    assert!(matches!(raw.hear(), Some(Message::VersionMismatch(_))));
    assert!(raw.hear().is_none());
    let names = std::fs::read_dir(&trial.world.store).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.filter(|name| name != ".rbbackup").collect::<Vec<_>>(), ["127.0.0.1"], "nobody else got a folder");
    trial.end();
}

/// Bytes that are no message, from somebody who was let in.
fn no_messages() -> Vec<Vec<u8>> {
    let status = frame(Status {});
    let mut all = vec![
        [&status[..], &[0, 0, 0, 0, 1]].concat(),
        // A body that is longer than the message, and one that is shorter.
        [&head(41, 1)[..], &[0]].concat(),
        head(10, 0).to_vec(),
        // Keepalives have no body.
        [&head(KEEPALIVE_KIND, 1)[..], &[0]].concat(),
        // Bulk: lengths that contradict each other, or are beyond everything.
        head(64, 3).to_vec(),
        [&head(64, 4)[..], &[1, 0, 0, 0]].concat(),
        [&head(64, 8)[..], &u32::MAX.to_le_bytes()].concat(),
        [&head(64, 4)[..], &[0, 0, 0, 0]].concat(),
        // A list that says it has more items than there are bytes in the world.
        [&head(13, 10)[..], &[0, 0xfd], &u64::MAX.to_le_bytes()].concat(),
        [&head(20, 9)[..], &[0xfd], &u64::MAX.to_le_bytes()].concat(),
        [&head(64, 13)[..], &9u32.to_le_bytes(), &[0xfd], &u64::MAX.to_le_bytes()].concat(),
        [&head(9, 9)[..], &[0xfd], &(u64::MAX / 2).to_le_bytes()].concat(),
    ];
    for kind in 1..=u8::MAX {
        match Message::is_bulk(kind) {
            None => all.push(head(kind, 0).to_vec()),
            Some(false) => all.push(head(kind, CONTROL_FRAME_BYTES_MAX as u32 + 1).to_vec()),
            Some(true) => all.push(head(kind, BULK_FRAME_BYTES_MAX as u32 + 1).to_vec()),
        }
    }
    all
}

#[test]
fn who_was_let_in_and_says_no_message_goes() {
    let trial = Trial::new();
    for (n, bytes) in no_messages().into_iter().enumerate() {
        let mut raw = Raw::welcome(&trial.daemon);
        raw.say(&bytes);
        // What came before it may have been answered.
        let answers: Vec<Message> = std::iter::from_fn(|| raw.hear()).collect();
        let refused = answers.iter().filter(|answer| matches!(answer, Message::Refused(_))).count();
        assert!(refused <= 1 && answers.len() <= 2, "{answers:?} to {:?}", &bytes[..5]);
        if n % 64 == 0 {
            trial.honest(&format!("after {n}"));
        }
    }
    trial.end();
}

#[test]
fn a_frame_that_is_cut_anywhere_leaves_nothing() {
    let trial = Trial::new();
    let read = |all| Read { path: b""[..].into(), shallow: false, content: true, all, at: At::Latest };
    let whole = [frame(read(false)), frame(Status {})].concat();
    for cut in 0..whole.len() {
        let mut raw = Raw::welcome(&trial.daemon);
        raw.say(&whole[..cut]);
        match cut % 3 {
            0 => raw.half_close(),
            1 => drop(raw.socket().shutdown(Shutdown::Both)),
            // Dropped as it is.
            _ => continue,
        }
        while raw.hear().is_some() {}
    }
    trial.end();
}

/// It asks for everything, again and again, and takes nothing of it.
#[test]
fn who_never_takes_what_is_sent_holds_nobody_up() {
    let trial = Trial::new();
    let large: Vec<u8> = (0..6_000_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let source = trial.world.path("large");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), large).unwrap();
    // The node is its own, or there would be nothing to read.
    let owner = Client::new(&trial.world.path("home-large"), &["-s", &trial.daemon.address, "--bind", "127.0.0.2"]);
    owner.push("-r", &source);
    let path = source.to_str().unwrap().trim_start_matches('/').as_bytes();
    let key = std::fs::read_dir(owner.home.join(".config/rbbackup/servers").join(&trial.daemon.address)).unwrap();
    assert!(key.count() > 0);
    let mut links = Vec::new();
    for _ in 0..4 {
        let link = crate::support::holder::dial(&trial.daemon, &owner);
        let ask = Read { path: path.into(), shallow: false, content: true, all: true, at: At::Latest };
        link.send(ask).unwrap();
        links.push(link);
    }
    for n in 0..3 {
        trial.honest(&format!("{n}"));
    }
    drop(links);
    trial.end();
}
