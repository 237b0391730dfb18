//! Takes from this process, for good, what it will not need: a second wall behind [`super::safe_dir`], held up by the
//! kernel (Landlock), for the day when the first has a hole.
//!
//! ```text
//! no_new_privs   always
//! ABI 1, 2       files: only below the folders named in [`Bounds`]   (with ABI 1 alone nothing could be moved: not used)
//! ABI 3, 5       truncating; ioctls of devices
//! ABI 4          TCP: bind to and connect to the ports named, no other
//! ABI 6          no signals to, and no abstract sockets of, processes outside
//! ```
//!
//! It holds for the thread that calls [`confine`] and for those that it starts later, so it comes before all others. Rules
//! stand on inodes, not on names: what is moved away stays allowed, what is put in its place is not. What is open already
//! stays usable, whatever it is. Not restricted by Landlock: looking at names (`stat`), modes, owners and times, Unix sockets
//! with a path, UDP.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort, PathBeneath,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::backup::bytes::escape;

/// What is asked for; a kernel that knows less gives less.
const WANTED: ABI = ABI::V6;
/// Without it no file could be moved from one folder to another.
const NEEDED: ABI = ABI::V2;

/// What the process may still do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Folders in which it may do all that a store needs. They must be there.
    pub write: Vec<PathBuf>,
    /// Files and folders that it may read; those that are not there are passed over.
    pub read: Vec<PathBuf>,
    /// TCP ports that it may listen on; 0 is any free one.
    pub listen: Vec<u16>,
    /// It may listen on every port: which one is set while it runs.
    pub listen_anywhere: bool,
    /// TCP ports that it may connect to.
    pub connect: Vec<u16>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confined {
    /// The kernel holds the process to its bounds.
    Yes {
        /// Version of Landlock that is in force.
        abi: u32,
        /// Whether all of it is; else this kernel knows files alone, or files and ports.
        fully: bool,
    },
    /// It does not: why.
    No(String),
}

/// Bounds that cannot be drawn.
#[derive(Debug, thiserror::Error)]
#[error("cannot confine this process to '{path}': {source}")]
pub struct ConfineError {
    /// The folder.
    path: String,
    /// Why.
    source: std::io::Error,
}

/// What any long-running process of ours reads: its own entry in /proc (who is at the other end of a connection, how many cores
/// it may use), how many cores there are, the time zone, and randomness where a library does not ask the kernel for it.
pub fn always_read() -> Vec<PathBuf> {
    const PATHS: [&str; 7] = [
        "/dev/urandom",
        "/etc/localtime",
        "/etc/zoneinfo",
        "/proc/self",
        "/sys/devices/system/cpu",
        "/sys/fs/cgroup",
        "/usr/share/zoneinfo",
    ];
    PATHS.map(PathBuf::from).to_vec()
}

/// This thread and those that it starts can gain no privileges any more, by set-uid programs or the like.
pub fn renounce_privileges() {
    if let Err(error) = rustix::thread::set_no_new_privs(true) {
        tracing::warn!("cannot renounce new privileges: {error}");
    }
}

/// Confines this thread and all that it starts.
///
/// # Errors
/// A folder to write to is not there. That the kernel cannot do it is no error.
pub fn confine(bounds: &Bounds) -> Result<Confined, ConfineError> {
    renounce_privileges();
    let mut paths = Vec::new();
    for path in &bounds.write {
        let shown = || escape(path.as_os_str().as_encoded_bytes());
        let open = open(path).map_err(|e| ConfineError { path: shown(), source: e.into() })?;
        paths.push((open, store_access()));
    }
    for path in &bounds.read {
        if let Ok(open) = open(path) {
            let is_file = rustix::fs::fstat(&open).is_ok_and(|stat| stat.st_mode & 0o170_000 != 0o040_000);
            let access = AccessFs::ReadFile | AccessFs::ReadDir;
            paths.push((open, if is_file { AccessFs::ReadFile.into() } else { access }));
        }
    }
    Ok(restrict(bounds, &paths).map_or_else(|error| Confined::No(error.to_string()), |status| told(&status)))
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

/// Everything but running programs and making devices.
fn store_access() -> BitFlags<AccessFs> {
    AccessFs::from_all(ABI::V3) & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock)
}

fn restrict(bounds: &Bounds, paths: &[(OwnedFd, BitFlags<AccessFs>)]) -> Result<RestrictionStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::SoftRequirement)
        .handle_access(AccessFs::from_all(NEEDED))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(WANTED))?
        .handle_access(if bounds.listen_anywhere { AccessNet::ConnectTcp.into() } else { AccessNet::from_all(WANTED) })?
        .scope(Scope::from_all(WANTED))?
        .create()?;
    for (path, access) in paths {
        rules = rules.add_rule(PathBeneath::new(path, *access))?;
        keep(path);
    }
    for port in bounds.listen.iter().filter(|_| !bounds.listen_anywhere) {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
    }
    for port in &bounds.connect {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    rules.restrict_self()
}

/// A rule in /proc holds as long as the kernel keeps that very inode, which it does while somebody has it open.
fn keep(path: &OwnedFd) {
    let _ = path.try_clone().map(std::mem::forget);
}

fn told(status: &RestrictionStatus) -> Confined {
    let abi = match status.landlock {
        LandlockStatus::NotEnabled => {
            return Confined::No("Landlock is not enabled in this kernel (boot parameter lsm=landlock,…)".into());
        }
        LandlockStatus::NotImplemented => return Confined::No("this kernel has no Landlock (Linux 5.19 has)".into()),
        LandlockStatus::Available { effective_abi, kernel_abi } => {
            kernel_abi.and_then(|abi| u32::try_from(abi).ok()).unwrap_or(effective_abi as u32)
        }
    };
    match status.ruleset {
        RulesetStatus::NotEnforced => {
            Confined::No("this kernel's Landlock is too old (Linux 5.19 has what is needed)".into())
        }
        RulesetStatus::FullyEnforced => Confined::Yes { abi, fully: true },
        RulesetStatus::PartiallyEnforced => Confined::Yes { abi, fully: false },
    }
}

#[cfg(test)]
mod tests;
