//! What can be set while the daemon runs: shown with what would hold without the console's word, and where the word is from.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

use axum::body::Body;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::Daemon;
use crate::console::answer::{Answer, json};
use crate::console::asking::{self, at_hand};
use crate::engine::error::EngineError;
use crate::engine::rules::Rules;

/// What kind of value a setting has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SettingKind {
    /// A number.
    Count,
    /// A time span; none: for ever.
    Seconds,
    /// A size; none: no limit.
    Bytes,
    /// Where to listen.
    Address,
}

/// A setting's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum SettingValue {
    /// Of a count, a span or a size.
    Number(u64),
    /// Of an address.
    Text(String),
    /// No limit, or for ever.
    None,
}

/// Who has the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SettingSource {
    /// Nobody said anything.
    Default,
    /// The configuration file.
    File,
    /// The command line.
    Command,
    /// The console.
    Console,
}

/// One thing that can be set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// As in the configuration: `retention.daily`.
    pub key: &'static str,
    /// What it is.
    pub kind: SettingKind,
    /// What holds.
    pub value: SettingValue,
    /// By whose word.
    pub from: SettingSource,
    /// What would hold without the console's.
    pub before: SettingValue,
    /// What holds when nobody says anything.
    pub default: SettingValue,
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SettingsView {
    /// The configuration file.
    pub file: String,
    /// Where the console's word is kept.
    pub r#override: String,
    /// By group.
    pub settings: Vec<Setting>,
}

/// What a setting becomes.
#[derive(Clone, Debug, PartialEq)]
pub enum SettingChange {
    /// This, as the configuration would say it.
    To(serde_json::Value),
    /// What would hold without the console.
    Reset,
}

/// Who knows what was configured, and keeps what the console says of it.
pub trait Settings: Send + Sync {
    /// All of them.
    fn view(&self) -> SettingsView;

    /// Keeps changes, and says which rules hold then; nothing is kept if one of them cannot be. `try_listen` is asked when the address changes, before
    /// anything is kept.
    ///
    /// # Errors
    /// What cannot be meant so (2), or cannot be kept.
    fn change(
        &self,
        changes: &[(String, SettingChange)],
        try_listen: &dyn Fn(SocketAddr) -> Result<(), EngineError>,
    ) -> Result<Rules, EngineError>;
}

/// `settings`.
pub(super) async fn show(State(daemon): State<Arc<Daemon>>) -> Answer {
    let view = at_hand(move || Ok(daemon.settings.view())).await?;
    Ok(json(&view))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Changes {
    changes: BTreeMap<String, serde_json::Value>,
}

fn change_of(value: serde_json::Value) -> SettingChange {
    if value.get("reset") == Some(&serde_json::Value::Bool(true)) {
        SettingChange::Reset
    } else {
        SettingChange::To(value)
    }
}

/// Changes some of them. Where the daemon listens moves at once: what is connected stays.
pub(super) async fn change(State(daemon): State<Arc<Daemon>>, sent: Body) -> Answer {
    let Changes { changes } = asking::body(sent).await?;
    let changes: Vec<_> = changes.into_iter().map(|(key, value)| (key, change_of(value))).collect();
    let view = at_hand(move || {
        // Two changes at once are put into force in the order in which they are kept.
        let _turn = daemon.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let rules = daemon.settings.change(&changes, &|address| daemon.listen_at(address))?;
        daemon.inside.set_rules(rules);
        tracing::info!(
            "settings were changed in the console: {}",
            changes.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>().join(", ")
        );
        Ok(daemon.settings.view())
    });
    Ok(json(&view.await?))
}
