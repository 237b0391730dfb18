//! A run id is given by the client, and names folders that all copies share: `journal/<run>` and `retired/<run>`. So no two
//! runs of different copies may have the same one, not one after the other either, as long as anything is left of the
//! first: whoever could choose another's run id could have that one's history packed as its own, or thrown away.

use super::error::{EngineError, ErrorKind};
use super::hub::Hub;
use crate::backup::digest::RunId;
use crate::backup::relpath::RelPath;
use crate::store::names::CopyName;

/// Refuses a run id that another run has. To be asked with the lease of this run in hand, and once it is known that it is
/// not committed: of two that begin at once one sees the other.
///
/// # Errors
/// It is another's; the store's disk fails.
pub(super) fn check(hub: &Hub, copy: &CopyName, root: &RelPath, run: RunId) -> Result<(), EngineError> {
    let taken = || EngineError::new(ErrorKind::NotAllowed, format!("the run id {run} belongs to another run"));
    let own = copy.to_string();
    let others = |(scope, holder): &(crate::backup::lease::Scope, crate::backup::lease::Holder)| {
        holder.run == run && (scope.copy != own || scope.root != *root)
    };
    if hub.leases.held().iter().any(others) {
        return Err(taken());
    }
    let hex = run.to_hex();
    let is_there = |folder: &str| match hub.own_dir(folder)?.stat(hex.as_bytes()) {
        Ok(_) => Ok::<_, EngineError>(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    };
    if !is_there("journal")? && !is_there("retired")? {
        return Ok(());
    }
    // What is left of a round of this very run that failed is no hindrance.
    for other in hub.store.copies()?.iter().filter(|other| *other != copy) {
        let snapshots = hub.store.snapshots(other)?;
        if snapshots.by_run(run)?.is_some() || snapshots.is_prepared(run) {
            return Err(taken());
        }
    }
    Ok(())
}
