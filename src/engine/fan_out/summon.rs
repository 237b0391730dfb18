//! Asking a destination for a data connection, for those who have nothing else to do meanwhile.

use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use super::board::{Board, DestinationId};
use crate::engine::error::{EngineError, ErrorKind};
use crate::net::link::Link;

/// How long a destination may take to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How often who waits looks whether there is somebody to wait for.
const LOOK: Duration = Duration::from_millis(100);

/// Waits for a data connection of a destination, as long as this visit of it lasts and the work is not `over`.
///
/// # Errors
/// It has left, or does not answer.
pub(in crate::engine) fn summon(
    board: &Board,
    (id, visit): (DestinationId, u64),
    over: &dyn Fn() -> bool,
) -> Result<Link, EngineError> {
    let lost = |why: &str| EngineError::new(ErrorKind::Unreachable, format!("it {why}"));
    let (answers, answer) = bounded(1);
    let call = board.call(id, &answers).ok_or_else(|| lost("has left"))?;
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if let Ok(answer) = answer.recv_timeout(LOOK) {
            return Ok(answer.link);
        }
        if over() || board.find(id).is_none_or(|there| there.visit != visit) {
            break;
        }
    }
    board.cancel(call);
    Err(lost("does not open a connection"))
}
