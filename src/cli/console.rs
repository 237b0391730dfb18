//! `rbbackupd --console` and `rbbackupd console`: where the daemon's console listens, who may sign in, and links that open it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::environment::Environment;
use super::terminal::Terminal;
use super::units::parse_address;
use crate::backup::bytes::escape;
use crate::console::daemon::settings::Settings;
use crate::console::daemon::{ConsoleOptions, links_of};
use crate::console::{Bound, PORT, TlsFiles};
use crate::engine::admin;
use crate::engine::client::now;
use crate::engine::error::{EngineError, ErrorKind};
use crate::json;
use crate::store::console_links::{FOLDER, LINK_SECS, Role};
use crate::tree::operator;

/// Certificates, keys and passwords are small.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// A shorter password is guessed.
const PASSWORD_CHARS_MIN: usize = 10;

/// On the daemon's command line.
#[derive(Debug, Args)]
pub struct ConsoleArgs {
    /// Serve a web console [default: 127.0.0.1:8731]; beyond this machine only with certificate and password ([console])
    #[arg(
        long,
        value_name = "ADDR[:PORT]",
        num_args = 0..=1,
        default_missing_value = "127.0.0.1",
        value_parser = parse_console
    )]
    console: Option<SocketAddr>,
}

fn parse_console(text: &str) -> Result<SocketAddr, String> {
    parse_address(text, PORT)
}

/// `[console]` of the daemon's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ConsoleKeys {
    /// PEM file of the certificate chain.
    pub certificate: Option<PathBuf>,
    /// PEM file of its key.
    pub key: Option<PathBuf>,
    /// File whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// Names under which browsers reach it, beside this machine's own.
    pub names: Vec<String>,
}

impl ConsoleArgs {
    /// Binds the console's port, if there is to be one.
    ///
    /// # Errors
    /// A sentence.
    pub fn prepare(&self, keys: &ConsoleKeys, settings: Arc<dyn Settings>) -> Result<Option<ConsoleOptions>, String> {
        let Some(address) = self.console else { return Ok(None) };
        let tls = match (&keys.certificate, &keys.key) {
            (Some(certificate), Some(key)) => {
                let (certificate, key) = (read(certificate, false)?, read(key, true)?);
                Some(TlsFiles { certificate, key })
            }
            (None, None) => None,
            _ => return Err("[console]: 'certificate' and 'key' belong together".to_owned()),
        };
        let password = keys.password_file.as_deref().map(password).transpose()?;
        if !is_loopback(address.ip()) && (tls.is_none() || password.is_none()) {
            return Err(format!(
                "a console on {address} can be reached from other machines: that takes 'certificate', 'key' and 'password-file' \
                 in [console] of the configuration (a relay has none: its console stays on its own machine). On 127.0.0.1 it takes none of them, and 'ssh -L {PORT}:127.0.0.1:{PORT} HOST' \
                 brings it to another machine"
            ));
        }
        let bound = Bound::new(address, tls.as_ref()).map_err(|e| e.to_string())?;
        Ok(Some(ConsoleOptions {
            bound,
            password,
            host: super::environment::host_name(),
            names: keys.names.clone(),
            settings,
        }))
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback() && address != IpAddr::V4(Ipv4Addr::UNSPECIFIED)
}

fn read(path: &Path, is_secret: bool) -> Result<Vec<u8>, String> {
    let shown = escape(path.as_os_str().as_encoded_bytes());
    let failed = |e: std::io::Error| format!("cannot read '{shown}': {e}");
    if is_secret && operator::look(path).map_err(failed)?.mode() & 0o007 != 0 {
        return Err(format!("everybody on this machine may read '{shown}', which is a secret: chmod 600 '{shown}'"));
    }
    operator::read(path, FILE_BYTES_MAX).map_err(failed)
}

fn password(path: &Path) -> Result<String, String> {
    let shown = escape(path.as_os_str().as_encoded_bytes());
    let text = String::from_utf8(read(path, true)?).map_err(|_| format!("'{shown}' is not text"))?;
    let password = text.lines().next().unwrap_or_default();
    if password.chars().count() < PASSWORD_CHARS_MIN {
        return Err(format!("the password in '{shown}' is shorter than {PASSWORD_CHARS_MIN} characters"));
    }
    Ok(password.to_owned())
}

/// Says where the console is. The link is a secret: it is for the person at this terminal, and in no log.
pub fn tell(link: &str, terminal: &Terminal) {
    if terminal.stderr_is_terminal() {
        terminal.say(&format!("rbbackupd: the console is open for one sign-in within an hour: {link}"));
    } else {
        let address = link.split("/open").next().unwrap_or_default();
        tracing::info!("the console is at {address}; 'rbbackupd console STORE' prints a link that opens it");
    }
}

/// `rbbackupd console`.
#[derive(Debug, Args)]
pub struct LinkArgs {
    /// Folder of the store
    #[arg(value_name = "STORE")]
    store: PathBuf,
    /// Only to look and to download
    #[arg(long)]
    read_only: bool,
    /// One JSON object a line on stdout
    #[arg(long)]
    json: bool,
}

impl LinkArgs {
    /// `--json`.
    pub fn json(&self) -> bool {
        self.json
    }
}

#[derive(Serialize)]
struct LinkJson<'a> {
    r#type: &'a str,
    url: &'a str,
    role: Role,
    expires_secs: i64,
}

/// Prints a link that opens the console of the daemon that serves this store, once.
///
/// # Errors
/// There is no store, or no console.
pub fn link(args: &LinkArgs, env: &Environment, terminal: &Terminal) -> Result<(), EngineError> {
    let usage = |message: String| EngineError::new(ErrorKind::Usage, message);
    let store = env.absolute(&args.store).map_err(usage)?;
    let shown = escape(store.as_os_str().as_encoded_bytes());
    let failed = |e: std::io::Error| EngineError::new(ErrorKind::Failed, format!("'{shown}/.rbbackup/{FOLDER}': {e}"));
    let links = links_of(&store)?;
    // An address that a daemon left behind when it was killed leads to whoever took its port.
    let address = links.address().map_err(failed)?.filter(|_| admin::is_served_at_all(&store)).ok_or_else(|| {
        let message =
            format!("no console is served for '{shown}': start the daemon with 'rbbackupd {shown} --console'");
        EngineError::new(ErrorKind::Unreachable, message)
    })?;
    let (role, now) = (if args.read_only { Role::Reader } else { Role::Admin }, now().secs);
    let url = format!("{address}/open?token={}", links.make(role, now).map_err(failed)?);
    if args.json {
        let expires_secs = now + LINK_SECS;
        terminal.out(&json::line(&LinkJson { r#type: "console", url: &url, role, expires_secs }));
    } else {
        terminal.out(&url);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::daemon::settings::{SettingChange, SettingsView};
    use crate::engine::rules::Rules;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    struct Unset;

    impl Settings for Unset {
        fn view(&self) -> SettingsView {
            SettingsView { file: String::new(), r#override: String::new(), settings: Vec::new() }
        }

        fn change(
            &self,
            _: &[(String, SettingChange)],
            _: &dyn Fn(SocketAddr) -> Result<(), EngineError>,
        ) -> Result<Rules, EngineError> {
            Err(EngineError::new(ErrorKind::Usage, "nothing"))
        }
    }

    #[test]
    fn beyond_this_machine_it_takes_a_certificate_and_a_password() {
        let args = |address: &str| ConsoleArgs { console: Some(parse_console(address).unwrap()) };
        assert_eq!(parse_console("127.0.0.1").unwrap().port(), PORT);
        assert!(ConsoleArgs { console: None }.prepare(&ConsoleKeys::default(), Arc::new(Unset)).unwrap().is_none());
        let options = args("127.0.0.1:0").prepare(&ConsoleKeys::default(), Arc::new(Unset)).unwrap().unwrap();
        assert!(options.bound.url().starts_with("http://127.0.0.1:") && options.password.is_none());
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            let refused = args(address).prepare(&ConsoleKeys::default(), Arc::new(Unset)).err().unwrap();
            assert!(refused.contains("password-file") && refused.contains("ssh -L"), "{refused}");
        }
        let lonely = ConsoleKeys { key: Some("/k".into()), ..ConsoleKeys::default() };
        assert!(args("127.0.0.1:0").prepare(&lonely, Arc::new(Unset)).err().unwrap().contains("belong together"));
    }

    #[test]
    fn a_password_is_long_and_private() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("password");
        fs::write(&path, "long enough\nnot this\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        assert!(password(&path).unwrap_err().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(password(&path).unwrap(), "long enough");
        fs::write(&path, "short\n").unwrap();
        assert!(password(&path).unwrap_err().contains("shorter"));
        assert!(password(&temp.path().join("none")).unwrap_err().contains("cannot read"));
    }
}
