//! Login names of this machine, for who comes over loopback.
//!
//! They may be asked of anything that the system's configuration names: files that are replaced whenever a user is added,
//! libraries, other services. A process that is confined ([`super::confine`]) reaches none of that; so one thread is started
//! before, which does nothing else than turn numbers into names. Where none was started the caller asks by himself.

use std::ffi::OsString;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};

/// Questions in line.
const QUEUED_MAX: usize = 64;
/// A name that takes longer is not known; a peer that says hello has no more time than this.
const PATIENCE: Duration = Duration::from_secs(5);

struct Question {
    uid: u32,
    answer: Sender<Option<OsString>>,
}

static ASKED: OnceLock<Sender<Question>> = OnceLock::new();

/// Starts the thread, once.
pub(super) fn start() {
    let (sender, questions) = bounded::<Question>(QUEUED_MAX);
    let answer = move || {
        for Question { uid, answer } in questions {
            let _ = answer.try_send(look_up(uid));
        }
    };
    match thread::Builder::new().name("names".to_owned()).spawn(answer) {
        Ok(_) => drop(ASKED.set(sender)),
        Err(error) => tracing::warn!("no thread for login names: nobody is known by his uid: {error}"),
    }
}

/// The login name of a uid; none: there is none, or nobody could tell in time.
pub(super) fn of(uid: u32) -> Option<OsString> {
    let Some(asked) = ASKED.get() else { return look_up(uid) };
    let (answer, name) = bounded(1);
    asked.send_timeout(Question { uid, answer }, PATIENCE).ok()?;
    name.recv_timeout(PATIENCE).ok()?
}

fn look_up(uid: u32) -> Option<OsString> {
    uzers::get_user_by_uid(uid).map(|user| user.name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_with_the_thread_and_without() {
        let (root, nobody) = (look_up(0), look_up(4_000_000_000));
        assert_eq!((of(0), of(4_000_000_000)), (root.clone(), nobody.clone()));
        start();
        assert_eq!((of(0), of(4_000_000_000)), (root, nobody));
    }
}
