//! Frames: how a [`Message`] becomes bytes and back, without any I/O.
//!
//! ```text
//! FRAME    u32 LENGTH (little endian, of what follows) | u8 KIND | BODY
//! control  BODY = bincode
//! bulk     BODY = u32 HEAD_LENGTH (little endian) | bincode head | raw payload
//! alive    KIND 0, BODY empty: "I am here"; never leaves `net`
//! ```
//!
//! Always holds: a length is checked against the table of limits before anything is allocated for it; a kind that is
//! not in the table, trailing bytes and a wrong length are errors; no bytes can cause a panic. These are the only
//! calls of bincode on the wire. bincode walks plain types only: no message is recursive or holds a collection of
//! zero-sized elements, for which its limit would not help.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::message::Message;
use crate::backup::limits::{BULK_FRAME_BYTES_MAX, CONTROL_FRAME_BYTES_MAX};

/// Bytes of LENGTH and KIND.
pub const FRAME_HEAD_BYTES: usize = 5;
/// Bytes of a bulk body's HEAD_LENGTH.
pub const BULK_HEAD_BYTES: usize = 4;
/// The kind of a frame without body that says "I am here".
pub const KEEPALIVE_KIND: u8 = 0;
/// The whole keepalive frame.
pub const KEEPALIVE_FRAME: [u8; FRAME_HEAD_BYTES] = [1, 0, 0, 0, KEEPALIVE_KIND];

/// What bincode may claim for one body. It claims an integer's full width even where one byte is read, so a full body
/// of short numbers claims up to eight times its length; a limit of the body's own length would refuse good messages.
const DECODE_CLAIM_MAX: usize = 8 * CONTROL_FRAME_BYTES_MAX + 64;

/// Bytes are not a message, or a message does not fit a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The kind byte is not in the table.
    #[error("a message of the unknown kind {kind}")]
    UnknownKind {
        /// The byte.
        kind: u8,
    },
    /// A frame's length breaks the limit of its kind.
    #[error("a frame of kind {kind} with {found} bytes, where at most {max} are allowed")]
    TooLong {
        /// The kind byte.
        kind: u8,
        /// Bytes of the body.
        found: usize,
        /// Limit in bytes.
        max: usize,
    },
    /// A length that contradicts another one.
    #[error("a frame of kind {kind} whose lengths contradict each other")]
    Length {
        /// The kind byte.
        kind: u8,
    },
    /// bincode's part is not this message.
    #[error("a damaged message: {why}")]
    Damaged {
        /// What bincode says.
        why: String,
    },
    /// Bytes are left after the message.
    #[error("{count} bytes too many after a message")]
    Trailing {
        /// How many.
        count: usize,
    },
    /// A value that bincode cannot write.
    #[error("a message that cannot be encoded: {why}")]
    Encode {
        /// What bincode says.
        why: String,
    },
}

/// Encodes a control message's body or a bulk message's head.
///
/// # Errors
/// [`CodecError::Encode`], which cannot happen for the types of [`super::message`].
pub fn encode_body<T: Serialize>(message: &T) -> Result<Vec<u8>, CodecError> {
    bincode::serde::encode_to_vec(message, bincode::config::standard())
        .map_err(|e| CodecError::Encode { why: e.to_string() })
}

/// Decodes what [`encode_body`] wrote; `bytes` must hold nothing else.
///
/// # Errors
/// [`CodecError::Damaged`] and [`CodecError::Trailing`].
pub fn decode_body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > CONTROL_FRAME_BYTES_MAX {
        return Err(CodecError::Damaged { why: format!("it is longer than {CONTROL_FRAME_BYTES_MAX} bytes") });
    }
    let config = bincode::config::standard().with_limit::<DECODE_CLAIM_MAX>();
    let (message, used) =
        bincode::serde::decode_from_slice(bytes, config).map_err(|e| CodecError::Damaged { why: e.to_string() })?;
    match bytes.len().checked_sub(used) {
        Some(0) => Ok(message),
        left => Err(CodecError::Trailing { count: left.unwrap_or(0) }),
    }
}

/// LENGTH and KIND of a frame whose length has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// The kind byte: known, or [`KEEPALIVE_KIND`].
    pub kind: u8,
    /// Whether the body has a payload.
    pub bulk: bool,
    /// Bytes of the body.
    pub body_bytes: usize,
}

impl FrameHead {
    /// Reads a frame's first bytes. `body_bytes_max` is what this peer may send at all; the limit of the kind holds too.
    ///
    /// # Errors
    /// [`CodecError::UnknownKind`], [`CodecError::TooLong`], [`CodecError::Length`].
    pub fn parse(bytes: [u8; FRAME_HEAD_BYTES], body_bytes_max: usize) -> Result<Self, CodecError> {
        let [a, b, c, d, kind] = bytes;
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let Some(body_bytes) = length.checked_sub(1) else {
            return Err(CodecError::Length { kind });
        };
        let (bulk, kind_max) = match (kind, Message::is_bulk(kind)) {
            (KEEPALIVE_KIND, _) => (false, 0),
            (_, Some(false)) => (false, CONTROL_FRAME_BYTES_MAX),
            (_, Some(true)) => (true, BULK_FRAME_BYTES_MAX),
            (_, None) => return Err(CodecError::UnknownKind { kind }),
        };
        let max = kind_max.min(body_bytes_max);
        if body_bytes > max {
            return Err(CodecError::TooLong { kind, found: body_bytes, max });
        }
        if bulk && body_bytes < BULK_HEAD_BYTES {
            return Err(CodecError::Length { kind });
        }
        Ok(Self { kind, bulk, body_bytes })
    }

    /// Reads a bulk body's first bytes: how many bytes of head, then of payload, follow.
    ///
    /// # Errors
    /// [`CodecError::TooLong`], [`CodecError::Length`].
    pub fn split_bulk(self, bytes: [u8; BULK_HEAD_BYTES]) -> Result<(usize, usize), CodecError> {
        let kind = self.kind;
        let head = usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX);
        if head > CONTROL_FRAME_BYTES_MAX {
            return Err(CodecError::TooLong { kind, found: head, max: CONTROL_FRAME_BYTES_MAX });
        }
        let payload = self
            .body_bytes
            .checked_sub(BULK_HEAD_BYTES)
            .and_then(|rest| rest.checked_sub(head))
            .ok_or(CodecError::Length { kind })?;
        Ok((head, payload))
    }
}

/// An encoded message, ready to be written: `head`, then `payload`, which was moved and not copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The kind byte, once more.
    pub kind: u8,
    /// LENGTH, KIND and all but the payload.
    pub head: Vec<u8>,
    /// File content; empty for control messages.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Encodes.
    ///
    /// # Errors
    /// [`CodecError::TooLong`] when the message does not fit a frame.
    pub fn encode(message: Message) -> Result<Self, CodecError> {
        let kind = message.kind();
        let (body, payload_bytes) = match message.encode()? {
            (body, None) => (body, None),
            (body, Some(payload)) => (body, Some(payload.len())),
        };
        check_encoded(kind, body.len(), payload_bytes)?;
        let body_bytes = body.len() + payload_bytes.map_or(0, |p| p + BULK_HEAD_BYTES);
        let mut head = Vec::with_capacity(FRAME_HEAD_BYTES + BULK_HEAD_BYTES + body.len());
        head.extend_from_slice(&length_field(kind, body_bytes + 1)?);
        head.push(kind);
        if payload_bytes.is_some() {
            head.extend_from_slice(&length_field(kind, body.len())?);
        }
        head.extend_from_slice(&body);
        Ok(Self { kind, head, payload: message.into_payload() })
    }

    /// The bytes in one piece.
    pub fn into_bytes(self) -> Vec<u8> {
        let mut bytes = self.head;
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}

/// Whether `message` fits a frame, for links that carry it without encoding it.
///
/// # Errors
/// What [`Frame::encode`] would say.
pub(super) fn check_message(message: &Message) -> Result<(), CodecError> {
    let (body, payload) = message.encode()?;
    check_encoded(message.kind(), body.len(), payload.map(<[u8]>::len))
}

fn check_encoded(kind: u8, body_bytes: usize, payload_bytes: Option<usize>) -> Result<(), CodecError> {
    if body_bytes > CONTROL_FRAME_BYTES_MAX {
        return Err(CodecError::TooLong { kind, found: body_bytes, max: CONTROL_FRAME_BYTES_MAX });
    }
    let whole = body_bytes + payload_bytes.map_or(0, |p| p.saturating_add(BULK_HEAD_BYTES));
    if payload_bytes.is_some() && whole > BULK_FRAME_BYTES_MAX {
        return Err(CodecError::TooLong { kind, found: whole, max: BULK_FRAME_BYTES_MAX });
    }
    Ok(())
}

fn length_field(kind: u8, length: usize) -> Result<[u8; 4], CodecError> {
    Ok(u32::try_from(length).map_err(|_| CodecError::Length { kind })?.to_le_bytes())
}

/// Decodes the frame at the start of `bytes`: the message (none: a keepalive) and how many bytes it took. `Ok(None)`:
/// more bytes are needed.
///
/// # Errors
/// [`CodecError`].
pub fn decode_frame(bytes: &[u8]) -> Result<Option<(Option<Message>, usize)>, CodecError> {
    let Some((head, rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let head = FrameHead::parse(*head, BULK_FRAME_BYTES_MAX)?;
    let used = FRAME_HEAD_BYTES + head.body_bytes;
    if head.kind == KEEPALIVE_KIND {
        return Ok(Some((None, used)));
    }
    let Some(body) = rest.get(..head.body_bytes) else { return Ok(None) };
    let (head_part, payload) = if head.bulk {
        let (length, rest) = body.split_first_chunk().ok_or(CodecError::Length { kind: head.kind })?;
        let (head_bytes, _) = head.split_bulk(*length)?;
        rest.split_at_checked(head_bytes).ok_or(CodecError::Length { kind: head.kind })?
    } else {
        (body, &[][..])
    };
    let message = Message::decode(head.kind, head_part, payload.to_vec())?;
    Ok(Some((Some(message), used)))
}

#[cfg(test)]
mod goldens;
#[cfg(test)]
mod tests;
