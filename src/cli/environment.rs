//! What the process was born with: variables, home, login name, working directory. Taken once, then passed as a value,
//! so that everything above it is testable.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use uzers::os::unix::UserExt;

use crate::backup::bytes::escape;
use crate::backup::relpath::{PathError, RelPath};

/// The name of a host that has none.
const NAMELESS: &str = "host";

/// What the process was born with.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// Variables.
    pub vars: BTreeMap<OsString, OsString>,
    /// Home folder: `HOME`, else what the user database says (cron and systemd often leave `HOME` unset).
    pub home: Option<PathBuf>,
    /// Name of the effective user id: the one that the daemon sees on the socket.
    pub login: Option<String>,
    /// Working directory.
    pub cwd: Option<PathBuf>,
}

impl Environment {
    /// This process's.
    pub fn of_process() -> Self {
        let user = uzers::get_user_by_uid(uzers::get_effective_uid());
        let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        Self {
            vars: std::env::vars_os().collect(),
            home: home.or_else(|| user.as_ref().map(|user| user.home_dir().to_path_buf())),
            login: user.as_ref().and_then(|user| Some(user.name().to_str()?.to_owned())),
            cwd: std::env::current_dir().ok(),
        }
    }

    /// A variable; one that is empty counts as unset, which is what cron tables and unit files mean by it.
    pub fn var(&self, name: &str) -> Option<&OsStr> {
        self.vars.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// A variable that must be text.
    ///
    /// # Errors
    /// A sentence that names the variable.
    pub fn text_var(&self, name: &str) -> Result<Option<String>, String> {
        match self.var(name) {
            None => Ok(None),
            Some(value) => {
                value.to_str().map(|text| Some(text.to_owned())).ok_or_else(|| format!("{name} is not UTF-8"))
            }
        }
    }

    /// Folder of `config.toml`, of the client's keys and of the daemons that it knows.
    ///
    /// Keys live here and not in the state folder: a configuration folder of one's own is an identity of one's own.
    pub fn config_dir(&self) -> Option<PathBuf> {
        self.xdg("XDG_CONFIG_HOME", ".config")
    }

    /// Folder of the hash caches; losing it costs a re-read.
    pub fn cache_dir(&self) -> Option<PathBuf> {
        self.xdg("XDG_CACHE_HOME", ".cache")
    }

    /// Folder of a relay's state: the system's for root, else one's own.
    pub fn relay_dir(&self, is_root: bool) -> Option<PathBuf> {
        let system = is_root.then(|| PathBuf::from("/var/lib/rbbackup"));
        Some(system.or_else(|| self.xdg("XDG_STATE_HOME", ".local/state"))?.join("relay"))
    }

    /// XDG says: a relative path in such a variable is to be ignored.
    fn xdg(&self, var: &str, below_home: &str) -> Option<PathBuf> {
        let set = self.var(var).map(PathBuf::from).filter(|dir| dir.is_absolute());
        Some(set.or_else(|| Some(self.home.as_ref()?.join(below_home)))?.join("rbbackup"))
    }

    /// `path` made absolute and normalised as text: `.`, `..` and `//` are resolved without looking at the disk.
    ///
    /// # Errors
    /// A sentence that names the path.
    pub fn absolute(&self, path: &Path) -> Result<PathBuf, String> {
        let shown = escape(path.as_os_str().as_bytes());
        let joined = match (&self.cwd, path.is_absolute()) {
            (_, true) => path.to_path_buf(),
            (Some(cwd), false) => cwd.join(path),
            (None, false) => return Err(format!("'{shown}' is relative, and the working directory is gone")),
        };
        let inner = RelPath::from_absolute(joined.as_os_str().as_bytes()).map_err(|e: PathError| e.to_string())?;
        let mut bytes = vec![b'/'];
        bytes.extend_from_slice(inner.as_bytes());
        Ok(PathBuf::from(OsString::from_vec(bytes)))
    }

    /// A path from the configuration: `~/` is the home folder, a relative path starts at `base`.
    pub fn expand(&self, path: &Path, base: &Path) -> PathBuf {
        match (path.strip_prefix("~"), &self.home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => base.join(path),
        }
    }
}

/// What this machine calls itself.
pub(super) fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { NAMELESS.to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(vars: &[(&str, &str)]) -> Environment {
        Environment {
            vars: vars.iter().map(|(k, v)| (OsString::from(k), OsString::from(v))).collect(),
            home: Some("/home/u".into()),
            login: Some("u".into()),
            cwd: Some("/work".into()),
        }
    }

    #[test]
    fn folders_follow_xdg() {
        let plain = environment(&[("XDG_CACHE_HOME", "relative"), ("XDG_CONFIG_HOME", "")]);
        assert_eq!(plain.config_dir(), Some("/home/u/.config/rbbackup".into()));
        assert_eq!(plain.cache_dir(), Some("/home/u/.cache/rbbackup".into()));
        let set = environment(&[("XDG_CONFIG_HOME", "/c")]);
        assert_eq!(set.config_dir(), Some("/c/rbbackup".into()));
        assert_eq!(Environment::default().config_dir(), None);
        assert_eq!(plain.relay_dir(false), Some("/home/u/.local/state/rbbackup/relay".into()));
        assert_eq!(environment(&[("XDG_STATE_HOME", "/s")]).relay_dir(false), Some("/s/rbbackup/relay".into()));
        assert_eq!(plain.relay_dir(true), Some("/var/lib/rbbackup/relay".into()));
    }

    #[test]
    fn paths_become_absolute_as_text() {
        let env = environment(&[]);
        for (given, want) in [("a/../b/.", "/work/b"), ("/x//y/", "/x/y"), (".", "/work"), ("/", "/"), ("..", "/")] {
            assert_eq!(env.absolute(Path::new(given)), Ok(want.into()), "{given}");
        }
        let odd = Path::new(OsStr::from_bytes(b"/a\xff/\n"));
        assert_eq!(env.absolute(odd).unwrap().as_os_str().as_bytes(), b"/a\xff/\n");
    }

    #[test]
    fn configured_paths_know_home() {
        let env = environment(&[]);
        assert_eq!(env.expand(Path::new("~/x"), Path::new("/c")), PathBuf::from("/home/u/x"));
        assert_eq!(env.expand(Path::new("x"), Path::new("/c")), PathBuf::from("/c/x"));
        assert_eq!(env.expand(Path::new("/x"), Path::new("/c")), PathBuf::from("/x"));
    }
}
