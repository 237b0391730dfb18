//! Tests of the merge: what becomes of what the walk came across.

use std::path::Path;

use super::*;

/// Walks `root`, lets `then` happen, and merges what was walked.
fn merged(root: &Path, then: impl FnOnce()) -> Vec<Item> {
    let state = tempfile::tempdir().unwrap();
    let (items, received) = queue();
    let (jobs, _jobs) = bounded(16);
    let scan = Scan {
        walk: WalkOptions::new(root),
        cache: CachePaths::new(state.path(), [0; 16], b"u", b"root").unwrap(),
        jobs,
        items,
        budget: Budget::new(1 << 20),
        safe_before: Timestamp::default(),
    };
    let mut walked = Vec::new();
    walk(&scan.walk, &mut |batch| {
        walked.extend(batch);
        ControlFlow::Continue(())
    })
    .unwrap();
    then();
    let mut merge = Merge::new(&scan);
    for item in walked {
        assert!(merge.item(item).is_ok());
    }
    assert!(merge.flush().is_ok());
    drop(merge);
    drop(scan);
    received.into_iter().collect()
}

#[test]
fn what_vanishes_before_it_is_looked_at_is_no_error() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(temp.path().join("gone")).unwrap();
    std::os::unix::fs::symlink("x", temp.path().join("link")).unwrap();
    std::fs::create_dir(temp.path().join("stays")).unwrap();
    let items = merged(temp.path(), || {
        std::fs::remove_dir_all(temp.path().join("gone")).unwrap();
        std::fs::remove_file(temp.path().join("link")).unwrap();
    });
    let (mut kept, mut vanished) = (Vec::new(), Vec::new());
    for item in items {
        match item {
            Item::Ready(records) => kept.extend(records),
            Item::Skipped(path, why) => vanished.push((path.to_string(), why)),
            Item::Failed(path, why) => panic!("{path} failed: {why}"),
            _ => panic!("nothing is to be read"),
        }
    }
    assert_eq!(vanished, [("gone".to_owned(), VANISHED.to_owned()), ("link".to_owned(), VANISHED.to_owned())]);
    let paths: Vec<String> = kept.iter().map(|record| record.entry.path.to_string()).collect();
    assert_eq!(paths, ["", "gone", "stays"], "what a folder holds may be in the manifest, and needs it");
    assert!(kept.iter().all(|record| record.racy), "times are after 1970");
}
