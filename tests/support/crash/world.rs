//! A source, a store, the real programs: what crash tests need around them.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rbbackup::backup::snapshot::SnapshotRecord;
use rbbackup::store::layout::{OpenMode, Store};

use super::patience::{PATIENCE, wait, waited};

/// Folders of one test.
pub struct World {
    /// All of it.
    pub dir: tempfile::TempDir,
    /// What is backed up.
    pub source: PathBuf,
    /// Where to.
    pub store: PathBuf,
    /// The client's keys and caches.
    pub home: PathBuf,
    /// What its daemons are told; none: nothing.
    pub config: Option<PathBuf>,
    /// One and the same for all daemons of this world: a client has a key for every server.
    port: u16,
}

/// A free port below those that the kernel gives to clients.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(61).wrapping_add(NEXT.fetch_add(1, Ordering::SeqCst));
        let port = 20_000 + (number % 12_000) as u16;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A daemon; killed when dropped.
pub struct Daemon {
    child: Child,
    /// Where it listens; none: it died before it did.
    pub address: Option<String>,
}

impl World {
    pub fn new() -> Self {
        // A world that failed can be looked at.
        let keep = std::env::var_os("RBBACKUP_TEST_KEEP").is_some();
        let dir = tempfile::Builder::new().disable_cleanup(keep).tempdir().unwrap();
        let (source, store) = (dir.path().join("source"), dir.path().join("store"));
        let home = dir.path().join("home");
        std::fs::create_dir(&home).unwrap();
        Self { dir, source, store, home, config: None, port: free_port() }
    }

    /// A program in this world.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("HOME", &self.home).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Starts a daemon on the store and waits until it listens or has died.
    pub fn daemon(&self, failpoint: Option<&str>) -> Daemon {
        self.daemon_on(&self.store, failpoint)
    }

    pub fn daemon_on(&self, store: &Path, failpoint: Option<&str>) -> Daemon {
        let mut daemon = self.start_daemon(store, failpoint);
        let stderr = daemon.child.stderr.take().unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        // Reads to the end, so that the daemon never waits for a full pipe.
        std::thread::spawn(move || {
            let mut said = String::new();
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once(" on 127.0.0.1:") {
                    let port = rest.split(',').next().unwrap_or_default().to_owned();
                    let _ = sender.send(Ok(format!("127.0.0.1:{port}")));
                }
                if line.contains("WARN") || line.contains("ERROR") || line.contains("rbbackupd: ") {
                    said = format!("{said}{line}\n");
                }
            }
            let _ = sender.send(Err(said));
        });
        match receiver.recv_timeout(PATIENCE).expect("the daemon neither listens nor dies") {
            Ok(address) => daemon.address = Some(address),
            Err(said) => {
                let status = daemon.child.wait().unwrap();
                assert!(status.code().is_none(), "the daemon does not start ({status}): {said}");
            }
        }
        daemon
    }

    /// Starts a daemon and does not wait.
    pub fn start_daemon(&self, store: &Path, failpoint: Option<&str>) -> Daemon {
        let mut command = self.command(env!("CARGO_BIN_EXE_rbbackupd"));
        command.arg(store).args(["--listen", &format!("127.0.0.1:{}", self.port)]).stderr(Stdio::piped());
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        if let Some(failpoint) = failpoint {
            command.env("RBBACKUP_FAILPOINT", failpoint);
        }
        Daemon { child: command.spawn().unwrap(), address: None }
    }

    /// Begins a backup of `root`.
    pub fn start_push(&self, daemon: &Daemon, root: &Path, flags: &[&str]) -> Child {
        self.start_push_to(daemon.address.as_ref().expect("a daemon that listens"), root, flags)
    }

    pub fn start_push_to(&self, address: &str, root: &Path, flags: &[&str]) -> Child {
        let mut command = self.command(env!("CARGO_BIN_EXE_rbbackup"));
        command.args(["-s", address, "--retry-for", "0"]).args(flags).arg(root);
        command.stderr(Stdio::piped()).spawn().unwrap()
    }

    /// A backup that must succeed.
    pub fn push(&self, daemon: &Daemon, root: &Path, flags: &[&str]) {
        let (status, said) = finish(self.start_push(daemon, root, flags));
        assert!(status.success(), "{status}: {said}");
    }

    /// Where the copy of the source is in a store; none: no directory of this identity yet.
    pub fn copy_in(&self, store: &Path) -> Option<PathBuf> {
        let node = store.join("127.0.0.1");
        let user = node.read_dir().ok()?.next()?.unwrap().file_name();
        Some(node.join(user).join(self.source.strip_prefix("/").unwrap()))
    }
}

impl Daemon {
    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Whether a failpoint (or anybody else) has killed it.
    pub fn is_dead(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = wait(&mut self.child);
        assert!(status.success(), "the daemon ends with {status}");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits for a client; its status and what it said.
pub fn finish(mut child: Child) -> (ExitStatus, String) {
    let status = wait(&mut child);
    let said = child.wait_with_output().unwrap();
    (status, String::from_utf8_lossy(&said.stderr).into_owned())
}

/// The committed runs of all copies, oldest first.
pub fn snapshots(store: &Path) -> Vec<SnapshotRecord> {
    let store = Store::open(store, OpenMode::ReadOnly).unwrap();
    let mut all = Vec::new();
    for copy in store.copies().unwrap() {
        let snapshots = store.snapshots(&copy).unwrap();
        assert!(snapshots.damaged().unwrap().is_empty());
        all.extend(snapshots.list().unwrap().iter().map(|record| (**record).clone()));
    }
    all
}

/// What a store must look like when no run is under way: no journal, no draft, nothing parked, and `retired/` holds
/// committed runs only. `staging`: content that waits for the next run of its root is allowed.
pub fn assert_no_leftovers(store: &Path, staging: bool) {
    let own = store.join(".rbbackup");
    let names = |dir: &Path| -> Vec<PathBuf> {
        dir.read_dir().map(|names| names.map(|e| e.unwrap().path()).collect()).unwrap_or_default()
    };
    assert_eq!(names(&own.join("journal")), Vec::<PathBuf>::new(), "journals are left");
    for copy in names(&own.join("snapshots")) {
        let drafts: Vec<_> = names(&copy).into_iter().filter(|p| p.to_string_lossy().contains(".tmp-")).collect();
        assert_eq!(drafts, Vec::<PathBuf>::new(), "drafts are left");
    }
    // A run's staging goes after its receipt.
    waited(Duration::from_secs(20), || staging || names(&own.join("staging")).is_empty());
    for folder in names(&own.join("staging")) {
        assert!(staging, "staging is left: {:?}", super::state::read(&folder).keys());
        assert!(folder.join("owner").is_file() && !folder.join("park").exists(), "{}", folder.display());
    }
    let runs: HashSet<String> = snapshots(store).iter().map(|record| record.run.to_hex()).collect();
    for run in names(&own.join("retired")) {
        let name = run.file_name().unwrap().to_str().unwrap();
        assert!(runs.contains(name), "retired/{name} belongs to no snapshot");
    }
}
