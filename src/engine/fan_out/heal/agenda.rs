//! [`Agenda`]: what healing does next. Who lacks what goes in, what begins comes out; no clock, no threads.
//!
//! What failed rests: a second when the connection was lost, a minute otherwise, twice as long each time; but not when the
//! destination came again, or there is another snapshot. What was brought to somebody who says afterwards that he holds
//! something else is not brought once more: he has something newer.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{EVERY, JOBS_MAX, LOCKED};
use crate::backup::digest::{Digest, RunId};
use crate::backup::lease::Scope;
use crate::backup::relpath::RelPath;
use crate::backup::snapshot::SnapshotRecord;
use crate::engine::error::ErrorKind;
use crate::engine::fan_out::board::{Destination, DestinationId};
use crate::engine::stop::Stop;
use crate::store::names::CopyName;

/// First rest after a lost connection, and the longest.
const LOST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The same after anything else.
const FAILED: (Duration, Duration) = (Duration::from_secs(60), EVERY);

/// A destination does not hold the newest backup of a root.
#[derive(Clone, Debug)]
pub(super) struct Lack {
    pub(super) id: DestinationId,
    /// Which of its connections said so.
    pub(super) visit: u64,
    pub(super) name: String,
    pub(super) copy: CopyName,
    /// What it lacks.
    pub(super) record: Arc<SnapshotRecord>,
    /// The manifest of what it has of that root.
    pub(super) head: Option<Digest>,
    /// How many backups behind it is.
    pub(super) missing: u64,
}

impl Lack {
    fn key(&self) -> Key {
        (self.id, self.copy.clone(), self.record.root.clone())
    }

    fn scope(&self) -> Scope {
        let (copy, root) = (self.copy.to_string(), self.record.root.clone());
        Scope { copy, root, recursive: self.record.recursive }
    }
}

/// A catch-up that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct JobId(u64);

type Key = (DestinationId, CopyName, RelPath);

struct Job {
    lack: Lack,
    stop: Stop,
}

/// How the last catch-up of somebody with a root ended.
struct Past {
    run: RunId,
    visit: u64,
    /// Times that it failed one after the other; none: it did not.
    failed: u32,
    /// Not before this. None: not again.
    rests_until: Option<Instant>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Agenda {
    number: u64,
    jobs: BTreeMap<JobId, Job>,
    /// Catch-ups of runs that wait for their destinations: they are not ours to plan, and make room like ours.
    of_runs: BTreeMap<JobId, (Scope, Stop)>,
    live: BTreeMap<u64, Scope>,
    past: HashMap<Key, Past>,
}

impl Agenda {
    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// What begins now of `lacks`, in their order, and after how long to look again.
    pub(super) fn next(
        &mut self,
        lacks: Vec<Lack>,
        now: Instant,
        is_locked: &dyn Fn(&Scope) -> bool,
    ) -> (Vec<(JobId, Stop, Lack)>, Duration) {
        let (mut begun, mut wait) = (Vec::new(), EVERY);
        for lack in lacks {
            if self.jobs.len() >= JOBS_MAX {
                break;
            }
            if self.jobs.values().any(|job| job.lack.id == lack.id) {
                continue;
            }
            let known = self.past.get(&lack.key());
            if let Some(past) = known.filter(|past| past.run == lack.record.run && past.visit == lack.visit) {
                let left = past.rests_until.map_or(EVERY, |until| until.saturating_duration_since(now));
                if !left.is_zero() {
                    wait = wait.min(left);
                    continue;
                }
            }
            let scope = lack.scope();
            if is_locked(&scope) || self.live.values().any(|live| live.overlaps(&scope)) {
                wait = wait.min(LOCKED);
                continue;
            }
            let (job, stop) = (JobId(self.next_number()), Stop::default());
            self.jobs.insert(job, Job { lack: lack.clone(), stop: stop.clone() });
            begun.push((job, stop, lack));
        }
        (begun, wait)
    }

    /// A job has ended: well, or with a failure of this kind.
    pub(super) fn ended(&mut self, job: JobId, failure: Option<ErrorKind>, now: Instant) {
        let Some(Job { lack, .. }) = self.jobs.remove(&job) else { return };
        let (key, run, visit) = (lack.key(), lack.record.run, lack.visit);
        let before = self.past.get(&key).filter(|past| past.run == run && past.visit == visit);
        let failed = before.map_or(0, |past| past.failed);
        let (failed, rests_until) = match failure {
            None => (0, None),
            // It was told to make room, and may go on afterwards.
            Some(ErrorKind::Interrupted) => (failed, Some(now)),
            Some(kind) => {
                let (first, longest) = if kind == ErrorKind::Unreachable { LOST } else { FAILED };
                let rest = first.saturating_mul(1 << failed.min(16)).min(longest);
                (failed.saturating_add(1), Some(now + rest))
            }
        };
        self.past.insert(key, Past { run, visit, failed, rests_until });
    }

    /// Forgets those who are not there any more.
    pub(super) fn forget_others(&mut self, there: &[Destination]) {
        let ids: HashSet<DestinationId> = there.iter().map(|destination| destination.id).collect();
        self.past.retain(|(id, _, _), _| ids.contains(id));
    }

    /// A live run brings its own snapshot to a destination that came back. None: a later run of the same paths is under
    /// way, and goes first.
    pub(super) fn begin_of_run(&mut self, live: u64, stop: &Stop) -> Option<JobId> {
        let scope = self.live.get(&live)?.clone();
        // One that began before may be this very run's, over a connection of which nobody knows yet that it is cut.
        if self.live.range(live + 1..).any(|(_, later)| later.overlaps(&scope)) {
            return None;
        }
        let job = JobId(self.next_number());
        self.of_runs.insert(job, (scope, stop.clone()));
        Some(job)
    }

    /// It has.
    pub(super) fn of_run_ended(&mut self, job: JobId) {
        self.of_runs.remove(&job);
    }

    /// A live run begins; the jobs that must make room for it.
    pub(super) fn live(&mut self, scope: Scope) -> (u64, Vec<(JobId, Stop)>) {
        let ours = self.jobs.iter().map(|(id, job)| (*id, job.lack.scope(), &job.stop));
        let theirs = self.of_runs.iter().map(|(id, (scope, stop))| (*id, scope.clone(), stop));
        let overlapping = ours.chain(theirs).filter(|(_, taken, _)| taken.overlaps(&scope));
        let ended = overlapping.map(|(id, _, stop)| (id, stop.clone())).collect();
        let live = self.next_number();
        self.live.insert(live, scope);
        (live, ended)
    }

    /// A live run has ended.
    pub(super) fn live_ended(&mut self, live: u64) {
        self.live.remove(&live);
    }

    /// Whether it is still under way.
    pub(super) fn is_active(&self, job: JobId) -> bool {
        self.jobs.contains_key(&job) || self.of_runs.contains_key(&job)
    }

    /// All that is under way.
    pub(super) fn all(&self) -> Vec<(JobId, Stop)> {
        let ours = self.jobs.iter().map(|(id, job)| (*id, job.stop.clone()));
        ours.chain(self.of_runs.iter().map(|(id, (_, stop))| (*id, stop.clone()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::fingerprint::Timestamp;
    use crate::backup::snapshot::{ClientInfo, ManifestRef, RunKind};

    fn record(root: &str, run: u8) -> Arc<SnapshotRecord> {
        Arc::new(SnapshotRecord {
            number: 1,
            kind: RunKind::Backup,
            root: RelPath::new(root.as_bytes()).unwrap(),
            recursive: true,
            delete: true,
            run: RunId([run; 16]),
            parent: None,
            manifest: Digest([run; 32]),
            manifest_file: ManifestRef::Full,
            received: Timestamp::default(),
            complete: true,
            counts: [0; 6],
            entries: 1,
            files: 0,
            bytes: 0,
            content_bytes: 0,
            errors: Vec::new(),
            errors_total: 0,
            file_system: 0,
            client: ClientInfo::default(),
        })
    }

    fn lack(id: u8, root: &str, run: u8) -> Lack {
        Lack {
            id: DestinationId([id; 16]),
            visit: 1,
            name: id.to_string(),
            copy: CopyName::new(b"n", b"u").unwrap(),
            record: record(root, run),
            head: None,
            missing: 1,
        }
    }

    fn begin(agenda: &mut Agenda, lacks: &[Lack], now: Instant) -> Vec<JobId> {
        agenda.next(lacks.to_vec(), now, &|_| false).0.into_iter().map(|(job, _, _)| job).collect()
    }

    #[test]
    fn one_at_a_time_a_destination_and_two_in_all() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        let lacks = [lack(1, "a", 1), lack(1, "b", 2), lack(2, "a", 1), lack(3, "a", 1)];
        let begun = agenda.next(lacks.to_vec(), now, &|_| false).0;
        let who: Vec<_> = begun.iter().map(|(_, _, lack)| lack.id.0[0]).collect();
        assert_eq!(who, [1, 2]);
        assert!(begin(&mut agenda, &lacks, now).is_empty());
        agenda.ended(begun[0].0, None, now);
        let begun = agenda.next(lacks.to_vec(), now, &|_| false).0;
        assert_eq!(begun[0].2.record.root.to_string(), "b", "what it has been brought it is not brought again");
    }

    #[test]
    fn what_failed_rests_longer_each_time() {
        let (mut agenda, mut now) = (Agenda::default(), Instant::now());
        let lacks = [lack(1, "a", 1)];
        for (kind, rests) in [(ErrorKind::Unreachable, [1, 2, 4]), (ErrorKind::NoSpace, [480, 960, 1920])] {
            for secs in rests {
                let job = begin(&mut agenda, &lacks, now)[0];
                agenda.ended(job, Some(kind), now);
                let (begun, wait) = agenda.next(lacks.to_vec(), now, &|_| false);
                assert!(begun.is_empty() && wait == Duration::from_secs(secs), "{wait:?}");
                now += wait;
            }
        }
        let job = begin(&mut agenda, &lacks, now)[0];
        agenda.ended(job, Some(ErrorKind::Failed), now);
        // Unless it came again, or there is something newer.
        let again = [Lack { visit: 2, ..lack(1, "a", 1) }];
        assert!(begin(&mut agenda, &lacks, now).is_empty());
        let job = begin(&mut agenda, &again, now)[0];
        agenda.ended(job, Some(ErrorKind::Failed), now);
        assert_eq!(begin(&mut agenda, &[Lack { visit: 2, ..lack(1, "a", 9) }], now).len(), 1);
    }

    #[test]
    fn a_live_run_goes_first() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        let scope = |root: &str| Scope {
            copy: "n/u".to_owned(),
            root: RelPath::new(root.as_bytes()).unwrap(),
            recursive: true,
        };
        let (lacks, other) = ([lack(1, "a/b", 1)], [lack(2, "c", 2)]);
        let job = begin(&mut agenda, &lacks, now)[0];
        let kept = begin(&mut agenda, &other, now)[0];
        let (live, ended) = agenda.live(scope("a"));
        assert!(ended.len() == 1 && ended[0].0 == job && agenda.is_active(kept));
        agenda.ended(job, Some(ErrorKind::Interrupted), now);
        let (begun, wait) = agenda.next(lacks.to_vec(), now, &|_| false);
        assert!(begun.is_empty() && wait == LOCKED);
        agenda.live_ended(live);
        let locked = agenda.next(lacks.to_vec(), now, &|asked| asked.overlaps(&scope("a")));
        assert!(locked.0.is_empty() && locked.1 == LOCKED);
        assert_eq!(begin(&mut agenda, &lacks, now).len(), 1);
    }
}
