//! [`SharedRead`]: reads an open file from a place of its own.
//!
//! Descriptors that were cloned from each other share one place in the file: two who read so disturb each other. This
//! reads with an offset, so any number may read the same file side by side.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// See the module.
#[derive(Clone, Debug)]
pub struct SharedRead {
    file: Arc<File>,
    at: u64,
}

impl SharedRead {
    /// From the file's beginning.
    pub fn new(file: Arc<File>) -> Self {
        Self { file, at: 0 }
    }
}

impl Read for SharedRead {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buf, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for SharedRead {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (from, by) = match to {
            SeekFrom::Start(at) => (at, 0),
            SeekFrom::Current(by) => (self.at, by),
            SeekFrom::End(by) => (self.file.metadata()?.len(), by),
        };
        let before_the_start = || io::Error::from(io::ErrorKind::InvalidInput);
        self.at = from.checked_add_signed(by).ok_or_else(before_the_start)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn readers_of_one_file_do_not_disturb_each_other() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let mut one = SharedRead::new(Arc::new(file));
        let mut two = one.clone();
        let mut word = [0; 3];
        let mut next = |reader: &mut SharedRead| {
            reader.read_exact(&mut word).unwrap();
            String::from_utf8(word.to_vec()).unwrap()
        };
        assert_eq!((next(&mut one), next(&mut two), next(&mut one)), ("012".into(), "012".into(), "345".into()));
        two.seek(SeekFrom::End(-4)).unwrap();
        assert_eq!((next(&mut two), next(&mut one)), ("678".into(), "678".into()));
        two.seek(SeekFrom::Current(-9)).unwrap();
        assert_eq!(next(&mut two), "012");
        assert!(two.seek(SeekFrom::End(-11)).is_err());
    }
}
