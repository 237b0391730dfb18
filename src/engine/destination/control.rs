//! The control connection: dialled for ever, with growing pauses; says what we hold, hears who calls.
//!
//! ```text
//! this thread   recv: Summon ─▶ a data connection
//! teller        Attend at once, after each commit, and each [`TELL_EVERY`]; ends with the connection
//! ```

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, select};

use super::{Place, data, said};
use crate::backup::bytes::escape;
use crate::backup::digest::RunId;
use crate::engine::client::{self, Session, Target};
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::wire::unexpected;
use crate::net::link::{Link, LinkSender};
use crate::net::message::{Attend, Message};
use crate::net::shutdown::Shutdown;
use crate::store::follows::Followed;

/// Pauses double from the first to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// How often the daemon hears how much space there is.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Attends until `shutdown`.
///
/// # Errors
/// The daemon will never take us: it says so, or it is not the one that it was.
pub(super) fn run(place: &Arc<Place>, shutdown: &Shutdown) -> Result<(), EngineError> {
    let mut pause = PAUSE_FIRST;
    let mut was_there = false;
    loop {
        let began = Instant::now();
        let error = attend(place, &mut was_there);
        if shutdown.is_triggered() {
            return Ok(());
        }
        // One that is lost again at once is not dialled again and again at once.
        if began.elapsed() > PAUSE_MAX {
            (pause, was_there) = (PAUSE_FIRST, true);
        }
        if is_final(&error, was_there) {
            return Err(error);
        }
        tracing::info!("{error}; dialled again in {} s", pause.as_secs());
        place.receiving.lost(&error.message, pause);
        if shutdown.wait_timeout(pause) {
            return Ok(());
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Whether waiting cannot help. A daemon that took us once may be in trouble, or be brought up to date.
fn is_final(error: &EngineError, was_there: bool) -> bool {
    match error.kind {
        ErrorKind::Unreachable => false,
        ErrorKind::NotAllowed | ErrorKind::Usage => true,
        _ => !was_there,
    }
}

/// One connection, to its end; why it ended.
fn attend(place: &Arc<Place>, was_there: &mut bool) -> EngineError {
    let mut link = match client::open(&place.client) {
        Ok(Session { link, welcome, .. }) => match follow(place, welcome.store) {
            Ok(()) => link,
            Err(error) => return error,
        },
        Err(error) => return error,
    };
    let sender = link.sender.clone();
    let (alive, ended) = bounded::<()>(0);
    thread::scope(|scope| {
        scope.spawn(move || tell(place, &sender, &ended));
        let heard = hear(place, &mut link, was_there);
        drop(alive);
        // The teller may wait for a peer that takes nothing.
        link.sender.end();
        heard
    })
}

/// What this store holds must come from this daemon alone; see `store::follows`.
fn follow(place: &Place, daemon: [u8; 16]) -> Result<(), EngineError> {
    let store = &place.hub.store;
    if daemon == store.id() {
        // A copy of its own store: it says so itself.
        return Ok(());
    }
    let root = escape(store.root().as_os_str().as_encoded_bytes());
    let why = match store.follow(daemon)? {
        Followed::Yes => return Ok(()),
        Followed::Another(known) => format!(
            "'{root}' holds what another server passed on (its store's id is {}, this one's {}): a destination of this one \
             needs a folder of its own. If this server has taken the place of the other, remove '{root}/.rbbackup/follows'",
            RunId(known),
            RunId(daemon)
        ),
        Followed::HasOwn => format!(
            "'{root}' holds backups that no server passed on, and what this one passes on could replace them: a destination \
             needs a folder of its own"
        ),
    };
    Err(EngineError::new(ErrorKind::NotAllowed, why))
}

/// Takes calls until the connection ends.
fn hear(place: &Arc<Place>, link: &mut Link, was_there: &mut bool) -> EngineError {
    loop {
        match link.recv() {
            Ok(Message::Summon(summon)) => {
                let joining = Arc::clone(place);
                place.links.spawn(move |stop| data::answer(&joining, stop, summon.call));
            }
            Ok(Message::Refused(refused)) => return refused.into(),
            Ok(other) => return unexpected(&other, "waiting for a call").into(),
            Err(error) => return error.into(),
        }
        *was_there = true;
    }
}

/// Says what we hold, whenever that changes.
fn tell(place: &Place, sender: &LinkSender, ended: &Receiver<()>) {
    let mut told: Vec<Attend> = Vec::new();
    loop {
        match said::said(place) {
            Ok(now) if now == told => {}
            Ok(now) => {
                if now.iter().try_for_each(|part| sender.send(part.clone())).is_err() {
                    return;
                }
                if told.is_empty()
                    && let Target::Server { server, .. } = &place.client.target
                {
                    place.receiving.attending(server);
                }
                told = now;
            }
            Err(error) => tracing::warn!("what this store holds cannot be told: {error}"),
        }
        select! {
            recv(place.news.1) -> _ => {}
            recv(ended) -> _ => return,
            default(TELL_EVERY) => {}
        }
    }
}
