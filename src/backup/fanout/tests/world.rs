//! A small world for the machine to live in: it carries out actions as a driver does, tells only what can happen, and
//! complains when it is told to do what makes no sense.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::*;

pub(super) const RUN: RunId = RunId([7; 16]);
pub(super) const MANIFEST: Digest = Digest([1; 32]);
pub(super) const OTHER: Digest = Digest([2; 32]);

pub(super) fn snapshot(manifest: Digest) -> SnapshotName {
    SnapshotName { run: RUN, manifest }
}

pub(super) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(super) fn rules(own: bool, wanted: u32) -> Rules {
    Rules {
        run: RUN,
        own,
        wanted,
        gather_for: None,
        retry_for: secs(60),
        stall: secs(30),
        busy_max: secs(600),
        grace: secs(2),
        rounds_max: 5,
    }
}

/// What a target is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owes {
    Grant,
    /// Content and questions go on.
    Nothing,
    Verdict,
    Commit,
    Proof,
    CatchUp,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    pub(super) listed: bool,
    /// Its data connection; none: it has none.
    pub(super) owes: Option<Owes>,
    pub(super) questions: BTreeSet<Question>,
    pub(super) level: Level,
    /// Its verdict of this round is given (or it came too late for the manifest).
    pub(super) judged: bool,
    pub(super) prepared: bool,
    pub(super) said_held: bool,
    /// When it began to owe something, or was heard of.
    pub(super) alive_at: Duration,
}

impl Peer {
    pub(super) fn is_owing(&self) -> bool {
        let asked = matches!(self.owes, Some(owes) if owes != Owes::Nothing);
        asked || !self.questions.is_empty() || self.owes.is_some() && self.level != Level::Empty
    }
}

/// One moment: what happened, and what came of it.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    pub(super) at: Duration,
    pub(super) event: Event,
    pub(super) actions: Vec<Action>,
}

pub(super) struct World {
    pub(super) rules: Rules,
    pub(super) machine: Machine,
    pub(super) now: Duration,
    pub(super) peers: BTreeMap<TargetId, Peer>,
    pub(super) history: Vec<Moment>,
    pub(super) paused: bool,
    /// The source may send content: after `Grant` or `AskSource`, until its manifest.
    pub(super) sending: bool,
    pub(super) open_questions: BTreeSet<Question>,
    next_question: u64,
    pub(super) source_lost: bool,
    /// The manifest that whoever obeys makes.
    right: Digest,
    pub(super) end: Option<(Outcome, Vec<ReceiptLine>)>,
}

impl World {
    pub(super) fn new(rules: Rules, destinations: u32) -> Self {
        let ids: Vec<TargetId> = (1..=destinations).map(TargetId).collect();
        let (machine, actions) = Machine::begin(rules.clone(), ids.iter().map(|id| (*id, name(*id))));
        let listed = Peer { listed: true, ..Peer::default() };
        let mut world = Self {
            machine,
            now: Duration::ZERO,
            peers: ids.into_iter().map(|id| (id, listed.clone())).collect(),
            history: Vec::new(),
            paused: false,
            sending: false,
            open_questions: BTreeSet::new(),
            next_question: 0,
            source_lost: false,
            right: MANIFEST,
            end: None,
            rules,
        };
        if world.rules.own {
            world.peers.insert(TargetId::OWN, listed);
        }
        world.carry_out(&actions);
        world.history.push(Moment { at: Duration::ZERO, event: Event::Tick, actions });
        world
    }

    pub(super) fn peer(&mut self, id: TargetId) -> &mut Peer {
        self.peers.get_mut(&id).expect("a peer")
    }

    /// N, as a relay counts it.
    pub(super) fn wanted(&self) -> u32 {
        if self.rules.own { self.rules.wanted } else { self.rules.wanted.max(1) }
    }

    pub(super) fn tell(&mut self, event: Event) -> Vec<Action> {
        assert!(self.end.is_none(), "nothing happens after the end");
        let was_owing: BTreeSet<TargetId> = self.owing();
        self.note(&event);
        let actions = self.machine.apply(self.now, event.clone());
        self.carry_out(&actions);
        if let Event::Lost { target, .. } | Event::Refused { target, .. } = &event
            && !actions.iter().any(|action| matches!(action, Action::Drop { target: id, .. } if id == target))
        {
            // Who holds the snapshot is not dropped, but its connection has ended all the same.
            let peer = self.peer(*target);
            *peer = Peer { listed: peer.listed, ..Peer::default() };
        }
        for id in self.owing() {
            if !was_owing.contains(&id) {
                self.peer(id).alive_at = self.now;
            }
        }
        self.history.push(Moment { at: self.now, event, actions: actions.clone() });
        super::oracle::check(self);
        actions
    }

    fn owing(&self) -> BTreeSet<TargetId> {
        self.peers.iter().filter(|(_, peer)| peer.is_owing()).map(|(id, _)| *id).collect()
    }

    /// What the event itself changes in the world.
    fn note(&mut self, event: &Event) {
        if let Some(id) = target_of(event) {
            let now = self.now;
            self.peer(id).alive_at = now;
        }
        match event {
            Event::Connected { target, .. } => self.peers.entry(*target).or_default().listed = true,
            Event::Gone { target } => self.peer(*target).listed = false,
            Event::Queue { target, level } => self.peer(*target).level = *level,
            Event::Granted { target } => {
                let late = !self.sending && self.was_granted();
                let peer = self.peer(*target);
                (peer.owes, peer.judged) = (Some(Owes::Nothing), late);
            }
            Event::AlreadyHeld { target, snapshot } => {
                if *target == TargetId::OWN {
                    self.right = snapshot.manifest;
                }
                let peer = self.peer(*target);
                (peer.owes, peer.said_held, peer.judged) = (Some(Owes::Nothing), true, true);
            }
            Event::Answered { target, question } => {
                self.peer(*target).questions.remove(question);
            }
            Event::Asked { question } => {
                self.open_questions.insert(*question);
                let takes = |peer: &&mut Peer| peer.owes == Some(Owes::Nothing) && !peer.judged;
                self.peers.values_mut().filter(takes).for_each(|peer| {
                    peer.questions.insert(*question);
                });
            }
            Event::ManifestSent { .. } => {
                self.sending = false;
                let takes = |peer: &&mut Peer| peer.owes == Some(Owes::Nothing) && !peer.judged;
                self.peers.values_mut().filter(takes).for_each(|peer| peer.owes = Some(Owes::Verdict));
            }
            Event::Missing { target } => {
                let peer = self.peer(*target);
                (peer.owes, peer.judged, peer.prepared) = (Some(Owes::Nothing), true, false);
            }
            Event::Prepared { target, .. } => {
                let peer = self.peer(*target);
                (peer.owes, peer.judged, peer.prepared) = (Some(Owes::Nothing), true, true);
            }
            Event::Committed { target, .. } | Event::CaughtUp { target, .. } => {
                let peer = self.peer(*target);
                (peer.owes, peer.said_held, peer.judged) = (Some(Owes::Nothing), true, true);
            }
            Event::Proved { target, .. } => self.peer(*target).owes = Some(Owes::Nothing),
            Event::SourceLost => self.source_lost = true,
            _ => {}
        }
    }

    fn was_granted(&self) -> bool {
        self.history.iter().any(|moment| moment.actions.contains(&Action::Grant))
    }

    fn carry_out(&mut self, actions: &[Action]) {
        let now = self.now;
        for action in actions {
            assert!(self.end.is_none(), "{action:?} after the end");
            match action {
                Action::Announce { .. } => {}
                Action::Start { target } => {
                    let peer = self.peer(*target);
                    assert!(peer.listed && peer.owes.is_none(), "{target:?} cannot be started");
                    let listed = peer.listed;
                    *peer = Peer { listed, owes: Some(Owes::Grant), alive_at: now, ..Peer::default() };
                }
                Action::CatchUp { target } => {
                    let peer = self.peer(*target);
                    assert!(peer.listed && peer.owes.is_none(), "{target:?} cannot catch up");
                    let listed = peer.listed;
                    *peer = Peer { listed, owes: Some(Owes::CatchUp), alive_at: now, ..Peer::default() };
                }
                Action::Grant => {
                    assert!(!self.sending && !self.was_granted(), "granted twice");
                    self.sending = true;
                }
                Action::AskSource => {
                    assert!(!self.sending && self.was_granted());
                    self.sending = true;
                    let again = |peer: &&mut Peer| peer.owes == Some(Owes::Nothing) && !peer.said_held;
                    self.peers
                        .values_mut()
                        .filter(again)
                        .for_each(|peer| (peer.judged, peer.prepared) = (false, false));
                }
                Action::Reply { question } => assert!(self.open_questions.remove(question), "{question:?}: not open"),
                Action::Pause => assert!(!std::mem::replace(&mut self.paused, true), "paused twice"),
                Action::Resume => assert!(std::mem::replace(&mut self.paused, false), "resumed twice"),
                Action::Commit { target } => {
                    let peer = self.peer(*target);
                    assert!(peer.prepared && peer.owes == Some(Owes::Nothing), "{target:?} is not prepared");
                    peer.owes = Some(Owes::Commit);
                }
                Action::Challenge { target } => {
                    let peer = self.peer(*target);
                    assert!(peer.said_held && peer.owes == Some(Owes::Nothing), "{target:?} holds nothing");
                    peer.owes = Some(Owes::Proof);
                }
                Action::Drop { target, .. } => self.close(*target),
                Action::End { outcome, receipt } => self.end = Some((outcome.clone(), receipt.clone())),
            }
        }
    }

    fn close(&mut self, id: TargetId) {
        let peer = self.peer(id);
        assert!(peer.owes.is_some(), "{id:?} takes no part");
        *peer = Peer { listed: peer.listed, ..Peer::default() };
    }

    /// The source asks something.
    pub(super) fn ask(&mut self) {
        if self.sending && !self.paused {
            self.next_question += 1;
            self.tell(Event::Asked { question: Question(self.next_question) });
        }
    }

    /// The source has sent all, and its manifest; it does so when its questions are answered.
    pub(super) fn send_manifest(&mut self) {
        if self.sending && !self.paused && self.open_questions.is_empty() {
            self.tell(Event::ManifestSent { manifest: self.right });
        }
    }

    pub(super) fn connect(&mut self, id: TargetId) {
        self.tell(Event::Connected { target: id, name: name(id) });
    }

    pub(super) fn lose(&mut self, id: TargetId) {
        if self.peer(id).owes.is_some() {
            self.tell(Event::Lost { target: id, why: "cut".to_owned() });
        }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.tell(Event::Tick);
    }

    /// The target does what it is asked for, rightly. False: nothing.
    pub(super) fn obey(&mut self, id: TargetId) -> bool {
        let Some(peer) = self.peers.get(&id) else { return false };
        let question = peer.questions.first().copied();
        let event = match (peer.owes, question) {
            (None, _) => return false,
            (Some(Owes::Grant), _) => Event::Granted { target: id },
            (Some(Owes::Verdict), _) => Event::Prepared { target: id, manifest: self.right },
            (Some(Owes::Commit), _) => Event::Committed { target: id, snapshot: snapshot(self.right) },
            (Some(Owes::Proof), _) => Event::Proved { target: id, right: true },
            (Some(Owes::CatchUp), _) => Event::CaughtUp { target: id, snapshot: snapshot(self.right) },
            (Some(Owes::Nothing), Some(question)) => Event::Answered { target: id, question },
            (Some(Owes::Nothing), None) if peer.level != Level::Empty => {
                Event::Queue { target: id, level: Level::Empty }
            }
            (Some(Owes::Nothing), None) => return false,
        };
        self.tell(event);
        true
    }

    /// Everybody in `who` does what it is asked for, and the source goes on, until nothing happens any more.
    pub(super) fn go_on(&mut self, who: impl Fn(TargetId) -> bool) {
        loop {
            let ids: Vec<TargetId> = self.peers.keys().copied().filter(|id| who(*id)).collect();
            let mut busy = false;
            for id in ids {
                while self.end.is_none() && self.obey(id) {
                    busy = true;
                }
            }
            if self.end.is_some() {
                return;
            }
            if self.sending && !self.paused && self.open_questions.is_empty() {
                self.send_manifest();
            } else if !busy {
                return;
            }
        }
    }

    pub(super) fn outcome(&self) -> Option<&Outcome> {
        self.end.as_ref().map(|(outcome, _)| outcome)
    }

    /// The receipt, one word a line.
    pub(super) fn receipt(&self) -> Vec<String> {
        let (_, receipt) = self.end.as_ref().expect("the run is not over");
        let line = |line: &ReceiptLine| match (&line.kind, &line.state) {
            (TargetKind::Store, state) => format!("store {}", word(state)),
            (_, state) => format!("{} {}", line.name, word(state)),
        };
        receipt.iter().map(line).collect()
    }
}

pub(super) fn word(state: &TargetState) -> &'static str {
    match state {
        TargetState::Held => "held",
        TargetState::Behind(_) => "behind",
        TargetState::Failed(_) => "failed",
    }
}

fn name(id: TargetId) -> String {
    format!("d{}", id.0)
}

/// Of whose part in the run an event is a sign of life.
pub(super) fn target_of(event: &Event) -> Option<TargetId> {
    match event {
        Event::Granted { target }
        | Event::AlreadyHeld { target, .. }
        | Event::Answered { target, .. }
        | Event::Queue { target, .. }
        | Event::Progress { target }
        | Event::Busy { target, .. }
        | Event::Missing { target }
        | Event::Prepared { target, .. }
        | Event::Committed { target, .. }
        | Event::CaughtUp { target, .. }
        | Event::Proved { target, .. }
        | Event::Refused { target, .. }
        | Event::Lost { target, .. } => Some(*target),
        // Of its place on the list, not of its part in the run.
        Event::Connected { .. } | Event::Gone { .. } => None,
        Event::Asked { .. } | Event::ManifestSent { .. } | Event::SourceLost | Event::Tick => None,
    }
}
