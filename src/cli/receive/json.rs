//! `--json` of a destination: `connection`, `file`, `summary` and, for a run that failed, `error`. The keys are an interface:
//! they are added to, never changed.

use std::time::Duration;

use serde::Serialize;

use crate::engine::destination::observer::Arrived;
use crate::engine::error::EngineError;
use crate::engine::progress::Label;
use crate::json::{Whose, hex_of_odd, line, text};

#[derive(Serialize)]
struct Connection<'a> {
    r#type: &'static str,
    connected: bool,
    server: Option<&'a str>,
    message: Option<&'a str>,
    retry_secs: Option<f64>,
}

/// The daemon is there, or it is not and why.
pub(super) fn connection(server: Option<&str>, lost: Option<(&str, Duration)>) -> String {
    line(&Connection {
        r#type: "connection",
        connected: server.is_some(),
        server,
        message: lost.map(|(why, _)| why),
        retry_secs: lost.map(|(_, pause)| pause.as_secs_f64()),
    })
}

#[derive(Serialize)]
struct File {
    r#type: &'static str,
    #[serde(flatten)]
    whose: Whose,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    bytes: u64,
}

/// A file that has arrived.
pub(super) fn file(label: &Label, path: &[u8], bytes: u64) -> String {
    let path_hex = hex_of_odd(path);
    line(&File { r#type: "file", whose: label.into(), path: text(path), path_hex, bytes })
}

#[derive(Serialize)]
struct Summary {
    r#type: &'static str,
    #[serde(flatten)]
    whose: Whose,
    run: String,
    snapshot: u64,
    manifest: String,
    incomplete: bool,
    files: u64,
    bytes: u64,
    wire_bytes_received: u64,
    elapsed_secs: f64,
}

/// A run that has arrived.
pub(super) fn summary(label: &Label, arrived: &Arrived) -> String {
    line(&Summary {
        r#type: "summary",
        whose: label.into(),
        run: arrived.run.to_hex(),
        snapshot: arrived.snapshot,
        manifest: arrived.manifest.to_hex(),
        incomplete: arrived.incomplete,
        files: arrived.files,
        bytes: arrived.bytes,
        wire_bytes_received: arrived.wire_bytes_received,
        elapsed_secs: arrived.elapsed_secs,
    })
}

#[derive(Serialize)]
struct Failed<'a> {
    r#type: &'static str,
    #[serde(flatten)]
    whose: Whose,
    message: &'a str,
    exit_code: u8,
}

/// A run that did not.
pub(super) fn failed(label: &Label, error: &EngineError) -> String {
    line(&Failed { r#type: "error", whose: label.into(), message: &error.message, exit_code: error.exit_code() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_one_object_with_a_type() {
        let label = Label { node: "n".into(), user: "u".into(), root: b"/a\n".to_vec() };
        let parse = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        let there = parse(&connection(Some("nas:1"), None));
        assert_eq!(
            (&there["type"], &there["connected"], &there["server"]),
            (&"connection".into(), &true.into(), &"nas:1".into())
        );
        let lost = parse(&connection(None, Some(("cut", Duration::from_millis(200)))));
        assert_eq!((&lost["connected"], &lost["retry_secs"]), (&false.into(), &0.2.into()));
        let file = parse(&file(&label, b"/a\n/\xff", 9));
        assert_eq!(
            (&file["root"], &file["path_hex"], &file["bytes"]),
            (&"/a\n".into(), &"2f610a2fff".into(), &9.into())
        );
    }
}
