//! Every run of every copy, with its errors: nothing vanishes.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use serde::Serialize;

use super::Daemon;
use crate::console::answer::{Answer, json};
use crate::console::asking::{Query, blocking, reference};
use crate::console::copies::runs_count;
use crate::engine::admin::{self, Asker};
use crate::engine::error::EngineError;
use crate::engine::past::{self, RunInfo};
use crate::engine::stop::Stop;
use crate::json::past::Run;
use crate::json::text;

#[derive(Serialize)]
struct Runs<'a> {
    runs: Vec<RunOf<'a>>,
}

#[derive(Serialize)]
struct RunOf<'a> {
    node: &'a str,
    user: &'a str,
    r#ref: String,
    #[serde(flatten)]
    run: Run<'a>,
}

/// `runs`.
pub(super) async fn runs(State(daemon): State<Arc<Daemon>>, uri: Uri) -> Answer {
    let count = runs_count(&Query::of(uri.query()))?;
    let infos = blocking(move || all(&daemon, count)).await?;
    let runs =
        infos.iter().map(|(node, user, info)| RunOf { node, user, r#ref: reference(&info.root), run: Run::from(info) });
    Ok(json(&Runs { runs: runs.collect() }))
}

/// The newest first.
fn all(daemon: &Daemon, count: u32) -> Result<Vec<(String, String, RunInfo)>, EngineError> {
    if daemon.inside.is_relay() {
        return Ok(Vec::new());
    }
    let mut all = Vec::new();
    for copy in admin::stats(Asker::Admin(&daemon.store(), &Stop::default()))? {
        let (node, user) = (text(&copy.node), text(&copy.user));
        let way = daemon.way(Some((node.clone(), user.clone())));
        // Those of a copy that cannot be read do not hide the others': the overview tells of it.
        if let Err(error) = past::runs(&way, count, &mut |info| all.push((node.clone(), user.clone(), info))) {
            tracing::warn!("the runs of {node}/{user} cannot be shown: {error}");
        }
        all.sort_by_key(|(.., info)| std::cmp::Reverse((info.ended_secs, info.started_secs)));
        all.truncate(usize::try_from(count).unwrap_or(usize::MAX));
    }
    Ok(all)
}
