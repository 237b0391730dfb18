//! What is known of a run while it goes on: events in, a view out. Pure: the clock comes in as an argument.
//!
//! Always holds: no total and so no percentage before the scan has ended; the percentage never goes back, and is 100
//! exactly when nothing is left to send.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::backup::bytes::escape;
use crate::engine::observer::{Event, Phase};

/// The rate is that of the last so many seconds.
const RATE_WINDOW: Duration = Duration::from_secs(10);
/// Views closer together than this do not become samples of the rate.
const RATE_SAMPLE: Duration = Duration::from_millis(250);
/// A file that needs no bar: it is there at once.
pub(super) const SMALL_BYTES: u64 = 1024 * 1024;
/// Silence that is worth a word.
const STALLED_AFTER: Duration = Duration::from_secs(5);

/// Collects events.
#[derive(Debug)]
pub struct Tracker {
    phase: Phase,
    note: Option<String>,
    planned: u64,
    /// `planned` when this attempt's scan began, and what a look ahead at the source has found since.
    scan_from: u64,
    estimate: Option<u64>,
    done: u64,
    files_done: u64,
    file: Option<File>,
    /// At a destination: whose run it is, and how far its source says that it is: bytes done, of so many.
    label: Option<Label>,
    source: (u64, u64),
    /// The scan has ended once: the total stays known also when a reconnect goes back to an earlier phase.
    total_known: bool,
    permille_shown: u64,
    moved_at: Instant,
    samples: VecDeque<(Instant, u64)>,
}

#[derive(Debug)]
struct File {
    path: Vec<u8>,
    bytes: u64,
    /// The run's `done` when the file began.
    from: u64,
}

/// Whose run it is, where several go on at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The source's node.
    pub node: String,
    /// The source's user.
    pub user: String,
    /// Absolute path at the source.
    pub root: Vec<u8>,
}

/// One moment of a run, ready to be drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Whose run it is, at a destination.
    pub label: Option<Label>,
    /// The phase.
    pub phase: Phase,
    /// Behind whom it waits, why it reconnects, how long it has stalled.
    pub note: Option<String>,
    /// The file whose content travels.
    pub file: Option<FileView>,
    /// Content bytes dealt with.
    pub done: u64,
    /// Content bytes to deal with as far as known.
    pub planned: u64,
    /// 0 to 1000; none before the scan has ended.
    pub permille: Option<u64>,
    /// Files done.
    pub files_done: u64,
    /// Bytes a second.
    pub rate: Option<f64>,
    /// Seconds that are left at that rate.
    pub eta_secs: Option<f64>,
}

/// The file whose content travels.
#[derive(Clone, Debug, PartialEq)]
pub struct FileView {
    /// Its path.
    pub path: Vec<u8>,
    /// Bytes dealt with.
    pub done: u64,
    /// Its size.
    pub bytes: u64,
}

impl Tracker {
    /// A run that begins now.
    pub fn new(now: Instant) -> Self {
        Self {
            phase: Phase::Waiting,
            note: None,
            planned: 0,
            scan_from: 0,
            estimate: None,
            done: 0,
            files_done: 0,
            file: None,
            label: None,
            source: (0, 0),
            total_known: false,
            permille_shown: 0,
            moved_at: now,
            samples: VecDeque::from([(now, 0)]),
        }
    }

    /// A run that arrives at a destination from now on.
    pub fn receiving(label: Label, now: Instant) -> Self {
        Self { label: Some(label), phase: Phase::Receiving, ..Self::new(now) }
    }

    /// Notes what happened.
    pub fn apply(&mut self, event: &Event<'_>, now: Instant) {
        match event {
            Event::Phase(phase) => {
                self.phase = *phase;
                self.note = None;
                self.moved_at = now;
                if *phase == Phase::Scanning {
                    (self.scan_from, self.estimate) = (self.planned, None);
                }
                if !matches!(phase, Phase::Scanning | Phase::Sending | Phase::Restoring) {
                    self.file = None;
                }
            }
            Event::Queued(behind) => self.note = Some(format!("queued: {}", escape(behind.as_bytes()))),
            Event::Estimated { bytes } => self.estimate = Some(*bytes),
            Event::Planned { bytes } => self.planned = self.planned.saturating_add(*bytes),
            Event::FileBegun { path, bytes } => {
                match &mut self.file {
                    // A small one passes beside a large one, whose bar is the one to be looked at.
                    Some(large) if *bytes <= SMALL_BYTES && large.bytes > SMALL_BYTES => {
                        large.from = large.from.saturating_add(*bytes);
                    }
                    _ => self.file = Some(File { path: path.to_vec(), bytes: *bytes, from: self.done }),
                }
                self.alive(now);
            }
            Event::Advanced { bytes } => {
                self.done = self.done.saturating_add(*bytes);
                self.alive(now);
            }
            Event::FileDone { path } => {
                self.files_done += 1;
                if self.file.as_ref().is_some_and(|file| file.path == *path) {
                    self.file = None;
                }
                self.alive(now);
            }
            Event::Reconnecting { why, in_secs } => {
                let why = escape(why.as_bytes());
                self.note = Some(format!("connection lost ({why}), trying again in {in_secs} s"));
                self.samples.clear();
            }
            Event::Skipped { .. }
            | Event::Warned { .. }
            | Event::Failed { .. }
            | Event::PlanLine { .. }
            | Event::Gathering { .. } => {}
            Event::Source { bytes_done, bytes_total, total_known, .. } => {
                self.source = (*bytes_done, *bytes_total);
                self.total_known |= *total_known;
                self.alive(now);
            }
        }
    }

    /// Bytes move: whatever was waited for is over.
    fn alive(&mut self, now: Instant) {
        self.moved_at = now;
        self.note = None;
    }

    /// Whether a file has a bar.
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// What to draw now.
    pub fn view(&mut self, now: Instant) -> View {
        self.sample(now);
        let rate = self.rate();
        let permille = self.permille();
        let total = self.total();
        let left = total.saturating_sub(self.dealt()) as f64;
        let eta_secs = rate.filter(|rate| *rate >= 1.0 && permille.is_some()).map(|rate| left / rate);
        let file = self.file.as_ref().map(|file| FileView {
            path: file.path.clone(),
            done: self.done.saturating_sub(file.from).min(file.bytes),
            bytes: file.bytes,
        });
        View {
            label: self.label.clone(),
            phase: self.phase,
            note: self.note.clone().or_else(|| self.stalled(now)),
            file,
            done: self.dealt(),
            planned: total.max(self.dealt()),
            permille,
            files_done: self.files_done,
            rate,
            eta_secs,
        }
    }

    /// What is dealt with. Of what a destination holds already only the source knows that it is done.
    fn dealt(&self) -> u64 {
        self.done.max(self.source.0)
    }

    /// All there is to deal with, as far as known. Once the scan has ended nothing is estimated any more.
    fn total(&self) -> u64 {
        if self.label.is_some() {
            return self.source.1;
        }
        let ahead = self.estimate.filter(|_| self.phase == Phase::Scanning).unwrap_or_default();
        self.planned.max(self.scan_from.saturating_add(ahead))
    }

    fn permille(&mut self) -> Option<u64> {
        self.total_known |= match self.phase {
            Phase::Waiting => false,
            Phase::Scanning => self.estimate.is_some(),
            Phase::Sending | Phase::Committing => true,
            Phase::Restoring => self.planned > 0,
            // Its source says so.
            Phase::Receiving => false,
        };
        if !self.total_known {
            return None;
        }
        let total = self.total();
        let scanning = self.phase == Phase::Scanning;
        let done = self.dealt();
        // Where it arrives the total may be an estimate: the end is when it is committed.
        let arriving = self.phase == Phase::Receiving;
        let now = if (done >= total && !scanning && !arriving) || self.phase == Phase::Committing {
            1000
        } else {
            let exact = u128::from(done) * 1000 / u128::from(total.max(1));
            u64::try_from(exact).unwrap_or(999).min(999)
        };
        // More was found to be sent after the scan: the bar waits for it instead of going back.
        self.permille_shown = self.permille_shown.max(now);
        Some(self.permille_shown)
    }

    fn stalled(&self, now: Instant) -> Option<String> {
        let silent = now.saturating_duration_since(self.moved_at);
        let moving = matches!(self.phase, Phase::Sending | Phase::Restoring | Phase::Receiving);
        (moving && silent >= STALLED_AFTER).then(|| format!("nothing moved for {} s", silent.as_secs()))
    }

    fn sample(&mut self, now: Instant) {
        // Nobody looked meanwhile: the rate is that of now.
        if self.samples.back().is_some_and(|last| now.saturating_duration_since(last.0) >= RATE_WINDOW) {
            self.samples.clear();
        }
        if self.samples.back().is_none_or(|last| now.saturating_duration_since(last.0) >= RATE_SAMPLE) {
            self.samples.push_back((now, self.dealt()));
        }
        // The oldest sample that is kept is the newest one outside the window.
        while self.samples.get(1).is_some_and(|next| now.saturating_duration_since(next.0) >= RATE_WINDOW) {
            self.samples.pop_front();
        }
    }

    fn rate(&self) -> Option<f64> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let secs = last.0.saturating_duration_since(first.0).as_secs_f64();
        (secs >= 0.9).then(|| last.1.saturating_sub(first.1) as f64 / secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(start: Instant, secs: f64) -> Instant {
        start + Duration::from_secs_f64(secs)
    }

    #[test]
    fn the_rate_is_that_of_now_although_nobody_looked_for_long() {
        let start = Instant::now();
        let mut tracker = Tracker::new(start);
        tracker.apply(&Event::Phase(Phase::Sending), start);
        assert_eq!(tracker.view(at(start, 3600.0)).rate, None, "an hour in which nobody looked says nothing");
        tracker.apply(&Event::Advanced { bytes: 2000 }, at(start, 3601.0));
        assert_eq!(tracker.view(at(start, 3602.0)).rate, Some(1000.0));
    }

    #[test]
    fn no_percentage_before_the_scan_has_ended() {
        let start = Instant::now();
        let mut tracker = Tracker::new(start);
        assert_eq!(tracker.view(start).permille, None);
        tracker.apply(&Event::Phase(Phase::Scanning), start);
        tracker.apply(&Event::Planned { bytes: 1000 }, start);
        tracker.apply(&Event::Advanced { bytes: 250 }, start);
        let view = tracker.view(start);
        assert_eq!((view.permille, view.eta_secs, view.done, view.planned), (None, None, 250, 1000));
        tracker.apply(&Event::Phase(Phase::Sending), start);
        assert_eq!(tracker.view(start).permille, Some(250));
        tracker.apply(&Event::Phase(Phase::Committing), start);
        assert_eq!(tracker.view(start).permille, Some(1000));
    }

    #[test]
    fn a_look_ahead_gives_a_percentage_while_the_scan_goes_on() {
        let start = Instant::now();
        let mut tracker = Tracker::new(start);
        tracker.apply(&Event::Phase(Phase::Scanning), start);
        tracker.apply(&Event::Planned { bytes: 100 }, start);
        tracker.apply(&Event::Advanced { bytes: 100 }, start);
        tracker.apply(&Event::Estimated { bytes: 1000 }, start);
        let view = tracker.view(start);
        assert_eq!((view.permille, view.planned), (Some(100), 1000));
        // More came than was foreseen: it is not over before the scan is.
        tracker.apply(&Event::Planned { bytes: 1900 }, start);
        tracker.apply(&Event::Advanced { bytes: 1900 }, start);
        assert_eq!(tracker.view(start).permille, Some(999));
        tracker.apply(&Event::Phase(Phase::Sending), start);
        assert_eq!(tracker.view(start).permille, Some(1000));
        // Less: what is left is known at the end.
        let mut tracker = Tracker::new(start);
        tracker.apply(&Event::Phase(Phase::Scanning), start);
        tracker.apply(&Event::Estimated { bytes: 1000 }, start);
        tracker.apply(&Event::Planned { bytes: 200 }, start);
        tracker.apply(&Event::Advanced { bytes: 100 }, start);
        tracker.apply(&Event::Phase(Phase::Sending), start);
        assert_eq!((tracker.view(start).permille, tracker.view(start).planned), (Some(500), 200));
    }

    #[test]
    fn rate_and_time_left_follow_the_last_seconds() {
        let start = Instant::now();
        let mut tracker = Tracker::new(start);
        tracker.apply(&Event::Planned { bytes: 10_000 }, start);
        tracker.apply(&Event::Phase(Phase::Sending), start);
        for second in 1..=20 {
            let bytes = if second <= 10 { 500 } else { 100 };
            tracker.apply(&Event::Advanced { bytes }, at(start, f64::from(second)));
            tracker.view(at(start, f64::from(second)));
        }
        let view = tracker.view(at(start, 20.0));
        assert_eq!(view.done, 6000);
        assert!((view.rate.unwrap() - 100.0).abs() < 1.0, "{view:?}");
        assert!((view.eta_secs.unwrap() - 40.0).abs() < 1.0, "{view:?}");
    }

    #[test]
    fn a_destination_s_whole_is_what_its_source_says() {
        let start = Instant::now();
        let label = Label { node: "n".into(), user: "u".into(), root: b"/r".to_vec() };
        let mut tracker = Tracker::receiving(label.clone(), start);
        let source = |done, total, total_known| Event::Source {
            bytes_done: done,
            bytes_total: total,
            files_done: 0,
            total_known,
        };
        tracker.apply(&Event::FileBegun { path: b"a", bytes: 60 }, start);
        tracker.apply(&Event::Advanced { bytes: 30 }, start);
        let view = tracker.view(start);
        assert_eq!((view.phase, view.done, view.permille, view.label), (Phase::Receiving, 30, None, Some(label)));
        tracker.apply(&source(100, 150, false), start);
        assert_eq!((tracker.view(start).done, tracker.view(start).permille), (100, None));
        tracker.apply(&source(100, 200, true), start);
        let view = tracker.view(start);
        assert_eq!((view.done, view.planned, view.permille), (100, 200, Some(500)));
        assert_eq!(view.file.map(|file| (file.done, file.bytes)), Some((30, 60)));
        tracker.apply(&source(200, 200, true), start);
        assert_eq!(tracker.view(start).permille, Some(999), "it may be an estimate");
        tracker.apply(&Event::Phase(Phase::Committing), start);
        assert_eq!(tracker.view(start).permille, Some(1000));
    }

    #[test]
    fn small_files_pass_beside_a_large_one_and_leave_its_bar_alone() {
        let start = Instant::now();
        let mut tracker = Tracker::new(start);
        tracker.apply(&Event::FileBegun { path: b"large", bytes: 4 * SMALL_BYTES }, start);
        tracker.apply(&Event::Advanced { bytes: SMALL_BYTES }, start);
        for _ in 0..3 {
            tracker.apply(&Event::FileBegun { path: b"small", bytes: 1000 }, start);
            tracker.apply(&Event::Advanced { bytes: 1000 }, start);
            tracker.apply(&Event::FileDone { path: b"small" }, start);
        }
        tracker.apply(&Event::Advanced { bytes: SMALL_BYTES }, start);
        let file = tracker.view(start).file.unwrap();
        assert_eq!((&file.path[..], file.done, file.bytes), (&b"large"[..], 2 * SMALL_BYTES, 4 * SMALL_BYTES));
        tracker.apply(&Event::FileDone { path: b"large" }, start);
        assert_eq!(tracker.view(start).file, None);
    }

    #[test]
    fn a_stall_and_a_lost_connection_are_told() {
        let start = Instant::now();
        let mut tracker = Tracker::new(start);
        tracker.apply(&Event::Planned { bytes: 9 }, start);
        tracker.apply(&Event::Phase(Phase::Sending), start);
        assert_eq!(tracker.view(at(start, 4.0)).note, None);
        assert_eq!(tracker.view(at(start, 12.0)).note.unwrap(), "nothing moved for 12 s");
        tracker.apply(&Event::Reconnecting { why: "reset\x1b", in_secs: 3 }, at(start, 12.0));
        assert!(tracker.view(at(start, 13.0)).note.unwrap().contains("(reset\\x1b), trying again in 3 s"));
        tracker.apply(&Event::Advanced { bytes: 1 }, at(start, 14.0));
        assert_eq!(tracker.view(at(start, 14.0)).note, None);
    }

    #[test]
    fn the_file_s_bar_counts_from_where_the_file_began() {
        let start = Instant::now();
        let mut tracker = Tracker::new(start);
        tracker.apply(&Event::Advanced { bytes: 70 }, start);
        tracker.apply(&Event::FileBegun { path: b"a", bytes: 100 }, start);
        tracker.apply(&Event::Advanced { bytes: 30 }, start);
        let file = tracker.view(start).file.unwrap();
        assert_eq!((file.done, file.bytes), (30, 100));
        tracker.apply(&Event::FileDone { path: b"a" }, start);
        let view = tracker.view(start);
        assert_eq!((view.file, view.files_done), (None, 1));
    }

    proptest! {
        #[test]
        fn the_percentage_never_goes_back(steps in proptest::collection::vec((0u8..8, 0u64..u64::MAX / 4), 1..60)) {
            let start = Instant::now();
            let mut tracker = Tracker::new(start);
            let mut last = None;
            for (i, (kind, bytes)) in steps.into_iter().enumerate() {
                let event = match kind {
                    0 | 1 => Event::Planned { bytes },
                    2 | 3 => Event::Advanced { bytes },
                    4 => Event::Phase(Phase::Sending),
                    5 => Event::Phase(Phase::Scanning),
                    6 => Event::Estimated { bytes },
                    _ => Event::Phase(Phase::Committing),
                };
                tracker.apply(&event, start);
                let view = tracker.view(at(start, i as f64 * 0.3));
                prop_assert!(view.permille >= last, "{:?} after {:?}", view.permille, last);
                prop_assert!(view.permille.is_none_or(|p| p <= 1000));
                last = view.permille;
            }
        }
    }
}
