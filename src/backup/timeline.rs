//! [`Timeline`]: what many snapshots say of each path, in one merged pass over their manifest files.
//!
//! Manifests of one root hardly differ: a full one, then changes that stand on it. Read snapshot by snapshot, a hundred
//! of them cost a hundred full reads; here each *file* is read once, all at the same pace in canonical order, and for
//! each path that any of them mentions the timeline tells which record it had from which snapshot to which.
//!
//! ```text
//! layer 0  full, snapshot 1      a₀ b₀ c₀        a: a₀ in 1 to 3
//! layer 1  changes on 0, snap 2     b₁           b: b₀ in 1, b₁ in 2 and 3
//! layer 2  changes on 1, snap 3        c×        c: c₀ in 1 and 2
//! ```
//!
//! A layer stands on one before it; more than one may stand on the same. Those that stand on one full manifest are a
//! *segment*. Paths come out as the copy has them (root and path in one), so that several roots make one sorted stream.
//! Always holds: strictly ascending paths; after an error nothing more. It opens nothing: the records of each layer
//! come in as an iterator, of which one record is held.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use super::manifest::{ChangeRecord, ManifestRecord};
use super::relpath::{PathError, RelPath};
use super::sorted_file::SortedRecord;

/// One manifest file: a full one, or changes.
pub struct Layer<I> {
    /// Index of the layer that the changes stand on, lower than this one's; none for a full manifest.
    pub base: Option<usize>,
    /// The root of the snapshots, and of what stands on them.
    pub root: RelPath,
    /// Numbers of the snapshots whose manifest this layer completes; none, if it is only a base of others.
    pub snapshots: Vec<u64>,
    /// Its records in canonical order (all, or those of one subtree), relative to the root.
    pub records: I,
}

/// A record that a path had in snapshots of one root, one after the other without a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The root.
    pub root: Arc<RelPath>,
    /// The record; its path is relative to the root.
    pub record: ManifestRecord,
    /// Number of the first of these snapshots.
    pub first: u64,
    /// Number of the last of them.
    pub last: u64,
    /// How many they are.
    pub snapshots: u64,
    /// No later snapshot of this root is in the timeline: the path is not gone.
    pub newest: bool,
}

/// A path and all that it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathHistory {
    /// The path as the copy has it.
    pub path: RelPath,
    /// Oldest first, root by root (by the root's path). Never empty; neighbours of one root without a gap differ.
    pub versions: Vec<Version>,
}

struct Placed<I> {
    records: I,
    /// The record that is next; its path stands in the heap.
    head: Option<ChangeRecord>,
    base: Option<usize>,
    segment: usize,
    /// Place in its segment.
    local: usize,
    /// Its snapshots, as ordinals among those of the root.
    ordinals: Vec<usize>,
}

struct Segment {
    root: usize,
    layers: Vec<usize>,
    /// Its snapshots as runs of ordinals, from and to.
    runs: Vec<(usize, usize)>,
}

struct Root {
    path: Arc<RelPath>,
    numbers: Vec<u64>,
}

/// A mention of the path at hand.
struct Mention {
    layer: usize,
    change: ChangeRecord,
}

/// Snapshots of one root, and the mention that tells what the path was in them.
#[derive(Clone, Copy)]
struct Span {
    root: usize,
    from: usize,
    to: usize,
    mention: usize,
}

/// See the module.
pub struct Timeline<I> {
    layers: Vec<Placed<I>>,
    segments: Vec<Segment>,
    roots: Vec<Root>,
    heap: BinaryHeap<Reverse<(RelPath, usize)>>,
    started: bool,
    ended: bool,
}

impl<I, E> Timeline<I>
where
    I: Iterator<Item = Result<ChangeRecord, E>>,
    E: From<PathError>,
{
    /// Over these layers, each after the one that it stands on. A base that is not before its layer counts as none.
    pub fn new(layers: Vec<Layer<I>>) -> Self {
        let mut numbers: BTreeMap<RelPath, Vec<u64>> = BTreeMap::new();
        for layer in &layers {
            numbers.entry(layer.root.clone()).or_default().extend(&layer.snapshots);
        }
        for numbers in numbers.values_mut() {
            numbers.sort_unstable();
            numbers.dedup();
        }
        let paths: Vec<RelPath> = numbers.keys().cloned().collect();
        let roots: Vec<Root> =
            numbers.into_iter().map(|(path, numbers)| Root { path: Arc::new(path), numbers }).collect();
        let (mut placed, mut segments): (Vec<Placed<I>>, Vec<Segment>) = (Vec::new(), Vec::new());
        for (at, layer) in layers.into_iter().enumerate() {
            let root = paths.binary_search(&layer.root).unwrap_or_default();
            let base = layer.base.filter(|base| *base < at);
            let segment = base.and_then(|base| placed.get(base)).map_or(segments.len(), |base| base.segment);
            if segment == segments.len() {
                segments.push(Segment { root, layers: Vec::new(), runs: Vec::new() });
            }
            let known = roots.get(root).map_or(&[][..], |root| &root.numbers);
            let ordinals = layer.snapshots.iter().filter_map(|number| known.binary_search(number).ok()).collect();
            let mut local = 0;
            if let Some(segment) = segments.get_mut(segment) {
                local = segment.layers.len();
                segment.layers.push(at);
            }
            placed.push(Placed { records: layer.records, head: None, base, segment, local, ordinals });
        }
        for segment in &mut segments {
            let layers = segment.layers.iter().filter_map(|layer| placed.get(*layer));
            let mut ordinals: Vec<usize> = layers.flat_map(|layer| layer.ordinals.iter().copied()).collect();
            ordinals.sort_unstable();
            ordinals.iter().for_each(|ordinal| extend(&mut segment.runs, *ordinal));
        }
        Self { layers: placed, segments, roots, heap: BinaryHeap::new(), started: false, ended: false }
    }

    /// Takes the next record of a layer; its path goes to the heap.
    fn advance(&mut self, at: usize) -> Result<(), E> {
        let Some(layer) = self.layers.get_mut(at) else { return Ok(()) };
        let Some(record) = layer.records.next().transpose()? else { return Ok(()) };
        let root = self.segments.get(layer.segment).and_then(|segment| self.roots.get(segment.root));
        let path = match root {
            Some(root) => root.path.join_path(record.path())?,
            None => record.path().clone(),
        };
        layer.head = Some(record);
        self.heap.push(Reverse((path, at)));
        Ok(())
    }

    /// The next path, and who mentions it, by layer.
    fn gather(&mut self) -> Result<Option<(RelPath, Vec<Mention>)>, E> {
        if !self.started {
            self.started = true;
            (0..self.layers.len()).try_for_each(|at| self.advance(at))?;
        }
        let Some(Reverse((path, mut at))) = self.heap.pop() else { return Ok(None) };
        let mut mentions = Vec::new();
        loop {
            if let Some(change) = self.layers.get_mut(at).and_then(|layer| layer.head.take()) {
                mentions.push(Mention { layer: at, change });
            }
            self.advance(at)?;
            match self.heap.peek() {
                Some(Reverse((next, layer))) if *next == path => at = *layer,
                _ => return Ok(Some((path, mentions))),
            }
            self.heap.pop();
        }
    }

    /// What the path was in the snapshots of one segment, told from its mentions, which begin at index `from`.
    fn resolve(&self, segment: &Segment, mentions: &[Mention], from: usize, spans: &mut Vec<Span>) {
        let root = segment.root;
        if let [Mention { layer, change: ChangeRecord::Put(_) }] = mentions
            && segment.layers.first() == Some(layer)
        {
            // In the full manifest and never changed: what almost all paths are.
            spans.extend(segment.runs.iter().map(|(a, b)| Span { root, from: *a, to: *b, mention: from }));
            return;
        }
        let mut state: Vec<Option<usize>> = vec![None; segment.layers.len()];
        let mut known = Vec::new();
        let mut next = mentions.iter().enumerate().peekable();
        for (local, at) in segment.layers.iter().enumerate() {
            let Some(layer) = self.layers.get(*at) else { continue };
            let now = match next.next_if(|(_, mention)| mention.layer == *at) {
                Some((i, Mention { change: ChangeRecord::Put(_), .. })) => Some(from + i),
                Some((_, Mention { change: ChangeRecord::Remove(_), .. })) => None,
                None => {
                    let base = layer.base.and_then(|base| self.layers.get(base));
                    base.and_then(|base| state.get(base.local).copied().flatten())
                }
            };
            if let Some(place) = state.get_mut(local) {
                *place = now;
            }
            known.extend(layer.ordinals.iter().filter_map(|ordinal| Some((*ordinal, now?))));
        }
        known.sort_unstable();
        for (ordinal, mention) in known {
            match spans.last_mut() {
                Some(last) if last.root == root && last.mention == mention && last.to + 1 == ordinal => {
                    last.to = ordinal;
                }
                _ => spans.push(Span { root, from: ordinal, to: ordinal, mention }),
            }
        }
    }

    /// All that the path was; none, if no snapshot has it.
    fn history(&self, path: RelPath, mut mentions: Vec<Mention>) -> Option<PathHistory> {
        let segment_of = |mention: &Mention| self.layers.get(mention.layer).map_or(0, |layer| layer.segment);
        mentions.sort_by_key(|mention| (segment_of(mention), mention.layer));
        let mut spans = Vec::new();
        let mut from = 0;
        for group in mentions.chunk_by(|a, b| segment_of(a) == segment_of(b)) {
            if let Some(segment) = group.first().and_then(|first| self.segments.get(segment_of(first))) {
                self.resolve(segment, group, from, &mut spans);
            }
            from += group.len();
        }
        spans.sort_by_key(|span| (span.root, span.from));
        let record = |span: &Span| match mentions.get(span.mention).map(|mention| &mention.change) {
            Some(ChangeRecord::Put(record)) => Some(record),
            _ => None,
        };
        // Segments follow one another, and most often begin with what the one before ended with.
        spans.dedup_by(|next, last| {
            let same = last.root == next.root && last.to + 1 == next.from && record(last) == record(next);
            if same {
                last.to = next.to;
            }
            same
        });
        let version = |span: &Span| {
            let root = self.roots.get(span.root)?;
            Some(Version {
                root: root.path.clone(),
                record: record(span)?.clone(),
                first: *root.numbers.get(span.from)?,
                last: *root.numbers.get(span.to)?,
                snapshots: (span.to - span.from) as u64 + 1,
                newest: span.to + 1 == root.numbers.len(),
            })
        };
        let versions: Vec<Version> = spans.iter().filter_map(version).collect();
        (!versions.is_empty()).then_some(PathHistory { path, versions })
    }
}

impl<I, E> Iterator for Timeline<I>
where
    I: Iterator<Item = Result<ChangeRecord, E>>,
    E: From<PathError>,
{
    type Item = Result<PathHistory, E>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.gather() {
                Ok(Some((path, mentions))) => {
                    if let Some(history) = self.history(path, mentions) {
                        return Some(Ok(history));
                    }
                }
                Ok(None) => self.ended = true,
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// Adds an ordinal, which is not below the last one, to runs of them.
fn extend(runs: &mut Vec<(usize, usize)>, ordinal: usize) {
    match runs.last_mut() {
        Some((_, to)) if ordinal <= *to + 1 => *to = ordinal,
        _ => runs.push((ordinal, ordinal)),
    }
}

#[cfg(test)]
mod tests;
