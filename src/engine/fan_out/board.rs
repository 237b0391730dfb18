//! [`Board`]: which destinations are connected now, what each holds, and how one is asked for a data connection.
//!
//! ```text
//! destination ══ control link ══▶ attend::serve ── enter, say ──▶ Board ── bell ──▶ Subscription of a run (or of healing)
//!                                      ▲                           │ ▲
//!                                      └──────── Summon ───────────┘ │ call(id)
//! destination ══ data link, Join ══▶ session ── deliver(call, link) ─┴──▶ Answer: the link is the caller's
//! ```
//!
//! What always holds: an entry is there exactly as long as its control link is served ([`Attendance`] takes it away); a
//! store is there once, its newest connection counts; names that people see are different. Nothing here waits: a control
//! link that takes no `Summon` is none. Bounded: a subscription keeps one mark for each destination and a bell, however
//! often something changes.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::running::Running;
use crate::backup::digest::{Digest, RunId};
use crate::backup::fingerprint::Timestamp;
use crate::backup::relpath::RelPath;
use crate::net::link::{Link, LinkSender, WeakLinkSender};
use crate::net::message::{RefusalKind, Refused, Summon};
use crate::store::names::CopyName;

/// Who a destination is: its store's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::engine) struct DestinationId(pub(in crate::engine) [u8; 16]);

/// The newest snapshot of one root that a destination holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct HeldHead {
    /// The run that made it.
    pub(in crate::engine) run: RunId,
    /// Its manifest.
    pub(in crate::engine) manifest: Digest,
}

/// By copy and root.
pub(in crate::engine) type Heads = BTreeMap<(CopyName, RelPath), HeldHead>;

/// Whose runs a destination wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Wants(pub(in crate::engine) Vec<(String, Option<String>)>);

impl Wants {
    /// Whether runs of this copy are among them. Who names nobody wants everybody's.
    pub(in crate::engine) fn admits(&self, copy: &CopyName) -> bool {
        let meant = |(node, user): &(String, Option<String>)| {
            node == copy.node() && user.as_ref().is_none_or(|user| user == copy.user())
        };
        self.0.is_empty() || self.0.iter().any(meant)
    }
}

/// What a destination says of itself, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Said {
    /// What people call it.
    pub(in crate::engine) name: String,
    /// Whose runs it wants.
    pub(in crate::engine) wants: Wants,
    /// Free and total bytes of its file system.
    pub(in crate::engine) space: (u64, u64),
    /// What it holds.
    pub(in crate::engine) heads: Heads,
}

/// A destination that is connected, as it is at this moment.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Destination {
    /// Who it is.
    pub(in crate::engine) id: DestinationId,
    /// Which of its connections this is; no number comes twice.
    pub(in crate::engine) visit: u64,
    /// What people call it; `name (2)` for a second of that name.
    pub(in crate::engine) name: String,
    /// Where it is.
    pub(in crate::engine) address: Option<IpAddr>,
    /// Since when it is connected.
    pub(in crate::engine) since: Timestamp,
    /// Free and total bytes of its file system.
    pub(in crate::engine) space: (u64, u64),
    /// Whose runs it wants.
    pub(in crate::engine) wants: Wants,
    /// What it holds.
    pub(in crate::engine) heads: Arc<Heads>,
}

impl Destination {
    /// The newest that it holds of a root.
    pub(in crate::engine) fn head(&self, copy: &CopyName, root: &RelPath) -> Option<HeldHead> {
        self.heads.get(&(copy.clone(), root.clone())).copied()
    }
}

/// What happened on the board.
#[derive(Clone, Debug)]
pub(in crate::engine) enum BoardEvent {
    /// It is there (again: then [`BoardEvent::Gone`] came before).
    Connected(Destination),
    /// Somebody holds, or wants, something else than before. Who needs to know asks the board.
    Changed,
    /// It is not there any more.
    Gone(DestinationId),
}

/// A call for a data connection. Never used twice by a daemon's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::engine) struct CallId(pub(in crate::engine) u64);

/// A destination answered a call: the link is the caller's, who speaks first.
pub(in crate::engine) struct Answer {
    /// Which call.
    pub(in crate::engine) call: CallId,
    /// Whose.
    pub(in crate::engine) id: DestinationId,
    /// The data connection, past `Join`.
    pub(in crate::engine) link: Link,
}

/// See the module. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(in crate::engine) struct Board(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    entries: BTreeMap<DestinationId, Entry>,
    calls: HashMap<u64, Call>,
    subscribers: HashMap<u64, Subscriber>,
    running: BTreeMap<u64, Running>,
    /// The last number that was given to a visit, a change, a call, a subscriber or a run.
    number: u64,
    /// No run begins any more.
    ending: bool,
}

struct Entry {
    destination: Destination,
    /// What it calls itself.
    own_name: String,
    /// Number of the last change that subscribers are told of.
    changed: u64,
    /// Of its control link: who may answer its calls, and how it is called.
    key: Option<[u8; 32]>,
    sender: WeakLinkSender,
}

struct Call {
    id: DestinationId,
    key: Option<[u8; 32]>,
    answers: Sender<Answer>,
}

struct Subscriber {
    bell: Sender<()>,
    /// While it is there the board is kept open.
    is_run: bool,
}

impl State {
    fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn ring(&self) {
        for subscriber in self.subscribers.values() {
            // Full: it has been rung already.
            let _ = subscriber.bell.try_send(());
        }
    }

    /// A name that no other entry has.
    fn shown_name(&self, id: DestinationId, own: &str) -> String {
        if let Some(entry) = self.entries.get(&id).filter(|entry| entry.own_name == own) {
            return entry.destination.name.clone();
        }
        let taken = |name: &str| self.entries.values().any(|e| e.destination.id != id && e.destination.name == name);
        if !taken(own) {
            return own.to_owned();
        }
        let mut numbered = (2u64..).map(|n| format!("{own} ({n})"));
        numbered.find(|name| !taken(name)).unwrap_or_default()
    }

    /// Takes an entry away and forgets what it was asked.
    fn remove(&mut self, id: DestinationId) {
        self.entries.remove(&id);
        self.calls.retain(|_, call| call.id != id);
        self.ring();
    }

    /// Ends the control links once nobody needs them.
    fn end_if_idle(&self) {
        if self.ending && !self.subscribers.values().any(|subscriber| subscriber.is_run) {
            self.entries.values().filter_map(|entry| entry.sender.upgrade()).for_each(|sender| sender.end());
        }
    }
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A destination is there from now on; the entry leaves with what is returned. An older connection of the same store
    /// is ended. None: the daemon is about to stop.
    pub(in crate::engine) fn enter(&self, id: DestinationId, said: Said, line: Line<'_>) -> Option<Attendance> {
        let mut state = self.lock();
        if state.ending {
            return None;
        }
        let name = state.shown_name(id, &said.name);
        let (visit, changed) = (state.next(), state.next());
        let destination = Destination {
            id,
            visit,
            name,
            address: line.address,
            since: line.now,
            space: said.space,
            wants: said.wants,
            heads: Arc::new(said.heads),
        };
        let sender = line.sender.downgrade();
        let entry = Entry { destination, own_name: said.name, changed, key: line.key, sender };
        if let Some(older) = state.entries.insert(id, entry) {
            // It may not even have got them.
            state.calls.retain(|_, call| call.id != id);
            if let Some(sender) = older.sender.upgrade() {
                let message = b"another connection of the same store has taken its place"[..].into();
                let _ = sender.try_send(Refused { kind: RefusalKind::Unavailable, message });
                sender.end();
            }
        }
        state.ring();
        Some(Attendance { board: self.clone(), id, visit })
    }

    /// Who is there now, by name.
    pub(in crate::engine) fn list(&self) -> Vec<Destination> {
        let mut all: Vec<_> = self.lock().entries.values().map(|entry| entry.destination.clone()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// One that is there.
    pub(in crate::engine) fn find(&self, id: DestinationId) -> Option<Destination> {
        self.lock().entries.get(&id).map(|entry| entry.destination.clone())
    }

    /// For a run of this copy: those who want it. The daemon's end waits for it to be dropped.
    pub(in crate::engine) fn subscribe(&self, copy: &CopyName) -> Subscription {
        self.subscription(Some(copy.clone()))
    }

    /// Everybody, for who looks after all copies. The daemon's end does not wait.
    pub(in crate::engine) fn watch(&self) -> Subscription {
        self.subscription(None)
    }

    fn subscription(&self, copy: Option<CopyName>) -> Subscription {
        let (ring, bell) = bounded(1);
        // There is a list to be looked at.
        let _ = ring.try_send(());
        let mut state = self.lock();
        let key = state.next();
        state.subscribers.insert(key, Subscriber { bell: ring, is_run: copy.is_some() });
        Subscription { board: self.clone(), bell, copy, key, seen: BTreeMap::new() }
    }

    /// Asks a destination for a data connection; the answer comes through `answers`, which must have room for it. None: it
    /// is not there. A call that is not answered is to be cancelled by who made it.
    pub(in crate::engine) fn call(&self, id: DestinationId, answers: &Sender<Answer>) -> Option<CallId> {
        let mut state = self.lock();
        let call = state.next();
        let entry = state.entries.get(&id)?;
        let (key, sender) = (entry.key, entry.sender.upgrade()?);
        // A control connection that takes nothing is as good as none.
        if !sender.try_send(Summon { call }).unwrap_or(false) {
            return None;
        }
        state.calls.insert(call, Call { id, key, answers: answers.clone() });
        Some(CallId(call))
    }

    /// The answer is not wanted any more; a link that still comes is closed.
    pub(in crate::engine) fn cancel(&self, call: CallId) {
        self.lock().calls.remove(&call.0);
    }

    /// A destination has joined: its link goes to who called. False: nobody called so, or did not call this key; or who
    /// called does not listen any more. The link is closed then.
    pub(in crate::engine) fn deliver(&self, call: u64, key: Option<[u8; 32]>, link: Link) -> bool {
        let called = {
            let mut state = self.lock();
            let is_theirs = state.calls.get(&call).is_some_and(|found| found.key == key);
            if is_theirs { state.calls.remove(&call) } else { None }
        };
        called.is_some_and(|found| found.answers.try_send(Answer { call: CallId(call), id: found.id, link }).is_ok())
    }

    /// A destination was heard to hold this. It says so itself a moment later.
    pub(in crate::engine) fn holds(&self, id: DestinationId, copy: &CopyName, root: &RelPath, head: HeldHead) {
        let mut state = self.lock();
        let changed = state.next();
        let Some(entry) = state.entries.get_mut(&id) else { return };
        Arc::make_mut(&mut entry.destination.heads).insert((copy.clone(), root.clone()), head);
        entry.changed = changed;
        state.ring();
    }

    /// A run to a destination is shown until what is returned is dropped.
    pub(in crate::engine) fn begin_run(&self, id: DestinationId, copy: &CopyName, root: &RelPath) -> RunShown {
        let mut state = self.lock();
        let key = state.next();
        state.running.insert(key, Running::new(id, copy.clone(), root.clone()));
        RunShown { board: self.clone(), key }
    }

    /// What is running to a destination.
    pub(in crate::engine) fn running(&self, id: DestinationId) -> Vec<Running> {
        self.lock().running.values().filter(|run| run.id == id).cloned().collect()
    }

    /// Whether nobody enters any more.
    pub(in crate::engine) fn is_ending(&self) -> bool {
        self.lock().ending
    }

    /// The daemon is about to stop: nobody enters any more; destinations are let go as soon as no run needs them.
    pub(in crate::engine) fn end(&self) {
        let mut state = self.lock();
        state.ending = true;
        state.end_if_idle();
    }
}

/// The connection that an entry stands for.
pub(in crate::engine) struct Line<'a> {
    /// Of the control link.
    pub(in crate::engine) sender: &'a LinkSender,
    /// The key that it proved to hold: data connections show the same.
    pub(in crate::engine) key: Option<[u8; 32]>,
    /// Where it is.
    pub(in crate::engine) address: Option<IpAddr>,
    /// This moment.
    pub(in crate::engine) now: Timestamp,
}

/// A destination is on the board as long as this lives, unless a newer connection of its store has taken its place.
pub(in crate::engine) struct Attendance {
    board: Board,
    id: DestinationId,
    visit: u64,
}

impl Attendance {
    /// It says something new of itself. False: a newer connection speaks for this store.
    pub(in crate::engine) fn say(&self, said: Said) -> bool {
        let mut state = self.board.lock();
        let name = state.shown_name(self.id, &said.name);
        let changed = state.next();
        let Some(entry) = state.entries.get_mut(&self.id).filter(|e| e.destination.visit == self.visit) else {
            return false;
        };
        let is_news = *entry.destination.heads != said.heads || entry.destination.wants != said.wants;
        let destination = Destination {
            name,
            space: said.space,
            wants: said.wants,
            heads: if is_news { Arc::new(said.heads) } else { Arc::clone(&entry.destination.heads) },
            ..entry.destination.clone()
        };
        (entry.destination, entry.own_name) = (destination, said.name);
        if is_news {
            entry.changed = changed;
            state.ring();
        }
        true
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        let mut state = self.board.lock();
        if state.entries.get(&self.id).is_some_and(|entry| entry.destination.visit == self.visit) {
            state.remove(self.id);
        }
    }
}

/// Keeps up with the board. What changed twice between two looks is told once.
pub(in crate::engine) struct Subscription {
    board: Board,
    bell: Receiver<()>,
    copy: Option<CopyName>,
    key: u64,
    /// Visit and last change of each that was told of.
    seen: BTreeMap<DestinationId, (u64, u64)>,
}

impl Subscription {
    /// Something comes through when there may be events; it is rung at the beginning.
    pub(in crate::engine) fn bell(&self) -> &Receiver<()> {
        &self.bell
    }

    /// What happened since the last look; at the first one everybody who is there is `Connected`.
    pub(in crate::engine) fn events(&mut self) -> Vec<BoardEvent> {
        let state = self.board.lock();
        let wanted = |entry: &&Entry| self.copy.as_ref().is_none_or(|copy| entry.destination.wants.admits(copy));
        let now: BTreeMap<_, _> =
            state.entries.values().filter(wanted).map(|entry| (entry.destination.id, entry)).collect();
        let mut events = Vec::new();
        for (id, (visit, _)) in &self.seen {
            if now.get(id).is_none_or(|entry| entry.destination.visit != *visit) {
                events.push(BoardEvent::Gone(*id));
            }
        }
        for (id, entry) in &now {
            match self.seen.get(id) {
                Some((visit, changed)) if *visit == entry.destination.visit => {
                    if *changed != entry.changed {
                        events.push(BoardEvent::Changed);
                    }
                }
                _ => events.push(BoardEvent::Connected(entry.destination.clone())),
            }
        }
        self.seen = now.iter().map(|(id, entry)| (*id, (entry.destination.visit, entry.changed))).collect();
        events
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.board.lock();
        state.subscribers.remove(&self.key);
        state.end_if_idle();
    }
}

/// A run that is shown.
pub(in crate::engine) struct RunShown {
    board: Board,
    key: u64,
}

impl RunShown {
    /// How far it is: bytes of files that are dealt with, of so many, if that is known.
    pub(in crate::engine) fn advance(&self, bytes: u64, total: Option<u64>) {
        if let Some(run) = self.board.lock().running.get_mut(&self.key) {
            run.progress = (bytes, total);
        }
    }
}

impl Drop for RunShown {
    fn drop(&mut self) {
        self.board.lock().running.remove(&self.key);
    }
}

#[cfg(test)]
mod tests;
