//! Patterns of a peer, and paths: lines; those behind an empty one are paths.
//!
//! The patterns of `--exclude` prune whole folders, and `find` looks only where an anchored pattern can be: both must agree
//! with what the pattern says of each single path.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbbackup::backup::bytes::Bytes;
use rbbackup::backup::filter::Filter;
use rbbackup::backup::relpath::RelPath;
use rbbackup::engine::fuzzing::literal_folder;

fuzz_target!(|data: &[u8]| {
    let at = data.windows(2).position(|pair| pair == b"\n\n").unwrap_or(data.len());
    let (head, tail) = data.split_at(at);
    let patterns: Vec<Bytes> = head.split(|b| *b == b'\n').map(Bytes::from).collect();
    let paths: Vec<RelPath> = tail.split(|b| *b == b'\n').filter_map(|path| RelPath::new(path).ok()).collect();
    for pattern in &patterns {
        find(pattern, &paths);
    }
    match Filter::new(&patterns) {
        Ok(filter) => paths.iter().for_each(|path| exclude(&filter, path)),
        Err(error) => assert!(!error.to_string().chars().any(char::is_control), "{error:?}"),
    }
});

fn exclude(filter: &Filter, path: &RelPath) {
    assert!(!filter.matched(&RelPath::root(), true));
    for is_dir in [false, true] {
        let mut above = path.parent();
        let mut pruned = filter.matched(path, is_dir);
        while let Some(folder) = above {
            pruned |= filter.matched(&folder, true);
            above = folder.parent();
        }
        assert_eq!(filter.matched_or_parents(path, is_dir), pruned, "{path}");
        assert!(!filter.is_empty() || !pruned);
    }
}

fn find(pattern: &Bytes, paths: &[RelPath]) {
    let folder = literal_folder(pattern.as_slice());
    let Ok(filter) = Filter::new(std::slice::from_ref(pattern)) else { return };
    for path in paths {
        if filter.matched(path, false) || filter.matched(path, true) {
            assert!(path.is_within(&folder), "'{path}' is found by {pattern:?}, but not in '{folder}'");
        }
    }
}
