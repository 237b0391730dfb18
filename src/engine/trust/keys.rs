//! The daemon's own key: kept in `key`, shown by the listener, exchanged while it runs.
//!
//! ```text
//! key.next, durable  ─▶  a line in `succession`, durable  ─▶  key.next becomes key, durable  ─▶  shown
//! ```
//! Killed anywhere, the daemon starts with the old key or the new one, and whoever knows the old one finds the new.

use std::sync::{Arc, Mutex, PoisonError};

use super::SUCCESSION;
use crate::backup::bytes::escape;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::hub::Hub;
use crate::net::identity::{Identity, PublicKey};
use crate::net::link::Link;
use crate::net::message::{Succeed, Succession, WireStep};
use crate::net::tls::ServerKey;
use crate::store::layout::Store;
use crate::store::succession::{Step, way};
use crate::tree::own;

const KEY: &str = "key";
const NEXT: &str = "key.next";

/// The key of a store's daemon. Read, or made, when it is first asked for.
#[derive(Default)]
pub(in crate::engine) struct Keys {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    public: Option<PublicKey>,
    /// What a listener shows, where there is one.
    shown: Option<Arc<ServerKey>>,
}

impl Keys {
    /// The public half.
    ///
    /// # Errors
    /// The key cannot be read or made.
    pub(in crate::engine) fn public(&self, store: &Store) -> Result<PublicKey, EngineError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(public) = state.public {
            return Ok(public);
        }
        let public = load(store)?.public();
        state.public = Some(public);
        Ok(public)
    }

    /// What a listener shows from now on, also after the key has changed.
    ///
    /// # Errors
    /// The key cannot be read or made, or does not serve for TLS.
    pub(in crate::engine) fn show(&self, store: &Store) -> Result<Arc<ServerKey>, EngineError> {
        let identity = load(store)?;
        let shown = Arc::new(ServerKey::new(&identity).map_err(failed)?);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.public, state.shown) = (Some(identity.public()), Some(Arc::clone(&shown)));
        Ok(shown)
    }

    /// Makes another key, and has the present one sign it over.
    ///
    /// # Errors
    /// No randomness, or the disk; the key is the old one then, or the new one at the next start.
    pub(in crate::engine) fn exchange(&self, store: &Store) -> Result<PublicKey, EngineError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (old, new) = (load(store)?, Identity::generate().map_err(|e| failed(e.to_string()))?);
        let (from, to) = (old.public().0, new.public().0);
        let signature = old.sign(SUCCESSION, &[&from, &to]).try_into();
        let signature = signature.map_err(|_| failed("a signature of an odd length".to_owned()))?;
        let next = store.meta_path(NEXT);
        new.store(&next).map_err(|e| failed(e.to_string()))?;
        store.add_step(Step { from, to, signature })?;
        let key = store.meta_path(KEY);
        own::rename(&next, &key).and_then(|()| own::sync_dir(&store.meta_path(""))).map_err(|e| {
            failed(format!("cannot put the new key into '{}': {e}", escape(key.as_os_str().as_encoded_bytes())))
        })?;
        if let Some(shown) = &state.shown {
            shown.exchange(&new).map_err(failed)?;
        }
        state.public = Some(new.public());
        Ok(new.public())
    }
}

/// Tells who knows an earlier key how the present one came to be.
///
/// # Errors
/// The file is damaged, or the peer has gone.
pub(super) fn tell(hub: &Hub, link: &Link, asked: &Succeed) -> Result<(), EngineError> {
    let (steps, present) = (hub.store.succession()?, hub.keys.public(&hub.store)?);
    let way = way(&steps, asked.from, present.0).unwrap_or_default();
    let step = |step: &&Step| WireStep { key: step.to, signature: step.signature.to_vec().into() };
    Ok(link.send(Succession { steps: way.iter().map(step).collect() })?)
}

fn load(store: &Store) -> Result<Identity, EngineError> {
    Identity::load_or_create(&store.meta_path(KEY)).map_err(|e| failed(e.to_string()))
}

fn failed(message: String) -> EngineError {
    EngineError::new(ErrorKind::Failed, message)
}
