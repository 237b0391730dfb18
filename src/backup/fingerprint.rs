//! [`Fingerprint`]: what tells, without reading a file, that it has not changed since it was last hashed.

use serde::{Deserialize, Serialize};

/// Seconds and nanoseconds since 1970; negative before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct Timestamp {
    /// Whole seconds.
    pub secs: i64,
    /// 0 ..= 999 999 999.
    pub nanos: u32,
}

impl Timestamp {
    /// This moment `secs` seconds and `nanos` nanoseconds earlier.
    pub fn minus(self, secs: i64, nanos: u32) -> Self {
        if self.nanos >= nanos {
            Self { secs: self.secs.saturating_sub(secs), nanos: self.nanos - nanos }
        } else {
            Self { secs: self.secs.saturating_sub(secs + 1), nanos: self.nanos + 1_000_000_000 - nanos }
        }
    }
}

/// inode, size, mtime and ctime: equal means unchanged, unless it is *racy* (see [`Fingerprint::is_racy`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
pub struct Fingerprint {
    /// Inode number.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Time of the last change of content.
    pub mtime: Timestamp,
    /// Time of the last change of anything.
    pub ctime: Timestamp,
}

impl Fingerprint {
    /// Whether the file changed so shortly before `safe_before` that a second change could have left the same times.
    /// `safe_before` is the moment of observation minus the clock's granularity.
    ///
    /// The ctime decides: every change moves it to the kernel's present, and nobody can set it, while an mtime may say
    /// anything, also a moment years from now. Where the inode is not believed (0), neither is the ctime.
    pub fn is_racy(&self, safe_before: Timestamp) -> bool {
        self.ctime >= safe_before || (self.ino == 0 && self.mtime >= safe_before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_changed_within_the_tick_is_racy() {
        let now = Timestamp { secs: 100, nanos: 5 };
        let limit = now.minus(2, 0);
        let old = Timestamp { secs: 97, nanos: 0 };
        let print = |mtime, ctime| Fingerprint { ino: 1, size: 1, mtime, ctime };
        assert!(!print(old, old).is_racy(limit));
        assert!(print(old, limit).is_racy(limit) && print(old, now).is_racy(limit));
        let future = Timestamp { secs: 1 << 40, nanos: 0 };
        assert!(!print(future, old).is_racy(limit), "set by somebody, before the tick");
        assert!(Fingerprint { ino: 0, ..print(now, old) }.is_racy(limit), "a ctime that is not to be believed");
        assert_eq!(now.minus(0, 10), Timestamp { secs: 99, nanos: 999_999_995 });
    }
}
