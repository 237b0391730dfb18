//! `Sessions`: how many sessions there are, in all and of whom, and when all have left.
//!
//! A slot is taken for a peer that has said its first word, and is held until its handler has returned *and* its connection
//! has ended: that is what a stop waits for. It counts against the limits only once the peer is admitted, which the
//! handler asks for when it knows who it is: strangers keep nobody out.
//!
//! From this machine come the clients of all its users, and everybody who comes through a tunnel: no limit for one address
//! there. Each identity has its own limit also there.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use super::identity::PublicKey;
use super::message::{RefusalKind, Refused};
use super::peer::Neighbourhood;
use crate::backup::bytes::Bytes;

/// Most sessions at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// In all.
    pub all: usize,
    /// From one address; of IPv6, from one /64.
    pub of_address: usize,
    /// Of one key.
    pub of_key: usize,
}

/// See the module.
pub(super) struct Sessions {
    limits: SessionLimits,
    state: Mutex<State>,
    left: Condvar,
}

#[derive(Default)]
struct State {
    /// Slots that are held.
    slots: usize,
    /// Of these, who was admitted.
    all: usize,
    of_address: HashMap<Neighbourhood, usize>,
    of_key: HashMap<PublicKey, usize>,
}

impl Sessions {
    pub(super) fn new(limits: SessionLimits) -> Arc<Self> {
        Arc::new(Self { limits, state: Mutex::default(), left: Condvar::new() })
    }

    /// A slot for a handler; `thread` is given back when the peer is admitted, or the slot is dropped.
    pub(super) fn slot(self: &Arc<Self>, from: Neighbourhood, key: PublicKey, thread: OwnedSemaphorePermit) -> Slot {
        self.lock().slots += 1;
        Slot { sessions: Arc::clone(self), from, key, state: Mutex::new(SlotState::Guest { _thread: thread }) }
    }

    /// Waits until all have left; says how many have not.
    pub(super) fn drain(&self, patience: Duration) -> usize {
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        while state.slots > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.left.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.slots
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One session, or what may become one.
pub(super) struct Slot {
    sessions: Arc<Sessions>,
    from: Neighbourhood,
    key: PublicKey,
    state: Mutex<SlotState>,
}

enum SlotState {
    Guest { _thread: OwnedSemaphorePermit },
    Admitted,
}

impl Slot {
    /// See [`super::listener::Entrance::admit`].
    pub(super) fn admit(&self, is_trusted: bool) -> Result<(), Refused> {
        let mut mine = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*mine, SlotState::Admitted) {
            return Ok(());
        }
        let limits = &self.sessions.limits;
        let mut state = self.sessions.lock();
        let here = state.of_address.get(&self.from).copied().unwrap_or(0);
        let of_key = state.of_key.get(&self.key).copied().unwrap_or(0);
        if state.all >= limits.all {
            return Err(unavailable(format!("the server is serving {} sessions, as many as it may", limits.all)));
        }
        if !is_trusted && of_key >= limits.of_key {
            let message = format!("{of_key} sessions of this identity are under way, as many as one may have");
            return Err(unavailable(message));
        }
        if !is_trusted && !self.from.is_loopback() && here >= limits.of_address {
            let message = format!("{here} sessions from {} are under way, as many as one address may have", self.from);
            return Err(unavailable(message));
        }
        state.all += 1;
        *state.of_address.entry(self.from).or_default() += 1;
        *state.of_key.entry(self.key).or_default() += 1;
        *mine = SlotState::Admitted;
        Ok(())
    }
}

fn unavailable(why: String) -> Refused {
    let message = Bytes::from(format!("{why}; try again later").into_bytes());
    Refused { kind: RefusalKind::Unavailable, message }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let is_admitted = matches!(self.state.get_mut(), Ok(SlotState::Admitted));
        let mut state = self.sessions.lock();
        state.slots = state.slots.saturating_sub(1);
        if is_admitted {
            state.all = state.all.saturating_sub(1);
            leave(&mut state.of_address, &self.from);
            leave(&mut state.of_key, &self.key);
        }
        drop(state);
        self.sessions.left.notify_all();
    }
}

fn leave<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, of: &K) {
    if let Some(count) = counts.get_mut(of) {
        *count -= 1;
        if *count == 0 {
            counts.remove(of);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(sessions: &Arc<Sessions>, from: &str, key: u8) -> Slot {
        let threads = Arc::new(tokio::sync::Semaphore::new(1));
        let thread = threads.try_acquire_owned().unwrap();
        sessions.slot(Neighbourhood::of(from.parse().unwrap()), PublicKey([key; 32]), thread)
    }

    fn refusal(slot: &Slot) -> String {
        let refused = slot.admit(false).unwrap_err();
        assert_eq!(refused.kind, RefusalKind::Unavailable);
        String::from_utf8(refused.message.0).unwrap()
    }

    #[test]
    fn every_limit_holds_and_is_named() {
        let sessions = Sessions::new(SessionLimits { all: 5, of_address: 2, of_key: 3 });
        let mut held: Vec<Slot> = (0..2).map(|key| slot(&sessions, "10.0.0.1", key)).collect();
        assert!(held.iter().all(|slot| slot.admit(false).is_ok() && slot.admit(false).is_ok()), "once is for ever");
        let third = slot(&sessions, "10.0.0.1", 9);
        assert!(refusal(&third).starts_with("2 sessions from 10.0.0.1 are"), "{}", refusal(&third));
        held.extend([slot(&sessions, "10.0.0.2", 0), slot(&sessions, "127.0.0.1", 0)]);
        assert!(held.iter().all(|slot| slot.admit(false).is_ok()));
        let fourth = slot(&sessions, "10.0.0.3", 0);
        assert!(refusal(&fourth).starts_with("3 sessions of this identity"), "{}", refusal(&fourth));
        let trusted = slot(&sessions, "10.0.0.1", 0);
        trusted.admit(true).unwrap();
        assert!(refusal(&slot(&sessions, "10.0.0.9", 7)).starts_with("the server is serving 5 sessions"));
        assert!(
            trusted.admit(true).is_ok() && fourth.admit(true).is_err(),
            "of the whole there is no more for anybody"
        );
        drop(held);
        for slot in [&third, &fourth] {
            slot.admit(false).unwrap();
        }
        assert_eq!(sessions.lock().all, 3);
        drop((third, fourth, trusted));
        let state = sessions.lock();
        assert!(state.slots == 0 && state.all == 0 && state.of_address.is_empty() && state.of_key.is_empty());
    }

    #[test]
    fn this_machine_has_no_limit_of_its_own_and_strangers_count_nowhere() {
        let sessions = Sessions::new(SessionLimits { all: 9, of_address: 1, of_key: 9 });
        let strangers: Vec<Slot> = (0..20).map(|key| slot(&sessions, "10.0.0.1", key)).collect();
        let users: Vec<Slot> = (0..9).map(|key| slot(&sessions, "127.0.0.1", key)).collect();
        assert!(users.iter().all(|slot| slot.admit(false).is_ok()));
        assert_eq!(sessions.drain(Duration::ZERO), 29, "a stop waits for all");
        drop((strangers, users));
        assert_eq!(sessions.drain(Duration::ZERO), 0);
    }
}
