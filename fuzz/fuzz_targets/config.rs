//! What a person writes into `config.toml` and `rbbackupd.toml`: an error names a line that is there, on one line itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbbackup::cli::config::{ConfigError, ConfigFile};
use rbbackup::cli::daemon_config::DaemonConfig;

fuzz_target!(|text: &str| {
    check(text, ConfigFile::parse(text, "/etc/x.toml").err());
    check(text, DaemonConfig::parse(text, "/etc/x.toml").err());
});

fn check(text: &str, error: Option<ConfigError>) {
    let Some(error) = error else { return };
    let shown = error.to_string();
    assert!(!shown.chars().any(char::is_control), "{shown:?}");
    match error {
        ConfigError::Content { line, .. } => assert!((1..=text.split('\n').count()).contains(&line), "{shown}"),
        ConfigError::Read { .. } => unreachable!("nothing is read"),
    }
}
