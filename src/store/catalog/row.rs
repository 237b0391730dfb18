//! [`Row`]: what the catalog knows about one path of a copy, and how it lies in the database.
//!
//! The path's key is a column of its own; the rest is one blob, because nothing else is ever asked for by SQL:
//!
//! ```text
//! kind u8 | flags u8 | mode u32 | uid u32 | gid u32 | ino u64 | size u64 | mtime i64 u32 | ctime i64 u32
//!   | digest [32] if DIGEST | count u16, each: name length u16, name, value length u32, value  if XATTRS
//!   | check [4] = first bytes of BLAKE3(key | all before)
//! ```
//!
//! Little endian. The check makes a row that rotted, or stands under a wrong key, an error instead of a lie: a wrong
//! digest here would end up as wrong content in a backup.

use crate::backup::bytes::Bytes;
use crate::backup::digest::Digest;
use crate::backup::entry::Xattr;
use crate::backup::fingerprint::{Fingerprint, Timestamp};
use crate::backup::relpath::RelPath;

const RACY: u8 = 1;
const DIGEST: u8 = 2;
const XATTRS: u8 = 4;
const CHECK_BYTES: usize = 4;

/// What stands at a path of the plain copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowKind {
    /// A directory.
    Dir,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// What somebody else put there: a device, a socket.
    Other,
}

/// The catalog's knowledge of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Copy coordinates.
    pub path: RelPath,
    /// What it is.
    pub kind: RowKind,
    /// What tells that it has not changed since.
    pub fingerprint: Fingerprint,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Changed so shortly before it was looked at that the fingerprint proves nothing.
    pub racy: bool,
    /// BLAKE3 of a file's content or of a symlink's target; none: not known yet.
    pub digest: Option<Digest>,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<Xattr>,
}

impl Row {
    /// What the digest index holds: only regular files can be content.
    pub(super) fn digest_prefix(&self) -> Option<i64> {
        if self.kind == RowKind::File { self.digest.map(|d| digest_prefix(&d)) } else { None }
    }

    /// Appends the blob to `out`; `key` is the path's key.
    pub(super) fn encode(&self, key: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.push(match self.kind {
            RowKind::Dir => 0,
            RowKind::File => 1,
            RowKind::Symlink => 2,
            RowKind::Fifo => 3,
            RowKind::Other => 4,
        });
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        out.push(flag(self.racy, RACY) | flag(self.digest.is_some(), DIGEST) | flag(!self.xattrs.is_empty(), XATTRS));
        for number in [self.mode, self.uid, self.gid] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.fingerprint.ino.to_le_bytes());
        out.extend_from_slice(&self.fingerprint.size.to_le_bytes());
        for time in [self.fingerprint.mtime, self.fingerprint.ctime] {
            out.extend_from_slice(&time.secs.to_le_bytes());
            out.extend_from_slice(&time.nanos.to_le_bytes());
        }
        if let Some(digest) = &self.digest {
            out.extend_from_slice(&digest.0);
        }
        if !self.xattrs.is_empty() {
            encode_xattrs(&self.xattrs, out);
        }
        let check = check(key, out.get(start..).unwrap_or_default());
        out.extend_from_slice(&check);
    }

    /// Back from [`Row::encode`]; none when the blob is damaged.
    pub(super) fn decode(key: &[u8], blob: &[u8]) -> Option<Self> {
        let (body, stored) = blob.split_at_checked(blob.len().checked_sub(CHECK_BYTES)?)?;
        if check(key, body) != stored {
            return None;
        }
        let mut fields = Fields(body);
        let kind = match fields.u8()? {
            0 => RowKind::Dir,
            1 => RowKind::File,
            2 => RowKind::Symlink,
            3 => RowKind::Fifo,
            4 => RowKind::Other,
            _ => return None,
        };
        let flags = fields.u8()?;
        let (mode, uid, gid) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let fingerprint =
            Fingerprint { ino: fields.u64()?, size: fields.u64()?, mtime: fields.time()?, ctime: fields.time()? };
        let digest = if flags & DIGEST == 0 { None } else { Some(Digest(*fields.array::<32>()?)) };
        let xattrs = if flags & XATTRS == 0 { Vec::new() } else { fields.xattrs()? };
        if !fields.0.is_empty() {
            return None;
        }
        let path = RelPath::from_key(key).ok()?;
        Some(Self { path, kind, fingerprint, mode, uid, gid, racy: flags & RACY != 0, digest, xattrs })
    }
}

/// The first 8 bytes of a digest, as SQLite's integer: enough to find it, the blob has the whole.
pub(super) fn digest_prefix(digest: &Digest) -> i64 {
    let [a, b, c, d, e, f, g, h, ..] = digest.0;
    i64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn check(key: &[u8], body: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key).update(body);
    let [a, b, c, d, ..] = *hasher.finalize().as_bytes();
    [a, b, c, d]
}

/// Lengths are within [`crate::backup::limits::XATTRS_BYTES_MAX`] where entries come in; longer ones are cut off whole
/// here, which costs a comparison that comes out unequal, never a wrong one.
fn encode_xattrs(xattrs: &[Xattr], out: &mut Vec<u8>) {
    let fits = |x: &&Xattr| u16::try_from(x.name.0.len()).is_ok() && u32::try_from(x.value.0.len()).is_ok();
    let kept: Vec<_> = xattrs.iter().filter(fits).take(usize::from(u16::MAX)).collect();
    out.extend_from_slice(&u16::try_from(kept.len()).unwrap_or(u16::MAX).to_le_bytes());
    for xattr in kept {
        out.extend_from_slice(&u16::try_from(xattr.name.0.len()).unwrap_or(u16::MAX).to_le_bytes());
        out.extend_from_slice(&xattr.name.0);
        out.extend_from_slice(&u32::try_from(xattr.value.0.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&xattr.value.0);
    }
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[b]| *b)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(|b| u16::from_le_bytes(*b))
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(|b| u32::from_le_bytes(*b))
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(|b| u64::from_le_bytes(*b))
    }

    fn time(&mut self) -> Option<Timestamp> {
        let secs = self.array().map(|b| i64::from_le_bytes(*b))?;
        Some(Timestamp { secs, nanos: self.u32()? })
    }

    fn xattrs(&mut self) -> Option<Vec<Xattr>> {
        let count = self.u16()?;
        let mut xattrs = Vec::new();
        for _ in 0..count {
            let name_len = usize::from(self.u16()?);
            let name = Bytes::from(self.take(name_len)?);
            let value_len = usize::try_from(self.u32()?).ok()?;
            xattrs.push(Xattr { name, value: Bytes::from(self.take(value_len)?) });
        }
        Some(xattrs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(path: &str, digest: bool, xattrs: Vec<(Vec<u8>, Vec<u8>)>, n: u64) -> Row {
        let time = |d: u64| Timestamp { secs: (n ^ d) as i64, nanos: (n % 999) as u32 };
        Row {
            path: RelPath::new(path.as_bytes()).unwrap(),
            kind: [RowKind::Dir, RowKind::File, RowKind::Symlink, RowKind::Fifo, RowKind::Other][(n % 5) as usize],
            fingerprint: Fingerprint { ino: n, size: n << 3, mtime: time(1), ctime: time(2) },
            mode: n as u32,
            uid: 7,
            gid: 8,
            racy: n.is_multiple_of(2),
            digest: digest.then(|| Digest::of(&n.to_le_bytes())),
            xattrs: xattrs.into_iter().map(|(n, v)| Xattr { name: Bytes(n), value: Bytes(v) }).collect(),
        }
    }

    proptest! {
        #[test]
        fn a_row_round_trips_and_one_flipped_bit_is_found(
            path in "[a-z]{1,5}(/[a-z]{1,5}){0,3}", digest: bool, n: u64, bit: prop::sample::Index,
            xattrs in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..9), prop::collection::vec(any::<u8>(), 0..9)), 0..3)
        ) {
            let row = row(&path, digest, xattrs, n);
            let key = row.path.to_key();
            let mut blob = Vec::new();
            row.encode(&key, &mut blob);
            prop_assert_eq!(Row::decode(&key, &blob), Some(row));
            let bit = bit.index(blob.len() * 8);
            blob[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Row::decode(&key, &blob), None);
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(blob in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut sealed = blob.clone();
            sealed.extend_from_slice(&check(b"k", &blob));
            let _ = Row::decode(b"k", &sealed);
            prop_assert_eq!(Row::decode(b"k", &blob), None);
        }
    }
}
