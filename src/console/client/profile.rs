//! [`Profile`]: what is backed up where, or what is received, under a name: set in the console, run by `rbbackup run NAME`.
//!
//! One small file each, `profiles/NAME.toml` in the configuration's folder:
//!
//! ```text
//! version = 1
//! role = "source"                  # or "destination"
//! server = "nas:8730"              # or none: the configuration's
//! user = "ana"                     # or none: the usual one
//! folders = ["/home/ana/docs"]     # of a source
//! recursive = true
//! delete = true
//! excludes = ["*.tmp"]
//! copies = 2                       # destinations that must hold it; 0: none is asked for
//! folder = "/srv/copies"           # of a destination
//! called = "attic"
//! [timer]
//! every = "daily"                  # or "hourly", "weekly"
//! at = "03:00"
//! ```

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::backup::bytes::{Bytes, escape};
use crate::backup::limits::NAME_BYTES_MAX;
use crate::engine::client::{ClientOptions, Target};
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::push::PushOptions;
use crate::engine::stop::Stop;
use crate::engine::trust::joined_user;
use crate::tree::{operator, own};

const VERSION: u32 = 1;
const FILE_BYTES_MAX: u64 = 256 * 1024;
const ENDING: &str = ".toml";
const NAME_CHARS_MAX: usize = 64;
const FOLDERS_MAX: usize = 1000;

/// What this machine is in a profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Its files are backed up.
    #[default]
    Source,
    /// It keeps what a daemon passes on.
    Destination,
}

/// How often a timer runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Every {
    /// At that minute.
    Hourly,
    /// At that time.
    Daily,
    /// On Mondays at that time.
    Weekly,
}

/// When it is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timer {
    /// How often.
    pub every: Every,
    /// `HH:MM`.
    pub at: String,
}

impl Timer {
    /// Hour and minute.
    ///
    /// # Errors
    /// It is no time.
    pub fn time(&self) -> Result<(u8, u8), EngineError> {
        let parts = self.at.split_once(':').and_then(|(hour, minute)| Some((hour.parse().ok()?, minute.parse().ok()?)));
        parts
            .filter(|(hour, minute)| *hour < 24 && *minute < 60)
            .ok_or_else(|| usage(format!("'{}' is no time; write HH:MM", escape(self.at.as_bytes()))))
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    #[serde(skip_serializing_if = "String::is_empty")]
    /// Its name; in a file that is the file's.
    pub name: String,
    /// What this machine is.
    pub role: Part,
    /// `HOST[:PORT]`.
    pub server: Option<String>,
    /// The user name.
    pub user: Option<String>,
    /// What is backed up: absolute paths.
    pub folders: Vec<String>,
    /// `-r`.
    pub recursive: bool,
    /// `-d`.
    pub delete: bool,
    /// gitignore patterns.
    pub excludes: Vec<String>,
    /// Destinations that must hold it.
    pub copies: u32,
    /// Where a destination keeps what comes.
    pub folder: Option<String>,
    /// What a destination is called.
    pub called: Option<String>,
    /// When it is run.
    pub timer: Option<Timer>,
}

#[derive(Serialize)]
struct File {
    version: u32,
    #[serde(flatten)]
    profile: Profile,
}

fn usage(message: impl Into<String>) -> EngineError {
    EngineError::new(ErrorKind::Usage, message)
}

fn failed(path: &Path, error: impl std::fmt::Display) -> EngineError {
    let shown = escape(path.as_os_str().as_encoded_bytes());
    EngineError::new(ErrorKind::Failed, format!("the profile '{shown}': {error}"))
}

impl Profile {
    /// Whether it can be meant so.
    ///
    /// # Errors
    /// In words.
    pub fn check(&self) -> Result<(), EngineError> {
        let absolute = |path: &String| path.starts_with('/') && !path.contains('\0');
        if self.folders.len() > FOLDERS_MAX {
            return Err(usage(format!("a profile has {FOLDERS_MAX} folders at most")));
        }
        if let Some(odd) = self.folders.iter().chain(&self.folder).find(|path| !absolute(path)) {
            return Err(usage(format!("'{}' is no absolute path", escape(odd.as_bytes()))));
        }
        if let Some(odd) = self
            .server
            .as_ref()
            .filter(|server| server.is_empty() || server.contains(|c: char| c.is_whitespace() || c == '/'))
        {
            return Err(usage(format!("'{}' is no address; write HOST or HOST:PORT", escape(odd.as_bytes()))));
        }
        match self.role {
            Part::Source if self.folders.is_empty() => Err(usage("pick a folder that is to be backed up")),
            Part::Destination if self.folder.is_none() => Err(usage("pick the folder in which copies are to be kept")),
            Part::Destination if self.timer.is_some() => {
                Err(usage("a destination waits for what comes; it needs no timer"))
            }
            _ => match &self.called {
                Some(called)
                    if called.trim().is_empty()
                        || called.len() > NAME_BYTES_MAX
                        || called.contains(char::is_control) =>
                {
                    Err(usage(format!(
                        "a destination's name has 1 to {NAME_BYTES_MAX} bytes, and no control characters"
                    )))
                }
                _ => self.timer.as_ref().map_or(Ok(()), |timer| timer.time().map(drop)),
            },
        }
    }

    /// The way to its server.
    pub fn client(&self, base: &ClientOptions) -> ClientOptions {
        let mut client = ClientOptions { stop: Stop::default(), of: None, ..base.clone() };
        if let Some(server) = &self.server {
            let bind = if let Target::Server { bind, .. } = &base.target { *bind } else { None };
            client.target = Target::Server { server: server.clone(), bind };
            client.user = joined_user(&base.state_dir, server).unwrap_or(client.user);
        }
        if let Some(user) = &self.user {
            client.user.clone_from(user);
        }
        client
    }

    /// How one of its folders is backed up, where the configuration says `base`.
    pub fn push_options(&self, base: &PushOptions, folder: &str) -> PushOptions {
        let own = self.excludes.iter().map(|pattern| Bytes::from(pattern.as_bytes()));
        PushOptions {
            root: PathBuf::from(folder),
            recursive: self.recursive,
            delete: self.delete,
            filters: base.filters.iter().cloned().chain(own).collect(),
            copies: self.copies,
            ..base.clone()
        }
    }
}

/// Those of one person.
#[derive(Clone, Debug)]
pub struct Profiles {
    dir: PathBuf,
}

impl Profiles {
    /// Those in the configuration's folder.
    pub fn new(config_dir: &Path) -> Self {
        Self { dir: config_dir.join("profiles") }
    }

    /// A name becomes that of a file, and of a timer.
    fn path(&self, name: &str) -> Result<PathBuf, EngineError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty()
            || name.chars().count() > NAME_CHARS_MAX
            || name.starts_with(['.', '-'])
            || !name.chars().all(fits)
        {
            let shown = escape(name.as_bytes());
            return Err(usage(format!(
                "'{shown}' cannot be a profile's name: letters of ASCII, digits, '.', '_' and '-', {NAME_CHARS_MAX} at most"
            )));
        }
        Ok(self.dir.join(format!("{name}{ENDING}")))
    }

    /// The one of this name.
    ///
    /// # Errors
    /// There is none, or it cannot be understood.
    pub fn load(&self, name: &str) -> Result<Profile, EngineError> {
        if let Some(profile) = self.find(name)? {
            return Ok(profile);
        }
        let known: Vec<String> = self.names()?;
        let known =
            if known.is_empty() { "there is none yet".to_owned() } else { format!("there are {}", known.join(", ")) };
        Err(usage(format!("there is no profile '{name}'; {known}. 'rbbackup console' makes them")))
    }

    /// The one of this name, if there is one.
    ///
    /// # Errors
    /// It cannot be understood.
    pub fn find(&self, name: &str) -> Result<Option<Profile>, EngineError> {
        let path = self.path(name)?;
        let text = match operator::read_text(&path, FILE_BYTES_MAX) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|e| failed(&path, e))?,
        };
        let odd = |e: toml::de::Error| failed(&path, escape(e.message().as_bytes()));
        let mut table: Table = toml::from_str(&text).map_err(odd)?;
        let version = table.remove("version").and_then(|version| version.as_integer()).unwrap_or_default();
        let profile: Profile = Value::Table(table).try_into().map_err(odd)?;
        if version != i64::from(VERSION) {
            return Err(failed(&path, format!("its version is {version}, this program knows {VERSION}")));
        }
        let profile = Profile { name: name.to_owned(), ..profile };
        profile.check().map_err(|e| failed(&path, e.message))?;
        Ok(Some(profile))
    }

    /// Keeps one.
    ///
    /// # Errors
    /// It cannot be meant so, or cannot be written.
    pub fn save(&self, profile: &Profile) -> Result<(), EngineError> {
        profile.check()?;
        let path = self.path(&profile.name)?;
        let file = File { version: VERSION, profile: Profile { name: String::new(), ..profile.clone() } };
        let text = toml::to_string(&file).map_err(|e| failed(&path, e))?;
        let dir = operator::make_own(&self.dir, 0o700).map_err(|e| failed(&path, e))?;
        own::write_file(&dir, &format!("{}{ENDING}", profile.name), text.as_bytes()).map_err(|e| failed(&path, e))
    }

    /// Takes one away; whether there was one.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, name: &str) -> Result<bool, EngineError> {
        let path = self.path(name)?;
        let removed = operator::resolve(&self.dir).and_then(|dir| own::remove(&dir.join(format!("{name}{ENDING}"))));
        match removed {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(failed(&path, e)),
        }
    }

    /// Their names.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn names(&self) -> Result<Vec<String>, EngineError> {
        let names = match operator::resolve(&self.dir).and_then(|dir| own::names(&dir)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            names => names.map_err(|e| failed(&self.dir, e))?,
        };
        let names = names.iter().filter_map(|name| name.to_str()?.strip_suffix(ENDING).map(str::to_owned));
        Ok(names.filter(|name| self.path(name).is_ok()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_profile() -> Profile {
        Profile {
            name: "documents".into(),
            server: Some("nas:8730".into()),
            folders: vec!["/home/ana/docs".into()],
            recursive: true,
            delete: true,
            excludes: vec!["*.tmp".into()],
            copies: 2,
            timer: Some(Timer { every: Every::Daily, at: "03:05".into() }),
            ..Profile::default()
        }
    }

    #[test]
    fn a_profile_comes_back_as_it_was_kept() {
        let temp = tempfile::tempdir().unwrap();
        let profiles = Profiles::new(temp.path());
        assert!(profiles.load("documents").unwrap_err().message.contains("there is none yet"));
        assert!(profiles.names().unwrap().is_empty());
        profiles.save(&a_profile()).unwrap();
        assert_eq!(profiles.load("documents").unwrap(), a_profile());
        assert_eq!(profiles.names().unwrap(), ["documents"]);
        assert!(profiles.load("other").unwrap_err().message.contains("there are documents"));
        let path = temp.path().join("profiles/documents.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("name ="), "{text}");
        std::fs::write(&path, text.replace("version = 1", "version = 2")).unwrap();
        assert!(profiles.load("documents").unwrap_err().message.contains("version is 2"));
        std::fs::write(&path, text.replace("excludes", "exclude")).unwrap();
        assert!(profiles.load("documents").unwrap_err().message.contains("exclude"), "a misspelt key is no silent one");
        assert!(profiles.remove("documents").unwrap() && !profiles.remove("documents").unwrap());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let profiles = Profiles::new(temp.path());
        for name in ["", "../up", "a/b", ".hidden", "-x", "a b", &"x".repeat(65)] {
            assert!(profiles.save(&Profile { name: name.into(), ..a_profile() }).is_err(), "{name}");
        }
        let wrong = [
            Profile { folders: vec![], ..a_profile() },
            Profile { folders: vec!["relative".into()], ..a_profile() },
            Profile { server: Some("a b".into()), ..a_profile() },
            Profile { role: Part::Destination, ..a_profile() },
            Profile { timer: Some(Timer { every: Every::Weekly, at: "24:00".into() }), ..a_profile() },
            Profile {
                role: Part::Destination,
                folder: Some("/srv".into()),
                called: Some(" ".into()),
                timer: None,
                ..a_profile()
            },
        ];
        for profile in wrong {
            assert_eq!(profile.check().unwrap_err().kind, ErrorKind::Usage, "{profile:?}");
        }
        let destination = Profile { role: Part::Destination, folder: Some("/srv".into()), timer: None, ..a_profile() };
        destination.check().unwrap();
    }
}
