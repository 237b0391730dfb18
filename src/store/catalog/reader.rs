//! [`CatalogReader`]: questions to the catalog, on a connection of its own.
//!
//! A reader never waits for the writer, nor the writer for a reader: nothing here keeps a transaction open longer than
//! one page of rows, so that the log can always be folded back. A range is therefore not one moment's picture; who
//! needs that holds the lease for it.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, params};

use super::row::{Row, digest_prefix};
use super::{CatalogError, ChunkPlace, CopyId, schema};
use crate::backup::chunker::Recipe;
use crate::backup::digest::Digest;
use crate::backup::limits::PATH_BYTES_MAX;
use crate::backup::relpath::RelPath;

/// Rows fetched at once.
const PAGE_ROWS: i64 = 2048;
/// Most answers to "where is this content?".
const PLACES_MAX: i64 = 8;
/// The index is named, because left alone SQLite walks the whole copy instead (measured: 8 ms a question, not 8 µs).
pub(super) const FIND_CONTENT: &str = "SELECT path, rest FROM rows INDEXED BY rows_by_digest \
    WHERE copy = ?1 AND prefix = ?2 AND prefix IS NOT NULL LIMIT ?3";

/// Reads the catalog.
pub struct CatalogReader {
    conn: Connection,
    path: PathBuf,
}

impl CatalogReader {
    /// Opens the catalog at `path` without creating or repairing anything.
    ///
    /// # Errors
    /// [`CatalogError`]; a catalog that is missing is [`CatalogError::Failed`].
    pub fn open(path: &Path) -> Result<Self, CatalogError> {
        Ok(Self { conn: schema::open_reader(path)?, path: path.to_path_buf() })
    }

    /// The rows of `root` itself and everything within, in canonical order.
    pub fn range(&self, copy: CopyId, root: &RelPath) -> RowRange<'_> {
        let (first, end) = key_range(root);
        RowRange { reader: self, copy, next: first, inclusive: true, end, page: Vec::new().into_iter(), done: false }
    }

    /// The row of one path.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn get(&self, copy: CopyId, path: &RelPath) -> Result<Option<Row>, CatalogError> {
        let key = path.to_key();
        let mut statement = self.prepare("SELECT rest FROM rows WHERE copy = ?1 AND path = ?2")?;
        let mut rows = statement.query(params![copy.0, key]).map_err(|e| self.fail(e))?;
        let Some(found) = rows.next().map_err(|e| self.fail(e))? else { return Ok(None) };
        self.decode(&key, found.get_ref(0).map_err(|e| self.fail(e))?).map(Some)
    }

    /// At most 8 regular files of the copy that hold this content, as far as the catalog knows.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn find_content(&self, copy: CopyId, digest: &Digest) -> Result<Vec<Row>, CatalogError> {
        let mut statement = self.prepare(FIND_CONTENT)?;
        let mut rows = statement.query(params![copy.0, digest_prefix(digest), PLACES_MAX]).map_err(|e| self.fail(e))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(|e| self.fail(e))? {
            let key = self.column(row.get_ref(0))?;
            let row = self.decode(key, row.get_ref(1).map_err(|e| self.fail(e))?)?;
            if row.digest.as_ref() == Some(digest) {
                found.push(row);
            }
        }
        Ok(found)
    }

    /// Whether some regular file of the copy holds this content, as far as the catalog knows.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn has_content(&self, copy: CopyId, digest: &Digest) -> Result<bool, CatalogError> {
        Ok(!self.find_content(copy, digest)?.is_empty())
    }

    /// How the file with this content is cut.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn recipe(&self, copy: CopyId, digest: &Digest) -> Result<Option<Recipe>, CatalogError> {
        let mut statement = self.prepare("SELECT recipe FROM recipes WHERE copy = ?1 AND digest = ?2")?;
        let blob: Option<Vec<u8>> = statement
            .query_row(params![copy.0, digest.0.as_slice()], |row| row.get(0))
            .optional()
            .map_err(|e| self.fail(e))?;
        let Some(blob) = blob else { return Ok(None) };
        Recipe::decode(&blob).map(Some).map_err(|_| self.damaged("a recipe"))
    }

    /// Where in a file of known content this chunk lies; only files that the copy holds, or that are retired.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn find_chunk(&self, copy: CopyId, chunk: &Digest) -> Result<Option<ChunkPlace>, CatalogError> {
        let mut statement = self.prepare(
            "SELECT recipes.digest, at, len FROM chunks JOIN recipes ON recipes.id = chunks.recipe
             WHERE chunks.copy = ?1 AND chunks.digest = ?2 LIMIT ?3",
        )?;
        let mut rows = statement.query(params![copy.0, chunk.0.as_slice(), PLACES_MAX]).map_err(|e| self.fail(e))?;
        while let Some(row) = rows.next().map_err(|e| self.fail(e))? {
            let file = Digest::from_slice(self.column(row.get_ref(0))?).ok_or_else(|| self.damaged("a digest"))?;
            let offset: i64 = row.get(1).map_err(|e| self.fail(e))?;
            let len: u32 = row.get(2).map_err(|e| self.fail(e))?;
            let offset = u64::try_from(offset).map_err(|_| self.damaged("an offset"))?;
            if self.has_content(copy, &file)? || self.retired(copy, &file)?.is_some() {
                return Ok(Some(ChunkPlace { file, offset, len }));
            }
        }
        Ok(None)
    }

    /// Where a retired file with this content lies.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn retired(&self, copy: CopyId, digest: &Digest) -> Result<Option<RelPath>, CatalogError> {
        let mut statement = self.prepare("SELECT place FROM retired WHERE copy = ?1 AND digest = ?2")?;
        let mut rows = statement.query(params![copy.0, digest.0.as_slice()]).map_err(|e| self.fail(e))?;
        let Some(row) = rows.next().map_err(|e| self.fail(e))? else { return Ok(None) };
        let place = RelPath::new(self.column(row.get_ref(0))?).map_err(|_| self.damaged("a place"))?;
        Ok(Some(place))
    }

    /// The content that the retired file at this place is said to have.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn retired_at(&self, copy: CopyId, place: &RelPath) -> Result<Option<Digest>, CatalogError> {
        let mut statement = self.prepare("SELECT digest FROM retired WHERE copy = ?1 AND place = ?2 LIMIT 1")?;
        let mut rows = statement.query(params![copy.0, place.as_bytes()]).map_err(|e| self.fail(e))?;
        let Some(row) = rows.next().map_err(|e| self.fail(e))? else { return Ok(None) };
        Digest::from_slice(self.column(row.get_ref(0))?).map(Some).ok_or_else(|| self.damaged("a digest"))
    }

    /// How many retired files the copy has, and their bytes.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn retired_totals(&self, copy: CopyId) -> Result<(u64, u64), CatalogError> {
        let mut statement = self.prepare("SELECT count(*), coalesce(sum(size), 0) FROM retired WHERE copy = ?1")?;
        let (count, bytes): (i64, i64) =
            statement.query_row([copy.0], |row| Ok((row.get(0)?, row.get(1)?))).map_err(|e| self.fail(e))?;
        Ok((u64::try_from(count).unwrap_or(0), u64::try_from(bytes).unwrap_or(0)))
    }

    /// Whether the catalog knows no path of the copy.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn is_empty(&self, copy: CopyId) -> Result<bool, CatalogError> {
        let mut statement = self.prepare("SELECT 1 FROM rows WHERE copy = ?1 LIMIT 1")?;
        statement.exists([copy.0]).map(|some| !some).map_err(|e| self.fail(e))
    }

    pub(super) fn prepare(&self, sql: &str) -> Result<rusqlite::CachedStatement<'_>, CatalogError> {
        self.conn.prepare_cached(sql).map_err(|e| self.fail(e))
    }

    pub(super) fn fail(&self, source: rusqlite::Error) -> CatalogError {
        schema::error(&self.path, source)
    }

    pub(super) fn damaged(&self, what: &str) -> CatalogError {
        schema::damaged(&self.path, format!("{what} cannot be read"))
    }

    pub(super) fn column<'a>(
        &self,
        value: rusqlite::Result<rusqlite::types::ValueRef<'a>>,
    ) -> Result<&'a [u8], CatalogError> {
        value.map_err(|e| self.fail(e))?.as_blob().map_err(|_| self.damaged("a column"))
    }

    fn decode(&self, key: &[u8], rest: rusqlite::types::ValueRef<'_>) -> Result<Row, CatalogError> {
        rest.as_blob().ok().and_then(|rest| Row::decode(key, rest)).ok_or_else(|| self.damaged("a row"))
    }
}

/// The keys of a path and of everything within it: from the first, up to and without the second.
pub(super) fn key_range(root: &RelPath) -> (Vec<u8>, Vec<u8>) {
    let first = root.to_key();
    let end = if root.is_root() {
        vec![0xff; PATH_BYTES_MAX + 1]
    } else {
        // Children are `key 0x00 …`; no name holds 0x00 or 0x01 in the place of a separator before `key 0x01`.
        let mut end = first.clone();
        end.push(1);
        end
    };
    (first, end)
}

/// See [`CatalogReader::range`].
pub struct RowRange<'a> {
    reader: &'a CatalogReader,
    copy: CopyId,
    next: Vec<u8>,
    inclusive: bool,
    end: Vec<u8>,
    page: std::vec::IntoIter<Row>,
    done: bool,
}

impl RowRange<'_> {
    /// Skips everything within `path`, which must be the row just returned, or after it.
    pub fn skip_within(&mut self, path: &RelPath) {
        let (_, end) = key_range(path);
        let rest: Vec<Row> = std::mem::take(&mut self.page).filter(|row| row.path.to_key() >= end).collect();
        if rest.is_empty() && end > self.next {
            self.next = end;
            self.inclusive = true;
        }
        self.page = rest.into_iter();
    }

    fn fetch(&mut self) -> Result<(), CatalogError> {
        let reader = self.reader;
        let sql = if self.inclusive {
            "SELECT path, rest FROM rows WHERE copy = ?1 AND path >= ?2 AND path < ?3 ORDER BY path LIMIT ?4"
        } else {
            "SELECT path, rest FROM rows WHERE copy = ?1 AND path > ?2 AND path < ?3 ORDER BY path LIMIT ?4"
        };
        let mut statement = reader.prepare(sql)?;
        let mut rows =
            statement.query(params![self.copy.0, self.next, self.end, PAGE_ROWS]).map_err(|e| reader.fail(e))?;
        let mut page = Vec::new();
        while let Some(row) = rows.next().map_err(|e| reader.fail(e))? {
            let key = reader.column(row.get_ref(0))?;
            page.push(reader.decode(key, row.get_ref(1).map_err(|e| reader.fail(e))?)?);
        }
        self.inclusive = false;
        match page.last() {
            Some(last) => self.next = last.path.to_key(),
            None => self.done = true,
        }
        self.page = page.into_iter();
        Ok(())
    }
}

impl Iterator for RowRange<'_> {
    type Item = Result<Row, CatalogError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.page.next() {
                return Some(Ok(row));
            }
            if self.done {
                return None;
            }
            if let Err(e) = self.fetch() {
                self.done = true;
                return Some(Err(e));
            }
        }
    }
}
