//! [`PurgeRecord`]: a path that an administrator took out of history for good.
//!
//! A *sealed* file like those of [`super::snapshot`]. Manifests are never rewritten for it: as long as the record is there,
//! who reads a manifest of a number up to [`PurgeRecord::until`] passes over the path and all below it. A backup that comes
//! later may have the path again; of that the record says nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::digest::RunId;
use super::fingerprint::Timestamp;
use super::relpath::RelPath;
use super::snapshot::{ClientInfo, RecordError, decode_sealed, encode_sealed};

/// Magic of a purge record.
pub const PURGE_MAGIC: [u8; 8] = *b"RBPURGED";
/// Version of a purge record that is written, and the only one that is read.
pub const PURGE_VERSION: u32 = 1;

/// One path that was purged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgeRecord {
    /// The request's id.
    pub run: RunId,
    /// As the copy has it: absolute, without its leading `/`.
    pub path: RelPath,
    /// The highest number that it is about.
    pub until: u64,
    /// When, on the store's clock.
    pub time: Timestamp,
    /// Who asked for it.
    pub client: ClientInfo,
    /// Paths that went.
    pub paths: u64,
    /// Snapshots that had any of them.
    pub snapshots: u64,
    /// Contents that nothing else named.
    pub contents: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl PurgeRecord {
    /// As a sealed file.
    ///
    /// # Errors
    /// [`RecordError::Encode`].
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        encode_sealed(PURGE_MAGIC, PURGE_VERSION, self)
    }

    /// Back from [`PurgeRecord::encode`].
    ///
    /// # Errors
    /// [`RecordError`] tells another kind, another version and damage apart.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        decode_sealed(PURGE_MAGIC, PURGE_VERSION, bytes)
    }
}

/// All that was purged from a copy, found by path: thousands of records cost a reader hardly more than one.
#[derive(Clone, Debug, Default)]
pub struct Purges {
    /// The highest number that it holds up to, by path ([`RelPath::to_key`]: what lies below a path comes right after it).
    until: BTreeMap<Vec<u8>, u64>,
    highest: u64,
}

impl Purges {
    /// One record more.
    pub fn add(&mut self, record: &PurgeRecord) {
        let until = self.until.entry(record.path.to_key()).or_default();
        *until = record.until.max(*until);
        self.highest = self.highest.max(record.until);
    }

    fn holds(&self, key: &[u8], number: u64) -> bool {
        self.until.get(key).is_some_and(|until| number <= *until)
    }
}

/// Paths that a reader of one manifest file passes over, relative to its root.
#[derive(Clone, Debug, Default)]
pub enum Hidden {
    /// None.
    #[default]
    Nothing,
    /// The root lies at or below a path that was purged.
    All,
    /// Some below the root.
    Some {
        /// Which.
        purges: Arc<Purges>,
        /// The root as a key, ready for what is below it to follow.
        root: Vec<u8>,
        /// Of the file.
        number: u64,
    },
}

impl Hidden {
    /// What was purged of manifest file `number` of a root.
    pub fn of(purges: &Arc<Purges>, root: &RelPath, number: u64) -> Self {
        if number > purges.highest {
            return Self::Nothing;
        }
        let mut root = root.to_key();
        if prefixes(&root, 0).chain([&[][..]]).any(|key| purges.holds(key, number)) {
            return Self::All;
        }
        if !root.is_empty() {
            root.push(0);
        }
        let below = purges.until.range(root.clone()..).take_while(|(key, _)| key.starts_with(&root));
        if !below.into_iter().any(|(_, until)| number <= *until) {
            return Self::Nothing;
        }
        Self::Some { purges: Arc::clone(purges), root, number }
    }

    /// Whether the path is passed over.
    pub fn has(&self, path: &RelPath) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::Some { purges, root, number } => {
                let key = [root.as_slice(), &path.to_key()].concat();
                prefixes(&key, root.len()).any(|key| purges.holds(key, *number))
            }
        }
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Nothing)
    }
}

/// The path that a key stands for, and those above it that are not shorter than `from`.
fn prefixes(key: &[u8], from: usize) -> impl Iterator<Item = &[u8]> {
    let ends = key.iter().enumerate().skip(from).filter(|(_, byte)| **byte == 0).map(|(at, _)| at);
    ends.chain([key.len()]).filter_map(|end| key.get(..end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rel(path: &str) -> RelPath {
        RelPath::new(path.as_bytes()).unwrap()
    }

    fn record(path: &str, until: u64) -> PurgeRecord {
        PurgeRecord {
            run: RunId(*b"0123456789abcdef"),
            path: rel(path),
            until,
            time: Timestamp { secs: 1_763_700_000, nanos: 42 },
            client: ClientInfo { key: [7; 32], address: "192.168.1.20".into(), software: "rbbackup 0.1.0".into() },
            paths: 3,
            snapshots: 2,
            contents: 1,
            bytes: 123_456_789,
        }
    }

    #[test]
    fn the_format_is_pinned() {
        let bytes = record("home/u/secret", 12).encode().unwrap();
        let digits: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let hex: String = digits.chunks(32).map(|line| line.concat() + "\n").collect();
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/v1/disk/purge.hex");
        if std::env::var_os("RBBACKUP_BLESS").is_some() && !std::path::Path::new(golden).exists() {
            std::fs::write(golden, &hex).unwrap();
        }
        assert_eq!(hex, std::fs::read_to_string(golden).unwrap());
        assert_eq!(PurgeRecord::decode(&bytes), Ok(record("home/u/secret", 12)));
    }

    #[test]
    fn damage_and_other_versions_are_found() {
        let bytes = record("a", 1).encode().unwrap();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(PurgeRecord::decode(&bad).is_err() && PurgeRecord::decode(&bytes[..at]).is_err(), "byte {at}");
        }
        let newer = encode_sealed(PURGE_MAGIC, 2, &"something else").unwrap();
        assert!(matches!(PurgeRecord::decode(&newer), Err(RecordError::OtherVersion { found: 2, expected: 1 })));
    }

    #[test]
    fn what_is_hidden_depends_on_root_and_number() {
        let mut purges = Purges::default();
        // Once more, and for less: the highest holds.
        for record in [record("home/u/a", 5), record("home/u/b", 9), record("home/u/b", 3)] {
            purges.add(&record);
        }
        let purges = Arc::new(purges);
        let hidden = |root: &str, number| Hidden::of(&purges, &rel(root), number);
        let in_home = hidden("home", 5);
        for (path, is) in [("u/a", true), ("u/a/x", true), ("u/b", true), ("u", false), ("u/ab", false)] {
            assert_eq!(in_home.has(&rel(path)), is, "{path}");
        }
        assert!(!hidden("home", 6).has(&rel("u/a")) && hidden("home", 6).has(&rel("u/b")));
        assert!(hidden("home", 10).is_empty() && hidden("etc", 1).is_empty());
        // A root that lies below the path, or is it.
        for root in ["home/u/a", "home/u/a/sub"] {
            assert!(hidden(root, 5).has(&RelPath::root()) && hidden(root, 5).has(&rel("x")), "{root}");
        }
        assert!(hidden("home/u", 4).has(&rel("a/x")) && !hidden("home/u", 4).has(&RelPath::root()));
        assert!(hidden("", 4).has(&rel("home/u/a")) && !hidden("", 4).has(&rel("home")));
    }

    /// As simply as it can be said.
    fn is_hidden(records: &[PurgeRecord], path: &RelPath, number: u64) -> bool {
        records.iter().any(|record| number <= record.until && path.is_within(&record.path))
    }

    #[test]
    fn it_is_what_asking_each_record_says() {
        let mut random = 5_u64;
        let mut next = move |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(random >> 33).unwrap() % below
        };
        for _ in 0..200 {
            let mut path = |depth_max: usize| {
                let parts: Vec<&str> = (0..next(depth_max + 1)).map(|_| ["a", "b", "a!", "ab"][next(4)]).collect();
                rel(&parts.join("/"))
            };
            let paths: Vec<RelPath> = (0..12).map(|_| path(4)).collect();
            let root = path(2);
            let records: Vec<PurgeRecord> = paths[..3]
                .iter()
                .zip(1..)
                .map(|(path, until)| PurgeRecord { path: path.clone(), ..record("", until) })
                .collect();
            let mut purges = Purges::default();
            records.iter().for_each(|record| purges.add(record));
            let purges = Arc::new(purges);
            for number in 1..5 {
                let hidden = Hidden::of(&purges, &root, number);
                for path in &paths {
                    let whole = root.join_path(path).unwrap();
                    assert_eq!(hidden.has(path), is_hidden(&records, &whole, number), "{whole} {number} {records:?}");
                }
            }
        }
    }
}
