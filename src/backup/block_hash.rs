//! The digest of a content, put together of blocks that were hashed each on its own.
//!
//! BLAKE3 is a tree: the hash of an aligned block depends on its bytes and its place alone. So of two large files that
//! differ a little only the blocks that differ need to be hashed for both digests.
//!
//! ```text
//! content  | block 0 | block 1 | … | last block, may be shorter |     each BLOCK_BYTES, a power of two
//! digest   root of the tree over the blocks; of a content of one block its own hash
//! ```

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use super::digest::Digest;

/// Bytes of every block but the last one of a content.
pub const BLOCK_BYTES: u64 = 256 * 1024;

/// The hash of a block at its place, which is no digest yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHash(ChainingValue);

/// Hashes one block.
pub struct BlockHasher {
    hasher: blake3::Hasher,
    left: u64,
}

impl BlockHasher {
    /// Of the block with this number, counted from 0.
    pub fn new(number: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(number.saturating_mul(BLOCK_BYTES));
        Self { hasher, left: BLOCK_BYTES }
    }

    /// What comes next in it; false: that is more than a block holds.
    #[must_use]
    pub fn update(&mut self, bytes: &[u8]) -> bool {
        match self.left.checked_sub(bytes.len() as u64) {
            Some(left) => {
                self.left = left;
                self.hasher.update(bytes);
                true
            }
            None => false,
        }
    }

    /// None: a block that holds nothing is none.
    pub fn finish(self) -> Option<BlockHash> {
        (self.left < BLOCK_BYTES).then(|| BlockHash(self.hasher.finalize_non_root()))
    }
}

/// Blocks in, front to back; the digest of the whole out. Memory: some 64 hashes.
#[derive(Default)]
pub struct TreeHasher {
    /// Roots of whole subtrees, the largest first.
    stack: Vec<ChainingValue>,
    blocks: u64,
}

impl TreeHasher {
    /// The next block. All but the last one are full.
    pub fn push(&mut self, BlockHash(block): BlockHash) {
        // Merged only now, when it is clear that more follows: the last merge of all is another one.
        while self.stack.len() > self.blocks.count_ones() as usize {
            self.merge();
        }
        self.stack.push(block);
        self.blocks += 1;
    }

    fn merge(&mut self) {
        if let (Some(right), Some(left)) = (self.stack.pop(), self.stack.pop()) {
            self.stack.push(merge_subtrees_non_root(&left, &right, Mode::Hash));
        }
    }

    /// The digest; none of less than two blocks, which is plain BLAKE3 of the bytes.
    pub fn finish(mut self) -> Option<Digest> {
        while self.stack.len() > 2 {
            self.merge();
        }
        match self.stack.as_slice() {
            [left, right] => Some(merge_subtrees_root(left, right, Mode::Hash).into()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_make_the_digest_of_the_whole() {
        let block = BLOCK_BYTES as usize;
        for len in [block + 1, 2 * block - 1, 2 * block, 2 * block + 1, 3 * block, 4 * block, 7 * block + 1023] {
            let content: Vec<u8> = (0..len).map(|i| (i / 1000) as u8 ^ (i % 251) as u8).collect();
            let mut tree = TreeHasher::default();
            for (number, bytes) in (0..).zip(content.chunks(block)) {
                let mut hasher = BlockHasher::new(number);
                let (front, back) = bytes.split_at(bytes.len() / 3);
                assert!(hasher.update(front) && hasher.update(back));
                assert!(bytes.len() < block || !hasher.update(b"x"), "it is full");
                tree.push(hasher.finish().unwrap());
            }
            assert_eq!(tree.finish(), Some(Digest::of(&content)), "{len} bytes");
        }
        assert_eq!(BlockHasher::new(3).finish(), None);
        assert_eq!(TreeHasher::default().finish(), None);
    }
}
