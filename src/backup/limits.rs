//! The one table of limits: everything that a peer or a disk could make large has its bound here.
//!
//! LEEME.md mirrors the wire's part, and a test compares the two.

/// Longest name of one path component.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest path.
pub const PATH_BYTES_MAX: usize = 4096;
/// Most and longest extended attributes of one entry, together.
pub const XATTRS_BYTES_MAX: usize = 128 * 1024;
/// Most extended attributes of one entry.
pub const XATTRS_COUNT_MAX: usize = 256;

/// Longest body of a control frame.
pub const CONTROL_FRAME_BYTES_MAX: usize = 1024 * 1024;
/// Longest body of a bulk frame (file content).
pub const BULK_FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes that a packed frame holds when it is unpacked.
pub const PACKED_RAW_BYTES_MAX: usize = 128 * 1024;
/// Longest body of a packed frame: what cannot be packed grows a little.
pub const PACKED_BYTES_MAX: usize = 160 * 1024;
/// Bytes that a peer may send until it is welcome, TLS and all.
pub const HANDSHAKE_FRAME_BYTES_MAX: usize = 64 * 1024;
/// Seconds a peer has from the connection until it is welcome.
pub const HANDSHAKE_SECS: u64 = 10;
/// Connections at once that are not welcome yet.
pub const HANDSHAKES_MAX: usize = 256;
/// Either side sends a keepalive this often.
pub const KEEPALIVE_SECS: u64 = 10;
/// This much silence is a dead peer.
pub const SILENCE_SECS: u64 = 30;
/// Longest wait for a flush and a commit.
pub const COMMIT_SECS: u64 = 600;
/// Messages that may wait in a link, each way.
pub const LINK_QUEUE_MAX: usize = 4;

/// Content that may be on its way or wait for an answer, per run.
pub const WINDOW_BYTES: u64 = 32 * 1024 * 1024;
/// Most entries or digests in one message.
pub const BATCH_COUNT_MAX: usize = 1024;
/// Content that is gathered into one bulk frame before it is sent.
pub const BATCH_BYTES_TARGET: usize = 1024 * 1024;
/// Chunks of a large file that are gathered into one frame: what a cut in the middle of it loses.
pub const CHUNK_FRAME_BYTES: usize = 128 * 1024;
/// Most filter patterns of a run, and their bytes together.
pub const FILTER_COUNT_MAX: usize = 4096;
/// See [`FILTER_COUNT_MAX`].
pub const FILTER_BYTES_MAX: usize = 256 * 1024;
/// Most user and group names in one manifest.
pub const OWNER_NAMES_MAX: usize = 8192;
/// Bytes of the user names in one manifest, and of the group names: a message holds both.
pub const OWNER_NAMES_BYTES_MAX: usize = 256 * 1024;
/// Bytes of the sentences about errors that travel with a manifest, or of the notes with a receipt.
pub const SENTENCES_BYTES_MAX: usize = 256 * 1024;
/// Content of small files that was asked for and is not there yet, as far as it is not asked for twice.
pub const PROMISED_COUNT_MAX: usize = 256 * 1024;
/// Bytes of the paths of one run that could not be seen.
pub const UNSEEN_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of the roots that a destination tells of.
pub const HEADS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes that may wait for one target of a run.
pub const TARGET_QUEUE_BYTES: usize = 16 * 1024 * 1024;
/// Ranges of a content challenge.
pub const CHALLENGE_RANGES_MAX: usize = 64;
/// Bytes of each.
pub const CHALLENGE_RANGE_BYTES_MAX: usize = 64 * 1024;
/// Rounds of `Missing` before a run gives up.
pub const MISSING_ROUNDS_MAX: usize = 5;

/// Smaller files are one chunk.
pub const WHOLE_FILE_BYTES_MAX: u64 = 128 * 1024;
/// Large files of a run that may be open at once: offered, and not all answered.
pub const FILES_OPEN_MAX: usize = 32;
/// Most chunks of one file.
pub const FILE_CHUNKS_MAX: usize = 16 * 1024 * 1024;
/// Largest chunk.
pub const CHUNK_BYTES_MAX: usize = 3 * 512 * 1024;
/// Longest content, or older version of it, of which what changed inside is looked for; files below one chunk, chunks, and what
/// stands between two of them.
pub const DELTA_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Times a file that changes while it is read is read again.
pub const UNSTABLE_READS_MAX: usize = 3;

/// Port of the daemon.
pub const PORT: u16 = 8730;
/// Sessions at once, by default.
pub const SESSIONS_MAX: usize = 256;
/// Of one address (IPv6: one /64), and as many connections that are not welcome yet, by default.
pub const ADDRESS_CONNECTIONS_MAX: usize = 64;
/// Sessions of one identity, by default.
pub const IDENTITY_SESSIONS_MAX: usize = 32;
