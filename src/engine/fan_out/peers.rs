//! The driver's dealings with its targets: connections that are called for, come, and are let go; what targets say; those
//! that catch up from the own store.

use std::sync::Arc;
use std::thread;

use super::board::{Answer, HeldHead, RunShown};
use super::driver::Driver;
use super::heal;
use super::target::{Target, TargetEvent};
use super::whose::for_whom;
use crate::backup::bytes::escape;
use crate::backup::fanout::{Event, Level, Reason, SnapshotName, TargetId};
use crate::backup::limits::UNSEEN_BYTES_MAX;
use crate::backup::relpath::RelPath;
use crate::backup::snapshot::RunKind;
use crate::engine::catch_up::{self, CaughtUp, Due};
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::stop::Stop;
use crate::engine::wire::WireError;
use crate::net::link::Link;
use crate::net::message::{Begin, Committed, Granted, Message, Missing, RefusalKind};

/// How long a destination waits for whoever changes that root there, in seconds: less than what counts as a stall, so that
/// it says why. It is asked again then.
const LEASE_WAIT_SECS: u32 = 20;

/// What a path takes beside its bytes, at least.
const PATH_BYTES: usize = 48;
/// A target is busy saying what it misses: no phase of [`Busy`](crate::net::message::Busy).
const PHASE_MISSING: u8 = u8::MAX;

/// What a data connection is called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To take part in the run.
    Run,
    /// To catch up from the own store.
    CatchUp,
}

/// A target that is connected.
pub(super) struct Conn {
    pub(super) target: Target,
    generation: u64,
    /// As the machine was told.
    level: Level,
    pub(super) granted: Option<Granted>,
    /// It has the manifest, and has not said what it makes of it.
    pub(super) owes_verdict: bool,
    /// Its lease came while a manifest was passing.
    pub(super) is_late: bool,
    pub(super) missing: Paths,
    pub(super) shown: Option<RunShown>,
}

/// What a target misses.
#[derive(Default)]
pub(super) struct Paths {
    pub(super) paths: Vec<RelPath>,
    bytes: usize,
}

/// A destination that catches up.
pub(super) struct CatchingUp {
    generation: u64,
    stop: Stop,
}

impl CatchingUp {
    /// Ends it. Nobody waits for that: it may take seconds.
    pub(super) fn stop(self) {
        thread::spawn(move || self.stop.ask());
    }
}

/// What comes of a catch-up.
pub(super) enum Healed {
    /// It goes on.
    Moves,
    /// It is over; the link can be used for more.
    Over(Box<Result<(CaughtUp, Link), EngineError>>),
}

impl Driver<'_> {
    pub(super) fn start_own(&mut self) {
        let Some(link) = self.ends.own.take() else { return };
        let _ = self.ends.start_own.send(());
        self.connect(TargetId::OWN, link);
    }

    /// A link is a target's from now on.
    fn connect(&mut self, id: TargetId, link: Link) {
        self.generation += 1;
        let shown = self.destination(id).map(|id| {
            let run = self.run;
            run.hub.board.begin_run(id, run.who.copy(), &run.root)
        });
        match Target::start(id, link, self.events.clone(), self.generation) {
            Ok(target) => {
                let conn = Conn {
                    target,
                    generation: self.generation,
                    level: Level::Empty,
                    granted: None,
                    owes_verdict: false,
                    is_late: false,
                    missing: Paths::default(),
                    shown,
                };
                self.conns.insert(id, conn);
            }
            Err(error) => self.tell_later(Event::Lost { target: id, why: error.message }),
        }
    }

    /// Asks a destination for a data connection.
    pub(super) fn call(&mut self, target: TargetId, purpose: Purpose) {
        let called = self.destination(target).and_then(|id| self.run.hub.board.call(id, &self.called));
        match called {
            Some(call) => drop(self.calls.insert(call, (target, purpose))),
            None => self.tell_later(Event::Lost { target, why: "it does not listen".to_owned() }),
        }
    }

    /// It has answered.
    pub(super) fn joined(&mut self, answer: Answer) {
        // Else it was dropped meanwhile.
        let Some((target, purpose)) = self.calls.remove(&answer.call) else { return };
        if self.destination(target) != Some(answer.id) {
            return;
        }
        match purpose {
            Purpose::Run => self.begin_with(target, answer.link),
            Purpose::CatchUp => self.catch_up(target, answer.link),
        }
        self.tell(Event::Progress { target });
    }

    fn begin_with(&mut self, target: TargetId, link: Link) {
        let run = self.run;
        let newest = run.hub.store.snapshots(run.who.copy()).and_then(|all| Ok(all.newest(&run.root)?));
        let parent = newest.ok().flatten().filter(|record| record.kind == RunKind::Backup).map(|record| record.run);
        let parent = parent.or_else(|| if run.is_relay() { self.parent_at(target) } else { None });
        self.connect(target, link);
        self.send(target, for_whom(run.who, parent, true));
        // What may be deleted the own store decides, which prepares first.
        let force_delete = run.begin.force_delete || !run.is_relay();
        let (wait_secs, copies) = (LEASE_WAIT_SECS, 0);
        self.send(target, Begin { force_delete, wait_secs, copies, ..run.begin.clone() });
        self.tell(Event::Progress { target });
    }

    /// Queues something for a target, and tells of it later.
    pub(super) fn send(&mut self, id: TargetId, message: impl Into<Message>) {
        let Some(conn) = self.conns.get(&id) else { return };
        if conn.target.send(message) {
            self.watch_level(id);
        } else {
            self.conns.remove(&id);
            self.tell_later(Event::Lost { target: id, why: "it takes too little of what it is sent".to_owned() });
        }
    }

    /// True: the level has changed, and that will be told.
    fn watch_level(&mut self, id: TargetId) -> bool {
        let Some(conn) = self.conns.get_mut(&id) else { return false };
        let level = conn.target.level();
        let changed = std::mem::replace(&mut conn.level, level) != level;
        if changed {
            self.tell_later(Event::Queue { target: id, level });
        }
        changed
    }

    /// What a connection told.
    pub(super) fn target_told(&mut self, id: TargetId, generation: u64, event: TargetEvent) {
        if self.conns.get(&id).is_none_or(|conn| conn.generation != generation) {
            return;
        }
        let progress = Event::Progress { target: id };
        match event {
            TargetEvent::Took if self.watch_level(id) => self.catch_up_with_events(),
            TargetEvent::Took => self.tell(progress),
            TargetEvent::Ended(_) if id == TargetId::OWN && self.own_receipt.is_some() => {
                self.own_ended();
                self.catch_up_with_events();
            }
            TargetEvent::Ended(error) => self.tell(Event::Lost { target: id, why: error.message }),
            TargetEvent::Heard(message) => {
                let event = self.said(id, message).unwrap_or(progress);
                self.tell(event);
                self.end_if_refused();
            }
        }
    }

    /// What it says.
    fn said(&mut self, target: TargetId, message: Message) -> Option<Event> {
        let refuse = |why: String| Some(Event::Refused { target, why });
        match message {
            Message::Waiting(waiting) => {
                if target == TargetId::OWN {
                    self.answer(waiting);
                }
                Some(Event::Busy { target, phase: 0 })
            }
            Message::Busy(busy) => Some(Event::Busy { target, phase: busy.phase }),
            Message::Granted(granted) => self.granted(target, granted),
            Message::Committed(receipt) => self.committed(target, receipt),
            answer @ (Message::Need(_) | Message::FileReady(_)) => match self.router.answer(target, answer) {
                Ok(question) => Some(Event::Answered { target, question }),
                Err(error) => refuse(EngineError::from(error).message),
            },
            Message::Missing(missing) => self.missing(target, &missing),
            Message::Prepared(prepared) if prepared.run == self.run.begin.run => {
                self.conns.get_mut(&target)?.owes_verdict = false;
                Some(Event::Prepared { target, manifest: prepared.manifest })
            }
            Message::Proof(proof) => {
                let right = self.proofs.is_proof(target, proof.digest);
                self.proved(target, right);
                None
            }
            Message::Refused(refused) => {
                let why = escape(&refused.message.0);
                let returns = matches!(refused.kind, RefusalKind::Unavailable | RefusalKind::Locked);
                self.told_refusal(target, &refused);
                if target == TargetId::OWN {
                    self.own_refusal = Some(refused);
                }
                Some(if returns { Event::Lost { target, why } } else { Event::Refused { target, why } })
            }
            other => refuse(format!("it broke the protocol: '{}' has no place in a run", other.name())),
        }
    }

    /// Its verdict, or a part of it; with a part it is busy.
    fn missing(&mut self, target: TargetId, missing: &Missing) -> Option<Event> {
        let refuse = |why: String| Some(Event::Refused { target, why });
        let conn = self.conns.get_mut(&target)?;
        if !conn.owes_verdict {
            return refuse(Reason::OutOfTurn.to_string());
        }
        conn.missing.bytes += PATH_BYTES + missing.paths.iter().map(|path| PATH_BYTES + path.0.len()).sum::<usize>();
        if conn.missing.bytes > UNSEEN_BYTES_MAX {
            return refuse("it misses too much".to_owned());
        }
        for path in &missing.paths {
            match RelPath::new(path.as_slice()) {
                Ok(path) => conn.missing.paths.push(path),
                Err(error) => return refuse(EngineError::from(WireError::from(error)).message),
            }
        }
        conn.owes_verdict = !missing.last;
        Some(if missing.last { Event::Missing { target } } else { Event::Busy { target, phase: PHASE_MISSING } })
    }

    fn granted(&mut self, target: TargetId, granted: Granted) -> Option<Event> {
        let conn = self.conns.get_mut(&target)?;
        if conn.granted.replace(granted.clone()).is_some() {
            return Some(Event::Refused { target, why: Reason::OutOfTurn.to_string() });
        }
        if self.base_known && !granted.base_known {
            return self.begin_again(target);
        }
        if self.manifest.is_some() {
            // The rest of a manifest is of no use to it: once that has passed it takes part, and misses everything.
            conn.is_late = true;
            return None;
        }
        self.router.join(target);
        if target == TargetId::OWN {
            self.go_live();
        }
        Some(Event::Granted { target })
    }

    /// The manifest has passed: those whose lease came meanwhile take part.
    pub(super) fn late_ones_join(&mut self) {
        let late: Vec<_> = self.conns.iter().filter(|(_, conn)| conn.is_late).map(|(id, _)| *id).collect();
        for target in late {
            if let Some(conn) = self.conns.get_mut(&target) {
                conn.is_late = false;
                self.router.join(target);
                self.tell(Event::Granted { target });
            }
        }
    }

    /// The lease is there: what heals steps back. This is the driver's one wait, of seconds at most and only if an older
    /// snapshot is on its way to somebody: nobody else has been asked to take part yet (the own store is the first, and
    /// says this once), and the source has no leave to send, so there is nothing that it could hold up.
    fn go_live(&mut self) {
        debug_assert!(self.calls.is_empty() && self.conns.keys().eq(&[TargetId::OWN]), "only the own store is there");
        let run = self.run;
        self.live = Some(run.hub.healing.supersede(run.who.copy(), &run.root, run.begin.recursive));
    }

    fn committed(&mut self, target: TargetId, receipt: Committed) -> Option<Event> {
        let snapshot = SnapshotName { run: receipt.run, manifest: receipt.manifest };
        let was_granted = self.conns.get(&target)?.granted.is_some();
        // A round for others is nothing to it.
        self.router.leave(target);
        if target == TargetId::OWN {
            self.own_receipt = Some(receipt);
            if !was_granted {
                self.go_live();
            }
        } else {
            self.told_receipt(target, receipt, was_granted);
        }
        Some(if was_granted { Event::Committed { target, snapshot } } else { Event::AlreadyHeld { target, snapshot } })
    }

    /// It showed what it holds, or could not.
    pub(super) fn proved(&mut self, target: TargetId, right: bool) {
        let (run, receipt) = (self.run, self.receipt_of(target));
        if let (true, Some(id), Some(receipt)) = (right, self.destination(target), receipt) {
            // It says so itself a moment later: the list is right already when the source has its receipt.
            let head = HeldHead { run: receipt.run, manifest: receipt.manifest };
            run.hub.board.holds(id, run.who.copy(), &run.root, head);
        }
        self.tell_later(Event::Proved { target, right });
    }

    /// It takes no part any more.
    pub(super) fn let_go(&mut self, target: TargetId, reason: &Reason) {
        if let Some(destination) = self.destination(target).and_then(|id| self.run.hub.board.find(id)) {
            tracing::info!("destination '{}' leaves the run of '/{}': {reason}", destination.name, self.run.root);
        }
        self.router.leave(target);
        self.proofs.let_go(target);
        self.conns.remove(&target);
        let board = &self.run.hub.board;
        self.calls.retain(|call, (of, _)| {
            let stays = *of != target;
            if !stays {
                board.cancel(*call);
            }
            stays
        });
        if let Some(catching_up) = self.catching_up.remove(&target) {
            catching_up.stop();
        }
    }

    /// Brings a destination up to date over a data connection.
    fn catch_up(&mut self, target: TargetId, link: Link) {
        self.generation += 1;
        let generation = self.generation;
        let stop = Stop::default();
        match self.spawn_catch_up(target, link, &stop) {
            Ok(()) => {}
            Err(error) if error.kind == ErrorKind::Interrupted => {
                return self.tell_later(Event::Refused { target, why: error.message });
            }
            Err(error) => return self.tell_later(Event::Lost { target, why: error.message }),
        }
        self.catching_up.insert(target, CatchingUp { generation, stop });
    }

    fn spawn_catch_up(&self, target: TargetId, mut link: Link, stop: &Stop) -> Result<(), EngineError> {
        let run = self.run;
        let (hub, copy, stop) = (Arc::clone(run.hub), run.who.copy().clone(), stop.clone());
        let lost = |why: &str| EngineError::new(ErrorKind::Failed, why);
        let record = hub.store.snapshots(&copy)?.by_run(run.begin.run)?;
        let record = record.ok_or_else(|| lost("the snapshot is not there"))?;
        let place = self.live.as_ref().ok_or_else(|| lost("the run is not known to others"))?;
        let place = place.catches_up(hub.as_ref(), &copy, &record, &stop)?;
        let id = self.destination(target).ok_or_else(|| lost("it is not there"))?;
        let head = hub.board.find(id).and_then(|found| found.head(&copy, &run.root)).map(|head| head.manifest);
        let shown = hub.board.begin_run(id, &copy, &run.root);
        let (events, generation) = (self.healing.clone(), self.generation);
        let work = move || {
            let _place = place;
            let told = |bytes, total| {
                shown.advance(bytes, total);
                let _ = events.send((target, generation, Healed::Moves));
            };
            let due = Due { copy: &copy, record: &record, head };
            let outcome = catch_up::run(&hub, &due, &mut link, &stop, &told);
            let over = Healed::Over(Box::new(outcome.map(|caught_up| (caught_up, link))));
            let _ = events.send((target, generation, over));
        };
        let thread = thread::Builder::new().name("catch-up".to_owned()).spawn(work).map(drop);
        thread.map_err(|e| EngineError::new(ErrorKind::Failed, format!("cannot start a thread: {e}")))
    }

    /// What a catch-up told.
    pub(super) fn catch_up_told(&mut self, target: TargetId, generation: u64, told: Healed) {
        if self.catching_up.get(&target).is_none_or(|catching_up| catching_up.generation != generation) {
            return;
        }
        let Healed::Over(outcome) = told else { return self.tell(Event::Progress { target }) };
        self.catching_up.remove(&target);
        match *outcome {
            Ok((CaughtUp { receipt, .. }, link)) => {
                self.connect(target, link);
                let snapshot = SnapshotName { run: receipt.run, manifest: receipt.manifest };
                self.tell(Event::CaughtUp { target, snapshot });
            }
            Err(error) if matches!(error.kind, ErrorKind::Unreachable | ErrorKind::Locked) => {
                self.tell(Event::Lost { target, why: error.message });
            }
            // Nobody else stops it while it counts; whether there is something newer now the next try finds out.
            Err(error) if error.kind == ErrorKind::Interrupted => {
                self.tell(Event::Lost { target, why: heal::overtaken().message });
            }
            Err(error) => self.tell(Event::Refused { target, why: error.message }),
        }
    }
}
