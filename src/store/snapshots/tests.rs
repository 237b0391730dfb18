//! What a session would notice of the snapshots.

use std::fs;

use super::*;
use crate::backup::entry::{Entry, FileContent, Kind, Link, Meta, OwnerNames, SizeClass};
use crate::backup::fingerprint::Timestamp;
use crate::backup::manifest::{ChangeRecord, ManifestRecord};
use crate::backup::snapshot::ClientInfo;
use crate::backup::sorted_file::SortedRecord;

mod expiry;
mod purged;

pub(super) fn rel(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

pub(super) fn put(path: &str, content: u64) -> ChangeRecord {
    let file = FileContent {
        size: content,
        digest: Digest::of(&content.to_le_bytes()),
        class: SizeClass::Whole,
        link: Link::Single,
        sparse: false,
        unstable: false,
    };
    let entry = Entry { path: rel(path), meta: Meta::default(), kind: Kind::File(file) };
    ChangeRecord::Put(ManifestRecord { entry, kept: false })
}

pub(super) struct Fixture {
    dir: tempfile::TempDir,
    pub(super) snapshots: Snapshots,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(&dir.path().join("n@u"), OpenMode::Write).unwrap();
        Self { dir, snapshots }
    }

    pub(super) fn draft(&self, base: Option<u64>, changes: Vec<ChangeRecord>) -> ManifestDraft {
        let changes = changes.into_iter().map(Ok::<_, SnapshotError>);
        self.snapshots.draft(RunId([1; 16]), base, &OwnerNames::default(), 0, changes).unwrap()
    }

    pub(super) fn record(&self, root: &str, draft: &ManifestDraft) -> SnapshotRecord {
        let number = self.snapshots.next_number().unwrap();
        SnapshotRecord {
            number,
            kind: RunKind::Backup,
            root: rel(root),
            recursive: true,
            delete: true,
            run: RunId([u8::try_from(number).unwrap(); 16]),
            parent: None,
            manifest: draft.digest,
            manifest_file: draft.manifest_file,
            received: Timestamp::default(),
            complete: true,
            counts: [0; 6],
            entries: draft.counts.entries,
            files: draft.counts.files,
            bytes: draft.counts.bytes,
            content_bytes: 0,
            errors: Vec::new(),
            errors_total: 0,
            file_system: 0,
            client: ClientInfo::default(),
        }
    }

    pub(super) fn commit(&self, root: &str, base: Option<u64>, changes: Vec<ChangeRecord>) -> SnapshotRecord {
        let draft = self.draft(base, changes);
        let record = self.record(root, &draft);
        self.snapshots.publish(&record, draft.name.as_deref()).unwrap();
        record
    }

    fn paths(&self, number: u64, from: &str) -> Vec<String> {
        let records = self.snapshots.open_manifest_from(number, &rel(from)).unwrap();
        records.map(|record| record.unwrap().entry.path.to_string()).collect()
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path().join("n@u")).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// 30 files, so that a few changes are below the chain's 20 %.
fn thirty() -> Vec<ChangeRecord> {
    (10..40).map(|i| put(&format!("f{i}"), i)).collect()
}

#[test]
fn changes_apply_to_their_base_and_the_digest_is_that_of_the_whole() {
    let f = Fixture::new();
    f.commit("home", None, thirty());
    let second = f.commit("home", Some(1), vec![put("f10", 99), ChangeRecord::Remove(rel("f11")), put("f12x", 1)]);
    assert_eq!(second.manifest_file, ManifestRef::Changes { base: 1 });
    assert_eq!(f.paths(2, "f38"), ["f38", "f39"]);
    assert_eq!(f.paths(2, "")[..3], ["f10", "f12", "f12x"]);
    assert_eq!(f.paths(1, "")[..3], ["f10", "f11", "f12"]);
    assert_eq!(f.snapshots.find(2, &rel("f11")).unwrap(), None);
    assert!(f.snapshots.find(1, &rel("f11")).unwrap().is_some());
    let whole: Vec<_> = f.snapshots.open_manifest(2).unwrap().map(|r| ChangeRecord::Put(r.unwrap())).collect();
    let draft = f.draft(None, whole);
    assert_eq!(draft.digest, second.manifest);
    assert_eq!(draft.digest, f.snapshots.open_manifest(2).unwrap().header().digest);
}

#[test]
fn nothing_changed_writes_no_manifest() {
    let f = Fixture::new();
    f.commit("home", None, thirty());
    let second = f.commit("home", Some(1), vec![put("f10", 10), ChangeRecord::Remove(rel("nothing"))]);
    assert_eq!(second.manifest_file, ManifestRef::Same { of: 1 });
    assert_eq!(f.commit("home", Some(2), vec![]).manifest_file, ManifestRef::Same { of: 1 });
    assert_eq!(f.commit("home", Some(3), vec![put("z", 1)]).manifest_file, ManifestRef::Changes { base: 1 });
    assert_eq!(f.paths(3, "").len(), 30);
    assert_eq!(f.paths(4, "").len(), 31);
    let names = ["1.manifest", "1.snapshot", "2.snapshot", "3.snapshot", "4.changes", "4.snapshot"];
    assert_eq!(f.files(), names.map(|name| format!("00000000000{name}")));
}

#[test]
fn a_long_or_heavy_chain_becomes_a_full_manifest() {
    let f = Fixture::new();
    f.commit("home", None, (0..200).map(|i| put(&format!("f{i:03}"), i)).collect());
    let mut kinds = Vec::new();
    for i in 1..=18 {
        kinds.push(f.commit("home", Some(i), vec![put("f000", 1000 + i)]).manifest_file == ManifestRef::Full);
    }
    assert_eq!(kinds.iter().filter(|full| **full).count(), 1);
    assert_eq!(kinds.iter().position(|full| *full), Some(16));
    assert_eq!(f.snapshots.find(19, &rel("f000")).unwrap().unwrap().entry.file().unwrap().size, 1018);
    let many = (0..41).map(|i| put(&format!("f{i:03}"), 5000)).collect();
    assert_eq!(f.commit("home", Some(19), many).manifest_file, ManifestRef::Full);
    assert_eq!(f.paths(20, "").len(), 200);
}

#[test]
fn many_changes_that_were_announced_are_written_once_as_the_whole() {
    let f = Fixture::new();
    f.commit("home", None, thirty());
    let half = || -> Vec<ChangeRecord> {
        let every_other = thirty().into_iter().step_by(2);
        every_other.map(|change| ChangeRecord::Remove(change.path().clone())).collect()
    };
    let unannounced = f.draft(Some(1), half());
    let changes = half().into_iter().map(Ok::<_, SnapshotError>);
    let announced = f.snapshots.draft(RunId([1; 16]), Some(1), &OwnerNames::default(), 15, changes).unwrap();
    assert_eq!((announced.manifest_file, announced.counts.entries), (ManifestRef::Full, 15));
    assert_eq!((announced.digest, announced.counts), (unannounced.digest, unannounced.counts));
}

#[test]
fn publishing_again_is_fine_and_another_run_cannot_take_the_number() {
    let f = Fixture::new();
    let draft = f.draft(None, thirty());
    let record = f.record("home", &draft);
    for _ in 0..2 {
        f.snapshots.publish(&record, draft.name.as_deref()).unwrap();
    }
    let reopened = Snapshots::open(&f.dir.path().join("n@u"), OpenMode::Write).unwrap();
    reopened.publish(&record, draft.name.as_deref()).unwrap();
    let other = SnapshotRecord { run: RunId([9; 16]), ..record.clone() };
    assert!(matches!(f.snapshots.publish(&other, None), Err(SnapshotError::Exists { number: 1 })));
    assert_eq!(*f.snapshots.by_run(record.run).unwrap().unwrap(), record);
    assert_eq!(reopened.next_number().unwrap(), 2);
    assert_eq!(reopened.next_number().unwrap(), 3);
}

#[test]
fn a_crash_between_manifest_and_record_is_finished_by_the_replay() {
    let f = Fixture::new();
    let draft = f.draft(None, thirty());
    let record = f.record("home", &draft);
    f.snapshots.place_manifest(&record, draft.name.as_deref()).unwrap();
    let reopened = Snapshots::open(&f.dir.path().join("n@u"), OpenMode::Write).unwrap();
    assert!(reopened.list().unwrap().is_empty());
    reopened.publish(&record, draft.name.as_deref()).unwrap();
    assert_eq!(reopened.open_manifest(1).unwrap().count(), 30);
    // A record without its manifest is never written.
    let lost = SnapshotRecord { number: 7, run: RunId([7; 16]), ..record };
    assert!(reopened.publish(&lost, Some(".tmp-lost")).is_err());
    assert_eq!(reopened.list().unwrap().len(), 1);
}

#[test]
fn the_newest_is_found_by_root_by_manifest_and_by_path() {
    let f = Fixture::new();
    let first = f.commit("home", None, vec![put("a", 1), put("u/b", 2)]);
    f.commit("etc", None, vec![put("a", 1)]);
    f.commit("home", None, vec![put("a", 1)]);
    f.commit("home/u", None, vec![put("c", 3)]);
    let newest = |root: &str| f.snapshots.newest(&rel(root)).unwrap().map(|record| record.number);
    assert_eq!((newest("home"), newest("etc"), newest("none")), (Some(3), Some(2), None));
    let containing = |path: &str| {
        let found = f.snapshots.newest_containing(&rel(path)).unwrap();
        found.map(|(record, inner)| (record.number, inner.to_string()))
    };
    assert_eq!(containing("home/a"), Some((3, "a".into())));
    assert_eq!(containing("home/u/b"), Some((1, "u/b".into())));
    assert_eq!(containing("home/u/c"), Some((4, "c".into())));
    assert_eq!(containing("home/u/d"), None);
    assert_eq!(f.snapshots.by_manifest(&rel("home"), &first.manifest).unwrap().unwrap().number, 1);
    let forget = SnapshotRecord { kind: RunKind::Forget, ..f.record("etc", &f.draft(None, vec![])) };
    f.snapshots.publish(&forget, f.draft(None, vec![]).name.as_deref()).unwrap();
    let roots: Vec<_> = f.snapshots.roots().unwrap().iter().map(|record| record.root.to_string()).collect();
    assert_eq!(roots, ["home", "home/u"]);
}

#[test]
fn a_damaged_record_is_named_and_hides_no_other() {
    let f = Fixture::new();
    f.commit("home", None, vec![put("a", 1)]);
    f.commit("home", None, vec![put("a", 2)]);
    let dir = f.dir.path().join("n@u");
    let path = dir.join("000000000002.snapshot");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let reader = Snapshots::open(&dir, OpenMode::ReadOnly).unwrap();
    assert_eq!(reader.newest(&rel("home")).unwrap().unwrap().number, 1);
    assert_eq!(reader.damaged().unwrap().len(), 1);
    assert_eq!(reader.next_number().unwrap(), 3);
}

#[test]
fn a_failed_draft_leaves_nothing_and_a_reader_sees_what_comes_later() {
    let f = Fixture::new();
    let broken = vec![Ok(put("a", 1)), Err(SnapshotError::Unknown { number: 5 })];
    let failed = f.snapshots.draft(RunId([1; 16]), None, &OwnerNames::default(), 0, broken.into_iter());
    assert!(failed.is_err());
    assert!(f.files().is_empty());
    let reader = Snapshots::open(&f.dir.path().join("n@u"), OpenMode::ReadOnly).unwrap();
    f.commit("home", None, thirty());
    assert_eq!(reader.list().unwrap().len(), 1);
    f.draft(None, thirty());
    f.snapshots.clear_drafts().unwrap();
    assert_eq!(f.files().len(), 2);
}

#[test]
fn a_record_that_was_prepared_is_put_into_place_or_written_again() {
    let f = Fixture::new();
    let draft = f.draft(None, vec![put("a", 1)]);
    let run = RunId([1; 16]);
    f.snapshots.prepare(&SnapshotRecord { run, ..f.record("home", &draft) }).unwrap();
    assert_eq!(f.snapshots.prepared().unwrap(), [run]);
    f.snapshots.begin(run).unwrap();
    f.snapshots.begin(run).unwrap();
    assert!(f.snapshots.prepared().unwrap().is_empty() && f.snapshots.is_prepared(run));
    f.snapshots.take_back(run).unwrap();
    f.snapshots.take_back(run).unwrap();
    assert_eq!(f.snapshots.prepared().unwrap(), [run]);
    f.snapshots.discard(run);
    let draft = f.draft(None, vec![put("a", 1)]);
    for half in [false, true] {
        let record = SnapshotRecord { run, ..f.record("home", &draft) };
        let place = f.dir.path().join("n@u").join(record_draft_name(record.run));
        f.snapshots.prepare(&record).unwrap();
        assert_eq!(
            f.snapshots.prepared().unwrap(),
            if half { vec![] } else { vec![record.run] },
            "the run is committed"
        );
        assert!(f.snapshots.is_prepared(record.run));
        if half {
            fs::write(&place, "half").unwrap();
            fs::write(f.dir.path().join("n@u").join(draft_name(record.run)), "").unwrap();
        }
        f.snapshots.publish(&record, draft.name.as_deref()).unwrap();
        let reader = Snapshots::open(&f.dir.path().join("n@u"), OpenMode::ReadOnly).unwrap();
        assert_eq!(*reader.record(record.number).unwrap(), record);
        assert_eq!(place.exists(), half, "it was renamed, if it was whole");
        f.snapshots.discard(record.run);
        assert!(!place.exists());
    }
}
