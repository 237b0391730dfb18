//! The client's hash cache: one sorted file of [`CacheRecord`] per (daemon's key, user name, root).
//!
//! It is the manifest of the client's last run together with what tells, without reading a file, that it has not
//! changed since: its fingerprint. What the cache vouches for is not read. The walk of the next run is merged with it
//! and writes the next one; the changes between the two are what travels.
//!
//! Always holds: a lost or stale cache costs a re-read, never a re-send and never a wrong backup. A record vouches only
//! when the whole fingerprint is equal and it was not *racy* (changed so shortly before the scan that a second change
//! could have left the same times). Where inodes are not to be believed (FUSE, SMB, vfat) the caller passes 0 for them.

use serde::{Deserialize, Serialize};

use super::chunker::Recipe;
use super::digest::Digest;
use super::entry::{Entry, FileContent, OwnerNames};
use super::fingerprint::{Fingerprint, Timestamp};
use super::relpath::RelPath;
use super::sorted_file::SortedRecord;

/// Magic of a hash cache.
pub const CACHE_MAGIC: [u8; 8] = *b"RBCACH02";

/// What the client knows of one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRecord {
    /// As it stood in the last manifest.
    pub entry: Entry,
    /// Of the file when it was hashed.
    pub fingerprint: Fingerprint,
    /// The fingerprint does not vouch: hash it again.
    pub racy: bool,
    /// How a large file was cut; none for what is not cut.
    pub recipe: Option<Recipe>,
    /// A directory on which something was mounted: empty without it, it is *unseen*.
    pub mounted: bool,
}

impl SortedRecord for CacheRecord {
    fn path(&self) -> &RelPath {
        &self.entry.path
    }
}

impl CacheRecord {
    /// The content of a file that has fingerprint `now`, if this record vouches for it.
    pub fn vouches_for(&self, now: &Fingerprint) -> Option<&FileContent> {
        let same = !self.racy && self.fingerprint == *now;
        self.entry.file().filter(|content| same && content.size == now.size && !content.unstable)
    }
}

/// What the cache says of the whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheHeader {
    /// Digest of the manifest that the records are.
    pub manifest: Digest,
    /// The root, absolute, without its leading `/`.
    pub root: RelPath,
    /// Whether that run was `-r`.
    pub recursive: bool,
    /// Whether all of the source could be read.
    pub complete: bool,
    /// When that run's scan began, on the client's clock.
    pub scan_started: Timestamp,
    /// Names behind the numbers.
    pub owners: OwnerNames,
    /// Id of the root's file system; 0 when unknown.
    pub file_system: u64,
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::time::Instant;

    use super::super::entry::{Kind, SizeClass};
    use super::super::manifest::tests::{check_golden, entry, file};
    use super::super::sorted_file::{SortedError, SortedReader, SortedWriter};
    use super::*;

    fn record(path: &str, ino: u64, racy: bool) -> CacheRecord {
        let time = Timestamp { secs: 1_700_000_000, nanos: 5 };
        let fingerprint = Fingerprint { ino, size: 10, mtime: time, ctime: time };
        CacheRecord { entry: file(path, 10), fingerprint, racy, recipe: None, mounted: false }
    }

    fn header() -> CacheHeader {
        CacheHeader {
            manifest: Digest::of(b"m"),
            root: RelPath::new(b"home/u").unwrap(),
            recursive: true,
            complete: true,
            scan_started: Timestamp { secs: 9, nanos: 1 },
            owners: OwnerNames::default(),
            file_system: 77,
        }
    }

    #[test]
    fn only_an_equal_and_settled_fingerprint_vouches() {
        let good = record("a", 7, false);
        let print = good.fingerprint;
        assert!(good.vouches_for(&print).is_some());
        assert!(record("a", 7, true).vouches_for(&print).is_none());
        let later = Timestamp { secs: 1_700_000_000, nanos: 6 };
        for other in [
            Fingerprint { ino: 8, ..print },
            Fingerprint { size: 11, ..print },
            Fingerprint { mtime: later, ..print },
            Fingerprint { ctime: later, ..print },
        ] {
            assert!(good.vouches_for(&other).is_none(), "{other:?}");
        }
        let mut unstable = good.clone();
        if let Kind::File(content) = &mut unstable.entry.kind {
            content.unstable = true;
        }
        assert!(unstable.vouches_for(&print).is_none());
        assert!(CacheRecord { entry: entry("a", 7), ..good }.vouches_for(&print).is_none());
    }

    #[test]
    fn caches_of_version_2_are_read() {
        let recipe =
            Recipe { class: SizeClass::Kib64, chunks: vec![(Digest::of(b"c"), 40_000), (Digest::of(b"d"), 9)] };
        let records = [
            record("a", 30, true),
            CacheRecord { recipe: Some(recipe), ..record("b", 10, false) },
            CacheRecord { entry: entry("c", 7), mounted: true, ..record("c", 11, false) },
        ];
        let golden = include_str!("../../tests/goldens/v1/disk/hash_cache.hex");
        check_golden(golden, CACHE_MAGIC, &header(), &records);
    }

    /// `cargo test --release --lib measure_cache -- --ignored --nocapture`
    #[test]
    #[ignore = "a measurement"]
    fn measure_cache() {
        let records: Vec<CacheRecord> = (0..100_000u64)
            .map(|i| {
                record(&format!("drivers/net/dir{:04}/some_file_name_{:03}.c", i / 100, i % 100), i * 7 + 1, false)
            })
            .collect();
        let t = Instant::now();
        let mut writer = SortedWriter::create(Vec::new(), CACHE_MAGIC, &header()).unwrap();
        records.iter().for_each(|record| writer.push(record).unwrap());
        let (bytes, _) = writer.finish().unwrap();
        let (wrote, t) = (t.elapsed(), Instant::now());
        let (_, reader) =
            SortedReader::<_, CacheRecord>::open::<CacheHeader>(Cursor::new(&bytes), CACHE_MAGIC).unwrap();
        let count = reader.collect::<Result<Vec<_>, SortedError>>().unwrap().len();
        println!("{count}: write {wrote:?}, read {:?}, {} bytes", t.elapsed(), bytes.len());
    }
}
