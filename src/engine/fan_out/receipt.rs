//! What the source is told at the end: its receipt, or why there is none.

use crate::backup::fanout::{Outcome, ReceiptLine, TargetKind, TargetState};
use crate::engine::error::{EngineError, ErrorKind};
use crate::net::message::{Committed, WireCopy};

/// Of what the own store said, if it holds the run.
pub(super) fn receipt(
    outcome: &Outcome,
    lines: &[ReceiptLine],
    own: Option<Committed>,
    wanted: u32,
) -> Result<Committed, EngineError> {
    match (outcome, own) {
        (Outcome::Done | Outcome::TooFew, Some(own)) => {
            let copies = lines.iter().map(copy).collect();
            Ok(Committed { copies, enough: *outcome == Outcome::Done, ..own })
        }
        (Outcome::Done | Outcome::TooFew, None) => {
            let there = lines.iter().filter(|line| line.kind == TargetKind::Destination).count();
            let message =
                format!("{there} of {wanted} destinations are connected, and nobody else came: nothing was backed up");
            Err(EngineError::new(ErrorKind::Copies, message))
        }
        (Outcome::OwnFailed(why), _) => {
            let kind = if why.heals() { ErrorKind::Unreachable } else { ErrorKind::Failed };
            Err(EngineError::new(kind, format!("the server's store: {why}")))
        }
        (Outcome::Abandoned, _) => Err(EngineError::new(ErrorKind::Unreachable, "the source went away")),
    }
}

fn copy(line: &ReceiptLine) -> WireCopy {
    let (state, reason) = match &line.state {
        TargetState::Held => (0, String::new()),
        TargetState::Behind(why) => (1, why.to_string()),
        TargetState::Failed(why) => (2, why.to_string()),
    };
    let kind = match line.kind {
        TargetKind::Store => 0,
        TargetKind::Destination => 1,
    };
    WireCopy { name: line.name.as_bytes().into(), kind, state, reason: reason.into_bytes().into() }
}
