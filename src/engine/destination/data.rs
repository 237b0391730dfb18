//! A data connection: we join, and from there on the daemon is the client. Each run is served as in any store.

use std::sync::Arc;
use std::time::Instant;

use super::Place;
use super::observer::{Arrived, ArrivingRun, Rooted};
use crate::backup::relpath::RelPath;
use crate::engine::client::{self, ClientOptions, Session, now};
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::fan_out::{challenge, whose::who_of};
use crate::engine::hub::Who;
use crate::engine::stop::Stop;
use crate::engine::wire::{WireError, unexpected};
use crate::engine::{receive, recover};
use crate::net::link::{Link, LinkError};
use crate::net::message::{Begin, Committed, For, Join, Message, Refused};
use crate::store::names::CopyName;

/// Answers a call.
pub(super) fn answer(place: &Place, stop: Stop, call: u64) {
    let client = ClientOptions { stop, ..place.client.clone() };
    let mut link = match client::open(&client) {
        Ok(Session { link, .. }) => link,
        Err(error) => return tracing::info!("a call could not be answered: {error}"),
    };
    let served = link.send(Join { call }).map_err(EngineError::from).and_then(|()| runs(place, &mut link));
    if let Err(error) = served {
        tracing::info!("{error}");
        let _ = link.send(Refused::from(&error));
    }
}

/// Serves one run after the other, and proves what the last one brought.
fn runs(place: &Place, link: &mut Link) -> Result<(), EngineError> {
    let mut last: Option<(CopyName, RelPath)> = None;
    loop {
        let told = match (link.recv(), &last) {
            (Ok(Message::For(told)), _) => told,
            (Ok(Message::Challenge(asked)), Some((copy, root))) => {
                link.send(challenge::answer(&place.hub, copy, root, &asked)?)?;
                continue;
            }
            // Who called does not need us any more.
            (Ok(Message::Refused(refused)), _) => return Err(refused.into()),
            (Ok(other), _) => return Err(unexpected(&other, "waiting for a run").into()),
            (Err(LinkError::Closed | LinkError::Lost { .. }), _) => return Ok(()),
            (Err(error), _) => return Err(error.into()),
        };
        let who = who_of(&told)?;
        if !place.wants.admits(who.copy()) {
            let message = format!("'{}' does not take the backups of {}", place.name, who.copy());
            return Err(EngineError::new(ErrorKind::NotAllowed, message));
        }
        match link.recv()? {
            Message::Begin(begin) => last = Some(run(place, link, &who, &told, &begin)?),
            other => return Err(unexpected(&other, "waiting for a run to begin").into()),
        }
    }
}

/// One run to its end; what it was of.
fn run(
    place: &Place,
    link: &mut Link,
    who: &Who,
    told: &For,
    begin: &Begin,
) -> Result<(CopyName, RelPath), EngineError> {
    let (hub, started) = (&place.hub, Instant::now());
    let root = RelPath::new(begin.root.as_slice()).map_err(WireError::from)?;
    if begin.dry_run {
        // A relay passed it on: it is a question, and nothing arrives.
        receive::serve(hub, who, link, begin, &receive::Terms::default())?;
        return Ok((who.copy().clone(), root));
    }
    let shown = [b"/", root.as_bytes()].concat();
    let (node, user) = (who.copy().node().to_owned(), who.copy().user().to_owned());
    let arrival = place.receiving.begin(&ArrivingRun { node, user, root: shown.clone() });
    let observer = Arc::new(Rooted { root: shown, arrival: Arc::clone(&arrival) });
    let terms = receive::Terms { hold: told.hold, stays: true, parent: told.parent, observer: Some(observer) };
    let counters = link.counters();
    let before = counters.received();
    let served = receive::serve(hub, who, link, begin, &terms);
    let arrived = served.as_ref().map(|receipt| arrived(receipt, counters.received() - before, started));
    arrival.end(arrived.as_ref().map_err(|error| *error));
    hub.bell.ring();
    // Full: it has been rung already.
    let _ = place.news.0.try_send(());
    if let Err(error) = recover::sweep(hub, now()) {
        tracing::warn!("unclaimed staging was not cleared: {error}");
    }
    served.map(|_| (who.copy().clone(), root))
}

fn arrived(receipt: &Committed, wire_bytes_received: u64, started: Instant) -> Arrived {
    Arrived {
        run: receipt.run,
        snapshot: receipt.snapshot,
        manifest: receipt.manifest,
        incomplete: receipt.incomplete,
        files: receipt.files,
        bytes: receipt.bytes,
        wire_bytes_received,
        elapsed_secs: started.elapsed().as_secs_f64(),
    }
}

#[cfg(test)]
mod tests;
