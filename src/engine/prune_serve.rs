//! The daemon's side of `Prune` and `Release`: what its upkeep thread does once a day, now.

use super::error::{EngineError, ErrorKind};
use super::hub::{Hub, Who};
use super::wire::sentences;
use super::{prune, upkeep};
use crate::net::link::Link;
use crate::net::message::{Pruned, Release, Released};
use crate::store::registry::Right;

fn check(who: &Who) -> Result<(), EngineError> {
    if who.identity.may(Right::Admin) {
        return Ok(());
    }
    Err(EngineError::new(ErrorKind::NotAllowed, format!("{} does not have the right 'admin'", who.name())))
}

/// Packs, for what is not packed cannot be given back, and prunes all copies.
///
/// # Errors
/// Not allowed; the store cannot be listed; the client has gone.
pub(super) fn prune(hub: &Hub, who: &Who, link: &Link) -> Result<(), EngineError> {
    check(who)?;
    upkeep::once(hub, &|| true);
    let report = prune::prune(hub, &hub.rules.now().retention, hub.now(), false, &|| true)?;
    let troubles = report.copies.iter().filter_map(|copy| copy.trouble.clone());
    Ok(link.send(Pruned {
        snapshots: report.copies.iter().map(|copy| copy.snapshots.len() as u64).sum(),
        expired: report.expired() as u64,
        packs_removed: report.copies.iter().map(|copy| copy.swept.packs_removed).sum(),
        packs_written: report.copies.iter().map(|copy| copy.swept.packs_written).sum(),
        bytes_freed: report.freed(),
        troubles: sentences(troubles),
    })?)
}

/// Lets go what a snapshot of the copy that the session is about is kept for.
///
/// # Errors
/// Not allowed; nothing is kept for that reason; the client has gone.
pub(super) fn release(hub: &Hub, who: &Who, link: &Link, request: &Release) -> Result<(), EngineError> {
    check(who)?;
    let runs = prune::release(hub, who.copy(), request.number)?;
    Ok(link.send(Released { runs })?)
}
