//! Is all of it still intact? Every manifest is read, every file of the plain copy, every retired file and every pack is
//! hashed again, and all content that some snapshot names has to be somewhere. Large files in packs are put together.
//!
//! ```text
//! manifests ──▶ walk (timeline: each path, all that it was) ──▶ plain files, hashed on the way
//!                  │ named by a snapshot, not proven in the copy          │ not as its newest snapshot says
//!                  ▼                                                      ▼
//!               stored (retired files, packs) ──▶ missing             settle (under a lease: look again, heal)
//! ```
//!
//! A damage is told with the number of snapshots that it touches and with what becomes of it. Part k of n looks at the
//! contents whose digest falls into that part, and at the packs whose id does: n runs cover everything. It waits for no
//! lease but for a moment, when something in the plain copy is not what it should be.

mod background;
#[cfg(test)]
mod fixture;
mod found;
mod missing;
mod pace;
mod recipes;
mod settle;
mod slice;
mod stored;
mod walk;

use super::client::now;
use super::error::{EngineError, ErrorKind};
use super::hub::{Hub, Who};
use super::wire::WireError;
use crate::backup::bytes::{Bytes, escape};
use crate::backup::relpath::RelPath;
use crate::backup::snapshot::RunKind;
use crate::net::link::Link;
use crate::net::message::{Damage, Verified, Verify};
use crate::store::names::CopyName;
use crate::store::registry::Right;
use crate::store::snapshots::SnapshotPin;
use crate::store::verified::VerifiedState;

pub use background::VerifyOptions;
pub(super) use background::start;
pub(super) use found::{Found, Outcome};
pub(super) use pace::Pace;
pub(super) use slice::Slice;
use walk::Roots;

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) snapshots: u64,
    pub(super) files: u64,
    pub(super) objects: u64,
    pub(super) bytes: u64,
    pub(super) damages: u64,
}

/// One verification of one copy.
struct Job<'a, 'p> {
    hub: &'a Hub,
    copy: &'a CopyName,
    within: &'a RelPath,
    slice: Slice,
    pace: &'a mut Pace<'p>,
    tell: &'a mut dyn FnMut(Found) -> Result<(), EngineError>,
    tally: Tally,
}

impl Job<'_, '_> {
    fn tell(&mut self, found: Found) -> Result<(), EngineError> {
        self.tally.damages += 1;
        tracing::warn!("{}: damaged: {}: {}", self.copy, escape(&found.what), found.why);
        (self.tell)(found)
    }

    /// After each piece that was read.
    fn read(&mut self, bytes: u64) -> Result<(), EngineError> {
        self.tally.bytes += bytes;
        self.pace.beat(bytes)
    }
}

/// Serves the request.
///
/// # Errors
/// Not allowed, the client has gone, the store's disk fails; damage is no error here.
pub(super) fn serve(hub: &Hub, who: &Who, link: &Link, request: &Verify) -> Result<(), EngineError> {
    let within = RelPath::new(request.path.as_slice()).map_err(WireError::from)?;
    let copies = if request.all { all_copies(hub, who)? } else { vec![who.copy().clone()] };
    let mut total = Tally::default();
    let mut part = 0;
    for copy in copies {
        let sender = link.sender.clone();
        let mut pace = Pace::of_link(&sender);
        let mut tell = |found: Found| Ok(link.send(Damage::from(found))?);
        let (tally, slice) = verify(hub, &copy, &within, request.parts, &mut pace, &mut tell)?;
        part = slice.number();
        total = total.plus(tally);
    }
    let Tally { snapshots, files, objects, bytes, damages } = total;
    Ok(link.send(Verified { part, snapshots, files, objects, bytes, damages })?)
}

fn all_copies(hub: &Hub, who: &Who) -> Result<Vec<CopyName>, EngineError> {
    if !who.identity.may(Right::Admin) {
        return Err(EngineError::new(ErrorKind::NotAllowed, "verifying the whole store takes the right 'admin'"));
    }
    Ok(hub.store.copies()?)
}

/// Verifies one copy: all of it, or the part after the one that was looked at last.
///
/// # Errors
/// What `tell` or `pace` say; the store's disk fails.
pub(super) fn verify(
    hub: &Hub,
    copy: &CopyName,
    within: &RelPath,
    parts: u32,
    pace: &mut Pace<'_>,
    tell: &mut dyn FnMut(Found) -> Result<(), EngineError>,
) -> Result<(Tally, Slice), EngineError> {
    let folder = hub.store.meta_path("verified");
    let state = VerifiedState::load(&folder, copy);
    let slice = Slice::after(state.as_ref(), parts);
    let mut job = Job { hub, copy, within, slice, pace, tell, tally: Tally::default() };
    let done = job.run();
    let tally = job.tally;
    done?;
    // Of a part of the tree it does not say how the copy is.
    if within.is_root() && !hub.is_read_only() {
        let next = VerifiedState::new(state.as_ref(), slice.number(), slice.parts(), now().secs, tally.damages);
        next.save(&folder, copy).map_err(|e| EngineError::new(ErrorKind::Failed, e.to_string()))?;
    }
    Ok((tally, slice))
}

impl Job<'_, '_> {
    fn run(&mut self) -> Result<(), EngineError> {
        let snapshots = self.hub.store.snapshots(self.copy)?;
        if let Some(why) = self.hub.waits_for(self.copy) {
            self.tell(Found::object("an interrupted commit".into(), why.message, 0))?;
        }
        for (number, why) in snapshots.damaged()? {
            self.tell(Found::object(format!("snapshot {number}"), why, 1))?;
        }
        // What expires meanwhile is read to its end all the same; what is committed meanwhile is not looked at.
        let mut records = snapshots.list()?;
        let pins: Vec<Option<SnapshotPin>> = records.iter().map(|record| snapshots.pin(record.number).ok()).collect();
        let mut pinned = pins.iter();
        records.retain(|_| pinned.next().is_some_and(Option::is_some));
        let concerned = records.iter().filter(|record| {
            record.kind == RunKind::Backup
                && (self.within.is_within(&record.root) || record.root.is_within(self.within))
        });
        let mut numbers: Vec<u64> = concerned.map(|record| record.number).collect();
        self.tally.snapshots = numbers.len() as u64;
        let mut damaged = Vec::new();
        {
            let mut beat = |bytes| self.read(bytes);
            damaged.extend(snapshots.check_manifests::<EngineError>(&numbers, &mut beat)?);
        }
        for manifest in damaged {
            numbers.retain(|number| !manifest.snapshots.contains(number));
            let name = manifest.path.as_os_str().as_encoded_bytes().to_vec();
            self.tell(Found::new(name, manifest.why, manifest.snapshots.len() as u64))?;
        }
        let mut walked = self.walk(&snapshots, &Roots::of(&records), &numbers)?;
        self.stored(&snapshots, &mut walked)?;
        self.settle(&snapshots, &mut walked)?;
        self.name_missing(&snapshots, &numbers, &walked)
    }
}

impl Tally {
    fn plus(self, other: Self) -> Self {
        Self {
            snapshots: self.snapshots + other.snapshots,
            files: self.files + other.files,
            objects: self.objects + other.objects,
            bytes: self.bytes + other.bytes,
            damages: self.damages + other.damages,
        }
    }
}

impl From<Found> for Damage {
    fn from(found: Found) -> Self {
        let text = |bytes: &[u8]| Bytes::from(escape(bytes).as_bytes());
        let (what, why) = (text(&found.what), text(found.why.as_bytes()));
        Self { what, why, snapshots: found.snapshots, outcome: found.outcome.number() }
    }
}
