//! Whose run it is, told to a destination (`For`) and understood there: a destination stores under the source's node and
//! user, with the source's key, and its records name the source.

use super::super::client::now;
use super::super::error::{EngineError, ErrorKind};
use super::super::hub::Who;
use crate::backup::bytes::escape;
use crate::backup::digest::RunId;
use crate::net::message::For;
use crate::store::names::CopyName;
use crate::store::registry::{Identity, Right};

/// Longest description of a source's program that is believed.
const SOFTWARE_BYTES_MAX: usize = 200;

/// What the daemon says before it begins a run of `who`. `parent`: the run that this one follows in its own store.
pub(in crate::engine) fn for_whom(who: &Who, parent: Option<RunId>, hold: bool) -> For {
    let copy = who.copy();
    let address = who.address.map_or_else(|| "local".to_owned(), |address| address.to_string());
    For {
        node: copy.node().as_bytes().into(),
        user: copy.user().as_bytes().into(),
        key: who.identity.key.unwrap_or_default(),
        peer: format!("{address} {}", who.software).into_bytes().into(),
        parent,
        hold,
    }
}

/// Who that is, as the destination's own engine knows clients.
///
/// # Errors
/// Names that cannot be.
pub(in crate::engine) fn who_of(told: &For) -> Result<Who, EngineError> {
    let copy = CopyName::new(told.node.as_slice(), told.user.as_slice())
        .map_err(|e| EngineError::new(ErrorKind::Failed, e.to_string()))?;
    let peer = escape(told.peer.as_slice());
    let (address, software) = peer.split_once(' ').unwrap_or((&peer, ""));
    let key = (told.key != [0; 32]).then_some(told.key);
    Ok(Who {
        identity: Identity::new(copy, key, now()).with_rights(&[Right::Backup]),
        address: address.parse().ok(),
        software: software.chars().take(SOFTWARE_BYTES_MAX).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_learns_who_the_source_is() {
        let copy = CopyName::new(b"10.0.0.1", b"u").unwrap();
        let identity = Identity::new(copy, Some([3; 32]), now()).with_rights(&[Right::Backup, Right::Admin]);
        let source = Who { identity, address: Some("10.0.0.1".parse().unwrap()), software: "rbbackup 1".to_owned() };
        let told = for_whom(&source, Some(RunId([4; 16])), true);
        assert_eq!((told.parent, told.hold), (Some(RunId([4; 16])), true));
        let who = who_of(&told).unwrap();
        assert_eq!(who.info(), source.info());
        assert_eq!((who.copy(), who.identity.key), (source.copy(), Some([3; 32])));
        assert_eq!(who.identity.rights, [Right::Backup], "rights are the destination's own to give");
        let local = Who { address: None, identity: Identity { key: None, ..source.identity.clone() }, ..source };
        let who = who_of(&for_whom(&local, None, false)).unwrap();
        assert_eq!((who.info(), who.identity.key), (local.info(), None));
        assert!(who_of(&For { node: b".rbbackup"[..].into(), ..told }).is_err());
    }
}
