//! What happens in a run, told once: the bars, `--json`, the daemon's log, the console and the metrics are observers.
//!
//! The engine knows nothing of them. Calls come from several threads and must not block for long.

use crate::backup::digest::Digest;

/// A phase of a run, as the user sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Connecting, or queued behind another run.
    Waiting,
    /// Walking the source while content already travels.
    Scanning,
    /// The scan has ended: the total is known.
    Sending,
    /// The other side prepares, flushes and commits.
    Committing,
    /// Reading a snapshot and writing it to the target.
    Restoring,
    /// At a destination: what a source sends arrives.
    Receiving,
}

impl Phase {
    /// For people and `--json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Scanning => "scanning",
            Self::Sending => "sending",
            Self::Committing => "committing",
            Self::Restoring => "restoring",
            Self::Receiving => "receiving",
        }
    }
}

/// One thing that happened. Paths are bytes as on disk; escape them when shown.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// A phase begins.
    Phase(Phase),
    /// Queued; the text says behind whom.
    Queued(&'a str),
    /// So many destinations are connected, of those that must hold the run.
    Gathering {
        /// Connected.
        connected: u32,
        /// Asked for.
        wanted: u32,
    },
    /// `bytes` more content to send (or write) are known of; before [`Phase::Sending`] the total still grows.
    Planned {
        /// Content bytes.
        bytes: u64,
    },
    /// A look ahead at the whole source has ended: so many content bytes will be dealt with, more or less.
    Estimated {
        /// Content bytes.
        bytes: u64,
    },
    /// A file's content begins to travel.
    FileBegun {
        /// Its path.
        path: &'a [u8],
        /// Its size.
        bytes: u64,
    },
    /// `bytes` of content are dealt with: sent, or found to be there already.
    Advanced {
        /// Content bytes.
        bytes: u64,
    },
    /// At a destination: how far the source says that it is with the whole.
    Source {
        /// Bytes of files that are dealt with.
        bytes_done: u64,
        /// Of so many.
        bytes_total: u64,
        /// Files that are dealt with.
        files_done: u64,
        /// The total is final.
        total_known: bool,
    },
    /// A file is done.
    FileDone {
        /// Its path.
        path: &'a [u8],
    },
    /// A path is not in the backup, on purpose or harmlessly: socket, store, vanished, other file system.
    Skipped {
        /// Its path.
        path: &'a [u8],
        /// Why, in words.
        why: &'a str,
    },
    /// All is well as far as this program can tell, but a person should look at this path.
    Warned {
        /// Its path.
        path: &'a [u8],
        /// Why, in words.
        why: &'a str,
    },
    /// One path failed; the run goes on and ends with exit code 3.
    Failed {
        /// Its path.
        path: &'a [u8],
        /// Why, in words.
        why: &'a str,
    },
    /// The connection was lost; trying again.
    Reconnecting {
        /// Why it was lost.
        why: &'a str,
        /// Seconds until the next attempt.
        in_secs: u64,
    },
    /// A line of a dry run's plan.
    PlanLine {
        /// create, update, move, delete, touch.
        action: &'static str,
        /// The path.
        path: &'a [u8],
        /// For a move: where to.
        other: &'a [u8],
    },
}

/// Listens to a run.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn event(&self, event: &Event<'_>);

    /// Whether to know the total early ([`Event::Estimated`]) is worth a second walk over the source.
    fn wants_total(&self) -> bool {
        false
    }
}

/// Listens to nothing.
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _: &Event<'_>) {}
}

/// Tells an observer of paths below a root by their absolute names.
pub struct Below<'a> {
    root: Vec<u8>,
    observer: &'a dyn Observer,
}

impl<'a> Below<'a> {
    /// `root` is absolute.
    pub fn new(root: Vec<u8>, observer: &'a dyn Observer) -> Self {
        Self { root, observer }
    }

    fn absolute(&self, path: &[u8]) -> Vec<u8> {
        let mut absolute = self.root.clone();
        if !path.is_empty() && !absolute.ends_with(b"/") {
            absolute.push(b'/');
        }
        absolute.extend_from_slice(path);
        absolute
    }
}

impl Observer for Below<'_> {
    fn event(&self, event: &Event<'_>) {
        let full;
        let told = match *event {
            Event::FileBegun { path, bytes } => {
                full = self.absolute(path);
                Event::FileBegun { path: &full, bytes }
            }
            Event::FileDone { path } => {
                full = self.absolute(path);
                Event::FileDone { path: &full }
            }
            Event::Skipped { path, why } => {
                full = self.absolute(path);
                Event::Skipped { path: &full, why }
            }
            Event::Warned { path, why } => {
                full = self.absolute(path);
                Event::Warned { path: &full, why }
            }
            Event::Failed { path, why } => {
                full = self.absolute(path);
                Event::Failed { path: &full, why }
            }
            Event::PlanLine { action, path, other } => {
                full = self.absolute(path);
                let other = if other.is_empty() { Vec::new() } else { self.absolute(other) };
                return self.observer.event(&Event::PlanLine { action, path: &full, other: &other });
            }
            _ => return self.observer.event(event),
        };
        self.observer.event(&told);
    }

    fn wants_total(&self) -> bool {
        self.observer.wants_total()
    }
}

/// The end of a backup of one root: what the two last lines and the JSON summary say.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Absolute path.
    pub root: Vec<u8>,
    /// Snapshot's number; none for a dry run.
    pub snapshot: Option<u64>,
    /// Manifest digest.
    pub manifest: Digest,
    /// New paths.
    pub created: u64,
    /// Files with new content, and type changes.
    pub updated: u64,
    /// Paths that only changed their name.
    pub moved: u64,
    /// Paths gone from the copy.
    pub deleted: u64,
    /// Paths with new metadata only.
    pub touched: u64,
    /// Everything else.
    pub unchanged: u64,
    /// Files in the manifest.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Content bytes read from the source.
    pub bytes_read: u64,
    /// Content bytes sent (for a dry run: that would be sent).
    pub content_bytes_sent: u64,
    /// Bytes on the wire, content included.
    pub wire_bytes_sent: u64,
    /// Bytes received on the wire.
    pub wire_bytes_received: u64,
    /// Paths that failed.
    pub errors: u64,
    /// Files whose content changed though nothing else of them did (`--rehash`).
    pub altered: u64,
    /// The snapshot is marked incomplete.
    pub incomplete: bool,
    /// Wall time.
    pub elapsed_secs: f64,
    /// What the store could not apply, in words.
    pub notes: Vec<String>,
    /// Who holds it and who does not; empty where there are no destinations.
    pub copies: Vec<CopyState>,
    /// As many destinations hold it as were asked for.
    pub enough: bool,
}

#[cfg(test)]
impl Summary {
    /// For tests: that of a run that went well.
    pub(crate) fn example() -> Self {
        Self {
            root: b"/home/u/docs".to_vec(),
            snapshot: Some(7),
            manifest: Digest::of(b""),
            created: 1200,
            updated: 3,
            moved: 0,
            deleted: 1,
            touched: 0,
            unchanged: 5,
            files: 1204,
            bytes: 5 << 20,
            bytes_read: 4 << 20,
            content_bytes_sent: 2 << 20,
            wire_bytes_sent: 3 << 20,
            wire_bytes_received: 1 << 10,
            errors: 0,
            altered: 0,
            incomplete: false,
            elapsed_secs: 187.2,
            notes: Vec::new(),
            copies: Vec::new(),
            enough: true,
        }
    }
}

/// What became of a run at one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyState {
    /// What people call it.
    pub name: String,
    /// A destination; else the daemon's own store.
    pub destination: bool,
    /// Whether it has it.
    pub state: Held,
    /// Why not; empty when it has it.
    pub reason: String,
}

/// Whether a target has a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Durably.
    Held,
    /// Not yet: it catches up.
    Behind,
    /// No.
    Failed,
}

impl Held {
    /// For people and `--json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Behind => "behind",
            Self::Failed => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);

    impl Observer for Told {
        fn event(&self, event: &Event<'_>) {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            self.0.lock().unwrap().push(match event {
                Event::PlanLine { path, other, .. } => format!("{} > {}", text(path), text(other)),
                Event::Failed { path, .. } | Event::FileDone { path } => text(path),
                other => format!("{other:?}"),
            });
        }
    }

    #[test]
    fn paths_are_told_by_their_absolute_names() {
        let told = Told::default();
        let below = Below::new(b"/home/u".to_vec(), &told);
        below.event(&Event::Failed { path: b"a/b", why: "" });
        below.event(&Event::FileDone { path: b"" });
        below.event(&Event::PlanLine { action: "move", path: b"a", other: b"b" });
        below.event(&Event::PlanLine { action: "create", path: b"", other: b"" });
        Below::new(b"/".to_vec(), &told).event(&Event::FileDone { path: b"etc" });
        below.event(&Event::Advanced { bytes: 1 });
        let told = told.0.into_inner().unwrap();
        assert_eq!(
            told,
            ["/home/u/a/b", "/home/u", "/home/u/a > /home/u/b", "/home/u > ", "/etc", "Advanced { bytes: 1 }"]
        );
    }
}
