//! [`PurgeRecord`]: a path that an administrator took out of history for good.
//!
//! A *sealed* file like those of [`super::snapshot`]. Manifests are never rewritten for it: as long as the record is there,
//! who reads a manifest of a number up to [`PurgeRecord::until`] passes over the path and all below it. A backup that comes
//! later may have the path again; of that the record says nothing.

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

/// Paths that a reader of one manifest file passes over, relative to its root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hidden(Vec<RelPath>);

impl Hidden {
    /// What these records hide of manifest file `number` of a root.
    pub fn of<'a>(records: impl Iterator<Item = &'a PurgeRecord>, root: &RelPath, number: u64) -> Self {
        let inner = |record: &PurgeRecord| match record.path.strip_prefix(root) {
            // A root below the path goes as a whole.
            None => root.is_within(&record.path).then(RelPath::root),
            inner => inner,
        };
        Self(records.filter(|record| number <= record.until).filter_map(inner).collect())
    }

    /// Whether the path is passed over.
    pub fn has(&self, path: &RelPath) -> bool {
        self.0.iter().any(|hidden| path.is_within(hidden))
    }

    /// Whether anything is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
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
        let records = [record("home/u/a", 5), record("home/u/b", 9)];
        let hidden = |root: &str, number| Hidden::of(records.iter(), &rel(root), number);
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
    }
}
