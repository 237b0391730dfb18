//! The catalog's database: its tables, its settings, and how it is opened or thrown away and made anew.
//!
//! `rows`, `chunks` and `blobs` have no rowid: they lie in the order in which they are read, or go. A digest index of
//! rows or blobs holds 8 bytes of the digest, not 32. `synchronous = NORMAL` with WAL: a power cut may lose the last transactions, but cannot
//! damage the database, and a row that is older than the copy has a fingerprint that does not match. That is why no
//! commit here waits for the disk, and why the log is folded back only when it is large or when somebody asks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::CatalogError;
use crate::tree::own;

/// `PRAGMA application_id`: "rbbc".
const APPLICATION_ID: i32 = 0x7262_6263;
/// `PRAGMA user_version`. Another one: the catalog is made anew, nothing is lost.
const SCHEMA_VERSION: i32 = 3;
const PAGE_BYTES: u32 = 8192;
/// Page cache of a connection. The kernel holds the same pages once more, and a restore has a reader a thread: small ones do.
const WRITER_CACHE_KIB: i32 = 12 * 1024;
const READER_CACHE_KIB: i32 = 1024;
/// The log is folded back by a writing commit once it is this long.
const WAL_PAGES_MAX: i32 = 8192;
const BUSY_TIMEOUT: Duration = Duration::from_secs(60);
/// A reader waits for nobody but a process that has just opened the database after a crash.
const READER_BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection is one thread's; and no symbolic link is followed to it, as `tree::own` does for all else in `.rbbackup`.
const ALWAYS: OpenFlags = OpenFlags::SQLITE_OPEN_NO_MUTEX.union(OpenFlags::SQLITE_OPEN_NOFOLLOW);

const SCHEMA: &str = "
CREATE TABLE copies (id INTEGER PRIMARY KEY, node TEXT NOT NULL, user TEXT NOT NULL, UNIQUE (node, user));
CREATE TABLE rows (copy INTEGER NOT NULL, path BLOB NOT NULL, prefix INTEGER, rest BLOB NOT NULL,
    PRIMARY KEY (copy, path)) WITHOUT ROWID;
CREATE INDEX rows_by_digest ON rows (copy, prefix) WHERE prefix IS NOT NULL;
CREATE TABLE recipes (id INTEGER PRIMARY KEY, copy INTEGER NOT NULL, digest BLOB NOT NULL, recipe BLOB NOT NULL,
    UNIQUE (copy, digest));
CREATE TABLE chunks (copy INTEGER NOT NULL, digest BLOB NOT NULL, recipe INTEGER NOT NULL, at INTEGER NOT NULL,
    len INTEGER NOT NULL, PRIMARY KEY (copy, digest, recipe)) WITHOUT ROWID;
CREATE TABLE retired (copy INTEGER NOT NULL, digest BLOB NOT NULL, size INTEGER NOT NULL, place BLOB NOT NULL,
    PRIMARY KEY (copy, digest)) WITHOUT ROWID;
CREATE INDEX retired_by_place ON retired (copy, place);
CREATE TABLE packs (id INTEGER PRIMARY KEY, copy INTEGER NOT NULL, pack BLOB NOT NULL, bytes INTEGER NOT NULL,
    blobs INTEGER NOT NULL, raw INTEGER NOT NULL, UNIQUE (copy, pack));
CREATE TABLE blobs (pack INTEGER NOT NULL, n INTEGER NOT NULL, copy INTEGER NOT NULL, prefix INTEGER NOT NULL,
    rest BLOB NOT NULL, PRIMARY KEY (pack, n)) WITHOUT ROWID;
CREATE INDEX blobs_by_digest ON blobs (copy, prefix);
";

/// Opens the writing connection; a database that is missing, damaged or of another version is made anew.
pub(super) fn open_writer(path: &Path) -> Result<Connection, CatalogError> {
    let marker = damage_marker(path);
    if !own::is_file(&marker) {
        match try_open_writer(path) {
            Ok(Some(conn)) => return Ok(conn),
            Ok(None) | Err(CatalogError::Damaged { .. }) => {}
            Err(other) => return Err(other),
        }
    }
    remove(path)?;
    let conn = try_open_writer(path)?;
    conn.ok_or_else(|| CatalogError::Damaged { path: path.to_path_buf(), why: "it cannot be made anew".into() })
}

/// None: a database of another version.
fn try_open_writer(path: &Path) -> Result<Option<Connection>, CatalogError> {
    let fail = |e| error(path, e);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | ALWAYS;
    let conn = Connection::open_with_flags(path, flags).map_err(fail)?;
    conn.busy_timeout(BUSY_TIMEOUT).map_err(fail)?;
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(fail)?;
    if tables == 0 {
        conn.pragma_update(None, "page_size", PAGE_BYTES).map_err(fail)?;
        conn.pragma_update(None, "journal_mode", "WAL").map_err(fail)?;
        conn.execute_batch(&format!(
            "BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; {SCHEMA} \
             PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        ))
        .map_err(fail)?;
    } else if !is_ours(&conn).map_err(fail)? {
        return Ok(None);
    }
    conn.pragma_update(None, "journal_mode", "WAL").map_err(fail)?;
    conn.pragma_update(None, "synchronous", "NORMAL").map_err(fail)?;
    conn.pragma_update(None, "cache_size", -WRITER_CACHE_KIB).map_err(fail)?;
    // A confined daemon has no /tmp; nothing here sorts more than a few rows.
    conn.pragma_update(None, "temp_store", "MEMORY").map_err(fail)?;
    conn.pragma_update(None, "wal_autocheckpoint", WAL_PAGES_MAX).map_err(fail)?;
    settle(&conn).map_err(fail)?;
    Ok(Some(conn))
}

/// Opens a connection that only reads; it creates and repairs nothing.
pub(super) fn open_reader(path: &Path) -> Result<Connection, CatalogError> {
    let fail = |e| error(path, e);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | ALWAYS;
    let conn = Connection::open_with_flags(path, flags).map_err(fail)?;
    conn.busy_timeout(READER_BUSY_TIMEOUT).map_err(fail)?;
    if !is_ours(&conn).map_err(fail)? {
        return Err(CatalogError::Damaged { path: path.to_path_buf(), why: "it has another version".into() });
    }
    conn.pragma_update(None, "cache_size", -READER_CACHE_KIB).map_err(fail)?;
    settle(&conn).map_err(fail)?;
    Ok(conn)
}

/// Statements are prepared once, and stay so: without QPSG SQLite prepares a query of a partial index again for each
/// value that is bound.
fn settle(conn: &Connection) -> rusqlite::Result<()> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.set_prepared_statement_cache_capacity(32);
    Ok(())
}

fn is_ours(conn: &Connection) -> rusqlite::Result<bool> {
    let application: i32 = conn.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: i32 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(application == APPLICATION_ID && version == SCHEMA_VERSION)
}

/// Turns SQLite's errors into ours. Damage leaves a marker, so that the next opening makes the catalog anew.
pub(super) fn error(path: &Path, source: rusqlite::Error) -> CatalogError {
    let path = path.to_path_buf();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(&path, source.to_string()),
        Some(ErrorCode::DiskFull) => CatalogError::NoSpace { path },
        _ => CatalogError::Failed { path, source },
    }
}

/// Leaves the marker and makes the error.
pub(super) fn damaged(path: &Path, why: String) -> CatalogError {
    // If the marker cannot be written, the damage is met again, and reported again.
    let _ = own::write_plain(&damage_marker(path), b"");
    CatalogError::Damaged { path: path.to_path_buf(), why }
}

fn damage_marker(path: &Path) -> PathBuf {
    beside(path, "-damaged")
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

fn remove(path: &Path) -> Result<(), CatalogError> {
    // The marker goes last: a crash in between finds it again.
    for suffix in ["", "-wal", "-shm", "-journal", "-damaged"] {
        match own::remove(&beside(path, suffix)) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(CatalogError::Io { path: path.to_path_buf(), source });
            }
            _ => {}
        }
    }
    Ok(())
}
