//! Whose backups a destination's store keeps: `.rbbackup/follows` holds the id of the one server's store that passes them on.
//!
//! Two servers know their clients by the same names (each has a `127.0.0.1/root`), so what one passes on would replace what
//! came from the other. The same goes for what was stored here without any server.

use std::io;

use super::layout::{Store, StoreError};
use crate::backup::bytes::escape;
use crate::backup::digest::RunId;
use crate::tree::own;

const FILE: &str = "follows";
const BYTES_MAX: u64 = 64;

/// What became of [`Store::follow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// It is the one, from now on or since long.
    Yes,
    /// It was another, whose id is told.
    Another([u8; 16]),
    /// Backups came here from nobody.
    HasOwn,
}

impl Store {
    /// The server that passes backups on to this store.
    ///
    /// # Errors
    /// The disk's, or the file is damaged.
    pub fn follows(&self) -> Result<Option<[u8; 16]>, StoreError> {
        let path = self.meta_path(FILE);
        let shown = || escape(path.as_os_str().as_encoded_bytes());
        let bytes = match own::read_file(&path, BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::Io { path: shown(), source }),
        };
        let id = RunId::from_hex(String::from_utf8_lossy(&bytes).trim());
        let id = id.ok_or_else(|| StoreError::Damaged { path: shown(), why: "it is not 32 hex digits".into() })?;
        Ok(Some(id.0))
    }

    /// From now on backups come from this server, if they come from nobody yet.
    ///
    /// # Errors
    /// The disk's, or the file is damaged.
    pub fn follow(&self, server: [u8; 16]) -> Result<Followed, StoreError> {
        match self.follows()? {
            Some(known) if known == server => return Ok(Followed::Yes),
            Some(known) => return Ok(Followed::Another(known)),
            None if !self.copies()?.is_empty() => return Ok(Followed::HasOwn),
            None => {}
        }
        let meta = self.meta_path("");
        let written = own::write_file(&meta, FILE, format!("{}\n", RunId(server)).as_bytes());
        let shown = || escape(self.meta_path(FILE).as_os_str().as_encoded_bytes());
        written.map_err(|source| StoreError::Io { path: shown(), source })?;
        Ok(Followed::Yes)
    }

    /// From now on it keeps backups of its own.
    ///
    /// # Errors
    /// The disk's.
    pub fn follow_nobody(&self) -> Result<(), StoreError> {
        let path = self.meta_path(FILE);
        let shown = || escape(path.as_os_str().as_encoded_bytes());
        let removed = own::remove(&path).and_then(|()| own::sync_dir(&self.meta_path("")));
        removed.map_err(|source| StoreError::Io { path: shown(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::names::CopyName;

    #[test]
    fn a_store_follows_one_server_and_none_when_it_has_backups_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d");
        let store = Store::open_or_create(&path).unwrap();
        assert_eq!(store.follows().unwrap(), None);
        assert_eq!(store.follow([7; 16]).unwrap(), Followed::Yes);
        drop(store);
        let store = Store::open_or_create(&path).unwrap();
        assert_eq!(store.follows().unwrap(), Some([7; 16]));
        assert_eq!(store.follow([7; 16]).unwrap(), Followed::Yes);
        assert_eq!(store.follow([8; 16]).unwrap(), Followed::Another([7; 16]));
        std::fs::write(store.meta_path(FILE), "seven").unwrap();
        assert!(matches!(store.follow([7; 16]), Err(StoreError::Damaged { .. })));
        store.follow_nobody().unwrap();
        let copy = CopyName::new(b"127.0.0.1", b"u").unwrap();
        std::fs::create_dir_all(store.meta_path("snapshots").join(copy.component())).unwrap();
        assert_eq!(store.follow([7; 16]).unwrap(), Followed::HasOwn);
    }
}
