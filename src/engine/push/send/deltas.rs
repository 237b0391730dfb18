//! Inside files, where bytes count: which older versions the store is asked about, and what is sent by the sums that it
//! tells of them. The rules are in `backup::delta`; that a store tells none is always right.

use std::collections::HashMap;

use super::super::files::FILES_HEAD_BYTES_TARGET;
use super::ContentSender;
use super::Sink;
use crate::backup::chunker::Recipe;
use crate::backup::delta::{self, DELTA_BYTES_MIN, delta};
use crate::backup::digest::Digest;
use crate::backup::hash_cache::CacheRecord;
use crate::backup::limits::DELTA_BYTES_MAX;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::observer::Event;
use crate::engine::wire::{entry_bytes, entry_to_wire};
use crate::net::message::{Bases, FileDeltas, Message, Sums, WireBasis, WireDelta};

/// How far from where it is expected an older version is looked for.
const SLACK_BYTES: u64 = 32 * 1024;

/// A part of a large file's base that may be an older version of some of its chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Older {
    /// The first of the chunks, and how many.
    pub(super) first: usize,
    pub(super) count: usize,
    /// Where it is in the base.
    pub(super) offset: u64,
    pub(super) len: u32,
}

impl Older {
    pub(super) fn to_wire(self) -> WireBasis {
        let Self { first, count, offset, len } = self;
        WireBasis::Range { item: first as u32, count: count as u32, offset, len }
    }
}

/// Follows a large file's base while the file is read: where new chunks stand between known ones, their older versions do
/// too.
pub(super) struct Alignment {
    starts: HashMap<Digest, (u64, u32)>,
    size: u64,
    /// Where in the base what comes next is expected.
    at: u64,
    /// What came last is known to stand before it.
    exact: bool,
}

impl Alignment {
    pub(super) fn with(base: &Recipe) -> Self {
        let (mut starts, mut at) = (HashMap::new(), 0);
        for (digest, len) in &base.chunks {
            starts.entry(*digest).or_insert((at, *len));
            at += u64::from(*len);
        }
        Self { starts, size: at, at: 0, exact: true }
    }

    /// The next chunks of the file: what may be older versions of those that are new.
    pub(super) fn next(&mut self, chunks: &[(Digest, u32)]) -> Vec<Older> {
        let (mut older, mut i) = (Vec::new(), 0);
        while let Some((digest, _)) = chunks.get(i) {
            if let Some((start, len)) = self.starts.get(digest) {
                (self.at, self.exact) = (start + u64::from(*len), true);
                i += 1;
                continue;
            }
            let rest = chunks.get(i..).unwrap_or_default();
            let count = rest.iter().take_while(|(digest, _)| !self.starts.contains_key(digest)).count();
            let bytes: u64 = rest.iter().take(count).map(|(_, len)| u64::from(*len)).sum();
            let until = rest.get(count).and_then(|(digest, _)| self.starts.get(digest)).map(|(start, _)| *start);
            let until = until.filter(|until| *until >= self.at);
            let begin = if self.exact { self.at } else { self.at.saturating_sub(SLACK_BYTES) };
            let end = until.unwrap_or(self.at + bytes + SLACK_BYTES).min(self.size);
            let len = end.saturating_sub(begin).min(DELTA_BYTES_MAX as u64);
            if len >= DELTA_BYTES_MIN as u64 && bytes >= DELTA_BYTES_MIN as u64 {
                older.push(Older { first: i, count, offset: begin, len: len as u32 });
            }
            (self.at, self.exact) = (until.unwrap_or(self.at + bytes).min(self.size), until.is_some());
            i += count;
        }
        older
    }
}

/// What the store told of the bases of one offer, by their items.
#[derive(Default)]
pub(super) struct SumsOf(HashMap<usize, delta::Sums>);

/// Content, told by a basis.
pub(super) struct Patch {
    pub(super) delta: WireDelta,
    pub(super) literals: Vec<u8>,
}

impl SumsOf {
    /// # Errors
    /// The store tells sums that cannot be.
    pub(super) fn of(sums: Option<Sums>) -> Result<Self, EngineError> {
        let mut all = HashMap::new();
        for told in sums.into_iter().flat_map(|sums| sums.sums) {
            let checked = delta::Sums::checked(told.block, told.len, told.sums.0).map_err(|_| {
                EngineError::new(ErrorKind::Failed, "the other side broke the protocol: sums that are none")
            })?;
            all.insert(told.item as usize, checked);
        }
        Ok(Self(all))
    }

    /// This content by the basis of an item, if that is much shorter.
    pub(super) fn patch(&self, item: usize, offset: u64, content: &[u8]) -> Option<Patch> {
        let sums = self.0.get(&item)?;
        let told = delta(content, sums);
        if told.literals.len() + told.steps.len() > content.len() / 4 * 3 {
            return None;
        }
        let delta = WireDelta { offset, len: sums.len, block: sums.block, steps: told.steps.into() };
        Some(Patch { delta, literals: told.literals })
    }
}

/// Small files that are told by their bases.
#[derive(Default)]
pub(super) struct Told {
    files: Vec<(CacheRecord, WireDelta)>,
    literals: Vec<Vec<u8>>,
    /// Bytes of the files themselves.
    pub(super) bytes: u64,
}

impl Told {
    pub(super) fn push(&mut self, record: CacheRecord, patch: Patch) {
        self.bytes += record.entry.file().map_or(0, |content| content.size);
        self.files.push((record, patch.delta));
        self.literals.push(patch.literals);
    }
}

impl ContentSender<'_> {
    /// Whether bytes count: not where something is sent again because it was not right before.
    pub(super) fn looks_inside(&self) -> bool {
        matches!(self.sink, Sink::Cache(_)) && !self.dry_run && self.link.is_slow()
    }

    /// Asks about the older versions of what is offered next.
    pub(super) fn ask_for_sums(&self, batch: u32, bases: Vec<WireBasis>) -> Result<(), EngineError> {
        if bases.is_empty() { Ok(()) } else { Ok(self.link.send(Bases { batch, bases })?) }
    }

    pub(super) fn send_deltas(&mut self, told: Told) -> Result<(), EngineError> {
        let (mut files, mut payload, mut head_bytes) = (Vec::new(), Vec::new(), 0);
        let mut all = told.files.into_iter().zip(told.literals).peekable();
        while let Some(((record, delta), literals)) = all.next() {
            self.observer.event(&Event::FileDone { path: record.entry.path.as_bytes() });
            let entry = entry_to_wire(&record.entry);
            head_bytes += entry_bytes(&entry) + delta.steps.0.len();
            self.found.content_bytes_sent += literals.len() as u64;
            payload.extend_from_slice(&literals);
            files.push((entry, delta));
            if head_bytes >= FILES_HEAD_BYTES_TARGET || all.peek().is_none() {
                let deltas = FileDeltas { files: std::mem::take(&mut files) };
                self.link.send(Message::FileDeltas(deltas, std::mem::take(&mut payload)))?;
                head_bytes = 0;
            }
        }
        self.observer.event(&Event::Advanced { bytes: told.bytes });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(number: u8, kib: u32) -> (Digest, u32) {
        (Digest([number; 32]), kib * 1024)
    }

    fn older(first: usize, count: usize, offset_kib: u64, kib: u32) -> Older {
        Older { first, count, offset: offset_kib * 1024, len: kib * 1024 }
    }

    fn alignment() -> Alignment {
        let chunks = (1..=5).map(|number| chunk(number, 100)).collect();
        Alignment::with(&Recipe { class: crate::backup::entry::SizeClass::Kib64, chunks })
    }

    #[test]
    fn an_older_version_stands_between_what_is_known() {
        let mut all = alignment();
        let next = all.next(&[chunk(1, 100), chunk(20, 90), chunk(21, 30), chunk(3, 100), chunk(4, 100)]);
        assert_eq!(next, [older(1, 2, 100, 100)]);
        // Over the end of a piece it is guessed, with slack, and found again.
        assert_eq!(all.next(&[chunk(30, 60)]), [older(0, 1, 400, 92)]);
        assert_eq!(all.next(&[chunk(31, 50), chunk(32, 10)]), [older(0, 2, 428, 72)]);
        assert_eq!(all.next(&[chunk(33, 90)]), [older(0, 1, 468, 32)], "no further than the base goes");
        assert_eq!(all.next(&[chunk(5, 100), chunk(34, 90)]), [], "nothing is left of it");
        // What was moved is followed.
        assert_eq!(all.next(&[chunk(2, 100), chunk(40, 50), chunk(5, 100)]), [older(1, 1, 200, 200)]);
    }

    #[test]
    fn what_is_inserted_or_tiny_has_no_older_version() {
        let next = alignment().next(&[chunk(1, 100), chunk(20, 50), chunk(2, 100), (Digest([30; 32]), 500)]);
        assert_eq!(next, []);
    }

    #[test]
    fn what_is_not_much_shorter_is_sent_as_it_is() {
        let old: Vec<u8> = (0..20_000_u32).flat_map(|i| (i * i).to_le_bytes()).collect();
        let sums = SumsOf(HashMap::from([(7, delta::Sums::of(&old))]));
        let patch = sums.patch(7, 5, &[&b"new"[..], &old[..]].concat()).unwrap();
        assert_eq!((patch.delta.offset, patch.literals.len()), (5, 3));
        assert!(sums.patch(7, 0, &vec![1; 5_000]).is_none() && sums.patch(8, 0, &old).is_none());
    }
}
