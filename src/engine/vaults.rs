//! The vaults of a store's copies, each opened once, when it is first needed, and brought in step with the catalog then.
//!
//! The packs are the truth. A catalog that is new, or lost its last moments in a power cut, is told of the packs that it
//! does not know and made to forget those that are gone; from then on whoever adds or removes a pack tells it. A process
//! that only reads changes nothing: there the vault itself looks into packs that the catalog does not name.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::error::EngineError;
use super::hub::Hub;
use crate::store::catalog::Update;
use crate::store::names::CopyName;
use crate::store::vault::{PackId, Vault};

/// One copy's vault, or the place for it: whoever opens it holds up nobody but those who want the same.
type Slot = Arc<Mutex<Option<Arc<Vault>>>>;

/// The vaults that are open.
#[derive(Default)]
pub(super) struct Vaults(Mutex<HashMap<CopyName, Slot>>);

impl Hub {
    /// The vault of a copy, in step with the catalog.
    ///
    /// # Errors
    /// The catalog or the disk fail. A pack that cannot be read is no error here: it is named in the log, and not used.
    pub(crate) fn vault(&self, copy: &CopyName) -> Result<Arc<Vault>, EngineError> {
        let slot = {
            let mut vaults = self.vaults.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(vaults.entry(copy.clone()).or_default())
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(vault) = &*slot {
            return Ok(Arc::clone(vault));
        }
        let vault = Arc::new(Vault::open(&self.store, copy)?);
        if !self.is_read_only() {
            bring_in_step(self, copy, &vault)?;
        }
        *slot = Some(Arc::clone(&vault));
        Ok(vault)
    }
}

fn bring_in_step(hub: &Hub, copy: &CopyName, vault: &Vault) -> Result<(), EngineError> {
    let id = hub.catalog.copy_id(copy)?;
    let known: HashSet<PackId> = hub.catalog.reader()?.packs(id)?.into_iter().collect();
    let there: HashSet<PackId> = vault.packs()?.into_iter().collect();
    let gone: Vec<_> = known.difference(&there).map(|pack| Update::RemovePack(*pack)).collect();
    if !gone.is_empty() {
        tracing::warn!("{} packs of {copy} are not there any more", gone.len());
        hub.catalog.apply(id, gone)?;
    }
    let mut learnt = 0;
    for pack in there.difference(&known) {
        match vault.index(*pack) {
            Ok(index) => learnt += hub.catalog.apply(id, [Update::PutPack(index)])?,
            // Backups go on without it.
            Err(error) => tracing::error!("{error}; what it holds is not used"),
        }
    }
    if learnt > 0 {
        tracing::info!("{learnt} packs of {copy} were not in the catalog, and are now");
    }
    Ok(())
}
