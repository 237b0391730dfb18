//! `rbbackup join` and `rbbackup rekey`: our key at a server.

use std::io::BufReader;
use std::path::Path;

use serde::Serialize;

use super::environment::Environment;
use super::exit::Exit;
use super::settings::Settings;
use super::terminal::Terminal;
use crate::backup::bytes::escape;
use crate::engine::client::{ClientOptions, Target};
use crate::engine::error::EngineError;
use crate::engine::trust::join::{Joined, join, read_token};
use crate::engine::trust::rekey::rekey;
use crate::json;

/// `join`.
#[derive(Clone, Debug, clap::Args)]
pub struct JoinArgs {
    /// The server, as it will be named with --server
    #[arg(value_name = "HOST[:PORT]")]
    pub host: String,
    /// What 'rbbackupd invite' printed; without it, or as '-', it is read from standard input, where other users of this
    /// machine do not see it
    #[arg(value_name = "TOKEN")]
    pub token: Option<String>,
}

/// Redeems an invitation, and says what to do next.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub(super) fn run_join(
    settings: &Settings,
    env: &Environment,
    terminal: &Terminal,
    args: &JoinArgs,
) -> Result<Exit, EngineError> {
    let token = match args.token.as_deref().filter(|token| *token != "-") {
        Some(token) => token.to_owned(),
        None => read_token(BufReader::new(std::io::stdin()), Path::new("standard input"))?,
    };
    let client = at_host(&settings.client, &args.host);
    let joined = join(&client, &token, env.login.as_deref())?;
    if settings.voice.json {
        terminal.out(&json::line(&JoinedJson::of(&joined, &args.host)));
    } else if !settings.voice.quiet {
        let host = escape(args.host.as_bytes());
        terminal.out(&format!("joined {host} as {}/{}", escape(&joined.node), escape(&joined.user)));
        terminal.out(&format!("its key is {}, mine {}", joined.daemon_key, joined.my_key));
        if joined.keeps_user {
            terminal.out(&format!("backups to it go under the user name '{}' from now on", escape(&joined.user)));
        }
        terminal.out(&format!("back up with: rbbackup -r -s {host} PATH"));
    }
    Ok(Exit::Done)
}

/// The options of a command, at the server that it names itself.
fn at_host(client: &ClientOptions, host: &str) -> ClientOptions {
    let bind = match &client.target {
        Target::Server { bind, .. } => *bind,
        Target::Store(_) | Target::Admin(_) => None,
    };
    ClientOptions { target: Target::Server { server: host.to_owned(), bind }, ..client.clone() }
}

/// Exchanges our key.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code.
pub(super) fn run_rekey(settings: &Settings, terminal: &Terminal) -> Result<Exit, EngineError> {
    let key = rekey(&settings.client)?;
    if settings.voice.json {
        terminal.out(&json::line(&KeyJson { r#type: "key", key: &key }));
    } else if !settings.voice.quiet {
        terminal.out(&format!("my key is {key} from now on; the one before opens nothing any more"));
    }
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct JoinedJson<'a> {
    r#type: &'static str,
    server: &'a str,
    node: String,
    user: String,
    daemon_key: &'a str,
    my_key: &'a str,
}

impl<'a> JoinedJson<'a> {
    fn of(joined: &'a Joined, server: &'a str) -> Self {
        Self {
            r#type: "joined",
            server,
            node: json::text(&joined.node),
            user: json::text(&joined.user),
            daemon_key: &joined.daemon_key,
            my_key: &joined.my_key,
        }
    }
}

#[derive(Serialize)]
struct KeyJson<'a> {
    r#type: &'static str,
    key: &'a str,
}
