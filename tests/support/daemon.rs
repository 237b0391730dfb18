//! A world of one test (source, store, home in a temporary folder) and the daemon in it.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use super::client::{Client, Outcome};
pub use super::patience::{PATIENCE, wait, wait_until};

/// Folders of one test.
pub struct World {
    pub dir: tempfile::TempDir,
    /// What is backed up; made empty.
    pub source: PathBuf,
    /// Where to; not made.
    pub store: PathBuf,
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Other users take part in some tests.
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let (source, store) = (dir.path().join("source"), dir.path().join("store"));
        std::fs::create_dir(&source).unwrap();
        Self { dir, source, store }
    }

    /// A world with a daemon, and a client of it.
    pub fn served() -> (Self, Daemon, Client) {
        let world = Self::new();
        let daemon = world.daemon();
        let client = world.client(&daemon, "a");
        (world, daemon, client)
    }

    /// Waits until all that was retired is packed.
    pub fn packed(&self) {
        let retired = self.store.join(".rbbackup/retired");
        wait_until("history to be packed", || std::fs::read_dir(&retired).unwrap().next().is_none());
    }

    /// A path in this world.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A daemon on the store.
    pub fn daemon(&self) -> Daemon {
        Daemon::start(&self.store, &[])
    }

    /// A daemon on the store with that configuration file, and a client of it.
    pub fn served_with(&self, config: &str) -> (Daemon, Client) {
        let path = self.path("rbbackupd.toml");
        std::fs::write(&path, config).unwrap();
        let daemon = Daemon::start(&self.store, &["--config", path.to_str().unwrap()]);
        let client = self.client(&daemon, "a");
        (daemon, client)
    }

    /// A client of the daemon, with folders `home-<name>`.
    pub fn client(&self, daemon: &Daemon, name: &str) -> Client {
        Client::new(&self.path(&format!("home-{name}")), &["-s", &daemon.address])
    }

    /// Where the copy of `path` is, for this process's user on 127.0.0.1.
    pub fn copy_of(&self, path: &Path) -> PathBuf {
        self.copy_for("127.0.0.1", &login(), path)
    }

    pub fn copy_for(&self, node: &str, user: &str, path: &Path) -> PathBuf {
        self.store.join(node).join(user).join(path.strip_prefix("/").unwrap())
    }

    /// The copy of the source.
    pub fn copy(&self) -> PathBuf {
        self.copy_of(&self.source)
    }
}

/// Name of the user who runs the tests.
pub fn login() -> String {
    uzers::get_user_by_uid(uzers::get_effective_uid()).unwrap().name().to_str().unwrap().to_owned()
}

pub fn is_root() -> bool {
    uzers::get_effective_uid() == 0
}

/// Says why a test shows nothing here.
pub fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

/// A command of an administrator.
pub fn rbbackupd(args: &[&str]) -> Outcome {
    Outcome::of(Command::new(env!("CARGO_BIN_EXE_rbbackupd")).env_remove("RBBACKUP_LOG").args(args))
}

/// Built with failpoints a store has little of a run in memory, for the tests that kill it; those with many files say more.
pub const ITEMS_MAX: &str = "1000";

/// A running daemon; killed when dropped.
pub struct Daemon {
    child: Child,
    /// `127.0.0.1:PORT`.
    pub address: String,
    store: PathBuf,
    options: Vec<String>,
    log: Arc<Mutex<String>>,
}

impl Daemon {
    /// Starts one on a free port.
    pub fn start(store: &Path, options: &[&str]) -> Self {
        Self::start_on(store, options, "127.0.0.1:0").unwrap_or_else(|(status, log)| panic!("{status}: {log}"))
    }

    /// Starts a relay on a free port, its state in `state`.
    pub fn relay(state: &Path) -> Self {
        // In the store's place, where a relay has none.
        Self::start(Path::new("--relay"), &["--state", state.to_str().unwrap()])
    }

    /// Starts one on `listen`; the error is how it ended and what it said.
    pub fn start_on(store: &Path, options: &[&str], listen: &str) -> Result<Self, (ExitStatus, String)> {
        Self::launch(Command::new(env!("CARGO_BIN_EXE_rbbackupd")), store, options, listen)
    }

    /// Starts one as another user (for root only), who owns the folder that holds the store. The program is put there, where
    /// that user can reach it.
    pub fn start_as(uid: u32, store: &Path, options: &[&str]) -> Self {
        let (above, built) = (store.parent().unwrap(), env!("CARGO_BIN_EXE_rbbackupd"));
        let program = above.join("rbbackupd");
        if std::fs::hard_link(built, &program).is_err() {
            std::fs::copy(built, &program).unwrap();
        }
        std::os::unix::fs::chown(above, Some(uid), Some(uid)).unwrap();
        let mut command = Command::new(program);
        command.uid(uid).gid(uid).current_dir(above);
        Self::launch(command, store, options, "127.0.0.1:0").unwrap_or_else(|(status, log)| panic!("{status}: {log}"))
    }

    /// Starts what `command` says, with the arguments of a daemon.
    pub fn launch(
        mut command: Command,
        store: &Path,
        options: &[&str],
        listen: &str,
    ) -> Result<Self, (ExitStatus, String)> {
        command.arg(store).args(["--listen", listen]).args(options);
        command.env("RBBACKUP_ITEMS_MAX", ITEMS_MAX);
        command.env_remove("RBBACKUP_LOG").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let addresses = follow(&mut child, log.clone());
        match addresses.recv_timeout(PATIENCE) {
            Ok(address) => {
                let options = options.iter().map(|o| (*o).to_owned()).collect();
                Ok(Self { child, address, store: store.to_path_buf(), options, log })
            }
            Err(_) => {
                let status = wait(&mut child);
                let said = log.lock().unwrap().clone();
                Err((status, said))
            }
        }
    }

    /// The most memory that it has had, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How many files and sockets it has open.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// How many threads it has.
    pub fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap().count()
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until it has said `words`.
    pub fn wait_for(&self, words: &str) {
        wait_until(&format!("the daemon to say '{words}'"), || self.log().contains(words));
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and waits for its end.
    pub fn stop(&mut self) -> ExitStatus {
        self.terminate(rustix::process::Signal::TERM);
        self.wait()
    }

    /// Tells it to stop.
    pub fn terminate(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    /// Starts it again on the same port: to a client it is the same server.
    pub fn restart(self) -> Self {
        let (store, address, options) = (self.store.clone(), self.address.clone(), self.options.clone());
        drop(self);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        Self::start_on(&store, &options, &address).unwrap_or_else(|(status, log)| panic!("{status}: {log}"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the daemon said:\n{}", self.log());
        }
    }
}

/// Keeps what a daemon says, to its end, so that it never waits for a full pipe; sends the address it listens on.
fn follow(child: &mut Child, log: Arc<Mutex<String>>) -> Receiver<String> {
    let (sender, addresses) = channel();
    let stderr = child.stderr.take().unwrap();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            // First this: whoever has the address may look for the line.
            log.lock().unwrap().extend([line.as_str(), "\n"]);
            if let Some((_, rest)) = line.split_once(" serves ")
                && let Some((_, rest)) = rest.rsplit_once(" on ")
            {
                let _ = sender.send(rest.split(',').next().unwrap_or_default().to_owned());
            }
        }
    });
    addresses
}

/// Runs a command that must succeed.
pub fn shell(program: &str, args: &[&std::ffi::OsStr]) -> Outcome {
    let outcome = Outcome::of(Command::new(program).args(args));
    assert_eq!(outcome.code, 0, "{program}: {}", outcome.stderr);
    outcome
}
