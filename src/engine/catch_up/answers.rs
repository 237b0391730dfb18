//! Who asked what: the one listener hands each answer to whoever waits for it.
//!
//! The listener never waits for anybody but the link: an answer's place is made before its question leaves, and holds it.
//! Questions leave in the order of their numbers.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, bounded};

use crate::backup::digest::Digest;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::wire::unexpected;
use crate::net::link::{LinkError, LinkReceiver, LinkSender};
use crate::net::message::{ChunkOffer, FileOpen, FileReady, Message, Need, Offer, WireChunk};

/// How often the listener looks whether all is over.
const LOOK: Duration = Duration::from_millis(100);
/// How long a far end that closed the link is listened to for its reason.
const LAST_WORD_PATIENCE: Duration = Duration::from_secs(2);
/// Verdicts that wait: parts of a `Missing`.
const VERDICTS_MAX: usize = 64;

type Verdict = Result<Message, EngineError>;

/// See the module.
#[derive(Default)]
pub(super) struct Answers {
    /// The next batch. Held while a question leaves, and by nobody who listens.
    batch: Mutex<u32>,
    file: Mutex<u32>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    needs: HashMap<u32, Sender<Need>>,
    ready: HashMap<u32, Sender<FileReady>>,
    /// No more answers come.
    ended: Option<EngineError>,
}

/// Where what is no answer to a question goes.
pub(super) fn verdicts() -> (Sender<Verdict>, Receiver<Verdict>) {
    bounded(VERDICTS_MAX)
}

/// A far end that refuses says why and closes; whoever is still sending notices the closing first.
pub(super) fn last_word(error: EngineError, verdict: &Receiver<Verdict>) -> EngineError {
    if error.kind != ErrorKind::Unreachable {
        return error;
    }
    while let Ok(said) = verdict.recv_timeout(LAST_WORD_PATIENCE) {
        if let Err(why) = said {
            return why;
        }
    }
    error
}

impl Answers {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks what of this is needed.
    pub(super) fn offer(&self, link: &LinkSender, digests: Vec<Digest>) -> Result<Receiver<Need>, EngineError> {
        self.ask(link, |batch| Offer { batch, digests }.into())
    }

    /// Asks which chunks of the open file are needed.
    pub(super) fn offer_chunks(
        &self,
        link: &LinkSender,
        file: u32,
        items: Vec<WireChunk>,
    ) -> Result<Receiver<Need>, EngineError> {
        self.ask(link, |batch| ChunkOffer { batch, file, items }.into())
    }

    fn ask(&self, link: &LinkSender, question: impl FnOnce(u32) -> Message) -> Result<Receiver<Need>, EngineError> {
        let mut batch = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
        let (place, need) = bounded(1);
        let mut waiting = self.waiting();
        waiting.check()?;
        waiting.needs.insert(*batch, place);
        drop(waiting);
        link.send(question(*batch))?;
        *batch += 1;
        Ok(need)
    }

    /// Opens a large file under a handle of its own; with a base, waits until it is known whether the far end has that.
    pub(super) fn open(
        &self,
        link: &LinkSender,
        open: impl FnOnce(u32) -> FileOpen,
    ) -> Result<(u32, bool), EngineError> {
        let file = {
            let mut next = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            let file = *next;
            *next += 1;
            file
        };
        let open = open(file);
        if open.base.is_none() {
            link.send(open)?;
            return Ok((file, false));
        }
        let (place, ready) = bounded(1);
        let mut waiting = self.waiting();
        waiting.check()?;
        waiting.ready.insert(file, place);
        drop(waiting);
        link.send(open)?;
        Ok((file, self.wait(&ready)?.base_known))
    }

    /// Waits for an answer.
    pub(super) fn wait<T>(&self, answer: &Receiver<T>) -> Result<T, EngineError> {
        answer.recv().map_err(|_| self.waiting().ended.clone().unwrap_or_else(|| LinkError::Closed.into()))
    }

    /// Takes what comes until the verdict, the end of the link, or until it is `over`. `alive`: the far end is at work.
    pub(super) fn listen(
        &self,
        receiver: &mut LinkReceiver,
        verdicts: &Sender<Verdict>,
        over: &dyn Fn() -> bool,
        alive: &dyn Fn(),
    ) {
        let end = loop {
            match receiver.recv_timeout(LOOK) {
                Ok(None) if over() => break LinkError::Closed.into(),
                Ok(None) => {}
                Ok(Some(Message::Busy(_))) => alive(),
                Ok(Some(message)) => match self.take(message, verdicts, over) {
                    Ok(true) => {}
                    Ok(false) => break LinkError::Closed.into(),
                    Err(error) => break error,
                },
                Err(error) => break error.into(),
            }
        };
        let mut waiting = self.waiting();
        (waiting.needs, waiting.ready) = Default::default();
        waiting.ended = Some(end.clone());
        drop(waiting);
        // Nobody may listen any more.
        let _ = verdicts.try_send(Err(end));
    }

    /// False: that was the last one.
    fn take(&self, message: Message, verdicts: &Sender<Verdict>, over: &dyn Fn() -> bool) -> Result<bool, EngineError> {
        match message {
            Message::Need(need) => {
                let place = self.waiting().needs.remove(&need.batch).ok_or_else(nobody_asked)?;
                // Who asked may have given up.
                let _ = place.send(need);
            }
            Message::FileReady(ready) => {
                let place = self.waiting().ready.remove(&ready.file).ok_or_else(nobody_asked)?;
                let _ = place.send(ready);
            }
            Message::Refused(refused) => return Err(refused.into()),
            Message::Missing(_) => return Ok(tell(verdicts, message, over)),
            Message::Committed(_) => {
                tell(verdicts, message, over);
                return Ok(false);
            }
            other => return Err(unexpected(&other, "sending a snapshot").into()),
        }
        Ok(true)
    }
}

/// False: nobody wants to know any more.
fn tell(verdicts: &Sender<Verdict>, message: Message, over: &dyn Fn() -> bool) -> bool {
    let mut said = Ok(message);
    loop {
        said = match verdicts.send_timeout(said, LOOK) {
            Ok(()) => return true,
            Err(SendTimeoutError::Timeout(said)) if !over() => said,
            Err(_) => return false,
        };
    }
}

impl Waiting {
    fn check(&self) -> Result<(), EngineError> {
        self.ended.clone().map_or(Ok(()), Err)
    }
}

fn nobody_asked() -> EngineError {
    let message = "the other side broke the protocol: it answered what was not asked";
    EngineError::new(ErrorKind::Failed, message)
}
