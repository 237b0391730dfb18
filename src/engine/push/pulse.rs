//! [`Pulse`]: tells the daemon now and then how far the run is, for those who watch there and at its destinations.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::observer::{Event, Observer, Phase};
use crate::net::link::LinkSender;
use crate::net::message::Progress;

/// How often.
const EVERY: Duration = Duration::from_secs(1);

/// Passes all on to the run's observer, and counts along. What does not fit into the link's queue is not told.
pub(super) struct Pulse<'a> {
    observer: &'a dyn Observer,
    link: &'a LinkSender,
    state: Mutex<State>,
}

struct State {
    progress: Progress,
    /// The estimate of the whole, while the scan has not reached it.
    estimate: Option<u64>,
    told: Instant,
    /// Nothing is told outside of the content phase.
    sending: bool,
}

impl<'a> Pulse<'a> {
    pub(super) fn new(observer: &'a dyn Observer, link: &'a LinkSender) -> Self {
        let progress = Progress { bytes_done: 0, bytes_total: 0, files_done: 0, total_known: false };
        let state = State { progress, estimate: None, told: Instant::now(), sending: false };
        Self { observer, link, state: Mutex::new(state) }
    }
}

impl State {
    /// Counts; what to tell now, if anything.
    fn note(&mut self, event: &Event<'_>, now: Instant) -> Option<Progress> {
        match event {
            Event::Phase(phase) => {
                self.sending = matches!(phase, Phase::Scanning | Phase::Sending);
                self.progress.total_known = *phase == Phase::Sending;
            }
            Event::Planned { bytes } => self.progress.bytes_total += bytes,
            Event::Estimated { bytes } => self.estimate = Some(*bytes),
            Event::Advanced { bytes } => self.progress.bytes_done += bytes,
            Event::FileDone { .. } => self.progress.files_done += 1,
            _ => return None,
        }
        if !self.sending || now.duration_since(self.told) < EVERY {
            return None;
        }
        self.told = now;
        let mut told = self.progress.clone();
        if let Some(estimate) = self.estimate.filter(|_| !told.total_known) {
            // As the source's own bar shows it.
            (told.bytes_total, told.total_known) = (told.bytes_total.max(estimate), true);
        }
        Some(told)
    }
}

impl Observer for Pulse<'_> {
    fn event(&self, event: &Event<'_>) {
        let told = self.state.lock().unwrap_or_else(PoisonError::into_inner).note(event, Instant::now());
        if let Some(progress) = told {
            let _ = self.link.try_send(progress);
        }
        self.observer.event(event);
    }

    fn wants_total(&self) -> bool {
        self.observer.wants_total()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::observer::Silent;
    use crate::net::link::Link;

    #[test]
    fn it_tells_once_a_second_while_content_is_sent() {
        let (link, _peer) = Link::pair();
        let pulse = Pulse::new(&Silent, &link.sender);
        let mut state = pulse.state.into_inner().unwrap();
        let start = state.told;
        let at = |ms: u64| start + Duration::from_millis(ms);
        assert_eq!(state.note(&Event::Planned { bytes: 10 }, at(5000)), None);
        assert_eq!(state.note(&Event::Phase(Phase::Scanning), at(0)), None);
        assert_eq!(state.note(&Event::Estimated { bytes: 100 }, at(10)), None);
        assert_eq!(state.note(&Event::Advanced { bytes: 4 }, at(999)), None);
        let told = state.note(&Event::FileDone { path: b"a" }, at(1000)).unwrap();
        assert_eq!(told, Progress { bytes_done: 4, bytes_total: 100, files_done: 1, total_known: true });
        assert_eq!(state.note(&Event::Phase(Phase::Sending), at(1500)), None);
        let told = state.note(&Event::Advanced { bytes: 6 }, at(2000)).unwrap();
        assert_eq!(told, Progress { bytes_done: 10, bytes_total: 10, files_done: 1, total_known: true });
        assert_eq!(state.note(&Event::Phase(Phase::Committing), at(9000)), None);
        assert_eq!(state.note(&Event::Advanced { bytes: 1 }, at(9000)), None);
    }
}
