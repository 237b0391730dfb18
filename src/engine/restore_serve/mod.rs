//! The store's side of `Read`: entries of a committed snapshot, and their content. It waits for no lease.
//!
//! ```text
//!                        ┌─ Tree ────────────────────────────────────────────> link
//! caller: entries.rs ────┤ (all wanted) ─────────────┐
//!                        └─ batches ──> listener ────┴──> pool.rs: tickets ──> readers × 16
//!                             Want (link) ──^                   │ in order        │
//!                                                               └──> forwarder <──┘ ──> link
//! ```
//! The caller sends the entries; the listener turns each `Want` into work; readers find, read and verify content; the
//! forwarder sends it in the order in which it was asked for. Every queue is bounded, and the listener never waits for
//! anything but the queue of work, so a client that goes on receiving is always heard: no mutual stall. At most
//! [`TREES_UNANSWERED_MAX`] batches wait for their `Want`.

mod entries;
mod held;
mod newest;
mod places;
mod pool;
mod under_way;
mod unpacked;

use std::collections::BTreeMap;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

pub(super) use self::places::{Finder, Store};
pub(super) use self::pool::Wanted;

use self::entries::{Batches, Entries};
use self::held::Held;
use self::pool::Dispatcher;
use super::error::{EngineError, ErrorKind};
use super::hub::{Hub, Who};
use super::restore::TREES_UNANSWERED_MAX;
use super::wire::{Bits, WireError, entry_to_wire, unexpected};
use crate::backup::bytes::Bytes;
use crate::backup::digest::Digest;
use crate::backup::entry::{Entry, Kind, Link as HardLink};
use crate::backup::relpath::RelPath;
use crate::backup::snapshot::SnapshotRecord;
use crate::backup::when::{When, roots_at};
use crate::net::link::{Link, LinkReceiver, LinkSender};
use crate::net::message::{Message, Read, ReadGranted, Tree, TreeEnd};
use crate::store::names::CopyName;
use crate::store::snapshots::Snapshots;

/// Serves a request to read.
///
/// # Errors
/// No snapshot has the path, a manifest cannot be read, the client broke the protocol or has gone.
pub(crate) fn serve(hub: &Hub, who: &Who, link: &mut Link, read: Read) -> Result<(), EngineError> {
    let Read { path, shallow, content, all, at } = read;
    let when = When::from(at);
    let path = RelPath::new(path.as_slice()).map_err(WireError::from)?;
    let snapshots = hub.store.snapshots(who.copy())?;
    if path.is_root() && shallow && !all {
        return roots(&snapshots, when, link);
    }
    let held = Held::choose(snapshots, &path, when)?;
    let served = serve_held(hub, who, link, &held, (&path, Wishes { shallow, content, all }));
    // Whatever failed first: this is why.
    served.map_err(|error| held.gone().unwrap_or(error))
}

struct Wishes {
    shallow: bool,
    content: bool,
    all: bool,
}

fn serve_held(
    hub: &Hub,
    who: &Who,
    link: &mut Link,
    held: &Held,
    (path, wishes): (&RelPath, Wishes),
) -> Result<(), EngineError> {
    let Held { snapshots, record, inner, .. } = held;
    let open = || Entries::open(snapshots, record.number, inner, wishes.shallow);
    let is_header_true = inner.is_root() && !wishes.shallow && !snapshots.is_purged(record.number)?;
    link.send(granted(record, is_header_true, &open)?)?;
    let batches = Batches::new(open()?);
    if !wishes.content {
        return entries_only(&link.sender, batches);
    }
    thread::scope(|scope| {
        let store = Store::new(hub, who.copy(), Some(held))?;
        let (jobs, forwarder) = pool::start(scope, store, &link.sender);
        let Link { sender, receiver, .. } = link;
        let dispatcher = Dispatcher::new(jobs);
        let served = if wishes.all {
            send_all(sender, path, batches, dispatcher)
        } else {
            answer_wants(sender, receiver, path, batches, dispatcher)
        };
        // A link that does not carry content any more is the cause of everything else.
        match forwarder.join() {
            Ok(Ok(())) => served,
            Ok(Err(error)) => Err(error),
            Err(_) => Err(EngineError::new(ErrorKind::Failed, "sending content stopped")),
        }
    })
}

fn granted<'a>(
    record: &SnapshotRecord,
    is_header_true: bool,
    open: &dyn Fn() -> Result<Entries<'a>, EngineError>,
) -> Result<ReadGranted, EngineError> {
    let entries = open()?;
    let header = entries.header();
    let owners = header.owners.clone();
    let (mut count, mut bytes) = (header.counts.entries, header.counts.bytes);
    if !is_header_true || header.counts.kept > 0 {
        (count, bytes) = (0, 0_u64);
        for entry in entries {
            let entry = entry?;
            count += 1;
            bytes = bytes.saturating_add(own_content(&entry).map_or(0, |content| content.size));
        }
    }
    Ok(ReadGranted {
        snapshot: record.number,
        root: record.root.as_bytes().into(),
        time_secs: record.received.secs,
        complete: record.complete,
        recursive: record.recursive,
        entries: count,
        bytes,
        users: owners.users,
        groups: owners.groups,
    })
}

/// A file's content, unless it is another name of a file that has it.
fn own_content(entry: &Entry) -> Option<&crate::backup::entry::FileContent> {
    match &entry.kind {
        Kind::File(content) if !matches!(content.link, HardLink::Follower(_)) => Some(content),
        _ => None,
    }
}

/// The roots that there were at that time, as if they lay in one folder; no snapshot answers.
fn roots(snapshots: &Snapshots, when: When, link: &Link) -> Result<(), EngineError> {
    let (mut users, mut groups) = (BTreeMap::new(), BTreeMap::new());
    let mut entries = Vec::new();
    for record in roots_at(&snapshots.list()?, when).into_values() {
        let Some(found) = snapshots.find(record.number, &RelPath::root())? else { continue };
        let owners = snapshots.open_manifest(record.number)?.header().owners.clone();
        let mut entry = found.entry;
        // Numbers mean the same on one node; the names are those of the first root that has them.
        for (names, all, id) in
            [(owners.users, &mut users, entry.meta.uid), (owners.groups, &mut groups, entry.meta.gid)]
        {
            if let Some((_, name)) = names.into_iter().find(|(number, _)| *number == id) {
                all.entry(id).or_insert(name);
            }
        }
        entry.path = record.root.clone();
        entries.push(entry_to_wire(&entry));
    }
    link.send(ReadGranted {
        snapshot: 0,
        root: Bytes::default(),
        time_secs: 0,
        complete: true,
        recursive: true,
        entries: entries.len() as u64,
        bytes: 0,
        users: users.into_iter().collect(),
        groups: groups.into_iter().collect(),
    })?;
    let mut batches = 0;
    for entries in entries.chunks(entries::ENTRIES_MAX / 4) {
        link.send(Tree { batch: batches, entries: entries.to_vec() })?;
        batches += 1;
    }
    Ok(link.send(TreeEnd { batches })?)
}

/// Asks whether content can be read from anywhere, by a path that had it, its digest and its size.
///
/// # Errors
/// The store cannot be used.
pub(crate) fn deliverable<'a>(
    hub: &'a Hub,
    copy: &CopyName,
) -> Result<impl FnMut(&RelPath, Digest, u64) -> bool + use<'a>, EngineError> {
    let store = Store::new(hub, copy, None)?;
    store.look_again();
    Ok(move |path: &RelPath, digest, size| {
        Finder::new(&store).is_there(&Wanted { batch: 0, index: 0, path: path.clone(), digest, size })
    })
}

fn send_tree(sender: &LinkSender, batch: u32, entries: &[Entry]) -> Result<(), EngineError> {
    Ok(sender.send(Tree { batch, entries: entries.iter().map(entry_to_wire).collect() })?)
}

fn entries_only(sender: &LinkSender, batches: Batches<'_>) -> Result<(), EngineError> {
    let mut count = 0;
    for entries in batches {
        send_tree(sender, count, &entries?)?;
        count += 1;
    }
    Ok(sender.send(TreeEnd { batches: count })?)
}

/// What of a batch can be asked for: by index, files with content of their own.
fn wanted_of(batch: u32, entries: &[Entry], path: &RelPath) -> Result<Vec<Option<Wanted>>, EngineError> {
    let one = |(index, entry): (usize, &Entry)| match own_content(entry) {
        Some(content) => {
            let path = path.join_path(&entry.path).map_err(WireError::from)?;
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            Ok(Some(Wanted { batch, index, path, digest: content.digest, size: content.size }))
        }
        None => Ok(None),
    };
    entries.iter().enumerate().map(one).collect()
}

fn send_all(
    sender: &LinkSender,
    path: &RelPath,
    batches: Batches<'_>,
    mut dispatcher: Dispatcher,
) -> Result<(), EngineError> {
    let mut count = 0;
    for entries in batches {
        let entries = entries?;
        send_tree(sender, count, &entries)?;
        for wanted in wanted_of(count, &entries, path)?.into_iter().flatten() {
            dispatcher.push(wanted)?;
        }
        count += 1;
    }
    sender.send(TreeEnd { batches: count })?;
    dispatcher.flush()
}

/// A batch whose `Want` is to come.
struct Unanswered {
    batch: u32,
    wanted: Vec<Option<Wanted>>,
}

fn answer_wants(
    sender: &LinkSender,
    receiver: &mut LinkReceiver,
    path: &RelPath,
    batches: Batches<'_>,
    dispatcher: Dispatcher,
) -> Result<(), EngineError> {
    // One more is in the listener's hand.
    let (unanswered, queue) = bounded(TREES_UNANSWERED_MAX - 1);
    thread::scope(|scope| {
        let listener = scope.spawn(move || listen(receiver, &queue, dispatcher));
        let sent = send_trees(sender, path, batches, unanswered);
        match listener.join() {
            Ok(Ok(())) => sent,
            Ok(Err(error)) => Err(error),
            Err(_) => Err(EngineError::new(ErrorKind::Failed, "listening to the client stopped")),
        }
    })
}

fn send_trees(
    sender: &LinkSender,
    path: &RelPath,
    batches: Batches<'_>,
    unanswered: Sender<Unanswered>,
) -> Result<(), EngineError> {
    let mut batch = 0;
    for entries in batches {
        let entries = entries?;
        let wanted = wanted_of(batch, &entries, path)?;
        // The listener has stopped, and says why.
        unanswered.send(Unanswered { batch, wanted }).map_err(|_| pool::stopped())?;
        send_tree(sender, batch, &entries)?;
        batch += 1;
    }
    drop(unanswered);
    Ok(sender.send(TreeEnd { batches: batch })?)
}

/// Takes exactly one `Want` a batch, so that the next request stays for the session.
fn listen(
    receiver: &mut LinkReceiver,
    unanswered: &Receiver<Unanswered>,
    mut dispatcher: Dispatcher,
) -> Result<(), EngineError> {
    for Unanswered { batch, wanted } in unanswered {
        let want = match receiver.recv()? {
            Message::Want(want) if want.batch == batch => want,
            other => return Err(unexpected(&other, "waiting for what is wanted").into()),
        };
        let bits = Bits::from_wire(want.bits, wanted.len())?;
        for (i, wanted) in wanted.into_iter().enumerate() {
            match wanted {
                Some(wanted) if bits.get(i) => dispatcher.push(wanted)?,
                None if bits.get(i) => return Err(WireError::Bounds("what has no content is wanted").into()),
                _ => {}
            }
        }
        dispatcher.flush()?;
    }
    Ok(())
}
