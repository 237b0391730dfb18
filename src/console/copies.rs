//! Browsing a copy: its snapshots, what they hold, what became of a path, how its runs ended. The same for both programs.

use std::ffi::OsString;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::Uri;
use serde::Serialize;

use super::answer::{Answer, ApiError, json};
use super::asking::{Gone, Query, blocking, reference};
use super::serve::Shared;
use crate::backup::when::When;
use crate::engine::client::{ClientOptions, Target};
use crate::engine::inspect::{self, ListedEntry, Listing};
use crate::engine::past::{self, RunInfo};
use crate::json::past::{Compared, Difference, Found, Run, Snapshot, Version};
use crate::json::{Listed, text};

/// Entries of one answer.
const ENTRIES_MAX: usize = 5000;
const FOUND_MAX: usize = 1000;
const DIFFERENCES_MAX: usize = 10_000;
const RUNS_DEFAULT: u64 = 100;
const RUNS_MAX: u64 = 1000;

/// Node and user, as they stand in the URL.
pub(super) type Copy = Path<(String, String)>;

/// The way to the copy that a URL names.
pub(super) fn way(shared: &Shared, Path((node, user)): Copy) -> ClientOptions {
    let own = node == "-" && user == "-";
    (shared.ways)((!own).then_some((node, user)))
}

/// An absolute path.
pub(super) fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

/// Which snapshot is meant.
pub(super) fn when(query: &Query) -> Result<When, ApiError> {
    Ok(query.number("at")?.map_or(When::Latest, When::Number))
}

#[derive(Serialize)]
struct WithRef<T> {
    #[serde(flatten)]
    what: T,
    r#ref: String,
}

#[derive(Serialize)]
struct Snapshots {
    snapshots: Vec<WithRef<Snapshot>>,
    damaged: Vec<String>,
}

/// `snapshots`.
pub(super) async fn snapshots(State(shared): State<Arc<Shared>>, copy: Copy, uri: Uri) -> Answer {
    let (way, query) = (way(&shared, copy), Query::of(uri.query()));
    let path = query.bytes("path").map(path_of);
    let _gone = Gone::of(&way);
    let answer = blocking(move || {
        let mut snapshots = Vec::new();
        let damaged = past::snapshots(&way, path.as_deref(), &mut |info| {
            snapshots.push(WithRef { what: Snapshot::from(&info), r#ref: reference(&info.root) });
        })?;
        Ok(Snapshots { snapshots, damaged })
    });
    Ok(json(&answer.await?))
}

#[derive(Serialize)]
struct Entries {
    snapshot: Option<Answering>,
    entries: Vec<Entry>,
    more: bool,
    /// In the client's console: what was asked. A restore says it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<String>,
}

/// Which server, under which name; none: the daemon itself.
pub(super) fn asked_of(way: &ClientOptions) -> Option<String> {
    match &way.target {
        Target::Server { server, .. } => Some(format!("{server} {}", way.user)),
        Target::Store(store) => Some(format!("{} {}", store.display(), way.user)),
        Target::Admin(_) => None,
    }
}

#[derive(Serialize)]
struct Answering {
    number: u64,
    root: String,
    time_secs: i64,
    complete: bool,
}

#[derive(Serialize)]
struct Entry {
    name: String,
    #[serde(flatten)]
    listed: WithRef<Listed>,
}

impl From<Listing> for Answering {
    fn from(listing: Listing) -> Self {
        let Listing { snapshot, root, time_secs, complete } = listing;
        Self { number: snapshot, root: text(&root), time_secs, complete }
    }
}

impl From<&ListedEntry> for Entry {
    fn from(entry: &ListedEntry) -> Self {
        let name = entry.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        Self { name: text(name), listed: WithRef { what: Listed::from(entry), r#ref: reference(&entry.path) } }
    }
}

/// `entries`: what a snapshot has at a path; without one, the roots.
pub(super) async fn entries(State(shared): State<Arc<Shared>>, copy: Copy, uri: Uri) -> Answer {
    let (way, query) = (way(&shared, copy), Query::of(uri.query()));
    let (path, when) = (query.bytes("path").map(path_of), when(&query)?);
    let after = query.bytes("after").map(<[u8]>::to_vec);
    let count =
        usize::try_from(query.number("count")?.unwrap_or(u64::MAX)).unwrap_or(ENTRIES_MAX).clamp(1, ENTRIES_MAX);
    let _gone = Gone::of(&way);
    let answer = blocking(move || {
        let (mut entries, mut more) = (Vec::new(), false);
        let listing = inspect::list(&way, path.as_deref(), when, &mut |entry| {
            if after.as_ref().is_some_and(|after| entry.path <= *after) {
                return ControlFlow::Continue(());
            }
            more = entries.len() == count;
            if more {
                return ControlFlow::Break(());
            }
            entries.push(Entry::from(&entry));
            ControlFlow::Continue(())
        })?;
        let asked = asked_of(&way);
        Ok(Entries { snapshot: listing.map(Answering::from), entries, more, asked })
    });
    Ok(json(&answer.await?))
}

#[derive(Serialize)]
struct Versions {
    versions: Vec<Version>,
}

/// `versions`: the contents that a path had.
pub(super) async fn versions(State(shared): State<Arc<Shared>>, copy: Copy, uri: Uri) -> Answer {
    let (way, query) = (way(&shared, copy), Query::of(uri.query()));
    let path = path_of(query.needed("path")?);
    let _gone = Gone::of(&way);
    let answer = blocking(move || {
        let mut versions = Vec::new();
        past::history(&way, &path, &mut |info| versions.push(Version::from(&info)))?;
        Ok(Versions { versions })
    });
    Ok(json(&answer.await?))
}

#[derive(Serialize)]
struct FoundList {
    found: Vec<WithRef<Found>>,
    more: bool,
}

/// `find`: paths that match a pattern, in any snapshot.
pub(super) async fn find(State(shared): State<Arc<Shared>>, copy: Copy, uri: Uri) -> Answer {
    let (way, query) = (way(&shared, copy), Query::of(uri.query()));
    let pattern = query.needed("pattern")?.to_vec();
    let _gone = Gone::of(&way);
    let answer = blocking(move || {
        let (mut found, mut more) = (Vec::new(), false);
        past::find(&way, &pattern, &mut |info| {
            more = found.len() == FOUND_MAX;
            if !more {
                found.push(WithRef { what: Found::from(&info), r#ref: reference(&info.path) });
            }
        })?;
        Ok(FoundList { found, more })
    });
    Ok(json(&answer.await?))
}

#[derive(Serialize)]
struct Differences {
    between: Vec<Compared>,
    differences: Vec<WithRef<Difference>>,
    more: bool,
}

/// `diff`: what changed between two snapshots.
pub(super) async fn diff(State(shared): State<Arc<Shared>>, copy: Copy, uri: Uri) -> Answer {
    let (way, query) = (way(&shared, copy), Query::of(uri.query()));
    let path = query.bytes("path").map(path_of);
    let number = |key: &str| {
        let missing = || ApiError::usage(format!("'{key}' is missing: the number of a snapshot"));
        query.number(key)?.map(When::Number).ok_or_else(missing)
    };
    let ends = [number("from")?, number("to")?];
    let _gone = Gone::of(&way);
    let answer = blocking(move || {
        let (mut between, mut differences, mut more) = (Vec::new(), Vec::new(), false);
        past::diff(&way, ends, path.as_deref(), &mut |info| between.push(Compared::from(&info)), &mut |info| {
            more = differences.len() == DIFFERENCES_MAX;
            if !more {
                differences.push(WithRef { what: Difference::from(&info), r#ref: reference(&info.path) });
            }
        })?;
        Ok(Differences { between, differences, more })
    });
    Ok(json(&answer.await?))
}

/// How many runs are asked for.
pub(super) fn runs_count(query: &Query) -> Result<u32, ApiError> {
    let count = query.number("count")?.unwrap_or(RUNS_DEFAULT).clamp(1, RUNS_MAX);
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

#[derive(Serialize)]
struct Runs<'a> {
    runs: Vec<WithRef<Run<'a>>>,
}

/// `runs`: how they ended, newest first.
pub(super) async fn runs(State(shared): State<Arc<Shared>>, copy: Copy, uri: Uri) -> Answer {
    let (way, query) = (way(&shared, copy), Query::of(uri.query()));
    let count = runs_count(&query)?;
    let infos: Vec<RunInfo> = blocking(move || {
        let mut infos = Vec::new();
        past::runs(&way, count, &mut |info| infos.push(info))?;
        Ok(infos)
    })
    .await?;
    let runs = infos.iter().map(|info| WithRef { what: Run::from(info), r#ref: reference(&info.root) });
    Ok(json(&Runs { runs: runs.collect() }))
}
