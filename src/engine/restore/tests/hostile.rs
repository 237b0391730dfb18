//! A server that is up to no good: whatever it says, nothing is written outside the target, and nothing wrong inside.

use super::*;
use crate::backup::bytes::Bytes;
use crate::backup::digest::Digest;
use crate::engine::hostile::every_message;
use crate::net::message::{Content, Piece, RefusalKind, Refused, Tree, TreeEnd, WireEntry, WireKind};

fn entry(path: &str, kind: WireKind) -> WireEntry {
    let uid = rustix::process::getuid().as_raw();
    let gid = rustix::process::getgid().as_raw();
    let path = Bytes(path.as_bytes().to_vec());
    WireEntry { path, mode: 0o700, uid, gid, mtime_secs: 1, mtime_nanos: 0, xattrs: vec![], kind }
}

fn file(path: &str, content: &[u8]) -> WireEntry {
    let (size, digest) = (content.len() as u64, Digest::of(content));
    entry(path, WireKind::File { size, digest, class: 0, flags: 0, leader: Bytes::default() })
}

fn link(path: &str, target: &Path) -> WireEntry {
    entry(path, WireKind::Symlink { target: Bytes(target.as_os_str().as_bytes().to_vec()) })
}

fn content(index: u32, bytes: &[u8]) -> Message {
    let pieces = vec![Piece { batch: 0, index, offset: 0, len: bytes.len() as u32, end: 1 }];
    Message::Content(Content { pieces }, bytes.to_vec())
}

fn follower(path: &str, content: &[u8], leader: &str) -> WireEntry {
    let (size, digest, leader) = (content.len() as u64, Digest::of(content), Bytes(leader.as_bytes().to_vec()));
    entry(path, WireKind::File { size, digest, class: 0, flags: 0, leader })
}

/// Restores into `dir/out/x` from a server that says this.
fn from_server(
    dir: &Path,
    entries: Vec<WireEntry>,
    contents: Vec<Message>,
) -> (Result<RestoreSummary, EngineError>, Ears) {
    let (ours, theirs) = Link::pair();
    let server = thread::spawn(move || {
        let mut theirs = theirs;
        assert!(matches!(theirs.recv(), Ok(Message::Read(Read { all: true, .. }))));
        let granted = ReadGranted {
            snapshot: 1,
            root: Bytes(b"x".to_vec()),
            time_secs: 0,
            complete: true,
            recursive: true,
            entries: 0,
            bytes: 0,
            users: vec![],
            groups: vec![],
        };
        let tree = Tree { batch: 0, entries };
        let first = [granted.into(), tree.into(), TreeEnd { batches: 1 }.into()];
        for message in first.into_iter().chain(contents) {
            if theirs.send(message).is_err() {
                return;
            }
        }
        // Held open: a client that waits for more than it can get would hang here.
        let _ = theirs.recv();
    });
    let options = RestoreOptions {
        when: When::Latest,
        path: "/x".into(),
        to: Some(dir.join("out")),
        overwrite: Overwrite::Changed,
        delete: false,
        dry_run: false,
    };
    let client = World::new().client;
    let (target, path, ears) = (Target::of(&options).unwrap(), RelPath::new(b"x").unwrap(), Ears::default());
    let attempt = Attempt { client: &client, options: &options, observer: &ears, path: &path, target: &target };
    let outcome = attempt.over(ours, (0, 0), &mut Spent::default());
    server.join().unwrap();
    (outcome, ears)
}

#[test]
fn nothing_goes_through_a_link_that_the_server_made() {
    let temp = tempfile::tempdir().unwrap();
    let outside = temp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let entries = vec![
        entry("", WireKind::Dir),
        link("a", &outside),
        file("a/evil", b"evil"),
        entry("a/sub", WireKind::Dir),
        file("a/sub/evil", b"evil"),
        file("good", b"good"),
    ];
    let contents = vec![content(2, b"evil"), content(4, b"evil"), content(5, b"good")];
    let (outcome, _) = from_server(temp.path(), entries, contents);
    assert_eq!(outcome.unwrap().errors, 3);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(fs::read(temp.path().join("out/x/good")).unwrap(), b"good");
}

#[test]
fn entries_out_of_order_or_twice_end_it() {
    for paths in [["b", "a"], ["a", "a"]] {
        let temp = tempfile::tempdir().unwrap();
        let outside = temp.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let entries = vec![entry("", WireKind::Dir), link(paths[0], &outside), entry(paths[1], WireKind::Dir)];
        let (outcome, _) = from_server(temp.path(), entries, vec![]);
        assert!(outcome.unwrap_err().message.contains("protocol"));
    }
}

#[test]
fn paths_that_lead_outside_end_it() {
    for path in ["..", "../x", "/etc/x", "a/../../x"] {
        let temp = tempfile::tempdir().unwrap();
        let (outcome, _) = from_server(temp.path(), vec![entry("", WireKind::Dir), file(path, b"x")], vec![]);
        assert!(outcome.is_err(), "{path}");
    }
}

#[test]
fn wrong_content_is_not_written() {
    let temp = tempfile::tempdir().unwrap();
    let entries = vec![entry("", WireKind::Dir), file("a", b"right"), file("b", &[1; 3000])];
    let piece = |offset: u64, len: u32, end| Piece { batch: 0, index: 2, offset, len, end };
    let large = [(piece(0, 2000, 0), vec![1; 2000]), (piece(2000, 1000, 1), vec![2; 1000])];
    let mut contents = vec![content(1, b"wrong")];
    contents.extend(large.map(|(piece, bytes)| Message::Content(Content { pieces: vec![piece] }, bytes)));
    let (outcome, ears) = from_server(temp.path(), entries, contents);
    assert_eq!(outcome.unwrap().errors, 2);
    assert_eq!(ears.0.into_inner().unwrap().len(), 2);
    assert_eq!(fs::read_dir(temp.path().join("out/x")).unwrap().count(), 0);
}

#[test]
fn a_large_file_may_begin_anew() {
    let temp = tempfile::tempdir().unwrap();
    let entries = vec![entry("", WireKind::Dir), file("large", &[1; 3000])];
    let piece = |offset: u64, len: u32, end| Piece { batch: 0, index: 1, offset, len, end };
    let said =
        [(piece(0, 2000, 0), vec![9; 2000]), (piece(0, 2000, 0), vec![1; 2000]), (piece(2000, 1000, 1), vec![1; 1000])];
    let contents = said.map(|(piece, bytes)| Message::Content(Content { pieces: vec![piece] }, bytes)).to_vec();
    let (outcome, _) = from_server(temp.path(), entries, contents);
    assert_eq!(outcome.unwrap().errors, 0);
    assert_eq!(fs::read(temp.path().join("out/x/large")).unwrap(), vec![1; 3000]);
}

#[test]
fn content_that_fits_no_file_ends_it() {
    let pieces = |piece: Piece, bytes: &[u8]| Message::Content(Content { pieces: vec![piece] }, bytes.to_vec());
    let good = Piece { batch: 0, index: 1, offset: 0, len: 2, end: 1 };
    let bad = [
        pieces(Piece { batch: 7, ..good.clone() }, b"ab"),
        pieces(Piece { index: 0, ..good.clone() }, b"ab"),
        pieces(Piece { index: 99, ..good.clone() }, b"ab"),
        pieces(Piece { offset: 1, ..good.clone() }, b"ab"),
        pieces(Piece { len: 3, ..good.clone() }, b"ab"),
        pieces(Piece { end: 3, ..good.clone() }, b"ab"),
        pieces(Piece { len: 3, end: 0, ..good.clone() }, b"abc"),
        pieces(good, b"abc"),
    ];
    for message in bad {
        let temp = tempfile::tempdir().unwrap();
        let entries = vec![entry("", WireKind::Dir), file("f", b"ab")];
        let (outcome, _) = from_server(temp.path(), entries, vec![message.clone()]);
        assert!(outcome.is_err(), "{message:?}");
        assert!(!temp.path().join("out/x/f").exists());
    }
}

/// Whatever comes instead of content: it ends with a reason, and the target has what it had.
#[test]
fn out_of_turn_ends_it() {
    for (name, message) in every_message() {
        let temp = tempfile::tempdir().unwrap();
        let entries = vec![entry("", WireKind::Dir), file("f", b"ab")];
        let last = Refused { kind: RefusalKind::Failed, message: Bytes(b"enough".to_vec()) };
        let (outcome, _) = from_server(temp.path(), entries, vec![message, last.into()]);
        let error = outcome.unwrap_err().message;
        let in_order = ["Content", "Refused", "Busy"].contains(&name.as_str());
        assert!(in_order || error.contains(&format!("unexpected message {name}")), "{name}: {error}");
        assert!(!temp.path().join("out/x/f").exists(), "{name}");
    }
}

/// A hard link is made to what this restore has written and verified, and to nothing else: not to what stood there before, not
/// through a link, not to a folder, not to a path outside.
#[test]
fn another_name_is_given_only_to_what_was_restored() {
    let temp = tempfile::tempdir().unwrap();
    let outside = temp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), b"secret").unwrap();
    let entries = vec![
        entry("", WireKind::Dir),
        link("a", &outside),
        link("b", &outside.join("secret")),
        entry("c", WireKind::Dir),
        follower("d", b"secret", "a/secret"),
        follower("e", b"secret", "b"),
        follower("f", b"secret", "c"),
        follower("g", b"secret", "absent"),
    ];
    let (outcome, _) = from_server(temp.path(), entries, vec![]);
    assert_eq!(outcome.unwrap().errors, 4);
    for name in ["d", "e", "f", "g"] {
        assert!(fs::symlink_metadata(temp.path().join("out/x").join(name)).is_err(), "{name}");
    }
    assert_eq!(fs::metadata(outside.join("secret")).unwrap().nlink(), 1);
    for leader in ["../outside/secret", "/etc/passwd", "a/../../outside/secret", "h"] {
        let temp = tempfile::tempdir().unwrap();
        let entries = vec![entry("", WireKind::Dir), follower("h", b"", leader)];
        assert!(from_server(temp.path(), entries, vec![]).0.is_err(), "{leader}");
    }
}

/// DIR is named, and what stands in it is anybody's: a link in the place of what is restored is replaced.
#[test]
fn a_link_that_waits_in_the_target_is_not_followed() {
    let temp = tempfile::tempdir().unwrap();
    let (outside, out) = (temp.path().join("outside"), temp.path().join("out"));
    fs::create_dir(&outside).unwrap();
    fs::create_dir(&out).unwrap();
    symlink(&outside, out.join("x")).unwrap();
    let options = RestoreOptions {
        when: When::Latest,
        path: "/x".into(),
        to: Some(out.clone()),
        overwrite: Overwrite::Changed,
        delete: false,
        dry_run: false,
    };
    let ground = Target::of(&options).unwrap().open(true, &options).unwrap();
    assert!(!ground.existed && !out.join("x").is_symlink() && out.join("x").is_dir());
    assert_eq!(out.join("x").metadata().unwrap().mode() & 0o777, 0o700);
    // What the operator named himself is followed.
    fs::remove_dir(out.join("x")).unwrap();
    symlink(&outside, out.join("x")).unwrap();
    let options = RestoreOptions { path: out.join("x"), to: None, ..options };
    let ground = Target::of(&options).unwrap().open(true, &options).unwrap();
    assert!(ground.existed && out.join("x").is_symlink());
}
