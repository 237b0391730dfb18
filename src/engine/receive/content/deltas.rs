//! Inside files: tells a client the sums of what the copy has, and puts together what it then sends by them.
//!
//! Nothing is kept between the two: a basis is read again, and the copy does not change before the commit. Everything that
//! is put together is verified by its digest, like what arrives whole; what is not right (two blocks with one hash, a file
//! of the copy that somebody changed meanwhile) is not taken, and the plan will miss it.

use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::{ContentReceiver, FILES_BYTES_MAX, NOT_OPEN, answer};
use crate::backup::delta::{DELTA_BYTES_MIN, Sums, apply, literal_bytes};
use crate::backup::digest::Digest;
use crate::backup::limits::{BATCH_COUNT_MAX, CHUNK_BYTES_MAX, DELTA_BYTES_MAX};
use crate::backup::relpath::RelPath;
use crate::engine::error::EngineError;
use crate::engine::wire::{Bits, WireError};
use crate::net::link::LinkSender;
use crate::net::message::{self, Bases, ChunkDeltas, Chunks, FileDeltas, Files, WireBasis, WireDelta, WireKind};
use crate::tree::stat::FileKind;

/// Bytes of sums that one answer tells: what is beyond is sent whole.
const SUMS_BYTES_TARGET: usize = 512 * 1024;
/// Bytes of bases that are read for one answer.
const BASES_BYTES_TARGET: usize = 4 * DELTA_BYTES_MAX;
/// Content of one message of chunks, put together.
const CHUNKS_BYTES_MAX: usize = 4 * 1024 * 1024;

const MISFIT: WireError = WireError::Bounds("a delta that does not fit");

impl ContentReceiver<'_> {
    /// Bases of the offer that comes next.
    pub(super) fn bases(&mut self, bases: Bases) -> Result<(), EngineError> {
        if bases.bases.len() > BATCH_COUNT_MAX {
            return Err(WireError::Bounds("too many bases of one offer").into());
        }
        self.bases = Some(bases);
        Ok(())
    }

    /// Tells the sums of those bases of this offer of which `bits` say that something is needed. `base`: that of the file
    /// whose chunks are offered.
    pub(super) fn answer_bases(
        &mut self,
        link: &LinkSender,
        batch: u32,
        bits: &Bits,
        base: Option<Digest>,
    ) -> Result<(), EngineError> {
        let Some(bases) = self.bases.take().filter(|bases| bases.batch == batch) else { return Ok(()) };
        let (mut sums, mut sum_bytes, mut read_bytes) = (Vec::new(), 0, 0);
        for basis in bases.bases {
            if sum_bytes >= SUMS_BYTES_TARGET || read_bytes >= BASES_BYTES_TARGET {
                break;
            }
            let (item, content) = match basis {
                WireBasis::File { item, path } if bits.get(item as usize) => {
                    (item, self.older_file(&RelPath::new(path.as_slice()).map_err(WireError::from)?)?)
                }
                WireBasis::Range { item, count, offset, len } if any(bits, item, count) => {
                    (item, self.older_range(base, offset, len)?)
                }
                _ => continue,
            };
            let Some(content) = content else { continue };
            let Sums { block, len, sums: hashes } = Sums::of(&content);
            (sum_bytes, read_bytes) = (sum_bytes + hashes.len(), read_bytes + content.len());
            sums.push(message::WireSums { item, block, len, sums: hashes.into() });
        }
        if sums.is_empty() { Ok(()) } else { answer(link, message::Sums { batch, sums }) }
    }

    /// What the copy has at a path below the root; none where it is no file of a size that is worth it.
    fn older_file(&self, path: &RelPath) -> Result<Option<Vec<u8>>, EngineError> {
        let at = self.run.root.join_path(path).map_err(WireError::from)?;
        let name = at.name().unwrap_or_default();
        let read = || {
            let dir = self.run.copy.dir.open_dir(&at.parent().unwrap_or_default()).ok()?;
            let stat = dir.stat(name).ok()?;
            let size = usize::try_from(stat.size).ok()?;
            if stat.kind != FileKind::File || !(DELTA_BYTES_MIN..=DELTA_BYTES_MAX).contains(&size) {
                return None;
            }
            let mut content = Vec::with_capacity(size);
            dir.open_read(name).ok()?.take(stat.size + 1).read_to_end(&mut content).ok()?;
            Some(content).filter(|content| content.len() == size)
        };
        Ok(read())
    }

    /// A part of what the store has of a large file's base; none where it cannot be read.
    fn older_range(&mut self, base: Option<Digest>, offset: u64, len: u32) -> Result<Option<Vec<u8>>, EngineError> {
        let Some(base) = base else { return Ok(None) };
        if len as usize > DELTA_BYTES_MAX {
            return Err(MISFIT.into());
        }
        let Some(file) = self.sources.get(self.run, &base)? else { return Ok(None) };
        let mut content = vec![0; len as usize];
        Ok(file.read_exact_at(&mut content, offset).ok().map(|()| content))
    }

    /// Small files, told by what the copy has.
    pub(super) fn file_deltas(&mut self, told: FileDeltas, payload: &[u8]) -> Result<(), EngineError> {
        let size = |kind: &WireKind| match kind {
            WireKind::File { size, .. } => usize::try_from(*size).unwrap_or(usize::MAX),
            _ => usize::MAX,
        };
        let all = told.files.iter().fold(0_usize, |sum, (entry, _)| sum.saturating_add(size(&entry.kind)));
        if told.files.len() > BATCH_COUNT_MAX || all > FILES_BYTES_MAX {
            return Err(WireError::Bounds("the small files of one message are too large").into());
        }
        let (mut entries, mut content, mut rest) = (Vec::with_capacity(told.files.len()), Vec::new(), payload);
        for (entry, delta) in told.files {
            let literals = take_literals(&delta, &mut rest)?;
            let WireKind::File { digest, .. } = entry.kind else { return Err(MISFIT.into()) };
            let path = RelPath::new(entry.path.as_slice()).map_err(WireError::from)?;
            let basis = self.older_file(&path)?.filter(|basis| basis.len() == delta.len as usize);
            let begin = content.len();
            let made = basis.is_some_and(|basis| {
                apply(&basis, delta.block, &delta.steps.0, literals, size(&entry.kind), &mut content).is_ok()
            });
            if made && content.get(begin..).is_some_and(|made| Digest::of(made) == digest) {
                entries.push(entry);
            } else {
                tracing::debug!("'{path}' could not be put together of what the copy has: it is asked for again");
                content.truncate(begin);
                self.shared.keep_promise(&[digest]);
            }
        }
        if !rest.is_empty() {
            return Err(MISFIT.into());
        }
        if entries.is_empty() { Ok(()) } else { self.files(Files { entries }, content) }
    }

    /// Chunks of an open file, told by its base. What cannot be put together arrives as zeros, with which the file is not
    /// what was announced.
    pub(super) fn chunk_deltas(&mut self, told: ChunkDeltas, payload: &[u8]) -> Result<(), EngineError> {
        let base = self.large.get(&told.file).ok_or(NOT_OPEN)?.base_digest;
        let all = told.chunks.iter().fold(0_usize, |sum, (len, _)| sum.saturating_add(*len as usize));
        if told.chunks.iter().any(|(len, _)| *len as usize > CHUNK_BYTES_MAX) || all > CHUNKS_BYTES_MAX {
            return Err(WireError::Bounds("chunks that are too long").into());
        }
        let (mut content, mut lens, mut rest) = (Vec::with_capacity(all), Vec::new(), payload);
        for (len, delta) in told.chunks {
            let literals = take_literals(&delta, &mut rest)?;
            let begin = content.len();
            if let Some(basis) = self.older_range(base, delta.offset, delta.len)? {
                let _ = apply(&basis, delta.block, &delta.steps.0, literals, len as usize, &mut content);
            }
            content.resize(begin + len as usize, 0);
            lens.push(len);
        }
        if !rest.is_empty() {
            return Err(MISFIT.into());
        }
        self.chunks(&Chunks { file: told.file, lens }, &Arc::new(content))
    }
}

/// Whether any of these bits is set; asked of no more than there can be.
fn any(bits: &Bits, first: u32, count: u32) -> bool {
    let first = first as usize;
    (first..first + (count as usize).min(BATCH_COUNT_MAX)).any(|i| bits.get(i))
}

/// The literal bytes of a delta, from the beginning of what is left.
fn take_literals<'a>(delta: &WireDelta, rest: &mut &'a [u8]) -> Result<&'a [u8], WireError> {
    let count = literal_bytes(&delta.steps.0).map_err(|_| MISFIT)?;
    let (literals, after) = rest.split_at_checked(count).ok_or(MISFIT)?;
    *rest = after;
    Ok(literals)
}
