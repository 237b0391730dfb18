//! The daemon's own verification: a part a day of each copy, politely, so that everything is looked at once in a while.
//!
//! A thread of its own, beside upkeep: it changes nothing but what it puts right, and would hold up packing for hours.
//! It yields to backups. What is due follows from when a copy was verified last, whatever the daemon did since.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::{Pace, VerifiedState, verify};
use crate::backup::relpath::RelPath;
use crate::engine::client::now;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::hub::Hub;
use crate::net::shutdown::Shutdown;
use crate::store::names::CopyName;

const DAY_SECS: u64 = 24 * 3600;
/// How often is looked whether something is due.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// How often is looked whether a backup has ended.
const YIELD: Duration = Duration::from_millis(500);

/// How the daemon verifies by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyOptions {
    /// Everything is looked at once in this time, seconds; `u64::MAX`: never.
    pub every_secs: u64,
    /// Bytes that are read a second.
    pub rate: u64,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self { every_secs: 30 * DAY_SECS, rate: 20 * 1024 * 1024 }
    }
}

impl VerifyOptions {
    fn parts(self) -> u32 {
        u32::try_from(self.every_secs / DAY_SECS).unwrap_or(u32::MAX).max(1)
    }
}

/// Starts the thread. It ends soon after `shutdown`; nobody needs to wait for it.
pub(in crate::engine) fn start(hub: &Arc<Hub>, shutdown: &Shutdown, options: VerifyOptions) {
    if options.every_secs == u64::MAX {
        return;
    }
    let (hub, shutdown) = (Arc::clone(hub), shutdown.clone());
    let rounds = move || {
        while !shutdown.is_triggered() {
            round(&hub, &shutdown, options);
            shutdown.wait_timeout(LOOK_EVERY);
        }
    };
    if let Err(error) = thread::Builder::new().name("verify".to_owned()).spawn(rounds) {
        tracing::warn!("cannot start a thread: {error}; the store is not verified by itself");
    }
}

fn round(hub: &Hub, shutdown: &Shutdown, options: VerifyOptions) {
    let go_on = || {
        while !shutdown.is_triggered() && !hub.leases.held().is_empty() {
            shutdown.wait_timeout(YIELD);
        }
        !shutdown.is_triggered()
    };
    for copy in hub.store.copies().unwrap_or_default() {
        let done = is_due(hub, &copy).and_then(|due| {
            if !due {
                return Ok(());
            }
            let mut pace = Pace::polite(options.rate, &go_on);
            verify(hub, &copy, &RelPath::root(), options.parts(), &mut pace, &mut |_| Ok(())).map(drop)
        });
        match done {
            Ok(()) => {}
            Err(error) if error.kind == ErrorKind::Interrupted => return,
            Err(error) => tracing::warn!("{copy} could not be verified: {error}"),
        }
    }
}

/// A part is due a day after the last one, the first a day after the first backup.
fn is_due(hub: &Hub, copy: &CopyName) -> Result<bool, EngineError> {
    let first = hub.store.snapshots(copy)?.list()?.first().map(|record| record.received.secs);
    let Some(first) = first else { return Ok(false) };
    let last = VerifiedState::load(&hub.store.meta_path("verified"), copy).map_or(first, |state| state.ended_secs);
    Ok(now().secs.saturating_sub(last) >= DAY_SECS.cast_signed())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::engine::client::ClientOptions;
    use crate::engine::hub::HubOptions;
    use crate::engine::observer::Silent;
    use crate::engine::push::{PushOptions, push};

    #[test]
    fn a_part_a_day_of_what_is_older_than_a_day() {
        let temp = tempfile::tempdir().unwrap();
        let (root, store) = (temp.path().join("source"), temp.path().join("store"));
        fs::create_dir(&root).unwrap();
        fs::write(root.join("file"), "content").unwrap();
        let client = ClientOptions::of_store(&store, temp.path());
        let options = PushOptions { root, recursive: true, ..Default::default() };
        push(&client, &options, &Silent).unwrap();
        let hub = Hub::open(&store, HubOptions::default()).unwrap();
        let copy = CopyName::local(b"u").unwrap();
        let folder = hub.store.meta_path("verified");
        let (shutdown, options) = (Shutdown::new(), VerifyOptions { every_secs: 3 * DAY_SECS, rate: u64::MAX });
        round(&hub, &shutdown, options);
        assert_eq!(VerifiedState::load(&folder, &copy), None, "the backup is young");
        for part in [1, 2, 3, 1] {
            let before = VerifiedState::load(&folder, &copy);
            let yesterday = now().secs - DAY_SECS.cast_signed();
            let last = before.as_ref().map_or(0, |state| state.part);
            VerifiedState::new(before.as_ref(), last, 3, yesterday, 0).save(&folder, &copy).unwrap();
            round(&hub, &shutdown, options);
            let after = VerifiedState::load(&folder, &copy).unwrap();
            assert_eq!((after.part, after.damages), (part, 0));
            round(&hub, &shutdown, options);
            assert_eq!(VerifiedState::load(&folder, &copy), Some(after), "not twice a day");
        }
        assert_eq!(VerifyOptions { every_secs: 5, ..options }.parts(), 1);
        assert_eq!(VerifyOptions::default().parts(), 30);
    }
}
