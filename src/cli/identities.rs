//! `rbbackupd invite`, `users`, `revoke`, `set`, `rekey`: who may come in. They ask the daemon that serves the store, and
//! open it themselves where none runs.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::admin::{Failure, parse_copy, stop_at_signals};
use super::environment::Environment;
use super::exit::Exit;
use super::render::{count, show_time};
use super::terminal::Terminal;
use super::units::{parse_size, parse_time, show_bytes};
use crate::backup::bytes::escape;
use crate::engine::trust::manage::{self, Handed, InvitationReport, InviteOptions, Revoked, UserReport};
use crate::json;
use crate::store::invitations::InvitationId;
use crate::store::names::CopyName;
use crate::store::registry::Right;

/// Where the store is.
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// Folder of the store, or of a relay's state [env: RBBACKUP_STORE]
    #[arg(long, value_name = "STORE")]
    store: Option<PathBuf>,
    /// One JSON object a line on stdout
    #[arg(long)]
    json: bool,
}

impl StoreArgs {
    fn path(&self, env: &Environment) -> Result<PathBuf, Failure> {
        let named = self.store.clone().or_else(|| env.var("RBBACKUP_STORE").map(PathBuf::from));
        let named =
            named.ok_or_else(|| Failure::Usage("which store? Say --store STORE, or set RBBACKUP_STORE".into()))?;
        env.absolute(&named).map_err(Failure::Usage)
    }
}

/// `invite`.
#[derive(Debug, Args)]
pub struct InviteArgs {
    /// User name under which the machine will back up
    #[arg(value_name = "USER")]
    user: String,
    #[command(flatten)]
    store: StoreArgs,
    /// Name of its folder [default: the address from which it joins]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// What it may do: backup, restore, receive, admin [default: backup,restore]
    #[arg(long, value_name = "RIGHT,...", value_delimiter = ',', value_parser = parse_right)]
    rights: Option<Vec<Right>>,
    /// How long the invitation can be redeemed
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_expiry)]
    expires: Duration,
    /// Most that its copy and its history may take (10G)
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    quota: Option<u64>,
    /// Give the folder of NODE/USER to the machine that joins; its present key is shut out
    #[arg(long, requires = "node")]
    replace_key: bool,
}

/// `users`.
#[derive(Debug, Args)]
pub struct UsersArgs {
    #[command(flatten)]
    store: StoreArgs,
}

/// `revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// Whose key opens nothing any more; or the id of an invitation that is taken back
    #[arg(value_name = "NODE/USER|ID", value_parser = parse_revoked)]
    whom: Revoked,
    #[command(flatten)]
    store: StoreArgs,
}

/// `set`.
#[derive(Debug, Args)]
#[group(required = true, multiple = true, args = ["rights", "quota"])]
pub struct SetArgs {
    /// Whose
    #[arg(value_name = "NODE/USER", value_parser = parse_copy)]
    copy: CopyName,
    #[command(flatten)]
    store: StoreArgs,
    /// What it may do: backup, restore, receive, admin
    #[arg(long, value_name = "RIGHT,...", value_delimiter = ',', value_parser = parse_right)]
    rights: Option<Vec<Right>>,
    /// Most that its copy and its history may take (10G), or none
    #[arg(long, value_name = "SIZE|none", value_parser = parse_quota)]
    quota: Option<Quota>,
}

/// `rekey`.
#[derive(Debug, Args)]
pub struct RekeyArgs {
    #[command(flatten)]
    store: StoreArgs,
}

macro_rules! speaks_json {
    ($($args:ty),*) => {
        $(impl $args {
            /// Whether to speak JSON.
            pub(super) fn json(&self) -> bool {
                self.store.json
            }
        })*
    };
}
speaks_json!(InviteArgs, UsersArgs, RevokeArgs, SetArgs, RekeyArgs);

/// `--quota` of `set`; a name of its own because clap takes an `Option` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota(Option<u64>);

fn parse_right(text: &str) -> Result<Right, String> {
    Right::of_name(text).ok_or_else(|| format!("'{text}' is no right: there are backup, restore, receive and admin"))
}

fn parse_expiry(text: &str) -> Result<Duration, String> {
    let time = parse_time(text)?;
    if time.is_zero() { Err("an invitation of no time cannot be redeemed".to_owned()) } else { Ok(time) }
}

fn parse_quota(text: &str) -> Result<Quota, String> {
    if text == "none" { Ok(Quota(None)) } else { parse_size(text).map(|bytes| Quota(Some(bytes))) }
}

fn parse_revoked(text: &str) -> Result<Revoked, String> {
    match InvitationId::from_hex(text) {
        Some(id) => Ok(Revoked::Invitation(id)),
        None => parse_copy(text).map(Revoked::Identity).map_err(|why| format!("{why}, or an invitation's 16 digits")),
    }
}

/// Runs `invite`: the token alone goes to stdout.
pub(super) fn invite(args: &InviteArgs, env: &Environment, terminal: &Terminal) -> Result<Exit, Failure> {
    let options = InviteOptions {
        user: args.user.clone(),
        node: args.node.clone(),
        rights: args.rights.clone(),
        quota_bytes: args.quota,
        valid_secs: args.expires.as_secs(),
        replace_key: args.replace_key,
    };
    let handed = manage::invite(&args.store.path(env)?, &options, &stop_at_signals()?)?;
    if args.store.json {
        terminal.out(&json::line(&InvitedJson::of(&handed, &args.user)));
        return Ok(Exit::Done);
    }
    terminal.out(&handed.token);
    if terminal.stderr_is_terminal() {
        let until = show_time(handed.expires_secs);
        let user = escape(args.user.as_bytes());
        terminal.say(&format!("for {user}, once, until {until}: rbbackup join HOST TOKEN"));
        terminal.say(&format!(
            "this daemon's key is {}; the invitation's id, to take it back, {}",
            handed.daemon_key, handed.id
        ));
    }
    Ok(Exit::Done)
}

/// Runs `users`.
pub(super) fn users(args: &UsersArgs, env: &Environment, terminal: &Terminal) -> Result<Exit, Failure> {
    let (users, invitations) = manage::users(&args.store.path(env)?, &stop_at_signals()?)?;
    if args.store.json {
        users.iter().for_each(|user| terminal.out(&json::line(&UserJson::of(user))));
        invitations.iter().for_each(|invitation| terminal.out(&json::line(&InvitationJson::of(invitation))));
    } else {
        users.iter().flat_map(user_lines).for_each(|line| terminal.out(&line));
        invitations.iter().for_each(|invitation| terminal.out(&invitation_line(invitation)));
        if users.is_empty() && invitations.is_empty() {
            terminal.say("nobody is known yet, and nobody is invited");
        }
    }
    Ok(Exit::Done)
}

/// Runs `revoke`.
pub(super) fn revoke(args: &RevokeArgs, env: &Environment, terminal: &Terminal) -> Result<Exit, Failure> {
    let ended = manage::revoke(&args.store.path(env)?, &args.whom, &stop_at_signals()?)?;
    let what = match &args.whom {
        Revoked::Identity(copy) => format!(
            "the key of {copy} opens nothing any more; {} ended; what it backed up stays",
            count(u64::from(ended), "connection", "connections")
        ),
        Revoked::Invitation(id) => format!("invitation {id} is taken back"),
    };
    settled(args.store.json, &what, ended, terminal);
    Ok(Exit::Done)
}

/// Runs `set`.
pub(super) fn set(args: &SetArgs, env: &Environment, terminal: &Terminal) -> Result<Exit, Failure> {
    let (rights, quota) = (args.rights.as_deref(), args.quota.map(|quota| quota.0));
    let ended = manage::change(&args.store.path(env)?, &args.copy, rights, quota, &stop_at_signals()?)?;
    let mut what = vec![args.copy.to_string()];
    what.extend(rights.map(|rights| format!("may {}", names(rights))));
    what.extend(
        quota.map(|quota| quota.map_or_else(|| "no quota".to_owned(), |quota| format!("quota {}", show_bytes(quota)))),
    );
    settled(args.store.json, &what.join(", "), ended, terminal);
    Ok(Exit::Done)
}

/// Runs `rekey`.
pub(super) fn rekey(args: &RekeyArgs, env: &Environment, terminal: &Terminal) -> Result<Exit, Failure> {
    let key = manage::rekey_daemon(&args.store.path(env)?, &stop_at_signals()?)?;
    if args.store.json {
        terminal.out(&json::line(&KeyJson { r#type: "key", key: &key }));
    } else {
        terminal.out(&format!(
            "the daemon's key is {key} from now on; clients that know the one before follow by themselves"
        ));
    }
    Ok(Exit::Done)
}

fn settled(json: bool, what: &str, connections: u32, terminal: &Terminal) {
    if json {
        terminal.out(&json::line(&SettledJson { r#type: "settled", connections }));
    } else {
        terminal.out(what);
    }
}

fn names(rights: &[Right]) -> String {
    let names: Vec<&str> = rights.iter().map(|right| right.name()).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(",") }
}

fn user_lines(user: &UserReport) -> Vec<String> {
    let mut first = format!("{}/{}  {}", escape(&user.node), escape(&user.user), names(&user.rights));
    if let Some(quota) = user.quota_bytes {
        first.push_str(&format!(", quota {}", show_bytes(quota)));
    }
    match user.newest_secs {
        0 => first.push_str(", no backup yet"),
        secs => first.push_str(&format!(", newest backup {}", show_time(secs))),
    }
    if let Some(revoked) = user.revoked_secs {
        first.push_str(&format!(", REVOKED {}", show_time(revoked)));
    }
    if user.connections > 0 {
        first.push_str(&format!(", {} now", count(u64::from(user.connections), "connection", "connections")));
    }
    vec![first, format!("    {}, known since {}", user.key, show_time(user.created_secs))]
}

fn invitation_line(invitation: &InvitationReport) -> String {
    let node = if invitation.node.is_empty() { "(its address)".to_owned() } else { escape(&invitation.node) };
    let mut line = format!("invited   {node}/{}  id {}", escape(&invitation.user), invitation.id);
    if let Some(rights) = &invitation.rights {
        line.push_str(&format!(", {}", names(rights)));
    }
    if let Some(quota) = invitation.quota_bytes {
        line.push_str(&format!(", quota {}", show_bytes(quota)));
    }
    if invitation.replace {
        line.push_str(", replaces the key");
    }
    line + &format!(", until {}", show_time(invitation.expires_secs))
}

#[derive(Serialize)]
struct InvitedJson<'a> {
    r#type: &'static str,
    id: String,
    user: &'a str,
    token: &'a str,
    daemon_key: &'a str,
    expires_secs: i64,
}

impl<'a> InvitedJson<'a> {
    fn of(handed: &'a Handed, user: &'a str) -> Self {
        let Handed { id, token, daemon_key, expires_secs } = handed;
        Self { r#type: "invited", id: id.to_string(), user, token, daemon_key, expires_secs: *expires_secs }
    }
}

#[derive(Serialize)]
struct UserJson<'a> {
    r#type: &'static str,
    node: String,
    user: String,
    key: &'a str,
    rights: Vec<&'static str>,
    quota_bytes: Option<u64>,
    created_secs: i64,
    revoked_secs: Option<i64>,
    /// None: no backup yet.
    newest_secs: Option<i64>,
    connections: u32,
}

impl<'a> UserJson<'a> {
    fn of(user: &'a UserReport) -> Self {
        Self {
            r#type: "user",
            node: json::text(&user.node),
            user: json::text(&user.user),
            key: &user.key,
            rights: user.rights.iter().map(|right| right.name()).collect(),
            quota_bytes: user.quota_bytes,
            created_secs: user.created_secs,
            revoked_secs: user.revoked_secs,
            newest_secs: Some(user.newest_secs).filter(|secs| *secs != 0),
            connections: user.connections,
        }
    }
}

#[derive(Serialize)]
struct InvitationJson {
    r#type: &'static str,
    id: String,
    /// None: the address from which it is redeemed.
    node: Option<String>,
    user: String,
    rights: Option<Vec<&'static str>>,
    quota_bytes: Option<u64>,
    replace_key: bool,
    expires_secs: i64,
}

impl InvitationJson {
    fn of(invitation: &InvitationReport) -> Self {
        let rights = invitation.rights.as_ref();
        Self {
            r#type: "invitation",
            id: invitation.id.to_string(),
            node: (!invitation.node.is_empty()).then(|| json::text(&invitation.node)),
            user: json::text(&invitation.user),
            rights: rights.map(|rights| rights.iter().map(|right| right.name()).collect()),
            quota_bytes: invitation.quota_bytes,
            replace_key: invitation.replace,
            expires_secs: invitation.expires_secs,
        }
    }
}

#[derive(Serialize)]
struct SettledJson {
    r#type: &'static str,
    connections: u32,
}

#[derive(Serialize)]
struct KeyJson<'a> {
    r#type: &'static str,
    key: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_shut_out_is_an_identity_or_an_invitation() {
        assert!(
            matches!(parse_revoked("10.0.0.1/ana"), Ok(Revoked::Identity(copy)) if copy.to_string() == "10.0.0.1/ana")
        );
        assert!(matches!(parse_revoked("0123456789abcdef"), Ok(Revoked::Invitation(_))));
        for bad in ["ana", "0123456789abcde", "../x"] {
            assert!(parse_revoked(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rights_quotas_and_times_are_named_when_they_are_wrong() {
        assert_eq!(parse_right("receive"), Ok(Right::Receive));
        assert!(parse_right("root").unwrap_err().contains("'root'"));
        assert_eq!(parse_quota("none"), Ok(Quota(None)));
        assert_eq!(parse_quota("1G"), Ok(Quota(Some(1 << 30))));
        assert!(parse_expiry("0").is_err() && parse_expiry("24h").is_ok());
    }

    #[test]
    fn names_of_others_cannot_write_on_the_terminal() {
        let odd = b"a\x1b[2J\n".to_vec();
        let user = UserReport {
            node: odd.clone(),
            user: odd.clone(),
            key: "SHA256:x".into(),
            rights: vec![],
            quota_bytes: Some(1 << 30),
            created_secs: 0,
            revoked_secs: Some(1),
            newest_secs: 0,
            connections: 2,
        };
        let lines = user_lines(&user);
        assert!(lines.iter().all(|line| !line.contains(|c: char| c.is_control())), "{lines:?}");
        assert!(
            lines[0].contains("nothing, quota 1.0 GiB, no backup yet, REVOKED") && lines[0].contains("2 connections")
        );
    }
}
