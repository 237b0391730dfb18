//! [`Jobs`]: what this console started: backups, restores, a destination. Each runs on a thread of its own and is seen in `live`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Keeping;
use super::profile::{Part, Profile};
use crate::backup::bytes::escape;
use crate::console::live::Watched;
use crate::engine::client::{ClientOptions, Target, now, random_run_id};
use crate::engine::destination::observer::{Arrival, Arrived, ArrivingRun, Receiving};
use crate::engine::destination::{self, ReceiveOptions};
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::inside::Attending;
use crate::engine::live::{Live, LiveGuard, LiveRun, RunEnd, RunName, RunPurpose};
use crate::engine::observer::{Event, Observer};
use crate::engine::push::{PushOptions, push};
use crate::engine::restore::{RestoreOptions, restore};
use crate::engine::stop::Stop;
use crate::net::shutdown::Shutdown;

/// Jobs at once.
const JOBS_MAX: usize = 16;

/// What ends a job.
enum End {
    Stop(Stop),
    Shutdown(Shutdown),
}

/// See the module. Clones are one.
#[derive(Clone, Default)]
pub(super) struct Jobs {
    live: Live,
    shared: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    running: HashMap<String, End>,
    /// Daemons that have us on their list, by job.
    attending: HashMap<String, Attending>,
}

/// Takes a job off the list at its end.
struct Listed {
    jobs: Jobs,
    id: String,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut state = self.jobs.lock();
        state.running.remove(&self.id);
        state.attending.remove(&self.id);
    }
}

impl Watched for Jobs {
    fn live(&self) -> &Live {
        &self.live
    }

    fn attending(&self) -> Vec<Attending> {
        self.lock().attending.values().cloned().collect()
    }
}

impl Jobs {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, end: End) -> Result<Listed, EngineError> {
        let id = random_run_id()?.to_string();
        let mut state = self.lock();
        if state.running.len() >= JOBS_MAX {
            let message = format!("{JOBS_MAX} jobs run already; wait for one of them, or stop it");
            return Err(EngineError::new(ErrorKind::Locked, message));
        }
        state.running.insert(id.clone(), end);
        drop(state);
        Ok(Listed { jobs: self.clone(), id })
    }

    fn spawn(&self, listed: Listed, work: impl FnOnce(&Listed) + Send + 'static) -> Result<String, EngineError> {
        let id = listed.id.clone();
        let spawned = std::thread::Builder::new().name("job".to_owned()).spawn(move || work(&listed));
        spawned.map_err(|e| EngineError::new(ErrorKind::Failed, format!("cannot start a thread: {e}")))?;
        Ok(id)
    }

    /// Asks a job to end; whether there was one. `id`: its own, or that of one of its runs.
    pub(super) fn stop(&self, id: &str) -> bool {
        let job = id.split('.').next().unwrap_or_default();
        // It is on the list until it has ended.
        match self.lock().running.get(job) {
            // Closing waits for the peer.
            Some(End::Stop(stop)) => {
                let stop = stop.clone();
                drop(std::thread::Builder::new().spawn(move || stop.ask()));
            }
            Some(End::Shutdown(shutdown)) => shutdown.trigger(),
            None => return false,
        }
        true
    }

    /// Asks all of them, and waits a little.
    pub(super) fn stop_all(&self, patience: Duration) {
        let ids: Vec<String> = self.lock().running.keys().cloned().collect();
        for id in ids {
            self.stop(&id);
        }
        let mut left = patience;
        while !self.live.view().runs.is_empty() && !left.is_zero() {
            let step = left.min(Duration::from_millis(50));
            std::thread::sleep(step);
            left = left.saturating_sub(step);
        }
    }

    /// Does what a profile says.
    ///
    /// # Errors
    /// It cannot be begun. What goes wrong later is seen in `live`.
    pub(super) fn start(
        &self,
        client: ClientOptions,
        base: &PushOptions,
        keeping: &Keeping,
        profile: Profile,
    ) -> Result<String, EngineError> {
        match profile.role {
            Part::Source => self.back_up(client, base.clone(), profile),
            Part::Destination => self.receive(client, keeping.clone(), &profile),
        }
    }

    fn name(&self, id: String, purpose: RunPurpose, client: &ClientOptions, root: &[u8]) -> LiveGuard {
        let node = match &client.target {
            Target::Server { server, .. } => server.clone(),
            Target::Store(store) | Target::Admin(store) => escape(store.as_os_str().as_encoded_bytes()),
        };
        self.live.begin(RunName { id, purpose, node, user: client.user.clone(), root: root.to_vec() })
    }

    fn back_up(&self, client: ClientOptions, base: PushOptions, profile: Profile) -> Result<String, EngineError> {
        let listed = self.begin(End::Stop(client.stop.clone()))?;
        let jobs = self.clone();
        self.spawn(listed, move |listed| {
            for (number, folder) in profile.folders.iter().enumerate() {
                let live = jobs.name(format!("{}.{number}", listed.id), RunPurpose::Backup, &client, folder.as_bytes());
                let pushed = push(&client, &profile.push_options(&base, folder), &*live.run());
                if let Ok(summary) = &pushed {
                    live.run().came_to(RunEnd::from(summary));
                }
                let is_over = pushed.as_ref().is_err_and(|e| {
                    matches!(e.kind, ErrorKind::Interrupted | ErrorKind::Unreachable | ErrorKind::NotAllowed)
                });
                live.ends(pushed.as_ref().err());
                // The others would end for the same reason.
                if is_over {
                    return;
                }
            }
        })
    }

    /// Restores; what is written is seen in `live`.
    ///
    /// # Errors
    /// As [`Jobs::start`].
    pub(super) fn restore(&self, client: ClientOptions, options: RestoreOptions) -> Result<String, EngineError> {
        let listed = self.begin(End::Stop(client.stop.clone()))?;
        let jobs = self.clone();
        self.spawn(listed, move |listed| {
            let path = options.path.as_os_str().as_encoded_bytes();
            let live = jobs.name(format!("{}.0", listed.id), RunPurpose::Restore, &client, path);
            let restored = restore(&client, &options, &*live.run());
            if let Ok(summary) = &restored {
                live.run().came_to(RunEnd::from(summary));
            }
            live.ends(restored.as_ref().err());
        })
    }

    fn receive(&self, client: ClientOptions, keeping: Keeping, profile: &Profile) -> Result<String, EngineError> {
        let shutdown = Shutdown::new();
        let listed = self.begin(End::Shutdown(shutdown.clone()))?;
        let folder = profile.folder.clone().unwrap_or_default();
        let options = ReceiveOptions {
            client: client.clone(),
            store: PathBuf::from(&folder),
            name: profile.called.clone().unwrap_or_else(host_name),
            from: Vec::new(),
            retention: keeping.retention,
            verify: keeping.verify,
        };
        let jobs = self.clone();
        self.spawn(listed, move |listed| {
            let live = jobs.name(format!("{}.0", listed.id), RunPurpose::Receive, &client, folder.as_bytes());
            let receiving = Arc::new(Destination { jobs: jobs.clone(), id: listed.id.clone(), live: live.run() });
            let ended = destination::run(options, receiving, &shutdown);
            live.ends(ended.as_ref().err());
        })
    }
}

/// What this machine calls itself.
pub(super) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Listens to a destination, and shows it: itself, waiting, and each run that arrives.
struct Destination {
    jobs: Jobs,
    id: String,
    live: Arc<LiveRun>,
}

impl Receiving for Destination {
    fn attending(&self, server: &str) {
        let attending = Attending { name: server.to_owned(), address: None, since_secs: now().secs };
        self.jobs.lock().attending.insert(self.id.clone(), attending);
        self.live.event(&Event::Queued("for what comes"));
    }

    fn lost(&self, why: &str, again_in: Duration) {
        self.jobs.lock().attending.remove(&self.id);
        self.live.event(&Event::Reconnecting { why, in_secs: again_in.as_secs() });
    }

    fn begin(&self, run: &ArrivingRun) -> Arc<dyn Arrival> {
        let id = random_run_id().map(|id| id.to_string()).unwrap_or_default();
        let (id, root) = (format!("{}.{id}", self.id), run.root.clone());
        let name = RunName { id, purpose: RunPurpose::Receive, node: run.node.clone(), user: run.user.clone(), root };
        let guard = self.jobs.live.begin_arriving(name);
        Arc::new(Arriving { run: guard.run(), guard: Mutex::new(Some(guard)) })
    }
}

/// A run that arrives.
struct Arriving {
    run: Arc<LiveRun>,
    guard: Mutex<Option<LiveGuard>>,
}

impl Observer for Arriving {
    fn event(&self, event: &Event<'_>) {
        self.run.event(event);
    }
}

impl Arrival for Arriving {
    fn end(&self, outcome: Result<&Arrived, &EngineError>) {
        let guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(guard) = guard else { return };
        if let Ok(Arrived { snapshot, files, bytes, incomplete, .. }) = outcome {
            // A dry run leaves nothing.
            if *snapshot == 0 {
                return;
            }
            let exit_code = if *incomplete { 3 } else { 0 };
            let (snapshot, message) = (Some(*snapshot), String::new());
            self.run.came_to(RunEnd { exit_code, message, snapshot, files: *files, bytes: *bytes });
        }
        guard.ends(outcome.err());
    }
}
