//! The reader: from the stream to messages, packed or not, within the limits and the patience that hold.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadHalf};
use tokio::time::{Instant, Sleep};

use super::{Role, Welcomed, lost};
use crate::backup::limits::{BULK_FRAME_BYTES_MAX, HANDSHAKE_FRAME_BYTES_MAX};
use crate::net::frame::{BULK_HEAD_BYTES, CodecError, FRAME_HEAD_BYTES, FrameHead, KEEPALIVE_KIND};
use crate::net::link::{LinkError, Plumbing};
use crate::net::message::Message;
use crate::net::packer::{PACKED_KIND, Unpacker};
use crate::net::packing::Packing;

/// Reads until the end; says why it ended.
pub(super) async fn read_loop<S: AsyncRead + AsyncWrite>(
    reader: ReadHalf<S>,
    plumbing: &Plumbing,
    role: Role,
    silence: Duration,
    welcomed: &Welcomed<'_>,
) -> LinkError {
    let patience = std::pin::pin!(tokio::time::sleep(silence));
    let mut incoming = Incoming {
        reader,
        silence,
        patience,
        allowance: HANDSHAKE_FRAME_BYTES_MAX,
        packing: &plumbing.packing,
        unpacker: None,
        packed: false,
        raw: Vec::new(),
        at: 0,
    };
    loop {
        let message = match incoming.frame(welcomed).await {
            Ok(None) => continue,
            Ok(Some(message)) => message,
            Err(reason) => return reason,
        };
        if role == Role::Client && matches!(message, Message::Welcome(_)) {
            welcomed.say();
            plumbing.packing.round_trip(welcomed.since_asked());
            plumbing.packing.begin();
        }
        // An inbox that has ended has no receiver any more: what still comes is read and thrown away, so that the
        // peer can go on until it sees our goodbye.
        if plumbing.inbox.push_async(message).await == Ok(true) {
            incoming.reset_patience();
        }
    }
}

struct Incoming<'a, S> {
    reader: ReadHalf<S>,
    silence: Duration,
    patience: Pin<&'a mut Sleep>,
    /// Bytes of bodies that may still come before the welcome.
    allowance: usize,
    packing: &'a Packing,
    unpacker: Option<Unpacker>,
    /// The frame that is being read came packed, and goes on so.
    packed: bool,
    /// What the last packed frame held, and how much of it is read.
    raw: Vec<u8>,
    at: usize,
}

impl<S: AsyncRead + AsyncWrite> Incoming<'_, S> {
    /// The next message; none for a keepalive.
    async fn frame(&mut self, welcomed: &Welcomed<'_>) -> Result<Option<Message>, LinkError> {
        let mut first = [0; FRAME_HEAD_BYTES];
        self.packed = self.at < self.raw.len();
        if !self.fill(&mut first).await? {
            return Err(LinkError::Closed);
        }
        // Packed in packed is no kind of frame.
        if first[FRAME_HEAD_BYTES - 1] == PACKED_KIND && !self.packed && welcomed.is_said() {
            self.unpack(first).await?;
            self.packed = true;
            self.whole(&mut first).await?;
        }
        let body_bytes_max = if welcomed.is_said() { BULK_FRAME_BYTES_MAX } else { self.allowance };
        let head = FrameHead::parse(first, body_bytes_max).map_err(protocol)?;
        self.allowance = self.allowance.saturating_sub(FRAME_HEAD_BYTES + head.body_bytes);
        if head.kind == KEEPALIVE_KIND {
            return Ok(None);
        }
        let (head_bytes, payload_bytes) = if head.bulk {
            let mut length = [0; BULK_HEAD_BYTES];
            self.whole(&mut length).await?;
            head.split_bulk(length).map_err(protocol)?
        } else {
            (head.body_bytes, 0)
        };
        let body = self.take(head_bytes).await?;
        let payload = self.take(payload_bytes).await?;
        Message::decode(head.kind, &body, payload).map(Some).map_err(protocol)
    }

    /// Reads the rest of a packed frame, and unpacks it.
    async fn unpack(&mut self, head: [u8; FRAME_HEAD_BYTES]) -> Result<(), LinkError> {
        let body = Unpacker::body_bytes(head).map_err(protocol)?;
        let body = self.take_raw(body).await?;
        let unpacker = match &mut self.unpacker {
            Some(unpacker) => unpacker,
            none => none.insert(Unpacker::new().map_err(|e| lost(&e))?),
        };
        unpacker.unpack(&body, &mut self.raw).map_err(protocol)?;
        self.at = 0;
        self.packing.peer_packs();
        Ok(())
    }

    /// Some bytes of what was packed, at least one and at most `count`: of the next packed frame when the last is read.
    async fn unpacked(&mut self, count: usize) -> Result<&[u8], LinkError> {
        if self.at == self.raw.len() {
            let mut head = [0; FRAME_HEAD_BYTES];
            if !self.fill_raw(&mut head).await? || head[FRAME_HEAD_BYTES - 1] != PACKED_KIND {
                let why = "a packed message that does not go on".to_owned();
                return Err(LinkError::Protocol { why });
            }
            self.unpack(head).await?;
        }
        let end = self.raw.len().min(self.at + count);
        let from = std::mem::replace(&mut self.at, end);
        Ok(self.raw.get(from..end).unwrap_or_default())
    }

    /// Fills `buf`; false when the stream ended in order before its first byte.
    async fn fill(&mut self, buf: &mut [u8]) -> Result<bool, LinkError> {
        if !self.packed {
            return self.fill_raw(buf).await;
        }
        let mut filled = 0;
        while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let some = self.unpacked(rest.len()).await?;
            rest.iter_mut().zip(some).for_each(|(to, from)| *to = *from);
            filled += some.len();
        }
        Ok(true)
    }

    async fn fill_raw(&mut self, buf: &mut [u8]) -> Result<bool, LinkError> {
        let mut filled = 0;
        while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let count = listen(&mut self.patience, self.silence, self.reader.read(rest)).await?;
            if count == 0 {
                return if filled == 0 { Ok(false) } else { Err(cut()) };
            }
            filled += count;
        }
        Ok(true)
    }

    async fn whole(&mut self, buf: &mut [u8]) -> Result<(), LinkError> {
        if self.fill(buf).await? { Ok(()) } else { Err(cut()) }
    }

    /// The next `count` bytes, which have been checked against a limit.
    async fn take(&mut self, count: usize) -> Result<Vec<u8>, LinkError> {
        if !self.packed {
            return self.take_raw(count).await;
        }
        let mut bytes = Vec::new();
        while bytes.len() < count {
            bytes.extend_from_slice(self.unpacked(count - bytes.len()).await?);
        }
        Ok(bytes)
    }

    async fn take_raw(&mut self, count: usize) -> Result<Vec<u8>, LinkError> {
        let mut bytes = Vec::with_capacity(count);
        while bytes.len() < count {
            let mut rest = (&mut self.reader).take((count - bytes.len()) as u64);
            if listen(&mut self.patience, self.silence, rest.read_buf(&mut bytes)).await? == 0 {
                return Err(cut());
            }
        }
        Ok(bytes)
    }

    fn reset_patience(&mut self) {
        self.patience.as_mut().reset(Instant::now() + self.silence);
    }
}

/// One read, unless the silence gets too long; what arrives ends the silence.
async fn listen(
    patience: &mut Pin<&mut Sleep>,
    silence: Duration,
    read: impl Future<Output = io::Result<usize>>,
) -> Result<usize, LinkError> {
    let count = tokio::select! {
        biased;
        count = read => count.map_err(|e| lost(&e))?,
        () = patience.as_mut() => {
            return Err(LinkError::Lost { why: format!("nothing was heard for {} s", silence.as_secs()) });
        }
    };
    patience.as_mut().reset(Instant::now() + silence);
    Ok(count)
}

fn protocol(error: CodecError) -> LinkError {
    LinkError::Protocol { why: error.to_string() }
}

fn cut() -> LinkError {
    LinkError::Lost { why: "it ended in the middle of a message".into() }
}
