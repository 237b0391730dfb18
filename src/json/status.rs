//! How a server is.

use serde::Serialize;

use super::{line, text};
use crate::engine::inspect::{DestinationStatus, RootStatus, StatusReport};

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

/// A destination that is connected.
#[derive(Serialize)]
pub struct StatusDestination {
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
