//! [`RelPath`]: a path below some root, as bytes, that cannot lead outside it.
//!
//! Always holds: components are separated by single `/`; none is empty, `.`, `..` or longer than
//! [`NAME_BYTES_MAX`]; no NUL; at most [`PATH_BYTES_MAX`] bytes; the empty path is the root itself. A name that breaks
//! a rule is refused, never "cleaned".
//!
//! **Canonical order** is component by component, as bytes: a directory stands right before what it holds. It is the
//! order of byte strings in which `/` is replaced by 0x00 ([`RelPath::to_key`]), which is how databases store it.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::bytes::escape;
use super::limits::{NAME_BYTES_MAX, PATH_BYTES_MAX};

/// Why a byte string is not a [`RelPath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A component is empty, `.` or `..`, or the path starts or ends with `/`.
    #[error("the path '{0}' has a component that is empty, '.' or '..'")]
    Component(String),
    /// A NUL byte.
    #[error("the path '{0}' holds a NUL byte")]
    Nul(String),
    /// A component or the whole is too long.
    #[error("the path '{0}' is too long: a component has at most {NAME_BYTES_MAX} bytes, the whole {PATH_BYTES_MAX}")]
    TooLong(String),
}

fn shown(bytes: &[u8]) -> String {
    escape(&bytes[..bytes.len().min(200)])
}

/// One pass: every path of every record comes through here.
fn check(bytes: &[u8]) -> Result<(), PathError> {
    if bytes.is_empty() {
        return Ok(());
    }
    if bytes.len() > PATH_BYTES_MAX {
        return Err(PathError::TooLong(shown(bytes)));
    }
    let mut start = 0;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'/' => {
                check_component(&bytes[start..at], bytes)?;
                start = at + 1;
            }
            0 => return Err(PathError::Nul(shown(bytes))),
            _ => {}
        }
    }
    check_component(&bytes[start..], bytes)
}

fn check_component(part: &[u8], whole: &[u8]) -> Result<(), PathError> {
    match part {
        b"" | b"." | b".." => Err(PathError::Component(shown(whole))),
        part if part.len() > NAME_BYTES_MAX => Err(PathError::TooLong(shown(whole))),
        _ => Ok(()),
    }
}

/// How many bytes two strings have in common at their beginning. Neighbours in a manifest share most of their path, so
/// it goes by words first.
fn common_len(a: &[u8], b: &[u8]) -> usize {
    const WORD: usize = 16;
    let words = a.chunks_exact(WORD).zip(b.chunks_exact(WORD)).take_while(|(a, b)| a == b).count() * WORD;
    words + a[words..].iter().zip(&b[words..]).take_while(|(a, b)| a == b).count()
}

/// A checked path below a root. See the module for what always holds.
#[derive(PartialEq, Eq, Hash, Default)]
pub struct RelPath(Vec<u8>);

impl Clone for RelPath {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }

    /// Into what is allocated already: for the "path before" of a loop over many.
    fn clone_from(&mut self, source: &Self) {
        self.0.clone_from(&source.0);
    }
}

impl RelPath {
    /// The root itself: the empty path.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// Checks and wraps.
    ///
    /// # Errors
    /// [`PathError`] names the rule that is broken.
    pub fn new(bytes: &[u8]) -> Result<Self, PathError> {
        check(bytes)?;
        Ok(Self(bytes.to_vec()))
    }

    /// An absolute path, lexically normalised (`//`, `.` and `..` resolved as text), without its leading `/`.
    ///
    /// # Errors
    /// [`PathError`] when the path is not absolute, holds a NUL, or is too long.
    pub fn from_absolute(bytes: &[u8]) -> Result<Self, PathError> {
        if bytes.first() != Some(&b'/') {
            return Err(PathError::Component(escape(bytes)));
        }
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in bytes.split(|b| *b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop();
                }
                _ => parts.push(part),
            }
        }
        Self::new(&parts.join(&b'/'))
    }

    /// The bytes, without a leading `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the root itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// How many components.
    pub fn depth(&self) -> usize {
        self.components().count()
    }

    /// The components, first to last.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|c| !c.is_empty())
    }

    /// The last component; none for the root.
    pub fn name(&self) -> Option<&[u8]> {
        if self.is_root() { None } else { self.0.rsplit(|b| *b == b'/').next() }
    }

    /// The path without its last component; none for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let cut = self.0.iter().rposition(|b| *b == b'/').unwrap_or(0);
        Some(Self(self.0[..cut].to_vec()))
    }

    /// `self/name`.
    ///
    /// # Errors
    /// [`PathError`] when `name` is not one good component, or the whole gets too long.
    pub fn join(&self, name: &[u8]) -> Result<Self, PathError> {
        if name.contains(&b'/') {
            return Err(PathError::Component(escape(name)));
        }
        check_component(name, name)?;
        if name.contains(&0) {
            return Err(PathError::Nul(shown(name)));
        }
        self.with(name)
    }

    /// `self/other`; either may be the root.
    ///
    /// # Errors
    /// [`PathError::TooLong`].
    pub fn join_path(&self, other: &Self) -> Result<Self, PathError> {
        if self.is_root() {
            return Ok(other.clone());
        }
        if other.is_root() {
            return Ok(self.clone());
        }
        self.with(&other.0)
    }

    /// This and something that has been checked.
    fn with(&self, below: &[u8]) -> Result<Self, PathError> {
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + below.len());
        if !self.is_root() {
            bytes.extend_from_slice(&self.0);
            bytes.push(b'/');
        }
        bytes.extend_from_slice(below);
        if bytes.len() > PATH_BYTES_MAX { Err(PathError::TooLong(shown(&bytes))) } else { Ok(Self(bytes)) }
    }

    /// Whether `self` is `ancestor` or lies below it.
    pub fn is_within(&self, ancestor: &Self) -> bool {
        ancestor.is_root()
            || (self.0.starts_with(&ancestor.0) && matches!(self.0.get(ancestor.0.len()), None | Some(b'/')))
    }

    /// Whether `self` is a name directly in `dir`.
    pub fn is_in(&self, dir: &Self) -> bool {
        let parent = match self.0.iter().rposition(|b| *b == b'/') {
            Some(cut) => &self.0[..cut],
            None if self.is_root() => return false,
            None => &[],
        };
        parent == dir.0
    }

    /// `self` as seen from `ancestor`; none when it does not lie within.
    pub fn strip_prefix(&self, ancestor: &Self) -> Option<Self> {
        if !self.is_within(ancestor) {
            return None;
        }
        if ancestor.is_root() {
            return Some(self.clone());
        }
        let from = (ancestor.0.len() + 1).min(self.0.len());
        Some(Self(self.0[from..].to_vec()))
    }

    /// The form whose plain byte order is the canonical order: `/` becomes 0x00.
    pub fn to_key(&self) -> Vec<u8> {
        self.0.iter().map(|b| if *b == b'/' { 0 } else { *b }).collect()
    }

    /// Back from [`RelPath::to_key`].
    ///
    /// # Errors
    /// [`PathError`] when the key is damaged.
    pub fn from_key(key: &[u8]) -> Result<Self, PathError> {
        let bytes: Vec<u8> = key.iter().map(|b| if *b == 0 { b'/' } else { *b }).collect();
        check(&bytes)?;
        Ok(Self(bytes))
    }
}

impl Ord for RelPath {
    fn cmp(&self, other: &Self) -> Ordering {
        let same = common_len(&self.0, &other.0);
        match (self.0.get(same), other.0.get(same)) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(b'/'), Some(_)) => Ordering::Less,
            (Some(_), Some(b'/')) => Ordering::Greater,
            (Some(a), Some(b)) => a.cmp(b),
        }
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0))
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{self}'")
    }
}

impl Serialize for RelPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for RelPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PathVisitor;
        impl serde::de::Visitor<'_> for PathVisitor {
            type Value = RelPath;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path below a root")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<RelPath, E> {
                RelPath::new(bytes).map_err(E::custom)
            }
        }
        deserializer.deserialize_bytes(PathVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rel(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn hostile_paths_are_refused() {
        for bad in [&b"/a"[..], b"a/", b"a//b", b".", b"..", b"a/../b", b"a/./b", b"a\0b", b"/"] {
            assert!(RelPath::new(bad).is_err(), "{}", escape(bad));
        }
        assert!(RelPath::new(&[b'x'; 256]).is_err());
        assert!(RelPath::new(&[b'x'; 255]).is_ok());
        assert!(RelPath::root().join(b"a/b").is_err());
        assert!(RelPath::root().join(b"").is_err());
    }

    #[test]
    fn absolute_paths_are_normalised_as_text() {
        assert_eq!(RelPath::from_absolute(b"/home//u/./x/../docs/").unwrap(), rel("home/u/docs"));
        assert_eq!(RelPath::from_absolute(b"/../..").unwrap(), RelPath::root());
        assert!(RelPath::from_absolute(b"home").is_err());
    }

    #[test]
    fn within_is_by_component() {
        assert!(rel("a/b").is_within(&rel("a")));
        assert!(rel("a").is_within(&rel("a")));
        assert!(!rel("ab").is_within(&rel("a")));
        assert_eq!(rel("a/b").strip_prefix(&rel("a")), Some(rel("b")));
        assert_eq!(rel("a").strip_prefix(&rel("a")), Some(RelPath::root()));
        assert_eq!(rel("a/b").parent(), Some(rel("a")));
        assert_eq!(rel("a").parent(), Some(RelPath::root()));
        assert!(rel("a/b").is_in(&rel("a")) && rel("a").is_in(&RelPath::root()));
        assert!(!rel("a/b/c").is_in(&rel("a")) && !rel("a").is_in(&rel("a")) && !rel("ab/c").is_in(&rel("a")));
        assert!(!RelPath::root().is_in(&RelPath::root()));
    }

    proptest! {
        #[test]
        fn order_is_the_order_of_keys_and_of_components(
            common in "[a-c/]{0,40}", a in "[a-c./ !]{0,8}", b in "[a-c./ !]{0,8}",
        ) {
            let (a, b) = (format!("{common}{a}"), format!("{common}{b}"));
            if let (Ok(a), Ok(b)) = (RelPath::new(a.as_bytes()), RelPath::new(b.as_bytes())) {
                prop_assert_eq!(a.cmp(&b), a.to_key().cmp(&b.to_key()));
                prop_assert_eq!(a.cmp(&b), a.components().cmp(b.components()));
                prop_assert_eq!(RelPath::from_key(&a.to_key()).unwrap(), a);
            }
        }
    }
}
