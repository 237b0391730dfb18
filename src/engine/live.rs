//! [`Live`]: the runs that go on at a store and the last that ended, for those who watch.
//!
//! ```text
//! session ── begin ──> Live ── LiveRun (an Observer) <── events of the run, from its threads
//!                       │
//!                       └── view() <── who watches, a few times a second
//! ```
//! What nobody looks at costs a lock and an addition an event; names of small files are kept only while
//! somebody watches. Bounded:
//! a run is as long here as its session, [`RECENT_MAX`] names each, and [`ENDED_MAX`] runs that ended.

mod shown;

pub use self::shown::{
    ENDED_MAX, EndedRun, LiveView, PROBLEMS_MAX, Problem, Problems, RECENT_MAX, RecentFile, RunEnd, RunName,
    RunPurpose, RunView,
};

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::client::now;
use super::error::EngineError;
use super::observer::{Below, Event, Observer, Phase};
use super::progress::{Label, SMALL_BYTES, Tracker};

/// See the module. Clones are one.
#[derive(Clone, Default)]
pub struct Live(Arc<Shared>);

#[derive(Default)]
struct Shared {
    watchers: AtomicUsize,
    /// Counts what happened: who has seen this number has seen all.
    changes: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    runs: BTreeMap<u64, Arc<LiveRun>>,
    ended: VecDeque<EndedRun>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }
}

impl Live {
    /// A run begins. It is shown until its [`LiveGuard`] is dropped.
    pub fn begin(&self, name: RunName) -> LiveGuard {
        self.enter(name, Tracker::new(Instant::now()))
    }

    /// The same where it arrives: how far the whole is its source tells ([`Event::Source`]).
    pub fn begin_arriving(&self, name: RunName) -> LiveGuard {
        let label = Label { node: name.node.clone(), user: name.user.clone(), root: name.root.clone() };
        let mut tracker = Tracker::receiving(label, Instant::now());
        tracker.apply(&Event::Phase(Phase::Waiting), Instant::now());
        self.enter(name, tracker)
    }

    fn enter(&self, name: RunName, tracker: Tracker) -> LiveGuard {
        let run = Arc::new(LiveRun {
            live: self.clone(),
            since_secs: now().secs,
            name,
            state: Mutex::new(RunState {
                tracker,
                gathering: None,
                file: None,
                recent: VecDeque::new(),
                end: RunEnd::default(),
                problems: Problems::default(),
            }),
        });
        let mut state = self.0.lock();
        state.next += 1;
        let key = state.next;
        state.runs.insert(key, Arc::clone(&run));
        drop(state);
        self.0.changed();
        LiveGuard { run, key, is_over: false }
    }

    /// Names of files are kept as long as what is returned lives.
    pub fn watch(&self) -> Watcher {
        self.0.watchers.fetch_add(1, Ordering::Relaxed);
        Watcher(self.clone())
    }

    /// Grows with everything that happens.
    pub fn changes(&self) -> u64 {
        self.0.changes.load(Ordering::Relaxed)
    }

    /// All of it.
    pub fn view(&self) -> LiveView {
        let state = self.0.lock();
        let runs: Vec<Arc<LiveRun>> = state.runs.values().map(Arc::clone).collect();
        let ended = state.ended.iter().cloned().collect();
        drop(state);
        LiveView { runs: runs.iter().map(|run| run.view()).collect(), ended }
    }

    /// Whether anything goes on.
    pub fn is_busy(&self) -> bool {
        !self.0.lock().runs.is_empty()
    }

    fn is_watched(&self) -> bool {
        self.0.watchers.load(Ordering::Relaxed) > 0
    }
}

#[cfg(test)]
impl LiveGuard {
    /// For tests: a run that nobody sees.
    pub(crate) fn unseen() -> Self {
        let (node, user) = ("n".to_owned(), "u".to_owned());
        let name = RunName { id: String::new(), purpose: RunPurpose::Backup, node, user, root: b"/r".to_vec() };
        Live::default().begin(name)
    }
}

/// Somebody watches.
pub struct Watcher(Live);

impl Watcher {
    /// What is watched.
    pub fn live(&self) -> &Live {
        &self.0
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.0.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A run that goes on: it listens to what happens in it.
pub struct LiveRun {
    live: Live,
    name: RunName,
    since_secs: i64,
    state: Mutex<RunState>,
}

struct RunState {
    tracker: Tracker,
    gathering: Option<(u32, u32)>,
    /// That began last.
    file: Option<(Vec<u8>, u64)>,
    /// Newest first.
    recent: VecDeque<RecentFile>,
    /// As far as it is known.
    end: RunEnd,
    problems: Problems,
}

impl LiveRun {
    fn lock(&self) -> MutexGuard<'_, RunState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it came to, as far as it got.
    pub fn came_to(&self, end: RunEnd) {
        self.lock().end = end;
    }

    fn view(&self) -> RunView {
        let mut state = self.lock();
        let view = state.tracker.view(Instant::now());
        let (gathering, recent) = (state.gathering, state.recent.iter().cloned().collect());
        let (name, since_secs, problems) = (self.name.clone(), self.since_secs, state.problems.clone());
        RunView { name, view, since_secs, gathering, recent, problems }
    }
}

impl Observer for LiveRun {
    fn event(&self, event: &Event<'_>) {
        let is_watched = self.live.is_watched();
        let mut state = self.lock();
        // A small file is there at once: where nobody looks and no other has a bar it need not be named.
        let unseen = matches!(event, Event::FileBegun { bytes, .. } if *bytes <= SMALL_BYTES);
        if is_watched || !unseen || state.tracker.has_file() {
            state.tracker.apply(event, Instant::now());
        }
        match event {
            Event::Gathering { connected, wanted } => state.gathering = Some((*connected, *wanted)),
            Event::Phase(_) => state.gathering = None,
            Event::Failed { path, why } | Event::Warned { path, why } => {
                state.problems.total += 1;
                if state.problems.first.len() < PROBLEMS_MAX {
                    let (path, why) = (path.to_vec(), (*why).to_owned());
                    state.problems.first.push(Problem { path, why });
                }
            }
            Event::FileBegun { path, bytes } if is_watched => state.file = Some((path.to_vec(), *bytes)),
            Event::FileDone { path } if is_watched => {
                state.recent.truncate(RECENT_MAX - 1);
                let bytes = state.file.as_ref().filter(|(begun, _)| begun == path).map(|(_, bytes)| *bytes);
                state.recent.push_front(RecentFile { path: path.to_vec(), bytes });
            }
            _ => {}
        }
        drop(state);
        self.live.0.changed();
    }

    /// Who watches wants a bar.
    fn wants_total(&self) -> bool {
        true
    }
}

/// Tells a run of paths below its root.
struct Rooted(Arc<LiveRun>);

impl Observer for Rooted {
    fn event(&self, event: &Event<'_>) {
        // Nobody looks at its names, but for that of a file that has a bar: it may be looked at before it is done.
        let is_nameless = match event {
            Event::FileBegun { bytes, .. } => *bytes <= SMALL_BYTES,
            Event::FileDone { .. } => true,
            _ => false,
        };
        if is_nameless && !self.0.live.is_watched() && !self.0.lock().tracker.has_file() {
            return self.0.event(event);
        }
        Below::new(self.0.name.root.clone(), &*self.0).event(event);
    }
}

/// A run that goes on, until this is dropped.
pub struct LiveGuard {
    run: Arc<LiveRun>,
    key: u64,
    is_over: bool,
}

impl LiveGuard {
    /// Who listens.
    pub fn run(&self) -> Arc<LiveRun> {
        Arc::clone(&self.run)
    }

    /// Who listens to paths that are relative to its root.
    pub fn below_root(&self) -> Arc<dyn Observer> {
        Arc::new(Rooted(self.run()))
    }

    /// It is over, and came to what was said, or failed. Without this it is not among those that ended.
    pub fn ends(mut self, error: Option<&EngineError>) {
        self.is_over = true;
        if let Some(error) = error {
            let mut state = self.run.lock();
            (state.end.exit_code, state.end.message) = (error.exit_code(), error.message.clone());
        }
    }
}

impl Drop for LiveGuard {
    fn drop(&mut self) {
        let shared = &self.run.live.0;
        let mut state = shared.lock();
        state.runs.remove(&self.key);
        if self.is_over {
            let (end, problems) = {
                let run = self.run.lock();
                (run.end.clone(), run.problems.clone())
            };
            // An attempt of the same run that was cut off is not how it ended.
            state.ended.retain(|ended| ended.name.id != self.run.name.id);
            state.ended.truncate(ENDED_MAX - 1);
            let (name, started_secs) = (self.run.name.clone(), self.run.since_secs);
            state.ended.push_front(EndedRun { name, end, started_secs, ended_secs: now().secs, problems });
        }
        drop(state);
        shared.changed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(id: &str) -> RunName {
        let (node, user) = ("n".to_owned(), "u".to_owned());
        RunName { id: id.to_owned(), purpose: RunPurpose::Backup, node, user, root: b"/r".to_vec() }
    }

    #[test]
    fn a_run_is_shown_while_it_goes_on_and_among_the_ended_after_that() {
        let live = Live::default();
        let before = live.changes();
        let guard = live.begin(name("a"));
        let run = guard.run();
        run.event(&Event::Gathering { connected: 2, wanted: 3 });
        assert!(live.changes() > before);
        assert_eq!(live.view().runs[0].gathering, Some((2, 3)));
        run.event(&Event::Phase(Phase::Scanning));
        run.event(&Event::Advanced { bytes: 7 });
        let view = live.view();
        assert_eq!((view.runs[0].view.done, view.runs[0].gathering), (7, None));
        let end = RunEnd { exit_code: 3, message: String::new(), snapshot: Some(4), files: 2, bytes: 7 };
        run.came_to(end.clone());
        for _ in 0..120 {
            run.event(&Event::Failed { path: b"/r/shut", why: "Permission denied" });
        }
        guard.ends(None);
        drop(live.begin(name("b")));
        let view = live.view();
        assert!(view.runs.is_empty());
        let [ended] = &view.ended[..] else { panic!("one ended") };
        assert_eq!(ended.end, end);
        assert_eq!(ended.name, name("a"));
        assert_eq!((ended.problems.first.len(), ended.problems.total), (PROBLEMS_MAX, 120));
    }

    #[test]
    fn a_run_that_arrives_is_as_far_as_its_source_says() {
        let live = Live::default();
        let guard = live.begin_arriving(name("a"));
        let run = guard.run();
        let view = || live.view().runs[0].view.clone();
        assert_eq!(view().phase, Phase::Waiting);
        run.event(&Event::Phase(Phase::Receiving));
        run.event(&Event::Advanced { bytes: 3 });
        assert_eq!(view().permille, None);
        run.event(&Event::Source { bytes_done: 5, bytes_total: 20, files_done: 1, total_known: true });
        assert_eq!((view().done, view().planned, view().permille), (5, 20, Some(250)));
    }

    /// A client that lost its connection goes on with the same run.
    #[test]
    fn of_a_run_that_was_cut_off_and_went_on_the_last_end_is_told() {
        let live = Live::default();
        let lost = EngineError::new(crate::engine::error::ErrorKind::Unreachable, "cut");
        live.begin(name("a")).ends(Some(&lost));
        live.begin(name("b")).ends(None);
        live.begin(name("a")).ends(None);
        let ends: Vec<_> = live.view().ended.into_iter().map(|ended| (ended.name.id, ended.end.exit_code)).collect();
        assert_eq!(ends, [("a".to_owned(), 0), ("b".to_owned(), 0)]);
    }

    #[test]
    fn the_bar_of_a_large_file_has_its_whole_name_and_ends_with_it() {
        let live = Live::default();
        let guard = live.begin(name("a"));
        let told = guard.below_root();
        let file = || live.view().runs[0].view.file.clone();
        let begun = Event::FileBegun { path: b"film", bytes: SMALL_BYTES + 1 };
        told.event(&begun);
        let watcher = live.watch();
        assert_eq!(file().unwrap().path, b"/r/film");
        told.event(&Event::FileDone { path: b"film" });
        assert_eq!(file(), None);
        told.event(&begun);
        drop(watcher);
        told.event(&Event::FileBegun { path: b"small", bytes: 1 });
        told.event(&Event::FileDone { path: b"small" });
        told.event(&Event::FileDone { path: b"film" });
        assert_eq!(file(), None);
    }

    #[test]
    fn names_are_kept_while_somebody_watches_and_not_more_than_are_shown() {
        let live = Live::default();
        let guard = live.begin(name("a"));
        let run = guard.run();
        let file = |path: &[u8], bytes| {
            run.event(&Event::FileBegun { path, bytes });
            run.event(&Event::FileDone { path });
        };
        file(b"/r/unseen", 1);
        let watcher = live.watch();
        for number in 0..60 {
            file(format!("/r/{number}").as_bytes(), number);
        }
        drop(watcher);
        file(b"/r/unseen", 1);
        let recent = live.view().runs[0].recent.clone();
        assert_eq!(recent.len(), RECENT_MAX);
        assert_eq!(recent[0], RecentFile { path: b"/r/59".to_vec(), bytes: Some(59) });
        assert_eq!(live.view().runs[0].view.files_done, 62);
        for number in 0..30 {
            live.begin(name(&number.to_string())).ends(None);
        }
        assert_eq!(live.view().ended.len(), ENDED_MAX);
    }
}
