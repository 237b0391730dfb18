//! [`Guests`]: the connections that are not welcome yet, and who has to go when there are too many.
//!
//! Everybody may connect, so there will be more than there is room for. Whoever is turned away must not be the one who
//! just came: who opens connections faster than they end would keep everybody out for as long as it likes. So the one
//! that has been there longest goes, of the neighbourhood that has most of them. A client that finishes its handshake in
//! the time in which the others open as many connections as there are places gets in, from however many addresses they
//! come: at 1000 connections a second that is a quarter of a second. And as long as its neighbourhood has fewer than
//! another one, a client is never the one that goes.
//!
//! Always holds: no more than [`HANDSHAKES_MAX`] places are taken, nor more than `max` of one neighbourhood; who loses its
//! place is told at once, and its socket is closed without a word.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::peer::Neighbourhood;
use super::shutdown::Shutdown;
use crate::backup::limits::HANDSHAKES_MAX;

/// See the module.
pub(super) struct Guests {
    /// Places of one neighbourhood.
    max: usize,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    last: u64,
    count: usize,
    /// By the order in which they came.
    of: HashMap<Neighbourhood, BTreeMap<u64, Shutdown>>,
}

impl Guests {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max: max.clamp(1, HANDSHAKES_MAX), table: Mutex::default() })
    }

    /// Gives a place; takes another's if there is none.
    pub(super) fn enter(self: &Arc<Self>, from: Neighbourhood) -> Place {
        let mut table = self.lock();
        if table.of.get(&from).is_some_and(|of| of.len() >= self.max) {
            table.turn_out(from);
        }
        if table.count >= HANDSHAKES_MAX
            && let Some(most) = table.most()
        {
            table.turn_out(most);
        }
        table.last += 1;
        table.count += 1;
        let (number, lost) = (table.last, Shutdown::new());
        table.of.entry(from).or_default().insert(number, lost.clone());
        Place { guests: Arc::clone(self), from, number, lost }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// The neighbourhood with most guests; of several, the one whose guest has been there longest.
    fn most(&self) -> Option<Neighbourhood> {
        let rank = |of: &BTreeMap<u64, Shutdown>| (of.len(), std::cmp::Reverse(of.keys().next().copied()));
        self.of.iter().max_by_key(|(_, of)| rank(of)).map(|(from, _)| *from)
    }

    /// The longest there goes.
    fn turn_out(&mut self, from: Neighbourhood) {
        let first = self.of.get(&from).and_then(|of| of.keys().next().copied());
        if let Some(lost) = first.and_then(|number| self.leave(from, number)) {
            lost.trigger();
        }
    }

    fn leave(&mut self, from: Neighbourhood, number: u64) -> Option<Shutdown> {
        let of = self.of.get_mut(&from)?;
        let left = of.remove(&number)?;
        if of.is_empty() {
            self.of.remove(&from);
        }
        self.count -= 1;
        Some(left)
    }
}

/// A guest's place: free again when it is dropped.
pub(super) struct Place {
    guests: Arc<Guests>,
    from: Neighbourhood,
    number: u64,
    lost: Shutdown,
}

impl Place {
    /// Waits until the place is needed for another. Cancel-safe.
    pub(super) async fn lost(&self) {
        self.lost.triggered().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.guests.lock().leave(self.from, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> Neighbourhood {
        Neighbourhood::of(address.parse().unwrap())
    }

    fn is_lost(place: &Place) -> bool {
        place.lost.is_triggered()
    }

    #[test]
    fn the_longest_there_of_the_most_goes() {
        let guests = Guests::new(HANDSHAKES_MAX);
        let quiet = guests.enter(from("10.0.0.1"));
        let mut crowd: Vec<Place> = (0..HANDSHAKES_MAX).map(|_| guests.enter(from("10.0.0.2"))).collect();
        assert!(!is_lost(&quiet), "it was there first, and alone");
        assert!(is_lost(&crowd[0]) && crowd[1..].iter().all(|place| !is_lost(place)));
        let late = guests.enter(from("10.0.0.3"));
        assert!(!is_lost(&late) && !is_lost(&quiet) && is_lost(&crowd[1]) && !is_lost(&crowd[2]));
        // Places that are given back are there for others.
        crowd.clear();
        let others: Vec<Place> = (0..HANDSHAKES_MAX - 2).map(|_| guests.enter(from("10.0.0.4"))).collect();
        assert!(others.iter().chain([&quiet, &late]).all(|place| !is_lost(place)));
        assert_eq!(guests.lock().count, HANDSHAKES_MAX);
        drop((others, quiet, late));
        assert!(guests.lock().of.is_empty() && guests.lock().count == 0);
    }

    #[test]
    fn of_many_addresses_the_longest_there_goes() {
        let guests = Guests::new(4);
        let all: Vec<Place> =
            (0..2 * HANDSHAKES_MAX).map(|i| guests.enter(from(&format!("10.1.{}.{}", i >> 8, i & 255)))).collect();
        let (first, last) = all.split_at(HANDSHAKES_MAX);
        assert!(first.iter().all(is_lost) && !last.iter().any(is_lost));
    }

    #[test]
    fn one_neighbourhood_has_its_share_and_no_more() {
        let guests = Guests::new(2);
        let other = guests.enter(from("10.0.0.1"));
        // Whoever has one IPv6 address has 2^64 of them.
        let crowd: Vec<Place> = (1..=3).map(|i| guests.enter(from(&format!("2001:db8::{i}")))).collect();
        assert_eq!(crowd.iter().map(is_lost).collect::<Vec<_>>(), [true, false, false]);
        let next_door = guests.enter(from("2001:db8:0:1::1"));
        assert!(!is_lost(&next_door) && !is_lost(&other) && !is_lost(&crowd[1]));
    }
}
