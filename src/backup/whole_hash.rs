//! [`WholeHash`]: the digest of a large content whose pieces are worked on otherwise at the same time.
//!
//! Each side of a backup hashes a large file twice, its chunks and the whole. Beyond some megabytes the whole is hashed on
//! a thread of its own, so that one file keeps two cores busy and not one.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::digest::Digest;

/// Bytes that are hashed by the caller before a thread is worth its start.
const HERE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Pieces that may wait for the thread.
const PIECES_QUEUED_MAX: usize = 4;

/// A part of some bytes that others look at, too.
#[derive(Clone, Debug)]
pub struct Piece {
    bytes: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl Piece {
    /// The part `range` of `bytes`; without one, nothing.
    pub fn new(bytes: &Arc<Vec<u8>>, range: Range<usize>) -> Self {
        Self { bytes: Arc::clone(bytes), range }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(self.range.clone()).unwrap_or_default()
    }
}

/// See the module.
pub struct WholeHash {
    bytes: u64,
    hasher: Hasher,
}

enum Hasher {
    Here(Box<blake3::Hasher>),
    Beside { pieces: SyncSender<Piece>, thread: JoinHandle<blake3::Hasher> },
}

impl Default for WholeHash {
    fn default() -> Self {
        Self { bytes: 0, hasher: Hasher::Here(Box::default()) }
    }
}

impl WholeHash {
    /// What comes next in it.
    pub fn update(&mut self, piece: Piece) {
        self.bytes += piece.as_slice().len() as u64;
        if let Hasher::Here(hasher) = &mut self.hasher {
            hasher.update(piece.as_slice());
            if self.bytes > HERE_BYTES_MAX
                && let Ok(beside) = beside((**hasher).clone())
            {
                self.hasher = beside;
            }
        } else if let Hasher::Beside { pieces, .. } = &self.hasher {
            // It ends before only if it panics, which is told when it is joined.
            let _ = pieces.send(piece);
        }
    }

    /// The digest.
    pub fn finish(self) -> Digest {
        match self.hasher {
            Hasher::Here(hasher) => hasher.finalize().into(),
            Hasher::Beside { pieces, thread } => {
                drop(pieces);
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).finalize().into()
            }
        }
    }
}

/// Goes on with a hasher on a thread of its own, which ends with its owner.
fn beside(mut hasher: blake3::Hasher) -> std::io::Result<Hasher> {
    let (pieces, queue) = sync_channel::<Piece>(PIECES_QUEUED_MAX);
    let work = move || {
        for piece in queue {
            hasher.update(piece.as_slice());
        }
        hasher
    };
    let thread = std::thread::Builder::new().name("whole hash".to_owned()).spawn(work)?;
    Ok(Hasher::Beside { pieces, thread })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_digest_of_all_pieces() {
        let content: Vec<u8> = (0..20_000_003_u32).map(|i| (i / 7 % 251) as u8).collect();
        for (len, step) in [(0, 1), (1, 1), (5_000_000, 300_007), (8 << 20, 1 << 20), (content.len(), 1 << 20)] {
            let content = content.get(..len).unwrap();
            let mut whole = WholeHash::default();
            for bytes in content.chunks(step) {
                let (bytes, half) = (Arc::new(bytes.to_vec()), bytes.len() / 2);
                whole.update(Piece::new(&bytes, 0..half));
                whole.update(Piece::new(&bytes, half..bytes.len()));
            }
            assert_eq!(matches!(whole.hasher, Hasher::Beside { .. }), len > 8 << 20);
            assert_eq!(whole.finish(), Digest::of(content), "{len}");
        }
        assert_eq!(Piece::new(&Arc::new(vec![1]), 0..2).as_slice(), b"");
    }

    #[test]
    fn one_that_is_given_up_ends_its_thread() {
        let mut whole = WholeHash::default();
        let piece = Arc::new(vec![7; 9 << 20]);
        whole.update(Piece::new(&piece, 0..piece.len()));
        whole.update(Piece::new(&piece, 0..piece.len()));
        let Hasher::Beside { pieces, thread } = whole.hasher else { panic!("it is no longer here") };
        drop(pieces);
        thread.join().unwrap();
        assert_eq!(Arc::strong_count(&piece), 1, "it has dropped what it was given");
    }
}
