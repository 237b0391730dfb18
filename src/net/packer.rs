//! Packed frames: messages as one stream of zstd, cut into pieces. [`super::packing`] says when.
//!
//! ```text
//! PACKED   u32 LENGTH | u8 255 | u32 RAW_LENGTH | zstd
//! ```
//!
//! What the pieces are when they are unpacked, one behind the other, are whole frames; a message may go over several
//! pieces, which then follow one another. The stream goes on over all of a connection, so that what is alike far apart is
//! found; a piece is flushed, so that nothing waits for the next one. zstd's own frames may end and begin where a piece
//! begins.
//!
//! Always holds: a piece says how long it is when unpacked, at most [`PACKED_RAW_BYTES_MAX`], and is refused if it is not
//! so; the window is bounded ([`WINDOW_LOG`]), whatever the peer asks for.

use std::io;

use zstd::stream::raw::{CParameter, DParameter, Decoder, Encoder, InBuffer, Operation as _, OutBuffer};

use super::frame::{CodecError, FRAME_HEAD_BYTES};
use crate::backup::limits::{PACKED_BYTES_MAX, PACKED_RAW_BYTES_MAX};

/// The kind of a packed frame.
pub const PACKED_KIND: u8 = 255;
/// Bytes of RAW_LENGTH.
const RAW_LENGTH_BYTES: usize = 4;
/// 4 MiB of what was sent are looked back at.
const WINDOW_LOG: u32 = 22;

/// One direction's stream, the sender's side: some 11 MiB.
pub struct Packer {
    encoder: Encoder<'static>,
    level: i32,
    /// The level that the encoder is at.
    begun: Option<i32>,
}

impl Packer {
    /// At this level of zstd.
    ///
    /// # Errors
    /// zstd's: no memory.
    pub fn new(level: i32) -> io::Result<Self> {
        let mut encoder = Encoder::new(level)?;
        encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
        encoder.set_parameter(CParameter::ContentSizeFlag(false))?;
        Ok(Self { encoder, level, begun: None })
    }

    /// From the next piece on.
    pub fn set_level(&mut self, level: i32) {
        self.level = level;
    }

    /// Appends to `out` the packed frame of `raw`, which has at most [`PACKED_RAW_BYTES_MAX`] bytes and at least one.
    ///
    /// # Errors
    /// zstd's: no memory.
    pub fn pack(&mut self, raw: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        debug_assert!((1..=PACKED_RAW_BYTES_MAX).contains(&raw.len()), "pieces of {} bytes", raw.len());
        let too_long = |_| io::Error::other("a packed frame that is too long");
        let at = out.len();
        out.extend_from_slice(&[0; FRAME_HEAD_BYTES]);
        out.extend_from_slice(&u32::try_from(raw.len()).map_err(too_long)?.to_le_bytes());
        if self.begun.is_some_and(|level| level != self.level) {
            self.put(out, |encoder, to| encoder.finish(to, true))?;
            self.begun = None;
        }
        if self.begun.is_none() {
            self.encoder.reinit()?;
            self.encoder.set_parameter(CParameter::CompressionLevel(self.level))?;
            self.begun = Some(self.level);
        }
        let mut from = InBuffer::around(raw);
        while from.pos() < raw.len() {
            out.reserve(zstd::zstd_safe::compress_bound(raw.len() - from.pos()) + 64);
            let pos = out.len();
            self.encoder.run(&mut from, &mut OutBuffer::around_pos(out, pos))?;
        }
        self.put(out, Encoder::flush)?;
        let length = u32::try_from(out.len() - at - 4).map_err(too_long)?;
        let mut head = [0; FRAME_HEAD_BYTES];
        head[..4].copy_from_slice(&length.to_le_bytes());
        head[4] = PACKED_KIND;
        out[at..at + FRAME_HEAD_BYTES].copy_from_slice(&head);
        Ok(())
    }

    /// Repeats what leaves bytes behind until none are left.
    fn put(
        &mut self,
        out: &mut Vec<u8>,
        mut step: impl FnMut(&mut Encoder<'static>, &mut OutBuffer<'_, Vec<u8>>) -> io::Result<usize>,
    ) -> io::Result<()> {
        loop {
            out.reserve(1024);
            let pos = out.len();
            if step(&mut self.encoder, &mut OutBuffer::around_pos(out, pos))? == 0 {
                return Ok(());
            }
        }
    }
}

/// The receiver's side.
pub struct Unpacker(Decoder<'static>);

impl Unpacker {
    /// Nothing was unpacked yet.
    ///
    /// # Errors
    /// zstd's: no memory.
    pub fn new() -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG))?;
        Ok(Self(decoder))
    }

    /// How long the body of a packed frame is whose first bytes these are.
    ///
    /// # Errors
    /// It is too long, or none.
    pub fn body_bytes(head: [u8; FRAME_HEAD_BYTES]) -> Result<usize, CodecError> {
        let [a, b, c, d, kind] = head;
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        match length.checked_sub(1) {
            Some(found) if found > PACKED_BYTES_MAX => Err(CodecError::TooLong { kind, found, max: PACKED_BYTES_MAX }),
            Some(found) if found > RAW_LENGTH_BYTES => Ok(found),
            _ => Err(CodecError::Length { kind }),
        }
    }

    /// Puts what a packed frame's body holds into `raw`, in place of what was there.
    ///
    /// # Errors
    /// It is not zstd, or not as long as it says.
    pub fn unpack(&mut self, body: &[u8], raw: &mut Vec<u8>) -> Result<(), CodecError> {
        let kind = PACKED_KIND;
        let (length, packed) = body.split_first_chunk().ok_or(CodecError::Length { kind })?;
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > PACKED_RAW_BYTES_MAX {
            return Err(CodecError::TooLong { kind, found: length, max: PACKED_RAW_BYTES_MAX });
        }
        // One byte more than there may be: what is longer shows itself.
        raw.clear();
        raw.resize(length + 1, 0);
        let (mut from, mut filled) = (InBuffer::around(packed), 0);
        loop {
            let before = (from.pos(), filled);
            let mut to = OutBuffer::around_pos(raw.as_mut_slice(), filled);
            self.0.run(&mut from, &mut to).map_err(|e| CodecError::Damaged { why: e.to_string() })?;
            filled = to.pos();
            if filled > length || (from.pos(), filled) == before {
                break;
            }
        }
        if filled != length || length == 0 || from.pos() != packed.len() {
            return Err(CodecError::Length { kind });
        }
        raw.truncate(length);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(unpacker: &mut Unpacker, frame: &[u8]) -> Result<Vec<u8>, CodecError> {
        let (head, body) = frame.split_first_chunk().unwrap();
        assert_eq!(Unpacker::body_bytes(*head)?, body.len());
        let mut raw = b"what was there".to_vec();
        unpacker.unpack(body, &mut raw)?;
        Ok(raw)
    }

    fn noise(len: usize, seed: u32) -> Vec<u8> {
        let mut state = seed;
        let mut byte = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..len).map(|_| byte()).collect()
    }

    #[test]
    fn what_was_packed_comes_out_whatever_it_is() {
        let (mut packer, mut unpacker) = (Packer::new(3).unwrap(), Unpacker::new().unwrap());
        let pieces =
            [vec![7], noise(PACKED_RAW_BYTES_MAX, 1), vec![0; PACKED_RAW_BYTES_MAX], noise(70_000, 2), b"end".to_vec()];
        for (i, piece) in pieces.iter().cycle().take(20).enumerate() {
            packer.set_level([6, 6, 3, 1][i % 4]);
            let mut frame = Vec::new();
            packer.pack(piece, &mut frame).unwrap();
            assert_eq!(unpacked(&mut unpacker, &frame).as_ref(), Ok(piece), "piece {i}");
        }
    }

    #[test]
    fn what_came_long_ago_is_found_again() {
        let (mut packer, text) = (Packer::new(6).unwrap(), noise(100_000, 3));
        let mut pack = |raw: &[u8]| {
            let mut frame = Vec::new();
            packer.pack(raw, &mut frame).unwrap();
            frame.len()
        };
        assert!(pack(&text) > 99_000);
        for seed in 10..20 {
            pack(&noise(PACKED_RAW_BYTES_MAX, seed));
        }
        assert!(pack(&text) < 1_000);
    }

    #[test]
    fn a_piece_that_is_not_as_long_as_it_says_is_refused() {
        let mut frame = Vec::new();
        Packer::new(1).unwrap().pack(&[5; 1000], &mut frame).unwrap();
        for said in [0_u32, 1, 999, 1001, PACKED_RAW_BYTES_MAX as u32 + 1, u32::MAX] {
            let mut lie = frame.clone();
            lie[5..9].copy_from_slice(&said.to_le_bytes());
            assert!(unpacked(&mut Unpacker::new().unwrap(), &lie).is_err(), "{said}");
        }
        let head = |length: u32| {
            let [a, b, c, d] = length.to_le_bytes();
            Unpacker::body_bytes([a, b, c, d, PACKED_KIND])
        };
        for length in [0, 1, 5, PACKED_BYTES_MAX as u32 + 2, u32::MAX] {
            assert!(head(length).is_err(), "{length}");
        }
        assert_eq!(head(6), Ok(5));
    }

    #[test]
    fn bytes_that_are_no_zstd_and_a_huge_window_are_refused() {
        let body = |packed: &[u8]| [&100_u32.to_le_bytes()[..], packed].concat();
        let unpack = |packed: &[u8]| Unpacker::new().unwrap().unpack(&body(packed), &mut Vec::new());
        assert!(matches!(unpack(b"no zstd at all"), Err(CodecError::Damaged { .. })));
        let mut wide = Encoder::new(1).unwrap();
        wide.set_parameter(CParameter::WindowLog(WINDOW_LOG + 1)).unwrap();
        let mut packed = Vec::with_capacity(1024);
        wide.run(&mut InBuffer::around(&[1; 100]), &mut OutBuffer::around(&mut packed)).unwrap();
        let pos = packed.len();
        wide.flush(&mut OutBuffer::around_pos(&mut packed, pos)).unwrap();
        assert!(matches!(unpack(&packed), Err(CodecError::Damaged { .. })));
    }
}
