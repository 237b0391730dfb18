//! Frames as a peer sends them: any bytes. What is understood is understood again when it is sent on, in no more bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbbackup::backup::limits::{BULK_FRAME_BYTES_MAX, HANDSHAKE_FRAME_BYTES_MAX};
use rbbackup::net::frame::{FRAME_HEAD_BYTES, Frame, FrameHead, KEEPALIVE_FRAME, decode_frame};

fuzz_target!(|data: &[u8]| {
    if let Some(head) = data.first_chunk::<FRAME_HEAD_BYTES>() {
        for max in [HANDSHAKE_FRAME_BYTES_MAX, BULK_FRAME_BYTES_MAX] {
            if let Ok(head) = FrameHead::parse(*head, max) {
                assert!(head.body_bytes <= max, "{} bytes were let in", head.body_bytes);
            }
        }
    }
    let mut rest = data;
    while let Ok(Some((message, used))) = decode_frame(rest) {
        let (frame, next) = rest.split_at(used);
        match message {
            None => assert_eq!(frame, KEEPALIVE_FRAME),
            Some(message) => {
                let again = Frame::encode(message.clone()).expect("what came in a frame fits one").into_bytes();
                assert!(again.len() <= frame.len(), "{} became longer", message.name());
                assert_eq!(decode_frame(&again), Ok(Some((Some(message), again.len()))));
                // What is cut anywhere is not complete, and never something else.
                for cut in [1, FRAME_HEAD_BYTES, again.len() - 1].into_iter().filter(|cut| *cut < again.len()) {
                    assert_eq!(decode_frame(&again[..cut]), Ok(None));
                }
            }
        }
        rest = next;
    }
});
