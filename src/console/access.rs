//! [`Access`]: who is signed in. Pure: the clock comes in as an argument.
//!
//! A session is opened by a one-time token or a password, and known by a cookie of which only a digest is kept here. It ends
//! after [`IDLE_SECS`] without a request. Bounded: [`SESSIONS_MAX`] sessions; the one that was used longest ago makes room.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::backup::digest::Digest;
use crate::net::peer::Neighbourhood;
use crate::store::console_links::{ConsoleLinks, LINK_SECS, Role, digest_of, new_token};

/// A session that nobody uses ends.
pub const IDLE_SECS: i64 = 12 * 3600;
/// Sessions at once.
const SESSIONS_MAX: usize = 64;
/// Wrong passwords of one address that are listened to in [`FAILURES_SECS`].
const FAILURES_MAX: usize = 10;
const FAILURES_SECS: i64 = 60;
/// Addresses from which they may come in that time.
const FAILING_ADDRESSES_MAX: usize = 1000;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// What they may do.
    pub role: Role,
    /// What their changing requests must bring along.
    pub csrf: String,
}

/// Why nobody is let in.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The token opens nothing.
    #[error("this link was used already, is older than an hour, or is for another console: {0}")]
    Link(&'static str),
    /// No password opens anything here, or it is another.
    #[error("the password is wrong")]
    Password,
    /// Too many of them.
    #[error("too many wrong passwords; wait a minute")]
    TooMany,
    /// Of the links' folder, or of randomness.
    #[error("nobody can sign in: {0}")]
    Io(#[from] io::Error),
}

/// See the module.
pub struct Access {
    /// What to do to get another link.
    way: &'static str,
    links: Option<ConsoleLinks>,
    password: Option<Digest>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Tokens that were made here, with their end.
    tokens: HashMap<[u8; 32], (Role, i64)>,
    sessions: HashMap<[u8; 32], Session>,
    /// By where they came from.
    failures: HashMap<Neighbourhood, Vec<i64>>,
}

struct Session {
    visitor: Visitor,
    used_secs: i64,
}

impl Access {
    /// Nobody is signed in. `links`: where others leave links for us; `way`: the words that say how to get another one.
    pub fn new(links: Option<ConsoleLinks>, password: Option<&str>, way: &'static str) -> Self {
        Self { way, links, password: password.map(digest_of), state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a password opens a session.
    pub fn has_password(&self) -> bool {
        self.password.is_some()
    }

    /// What to do to get another link.
    pub fn way(&self) -> &'static str {
        self.way
    }

    /// Makes a token that opens one session.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn token(&self, role: Role, now_secs: i64) -> io::Result<String> {
        let token = new_token()?;
        let mut state = self.lock();
        state.tokens.retain(|_, (_, until)| now_secs < *until);
        state.tokens.insert(digest_of(&token).0, (role, now_secs.saturating_add(LINK_SECS)));
        Ok(token)
    }

    /// Opens a session with a one-time token; what the cookie is to hold.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn redeem(&self, token: &str, now_secs: i64) -> Result<String, AccessError> {
        let own = self.lock().tokens.remove(&digest_of(token).0);
        let role = match (own, &self.links) {
            (Some((role, until)), _) => (now_secs < until).then_some(role),
            (None, Some(links)) => links.redeem(token, now_secs)?,
            (None, None) => None,
        };
        let role = role.ok_or(AccessError::Link(self.way))?;
        self.open(role, now_secs)
    }

    /// Opens an administrator's session with the password; what the cookie is to hold.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn sign_in(&self, password: &str, from: Neighbourhood, now_secs: i64) -> Result<String, AccessError> {
        let wanted = self.password.as_ref().ok_or(AccessError::Password)?;
        let mut state = self.lock();
        state.failures.retain(|_, failed| {
            failed.retain(|failed| now_secs.saturating_sub(*failed) < FAILURES_SECS);
            !failed.is_empty()
        });
        let of_address = state.failures.get(&from).map_or(0, Vec::len);
        if of_address >= FAILURES_MAX || state.failures.len() >= FAILING_ADDRESSES_MAX {
            return Err(AccessError::TooMany);
        }
        // Compared in constant time.
        if blake3::Hash::from_bytes(digest_of(password).0) != blake3::Hash::from_bytes(wanted.0) {
            state.failures.entry(from).or_default().push(now_secs);
            return Err(AccessError::Password);
        }
        drop(state);
        self.open(Role::Admin, now_secs)
    }

    fn open(&self, role: Role, now_secs: i64) -> Result<String, AccessError> {
        let (cookie, csrf) = (new_token()?, new_token()?);
        let mut state = self.lock();
        state.sessions.retain(|_, session| now_secs.saturating_sub(session.used_secs) < IDLE_SECS);
        if state.sessions.len() >= SESSIONS_MAX {
            let oldest = state.sessions.iter().min_by_key(|(_, session)| session.used_secs).map(|(key, _)| *key);
            oldest.and_then(|key| state.sessions.remove(&key));
        }
        let session = Session { visitor: Visitor { role, csrf }, used_secs: now_secs };
        state.sessions.insert(digest_of(&cookie).0, session);
        Ok(cookie)
    }

    /// Whose cookie it is.
    pub fn visitor(&self, cookie: &str, now_secs: i64) -> Option<Visitor> {
        let mut state = self.lock();
        let session = state.sessions.get_mut(&digest_of(cookie).0)?;
        if now_secs.saturating_sub(session.used_secs) >= IDLE_SECS {
            return None;
        }
        session.used_secs = session.used_secs.max(now_secs);
        Some(session.visitor.clone())
    }

    /// Whether a session is open; that somebody looks does not prolong it.
    pub fn is_open(&self, cookie: &str, now_secs: i64) -> bool {
        let state = self.lock();
        let session = state.sessions.get(&digest_of(cookie).0);
        session.is_some_and(|session| now_secs.saturating_sub(session.used_secs) < IDLE_SECS)
    }

    /// Ends a session.
    pub fn sign_out(&self, cookie: &str) {
        self.lock().sessions.remove(&digest_of(cookie).0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_one_session_which_ends_when_nobody_uses_it() {
        let access = Access::new(None, None, "way");
        let token = access.token(Role::Reader, 0).unwrap();
        assert!(access.redeem("other", 1).is_err());
        let cookie = access.redeem(&token, 1).unwrap();
        assert!(access.redeem(&token, 1).unwrap_err().to_string().contains("way"), "once");
        assert_eq!(access.visitor(&cookie, 1).unwrap().role, Role::Reader);
        assert!(access.visitor("other", 1).is_none());
        assert!(access.visitor(&cookie, IDLE_SECS).is_some(), "each request prolongs it");
        assert!(access.visitor(&cookie, 2 * IDLE_SECS - 1).is_some());
        assert!(access.is_open(&cookie, 2 * IDLE_SECS) && !access.is_open(&cookie, 4 * IDLE_SECS));
        assert!(access.visitor(&cookie, 4 * IDLE_SECS).is_none());
        let late = access.token(Role::Admin, 0).unwrap();
        assert!(access.redeem(&late, LINK_SECS).is_err());
        let cookie = access.redeem(&access.token(Role::Admin, 0).unwrap(), 1).unwrap();
        access.sign_out(&cookie);
        assert!(access.visitor(&cookie, 1).is_none());
    }

    #[test]
    fn passwords_are_guessed_slowly_and_only_where_there_is_one() {
        let access = Access::new(None, Some("right"), "way");
        let from = |address: &str| Neighbourhood::of(address.parse().unwrap());
        let (bad, good) = (from("2001:db8::1"), from("192.0.2.2"));
        for _ in 0..FAILURES_MAX {
            assert!(matches!(access.sign_in("wrong", bad, 5), Err(AccessError::Password)));
        }
        // Whoever has one address of a network of IPv6 has them all.
        assert!(matches!(access.sign_in("right", from("2001:db8::2"), 5), Err(AccessError::TooMany)));
        access.sign_in("right", good, 5).unwrap();
        let cookie = access.sign_in("right", bad, 5 + FAILURES_SECS).unwrap();
        assert_eq!(access.visitor(&cookie, 70).unwrap().role, Role::Admin);
        assert!(matches!(Access::new(None, None, "way").sign_in("", good, 0), Err(AccessError::Password)));
    }

    #[test]
    fn sessions_are_bounded() {
        let access = Access::new(None, None, "way");
        let open = |now| access.redeem(&access.token(Role::Admin, now).unwrap(), now).unwrap();
        let cookies: Vec<String> = (0..=SESSIONS_MAX as i64).map(open).collect();
        assert!(access.visitor(&cookies[0], 100).is_none(), "the oldest made room");
        assert!(access.visitor(&cookies[1], 100).is_some());
    }
}
