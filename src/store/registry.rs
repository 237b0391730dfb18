//! The registry: which key owns which `node/user` directory, and what it may do.
//!
//! One small file per identity, `registry/<node>@<user>`, in TOML so that an operator can read it:
//!
//! ```text
//! version = 2
//! key = "5f…"            # 64 hex digits: the identity's public key
//! node = "192.168.1.20"  # its directory: STORE/<node>/<user>, for good, whatever address it comes from later
//! user = "u"
//! rights = ["backup", "restore"]
//! quota_bytes = 1000000  # or none
//! created_secs = 1700000000
//! revoked_secs = 1700000001   # or none: its key opens nothing any more
//! [[former]]             # keys that it had before, which open nothing either
//! key = "a0…"
//! until_secs = 1700000001
//! ```
//!
//! Always holds: a directory has one owner, because the file is named after it; a key under one user name owns one
//! directory; what is told to a peer is on the disk before. All files are read when the registry is opened; a damaged
//! one is an error, not an absent identity, because otherwise its directory could be given to another key.
//! `--store` has no key and no file: who can write to the store owns it all.

mod file;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

pub use self::file::parse;

use super::durable;
use super::names::{CopyName, NameError};
use crate::backup::fingerprint::Timestamp;

/// Former keys that are remembered, the newest.
const FORMER_COUNT_MAX: usize = 16;

/// What an identity may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// Add backups to its copy.
    Backup,
    /// Read its copy and its history.
    Restore,
    /// Be a destination.
    Receive,
    /// Administer the store.
    Admin,
}

impl Right {
    /// All there are, in the order of the bits that travel.
    pub const ALL: [Self; 4] = [Self::Backup, Self::Restore, Self::Receive, Self::Admin];

    /// Its name, as it stands in the file and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::Receive => "receive",
            Self::Admin => "admin",
        }
    }

    /// The right of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|right| right.name() == name)
    }
}

/// What an identity may do unless somebody says otherwise.
pub const DEFAULT_RIGHTS: [Right; 2] = [Right::Backup, Right::Restore];

/// A known owner of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its directory.
    pub copy: CopyName,
    /// Its public key; none for `--store`.
    pub key: Option<[u8; 32]>,
    /// What it may do.
    pub rights: Vec<Right>,
    /// Most bytes that its copy, history and staging may take; none: as many as there are.
    pub quota_bytes: Option<u64>,
    /// First contact.
    pub created: Timestamp,
}

impl Identity {
    /// Whether it has this right.
    pub fn may(&self, right: Right) -> bool {
        self.rights.contains(&right)
    }

    /// One with the usual rights, and no quota.
    pub fn new(copy: CopyName, key: Option<[u8; 32]>, created: Timestamp) -> Self {
        Self { copy, key, rights: DEFAULT_RIGHTS.to_vec(), quota_bytes: None, created }
    }

    /// The same with these rights.
    #[must_use]
    pub fn with_rights(self, rights: &[Right]) -> Self {
        Self { rights: rights.to_vec(), ..self }
    }
}

/// A key that an identity had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormerKey {
    /// The public key.
    pub key: [u8; 32],
    /// When another took its place.
    pub until: Timestamp,
}

/// An identity and its past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who it is now.
    pub identity: Identity,
    /// Since when its key opens nothing any more.
    pub revoked: Option<Timestamp>,
    /// Keys that it had, oldest first.
    pub former: Vec<FormerKey>,
}

impl Member {
    fn new(identity: Identity) -> Self {
        Self { identity, revoked: None, former: Vec::new() }
    }

    /// Whether this key is its own, or was once.
    pub fn has_had(&self, key: [u8; 32]) -> bool {
        self.identity.key == Some(key) || self.former.iter().any(|former| former.key == key)
    }

    /// The same under another key.
    fn rekeyed(&self, key: [u8; 32], now: Timestamp) -> Self {
        let mut former: Vec<FormerKey> = self.former.iter().filter(|former| former.key != key).copied().collect();
        let before = self.identity.key.filter(|before| *before != key);
        former.extend(before.map(|before| FormerKey { key: before, until: now }));
        let surplus = former.len().saturating_sub(FORMER_COUNT_MAX);
        former.drain(..surplus);
        Self { identity: Identity { key: Some(key), ..self.identity.clone() }, revoked: None, former }
    }
}

/// Why a key that is not known yet may, or may not, be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The peer is on this machine; whether the user name belongs to the uid of its socket.
    LoopbackUid(bool),
    /// The daemon was told to trust every first contact.
    FirstUse,
    /// Another machine, without an invitation.
    No,
}

/// What an invitation gives to the key that redeems it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// User name.
    pub user: String,
    /// Node; none: the address that the key comes from.
    pub node: Option<String>,
    /// What it may do; none: what the directory's owner might, or the usual.
    pub rights: Option<Vec<Right>>,
    /// Most bytes; none: what the directory's owner had, or no quota.
    pub quota_bytes: Option<u64>,
    /// The directory has an owner, whose key the new one replaces.
    pub replace: bool,
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The user name cannot be a directory.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The key is not known and nothing vouches for it. Not allowed.
    #[error("the key of user '{user}' at {ip} is not known here: {why}")]
    NotTrusted {
        /// User name asked for.
        user: String,
        /// Address of the peer.
        ip: IpAddr,
        /// Why not, and the way out.
        why: &'static str,
    },
    /// Another key owns the directory. Not allowed.
    #[error(
        "the folder '{copy}' belongs to another key. A machine that replaces a dead one gets it with an invitation that the \
         server's administrator makes by 'rbbackupd invite {user} --node {node} --replace-key'; another machine behind the \
         same address gets a name of its own by 'rbbackupd invite {user} --node NAME'",
        user = copy.user(), node = copy.node()
    )]
    OwnedByAnother {
        /// The directory.
        copy: CopyName,
    },
    /// The key was revoked, or another took its place. Not allowed.
    #[error(
        "this machine's key for '{copy}' {what}; what was backed up is still there. If that was not meant, the server's \
         administrator lets this machine in again with 'rbbackupd invite {user} --node {node} --replace-key'",
        user = copy.user(), node = copy.node()
    )]
    NoLongerValid {
        /// The directory.
        copy: CopyName,
        /// `was revoked` or `was replaced by another`.
        what: &'static str,
    },
    /// The key owns a directory already, and can have no second one under the same user name. Not allowed.
    #[error(
        "this machine's key owns the folder '{copy}' already, under the same user name; for another folder, join under \
         another user name, or from another configuration folder"
    )]
    HasAnother {
        /// Its directory.
        copy: CopyName,
    },
    /// A directory that nobody owns has no key to be replaced or revoked.
    #[error("there is no identity '{copy}' here; 'rbbackupd users' lists them")]
    NotKnown {
        /// The directory.
        copy: CopyName,
    },
    /// An identity file is damaged. An operator has to look at it.
    #[error("the identity file '{}' is damaged ({why}); bring it back, or remove it if nobody uses that key", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The disk's fault.
    #[error("cannot read or write '{}': {source}", path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// By directory: names are few, keys are found by going through them.
type Known = BTreeMap<CopyName, Member>;

/// All identities of a store.
pub struct Registry {
    dir: PathBuf,
    known: Mutex<Known>,
}

impl Registry {
    /// Reads all identity files in `dir`.
    ///
    /// # Errors
    /// [`RegistryError::Damaged`] for the first file that cannot be understood, [`RegistryError::Io`].
    pub fn open(dir: &Path) -> Result<Self, RegistryError> {
        let io = |source| RegistryError::Io { path: dir.to_path_buf(), source };
        let mut known = Known::new();
        for name in durable::names(dir).map_err(io)? {
            if name.as_encoded_bytes().starts_with(durable::TEMP_PREFIX.as_bytes()) {
                continue;
            }
            let path = dir.join(name);
            let member = file::read(&path)?;
            if let Some(other) = owner(&known, member.identity.key, member.identity.copy.user()) {
                let why = format!("its key owns '{}' already, under the same user name", other.identity.copy);
                return Err(RegistryError::Damaged { path, why });
            }
            known.insert(member.identity.copy.clone(), member);
        }
        Ok(Self { dir: dir.to_path_buf(), known: Mutex::new(known) })
    }

    /// The identity of a peer: the one its key has under this user name, whatever the address; else, when `trust`
    /// allows it, a new one that owns `<ip>/<user>` from now on.
    ///
    /// # Errors
    /// [`RegistryError`]; all kinds but `Damaged` and `Io` mean "not allowed".
    pub fn resolve(
        &self,
        key: [u8; 32],
        ip: IpAddr,
        user: &[u8],
        trust: Trust,
        now: Timestamp,
    ) -> Result<Identity, RegistryError> {
        let copy = CopyName::at_address(ip, user)?;
        let mut known = self.lock();
        if let Some(member) = owner(&known, Some(key), copy.user()) {
            return active(member).cloned();
        }
        if let Some(before) = former_owner(&known, key, copy.user()) {
            let copy = before.identity.copy.clone();
            return Err(RegistryError::NoLongerValid { copy, what: "was replaced by another" });
        }
        if let Some(why) = distrust(trust) {
            return Err(RegistryError::NotTrusted { user: copy.user().to_string(), ip: ip.to_canonical(), why });
        }
        if known.contains_key(&copy) {
            return Err(RegistryError::OwnedByAnother { copy });
        }
        let member = Member::new(Identity::new(copy, Some(key), now));
        self.keep(&mut known, member)
    }

    /// What redeeming an invitation would make of `key`: nothing is changed yet.
    ///
    /// # Errors
    /// As [`Registry::admit`], but for the disk's.
    pub fn foresee(&self, key: [u8; 32], ip: IpAddr, grant: &Grant, now: Timestamp) -> Result<Identity, RegistryError> {
        Ok(admitted(&self.lock(), key, ip, grant, now)?.identity)
    }

    /// Gives `key` what an invitation grants: a new directory, the directory of a key that it replaces, or, if it has
    /// one already, other rights. The same again changes nothing.
    ///
    /// # Errors
    /// [`RegistryError`]; all kinds but `Damaged` and `Io` mean "not allowed".
    pub fn admit(&self, key: [u8; 32], ip: IpAddr, grant: &Grant, now: Timestamp) -> Result<Identity, RegistryError> {
        let mut known = self.lock();
        let member = admitted(&known, key, ip, grant, now)?;
        self.keep(&mut known, member)
    }

    /// From now on the key of this directory opens nothing any more. Returns that key.
    ///
    /// # Errors
    /// [`RegistryError::NotKnown`], [`RegistryError::Io`].
    pub fn revoke(&self, copy: &CopyName, now: Timestamp) -> Result<[u8; 32], RegistryError> {
        let mut known = self.lock();
        let member = known.get(copy).ok_or_else(|| RegistryError::NotKnown { copy: copy.clone() })?;
        let revoked = Member { revoked: member.revoked.or(Some(now)), ..member.clone() };
        Ok(self.keep(&mut known, revoked)?.key.unwrap_or_default())
    }

    /// Another key takes the place of that of an identity, who asks for it.
    ///
    /// # Errors
    /// [`RegistryError`]: the old key is not valid any more, the new one is known under this user name.
    pub fn rekey(&self, old: [u8; 32], user: &str, new: [u8; 32], now: Timestamp) -> Result<Identity, RegistryError> {
        let mut known = self.lock();
        if let Some(other) = owner(&known, Some(new), user) {
            return Err(RegistryError::HasAnother { copy: other.identity.copy.clone() });
        }
        let member = owner(&known, Some(old), user);
        let Some(member) = member else {
            let copy = former_owner(&known, old, user).map(|member| member.identity.copy.clone());
            let copy = copy.map_or_else(|| CopyName::local(user.as_bytes()), Ok)?;
            return Err(RegistryError::NoLongerValid { copy, what: "was replaced by another" });
        };
        active(member)?;
        let rekeyed = member.rekeyed(new, now);
        self.keep(&mut known, rekeyed)
    }

    /// Other rights, or another quota, for an identity.
    ///
    /// # Errors
    /// [`RegistryError::NotKnown`], [`RegistryError::Io`].
    pub fn change(
        &self,
        copy: &CopyName,
        rights: Option<&[Right]>,
        quota_bytes: Option<Option<u64>>,
    ) -> Result<Identity, RegistryError> {
        let mut known = self.lock();
        let mut member = known.get(copy).cloned().ok_or_else(|| RegistryError::NotKnown { copy: copy.clone() })?;
        if let Some(rights) = rights {
            member.identity.rights = rights.to_vec();
        }
        if let Some(quota_bytes) = quota_bytes {
            member.identity.quota_bytes = quota_bytes;
        }
        self.keep(&mut known, member)
    }

    /// What an identity is now: rights and quota change while it is connected, and its key may be revoked. An identity
    /// without a key, or one that another daemon vouches for, stays what it is.
    ///
    /// # Errors
    /// [`RegistryError::NoLongerValid`].
    pub fn refresh(&self, identity: &Identity) -> Result<Identity, RegistryError> {
        let known = self.lock();
        match known.get(&identity.copy) {
            Some(member) if identity.key.is_some() && member.identity.key == identity.key => active(member).cloned(),
            Some(member) if member.former.iter().any(|former| Some(former.key) == identity.key) => {
                let copy = identity.copy.clone();
                Err(RegistryError::NoLongerValid { copy, what: "was replaced by another" })
            }
            _ => Ok(identity.clone()),
        }
    }

    /// The identity that `--store` is: the local node, no key.
    ///
    /// # Errors
    /// [`RegistryError::Name`].
    pub fn local(user: &[u8], now: Timestamp) -> Result<Identity, RegistryError> {
        Ok(Identity::new(CopyName::local(user)?, None, now))
    }

    /// All identities, sorted by directory.
    pub fn list(&self) -> Vec<Member> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // The map is changed by a single insert, so a panic elsewhere cannot have left it half changed.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// On disk first.
    fn keep(&self, known: &mut Known, member: Member) -> Result<Identity, RegistryError> {
        let identity = member.identity.clone();
        if known.get(&identity.copy) != Some(&member) {
            let path = || self.dir.join(identity.copy.component());
            file::write(&self.dir, &member).map_err(|source| RegistryError::Io { path: path(), source })?;
            known.insert(identity.copy.clone(), member);
        }
        Ok(identity)
    }
}

/// Whose key this is, under this user name.
fn owner<'a>(known: &'a Known, key: Option<[u8; 32]>, user: &str) -> Option<&'a Member> {
    known.values().find(|member| member.identity.key == key && member.identity.copy.user() == user)
}

fn former_owner<'a>(known: &'a Known, key: [u8; 32], user: &str) -> Option<&'a Member> {
    let had = |member: &&Member| member.former.iter().any(|former| former.key == key);
    known.values().filter(|member| member.identity.copy.user() == user).find(had)
}

fn active(member: &Member) -> Result<&Identity, RegistryError> {
    match member.revoked {
        None => Ok(&member.identity),
        Some(_) => Err(RegistryError::NoLongerValid { copy: member.identity.copy.clone(), what: "was revoked" }),
    }
}

/// What becomes of the directory that an invitation names.
fn admitted(known: &Known, key: [u8; 32], ip: IpAddr, grant: &Grant, now: Timestamp) -> Result<Member, RegistryError> {
    let here = owner(known, Some(key), &grant.user).map(|member| &member.identity.copy);
    let copy = match (&grant.node, here) {
        (Some(node), _) => CopyName::new(node.as_bytes(), grant.user.as_bytes())?,
        (None, Some(own)) => own.clone(),
        (None, None) => CopyName::at_address(ip, grant.user.as_bytes())?,
    };
    if let Some(other) = here.filter(|other| **other != copy) {
        return Err(RegistryError::HasAnother { copy: other.clone() });
    }
    let mut member = match known.get(&copy) {
        Some(member) if grant.replace => member.rekeyed(key, now),
        Some(member) if member.identity.key == Some(key) => {
            active(member)?;
            member.clone()
        }
        Some(_) => return Err(RegistryError::OwnedByAnother { copy }),
        None if grant.replace => return Err(RegistryError::NotKnown { copy }),
        None => Member::new(Identity::new(copy, Some(key), now)),
    };
    if let Some(rights) = &grant.rights {
        member.identity.rights.clone_from(rights);
    }
    member.identity.quota_bytes = grant.quota_bytes.or(member.identity.quota_bytes);
    Ok(member)
}

fn distrust(trust: Trust) -> Option<&'static str> {
    match trust {
        Trust::LoopbackUid(true) | Trust::FirstUse => None,
        Trust::LoopbackUid(false) => Some("the user name does not belong to the account that runs the client"),
        Trust::No => Some(
            "another machine needs an invitation: the server's administrator makes one with 'rbbackupd invite USER', and here \
             'rbbackup join HOST TOKEN' redeems it",
        ),
    }
}

#[cfg(test)]
mod tests;
