//! The real client with folders of its own, and what came of a run.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::patience::ended;

/// A client: keys, configuration and caches below one folder.
#[derive(Clone)]
pub struct Client {
    pub home: PathBuf,
    program: PathBuf,
    options: Vec<String>,
    uid: Option<u32>,
    cwd: Option<PathBuf>,
    vars: Vec<(String, String)>,
}

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Client {
    /// `options` stand before all others in each call.
    pub fn new(home: &Path, options: &[&str]) -> Self {
        std::fs::create_dir_all(home).unwrap();
        let options = options.iter().map(|o| (*o).to_owned()).collect();
        let program = env!("CARGO_BIN_EXE_rbbackup").into();
        Self { home: home.to_path_buf(), program, options, uid: None, cwd: None, vars: Vec::new() }
    }

    /// The same with more options.
    pub fn with(&self, options: &[&str]) -> Self {
        let mut client = self.clone();
        client.options.extend(options.iter().map(|o| (*o).to_owned()));
        client
    }

    /// The same with an environment variable.
    pub fn var(&self, name: &str, value: &str) -> Self {
        let mut client = self.clone();
        client.vars.push((name.to_owned(), value.to_owned()));
        client
    }

    /// The same, run elsewhere.
    pub fn in_dir(&self, dir: &Path) -> Self {
        Self { cwd: Some(dir.to_path_buf()), ..self.clone() }
    }

    /// The same as another user (for root only). The program is put where that user can reach it.
    pub fn as_uid(&self, uid: u32) -> Self {
        let program = self.home.join("rbbackup");
        if !program.exists() && std::fs::hard_link(&self.program, &program).is_err() {
            std::fs::copy(&self.program, &program).unwrap();
        }
        std::os::unix::fs::chown(&self.home, Some(uid), Some(uid)).unwrap();
        Self { program, uid: Some(uid), ..self.clone() }
    }

    fn command(&self, args: &[&OsStr]) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().env("HOME", &self.home).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("RBBACKUP_ITEMS_MAX", super::daemon::ITEMS_MAX);
        command.envs(self.vars.iter().map(|(k, v)| (k, v)));
        command.args(&self.options).args(args);
        if let Some(uid) = self.uid {
            command.uid(uid).gid(uid);
        }
        command.current_dir(self.cwd.as_deref().unwrap_or(&self.home));
        command
    }

    /// Runs it to its end.
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Outcome {
        let args: Vec<&OsStr> = args.iter().map(AsRef::as_ref).collect();
        Outcome::of(&mut self.command(&args))
    }

    /// Starts it; stdout and stderr are pipes.
    pub fn start<S: AsRef<OsStr>>(&self, args: &[S]) -> Child {
        let args: Vec<&OsStr> = args.iter().map(AsRef::as_ref).collect();
        let mut command = self.command(&args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// As [`Client::start`], with a pipe to write into.
    pub fn start_with_stdin<S: AsRef<OsStr>>(&self, args: &[S]) -> Child {
        let args: Vec<&OsStr> = args.iter().map(AsRef::as_ref).collect();
        let mut command = self.command(&args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// A backup with `--json` that must succeed; its summary.
    #[track_caller]
    pub fn push(&self, flags: &str, root: &Path) -> Value {
        self.push_code(flags, root, 0)
    }

    /// A backup with `--json` that must end with `code`; its summary, or null.
    #[track_caller]
    pub fn push_code(&self, flags: &str, root: &Path, code: i32) -> Value {
        let outcome = self.try_push(flags, root);
        assert_eq!(outcome.code, code, "{}{}", outcome.stdout, outcome.stderr);
        outcome.summary()
    }

    /// A backup with `--json`.
    pub fn try_push(&self, flags: &str, root: &Path) -> Outcome {
        let mut args: Vec<&OsStr> = vec!["--json".as_ref(), "--progress=never".as_ref()];
        args.extend(flags.split_whitespace().map(OsStr::new));
        args.push(root.as_os_str());
        self.run(&args)
    }
}

impl Outcome {
    /// Runs a command to its end.
    pub fn of(command: &mut Command) -> Self {
        Self::end(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Waits for the end of a program whose stdout and stderr are pipes.
    pub fn end(mut child: Child) -> Self {
        let (stdout, stderr) = (drain(child.stdout.take().unwrap()), drain(child.stderr.take().unwrap()));
        let status = ended(&mut child);
        let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
        let Some(status) = status else { panic!("a program hangs; it said: {stdout}{stderr}") };
        Self { code: status.code().unwrap_or(-1), stdout, stderr }
    }

    /// The objects on stdout; anything else there is a failure.
    #[track_caller]
    pub fn objects(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("no JSON ({e}): {line}"));
        self.stdout.lines().map(parse).collect()
    }

    /// The object of this type; null if there is none.
    #[track_caller]
    pub fn object(&self, kind: &str) -> Value {
        self.objects().into_iter().find(|object| object["type"] == kind).unwrap_or_default()
    }

    #[track_caller]
    pub fn summary(&self) -> Value {
        self.object("summary")
    }

    /// Both streams.
    pub fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// It must have ended so, and said all of these.
    #[track_caller]
    pub fn expect(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{}", self.said());
        for word in words {
            assert!(self.said().contains(word), "'{word}' is not said: {}", self.said());
        }
    }
}

fn drain(mut stream: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
