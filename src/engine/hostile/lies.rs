//! Lies: what is said in order, and is not so. The answer is a sentence, or the content is asked for again; the copy stays
//! what it was.

use super::super::receive::scripted::{ROOT, begin};
use super::*;
use crate::backup::bytes::Bytes;
use crate::backup::digest::{Digest, RunId};
use crate::backup::entry::OwnerNames;
use crate::backup::limits::{BATCH_COUNT_MAX, FILES_OPEN_MAX};
use crate::backup::manifest::ManifestHasher;
use crate::engine::wire::entry_from_wire;
use crate::net::message::{
    Bases, Changes, ChunkDeltas, Chunks, Diff, FileDeltas, FileDone, Files, Forget, History, Manifest, ManifestEnd,
    Offer, Snapshots, Verify, WireBasis, WireChange, WireDelta, WireEntry, WireKind,
};

fn of_kind(path: &[u8], kind: WireKind) -> WireEntry {
    WireEntry {
        path: path.into(),
        mode: 0o700,
        uid: 0,
        gid: 0,
        mtime_secs: 1,
        mtime_nanos: 0,
        xattrs: Vec::new(),
        kind,
    }
}

fn dir(path: &[u8]) -> WireEntry {
    of_kind(path, WireKind::Dir)
}

fn file(path: &[u8], content: &[u8]) -> WireEntry {
    sized(path, content, content.len() as u64)
}

fn sized(path: &[u8], content: &[u8], size: u64) -> WireEntry {
    let kind = WireKind::File { size, digest: Digest::of(content), class: 0, flags: 0, leader: b""[..].into() };
    of_kind(path, kind)
}

/// A hard link: the first name of its file, or another one.
fn linked(path: &[u8], content: &[u8], leader: &[u8]) -> WireEntry {
    let (digest, flags) = (Digest::of(content), u8::from(leader.is_empty()));
    let kind = WireKind::File { size: content.len() as u64, digest, class: 0, flags, leader: leader.into() };
    of_kind(path, kind)
}

fn files(entries: Vec<WireEntry>, payload: &[u8]) -> Message {
    Message::Files(Files { entries }, payload.to_vec())
}

fn head(entries: u64, digest: Digest) -> Manifest {
    let (users, groups, errors) = (Vec::new(), Vec::new(), Vec::new());
    Manifest { base: None, digest, entries, incomplete: false, users, groups, errors }
}

/// A manifest whose digest is right, of the root and these.
fn manifest(entries: Vec<WireEntry>) -> Vec<Message> {
    manifest_of([vec![dir(b"")], entries].concat())
}

fn manifest_of(entries: Vec<WireEntry>) -> Vec<Message> {
    let mut hasher = ManifestHasher::new();
    for entry in &entries {
        if let Ok(entry) = entry_from_wire(entry.clone()) {
            hasher.push(&entry);
        }
    }
    let head = head(entries.len() as u64, hasher.finish(&OwnerNames::default()));
    let puts: Vec<WireChange> = entries.into_iter().map(WireChange::Put).collect();
    let parts = puts.chunks(128).map(|part| Changes { changes: part.to_vec() }.into());
    [head.into()].into_iter().chain(parts).chain([ManifestEnd { bytes_read: 0 }.into()]).collect()
}

/// What the store says in the end to these words of a run, after which the peer falls silent.
fn answer(fixture: &Fixture, begin: Begin, words: Vec<Message>) -> Message {
    let Peer { link: Link { sender, mut receiver, .. }, serving } = fixture.granted(begin);
    let speaking = thread::spawn(move || words.into_iter().all(|word| sender.send(word).is_ok()));
    let mut last = None;
    while let Ok(heard) = receiver.recv_timeout(PATIENCE) {
        let heard = heard.expect("the session does not end");
        match heard {
            Message::Need(_) | Message::Sums(_) | Message::FileReady(_) | Message::PlanLines(_) | Message::Busy(_) => {}
            // What was missing did not come, and neither did anything else.
            Message::Refused(_) if matches!(last, Some(Message::Missing(_))) => {}
            other => last = Some(other),
        }
    }
    speaking.join().unwrap();
    serving.join().expect("the session panicked");
    last.expect("an answer")
}

/// What the copy holds, by path.
fn copy(fixture: &Fixture) -> BTreeMap<String, Vec<u8>> {
    let folder = fixture.temp.path().join("127.0.0.1/u").join(ROOT);
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    files.map(|path| (name(&path), std::fs::read(&path).unwrap())).collect()
}

/// Each run is refused with a sentence that has these words in it, and the copy is what it was.
fn all_refused(cases: Vec<(&str, Vec<Message>)>) {
    let fixture = Fixture::new();
    let before = copy(&fixture);
    for (run, (words, said)) in cases.into_iter().enumerate() {
        let shown: String = format!("{said:?}").chars().take(300).collect();
        match answer(&fixture, begin(run as u8), said) {
            Message::Refused(refused) => {
                let refused = String::from_utf8(refused.message.0).unwrap();
                assert!(refused.contains(words), "'{words}' is not in '{refused}': {shown}");
            }
            other => panic!("{other:?} to {shown}"),
        }
        assert_eq!(copy(&fixture), before, "{shown}");
    }
    fixture.honest(201);
}

/// Paths that lead elsewhere, or are too much.
fn bad_paths() -> Vec<(&'static str, Vec<u8>)> {
    let deep = |depth: usize| vec![b"d".to_vec(); depth].join(&b'/');
    vec![
        ("component", b"..".to_vec()),
        ("component", b"../x".to_vec()),
        ("component", b"x/../../y".to_vec()),
        ("component", b"/etc/passwd".to_vec()),
        ("component", b"x//y".to_vec()),
        ("component", b"./x".to_vec()),
        ("component", b"x/".to_vec()),
        ("component", b"/".to_vec()),
        ("NUL", b"x\0y".to_vec()),
        ("too long", vec![b'n'; 256]),
        ("too long", deep(10_000)),
    ]
}

#[test]
fn paths_that_lead_elsewhere_are_refused_wherever_they_stand() {
    let mut cases = Vec::new();
    for (words, path) in bad_paths() {
        cases.push((words, vec![files(vec![file(&path, b"x")], b"x")]));
        cases
            .push((words, vec![FileOpen { file: 0, path: path.clone().into(), size: 1, class: 1, base: None }.into()]));
        cases.push((words, manifest(vec![file(&path, b"x")])));
        cases.push((words, manifest(vec![linked(b"zz", b"x", &path)])));
        for change in [WireChange::Remove(path.clone().into()), WireChange::Unseen(path.into())] {
            cases.push((words, vec![head(0, Digest([0; 32])).into(), Changes { changes: vec![change] }.into()]));
        }
    }
    all_refused(cases);
}

#[test]
fn a_root_that_leads_elsewhere_is_refused() {
    let fixture = Fixture::new();
    for (words, path) in bad_paths() {
        let peer = fixture.welcome();
        peer.link.send(Begin { root: path.into(), ..begin(1) }).unwrap();
        let refusals = peer.end();
        assert!(refusals.iter().any(|said| said.contains(words)), "{words}: {refusals:?}");
    }
    // Nor is it shown to who looks at what goes on.
    let (shown, bad) = (fixture.hub.live.view().ended, begin(1).run.to_string());
    assert!(shown.iter().all(|run| run.name.id != bad), "{shown:?}");
    fixture.honest(201);
}

#[test]
fn questions_about_paths_that_lead_elsewhere_are_refused() {
    let fixture = Fixture::new();
    for (words, path) in bad_paths() {
        let path = || Bytes::from(path.as_slice());
        let (from, to, run) = (At::Latest, At::Latest, RunId([9; 16]));
        let questions: [Message; 6] = [
            Read { path: path(), shallow: false, content: true, all: true, at: At::Latest }.into(),
            Snapshots { path: path() }.into(),
            History { path: path() }.into(),
            Diff { from, to, path: path() }.into(),
            Verify { path: path(), all: false, parts: 0 }.into(),
            Forget { run, root: path() }.into(),
        ];
        for question in questions {
            let (name, peer) = (question.name(), fixture.welcome());
            peer.link.send(question).unwrap();
            let refusals = peer.end();
            assert!(refusals.iter().any(|said| said.contains(words)), "{name}, {words}: {refusals:?}");
        }
    }
    fixture.honest(201);
}

#[test]
fn content_that_is_not_what_it_is_said_to_be_is_refused() {
    let many = vec![file(b"x", b""); BATCH_COUNT_MAX + 1];
    let open =
        |file: u32| FileOpen { file, path: format!("{file}").into_bytes().into(), size: 1, class: 1, base: None };
    let offer = |items: Vec<WireChunk>| ChunkOffer { batch: 0, file: 0, items }.into();
    let chunks = |lens: Vec<u32>, payload: &[u8]| Message::Chunks(Chunks { file: 0, lens }, payload.to_vec());
    let too_many_open = (0..=FILES_OPEN_MAX as u32).map(|n| open(n).into()).collect();
    let done = |entry: WireEntry| FileDone { file: 0, entry: Some(entry) };
    all_refused(vec![
        ("not what its digest says", vec![files(vec![file(b"x", b"right")], b"wrong"), files(vec![], b"")]),
        ("not as long as they say", vec![files(vec![file(b"x", b"right")], b"rig")]),
        ("left over", vec![files(vec![file(b"x", b"x")], b"xy")]),
        ("is no file", vec![files(vec![dir(b"x")], b"")]),
        ("too many files", vec![files(many, b"")]),
        ("not as long as they say", vec![files(vec![sized(b"x", b"", u64::MAX)], b"")]),
        ("not open", vec![chunks(vec![1], b"x")]),
        ("not open", vec![done(file(b"x", b"")).into()]),
        ("not open", vec![offer(vec![])]),
        ("too many large files", too_many_open),
        ("size class", vec![FileOpen { class: 0, ..open(0) }.into()]),
        ("size class", vec![FileOpen { class: 4, ..open(0) }.into()]),
        ("without a base", vec![open(0).into(), offer(vec![WireChunk::Range { first: u32::MAX, count: 1 }])]),
        ("too many items", vec![open(0).into(), offer(vec![WireChunk::Range { first: u32::MAX, count: u32::MAX }])]),
        ("not as long as they say", vec![open(0).into(), chunks(vec![2], b"x")]),
        ("left over", vec![open(0).into(), chunks(vec![1], b"xy")]),
        ("is empty", vec![open(0).into(), chunks(vec![0], b"")]),
        ("no file", vec![open(0).into(), done(dir(b"0")).into()]),
    ]);
}

fn delta(len: u32, steps: &[u8]) -> WireDelta {
    WireDelta { offset: 0, len, block: 256, steps: steps.into() }
}

fn file_deltas(entry: WireEntry, delta: WireDelta, payload: &[u8]) -> Message {
    Message::FileDeltas(FileDeltas { files: vec![(entry, delta)] }, payload.to_vec())
}

#[test]
fn deltas_that_fit_nothing_are_refused() {
    let open = FileOpen { file: 0, path: b"l"[..].into(), size: 1, class: 1, base: None };
    let chunks = |len: u32, delta: WireDelta, payload: &[u8]| {
        Message::ChunkDeltas(ChunkDeltas { file: 0, chunks: vec![(len, delta)] }, payload.to_vec())
    };
    let bases = vec![WireBasis::File { item: 0, path: b"a"[..].into() }; BATCH_COUNT_MAX + 1];
    let huge = sized(b"x", b"", u64::MAX);
    let outside = Bases { batch: 0, bases: vec![WireBasis::File { item: 0, path: b"../x"[..].into() }] };
    let offer = Offer { batch: 0, digests: vec![Digest::of(b"new")] };
    all_refused(vec![
        ("too many bases", vec![Bases { batch: 0, bases }.into()]),
        ("the path", vec![outside.into(), offer.into()]),
        ("too large", vec![file_deltas(huge, delta(0, &[]), b"")]),
        ("too large", vec![file_deltas(dir(b"x"), delta(0, &[]), b"")]),
        ("does not fit", vec![file_deltas(file(b"x", b"new"), delta(0, &[3]), b"ne")]),
        ("does not fit", vec![file_deltas(file(b"x", b"new"), delta(0, &[3]), b"news")]),
        ("does not fit", vec![file_deltas(file(b"x", b"new"), delta(0, &[255; 20]), b"")]),
        ("the path", vec![file_deltas(file(b"../x", b"new"), delta(0, &[3]), b"new")]),
        ("not open", vec![chunks(3, delta(0, &[3]), b"new")]),
        ("too long", vec![open.clone().into(), chunks(u32::MAX, delta(0, &[3]), b"new")]),
        ("does not fit", vec![open.clone().into(), chunks(3, delta(0, &[3]), b"")]),
        ("is empty", vec![open.into(), chunks(0, delta(0, &[]), b"")]),
    ]);
}

#[test]
fn what_is_not_put_together_right_is_missing() {
    let fixture = Fixture::new();
    let old: Vec<u8> = (0..3_000_u32).flat_map(|i| (i * i).to_le_bytes()).collect();
    let new = [&b"new"[..], &old[..]].concat();
    let committed = answer(
        &fixture,
        begin(1),
        [vec![files(vec![file(b"f", &old)], &old)], manifest(vec![file(b"f", &old)])].concat(),
    );
    assert!(matches!(committed, Message::Committed(_)), "{committed:?}");
    let len = old.len() as u32;
    let entry = file(b"f", &new);
    let blocks = len.div_ceil(256) as u8;
    for (run, (what, delta, payload)) in [
        ("another literal", delta(len, &[3, blocks, 0]), b"neW"),
        ("another length of the basis", delta(len - 1, &[3, blocks, 0]), b"new"),
        ("a block that is not there", delta(len, &[3, blocks + 1, 0]), b"new"),
        ("too short", delta(len, &[3, blocks - 1, 0]), b"new"),
    ]
    .into_iter()
    .enumerate()
    {
        let said = [vec![file_deltas(entry.clone(), delta, payload)], manifest(vec![entry.clone()])].concat();
        let missing = answer(&fixture, begin(run as u8 + 2), said);
        assert!(
            matches!(&missing, Message::Missing(missing) if missing.paths == [b"f"[..].into()]),
            "{what}: {missing:?}"
        );
        assert_eq!(copy(&fixture)["f"], old, "{what}");
    }
    let basis = Bases { batch: 0, bases: vec![WireBasis::File { item: 0, path: b"f"[..].into() }] };
    let offer = Offer { batch: 0, digests: vec![Digest::of(&new)] };
    let right = file_deltas(entry.clone(), delta(len, &[3, blocks, 0]), b"new");
    let said = [vec![basis.into(), offer.into(), right], manifest(vec![entry])].concat();
    let committed = answer(&fixture, begin(9), said);
    assert!(matches!(committed, Message::Committed(_)), "{committed:?}");
    assert_eq!(copy(&fixture)["f"], new);
}

#[test]
fn manifests_that_cannot_be_are_refused() {
    let (one, a, b) = (file(b"a", b"one"), file(b"a", b"one"), file(b"b", b"and another"));
    let put = |entries: Vec<WireEntry>| Changes { changes: entries.into_iter().map(WireChange::Put).collect() };
    let spoken = |changes: Changes| vec![head(0, Digest([0; 32])).into(), changes.into()];
    let right = manifest(vec![a.clone(), b.clone()]);
    let (Message::Manifest(right_head), rest) = (&right[0], &right[1..]) else { panic!("it begins otherwise") };
    let with = |head: Manifest| [&[head.into()], rest].concat();
    let many = vec![WireChange::Remove(b"x"[..].into()); BATCH_COUNT_MAX + 1];
    all_refused(vec![
        ("not sorted", spoken(put(vec![b.clone(), a.clone()]))),
        ("not sorted", spoken(put(vec![a.clone(), one]))),
        ("not sorted", spoken(put(vec![a.clone(), dir(b"a")]))),
        (
            "not sorted",
            spoken(Changes { changes: vec![WireChange::Put(a.clone()), WireChange::Remove(b"a"[..].into())] }),
        ),
        ("too many changes", spoken(Changes { changes: many })),
        ("not the directory that holds it", manifest(vec![file(b"a", b"one"), file(b"a/b", b"one")])),
        ("not the directory that holds it", manifest(vec![file(b"c/d", b"one")])),
        ("not the directory that holds it", manifest_of(vec![a.clone()])),
        ("differ", with(Manifest { digest: Digest([1; 32]), ..right_head.clone() })),
        ("differ", with(Manifest { entries: 7, ..right_head.clone() })),
        ("not agreed on", with(Manifest { base: Some(Digest([1; 32])), ..right_head.clone() })),
        ("not sorted", with(Manifest { users: vec![(2, b""[..].into()), (1, b""[..].into())], ..right_head.clone() })),
        ("too many or too long", with(Manifest { users: vec![(2, vec![b'u'; 256].into())], ..right_head.clone() })),
        ("mode has bits", manifest(vec![WireEntry { mode: 0o10000, ..a.clone() }])),
        ("nanoseconds", manifest(vec![WireEntry { mtime_nanos: u32::MAX, ..a }])),
    ]);
}

/// A manifest says how large its files are; with a right digest it may still lie there.
#[test]
fn the_size_of_content_that_is_here_must_be_so() {
    for (what, words) in [
        ("the size of a file that is in the copy", manifest(vec![sized(b"a", b"one", 4)])),
        ("the size of a file that moved", manifest(vec![sized(b"c", b"one", 4)])),
        ("the size of a file that is there twice", manifest(vec![file(b"a", b"one"), sized(b"c", b"one", 1 << 60)])),
        ("the size of what was just sent", {
            let sent = vec![files(vec![file(b"n", b"new")], b"new")];
            [sent, manifest(vec![sized(b"n", b"new", 2)])].concat()
        }),
    ] {
        let fixture = Fixture::new();
        let before = copy(&fixture);
        let said = answer(&fixture, begin(1), words);
        assert!(matches!(said, Message::Refused(_) | Message::Missing(_)), "{what}: {said:?}");
        assert_eq!(copy(&fixture), before, "{what}");
        fixture.honest(201);
    }
}

#[test]
fn sizes_beyond_all_measure_are_only_numbers() {
    let fixture = Fixture::new();
    let huge = || manifest(vec![sized(b"c", b"c", u64::MAX), sized(b"d", b"d", u64::MAX)]);
    let said = answer(&fixture, Begin { dry_run: true, ..begin(1) }, huge());
    assert!(matches!(said, Message::Committed(_) | Message::Refused(_)), "{said:?}");
    let said = answer(&fixture, begin(2), huge());
    assert!(matches!(said, Message::Refused(_) | Message::Missing(_)), "{said:?}");
    fixture.honest(201);
}

/// As deep as a path may be: the rules do not forbid it, so it must work.
#[test]
fn a_path_of_two_thousand_folders_is_a_path() {
    let fixture = Fixture::new();
    let all: Vec<u8> = vec![b"d".to_vec(); 2040].join(&b'/');
    let mut entries: Vec<WireEntry> = (1..=2040).map(|depth| dir(&all[..2 * depth - 1])).collect();
    entries.push(file(&[&all[..], b"/f"].concat(), b"deep"));
    let sent = vec![files(vec![entries.last().unwrap().clone()], b"deep")];
    let said = answer(&fixture, begin(1), [sent, manifest(entries)].concat());
    assert!(matches!(said, Message::Committed(_)), "{said:?}");
    // And it goes away again.
    fixture.honest(201);
    assert_eq!(copy(&fixture).len(), FILES.len());
}

#[test]
fn as_many_paths_as_can_be_unseen_are_bounded_however_short_they_are() {
    let fixture = Fixture::new();
    let begun: Message = head(0, Digest([0; 32])).into();
    let part = |from: u32| {
        let path = |n: u32| WireChange::Unseen(format!("{n:07x}").into_bytes().into());
        Changes { changes: (from..from + 1024).map(path).collect() }.into()
    };
    // Nine million paths of seven bytes would pass by their bytes alone.
    let said = answer(&fixture, begin(1), [begun].into_iter().chain((0..1100).map(|n| part(n * 1024))).collect());
    let Message::Refused(refused) = said else { panic!("{said:?}") };
    assert!(String::from_utf8(refused.message.0).unwrap().contains("could not be seen"));
    fixture.honest(201);
}
