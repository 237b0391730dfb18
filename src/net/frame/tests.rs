//! Tests of frames.

use proptest::prelude::*;

use super::*;
use crate::backup::bytes::Bytes;
use crate::backup::digest::Digest;
use crate::net::message::{Busy, Chunks, Files, Offer, RefusalKind, Refused, WireEntry, WireKind};

fn round_trip(message: Message) {
    let bytes = Frame::encode(message.clone()).unwrap().into_bytes();
    let decoded = decode_frame(&bytes);
    // Not assert_eq: a failure would print megabytes.
    assert!(decoded == Ok(Some((Some(message), bytes.len()))), "{:?}", decoded.err());
    for cut in [0, 1, 4, bytes.len() / 2, bytes.len() - 1] {
        assert_eq!(decode_frame(&bytes[..cut]), Ok(None), "cut at {cut}");
    }
}

fn entry(path: usize) -> WireEntry {
    let kind =
        WireKind::File { size: u64::MAX, digest: Digest([255; 32]), class: 0, flags: 0, leader: Bytes::default() };
    let path = Bytes(vec![b'x'; path]);
    WireEntry { path, mode: u32::MAX, uid: 0, gid: 0, mtime_secs: -1, mtime_nanos: 0, xattrs: vec![], kind }
}

#[test]
fn messages_come_back() {
    round_trip(Busy { phase: 3 }.into());
    round_trip(Offer { batch: 7, digests: vec![Digest([200; 32]); 1024] }.into());
    round_trip(Message::Chunks(Chunks { file: 1, lens: vec![3, 4] }, b"abcdefg".to_vec()));
    round_trip(Message::Files(Files { entries: vec![entry(4096); 200] }, vec![7; 3 << 20]));
}

#[test]
fn a_full_frame_is_taken_and_a_fuller_one_is_not_made() {
    // One byte of kind, five of length: what is left is the text.
    let refused = |len| Refused { kind: RefusalKind::Failed, message: Bytes(vec![9; len]) };
    round_trip(refused(CONTROL_FRAME_BYTES_MAX - 6).into());
    let long = Frame::encode(refused(CONTROL_FRAME_BYTES_MAX - 5).into());
    assert!(matches!(long, Err(CodecError::TooLong { kind: 4, .. })), "{long:?}");

    let chunks = |len| Message::Chunks(Chunks { file: 1, lens: vec![] }, vec![1; len]);
    round_trip(chunks(BULK_FRAME_BYTES_MAX - BULK_HEAD_BYTES - 2));
    assert!(Frame::encode(chunks(BULK_FRAME_BYTES_MAX - BULK_HEAD_BYTES - 1)).is_err());
}

#[test]
fn a_frame_full_of_short_values_is_taken() {
    // bincode's own limit counts an integer as wide as its type.
    let lens = vec![1; CONTROL_FRAME_BYTES_MAX - 6];
    round_trip(Message::Chunks(Chunks { file: 1, lens }, vec![]));
}

#[test]
fn a_payload_is_moved_not_copied() {
    let payload = vec![5; 1 << 20];
    let place = payload.as_ptr();
    let frame = Frame::encode(Message::Chunks(Chunks { file: 1, lens: vec![1 << 20] }, payload)).unwrap();
    assert_eq!(frame.payload.as_ptr(), place);
}

#[test]
fn a_length_is_checked_before_the_body_is_there() {
    let head = |length: u32, kind| {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.push(kind);
        decode_frame(&bytes)
    };
    assert!(matches!(head(0, 1), Err(CodecError::Length { .. })));
    assert!(matches!(head(u32::MAX, 1), Err(CodecError::TooLong { .. })));
    assert!(matches!(head(u32::MAX, 64), Err(CodecError::TooLong { .. })));
    assert!(matches!(head(CONTROL_FRAME_BYTES_MAX as u32 + 2, 5), Err(CodecError::TooLong { .. })));
    assert!(matches!(head(2, KEEPALIVE_KIND), Err(CodecError::TooLong { .. })));
    assert!(matches!(head(4, 64), Err(CodecError::Length { .. })));
    assert_eq!(head(1, 200), Err(CodecError::UnknownKind { kind: 200 }));
    assert_eq!(decode_frame(&KEEPALIVE_FRAME), Ok(Some((None, FRAME_HEAD_BYTES))));
    let limited = FrameHead::parse([101, 0, 0, 0, 1], 99);
    assert_eq!(limited, Err(CodecError::TooLong { kind: 1, found: 100, max: 99 }));
}

#[test]
fn a_bulk_head_stays_within_its_frame() {
    let bytes = [9, 0, 0, 0, 64, 5, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(decode_frame(&bytes), Err(CodecError::Length { kind: 64 }));
    let bytes = [9, 0, 0, 0, 64, 255, 255, 255, 255, 0, 0, 0, 0];
    assert!(matches!(decode_frame(&bytes), Err(CodecError::TooLong { kind: 64, .. })));
}

#[test]
fn trailing_bytes_are_an_error() {
    assert_eq!(decode_frame(&[3, 0, 0, 0, 5, 1, 1]), Err(CodecError::Trailing { count: 1 }));
}

#[test]
fn a_count_that_lies_costs_no_memory() {
    // Offer, batch 0, 2^63 digests, none there.
    let mut body = vec![0, 253];
    body.extend_from_slice(&(1u64 << 63).to_le_bytes());
    assert!(matches!(decode_body::<Offer>(&body), Err(CodecError::Damaged { .. })));
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode_frame(&bytes);
    }

    #[test]
    fn any_body_of_any_kind_is_survived(kind in 0..70u8, body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = (body.len() as u32 + 1).to_le_bytes().to_vec();
        bytes.push(kind);
        bytes.extend_from_slice(&body);
        if let Ok(Some((Some(message), used))) = decode_frame(&bytes) {
            prop_assert_eq!(used, bytes.len());
            // What was understood can be said again and means the same. (Short forms are not forced: bytes may differ.)
            let again = Frame::encode(message.clone()).unwrap().into_bytes();
            prop_assert_eq!(decode_frame(&again).unwrap().unwrap().0, Some(message));
        }
    }
}
