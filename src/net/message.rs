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
//! Hello, perhaps with Redeem     ->
//!                                <-        Welcome | VersionMismatch | Refused
//! Succeed (instead of Hello)     ->
//!                                <-        Succession; the connection ends
//! Begin                          ->
//!                                <-        Waiting*, Busy* then Granted | Committed (run id known) | Refused
//! Offer, FileOpen, ChunkOffer    ->        (Bases before an offer)
//!                                <-        Need, FileReady (Sums before a Need)
//! Files, Chunks, FileDone        ->        (at any time within the window; FileDeltas, ChunkDeltas for what Sums told of)
//! Manifest, Changes*, ManifestEnd ->
//!                                <-        Missing* (client sends that content, then Manifest again) | Busy*, PlanLines*, Committed | Refused
//! Read                           ->
//!                                <-        ReadGranted, Tree*, TreeEnd | Refused
//! Want (one per Tree)            ->
//!                                <-        Content*
//! Snapshots | History | Find | Diff | Runs ->
//!                                <-        SnapshotList+ | HistoryList+ | FindList+ | DiffList+ | RunList+ | Refused
//! Forget | Status                ->
//!                                <-        Busy*, Committed | StatusReply | Refused
//! Of                             ->        (nothing, or Refused)
//! Verify                         ->
//!                                <-        Busy*, Damage*, Verified | Refused
//! Stats                          ->
//!                                <-        CopyStats*, StatsEnd | Refused
//! Purge                          ->
//!                                <-        Busy*, PurgeList+, Busy*, Purged | Refused
//! Purges                         ->
//!                                <-        PurgesList+ | Refused
//! Prune | Release                ->
//!                                <-        Pruned | Released | Refused
//! Rekey                          ->
//!                                <-        Rekeyed | Refused
//! Invite | Users                 ->        (through control.sock only, as all that follow)
//!                                <-        Invited | UserList+ | Refused
//! Revoke | Uninvite | Change     ->
//!                                <-        Settled | Refused
//! RekeyDaemon                    ->
//!                                <-        DaemonRekeyed | Refused
//! ```
//!
//! A destination speaks first and is a client, until it has joined a run; then the daemon is the client:
//!
//! ```text
//! destination                              daemon
//! Attend (again when it changes) ->                          control connection, as long as the destination lives
//!                                <-        Summon*           open a data connection for this call
//! Join                           ->                          data connection; from here the roles are turned
//!                                <-        For, Begin, ...   as above
//! Prepared                       ->                          all is durable and agreed on; nothing is changed yet
//!                                <-        Commit | Offer, FileOpen, Manifest ... (another round)
//! Busy*, Committed, Busy*        ->
//!                                <-        Challenge
//! Proof                          ->
//! ```

mod admin;
mod copies;
mod delta;
mod entry;
mod past;
mod read;
mod run;
mod trust;

use serde::{Deserialize, Serialize};

pub use admin::{
    CopyStats, Damage, Of, Prune, Pruned, Purge, PurgeList, Purged, Purges, PurgesList, Release, Released, RootStats,
    Stats, StatsEnd, Verified, Verify, WirePurge, WirePurged,
};
pub use copies::{
    Attend, Challenge, Commit, For, Gathering, Head, Join, Prepared, Progress, Proof, Range, Summon, WireCopy,
    WireDestination,
};
pub use delta::{Bases, ChunkDeltas, FileDeltas, Sums, WireBasis, WireDelta, WireSums};
pub use entry::{WireEntry, WireKind};
pub use past::{
    Diff, DiffList, Find, FindList, History, HistoryList, RunList, Runs, SnapshotList, Snapshots, WireDifference,
    WireFound, WireRun, WireSnapshot, WireVersion,
};
pub use read::{At, Content, Forget, Piece, Read, ReadGranted, Status, StatusReply, Tree, TreeEnd, Want};
pub use run::{
    Begin, Changes, ChunkOffer, Chunks, Committed, FileDone, FileOpen, FileReady, Files, Granted, Manifest,
    ManifestEnd, Missing, Need, Offer, PlanLines, Waiting, WireChange, WireChunk,
};

pub use trust::{
    Change, DaemonRekeyed, FEATURE_PLAIN, FEATURE_REDEEM, Invite, Invited, Redeem, Rekey, RekeyDaemon, Rekeyed, Revoke,
    Settled, Succeed, Succession, Uninvite, UserList, Users, WireInvitation, WireStep, WireUser,
};

use crate::backup::bytes::Bytes;

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
    /// Bits: 1, an invitation comes with it ([`Redeem`]); 2, nothing that comes back is to be packed.
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
    /// Device and inode of the store's folder: a client on the same machine leaves it out of its backup.
    pub store_place: (u64, u64),
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
    /// Fewer destinations than asked: exit 15.
    Copies,
    /// What was asked for cannot be meant so: exit 2.
    Usage,
    /// No snapshot has what was asked for: exit 1.
    Absent,
}

/// The request is refused; the connection closes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// What kind.
    pub kind: RefusalKind,
    /// A sentence for the user.
    pub message: Bytes,
}

/// Still at work; resets the peer's patience.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Busy {
    /// What at: 0 queue, 1 scanning the copy, 2 preparing, 3 flushing, 4 placing, 5 (to a daemon) what follows the receipt.
    pub phase: u8,
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

            /// File content that it carries: none for control messages.
            pub fn payload(&self) -> &[u8] {
                match self {
                    $(Self::$bulk(_, payload) => payload,)*
                    _ => &[],
                }
            }

            /// The same, by itself.
            pub fn into_payload(self) -> Vec<u8> {
                match self {
                    $(Self::$bulk(_, payload) => payload,)*
                    _ => Vec::new(),
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
        6 Attend, 7 Summon, 8 Join, 9 For,
        10 Begin, 11 Waiting, 12 Granted, 13 Offer, 14 Need, 15 FileOpen, 16 FileReady, 17 ChunkOffer, 18 FileDone,
        19 Manifest, 20 Changes, 21 ManifestEnd, 22 Missing, 23 PlanLines, 24 Committed,
        25 Gathering, 26 Prepared, 27 Commit, 28 Progress, 29 Challenge,
        30 Read, 31 ReadGranted, 32 Tree, 33 TreeEnd, 34 Want,
        35 Snapshots, 36 SnapshotList, 37 History, 38 HistoryList, 39 Find,
        40 Forget, 41 Status, 42 StatusReply,
        43 FindList, 44 Diff, 45 DiffList, 46 Runs, 47 RunList,
        48 Purges, 49 PurgesList,
        50 Of, 51 Verify, 52 Damage, 53 Verified, 54 Stats, 55 CopyStats, 56 StatsEnd,
        57 Purge, 58 PurgeList, 59 Purged,
        60 Prune, 61 Pruned, 62 Release, 63 Released,
        67 Redeem, 68 Succeed, 69 Succession, 70 Rekey, 71 Rekeyed,
        72 Invite, 73 Invited, 74 Users, 75 UserList, 76 Revoke, 77 Uninvite, 78 Change, 79 Settled,
        80 RekeyDaemon, 81 DaemonRekeyed,
        128 Proof, 129 Bases, 130 Sums,
    }
    bulk { 64 Files, 65 Chunks, 66 Content, 131 FileDeltas, 132 ChunkDeltas, }
}
// Kind 0 is the keepalive: a frame of no body that never leaves `net`.
