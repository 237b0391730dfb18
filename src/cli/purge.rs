//! `rbbackup purge`: says what goes for good, path by path, before it goes.

use std::path::Path;

use serde::Serialize;

use super::checkup::Manner;
use super::json;
use super::render::count;
use super::terminal::Terminal;
use super::units::show_bytes;
use crate::backup::bytes::escape;
use crate::engine::client::ClientOptions;
use crate::engine::error::EngineError;
use crate::engine::purge::{PurgeReport, PurgedPath, purge};

/// Purges, or says what that would remove.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub(super) fn run(
    client: &ClientOptions,
    path: &Path,
    yes: bool,
    manner: Manner,
    terminal: &Terminal,
) -> Result<(), EngineError> {
    let report = purge(client, path, yes, &mut |found| {
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
