//! A relay (`rbbackupd --relay`, DESIGN 9): a server that passes on and keeps nothing.
//!
//! It has a hub like any server, on its state's folder: key, registry, leases, `control.sock`. No copy is ever made there
//! (`store::layout` sees to that), so whoever asks for one is sent to a destination; upkeep, verifying and healing have
//! nothing to do. What differs in a run stands in `fan_out::relay`; a dry run is planned by one destination alone, and
//! passed through here.
//!
//! ```text
//! source ══ session's link ══▶ "pass on" ──▶ data link ══▶ destination: receive::serve, nothing is changed
//!    ▲                                                        │
//!    └──────────── this thread: until its receipt ◀───────────┘
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::error::{EngineError, ErrorKind};
use super::fan_out::summon::summon;
use super::fan_out::whose::for_whom;
use super::hub::{Hub, Who};
use super::wire::{sentences, unexpected};
use crate::net::link::{Link, LinkReceiver, LinkSender};
use crate::net::message::{Begin, Message};

/// How often who waits looks whether it is over.
const LOOK: Duration = Duration::from_millis(100);

/// Refuses what only a store can do.
///
/// # Errors
/// Where to ask instead.
pub(super) fn check(request: &Message) -> Result<(), EngineError> {
    match request {
        Message::Of(_)
        | Message::Read(_)
        | Message::Snapshots(_)
        | Message::History(_)
        | Message::Find(_)
        | Message::Diff(_)
        | Message::Runs(_)
        | Message::Forget(_)
        | Message::Verify(_)
        | Message::Purge(_)
        | Message::Purges(_)
        | Message::Prune(_)
        | Message::Release(_)
        | Message::Stats(_) => {
            let message = "this server is a relay, which keeps nothing; ask a destination: on its machine, \
                           rbbackup --store DIR --of NODE/USER";
            Err(EngineError::new(ErrorKind::Failed, message))
        }
        _ => Ok(()),
    }
}

/// Has a dry run planned by the first destination that wants the copy.
///
/// # Errors
/// Nobody is there, or what the destination says.
pub(super) fn dry_run(hub: &Arc<Hub>, who: &Who, link: &mut Link, begin: &Begin) -> Result<(), EngineError> {
    let (name, mut theirs) = call(hub, who)?;
    theirs.send(for_whom(who, None, false))?;
    theirs.send(Begin { copies: 0, ..begin.clone() })?;
    let (answers, questions) = (link.sender.clone(), &mut link.receiver);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let to = theirs.sender.clone();
        scope.spawn(|| pass_on(questions, to, &over));
        let outcome = pass_back(&mut theirs.receiver, &answers, &name);
        over.store(true, Ordering::Relaxed);
        outcome
    })
}

/// A data connection to a destination, and what people call it.
fn call(hub: &Hub, who: &Who) -> Result<(String, Link), EngineError> {
    let there = hub.board.list().into_iter().filter(|destination| destination.wants.admits(who.copy()));
    for destination in there {
        if let Ok(link) = summon(&hub.board, (destination.id, destination.visit), &|| false) {
            return Ok((destination.name, link));
        }
    }
    let message = "no destination is connected to this relay: there is nothing that a dry run could be compared with";
    Err(EngineError::new(ErrorKind::Copies, message))
}

/// What the source says, until `over` or its end.
fn pass_on(from: &mut LinkReceiver, to: LinkSender, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        match from.recv_timeout(LOOK) {
            Ok(None) => {}
            Ok(Some(message)) => {
                if to.send(message).is_err() {
                    return;
                }
            }
            // The destination's session ends, and so does ours.
            Err(_) => return to.end(),
        }
    }
}

/// What the destination says, to its receipt.
fn pass_back(from: &mut LinkReceiver, to: &LinkSender, name: &str) -> Result<(), EngineError> {
    loop {
        match from.recv()? {
            Message::Committed(mut receipt) => {
                receipt.notes.extend(sentences([format!("this is what destination '{name}' would do")]));
                return Ok(to.send(receipt)?);
            }
            Message::Refused(refused) => return Err(refused.into()),
            message @ (Message::Waiting(_)
            | Message::Busy(_)
            | Message::Granted(_)
            | Message::Need(_)
            | Message::FileReady(_)
            | Message::PlanLines(_)) => to.send(message)?,
            other => return Err(unexpected(&other, "passing a dry run on").into()),
        }
    }
}
