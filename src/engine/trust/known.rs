//! [`Known`]: what a client keeps about one server.
//!
//! ```text
//! STATE_DIR/servers/<server>/
//!   <user>.key          the key that we show to it under one user name
//!   <user>.key.joining  the same, before an invitation was redeemed with it
//!   <user>.key.next     the same, before the server took it in the place of the other
//!   pin                 the server's key: what it showed at first contact, what the token said, what that key signed over
//!   user                the user name that we joined under, if it is not our login name
//! ```
//! Each is written whole or not at all; keys are for their owner only.

use std::io;
use std::path::{Path, PathBuf};

use crate::backup::bytes::escape;
use crate::engine::error::{EngineError, ErrorKind};
use crate::net::identity::{Identity, IdentityError, PublicKey};
use crate::tree::{operator, own};

/// Longest pin or user name.
const LINE_BYTES_MAX: u64 = 4096;

/// See the module.
pub(in crate::engine) struct Known {
    dir: PathBuf,
    user: String,
}

impl Known {
    /// Nothing is made yet.
    pub(in crate::engine) fn new(state_dir: &Path, server: &str, user: &str) -> Self {
        Self { dir: dir_of(state_dir, server), user: user.to_owned() }
    }

    /// Our key, made when it is first asked for.
    pub(in crate::engine) fn identity(&self) -> Result<Identity, EngineError> {
        Identity::load_or_create(&self.key_path("")).map_err(key_error)
    }

    /// Our key, if there is one.
    pub(super) fn present(&self) -> Result<Option<Identity>, EngineError> {
        load(&self.key_path(""))
    }

    /// A key that a redemption, or an exchange, left behind whose answer was lost.
    pub(super) fn left(&self, what: Unsettled) -> Result<Option<Identity>, EngineError> {
        load(&self.key_path(what.suffix()))
    }

    /// Keeps a key that is not ours yet.
    pub(super) fn keep(&self, what: Unsettled, identity: &Identity) -> Result<(), EngineError> {
        let path = self.key_path(what.suffix());
        operator::make_own(&self.dir, 0o700).map_err(|e| failed(&self.dir, "create", &e))?;
        identity.store(&path).map_err(key_error)
    }

    /// It is ours from now on.
    pub(super) fn settle(&self, what: Unsettled) -> Result<(), EngineError> {
        let (from, to) = (self.key_path(what.suffix()), self.key_path(""));
        let renamed = operator::resolve(&self.dir).and_then(|dir| {
            let name = |path: &Path| dir.join(path.file_name().unwrap_or_default());
            own::rename(&name(&from), &name(&to))?;
            own::sync_dir(&dir)
        });
        renamed.map_err(|e| failed(&to, "write", &e))
    }

    /// It is nobody's; the folder goes if nothing else is in it.
    pub(super) fn forget(&self, what: Unsettled) {
        let Ok(dir) = operator::resolve(&self.dir) else { return };
        let _ = own::remove(&dir.join(self.key_path(what.suffix()).file_name().unwrap_or_default()));
        if own::names(&dir).is_ok_and(|names| names.is_empty()) {
            let _ = own::remove_tree(&dir);
        }
    }

    /// The server's key, if it is known.
    pub(in crate::engine) fn pin(&self) -> Result<Option<PublicKey>, EngineError> {
        let path = self.pin_path();
        let text = match operator::read_text(&path, LINE_BYTES_MAX) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(&path, "read", &e)),
        };
        let damaged = || EngineError::new(ErrorKind::Failed, format!("the server's key '{}' is damaged", show(&path)));
        PublicKey::from_hex(text.trim()).map(Some).ok_or_else(damaged)
    }

    /// Where it stands, for messages.
    pub(in crate::engine) fn pin_path(&self) -> PathBuf {
        self.dir.join("pin")
    }

    /// From now on the server is this key.
    pub(in crate::engine) fn keep_pin(&self, key: &PublicKey) -> Result<(), EngineError> {
        self.write("pin", &key.to_hex())
    }

    /// From now on we are this user there, unless somebody says otherwise.
    pub(super) fn keep_user(&self) -> Result<(), EngineError> {
        self.write("user", &self.user)
    }

    /// Several processes and threads may do so at once: each under a name of its own first.
    fn write(&self, name: &str, line: &str) -> Result<(), EngineError> {
        let mut own_name = [0; 8];
        let written = operator::make_own(&self.dir, 0o700).and_then(|dir| {
            getrandom::fill(&mut own_name).map_err(io::Error::other)?;
            let draft = format!("{name}.{:016x}", u64::from_le_bytes(own_name));
            own::write_file(&dir, &draft, format!("{line}\n").as_bytes())?;
            own::rename(&dir.join(draft), &dir.join(name))
        });
        written.map_err(|e| failed(&self.dir.join(name), "write", &e))
    }

    fn key_path(&self, suffix: &str) -> PathBuf {
        self.dir.join(format!("{}.key{suffix}", file_name(&self.user)))
    }
}

/// A key whose fate is not known before the server has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsettled {
    /// It comes with an invitation.
    Joining,
    /// It is to take the place of the present one.
    Next,
}

impl Unsettled {
    fn suffix(self) -> &'static str {
        match self {
            Self::Joining => ".joining",
            Self::Next => ".next",
        }
    }
}

/// The user name under which this server was joined, if it is another than the login name. `server`: as on the command
/// line.
pub fn joined_user(state_dir: &Path, server: &str) -> Option<String> {
    let text = operator::read_text(&dir_of(state_dir, server).join("user"), LINE_BYTES_MAX).ok()?;
    Some(text.trim_end_matches('\n').to_owned()).filter(|user| !user.is_empty())
}

fn dir_of(state_dir: &Path, server: &str) -> PathBuf {
    state_dir.join("servers").join(file_name(server))
}

fn load(path: &Path) -> Result<Option<Identity>, EngineError> {
    match Identity::load(path) {
        Ok(identity) => Ok(Some(identity)),
        Err(IdentityError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(key_error(error)),
    }
}

fn key_error(error: IdentityError) -> EngineError {
    EngineError::new(ErrorKind::Failed, error.to_string())
}

fn failed(path: &Path, action: &str, error: &io::Error) -> EngineError {
    EngineError::new(ErrorKind::Failed, format!("cannot {action} '{}': {error}", show(path)))
}

fn show(path: &Path) -> String {
    escape(path.as_os_str().as_encoded_bytes())
}

/// A text as one file name: what is not a letter, digit, dot, colon or dash becomes `_` and its code.
fn file_name(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-:.".contains(c);
    let mut out: String =
        text.chars().map(|c| if plain(c) { c.to_string() } else { format!("_{:x}_", c as u32) }).collect();
    if out.starts_with('.') {
        out.insert(0, '_');
    }
    escape(out.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn names_of_servers_and_users_cannot_leave_the_state_folder() {
        assert_eq!(file_name("127.0.0.1:8730"), "127.0.0.1:8730");
        assert_eq!(file_name("../x"), "_.._2f_x");
        assert_ne!(file_name("a/b"), file_name("a_b"));
    }

    #[test]
    fn many_first_contacts_at_once_all_keep_the_pin() {
        let state = tempfile::tempdir().unwrap();
        let known = Known::new(state.path(), "nas", "ana");
        let key = Identity::generate().unwrap().public();
        std::thread::scope(|scope| {
            (0..8).for_each(|_| drop(scope.spawn(|| (0..50).for_each(|_| known.keep_pin(&key).unwrap()))));
        });
        assert_eq!(known.pin().unwrap(), Some(key));
        assert_eq!(fs::read_dir(state.path().join("servers/nas")).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_key_that_came_to_nothing_leaves_nothing() {
        let state = tempfile::tempdir().unwrap();
        let known = Known::new(state.path(), "nas", "ana");
        let key = Identity::generate().unwrap();
        known.keep(Unsettled::Joining, &key).unwrap();
        assert_eq!(known.left(Unsettled::Joining).unwrap().unwrap().public(), key.public());
        assert!(known.present().unwrap().is_none() && known.pin().unwrap().is_none());
        known.forget(Unsettled::Joining);
        assert_eq!(fs::read_dir(state.path().join("servers")).unwrap().count(), 0);
        known.keep(Unsettled::Joining, &key).unwrap();
        known.settle(Unsettled::Joining).unwrap();
        known.forget(Unsettled::Joining);
        assert_eq!(known.present().unwrap().unwrap().public(), key.public());
        assert_eq!(joined_user(state.path(), "nas"), None);
        known.keep_user().unwrap();
        assert_eq!(joined_user(state.path(), "nas").as_deref(), Some("ana"));
    }
}
