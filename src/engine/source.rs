//! The root of a run on the client's disk: its name in the copy, the directory it lies in, how it is walked.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use super::error::{EngineError, ErrorKind};
use super::push::PushOptions;
use crate::backup::bytes::escape;
use crate::backup::filter::Filter;
use crate::backup::relpath::RelPath;
use crate::tree::file_system::lasting_id;
use crate::tree::operator;
use crate::tree::safe_dir::SafeDir;
use crate::tree::walk::WalkOptions;

/// The root of a run.
pub(crate) struct Source {
    /// The absolute path as given, lexically normalised, without its leading `/`.
    pub(crate) name: RelPath,
    /// The root itself, or the directory that holds it when it is a file.
    pub(crate) dir: Arc<SafeDir>,
    /// The root's name in `dir`, when it is a file.
    pub(crate) file_name: Option<Vec<u8>>,
    /// Id of its file system; 0 when unknown.
    pub(crate) file_system: u64,
}

impl Source {
    /// Opens the root; a symlink to a directory is followed.
    ///
    /// # Errors
    /// It does not exist, cannot be opened, or its path cannot be backed up.
    pub(crate) fn open(root: &Path) -> Result<Self, EngineError> {
        let shown = escape(root.as_os_str().as_bytes());
        let failed = |message: String| EngineError::new(ErrorKind::Failed, message);
        let name = RelPath::from_absolute(root.as_os_str().as_bytes())
            .map_err(|e| EngineError::new(ErrorKind::Usage, format!("cannot back up '{shown}': {e}")))?;
        let meta = operator::look(root).or_else(|_| operator::look_at_name(root));
        let meta = meta.map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => failed(format!("'{shown}' does not exist")),
            _ => failed(format!("cannot open '{shown}': {e}")),
        })?;
        if operator::look_at_name(root).is_ok_and(|meta| meta.file_type().is_socket()) {
            return Err(failed(format!("'{shown}' is a socket: only the program that made it can use it")));
        }
        let open = |path: &Path| SafeDir::open_operator(path).map(Arc::new).map_err(|e| failed(e.to_string()));
        let file_system = lasting_id(root);
        if meta.is_dir() {
            return Ok(Self { name, dir: open(root)?, file_name: None, file_system });
        }
        let file_name = name.name().map(<[u8]>::to_vec);
        let parent = root.parent().unwrap_or_else(|| Path::new("/"));
        Ok(Self { name, dir: open(parent)?, file_name, file_system })
    }

    /// The absolute path, as bytes.
    pub(crate) fn absolute(&self) -> Vec<u8> {
        [b"/", self.name.as_bytes()].concat()
    }

    /// How to walk it. `store` is the (device, inode) of the store that is written to, when it is on this machine.
    pub(crate) fn walk_options(&self, options: &PushOptions, store: (u64, u64)) -> Result<WalkOptions, EngineError> {
        let usage = |message: String| EngineError::new(ErrorKind::Usage, message);
        let filter = Filter::new(&options.filters).map_err(|e| usage(e.to_string()))?;
        if store != (0, 0) && lies_within(&options.root, store) {
            let shown = escape(options.root.as_os_str().as_bytes());
            return Err(usage(format!("'{shown}' lies in the store that it would be written to")));
        }
        Ok(WalkOptions {
            root: options.root.clone(),
            recursive: options.recursive,
            one_file_system: options.one_file_system,
            exclude_caches: options.exclude_caches,
            filter,
            skip: if store == (0, 0) { Vec::new() } else { vec![store] },
            read_xattrs: false,
        })
    }
}

/// Whether `root` is the directory (device, inode) or lies below it: each run would hold all that the ones before held.
fn lies_within(root: &Path, dir: (u64, u64)) -> bool {
    let place = operator::resolve(root).unwrap_or_else(|_| root.to_path_buf());
    let is_dir = |at: &Path| operator::look(at).is_ok_and(|meta| (meta.dev(), meta.ino()) == dir);
    place.ancestors().any(is_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_no_root() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let Err(error) = Source::open(&path) else { panic!("it was taken") };
        assert_eq!((error.kind, error.message.contains("is a socket")), (ErrorKind::Failed, true), "{error}");
        // A link to one is a link, which can be kept.
        let link = temp.path().join("link");
        std::os::unix::fs::symlink("socket", &link).unwrap();
        assert_eq!(Source::open(&link).unwrap().file_name.as_deref(), Some(b"link".as_slice()));
    }
}
