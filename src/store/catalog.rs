//! The catalog: what the daemon knows about its plain copies without looking, in one SQLite database.
//!
//! A cache and nothing more: the truth is the plain files and the immutable records. Deleting `catalog.sqlite` loses
//! nothing; what is not known is hashed when it is needed. So a catalog that is missing, damaged or of another version
//! is made anew without a question, and a row is believed only as far as its fingerprint matches the file.
//!
//! Always holds: paths are in copy coordinates and lie in canonical order; one [`Catalog`] writes, under a mutex, one
//! transaction a call; each session reads through a [`CatalogReader`] of its own and is never blocked by the writer.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{CachedStatement, Connection, OptionalExtension, TransactionBehavior, params};

use super::names::CopyName;
use super::vault::{PackId, PackIndex};
use crate::backup::chunker::Recipe;
use crate::backup::digest::Digest;
use crate::backup::relpath::RelPath;

mod packs;
mod reader;
mod row;
mod schema;
#[cfg(test)]
mod tests;

pub use packs::VaultTotals;
pub use reader::{CatalogReader, RowRange};
pub use row::{Row, RowKind};

/// Rows moved at once by [`Update::MoveTree`].
const MOVE_PAGE_ROWS: i64 = 1024;

/// A copy's number within this catalog; means nothing to another catalog of the same store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CopyId(i64);

/// Where a chunk lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkPlace {
    /// Content of the file that holds it.
    pub file: Digest,
    /// Where in that file.
    pub offset: u64,
    /// Bytes.
    pub len: u32,
}

/// One change of what the catalog knows.
#[derive(Clone, Debug)]
pub enum Update {
    /// New, or replaces the row of its path.
    Put(Row),
    /// Forget one path.
    Remove(RelPath),
    /// Forget a path and everything within it.
    RemoveTree(RelPath),
    /// A path and everything within it got another name; what was known at `to` is forgotten.
    MoveTree {
        /// Old path.
        from: RelPath,
        /// New path; neither lies within the other.
        to: RelPath,
    },
    /// How the file with this content is cut.
    PutRecipe {
        /// The file's content.
        digest: Digest,
        /// Its chunks.
        recipe: Recipe,
    },
    /// How it is cut is not known any more, and its chunks are not found.
    RemoveRecipe(Digest),
    /// A file with this content lies in `retired/`.
    PutRetired {
        /// Its content.
        digest: Digest,
        /// Bytes.
        size: u64,
        /// Where, below `retired/`.
        place: RelPath,
    },
    /// No file with this content lies in `retired/` any more.
    RemoveRetired(Digest),
    /// A pack is in the vault, with these blobs, all of them, whatever was known of it.
    PutPack(PackIndex),
    /// A pack is not in the vault any more, or soon will not be.
    RemovePack(PackId),
    /// Blobs with this key are not found any more, though they are in packs: they turned out to be damaged. The packs
    /// themselves say still that they are there.
    RemoveBlobs(Digest),
}

/// Why the catalog cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// It is damaged; the next start makes it anew, and nothing is lost.
    #[error("the catalog '{}' is damaged ({why}); it is made anew at the next start, and nothing is lost", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The disk is full.
    #[error("no space left to write the catalog '{}'", path.display())]
    NoSpace {
        /// The database.
        path: PathBuf,
    },
    /// The caller asked for what makes no sense.
    #[error("the catalog cannot move '{from}' to '{to}': one lies within the other")]
    Move {
        /// Old path.
        from: RelPath,
        /// New path.
        to: RelPath,
    },
    /// The operating system's fault.
    #[error("cannot replace the catalog '{}': {source}", path.display())]
    Io {
        /// The database.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Anything else that SQLite reports.
    #[error("the catalog '{}' cannot be used: {source}", path.display())]
    Failed {
        /// The database.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
}

/// The writing side of the catalog.
pub struct Catalog {
    conn: Mutex<Connection>,
    path: PathBuf,
}

impl Catalog {
    /// Opens the database at `path`; made anew when missing, damaged or of another version.
    ///
    /// # Errors
    /// [`CatalogError`], none of which a fresh start with the file deleted would not also meet.
    pub fn open(path: &Path) -> Result<Self, CatalogError> {
        Ok(Self { conn: Mutex::new(schema::open_writer(path)?), path: path.to_path_buf() })
    }

    /// For a process that only reads the store: asks the database that is there, if it can be asked, and changes nothing.
    /// Without one nothing is known, and every question is an error.
    ///
    /// # Errors
    /// Short of memory only.
    pub fn open_to_read(path: &Path) -> Result<Self, CatalogError> {
        let conn =
            schema::open_reader(path).or_else(|_| Connection::open_in_memory().map_err(|e| schema::error(path, e)));
        Ok(Self { conn: Mutex::new(conn?), path: path.to_path_buf() })
    }

    /// A reader with a connection of its own.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn reader(&self) -> Result<CatalogReader, CatalogError> {
        CatalogReader::open(&self.path)
    }

    /// The number of a copy; given out at the first question.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn copy_id(&self, copy: &CopyName) -> Result<CopyId, CatalogError> {
        let conn = self.lock();
        let fail = |e| schema::error(&self.path, e);
        let names = params![copy.node(), copy.user()];
        let known = || conn.query_row("SELECT id FROM copies WHERE node = ?1 AND user = ?2", names, |row| row.get(0));
        if let Some(id) = known().optional().map_err(fail)? {
            return Ok(CopyId(id));
        }
        conn.execute("INSERT OR IGNORE INTO copies (node, user) VALUES (?1, ?2)", names).map_err(fail)?;
        Ok(CopyId(known().map_err(fail)?))
    }

    /// Applies the updates in their order, in one transaction; returns how many there were.
    ///
    /// # Errors
    /// [`CatalogError`]; nothing has changed then.
    pub fn apply(&self, copy: CopyId, updates: impl IntoIterator<Item = Update>) -> Result<u64, CatalogError> {
        let mut conn = self.lock();
        let fail = |e| schema::error(&self.path, e);
        let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
        let mut count = 0;
        {
            let mut writer = Writer::new(&transaction, copy, &self.path).map_err(fail)?;
            for update in updates {
                writer.apply(update)?;
                count += 1;
            }
        }
        transaction.commit().map_err(fail)?;
        Ok(count)
    }

    /// Folds the log back into the database, as far as readers allow; for quiet moments.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn checkpoint(&self) -> Result<(), CatalogError> {
        let checkpoint = self.lock().query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        checkpoint.map_err(|e| schema::error(&self.path, e))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A transaction that a panic left open was rolled back when it was dropped.
        self.conn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The statements of one transaction.
struct Writer<'a> {
    conn: &'a Connection,
    path: &'a Path,
    copy: i64,
    put: CachedStatement<'a>,
    remove: CachedStatement<'a>,
    blob: Vec<u8>,
}

impl<'a> Writer<'a> {
    fn new(conn: &'a Connection, copy: CopyId, path: &'a Path) -> rusqlite::Result<Self> {
        // Not INSERT OR REPLACE: that deletes and inserts in both trees even when the digest stays.
        let put = conn.prepare_cached(
            "INSERT INTO rows (copy, path, prefix, rest) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET prefix = excluded.prefix, rest = excluded.rest",
        )?;
        let remove = conn.prepare_cached("DELETE FROM rows WHERE copy = ?1 AND path = ?2")?;
        Ok(Self { conn, path, copy: copy.0, put, remove, blob: Vec::new() })
    }

    fn apply(&mut self, update: Update) -> Result<(), CatalogError> {
        let done = match update {
            Update::Put(row) => self.put(&row),
            Update::Remove(path) => self.remove.execute(params![self.copy, path.to_key()]).map(drop),
            Update::RemoveTree(path) => self.remove_tree(&path),
            Update::MoveTree { from, to } => return self.move_tree(from, to),
            Update::PutRecipe { digest, recipe } => self.put_recipe(&digest, &recipe),
            Update::RemoveRecipe(digest) => self.remove_recipe(&digest),
            Update::PutRetired { digest, size, place } => self.put_retired(&digest, size, &place),
            Update::RemoveRetired(digest) => self.remove_retired(&digest),
            Update::PutPack(index) => packs::put(self.conn, self.copy, &index),
            Update::RemovePack(pack) => packs::remove(self.conn, self.copy, pack),
            Update::RemoveBlobs(digest) => packs::remove_blobs(self.conn, self.copy, &digest),
        };
        done.map_err(|e| schema::error(self.path, e))
    }

    fn put(&mut self, row: &Row) -> rusqlite::Result<()> {
        let key = row.path.to_key();
        self.blob.clear();
        row.encode(&key, &mut self.blob);
        self.put.execute(params![self.copy, key, row.digest_prefix(), self.blob]).map(drop)
    }

    fn remove_tree(&self, path: &RelPath) -> rusqlite::Result<()> {
        let (first, end) = reader::key_range(path);
        self.conn
            .prepare_cached("DELETE FROM rows WHERE copy = ?1 AND path >= ?2 AND path < ?3")?
            .execute(params![self.copy, first, end])
            .map(drop)
    }

    /// A page at a time, so that a large tree does not have to fit into memory. Ends because the two are apart.
    fn move_tree(&mut self, from: RelPath, to: RelPath) -> Result<(), CatalogError> {
        if from.is_within(&to) || to.is_within(&from) {
            return Err(CatalogError::Move { from, to });
        }
        let fail = |e| schema::error(self.path, e);
        self.remove_tree(&to).map_err(fail)?;
        let (first, end) = reader::key_range(&from);
        loop {
            let page = self.page(&first, &end)?;
            let Some(last) = page.last().map(|row| row.path.to_key()) else { return Ok(()) };
            self.conn
                .prepare_cached("DELETE FROM rows WHERE copy = ?1 AND path >= ?2 AND path <= ?3")
                .and_then(|mut delete| delete.execute(params![self.copy, first, last]))
                .map_err(|e| schema::error(self.path, e))?;
            for mut row in page {
                let inner = row.path.strip_prefix(&from).unwrap_or_default();
                // A path that gets too long for us is forgotten: what is not known is hashed.
                let Ok(path) = to.join_path(&inner) else { continue };
                row.path = path;
                self.put(&row).map_err(|e| schema::error(self.path, e))?;
            }
        }
    }

    fn page(&self, first: &[u8], end: &[u8]) -> Result<Vec<Row>, CatalogError> {
        let fail = |e| schema::error(self.path, e);
        let mut select = self
            .conn
            .prepare_cached(
                "SELECT path, rest FROM rows WHERE copy = ?1 AND path >= ?2 AND path < ?3 ORDER BY path LIMIT ?4",
            )
            .map_err(fail)?;
        let mut rows = select.query(params![self.copy, first, end, MOVE_PAGE_ROWS]).map_err(fail)?;
        let mut page = Vec::new();
        while let Some(row) = rows.next().map_err(fail)? {
            let key = row.get_ref(0).map_err(fail)?.as_blob().unwrap_or_default();
            let rest = row.get_ref(1).map_err(fail)?.as_blob().unwrap_or_default();
            let row = Row::decode(key, rest);
            page.push(row.ok_or_else(|| schema::damaged(self.path, "a row cannot be read".into()))?);
        }
        Ok(page)
    }

    fn put_recipe(&self, digest: &Digest, recipe: &Recipe) -> rusqlite::Result<()> {
        let bytes = recipe.encode();
        // What could not be read back would later look like damage. Without a recipe the file is just sent whole.
        if Recipe::decode(&bytes).is_err() {
            return Ok(());
        }
        // A file's content is cut in one way only, once its class is fixed; a second recipe replaces the first.
        let id: i64 = self
            .conn
            .prepare_cached(
                "INSERT INTO recipes (copy, digest, recipe) VALUES (?1, ?2, ?3)
                 ON CONFLICT (copy, digest) DO UPDATE SET recipe = excluded.recipe RETURNING id",
            )?
            .query_row(params![self.copy, digest.0.as_slice(), bytes], |row| row.get(0))?;
        let mut put = self.conn.prepare_cached(
            "INSERT OR IGNORE INTO chunks (copy, digest, recipe, at, len) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        for (offset, chunk, len) in recipe.places() {
            let offset = i64::try_from(offset).unwrap_or(i64::MAX);
            put.execute(params![self.copy, chunk.0.as_slice(), id, offset, len])?;
        }
        Ok(())
    }

    fn remove_recipe(&self, digest: &Digest) -> rusqlite::Result<()> {
        let Some(recipe) = self.recipe_of(digest)? else { return Ok(()) };
        // By chunk: the key begins with it.
        let (_, blob) = &recipe;
        let mut remove =
            self.conn.prepare_cached("DELETE FROM chunks WHERE copy = ?1 AND digest = ?2 AND recipe = ?3")?;
        for (_, chunk, _) in Recipe::decode(blob).iter().flat_map(Recipe::places) {
            remove.execute(params![self.copy, chunk.0.as_slice(), recipe.0])?;
        }
        self.conn.prepare_cached("DELETE FROM recipes WHERE id = ?1")?.execute([recipe.0]).map(drop)
    }

    fn recipe_of(&self, digest: &Digest) -> rusqlite::Result<Option<(i64, Vec<u8>)>> {
        self.conn
            .prepare_cached("SELECT id, recipe FROM recipes WHERE copy = ?1 AND digest = ?2")?
            .query_row(params![self.copy, digest.0.as_slice()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
    }

    fn put_retired(&self, digest: &Digest, size: u64, place: &RelPath) -> rusqlite::Result<()> {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        self.conn
            .prepare_cached("INSERT OR REPLACE INTO retired (copy, digest, size, place) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![self.copy, digest.0.as_slice(), size, place.as_bytes()])
            .map(drop)
    }

    fn remove_retired(&self, digest: &Digest) -> rusqlite::Result<()> {
        self.conn
            .prepare_cached("DELETE FROM retired WHERE copy = ?1 AND digest = ?2")?
            .execute(params![self.copy, digest.0.as_slice()])
            .map(drop)
    }
}
