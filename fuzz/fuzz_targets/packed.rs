//! Packed frames: `which u8 | pieces`. Even: what is packed comes out, at whatever level. Odd: each piece is a peer's packed
//! body; what comes out is as long as it says, and never longer than it may be.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbbackup::backup::limits::PACKED_RAW_BYTES_MAX;
use rbbackup::net::frame::FRAME_HEAD_BYTES;
use rbbackup::net::fuzzing::{Packer, Unpacker};
use rbbackup_fuzz::take_piece;

fuzz_target!(|data: &[u8]| {
    let Some((which, mut rest)) = data.split_first() else { return };
    let (mut unpacker, mut raw) = (Unpacker::new().expect("memory"), Vec::new());
    let mut packer = (which % 2 == 0).then(|| Packer::new(1).expect("memory"));
    while !rest.is_empty() {
        let (piece, after) = take_piece(rest);
        rest = after;
        if let Some(packer) = packer.as_mut().filter(|_| !piece.is_empty()) {
            packer.set_level([1, 3, 6][piece.len() % 3]);
            let mut frame = Vec::new();
            packer.pack(piece, &mut frame).expect("memory");
            let (head, body) = frame.split_first_chunk::<FRAME_HEAD_BYTES>().expect("a head");
            assert_eq!(Unpacker::body_bytes(*head), Ok(body.len()));
            unpacker.unpack(body, &mut raw).expect("what was packed");
            assert_eq!(raw, piece);
        } else if unpacker.unpack(piece, &mut raw).is_ok() {
            assert!((1..=PACKED_RAW_BYTES_MAX).contains(&raw.len()));
            assert_eq!(raw.len().to_le_bytes()[..4], piece[..4]);
        }
    }
});
