//! Tests of what people read.

use std::time::Instant;

use super::*;
use crate::backup::bytes::Bytes;
use crate::backup::entry::Meta;
use crate::backup::relpath::RelPath;
use crate::engine::inspect::RootStatus;
use crate::engine::observer::{Event, Phase};
use crate::engine::progress::Tracker;

fn summary() -> Summary {
    Summary::example()
}

#[test]
fn the_last_two_lines() {
    let mut run = summary();
    assert_eq!(
        summary_lines(&run),
        [
            "/home/u/docs (snapshot 7): 1,200 created, 3 updated, 1 deleted",
            "sent 2.0 MiB of 5.0 MiB in 1,204 files, 3:07",
        ]
    );
    run.incomplete = true;
    run.errors = 1;
    let [first, second] = summary_lines(&run);
    assert!(first.contains("INCOMPLETE") && second.ends_with(", 1 error"), "{first} {second}");
    run.snapshot = None;
    (run.created, run.updated, run.deleted) = (0, 0, 0);
    let [first, second] = summary_lines(&run);
    assert_eq!(first, "/home/u/docs (dry run): nothing changed");
    assert!(second.starts_with("would send 2.0 MiB"), "{second}");
}

#[test]
fn progress_lines() {
    let start = Instant::now();
    let mut tracker = Tracker::new(start);
    assert_eq!(total_line(&tracker.view(start)), "waiting");
    tracker.apply(&Event::Queued("u@1.2.3.4 since 10:00"), start);
    assert_eq!(total_line(&tracker.view(start)), "waiting  queued: u@1.2.3.4 since 10:00");
    tracker.apply(&Event::Phase(Phase::Scanning), start);
    tracker.apply(&Event::Planned { bytes: 4096 }, start);
    tracker.apply(&Event::Advanced { bytes: 1024 }, start);
    assert_eq!(total_line(&tracker.view(start)), "scanning  1.0 KiB of 4.0 KiB so far");
    tracker.apply(&Event::Phase(Phase::Sending), start);
    let later = start + std::time::Duration::from_secs(2);
    let line = total_line(&tracker.view(later));
    assert_eq!(line, "sending 25 %  1.0 KiB of 4.0 KiB  512 B/s  6.0 s left");
    assert_eq!(
        file_line(&FileView { path: b"a\x1b[2Jb".to_vec(), done: 1, bytes: 2048 }, 60),
        "1 B of 2.0 KiB  a\\x1b[2Jb"
    );
    let long = file_line(&FileView { path: vec![b'x'; 300], done: 0, bytes: 0 }, 60);
    assert!(long.ends_with("xxx") && long.contains("  ...x") && long.chars().count() == 60, "{long}");
    let wide = FileView { path: "名".repeat(40).into_bytes(), done: 0, bytes: 0 };
    assert_eq!(file_line(&wide, 60), format!("0 B of 0 B  ...{}", "名".repeat(22)));
    assert_eq!((cut("名前 abc", 6), cut("名前", 3), cut("ab", 9)), ("名前 a".into(), "名".into(), "ab".into()));
    assert!(file_line(&wide, 0).ends_with("...名名名名"));
}

#[test]
fn ls_lines() {
    let mut listed = ListedEntry {
        path: b"/home/u/a\n".to_vec(),
        entry: Entry {
            path: RelPath::root(),
            meta: Meta { mode: 0o4755, uid: 7, gid: 8, ..Meta::default() },
            kind: Kind::Symlink { target: Bytes::from(&b"x\x07"[..]) },
        },
        user: Some(b"u".to_vec()),
        group: None,
    };
    let line = listed_line(&listed);
    assert!(line.starts_with("lrwsr-xr-x u        8 "), "{line}");
    assert!(line.ends_with("/home/u/a\\x0a -> x\\x07"), "{line}");
    listed.entry.kind = Kind::BlockDevice { major: 8, minor: 1 };
    listed.entry.meta.mode = 0o1640;
    let line = listed_line(&listed);
    assert!(line.starts_with("brw-r----T ") && line.contains(" 8,1 "), "{line}");
}

#[test]
fn status_says_what_matters() {
    let report = StatusReport {
        target: "127.0.0.1:8730".into(),
        software: b"rbbackupd 0.1.0".to_vec(),
        store: [0; 16],
        daemon_key: Some("SHA256:abc".into()),
        my_key: Some("SHA256:def".into()),
        node: b"127.0.0.1".to_vec(),
        user: b"u".to_vec(),
        uptime_secs: 3723,
        sessions: 1,
        roots: vec![RootStatus {
            root: b"/home/u".to_vec(),
            snapshot: 3,
            time_secs: i64::MAX,
            complete: false,
            files: 2,
            bytes: 10,
        }],
        running: vec![b"/home/u/x since 10:00".to_vec()],
        destinations: vec![
            DestinationStatus {
                name: b"nas\x1b".to_vec(),
                address: b"10.0.0.7".to_vec(),
                since_secs: i64::MAX,
                space_free: 1 << 30,
                space_total: 1 << 31,
                behind: 0,
                running: Vec::new(),
            },
            DestinationStatus {
                name: b"nas (2)".to_vec(),
                address: Vec::new(),
                since_secs: 0,
                space_free: 0,
                space_total: 0,
                behind: 2,
                running: b"'/home/u', 25 %".to_vec(),
            },
        ],
        retired_files: 4,
        retired_bytes: 2048,
        space_free: 1 << 30,
        space_total: 1 << 40,
        quota_bytes: None,
        used_bytes: 0,
        relay: false,
    };
    let text = status_lines(&report).join("\n");
    for words in [
        "127.0.0.1/u",
        "1:02:03, 1 session\n",
        "INCOMPLETE",
        "2 files, 10 B",
        "running   /home/u/x",
        "@9223",
        "copy      nas\\x1b at 10.0.0.7, since @9223",
        "1.0 GiB free of 2.0 GiB, up to date",
        ", 2 snapshots behind; running '/home/u', 25 %",
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }
    assert!(!text.contains("retired"), "the line of history tells it: {text}");
}
