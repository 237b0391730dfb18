//! The content challenge: a destination's word that it holds a snapshot is checked by hashing some of it with a key that
//! is new each time, so that it cannot have been known before, nor be passed on without having the bytes.
//!
//! ```text
//! daemon       paths at random: of what arrived in this run, and of all ── ranges ── hash of our own bytes (expected)
//!                          Challenge{nonce, ranges} ──>  destination: reads them from its plain copy
//!                          <── Proof{BLAKE3 keyed by nonce: each range's length and bytes}
//! ```
//! What we ask for we must have ourselves, or our damage would be taken for theirs: a small file of ours must have its
//! digest, a piece of a large one that of its chunk (or, where nobody knows how it was cut, look as the catalog knows it). A relay has nothing but what `sampler` has
//! kept of this run; where nothing passed, the manifest's digest is all there is.

use crate::backup::bytes::Bytes;
use crate::backup::digest::Digest;
use crate::backup::entry::{FileContent, Kind};
use crate::backup::limits::{CHALLENGE_RANGE_BYTES_MAX, CHALLENGE_RANGES_MAX, WHOLE_FILE_BYTES_MAX};
use crate::backup::relpath::RelPath;
use crate::backup::snapshot::SnapshotRecord;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::hub::Hub;
use crate::engine::wire::WireError;
use crate::net::message::{Challenge, Proof, Range};
use crate::store::catalog::CatalogReader;
use crate::store::names::CopyName;
use crate::tree::dir_cache::{DIRS_OPEN_DEFAULT, DirCache};
use crate::tree::read::FileReader;

/// What is asked of every target of a run, and the bytes that answer it.
pub(in crate::engine) struct Question {
    ranges: Vec<Range>,
    /// One behind the other.
    bytes: Vec<u8>,
}

impl Question {
    /// About what was kept while it passed, where there is no store to compare with.
    pub(super) fn kept<'a>(pieces: impl IntoIterator<Item = (Range, &'a [u8])>) -> Self {
        let mut question = Self { ranges: Vec::new(), bytes: Vec::new() };
        for (range, bytes) in pieces {
            question.ranges.push(range);
            question.bytes.extend_from_slice(bytes);
        }
        question
    }

    /// About this snapshot of our own store; first about these files, if it has them. Without ranges: there is nothing to
    /// ask about.
    ///
    /// # Errors
    /// The snapshot cannot be read, or there are no random numbers.
    pub(in crate::engine) fn about(
        hub: &Hub,
        copy: &CopyName,
        record: &SnapshotRecord,
        arrived: &[Bytes],
    ) -> Result<Self, EngineError> {
        let mut random = Random::new()?;
        let snapshots = hub.store.snapshots(copy)?;
        let half = CHALLENGE_RANGES_MAX / 2;
        let drawn = snapshots.some_paths(record.number, half, &mut |n| random.below(n))?;
        // Of all first: of what has changed there is something already.
        let drawn = drawn.into_iter().rev();
        let arrived = arrived.iter().filter_map(|path| RelPath::new(path.as_slice()).ok());
        let paths: Vec<RelPath> = arrived.take(half).chain(drawn).take(CHALLENGE_RANGES_MAX).collect();
        let mut own = Own {
            reader: hub.catalog.reader()?,
            id: hub.catalog.copy_id(copy)?,
            dirs: DirCache::new(hub.store.copy_dir(copy)?.into(), DIRS_OPEN_DEFAULT),
        };
        let mut question = Self { ranges: Vec::new(), bytes: Vec::new() };
        for path in paths {
            let Some(found) = snapshots.find(record.number, &path)?.filter(|found| !found.kept) else { continue };
            let Kind::File(content) = &found.entry.kind else { continue };
            if content.size == 0 {
                continue;
            }
            let at = record.root.join_path(&path).map_err(WireError::from)?;
            if let Some((offset, bytes)) = own.read(&at, content, &mut random)? {
                let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                question.ranges.push(Range { path: path.as_bytes().into(), offset, len });
                question.bytes.extend_from_slice(&bytes);
            }
        }
        Ok(question)
    }

    /// Whether there is something to ask.
    pub(in crate::engine) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The question with a key of its own, and the answer to it.
    ///
    /// # Errors
    /// There are no random numbers.
    pub(in crate::engine) fn ask(&self) -> Result<(Challenge, Digest), EngineError> {
        let nonce = Random::new()?.0;
        let mut hasher = blake3::Hasher::new_keyed(&nonce);
        let mut rest = self.bytes.as_slice();
        for range in &self.ranges {
            let (bytes, after) = rest.split_at_checked(range.len as usize).unwrap_or_default();
            hasher.update(&range.len.to_le_bytes()).update(bytes);
            rest = after;
        }
        Ok((Challenge { nonce, ranges: self.ranges.clone() }, hasher.finalize().into()))
    }
}

/// Answers for a root of this store's plain copy.
///
/// # Errors
/// The question is too large, or a range cannot be read here: that is an answer, too.
pub(in crate::engine) fn answer(
    hub: &Hub,
    copy: &CopyName,
    root: &RelPath,
    challenge: &Challenge,
) -> Result<Proof, EngineError> {
    if challenge.ranges.len() > CHALLENGE_RANGES_MAX {
        return Err(WireError::Bounds("a challenge has too many ranges").into());
    }
    let mut dirs = DirCache::new(hub.store.copy_dir(copy)?.into(), DIRS_OPEN_DEFAULT);
    let mut hasher = blake3::Hasher::new_keyed(&challenge.nonce);
    for range in &challenge.ranges {
        if range.len as usize > CHALLENGE_RANGE_BYTES_MAX {
            return Err(WireError::Bounds("a challenge asks for too much at once").into());
        }
        let path = RelPath::new(range.path.as_slice()).map_err(WireError::from)?;
        let at = root.join_path(&path).map_err(WireError::from)?;
        let (dir, name) = dirs.parent_of(&at)?;
        let file = dir.open_read(name)?;
        let bytes = read_range(&file, range.offset, range.len as usize)
            .map_err(|e| EngineError::new(ErrorKind::Failed, format!("'{at}' cannot be read: {e}")))?;
        hasher.update(&range.len.to_le_bytes()).update(&bytes);
    }
    Ok(Proof { digest: hasher.finalize().into() })
}

/// Our plain copy, as far as the catalog vouches for it.
struct Own {
    reader: CatalogReader,
    id: crate::store::catalog::CopyId,
    dirs: DirCache,
}

impl Own {
    /// A piece of a file, and where it begins; none: it is not known to be sound.
    fn read(
        &mut self,
        at: &RelPath,
        content: &FileContent,
        random: &mut Random,
    ) -> Result<Option<(u64, Vec<u8>)>, EngineError> {
        let Ok((dir, name)) = self.dirs.parent_of(at) else { return Ok(None) };
        let Ok(file) = FileReader::open(&dir, name) else { return Ok(None) };
        let drawn = random.below(content.size);
        let (start, len, digest) = self.part_of(content, drawn)?;
        let Some(digest) = digest else {
            let Some(row) = self.reader.get(self.id, at)? else { return Ok(None) };
            if file.stat().fingerprint() != row.fingerprint || row.racy || row.digest != Some(content.digest) {
                return Ok(None);
            }
            let len = content.size.min(CHALLENGE_RANGE_BYTES_MAX as u64);
            let offset = drawn.min(content.size - len);
            let bytes = read_range(file.file(), offset, usize::try_from(len).unwrap_or(usize::MAX));
            return Ok(bytes.ok().map(|bytes| (offset, bytes)));
        };
        let all = read_range(file.file(), start, usize::try_from(len).unwrap_or(usize::MAX)).ok();
        let Some(all) = all.filter(|all| Digest::of(all) == digest) else { return Ok(None) };
        let len = all.len().min(CHALLENGE_RANGE_BYTES_MAX);
        let from = usize::try_from(drawn - start).unwrap_or(usize::MAX).min(all.len() - len);
        Ok(all.get(from..from + len).map(|piece| (start + from as u64, piece.to_vec())))
    }

    /// The piece around a place that vouches for itself, however young its file is: where it begins, its length and digest.
    /// Without digest: none is known.
    fn part_of(&self, content: &FileContent, place: u64) -> Result<(u64, u64, Option<Digest>), EngineError> {
        if content.size <= WHOLE_FILE_BYTES_MAX {
            return Ok((0, content.size, Some(content.digest)));
        }
        let recipe = self.reader.recipe(self.id, &content.digest)?.filter(|recipe| recipe.size() == content.size);
        let around = recipe.and_then(|recipe| {
            recipe.places().find(|(start, _, len)| (*start..*start + u64::from(*len)).contains(&place))
        });
        Ok(around.map_or((place, 0, None), |(start, digest, len)| (start, len.into(), Some(digest))))
    }
}

fn read_range(file: &std::fs::File, offset: u64, len: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    std::os::unix::fs::FileExt::read_exact_at(file, &mut bytes, offset)?;
    Ok(bytes)
}

/// Numbers that nobody can foretell.
pub(super) struct Random([u8; 32], u64);

impl Random {
    pub(super) fn new() -> Result<Self, EngineError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)
            .map_err(|e| EngineError::new(ErrorKind::Failed, format!("there are no random numbers: {e}")))?;
        Ok(Self(seed, 0))
    }

    /// One below `n`, or 0; near enough to even.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.1 += 1;
        let hash = blake3::keyed_hash(&self.0, &self.1.to_le_bytes());
        let first = hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        first.checked_rem(n).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
