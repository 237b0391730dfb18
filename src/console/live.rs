//! What goes on, as server-sent events: all that is to be shown, again whenever something changed, at most four times a second.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use super::answer::{Answer, ApiError};
use super::asking::reference;
use super::serve::Shared;
use crate::engine::client::now;
use crate::engine::inside::{Attending, Inside, OnItsWay};
use crate::engine::live::{EndedRun, Live, Problems, RecentFile, RunName, RunView};
use crate::engine::progress::FileView;
use crate::json::text;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(250);
/// What goes on is told again after so many looks, for rates go down while nothing happens.
const ANYWAY: u32 = 4;
/// A stream of which nothing is heard is kept open by a word.
const ALIVE: u32 = 60;
/// Who reads nothing for so long is not there.
const READ_PATIENCE: Duration = Duration::from_secs(30);
/// Event streams at once.
pub(super) const STREAMS_MAX: usize = 16;

/// What can be watched.
pub(super) trait Watched: Send + Sync {
    /// The runs.
    fn live(&self) -> &Live;

    /// Where a run is on its way to.
    fn on_its_way(&self, _: &RunName) -> Vec<OnItsWay> {
        Vec::new()
    }

    /// Destinations that are connected.
    fn attending(&self) -> Vec<Attending> {
        Vec::new()
    }
}

impl Watched for Inside {
    fn live(&self) -> &Live {
        Self::live(self)
    }

    fn on_its_way(&self, run: &RunName) -> Vec<OnItsWay> {
        Self::on_its_way(self, run)
    }

    fn attending(&self) -> Vec<Attending> {
        Self::attending(self)
    }
}

#[derive(Serialize)]
struct Moment {
    time_ms: u64,
    runs: Vec<Run>,
    ended: Vec<Ended>,
    attending: Vec<There>,
}

/// Which run it is.
#[derive(Serialize)]
struct Named {
    id: String,
    kind: &'static str,
    node: String,
    user: String,
    root: String,
    r#ref: String,
}

impl From<RunName> for Named {
    fn from(name: RunName) -> Self {
        Self {
            id: name.id,
            kind: name.purpose.name(),
            node: name.node,
            user: name.user,
            root: text(&name.root),
            r#ref: reference(&name.root),
        }
    }
}

#[derive(Serialize)]
struct Run {
    #[serde(flatten)]
    run: Named,
    phase: &'static str,
    since_secs: i64,
    note: Option<String>,
    gathering: Option<Gathering>,
    file: Option<File>,
    bytes_done: u64,
    bytes_total: Option<u64>,
    percent: Option<f64>,
    files_done: u64,
    bytes_per_sec: Option<f64>,
    eta_secs: Option<f64>,
    destinations: Vec<Destination>,
    recent: Vec<Recent>,
    problems: Vec<Problem>,
    problems_total: u64,
}

#[derive(Serialize)]
struct Problem {
    path: String,
    message: String,
}

fn problems(problems: Problems) -> Vec<Problem> {
    let first = problems.first.into_iter();
    first.map(|problem| Problem { path: text(&problem.path), message: problem.why }).collect()
}

#[derive(Serialize)]
struct Gathering {
    connected: u32,
    wanted: u32,
}

#[derive(Serialize)]
struct File {
    path: String,
    done: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Destination {
    name: String,
    bytes_done: u64,
    bytes_total: Option<u64>,
    state: &'static str,
}

#[derive(Serialize)]
struct Recent {
    path: String,
    bytes: Option<u64>,
}

#[derive(Serialize)]
struct Ended {
    #[serde(flatten)]
    run: Named,
    exit_code: u8,
    message: String,
    snapshot: Option<u64>,
    started_secs: i64,
    ended_secs: i64,
    files: u64,
    bytes: u64,
    problems: Vec<Problem>,
    problems_total: u64,
}

#[derive(Serialize)]
struct There {
    name: String,
    address: Option<String>,
    since_secs: i64,
}

impl Run {
    fn of(run: RunView, on_its_way: Vec<OnItsWay>) -> Self {
        let RunView { name, view, since_secs, gathering, recent, problems: troubles } = run;
        let file = |file: FileView| File { path: text(&file.path), done: file.done, bytes: file.bytes };
        let destination = |to: OnItsWay| Destination {
            name: to.name,
            bytes_done: to.bytes_done,
            bytes_total: to.bytes_total,
            state: "running",
        };
        let recent_of = |file: RecentFile| Recent { path: text(&file.path), bytes: file.bytes };
        Self {
            run: Named::from(name),
            phase: view.phase.name(),
            since_secs,
            note: view.note,
            gathering: gathering.map(|(connected, wanted)| Gathering { connected, wanted }),
            file: view.file.map(file),
            bytes_done: view.done,
            bytes_total: view.permille.map(|_| view.planned),
            percent: view.permille.map(|permille| permille as f64 / 10.0),
            files_done: view.files_done,
            bytes_per_sec: view.rate.map(f64::round),
            eta_secs: view.eta_secs.map(f64::round),
            destinations: on_its_way.into_iter().map(destination).collect(),
            recent: recent.into_iter().map(recent_of).collect(),
            problems_total: troubles.total,
            problems: problems(troubles),
        }
    }
}

impl From<EndedRun> for Ended {
    fn from(ended: EndedRun) -> Self {
        let EndedRun { name, end, started_secs, ended_secs, problems: troubles } = ended;
        Self {
            run: Named::from(name),
            exit_code: end.exit_code,
            message: end.message,
            snapshot: end.snapshot,
            started_secs,
            ended_secs,
            files: end.files,
            bytes: end.bytes,
            problems_total: troubles.total,
            problems: problems(troubles),
        }
    }
}

fn moment(watched: &dyn Watched) -> Moment {
    let view = watched.live().view();
    let attending = watched.attending().into_iter();
    let run = |run: RunView| {
        let to = watched.on_its_way(&run.name);
        Run::of(run, to)
    };
    Moment {
        time_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
        runs: view.runs.into_iter().map(run).collect(),
        ended: view.ended.into_iter().map(Ended::from).collect(),
        attending: attending
            .map(|Attending { name, address, since_secs }| There { name, address, since_secs })
            .collect(),
    }
}

/// One event.
fn event(watched: &dyn Watched) -> String {
    // Strings, numbers and nulls only: nothing that serde_json could refuse; and no line feed outside of a string.
    let data = serde_json::to_string(&moment(watched)).unwrap_or_default();
    format!("event: live\ndata: {data}\n\n")
}

/// The stream. It ends with the connection, and with the session.
pub(super) async fn stream(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Answer {
    let Ok(permit) = Arc::clone(&shared.streams).try_acquire_owned() else {
        return Err(ApiError::too_many("too many pages watch already; close some of them"));
    };
    let watched = Arc::clone(&shared.watched);
    let cookie = shared.gate.cookie(&headers).unwrap_or_default().to_owned();
    let (told, events) = mpsc::channel::<Result<String, Infallible>>(1);
    tokio::spawn(async move {
        let _permit = permit;
        let watcher = watched.live().watch();
        let (mut seen, mut there, mut quiet) = (None, Vec::new(), 0);
        loop {
            let (changes, attending) = (watcher.live().changes(), watched.attending());
            let goes_on = quiet >= ANYWAY && watcher.live().is_busy();
            let text = if seen != Some(changes) || there != attending || goes_on {
                (seen, there, quiet) = (Some(changes), attending, 0);
                event(&*watched)
            } else if quiet > 0 && quiet % ALIVE == 0 {
                ":\n\n".to_owned()
            } else {
                String::new()
            };
            // Who does not read holds up nobody but this task, and not for long; who has signed out sees no more.
            let sent = text.is_empty() || matches!(timeout(READ_PATIENCE, told.send(Ok(text))).await, Ok(Ok(())));
            if !sent || told.is_closed() || !shared.access.is_open(&cookie, now().secs) {
                return;
            }
            quiet += 1;
            tokio::time::sleep(EVERY).await;
        }
    });
    let mut response = Response::new(Body::from_stream(ReceiverStream::new(events)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    Ok(response)
}
