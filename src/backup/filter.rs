//! [`Filter`]: which paths a run leaves out, in gitignore's words.
//!
//! The last pattern that matches decides; `!` takes a path in again; what lies below an excluded directory is excluded,
//! whatever stands after. Patterns are relative to the run's root, which itself is never excluded. Client and daemon
//! build the same filter from the same patterns: the client prunes while it walks, the daemon asks of single paths.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::bytes::{Bytes, escape};
use super::limits::{FILTER_BYTES_MAX, FILTER_COUNT_MAX, PATH_BYTES_MAX};
use super::relpath::RelPath;

/// Deepest nesting of `{a,{b,c}}`: the pattern compiler works on it recursively.
const NESTING_MAX: usize = 10;

/// Most `*`, `?` and `[` of one pattern: each may be tried at every byte of a path.
const WILDCARDS_MAX: usize = 64;

/// Why a pattern is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// It cannot be understood.
    #[error("the pattern '{pattern}' cannot be used: {why}")]
    Pattern {
        /// The pattern, control bytes escaped.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// More patterns than a run may have.
    #[error("too many patterns: at most {FILTER_COUNT_MAX} of {FILTER_BYTES_MAX} bytes together")]
    TooMany,
}

/// A run's exclude patterns, ready to be asked.
#[derive(Clone, Debug)]
pub struct Filter {
    set: Gitignore,
}

impl Default for Filter {
    fn default() -> Self {
        Self { set: Gitignore::empty() }
    }
}

impl Filter {
    /// One pattern each, in order; empty ones and those that begin with `#` are comments, as in a gitignore file.
    ///
    /// # Errors
    /// [`FilterError`] names the pattern.
    pub fn new(patterns: &[Bytes]) -> Result<Self, FilterError> {
        let bytes: usize = patterns.iter().map(|p| p.0.len()).sum();
        if patterns.len() > FILTER_COUNT_MAX || bytes > FILTER_BYTES_MAX {
            return Err(FilterError::TooMany);
        }
        // "." is never stripped off a path, unlike any other name.
        let mut builder = GitignoreBuilder::new(".");
        for pattern in patterns {
            // The compiler quotes the pattern.
            let refuse = |why: &str| FilterError::Pattern { pattern: escape(&pattern.0), why: escape(why.as_bytes()) };
            let line = std::str::from_utf8(&pattern.0).map_err(|_| refuse("a pattern must be valid UTF-8"))?;
            if line.len() > PATH_BYTES_MAX {
                return Err(refuse("it is too long"));
            }
            if line.contains(['\n', '\r', '\0']) {
                return Err(refuse("it holds a line break or a NUL"));
            }
            if nesting(line) > NESTING_MAX {
                return Err(refuse("braces are nested too deeply"));
            }
            if line.bytes().filter(|b| b"*?[".contains(b)).count() > WILDCARDS_MAX {
                return Err(refuse("it has too many wildcards"));
            }
            builder.add_line(None, line).map_err(|e| refuse(&e.to_string()))?;
        }
        let set = builder
            .build()
            .map_err(|e| FilterError::Pattern { pattern: "*".to_owned(), why: escape(e.to_string().as_bytes()) })?;
        Ok(Self { set })
    }

    /// Whether nothing is excluded.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Whether `path` itself is excluded. For a walker, which never goes below an excluded directory.
    pub fn matched(&self, path: &RelPath, is_dir: bool) -> bool {
        !path.is_root() && self.excludes(path.as_bytes(), is_dir)
    }

    /// Whether `path` or a directory above it is excluded.
    pub fn matched_or_parents(&self, path: &RelPath, is_dir: bool) -> bool {
        if self.is_empty() || path.is_root() {
            return false;
        }
        let bytes = path.as_bytes();
        let slashes = bytes.iter().enumerate().filter(|(_, b)| **b == b'/');
        let mut above = slashes.filter_map(|(at, _)| bytes.get(..at));
        above.any(|parent| self.excludes(parent, true)) || self.excludes(bytes, is_dir)
    }

    fn excludes(&self, path: &[u8], is_dir: bool) -> bool {
        matches!(self.set.matched(Path::new(OsStr::from_bytes(path)), is_dir), Match::Ignore(_))
    }
}

/// How deep `{` goes; backslashes and classes are not looked at, which can only count too much.
fn nesting(pattern: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for b in pattern.bytes() {
        match b {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(patterns: &[&str]) -> Result<Filter, FilterError> {
        Filter::new(&patterns.iter().map(|p| Bytes::from(p.as_bytes())).collect::<Vec<_>>())
    }

    fn rel(bytes: &[u8]) -> RelPath {
        RelPath::new(bytes).unwrap()
    }

    #[test]
    fn it_speaks_gitignore() {
        let f = filter(&["# comment", "", "*.o", "!keep.o", "/top", "dir/", "a/**/z", "sp\\ "]).unwrap();
        let file = |p: &[u8]| f.matched(&rel(p), false);
        assert!(file(b"x.o") && file(b"d/e/x.o") && file(b"\xff.o"));
        assert!(!file(b"keep.o") && !file(b"d/keep.o") && !file(b"x.oo"));
        assert!(file(b"top") && !file(b"d/top"));
        assert!(!file(b"dir") && f.matched(&rel(b"dir"), true) && f.matched(&rel(b"x/dir"), true));
        assert!(file(b"a/z") && file(b"a/b/c/z") && !file(b"b/a/z"));
        assert!(file(b"sp "));
        assert!(!f.matched(&RelPath::root(), true));
    }

    #[test]
    fn below_an_excluded_directory_nothing_comes_back() {
        let f = filter(&["build/", "!build/keep", "*.tmp/"]).unwrap();
        assert!(!f.matched(&rel(b"build/keep"), false), "one level: the walker never gets there");
        assert!(f.matched_or_parents(&rel(b"build/keep"), false));
        assert!(f.matched_or_parents(&rel(b"x/y.tmp/z/w"), false));
        assert!(!f.matched_or_parents(&rel(b"x/y.tmp"), false));
        assert!(f.matched_or_parents(&rel(b"x/y.tmp"), true));
        assert!(!Filter::default().matched_or_parents(&rel(b"x"), false));
    }

    #[test]
    fn a_leading_dot_is_a_name_like_any_other() {
        let f = filter(&[".cache", "./x"]).unwrap();
        assert!(f.matched(&rel(b".cache"), true) && f.matched(&rel(b"a/.cache"), true));
        assert!(filter(&["*"]).unwrap().matched(&rel(b".hidden"), false));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let error = filter(&["ok", "a{b"]).unwrap_err();
        assert!(matches!(&error, FilterError::Pattern { pattern, .. } if pattern == "a{b"), "{error}");
        let deep = "{".repeat(4000) + "a" + &"}".repeat(4000);
        assert!(filter(&[&deep[..4000]]).is_err());
        assert!(Filter::new(&[Bytes::from(&b"\xff"[..])]).is_err());
        assert!(filter(&["a\nb"]).is_err());
        let shown = filter(&["{\x1b[2J"]).unwrap_err().to_string();
        assert!(!shown.chars().any(char::is_control), "the compiler's words are shown too: {shown:?}");
        assert!(matches!(filter(&vec!["x"; FILTER_COUNT_MAX + 1]), Err(FilterError::TooMany)));
    }

    #[test]
    fn a_pattern_has_only_so_many_wildcards() {
        let stars = |count: usize| "*a".repeat(count);
        assert!(filter(&[&stars(WILDCARDS_MAX)]).is_ok());
        let said = filter(&[&stars(WILDCARDS_MAX + 1)]).unwrap_err().to_string();
        assert!(said.contains("too many wildcards"), "{said}");
        let worst = filter(&[&stars(WILDCARDS_MAX)]).unwrap();
        assert!(worst.matched(&rel("a".repeat(255).as_bytes()), false));
    }
}
