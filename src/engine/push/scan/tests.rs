//! Tests of the merge: what becomes of what the walk came across.

use std::path::Path;

use super::super::cache::CacheKeeper;
use super::*;
use crate::backup::entry::OwnerNames;
use crate::backup::hash_cache::CacheHeader;

/// Walks `root`, lets `then` happen, and merges what was walked with the cache of `state`.
fn merged(root: &Path, state: &Path, then: impl FnOnce(&mut [WalkItem])) -> Vec<Item> {
    let (items, received) = queue();
    let (jobs, _jobs) = bounded(16);
    let scan = Scan {
        walk: WalkOptions::new(root),
        cache: cache(state),
        old_manifest: cache(state).open().map(|(header, _)| header.manifest),
        jobs,
        items,
        budget: Budget::new(1 << 20),
        safe_before: Timestamp { secs: 1, nanos: 0 },
        force_delete: false,
        rehash: false,
    };
    let mut walked = Vec::new();
    walk(&scan.walk, &mut |batch| {
        walked.extend(batch);
        ControlFlow::Continue(())
    })
    .unwrap();
    then(&mut walked);
    let mut merge = Merge::new(&scan);
    for item in walked {
        assert!(merge.item(item).is_ok());
    }
    assert!(merge.flush().is_ok());
    drop(merge);
    drop(scan);
    received.into_iter().collect()
}

fn cache(state: &Path) -> CachePaths {
    CachePaths::new(state, [0; 16], b"u", b"root").unwrap()
}

/// Writes the next cache.
fn keeper(state: &Path) -> CacheKeeper {
    let header = CacheHeader {
        manifest: Digest([0; 32]),
        root: RelPath::root(),
        recursive: true,
        complete: true,
        scan_started: Timestamp::default(),
        owners: OwnerNames::default(),
        file_system: 0,
    };
    CacheKeeper::new(cache(state), header, false)
}

/// A cache that holds `records`.
fn keep(state: &Path, records: &[CacheRecord]) {
    let paths = cache(state);
    let mut keeper = keeper(state);
    records.iter().for_each(|record| keeper.push(record, None).unwrap());
    keeper.finish(&OwnerNames::default()).unwrap();
    paths.publish();
}

/// The records that need no reading, and the paths of those that do or that failed.
fn sorted_out(items: Vec<Item>) -> (Vec<CacheRecord>, usize) {
    let (mut kept, mut others) = (Vec::new(), 0);
    for item in items {
        match item {
            Item::Ready(known) => kept.extend(known.into_iter().map(|known| known.record)),
            Item::Small { order, .. } => {
                others += order.iter().filter(|slot| slot.is_none()).count();
                kept.extend(order.into_iter().flatten().map(|known| known.record));
            }
            _ => others += 1,
        }
    }
    (kept, others)
}

/// Times decide there, the inode does not; and a file of another name is not recognised.
#[test]
fn inodes_that_are_made_up_are_not_believed() {
    let (temp, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(temp.path().join("file"), "content").unwrap();
    let made_up = |walked: &mut [WalkItem]| {
        for item in walked {
            let WalkItem::Entry(entry) = item else { panic!("{item:?}") };
            (entry.ino_believed, entry.stat.ino) = (false, entry.stat.ino + 1000);
            (entry.stat.mtime, entry.stat.ctime) = Default::default();
        }
    };
    let mut known = Vec::new();
    let taken = merged(temp.path(), state.path(), |walked| {
        made_up(walked);
        for item in walked {
            let WalkItem::Entry(entry) = item else { continue };
            let content = FileContent {
                size: 7,
                digest: Digest::of(b"content"),
                class: SizeClass::Whole,
                link: Link::Single,
                sparse: false,
                unstable: false,
            };
            let kind = if entry.path.is_root() { Kind::Dir } else { Kind::File(content) };
            let entry = (Entry { path: entry.path.clone(), meta: entry.stat.meta(), kind }, entry.fingerprint());
            known.push(CacheRecord { entry: entry.0, fingerprint: entry.1, racy: false, recipe: None, mounted: false });
        }
    });
    assert_eq!(sorted_out(taken).1, 1, "nothing is known yet");
    assert!(known.iter().all(|record| record.fingerprint.ino == 0));
    keep(state.path(), &known);
    let to_read = |items| sorted_out(items).1;
    assert_eq!(to_read(merged(temp.path(), state.path(), made_up)), 0, "vouched for by size and times");
    std::fs::rename(temp.path().join("file"), temp.path().join("other")).unwrap();
    assert_eq!(to_read(merged(temp.path(), state.path(), made_up)), 1, "same size, same times: not the same file");
}

#[test]
fn what_vanishes_before_it_is_looked_at_is_no_error() {
    let (temp, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir_all(temp.path().join("gone")).unwrap();
    std::os::unix::fs::symlink("x", temp.path().join("link")).unwrap();
    std::fs::create_dir(temp.path().join("stays")).unwrap();
    let items = merged(temp.path(), state.path(), |_| {
        std::fs::remove_dir_all(temp.path().join("gone")).unwrap();
        std::fs::remove_file(temp.path().join("link")).unwrap();
    });
    let (mut kept, mut vanished) = (Vec::new(), Vec::new());
    for item in items {
        match item {
            Item::Ready(known) => kept.extend(known.into_iter().map(|known| known.record)),
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

/// What the scan says to equal the old cache is believed by its number, everything else is compared; either way the new
/// cache is what was pushed.
#[test]
fn what_equals_the_old_cache_is_found_by_its_number() {
    let (temp, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for number in 0..2500 {
        std::fs::create_dir(temp.path().join(format!("{number:04}"))).unwrap();
    }
    let scan = || -> Vec<Known> {
        let items = merged(temp.path(), state.path(), |walked| {
            for item in walked {
                let WalkItem::Entry(entry) = item else { panic!("{item:?}") };
                // Nothing is too young to be believed.
                (entry.stat.mtime, entry.stat.ctime) = Default::default();
            }
        });
        let of = |item| if let Item::Ready(known) = item { known } else { panic!("nothing is to be read") };
        items.into_iter().flat_map(of).collect()
    };
    let all = scan();
    assert!(all.len() == 2501 && all.iter().all(|known| known.same_as.is_none()), "there is no cache");
    keep(state.path(), &all.into_iter().map(|known| known.record).collect::<Vec<_>>());
    let all = scan();
    assert!((0..).zip(&all).all(|(number, known)| known.same_as == Some(number)));
    // (those whose number is not told, the one that changes, how many there are), and whether anything differs.
    let told = |untold: &[usize], changed: Option<usize>, count: usize| {
        let (mut keeper, mut pushed) = (keeper(state.path()), Vec::new());
        for (number, known) in all.iter().enumerate().take(count) {
            let (mut record, mut same_as) = (known.record.clone(), known.same_as);
            if changed == Some(number) {
                record.entry.meta.mode ^= 1;
            }
            same_as = same_as.filter(|_| !untold.contains(&number) && changed != Some(number));
            keeper.push(&record, same_as).unwrap();
            pushed.push(record);
        }
        let end = keeper.finish(&OwnerNames::default()).unwrap();
        assert_eq!(end.entries, count as u64);
        if !end.unchanged {
            let written: Vec<_> = cache(state.path()).open_next().unwrap().map(Result::unwrap).collect();
            assert!(written == pushed);
        }
        end.unchanged
    };
    assert!(told(&[], None, 2501));
    assert!(told(&[0, 1, 7, 2100, 2101, 2500], None, 2501));
    assert!(!told(&[], None, 2500), "the last one is gone");
    assert!(!told(&[2499], None, 2500));
    for changed in [0, 3, 1250, 2500] {
        assert!(!told(&[], Some(changed), 2501) && !told(&[1, 1240], Some(changed), 2501));
    }
}
