//! The writer: frames from the outbox to the stream, gathered, and packed where the link is slow.

use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::time::timeout;

use super::{GATHER_BYTES, Role, Timing, WELCOME_KIND, Welcomed, lost};
use crate::backup::limits::PACKED_RAW_BYTES_MAX;
use crate::net::frame::{Frame, KEEPALIVE_FRAME};
use crate::net::link::{LinkError, Plumbing};
use crate::net::packer::Packer;
use crate::net::packing::Gauge;

/// Writes until the outbox ends, then says goodbye.
pub(super) async fn write_loop<S: AsyncRead + AsyncWrite>(
    writer: &mut WriteHalf<S>,
    plumbing: &Plumbing,
    role: Role,
    timing: Timing,
    welcomed: &Welcomed<'_>,
) -> Result<(), LinkError> {
    let outbox = &plumbing.outbox;
    let gauge = Gauge::new(plumbing.packing.clone());
    let mut out = Outgoing {
        writer,
        gathered: Vec::new(),
        stall: timing.stall,
        gauge,
        packs: false,
        packer: None,
        packed: Vec::new(),
    };
    loop {
        let next = match outbox.try_pop() {
            Ok(None) => {
                out.flush().await?;
                outbox.pop_async(timing.keepalive).await
            }
            next => next,
        };
        match next {
            Ok(Some(frame)) => {
                if role == Role::Daemon && frame.kind == WELCOME_KIND {
                    welcomed.say();
                    out.plain(frame).await?;
                    plumbing.packing.begin();
                } else if welcomed.is_said() {
                    out.frame(frame).await?;
                } else {
                    out.plain(frame).await?;
                    welcomed.asked();
                }
            }
            Ok(None) => out.gathered.extend_from_slice(&KEEPALIVE_FRAME),
            Err(_) => break,
        }
    }
    out.flush().await?;
    let stall = out.stall;
    unless_stalled(stall, writer.shutdown()).await
}

struct Outgoing<'a, S> {
    writer: &'a mut WriteHalf<S>,
    /// What is not written yet: as it will be written, or, while packing, as it will be packed.
    gathered: Vec<u8>,
    stall: Duration,
    gauge: Gauge,
    packs: bool,
    /// From the first time on: its stream goes on where it was left.
    packer: Option<Packer>,
    /// Its last frame.
    packed: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite> Outgoing<'_, S> {
    async fn frame(&mut self, frame: Frame) -> Result<(), LinkError> {
        let level = self.gauge.level();
        self.turn(level).await?;
        if !self.packs {
            return self.plain(frame).await;
        }
        for mut part in [&frame.head[..], &frame.payload[..]] {
            while !part.is_empty() {
                let room = PACKED_RAW_BYTES_MAX - self.gathered.len();
                let (now, after) = part.split_at(room.min(part.len()));
                self.gathered.extend_from_slice(now);
                part = after;
                if self.gathered.len() == PACKED_RAW_BYTES_MAX {
                    self.write_gathered().await?;
                }
            }
        }
        Ok(())
    }

    /// Begins to pack, goes on at another level, or stops.
    async fn turn(&mut self, level: Option<i32>) -> Result<(), LinkError> {
        if level.is_some() != self.packs {
            self.write_gathered().await?;
            self.packs = level.is_some();
        }
        match (level, &mut self.packer) {
            (None, _) => {}
            (Some(level), Some(packer)) => packer.set_level(level),
            (Some(level), none) => *none = Some(Packer::new(level).map_err(|e| lost(&e))?),
        }
        Ok(())
    }

    async fn plain(&mut self, frame: Frame) -> Result<(), LinkError> {
        self.gathered.extend_from_slice(&frame.head);
        if frame.payload.len() < GATHER_BYTES {
            self.gathered.extend_from_slice(&frame.payload);
            if self.gathered.len() >= GATHER_BYTES {
                self.write_gathered().await?;
            }
            return Ok(());
        }
        self.write_gathered().await?;
        self.write_timed(&frame.payload, frame.payload.len(), Duration::ZERO).await
    }

    async fn write_gathered(&mut self) -> Result<(), LinkError> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let mut gathered = std::mem::take(&mut self.gathered);
        if let Some(packer) = self.packer.as_mut().filter(|_| self.packs) {
            let began = Instant::now();
            let mut packed = std::mem::take(&mut self.packed);
            packed.clear();
            packer.pack(&gathered, &mut packed).map_err(|e| lost(&e))?;
            self.write_timed(&packed, gathered.len(), began.elapsed()).await?;
            self.packed = packed;
        } else {
            self.write_timed(&gathered, gathered.len(), Duration::ZERO).await?;
        }
        gathered.clear();
        gathered.shrink_to(2 * GATHER_BYTES);
        self.gathered = gathered;
        Ok(())
    }

    /// Writes `bytes`, which are `raw` bytes packed by work of `worked`.
    async fn write_timed(&mut self, bytes: &[u8], raw: usize, worked: Duration) -> Result<(), LinkError> {
        let began = Instant::now();
        self.write(bytes).await?;
        self.gauge.sent(raw, bytes.len(), worked, began.elapsed());
        Ok(())
    }

    async fn write(&mut self, mut bytes: &[u8]) -> Result<(), LinkError> {
        while !bytes.is_empty() {
            // One deadline a piece: progress is what counts, not the whole.
            let piece = bytes.get(..4 * GATHER_BYTES).unwrap_or(bytes);
            unless_stalled(self.stall, self.writer.write_all(piece)).await?;
            bytes = bytes.get(piece.len()..).unwrap_or_default();
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), LinkError> {
        self.write_gathered().await?;
        unless_stalled(self.stall, self.writer.flush()).await
    }
}

async fn unless_stalled(stall: Duration, write: impl Future<Output = io::Result<()>>) -> Result<(), LinkError> {
    match timeout(stall, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(lost(&error)),
        Err(_) => Err(LinkError::Lost { why: format!("the other side took nothing for {} s", stall.as_secs()) }),
    }
}
