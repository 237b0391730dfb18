//! `--json`: one object a line on stdout and nothing else. The keys are an interface: they are added to, never changed.
//!
//! `type` is `progress`, `error` or `summary`; `ls --json` prints `entry`, `status --json` prints `status`, those that look back print
//! `snapshot`, `version`, `found`, `between` and `difference`, `run` (`past/json.rs`), and a dry run
//! with `-v` prints `plan`; `rbbackupd prune` prints `verdict`, `verify` prints `damage` and `verify`, `receive` prints
//! `connection` and `file` too (`receive/json.rs`), `stats` prints `stats`. A name that is not UTF-8 comes escaped (`\xNN`), and exactly as hex digits in `path_hex`.

use serde::Serialize;

use super::progress::{Label, View};
use crate::backup::bytes::{escape, is_unseen};
use crate::backup::digest::Digest;
use crate::backup::entry::Kind;
use crate::engine::inspect::{DestinationStatus, ListedEntry, RootStatus, StatusReport};
use crate::engine::observer::{CopyState, Summary};
use crate::engine::restore::RestoreSummary;

/// Text for a JSON string: exact when it is UTF-8 (JSON does its own escaping).
pub(super) fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| escape(bytes), str::to_owned)
}

pub(super) fn hex_of_odd(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).is_err().then(|| bytes.iter().map(|b| format!("{b:02x}")).collect())
}

pub(super) fn line<T: Serialize>(object: &T) -> String {
    // Strings, numbers and nulls only: nothing that serde_json could refuse.
    let line = serde_json::to_string(object).unwrap_or_default();
    if !line.contains(is_unseen) {
        return line;
    }
    // JSON leaves what is beyond C0 as it is; a terminal does not.
    let mut units = [0; 2];
    let mut code = |c: char| c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
    line.chars().map(|c| if is_unseen(c) { code(c) } else { c.to_string() }).collect()
}

/// Whose run it is, at a destination.
#[derive(Serialize)]
pub(super) struct Whose {
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

#[derive(Serialize)]
struct Listed {
    r#type: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    kind: &'static str,
    mode: u32,
    uid: u32,
    gid: u32,
    user: Option<String>,
    group: Option<String>,
    mtime_secs: i64,
    mtime_nanos: u32,
    size: Option<u64>,
    digest: Option<String>,
    target: Option<String>,
}

/// A line of `ls`.
pub fn entry(listed: &ListedEntry) -> String {
    let meta = &listed.entry.meta;
    let content = listed.entry.file();
    let (kind, target) = match &listed.entry.kind {
        Kind::Dir => ("dir", None),
        Kind::File(_) => ("file", None),
        Kind::Symlink { target } => ("symlink", Some(text(target.as_slice()))),
        Kind::Fifo => ("fifo", None),
        Kind::CharDevice { .. } => ("char_device", None),
        Kind::BlockDevice { .. } => ("block_device", None),
    };
    line(&Listed {
        r#type: "entry",
        path: text(&listed.path),
        path_hex: hex_of_odd(&listed.path),
        kind,
        mode: meta.mode,
        uid: meta.uid,
        gid: meta.gid,
        user: listed.user.as_deref().map(text),
        group: listed.group.as_deref().map(text),
        mtime_secs: meta.mtime.secs,
        mtime_nanos: meta.mtime.nanos,
        size: content.map(|content| content.size),
        digest: content.map(|content| content.digest.to_hex()),
        target,
    })
}

#[derive(Serialize)]
struct Status<'a> {
    r#type: &'static str,
    target: &'a str,
    software: String,
    store: String,
    daemon_key: Option<&'a str>,
    my_key: Option<&'a str>,
    node: String,
    user: String,
    uptime_secs: u64,
    sessions: u32,
    roots: Vec<StatusRoot>,
    running: Vec<String>,
    destinations: Vec<StatusDestination>,
    retired_files: u64,
    retired_bytes: u64,
    space_free: u64,
    space_total: u64,
    quota_bytes: Option<u64>,
    used_bytes: u64,
    relay: bool,
}

#[derive(Serialize)]
struct StatusRoot {
    root: String,
    snapshot: u64,
    time_secs: i64,
    complete: bool,
    files: u64,
    bytes: u64,
}

impl From<&RootStatus> for StatusRoot {
    fn from(root: &RootStatus) -> Self {
        Self {
            root: text(&root.root),
            snapshot: root.snapshot,
            time_secs: root.time_secs,
            complete: root.complete,
            files: root.files,
            bytes: root.bytes,
        }
    }
}

#[derive(Serialize)]
struct StatusDestination {
    name: String,
    address: String,
    since_secs: i64,
    space_free: u64,
    space_total: u64,
    behind: u64,
    /// None when nothing is.
    running: Option<String>,
}

impl From<&DestinationStatus> for StatusDestination {
    fn from(destination: &DestinationStatus) -> Self {
        Self {
            name: text(&destination.name),
            address: text(&destination.address),
            since_secs: destination.since_secs,
            space_free: destination.space_free,
            space_total: destination.space_total,
            behind: destination.behind,
            running: (!destination.running.is_empty()).then(|| text(&destination.running)),
        }
    }
}

/// `status`.
pub fn status(report: &StatusReport) -> String {
    line(&Status {
        r#type: "status",
        target: &report.target,
        software: text(&report.software),
        store: report.store.iter().map(|b| format!("{b:02x}")).collect(),
        daemon_key: report.daemon_key.as_deref(),
        my_key: report.my_key.as_deref(),
        node: text(&report.node),
        user: text(&report.user),
        uptime_secs: report.uptime_secs,
        sessions: report.sessions,
        roots: report.roots.iter().map(StatusRoot::from).collect(),
        running: report.running.iter().map(|run| text(run)).collect(),
        destinations: report.destinations.iter().map(StatusDestination::from).collect(),
        retired_files: report.retired_files,
        retired_bytes: report.retired_bytes,
        space_free: report.space_free,
        space_total: report.space_total,
        quota_bytes: report.quota_bytes,
        used_bytes: report.used_bytes,
        relay: report.relay,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::progress::Tracker;
    use crate::cli::render::tests::summary as a_summary;
    use crate::engine::observer::{Event, Phase};
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
        let text = summary(&a_summary());
        assert_eq!(keys(&text), promised);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["type"], "summary");
        assert_eq!(value["content_bytes_sent"], 2 << 20);
        assert_eq!(value["manifest"].as_str().unwrap().len(), 64);
        let dry = summary(&Summary { snapshot: None, ..a_summary() });
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
