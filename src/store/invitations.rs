//! Invitations: what somebody will be here who shows the right secret, once.
//!
//! One small file each, `invitations/<id>`, in TOML; the secret itself is nowhere in the store:
//!
//! ```text
//! version = 1
//! secret = "9c…"               # 64 hex digits: BLAKE3 of the secret, in a context of its own
//! user = "u"
//! node = "attic"               # or none: the address that it is redeemed from
//! rights = ["backup"]          # or none: the usual
//! quota_bytes = 1000000        # or none
//! replace = false              # the new key takes the place of the one that the directory has
//! created_secs = 1700000000
//! expires_secs = 1700086400    # on the store's clock
//! redeemed_by = "5f…"          # or none: the key that redeemed it
//! ```
//! The id is the first 16 digits of `secret`.
//!
//! Always holds: only one key ever redeems an invitation, and that key may do it again, for the answer may have been lost;
//! an invitation is marked as redeemed before the registry gives anything, so that a crash in between leaves it to the
//! same key. What has expired, or was redeemed, is kept for a while so that its holder can be told.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::registry::{Grant, Right};
use super::{durable, state_text};
use crate::backup::digest::Digest;
use crate::backup::fingerprint::Timestamp;
use crate::backup::token::Secret;

const VERSION: u32 = 1;
const BYTES_MAX: u64 = 16 * 1024;
const SECRET_CONTEXT: &str = "rbbackup 2026-11 invitation secret 1";
/// Invitations that may be open at once.
pub const INVITATIONS_MAX: usize = 1000;
/// How long one that is over is remembered.
const REMEMBERED_SECS: i64 = 30 * 24 * 3600;

/// Names an invitation; not secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InvitationId(pub [u8; 8]);

impl InvitationId {
    /// Back from its 16 hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let number = u64::from_str_radix(text, 16).ok().filter(|_| text.len() == 16 && !text.starts_with('+'))?;
        let id = Self(number.to_be_bytes());
        (id.to_string() == text).then_some(id)
    }
}

impl fmt::Display for InvitationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for InvitationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InvitationId({self})")
    }
}

/// An invitation that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Its name.
    pub id: InvitationId,
    /// What it gives.
    pub grant: Grant,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// The key that redeemed it.
    pub redeemed_by: Option<[u8; 32]>,
    secret: Digest,
}

impl Invitation {
    /// Whether it can still be redeemed by a key that has not.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.redeemed_by.is_none() && now < self.expires
    }
}

/// Why an invitation cannot be made, or redeemed.
#[derive(Debug, thiserror::Error)]
pub enum InvitationError {
    /// Not allowed.
    #[error(
        "this invitation is not known here: it was taken back, it is for another server, or it ended long ago; ask for a new one"
    )]
    NotKnown,
    /// Not allowed.
    #[error(
        "this invitation was redeemed already, by another key; if that was not you, tell the server's administrator, and ask for a new one"
    )]
    Redeemed,
    /// Not allowed.
    #[error("this invitation has expired; ask for a new one")]
    Expired,
    /// Not allowed.
    #[error("this invitation is for another user name ('{user}')")]
    OtherUser {
        /// The one that it is for.
        user: String,
    },
    /// Too many.
    #[error("{INVITATIONS_MAX} invitations are open already; take some back with 'rbbackupd revoke ID'")]
    TooMany,
    /// The system gives no randomness.
    #[error("cannot make a secret: the system gives no random numbers")]
    NoRandomness,
    /// A file is damaged.
    #[error("the invitation '{}' is damaged ({why}); remove it, and make a new one", path.display())]
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
#[serde(deny_unknown_fields)]
struct InvitationFile {
    version: u32,
    secret: String,
    user: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rights: Option<Vec<Right>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quota_bytes: Option<u64>,
    replace: bool,
    created_secs: i64,
    expires_secs: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    redeemed_by: Option<String>,
}

/// All invitations of a store. Few, and rarely asked for: they are read anew each time.
pub struct Invitations {
    dir: PathBuf,
    /// Held while one is made or redeemed.
    turn: Mutex<()>,
}

impl Invitations {
    /// Those in `dir`.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf(), turn: Mutex::default() }
    }

    /// Makes one; the secret is told here, and never again.
    ///
    /// # Errors
    /// [`InvitationError`].
    pub fn create(
        &self,
        grant: Grant,
        now: Timestamp,
        valid_secs: u64,
    ) -> Result<(Invitation, Secret), InvitationError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.forget_old(now)?;
        if self.list()?.iter().filter(|invitation| invitation.is_open(now)).count() >= INVITATIONS_MAX {
            return Err(InvitationError::TooMany);
        }
        let mut secret = Secret([0; 16]);
        getrandom::fill(&mut secret.0).map_err(|_| InvitationError::NoRandomness)?;
        let digest = digest_of(secret);
        let secs = now.secs.saturating_add_unsigned(valid_secs);
        let expires = Timestamp { secs, nanos: now.nanos };
        let invitation =
            Invitation { id: id_of(&digest), grant, created: now, expires, redeemed_by: None, secret: digest };
        self.write(&invitation)?;
        Ok((invitation, secret))
    }

    /// Redeems the invitation with this secret for `key`: `allow` says what becomes of it, before anything is changed;
    /// then it is this key's.
    ///
    /// # Errors
    /// [`InvitationError`], or what `allow` says.
    pub fn redeem<E: From<InvitationError>>(
        &self,
        secret: Secret,
        user: &str,
        key: [u8; 32],
        now: Timestamp,
        allow: impl FnOnce(&Grant) -> Result<(), E>,
    ) -> Result<Grant, E> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = digest_of(secret);
        let mut invitation = match self.read(&self.path(id_of(&digest))) {
            Err(InvitationError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(InvitationError::NotKnown.into());
            }
            read => read?,
        };
        // Compared in constant time.
        if blake3::Hash::from_bytes(invitation.secret.0) != blake3::Hash::from_bytes(digest.0) {
            return Err(InvitationError::NotKnown.into());
        }
        if invitation.grant.user != user {
            return Err(InvitationError::OtherUser { user: invitation.grant.user }.into());
        }
        match invitation.redeemed_by {
            Some(by) if by == key => {}
            Some(_) => return Err(InvitationError::Redeemed.into()),
            None if now >= invitation.expires => return Err(InvitationError::Expired.into()),
            None => {}
        }
        allow(&invitation.grant)?;
        if invitation.redeemed_by.is_none() {
            invitation.redeemed_by = Some(key);
            self.write(&invitation)?;
        }
        Ok(invitation.grant)
    }

    /// Takes one back; whether there was one.
    ///
    /// # Errors
    /// [`InvitationError::Io`].
    pub fn remove(&self, id: InvitationId) -> Result<bool, InvitationError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(id);
        match durable::remove(&path).and_then(|()| durable::sync_dir(&self.dir)) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(InvitationError::Io { path, source }),
        }
    }

    /// All of them, open or not, by their age.
    ///
    /// # Errors
    /// [`InvitationError`].
    pub fn list(&self) -> Result<Vec<Invitation>, InvitationError> {
        let fail = |source| InvitationError::Io { path: self.dir.clone(), source };
        let mut all = Vec::new();
        let names = match durable::names(&self.dir) {
            // A store that is opened to be read may be without.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(all),
            names => names.map_err(fail)?,
        };
        for id in names.iter().filter_map(|name| InvitationId::from_hex(name.to_str()?)) {
            all.push(self.read(&self.path(id))?);
        }
        all.sort_by_key(|invitation| (invitation.created, invitation.id));
        Ok(all)
    }

    fn forget_old(&self, now: Timestamp) -> Result<(), InvitationError> {
        for old in self.list()? {
            if now.secs.saturating_sub(old.expires.secs) > REMEMBERED_SECS {
                let path = self.path(old.id);
                durable::remove(&path).map_err(|source| InvitationError::Io { path, source })?;
            }
        }
        Ok(())
    }

    fn path(&self, id: InvitationId) -> PathBuf {
        self.dir.join(id.to_string())
    }

    fn read(&self, path: &Path) -> Result<Invitation, InvitationError> {
        let content = durable::read_file(path, BYTES_MAX)
            .map_err(|source| InvitationError::Io { path: path.to_path_buf(), source })?;
        let damaged = |why: String| InvitationError::Damaged { path: path.to_path_buf(), why };
        let invitation = parse(&content).map_err(damaged)?;
        if path.file_name().is_none_or(|name| *name != *invitation.id.to_string()) {
            return Err(damaged("its name does not match its secret".into()));
        }
        Ok(invitation)
    }

    fn write(&self, invitation: &Invitation) -> Result<(), InvitationError> {
        let path = || self.path(invitation.id);
        let grant = &invitation.grant;
        let text = toml::to_string(&InvitationFile {
            version: VERSION,
            secret: invitation.secret.to_hex(),
            user: grant.user.clone(),
            node: grant.node.clone(),
            rights: grant.rights.clone(),
            quota_bytes: grant.quota_bytes,
            replace: grant.replace,
            created_secs: invitation.created.secs,
            expires_secs: invitation.expires.secs,
            redeemed_by: invitation.redeemed_by.map(|key| Digest(key).to_hex()),
        });
        let text = text.map_err(|e| InvitationError::Io { path: path(), source: io::Error::other(e) })?;
        durable::write_file(&self.dir, &invitation.id.to_string(), text.as_bytes())
            .map_err(|source| InvitationError::Io { path: path(), source })
    }
}

/// Understands a file's content.
///
/// # Errors
/// What is wrong, in words.
pub fn parse(content: &[u8]) -> Result<Invitation, String> {
    let file: InvitationFile = state_text::parse(content)?;
    if file.version != VERSION {
        return Err(format!("its version is {}, this program knows {VERSION}", file.version));
    }
    let hex = |text: &str| {
        let hash = blake3::Hash::from_hex(text).map_err(|_| "64 hex digits are not there".to_owned())?;
        Ok::<Digest, String>(Digest::from(hash))
    };
    let secret = hex(&file.secret)?;
    Ok(Invitation {
        id: id_of(&secret),
        grant: Grant {
            user: file.user,
            node: file.node,
            rights: file.rights,
            quota_bytes: file.quota_bytes,
            replace: file.replace,
        },
        created: Timestamp { secs: file.created_secs, nanos: 0 },
        expires: Timestamp { secs: file.expires_secs, nanos: 0 },
        redeemed_by: file.redeemed_by.as_deref().map(hex).transpose()?.map(|key| key.0),
        secret,
    })
}

fn digest_of(secret: Secret) -> Digest {
    Digest(blake3::derive_key(SECRET_CONTEXT, &secret.0))
}

fn id_of(secret: &Digest) -> InvitationId {
    let [a, b, c, d, e, f, g, h, ..] = secret.0;
    InvitationId([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const DAY: u64 = 24 * 3600;

    fn at(secs: i64) -> Timestamp {
        Timestamp { secs: 1_700_000_000 + secs, nanos: 0 }
    }

    fn grant() -> Grant {
        let rights = Some(vec![Right::Restore]);
        Grant { user: "u".into(), node: Some("attic".into()), rights, quota_bytes: Some(3), replace: false }
    }

    fn made() -> (tempfile::TempDir, Invitations, Secret) {
        let dir = tempfile::tempdir().unwrap();
        let invitations = Invitations::new(dir.path());
        let (invitation, secret) = invitations.create(grant(), at(0), DAY).unwrap();
        assert_eq!(invitations.list().unwrap(), [invitation]);
        (dir, invitations, secret)
    }

    fn redeem(of: &Invitations, secret: Secret, key: u8, when: i64) -> Result<Grant, InvitationError> {
        of.redeem(secret, "u", [key; 32], at(when), |_| Ok(()))
    }

    #[test]
    fn one_key_redeems_it_and_may_do_so_again() {
        let (_dir, invitations, secret) = made();
        assert_eq!(redeem(&invitations, secret, 1, 10).unwrap(), grant());
        assert_eq!(redeem(&invitations, secret, 1, 20).unwrap(), grant());
        let late = 2 * DAY.cast_signed();
        assert_eq!(redeem(&invitations, secret, 1, late).unwrap(), grant(), "its answer may have been lost");
        assert!(matches!(redeem(&invitations, secret, 2, 30), Err(InvitationError::Redeemed)));
        assert!(!invitations.list().unwrap()[0].is_open(at(0)));
    }

    #[test]
    fn of_many_who_come_at_once_one_is_let_in() {
        let (_dir, invitations, secret) = made();
        let redeemed = std::thread::scope(|scope| {
            let come = |key| redeem(&invitations, secret, key, 1).is_ok();
            let threads: Vec<_> = (1..9).map(|key| scope.spawn(move || come(key))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).filter(|let_in| *let_in).count()
        });
        assert_eq!(redeemed, 1);
    }

    #[test]
    fn wrong_late_and_foreign_ones_are_told_apart_and_change_nothing() {
        let (dir, invitations, secret) = made();
        let day = DAY.cast_signed();
        assert!(matches!(redeem(&invitations, Secret([0; 16]), 1, 0), Err(InvitationError::NotKnown)));
        assert!(matches!(redeem(&invitations, secret, 1, day), Err(InvitationError::Expired)));
        let other = invitations.redeem(secret, "v", [1; 32], at(1), |_| Ok::<_, InvitationError>(()));
        assert!(matches!(other, Err(InvitationError::OtherUser { .. })));
        let refused = invitations.redeem(secret, "u", [1; 32], at(1), |_| Err(InvitationError::TooMany));
        assert!(matches!(refused, Err(InvitationError::TooMany)));
        assert_eq!(redeem(&invitations, secret, 2, day - 1).unwrap(), grant(), "nobody has redeemed it so far");
        let id = invitations.list().unwrap()[0].id;
        assert!(invitations.remove(id).unwrap() && !invitations.remove(id).unwrap());
        assert!(matches!(redeem(&invitations, secret, 2, 1), Err(InvitationError::NotKnown)));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_secret_is_not_in_the_store_and_old_ones_go() {
        let (dir, invitations, secret) = made();
        let path = dir.path().join(invitations.list().unwrap()[0].id.to_string());
        let text = fs::read(&path).unwrap();
        let hex: String = secret.0.iter().map(|b| format!("{b:02x}")).collect();
        assert!(!text.windows(16).any(|w| w == secret.0) && !String::from_utf8(text).unwrap().contains(&hex[..16]));
        invitations.create(grant(), at(32 * DAY.cast_signed()), DAY).unwrap();
        assert!(!path.exists(), "a month after its end");
    }

    #[test]
    fn a_damaged_one_is_named() {
        let (dir, invitations, _) = made();
        let path = dir.path().join(invitations.list().unwrap()[0].id.to_string());
        let text = fs::read_to_string(&path).unwrap();
        for bad in [text.replace("version = 1", "version = 2"), text.replace("secret = \"", "secret = \"0"), "x".into()]
        {
            fs::write(&path, bad).unwrap();
            assert!(matches!(invitations.list(), Err(InvitationError::Damaged { .. })));
        }
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id = InvitationId([0, 1, 2, 3, 4, 5, 6, 0xAB]);
        assert_eq!(InvitationId::from_hex(&id.to_string()), Some(id));
        for bad in ["", "00010203040506A", "00010203040506AB", "+0010203040506ab", "00010203040506ab0"] {
            assert_eq!(InvitationId::from_hex(bad), None, "{bad}");
        }
    }
}
