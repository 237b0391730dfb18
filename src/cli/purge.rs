//! `purge`, of both programs: says what goes for good, path by path, before it goes; and what has gone so far.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::checkup::Manner;
use super::render::{count, show_time};
use super::terminal::Terminal;
use super::units::show_bytes;
use crate::backup::bytes::escape;
use crate::engine::error::EngineError;
use crate::engine::purge::{PastPurge, PurgeReport, PurgedPath, Purger, list, purge};
use crate::json;

/// What to purge, in both programs.
#[derive(Clone, Debug, Args)]
pub struct PurgeArgs {
    /// A file or directory that the newest backup does not have any more
    #[arg(value_name = "PATH", required_unless_present = "list", conflicts_with = "list")]
    pub path: Option<PathBuf>,
    /// Do it; without this, only say what would be removed
    #[arg(long, conflicts_with = "list")]
    pub yes: bool,
    /// Say what was purged so far: when, what, by whom
    #[arg(long)]
    pub list: bool,
}

/// Purges, or says what that would remove, or what was purged. `path` is absolute; none: the list.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub(super) fn run(
    purger: Purger<'_>,
    path: Option<&Path>,
    yes: bool,
    manner: Manner,
    terminal: &Terminal,
) -> Result<(), EngineError> {
    let Some(path) = path else {
        return list(purger, &mut |past| terminal.out(&if manner.json { past_json(past) } else { past_line(past) }));
    };
    let report = purge(purger, path, yes, &mut |found| {
        if manner.json {
            terminal.out(&path_json(found));
        } else if !manner.quiet {
            terminal.out(&path_line(found));
        }
    })?;
    if manner.json {
        terminal.out(&end_json(&report));
    } else if !manner.quiet {
        terminal.out(&end_line(&report));
    }
    Ok(())
}

fn past_line(past: &PastPurge) -> String {
    format!(
        "{}  {}  (up to snapshot {}: {} in {}; {}, {}), by {}",
        show_time(past.time_secs),
        escape(&past.path),
        past.until,
        count(past.went.paths, "path", "paths"),
        count(past.went.snapshots, "snapshot", "snapshots"),
        count(past.went.contents, "content", "contents"),
        show_bytes(past.went.bytes),
        escape(&past.by),
    )
}

#[derive(Serialize)]
struct PastLine {
    r#type: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    time_secs: i64,
    until_snapshot: u64,
    by: String,
    paths: u64,
    snapshots: u64,
    contents: u64,
    bytes: u64,
}

fn past_json(past: &PastPurge) -> String {
    let PurgeReport { paths, snapshots, contents, bytes, .. } = past.went;
    json::line(&PastLine {
        r#type: "purged",
        path: json::text(&past.path),
        path_hex: json::hex_of_odd(&past.path),
        time_secs: past.time_secs,
        until_snapshot: past.until,
        by: json::text(&past.by),
        paths,
        snapshots,
        contents,
        bytes,
    })
}

fn path_line(found: &PurgedPath) -> String {
    let snapshots = match (found.first, found.last) {
        (first, last) if first == last => format!("snapshot {first}"),
        (first, last) => format!("snapshots {first} to {last}"),
    };
    format!("{}  ({snapshots})", escape(&found.path))
}

fn end_line(report: &PurgeReport) -> String {
    let what = format!(
        "{} in {}; {}, {}, that nothing else names",
        count(report.paths, "path", "paths"),
        count(report.snapshots, "snapshot", "snapshots"),
        count(report.contents, "content", "contents"),
        show_bytes(report.bytes),
    );
    match (report.done, report.paths) {
        (true, 0) => "it is purged already; what was left of its content is removed".to_owned(),
        (true, _) => format!("purged for good: {what}"),
        (false, 0) => "it is purged already".to_owned(),
        (false, _) => format!("would be purged: {what}\nnothing was changed: --yes does it, and nothing undoes that"),
    }
}

#[derive(Serialize)]
struct PathLine {
    r#type: &'static str,
    path: String,
    first_snapshot: u64,
    last_snapshot: u64,
}

fn path_json(found: &PurgedPath) -> String {
    let path = json::text(&found.path);
    json::line(&PathLine { r#type: "purge_path", path, first_snapshot: found.first, last_snapshot: found.last })
}

#[derive(Serialize)]
struct EndLine {
    r#type: &'static str,
    done: bool,
    paths: u64,
    snapshots: u64,
    contents: u64,
    bytes: u64,
}

fn end_json(report: &PurgeReport) -> String {
    let PurgeReport { done, paths, snapshots, contents, bytes } = *report;
    json::line(&EndLine { r#type: "purge", done, paths, snapshots, contents, bytes })
}
