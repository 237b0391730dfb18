//! [`Proofs`]: who is asked to prove what it holds, and who is to be. Pure.
//!
//! What always holds: a target has one challenge at a time, and one that was let go has none, so that a proof is always
//! compared with the answer to the challenge that it answers.

use std::collections::{BTreeMap, BTreeSet};

use crate::backup::digest::Digest;
use crate::backup::fanout::TargetId;

/// See the module.
#[derive(Default)]
pub(super) struct Proofs {
    /// There was nothing yet to ask about.
    waiting: BTreeSet<TargetId>,
    /// The right answers.
    expected: BTreeMap<TargetId, Digest>,
}

impl Proofs {
    /// Whether it owes a proof.
    pub(super) fn is_asked(&self, target: TargetId) -> bool {
        self.expected.contains_key(&target)
    }

    /// It is asked now.
    pub(super) fn ask(&mut self, target: TargetId, expected: Digest) {
        self.waiting.remove(&target);
        self.expected.insert(target, expected);
    }

    /// It is to be asked later.
    pub(super) fn defer(&mut self, target: TargetId) {
        self.waiting.insert(target);
    }

    /// Who is to be asked.
    pub(super) fn waiting(&self) -> Vec<TargetId> {
        self.waiting.iter().copied().collect()
    }

    /// They are not to be asked any more, but by whoever takes them.
    pub(super) fn take_waiting(&mut self) -> BTreeSet<TargetId> {
        std::mem::take(&mut self.waiting)
    }

    /// Whether its proof is right. One that it was not asked for is not.
    pub(super) fn is_proof(&mut self, target: TargetId, proof: Digest) -> bool {
        self.expected.remove(&target) == Some(proof)
    }

    /// It takes no part any more.
    pub(super) fn let_go(&mut self, target: TargetId) {
        self.waiting.remove(&target);
        self.expected.remove(&target);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: TargetId = TargetId(1);
    const B: TargetId = TargetId(2);

    #[test]
    fn who_comes_back_is_asked_once_and_its_proof_is_of_its_last_challenge() {
        let (mut proofs, [one, two]) = (Proofs::default(), [1, 2].map(|byte| Digest([byte; 32])));
        proofs.defer(A);
        proofs.defer(B);
        proofs.let_go(A);
        assert_eq!(proofs.waiting(), [B]);
        // It caught up meanwhile.
        proofs.defer(A);
        proofs.defer(A);
        assert_eq!(proofs.take_waiting().into_iter().collect::<Vec<_>>(), [A, B]);
        assert!(proofs.waiting().is_empty() && !proofs.is_asked(A));
        proofs.ask(A, one);
        assert!(proofs.is_asked(A));
        proofs.let_go(A);
        assert!(!proofs.is_asked(A) && !proofs.is_proof(A, one), "that was before");
        proofs.ask(A, two);
        assert!(proofs.is_proof(A, two) && !proofs.is_proof(A, two), "once");
        proofs.ask(B, one);
        assert!(!proofs.is_proof(B, two));
    }
}
