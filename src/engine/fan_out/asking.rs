//! The driver asks those who say that they hold the snapshot to prove it: what is asked (`challenge`), when (`proofs`).

use std::fmt;

use super::challenge;
use super::driver::Driver;
use super::sampler::Sampler;
use crate::backup::digest::Digest;
use crate::backup::fanout::{Event, TargetId};
use crate::engine::error::{EngineError, ErrorKind};
use crate::net::message::Challenge;

impl Driver<'_> {
    pub(super) fn challenge(&mut self, target: TargetId) {
        if self.proofs.is_asked(target) {
            return;
        }
        match self.next_challenge() {
            Ok(Some((challenge, expected))) => {
                self.proofs.ask(target, expected);
                self.send(target, challenge);
            }
            // The own store's catalog may not know its files yet.
            Ok(None) if !self.own_is_done => {
                self.question = None;
                self.proofs.defer(target);
            }
            // There is no content that could be asked about, or none passed a relay: its word and the digest are all there is.
            Ok(None) if self.run.is_relay() || !self.has_content() => self.proved(target, true),
            Ok(None) => self.cannot_ask(target, &"none of the files that were drawn is sound here"),
            Err(error) => self.cannot_ask(target, &error),
        }
    }

    fn cannot_ask(&mut self, target: TargetId, why: &dyn fmt::Display) {
        tracing::warn!("what destinations hold cannot be asked about: {why}");
        self.tell_later(Event::Lost { target, why: "the server could not check what it holds".to_owned() });
    }

    fn has_content(&self) -> bool {
        self.own_receipt.as_ref().is_none_or(|receipt| receipt.bytes > 0)
    }

    /// The own store has done all that it does after a commit.
    pub(super) fn own_ended(&mut self) {
        self.own_is_done = true;
        for target in self.proofs.take_waiting() {
            self.challenge(target);
        }
    }

    fn next_challenge(&mut self) -> Result<Option<(Challenge, Digest)>, EngineError> {
        let sampler = self.sampler.as_ref();
        if self.question.is_none() && self.run.is_relay() {
            self.question = Some(challenge::Question::kept(sampler.map(Sampler::pieces).unwrap_or_default()));
        } else if self.question.is_none() {
            let (hub, copy) = (self.run.hub, self.run.who.copy());
            let record = hub.store.snapshots(copy)?.by_run(self.run.begin.run)?;
            let record = record.ok_or_else(|| EngineError::new(ErrorKind::Failed, "the snapshot is not there"))?;
            let arrived = sampler.map(Sampler::paths).unwrap_or_default();
            self.question = Some(challenge::Question::about(hub, copy, &record, &arrived)?);
        }
        self.question.as_ref().filter(|question| !question.is_empty()).map(challenge::Question::ask).transpose()
    }
}
