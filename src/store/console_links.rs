//! [`ConsoleLinks`]: one-time links to the console that an administrator's command leaves for the daemon to redeem.
//!
//! ```text
//! console/address          where the console of the daemon that serves this store listens: the start of a URL
//! console/<64 hex digits>  BLAKE3 of a link's token, in a context of its own; the token itself is nowhere in the store
//!     version = 1
//!     role = "admin"       # or "reader"
//!     expires_secs = 1700003600
//! ```
//! Who may write here may read every backup: nothing is given away. Always holds: a link opens one session, for its file is
//! removed before the session is there.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{durable, state_text};
use crate::backup::digest::Digest;

const VERSION: u32 = 1;
const BYTES_MAX: u64 = 4096;
const TOKEN_CONTEXT: &str = "rbbackup 2026-11 console link 1";
const TOKEN_BYTES: usize = 24;
/// Their folder in `.rbbackup`.
pub const FOLDER: &str = "console";
/// How long a link can be redeemed.
pub const LINK_SECS: i64 = 3600;
/// The file that says where the console is.
const ADDRESS: &str = "address";

/// What somebody may do in a console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Admin,
    /// Look, and download.
    Reader,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkFile {
    version: u32,
    role: Role,
    expires_secs: i64,
}

/// Those of one store.
#[derive(Clone, Debug)]
pub struct ConsoleLinks {
    dir: PathBuf,
}

/// A token that nobody can guess, fit for a URL.
///
/// # Errors
/// The system gives no random numbers.
pub fn new_token() -> io::Result<String> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(data_encoding::BASE64URL_NOPAD.encode(&bytes))
}

/// What is kept of a token.
pub fn digest_of(token: &str) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key(TOKEN_CONTEXT);
    hasher.update(token.as_bytes());
    hasher.finalize().into()
}

impl ConsoleLinks {
    /// Those in `dir`, which may be missing until one is made.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf() }
    }

    /// Says where the console is.
    ///
    /// # Errors
    /// The operating system's.
    pub fn announce(&self, address: &str) -> io::Result<()> {
        durable::make_dir(&self.dir)?;
        durable::write_file(&self.dir, ADDRESS, address.as_bytes())
    }

    /// It is not there any more.
    pub fn withdraw(&self) {
        let _ = durable::remove(&self.dir.join(ADDRESS));
    }

    /// Where the console is; none: there is none.
    ///
    /// # Errors
    /// The operating system's.
    pub fn address(&self) -> io::Result<Option<String>> {
        match durable::read_file(&self.dir.join(ADDRESS), BYTES_MAX) {
            Ok(bytes) => Ok(String::from_utf8(bytes).ok()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Makes a link; its token is told here, and never again.
    ///
    /// # Errors
    /// The operating system's.
    pub fn make(&self, role: Role, now_secs: i64) -> io::Result<String> {
        durable::make_dir(&self.dir)?;
        self.hand_over_folder()?;
        self.forget_old(now_secs)?;
        let token = new_token()?;
        let file = LinkFile { version: VERSION, role, expires_secs: now_secs.saturating_add(LINK_SECS) };
        let text = toml::to_string(&file).map_err(io::Error::other)?;
        let name = digest_of(&token).to_hex();
        durable::write_file(&self.dir, &name, text.as_bytes())?;
        durable::hand_over(&self.dir, &name)?;
        Ok(token)
    }

    /// What the link with this token opens, once. None: there is no such link, or it is over.
    ///
    /// # Errors
    /// The operating system's.
    pub fn redeem(&self, token: &str, now_secs: i64) -> io::Result<Option<Role>> {
        let path = self.dir.join(digest_of(token).to_hex());
        let content = match durable::read_file(&path, BYTES_MAX) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            content => content?,
        };
        // Whoever removes it has it.
        match durable::remove(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            removed => removed?,
        }
        let file: LinkFile = state_text::parse(&content).map_err(io::Error::other)?;
        Ok((file.version == VERSION && now_secs < file.expires_secs).then_some(file.role))
    }

    /// Root makes links for a daemon that is somebody else's.
    fn hand_over_folder(&self) -> io::Result<()> {
        match (self.dir.parent(), self.dir.file_name().and_then(|name| name.to_str())) {
            (Some(above), Some(name)) => durable::hand_over(above, name),
            _ => Ok(()),
        }
    }

    fn forget_old(&self, now_secs: i64) -> io::Result<()> {
        for name in durable::names(&self.dir)? {
            let path = self.dir.join(&name);
            if name.to_str().is_none_or(|name| blake3::Hash::from_hex(name).is_err()) {
                continue;
            }
            let file = durable::read_file(&path, BYTES_MAX).ok().and_then(|text| state_text::parse(&text).ok());
            if file.is_none_or(|file: LinkFile| now_secs >= file.expires_secs) {
                durable::remove(&path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_opens_once_and_not_for_ever() {
        let temp = tempfile::tempdir().unwrap();
        let links = ConsoleLinks::new(&temp.path().join("console"));
        assert_eq!(links.redeem("none", 0).unwrap(), None);
        assert_eq!(links.address().unwrap(), None);
        links.announce("http://127.0.0.1:8731").unwrap();
        assert_eq!(links.address().unwrap().unwrap(), "http://127.0.0.1:8731");
        let (admin, reader) = (links.make(Role::Admin, 100).unwrap(), links.make(Role::Reader, 100).unwrap());
        assert_ne!(admin, reader);
        assert_eq!(links.redeem(&format!("{admin}x"), 101).unwrap(), None);
        assert_eq!(links.redeem(&admin, 101).unwrap(), Some(Role::Admin));
        assert_eq!(links.redeem(&admin, 101).unwrap(), None, "once");
        assert_eq!(links.redeem(&reader, 100 + LINK_SECS).unwrap(), None, "too late");
        links.make(Role::Reader, 100).unwrap();
        links.make(Role::Reader, 101 + LINK_SECS).unwrap();
        assert_eq!(durable::names(&temp.path().join("console")).unwrap().len(), 2, "the address, and the last one");
        let shown = format!("{:?}", durable::names(&temp.path().join("console")).unwrap());
        assert!(!shown.contains(&admin), "no token is in the store");
        links.withdraw();
        assert_eq!(links.address().unwrap(), None);
    }
}
