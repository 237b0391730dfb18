//! What is asked of a server, and what is started there.

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::Client;
use super::machine::existing;
use super::profile::Profile;
use crate::backup::when::When;
use crate::console::answer::{Answer, ApiError, json};
use crate::console::asking::{self, blocking, bytes_of};
use crate::console::copies::{asked_of, path_of};
use crate::engine::inspect;
use crate::engine::restore::{Overwrite, RestoreOptions};
use crate::engine::trust::join::join as redeem;
use crate::json::{StatusDestination, text};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Check {
    #[serde(default)]
    server: Option<String>,
    #[serde(default)]
    user: Option<String>,
}

#[derive(Serialize)]
struct Checked {
    software: String,
    node: String,
    user: String,
    roots: usize,
    destinations: Vec<StatusDestination>,
    daemon_key: Option<String>,
}

fn said(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// Whether a server is there, and takes us.
pub(super) async fn check(State(client): State<Arc<Client>>, sent: Body) -> Answer {
    let Check { server, user } = asking::body(sent).await?;
    let (server, user) = (said(server), said(user));
    let way = client.way_to(server.clone(), user.clone());
    let status = blocking(move || inspect::status(&way)).await?;
    client.uses(server, user);
    Ok(json(&Checked {
        software: text(&status.software),
        node: text(&status.node),
        user: text(&status.user),
        roots: status.roots.len(),
        destinations: status.destinations.iter().map(StatusDestination::from).collect(),
        daemon_key: status.daemon_key,
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Join {
    server: String,
    token: String,
}

#[derive(Serialize)]
struct Joined {
    node: String,
    user: String,
}

/// Redeems an invitation.
pub(super) async fn join(State(client): State<Arc<Client>>, sent: Body) -> Answer {
    let Join { server, token } = asking::body(sent).await?;
    let (way, login) = (client.way_to(Some(server.clone()), None), client.login.clone());
    let joined = blocking(move || redeem(&way, token.trim(), login.as_deref())).await?;
    client.uses(Some(server), None);
    Ok(json(&Joined { node: text(&joined.node), user: text(&joined.user) }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    #[serde(default)]
    profile: Option<Profile>,
    #[serde(default)]
    run: Option<String>,
}

#[derive(Serialize)]
struct Started {
    id: String,
}

/// Starts what a profile says, kept or not.
pub(super) async fn start(State(client): State<Arc<Client>>, sent: Body) -> Answer {
    let profile = match asking::body(sent).await? {
        Start { profile: Some(profile), run: None } => profile,
        Start { profile: None, run: Some(name) } => existing(&client, &name)?,
        _ => return Err(ApiError::usage("'profile' or 'run' says what is to be started")),
    };
    profile.check()?;
    let way = profile.client(&client.base);
    client.uses(profile.server.clone(), profile.user.clone());
    Ok(json(&Started { id: client.jobs.start(way, &client.push, &client.keeping, profile)? }))
}

/// Stops one.
pub(super) async fn stop(State(client): State<Arc<Client>>, Path(id): Path<String>) -> Answer {
    if client.jobs.stop(&id) {
        return Ok(json(&serde_json::Map::new()));
    }
    Err(ApiError::not_found("this has ended already"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Restore {
    path_ref: String,
    #[serde(default)]
    at: Option<u64>,
    #[serde(default)]
    to: Option<String>,
    #[serde(default)]
    overwrite: Option<String>,
    #[serde(default)]
    delete: bool,
    /// As `entries` said it when this was picked.
    #[serde(default)]
    asked: Option<String>,
}

/// Starts a restore, from the server that was browsed when it was picked.
pub(super) async fn restore(State(client): State<Arc<Client>>, sent: Body) -> Answer {
    let Restore { path_ref, at, to, overwrite, delete, asked } = asking::body(sent).await?;
    let way = client.way();
    if asked.is_some() && asked != asked_of(&way) {
        let message =
            "another server is browsed by now (a backup was started, or one was checked): load the page again";
        return Err(ApiError::new(StatusCode::CONFLICT, "locked", message));
    }
    let overwrite = match overwrite.as_deref() {
        None | Some("changed") => Overwrite::Changed,
        Some("always") => Overwrite::Always,
        Some("newer") => Overwrite::Newer,
        Some("never") => Overwrite::Never,
        Some(_) => return Err(ApiError::usage("'overwrite' is 'changed', 'always', 'newer' or 'never'")),
    };
    let to = to.filter(|to| !to.is_empty());
    if to.as_ref().is_some_and(|to| !to.starts_with('/')) {
        return Err(ApiError::usage("the folder to restore to is an absolute path"));
    }
    let options = RestoreOptions {
        path: path_of(&bytes_of(&path_ref)),
        when: at.map_or(When::Latest, When::Number),
        to: to.map(PathBuf::from),
        overwrite,
        delete,
        dry_run: false,
    };
    Ok(json(&Started { id: client.jobs.restore(way, options)? }))
}
