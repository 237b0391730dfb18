//! `cat`: the content of one file as a snapshot has it, written while it comes.
//!
//! What was written cannot be taken back: the store hashes what it delivers and begins again at offset 0 when a place
//! turns out to be damaged at its end. Then what comes anew must begin with exactly what was written, else it fails; the
//! whole is hashed here once more. A file of one piece is verified before a byte of it is written.

use std::io::{self, Write};
use std::path::Path;

use super::{answer, end};
use crate::backup::digest::Digest;
use crate::backup::entry::{Entry, FileContent, Kind};
use crate::backup::relpath::RelPath;
use crate::backup::when::When;
use crate::engine::client::{self, ClientOptions, Session};
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::inspect;
use crate::engine::wire::{Bits, WireError, entry_from_wire, unexpected};
use crate::net::link::Link;
use crate::net::message::{Message, Piece, Read, Want};

/// Writes the content of the file at `path` in the snapshot of that time to `out`. A reader that went away is no error.
///
/// # Errors
/// [`EngineError`], whose kind is the exit code: it is not there, or no file, or what the store has of it is damaged.
pub fn cat(client: &ClientOptions, path: &Path, when: When, out: &mut dyn Write) -> Result<(), EngineError> {
    let path = inspect::absolute(path)?;
    let Session { mut link, guest, .. } = client::open_to_read(client)?;
    let done = over(&mut link, &path, when, out);
    end(link, guest);
    done.map_err(|error| client.stop.or(error))
}

fn failed(message: String) -> EngineError {
    EngineError::new(ErrorKind::Failed, message)
}

/// The same over a link. It can be asked for more afterwards, unless the reader went away.
pub(super) fn over(link: &mut Link, path: &RelPath, when: When, out: &mut dyn Write) -> Result<(), EngineError> {
    let all = false;
    inspect::ask(link, Read { path: path.as_bytes().into(), shallow: true, content: true, all, at: when.into() })?;
    match answer(link)? {
        Message::ReadGranted(_) => {}
        other => return Err(unexpected(&other, "asking for a file").into()),
    }
    let tree = match answer(link)? {
        Message::Tree(tree) if tree.batch == 0 => tree,
        Message::TreeEnd(_) => return Err(failed(format!("'/{path}' is a directory; 'rbbackup ls' lists it"))),
        other => return Err(unexpected(&other, "asking for a file").into()),
    };
    let first = tree.entries.into_iter().next().map(entry_from_wire).transpose()?;
    let content = content_of(path, first)?;
    let mut bits = Bits::default();
    bits.push(true);
    link.send(Want { batch: 0, bits: bits.into_wire() })?;
    let mut printer =
        Printer { out, written: blake3::Hasher::new(), anew: None, count: 0, next: 0, reader_gone: false };
    let (mut is_complete, mut is_told) = (false, false);
    while !(is_complete && is_told) {
        let (content_message, payload) = match answer(link)? {
            Message::TreeEnd(_) if !is_told => {
                is_told = true;
                continue;
            }
            Message::Content(content_message, payload) => (content_message, payload),
            other => return Err(unexpected(&other, "receiving a file").into()),
        };
        let mut rest = payload.as_slice();
        for piece in content_message.pieces {
            let short = || WireError::Bounds("content is shorter than its pieces");
            let (bytes, after) = rest.split_at_checked(piece.len as usize).ok_or_else(short)?;
            rest = after;
            is_complete |= printer.piece(path, &piece, bytes, &content)?;
            if printer.reader_gone {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn content_of(path: &RelPath, entry: Option<Entry>) -> Result<FileContent, EngineError> {
    match entry.map(|entry| entry.kind) {
        Some(Kind::File(content)) => Ok(content),
        Some(Kind::Symlink { target }) => {
            let target = crate::backup::bytes::escape(target.as_slice());
            Err(failed(format!("'/{path}' is a symbolic link to '{target}'")))
        }
        Some(Kind::Dir) | None => Err(failed(format!("'/{path}' is a directory; 'rbbackup ls' lists it"))),
        Some(_) => Err(failed(format!("'/{path}' is no regular file and has no content"))),
    }
}

struct Printer<'a> {
    out: &'a mut dyn Write,
    /// Of what was written.
    written: blake3::Hasher,
    /// Of what comes again after a damaged place, until it is as long as what was written.
    anew: Option<blake3::Hasher>,
    /// Bytes that were written.
    count: u64,
    /// Offset of the next piece.
    next: u64,
    reader_gone: bool,
}

impl Printer<'_> {
    /// True: that was all.
    fn piece(
        &mut self,
        path: &RelPath,
        piece: &Piece,
        bytes: &[u8],
        content: &FileContent,
    ) -> Result<bool, EngineError> {
        if piece.end == 2 {
            return Err(failed(format!("'/{path}': {}", crate::backup::bytes::escape(bytes))));
        }
        if piece.offset == 0 {
            self.next = 0;
            self.anew = (self.count > 0).then(blake3::Hasher::new);
        }
        let end = self.next.checked_add(bytes.len() as u64).filter(|end| *end <= content.size);
        let end = end.filter(|_| piece.offset == self.next && (piece.batch, piece.index) == (0, 0) && piece.end < 2);
        let end = end.ok_or(WireError::Bounds("a piece is not where it belongs"))?;
        let damaged = || failed(format!("'/{path}': what came is damaged; what was printed is not the file"));
        if piece.end == 1 && self.count == 0 && Digest::of(bytes) != content.digest {
            return Err(damaged());
        }
        let known = usize::try_from(self.count.saturating_sub(self.next)).unwrap_or(usize::MAX).min(bytes.len());
        let (old, new) = bytes.split_at(known);
        if let Some(anew) = &mut self.anew {
            anew.update(old);
            if self.next + old.len() as u64 == self.count && anew.finalize() != self.written.finalize() {
                return Err(damaged());
            }
        }
        if !new.is_empty() {
            self.anew = None;
        }
        self.written.update(new);
        self.count += new.len() as u64;
        self.next = end;
        self.write(new)?;
        if piece.end == 1 && (self.next != content.size || Digest::from(self.written.finalize()) != content.digest) {
            return Err(damaged());
        }
        Ok(piece.end == 1 || self.reader_gone)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        match self.out.write_all(bytes) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => self.reader_gone = true,
            Err(e) => return Err(failed(format!("what was asked for cannot be written: {e}"))),
            Ok(()) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::entry::{Link as HardLink, SizeClass};

    fn content(whole: &[u8]) -> FileContent {
        FileContent {
            size: whole.len() as u64,
            digest: Digest::of(whole),
            class: SizeClass::Whole,
            link: HardLink::Single,
            sparse: false,
            unstable: false,
        }
    }

    /// Pieces as (offset, bytes, end); what was printed, and whether it ended well.
    fn print(whole: &[u8], pieces: &[(u64, &[u8], u8)]) -> (Vec<u8>, Result<bool, String>) {
        let mut out = Vec::new();
        let mut printer = Printer {
            out: &mut out,
            written: blake3::Hasher::new(),
            anew: None,
            count: 0,
            next: 0,
            reader_gone: false,
        };
        let mut done = Ok(false);
        for (offset, bytes, end) in pieces {
            let piece = Piece { batch: 0, index: 0, offset: *offset, len: bytes.len() as u32, end: *end };
            done = printer.piece(&RelPath::root(), &piece, bytes, &content(whole)).map_err(|e| e.to_string());
            if done != Ok(false) {
                break;
            }
        }
        (out, done)
    }

    #[test]
    fn pieces_become_the_file() {
        assert_eq!(print(b"abcdef", &[(0, b"abc", 0), (3, b"def", 1)]), (b"abcdef".to_vec(), Ok(true)));
        assert_eq!(print(b"", &[(0, b"", 1)]), (Vec::new(), Ok(true)));
    }

    #[test]
    fn after_a_damaged_place_the_rest_follows_what_was_printed() {
        let again = [(0, &b"abc"[..], 0), (3, b"dX", 0), (0, b"ab", 0), (2, b"cdX", 0), (5, b"f", 1)];
        assert_eq!(print(b"abcdXf", &again), (b"abcdXf".to_vec(), Ok(true)));
        let shorter = [(0, &b"abcd"[..], 0), (0, b"ab", 0), (0, b"abcd", 0), (4, b"ef", 1)];
        assert_eq!(print(b"abcdef", &shorter), (b"abcdef".to_vec(), Ok(true)));
    }

    #[test]
    fn what_was_printed_and_is_not_the_file_is_an_error() {
        let (printed, ended) = print(b"abcdef", &[(0, b"aXc", 0), (0, b"abc", 0)]);
        assert_eq!(printed, b"aXc");
        assert!(ended.unwrap_err().contains("damaged"));
        let (printed, ended) = print(b"abcdef", &[(0, b"abcdeX", 1)]);
        assert!(printed.is_empty(), "one piece is verified first");
        assert!(ended.is_err());
        assert!(print(b"abcdef", &[(0, b"abc", 0), (4, b"ef", 1)]).1.is_err());
        assert!(print(b"abcdef", &[(0, b"abcdefg", 1)]).1.is_err());
        let (_, ended) = print(b"abcdef", &[(0, b"gone\n", 2)]);
        assert!(ended.unwrap_err().contains("gone"));
    }
}
