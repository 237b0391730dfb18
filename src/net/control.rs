//! `control.sock`: the same messages on a Unix socket, for who administers the store on this machine. No TLS and no keys:
//! the kernel says who is at the other end, and only root and the daemon's own user are let in.
//!
//! The socket is reached through its open folder (`/proc/self/fd`), so that a store may lie deeper than the 107 bytes that
//! a Unix socket's address holds.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::connection::{self, Role, Timing};
use super::link::{Link, LinkCounters};
use super::runtime;
use super::shutdown::Shutdown;
use super::socket::Socket;

/// Its name within the folder.
pub const CONTROL_NAME: &str = "control.sock";
/// Conversations at once; who runs that many commands as root waits for none.
const SESSIONS_MAX: usize = 16;
/// Of this very process at once, which are the console's: whatever those who look there ask for, commands come through.
const OWN_SESSIONS_MAX: usize = 32;

/// Pause after the system refused to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves one connection, in a thread of its own.
pub type Handler = Arc<dyn Fn(Link) + Send + Sync>;

/// An address for a socket in `folder`; good as long as the file is open.
fn address(folder: &Path) -> io::Result<(File, PathBuf)> {
    let folder = File::open(folder)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(CONTROL_NAME);
    Ok((folder, path))
}

/// Asks the daemon that serves the store with this folder; none: there is no daemon.
///
/// # Errors
/// There is one, and it cannot be reached.
pub fn connect(folder: &Path) -> io::Result<Option<Link>> {
    let (_open, path) = address(folder)?;
    let stream = match StdStream::connect(path) {
        Ok(stream) => stream,
        // Never made, or left by a daemon that was killed.
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => return Ok(None),
        Err(e) => return Err(e),
    };
    stream.set_nonblocking(true)?;
    let _guard = runtime::handle()?.enter();
    Ok(Some(link_on(UnixStream::from_std(stream)?, Role::Client)))
}

fn link_on(stream: UnixStream, role: Role) -> Link {
    let counters = Arc::<LinkCounters>::default();
    connection::spawn(Socket::new(stream, counters.clone()), role, Timing::default(), counters).0
}

/// Listens in `folder` until `shutdown`, in the background. The caller holds the store's lock: a socket that is there
/// already belongs to nobody.
///
/// # Errors
/// The socket cannot be made.
pub fn serve(folder: &Path, shutdown: &Shutdown, handler: Handler) -> io::Result<()> {
    let (open, path) = address(folder)?;
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = StdListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    let runtime = runtime::handle()?;
    let _guard = runtime.enter();
    let listener = UnixListener::from_std(listener)?;
    let shutdown = shutdown.clone();
    runtime.spawn(async move {
        accept_all(&listener, &shutdown, &handler).await;
        let _ = fs::remove_file(&path);
        drop(open);
    });
    Ok(())
}

async fn accept_all(listener: &UnixListener, shutdown: &Shutdown, handler: &Handler) {
    let (commands, own) = (Arc::new(Semaphore::new(SESSIONS_MAX)), Arc::new(Semaphore::new(OWN_SESSIONS_MAX)));
    let ours = rustix::process::geteuid().as_raw();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.triggered() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "cannot accept a connection to {CONTROL_NAME}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(peer) = stream.peer_cred().ok().filter(|peer| peer.uid() == 0 || peer.uid() == ours) else {
            debug!("another user came to {CONTROL_NAME}");
            continue;
        };
        let is_own = peer.pid() == Some(std::process::id().cast_signed());
        let Ok(permit) = Arc::clone(if is_own { &own } else { &commands }).try_acquire_owned() else { continue };
        let (link, handler) = (link_on(stream, Role::Daemon), handler.clone());
        let serve = move || {
            let _permit = permit;
            handler(link);
        };
        if let Err(error) = std::thread::Builder::new().name("control".to_owned()).spawn(serve) {
            warn!(%error, "no thread for a session");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::message::{Busy, Message};

    #[test]
    fn a_folder_of_any_depth_is_served_and_left_clean() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("x".repeat(120));
        fs::create_dir(&folder).unwrap();
        assert!(connect(&folder).unwrap().is_none(), "nobody listens");
        // What a daemon leaves that was killed.
        drop(StdListener::bind(address(&folder).unwrap().1).unwrap());
        assert!(connect(&folder).unwrap().is_none(), "nobody listens any more");
        let shutdown = Shutdown::new();
        let handler: Handler = Arc::new(|mut link: Link| {
            while let Ok(message) = link.recv() {
                link.send(message).unwrap();
            }
        });
        serve(&folder, &shutdown, handler).unwrap();
        let socket = folder.join(CONTROL_NAME);
        assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
        for phase in 0..3 {
            let mut link = connect(&folder).unwrap().unwrap();
            link.send(Busy { phase }).unwrap();
            assert_eq!(link.recv().unwrap(), Message::Busy(Busy { phase }));
        }
        shutdown.trigger();
        while socket.exists() {
            std::thread::yield_now();
        }
    }
}
