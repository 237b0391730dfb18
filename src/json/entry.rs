//! One path of a snapshot.

use serde::Serialize;

use super::{hex_of_odd, line, text};
use crate::backup::entry::{Entry, Kind};
use crate::engine::inspect::ListedEntry;

/// What a snapshot has of one path.
#[derive(Serialize)]
pub struct Listed {
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

impl From<&ListedEntry> for Listed {
    fn from(listed: &ListedEntry) -> Self {
        let meta = &listed.entry.meta;
        let content = listed.entry.file();
        let (kind, target) = kind_of(&listed.entry);
        Self {
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
        }
    }
}

/// A line of `ls`.
pub fn entry(listed: &ListedEntry) -> String {
    line(&Listed::from(listed))
}

/// Its kind, and where a link points to.
pub(super) fn kind_of(entry: &Entry) -> (&'static str, Option<String>) {
    match &entry.kind {
        Kind::Dir => ("dir", None),
        Kind::File(_) => ("file", None),
        Kind::Symlink { target } => ("symlink", Some(text(target.as_slice()))),
        Kind::Fifo => ("fifo", None),
        Kind::CharDevice { .. } => ("char_device", None),
        Kind::BlockDevice { .. } => ("block_device", None),
    }
}
