//! The registry: which key owns which `node/user` directory.
//!
//! One small file per identity, `registry/<key in hex>@<user>`, in TOML so that an operator can read it:
//!
//! ```text
//! version = 1
//! key = "5f…"            # 64 hex digits: the identity's public key
//! node = "192.168.1.20"  # its directory: STORE/<node>/<user>, for good, whatever address it comes from later
//! user = "u"
//! rights = ["backup", "restore"]
//! created_secs = 1700000000
//! ```
//!
//! Always holds: a directory has at most one owner. All files are read when the registry is opened; a damaged one is
//! an error, not an absent identity, because otherwise its directory could be given to another key.
//! `--store` has no key and no file: who can write to the store owns it all.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::durable;
use super::names::{CopyName, NameError};
use crate::backup::digest::Digest;
use crate::backup::fingerprint::Timestamp;

/// Version of the identity files.
const IDENTITY_VERSION: u32 = 1;
/// Longest identity file.
const IDENTITY_BYTES_MAX: u64 = 16 * 1024;

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

/// A known owner of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its directory.
    pub copy: CopyName,
    /// Its public key; none for `--store`.
    pub key: Option<[u8; 32]>,
    /// What it may do.
    pub rights: Vec<Right>,
    /// First contact.
    pub created: Timestamp,
}

impl Identity {
    /// Whether it has this right.
    pub fn may(&self, right: Right) -> bool {
        self.rights.contains(&right)
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
        "the folder '{copy}' belongs to another key. Another machine behind the same address takes a user name of its own \
         (--user NAME). A machine that replaces a dead one gets the folder when the server's administrator stops \
         rbbackupd, removes the file of node '{node}' and user '{user}' from .rbbackup/registry, and starts it again \
         (invitations will do this better)",
        user = copy.user(), node = copy.node()
    )]
    OwnedByAnother {
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

#[derive(Serialize, Deserialize)]
struct IdentityFile {
    version: u32,
    key: String,
    node: String,
    user: String,
    rights: Vec<Right>,
    created_secs: i64,
}

type Known = HashMap<([u8; 32], String), Identity>;

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
        for entry in fs::read_dir(dir).map_err(io)? {
            let entry = entry.map_err(io)?;
            let path = entry.path();
            if entry.file_name().as_encoded_bytes().starts_with(durable::TEMP_PREFIX.as_bytes()) {
                continue;
            }
            let (key, identity) = read_identity(&path)?;
            if known.values().any(|other| other.copy == identity.copy) {
                return Err(RegistryError::Damaged { path, why: format!("'{}' has two owners", identity.copy) });
            }
            known.insert((key, identity.copy.user().to_string()), identity);
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
        let id = (key, copy.user().to_string());
        if let Some(identity) = known.get(&id) {
            return Ok(identity.clone());
        }
        if let Some(why) = distrust(trust) {
            return Err(RegistryError::NotTrusted { user: copy.user().to_string(), ip: ip.to_canonical(), why });
        }
        if known.values().any(|other| other.copy == copy) {
            return Err(RegistryError::OwnedByAnother { copy });
        }
        let identity = Identity { copy, key: Some(key), rights: vec![Right::Backup, Right::Restore], created: now };
        self.write(key, &identity)?;
        known.insert(id, identity.clone());
        Ok(identity)
    }

    /// The identity behind `--store`: the local node, no key.
    ///
    /// # Errors
    /// [`RegistryError::Name`].
    pub fn local(user: &[u8], now: Timestamp) -> Result<Identity, RegistryError> {
        let copy = CopyName::local(user)?;
        Ok(Identity { copy, key: None, rights: vec![Right::Backup, Right::Restore], created: now })
    }

    /// All identities, sorted by directory.
    pub fn list(&self) -> Vec<Identity> {
        let mut all: Vec<_> = self.lock().values().cloned().collect();
        all.sort_by(|a, b| a.copy.cmp(&b.copy));
        all
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // The map is changed by a single insert, so a panic elsewhere cannot have left it half changed.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, key: [u8; 32], identity: &Identity) -> Result<(), RegistryError> {
        let name = format!("{}@{}", Digest(key).to_hex(), identity.copy.user());
        let io = |source| RegistryError::Io { path: self.dir.join(&name), source };
        let text = toml::to_string(&IdentityFile {
            version: IDENTITY_VERSION,
            key: Digest(key).to_hex(),
            node: identity.copy.node().to_string(),
            user: identity.copy.user().to_string(),
            rights: identity.rights.clone(),
            created_secs: identity.created.secs,
        })
        .map_err(|e| io(io::Error::other(e)))?;
        durable::write_file(&self.dir, &name, text.as_bytes()).map_err(io)
    }
}

fn distrust(trust: Trust) -> Option<&'static str> {
    match trust {
        Trust::LoopbackUid(true) | Trust::FirstUse => None,
        Trust::LoopbackUid(false) => Some("the user name does not belong to the account that runs the client"),
        Trust::No => Some(
            "another machine needs an invitation, which this version cannot give yet; \
             a daemon started with --trust-first-use lets it in",
        ),
    }
}

fn read_identity(path: &Path) -> Result<([u8; 32], Identity), RegistryError> {
    let damaged = |why: String| RegistryError::Damaged { path: path.to_path_buf(), why };
    let content = durable::read_file(path, IDENTITY_BYTES_MAX)
        .map_err(|source| RegistryError::Io { path: path.to_path_buf(), source })?;
    let text = std::str::from_utf8(&content).map_err(|_| damaged("it is not text".into()))?;
    let file: IdentityFile = toml::from_str(text).map_err(|e| damaged(e.message().to_string()))?;
    if file.version != IDENTITY_VERSION {
        return Err(damaged(format!("its version is {}, this program knows {IDENTITY_VERSION}", file.version)));
    }
    let key = key_from_hex(&file.key).ok_or_else(|| damaged("its key is not 64 hex digits".into()))?;
    let copy = CopyName::new(file.node.as_bytes(), file.user.as_bytes()).map_err(|e| damaged(e.to_string()))?;
    if path.file_name().is_none_or(|n| *n != *format!("{}@{}", file.key, file.user)) {
        return Err(damaged("its name does not match its key and user".into()));
    }
    let created = Timestamp { secs: file.created_secs, nanos: 0 };
    Ok((key, Identity { copy, key: Some(key), rights: file.rights, created }))
}

fn key_from_hex(text: &str) -> Option<[u8; 32]> {
    let hash = blake3::Hash::from_hex(text).ok()?;
    // One spelling only: the file's name is made of it.
    (Digest::from(hash).to_hex() == text).then_some(*hash.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp { secs: 1_700_000_000, nanos: 0 };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn open() -> (tempfile::TempDir, Registry) {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(dir.path()).unwrap();
        (dir, registry)
    }

    #[test]
    fn the_key_owns_its_directory_whatever_the_address() {
        let (dir, registry) = open();
        let first = registry.resolve([1; 32], ip("::ffff:10.0.0.1"), b"u", Trust::FirstUse, NOW).unwrap();
        assert_eq!(first.copy.to_string(), "10.0.0.1/u");
        // From elsewhere, without any trust, also after a restart.
        let registry = Registry::open(dir.path()).unwrap();
        assert_eq!(registry.resolve([1; 32], ip("10.0.0.9"), b"u", Trust::No, NOW).unwrap(), first);
        assert_eq!(registry.list(), [first]);
    }

    #[test]
    fn another_key_from_the_same_address_is_refused_with_the_way_out() {
        let (_dir, registry) = open();
        registry.resolve([1; 32], ip("10.0.0.1"), b"u", Trust::FirstUse, NOW).unwrap();
        let error = registry.resolve([2; 32], ip("10.0.0.1"), b"u", Trust::FirstUse, NOW).unwrap_err();
        assert!(matches!(error, RegistryError::OwnedByAnother { .. }));
        let text = error.to_string();
        assert!(text.contains("--user NAME") && text.contains("node '10.0.0.1'"), "{text}");
    }

    #[test]
    fn an_unknown_key_needs_trust() {
        let (dir, registry) = open();
        for trust in [Trust::No, Trust::LoopbackUid(false)] {
            let error = registry.resolve([1; 32], ip("127.0.0.1"), b"u", trust, NOW).unwrap_err();
            assert!(matches!(error, RegistryError::NotTrusted { .. }), "{error}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        registry.resolve([1; 32], ip("127.0.0.1"), b"u", Trust::LoopbackUid(true), NOW).unwrap();
    }

    #[test]
    fn one_key_with_two_user_names_is_two_identities_each_in_need_of_trust() {
        let (dir, registry) = open();
        registry.resolve([1; 32], ip("10.0.0.1"), b"u", Trust::FirstUse, NOW).unwrap();
        assert!(registry.resolve([1; 32], ip("10.0.0.1"), b"root", Trust::No, NOW).is_err());
        let second = registry.resolve([1; 32], ip("10.0.0.1"), b"v", Trust::FirstUse, NOW).unwrap();
        assert_eq!(second.copy.to_string(), "10.0.0.1/v");
        assert_eq!(Registry::open(dir.path()).unwrap().list().len(), 2);
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        let (_dir, registry) = open();
        for user in [&b".."[..], b".rbbackup", b"a/b", b""] {
            assert!(matches!(
                registry.resolve([1; 32], ip("10.0.0.1"), user, Trust::FirstUse, NOW),
                Err(RegistryError::Name(_))
            ));
        }
    }

    #[test]
    fn a_damaged_file_stops_the_registry_and_is_named() {
        let (dir, registry) = open();
        registry.resolve([1; 32], ip("10.0.0.1"), b"u", Trust::FirstUse, NOW).unwrap();
        let path = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for bad in
            [String::new(), text.replace("user = \"u\"", "user = \"..\""), text.replace("version = 1", "version = 2")]
        {
            fs::write(&path, bad).unwrap();
            assert!(matches!(Registry::open(dir.path()), Err(RegistryError::Damaged { .. })));
        }
    }
}
