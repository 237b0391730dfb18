//! Distributed backup, the daemon's side (DESIGN 9): destinations that attend, runs that are passed on to them.
//!
//! ```text
//! source ══ its session's link ═▶ "listen" ─▶ Driver (the session's thread) ─┬─ Link::pair ─▶ "own store": receive::serve
//!    ▲                                          │ one select; never waits    ├─ data link ──▶ destination A: receive::serve
//!    └──────────── "say" ◀── answers ───────────┘ for one of them            └─ data link ──▶ destination B
//! ```
//! A target is a link at whose far end a run is received, so each message of a backup keeps its meaning, and the source need
//! not know that there are several. What follows from what is decided in `backup::fanout`; who gets what in `router`; the
//! driver carries it out.
//!
//! **Who stops whom.** The run ends with the machine's `End`, or when the source breaks the protocol: then the driver lets
//! its targets go and stops those who catch up, and "listen" ends within [`LOOK`]. Of a target's two threads the one that
//! sends ends when all is sent, or at once if the target was dropped; the one that hears ends with the peer's side of the
//! link, or with the next thing that is said, and tells nobody. "say" ends when the source has taken its last answer, or is
//! gone. The own store ends its housekeeping first. A source that is lost before the commit ends the run; what has arrived
//! waits in staging, here and there.
//!
//! A relay has no own store: what is different then stands in `relay`.

mod asking;
pub(super) mod attend;
pub(super) mod board;
pub(super) mod challenge;
mod driver;
pub(super) mod heal;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod out_of_turn;
pub(super) mod pace;
mod peers;
mod proofs;
mod receipt;
mod relay;
mod router;
mod running;
mod sampler;
#[cfg(test)]
mod scripted;
pub(super) mod summon;
mod target;
#[cfg(test)]
mod tests;
pub(super) mod whose;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use self::driver::{Driver, Ends};
use super::error::EngineError;
use super::hub::{Hub, Who};
use super::live::LiveGuard;
use super::receive;
use super::run_log::RunLog;
use super::wire::WireError;
use crate::backup::relpath::RelPath;
use crate::backup::snapshot::RunKind;
use crate::net::link::{Link, LinkError, LinkReceiver, LinkSender};
use crate::net::message::{Begin, Message, RefusalKind, Refused};
use crate::store::leases::LeaseGuard;

/// How often who listens to a silent source looks whether the run is over.
const LOOK: Duration = Duration::from_millis(100);

/// A run of a source, as its driver and its targets see it.
struct Run<'a> {
    hub: &'a Arc<Hub>,
    who: &'a Who,
    begin: &'a Begin,
    root: RelPath,
    /// A relay's own; else the own store takes it.
    lease: Option<LeaseGuard>,
    /// Who watches.
    live: &'a LiveGuard,
}

impl Run<'_> {
    /// There is no own store.
    fn is_relay(&self) -> bool {
        self.hub.is_relay()
    }
}

/// Whether more than the own store takes part in a run. A dry run is nobody else's business (a relay's is one
/// destination's).
pub(super) fn concerns(hub: &Hub, who: &Who, begin: &Begin) -> bool {
    let wanted = || hub.board.list().iter().any(|destination| destination.wants.admits(who.copy()));
    !begin.dry_run && (hub.is_relay() || begin.copies > 0 || wanted())
}

/// Serves a backup to the own store and to all destinations that want it; the receipt has been sent when this returns.
/// Nothing more can be received over the link.
///
/// # Errors
/// Why it is refused or failed. If it is that too few hold it, those who were needed never came.
pub(super) fn serve(
    hub: &Arc<Hub>,
    who: &Who,
    link: &mut Link,
    begin: &Begin,
    live: &LiveGuard,
) -> Result<(), EngineError> {
    let root = RelPath::new(begin.root.as_slice()).map_err(WireError::from)?;
    let lease = hub.is_relay().then(|| receive::lease(hub, who, link, begin, &root)).transpose()?;
    let run = Run { hub, who, begin, root, lease, live };
    let (sender, receiver) = (link.sender.clone(), &mut link.receiver);
    let (over, own_began) = (AtomicBool::new(false), AtomicBool::new(false));
    let (told, source) = bounded(1);
    let (answers, to_say) = unbounded();
    let (start_own, started) = bounded(1);
    let (own, at_store) = if run.is_relay() { (None, None) } else { Some(Link::pair()).unzip() };
    let ends = Ends { source, answers, busy: sender.clone(), start_own, own };
    let log = RunLog::begin(begin.run, RunKind::Backup, &run.root);
    let outcome = thread::scope(|scope| {
        scope.spawn(|| listen(receiver, &told, &over));
        scope.spawn(move || say(&sender, &to_say));
        if let Some(link) = at_store {
            let (run, started, own_began) = (&run, &started, &own_began);
            scope.spawn(move || own_store(run, link, started, own_began));
        }
        let outcome = Driver::new(&run, ends).run();
        over.store(true, Ordering::Relaxed);
        outcome
    });
    // The own store writes down how a run ended that it took part in; one that never got so far ended as well.
    if !run.is_relay() && !own_began.load(Ordering::Relaxed) {
        log.end(hub, who, outcome.as_ref().copied());
    }
    outcome
}

/// Hands over what the source says, one message at a time.
fn listen(link: &mut LinkReceiver, told: &Sender<Result<Message, LinkError>>, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let Some(message) = link.recv_timeout(LOOK).transpose() else { continue };
        let is_end = message.is_err();
        if told.send(message).is_err() || is_end {
            return;
        }
    }
}

/// Says to the source what it is told. With many answers waiting the driver does not listen to it.
fn say(link: &LinkSender, answers: &Receiver<Message>) {
    for message in answers {
        let name = message.name();
        let Err(error) = link.send(message) else { continue };
        if let LinkError::Unsendable(_) = error {
            tracing::warn!("'{name}' cannot be said to the source: {error}");
            let message = format!("the server has an answer that is too long: {error}").into_bytes().into();
            let _ = link.send(Refused { kind: RefusalKind::Failed, message });
        } else {
            tracing::debug!("'{name}' is not said to the source: {error}");
        }
        return;
    }
}

/// The own store: a target like any other, in this process.
fn own_store(run: &Run<'_>, mut link: Link, started: &Receiver<()>, began: &AtomicBool) {
    if started.recv().is_err() {
        return;
    }
    began.store(true, Ordering::Relaxed);
    let terms = receive::Terms { hold: true, ..receive::Terms::default() };
    if let Err(error) = receive::serve(run.hub, run.who, &mut link, run.begin, &terms) {
        let _ = link.send(Refused::from(&error));
    }
}
