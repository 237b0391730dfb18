//! Two stores that hold the same, and what becomes of a proof when one of them does not.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::engine::client::ClientOptions;
use crate::engine::hub::HubOptions;
use crate::engine::observer::Silent;
use crate::engine::push::{PushOptions, push};

struct Fixture {
    temp: tempfile::TempDir,
    copy: CopyName,
}

impl Fixture {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("source")).unwrap();
        Self { temp, copy: CopyName::local(b"u").unwrap() }
    }

    fn source(&self, name: &str) -> PathBuf {
        self.temp.path().join("source").join(name)
    }

    /// Backs the source up into both stores.
    fn backup(&self) {
        for store in ["ours", "theirs"] {
            let client = ClientOptions::of_store(&self.temp.path().join(store), self.temp.path());
            let options = PushOptions { root: self.source(""), recursive: true, ..Default::default() };
            push(&client, &options, &Silent).unwrap();
        }
    }

    fn hub(&self, store: &str) -> Hub {
        Hub::open(&self.temp.path().join(store), HubOptions::in_process()).unwrap()
    }

    fn newest(&self, hub: &Hub) -> Arc<SnapshotRecord> {
        hub.store.snapshots(&self.copy).unwrap().list().unwrap().pop().unwrap()
    }

    fn question(&self) -> (Question, RelPath) {
        let ours = self.hub("ours");
        let record = self.newest(&ours);
        (Question::about(&ours, &self.copy, &record, &[]).unwrap(), record.root.clone())
    }

    /// Whether they answer rightly.
    fn proves(&self, question: &Question, root: &RelPath) -> bool {
        let (challenge, expected) = question.ask().unwrap();
        let theirs = self.hub("theirs");
        answer(&theirs, &self.copy, root, &challenge).is_ok_and(|proof| proof.digest == expected)
    }

    fn in_copy(&self, store: &str, name: &str) -> PathBuf {
        let inside = self.source(name);
        let inside = inside.strip_prefix("/").unwrap();
        self.temp.path().join(store).join(self.copy.node()).join(self.copy.user()).join(inside)
    }
}

fn flip(path: &Path, at: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn who_holds_it_proves_it_and_who_does_not_cannot() {
    let f = Fixture::new();
    fs::write(f.source("small"), b"some content").unwrap();
    fs::write(f.source("empty"), b"").unwrap();
    std::os::unix::fs::symlink("small", f.source("link")).unwrap();
    f.backup();
    let (question, root) = f.question();
    assert_eq!(question.ranges.len(), question.ranges.iter().filter(|r| r.path.as_slice() == b"small").count());
    assert!(!question.is_empty() && f.proves(&question, &root));
    // Each question is another one.
    let (one, other) = (question.ask().unwrap(), question.ask().unwrap());
    assert!(one.0.nonce != other.0.nonce && one.1 != other.1);
    flip(&f.in_copy("theirs", "small"), 3);
    assert!(!f.proves(&question, &root));
    fs::remove_file(f.in_copy("theirs", "small")).unwrap();
    assert!(!f.proves(&question, &root));
}

#[test]
fn what_a_run_changed_is_asked_for_among_much_that_it_did_not() {
    let f = Fixture::new();
    for n in 0..400 {
        fs::write(f.source(&format!("f{n:03}")), format!("content {n}")).unwrap();
    }
    f.backup();
    fs::write(f.source("f150"), b"new content").unwrap();
    f.backup();
    let (question, root) = f.question();
    assert!(question.ranges.iter().any(|range| range.path.as_slice() == b"f150"));
    assert!(question.ranges.len() > 20 && f.proves(&question, &root));
    flip(&f.in_copy("theirs", "f150"), 0);
    assert!(!f.proves(&question, &root));
}

/// A first backup has no file of changes that could be drawn from.
#[test]
fn what_arrived_is_asked_for_as_far_as_it_is_there() {
    let f = Fixture::new();
    for n in 0..400 {
        fs::write(f.source(&format!("f{n:03}")), format!("content {n}")).unwrap();
    }
    f.backup();
    let ours = f.hub("ours");
    let record = f.newest(&ours);
    let arrived: Vec<Bytes> = [&b"f007"[..], b"gone", b"../x"].iter().map(|path| (*path).into()).collect();
    let question = Question::about(&ours, &f.copy, &record, &arrived).unwrap();
    assert_eq!(question.ranges[0].path.as_slice(), b"f007");
    assert!(question.ranges.iter().all(|range| range.path.as_slice() != b"gone"));
    assert!(question.ranges.len() > 20, "and much that did not arrive");
    drop(ours);
    assert!(f.proves(&question, &record.root));
    flip(&f.in_copy("theirs", "f007"), 0);
    assert!(!f.proves(&question, &record.root));
}

/// Its file is as young as can be: right after a commit, its times say nothing yet.
#[test]
fn a_large_file_is_asked_for_however_young_it_is() {
    let f = Fixture::new();
    let content: Vec<u8> = (0..40 * CHALLENGE_RANGE_BYTES_MAX as u64).map(|n| ((n * n) >> 7) as u8).collect();
    fs::write(f.source("image"), content).unwrap();
    f.backup();
    let ours = f.in_copy("ours", "image");
    // Touched: the catalog does not know it as it is now.
    fs::File::open(&ours).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    let (question, root) = f.question();
    assert!(!question.is_empty() && f.proves(&question, &root));
    let range = &question.ranges[0];
    assert!(range.path.as_slice() == b"image" && (1..=CHALLENGE_RANGE_BYTES_MAX).contains(&(range.len as usize)));
    flip(&f.in_copy("theirs", "image"), range.offset);
    assert!(!f.proves(&question, &root));
    // What is damaged here is not asked for.
    for at in (0..40 * CHALLENGE_RANGE_BYTES_MAX as u64).step_by(1024) {
        flip(&ours, at);
    }
    assert!(f.question().0.is_empty());
}

#[test]
fn our_own_damage_is_not_asked_for_and_ranges_are_bounded() {
    let f = Fixture::new();
    fs::write(f.source("a"), vec![7; 5 * CHALLENGE_RANGE_BYTES_MAX]).unwrap();
    fs::write(f.source("b"), b"b").unwrap();
    fs::write(f.source("c"), b"c").unwrap();
    f.backup();
    let (question, root) = f.question();
    assert!(question.ranges.iter().all(|r| r.len as usize <= CHALLENGE_RANGE_BYTES_MAX));
    assert!(question.ranges.iter().any(|r| r.path.as_slice() == b"c") && f.proves(&question, &root));
    flip(&f.in_copy("ours", "c"), 0);
    let (question, root) = f.question();
    assert!(question.ranges.iter().all(|r| r.path.as_slice() != b"c") && f.proves(&question, &root));

    let theirs = f.hub("theirs");
    let range = |path: &[u8], offset, len| Range { path: path.into(), offset, len };
    let too_many = vec![range(b"b", 0, 1); CHALLENGE_RANGES_MAX + 1];
    let beyond = vec![range(b"b", 1, 1)];
    let too_long = vec![range(b"a", 0, CHALLENGE_RANGE_BYTES_MAX as u32 + 1)];
    let outside = vec![range(b"../../x", 0, 1)];
    for ranges in [too_many, beyond, too_long, outside] {
        assert!(answer(&theirs, &f.copy, &root, &Challenge { nonce: [1; 32], ranges }).is_err());
    }
}
