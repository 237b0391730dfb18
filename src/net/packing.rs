//! When frames travel packed (`packer`): by what the user said and what the link shows.
//!
//! ```text
//! Packing   what both directions and the session know: the wish, a long round trip, a peer that packs, packing now
//! Gauge     one writer's judgement, from what it sent and how long that took
//! ```
//!
//! **Auto.** A link whose round trip is long is packed from the first message on, at the highest level: what little is
//! sent counts there. Else it is packed once writing to the socket takes longer than packing would (`SLOW_BYTES_A_SEC`).
//! While packing, the level follows the slower of the two, down to none: a fast link costs nothing. A reader that is slow
//! (a disk) looks like a slow link; then packing makes nothing faster, and is left for a long time. The daemon packs for a
//! client that packs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// What the user wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Compress {
    /// What the link shows.
    #[default]
    Auto,
    /// Yes, also where it costs time.
    Always,
    /// No.
    Never,
}

/// A round trip from which on a link is taken for one that is worth it.
const FAR: Duration = Duration::from_millis(20);
/// A link that takes fewer bytes a second than this is packed: below it, the lowest level is faster on one core.
const SLOW_BYTES_A_SEC: u64 = 48 << 20;
/// Bytes on the wire after which is judged; the buffers on the way are smaller.
const WINDOW_BYTES: u64 = 4 << 20;
/// And, while nothing is packed, after which there was waited so long, or which is a new beginning: a hiccup of the other
/// side is no slow link.
const WAITED_MIN: Duration = Duration::from_millis(500);
const PLAIN_WINDOW_BYTES_MAX: u64 = 64 << 20;
/// Smaller writes say nothing about the link.
const TELLING_BYTES: usize = 16 * 1024;
/// How much goes unpacked before packing is tried again after it was of no use.
const REST_BYTES: u64 = 256 << 20;
/// Levels of zstd, best first.
const LEVELS: [i32; 3] = [6, 3, 1];

/// What a connection's two directions and its session share.
#[derive(Clone, Debug, Default)]
pub(super) struct Packing(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    wish: AtomicU8,
    /// Microseconds of the shortest round trip seen; 0: none was.
    round_trip: AtomicU64,
    far: AtomicBool,
    peer_packs: AtomicBool,
    now: AtomicBool,
}

impl Packing {
    /// The user said so.
    pub(super) fn wish(&self, wish: Compress) {
        self.0.wish.store(wish as u8, Ordering::Relaxed);
    }

    /// Something was answered after so long.
    pub(super) fn round_trip(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let before = self.0.round_trip.load(Ordering::Relaxed);
        self.0.round_trip.store(if before == 0 { took } else { before.min(took) }, Ordering::Relaxed);
    }

    /// The peer is welcome: from now on packed frames may be sent.
    pub(super) fn begin(&self) {
        let far = Duration::from_micros(self.0.round_trip.load(Ordering::Relaxed)) >= FAR;
        self.0.far.store(far, Ordering::Relaxed);
    }

    /// A packed frame came.
    pub(super) fn peer_packs(&self) {
        self.0.peer_packs.store(true, Ordering::Relaxed);
    }

    /// Whether what is sent now is packed: bytes count on this link.
    pub(super) fn is_on(&self) -> bool {
        match self.wished() {
            Compress::Always => true,
            Compress::Never => false,
            Compress::Auto => self.0.now.load(Ordering::Relaxed) || self.begins_packed(),
        }
    }

    /// Whether the user wants none of it.
    pub(super) fn is_never(&self) -> bool {
        self.wished() == Compress::Never
    }

    fn wished(&self) -> Compress {
        match self.0.wish.load(Ordering::Relaxed) {
            wish if wish == Compress::Always as u8 => Compress::Always,
            wish if wish == Compress::Never as u8 => Compress::Never,
            _ => Compress::Auto,
        }
    }

    fn begins_packed(&self) -> bool {
        self.0.far.load(Ordering::Relaxed) || self.0.peer_packs.load(Ordering::Relaxed)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Gauge {
    packing: Packing,
    /// Index into [`LEVELS`].
    level: Option<usize>,
    /// It has been judged at least once: how the link begins says nothing any more.
    judged: bool,
    seen: Seen,
    /// Raw bytes a second before it was packed.
    before: Option<f64>,
    /// Raw bytes that go unpacked whatever they show.
    rest: u64,
}

/// What was sent since the last judgement.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    raw: u64,
    wire: u64,
    worked: Duration,
    waited: Duration,
}

impl Gauge {
    pub(super) fn new(packing: Packing) -> Self {
        Self { packing, level: None, judged: false, seen: Seen::default(), before: None, rest: 0 }
    }

    /// zstd's level for what is sent next; none: as it is.
    pub(super) fn level(&mut self) -> Option<i32> {
        let wished = self.packing.wished();
        match wished {
            Compress::Never => self.level = None,
            Compress::Always => self.level = self.level.or(Some(1)),
            Compress::Auto if !self.judged && self.packing.begins_packed() => self.level = self.level.or(Some(0)),
            Compress::Auto => {}
        }
        self.packing.0.now.store(self.level.is_some(), Ordering::Relaxed);
        self.level.and_then(|level| LEVELS.get(level).copied())
    }

    /// So much was sent as so much, after so long a work and so long a wait for the socket.
    pub(super) fn sent(&mut self, raw: usize, wire: usize, worked: Duration, waited: Duration) {
        if wire < TELLING_BYTES && self.level.is_none() {
            return;
        }
        let seen = &mut self.seen;
        seen.raw += raw as u64;
        seen.wire += wire as u64;
        seen.worked += worked;
        seen.waited += waited;
        let waited_enough = self.level.is_some() || seen.waited >= WAITED_MIN || seen.wire >= PLAIN_WINDOW_BYTES_MAX;
        if seen.wire >= WINDOW_BYTES && waited_enough {
            let seen = std::mem::take(seen);
            self.judged = true;
            match self.level {
                None => self.judge_plain(seen),
                Some(level) => self.judge_packed(seen, level),
            }
        }
    }

    fn judge_plain(&mut self, seen: Seen) {
        self.rest = self.rest.saturating_sub(seen.raw);
        let rate = a_second(seen.raw, seen.waited);
        if self.rest == 0 && rate < SLOW_BYTES_A_SEC as f64 {
            self.before = Some(rate);
            self.level = Some(if rate < SLOW_BYTES_A_SEC as f64 / 6.0 { 0 } else { 1 });
        }
    }

    fn judge_packed(&mut self, seen: Seen, level: usize) {
        let useless = self.before.take().is_some_and(|before| {
            let now = a_second(seen.raw, seen.waited + seen.worked);
            now < before * 1.15
        });
        let shrinks = seen.wire * 20 < seen.raw * 19;
        if useless || !shrinks {
            (self.level, self.rest) = (None, REST_BYTES);
        } else if seen.waited < seen.worked / 2 {
            // The work is what takes long: less of it.
            self.level = Some(level + 1).filter(|level| *level < LEVELS.len());
        } else if seen.waited > seen.worked * 4 {
            self.level = Some(level.saturating_sub(1));
        }
    }
}

fn a_second(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64().max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: f64 = 1_048_576.0;

    /// A link that takes `mib` MiB a second, and a machine that packs 100 MiB a second to a quarter, at the best level.
    fn send(gauge: &mut Gauge, mib: f64, raw_mib: usize, shrinks: bool) {
        for _ in 0..raw_mib * 8 {
            let raw = 128 << 10;
            let (wire, work) = match gauge.level() {
                None => (raw, 0.0),
                Some(level) => (if shrinks { raw / 4 } else { raw }, raw as f64 / MIB / (600.0 / f64::from(level))),
            };
            let waited = wire as f64 / MIB / mib;
            gauge.sent(raw, wire, Duration::from_secs_f64(work), Duration::from_secs_f64(waited));
        }
    }

    fn gauge() -> (Packing, Gauge) {
        let packing = Packing::default();
        packing.begin();
        (packing.clone(), Gauge::new(packing))
    }

    #[test]
    fn a_fast_link_is_never_packed() {
        let (packing, mut gauge) = gauge();
        send(&mut gauge, 1000.0, 500, true);
        assert_eq!((gauge.level(), packing.is_on()), (None, false));
    }

    #[test]
    fn a_slow_link_is_found_out_and_the_level_follows_it() {
        for (mib, level) in [(2.5, Some(6)), (10.0, Some(6)), (40.0, Some(3)), (60.0, None)] {
            let (packing, mut gauge) = gauge();
            send(&mut gauge, mib, 200, true);
            assert_eq!((gauge.level(), packing.is_on()), (level, level.is_some()), "{mib} MiB/s");
        }
    }

    #[test]
    fn a_long_round_trip_is_packed_at_once_and_no_longer_than_it_pays() {
        let packing = Packing::default();
        packing.round_trip(Duration::from_millis(300));
        packing.round_trip(Duration::from_millis(100));
        assert!(!packing.is_on(), "not before the welcome");
        packing.begin();
        let mut gauge = Gauge::new(packing.clone());
        assert!(packing.is_on());
        assert_eq!(gauge.level(), Some(6));
        send(&mut gauge, 2.0, 100, true);
        assert_eq!(gauge.level(), Some(6));
        send(&mut gauge, 1000.0, 300, true);
        assert_eq!(gauge.level(), None);
    }

    #[test]
    fn one_long_answer_makes_no_long_round_trip() {
        let packing = Packing::default();
        packing.round_trip(Duration::from_millis(1));
        packing.round_trip(Duration::from_secs(1));
        packing.begin();
        assert!(!packing.is_on());
    }

    #[test]
    fn what_does_not_shrink_goes_as_it_is_for_a_while() {
        let (_, mut gauge) = gauge();
        send(&mut gauge, 2.0, 16, false);
        assert_eq!(gauge.level(), None);
        send(&mut gauge, 2.0, 200, true);
        assert_eq!(gauge.level(), None);
        send(&mut gauge, 2.0, 100, true);
        assert_eq!(gauge.level(), Some(6));
    }

    #[test]
    fn a_slow_reader_is_no_slow_link() {
        let (_, mut gauge) = gauge();
        // It takes 20 MiB of content a second, however they come.
        for _ in 0..100 {
            let raw = 1 << 20;
            let (wire, worked) = match gauge.level() {
                None => (raw, Duration::ZERO),
                Some(_) => (raw / 4, Duration::from_millis(5)),
            };
            gauge.sent(raw, wire, worked, Duration::from_millis(50).saturating_sub(worked));
        }
        assert_eq!(gauge.level(), None);
    }

    #[test]
    fn a_hiccup_is_no_slow_link() {
        let (_, mut gauge) = gauge();
        for i in 0..1000 {
            let waited = Duration::from_millis(if i % 70 == 0 { 300 } else { 1 });
            gauge.sent(1 << 20, 1 << 20, Duration::ZERO, waited);
            assert_eq!(gauge.level(), None, "after {i} MiB");
        }
    }

    #[test]
    fn a_wish_is_a_wish_and_the_peer_is_followed() {
        let (packing, mut gauge) = gauge();
        packing.peer_packs();
        assert_eq!(gauge.level(), Some(6));
        packing.wish(Compress::Never);
        assert_eq!((gauge.level(), packing.is_on()), (None, false));
        packing.wish(Compress::Always);
        send(&mut gauge, 1000.0, 300, true);
        assert!(gauge.level().is_some() && packing.is_on());
    }
}
