//! [`CopyName`]: the checked names of a node and a user, which together name one copy.
//!
//! Both become one folder name each (`STORE/<node>/<user>`) and parts of names in `.rbbackup`, so whatever could lead
//! elsewhere, or hide, is refused: `/`, NUL, control bytes, a leading `.` (so `.rbbackup` can never be meant) or `-`.
//! A node has no `@`, so `<node>@<user>` can be split again.

use std::fmt;
use std::net::IpAddr;

use crate::backup::bytes::escape;

/// Longest node or user name: `<key in hex>@<user>` and `<node>@<user>` have to fit into one file name.
pub const COPY_NAME_BYTES_MAX: usize = 120;

/// The node under which `--store` (no daemon, no key) writes.
pub const LOCAL_NODE: &str = "127.0.0.1";

/// Why a name cannot be a node's or a user's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{shown}' cannot be the name of a {what}: {why}")]
pub struct NameError {
    /// `node` or `user`.
    pub what: &'static str,
    /// The name, escaped and shortened.
    pub shown: String,
    /// The rule that is broken.
    pub why: &'static str,
}

/// The checked names of a node and a user: one copy. Shown as `node/user`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CopyName {
    node: String,
    user: String,
}

impl CopyName {
    /// Checks both names.
    ///
    /// # Errors
    /// [`NameError`] says which name breaks which rule.
    pub fn new(node: &[u8], user: &[u8]) -> Result<Self, NameError> {
        let node = checked("node", node)?;
        if node.contains('@') {
            return Err(NameError { what: "node", shown: node, why: "it holds an '@'" });
        }
        Ok(Self { node, user: checked("user", user)? })
    }

    /// The copy that `user` gets at the first contact from `ip`; an IPv4 peer on a dual-stack socket is an IPv4 node.
    ///
    /// # Errors
    /// As [`CopyName::new`].
    pub fn at_address(ip: IpAddr, user: &[u8]) -> Result<Self, NameError> {
        Self::new(ip.to_canonical().to_string().as_bytes(), user)
    }

    /// The copy that `--store` writes.
    ///
    /// # Errors
    /// As [`CopyName::new`].
    pub fn local(user: &[u8]) -> Result<Self, NameError> {
        Self::new(LOCAL_NODE.as_bytes(), user)
    }

    /// The node's name.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The user's name.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// One component that names the copy within `.rbbackup`: `<node>@<user>`.
    pub fn component(&self) -> String {
        format!("{}@{}", self.node, self.user)
    }

    /// Back from [`CopyName::component`].
    pub fn from_component(component: &[u8]) -> Option<Self> {
        let at = component.iter().position(|b| *b == b'@')?;
        Self::new(component.get(..at)?, component.get(at + 1..)?).ok()
    }
}

impl fmt::Display for CopyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.user)
    }
}

fn checked(what: &'static str, name: &[u8]) -> Result<String, NameError> {
    let refuse = |why| Err(NameError { what, shown: escape(name.get(..80).unwrap_or(name)), why });
    let Ok(text) = std::str::from_utf8(name) else { return refuse("it is not UTF-8") };
    if text.is_empty() {
        return refuse("it is empty");
    }
    if text.len() > COPY_NAME_BYTES_MAX {
        return refuse("it is longer than 120 bytes");
    }
    if text.starts_with(['.', '-']) {
        return refuse("it begins with '.' or '-'");
    }
    if text.contains('/') {
        return refuse("it holds a '/'");
    }
    if text.chars().any(char::is_control) {
        return refuse("it holds a control character");
    }
    Ok(text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_lead_elsewhere_are_refused() {
        for bad in [&b""[..], b".", b"..", b".rbbackup", b"-x", b"a/b", b"/", b"a\0b", b"a\nb", b"\xff", &[b'x'; 121]] {
            assert!(CopyName::new(b"node", bad).is_err(), "{}", escape(bad));
            assert!(CopyName::new(bad, b"user").is_err(), "{}", escape(bad));
        }
        assert!(CopyName::new(b"a@b", b"u").is_err());
    }

    #[test]
    fn an_ipv4_peer_on_a_dual_stack_socket_is_an_ipv4_node() {
        let copy = CopyName::at_address("::ffff:192.168.1.20".parse().unwrap(), b"u").unwrap();
        assert_eq!(copy.to_string(), "192.168.1.20/u");
        assert_eq!(CopyName::at_address("fe80::1".parse().unwrap(), b"u").unwrap().to_string(), "fe80::1/u");
    }

    #[test]
    fn the_component_splits_again() {
        let copy = CopyName::new(b"10.0.0.1", b"ana@office").unwrap();
        assert_eq!(CopyName::from_component(copy.component().as_bytes()), Some(copy));
        assert_eq!(CopyName::from_component(b"nothing"), None);
    }
}
