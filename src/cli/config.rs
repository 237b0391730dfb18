//! `config.toml`: what a user does not want to write each time.
//!
//! Keys are the long options' names. Options that change what a run does to the copy (`-r`, `-d`, `--force-delete`, …)
//! are not among them: they must be seen on the command line. A key that is not known is an error that names the key
//! and the line, because a misspelt `exclude` would otherwise be found at restore.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use super::args::{CompressMode, ProgressMode};
use super::units::{parse_address, parse_time, parse_wait};
use crate::backup::bytes::escape;
use crate::tree::operator;

/// A configuration has a page or two.
pub(super) const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// The file's keys; each is optional.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ConfigFile {
    /// `HOST[:PORT]` of the daemon.
    pub server: Option<String>,
    /// Local address to connect from.
    #[serde(deserialize_with = "address")]
    pub bind: Option<SocketAddr>,
    /// The store's folder, instead of a daemon.
    pub store: Option<PathBuf>,
    /// User name to back up under.
    pub user: Option<String>,
    /// gitignore patterns; the command line's come after them.
    pub exclude: Vec<String>,
    /// Files of patterns; relative ones start at the configuration's folder.
    pub exclude_from: Vec<PathBuf>,
    /// Leave out what a CACHEDIR.TAG marks.
    pub exclude_caches: bool,
    /// Do not cross mount points.
    pub one_file_system: bool,
    /// `true`, `"10m"` or seconds: queue behind a lock.
    #[serde(deserialize_with = "wait")]
    pub wait: Option<Duration>,
    /// `"10m"` or seconds.
    #[serde(deserialize_with = "time")]
    pub retry_for: Option<Duration>,
    /// `"auto"`, `"always"`, `"never"`.
    pub compress: Option<CompressMode>,
    /// Errors only.
    pub quiet: bool,
    /// `"auto"`, `"always"`, `"never"`.
    pub progress: Option<ProgressMode>,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is there, but cannot be read.
    #[error("cannot read the configuration {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A key or value is wrong.
    #[error("{path}, line {line}: {message}")]
    Content {
        /// The file.
        path: String,
        /// Counts from 1.
        line: usize,
        /// What is wrong, in words.
        message: String,
    },
}

impl ConfigFile {
    /// Reads `path`; a file that is not there is an empty one.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let shown = escape(path.as_os_str().as_encoded_bytes());
        match operator::read_text(path, CONFIG_BYTES_MAX) {
            Ok(text) => Self::parse(&text, &shown),
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(ConfigError::Read { path: shown, source }),
        }
    }

    /// Reads the file's text; `path` is for messages.
    ///
    /// # Errors
    /// [`ConfigError::Content`].
    pub fn parse(text: &str, path: &str) -> Result<Self, ConfigError> {
        parse_toml(text, path)
    }
}

/// Reads a configuration's text; `path` is for messages, which name key and line.
pub(super) fn parse_toml<T: DeserializeOwned>(text: &str, path: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        let before = text.as_bytes().get(..start).unwrap_or_default();
        ConfigError::Content {
            path: path.to_owned(),
            line: before.iter().filter(|b| **b == b'\n').count() + 1,
            message: escape(error.message().replace('\n', "; ").as_bytes()).replace("unknown field", "unknown key"),
        }
    })
}

/// What may stand where a time is meant.
#[derive(Deserialize)]
#[serde(untagged)]
enum TimeValue {
    Flag(bool),
    Secs(u64),
    Text(String),
}

fn wait<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    match TimeValue::deserialize(deserializer)
        .map_err(|_| D::Error::custom("'wait' is true, false, a time like \"10m\", or seconds"))?
    {
        TimeValue::Flag(flag) => Ok(flag.then_some(Duration::MAX)),
        TimeValue::Secs(secs) => Ok(Some(Duration::from_secs(secs))),
        TimeValue::Text(text) => parse_wait(&text).map(Some).map_err(D::Error::custom),
    }
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    match TimeValue::deserialize(deserializer) {
        Ok(TimeValue::Secs(secs)) => Ok(Some(Duration::from_secs(secs))),
        Ok(TimeValue::Text(text)) => parse_time(&text).map(Some).map_err(D::Error::custom),
        _ => Err(D::Error::custom("'retry-for' is a time like \"10m\", or seconds")),
    }
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_address(&text, 0).map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        ConfigFile::parse(text, "/c/config.toml").unwrap_err().to_string()
    }

    #[test]
    fn all_keys_are_read() {
        let text = r#"
            server = "nas:9000"
            bind = "192.0.2.7"
            user = "u"
            exclude = ["*.o", "!keep.o"]
            exclude-from = ["~/.rbignore"]
            exclude-caches = true
            one-file-system = true
            wait = true
            retry-for = "1h30m"
            quiet = true
            progress = "never"
        "#;
        let config = ConfigFile::parse(text, "x").unwrap();
        assert_eq!(config.server.as_deref(), Some("nas:9000"));
        assert_eq!(config.bind.unwrap().to_string(), "192.0.2.7:0");
        assert_eq!(config.exclude, ["*.o", "!keep.o"]);
        assert_eq!(config.wait, Some(Duration::MAX));
        assert_eq!(config.retry_for, Some(Duration::from_secs(5400)));
        assert_eq!(config.progress, Some(ProgressMode::Never));
        assert!(config.exclude_caches && config.one_file_system && config.quiet);
        assert_eq!(ConfigFile::parse("", "x").unwrap(), ConfigFile::default());
        assert_eq!(ConfigFile::parse("wait = 90", "x").unwrap().wait, Some(Duration::from_secs(90)));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let message = message("# mine\nserver = \"a\"\n\nexlude = [\"x\"]\nuser = \"u\"\n");
        assert!(message.starts_with("/c/config.toml, line 4: unknown key `exlude`"), "{message}");
        assert!(message.contains("`exclude`"), "{message}");
    }

    #[test]
    fn what_changes_the_copy_is_no_key() {
        for key in ["delete", "recursive", "force-delete", "delete-excluded", "dry-run"] {
            assert!(message(&format!("{key} = true")).contains(&format!("unknown key `{key}`")));
        }
    }

    #[test]
    fn a_wrong_value_is_named_with_its_line() {
        assert!(
            message("user = \"u\"\nretry-for = \"soon\"").starts_with("/c/config.toml, line 2: 'soon' is not a time")
        );
        assert!(message("\nbind = \"nas\"").starts_with("/c/config.toml, line 2: 'nas' is not an address"));
        assert!(message("\n\nserver = 3").starts_with("/c/config.toml, line 3: "));
        assert!(message("server = \"a\"\nserver = \"b\"").starts_with("/c/config.toml, line 2: "));
        assert!(message("server = \"a").starts_with("/c/config.toml, line 1: "));
        assert!(!message("x = \"\u{1b}[31m").contains('\u{1b}'));
    }

    #[test]
    fn a_file_that_is_not_there_is_empty_and_an_unreadable_one_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ConfigFile::load(&dir.path().join("none")).unwrap(), ConfigFile::default());
        let error = ConfigFile::load(dir.path()).unwrap_err();
        assert!(error.to_string().contains("cannot read the configuration"), "{error}");
    }
}
