//! The messages of the protocol, as they travel: primitives and ids only.
//!
//! Nothing here is trusted or checked beyond its encoding; `engine::wire` turns it into domain types and does all
//! checking. A frame is `u32 length (little endian, of what follows) | u8 kind | body`. The body of a control message is
//! bincode 2 (`config::standard()`, see [`super::frame`]); a bulk message is
//! `u32 head length | bincode head | raw payload`, so that file content is never walked byte by byte.
//!
//! Who speaks when:
//!
//! ```text
//! client                                   daemon
//! Hello                          ->
//!                                <-        Welcome | VersionMismatch | Refused
//! Begin                          ->
//!                                <-        Waiting* then Granted | Committed (run id known) | Refused
//! Offer, FileOpen, ChunkOffer    ->
//!                                <-        Need, FileReady
//! Files, Chunks, FileDone        ->        (at any time within the window)
//! Manifest, Changes*, ManifestEnd ->
//!                                <-        Missing* (client sends that content, then Manifest again) | Busy*, PlanLines*, Committed | Refused
//! Read                           ->
//!                                <-        ReadGranted, Tree*, TreeEnd | Refused
//! Want (one per Tree)            ->
//!                                <-        Content*
//! Forget | Status                ->
//!                                <-        Busy*, Committed | StatusReply | Refused
//! ```

use serde::{Deserialize, Serialize};

use crate::backup::bytes::Bytes;
use crate::backup::digest::{Digest, RunId};

/// Version of the protocol. Until 1.0 only this one is spoken.
pub const PROTOCOL_VERSION: u32 = 1;
/// First field of [`Hello`] and [`Welcome`].
pub const HELLO_MAGIC: u32 = 0x6b62_6272;

/// Client's first message. Pinned byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`HELLO_MAGIC`].
    pub magic: u32,
    /// [`PROTOCOL_VERSION`].
    pub version: u32,
    /// Optional abilities; none so far.
    pub features: u64,
    /// Program and version, for logs.
    pub software: Bytes,
    /// User name under which the node backs up.
    pub user: Bytes,
}

/// Daemon's answer: you are in. Pinned byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// [`HELLO_MAGIC`].
    pub magic: u32,
    /// [`PROTOCOL_VERSION`].
    pub version: u32,
    /// Optional abilities that both have.
    pub features: u64,
    /// Program and version.
    pub software: Bytes,
    /// The store's id.
    pub store: [u8; 16],
    /// Node directory that this identity owns.
    pub node: Bytes,
    /// User directory that this identity owns.
    pub user: Bytes,
}

/// Daemon's answer to another version. Pinned byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionMismatch {
    /// Lowest version it speaks.
    pub lowest: u32,
    /// Highest version it speaks.
    pub highest: u32,
}

/// Why a request is refused; each has its exit code (DESIGN 13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusalKind {
    /// Anything else: exit 1.
    Failed,
    /// Identity or rights: exit 12.
    NotAllowed,
    /// Another run holds an overlapping lease: exit 11.
    Locked,
    /// No space or over quota: exit 13.
    NoSpace,
    /// Delete guard: exit 14.
    Guard,
    /// The peer broke the protocol: exit 1.
    Protocol,
    /// Too many sessions, or shutting down: exit 10, try again.
    Unavailable,
}

/// The request is refused; the connection closes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// What kind.
    pub kind: RefusalKind,
    /// A sentence for the user.
    pub message: Bytes,
}

/// Client wants to back up a root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// The run's id.
    pub run: RunId,
    /// Absolute path of the root, lexically normalised, without its leading `/`.
    pub root: Bytes,
    /// `-r`.
    pub recursive: bool,
    /// `-d`.
    pub delete: bool,
    /// `--delete-excluded`.
    pub delete_excluded: bool,
    /// `--force-delete`.
    pub force_delete: bool,
    /// `-n`.
    pub dry_run: bool,
    /// gitignore patterns in order; what they match is unseen.
    pub filters: Vec<Bytes>,
    /// Seconds to queue behind a lock; 0 = do not, `u32::MAX` = for ever.
    pub wait_secs: u32,
    /// Id of the root's file system (`f_fsid`), 0 when unknown.
    pub file_system: u64,
    /// Manifest digest of the client's hash cache for this root.
    pub base: Option<Digest>,
}

/// Queued behind another run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Who holds the lease, in words.
    pub holder: Bytes,
}

/// The lease is yours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// The daemon has the manifest that `Begin.base` names: send changes to it.
    pub base_known: bool,
    /// Whether content must be offered first; not so when the copy and its staging are empty.
    pub ask: bool,
}

/// "Have you these?": files up to one chunk, in order of batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Counts up from 0 within a run, shared with [`ChunkOffer`].
    pub batch: u32,
    /// Digests of whole files.
    pub digests: Vec<Digest>,
}

/// Answer to [`Offer`] or [`ChunkOffer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// The offer's batch.
    pub batch: u32,
    /// Bit i (of byte i/8, lowest first) set: item i must be sent.
    pub bits: Bytes,
}

/// Whole small files; payload: their contents one after the other, each `size` bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// Entries (of kind file) in the order of the payload.
    pub entries: Vec<WireEntry>,
}

/// A large file begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileOpen {
    /// Handle, counts up from 0 within a run. One file is open at a time.
    pub file: u32,
    /// Path below the root.
    pub path: Bytes,
    /// Size when it was opened.
    pub size: u64,
    /// Size class: 1 = 64 KiB, 2 = 256 KiB, 3 = 1 MiB.
    pub class: u8,
    /// Digest of the version whose recipe [`WireChunk::Range`]s refer to; wants a [`FileReady`].
    pub base: Option<Digest>,
}

/// Answer to a [`FileOpen`] that names a base.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReady {
    /// The handle.
    pub file: u32,
    /// Whether ranges of the base's recipe may be used.
    pub base_known: bool,
}

/// Next chunks of the open file, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkOffer {
    /// See [`Offer::batch`].
    pub batch: u32,
    /// The handle.
    pub file: u32,
    /// What comes next. `Need` has one bit per chunk, ranges expanded.
    pub items: Vec<WireChunk>,
}

/// One item of a [`ChunkOffer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WireChunk {
    /// A chunk by its digest.
    New {
        /// BLAKE3 of the chunk.
        digest: Digest,
        /// Bytes.
        len: u32,
    },
    /// Chunks `first .. first + count` of the base's recipe.
    Range {
        /// Index in the recipe.
        first: u32,
        /// How many.
        count: u32,
    },
}

/// Needed chunks of the open file, in order. Payload: their bytes. Without asking ([`Granted::ask`] false) all chunks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunks {
    /// The handle.
    pub file: u32,
    /// Length of each.
    pub lens: Vec<u32>,
}

/// The open file is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDone {
    /// The handle.
    pub file: u32,
    /// Its entry; none: reading failed, forget it.
    pub entry: Option<WireEntry>,
}

/// Head of the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// What the changes apply to; none: to nothing.
    pub base: Option<Digest>,
    /// Digest of the manifest that results (seen part).
    pub digest: Digest,
    /// Entries in it.
    pub entries: u64,
    /// Some sources could not be read.
    pub incomplete: bool,
    /// Names behind numbers.
    pub users: Vec<(u32, Bytes)>,
    /// Names behind numbers.
    pub groups: Vec<(u32, Bytes)>,
    /// Errors to be kept in the run's record, as sentences.
    pub errors: Vec<Bytes>,
}

/// Changes to the base, in canonical order over all messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Changes.
    pub changes: Vec<WireChange>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WireChange {
    /// New, or replaces the entry at its path.
    Put(WireEntry),
    /// The base's entry is gone.
    Remove(Bytes),
    /// This path and all below it could not be seen: keep what the copy has.
    Unseen(Bytes),
}

/// The manifest is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEnd {
    /// Client's counts of bytes read, for the run's record.
    pub bytes_read: u64,
}

/// Content that the manifest names and the daemon does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Paths, canonical order.
    pub paths: Vec<Bytes>,
    /// Last message of this round.
    pub last: bool,
}

/// Still at work; resets the peer's patience.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Busy {
    /// What at: 0 queue, 1 scanning the copy, 2 preparing, 3 flushing, 4 placing.
    pub phase: u8,
}

/// Lines of a dry run's plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanLines {
    /// (action, path, other path or empty). Action: 0 create, 1 update, 2 move (path -> other), 3 delete, 4 touch.
    pub lines: Vec<(u8, Bytes, Bytes)>,
}

/// The receipt of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The run.
    pub run: RunId,
    /// Snapshot's number in this store; 0 for a dry run.
    pub snapshot: u64,
    /// Manifest digest (seen part).
    pub manifest: Digest,
    /// Counts, in this order: created, updated, moved, deleted, touched, unchanged.
    pub counts: [u64; 6],
    /// Files in the manifest.
    pub files: u64,
    /// Bytes in the manifest's files.
    pub bytes: u64,
    /// For a dry run: content bytes that would travel.
    pub bytes_missing: u64,
    /// The snapshot is marked incomplete.
    pub incomplete: bool,
    /// What the store could not apply, in words.
    pub notes: Vec<Bytes>,
}

/// Read from a committed snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// Absolute path without leading `/`; empty with `list`: the roots.
    pub path: Bytes,
    /// Only the path itself and, for a directory, what is directly in it.
    pub shallow: bool,
    /// The client will answer each [`Tree`] with [`Want`]; else only entries are sent.
    pub content: bool,
    /// The target is empty: all content is wanted, no [`Want`] is sent.
    pub all: bool,
}

/// The read begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadGranted {
    /// Snapshot's number.
    pub snapshot: u64,
    /// Its root, without leading `/`.
    pub root: Bytes,
    /// When it was received, seconds since 1970.
    pub time_secs: i64,
    /// Whether it is complete.
    pub complete: bool,
    /// Entries to come.
    pub entries: u64,
    /// Bytes of the files to come.
    pub bytes: u64,
    /// Names behind numbers.
    pub users: Vec<(u32, Bytes)>,
    /// Names behind numbers.
    pub groups: Vec<(u32, Bytes)>,
}

/// Entries, canonical order; paths are relative to the path that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// Counts up from 0.
    pub batch: u32,
    /// Entries.
    pub entries: Vec<WireEntry>,
}

/// No more entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeEnd {
    /// How many batches there were.
    pub batches: u32,
}

/// Which of a batch's entries' content is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// The batch.
    pub batch: u32,
    /// A bit per entry, as in [`Need`].
    pub bits: Bytes,
}

/// Pieces of wanted files; payload: their bytes, one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The pieces. Each file's come in order; small files are one piece.
    pub pieces: Vec<Piece>,
}

/// A piece of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Batch of the entry.
    pub batch: u32,
    /// Index in the batch.
    pub index: u32,
    /// Where in the file.
    pub offset: u64,
    /// Bytes of payload.
    pub len: u32,
    /// 0 more follow, 1 last piece, 2 the store cannot deliver this file (payload: why, as text).
    pub end: u8,
}

/// Take a root out of the copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forget {
    /// The run's id.
    pub run: RunId,
    /// The root, without leading `/`.
    pub root: Bytes,
}

/// How is the daemon?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {}

/// Answer to [`Status`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReply {
    /// Seconds since the daemon started.
    pub uptime_secs: u64,
    /// Sessions now.
    pub sessions: u32,
    /// Roots of the asking identity: (root, last snapshot, its time in seconds, complete, files, bytes).
    pub roots: Vec<(Bytes, u64, i64, bool, u64, u64)>,
    /// Running backups of the asking identity, in words.
    pub running: Vec<Bytes>,
    /// Retired files of the asking identity and their bytes.
    pub retired: (u64, u64),
    /// Free and total bytes of the store's file system.
    pub space: (u64, u64),
}

/// An entry as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireEntry {
    /// Path below the root.
    pub path: Bytes,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds.
    pub mtime_secs: i64,
    /// Nanoseconds.
    pub mtime_nanos: u32,
    /// Extended attributes, sorted.
    pub xattrs: Vec<(Bytes, Bytes)>,
    /// Kind.
    pub kind: WireKind,
}

/// An entry's kind as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WireKind {
    /// Directory.
    Dir,
    /// Regular file.
    File {
        /// Bytes.
        size: u64,
        /// BLAKE3 of the content.
        digest: Digest,
        /// 0 whole, 1 64 KiB, 2 256 KiB, 3 1 MiB.
        class: u8,
        /// 1 leader of a hard-link group, 2 sparse, 4 unstable.
        flags: u8,
        /// Path of the leader, for its followers; empty otherwise (the root as leader cannot have followers).
        leader: Bytes,
    },
    /// Symbolic link.
    Symlink {
        /// Target.
        target: Bytes,
    },
    /// Named pipe.
    Fifo,
    /// Device.
    Device {
        /// Block, not character.
        block: bool,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

macro_rules! messages {
    (control { $($ck:literal $control:ident,)* } bulk { $($bk:literal $bulk:ident,)* }) => {
        /// Any message.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Message {
            $(#[doc = concat!("See [`", stringify!($control), "`].")] $control($control),)*
            $(#[doc = concat!("See [`", stringify!($bulk), "`]; with its payload.")] $bulk($bulk, Vec<u8>),)*
        }

        $(impl From<$control> for Message {
            fn from(message: $control) -> Self {
                Self::$control(message)
            }
        })*

        impl Message {
            /// The kind byte.
            pub fn kind(&self) -> u8 {
                match self {
                    $(Self::$control(_) => $ck,)*
                    $(Self::$bulk(..) => $bk,)*
                }
            }

            /// The name, for logs and errors.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$control(_) => stringify!($control),)*
                    $(Self::$bulk(..) => stringify!($bulk),)*
                }
            }

            /// Whether frames of this kind carry a payload; none for an unknown kind.
            pub fn is_bulk(kind: u8) -> Option<bool> {
                match kind {
                    $($ck => Some(false),)*
                    $($bk => Some(true),)*
                    _ => None,
                }
            }

            /// The bincode part (a control message's body, a bulk message's head) and the payload.
            ///
            /// # Errors
            /// bincode's, which cannot happen for these types short of memory.
            pub fn encode(&self) -> Result<(Vec<u8>, Option<&[u8]>), super::frame::CodecError> {
                match self {
                    $(Self::$control(m) => Ok((super::frame::encode_body(m)?, None)),)*
                    $(Self::$bulk(m, payload) => Ok((super::frame::encode_body(m)?, Some(payload))),)*
                }
            }

            /// The message of `kind` whose bincode part is `head`; trailing bytes are an error.
            ///
            /// # Errors
            /// An unknown kind, or bytes that are not this message.
            pub fn decode(kind: u8, head: &[u8], payload: Vec<u8>) -> Result<Self, super::frame::CodecError> {
                match kind {
                    $($ck => Ok(Self::$control(super::frame::decode_body(head)?)),)*
                    $($bk => Ok(Self::$bulk(super::frame::decode_body(head)?, payload)),)*
                    _ => Err(super::frame::CodecError::UnknownKind { kind }),
                }
            }
        }
    };
}

messages! {
    control {
        1 Hello, 2 Welcome, 3 VersionMismatch, 4 Refused, 5 Busy,
        10 Begin, 11 Waiting, 12 Granted, 13 Offer, 14 Need, 15 FileOpen, 16 FileReady, 17 ChunkOffer, 18 FileDone,
        19 Manifest, 20 Changes, 21 ManifestEnd, 22 Missing, 23 PlanLines, 24 Committed,
        30 Read, 31 ReadGranted, 32 Tree, 33 TreeEnd, 34 Want,
        40 Forget, 41 Status, 42 StatusReply,
    }
    bulk { 64 Files, 65 Chunks, 66 Content, }
}
// Kind 0 is the keepalive: a frame of no body that never leaves `net`.
