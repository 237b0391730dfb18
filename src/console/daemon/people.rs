//! Who comes in: users, their rights and quotas, invitations.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use serde::{Deserialize, Deserializer, Serialize};

use super::Daemon;
use crate::console::answer::{Answer, ApiError, json};
use crate::console::asking::{self, blocking, reference};
use crate::engine::stop::Stop;
use crate::engine::trust::manage::{self, InvitationReport, InviteOptions, Revoked, UserReport};
use crate::json::text;
use crate::store::invitations::InvitationId;
use crate::store::names::CopyName;
use crate::store::registry::Right;

#[derive(Serialize)]
struct People {
    users: Vec<User>,
    invitations: Vec<Invitation>,
}

#[derive(Serialize)]
struct User {
    node: String,
    user: String,
    r#ref: String,
    key: String,
    rights: Vec<Right>,
    quota_bytes: Option<u64>,
    created_secs: i64,
    revoked_secs: Option<i64>,
    newest_secs: Option<i64>,
    connections: u32,
}

impl From<UserReport> for User {
    fn from(user: UserReport) -> Self {
        Self {
            r#ref: [reference(&user.node), reference(&user.user)].join("/"),
            node: text(&user.node),
            user: text(&user.user),
            key: user.key,
            rights: user.rights,
            quota_bytes: user.quota_bytes,
            created_secs: user.created_secs,
            revoked_secs: user.revoked_secs,
            newest_secs: Some(user.newest_secs).filter(|secs| *secs > 0),
            connections: user.connections,
        }
    }
}

#[derive(Serialize)]
struct Invitation {
    id: String,
    user: String,
    node: Option<String>,
    rights: Option<Vec<Right>>,
    quota_bytes: Option<u64>,
    replace: bool,
    expires_secs: i64,
}

impl From<InvitationReport> for Invitation {
    fn from(invitation: InvitationReport) -> Self {
        Self {
            id: invitation.id.to_string(),
            user: text(&invitation.user),
            node: (!invitation.node.is_empty()).then(|| text(&invitation.node)),
            rights: invitation.rights,
            quota_bytes: invitation.quota_bytes,
            replace: invitation.replace,
            expires_secs: invitation.expires_secs,
        }
    }
}

/// `users`: who is known, and who is invited.
pub(super) async fn list(State(daemon): State<Arc<Daemon>>) -> Answer {
    let (users, invitations) = blocking(move || manage::users(&daemon.store(), &Stop::default())).await?;
    let users = users.into_iter().map(User::from).collect();
    Ok(json(&People { users, invitations: invitations.into_iter().map(Invitation::from).collect() }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Invite {
    user: String,
    #[serde(default)]
    node: Option<String>,
    #[serde(default)]
    rights: Option<Vec<Right>>,
    #[serde(default)]
    quota_bytes: Option<u64>,
    valid_secs: u64,
    #[serde(default)]
    replace_key: bool,
}

#[derive(Serialize)]
struct Invited {
    id: String,
    token: String,
    daemon_key: String,
    expires_secs: i64,
}

/// Makes an invitation; its token is shown this once.
pub(super) async fn invite(State(daemon): State<Arc<Daemon>>, sent: Body) -> Answer {
    let Invite { user, node, rights, quota_bytes, valid_secs, replace_key } = asking::body(sent).await?;
    let node = node.filter(|node| !node.is_empty());
    let options = InviteOptions { user, node, rights, quota_bytes, valid_secs, replace_key };
    let handed = blocking(move || manage::invite(&daemon.store(), &options, &Stop::default())).await?;
    let manage::Handed { id, token, daemon_key, expires_secs } = handed;
    Ok(json(&Invited { id: id.to_string(), token, daemon_key, expires_secs }))
}

#[derive(Serialize)]
struct Settled {
    connections: u32,
}

async fn shut_out(daemon: Arc<Daemon>, whom: Revoked) -> Answer {
    let connections = blocking(move || manage::revoke(&daemon.store(), &whom, &Stop::default())).await?;
    Ok(json(&Settled { connections }))
}

/// Takes an invitation back.
pub(super) async fn uninvite(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>) -> Answer {
    let id = InvitationId::from_hex(&id).ok_or_else(|| ApiError::usage("an invitation's id has 16 hex digits"))?;
    shut_out(daemon, Revoked::Invitation(id)).await
}

fn copy_of(node: &str, user: &str) -> Result<CopyName, ApiError> {
    CopyName::new(node.as_bytes(), user.as_bytes()).map_err(|e| ApiError::usage(e.to_string()))
}

/// Shuts a user out.
pub(super) async fn revoke(State(daemon): State<Arc<Daemon>>, Path((node, user)): Path<(String, String)>) -> Answer {
    shut_out(daemon, Revoked::Identity(copy_of(&node, &user)?)).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    #[serde(default)]
    rights: Option<Vec<Right>>,
    /// `null` takes the quota away; what is not there stays.
    #[serde(default, deserialize_with = "said")]
    quota_bytes: Option<Option<u64>>,
}

fn said<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Gives other rights, or another quota.
pub(super) async fn change(
    State(daemon): State<Arc<Daemon>>,
    Path((node, user)): Path<(String, String)>,
    sent: Body,
) -> Answer {
    let (copy, Change { rights, quota_bytes }) = (copy_of(&node, &user)?, asking::body(sent).await?);
    let ask = move || manage::change(&daemon.store(), &copy, rights.as_deref(), quota_bytes, &Stop::default());
    Ok(json(&Settled { connections: blocking(ask).await? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_that_is_taken_away_is_told_from_one_that_stays() {
        let change = |text: &str| serde_json::from_str::<Change>(text).unwrap().quota_bytes;
        assert_eq!(change(r#"{"rights": ["backup"]}"#), None);
        assert_eq!(change(r#"{"quota_bytes": null}"#), Some(None));
        assert_eq!(change(r#"{"quota_bytes": 7}"#), Some(Some(7)));
        assert!(serde_json::from_str::<Change>(r#"{"quota": 7}"#).is_err());
    }
}
