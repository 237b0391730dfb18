//! Which packs a copy's vault has, and which blob lies where in them.
//!
//! The blobs of a pack lie together, so that they come and go together; they are found by the first 8 bytes of their
//! key. A blob's row is one value:
//!
//! ```text
//! kind u8 | codec u8 | offset u64 | stored u32 | raw u32 | key [32] | check [32] of a recipe
//!   | sum [4] = first bytes of BLAKE3(pack id | all before)
//! ```
//!
//! Little endian. A row that rotted, or belongs to another pack, is an error instead of a lie.

use rusqlite::{Connection, OptionalExtension, params};

use super::row::digest_prefix;
use super::{CatalogError, CatalogReader, CopyId};
use crate::backup::digest::Digest;
use crate::store::vault::{Blob, BlobKind, BlobPlace, Codec, PackId, PackIndex};

const SUM_BYTES: usize = 4;
/// Blobs of one key prefix that are looked at.
const PLACES_MAX: i64 = 16;

/// What a vault holds altogether.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VaultTotals {
    /// Packs.
    pub packs: u64,
    /// What they hold: files, chunks and recipes.
    pub blobs: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// Bytes of what they hold.
    pub raw: u64,
}

pub(super) fn put(conn: &Connection, copy: i64, index: &PackIndex) -> rusqlite::Result<()> {
    // The same blobs make the same pack: one that was damaged may have been written again, and is whole now.
    remove(conn, copy, index.pack)?;
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let blobs = i64::try_from(index.blobs.len()).unwrap_or(i64::MAX);
    let raw = index.blobs.iter().map(|blob| u64::from(blob.raw)).sum();
    let id: Option<i64> = conn
        .prepare_cached(
            "INSERT OR IGNORE INTO packs (copy, pack, bytes, blobs, raw) VALUES (?1, ?2, ?3, ?4, ?5) RETURNING id",
        )?
        .query_row(params![copy, index.pack.0.as_slice(), number(index.bytes), blobs, number(raw)], |row| row.get(0))
        .optional()?;
    let Some(id) = id else { return Ok(()) };
    let mut put = conn.prepare_cached("INSERT INTO blobs (pack, n, copy, prefix, rest) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for (n, blob) in (0_i64..).zip(&index.blobs) {
        put.execute(params![id, n, copy, digest_prefix(&blob.digest), encode(index.pack, blob)])?;
    }
    Ok(())
}

pub(super) fn remove(conn: &Connection, copy: i64, pack: PackId) -> rusqlite::Result<()> {
    let id: Option<i64> = conn
        .prepare_cached("DELETE FROM packs WHERE copy = ?1 AND pack = ?2 RETURNING id")?
        .query_row(params![copy, pack.0.as_slice()], |row| row.get(0))
        .optional()?;
    let Some(id) = id else { return Ok(()) };
    conn.prepare_cached("DELETE FROM blobs WHERE pack = ?1")?.execute([id]).map(drop)
}

pub(super) fn remove_blobs(conn: &Connection, copy: i64, digest: &Digest) -> rusqlite::Result<()> {
    let rows: Vec<(i64, i64, Vec<u8>, Vec<u8>)> = conn
        .prepare_cached(
            "SELECT blobs.pack, n, packs.pack, rest FROM blobs INDEXED BY blobs_by_digest
             JOIN packs ON packs.id = blobs.pack WHERE blobs.copy = ?1 AND prefix = ?2",
        )?
        .query_map(params![copy, digest_prefix(digest)], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    for (pack, n, id, rest) in rows {
        let blob = id.as_slice().try_into().ok().and_then(|id| decode(PackId(id), &rest));
        // What cannot be read is of no use either.
        if blob.is_none_or(|blob| blob.digest == *digest) {
            conn.prepare_cached("DELETE FROM blobs WHERE pack = ?1 AND n = ?2")?.execute([pack, n])?;
        }
    }
    Ok(())
}

impl CatalogReader {
    /// Where a blob of the copy's vault lies.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn blob(&self, copy: CopyId, kind: BlobKind, digest: &Digest) -> Result<Option<BlobPlace>, CatalogError> {
        Ok(self.blob_places(copy, kind, digest)?.into_iter().next())
    }

    /// All places of a blob: while a pack is rewritten there are two.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn blob_places(&self, copy: CopyId, kind: BlobKind, digest: &Digest) -> Result<Vec<BlobPlace>, CatalogError> {
        let mut places = self.blobs(copy, digest)?;
        places.retain(|place| place.blob.kind == kind);
        Ok(places)
    }

    /// All blobs with this key, of either kind: content as one piece, or the recipe that says of which it is made.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn blobs(&self, copy: CopyId, digest: &Digest) -> Result<Vec<BlobPlace>, CatalogError> {
        let mut statement = self.prepare(
            "SELECT packs.pack, rest FROM blobs INDEXED BY blobs_by_digest JOIN packs ON packs.id = blobs.pack
             WHERE blobs.copy = ?1 AND prefix = ?2 LIMIT ?3",
        )?;
        let mut rows = statement.query(params![copy.0, digest_prefix(digest), PLACES_MAX]).map_err(|e| self.fail(e))?;
        let mut places = Vec::new();
        while let Some(row) = rows.next().map_err(|e| self.fail(e))? {
            let pack = self.pack_id(self.column(row.get_ref(0))?)?;
            let blob = decode(pack, self.column(row.get_ref(1))?).ok_or_else(|| self.damaged("a blob"))?;
            if blob.digest == *digest {
                places.push(BlobPlace { pack, blob });
            }
        }
        Ok(places)
    }

    /// The packs of the copy's vault, as far as the catalog knows; sorted.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn packs(&self, copy: CopyId) -> Result<Vec<PackId>, CatalogError> {
        let mut statement = self.prepare("SELECT pack FROM packs WHERE copy = ?1 ORDER BY pack")?;
        let mut rows = statement.query([copy.0]).map_err(|e| self.fail(e))?;
        let mut packs = Vec::new();
        while let Some(row) = rows.next().map_err(|e| self.fail(e))? {
            packs.push(self.pack_id(self.column(row.get_ref(0))?)?);
        }
        Ok(packs)
    }

    /// What a pack holds; none: the catalog does not know it.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn pack(&self, copy: CopyId, pack: PackId) -> Result<Option<PackIndex>, CatalogError> {
        let mut statement = self.prepare("SELECT id, bytes FROM packs WHERE copy = ?1 AND pack = ?2")?;
        let found: Option<(i64, i64)> = statement
            .query_row(params![copy.0, pack.0.as_slice()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
            .map_err(|e| self.fail(e))?;
        let Some((id, bytes)) = found else { return Ok(None) };
        let mut statement = self.prepare("SELECT rest FROM blobs WHERE pack = ?1 ORDER BY n")?;
        let mut rows = statement.query([id]).map_err(|e| self.fail(e))?;
        let mut blobs = Vec::new();
        while let Some(row) = rows.next().map_err(|e| self.fail(e))? {
            blobs.push(decode(pack, self.column(row.get_ref(0))?).ok_or_else(|| self.damaged("a blob"))?);
        }
        Ok(Some(PackIndex { pack, bytes: u64::try_from(bytes).unwrap_or(0), blobs }))
    }

    /// How much the copy's vault holds.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn vault_totals(&self, copy: CopyId) -> Result<VaultTotals, CatalogError> {
        let mut statement =
            self.prepare("SELECT count(*), coalesce(sum(blobs), 0), coalesce(sum(bytes), 0), coalesce(sum(raw), 0) FROM packs WHERE copy = ?1")?;
        let totals = statement.query_row([copy.0], |row| {
            let number = |n: i64| u64::try_from(n).unwrap_or(0);
            let (packs, blobs) = (number(row.get(0)?), number(row.get(1)?));
            Ok(VaultTotals { packs, blobs, bytes: number(row.get(2)?), raw: number(row.get(3)?) })
        });
        totals.map_err(|e| self.fail(e))
    }

    fn pack_id(&self, bytes: &[u8]) -> Result<PackId, CatalogError> {
        bytes.try_into().map(PackId).map_err(|_| self.damaged("a pack's id"))
    }
}

fn encode(pack: PackId, blob: &Blob) -> Vec<u8> {
    let mut out = vec![blob.kind.number(), blob.codec.number()];
    out.extend_from_slice(&blob.offset.to_le_bytes());
    out.extend_from_slice(&blob.stored.to_le_bytes());
    out.extend_from_slice(&blob.raw.to_le_bytes());
    out.extend_from_slice(&blob.digest.0);
    if blob.kind == BlobKind::Recipe {
        out.extend_from_slice(&blob.check.0);
    }
    let sum = sum(pack, &out);
    out.extend_from_slice(&sum);
    out
}

fn decode(pack: PackId, row: &[u8]) -> Option<Blob> {
    let (body, stored) = row.split_at_checked(row.len().checked_sub(SUM_BYTES)?)?;
    if sum(pack, body) != stored {
        return None;
    }
    let (&[kind, codec], rest) = body.split_first_chunk()?;
    let (offset, rest) = rest.split_first_chunk()?;
    let (stored, rest) = rest.split_first_chunk()?;
    let (raw, rest) = rest.split_first_chunk()?;
    let (key, rest) = rest.split_first_chunk()?;
    let (kind, codec, digest) = (BlobKind::from_number(kind)?, Codec::from_number(codec)?, Digest(*key));
    let check = match kind {
        BlobKind::Content if rest.is_empty() => digest,
        BlobKind::Content => return None,
        BlobKind::Recipe => Digest::from_slice(rest)?,
    };
    let (offset, stored, raw) = (u64::from_le_bytes(*offset), u32::from_le_bytes(*stored), u32::from_le_bytes(*raw));
    Some(Blob { kind, digest, check, offset, stored, raw, codec })
}

fn sum(pack: PackId, body: &[u8]) -> [u8; SUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&pack.0).update(body);
    let [a, b, c, d, ..] = *hasher.finalize().as_bytes();
    [a, b, c, d]
}
