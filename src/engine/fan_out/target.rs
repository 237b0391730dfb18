//! [`Target`]: a link at whose far end a run is received. What is to be sent waits in a queue counted in bytes, so that
//! whoever serves several never waits for one.
//!
//! Two threads a target: one sends what is queued, one hears what comes. Both tell the run's driver, and nothing any more
//! once the target is dropped. Then the link ends on our side: the one ends at once, the other when the peer's side ends, or
//! with the next thing that it says.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::backup::bytes::Bytes;
use crate::backup::fanout::{Level, TargetId};
use crate::backup::limits::TARGET_QUEUE_BYTES;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::wire::entry_bytes;
use crate::net::link::{Link, LinkReceiver, LinkSender};
use crate::net::message::{Message, WireChange, WireEntry};

/// Nothing is queued beyond this: one message more than may wait, whatever it is, stays below it.
const QUEUE_BYTES_HARD: usize = 2 * TARGET_QUEUE_BYTES;
/// A message is this much more than what it carries.
const MESSAGE_BYTES: usize = 1024;
/// That a queue moves is told this often, if nothing else is to be told of it.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What a target does. Told with its id, and the number of its start: what comes of an earlier one is to be ignored.
#[derive(Debug)]
pub(super) enum TargetEvent {
    /// It said something.
    Heard(Message),
    /// It took something; see [`Target::level`].
    Took,
    /// The link is over.
    Ended(EngineError),
}

/// Where a target's threads tell what happens.
pub(super) type Events = Sender<(TargetId, u64, TargetEvent)>;

/// See the module.
pub(super) struct Target {
    shared: Arc<Shared>,
    link: LinkSender,
}

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Default)]
struct Queue {
    /// With their weight.
    messages: VecDeque<(usize, Message)>,
    bytes: usize,
    /// Nothing more will be queued.
    over: bool,
    /// Nothing is sent any more, and nothing heard.
    dropped: bool,
}

impl Queue {
    fn level(&self) -> Level {
        match self.bytes {
            0 => Level::Empty,
            bytes if bytes < TARGET_QUEUE_BYTES => Level::Some,
            _ => Level::Full,
        }
    }
}

impl Target {
    /// Takes the link over.
    ///
    /// # Errors
    /// There are no more threads.
    pub(super) fn start(id: TargetId, link: Link, events: Events, generation: u64) -> Result<Self, EngineError> {
        let Link { sender, receiver, .. } = link;
        let shared = Arc::new(Shared { queue: Mutex::default(), filled: Condvar::new() });
        let target = Self { shared: Arc::clone(&shared), link: sender.clone() };
        let (told, hearing) = (events.clone(), Arc::clone(&shared));
        spawn("target sends", move || write(&shared, &sender, &|event| told.send((id, generation, event)).is_ok()))?;
        spawn("target says", move || {
            read(receiver, &|event| !hearing.lock().dropped && events.send((id, generation, event)).is_ok());
        })?;
        Ok(target)
    }

    /// Queues a message; never waits. False: far more waits than may, and this is not queued: the target is lost. Who
    /// stops at [`Level::Full`] never sees that.
    #[must_use]
    pub(super) fn send(&self, message: impl Into<Message>) -> bool {
        let message = message.into();
        let bytes = weight(&message);
        let mut queue = self.shared.lock();
        if queue.bytes >= QUEUE_BYTES_HARD {
            return false;
        }
        queue.bytes += bytes;
        queue.messages.push_back((bytes, message));
        drop(queue);
        self.shared.filled.notify_one();
        true
    }

    /// How much waits.
    pub(super) fn level(&self) -> Level {
        self.shared.lock().level()
    }

    /// Ends the link once what is queued is sent.
    pub(super) fn finish(&self) {
        self.shared.lock().over = true;
        self.shared.filled.notify_one();
    }
}

impl Drop for Target {
    /// Nothing that waits is sent any more, and what still comes is not told.
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        if !queue.over {
            queue.messages.clear();
            (queue.over, queue.dropped) = (true, true);
            drop(queue);
            self.shared.filled.notify_one();
            self.link.end();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), EngineError> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(work).map(drop);
    thread.map_err(|e| EngineError::new(ErrorKind::Failed, format!("cannot start a thread: {e}")))
}

/// About what it takes in memory: its lists by their items, the rest by the message.
fn weight(message: &Message) -> usize {
    let entry = |entry: &WireEntry| size_of::<WireEntry>() + entry_bytes(entry);
    let names = |names: &[(u32, Bytes)]| names.iter().map(|(_, name)| size_of::<(u32, Bytes)>() + name.0.len()).sum();
    let texts = |texts: &[Bytes]| texts.iter().map(|text| size_of::<Bytes>() + text.0.len()).sum::<usize>();
    let more = match message {
        Message::Files(files, payload) => payload.len() + files.entries.iter().map(entry).sum::<usize>(),
        Message::Chunks(chunks, payload) => payload.len() + size_of_val(chunks.lens.as_slice()),
        Message::Content(_, payload) => payload.len(),
        Message::Changes(changes) => {
            let change = |change: &WireChange| match change {
                WireChange::Put(put) => entry(put),
                WireChange::Remove(path) | WireChange::Unseen(path) => size_of::<WireChange>() + path.0.len(),
            };
            changes.changes.iter().map(change).sum()
        }
        Message::Offer(offer) => size_of_val(offer.digests.as_slice()),
        Message::ChunkOffer(offer) => size_of_val(offer.items.as_slice()),
        Message::FileOpen(open) => open.path.0.len(),
        Message::FileDone(done) => done.entry.as_ref().map_or(0, entry),
        Message::Manifest(head) => {
            let [users, groups]: [usize; 2] = [names(&head.users), names(&head.groups)];
            users + groups + texts(&head.errors)
        }
        Message::Begin(begin) => begin.root.0.len() + texts(&begin.filters),
        _ => 0,
    };
    MESSAGE_BYTES + more
}

fn write(shared: &Shared, link: &LinkSender, tell: &dyn Fn(TargetEvent) -> bool) {
    let mut told = Instant::now();
    loop {
        let queue = shared.lock();
        let waits = |queue: &mut Queue| queue.messages.is_empty() && !queue.over;
        let mut queue = shared.filled.wait_while(queue, waits).unwrap_or_else(PoisonError::into_inner);
        let Some((bytes, message)) = queue.messages.pop_front() else { break };
        drop(queue);
        // Why it failed is heard where the link is listened to.
        let sent = link.send(message).is_ok();
        let mut queue = shared.lock();
        let before = queue.level();
        queue.bytes = queue.bytes.saturating_sub(bytes);
        let level = queue.level();
        drop(queue);
        if level != before || level == Level::Empty || told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            if !tell(TargetEvent::Took) {
                break;
            }
        }
        if !sent {
            break;
        }
    }
    link.end();
}

fn read(mut link: LinkReceiver, tell: &dyn Fn(TargetEvent) -> bool) {
    loop {
        let heard = link.recv();
        let over = heard.is_err();
        let event = heard.map_or_else(|error| TargetEvent::Ended(error.into()), TargetEvent::Heard);
        if !tell(event) || over {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::digest::Digest;
    use crate::net::frame::Frame;
    use crate::net::message::{Busy, Changes, ChunkOffer, Chunks, FileDone, FileOpen, Files, Manifest, Offer};
    use crate::net::message::{WireChunk, WireKind};

    fn chunk(file: u32) -> Message {
        Message::Chunks(Chunks { file, lens: vec![1 << 20] }, vec![0; 1 << 20])
    }

    #[test]
    fn sending_never_waits_and_fills_up_and_what_is_queued_arrives() {
        let (ours, mut theirs) = Link::pair();
        let (events, told) = crossbeam_channel::unbounded();
        let target = Target::start(TargetId(1), ours, events, 7).unwrap();
        assert_eq!(target.level(), Level::Empty);
        let count = 30;
        for file in 0..count {
            assert!(target.send(chunk(file)));
        }
        assert_eq!(target.level(), Level::Full);
        target.finish();
        for file in 0..count {
            assert!(theirs.recv() == Ok(chunk(file)));
        }
        assert!(theirs.recv().is_err());
        drop(theirs);
        let told: Vec<_> = told.iter().collect();
        assert!(told.iter().all(|(id, generation, _)| (*id, *generation) == (TargetId(1), 7)));
        // From full to some, and at the end; and what ends is told last or so.
        assert!(told.iter().filter(|(_, _, event)| matches!(event, TargetEvent::Took)).count() >= 2);
        assert_eq!(target.level(), Level::Empty);
    }

    #[test]
    fn a_queue_has_an_end_whoever_fills_it() {
        let (ours, theirs) = Link::pair();
        let (events, _told) = crossbeam_channel::unbounded();
        let target = Target::start(TargetId(1), ours, events, 0).unwrap();
        let taken = (0..200).take_while(|file| target.send(chunk(*file))).count();
        let queued = target.shared.lock().bytes;
        assert!(taken < 100 && queued < QUEUE_BYTES_HARD + (2 << 20), "{taken} messages, {queued} bytes");
        drop(theirs);
    }

    #[test]
    fn a_message_weighs_at_least_what_it_takes() {
        let long = |len: usize| Bytes(vec![b'x'; len]);
        let entry = WireEntry {
            path: long(4000),
            mode: 0,
            uid: 0,
            gid: 0,
            mtime_secs: 0,
            mtime_nanos: 0,
            xattrs: vec![(long(200), long(60_000))],
            kind: WireKind::Symlink { target: long(4000) },
        };
        let digest = Digest([1; 32]);
        let names = vec![(1, long(200)); 1000];
        let manifest = Manifest {
            base: None,
            digest,
            entries: 0,
            incomplete: false,
            users: names.clone(),
            groups: names,
            errors: vec![long(1000); 100],
        };
        let items = vec![WireChunk::New { digest, len: 1 }; 1000];
        let changes =
            vec![WireChange::Put(entry.clone()), WireChange::Remove(long(4000)), WireChange::Unseen(long(4000))];
        let heavy: [Message; 8] = [
            Message::Files(Files { entries: vec![entry.clone(); 10] }, vec![0; 1000]),
            Message::Chunks(Chunks { file: 0, lens: vec![1; 1000] }, vec![0; 1000]),
            Offer { batch: 0, digests: vec![digest; 1000] }.into(),
            ChunkOffer { batch: 0, file: 0, items }.into(),
            FileOpen { file: 0, path: long(4000), size: 1, class: 1, base: None }.into(),
            FileDone { file: 0, entry: Some(entry) }.into(),
            manifest.into(),
            Changes { changes }.into(),
        ];
        for message in heavy {
            let weight = weight(&message);
            let name = message.name();
            let wire = Frame::encode(message).unwrap().into_bytes().len();
            assert!(weight >= wire && weight < 3 * wire + 2 * MESSAGE_BYTES, "{name}: {weight} for {wire}");
        }
    }

    #[test]
    fn what_it_says_is_told_and_a_target_that_is_dropped_is_let_go() {
        let (ours, mut theirs) = Link::pair();
        let (events, told) = crossbeam_channel::unbounded();
        let target = Target::start(TargetId(1), ours, events, 0).unwrap();
        theirs.send(Busy { phase: 3 }).unwrap();
        assert!(matches!(told.recv().unwrap().2, TargetEvent::Heard(Message::Busy(Busy { phase: 3 }))));
        // It takes nothing: more is queued than its link holds.
        for file in 0..20 {
            assert!(target.send(chunk(file)));
        }
        drop(target);
        assert!((0..100_000).any(|_| theirs.send(Busy { phase: 4 }).is_err()), "it is heard for ever");
        let mut taken = 0;
        while theirs.recv().is_ok() {
            taken += 1;
        }
        assert!(taken < 20);
        drop(theirs);
        assert!(
            !told.iter().any(|(_, _, event)| matches!(event, TargetEvent::Heard(Message::Busy(Busy { phase: 4 }))))
        );
    }
}
