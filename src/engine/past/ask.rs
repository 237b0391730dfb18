//! `snapshots`, `history`, `find`, `diff`, `runs`: a question, and what comes in parts. Nothing is held.

use std::path::Path;

use super::{answer, end};
use crate::backup::bytes::Bytes;
use crate::backup::difference::Action;
use crate::backup::digest::{Digest, RunId};
use crate::backup::entry::Entry;
use crate::backup::relpath::RelPath;
use crate::backup::when::When;
use crate::engine::client::{self, ClientOptions, Session};
use crate::engine::error::EngineError;
use crate::engine::inspect;
use crate::engine::wire::{WireError, entry_from_wire, sentence, unexpected};
use crate::net::message::{
    Diff, Find, History, Message, Runs, Snapshots, WireDifference, WireFound, WireRun, WireSnapshot, WireVersion,
};

const INCOMPLETE: u8 = 1;
const FORGOTTEN: u8 = 2;
const RECURSIVE: u8 = 4;
const DELETE: u8 = 8;

/// One snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its number.
    pub number: u64,
    /// Its root, absolute.
    pub root: Vec<u8>,
    /// When it was received, seconds since 1970, on the store's clock.
    pub time_secs: i64,
    /// All of the source could be read.
    pub complete: bool,
    /// It only says that the root was forgotten.
    pub forgotten: bool,
    /// `-r`.
    pub recursive: bool,
    /// `-d`.
    pub delete: bool,
    /// Entries.
    pub entries: u64,
    /// Files among them.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Content bytes that travelled.
    pub content_bytes: u64,
    /// Created, updated, moved, deleted, touched, unchanged.
    pub counts: [u64; 6],
    /// What could not be read.
    pub errors: u64,
    /// Digest of its manifest.
    pub manifest: Digest,
}

/// One content that a path had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionInfo {
    /// As it was in the last of them.
    pub entry: Entry,
    /// First snapshot with it.
    pub first: u64,
    /// When that was received.
    pub first_secs: i64,
    /// Last snapshot with it.
    pub last: u64,
    /// When that was received.
    pub last_secs: i64,
    /// How many have it.
    pub snapshots: u64,
    /// The newest snapshot has it.
    pub newest: bool,
}

/// One path that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundInfo {
    /// Absolute.
    pub path: Vec<u8>,
    /// As it was last.
    pub entry: Entry,
    /// First snapshot that has it.
    pub first: u64,
    /// Last snapshot that has it.
    pub last: u64,
    /// How many contents it had.
    pub contents: u64,
    /// The newest snapshot has it.
    pub newest: bool,
}

/// Which snapshots of a root are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Between {
    /// The root, absolute.
    pub root: Vec<u8>,
    /// Number of the one; none: the root was not backed up.
    pub from: Option<u64>,
    /// Number of the other.
    pub to: Option<u64>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DifferenceInfo {
    /// What happened.
    pub action: Action,
    /// `dir`, `file` or `other`.
    pub kind: &'static str,
    /// Absolute.
    pub path: Vec<u8>,
    /// Where a moved one was, absolute.
    pub from: Option<Vec<u8>>,
    /// Bytes of a file before.
    pub bytes_before: Option<u64>,
    /// Bytes of a file after.
    pub bytes_after: Option<u64>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunInfo {
    /// Its id.
    pub run: RunId,
    /// It was a `forget`.
    pub forget: bool,
    /// Its root, absolute.
    pub root: Vec<u8>,
    /// When it began, seconds since 1970, on the store's clock.
    pub started_secs: i64,
    /// When it ended.
    pub ended_secs: i64,
    /// The snapshot that it became, or exit code and sentence of its failure.
    pub outcome: Result<u64, (u8, String)>,
    /// Content bytes that travelled.
    pub content_bytes: u64,
    /// The first things that could not be read.
    pub errors: Vec<String>,
    /// How many there were.
    pub errors_total: u64,
}

fn to_wire(path: Option<&Path>) -> Result<Bytes, EngineError> {
    let Some(path) = path else { return Ok(Bytes::default()) };
    Ok(inspect::absolute(path)?.as_bytes().into())
}

fn absolute(path: &Bytes) -> Result<Vec<u8>, WireError> {
    Ok([b"/", RelPath::new(path.as_slice())?.as_bytes()].concat())
}

/// Sends the question and hands each part to `part`, which says whether more come.
fn ask(
    client: &ClientOptions,
    question: Message,
    part: &mut dyn FnMut(Message) -> Result<bool, EngineError>,
) -> Result<(), EngineError> {
    let Session { mut link, guest, .. } = client::open_to_read(client)?;
    let mut over = || -> Result<(), EngineError> {
        inspect::ask(&mut link, question.clone())?;
        while part(answer(&mut link)?)? {}
        Ok(())
    };
    let done = over();
    end(link, guest);
    done.map_err(|error| client.stop.or(error))
}

/// All snapshots of roots that `path` is in, or that are below it, oldest first. Returned: what is wrong with records
/// that cannot be read.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub fn snapshots(
    client: &ClientOptions,
    path: Option<&Path>,
    each: &mut dyn FnMut(SnapshotInfo),
) -> Result<Vec<String>, EngineError> {
    let mut damaged = Vec::new();
    ask(client, Snapshots { path: to_wire(path)? }.into(), &mut |part| match part {
        Message::SnapshotList(list) => {
            damaged.extend(list.damaged.iter().map(sentence));
            list.snapshots.into_iter().try_for_each(|snapshot| snapshot_info(snapshot).map(&mut *each))?;
            Ok(list.more)
        }
        other => Err(unexpected(&other, "listing snapshots").into()),
    })?;
    Ok(damaged)
}

fn snapshot_info(wire: WireSnapshot) -> Result<SnapshotInfo, WireError> {
    let is = |flag: u8| wire.flags & flag != 0;
    Ok(SnapshotInfo {
        number: wire.number,
        root: absolute(&wire.root)?,
        time_secs: wire.time_secs,
        complete: !is(INCOMPLETE),
        forgotten: is(FORGOTTEN),
        recursive: is(RECURSIVE),
        delete: is(DELETE),
        entries: wire.entries,
        files: wire.files,
        bytes: wire.bytes,
        content_bytes: wire.content_bytes,
        counts: wire.counts,
        errors: wire.errors,
        manifest: wire.manifest,
    })
}

/// The distinct contents that a path had, in the order in which they were first seen.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub fn history(client: &ClientOptions, path: &Path, each: &mut dyn FnMut(VersionInfo)) -> Result<(), EngineError> {
    ask(client, History { path: to_wire(Some(path))? }.into(), &mut |part| match part {
        Message::HistoryList(list) => {
            list.versions.into_iter().try_for_each(|version| version_info(version).map(&mut *each))?;
            Ok(list.more)
        }
        other => Err(unexpected(&other, "asking for a history").into()),
    })
}

fn version_info(wire: WireVersion) -> Result<VersionInfo, WireError> {
    let WireVersion { entry, first, first_secs, last, last_secs, snapshots, newest } = wire;
    Ok(VersionInfo { entry: entry_from_wire(entry)?, first, first_secs, last, last_secs, snapshots, newest })
}

/// Paths of any snapshot that match a pattern of gitignore, in canonical order.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub fn find(client: &ClientOptions, pattern: &[u8], each: &mut dyn FnMut(FoundInfo)) -> Result<(), EngineError> {
    ask(client, Find { pattern: pattern.into() }.into(), &mut |part| match part {
        Message::FindList(list) => {
            list.found.into_iter().try_for_each(|found| found_info(found).map(&mut *each))?;
            Ok(list.more)
        }
        other => Err(unexpected(&other, "finding").into()),
    })
}

fn found_info(wire: WireFound) -> Result<FoundInfo, WireError> {
    let WireFound { entry, first, last, contents, newest } = wire;
    let entry = entry_from_wire(entry)?;
    Ok(FoundInfo { path: [b"/", entry.path.as_bytes()].concat(), entry, first, last, contents, newest })
}

/// What is compared, and then what differs at and below `path`, root by root in canonical order.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub fn diff(
    client: &ClientOptions,
    [from, to]: [When; 2],
    path: Option<&Path>,
    between: &mut dyn FnMut(Between),
    each: &mut dyn FnMut(DifferenceInfo),
) -> Result<(), EngineError> {
    let question = Diff { from: from.into(), to: to.into(), path: to_wire(path)? };
    let number = |number: u64| (number > 0).then_some(number);
    ask(client, question.into(), &mut |part| match part {
        Message::DiffList(list) => {
            for (root, from, to) in list.between {
                between(Between { root: absolute(&root)?, from: number(from), to: number(to) });
            }
            list.differences.into_iter().try_for_each(|difference| difference_info(difference).map(&mut *each))?;
            Ok(list.more)
        }
        other => Err(unexpected(&other, "comparing").into()),
    })
}

fn difference_info(wire: WireDifference) -> Result<DifferenceInfo, WireError> {
    Ok(DifferenceInfo {
        action: match wire.action {
            0 => Action::Created,
            1 => Action::Changed,
            2 => Action::Moved,
            3 => Action::Deleted,
            4 => Action::Touched,
            _ => return Err(WireError::Bounds("a difference of an unknown kind")),
        },
        kind: match wire.kind {
            0 => "dir",
            1 => "file",
            _ => "other",
        },
        path: absolute(&wire.path)?,
        from: if wire.action == 2 { Some(absolute(&wire.from)?) } else { None },
        bytes_before: wire.size_before,
        bytes_after: wire.size_after,
    })
}

/// How the last runs ended, newest first, at most `count`.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub fn runs(client: &ClientOptions, count: u32, each: &mut dyn FnMut(RunInfo)) -> Result<(), EngineError> {
    ask(client, Runs { count }.into(), &mut |part| match part {
        Message::RunList(list) => {
            list.runs.into_iter().try_for_each(|run| run_info(run).map(&mut *each))?;
            Ok(list.more)
        }
        other => Err(unexpected(&other, "listing runs").into()),
    })
}

fn run_info(wire: WireRun) -> Result<RunInfo, WireError> {
    Ok(RunInfo {
        run: wire.run,
        forget: wire.forget,
        root: absolute(&wire.root)?,
        started_secs: wire.started_secs,
        ended_secs: wire.ended_secs,
        outcome: if wire.snapshot > 0 { Ok(wire.snapshot) } else { Err((wire.exit_code, sentence(&wire.message))) },
        content_bytes: wire.content_bytes,
        errors: wire.errors.iter().map(sentence).collect(),
        errors_total: wire.errors_total,
    })
}
