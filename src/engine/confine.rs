//! What a process that serves keeps of its rights, drawn from what it was told: [`crate::tree::confine`] says how it is held.
//!
//! | | writes below | reads besides | TCP |
//! | --- | --- | --- | --- |
//! | daemon | STORE (a relay: its state) | its own /proc entry, the time zone | listens on its port (with a console: on any), connects to nobody |
//! | destination | DIR, the client's state (key, pins) | the same, and what finds a host by its name: /etc, libraries | connects to its server's port and to 53 |
//!
//! The configuration has been read by then. It comes before every thread but one (`login_names`), and before the
//! store is opened; its folder is made first if it is missing, for a rule needs something to stand on.

use std::path::{Path, PathBuf};

use super::client::Target;
use super::daemon::DaemonOptions;
use super::destination::ReceiveOptions;
use super::error::{EngineError, ErrorKind};
use super::login_names;
use crate::backup::bytes::escape;
use crate::backup::limits::PORT;
use crate::net::client::split_server;
use crate::store::layout::Store;
use crate::tree::confine::{self, Bounds, Confined, always_read};
use crate::tree::operator;

/// Name servers are asked over UDP, which is free, and over TCP when an answer is long.
const NAME_SERVICE: u16 = 53;
/// What finds a host by its name: configuration, libraries that it names, what systemd and its like keep of it.
const TO_FIND_HOSTS: [&str; 10] = [
    "/etc",
    "/lib",
    "/lib64",
    "/nix/store",
    "/run/NetworkManager",
    "/run/connman",
    "/run/resolvconf",
    "/run/systemd/resolve",
    "/usr/lib",
    "/usr/lib64",
];

/// Confines a daemon; says so in the log. To be called while the process has one thread. `asked_not_to`: only privileges are
/// renounced. `has_console`: in it the port can be changed.
///
/// # Errors
/// There is no folder to be confined to.
pub fn daemon(options: &DaemonOptions, has_console: bool, asked_not_to: bool) -> Result<(), EngineError> {
    Store::make_folder(&options.store)?;
    let bounds = Bounds {
        write: vec![options.store.clone()],
        read: always_read(),
        listen: vec![options.listen.port()],
        listen_anywhere: has_console,
        connect: Vec::new(),
    };
    let port = match options.listen.port() {
        _ if has_console => "TCP ports (which one is set in the console)".to_owned(),
        0 => "any free TCP port".to_owned(),
        port => format!("TCP port {port}"),
    };
    let net = format!("listens on {port}, connects to nobody");
    apply(&bounds, &net, asked_not_to)
}

/// Confines a destination, likewise.
///
/// # Errors
/// There is no folder to be confined to.
pub fn destination(options: &ReceiveOptions, asked_not_to: bool) -> Result<(), EngineError> {
    Store::make_folder(&options.store)?;
    let state = &options.client.state_dir;
    operator::make_dirs(state, 0o700).map_err(|e| {
        let shown = escape(state.as_os_str().as_encoded_bytes());
        EngineError::new(ErrorKind::Failed, format!("cannot create the state folder '{shown}': {e}"))
    })?;
    let (server, bind) = match &options.client.target {
        Target::Server { server, bind } => (split_server(server), *bind),
        Target::Store(_) | Target::Admin(_) => (None, None),
    };
    let port = server.map_or(PORT, |(_, port)| port);
    let bounds = Bounds {
        write: vec![options.store.clone(), state.clone()],
        read: TO_FIND_HOSTS.iter().map(PathBuf::from).chain(always_read()).collect(),
        // What it connects from: whatever port the system gives, if the operator did not name one.
        listen: vec![bind.map_or(0, |bind| bind.port())],
        listen_anywhere: false,
        connect: vec![port, NAME_SERVICE],
    };
    apply(&bounds, &format!("connects to TCP port {port}"), asked_not_to)
}

fn apply(bounds: &Bounds, net: &str, asked_not_to: bool) -> Result<(), EngineError> {
    confine::renounce_privileges();
    if asked_not_to {
        tracing::info!("not confined, as --no-confine says");
        return Ok(());
    }
    login_names::start();
    let confined = confine::confine(bounds);
    match confined.map_err(|e| EngineError::new(ErrorKind::Failed, e.to_string()))? {
        Confined::No(why) => tracing::warn!("not confined: {why}"),
        Confined::Yes { abi, fully } => {
            let partly = if fully { "" } else { ", as far as this kernel can" };
            tracing::info!("confined by Landlock ABI {abi}{partly}: writes below {}, {net}", list(&bounds.write));
        }
    }
    Ok(())
}

fn list(paths: &[PathBuf]) -> String {
    let shown = |path: &PathBuf| format!("'{}'", escape(Path::as_os_str(path).as_encoded_bytes()));
    paths.iter().map(shown).collect::<Vec<_>>().join(" and ")
}
