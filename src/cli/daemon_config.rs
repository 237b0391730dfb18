//! `rbbackupd.toml`: what an operator decides about a store: how much of the past is kept, how it is verified, how much
//! of what there may be.
//!
//! ```toml
//! [retention]                                   # for all; a key that is left out has its default
//! daily = 30
//! [identity."192.168.1.20/ana".retention]       # for one; a key that is left out is that of [retention]
//! daily = 90
//! ```
//!
//! `packaging/rbbackupd.toml` is the file that is shipped: it says what holds without one. A key that is not known is an
//! error that names key and line: a misspelt `daily` would otherwise be found when a snapshot is missing.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::Path;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::config::{CONFIG_BYTES_MAX, ConfigError, parse_toml};
use super::console::ConsoleKeys;
use super::units::{parse_size, parse_wait};
use crate::backup::bytes::escape;
use crate::backup::limits::{ADDRESS_CONNECTIONS_MAX, IDENTITY_SESSIONS_MAX};
use crate::backup::retention::Policy;
use crate::engine::prune::Retention;
use crate::engine::room::SpaceLimits;
use crate::engine::verify::VerifyOptions;
use crate::store::names::CopyName;
use crate::tree::operator;

/// Where it is looked for when the command line names none.
pub const CONFIG_PATH: &str = "/etc/rbbackup/rbbackupd.toml";

/// The file, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DaemonConfig {
    /// What is kept.
    pub retention: Retention,
    /// How the daemon verifies by itself.
    pub verify: VerifyOptions,
    /// How much may be stored.
    pub space: SpaceLimits,
    /// How many connections there may be.
    pub connections: ConnectionLimits,
    /// Who may sign in to its console.
    pub console: ConsoleKeys,
}

/// Connections at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Sessions of one address (IPv6: of one /64), and as many connections that are not welcome yet.
    pub of_address: usize,
    /// Sessions of one identity.
    pub of_identity: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { of_address: ADDRESS_CONNECTIONS_MAX, of_identity: IDENTITY_SESSIONS_MAX }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    retention: RetentionKeys,
    verify: VerifyKeys,
    limits: LimitKeys,
    console: ConsoleKeys,
    #[serde(deserialize_with = "identities")]
    identity: BTreeMap<CopyName, IdentityKeys>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct IdentityKeys {
    retention: RetentionKeys,
    #[serde(deserialize_with = "quota")]
    quota: Option<Quota>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct LimitKeys {
    connections_per_address: Option<NonZeroUsize>,
    sessions_per_identity: Option<NonZeroUsize>,
    #[serde(deserialize_with = "reserve")]
    reserve: Option<Reserve>,
    #[serde(deserialize_with = "quota")]
    quota: Option<Quota>,
}

/// Bytes; none: what fits the file system.
struct Reserve(Option<u64>);

/// Bytes; none: as many as there are.
struct Quota(Option<u64>);

impl LimitKeys {
    fn connections(&self) -> ConnectionLimits {
        let default = ConnectionLimits::default();
        ConnectionLimits {
            of_address: self.connections_per_address.map_or(default.of_address, NonZeroUsize::get),
            of_identity: self.sessions_per_identity.map_or(default.of_identity, NonZeroUsize::get),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct VerifyKeys {
    #[serde(deserialize_with = "span")]
    every: Option<u64>,
    mib_per_second: Option<NonZeroU32>,
}

impl VerifyKeys {
    fn options(&self) -> VerifyOptions {
        let default = VerifyOptions::default();
        VerifyOptions {
            every_secs: self.every.unwrap_or(default.every_secs),
            rate: self.mib_per_second.map_or(default.rate, |mib| u64::from(mib.get()) << 20),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RetentionKeys {
    #[serde(deserialize_with = "span")]
    within: Option<u64>,
    last: Option<u32>,
    hourly: Option<u32>,
    daily: Option<u32>,
    weekly: Option<u32>,
    monthly: Option<u32>,
    yearly: Option<u32>,
    #[serde(deserialize_with = "span")]
    min_age: Option<u64>,
}

impl RetentionKeys {
    /// What is said here, on top of `below`.
    fn over(&self, below: Policy) -> Policy {
        Policy {
            within_secs: self.within.unwrap_or(below.within_secs),
            last: self.last.unwrap_or(below.last),
            hourly: self.hourly.unwrap_or(below.hourly),
            daily: self.daily.unwrap_or(below.daily),
            weekly: self.weekly.unwrap_or(below.weekly),
            monthly: self.monthly.unwrap_or(below.monthly),
            yearly: self.yearly.unwrap_or(below.yearly),
            min_age_secs: self.min_age.unwrap_or(below.min_age_secs),
        }
    }
}

impl DaemonConfig {
    /// Reads `named`, which must be there; without a name [`CONFIG_PATH`], which need not.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(named: Option<&Path>) -> Result<Self, ConfigError> {
        let path = named.unwrap_or(Path::new(CONFIG_PATH));
        let shown = escape(path.as_os_str().as_encoded_bytes());
        match operator::read_text(path, CONFIG_BYTES_MAX) {
            Ok(text) => Self::parse(&text, &shown),
            Err(e) if named.is_none() && e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(ConfigError::Read { path: shown, source }),
        }
    }

    /// Reads the file's text; `path` is for messages.
    ///
    /// # Errors
    /// [`ConfigError::Content`].
    pub fn parse(text: &str, path: &str) -> Result<Self, ConfigError> {
        let File { retention, verify, limits, console, identity } = parse_toml(text, path)?;
        let default = retention.over(Policy::default());
        let quotas = identity.iter().filter_map(|(copy, keys)| Some((copy.clone(), keys.quota.as_ref()?.0))).collect();
        let copies = identity.into_iter().map(|(copy, keys)| (copy, keys.retention.over(default))).collect();
        let connections = limits.connections();
        let reserve = limits.reserve.and_then(|Reserve(bytes)| bytes);
        let quota = limits.quota.and_then(|Quota(bytes)| bytes);
        let space = SpaceLimits { reserve, quota, quotas };
        Ok(Self { retention: Retention { default, copies }, verify: verify.options(), space, connections, console })
    }
}

/// A time span in seconds; `"forever"` is the largest.
fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Span {
        Secs(u64),
        Text(String),
    }
    match Span::deserialize(deserializer) {
        Ok(Span::Secs(secs)) => Ok(Some(secs)),
        Ok(Span::Text(text)) => parse_wait(&text).map(|time| Some(time.as_secs())).map_err(D::Error::custom),
        Err(_) => Err(D::Error::custom("this is a time like \"90d\", \"forever\", or seconds")),
    }
}

/// A size, or the one word that stands for none.
fn size<'de, D: Deserializer<'de>>(deserializer: D, none: &str) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Size {
        Bytes(u64),
        Text(String),
    }
    match Size::deserialize(deserializer) {
        Ok(Size::Bytes(bytes)) => Ok(Some(bytes)),
        Ok(Size::Text(text)) if text == none => Ok(None),
        Ok(Size::Text(text)) => parse_size(&text).map(Some).map_err(D::Error::custom),
        Err(_) => Err(D::Error::custom(format!("this is a size like \"10G\", \"{none}\", or bytes"))),
    }
}

fn reserve<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Reserve>, D::Error> {
    size(deserializer, "auto").map(|bytes| Some(Reserve(bytes)))
}

fn quota<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Quota>, D::Error> {
    size(deserializer, "none").map(|bytes| Some(Quota(bytes)))
}

/// Identities by the names of their folders.
fn identities<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<CopyName, IdentityKeys>, D::Error> {
    let mut found = BTreeMap::new();
    for (name, keys) in BTreeMap::<String, IdentityKeys>::deserialize(deserializer)? {
        let copy = match name.split_once('/') {
            Some((node, user)) => CopyName::new(node.as_bytes(), user.as_bytes()).map_err(D::Error::custom)?,
            None => return Err(D::Error::custom(format!("'{name}' is no identity: write \"NODE/USER\""))),
        };
        found.insert(copy, keys);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::fingerprint::Timestamp;
    use crate::store::registry::Identity;

    fn parse(text: &str) -> DaemonConfig {
        DaemonConfig::parse(text, "x").unwrap()
    }

    fn message(text: &str) -> String {
        DaemonConfig::parse(text, "/e/d.toml").unwrap_err().to_string()
    }

    #[test]
    fn the_shipped_file_says_what_holds_without_one() {
        let shipped = include_str!("../../packaging/rbbackupd.toml");
        assert_eq!(parse(shipped), DaemonConfig::default());
        assert_eq!(DaemonConfig::default().retention.default, Policy::default());
        // Its examples are true, too, and every key stands in it.
        let all = shipped.replace("\n#[", "\n[").replace("\n#daily", "\ndaily").replace("\n#quota", "\nquota");
        let ana = CopyName::new(b"192.168.1.20", b"ana").unwrap();
        assert_eq!(parse(&all).retention.policy(&ana), Policy { daily: 90, ..Policy::default() });
        assert_eq!(parse(&all).space.quotas, BTreeMap::from([(ana, Some(100 << 30))]));
        let retention = ["within", "last", "hourly", "daily", "weekly", "monthly", "yearly", "min-age"];
        let limits = ["connections-per-address", "sessions-per-identity", "reserve", "quota"];
        for key in retention.iter().chain(&limits).chain(&["every", "mib-per-second"]) {
            assert!(shipped.contains(&format!("\n{key} = ")), "{key}");
        }
    }

    #[test]
    fn an_identity_stands_on_the_general_policy_and_that_on_the_default() {
        let config = parse(
            "[retention]\ndaily = 7\nwithin = \"2w\"\nmin-age = 60\n\
             [identity.\"10.0.0.1/ana@office\".retention]\nyearly = 0\nwithin = \"forever\"\n",
        );
        let general = Policy { daily: 7, within_secs: 14 * 86_400, min_age_secs: 60, ..Policy::default() };
        let ana = CopyName::new(b"10.0.0.1", b"ana@office").unwrap();
        assert_eq!(config.retention.default, general);
        assert_eq!(config.retention.policy(&ana), Policy { yearly: 0, within_secs: u64::MAX, ..general });
        assert_eq!(config.retention.policy(&CopyName::local(b"u").unwrap()), general);
    }

    #[test]
    fn how_it_is_verified() {
        let verify = parse("[verify]\nevery = \"1w\"\nmib-per-second = 2\n").verify;
        assert_eq!(verify, VerifyOptions { every_secs: 7 * 86_400, rate: 2 << 20 });
        assert_eq!(parse("[verify]\nevery = \"forever\"").verify.every_secs, u64::MAX, "never");
    }

    #[test]
    fn how_much_there_may_be() {
        let config = parse(
            "[limits]\nconnections-per-address = 200\nreserve = \"5G\"\nquota = \"1.5T\"\n\
             [identity.\"10.0.0.1/ana\"]\nquota = \"10G\"\n[identity.\"10.0.0.1/bob\"]\nquota = \"none\"\n\
             [identity.\"10.0.0.1/eva\".retention]\nlast = 1\n",
        );
        assert_eq!(config.connections, ConnectionLimits { of_address: 200, ..ConnectionLimits::default() });
        let quota = |user: &str, own| {
            let copy = CopyName::new(b"10.0.0.1", user.as_bytes()).unwrap();
            let identity = Identity { quota_bytes: own, ..Identity::new(copy, None, Timestamp::default()) };
            config.space.quota(&identity)
        };
        assert_eq!(config.space.reserve, Some(5 << 30));
        assert_eq!([quota("ana", None), quota("bob", None), quota("eva", None)], [Some(10 << 30), None, Some(3 << 39)]);
        assert_eq!(quota("ana", Some(7)), Some(7), "what was said to the daemon comes first");
        assert_eq!(parse("[limits]\nreserve = \"auto\"\nquota = 1000").space.reserve, None);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let unknown = message("[retention]\nlast = 3\ndayly = 7\n");
        assert!(
            unknown.starts_with("/e/d.toml, line 3: unknown key `dayly`") && unknown.contains("`daily`"),
            "{unknown}"
        );
        assert!(message("\n[retain]\n").starts_with("/e/d.toml, line 2: unknown key `retain`"));
        assert!(message("[identity.\"a/b\"]\nx = 1").contains("unknown key `x`"));
        for (text, what) in [
            ("[retention]\nwithin = \"soon\"", "line 2: 'soon' is not a time"),
            ("[retention]\n\nmin-age = true", "line 3: this is a time like"),
            ("[retention]\ndaily = -1", "line 2: "),
            ("[verify]\nmib-per-second = 0", "line 2: "),
            ("[limits]\nconnections-per-address = 0", "line 2: "),
            ("[limits]\nreserve = \"much\"", "line 2: 'much' is not a size"),
            ("[limits]\n\nquota = true", "line 3: this is a size like \"10G\", \"none\", or bytes"),
            ("[identity.\"a/b\"]\nquota = \"auto\"", "'auto' is not a size"),
            ("[verify]\nevery = \"often\"", "line 2: 'often' is not a time"),
            ("[identity.ana.retention]\nlast = 1", "'ana' is no identity: write \"NODE/USER\""),
            ("[identity.\"a/../b\".retention]\nlast = 1", "cannot be the name of a user"),
        ] {
            assert!(message(text).contains(what), "{text}: {}", message(text));
        }
    }

    #[test]
    fn a_file_that_was_named_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.toml");
        assert!(DaemonConfig::load(Some(&path)).unwrap_err().to_string().contains("cannot read the configuration"));
        std::fs::write(&path, "[retention]\nlast = 1\n").unwrap();
        assert_eq!(DaemonConfig::load(Some(&path)).unwrap().retention.default.last, 1);
    }
}
