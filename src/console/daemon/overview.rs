//! Every copy in a line: how it is, how old, how large, and who else holds it.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;

use super::Daemon;
use crate::console::answer::{Answer, json};
use crate::console::asking::{blocking, reference};
use crate::engine::admin::{self, Asker, RootReport, StatsReport};
use crate::engine::client::{ClientOptions, now};
use crate::engine::error::EngineError;
use crate::engine::inspect;
use crate::engine::past::{self, RunInfo};
use crate::engine::stop::Stop;
use crate::json::{StatusDestination, text};

/// Runs that are looked at to tell how a copy is; and, where they are too few for a root that is backed up seldom beside
/// others, how many then.
const RUNS_LOOKED_AT: u32 = 60;
const RUNS_LOOKED_AT_MAX: u32 = 3_000;
/// With fewer good runs than this nobody knows how often there should be one.
const GOOD_RUNS_MIN: usize = 3;
/// Then this is too old.
const LATE_SECS: i64 = 2 * 24 * 3600;
/// What is granted beyond twice the usual time.
const GRACE_SECS: i64 = 3600;

#[derive(Serialize)]
struct Overview {
    time_secs: i64,
    software: &'static str,
    store: String,
    relay: bool,
    listen: String,
    uptime_secs: u64,
    sessions: u32,
    space: Space,
    copies: Vec<Copy>,
}

#[derive(Serialize)]
struct Space {
    free_bytes: u64,
    total_bytes: u64,
}

#[derive(Serialize)]
struct Copy {
    node: String,
    user: String,
    r#ref: String,
    state: &'static str,
    running: bool,
    last_good_secs: Option<i64>,
    last_run_secs: Option<i64>,
    last_exit_code: Option<u8>,
    last_message: String,
    usual_gap_secs: Option<i64>,
    files: u64,
    bytes: u64,
    history_bytes: u64,
    stored_bytes: u64,
    used_bytes: u64,
    quota_bytes: Option<u64>,
    snapshots: u64,
    verified_secs: Option<i64>,
    damages: u64,
    roots: Vec<Root>,
    destinations: Vec<Behind>,
}

#[derive(Serialize)]
struct Root {
    path: String,
    r#ref: String,
    newest: u64,
    files: u64,
    bytes: u64,
    complete_secs: Option<i64>,
}

#[derive(Serialize)]
struct Behind {
    name: String,
    behind: u64,
}

impl From<&RootReport> for Root {
    fn from(root: &RootReport) -> Self {
        Self {
            path: text(&root.path),
            r#ref: reference(&root.path),
            newest: root.newest,
            files: root.files,
            bytes: root.bytes,
            complete_secs: Some(root.complete_secs).filter(|secs| *secs > 0),
        }
    }
}

/// `overview`.
pub(super) async fn overview(State(daemon): State<Arc<Daemon>>) -> Answer {
    Ok(json(&blocking(move || look(&daemon)).await?))
}

fn look(daemon: &Daemon) -> Result<Overview, EngineError> {
    let status = inspect::status(&daemon.way(None))?;
    let store = daemon.store();
    let stats = if status.relay { Vec::new() } else { admin::stats(Asker::Admin(&store, &Stop::default()))? };
    let running: Vec<(String, String)> =
        daemon.inside.live().view().runs.into_iter().map(|run| (run.name.node, run.name.user)).collect();
    let time_secs = now().secs;
    let copies = stats.iter().map(|stats| {
        let (node, user) = (text(&stats.node), text(&stats.user));
        let whose = Some((node.clone(), user.clone()));
        let (runs, destinations) = (runs_of(&daemon.way(whose), stats, time_secs), daemon.inside.behind(&node, &user));
        let wrong = runs.as_ref().err().or(destinations.as_ref().err()).map(|error| error.message.clone());
        let (runs, destinations) = (runs.unwrap_or_default(), destinations.unwrap_or_default());
        let copy = Copy::of(stats, &runs, running.contains(&(node, user)), destinations, time_secs);
        // What cannot be told of one does not hide the others.
        match wrong {
            None => copy,
            Some(last_message) => Copy { state: "damaged", last_message, ..copy },
        }
    });
    Ok(Overview {
        time_secs,
        software: concat!("rbbackupd ", env!("CARGO_PKG_VERSION")),
        store: text(store.as_os_str().as_encoded_bytes()),
        relay: status.relay,
        listen: daemon.listens_at(),
        uptime_secs: daemon.inside.uptime_secs(),
        sessions: status.sessions,
        space: Space { free_bytes: status.space_free, total_bytes: status.space_total },
        copies: copies.collect(),
    })
}

impl Copy {
    fn of(
        stats: &StatsReport,
        runs: &[RunInfo],
        running: bool,
        destinations: Vec<(String, u64)>,
        now_secs: i64,
    ) -> Self {
        let last = runs.first();
        // The root that was backed up well longest ago speaks for all.
        let oldest = stats.roots.iter().min_by_key(|root| root.complete_secs);
        let failure = last.and_then(|run| run.outcome.as_ref().err());
        Self {
            state: state_of(stats, runs, now_secs),
            node: text(&stats.node),
            user: text(&stats.user),
            r#ref: [reference(&stats.node), reference(&stats.user)].join("/"),
            running,
            last_good_secs: oldest.map(|root| root.complete_secs).filter(|secs| *secs > 0),
            last_run_secs: last.map(|run| run.ended_secs),
            last_exit_code: last.map(exit_code),
            last_message: failure.map(|(_, message)| message.clone()).unwrap_or_default(),
            usual_gap_secs: oldest.and_then(|root| usual_gap(&root.path, runs)),
            files: stats.roots.iter().map(|root| root.files).sum(),
            bytes: stats.current_bytes(),
            history_bytes: stats.stored_bytes().saturating_sub(stats.current_bytes()),
            stored_bytes: stats.stored_bytes(),
            used_bytes: stats.used_bytes,
            quota_bytes: stats.quota_bytes,
            snapshots: stats.snapshots,
            verified_secs: Some(stats.verified_secs).filter(|secs| *secs > 0),
            damages: stats.damages,
            roots: stats.roots.iter().map(Root::from).collect(),
            destinations: destinations.into_iter().map(|(name, behind)| Behind { name, behind }).collect(),
        }
    }
}

/// The newest runs of a copy, as many as it takes to know how often each root is backed up.
fn runs_of(way: &ClientOptions, stats: &StatsReport, now_secs: i64) -> Result<Vec<RunInfo>, EngineError> {
    let ask = |count| {
        let mut runs = Vec::new();
        past::runs(way, count, &mut |run| runs.push(run)).map(|()| runs)
    };
    let runs = ask(RUNS_LOOKED_AT)?;
    let are_more = runs.len() >= RUNS_LOOKED_AT as usize;
    let has_rhythm = |root: &RootReport| root.snapshots >= GOOD_RUNS_MIN as u64;
    let is_unknown = |root: &RootReport| has_rhythm(root) && usual_gap(&root.path, &runs).is_none();
    // Each is a file: they are read only where it makes a difference.
    if are_more && stats.roots.iter().any(is_unknown) && state_of(stats, &runs, now_secs) == "late" {
        return ask(RUNS_LOOKED_AT_MAX);
    }
    Ok(runs)
}

/// As the command line's.
fn exit_code(run: &RunInfo) -> u8 {
    match &run.outcome {
        Err((code, _)) => *code,
        Ok(_) if run.errors_total > 0 => 3,
        Ok(_) => 0,
    }
}

/// The usual time between good runs of a root, newest first in `runs`: the median; none: there were too few.
fn usual_gap(root: &[u8], runs: &[RunInfo]) -> Option<i64> {
    let good: Vec<i64> =
        runs.iter().filter(|run| run.root == root && exit_code(run) == 0).map(|run| run.ended_secs).collect();
    if good.len() < GOOD_RUNS_MIN {
        return None;
    }
    let mut gaps: Vec<i64> = good.iter().zip(good.iter().skip(1)).map(|(newer, older)| newer - older).collect();
    gaps.sort_unstable();
    gaps.get(gaps.len() / 2).copied()
}

/// The worst that holds.
fn state_of(stats: &StatsReport, runs: &[RunInfo], now_secs: i64) -> &'static str {
    let last_codes =
        || stats.roots.iter().filter_map(|root| runs.iter().find(|run| run.root == root.path)).map(exit_code);
    let is_late = |root: &RootReport| {
        let limit =
            usual_gap(&root.path, runs).map_or(LATE_SECS, |gap| gap.saturating_mul(2).saturating_add(GRACE_SECS));
        now_secs.saturating_sub(root.complete_secs) > limit
    };
    let has_failed = runs.first().is_some_and(|run| run.outcome.is_err());
    if stats.damages > 0 {
        "damaged"
    } else if has_failed || last_codes().any(|code| code != 0 && code != 3) {
        "failing"
    } else if last_codes().any(|code| code == 3) || stats.roots.iter().any(|root| root.complete_secs == 0) {
        "incomplete"
    } else if stats.roots.is_empty() {
        "empty"
    } else if stats.roots.iter().any(is_late) {
        "late"
    } else if stats.verified_secs == 0 {
        "unverified"
    } else {
        "good"
    }
}

#[derive(Serialize)]
struct Destinations {
    destinations: Vec<StatusDestination>,
}

/// `destinations`.
pub(super) async fn destinations(State(daemon): State<Arc<Daemon>>) -> Answer {
    let way = daemon.way(None);
    let status = blocking(move || inspect::status(&way)).await?;
    Ok(json(&Destinations { destinations: status.destinations.iter().map(StatusDestination::from).collect() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::digest::RunId;

    const DAY: i64 = 24 * 3600;

    fn run(ended_secs: i64, outcome: Result<u64, (u8, String)>, errors_total: u64) -> RunInfo {
        RunInfo {
            run: RunId([0; 16]),
            forget: false,
            root: b"/r".to_vec(),
            started_secs: ended_secs - 1,
            ended_secs,
            outcome,
            content_bytes: 0,
            errors: Vec::new(),
            errors_total,
        }
    }

    fn stats(complete_secs: i64, verified_secs: i64) -> StatsReport {
        let root = RootReport { path: b"/r".to_vec(), snapshots: 1, newest: 1, files: 1, bytes: 5, complete_secs };
        StatsReport {
            node: b"n".to_vec(),
            user: b"u".to_vec(),
            roots: vec![root],
            snapshots: 1,
            logical_bytes: 0,
            snapshot_bytes: 1,
            retired_files: 0,
            retired_bytes: 2,
            quota_bytes: None,
            used_bytes: 0,
            packs: 0,
            pack_bytes: 4,
            raw_bytes: 0,
            verified_secs,
            damages: 0,
        }
    }

    #[test]
    fn a_copy_is_as_good_as_its_worst() {
        let now = 100 * DAY;
        let good: Vec<RunInfo> = (0..5).map(|day| run(now - day * DAY, Ok(1), 0)).collect();
        let state = |stats: &StatsReport, runs: &[RunInfo], now| state_of(stats, runs, now);
        assert_eq!(state(&stats(now, 1), &good, now), "good");
        assert_eq!(state(&stats(now, 0), &good, now), "unverified");
        assert_eq!(usual_gap(b"/r", &good), Some(DAY));
        assert_eq!(state(&stats(now, 1), &good, now + 2 * DAY + GRACE_SECS), "good", "a day was missed, and a bit");
        assert_eq!(state(&stats(now, 1), &good, now + 2 * DAY + GRACE_SECS + 1), "late");
        assert_eq!(
            state(&stats(now, 1), &good[..2], now + LATE_SECS + 1),
            "late",
            "nobody knows how often it should be"
        );
        let after = |newest: RunInfo| [&[newest], &good[..]].concat();
        assert_eq!(state(&stats(now, 1), &after(run(now, Ok(2), 7)), now), "incomplete");
        assert_eq!(state(&stats(0, 1), &good, now), "incomplete");
        assert_eq!(state(&stats(now, 1), &after(run(now, Err((13, "full".into())), 0)), now), "failing");
        assert_eq!(state(&StatsReport { damages: 1, ..stats(now, 1) }, &good, now), "damaged");
        assert_eq!(state(&StatsReport { roots: Vec::new(), ..stats(now, 1) }, &[], now), "empty");
    }

    #[test]
    fn the_root_that_is_furthest_behind_speaks_for_all() {
        let mut two = stats(50, 1);
        two.roots.push(RootReport { path: b"/s".to_vec(), complete_secs: 20, ..two.roots[0].clone() });
        let copy = Copy::of(&two, &[run(60, Err((11, "locked".into())), 0)], false, vec![("attic".into(), 2)], 100);
        assert_eq!(
            (copy.last_good_secs, copy.last_exit_code, copy.last_message.as_str()),
            (Some(20), Some(11), "locked")
        );
        assert_eq!((copy.bytes, copy.history_bytes, copy.files), (10, 7, 2));
    }
}
