//! The rule about paths: files are opened by path in `tree/` alone. Everywhere else a path is taken to `tree::operator`
//! (the person at the keyboard named it), to `tree::own` (the program's own file) or to a `SafeDir` (all that came from a
//! peer), and who reads the call sees which of the three it is.
//!
//! Methods whose name a text cannot tell from others' (`Path::is_dir` and `Entry::is_dir`) are left to clippy, which knows
//! types: `disallowed-methods` in clippy.toml, switched on in lib.rs.

use crate::rules::File;

/// Files that may, and why.
pub const MAY: &[(&str, &str)] = &[
    ("net/control.rs", "`net` does not know `tree`; the folder is the store's own, and the socket a fixed name in it"),
    ("net/peer_uid.rs", "`net` does not know `tree`; two fixed paths of /proc"),
    ("net/identity.rs", "`net` does not know `tree`; a key file that the operator or the layout named"),
];

/// Of `std::fs`: what is already open, or says something of it.
const OF_STD: &[&str] = &["File", "FileType", "Metadata", "Permissions", "TryLockError"];
/// Of `std::os::unix::fs`: the same.
const OF_UNIX: &[&str] = &["FileExt", "FileTypeExt", "MetadataExt", "PermissionsExt"];
/// Of `rustix::fs`: calls on what is open.
const OF_RUSTIX: &[&str] = &["FallocateFlags", "SeekFrom", "fallocate", "ioctl_ficlone", "seek"];
/// What opens a `File` by path.
const OPENING: &[&str] = &["create", "create_buffered", "create_new", "open", "open_buffered", "options"];
/// Words that stand for nothing else.
const WORDS: &[&str] = &["CWD", "DirBuilder", "DirBuilderExt", "OpenOptions", "OpenOptionsExt", "walkdir"];
/// Methods of paths that nothing else has without an argument.
const METHODS: &[&str] =
    &[".canonicalize()", ".exists()", ".read_dir()", ".read_link()", ".symlink_metadata()", ".try_exists()"];

/// Nothing is opened by path outside `tree`.
pub fn paths_on_disk(file: &File) -> Vec<String> {
    if file.layer() == "tree" || MAY.iter().any(|(path, _)| *path == file.path) {
        return Vec::new();
    }
    found(file)
}

/// What [`paths_on_disk`] finds in a file, wherever it stands.
pub fn found(file: &File) -> Vec<String> {
    let say = |at, what: &str| file.finding(at, &format!("`{what}` goes to the disk by path outside `tree`"));
    let mut found = Vec::new();
    for named in file.source.paths().iter().filter(|named| !file.in_test(named.at)) {
        let path: Vec<&str> = named.path.iter().map(String::as_str).collect();
        let good = match path.as_slice() {
            ["std", "fs", "File", rest @ ..] => !rest.iter().any(|part| OPENING.contains(part)),
            ["std", "fs", part, ..] => OF_STD.contains(part),
            ["std", "os", "unix" | "linux", "fs", part, ..] => OF_UNIX.contains(part),
            ["rustix", "fs", part, ..] => OF_RUSTIX.contains(part),
            ["std" | "rustix" | "tokio", "fs"] | ["tokio", "fs", ..] => false,
            ["std", "os", "unix" | "linux", "fs"] => false,
            [.., "File", last] => !OPENING.contains(last),
            [.., "Path" | "PathBuf", method] => !METHODS.contains(&format!(".{method}()").as_str()),
            _ => true,
        };
        if !good || path.iter().any(|part| WORDS.contains(part)) {
            found.push(say(named.at, &path.join("::")));
        }
    }
    for method in METHODS {
        let hits = file.source.code.match_indices(method).filter(|(at, _)| !file.in_test(*at));
        found.extend(hits.map(|(at, _)| say(at, method)));
    }
    found
}
