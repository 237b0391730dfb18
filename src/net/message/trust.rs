//! Messages about keys: who is let in, who is not any more, and how either side takes another key.

use serde::{Deserialize, Serialize};

use crate::backup::bytes::Bytes;

/// [`super::Hello::features`]: an invitation comes with it, in [`Redeem`].
pub const FEATURE_REDEEM: u64 = 1;
/// A bit of [`Hello::features`](super::Hello::features): what comes back is not to be packed.
pub const FEATURE_PLAIN: u64 = 2;

/// Right behind a `Hello` that says so: the secret of an invitation. Answered as `Hello` is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redeem {
    /// 128 bits that only the invited know.
    pub secret: [u8; 16],
}

impl std::fmt::Debug for Redeem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redeem(..)")
    }
}

/// Instead of `Hello`, from whoever knows the daemon under another key: how did this one come to it? Nothing else is
/// answered on this connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Succeed {
    /// The daemon's key that the client knows.
    pub from: [u8; 32],
}

/// Answer to [`Succeed`]: from that key to the present one; empty: there is no way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Succession {
    /// Each signed by the key before it.
    pub steps: Vec<WireStep>,
}

/// One key handed over to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireStep {
    /// The next key.
    pub key: [u8; 32],
    /// 64 bytes of Ed25519, by the key before.
    pub signature: Bytes,
}

/// From now on I am this key. Of the session's own identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rekey {
    /// The new key.
    pub key: [u8; 32],
    /// 64 bytes of Ed25519, by the new key: whoever asks holds it.
    pub signature: Bytes,
}

/// Answer to [`Rekey`]: the old key opens nothing any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rekeyed {}

/// Make an invitation. For who administers the store on its own machine, like all that follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// User name.
    pub user: Bytes,
    /// Node; empty: the address from which it is redeemed.
    pub node: Bytes,
    /// Bits: 1 backup, 2 restore, 4 receive, 8 admin; none: as before, or the usual.
    pub rights: Option<u8>,
    /// Most bytes; none: as before, or no quota.
    pub quota_bytes: Option<u64>,
    /// How long it can be redeemed.
    pub valid_secs: u64,
    /// The key that redeems it takes the place of the directory's present one.
    pub replace: bool,
}

/// Answer to [`Invite`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invited {
    /// Names the invitation.
    pub id: [u8; 8],
    /// What redeems it.
    pub secret: [u8; 16],
    /// The daemon's key.
    pub daemon: [u8; 32],
    /// When it ends, seconds since 1970.
    pub expires_secs: i64,
}

impl std::fmt::Debug for Invited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invited").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Who is known, and who is invited?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Users {}

/// Answer to [`Users`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserList {
    /// Some of the identities, by node and user.
    pub users: Vec<WireUser>,
    /// Some of the invitations that are open.
    pub invitations: Vec<WireInvitation>,
    /// More to come.
    pub more: bool,
}

/// An identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireUser {
    /// Its node directory.
    pub node: Bytes,
    /// Its user directory.
    pub user: Bytes,
    /// Its key.
    pub key: [u8; 32],
    /// See [`Invite::rights`].
    pub rights: u8,
    /// Most bytes that it may take.
    pub quota_bytes: Option<u64>,
    /// First contact, seconds since 1970.
    pub created_secs: i64,
    /// Since when its key opens nothing.
    pub revoked_secs: Option<i64>,
    /// When its newest backup was received, seconds since 1970; 0: there is none.
    pub newest_secs: i64,
    /// Its connections now.
    pub connections: u32,
}

/// An invitation that is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireInvitation {
    /// Names it.
    pub id: [u8; 8],
    /// User name.
    pub user: Bytes,
    /// Node; empty: the address from which it is redeemed.
    pub node: Bytes,
    /// See [`Invite::rights`].
    pub rights: Option<u8>,
    /// See [`Invite::quota_bytes`].
    pub quota_bytes: Option<u64>,
    /// See [`Invite::replace`].
    pub replace: bool,
    /// When it ends, seconds since 1970.
    pub expires_secs: i64,
}

/// The key of this identity opens nothing any more, and its connections end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoke {
    /// Its node directory.
    pub node: Bytes,
    /// Its user directory.
    pub user: Bytes,
}

/// Take an invitation back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uninvite {
    /// Names it.
    pub id: [u8; 8],
}

/// Other rights, or another quota; who is connected has to come again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its node directory.
    pub node: Bytes,
    /// Its user directory.
    pub user: Bytes,
    /// See [`Invite::rights`]; none: as they are.
    pub rights: Option<u8>,
    /// None: as it is.
    pub quota_bytes: Option<Option<u64>>,
}

/// Answer to [`Revoke`], [`Uninvite`] and [`Change`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Connections that were ended.
    pub connections: u32,
}

/// Take another key, and sign it over with the present one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RekeyDaemon {}

/// Answer to [`RekeyDaemon`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonRekeyed {
    /// The new key.
    pub key: [u8; 32],
}
