//! [`Rules`]: what an operator may change while the daemon runs: how much is kept, how much may be stored.

use std::sync::{Arc, PoisonError, RwLock};

use super::prune::Retention;
use super::room::SpaceLimits;

/// What holds at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// How much of the past is kept.
    pub retention: Retention,
    /// How much may be stored.
    pub space: SpaceLimits,
}

/// What holds now. Who has begun with one goes on with it.
#[derive(Default)]
pub(super) struct RulesInForce(RwLock<Arc<Rules>>);

impl RulesInForce {
    pub(super) fn new(rules: Rules) -> Self {
        Self(RwLock::new(Arc::new(rules)))
    }

    pub(super) fn now(&self) -> Arc<Rules> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set(&self, rules: Rules) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }
}
