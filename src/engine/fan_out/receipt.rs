//! What the source is told at the end: its receipt, or why there is none. Whatever destinations say of themselves, and
//! however many there are, it fits a message: a receipt that cannot be sent is none.

use crate::backup::bytes::Bytes;
use crate::backup::fanout::{Event, Outcome, ReceiptLine, TargetKind, TargetState};
use crate::backup::limits::SENTENCES_BYTES_MAX;
use crate::engine::error::{EngineError, ErrorKind};
use crate::net::message::{Committed, WireCopy};

/// Bytes of a reason.
const REASON_BYTES_MAX: usize = 1024;
/// Bytes of all lines of a receipt: together with its notes (`SENTENCES_BYTES_MAX`) they fit a control frame.
const COPIES_BYTES_MAX: usize = 512 * 1024;
/// Bytes of a sentence made of several reasons.
const SENTENCE_BYTES_MAX: usize = 16 * REASON_BYTES_MAX;
/// What a line takes beside its words, and a reason that is left out.
const LINE_BYTES: usize = 32;
const LEFT_OUT: &str = "…";

/// The same event; why a target is out is said in so many bytes.
pub(super) fn in_short(event: Event) -> Event {
    match event {
        Event::Refused { target, why } => Event::Refused { target, why: short(why) },
        Event::Lost { target, why } => Event::Lost { target, why: short(why) },
        other => other,
    }
}

fn short(mut why: String) -> String {
    if why.len() > REASON_BYTES_MAX {
        let most = REASON_BYTES_MAX - LEFT_OUT.len();
        why.truncate((0..=most).rev().find(|end| why.is_char_boundary(*end)).unwrap_or(0));
        why.push_str(LEFT_OUT);
    }
    why
}

/// Of what the own store said, if it holds the run.
pub(super) fn receipt(
    outcome: &Outcome,
    lines: &[ReceiptLine],
    own: Option<Committed>,
    wanted: u32,
) -> Result<Committed, EngineError> {
    match (outcome, own) {
        (Outcome::Done | Outcome::TooFew, Some(own)) => {
            let copies = copies(lines);
            // Of a relay's they are a destination's words.
            let mut notes = first_that_fit(own.notes, SENTENCES_BYTES_MAX);
            if copies.len() < lines.len() {
                notes.push(
                    format!("{} more destinations are not listed", lines.len() - copies.len()).into_bytes().into(),
                );
            }
            Ok(Committed { notes, copies, enough: *outcome == Outcome::Done, ..own })
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

fn first_that_fit(notes: Vec<Bytes>, mut room: usize) -> Vec<Bytes> {
    let fits = |note: &Bytes| match room.checked_sub(LINE_BYTES + note.0.len()) {
        Some(rest) => {
            room = rest;
            true
        }
        None => false,
    };
    notes.into_iter().take_while(fits).collect()
}

/// What is said in several parts, as many as fit a sentence that people read.
pub(super) fn joined(parts: impl IntoIterator<Item = String>) -> String {
    let mut all = String::new();
    for part in parts {
        let glue = if all.is_empty() { "" } else { "; " };
        if all.len() + part.len() > SENTENCE_BYTES_MAX {
            return all + glue + LEFT_OUT;
        }
        all = all + glue + &part;
    }
    all
}

/// As many as fit, with as many reasons as fit beside their names.
fn copies(lines: &[ReceiptLine]) -> Vec<WireCopy> {
    let mut room = COPIES_BYTES_MAX;
    let mut copies: Vec<_> = lines
        .iter()
        .map(copy)
        .map_while(|copy| {
            room = room.checked_sub(LINE_BYTES + copy.name.0.len())?;
            Some(copy)
        })
        .collect();
    for copy in &mut copies {
        match room.checked_sub(copy.reason.0.len()) {
            Some(rest) => room = rest,
            None => copy.reason = LEFT_OUT.as_bytes().into(),
        }
    }
    copies
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::digest::{Digest, RunId};
    use crate::backup::fanout::{Reason, TargetId};
    use crate::net::frame::Frame;

    fn line(id: u32, name: &str, why: &str) -> ReceiptLine {
        let state = TargetState::Failed(Reason::Refused(why.to_owned()));
        ReceiptLine { target: TargetId(id), name: name.to_owned(), kind: TargetKind::Destination, state }
    }

    fn own(notes: Vec<Bytes>) -> Committed {
        Committed {
            run: RunId([1; 16]),
            snapshot: 1,
            manifest: Digest([1; 32]),
            counts: [0; 6],
            files: 1,
            bytes: 1,
            bytes_missing: 0,
            incomplete: false,
            notes,
            copies: Vec::new(),
            enough: true,
        }
    }

    #[test]
    fn a_reason_is_cut_between_two_characters() {
        let why = |why: String| match in_short(Event::Refused { target: TargetId(1), why: why.clone() }) {
            Event::Refused { why, .. } => match in_short(Event::Lost { target: TargetId(1), why: why.clone() }) {
                Event::Lost { why: again, .. } if again == why => why,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        assert_eq!(why("no space".to_owned()), "no space");
        assert_eq!(why("x".repeat(REASON_BYTES_MAX)), "x".repeat(REASON_BYTES_MAX));
        for text in ["x", "ä", "€", "𝄞"] {
            let cut = why(text.repeat(500_000));
            assert!(cut.ends_with(LEFT_OUT) && cut.len() <= REASON_BYTES_MAX && cut.len() > REASON_BYTES_MAX - 8);
        }
    }

    #[test]
    fn a_receipt_fits_a_message_whatever_destinations_say() {
        let notes = vec![Bytes(vec![b'n'; SENTENCES_BYTES_MAX / 100 - LINE_BYTES]); 300];
        for (count, listed) in [(3, 3), (400, 400), (2000, COPIES_BYTES_MAX / (LINE_BYTES + 1023))] {
            let lines: Vec<_> = (1..=count).map(|id| line(id, &"n".repeat(1023), &"w".repeat(1024))).collect();
            let told = receipt(&Outcome::TooFew, &lines, Some(own(notes.clone())), 1).unwrap();
            assert_eq!(told.copies.len(), listed);
            assert_eq!(told.notes.len(), if listed < count as usize { 101 } else { 100 });
            assert_eq!(told.copies.iter().all(|copy| copy.reason.0.len() == 1024), count == 3);
            assert!(told.copies.iter().all(|copy| !copy.reason.0.is_empty()));
            Frame::encode(told.into()).unwrap();
        }
    }

    #[test]
    fn reasons_of_many_are_one_sentence_and_no_book() {
        let joined_of = |count: usize| joined((0..count).map(|_| "w".repeat(1000)));
        assert_eq!(joined(["one", "two"].map(str::to_owned)), "one; two");
        assert_eq!(joined_of(10).len(), 10 * 1002 - 2);
        let cut = joined_of(2000);
        assert!(cut.ends_with("w; …") && cut.len() <= SENTENCE_BYTES_MAX + 8, "{}", cut.len());
    }
}
