//! [`DaemonSettings`]: the layers of a daemon's settings: default, configuration file, command line, and on top what was set in
//! the console, which is kept in `.rbbackup/override.toml`:
//!
//! ```toml
//! version = 1
//! listen = "[::]:8730"
//! [retention]                  # keys as in rbbackupd.toml
//! daily = 90
//! [limits]
//! quota = "500G"
//! ```

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use toml::{Table, Value};

use super::config::{CONFIG_BYTES_MAX, parse_toml};
use super::daemon_config::{CONFIG_PATH, DaemonConfig, RetentionKeys};
use super::units::parse_address;
use crate::backup::bytes::escape;
use crate::backup::limits::PORT;
use crate::console::daemon::settings::{
    Setting, SettingChange, SettingKind, SettingSource, SettingValue, Settings, SettingsView,
};
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::rules::Rules;
use crate::store::layout::META_NAME;
use crate::tree::{operator, own};

const VERSION: i64 = 1;
const FILE_NAME: &str = "override.toml";

/// What can be set, what it is, and whether a relay has a use for it.
const KEYS: [(&str, SettingKind); 11] = [
    ("listen", SettingKind::Address),
    ("retention.within", SettingKind::Seconds),
    ("retention.last", SettingKind::Count),
    ("retention.hourly", SettingKind::Count),
    ("retention.daily", SettingKind::Count),
    ("retention.weekly", SettingKind::Count),
    ("retention.monthly", SettingKind::Count),
    ("retention.yearly", SettingKind::Count),
    ("retention.min-age", SettingKind::Seconds),
    ("limits.quota", SettingKind::Bytes),
    ("limits.reserve", SettingKind::Bytes),
];

/// The console's word, checked.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Override {
    version: i64,
    listen: Option<String>,
    retention: RetentionKeys,
    limits: OverrideLimits,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct OverrideLimits {
    quota: Option<Value>,
    reserve: Option<Value>,
}

/// Where a daemon listens, as far as others than the console say it.
#[derive(Clone, Copy, Debug)]
pub struct Listen {
    /// Said, or the default.
    pub address: SocketAddr,
    /// It was said.
    pub said: bool,
}

/// See the module.
pub struct DaemonSettings {
    /// The configuration file's name, and its text when the daemon started.
    file: PathBuf,
    text: String,
    store: PathBuf,
    listen: Listen,
    is_relay: bool,
    /// The console's word.
    table: Mutex<Table>,
}

fn usage(message: impl Into<String>) -> EngineError {
    EngineError::new(ErrorKind::Usage, message)
}

/// The file, whether it is there or not.
fn override_path(store: &Path) -> PathBuf {
    operator::resolve(store).unwrap_or_else(|_| store.to_path_buf()).join(META_NAME).join(FILE_NAME)
}

fn read_override(store: &Path) -> Result<Table, String> {
    let path = override_path(store);
    let shown = escape(path.as_os_str().as_encoded_bytes());
    let bytes = match own::read_file(&path, CONFIG_BYTES_MAX) {
        // What cannot be a store is told so when it is opened.
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Table::new()),
        bytes => bytes.map_err(|e| format!("cannot read '{shown}': {e}"))?,
    };
    let text = String::from_utf8(bytes).map_err(|_| format!("'{shown}' is not text"))?;
    check(&text, &shown)?;
    toml::from_str(&text).map_err(|e| format!("'{shown}': {}", escape(e.message().as_bytes())))
}

fn check(text: &str, shown: &str) -> Result<Override, String> {
    let said: Override = parse_toml(text, shown).map_err(|e| e.to_string())?;
    if !text.trim().is_empty() && said.version != VERSION {
        return Err(format!("'{shown}': its version is {}, this program knows {VERSION}", said.version));
    }
    Ok(said)
}

/// What is there at a dotted key.
fn at<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((group, name)) => table.get(group)?.as_table()?.get(name),
    }
}

/// The configuration, with the console's word on top.
fn merged(text: &str, over: &Table, shown: &str) -> Result<DaemonConfig, String> {
    let mut file: Table = toml::from_str(text).map_err(|e| format!("{shown}: {}", escape(e.message().as_bytes())))?;
    for (key, _) in KEYS.iter().filter(|(key, _)| *key != "listen") {
        let (Some(value), Some((group, name))) = (at(over, key), key.split_once('.')) else { continue };
        let group = file.entry(group).or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(group) = group {
            group.insert(name.to_owned(), value.clone());
        }
    }
    DaemonConfig::parse(&file.to_string(), shown).map_err(|e| e.to_string())
}

/// The configuration that holds for a store: the file's, and what was set in its daemon's console.
///
/// # Errors
/// One of them cannot be used.
pub fn config_of(named: Option<&Path>, store: &Path) -> Result<DaemonConfig, String> {
    let (file, text) = read_file(named)?;
    // The file by itself first: its errors have lines.
    let shown = escape(file.as_os_str().as_encoded_bytes());
    DaemonConfig::parse(&text, &shown).map_err(|e| e.to_string())?;
    merged(&text, &read_override(store)?, &shown)
}

fn read_file(named: Option<&Path>) -> Result<(PathBuf, String), String> {
    let file = named.unwrap_or(Path::new(CONFIG_PATH)).to_path_buf();
    let shown = escape(file.as_os_str().as_encoded_bytes());
    match operator::read_text(&file, CONFIG_BYTES_MAX) {
        Ok(text) => Ok((file, text)),
        Err(e) if named.is_none() && e.kind() == io::ErrorKind::NotFound => Ok((file, String::new())),
        Err(e) => Err(format!("cannot read the configuration {shown}: {e}")),
    }
}

impl DaemonSettings {
    /// Reads all layers for the daemon of `store`; what holds is returned with it.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn load(
        named: Option<&Path>,
        store: &Path,
        listen: Listen,
        is_relay: bool,
    ) -> Result<(Self, DaemonConfig, SocketAddr), String> {
        let (file, text) = if is_relay { (PathBuf::new(), String::new()) } else { read_file(named)? };
        let shown = escape(file.as_os_str().as_encoded_bytes());
        DaemonConfig::parse(&text, &shown).map_err(|e| e.to_string())?;
        let table = read_override(store)?;
        let config = merged(&text, &table, &shown)?;
        let settings = Self { file, text, store: store.to_path_buf(), listen, is_relay, table: Mutex::new(table) };
        let address = settings.address(&settings.lock())?;
        let is_over = settings.lock().contains_key("listen");
        if is_over && listen.said && address != listen.address {
            tracing::warn!(
                "listens on {address}, as it was set in the console, and not on {} ('listen' in {})",
                listen.address,
                override_path(store).display()
            );
        }
        Ok((settings, config, address))
    }

    /// Where the address was set, if the console has the word.
    pub fn listen_override(&self) -> Option<PathBuf> {
        self.lock().contains_key("listen").then(|| override_path(&self.store))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn address(&self, over: &Table) -> Result<SocketAddr, String> {
        match over.get("listen") {
            Some(Value::String(text)) => parse_address(text, PORT),
            Some(_) => Err("'listen' is an address like [::]:8730".to_owned()),
            None => Ok(self.listen.address),
        }
    }

    fn config(&self, over: &Table) -> Result<DaemonConfig, String> {
        merged(&self.text, over, &escape(self.file.as_os_str().as_encoded_bytes()))
    }

    /// Writes the console's word.
    fn keep(&self, over: &Table) -> Result<(), EngineError> {
        let path = override_path(&self.store);
        let failed = |e: io::Error| {
            let shown = escape(path.as_os_str().as_encoded_bytes());
            EngineError::new(ErrorKind::Failed, format!("cannot write '{shown}': {e}"))
        };
        let dir = path.parent().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        own::write_file(dir, FILE_NAME, over.to_string().as_bytes()).map_err(failed)
    }
}

/// What a configuration says of a key.
fn value_of(config: &DaemonConfig, listen: &str, key: &str) -> SettingValue {
    let policy = &config.retention.default;
    let span = |secs: u64| if secs == u64::MAX { SettingValue::None } else { SettingValue::Number(secs) };
    let bytes = |bytes: Option<u64>| bytes.map_or(SettingValue::None, SettingValue::Number);
    let count = |count: u32| SettingValue::Number(count.into());
    match key {
        "listen" => SettingValue::Text(listen.to_owned()),
        "retention.within" => span(policy.within_secs),
        "retention.last" => count(policy.last),
        "retention.hourly" => count(policy.hourly),
        "retention.daily" => count(policy.daily),
        "retention.weekly" => count(policy.weekly),
        "retention.monthly" => count(policy.monthly),
        "retention.yearly" => count(policy.yearly),
        "retention.min-age" => span(policy.min_age_secs),
        "limits.quota" => bytes(config.space.quota),
        _ => bytes(config.space.reserve),
    }
}

/// As the configuration would say it.
fn as_toml(key: &str, kind: SettingKind, value: &serde_json::Value) -> Result<Value, EngineError> {
    let odd = || usage(format!("'{value}' cannot be the value of '{key}'"));
    match (kind, value) {
        (SettingKind::Seconds, serde_json::Value::Null) => Ok(Value::String("forever".to_owned())),
        (SettingKind::Bytes, serde_json::Value::Null) => {
            Ok(Value::String(if key == "limits.reserve" { "auto" } else { "none" }.to_owned()))
        }
        (SettingKind::Address, serde_json::Value::String(text)) => {
            let address = parse_address(text, PORT).map_err(usage)?;
            Ok(Value::String(address.to_string()))
        }
        (SettingKind::Address, _) => Err(odd()),
        (SettingKind::Count, serde_json::Value::String(_)) => Err(odd()),
        (_, serde_json::Value::Number(number)) => {
            number.as_u64().and_then(|number| i64::try_from(number).ok()).map(Value::Integer).ok_or_else(odd)
        }
        (_, serde_json::Value::String(text)) => Ok(Value::String(text.clone())),
        _ => Err(odd()),
    }
}

/// The console's word with one change.
fn set(over: &mut Table, key: &str, value: Option<Value>) {
    let (group, name) = match key.split_once('.') {
        None => (None, key),
        Some((group, name)) => (Some(group), name),
    };
    let table = match group {
        None => over,
        Some(group) => {
            let entry = over.entry(group).or_insert_with(|| Value::Table(Table::new()));
            let Value::Table(table) = entry else { return };
            table
        }
    };
    match value {
        Some(value) => drop(table.insert(name.to_owned(), value)),
        None => drop(table.remove(name)),
    }
}

impl Settings for DaemonSettings {
    fn view(&self) -> SettingsView {
        let over = self.lock().clone();
        let file: Table = toml::from_str(&self.text).unwrap_or_default();
        let without = self.config(&Table::new()).unwrap_or_default();
        let with = self.config(&over).unwrap_or_default();
        let default = DaemonConfig::default();
        let listen = |over: &Table| self.address(over).unwrap_or(self.listen.address).to_string();
        let (now, before) = (listen(&over), listen(&Table::new()));
        let setting = |&(key, kind): &(&'static str, SettingKind)| {
            let from = if at(&over, key).is_some() {
                SettingSource::Console
            } else if key == "listen" && self.listen.said {
                SettingSource::Command
            } else if at(&file, key).is_some() {
                SettingSource::File
            } else {
                SettingSource::Default
            };
            let before = value_of(&without, &before, key);
            let default = value_of(&default, &format!("[::]:{PORT}"), key);
            Setting { key, kind, value: value_of(&with, &now, key), from, before, default }
        };
        let shown = |path: &Path| escape(path.as_os_str().as_encoded_bytes());
        let for_this = |(key, _): &&(&str, SettingKind)| !self.is_relay || *key == "listen";
        SettingsView {
            file: shown(&self.file),
            r#override: shown(&override_path(&self.store)),
            settings: KEYS.iter().filter(for_this).map(setting).collect(),
        }
    }

    fn change(
        &self,
        changes: &[(String, SettingChange)],
        try_listen: &dyn Fn(SocketAddr) -> Result<(), EngineError>,
    ) -> Result<Rules, EngineError> {
        let mut table = self.lock();
        let mut over = table.clone();
        for (key, change) in changes {
            let known = KEYS.iter().find(|(known, _)| known == key && (!self.is_relay || *known == "listen"));
            let (key, kind) = known.ok_or_else(|| usage(format!("'{}' cannot be set here", escape(key.as_bytes()))))?;
            match change {
                SettingChange::Reset => set(&mut over, key, None),
                SettingChange::To(value) => set(&mut over, key, Some(as_toml(key, *kind, value)?)),
            }
        }
        over.retain(|_, value| value.as_table().is_none_or(|table| !table.is_empty()));
        over.insert("version".to_owned(), Value::Integer(VERSION));
        check(&over.to_string(), FILE_NAME).map_err(usage)?;
        let config = self.config(&over).map_err(usage)?;
        let (before, listen) = (self.address(&table).map_err(usage)?, self.address(&over).map_err(usage)?);
        if listen != before {
            try_listen(listen)?;
        }
        if let Err(error) = self.keep(&over) {
            // What is not kept does not hold.
            if listen != before {
                let _ = try_listen(before);
            }
            return Err(error);
        }
        *table = over;
        Ok(Rules { retention: config.retention, space: config.space })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings(dir: &Path, text: &str) -> DaemonSettings {
        let file = dir.join("rbbackupd.toml");
        std::fs::write(&file, text).unwrap();
        std::fs::create_dir_all(dir.join("store").join(META_NAME)).unwrap();
        let listen = Listen { address: "127.0.0.1:8730".parse().unwrap(), said: true };
        DaemonSettings::load(Some(&file), &dir.join("store"), listen, false).unwrap().0
    }

    fn to(key: &str, value: serde_json::Value) -> (String, SettingChange) {
        (key.to_owned(), SettingChange::To(value))
    }

    fn fine(_: SocketAddr) -> Result<(), EngineError> {
        Ok(())
    }

    fn one(settings: &DaemonSettings, key: &str) -> Setting {
        settings.view().settings.into_iter().find(|setting| setting.key == key).unwrap()
    }

    #[test]
    fn the_console_has_the_last_word_and_what_was_before_is_shown() {
        let temp = tempfile::tempdir().unwrap();
        let file = "[retention]\ndaily = 14\n[identity.\"n/u\".retention]\nlast = 3\n";
        let settings = settings(temp.path(), file);
        let daily = one(&settings, "retention.daily");
        assert_eq!((daily.value, daily.from), (SettingValue::Number(14), SettingSource::File));
        assert_eq!(one(&settings, "listen").from, SettingSource::Command);
        assert_eq!(one(&settings, "retention.weekly").from, SettingSource::Default);
        let changes =
            [to("retention.daily", json!(90)), to("limits.quota", json!("2G")), to("retention.within", json!(null))];
        let rules = settings.change(&changes, &fine).unwrap();
        assert_eq!(rules.retention.default.daily, 90);
        let of_one = rules.retention.policy(
            &"n/u"
                .split_once('/')
                .map(|(n, u)| crate::store::names::CopyName::new(n.as_bytes(), u.as_bytes()).unwrap())
                .unwrap(),
        );
        assert_eq!((of_one.daily, of_one.last), (90, 3), "who is named has it too, but for what is said of them");
        assert_eq!((rules.space.quota, rules.retention.default.within_secs), (Some(2 << 30), u64::MAX));
        let daily = one(&settings, "retention.daily");
        assert_eq!((daily.value, daily.from), (SettingValue::Number(90), SettingSource::Console));
        assert_eq!((daily.before, daily.default), (SettingValue::Number(14), SettingValue::Number(30)));
        // The next start finds it, and so does a command without a daemon.
        let config = config_of(Some(&temp.path().join("rbbackupd.toml")), &temp.path().join("store")).unwrap();
        assert_eq!((config.retention.default.daily, config.space.quota), (90, Some(2 << 30)));
        settings.change(&[("retention.daily".to_owned(), SettingChange::Reset)], &fine).unwrap();
        assert_eq!(one(&settings, "retention.daily").from, SettingSource::File);
        assert_eq!(one(&settings, "limits.quota").from, SettingSource::Console);
    }

    #[test]
    fn what_cannot_be_meant_changes_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let settings = settings(temp.path(), "");
        let before = settings.view();
        for (key, value) in [
            ("retention.daily", json!("many")),
            ("retention.daily", json!(-1)),
            ("retention.daily", json!([1])),
            ("retention.min-age", json!("soon")),
            ("limits.quota", json!("much")),
            ("listen", json!("nowhere at all")),
            ("listen", json!(8730)),
            ("store", json!("/")),
        ] {
            let refused = settings.change(&[to("retention.last", json!(1)), to(key, value.clone())], &fine);
            assert_eq!(refused.unwrap_err().kind, ErrorKind::Usage, "{key} = {value}");
        }
        let taken = |_: SocketAddr| Err(EngineError::new(ErrorKind::Failed, "taken"));
        assert!(settings.change(&[to("listen", json!("127.0.0.1:1"))], &taken).is_err());
        assert_eq!(settings.view(), before);
        settings.change(&[to("listen", json!("127.0.0.1"))], &fine).unwrap();
        assert_eq!(one(&settings, "listen").value, SettingValue::Text("127.0.0.1:8730".into()));
    }

    #[test]
    fn an_override_of_another_version_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let settings = settings(temp.path(), "");
        settings.change(&[to("retention.last", json!(1))], &fine).unwrap();
        let path = temp.path().join("store").join(META_NAME).join(FILE_NAME);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("version = 1", "version = 2")).unwrap();
        assert!(config_of(None, &temp.path().join("store")).unwrap_err().contains("version is 2"));
    }
}
