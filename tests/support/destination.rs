//! A running `rbbackup receive`; killed when dropped.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::client::Client;
use super::patience::{wait, wait_until};

/// See the module.
pub struct Destination {
    child: Child,
    pub store: PathBuf,
    out: Arc<Mutex<String>>,
    err: Arc<Mutex<String>>,
}

impl Destination {
    /// Starts one with the client's keys and server.
    pub fn start(client: &Client, store: &Path, options: &[&str]) -> Self {
        let mut args = vec!["receive".to_owned(), store.to_str().unwrap().to_owned()];
        args.extend(options.iter().map(|o| (*o).to_owned()));
        let mut child = client.start(&args);
        let (out, err) = (keep(child.stdout.take().unwrap()), keep(child.stderr.take().unwrap()));
        Self { child, store: store.to_path_buf(), out, err }
    }

    /// What it has said on both streams.
    pub fn said(&self) -> String {
        format!("{}{}", self.out.lock().unwrap(), self.err.lock().unwrap())
    }

    /// The objects on stdout so far.
    pub fn objects(&self) -> Vec<Value> {
        self.out.lock().unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and waits for its end.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.wait()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the destination of {} said:\n{}", self.store.display(), self.said());
        }
    }
}

fn keep(stream: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let kept = Arc::<Mutex<String>>::default();
    let said = kept.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut said = said.lock().unwrap();
            said.push_str(&line);
            said.push('\n');
        }
    });
    kept
}

/// The destinations that the daemon tells this client of, by name.
pub fn listed(client: &Client) -> Vec<Value> {
    let status = client.run(&["--json", "status"]).object("status");
    let mut all = status["destinations"].as_array().unwrap().clone();
    all.sort_by_key(|one| one["name"].as_str().unwrap().to_owned());
    all
}

pub fn names(client: &Client) -> Vec<String> {
    listed(client).iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

/// Waits until exactly these are there.
#[track_caller]
pub fn wait_for_names(client: &Client, wanted: &[&str]) {
    wait_until(&format!("destinations {wanted:?}"), || names(client) == wanted);
}
