//! [`Connections`]: every connection that has proved its key, so that all of a key can be ended at once.
//!
//! A connection is in it from the end of TLS, before anything it says is looked at, until its task has ended. Who revokes
//! a key takes it out of the registry first and calls [`Connections::end`] then: a connection that was let in before is
//! found here, one that comes later is not let in.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::connection::Ender;
use super::identity::PublicKey;
use super::link::LinkError;

/// Which connection: never given twice by one [`Connections`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

/// The connections of a listener, by key. Clones are the same.
#[derive(Clone, Default)]
pub struct Connections {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    last: u64,
    of: HashMap<PublicKey, BTreeMap<ConnectionId, Ender>>,
}

impl Connections {
    /// Ends all connections of a key; says how many. When it returns, nothing of theirs is delivered or sent any more:
    /// what was queued is thrown away, and who uses such a link hears [`LinkError::Revoked`].
    pub fn end(&self, key: &PublicKey) -> usize {
        self.end_all_but(key, None)
    }

    /// As [`Connections::end`], but for the connection that asks for it.
    pub fn end_others(&self, key: &PublicKey, except: ConnectionId) -> usize {
        self.end_all_but(key, Some(except))
    }

    /// How many connections of a key there are.
    pub fn count(&self, key: &PublicKey) -> usize {
        self.lock().of.get(key).map_or(0, BTreeMap::len)
    }

    fn end_all_but(&self, key: &PublicKey, except: Option<ConnectionId>) -> usize {
        let enders: Vec<Ender> = {
            let inner = self.lock();
            let all = inner.of.get(key).into_iter().flatten();
            all.filter(|(id, _)| Some(**id) != except).map(|(_, ender)| ender.clone()).collect()
        };
        for ender in &enders {
            ender.end(LinkError::Revoked);
        }
        enders.len()
    }

    /// Adds one; it is taken out when the entry is dropped.
    pub(super) fn enter(&self, key: PublicKey, ender: Ender) -> Entry {
        let mut inner = self.lock();
        inner.last += 1;
        let id = ConnectionId(inner.last);
        inner.of.entry(key).or_default().insert(id, ender);
        Entry { connections: self.clone(), key, id }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place among the others.
pub(super) struct Entry {
    connections: Connections,
    key: PublicKey,
    pub(super) id: ConnectionId,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut inner = self.connections.lock();
        if let Some(of) = inner.of.get_mut(&self.key) {
            of.remove(&self.id);
            if of.is_empty() {
                inner.of.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests;
