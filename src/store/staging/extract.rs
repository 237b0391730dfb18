//! Content of the vault becomes a staged file again.

use std::io::{Read, Write};

use super::Staging;
use super::prepare::VaultSource;
use crate::backup::digest::Digest;
use crate::backup::entry::{FileContent, Meta};
use crate::backup::relpath::RelPath;
use crate::tree::error::TreeError;

const READ_BYTES: usize = 1024 * 1024;

impl Staging {
    /// Stages what the vault has of this content. False: it has not, or what it has is damaged.
    pub(super) fn extract(
        &self,
        path: &RelPath,
        form: &Meta,
        content: &FileContent,
        from: &VaultSource<'_>,
    ) -> Result<bool, TreeError> {
        let mut reader = match from.vault.content(Some(from.known), &content.digest) {
            Ok(Some(reader)) if reader.bytes_left() == content.size => reader,
            Ok(_) => return Ok(false),
            Err(error) => {
                tracing::warn!("'{path}' is asked for again: {error}");
                return Ok(false);
            }
        };
        let (dir, name) = self.parent(path)?;
        let mut target = self.create(path, &dir, &name, 0o600)?;
        let (mut hasher, mut buffer) = (blake3::Hasher::new(), vec![0; READ_BYTES]);
        loop {
            let piece = match reader.read(&mut buffer) {
                Ok(len) => buffer.get(..len).unwrap_or_default(),
                Err(error) => {
                    tracing::warn!("'{path}' is asked for again: {error}");
                    dir.unlink(&name)?;
                    return Ok(false);
                }
            };
            if piece.is_empty() {
                break;
            }
            hasher.update(piece);
            target.write_all(piece).map_err(|e| TreeError::new("write", dir.label(), &name, e))?;
        }
        if Digest::from(hasher.finalize()) != content.digest {
            dir.unlink(&name)?;
            return Ok(false);
        }
        if content.sparse {
            super::large::holes::punch(&target, content.size);
        }
        self.seal(path, &target, form, content.digest)?;
        Ok(true)
    }
}
