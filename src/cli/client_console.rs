//! `rbbackup console`: a console of one's own on loopback, and the browser at it; `rbbackup run NAME`: what was set there.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::args::{BackupArgs, FilterSource, ReceiveArgs, Request, SharedArgs};
use super::daemon_config::DaemonConfig;
use super::environment::Environment;
use super::exit::Exit;
use super::settings::Settings;
use super::signals;
use super::terminal::Terminal;
use super::units::parse_address;
use crate::console::Bound;
use crate::console::client::profile::{Part, Profile, Profiles};
use crate::console::client::{ConsoleOptions, Keeping, start};
use crate::engine::error::{EngineError, ErrorKind};
use crate::net::shutdown::Shutdown;
use crate::tree::{operator, own};

/// `console`.
#[derive(Clone, Debug, clap::Args)]
pub struct ConsoleArgs {
    /// Address of this machine's loopback to listen on [default: 127.0.0.1 and any free port]
    #[arg(long, value_name = "ADDR[:PORT]", default_value = "127.0.0.1", value_parser = parse_loopback)]
    pub listen: SocketAddr,
    /// Only print the link
    #[arg(long)]
    pub no_browser: bool,
}

fn parse_loopback(text: &str) -> Result<SocketAddr, String> {
    let address = parse_address(text, 0)?;
    if address.ip().is_loopback() {
        return Ok(address);
    }
    let way = "ssh -L 8732:127.0.0.1:8732 HOST rbbackup console --no-browser --listen 127.0.0.1:8732";
    Err(format!("the client's console is for this machine only: 127.0.0.1 or ::1. From another one: {way}"))
}

/// Serves until a signal comes.
///
/// # Errors
/// The console cannot be started.
pub(super) fn run(
    settings: &Settings,
    env: &Environment,
    terminal: &Terminal,
    args: &ConsoleArgs,
) -> Result<Exit, EngineError> {
    let failed = |message: String| EngineError::new(ErrorKind::Failed, message);
    let bound = Bound::new(args.listen, None).map_err(|e| failed(e.to_string()))?;
    let shutdown = Shutdown::new();
    let ending = shutdown.clone();
    let watching = signals::watch(move |count, _| {
        if count > 1 {
            std::process::exit(Exit::Interrupted.code().into());
        }
        ending.trigger();
    });
    watching.map_err(|e| failed(format!("cannot watch signals: {e}")))?;
    let state = &settings.client.state_dir;
    let options = ConsoleOptions {
        bound,
        client: settings.client.clone(),
        push: settings
            .push_options(&BackupArgs::default(), env)
            .map_err(|e| EngineError::new(ErrorKind::Usage, e.to_string()))?,
        keeping: {
            let config = DaemonConfig::load(None).map_err(|e| EngineError::new(ErrorKind::Usage, e.to_string()))?;
            Keeping { retention: config.retention, verify: config.verify }
        },
        login: env.login.clone(),
        home: env.home.clone().unwrap_or_else(|| PathBuf::from("/")),
        home_config: state.parent().unwrap_or(Path::new("/")).to_path_buf(),
        program: std::env::current_exe().map_err(|e| failed(format!("this program's own path is not known: {e}")))?,
    };
    let running = start(options, shutdown.clone()).map_err(|e| failed(e.to_string()))?;
    // The link is what was asked for.
    terminal.out(&running.link);
    if !args.no_browser && !open_browser(state, &running.link) {
        terminal.say("rbbackup: there is no browser to be opened here; open the link, within an hour, for one sign-in");
    }
    shutdown.wait();
    running.end();
    Ok(Exit::Done)
}

/// Opens the browser at the link, through a file that only its owner can read: arguments are seen by everybody.
fn open_browser(state: &Path, link: &str) -> bool {
    let has_screen = ["DISPLAY", "WAYLAND_DISPLAY", "BROWSER"].iter().any(|name| std::env::var_os(name).is_some());
    if !has_screen {
        return false;
    }
    let page = format!(
        "<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=\"0; url={link}\"><title>rbbackup</title>\n"
    );
    let written = operator::make_own(state, 0o700).and_then(|dir| {
        own::write_file(&dir, "console.html", page.as_bytes())?;
        Ok(dir.join("console.html"))
    });
    let Ok(file) = written else { return false };
    let mut browser = Command::new("xdg-open");
    browser.arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    match browser.spawn() {
        Ok(mut child) => {
            let waiting = std::thread::Builder::new().spawn(move || child.wait());
            waiting.is_ok()
        }
        Err(_) => false,
    }
}

/// What the command line would say for a profile.
///
/// # Errors
/// There is no such profile, or it cannot be understood.
pub(super) fn of_profile(name: &str, shared: &SharedArgs, env: &Environment) -> Result<(SharedArgs, Request), String> {
    let dir = env.config_dir().ok_or("neither HOME nor XDG_CONFIG_HOME is set")?;
    let profile = Profiles::new(&dir).load(name).map_err(|e| e.message)?;
    Ok(as_request(profile, shared))
}

fn as_request(profile: Profile, shared: &SharedArgs) -> (SharedArgs, Request) {
    let mut shared = shared.clone();
    if shared.server.is_none() && shared.store.is_none() {
        shared.server = profile.server;
    }
    shared.user = shared.user.or(profile.user);
    let request = match profile.role {
        Part::Source => Request::Backup(BackupArgs {
            paths: profile.folders.iter().map(PathBuf::from).collect(),
            recursive: profile.recursive,
            delete: profile.delete,
            copies: (profile.copies > 0).then_some(profile.copies),
            filter_sources: profile.excludes.iter().map(|pattern| FilterSource::Pattern(pattern.into())).collect(),
            ..BackupArgs::default()
        }),
        Part::Destination => Request::Receive(ReceiveArgs {
            dir: PathBuf::from(profile.folder.unwrap_or_default()),
            name: profile.called,
            from: Vec::new(),
            config: None,
            no_confine: false,
        }),
    };
    (shared, request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_says_what_the_command_line_would() {
        let profile = Profile {
            server: Some("nas".into()),
            folders: vec!["/a".into(), "/b".into()],
            recursive: true,
            copies: 2,
            excludes: vec!["*.tmp".into()],
            ..Profile::default()
        };
        let (shared, request) = as_request(profile.clone(), &SharedArgs::default());
        assert_eq!(shared.server.as_deref(), Some("nas"));
        let Request::Backup(args) = request else { panic!("a backup") };
        assert!(args.recursive && !args.delete && args.copies == Some(2) && args.paths.len() == 2);
        assert_eq!(args.filter_sources, [FilterSource::Pattern("*.tmp".into())]);
        let said = SharedArgs { server: Some("other".into()), ..SharedArgs::default() };
        assert_eq!(as_request(profile, &said).0.server.as_deref(), Some("other"));
        let destination = Profile { role: Part::Destination, folder: Some("/srv".into()), ..Profile::default() };
        let (_, Request::Receive(args)) = as_request(destination, &SharedArgs::default()) else { panic!("receive") };
        assert_eq!(args.dir, Path::new("/srv"));
    }

    #[test]
    fn the_console_is_for_this_machine() {
        assert!(parse_loopback("127.0.0.1").unwrap().ip().is_loopback() && parse_loopback("[::1]:9").is_ok());
        assert!(parse_loopback("0.0.0.0:8732").unwrap_err().contains("ssh -L"));
    }
}
