//! How much there will be to send, found out ahead of the run for somebody who watches a bar.
//!
//! The scan goes only as far ahead of the sender as the window lets it, so its total is known when nearly all is sent.
//! This look walks the source at the pace of the disk, asks the hash cache, reads nothing and keeps nothing. It is an
//! estimate: a renamed file counts although its content will not travel, and the source may change meanwhile.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use super::cache::CachePaths;
use super::scan::Peek;
use crate::tree::stat::FileKind;
use crate::tree::walk::{WalkItem, WalkOptions, walk};

/// Bytes of the files that the cache does not vouch for; none when the source cannot be walked or it was `over` before.
pub(super) fn estimate(options: &WalkOptions, cache: &CachePaths, over: &AtomicBool) -> Option<u64> {
    let mut old = cache.open().map(|(_, reader)| Peek::new(reader));
    let (mut bytes, mut linked) = (0, HashSet::new());
    let walked = walk(options, &mut |batch| {
        for item in batch {
            let WalkItem::Entry(entry) = item else { continue };
            let old = old.as_mut().and_then(|old| old.at(&entry.path));
            let stat = &entry.stat;
            let another_name = stat.nlink > 1 && !linked.insert((stat.dev, stat.ino));
            let known = old.is_some_and(|(old, _)| old.vouches_for(&entry.fingerprint()).is_some());
            if stat.kind == FileKind::File && !another_name && !known {
                bytes += stat.size;
            }
        }
        if over.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    (walked.is_ok() && !over.load(Ordering::Relaxed)).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_read_is_counted_once() {
        let (temp, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(temp.path().join("folder")).unwrap();
        std::fs::write(temp.path().join("folder/one"), [1; 1000]).unwrap();
        std::fs::write(temp.path().join("two"), [2; 234]).unwrap();
        std::fs::hard_link(temp.path().join("two"), temp.path().join("two again")).unwrap();
        let cache = CachePaths::new(state.path(), [0; 16], b"u", b"root").unwrap();
        let options = WalkOptions::new(temp.path());
        assert_eq!(estimate(&options, &cache, &AtomicBool::new(false)), Some(1234));
        assert_eq!(estimate(&options, &cache, &AtomicBool::new(true)), None);
        assert_eq!(estimate(&WalkOptions::new("/not/there"), &cache, &AtomicBool::new(false)), None);
    }
}
