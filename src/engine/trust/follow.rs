//! A server shows another key than the one we know. Did that one sign it over?
//!
//! Asked under a key of this moment, which is shown to nobody else: whoever answers there learns nothing of us before it
//! has proved to be the server that we know. What it says is believed for its signatures only.

use super::is_signed_over;
use crate::engine::client::handshake_error;
use crate::engine::error::{EngineError, ErrorKind};
use crate::net::client::{ConnectOptions, connect};
use crate::net::handshake::client_succeed;
use crate::net::identity::{Identity, PublicKey};
use crate::net::message::Succession;

/// Most steps that are looked at.
const STEPS_MAX: usize = 1024;

/// Whether the server that shows `shown` is the one that was `pinned`. `options`: the way to it.
///
/// # Errors
/// It cannot be reached any more.
pub(in crate::engine) fn is_the_same(
    options: &ConnectOptions<'_>,
    pinned: PublicKey,
    shown: PublicKey,
) -> Result<bool, EngineError> {
    let nobody = Identity::generate().map_err(|e| EngineError::new(ErrorKind::Failed, e.to_string()))?;
    let options = ConnectOptions { identity: &nobody, expected: Some(shown), ..options.clone() };
    let Ok(connected) = connect(&options) else { return Ok(false) };
    let mut link = connected.link;
    match client_succeed(&mut link, pinned.0).map_err(handshake_error) {
        Ok(succession) => Ok(leads(&succession, pinned, shown)),
        // Whoever does not answer is another.
        Err(_) => Ok(false),
    }
}

/// Whether each key signed over to the next, from the one to the other.
fn leads(succession: &Succession, from: PublicKey, to: PublicKey) -> bool {
    let mut at = from;
    for step in succession.steps.iter().take(STEPS_MAX) {
        let next = PublicKey(step.key);
        if !is_signed_over(at, next, step.signature.as_slice()) {
            return false;
        }
        at = next;
    }
    at == to && succession.steps.len() <= STEPS_MAX && !succession.steps.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::trust::SUCCESSION;
    use crate::net::message::WireStep;

    fn step(from: &Identity, to: &Identity) -> WireStep {
        let (a, b) = (from.public(), to.public());
        WireStep { key: b.0, signature: from.sign(SUCCESSION, &[&a.0, &b.0]).into() }
    }

    #[test]
    fn only_a_chain_of_signatures_leads_from_key_to_key() {
        let [a, b, c, thief] = std::array::from_fn(|_| Identity::generate().unwrap());
        let leads = |steps: Vec<WireStep>, from: &Identity, to: &Identity| {
            super::leads(&Succession { steps }, from.public(), to.public())
        };
        assert!(leads(vec![step(&a, &b)], &a, &b));
        assert!(leads(vec![step(&a, &b), step(&b, &c)], &a, &c));
        assert!(!leads(vec![], &a, &a) && !leads(vec![], &a, &b));
        assert!(!leads(vec![step(&a, &b)], &a, &c), "it ends elsewhere");
        assert!(!leads(vec![step(&b, &c)], &a, &c), "it begins elsewhere");
        assert!(!leads(vec![step(&a, &b), step(&thief, &c)], &a, &c));
        let forged = WireStep { key: thief.public().0, ..step(&a, &b) };
        assert!(!leads(vec![forged], &a, &thief));
        assert!(!leads(vec![WireStep { signature: vec![0; 64].into(), ..step(&a, &b) }], &a, &b));
    }
}
