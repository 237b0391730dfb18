//! `--json` of the commands that look back. The keys are an interface: they are added to, never changed.

use jiff::Timestamp;
use serde::Serialize;

use super::entry::kind_of;
use super::{hex_of_odd, line, text};
use crate::backup::difference::Action;
use crate::engine::past::{Between, DifferenceInfo, FoundInfo, RunInfo, SnapshotInfo, VersionInfo};

/// One snapshot.
#[derive(Serialize)]
pub struct Snapshot {
    r#type: &'static str,
    number: u64,
    /// As RFC 3339, in UTC; it can be given as a WHEN.
    time: String,
    time_secs: i64,
    root: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    root_hex: Option<String>,
    files: u64,
    bytes: u64,
    complete: bool,
    manifest: String,
    entries: u64,
    content_bytes: u64,
    recursive: bool,
    delete: bool,
    forgotten: bool,
    created: u64,
    updated: u64,
    moved: u64,
    deleted: u64,
    touched: u64,
    unchanged: u64,
    errors: u64,
}

fn time(secs: i64) -> String {
    Timestamp::from_second(secs).map_or_else(|_| format!("@{secs}"), |time| time.to_string())
}

impl From<&SnapshotInfo> for Snapshot {
    fn from(info: &SnapshotInfo) -> Self {
        let [created, updated, moved, deleted, touched, unchanged] = info.counts;
        Self {
            r#type: "snapshot",
            number: info.number,
            time: time(info.time_secs),
            time_secs: info.time_secs,
            root: text(&info.root),
            root_hex: hex_of_odd(&info.root),
            files: info.files,
            bytes: info.bytes,
            complete: info.complete,
            manifest: info.manifest.to_hex(),
            entries: info.entries,
            content_bytes: info.content_bytes,
            recursive: info.recursive,
            delete: info.delete,
            forgotten: info.forgotten,
            created,
            updated,
            moved,
            deleted,
            touched,
            unchanged,
            errors: info.errors,
        }
    }
}

/// A line of `snapshots`.
pub fn snapshot(info: &SnapshotInfo) -> String {
    line(&Snapshot::from(info))
}

/// One content of a path.
#[derive(Serialize)]
pub struct Version {
    r#type: &'static str,
    digest: Option<String>,
    bytes: Option<u64>,
    first_snapshot: u64,
    last_snapshot: u64,
    first_secs: i64,
    last_secs: i64,
    snapshots: u64,
    newest: bool,
    kind: &'static str,
    target: Option<String>,
    mtime_secs: i64,
}

impl From<&VersionInfo> for Version {
    fn from(info: &VersionInfo) -> Self {
        let (kind, target) = kind_of(&info.entry);
        let content = info.entry.file();
        Self {
            r#type: "version",
            digest: content.map(|content| content.digest.to_hex()),
            bytes: content.map(|content| content.size),
            first_snapshot: info.first,
            last_snapshot: info.last,
            first_secs: info.first_secs,
            last_secs: info.last_secs,
            snapshots: info.snapshots,
            newest: info.newest,
            kind,
            target,
            mtime_secs: info.entry.meta.mtime.secs,
        }
    }
}

/// A line of `history`.
pub fn version(info: &VersionInfo) -> String {
    line(&Version::from(info))
}

/// One path that was found.
#[derive(Serialize)]
pub struct Found {
    r#type: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    kind: &'static str,
    target: Option<String>,
    bytes: Option<u64>,
    digest: Option<String>,
    mode: u32,
    mtime_secs: i64,
    first_snapshot: u64,
    last_snapshot: u64,
    contents: u64,
    gone: bool,
}

impl From<&FoundInfo> for Found {
    fn from(info: &FoundInfo) -> Self {
        let (kind, target) = kind_of(&info.entry);
        let content = info.entry.file();
        Self {
            r#type: "found",
            path: text(&info.path),
            path_hex: hex_of_odd(&info.path),
            kind,
            target,
            bytes: content.map(|content| content.size),
            digest: content.map(|content| content.digest.to_hex()),
            mode: info.entry.meta.mode,
            mtime_secs: info.entry.meta.mtime.secs,
            first_snapshot: info.first,
            last_snapshot: info.last,
            contents: info.contents,
            gone: !info.newest,
        }
    }
}

/// A line of `find`.
pub fn found(info: &FoundInfo) -> String {
    line(&Found::from(info))
}

/// What is compared.
#[derive(Serialize)]
pub struct Compared {
    r#type: &'static str,
    root: String,
    from: Option<u64>,
    to: Option<u64>,
}

impl From<&Between> for Compared {
    fn from(info: &Between) -> Self {
        Self { r#type: "between", root: text(&info.root), from: info.from, to: info.to }
    }
}

/// What `diff` compares.
pub fn between(info: &Between) -> String {
    line(&Compared::from(info))
}

/// One difference.
#[derive(Serialize)]
pub struct Difference {
    r#type: &'static str,
    action: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    from: Option<String>,
    kind: &'static str,
    bytes_before: Option<u64>,
    bytes_after: Option<u64>,
}

/// What happened, in a word.
pub fn action_name(action: Action) -> &'static str {
    match action {
        Action::Created => "created",
        Action::Changed => "changed",
        Action::Moved => "moved",
        Action::Deleted => "deleted",
        Action::Touched => "touched",
    }
}

impl From<&DifferenceInfo> for Difference {
    fn from(info: &DifferenceInfo) -> Self {
        Self {
            r#type: "difference",
            action: action_name(info.action),
            path: text(&info.path),
            path_hex: hex_of_odd(&info.path),
            from: info.from.as_deref().map(text),
            kind: info.kind,
            bytes_before: info.bytes_before,
            bytes_after: info.bytes_after,
        }
    }
}

/// A line of `diff`.
pub fn difference(info: &DifferenceInfo) -> String {
    line(&Difference::from(info))
}

/// How a run ended.
#[derive(Serialize)]
pub struct Run<'a> {
    r#type: &'static str,
    run: String,
    kind: &'static str,
    root: String,
    started_secs: i64,
    ended_secs: i64,
    snapshot: Option<u64>,
    exit_code: u8,
    message: Option<&'a str>,
    content_bytes: u64,
    errors: &'a [String],
    errors_total: u64,
}

impl<'a> From<&'a RunInfo> for Run<'a> {
    fn from(info: &'a RunInfo) -> Self {
        let failure = info.outcome.as_ref().err();
        Self {
            r#type: "run",
            run: info.run.to_string(),
            kind: if info.forget { "forget" } else { "backup" },
            root: text(&info.root),
            started_secs: info.started_secs,
            ended_secs: info.ended_secs,
            snapshot: info.outcome.as_ref().ok().copied(),
            exit_code: failure.map_or(0, |(code, _)| *code),
            message: failure.map(|(_, message)| message.as_str()),
            content_bytes: info.content_bytes,
            errors: &info.errors,
            errors_total: info.errors_total,
        }
    }
}

/// A line of `runs`.
pub fn run(info: &RunInfo) -> String {
    line(&Run::from(info))
}
