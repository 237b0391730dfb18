//! Between wire structs and domain types: the only place where what a peer says becomes something we believe in.
//!
//! Everything is checked here: paths, sizes, counts, order within a message. What passes is a domain type; the rest of
//! the engine never looks at a wire struct's fields again.

use super::observer::{CopyState, Held, Summary};
use crate::backup::bytes::{Bytes, escape};
use crate::backup::entry::{Entry, FileContent, Kind, Link, Meta, OwnerNames, SizeClass, Xattr};
use crate::backup::fingerprint::Timestamp;
use crate::backup::limits::{
    NAME_BYTES_MAX, OWNER_NAMES_BYTES_MAX, OWNER_NAMES_MAX, PATH_BYTES_MAX, SENTENCES_BYTES_MAX, XATTRS_BYTES_MAX,
    XATTRS_COUNT_MAX,
};
use crate::backup::relpath::{PathError, RelPath};
use crate::backup::when::When;
use crate::net::message::{At, Committed, WireChange, WireCopy, WireEntry, WireKind};

const LEADER: u8 = 1;
const SPARSE: u8 = 2;
const UNSTABLE: u8 = 4;
/// Most sentences of one message.
const SENTENCES_MAX: usize = 100;

/// A peer said something that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A bad path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Something else.
    #[error("{what} ('{path}')")]
    Entry {
        /// What is wrong.
        what: &'static str,
        /// Where.
        path: String,
    },
    /// A message out of turn.
    #[error("unexpected message {name} while {doing}")]
    Unexpected {
        /// The message.
        name: &'static str,
        /// What we were doing.
        doing: &'static str,
    },
    /// A value out of its bounds.
    #[error("{0}")]
    Bounds(&'static str),
}

impl From<At> for When {
    fn from(at: At) -> Self {
        match at {
            At::Latest => Self::Latest,
            At::Number(number) => Self::Number(number),
            At::Before { secs } => Self::Before { secs },
        }
    }
}

impl From<When> for At {
    fn from(when: When) -> Self {
        match when {
            When::Latest => Self::Latest,
            When::Number(number) => Self::Number(number),
            When::Before { secs } => Self::Before { secs },
        }
    }
}

/// One change of a manifest, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// New or different.
    Put(Entry),
    /// Gone.
    Remove(RelPath),
    /// Not seen: keep what the copy has at and below it.
    Unseen(RelPath),
}

impl Change {
    /// The path it is about.
    pub fn path(&self) -> &RelPath {
        match self {
            Self::Put(entry) => &entry.path,
            Self::Remove(path) | Self::Unseen(path) => path,
        }
    }
}

/// For the wire.
pub fn entry_to_wire(entry: &Entry) -> WireEntry {
    let kind = match &entry.kind {
        Kind::Dir => WireKind::Dir,
        Kind::File(content) => {
            let (leader, is_leader) = match &content.link {
                Link::Single => (Bytes::default(), false),
                Link::Leader => (Bytes::default(), true),
                Link::Follower(path) => (path.as_bytes().into(), false),
            };
            let flag = |set: bool, bit: u8| if set { bit } else { 0 };
            let flags = flag(is_leader, LEADER) | flag(content.sparse, SPARSE) | flag(content.unstable, UNSTABLE);
            let class = class_to_wire(content.class);
            WireKind::File { size: content.size, digest: content.digest, class, flags, leader }
        }
        Kind::Symlink { target } => WireKind::Symlink { target: target.clone() },
        Kind::Fifo => WireKind::Fifo,
        Kind::CharDevice { major, minor } => WireKind::Device { block: false, major: *major, minor: *minor },
        Kind::BlockDevice { major, minor } => WireKind::Device { block: true, major: *major, minor: *minor },
    };
    WireEntry {
        path: entry.path.as_bytes().into(),
        mode: entry.meta.mode,
        uid: entry.meta.uid,
        gid: entry.meta.gid,
        mtime_secs: entry.meta.mtime.secs,
        mtime_nanos: entry.meta.mtime.nanos,
        xattrs: entry.meta.xattrs.iter().map(|x| (x.name.clone(), x.value.clone())).collect(),
        kind,
    }
}

/// Roughly what an entry takes in a message.
pub fn entry_bytes(entry: &WireEntry) -> usize {
    let target = match &entry.kind {
        WireKind::Symlink { target } => target.0.len(),
        WireKind::File { leader, .. } => leader.0.len(),
        _ => 0,
    };
    96 + entry.path.0.len() + target + entry.xattrs.iter().map(|(n, v)| 16 + n.0.len() + v.0.len()).sum::<usize>()
}

/// The first sentences, as many as one message takes.
pub fn sentences(all: impl IntoIterator<Item = String>) -> Vec<Bytes> {
    let mut bytes = 0;
    let fits = |sentence: &String| {
        bytes += sentence.len();
        bytes <= SENTENCES_BYTES_MAX
    };
    all.into_iter().take(SENTENCES_MAX).take_while(fits).map(|s| Bytes(s.into_bytes())).collect()
}

/// From the wire.
///
/// # Errors
/// [`WireError`] names the entry and the rule it breaks.
pub fn entry_from_wire(wire: WireEntry) -> Result<Entry, WireError> {
    let path = RelPath::new(&wire.path.0)?;
    let bad = |what| WireError::Entry { what, path: path.to_string() };
    if wire.mode > 0o7777 {
        return Err(bad("mode has bits beyond 07777"));
    }
    if wire.mtime_nanos >= 1_000_000_000 {
        return Err(bad("nanoseconds beyond a second"));
    }
    let xattr_bytes: usize = wire.xattrs.iter().map(|(n, v)| n.0.len() + v.0.len()).sum();
    if wire.xattrs.len() > XATTRS_COUNT_MAX || xattr_bytes > XATTRS_BYTES_MAX {
        return Err(bad("too many or too large extended attributes"));
    }
    if wire.xattrs.iter().any(|(n, _)| n.0.is_empty() || n.0.contains(&0) || n.0.len() > NAME_BYTES_MAX) {
        return Err(bad("an extended attribute has a bad name"));
    }
    if !wire.xattrs.is_sorted_by(|a, b| a.0 < b.0) {
        return Err(bad("extended attributes are not sorted"));
    }
    let kind = match wire.kind {
        WireKind::Dir => Kind::Dir,
        WireKind::File { size, digest, class, flags, leader } => {
            let link = match (flags & LEADER != 0, leader.0.is_empty()) {
                (true, true) => Link::Leader,
                (false, true) => Link::Single,
                (false, false) => {
                    let leader = RelPath::new(&leader.0)?;
                    if leader >= path {
                        return Err(bad("a hard link's first name comes after it"));
                    }
                    Link::Follower(leader)
                }
                (true, false) => return Err(bad("a hard link is both first and another's")),
            };
            let class = class_from_wire(class).ok_or_else(|| bad("unknown size class"))?;
            let (sparse, unstable) = (flags & SPARSE != 0, flags & UNSTABLE != 0);
            Kind::File(FileContent { size, digest, class, link, sparse, unstable })
        }
        WireKind::Symlink { target } => {
            if target.0.is_empty() || target.0.len() > PATH_BYTES_MAX || target.0.contains(&0) {
                return Err(bad("a symlink's target is empty, too long or holds a NUL"));
            }
            Kind::Symlink { target }
        }
        WireKind::Fifo => Kind::Fifo,
        WireKind::Device { block: false, major, minor } => Kind::CharDevice { major, minor },
        WireKind::Device { block: true, major, minor } => Kind::BlockDevice { major, minor },
    };
    let xattrs = wire.xattrs.into_iter().map(|(name, value)| Xattr { name, value }).collect();
    let mtime = Timestamp { secs: wire.mtime_secs, nanos: wire.mtime_nanos };
    Ok(Entry { path, meta: Meta { mode: wire.mode, uid: wire.uid, gid: wire.gid, mtime, xattrs }, kind })
}

/// 0 whole, 1 64 KiB, 2 256 KiB, 3 1 MiB.
pub fn class_to_wire(class: SizeClass) -> u8 {
    match class {
        SizeClass::Whole => 0,
        SizeClass::Kib64 => 1,
        SizeClass::Kib256 => 2,
        SizeClass::Mib1 => 3,
    }
}

/// See [`class_to_wire`].
pub fn class_from_wire(class: u8) -> Option<SizeClass> {
    [SizeClass::Whole, SizeClass::Kib64, SizeClass::Kib256, SizeClass::Mib1].get(usize::from(class)).copied()
}

/// One change, checked.
///
/// # Errors
/// [`WireError`].
pub fn change_from_wire(wire: WireChange) -> Result<Change, WireError> {
    Ok(match wire {
        WireChange::Put(entry) => Change::Put(entry_from_wire(entry)?),
        WireChange::Remove(path) => Change::Remove(RelPath::new(&path.0)?),
        WireChange::Unseen(path) => Change::Unseen(RelPath::new(&path.0)?),
    })
}

/// Names behind numbers: sorted, bounded, printable enough.
///
/// # Errors
/// [`WireError::Bounds`].
pub fn owners_from_wire(users: Vec<(u32, Bytes)>, groups: Vec<(u32, Bytes)>) -> Result<OwnerNames, WireError> {
    for names in [&users, &groups] {
        if names.len() > OWNER_NAMES_MAX || names.iter().any(|(_, n)| n.0.len() > NAME_BYTES_MAX) {
            return Err(WireError::Bounds("too many or too long owner names"));
        }
        if names.iter().map(|(_, n)| n.0.len()).sum::<usize>() > OWNER_NAMES_BYTES_MAX {
            return Err(WireError::Bounds("the owner names are too long together"));
        }
        if !names.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(WireError::Bounds("owner names are not sorted"));
        }
    }
    Ok(OwnerNames { users, groups })
}

/// A bit per item, lowest bit of the first byte first.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Bits {
    bytes: Vec<u8>,
    len: usize,
}

impl Bits {
    /// Adds a bit.
    pub fn push(&mut self, bit: bool) {
        if self.len.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if bit && let Some(last) = self.bytes.last_mut() {
            *last |= 1 << (self.len % 8);
        }
        self.len += 1;
    }

    /// For the wire.
    pub fn into_wire(self) -> Bytes {
        Bytes(self.bytes)
    }

    /// From the wire, where exactly `len` bits are expected.
    ///
    /// # Errors
    /// [`WireError::Bounds`] when there are more or fewer.
    pub fn from_wire(bytes: Bytes, len: usize) -> Result<Self, WireError> {
        if bytes.0.len() != len.div_ceil(8) {
            return Err(WireError::Bounds("an answer has not as many bits as the question had items"));
        }
        Ok(Self { bytes: bytes.0, len })
    }

    /// Bit `i`; false beyond the end.
    pub fn get(&self, i: usize) -> bool {
        i < self.len && self.bytes.get(i / 8).is_some_and(|b| b & (1 << (i % 8)) != 0)
    }
}

/// The error for a message that has no place now.
pub fn unexpected(message: &crate::net::message::Message, doing: &'static str) -> WireError {
    WireError::Unexpected { name: message.name(), doing }
}

/// A peer's sentence, safe to show.
pub fn sentence(bytes: &Bytes) -> String {
    escape(&bytes.0)
}

/// What a receipt says of a run; what the client did for it (content, wire, errors, time) is its own to fill in.
pub(super) fn summary_of(root: Vec<u8>, receipt: &Committed) -> Summary {
    let [created, updated, moved, deleted, touched, unchanged] = receipt.counts;
    Summary {
        root,
        snapshot: (receipt.snapshot > 0).then_some(receipt.snapshot),
        manifest: receipt.manifest,
        created,
        updated,
        moved,
        deleted,
        touched,
        unchanged,
        files: receipt.files,
        bytes: receipt.bytes,
        bytes_read: 0,
        content_bytes_sent: 0,
        wire_bytes_sent: 0,
        wire_bytes_received: 0,
        errors: 0,
        altered: 0,
        incomplete: receipt.incomplete,
        elapsed_secs: 0.0,
        notes: receipt.notes.iter().map(sentence).collect(),
        copies: receipt.copies.iter().map(copy_from_wire).collect(),
        enough: receipt.enough,
    }
}

/// What a peer does not say clearly is no copy.
fn copy_from_wire(copy: &WireCopy) -> CopyState {
    let state = match copy.state {
        0 => Held::Held,
        1 => Held::Behind,
        _ => Held::Failed,
    };
    CopyState { name: sentence(&copy.name), destination: copy.kind != 0, state, reason: sentence(&copy.reason) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::digest::Digest;

    fn file(path: &str, link: Link) -> Entry {
        let content = FileContent {
            size: 3,
            digest: Digest::of(b"abc"),
            class: SizeClass::Whole,
            link,
            sparse: true,
            unstable: false,
        };
        let meta = Meta { mode: 0o4755, uid: 1, gid: 2, ..Meta::default() };
        Entry { path: RelPath::new(path.as_bytes()).unwrap(), meta, kind: Kind::File(content) }
    }

    #[test]
    fn entries_round_trip() {
        for link in [Link::Single, Link::Leader, Link::Follower(RelPath::new(b"a").unwrap())] {
            let entry = file("b", link);
            assert_eq!(entry_from_wire(entry_to_wire(&entry)).unwrap(), entry);
        }
    }

    #[test]
    fn hostile_entries_are_refused() {
        let good = entry_to_wire(&file("b", Link::Single));
        let mut bad = vec![WireEntry { path: Bytes(b"../b".to_vec()), ..good.clone() }];
        bad.push(WireEntry { mode: 0o10000, ..good.clone() });
        bad.push(WireEntry { mtime_nanos: 1_000_000_000, ..good.clone() });
        bad.push(WireEntry { kind: WireKind::Symlink { target: Bytes(b"a\0".to_vec()) }, ..good.clone() });
        bad.push(entry_to_wire(&file("b", Link::Follower(RelPath::new(b"c").unwrap()))));
        let twice = (Bytes(b"user.x".to_vec()), Bytes::default());
        bad.push(WireEntry { xattrs: vec![twice.clone(), twice], ..good });
        for entry in bad {
            assert!(entry_from_wire(entry.clone()).is_err(), "{entry:?}");
        }
    }

    #[test]
    fn only_so_many_sentences_travel() {
        assert_eq!(sentences((0..500).map(|i| i.to_string())).len(), SENTENCES_MAX);
        assert_eq!(sentences((0..50).map(|_| "x".repeat(16 * 1024))).len(), SENTENCES_BYTES_MAX / (16 * 1024));
    }

    #[test]
    fn bits_round_trip_and_are_counted() {
        let mut bits = Bits::default();
        for i in 0..11 {
            bits.push(i % 3 == 0);
        }
        let back = Bits::from_wire(bits.clone().into_wire(), 11).unwrap();
        assert_eq!((0..12).filter(|i| back.get(*i)).collect::<Vec<_>>(), [0, 3, 6, 9]);
        assert!(Bits::from_wire(bits.into_wire(), 17).is_err());
    }
}
