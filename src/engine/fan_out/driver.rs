//! [`Driver`]: carries out what the rules of a run say. It waits in one place only, for whatever happens next:
//!
//! ```text
//! source (not while deaf) ───┐
//! what targets do and say ───┤
//! answered calls ────────────┼─ select ─▶ Event ─▶ Machine ─▶ Actions ─▶ queues of targets, answers to the source
//! catch-ups ─────────────────┤
//! the board's bell, ticks ───┘
//! ```
//! Nothing is done here that waits for a peer (but once, before anybody was asked: see `go_live`): what a target is to be
//! told waits in its queue, what the source is to be told in `answers`. Bounded: content is taken in the content phase only, one message at a time, and while a queue is full
//! either none is taken or its target is dropped; so a queue is at most one message of the source longer than it may be. Nor
//! is the source listened to while many answers or questions wait.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, never, select, tick, unbounded};

use super::Run;
use super::board::{Answer, BoardEvent, CallId, Destination, DestinationId, Subscription};
use super::challenge;
use super::heal::LiveRun;
use super::pace::{Clock, Pace};
use super::peers::{CatchingUp, Conn, Healed, Purpose};
use super::proofs::Proofs;
use super::receipt::{in_short, receipt};
use super::relay::Told as RelayTold;
use super::router::Router;
use super::sampler::Sampler;
use super::target::{Events, TargetEvent};
use crate::backup::bytes::Bytes;
use crate::backup::digest::Digest;
use crate::backup::fanout::{Action, Event, Machine, Outcome, Question, Reason, ReceiptLine, Rules, TargetId};
use crate::backup::limits::{KEEPALIVE_SECS, MISSING_ROUNDS_MAX};
use crate::backup::relpath::RelPath;
use crate::engine::error::EngineError;
use crate::engine::live::RunEnd;
use crate::engine::observer::{Event as Told, Observer, Phase};
use crate::engine::receive::Watch;
use crate::engine::wire::{WireError, unexpected};
use crate::net::link::{Link, LinkError, LinkSender};
use crate::net::message::{Begin, Busy, Commit, Committed, Gathering, Granted, Message, Missing, RefusalKind, Refused};

/// What targets tell and the driver has not heard.
const EVENTS_QUEUED_MAX: usize = 64;
/// Answers that wait for a source that does not take them; with more it is not listened to.
const ANSWERS_QUEUED_MAX: usize = 1024;
/// Questions that wait for answers; with more the source is not listened to. Ours has half of that open at most.
const QUESTIONS_OPEN_MAX: usize = 512;
/// Paths in one message.
const PATHS_PER_MESSAGE: usize = 128;
/// What the daemon is busy with while targets are: see [`Busy`].
const PHASE_COMMIT: u8 = 4;

/// The driver's ends of what connects it with the source and the own store.
pub(super) struct Ends {
    /// What the source says.
    pub(super) source: Receiver<Result<Message, LinkError>>,
    /// What is said to it.
    pub(super) answers: Sender<Message>,
    /// To say beside that that all goes on.
    pub(super) busy: LinkSender,
    /// Lets the own store begin.
    pub(super) start_own: Sender<()>,
    /// Its link.
    pub(super) own: Option<Link>,
}

/// See the module.
pub(super) struct Driver<'a> {
    pub(super) run: &'a Run<'a>,
    pub(super) ends: Ends,
    clock: Clock,
    machine: Machine,
    pub(super) router: Router,
    /// What happened and the machine has not been told.
    happened: VecDeque<Event>,
    board: Subscription,
    pub(super) ids: BTreeMap<DestinationId, TargetId>,
    pub(super) conns: BTreeMap<TargetId, Conn>,
    pub(super) calls: HashMap<CallId, (TargetId, Purpose)>,
    pub(super) catching_up: BTreeMap<TargetId, CatchingUp>,
    /// Of the last connection to a target.
    pub(super) generation: u64,
    pub(super) events: Events,
    heard: Receiver<(TargetId, u64, TargetEvent)>,
    pub(super) called: Sender<Answer>,
    answered: Receiver<Answer>,
    pub(super) healing: Sender<(TargetId, u64, Healed)>,
    healed: Receiver<(TargetId, u64, Healed)>,
    paused: bool,
    source_is_over: bool,
    /// Of the manifest that is on its way.
    pub(super) manifest: Option<Digest>,
    /// The source waits for us.
    is_awaited: bool,
    busy_said: Instant,
    /// Nothing that overlaps is healed meanwhile.
    pub(super) live: Option<LiveRun>,
    pub(super) own_receipt: Option<Committed>,
    pub(super) own_refusal: Option<Refused>,
    /// What destinations said, where there is no own store.
    pub(super) told: RelayTold,
    /// The manifest that was passed on last.
    pub(super) sent: Option<Digest>,
    /// The source was told that all know its base.
    pub(super) base_known: bool,
    pub(super) sampler: Option<Sampler>,
    pub(super) question: Option<challenge::Question>,
    pub(super) proofs: Proofs,
    pub(super) own_is_done: bool,
    /// Who watches, and what shows them what passes.
    shown: Arc<dyn Observer>,
    watch: Watch,
    pub(super) end: Option<(Outcome, Vec<ReceiptLine>)>,
}

fn rules(begin: &Begin, pace: &Pace, own: bool) -> Rules {
    let secs = |secs: u32| Duration::from_secs(secs.into());
    Rules {
        run: begin.run,
        own,
        wanted: begin.copies,
        gather_for: (begin.wait_copies_secs != u32::MAX).then(|| secs(begin.wait_copies_secs)),
        retry_for: secs(begin.retry_secs),
        stall: pace.stall,
        busy_max: pace.busy_max,
        grace: pace.grace,
        rounds_max: u32::try_from(MISSING_ROUNDS_MAX).unwrap_or(u32::MAX),
    }
}

impl<'a> Driver<'a> {
    pub(super) fn new(run: &'a Run<'a>, ends: Ends) -> Self {
        let shown = run.live.below_root();
        let mut board = run.hub.board.subscribe(run.who.copy());
        let mut ids = BTreeMap::new();
        let mut there = Vec::new();
        for event in board.events() {
            if let BoardEvent::Connected(Destination { id, name, .. }) = event {
                there.push((id_of(&mut ids, id), name));
            }
        }
        let (machine, actions) = Machine::begin(rules(run.begin, &run.hub.pace, !run.is_relay()), there);
        let (events, heard) = bounded(EVENTS_QUEUED_MAX);
        let (called, answered) = unbounded();
        let (healing, healed) = unbounded();
        let mut driver = Self {
            run,
            ends,
            clock: Clock::default(),
            machine,
            router: Router::default(),
            happened: VecDeque::new(),
            board,
            ids,
            conns: BTreeMap::new(),
            calls: HashMap::new(),
            catching_up: BTreeMap::new(),
            generation: 0,
            events,
            heard,
            called,
            answered,
            healing,
            healed,
            paused: false,
            source_is_over: false,
            manifest: None,
            is_awaited: true,
            busy_said: Instant::now(),
            live: None,
            own_receipt: None,
            own_refusal: None,
            told: RelayTold::default(),
            sent: None,
            base_known: false,
            sampler: challenge::Random::new()
                .ok()
                .map(|mut random| Sampler::new(run.is_relay(), move |n| random.below(n))),
            question: None,
            proofs: Proofs::default(),
            own_is_done: run.is_relay(),
            watch: Watch::new(Some(Arc::clone(&shown))),
            shown,
            end: None,
        };
        actions.into_iter().for_each(|action| driver.act(action));
        driver.catch_up_with_events();
        driver
    }

    /// Drives the run to its end.
    ///
    /// # Errors
    /// Why there is no receipt.
    pub(super) fn run(mut self) -> Result<(), EngineError> {
        let ticks = tick(Duration::from_secs(1));
        while self.end.is_none() {
            self.step(&ticks)?;
        }
        self.finish()
    }

    /// Whatever happens next.
    fn step(&mut self, ticks: &Receiver<Instant>) -> Result<(), EngineError> {
        let silent = never();
        let source = if self.is_deaf() { &silent } else { &self.ends.source };
        select! {
            recv(source) -> message => self.source_said(message.unwrap_or(Err(LinkError::Closed)))?,
            recv(self.heard) -> told => if let Ok((id, generation, event)) = told {
                self.target_told(id, generation, event);
            },
            recv(self.answered) -> answer => if let Ok(answer) = answer {
                self.joined(answer);
            },
            recv(self.healed) -> told => if let Ok((id, generation, event)) = told {
                self.catch_up_told(id, generation, event);
            },
            recv(self.board.bell()) -> _ => self.look_at_board(),
            recv(ticks) -> _ => self.tick(),
        }
        Ok(())
    }

    /// Whether the source is not listened to now. A source that is gone is none to whom answers wait.
    fn is_deaf(&self) -> bool {
        let answers = self.ends.answers.len() >= ANSWERS_QUEUED_MAX;
        self.paused || self.source_is_over || answers || self.router.questions() >= QUESTIONS_OPEN_MAX
    }

    fn finish(mut self) -> Result<(), EngineError> {
        let (outcome, lines) = self.end.take().unwrap_or((Outcome::Abandoned, Vec::new()));
        tracing::debug!("the run of '/{}' ends: {outcome:?}", self.run.root);
        if matches!(outcome, Outcome::Done | Outcome::TooFew) {
            // Who was told to commit is to hear of it.
            self.conns.values().for_each(|conn| conn.target.finish());
        }
        self.conns.clear();
        if let (Outcome::OwnFailed(_), Some(refused)) = (&outcome, self.own_refusal.take()) {
            return Err(refused.into());
        }
        let receipt = match &self.run.lease {
            Some(lease) => {
                lease.finishing();
                self.relayed(&outcome, &lines)?
            }
            None => receipt(&outcome, &lines, self.own_receipt.take(), self.run.begin.copies)?,
        };
        self.run.live.run().came_to(RunEnd::from(&receipt));
        self.answer(receipt);
        Ok(())
    }

    /// Says something to the source.
    pub(super) fn answer(&self, message: impl Into<Message>) {
        // A source that is gone is heard of where it is listened to.
        let _ = self.ends.answers.send(message.into());
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.tell_later(event);
        self.catch_up_with_events();
    }

    /// To be told once what is being done is done.
    pub(super) fn tell_later(&mut self, event: Event) {
        self.happened.push_back(in_short(event));
    }

    pub(super) fn catch_up_with_events(&mut self) {
        while let Some(event) = self.happened.pop_front() {
            tracing::trace!("{event:?}");
            for action in self.machine.apply(self.clock.now(), event) {
                tracing::trace!("{action:?}");
                self.act(action);
            }
        }
    }

    fn tick(&mut self) {
        for target in self.proofs.waiting() {
            self.tell_later(Event::Progress { target });
        }
        self.tell(Event::Tick);
        if self.end.is_none() && self.is_gathering() && self.run.hub.board.is_ending() {
            // It waits for those who cannot come.
            let message = b"the daemon is stopping; try again later"[..].into();
            self.own_refusal = Some(Refused { kind: RefusalKind::Unavailable, message });
            self.end = Some((Outcome::OwnFailed(Reason::Unfinished), Vec::new()));
        }
        if self.is_awaited && self.busy_said.elapsed() >= Duration::from_secs(KEEPALIVE_SECS) {
            self.busy_said = Instant::now();
            // Full: it has something to read.
            let _ = self.ends.busy.try_send(Busy { phase: PHASE_COMMIT });
        }
    }

    fn is_gathering(&self) -> bool {
        self.ends.own.is_some() || (self.run.is_relay() && self.generation == 0 && self.calls.is_empty())
    }

    fn look_at_board(&mut self) {
        for event in self.board.events() {
            match event {
                BoardEvent::Connected(Destination { id, name, .. }) => {
                    let target = id_of(&mut self.ids, id);
                    self.tell(Event::Connected { target, name });
                }
                BoardEvent::Gone(id) => {
                    let target = id_of(&mut self.ids, id);
                    self.tell(Event::Gone { target });
                }
                BoardEvent::Changed => {}
            }
        }
    }

    pub(super) fn destination(&self, target: TargetId) -> Option<DestinationId> {
        self.ids.iter().find(|(_, of)| **of == target).map(|(id, _)| *id)
    }

    fn act(&mut self, action: Action) {
        match action {
            // It takes nothing.
            Action::Announce { .. } if self.ends.answers.len() >= ANSWERS_QUEUED_MAX => {}
            // Who did not ask hears of it only when it has to wait.
            Action::Announce { connected, wanted } if self.run.begin.copies == 0 && connected >= wanted => {}
            Action::Announce { connected, wanted } => {
                self.shown.event(&Told::Gathering { connected, wanted });
                self.answer(Gathering { connected, wanted });
            }
            Action::Start { target: TargetId::OWN } => self.start_own(),
            Action::Start { target } => self.call(target, Purpose::Run),
            Action::CatchUp { target } => self.call(target, Purpose::CatchUp),
            Action::Grant => self.grant(),
            Action::Reply { question } => {
                if let Some(message) = self.router.reply(question) {
                    if let (Message::Need(need), Some(sampler)) = (&message, &mut self.sampler) {
                        sampler.replied(need);
                    }
                    self.answer(message);
                }
            }
            Action::Pause => self.paused = true,
            Action::Resume => self.paused = false,
            Action::AskSource => self.ask_source(),
            Action::Commit { target } => self.send(target, Commit { run: self.run.begin.run }),
            Action::Challenge { target } => self.challenge(target),
            Action::Drop { target, reason } => self.let_go(target, &reason),
            Action::End { outcome, receipt } => self.end = Some((outcome, receipt)),
        }
    }

    fn grant(&mut self) {
        let said = || self.conns.values().filter_map(|conn| conn.granted.as_ref());
        let base_known = said().all(|granted| granted.base_known) && said().next().is_some();
        // All hold the run already: nothing is needed.
        let ask = said().any(|granted| granted.ask) || said().next().is_none();
        (self.is_awaited, self.base_known) = (false, base_known);
        self.shown.event(&Told::Phase(Phase::Receiving));
        self.answer(Granted { base_known, ask });
    }

    /// All that anybody misses, and another round.
    fn ask_source(&mut self) {
        let missing = self.conns.values_mut().flat_map(|conn| std::mem::take(&mut conn.missing).paths);
        let paths: BTreeSet<RelPath> = missing.collect();
        self.router.new_round();
        self.is_awaited = false;
        self.shown.event(&Told::Phase(Phase::Receiving));
        let mut rest = paths.into_iter().peekable();
        loop {
            let paths: Vec<Bytes> = rest.by_ref().take(PATHS_PER_MESSAGE).map(|path| path.as_bytes().into()).collect();
            let last = rest.peek().is_none();
            self.answer(Missing { paths, last });
            if last {
                return;
            }
        }
    }

    /// A message of the source, or its end.
    fn source_said(&mut self, message: Result<Message, LinkError>) -> Result<(), EngineError> {
        let Ok(message) = message else {
            self.source_is_over = true;
            self.tell(Event::SourceLost);
            return Ok(());
        };
        let mut ended = None;
        match &message {
            Message::Busy(_) => return Ok(()),
            // Nothing that is to be kept: pace is a matter of the content phase. A progress that is late is no word to
            // those who are prepared.
            other if self.is_awaited => {
                let is_late = matches!(other, Message::Progress(_));
                return if is_late { Ok(()) } else { Err(unexpected(other, "the source is to wait").into()) };
            }
            Message::Manifest(manifest) => self.manifest = Some(manifest.digest),
            Message::ManifestEnd(_) => {
                ended = Some(self.manifest.take().ok_or(WireError::Bounds("a manifest ends that did not begin"))?);
            }
            Message::Progress(progress) => {
                let total = progress.total_known.then_some(progress.bytes_total);
                for shown in self.conns.values().filter_map(|conn| conn.shown.as_ref()) {
                    shown.advance(progress.bytes_done, total);
                }
            }
            _ => {}
        }
        self.watch.message(&message);
        self.sampler.iter_mut().for_each(|sampler| sampler.see(&message));
        let routed = self.router.source(message)?;
        for (target, message) in routed.sends {
            self.send(target, message);
        }
        if let Some(question) = routed.question {
            self.asked(question, &routed.unasked);
        }
        if let Some(manifest) = ended {
            self.check_one_manifest(manifest)?;
            self.sent = Some(manifest);
            self.conns.values_mut().for_each(|conn| conn.owes_verdict = conn.granted.is_some() && !conn.is_late);
            (self.is_awaited, self.busy_said) = (true, Instant::now());
            self.shown.event(&Told::Phase(Phase::Committing));
            self.tell(Event::ManifestSent { manifest });
            self.late_ones_join();
        }
        self.catch_up_with_events();
        Ok(())
    }

    fn asked(&mut self, question: Question, unasked: &[TargetId]) {
        self.tell(Event::Asked { question });
        for target in unasked {
            self.tell(Event::Answered { target: *target, question });
        }
    }
}

impl Drop for Driver<'_> {
    /// However the run ends, nobody goes on with it.
    fn drop(&mut self) {
        std::mem::take(&mut self.catching_up).into_values().for_each(CatchingUp::stop);
        self.calls.keys().for_each(|call| self.run.hub.board.cancel(*call));
    }
}

/// The same for as long as the run lasts, however often it comes back.
fn id_of(ids: &mut BTreeMap<DestinationId, TargetId>, id: DestinationId) -> TargetId {
    let next = u32::try_from(ids.len() + 1).unwrap_or(u32::MAX);
    *ids.entry(id).or_insert(TargetId(next))
}

#[cfg(test)]
mod tests;
