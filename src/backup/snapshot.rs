//! [`SnapshotRecord`]: one committed run. [`RunRecord`]: every run, failed ones too. Both immutable once written.
//!
//! Both are *sealed* files, small enough to be read whole:
//!
//! ```text
//! MAGIC 8 | version u32 | length u32 | body (bincode) | BLAKE3 32 of all before      (little endian)
//! ```
//!
//! Magic and version are read before the seal is checked, so that a record of a newer program is refused as that and
//! not as damage. A field more is a new version. The text in a record is bounded: what does not fit is dropped, and
//! counted in `errors_total`.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::bytes::{Bytes, escape};
use super::digest::{Digest, RunId};
use super::fingerprint::Timestamp;
use super::relpath::RelPath;

/// Magic of a snapshot record.
pub const SNAPSHOT_MAGIC: [u8; 8] = *b"RBSNAPSH";
/// Version of a snapshot record that is written, and the only one that is read.
pub const SNAPSHOT_VERSION: u32 = 1;
/// Magic of a run record.
pub const RUN_MAGIC: [u8; 8] = *b"RBRUNREC";
/// Version of a run record.
pub const RUN_VERSION: u32 = 1;
/// Most errors that a record keeps.
pub const ERRORS_COUNT_MAX: usize = 1000;
/// Most bytes of them together.
pub const ERRORS_BYTES_MAX: usize = 512 * 1024;
/// Longest body of a sealed file.
pub const SEALED_BODY_BYTES_MAX: usize = 1024 * 1024;

const HEAD_LEN: usize = 8 + 4 + 4;
const SEAL_LEN: usize = 32;

/// Why bytes are not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Another kind of file.
    #[error("not a record of kind {expected}")]
    WrongKind {
        /// Its magic, as text.
        expected: String,
    },
    /// Written by another version of the program: use that, or a newer one.
    #[error(
        "the record has format version {found}, this program reads version {expected}: use the program that wrote it, or a newer one"
    )]
    OtherVersion {
        /// The record's.
        found: u32,
        /// Ours.
        expected: u32,
    },
    /// Bytes are not what was written.
    #[error("the record is damaged: {what}")]
    Damaged {
        /// What is wrong.
        what: String,
    },
    /// It cannot be written.
    #[error("the record cannot be encoded: {what}")]
    Encode {
        /// Why.
        what: String,
    },
}

/// What a run was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunKind {
    /// A backup of a root.
    Backup,
    /// `forget`: the root left the copy.
    Forget,
}

/// Where a snapshot's manifest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ManifestRef {
    /// In a full manifest file of its own.
    Full,
    /// In a file of changes to the manifest of snapshot `base`.
    Changes {
        /// Number of the base.
        base: u64,
    },
    /// It is the manifest of snapshot `of`: nothing changed, no file was written.
    Same {
        /// Number of that snapshot; its own reference is not `Same`.
        of: u64,
    },
}

/// Who sent a run.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClientInfo {
    /// Its public key; all zero for an embedded store.
    pub key: [u8; 32],
    /// Address from which it came.
    pub address: String,
    /// Program and version.
    pub software: String,
}

/// One committed run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// Local to the store and copy, ascending from 1.
    pub number: u64,
    /// Backup or forget.
    pub kind: RunKind,
    /// The root, absolute, without its leading `/`.
    pub root: RelPath,
    /// `-r`.
    pub recursive: bool,
    /// `-d`.
    pub delete: bool,
    /// The run's id: with `manifest` it names the snapshot on every target.
    pub run: RunId,
    /// Run id of the snapshot of this root before it.
    pub parent: Option<RunId>,
    /// Digest of the manifest (seen part).
    pub manifest: Digest,
    /// Where the manifest is.
    pub manifest_file: ManifestRef,
    /// When it was committed, on the store's clock.
    pub received: Timestamp,
    /// All of the source could be read.
    pub complete: bool,
    /// Created, updated, moved, deleted, touched, unchanged.
    pub counts: [u64; 6],
    /// Entries in the manifest (seen part).
    pub entries: u64,
    /// Files among them.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Content bytes that travelled.
    pub content_bytes: u64,
    /// What could not be read, as sentences; at most [`ERRORS_COUNT_MAX`].
    pub errors: Vec<String>,
    /// How many there were.
    pub errors_total: u64,
    /// Id of the root's file system (`f_fsid`); 0 when unknown.
    pub file_system: u64,
    /// Who sent it.
    pub client: ClientInfo,
}

impl SnapshotRecord {
    /// As a sealed file. Errors beyond the limits are left out.
    ///
    /// # Errors
    /// [`RecordError::Encode`] when it is too large all the same.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        if errors_fit(&self.errors) {
            return encode_sealed(SNAPSHOT_MAGIC, SNAPSHOT_VERSION, self);
        }
        let bounded = Self { errors: bound_errors(&self.errors), ..self.clone() };
        encode_sealed(SNAPSHOT_MAGIC, SNAPSHOT_VERSION, &bounded)
    }

    /// Back from [`SnapshotRecord::encode`].
    ///
    /// # Errors
    /// [`RecordError`] tells another kind, another version and damage apart.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let record: Self = decode_sealed(SNAPSHOT_MAGIC, SNAPSHOT_VERSION, bytes)?;
        let earlier = match record.manifest_file {
            ManifestRef::Full => None,
            ManifestRef::Changes { base: other } | ManifestRef::Same { of: other } => Some(other),
        };
        // A chain of manifests goes down only: it cannot run in a circle.
        if record.number == 0 || earlier.is_some_and(|other| other == 0 || other >= record.number) {
            return Err(damaged("its manifest is said to follow from a later one"));
        }
        Ok(record)
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunOutcome {
    /// As this snapshot.
    Committed {
        /// Its number.
        snapshot: u64,
    },
    /// Nothing was changed.
    Failed {
        /// Exit code that the client shows for it.
        exit_code: u8,
        /// A sentence.
        message: String,
    },
}

/// One run, whatever became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The run's id.
    pub run: RunId,
    /// Backup or forget.
    pub kind: RunKind,
    /// The root, absolute, without its leading `/`.
    pub root: RelPath,
    /// When it began, on the store's clock.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// How it ended.
    pub outcome: RunOutcome,
    /// Content bytes that travelled.
    pub content_bytes: u64,
    /// What could not be read, as sentences; at most [`ERRORS_COUNT_MAX`].
    pub errors: Vec<String>,
    /// How many there were.
    pub errors_total: u64,
    /// Who sent it.
    pub client: ClientInfo,
}

impl RunRecord {
    /// As a sealed file. Errors beyond the limits are left out.
    ///
    /// # Errors
    /// [`RecordError::Encode`] when it is too large all the same.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        if errors_fit(&self.errors) {
            return encode_sealed(RUN_MAGIC, RUN_VERSION, self);
        }
        let bounded = Self { errors: bound_errors(&self.errors), ..self.clone() };
        encode_sealed(RUN_MAGIC, RUN_VERSION, &bounded)
    }

    /// Back from [`RunRecord::encode`].
    ///
    /// # Errors
    /// As [`SnapshotRecord::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        decode_sealed(RUN_MAGIC, RUN_VERSION, bytes)
    }
}

fn errors_fit(errors: &[String]) -> bool {
    errors.len() <= ERRORS_COUNT_MAX && errors.iter().map(String::len).sum::<usize>() <= ERRORS_BYTES_MAX
}

/// The first of `errors`, as many as a record keeps.
fn bound_errors(errors: &[String]) -> Vec<String> {
    let mut bytes = 0;
    let fits = |error: &&String| {
        bytes += error.len();
        bytes <= ERRORS_BYTES_MAX
    };
    errors.iter().take(ERRORS_COUNT_MAX).take_while(fits).cloned().collect()
}

/// Errors as they came over the wire: as text that is safe to show.
pub fn errors_from_wire(errors: &[Bytes]) -> Vec<String> {
    errors.iter().take(ERRORS_COUNT_MAX).map(|error| escape(error.as_slice())).collect()
}

fn damaged(what: impl Into<String>) -> RecordError {
    RecordError::Damaged { what: what.into() }
}

/// `value` as a sealed file.
///
/// # Errors
/// [`RecordError::Encode`] when it is larger than [`SEALED_BODY_BYTES_MAX`].
pub fn encode_sealed<T: Serialize>(magic: [u8; 8], version: u32, value: &T) -> Result<Vec<u8>, RecordError> {
    let encode = |what: String| RecordError::Encode { what };
    let body = bincode::serde::encode_to_vec(value, bincode::config::standard()).map_err(|e| encode(e.to_string()))?;
    let len = u32::try_from(body.len()).ok().filter(|_| body.len() <= SEALED_BODY_BYTES_MAX);
    let len = len.ok_or_else(|| encode(format!("{} bytes, {SEALED_BODY_BYTES_MAX} are allowed", body.len())))?;
    let mut out = Vec::with_capacity(HEAD_LEN + body.len() + SEAL_LEN);
    out.extend_from_slice(&magic);
    out.extend_from_slice(&version.to_le_bytes());
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&body);
    let seal = Digest::of(&out);
    out.extend_from_slice(&seal.0);
    Ok(out)
}

/// Back from [`encode_sealed`].
///
/// # Errors
/// [`RecordError`] tells another kind, another version and damage apart.
pub fn decode_sealed<T: DeserializeOwned>(magic: [u8; 8], version: u32, bytes: &[u8]) -> Result<T, RecordError> {
    let short = || damaged("it is cut short");
    let wrong_kind = || RecordError::WrongKind { expected: escape(&magic) };
    let (found, rest) = bytes.split_first_chunk::<8>().ok_or_else(wrong_kind)?;
    if *found != magic {
        return Err(wrong_kind());
    }
    let (found, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let found = u32::from_le_bytes(*found);
    if found != version {
        return Err(RecordError::OtherVersion { found, expected: version });
    }
    let (len, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let (body, seal) = rest.split_last_chunk::<SEAL_LEN>().ok_or_else(short)?;
    if u32::from_le_bytes(*len) as usize != body.len() || body.len() > SEALED_BODY_BYTES_MAX {
        return Err(damaged("its length is not what it says"));
    }
    let sealed = bytes.get(..HEAD_LEN + body.len()).ok_or_else(short)?;
    if Digest::of(sealed).0 != *seal {
        return Err(damaged("it does not match its seal"));
    }
    let config = bincode::config::standard().with_limit::<SEALED_BODY_BYTES_MAX>();
    let (value, used) = bincode::serde::decode_from_slice(body, config).map_err(|why| damaged(why.to_string()))?;
    if used == body.len() { Ok(value) } else { Err(damaged("trailing bytes")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client() -> ClientInfo {
        ClientInfo { key: [7; 32], address: "192.168.1.20".into(), software: "rbbackup 0.1.0".into() }
    }

    fn snapshot() -> SnapshotRecord {
        SnapshotRecord {
            number: 12,
            kind: RunKind::Backup,
            root: RelPath::new(b"home/u/docs").unwrap(),
            recursive: true,
            delete: false,
            run: RunId(*b"0123456789abcdef"),
            parent: Some(RunId([3; 16])),
            manifest: Digest::of(b"manifest"),
            manifest_file: ManifestRef::Changes { base: 9 },
            received: Timestamp { secs: 1_763_700_000, nanos: 42 },
            complete: false,
            counts: [1, 2, 3, 4, 5, 600],
            entries: 700,
            files: 650,
            bytes: 123_456_789,
            content_bytes: 4242,
            errors: vec!["home/u/docs/secret: permission denied".into()],
            errors_total: 1,
            file_system: 0xfeed,
            client: client(),
        }
    }

    fn run() -> RunRecord {
        RunRecord {
            run: RunId([9; 16]),
            kind: RunKind::Forget,
            root: RelPath::root(),
            started: Timestamp { secs: 1, nanos: 0 },
            ended: Timestamp { secs: 2, nanos: 0 },
            outcome: RunOutcome::Failed { exit_code: 14, message: "the delete guard stopped it".into() },
            content_bytes: 0,
            errors: vec![],
            errors_total: 0,
            client: client(),
        }
    }

    fn hex(bytes: &[u8]) -> String {
        let digits: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
        digits.chunks(32).map(|line| line.concat() + "\n").collect()
    }

    #[test]
    fn the_formats_are_pinned() {
        let (snapshot_bytes, run_bytes) = (snapshot().encode().unwrap(), run().encode().unwrap());
        assert_eq!(hex(&snapshot_bytes), include_str!("../../tests/goldens/v1/disk/snapshot.hex"));
        assert_eq!(hex(&run_bytes), include_str!("../../tests/goldens/v1/disk/run.hex"));
        assert_eq!(SnapshotRecord::decode(&snapshot_bytes), Ok(snapshot()));
        assert_eq!(RunRecord::decode(&run_bytes), Ok(run()));
    }

    #[test]
    fn a_newer_record_is_refused_as_that() {
        let bytes = encode_sealed(SNAPSHOT_MAGIC, 2, &"something else").unwrap();
        let error = SnapshotRecord::decode(&bytes).unwrap_err();
        assert_eq!(error, RecordError::OtherVersion { found: 2, expected: 1 });
        assert!(error.to_string().contains("version 2"), "{error}");
        assert!(matches!(RunRecord::decode(&bytes), Err(RecordError::WrongKind { .. })));
    }

    #[test]
    fn damage_anywhere_is_found() {
        let bytes = snapshot().encode().unwrap();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(SnapshotRecord::decode(&bad).is_err(), "byte {at}");
            assert!(SnapshotRecord::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(SnapshotRecord::decode(&longer).is_err());
        let trailing = encode_sealed(RUN_MAGIC, RUN_VERSION, &(run(), 1u8)).unwrap();
        assert!(matches!(RunRecord::decode(&trailing), Err(RecordError::Damaged { .. })));
    }

    #[test]
    fn a_chain_cannot_run_in_a_circle() {
        let refs = [ManifestRef::Changes { base: 12 }, ManifestRef::Same { of: 13 }, ManifestRef::Changes { base: 0 }];
        for manifest_file in refs {
            let bytes = SnapshotRecord { manifest_file, ..snapshot() }.encode().unwrap();
            assert!(matches!(SnapshotRecord::decode(&bytes), Err(RecordError::Damaged { .. })), "{manifest_file:?}");
        }
    }

    #[test]
    fn errors_are_bounded_and_still_counted() {
        let many: Vec<String> = (0..5000).map(|i| format!("{i}: {}", "x".repeat(1000))).collect();
        let record = SnapshotRecord { errors: many.clone(), errors_total: 5000, ..snapshot() };
        let back = SnapshotRecord::decode(&record.encode().unwrap()).unwrap();
        assert!(back.errors.len() > 400 && back.errors.len() < ERRORS_COUNT_MAX);
        assert_eq!(back.errors, many[..back.errors.len()]);
        assert_eq!(back.errors_total, 5000);
        let short = RunRecord { errors: vec!["e".into(); 5000], ..run() };
        assert_eq!(RunRecord::decode(&short.encode().unwrap()).unwrap().errors.len(), ERRORS_COUNT_MAX);
        assert_eq!(errors_from_wire(&[Bytes::from(&b"a\x1b[2J"[..])]), ["a\\x1b[2J"]);
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let (version, len) = (SNAPSHOT_VERSION.to_le_bytes(), (body.len() as u32).to_le_bytes());
            let mut bytes = [&SNAPSHOT_MAGIC[..], &version, &len, &body].concat();
            let seal = Digest::of(&bytes);
            bytes.extend_from_slice(&seal.0);
            if let Ok(record) = SnapshotRecord::decode(&bytes) {
                prop_assert!(record.number > 0);
            }
            prop_assert!(SnapshotRecord::decode(&body).is_err());
        }
    }
}
