//! This machine: its folders, the profiles of the person at it, and timers that run them.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path as FsPath;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::Response;
use serde::Serialize;

use super::Client;
use super::jobs::host_name;
use super::profile::{Profile, Timer};
use crate::backup::bytes::escape;
use crate::console::answer::{Answer, ApiError, json};
use crate::console::asking::{self, Query, at_hand, reference};
use crate::console::copies::path_of;
use crate::engine::error::{EngineError, ErrorKind};
use crate::json::text;
use crate::tree::operator;

/// Folders of one answer.
const FOLDERS_MAX: usize = 5000;

#[derive(Serialize)]
struct Configured<'a> {
    server: Option<String>,
    user: &'a str,
    host: String,
    home: String,
}

/// `client`: what the configuration says.
pub(super) async fn client(State(client): State<Arc<Client>>) -> Response {
    let home = text(client.home.as_os_str().as_bytes());
    json(&Configured { server: client.named_server(), user: &client.base.user, host: host_name(), home })
}

#[derive(Serialize)]
struct Folders {
    path: String,
    r#ref: String,
    parent_ref: Option<String>,
    entries: Vec<Folder>,
    more: bool,
}

#[derive(Serialize)]
struct Folder {
    name: String,
    path: String,
    r#ref: String,
    hidden: bool,
}

fn look(path: &FsPath) -> Result<Folders, EngineError> {
    let shown = || escape(path.as_os_str().as_bytes());
    let names = operator::folders(path).map_err(|e| {
        let kind =
            if e.kind() == std::io::ErrorKind::PermissionDenied { ErrorKind::NotAllowed } else { ErrorKind::Usage };
        EngineError::new(kind, format!("the folder '{}' cannot be read: {e}", shown()))
    })?;
    let more = names.len() > FOLDERS_MAX;
    let entry = |name: std::ffi::OsString| {
        let full = path.join(&name);
        let name = name.into_vec();
        let bytes = full.as_os_str().as_bytes();
        Folder { hidden: name.starts_with(b"."), name: text(&name), path: text(bytes), r#ref: reference(bytes) }
    };
    Ok(Folders {
        path: text(path.as_os_str().as_bytes()),
        r#ref: reference(path.as_os_str().as_bytes()),
        parent_ref: path.parent().map(|parent| reference(parent.as_os_str().as_bytes())),
        entries: names.into_iter().take(FOLDERS_MAX).map(entry).collect(),
        more,
    })
}

/// `folders`: those in one of this machine's.
pub(super) async fn folders(State(client): State<Arc<Client>>, uri: Uri) -> Answer {
    let path = Query::of(uri.query()).bytes("path").map_or_else(|| client.home.clone(), path_of);
    if !path.is_absolute() {
        return Err(ApiError::usage("a folder is named by its absolute path"));
    }
    Ok(json(&at_hand(move || look(&path)).await?))
}

#[derive(Serialize)]
struct Kept {
    profiles: Vec<Profile>,
    /// Those that cannot be read, and why.
    damaged: Vec<String>,
}

/// `profiles`.
pub(super) async fn profiles(State(client): State<Arc<Client>>) -> Answer {
    let kept = at_hand(move || {
        let (mut profiles, mut damaged) = (Vec::new(), Vec::new());
        for name in client.profiles.names()? {
            match client.profiles.load(&name) {
                Ok(profile) => profiles.push(profile),
                Err(error) => damaged.push(error.message),
            }
        }
        Ok(Kept { profiles, damaged })
    });
    Ok(json(&kept.await?))
}

/// Keeps a profile. Its timer is installed by itself.
pub(super) async fn keep(State(client): State<Arc<Client>>, Path(name): Path<String>, sent: Body) -> Answer {
    let profile: Profile = asking::body(sent).await?;
    let kept = at_hand(move || {
        let _turn = client.turn();
        // Over one that cannot be understood: its timer, if it has one, is not known.
        let before = client.profiles.find(&name).unwrap_or_default();
        let profile = Profile { name, timer: before.and_then(|before| before.timer), ..profile };
        client.profiles.save(&profile)?;
        Ok(profile)
    });
    Ok(json(&kept.await?))
}

/// Takes one away, and its timer.
pub(super) async fn remove(State(client): State<Arc<Client>>, Path(name): Path<String>) -> Answer {
    let removed = at_hand(move || {
        let _turn = client.turn();
        let removed = client.profiles.remove(&name)?;
        // Whatever the profile said: nothing is to run it any more.
        client.units.remove(&name)?;
        Ok(removed)
    });
    if removed.await? {
        Ok(json(&serde_json::Map::new()))
    } else {
        Err(ApiError::not_found("there is no such profile"))
    }
}

/// The profile of this name.
pub(super) fn existing(client: &Client, name: &str) -> Result<Profile, EngineError> {
    let absent = || EngineError::new(ErrorKind::Absent, format!("there is no profile '{}'", escape(name.as_bytes())));
    client.profiles.find(name)?.ok_or_else(absent)
}

/// Installs its timer.
pub(super) async fn install(State(client): State<Arc<Client>>, Path(name): Path<String>, sent: Body) -> Answer {
    let timer: Timer = asking::body(sent).await?;
    let kept = at_hand(move || {
        let _turn = client.turn();
        let profile = Profile { timer: Some(timer.clone()), ..existing(&client, &name)? };
        profile.check()?;
        client.units.install(&client.program, &name, &timer)?;
        client.profiles.save(&profile)?;
        Ok(profile)
    });
    Ok(json(&kept.await?))
}

/// Takes it away.
pub(super) async fn uninstall(State(client): State<Arc<Client>>, Path(name): Path<String>) -> Answer {
    let kept = at_hand(move || {
        let _turn = client.turn();
        let profile = Profile { timer: None, ..existing(&client, &name)? };
        client.units.remove(&name)?;
        client.profiles.save(&profile)?;
        Ok(profile)
    });
    Ok(json(&kept.await?))
}
