//! [`Mount`]: a file system that is mounted for a test. Whoever may not mount gets none, and skips the test with a word.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::client::Outcome;
use super::daemon::is_root;

/// A file system that is gone with the test.
pub struct Mount(PathBuf);

impl Mount {
    /// An empty one in memory, on the folder `at`.
    pub fn tmpfs(at: &Path, options: &str) -> Option<Self> {
        mount(&["-t", "tmpfs", "-o", options, "tmpfs"].map(OsStr::new), at)
    }

    /// `what` a second time, at another place.
    pub fn bind(what: &Path, at: &Path) -> Option<Self> {
        mount(&["--bind".as_ref(), what.as_os_str()], at)
    }

    /// The file system in an image.
    pub fn image(image: &Path, at: &Path) -> Option<Self> {
        mount(&["-o".as_ref(), "loop".as_ref(), image.as_os_str()], at)
    }

    /// `what` a second time, where nothing can be written.
    pub fn read_only(what: &Path, at: &Path) -> Option<Self> {
        let bound = Self::bind(what, at)?;
        let again = Outcome::of(Command::new("mount").args(["-o", "remount,bind,ro"]).arg(at));
        (again.code == 0).then_some(bound)
    }
}

fn mount(arguments: &[&OsStr], at: &Path) -> Option<Mount> {
    let mounted = is_root() && Outcome::of(Command::new("mount").args(arguments).arg(at)).code == 0;
    mounted.then(|| Mount(at.to_path_buf()))
}

impl Drop for Mount {
    fn drop(&mut self) {
        if Outcome::of(Command::new("umount").arg(&self.0)).code != 0 {
            let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        }
    }
}
