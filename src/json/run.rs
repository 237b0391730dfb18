//! What happens in a run, and how it ended.

use serde::Serialize;

use super::{hex_of_odd, line, text};
use crate::backup::digest::Digest;
use crate::engine::observer::{CopyState, Summary};
use crate::engine::progress::{Label, View};
use crate::engine::restore::RestoreSummary;

/// Whose run it is, at a destination.
#[derive(Serialize)]
pub struct Whose {
    node: String,
    user: String,
    root: String,
}

impl From<&Label> for Whose {
    fn from(label: &Label) -> Self {
        Self { node: label.node.clone(), user: label.user.clone(), root: text(&label.root) }
    }
}

#[derive(Serialize)]
struct Progress {
    r#type: &'static str,
    #[serde(flatten)]
    whose: Option<Whose>,
    phase: &'static str,
    bytes_done: u64,
    /// None before the scan has ended.
    bytes_total: Option<u64>,
    percent: Option<f64>,
    files_done: u64,
    bytes_per_sec: Option<f64>,
    eta_secs: Option<f64>,
    path: Option<String>,
    path_bytes_done: Option<u64>,
    path_bytes: Option<u64>,
    note: Option<String>,
}

/// A moment of a run.
pub fn progress(view: &View) -> String {
    let file = view.file.as_ref();
    line(&Progress {
        r#type: "progress",
        whose: view.label.as_ref().map(Whose::from),
        phase: view.phase.name(),
        bytes_done: view.done,
        bytes_total: view.permille.map(|_| view.planned),
        percent: view.permille.map(|permille| permille as f64 / 10.0),
        files_done: view.files_done,
        bytes_per_sec: view.rate.map(f64::round),
        eta_secs: view.eta_secs.map(f64::round),
        path: file.map(|file| text(&file.path)),
        path_bytes_done: file.map(|file| file.done),
        path_bytes: file.map(|file| file.bytes),
        note: view.note.clone(),
    })
}

#[derive(Serialize)]
struct Error<'a> {
    r#type: &'static str,
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    message: &'a str,
    /// Of a whole command or root; none for one file.
    exit_code: Option<u8>,
}

/// One path that failed, or, with an exit code, a whole root or command.
pub fn error(path: Option<&[u8]>, message: &str, exit_code: Option<u8>) -> String {
    line(&Error { r#type: "error", path: path.map(text), path_hex: path.and_then(hex_of_odd), message, exit_code })
}

#[derive(Serialize)]
struct Gathering {
    r#type: &'static str,
    connected: u32,
    wanted: u32,
}

/// So many destinations are connected, of those that were asked for.
pub fn gathering(connected: u32, wanted: u32) -> String {
    line(&Gathering { r#type: "gathering", connected, wanted })
}

#[derive(Serialize)]
struct BackupSummary<'a> {
    r#type: &'static str,
    root: String,
    snapshot: Option<u64>,
    manifest: String,
    created: u64,
    updated: u64,
    moved: u64,
    deleted: u64,
    touched: u64,
    unchanged: u64,
    files: u64,
    bytes: u64,
    bytes_read: u64,
    content_bytes_sent: u64,
    wire_bytes_sent: u64,
    wire_bytes_received: u64,
    errors: u64,
    altered: u64,
    incomplete: bool,
    copies: Vec<Copy<'a>>,
    elapsed_secs: f64,
}

#[derive(Serialize)]
struct Copy<'a> {
    name: &'a str,
    kind: &'static str,
    state: &'static str,
    reason: &'a str,
}

impl<'a> From<&'a CopyState> for Copy<'a> {
    fn from(copy: &'a CopyState) -> Self {
        let kind = if copy.destination { "destination" } else { "store" };
        Self { name: &copy.name, kind, state: copy.state.name(), reason: &copy.reason }
    }
}

/// The end of a backup, or of `forget`.
pub fn summary(run: &Summary) -> String {
    line(&BackupSummary {
        r#type: "summary",
        root: text(&run.root),
        snapshot: run.snapshot,
        manifest: Digest::to_hex(run.manifest),
        created: run.created,
        updated: run.updated,
        moved: run.moved,
        deleted: run.deleted,
        touched: run.touched,
        unchanged: run.unchanged,
        files: run.files,
        bytes: run.bytes,
        bytes_read: run.bytes_read,
        content_bytes_sent: run.content_bytes_sent,
        wire_bytes_sent: run.wire_bytes_sent,
        wire_bytes_received: run.wire_bytes_received,
        errors: run.errors,
        altered: run.altered,
        incomplete: run.incomplete,
        copies: run.copies.iter().map(Copy::from).collect(),
        elapsed_secs: run.elapsed_secs,
    })
}

#[derive(Serialize)]
struct RestoreEnd<'a> {
    r#type: &'static str,
    path: String,
    to: String,
    snapshot: u64,
    time_secs: i64,
    complete: bool,
    created: u64,
    updated: u64,
    deleted: u64,
    touched: u64,
    unchanged: u64,
    files: u64,
    bytes: u64,
    content_bytes_received: u64,
    wire_bytes_sent: u64,
    wire_bytes_received: u64,
    errors: u64,
    notes: &'a [String],
    elapsed_secs: f64,
}

/// The end of a restore.
pub fn restore_summary(run: &RestoreSummary) -> String {
    line(&RestoreEnd {
        r#type: "summary",
        path: text(&run.path),
        to: text(&run.to),
        snapshot: run.snapshot,
        time_secs: run.time_secs,
        complete: run.complete,
        created: run.created,
        updated: run.updated,
        deleted: run.deleted,
        touched: run.touched,
        unchanged: run.unchanged,
        files: run.files,
        bytes: run.bytes,
        content_bytes_received: run.content_bytes_received,
        wire_bytes_sent: run.wire_bytes_sent,
        wire_bytes_received: run.wire_bytes_received,
        errors: run.errors,
        notes: &run.notes,
        elapsed_secs: run.elapsed_secs,
    })
}

#[derive(Serialize)]
struct PlanStep<'a> {
    r#type: &'static str,
    action: &'a str,
    path: String,
    to: Option<String>,
}

/// A step of a dry run's plan.
pub fn plan(action: &str, path: &[u8], other: &[u8]) -> String {
    let to = (!other.is_empty()).then(|| text(other));
    line(&PlanStep { r#type: "plan", action, path: text(path), to })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::observer::{Event, Phase};
    use crate::engine::progress::Tracker;
    use std::time::Instant;

    fn keys(text: &str) -> Vec<String> {
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    }

    #[test]
    fn the_summary_has_exactly_the_promised_fields() {
        let mut promised: Vec<&str> =
            "type root snapshot manifest created updated moved deleted touched unchanged files \
            bytes bytes_read content_bytes_sent wire_bytes_sent wire_bytes_received errors altered incomplete \
            copies elapsed_secs"
                .split_whitespace()
                .collect();
        promised.sort_unstable();
        let text = summary(&Summary::example());
        assert_eq!(keys(&text), promised);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["type"], "summary");
        assert_eq!(value["content_bytes_sent"], 2 << 20);
        assert_eq!(value["manifest"].as_str().unwrap().len(), 64);
        let dry = summary(&Summary { snapshot: None, ..Summary::example() });
        assert!(dry.contains("\"snapshot\":null"));
    }

    #[test]
    fn one_object_is_one_line_whatever_the_name() {
        let text = error(Some(b"/a\n\x1b\xff\"\\"), "no\nway", None);
        assert!(!text.contains('\n'));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["path_hex"], "2f610a1bff225c");
        assert_eq!(value["message"], "no\nway");
        let plain: serde_json::Value = serde_json::from_str(&error(Some(b"/a\n"), "x", Some(3))).unwrap();
        assert_eq!(plain["path"], "/a\n");
        assert_eq!(plain["exit_code"], 3);
        assert!(plain.get("path_hex").is_none());
    }

    #[test]
    fn progress_has_no_total_before_the_scan_has_ended() {
        let now = Instant::now();
        let mut tracker = Tracker::new(now);
        tracker.apply(&Event::Phase(Phase::Scanning), now);
        tracker.apply(&Event::Planned { bytes: 10 }, now);
        let value: serde_json::Value = serde_json::from_str(&progress(&tracker.view(now))).unwrap();
        assert_eq!((&value["type"], &value["phase"]), (&"progress".into(), &"scanning".into()));
        assert!(value["bytes_total"].is_null() && value["percent"].is_null());
        tracker.apply(&Event::Phase(Phase::Sending), now);
        let value: serde_json::Value = serde_json::from_str(&progress(&tracker.view(now))).unwrap();
        assert_eq!(value["bytes_total"], 10);
        assert_eq!(value["percent"], 0.0);
    }
}
