//! `history` and `find`: what paths were, over all snapshots.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::choose::nothing_there;
use super::parts::Parts;
use crate::backup::bytes::Bytes;
use crate::backup::digest::Digest;
use crate::backup::entry::{Entry, Kind, Link as HardLink};
use crate::backup::filter::Filter;
use crate::backup::relpath::RelPath;
use crate::backup::timeline::{PathHistory, Version};
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::hub::{Hub, Who};
use crate::engine::wire::{WireError, entry_to_wire};
use crate::net::link::Link;
use crate::net::message::{self, Busy, FindList, HistoryList, WireEntry, WireFound, WireKind, WireVersion};

/// A client that has gone is noticed after so long, whatever a pattern takes to compare: so often it is asked how long it
/// has been.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const LOOK_PATHS: u32 = 256;

/// What makes two versions of a path the same to a person who asks for its contents.
#[derive(Clone, PartialEq, Eq)]
enum Content {
    File(Digest),
    Symlink(Bytes),
    Other(u8),
}

impl Content {
    fn of(entry: &Entry) -> Self {
        match &entry.kind {
            Kind::File(content) => Self::File(content.digest),
            Kind::Symlink { target } => Self::Symlink(target.clone()),
            Kind::Dir => Self::Other(0),
            Kind::Fifo => Self::Other(1),
            Kind::CharDevice { .. } => Self::Other(2),
            Kind::BlockDevice { .. } => Self::Other(3),
        }
    }
}

/// Distinct contents in the order in which they were first seen, each with all its versions.
fn by_content(versions: Vec<Version>) -> Vec<(Content, Vec<Version>)> {
    let mut contents: Vec<(Content, Vec<Version>)> = Vec::new();
    for version in versions {
        let content = Content::of(&version.record.entry);
        match contents.iter_mut().find(|(known, _)| *known == content) {
            Some((_, versions)) => versions.push(version),
            None => contents.push((content, vec![version])),
        }
    }
    contents
}

/// The entry at its whole path, for the wire; attributes and links among files are not shown and do not travel.
fn shown(version: &Version, path: &RelPath) -> WireEntry {
    let mut entry = version.record.entry.clone();
    entry.meta.xattrs.clear();
    if let Kind::File(content) = &mut entry.kind {
        content.link = HardLink::Single;
    }
    entry.path = path.clone();
    entry_to_wire(&entry)
}

fn weight(entry: &WireEntry) -> usize {
    let target = if let WireKind::Symlink { target } = &entry.kind { target.0.len() } else { 0 };
    160 + entry.path.0.len() + target
}

/// Answers `History`.
///
/// # Errors
/// No snapshot has the path, a manifest cannot be read, or the client has gone.
pub(in crate::engine) fn history(
    hub: &Hub,
    who: &Who,
    link: &Link,
    asked: message::History,
) -> Result<(), EngineError> {
    let path = RelPath::new(asked.path.as_slice()).map_err(WireError::from)?;
    let snapshots = hub.store.snapshots(who.copy())?;
    let (found, times) = snapshots.steadily(|records| {
        let related = records.iter().filter(|record| path.is_within(&record.root));
        let times: BTreeMap<u64, i64> = related.map(|record| (record.number, record.received.secs)).collect();
        let numbers: Vec<u64> = times.keys().copied().collect();
        Ok((snapshots.mentions(&numbers, &path)?, times))
    })?;
    let Some(found) = found else {
        return Err(nothing_there(&snapshots, &path)?);
    };
    let time_of = |number: u64| times.get(&number).copied().unwrap_or_default();
    let mut parts = Parts::new(link, |versions, more| HistoryList { versions, more }.into());
    let mut contents = by_content(found.versions);
    contents.sort_by_key(|(_, versions)| versions.iter().map(|v| v.first).min());
    for (_, versions) in contents {
        let (Some(first), Some(newest)) =
            (versions.iter().map(|v| v.first).min(), versions.iter().max_by_key(|v| v.last))
        else {
            continue;
        };
        let entry = shown(newest, &path);
        let bytes = weight(&entry);
        let version = WireVersion {
            entry,
            first,
            first_secs: time_of(first),
            last: newest.last,
            last_secs: time_of(newest.last),
            snapshots: versions.iter().map(|v| v.snapshots).sum(),
            newest: versions.iter().any(|v| v.newest),
        };
        parts.push(version, bytes)?;
    }
    parts.finish()
}

/// Answers `Find`.
///
/// # Errors
/// The pattern cannot be used, a manifest cannot be read, or the client has gone.
pub(in crate::engine) fn find(hub: &Hub, who: &Who, link: &Link, asked: message::Find) -> Result<(), EngineError> {
    let within = literal_folder(asked.pattern.as_slice());
    let filter = Filter::new(&[asked.pattern]).map_err(|e| EngineError::new(ErrorKind::Failed, e.to_string()))?;
    let snapshots = hub.store.snapshots(who.copy())?;
    let histories = snapshots.steadily(|records| {
        let numbers: Vec<u64> = records.iter().map(|record| record.number).collect();
        snapshots.timeline(&numbers, &within)
    })?;
    let mut parts = Parts::new(link, |found, more| FindList { found, more }.into());
    let (mut seen, mut told) = (0_u32, Instant::now());
    for history in histories {
        let PathHistory { path, versions } = history?;
        seen = seen.wrapping_add(1);
        if seen.is_multiple_of(LOOK_PATHS) && told.elapsed() >= LOOK_EVERY {
            link.send(Busy { phase: 1 })?;
            told = Instant::now();
        }
        if !versions.iter().any(|version| filter.matched(&path, version.record.entry.is_dir())) {
            continue;
        }
        let (Some(first), Some(newest)) =
            (versions.iter().map(|v| v.first).min(), versions.iter().max_by_key(|v| v.last))
        else {
            continue;
        };
        let entry = shown(newest, &path);
        let (last, present, bytes) = (newest.last, versions.iter().any(|v| v.newest), weight(&entry));
        let contents = by_content(versions).len() as u64;
        parts.push(WireFound { entry, first, last, contents, newest: present }, bytes)?;
    }
    parts.finish()
}

/// The folder that an anchored pattern names before its first special character; else the top: nothing outside it is
/// read.
pub fn literal_folder(pattern: &[u8]) -> RelPath {
    let Some(rest) = pattern.strip_prefix(b"/") else { return RelPath::root() };
    let mut folder = RelPath::root();
    let parts: Vec<&[u8]> = rest.split(|b| *b == b'/').collect();
    for part in parts.iter().take(parts.len().saturating_sub(1)) {
        let special = part.iter().any(|b| b"*?[]{}\\ ".contains(b));
        match folder.join(part) {
            Ok(next) if !special => folder = next,
            _ => break,
        }
    }
    folder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchored_pattern_is_looked_for_where_it_can_be() {
        for (pattern, folder) in
            [("/home/u/*.c", "home/u"), ("*.c", ""), ("/a", ""), ("/a/b*/c/d", "a"), ("a/b/c", ""), ("/a/b/", "a/b")]
        {
            assert_eq!(literal_folder(pattern.as_bytes()), RelPath::new(folder.as_bytes()).unwrap(), "{pattern}");
        }
    }
}
