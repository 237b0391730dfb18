//! What differs in a run where there is no own store: nobody's word but the destinations' says what was committed.
//!
//! - The lease is the session's own, and taken before destinations are waited for.
//! - The receipt is that of the first destination that is known to hold the run.
//! - **One run id, one snapshot.** A relay that is lost between commits forgets who holds the run. They say so when the
//!   source begins it again; if it has other content to send by then, the run ends, and the next one brings all together.
//!   A destination that only pretends so can end runs; it is named, and to be one is a trusted right.
//! - The delete guard is the destinations': there is no plain copy here that it could look at.

use std::collections::BTreeMap;

use super::driver::Driver;
use super::receipt::{joined, receipt};
use crate::backup::digest::{Digest, RunId};
use crate::backup::fanout::{Event, Outcome, Reason, ReceiptLine, TargetId, TargetState};
use crate::engine::error::{EngineError, ErrorKind};
use crate::net::message::{Committed, RefusalKind, Refused};

/// What destinations said that the run's end is made of.
#[derive(Default)]
pub(super) struct Told {
    receipts: BTreeMap<TargetId, Committed>,
    refusals: BTreeMap<TargetId, Refused>,
}

impl Told {
    /// The delete guard of one of them.
    fn guard(&self) -> Option<&Refused> {
        self.refusals.values().find(|refused| refused.kind == RefusalKind::Guard)
    }
}

impl Driver<'_> {
    /// A destination says that it holds the run. What was sent it just now must be what it says, or it counts for nothing.
    pub(super) fn told_receipt(&mut self, target: TargetId, receipt: Committed, was_granted: bool) {
        let right = !was_granted || self.sent == Some(receipt.manifest);
        if self.run.is_relay() && right && receipt.run == self.run.begin.run {
            self.told.receipts.insert(target, receipt);
        }
    }

    /// What a target holds, by its own word or the own store's.
    pub(super) fn receipt_of(&self, target: TargetId) -> Option<&Committed> {
        self.own_receipt.as_ref().or_else(|| self.told.receipts.get(&target))
    }

    /// Whether all that hold the run already hold this manifest.
    ///
    /// # Errors
    /// Somebody holds another one: the run cannot name both.
    pub(super) fn check_one_manifest(&self, manifest: Digest) -> Result<(), EngineError> {
        let other = self.told.receipts.iter().find(|(_, receipt)| receipt.manifest != manifest);
        let Some((target, _)) = other else { return Ok(()) };
        let message = format!(
            "files have changed since '{}' committed this run, and the others had not; run it again, and all get the same",
            self.name_of(*target)
        );
        Err(EngineError::new(ErrorKind::Failed, message))
    }

    /// A destination refuses, for good.
    pub(super) fn told_refusal(&mut self, target: TargetId, refused: &Refused) {
        if self.run.is_relay() && !matches!(refused.kind, RefusalKind::Unavailable | RefusalKind::Locked) {
            let name = format!("destination '{}': ", self.name_of(target));
            let message = [name.as_bytes(), refused.message.as_slice()].concat().into();
            self.told.refusals.insert(target, Refused { kind: refused.kind, message });
        }
    }

    /// Ends a run that all there are have refused: nobody will think otherwise, and who else might come is not waited for.
    pub(super) fn end_if_refused(&mut self) {
        let refused = |target: &TargetId| self.told.refusals.contains_key(target);
        if self.end.is_none() && self.told.receipts.is_empty() && self.ids.values().all(refused) {
            let why = self.told.guard().or_else(|| self.told.refusals.values().next());
            let Some(why) = why.cloned() else { return };
            self.own_refusal = Some(why);
            self.end = Some((Outcome::OwnFailed(Reason::Unfinished), Vec::new()));
        }
    }

    /// A returner lacks the manifest on which the source was told to build: the run begins again, with it, and what has
    /// arrived elsewhere is not asked for again.
    pub(super) fn begin_again(&mut self, late: TargetId) -> Option<Event> {
        let message = format!("'{}' has come, and needs the whole manifest: the run begins again", self.name_of(late));
        self.own_refusal = Some(Refused { kind: RefusalKind::Unavailable, message: message.into_bytes().into() });
        self.end = Some((Outcome::OwnFailed(Reason::Unfinished), Vec::new()));
        None
    }

    /// The run that a destination's next one follows: none if that is the newest one that it has itself. The source says
    /// by its manifest which one it has backed up last; who holds that one knows its run.
    pub(super) fn parent_at(&self, target: TargetId) -> Option<RunId> {
        let (copy, root, base) = (self.run.who.copy(), &self.run.root, self.run.begin.base?);
        let id = self.destination(target);
        let all = self.run.hub.board.list();
        let newest = |destination: &super::board::Destination| {
            destination.head(copy, root).filter(|head| head.manifest == base).map(|head| head.run)
        };
        let is_up_to_date = all.iter().any(|there| Some(there.id) == id && newest(there).is_some());
        if is_up_to_date { None } else { all.iter().find_map(newest) }
    }

    /// What the source is told at the end.
    pub(super) fn relayed(&mut self, outcome: &Outcome, lines: &[ReceiptLine]) -> Result<Committed, EngineError> {
        let held = lines.iter().filter(|line| line.state == TargetState::Held);
        let first = held.map(|line| line.target).next().and_then(|target| self.told.receipts.remove(&target));
        let nobody_has_it = first.is_none() && *outcome == Outcome::TooFew;
        if let Some(refused) = self.told.guard().filter(|_| nobody_has_it) {
            return Err(refused.clone().into());
        }
        let wanted = self.run.begin.copies.max(1);
        let holders = lines.iter().filter(|line| line.state == TargetState::Held).count();
        tracing::info!("'/{}' is held by {holders} destinations, of {wanted} that were wanted", self.run.root);
        if nobody_has_it && self.generation > 0 {
            return Err(EngineError::new(ErrorKind::Copies, why_nobody(lines, wanted)));
        }
        receipt(outcome, lines, first, wanted)
    }

    fn name_of(&self, target: TargetId) -> String {
        let found = self.destination(target).and_then(|id| self.run.hub.board.find(id));
        found.map_or_else(|| "a destination".to_owned(), |destination| destination.name)
    }
}

fn why_nobody(lines: &[ReceiptLine], wanted: u32) -> String {
    let reason = |line: &ReceiptLine| match &line.state {
        TargetState::Held => None,
        TargetState::Behind(why) | TargetState::Failed(why) => Some(format!("'{}': {why}", line.name)),
    };
    let reasons = joined(lines.iter().filter_map(reason));
    format!("fewer than {wanted} destinations could hold it, and none is known to: {reasons}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::fanout::TargetKind;

    #[test]
    fn who_could_not_hold_it_is_named_with_the_reason() {
        let line = |name: &str, state| {
            let kind = TargetKind::Destination;
            ReceiptLine { target: TargetId(1), name: name.to_owned(), kind, state }
        };
        let lines = [
            line("attic", TargetState::Failed(Reason::Refused("its disk is full".to_owned()))),
            line("cellar", TargetState::Behind(Reason::Stalled)),
        ];
        assert_eq!(
            why_nobody(&lines, 2),
            "fewer than 2 destinations could hold it, and none is known to: 'attic': its disk is full; \
             'cellar': it showed no sign of life"
        );
    }
}
