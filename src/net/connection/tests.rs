//! Tests of the pumps.

use std::sync::mpsc;
use std::time::Instant as Clock;

use tokio::io::AsyncWriteExt;

use super::*;
use crate::backup::bytes::Bytes;
use crate::backup::limits::{CONTROL_FRAME_BYTES_MAX, HANDSHAKE_FRAME_BYTES_MAX, LINK_QUEUE_MAX, PACKED_RAW_BYTES_MAX};
use crate::net::frame::Frame;
use crate::net::message::{Busy, Chunks, Message, RefusalKind, Refused};
use crate::net::packer::Packer;
use crate::net::packing::Compress;
use crate::net::runtime;
use crate::net::testing::{ClientStream, QUICK, Virtual, links, raw_client, welcome, welcomed_links};

const MIB: usize = 1 << 20;

fn chunks(file: u32, bytes: usize) -> Message {
    Message::Chunks(Chunks { file, lens: vec![bytes as u32] }, vec![file as u8; bytes])
}

fn say(client: &mut ClientStream, bytes: &[u8]) {
    runtime::handle().unwrap().block_on(async {
        client.write_all(bytes).await.unwrap();
        client.flush().await.unwrap();
    });
}

fn encoded(message: impl Into<Message>) -> Vec<u8> {
    Frame::encode(message.into()).unwrap().into_bytes()
}

/// What the daemon's link says after a client said `bytes`, before it was welcome.
fn heard(bytes: &[u8]) -> Result<Message, LinkError> {
    let (mut client, mut link, _) = raw_client(Timing::default());
    say(&mut client, bytes);
    link.recv()
}

#[test]
fn messages_travel_both_ways_and_are_counted() {
    let (mut client, mut daemon) = links(Timing::default());
    client.send(Busy { phase: 1 }).unwrap();
    assert_eq!(daemon.recv(), Ok(Busy { phase: 1 }.into()));
    daemon.send(welcome()).unwrap();
    assert_eq!(client.recv(), Ok(welcome()));
    for size in [0, 1, 70_000, MIB, 8 * MIB - 100] {
        client.send(chunks(size as u32, size)).unwrap();
        assert!(daemon.recv() == Ok(chunks(size as u32, size)), "{size} bytes");
        daemon.send(chunks(size as u32, size)).unwrap();
        assert!(client.recv() == Ok(chunks(size as u32, size)), "{size} bytes back");
    }
}

#[test]
fn what_was_queued_arrives_before_the_close() {
    let (client, mut daemon) = welcomed_links(Timing::default());
    let receiving = std::thread::spawn(move || {
        let all: Vec<_> = std::iter::from_fn(|| daemon.recv().ok()).collect();
        (all, daemon.recv())
    });
    for file in 0..20 {
        client.send(chunks(file, MIB)).unwrap();
    }
    client.sender.close();
    assert_eq!(client.send(Busy { phase: 0 }), Err(LinkError::Closed));
    let (all, end) = receiving.join().unwrap();
    assert!(all == (0..20).map(|file| chunks(file, MIB)).collect::<Vec<_>>());
    assert_eq!(end, Err(LinkError::Closed));
}

#[test]
fn a_refusal_reaches_a_client_that_is_pouring() {
    let (mut client, daemon) = welcomed_links(Timing::default());
    let sender = client.sender.clone();
    let (begun, begin) = mpsc::channel();
    let pouring = std::thread::spawn(move || {
        for file in 0.. {
            if let Err(error) = sender.send(chunks(file, MIB)) {
                return error;
            }
            let _ = begun.send(());
        }
        unreachable!()
    });
    for _ in 0..LINK_QUEUE_MAX + 2 {
        begin.recv().unwrap();
    }
    let refused = Refused { kind: RefusalKind::NoSpace, message: Bytes(b"full".to_vec()) };
    daemon.send(refused.clone()).unwrap();
    drop(daemon);
    assert_eq!(client.recv(), Ok(refused.into()));
    assert_eq!(client.recv(), Err(LinkError::Closed));
    assert_eq!(pouring.join().unwrap(), LinkError::Closed);
}

#[test]
fn garbage_is_a_broken_protocol() {
    let garbage: Vec<u8> = (0..1000u32).map(|i| (i * 7919 % 251) as u8).collect();
    for bytes in [&garbage[..], b"GET / HTTP/1.1\r\n\r\n", &[0, 0, 0, 0, 0], &[3, 0, 0, 0, 5, 1, 1]] {
        let end = heard(bytes);
        assert!(matches!(end, Err(LinkError::Protocol { .. })), "{end:?}");
    }
}

#[test]
fn a_huge_length_is_refused_at_once() {
    for (length, kind) in [(u32::MAX, 1), (u32::MAX, 64), (CONTROL_FRAME_BYTES_MAX as u32 + 2, 5)] {
        let bytes = [&length.to_le_bytes()[..], &[kind]].concat();
        assert!(matches!(heard(&bytes), Err(LinkError::Protocol { .. })));
    }
}

#[test]
fn a_stranger_gets_no_more_than_the_handshake_takes() {
    let long = Refused { kind: RefusalKind::Failed, message: Bytes(vec![1; HANDSHAKE_FRAME_BYTES_MAX]) };
    assert!(matches!(heard(&encoded(long.clone())), Err(LinkError::Protocol { .. })));

    // Many short ones, and calling oneself welcome, do not help.
    let (mut client, mut link, _) = raw_client(Timing::default());
    let half = Refused { kind: RefusalKind::Failed, message: Bytes(vec![1; HANDSHAKE_FRAME_BYTES_MAX / 2]) };
    say(&mut client, &[encoded(welcome()), encoded(half.clone()), encoded(half.clone())].concat());
    assert_eq!(link.recv(), Ok(welcome()));
    assert!(link.recv() == Ok(half.into()));
    assert!(matches!(link.recv(), Err(LinkError::Protocol { .. })));

    let (client, mut daemon) = welcomed_links(Timing::default());
    client.send(long.clone()).unwrap();
    assert!(daemon.recv() == Ok(long.into()), "the limit stays after the welcome");
}

#[test]
fn a_cut_is_told_from_a_goodbye() {
    let busy = encoded(Busy { phase: 1 });
    for (cut_at, goodbye) in [(busy.len(), false), (3, false), (3, true), (0, false)] {
        let (mut client, mut link, _) = raw_client(Timing::default());
        say(&mut client, &[&busy[..], &busy[..cut_at]].concat());
        if goodbye {
            runtime::handle().unwrap().block_on(client.shutdown()).unwrap();
        }
        drop(client);
        assert_eq!(link.recv(), Ok(Busy { phase: 1 }.into()));
        let end = (0..2).map(|_| link.recv()).find(Result::is_err);
        assert!(matches!(end, Some(Err(LinkError::Lost { .. }))), "cut at {cut_at}: {end:?}");
        assert!(matches!(link.send(Busy { phase: 2 }), Err(LinkError::Lost { .. })));
    }
    let (mut client, mut link, _) = raw_client(Timing::default());
    runtime::handle().unwrap().block_on(client.shutdown()).unwrap();
    assert_eq!(link.recv(), Err(LinkError::Closed));
}

#[test]
fn silence_is_a_dead_peer() {
    // Before the link is there: on a busy machine this thread may come back to it late.
    let start = Clock::now();
    let (_client, mut link, _) = raw_client(QUICK);
    assert!(matches!(link.recv(), Err(LinkError::Lost { .. })));
    assert!(start.elapsed() >= QUICK.silence);
    assert!(matches!(link.send(Busy { phase: 0 }), Err(LinkError::Lost { .. })));
}

#[test]
fn keepalives_are_no_silence_and_no_message() {
    let (time, mut client, mut daemon) = Virtual::welcomed_links(QUICK);
    time.wait(10 * QUICK.silence);
    assert_eq!(daemon.recv_timeout(Duration::ZERO), Ok(None));
    assert_eq!(client.recv_timeout(Duration::ZERO), Ok(None));
}

#[test]
fn a_full_inbox_slows_the_sender_and_is_no_silence() {
    let (time, client, mut daemon) = Virtual::welcomed_links(QUICK);
    let count = 100;
    let (sent, sending) = mpsc::channel();
    let sender = std::thread::spawn(move || {
        for file in 0..count {
            client.send(chunks(file, MIB)).unwrap();
            sent.send(()).unwrap();
        }
        client
    });
    // Nobody receives: when both queues are full it must come to a halt, for longer than a silence may last.
    for _ in 0..2 * LINK_QUEUE_MAX {
        sending.recv().unwrap();
    }
    time.wait(10 * QUICK.silence);
    // Beyond the queues: a frame in each loop, one on its way through the pipe.
    let beyond = sending.try_iter().count();
    assert!(beyond <= 3, "{beyond} MiB were taken from the sender beyond the queues");
    for file in 0..count {
        assert!(daemon.recv() == Ok(chunks(file, MIB)), "message {file}");
    }
    drop(sender.join().unwrap());
    assert_eq!(daemon.recv(), Err(LinkError::Closed));
}

#[test]
fn a_peer_that_takes_nothing_is_given_up() {
    let timing = Timing { stall: Duration::from_millis(300), silence: Duration::from_secs(60), ..QUICK };
    let (_client, link, _) = raw_client(timing);
    link.send(welcome()).unwrap();
    let error = (0..).find_map(|file| link.send(chunks(file, MIB)).err()).unwrap();
    assert!(matches!(error, LinkError::Lost { .. }), "{error:?}");
}

#[test]
fn a_dropped_link_ends_its_task_though_the_peer_stays() {
    let (_client, link, task) = raw_client(QUICK);
    drop(link);
    // The peer never says goodbye: the task waits for it, and not for ever.
    runtime::handle().unwrap().block_on(async { timeout(Duration::from_secs(10), task).await.unwrap().unwrap() });
}

#[test]
fn the_end_of_the_runtime_leaves_nobody_waiting() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (stream, _peer) = tokio::io::duplex(64);
    let (mut link, _) = {
        let _guard = runtime.enter();
        spawn(stream, Role::Client, Timing::default(), std::sync::Arc::default())
    };
    let waiting = std::thread::spawn(move || link.recv());
    runtime.shutdown_background();
    assert!(matches!(waiting.join().unwrap(), Err(LinkError::Lost { .. })));
}

/// `cargo test --release --lib net::connection -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn throughput() {
    let (client, mut daemon) = welcomed_links(Timing::default());
    let count = 4096;
    let receiving = std::thread::spawn(move || {
        let mut bytes = 0;
        while let Ok(Message::Chunks(_, payload)) = daemon.recv() {
            bytes += payload.len();
        }
        bytes
    });
    let start = Clock::now();
    for file in 0..count {
        client.send(chunks(file, MIB)).unwrap();
    }
    client.sender.close();
    let bytes = receiving.join().unwrap();
    assert_eq!(bytes, count as usize * MIB);
    println!("{:.2} GB/s", bytes as f64 / start.elapsed().as_secs_f64() / 1e9);
}

#[test]
fn packed_messages_arrive_as_they_were_and_take_fewer_bytes() {
    let (mut client, mut daemon) = welcomed_links(Timing::default());
    let plain_before = client.counters().sent();
    client.send(chunks(1, MIB)).unwrap();
    assert!(daemon.recv() == Ok(chunks(1, MIB)));
    let plain = client.counters().sent() - plain_before;
    assert!(plain > MIB as u64);

    client.sender.set_compress(Compress::Always);
    assert!(client.sender.is_slow() && !daemon.sender.is_slow());
    for round in 0..3 {
        for size in [0, 1, 70_000, PACKED_RAW_BYTES_MAX, MIB, 8 * MIB - 100] {
            client.send(chunks(round, size)).unwrap();
            client.send(Busy { phase: 3 }).unwrap();
            assert!(daemon.recv() == Ok(chunks(round, size)), "{size} bytes");
            assert_eq!(daemon.recv(), Ok(Busy { phase: 3 }.into()));
        }
        // Between, as they are.
        client.sender.set_compress(if round == 1 { Compress::Never } else { Compress::Always });
    }
    let packed = client.counters().sent() - plain - plain_before;
    assert!(packed < 10 * MIB as u64, "18 MiB without and 18 MiB with packing: {packed}");

    assert!(daemon.sender.is_slow(), "it packs for a client that does");
    let before = client.counters().received();
    daemon.send(chunks(7, MIB)).unwrap();
    assert!(client.recv() == Ok(chunks(7, MIB)));
    assert!(client.counters().received() - before < MIB as u64 / 100);
}

#[test]
fn a_packed_link_closes_in_order_and_stays_alive() {
    let (time, client, mut daemon) = Virtual::welcomed_links(QUICK);
    client.sender.set_compress(Compress::Always);
    client.send(chunks(1, MIB)).unwrap();
    assert!(daemon.recv() == Ok(chunks(1, MIB)));
    time.wait(3 * QUICK.silence);
    assert_eq!(daemon.recv_timeout(Duration::ZERO), Ok(None), "keepalives come packed too");
    client.send(chunks(2, MIB)).unwrap();
    client.sender.close();
    assert!(daemon.recv() == Ok(chunks(2, MIB)));
    assert_eq!(daemon.recv(), Err(LinkError::Closed));
}

#[test]
fn packed_frames_that_break_the_rules_are_refused() {
    let pack = |parts: &[&[u8]]| {
        let (mut packer, mut bytes) = (Packer::new(1).unwrap(), Vec::new());
        parts.iter().for_each(|part| packer.pack(part, &mut bytes).unwrap());
        bytes
    };
    let (busy, long) = (encoded(Busy { phase: 1 }), encoded(chunks(1, 5000)));
    let heard_after_welcome = |bytes: &[u8]| {
        let (mut client, mut link, _) = raw_client(Timing::default());
        link.send(welcome()).unwrap();
        say(&mut client, &busy);
        assert_eq!(link.recv(), Ok(Busy { phase: 1 }.into()));
        say(&mut client, bytes);
        let end = link.recv();
        drop(client);
        end
    };
    assert!(matches!(heard(&pack(&[&busy])), Err(LinkError::Protocol { .. })), "who is not welcome packs nothing");
    assert_eq!(heard_after_welcome(&pack(&[&busy])), Ok(Busy { phase: 1 }.into()));
    assert!(heard_after_welcome(&pack(&[&long[..9], &long[9..]])) == Ok(chunks(1, 5000)));
    for (what, bytes) in [
        ("packed in packed", pack(&[&pack(&[&busy])])),
        ("half of a message, then one that is not packed", [pack(&[&long[..100]]), busy.clone()].concat()),
        ("half of a head", [pack(&[&long[..3]]), long[3..].to_vec()].concat()),
        ("garbage", [&20_u32.to_le_bytes()[..], &[255], &[9; 19]].concat()),
        ("a huge length", [&u32::MAX.to_le_bytes()[..], &[255; 100]].concat()),
        ("no body", [&1_u32.to_le_bytes()[..], &[255]].concat()),
        ("an unknown kind inside", pack(&[&[1, 0, 0, 0, 250]])),
    ] {
        let end = heard_after_welcome(&bytes);
        assert!(matches!(end, Err(LinkError::Protocol { .. })), "{what}: {end:?}");
    }
}
