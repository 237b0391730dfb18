//! Text of the commands that look back: one line a thing, in columns; names come out escaped.

use crate::backup::bytes::escape;
use crate::backup::entry::{Entry, Kind};
use crate::cli::render::{mode_text, show_time};
use crate::cli::units::{show_bytes, show_count, show_secs};
use crate::engine::past::{Between, DifferenceInfo, FoundInfo, RunInfo, SnapshotInfo, VersionInfo};
use crate::json::past::action_name;

/// A line of `snapshots`.
pub fn snapshot(info: &SnapshotInfo) -> String {
    let SnapshotInfo { number, files, bytes, content_bytes, errors, .. } = info;
    let (time, root) = (show_time(info.time_secs), escape(&info.root));
    if info.forgotten {
        return format!("{number:>6}  {time}  {:>45}  {root}", "forgotten");
    }
    let files = format!("{} files", show_count(*files));
    let sent = format!("{} sent", show_bytes(*content_bytes));
    let note = match (info.complete, errors) {
        (true, _) => String::new(),
        (false, 0) => "  INCOMPLETE".to_owned(),
        (false, errors) => format!("  INCOMPLETE, {} errors", show_count(*errors)),
    };
    format!("{number:>6}  {time}  {files:>16}  {:>9}  {sent:>14}  {root}{note}", show_bytes(*bytes))
}

fn numbers(first: u64, last: u64) -> String {
    if first == last { first.to_string() } else { format!("{first} to {last}") }
}

/// What a thing is if it is no file.
fn what(entry: &Entry) -> String {
    match &entry.kind {
        Kind::File(content) => content.digest.to_hex(),
        Kind::Dir => "a directory".to_owned(),
        Kind::Symlink { target } => format!("a link to {}", escape(target.as_slice())),
        Kind::Fifo => "a pipe".to_owned(),
        Kind::CharDevice { .. } | Kind::BlockDevice { .. } => "a device".to_owned(),
    }
}

fn size(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string())
}

/// A line of `history`.
pub fn version(info: &VersionInfo) -> String {
    let seen = format!("{} to {}", show_time(info.first_secs), show_time(info.last_secs));
    let gone = if info.newest { "" } else { "  (not in the newest)" };
    format!(
        "{:>12}  {seen}  {:>12}  {}{gone}",
        numbers(info.first, info.last),
        size(info.entry.file().map(|content| content.size)),
        what(&info.entry)
    )
}

/// A line of `find`.
pub fn found(info: &FoundInfo) -> String {
    let target = match &info.entry.kind {
        Kind::Symlink { target } => format!(" -> {}", escape(target.as_slice())),
        _ => String::new(),
    };
    let gone = if info.newest { "" } else { "  (gone)" };
    format!(
        "{} {:>12} {}  {:>12}  {}{target}{gone}",
        mode_text(&info.entry),
        size(info.entry.file().map(|content| content.size)),
        show_time(info.entry.meta.mtime.secs),
        numbers(info.first, info.last),
        escape(&info.path)
    )
}

/// What `diff` compared.
pub fn between(info: &Between) -> String {
    let name = |number: Option<u64>| number.map_or_else(|| "nothing".to_owned(), |number| format!("snapshot {number}"));
    format!("{} and {} of {}", name(info.from), name(info.to), escape(&info.root))
}

/// A line of `diff`.
pub fn difference(info: &DifferenceInfo) -> String {
    let bytes = match (info.bytes_before, info.bytes_after) {
        (Some(before), Some(after)) if before != after => format!("{before} -> {after}"),
        (before, after) => size(after.or(before)),
    };
    let from = info.from.as_ref().map(|from| format!("{} -> ", escape(from))).unwrap_or_default();
    format!("{:<7} {bytes:>24}  {from}{}", action_name(info.action), escape(&info.path))
}

/// The lines of one run in `runs`: how it ended, and what could not be read.
pub fn run(info: &RunInfo) -> Vec<String> {
    let outcome = match &info.outcome {
        Ok(snapshot) if info.forget => format!("snapshot {snapshot}, forgotten"),
        Ok(snapshot) => format!("snapshot {snapshot}"),
        Err((code, _)) => format!("FAILED ({code})"),
    };
    let took = show_secs(info.ended_secs.saturating_sub(info.started_secs) as f64);
    let sent = format!("{} sent", show_bytes(info.content_bytes));
    let time = show_time(info.started_secs);
    let mut lines = vec![format!("{time}  {took:>8}  {outcome:<14}  {sent:>14}  {}", escape(&info.root))];
    // Sentences came escaped.
    lines.extend(info.outcome.as_ref().err().map(|(_, message)| format!("    {message}")));
    lines.extend(info.errors.iter().map(|error| format!("    {error}")));
    let more = info.errors_total.saturating_sub(info.errors.len() as u64);
    if more > 0 {
        lines.push(format!("    and {} more", show_count(more)));
    }
    lines
}
