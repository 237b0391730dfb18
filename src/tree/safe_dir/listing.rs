//! [`Listing`]: the names in a directory, in order, without an allocation for each: walks of millions of files read them.

use rustix::fs::Dir;
use rustix::io::Errno;

use super::{DirName, SafeDir};
use crate::tree::error::TreeError;
use crate::tree::stat::FileKind;

/// The names in a directory, sorted as bytes, without `.` and `..`, to be taken one by one.
#[derive(Debug, Default)]
pub struct Listing {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    taken: usize,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    len: usize,
    is_dir: Option<bool>,
}

impl SafeDir {
    /// All names in the directory.
    ///
    /// # Errors
    /// When the listing cannot be read.
    pub fn listing(&self) -> Result<Listing, TreeError> {
        let fail = |e| TreeError::new("list", &self.label, b"", e);
        let (mut bytes, mut spans) = (Vec::new(), Vec::new());
        for entry in self.open_listing().map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let is_dir = match FileKind::of(entry.file_type()) {
                FileKind::Unknown => None,
                kind => Some(kind == FileKind::Dir),
            };
            spans.push(Span { start: bytes.len(), len: name.len(), is_dir });
            bytes.extend_from_slice(name);
        }
        let name = |span: &Span| bytes.get(span.start..span.start + span.len).unwrap_or_default();
        spans.sort_unstable_by(|a, b| name(a).cmp(name(b)));
        Ok(Listing { bytes, spans, taken: 0 })
    }

    fn open_listing(&self) -> Result<Dir, Errno> {
        match Dir::read_from(&self.fd) {
            // A directory may be readable without the right to search it, which opening it once more takes.
            Err(Errno::ACCESS) => {
                let mut dir = Dir::new(rustix::io::fcntl_dupfd_cloexec(&self.fd, 0)?)?;
                dir.rewind();
                Ok(dir)
            }
            opened => opened,
        }
    }

    /// The same, each by itself.
    ///
    /// # Errors
    /// When the listing cannot be read.
    pub fn names(&self) -> Result<Vec<DirName>, TreeError> {
        let mut listing = self.listing()?;
        let mut names = Vec::with_capacity(listing.spans.len());
        while let Some((name, is_dir)) = listing.take() {
            names.push(DirName { name: name.to_vec(), is_dir });
        }
        Ok(names)
    }
}

impl Listing {
    /// The next name, and whether the listing says that it is a directory; none: it does not say.
    pub fn take(&mut self) -> Option<(&[u8], Option<bool>)> {
        let span = *self.spans.get(self.taken)?;
        self.taken += 1;
        Some((self.bytes.get(span.start..span.start + span.len).unwrap_or_default(), span.is_dir))
    }
}
