//! Brings command line, environment and configuration together: the first that says something wins, then the default.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::args::{BackupArgs, FilterSource, ProgressMode, SharedArgs};
use super::config::{ConfigError, ConfigFile};
use super::environment::Environment;
use super::filters;
use crate::backup::limits::{NAME_BYTES_MAX, PORT};
use crate::engine::client::{ClientOptions, Target};
use crate::engine::push::PushOptions;
use crate::engine::stop::Stop;
use crate::engine::trust::joined_user;

/// How long a lost connection is tried again, unless said otherwise: a router's restart, a daemon's update.
const RETRY_FOR_DEFAULT: Duration = Duration::from_secs(600);

/// Why the options cannot be used; exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An option, a variable, or several together.
    #[error("{0}")]
    Value(String),
}

impl From<String> for SettingsError {
    fn from(message: String) -> Self {
        Self::Value(message)
    }
}

/// What holds for the whole command.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For the engine.
    pub client: ClientOptions,
    /// How to speak to the user.
    pub voice: Voice,
    /// What the configuration says on backups.
    config: ConfigFile,
    config_dir: PathBuf,
}

/// How to speak to the user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Voice {
    /// Objects on stdout.
    pub json: bool,
    /// Errors only.
    pub quiet: bool,
    /// Number of `-v`.
    pub verbose: u8,
    /// Bars.
    pub progress: ProgressMode,
}

impl Settings {
    /// Reads the configuration and brings it all together.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn load(args: &SharedArgs, env: &Environment) -> Result<Self, SettingsError> {
        let no_home = || "neither HOME nor XDG_CONFIG_HOME is set, and the user database has no home folder".to_owned();
        let config_dir = env.config_dir().ok_or_else(no_home)?;
        let config = ConfigFile::load(&config_dir.join("config.toml"))?;
        Self::layer(args, env, config, config_dir)
    }

    fn layer(
        args: &SharedArgs,
        env: &Environment,
        config: ConfigFile,
        config_dir: PathBuf,
    ) -> Result<Self, SettingsError> {
        let no_cache = || "neither HOME nor XDG_CACHE_HOME is set".to_owned();
        let target = target(args, env, &config, &config_dir)?;
        let client = ClientOptions {
            user: user(args, env, &config, || joined(&config_dir, &target))?,
            target,
            of: args.of.clone(),
            state_dir: config_dir.clone(),
            trust_first_use: args.trust_first_use,
            cache_dir: env.cache_dir().ok_or_else(no_cache)?,
            retry_for: args.retry_for.or(config.retry_for).unwrap_or(RETRY_FOR_DEFAULT),
            compress: args.compress.or(config.compress).unwrap_or_default().into(),
            stop: Stop::default(),
        };
        let voice = Voice {
            json: args.json,
            // `-v` on the command line wins over `quiet` in the configuration.
            quiet: args.quiet || (config.quiet && args.verbose == 0),
            verbose: args.verbose,
            progress: args.progress.or(config.progress).unwrap_or_default(),
        };
        Ok(Self { client, voice, config, config_dir })
    }

    /// The options of a backup; the root is filled in for each PATH.
    ///
    /// # Errors
    /// [`SettingsError`] when a file of patterns cannot be read.
    pub fn push_options(&self, args: &BackupArgs, env: &Environment) -> Result<PushOptions, SettingsError> {
        let mut sources: Vec<FilterSource> =
            self.config.exclude.iter().map(|pattern| FilterSource::Pattern(pattern.into())).collect();
        let expand = |path: &PathBuf| FilterSource::File(env.expand(path, &self.config_dir));
        sources.extend(self.config.exclude_from.iter().map(expand));
        sources.extend(args.filter_sources.iter().cloned());
        Ok(PushOptions {
            root: PathBuf::new(),
            recursive: args.recursive,
            delete: args.delete,
            delete_excluded: args.delete_excluded,
            force_delete: args.force_delete,
            rehash: args.rehash,
            dry_run: args.dry_run,
            filters: filters::collect(&sources)?,
            exclude_caches: args.exclude_caches || self.config.exclude_caches,
            one_file_system: args.one_file_system || self.config.one_file_system,
            wait: args.wait.or(self.config.wait),
            copies: self.copies(args)?,
            wait_copies: args.wait_copies.filter(|time| *time != Duration::MAX),
        })
    }

    /// Destinations connect to a server.
    fn copies(&self, args: &BackupArgs) -> Result<u32, SettingsError> {
        match (args.copies, &self.client.target) {
            (Some(_), Target::Store(_) | Target::Admin(_)) => {
                Err("--copies needs a server: destinations do not connect to a --store".to_owned().into())
            }
            (copies, _) => Ok(copies.unwrap_or(0)),
        }
    }
}

/// The first layer that names a server or a store decides; naming both in one layer is an error.
fn target(
    args: &SharedArgs,
    env: &Environment,
    config: &ConfigFile,
    config_dir: &Path,
) -> Result<Target, SettingsError> {
    let bind: Option<SocketAddr> = args.bind.or(config.bind);
    let to_server = |server: String| Target::Server { server, bind };
    let layers = [
        ("the command line", args.server.clone(), args.store.clone()),
        ("the environment", env.text_var("RBBACKUP_SERVER")?, env.var("RBBACKUP_STORE").map(PathBuf::from)),
        ("config.toml", config.server.clone(), config.store.as_ref().map(|store| env.expand(store, config_dir))),
    ];
    for (name, server, store) in layers {
        // An address to connect from asks for a server: a store further down is not meant.
        let store = store.filter(|_| args.bind.is_none());
        match (server, store) {
            (Some(_), Some(_)) => return Err(format!("{name} names both a server and a store: which is it?").into()),
            (Some(server), None) => return Ok(to_server(check_server(server)?)),
            (None, Some(store)) => return Ok(Target::Store(env.absolute(&store)?)),
            (None, None) => {}
        }
    }
    Ok(to_server(format!("127.0.0.1:{PORT}")))
}

fn check_server(server: String) -> Result<String, SettingsError> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '/';
    if server.is_empty() || server.contains(odd) {
        return Err(format!("'{}' is not HOST[:PORT]", crate::backup::bytes::escape(server.as_bytes())).into());
    }
    Ok(server)
}

/// The user name under which the server was joined.
fn joined(config_dir: &Path, target: &Target) -> Option<String> {
    match target {
        Target::Server { server, .. } => joined_user(config_dir, server),
        Target::Store(_) | Target::Admin(_) => None,
    }
}

/// The name becomes a folder in the store, so what cannot be one is refused here already, with a sentence.
fn user(
    args: &SharedArgs,
    env: &Environment,
    config: &ConfigFile,
    joined: impl FnOnce() -> Option<String>,
) -> Result<String, SettingsError> {
    let said = args.user.clone().or(env.text_var("RBBACKUP_USER")?).or_else(|| config.user.clone());
    let name = said.or_else(joined).or_else(|| env.login.clone());
    let name = name.ok_or_else(|| "this user id has no login name; say --user NAME".to_owned())?;
    let odd = |c: char| c == '/' || c.is_control();
    if name.is_empty() || name.starts_with('.') || name.contains(odd) || name.len() > NAME_BYTES_MAX {
        let shown = crate::backup::bytes::escape(name.as_bytes());
        return Err(format!("'{shown}' cannot be a user name: it must not start with '.' nor hold '/'").into());
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::CompressMode;
    use crate::net::packing::Compress;
    use std::ffi::OsString;

    fn settle(args: &SharedArgs, vars: &[(&str, &str)], config: &str) -> Result<Settings, SettingsError> {
        let env = Environment {
            vars: vars.iter().map(|(k, v)| (OsString::from(k), OsString::from(v))).collect(),
            home: Some("/home/u".into()),
            login: Some("login".into()),
            cwd: Some("/work".into()),
        };
        Settings::layer(args, &env, ConfigFile::parse(config, "c")?, "/home/u/.config/rbbackup".into())
    }

    fn server_of(args: &SharedArgs, vars: &[(&str, &str)], config: &str) -> String {
        match settle(args, vars, config).unwrap().client.target {
            Target::Server { server, .. } => server,
            Target::Store(store) | Target::Admin(store) => format!("store {}", store.display()),
        }
    }

    #[test]
    fn command_line_before_environment_before_configuration_before_default() {
        let none = SharedArgs::default();
        let args = SharedArgs { server: Some("line".into()), user: Some("uline".into()), ..none.clone() };
        let vars = [("RBBACKUP_SERVER", "env"), ("RBBACKUP_USER", "uenv")];
        let config = "server = \"file\"\nuser = \"ufile\"";
        for (args, vars, config, server, user) in [
            (&args, &vars[..], config, "line", "uline"),
            (&none, &vars, config, "env", "uenv"),
            (&none, &[("RBBACKUP_SERVER", ""), ("RBBACKUP_USER", "")], config, "file", "ufile"),
            (&none, &[], "", "127.0.0.1:8730", "login"),
        ] {
            assert_eq!(server_of(args, vars, config), server);
            assert_eq!(settle(args, vars, config).unwrap().client.user, user);
        }
    }

    #[test]
    fn the_first_layer_decides_between_server_and_store() {
        let none = SharedArgs::default();
        let store = SharedArgs { store: Some("s".into()), ..none.clone() };
        assert_eq!(server_of(&store, &[("RBBACKUP_SERVER", "env")], "server = \"file\""), "store /work/s");
        assert_eq!(server_of(&none, &[("RBBACKUP_SERVER", "env")], "store = \"/s\""), "env");
        assert_eq!(server_of(&none, &[], "store = \"~/s\""), "store /home/u/s");
        let both = settle(&none, &[], "store = \"/s\"\nserver = \"x\"").unwrap_err().to_string();
        assert!(both.contains("config.toml names both"), "{both}");
        let bind = SharedArgs { bind: Some("127.0.0.2:0".parse().unwrap()), ..none };
        assert_eq!(server_of(&bind, &[], "store = \"/s\""), "127.0.0.1:8730");
    }

    #[test]
    fn odd_names_are_refused_with_a_sentence() {
        for bad in ["../x", ".rbbackup", "a/b", "a\nb"] {
            let args = SharedArgs { user: Some(bad.into()), ..Default::default() };
            assert!(settle(&args, &[], "").unwrap_err().to_string().contains("cannot be a user name"), "{bad}");
        }
        let args = SharedArgs { server: Some("http://x/".into()), ..Default::default() };
        assert!(settle(&args, &[], "").unwrap_err().to_string().contains("HOST[:PORT]"));
    }

    #[test]
    fn voice_and_times() {
        let args = SharedArgs { verbose: 1, ..Default::default() };
        let text = "quiet = true\nprogress = \"never\"\ncompress = \"never\"\nretry-for = 5";
        let settings = settle(&args, &[], text).unwrap();
        assert_eq!(settings.client.compress, Compress::Never);
        assert!(!settings.voice.quiet);
        assert_eq!(settings.voice.progress, ProgressMode::Never);
        assert_eq!(settings.client.retry_for, Duration::from_secs(5));
        let always = SharedArgs { compress: Some(CompressMode::Always), ..Default::default() };
        assert_eq!(settle(&always, &[], "compress = \"never\"").unwrap().client.compress, Compress::Always);
        assert_eq!(settle(&SharedArgs::default(), &[], "").unwrap().client.compress, Compress::Auto);
        let args = SharedArgs { progress: Some(ProgressMode::Always), ..Default::default() };
        assert_eq!(settle(&args, &[], "progress = \"never\"").unwrap().voice.progress, ProgressMode::Always);
    }

    #[test]
    fn patterns_of_the_configuration_come_first() {
        let settings =
            settle(&SharedArgs::default(), &[], "exclude = [\"a\"]\nwait = 7\nexclude-caches = true").unwrap();
        let args = BackupArgs {
            filter_sources: vec![FilterSource::Pattern("!a".into())],
            wait: Some(Duration::from_secs(1)),
            ..Default::default()
        };
        let options = settings.push_options(&args, &Environment::default()).unwrap();
        let patterns: Vec<&[u8]> = options.filters.iter().map(crate::backup::bytes::Bytes::as_slice).collect();
        assert_eq!(patterns, [&b"a"[..], b"!a"]);
        assert!(options.exclude_caches && !options.delete);
        assert_eq!(options.wait, Some(Duration::from_secs(1)));
        let options = settings.push_options(&BackupArgs::default(), &Environment::default()).unwrap();
        assert_eq!(options.wait, Some(Duration::from_secs(7)));
    }
}
