//! What a destination says of itself: name, store, whose runs it wants, space, and the newest of each root that it holds.

use super::Place;
use crate::backup::limits::HEADS_BYTES_MAX;
use crate::engine::error::EngineError;
use crate::engine::fan_out::attend::head_bytes;
use crate::engine::hub::Hub;
use crate::engine::inspect_serve::space;
use crate::net::message::{Attend, Head};

/// Bytes of heads after which a message is closed.
const PART_BYTES_TARGET: usize = 256 * 1024;

/// All of it, in as many messages as it takes.
///
/// # Errors
/// The snapshots cannot be read.
pub(super) fn said(place: &Place) -> Result<Vec<Attend>, EngineError> {
    let from = place.wants.0.iter().map(|(node, user)| {
        let user = user.as_deref().unwrap_or_default();
        (node.as_bytes().into(), user.as_bytes().into())
    });
    let whole = Attend {
        name: place.name.as_bytes().into(),
        store: place.hub.store.id(),
        from: from.collect(),
        space: space(&place.hub),
        heads: Vec::new(),
        more: true,
    };
    let parts = parts(heads(&place.hub)?, PART_BYTES_TARGET);
    let last = parts.len().saturating_sub(1);
    let parts = parts.into_iter().enumerate();
    Ok(parts.map(|(i, heads)| Attend { heads, more: i != last, ..whole.clone() }).collect())
}

/// As many as may be told. A root that is not told of passes for one that is not here: it is offered again, and answered.
fn heads(hub: &Hub) -> Result<Vec<Head>, EngineError> {
    let (mut heads, mut bytes) = (Vec::new(), 0);
    for copy in hub.store.copies()? {
        for record in hub.store.snapshots(&copy)?.roots()? {
            let head = Head {
                node: copy.node().as_bytes().into(),
                user: copy.user().as_bytes().into(),
                root: record.root.as_bytes().into(),
                run: record.run,
                manifest: record.manifest,
            };
            bytes += head_bytes(&head);
            if bytes > HEADS_BYTES_MAX {
                return Ok(heads);
            }
            heads.push(head);
        }
    }
    Ok(heads)
}

/// At least one, which may be empty.
fn parts(heads: Vec<Head>, bytes_target: usize) -> Vec<Vec<Head>> {
    let (mut parts, mut bytes) = (vec![Vec::new()], 0);
    for head in heads {
        bytes += head_bytes(&head);
        if bytes > bytes_target {
            parts.push(Vec::new());
            bytes = head_bytes(&head);
        }
        if let Some(part) = parts.last_mut() {
            part.push(head);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::digest::{Digest, RunId};

    #[test]
    fn heads_travel_in_parts_and_there_is_always_one() {
        assert_eq!(parts(Vec::new(), 100), [Vec::new()]);
        let head = |root: usize| Head {
            node: b"n"[..].into(),
            user: b"u"[..].into(),
            root: root.to_string().into_bytes().into(),
            run: RunId([0; 16]),
            manifest: Digest([0; 32]),
        };
        let heads: Vec<Head> = (100..110).map(head).collect();
        let one = head_bytes(&head(100));
        let counts = |target| parts(heads.clone(), target).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(counts(3 * one), [3, 3, 3, 1]);
        assert_eq!(counts(1000 * one), [10]);
        assert_eq!(counts(1), [0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], "what is longer than a part goes alone");
        assert_eq!(parts(heads.clone(), 3 * one).concat(), heads);
    }
}
