//! One of each message, byte for byte, in `tests/goldens/v1/wire/NAME.hex`. `RBBACKUP_BLESS=1 cargo test goldens` writes
//! missing ones; an existing one is never overwritten, for it is the format. Also compiled in: the messages that are
//! pinned for all versions.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::*;
use crate::backup::bytes::Bytes;
use crate::backup::digest::{Digest, RunId};
use crate::net::message::*;

fn b(text: &str) -> Bytes {
    Bytes::from(text.as_bytes())
}

fn digest(byte: u8) -> Digest {
    Digest([byte; 32])
}

fn hello() -> Hello {
    Hello { magic: HELLO_MAGIC, version: 1, features: 0, software: b("rbbackup 0.1.0"), user: b("ana") }
}

fn entry(path: &str, kind: WireKind) -> WireEntry {
    let xattrs = vec![(b("user.note"), b("x"))];
    let (uid, gid, mtime_secs, mtime_nanos) = (1000, 100_000, 1_760_000_000, 999_999_999);
    WireEntry { path: b(path), mode: 0o644, uid, gid, mtime_secs, mtime_nanos, xattrs, kind }
}

fn entries() -> Vec<WireEntry> {
    vec![
        entry("", WireKind::Dir),
        entry("dev", WireKind::Device { block: true, major: 8, minor: 300 }),
        entry("fifo", WireKind::Fifo),
        entry("file", WireKind::File { size: 1 << 40, digest: digest(0xab), class: 3, flags: 7, leader: b("first") }),
        entry("link", WireKind::Symlink { target: b("../there") }),
    ]
}

fn session() -> Vec<Message> {
    let welcome = Welcome {
        store_place: (1, 2),
        magic: HELLO_MAGIC,
        version: 1,
        features: 0,
        software: b("rbbackupd 0.1.0"),
        store: *b"0123456789abcdef",
        node: b("192.168.1.20"),
        user: b("ana"),
    };
    let begin = Begin {
        run: RunId([7; 16]),
        root: b("home/ana/docs"),
        recursive: true,
        delete: true,
        delete_excluded: false,
        force_delete: false,
        dry_run: false,
        filters: vec![b("*.o"), b("!keep.o")],
        wait_secs: u32::MAX,
        file_system: u64::MAX,
        base: Some(digest(1)),
        copies: 3,
        wait_copies_secs: u32::MAX,
        retry_secs: 1800,
    };
    let destination = WireDestination {
        name: b("attic"),
        address: b("192.168.1.30"),
        since_secs: 1_760_000_000,
        space: (1 << 35, 1 << 40),
        behind: 2,
        running: b("home/ana/docs"),
    };
    vec![
        hello().into(),
        welcome.into(),
        VersionMismatch { lowest: 1, highest: 1 }.into(),
        Refused { kind: RefusalKind::Guard, message: b("too many files would go") }.into(),
        Busy { phase: 3 }.into(),
        begin.into(),
        Waiting { holder: b("ana from 10.0.0.2") }.into(),
        Granted { base_known: true, ask: false }.into(),
        Forget { run: RunId([8; 16]), root: b("home/ana") }.into(),
        Status {}.into(),
        StatusReply {
            uptime_secs: 3600,
            sessions: 2,
            roots: vec![(b("home/ana"), 5, -1, true, 10, 1 << 33)],
            running: vec![b("home/ana since 12:00")],
            retired: (3, 4096),
            space: (1 << 35, 1 << 40),
            quota: (1 << 33, 1 << 34),
            destinations: vec![destination],
            relay: false,
        }
        .into(),
    ]
}

fn backup() -> Vec<Message> {
    let items = vec![WireChunk::New { digest: digest(3), len: 65_536 }, WireChunk::Range { first: 1, count: 300 }];
    vec![
        Offer { batch: 0, digests: vec![digest(1), digest(2)] }.into(),
        Need { batch: 0, bits: Bytes(vec![0b10]) }.into(),
        FileOpen { file: 1, path: b("big"), size: 1 << 33, class: 2, base: Some(digest(4)) }.into(),
        FileReady { file: 1, base_known: true }.into(),
        ChunkOffer { batch: 1, file: 1, items }.into(),
        FileDone { file: 1, entry: entries().pop() }.into(),
        Manifest {
            base: None,
            digest: digest(5),
            entries: 70_000,
            incomplete: true,
            users: vec![(1000, b("ana"))],
            groups: vec![(100, b("users"))],
            errors: vec![b("cannot read 'x'")],
        }
        .into(),
        Changes {
            changes: entries()
                .into_iter()
                .map(WireChange::Put)
                .chain([WireChange::Remove(b("old")), WireChange::Unseen(b("secret"))])
                .collect(),
        }
        .into(),
        ManifestEnd { bytes_read: 1 << 34 }.into(),
        Missing { paths: vec![b("a"), b("b/c")], last: true }.into(),
        PlanLines { lines: vec![(2, b("from"), b("to")), (3, b("gone"), b(""))] }.into(),
        Committed {
            run: RunId([7; 16]),
            snapshot: 42,
            manifest: digest(5),
            counts: [1, 2, 3, 4, 5, 70_000],
            files: 70_000,
            bytes: 1 << 30,
            bytes_missing: 0,
            incomplete: false,
            notes: vec![b("a note")],
            copies: vec![WireCopy { name: b("attic"), kind: 1, state: 2, reason: b("its disk is full") }],
            enough: false,
        }
        .into(),
        Message::Files(Files { entries: entries() }, b"contents".to_vec()),
        Message::Chunks(Chunks { file: 1, lens: vec![3, 5] }, b"abcdefgh".to_vec()),
    ]
}

fn inside() -> Vec<Message> {
    let delta = |offset| WireDelta { offset, len: 40_000, block: 400, steps: Bytes(vec![3, 100, 0, 5]) };
    let bases = vec![
        WireBasis::File { item: 1, path: b("dir/file") },
        WireBasis::Range { item: 2, count: 3, offset: 1 << 33, len: 300_000 },
    ];
    let sums = vec![WireSums { item: 1, block: 256, len: 300, sums: Bytes(vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 10]) }];
    let file = entries().into_iter().find(|entry| matches!(entry.kind, WireKind::File { .. })).unwrap();
    vec![
        Bases { batch: 0, bases }.into(),
        Sums { batch: 0, sums }.into(),
        Message::FileDeltas(FileDeltas { files: vec![(file, delta(0))] }, b"abcdefgh".to_vec()),
        Message::ChunkDeltas(ChunkDeltas { file: 1, chunks: vec![(65_536, delta(1 << 33))] }, b"abcdefgh".to_vec()),
    ]
}

fn restore() -> Vec<Message> {
    let pieces = vec![
        Piece { batch: 0, index: 1, offset: 1 << 20, len: 5, end: 1 },
        Piece { batch: 0, index: 2, offset: 0, len: 4, end: 2 },
    ];
    vec![
        Read { path: b("home/ana"), shallow: false, content: true, all: false, at: At::Before { secs: 1_760_000_000 } }
            .into(),
        ReadGranted {
            snapshot: 42,
            root: b("home/ana"),
            time_secs: 1_760_000_000,
            complete: true,
            recursive: true,
            entries: 5,
            bytes: 1 << 20,
            users: vec![(0, b("root"))],
            groups: vec![],
        }
        .into(),
        Tree { batch: 0, entries: entries() }.into(),
        TreeEnd { batches: 1 }.into(),
        Want { batch: 0, bits: Bytes(vec![0b1_0000]) }.into(),
        Message::Content(Content { pieces }, b"helloless".to_vec()),
    ]
}

fn admin() -> Vec<Message> {
    let root = RootStats {
        root: b("home/ana"),
        snapshots: 30,
        newest: 42,
        files: 10,
        bytes: 1 << 33,
        complete_secs: 1_760_000_000,
    };
    vec![
        Of { node: b("10.0.0.2"), user: b("ana") }.into(),
        Verify { path: b("home/ana"), all: true, parts: 30 }.into(),
        Damage { what: b("/home/ana/a"), why: b("its content is another"), snapshots: 7, outcome: 2 }.into(),
        Verified { part: 3, snapshots: 30, files: 10, objects: 4, bytes: 1 << 33, damages: 1 }.into(),
        Stats { all: true }.into(),
        CopyStats {
            node: b("10.0.0.2"),
            user: b("ana"),
            roots: vec![root],
            snapshots: 31,
            logical_bytes: 1 << 36,
            snapshot_bytes: 4096,
            retired_files: 5,
            retired_bytes: 1 << 20,
            packs: 2,
            pack_bytes: 1 << 25,
            raw_bytes: 1 << 26,
            quota: (1 << 33, 0),
            verified_secs: -1,
            damages: 0,
        }
        .into(),
        StatsEnd { copies: 1 }.into(),
        Purge { run: RunId(*b"0123456789abcdef"), path: b("home/ana/secret"), really: true }.into(),
        PurgeList { paths: vec![WirePurged { path: b("home/ana/secret"), first: 3, last: 30 }], more: false }.into(),
        Purged { done: true, paths: 1, snapshots: 28, contents: 2, bytes: 1 << 33 }.into(),
        Purges {}.into(),
        PurgesList {
            purges: vec![WirePurge {
                path: b("home/ana/secret"),
                time_secs: 1_763_700_000,
                until: 30,
                by: b("127.0.0.1/root at 127.0.0.1"),
                paths: 1,
                snapshots: 28,
                contents: 2,
                bytes: 1 << 33,
            }],
            more: false,
        }
        .into(),
        Prune {}.into(),
        Pruned {
            snapshots: 42,
            expired: 12,
            packs_removed: 3,
            packs_written: 1,
            bytes_freed: 1 << 33,
            troubles: vec![b("the disk fails")],
        }
        .into(),
        Release { number: 300 }.into(),
        Released { runs: vec![301] }.into(),
    ]
}

fn past() -> Vec<Message> {
    let snapshot = WireSnapshot {
        number: 42,
        root: b("home/ana"),
        time_secs: 1_760_000_000,
        flags: 5,
        entries: 70_001,
        files: 70_000,
        bytes: 1 << 30,
        content_bytes: 4096,
        counts: [1, 2, 3, 4, 5, 70_000],
        errors: 6,
        manifest: digest(5),
    };
    let version = |entry| WireVersion {
        entry,
        first: 7,
        first_secs: 1_750_000_000,
        last: 42,
        last_secs: 1_760_000_000,
        snapshots: 30,
        newest: true,
    };
    let found = |entry| WireFound { entry, first: 7, last: 42, contents: 3, newest: false };
    let difference = WireDifference {
        action: 2,
        kind: 1,
        path: b("home/ana/new"),
        from: b("home/ana/old"),
        size_before: Some(1 << 20),
        size_after: None,
    };
    let run = WireRun {
        run: RunId([7; 16]),
        forget: false,
        root: b("home/ana"),
        started_secs: 1_760_000_000,
        ended_secs: 1_760_000_009,
        snapshot: 0,
        exit_code: 14,
        message: b("too many files would go"),
        content_bytes: 1 << 20,
        errors: vec![b("cannot read 'x'")],
        errors_total: 300,
    };
    vec![
        Snapshots { path: b("home") }.into(),
        SnapshotList { snapshots: vec![snapshot], damaged: vec![b("no record")], more: true }.into(),
        History { path: b("home/ana/x") }.into(),
        HistoryList { versions: entries().into_iter().map(version).collect(), more: false }.into(),
        Find { pattern: b("*.jpg") }.into(),
        FindList { found: entries().into_iter().map(found).collect(), more: true }.into(),
        Diff { from: At::Number(300), to: At::Latest, path: b("home/ana") }.into(),
        DiffList { between: vec![(b("home/ana"), 300, 0)], differences: vec![difference], more: false }.into(),
        Runs { count: 50 }.into(),
        RunList { runs: vec![run], more: false }.into(),
    ]
}

fn copies() -> Vec<Message> {
    let (node, user, root) = (b("192.168.1.20"), b("ana"), b("home/ana/docs"));
    let head = Head { node: node.clone(), user: user.clone(), root, run: RunId([7; 16]), manifest: digest(5) };
    vec![
        Attend {
            name: b("attic"),
            store: *b"0123456789abcdef",
            from: vec![(node.clone(), b(""))],
            space: (1 << 35, 1 << 40),
            heads: vec![head],
            more: false,
        }
        .into(),
        Summon { call: 300 }.into(),
        Join { call: 300 }.into(),
        For {
            node,
            user,
            key: [3; 32],
            peer: b("192.168.1.20, rbbackup 0.1.0"),
            parent: Some(RunId([6; 16])),
            hold: true,
        }
        .into(),
        Gathering { connected: 2, wanted: 3 }.into(),
        Prepared { run: RunId([7; 16]), manifest: digest(5), entries: 70_000 }.into(),
        Commit { run: RunId([7; 16]) }.into(),
        Progress { bytes_done: 1 << 20, bytes_total: 1 << 33, files_done: 300, total_known: true }.into(),
        Challenge { nonce: [9; 32], ranges: vec![Range { path: b("a"), offset: 1 << 33, len: 65_536 }] }.into(),
        Proof { digest: digest(8) }.into(),
    ]
}

fn trust() -> Vec<Message> {
    let (node, user) = (b("attic"), b("ana"));
    let (rights, quota_bytes, expires_secs) = (Some(0b1011), Some(1 << 33), 1_760_000_000);
    let known = WireUser {
        node: node.clone(),
        user: user.clone(),
        key: [3; 32],
        rights: 0b0011,
        quota_bytes: None,
        created_secs: 1_750_000_000,
        revoked_secs: Some(1_760_000_000),
        newest_secs: 1_755_000_000,
        connections: 300,
    };
    let invited = WireInvitation {
        id: [8; 8],
        user: user.clone(),
        node: b(""),
        rights: None,
        quota_bytes,
        replace: true,
        expires_secs,
    };
    vec![
        Redeem { secret: [5; 16] }.into(),
        Succeed { from: [3; 32] }.into(),
        Succession { steps: vec![WireStep { key: [4; 32], signature: vec![6; 64].into() }] }.into(),
        Rekey { key: [4; 32], signature: vec![6; 64].into() }.into(),
        Rekeyed {}.into(),
        Invite { user: user.clone(), node: node.clone(), rights, quota_bytes, valid_secs: 86_400, replace: false }
            .into(),
        Invited { id: [8; 8], secret: [5; 16], daemon: [3; 32], expires_secs }.into(),
        Users {}.into(),
        UserList { users: vec![known], invitations: vec![invited], more: true }.into(),
        Revoke { node: node.clone(), user: user.clone() }.into(),
        Uninvite { id: [8; 8] }.into(),
        Change { node, user, rights, quota_bytes: Some(None) }.into(),
        Settled { connections: 2 }.into(),
        RekeyDaemon {}.into(),
        DaemonRekeyed { key: [4; 32] }.into(),
    ]
}

fn samples() -> Vec<Message> {
    [session(), backup(), inside(), restore(), past(), admin(), copies(), trust()].concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.chunks(32).map(|line| line.iter().map(|b| format!("{b:02x}")).collect::<String>() + "\n").collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: String = text.lines().filter(|line| !line.starts_with('#')).collect();
    (0..digits.len() / 2).map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/v1/wire")
}

#[test]
fn goldens_are_what_travels() {
    for message in samples() {
        let name = message.name();
        let path = folder().join(format!("{name}.hex"));
        let bytes = Frame::encode(message.clone()).unwrap().into_bytes();
        if std::env::var_os("RBBACKUP_BLESS").is_some() && !path.exists() {
            let title = format!("# {name}: u32 length, u8 kind ({}), body\n", message.kind());
            std::fs::write(&path, title + &hex(&bytes)).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(hex(&bytes), hex(&unhex(&golden)), "{name} has changed on the wire: that is a new version");
        let decoded = decode_frame(&unhex(&golden)).unwrap().unwrap();
        assert_eq!(decoded, (Some(message), bytes.len()));
    }
}

#[test]
fn goldens_are_complete_and_no_more() {
    let sampled: BTreeSet<u8> = samples().iter().map(Message::kind).collect();
    let known: BTreeSet<u8> = (0..=u8::MAX).filter(|kind| Message::is_bulk(*kind).is_some()).collect();
    assert_eq!(sampled, known, "kinds without a golden, or sampled twice");
    assert_eq!(samples().len(), known.len());
    let files: BTreeSet<String> =
        std::fs::read_dir(folder()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(files, samples().iter().map(|m| format!("{}.hex", m.name())).collect());
}

#[test]
fn hello_is_pinned() {
    let pinned = [
        &[27, 0, 0, 0, 1][..],          // length, kind
        &[252, 0x72, 0x62, 0x62, 0x6b], // magic: a u32 follows
        &[1, 0],                        // version, features
        b"\x0erbbackup 0.1.0",
        b"\x03ana",
    ];
    assert_eq!(Frame::encode(hello().into()).unwrap().into_bytes(), pinned.concat());
    assert_eq!(
        Frame::encode(VersionMismatch { lowest: 1, highest: 300 }.into()).unwrap().into_bytes(),
        [5, 0, 0, 0, 3, 1, 251, 44, 1]
    );
}
