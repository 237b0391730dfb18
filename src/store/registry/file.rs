//! The identity file: its text, and what is checked when it is read.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{FormerKey, Identity, Member, RegistryError, Right};
use crate::backup::digest::Digest;
use crate::backup::fingerprint::Timestamp;
use crate::store::names::CopyName;
use crate::store::{durable, state_text};

/// Version of the identity files.
pub(super) const VERSION: u32 = 2;
/// Longest identity file.
const BYTES_MAX: u64 = 64 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    version: u32,
    key: String,
    node: String,
    user: String,
    rights: Vec<Right>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quota_bytes: Option<u64>,
    created_secs: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked_secs: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    former: Vec<FormerKeyText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FormerKeyText {
    key: String,
    until_secs: i64,
}

/// Version first: a file of another version may have other keys.
#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

/// Reads one file.
///
/// # Errors
/// [`RegistryError::Damaged`], [`RegistryError::Io`].
pub(super) fn read(path: &Path) -> Result<Member, RegistryError> {
    let content =
        durable::read_file(path, BYTES_MAX).map_err(|source| RegistryError::Io { path: path.to_path_buf(), source })?;
    let member = parse(&content).map_err(|why| RegistryError::Damaged { path: path.to_path_buf(), why })?;
    if path.file_name().is_none_or(|name| *name != *member.identity.copy.component()) {
        let why = "its name does not match its node and user".into();
        return Err(RegistryError::Damaged { path: path.to_path_buf(), why });
    }
    Ok(member)
}

/// Understands a file's content.
///
/// # Errors
/// What is wrong, in words.
pub fn parse(content: &[u8]) -> Result<Member, String> {
    let version = state_text::parse::<VersionOnly>(content)?.version;
    if version != VERSION {
        return Err(format!("its version is {version}, this program knows {VERSION}"));
    }
    let file: IdentityFile = state_text::parse(content)?;
    let key_of = |text: &str| key_from_hex(text).ok_or_else(|| "a key is not 64 hex digits".to_owned());
    let secs = |secs| Timestamp { secs, nanos: 0 };
    let copy = CopyName::new(file.node.as_bytes(), file.user.as_bytes()).map_err(|e| e.to_string())?;
    let former = |former: FormerKeyText| {
        Ok::<_, String>(FormerKey { key: key_of(&former.key)?, until: secs(former.until_secs) })
    };
    Ok(Member {
        identity: Identity {
            copy,
            key: Some(key_of(&file.key)?),
            rights: file.rights,
            quota_bytes: file.quota_bytes,
            created: secs(file.created_secs),
        },
        revoked: file.revoked_secs.map(secs),
        former: file.former.into_iter().map(former).collect::<Result<_, _>>()?,
    })
}

/// Writes a member's file, whole or not at all.
///
/// # Errors
/// The disk's; or it has no key, and so no file.
pub(super) fn write(dir: &Path, member: &Member) -> io::Result<()> {
    let identity = &member.identity;
    let Some(key) = identity.key else { return Err(io::Error::other("an identity without a key has no file")) };
    let former = |former: &FormerKey| FormerKeyText { key: hex(former.key), until_secs: former.until.secs };
    let text = toml::to_string(&IdentityFile {
        version: VERSION,
        key: hex(key),
        node: identity.copy.node().to_owned(),
        user: identity.copy.user().to_owned(),
        rights: identity.rights.clone(),
        quota_bytes: identity.quota_bytes,
        created_secs: identity.created.secs,
        revoked_secs: member.revoked.map(|revoked| revoked.secs),
        former: member.former.iter().map(former).collect(),
    })
    .map_err(io::Error::other)?;
    durable::write_file(dir, &identity.copy.component(), text.as_bytes())
}

fn hex(key: [u8; 32]) -> String {
    Digest(key).to_hex()
}

fn key_from_hex(text: &str) -> Option<[u8; 32]> {
    let hash = blake3::Hash::from_hex(text).ok()?;
    // One spelling only.
    (Digest::from(hash).to_hex() == text).then_some(*hash.as_bytes())
}
