//! What changed inside a piece of content, found by rolling hashes as rsync does: who has an older piece (the *basis*)
//! tells the hashes of its blocks ([`Sums`]), who has the new one tells which blocks to copy and what is new between them
//! ([`Delta`]), and the first puts it together ([`apply`]).
//!
//! A hash of a block is 40 bits of a rolling polynomial. That two blocks share it by chance is not excluded, only rare (once
//! in some hundred thousand files): who puts together verifies the whole by its digest, and asks for it again. No bytes can
//! do harm otherwise: what they may cost is bounded by the size that is expected.
//!
//! Pure computation on bytes in memory, for pieces of at most [`DELTA_BYTES_MAX`].

use std::collections::HashMap;

use super::limits::DELTA_BYTES_MAX;

/// Smaller content is sent as it is: its sums would be as long.
pub const DELTA_BYTES_MIN: usize = 1024;
/// Bytes of a block's hash.
const SUM_BYTES: usize = 5;
/// Shortest block.
const BLOCK_BYTES_MIN: usize = 256;
/// Longest that a peer may choose.
const BLOCK_BYTES_MAX: usize = 64 * 1024;
/// Odd, and with no pattern.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
/// Of the table that tells most positions apart from every block.
const FILTER_BITS: u32 = 16;

/// The hashes of a basis' blocks; the last block may be shorter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    /// Bytes of a block.
    pub block: u32,
    /// Bytes of the basis.
    pub len: u32,
    /// 5 bytes a block.
    pub sums: Vec<u8>,
}

/// New content, told by a basis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Over and over: how many literal bytes, then how many blocks, then which is the first, counted from the one after the
    /// last copied (zigzag). LEB128 each; without the last two where the content ends after literal bytes.
    pub steps: Vec<u8>,
    /// The literal bytes, one behind the other.
    pub literals: Vec<u8>,
}

/// A delta that cannot be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a delta that does not fit")]
pub struct Misfit;

/// The block size for a basis of so many bytes: between what sums cost and what a changed block costs.
fn block_bytes(len: usize) -> usize {
    (len.isqrt() * 2).clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX)
}

impl Sums {
    /// Of a basis of at most [`DELTA_BYTES_MAX`] bytes.
    pub fn of(basis: &[u8]) -> Self {
        let block = block_bytes(basis.len());
        let sums = basis.chunks(block).flat_map(|block| to_bytes(sum(Rolling::over(block).value))).collect();
        Self { block: block as u32, len: basis.len() as u32, sums }
    }

    /// What a peer told, if it can be.
    ///
    /// # Errors
    /// [`Misfit`].
    pub fn checked(block: u32, len: u32, sums: Vec<u8>) -> Result<Self, Misfit> {
        let blocks = Blocks::checked(block, len)?;
        if sums.len() == blocks.count() * SUM_BYTES { Ok(Self { block, len, sums }) } else { Err(Misfit) }
    }
}

/// How a basis is cut.
#[derive(Clone, Copy)]
struct Blocks {
    bytes: usize,
    len: usize,
}

impl Blocks {
    fn checked(block: u32, len: u32) -> Result<Self, Misfit> {
        let (bytes, len) = (block as usize, len as usize);
        let fits = (BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&bytes) && len <= DELTA_BYTES_MAX;
        if fits { Ok(Self { bytes, len }) } else { Err(Misfit) }
    }

    fn count(self) -> usize {
        self.len.div_ceil(self.bytes)
    }

    /// Bytes of the last block, if it is shorter.
    fn tail(self) -> usize {
        self.len % self.bytes
    }
}

/// The hash of a window that moves on byte by byte: a polynomial modulo 2⁶⁴, of which the high bits count.
#[derive(Clone, Copy)]
struct Rolling {
    value: u64,
    /// FACTOR to the power of the window's length.
    last: u64,
}

impl Rolling {
    fn over(window: &[u8]) -> Self {
        let add = |value: u64, byte: &u8| value.wrapping_mul(FACTOR).wrapping_add(u64::from(*byte) + 1);
        let last = FACTOR.wrapping_pow(window.len() as u32);
        Self { value: window.iter().fold(0, add), last }
    }

    fn roll(&mut self, out: u8, into: u8) {
        let gone = (u64::from(out) + 1).wrapping_mul(self.last);
        self.value = self.value.wrapping_mul(FACTOR).wrapping_add(u64::from(into) + 1).wrapping_sub(gone);
    }
}

/// 40 bits of a rolling value.
fn sum(value: u64) -> u64 {
    (value ^ (value >> 29)).wrapping_mul(FACTOR) >> 24
}

fn to_bytes(sum: u64) -> [u8; SUM_BYTES] {
    let [a, b, c, d, e, ..] = sum.to_le_bytes();
    [a, b, c, d, e]
}

fn from_bytes(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// Which block has a hash.
struct Table {
    blocks: Vec<u64>,
    first: HashMap<u64, u32>,
    filter: Vec<u64>,
}

impl Table {
    /// Of the blocks of full length.
    fn new(sums: &Sums, full: usize) -> Self {
        let blocks: Vec<u64> = sums.sums.chunks_exact(SUM_BYTES).map(from_bytes).collect();
        let (mut first, mut filter) = (HashMap::with_capacity(full), vec![0; 1 << (FILTER_BITS - 6)]);
        for (number, sum) in (0..).zip(blocks.iter().take(full)) {
            first.entry(*sum).or_insert(number);
            let (word, bit) = place(*sum);
            if let Some(word) = filter.get_mut(word) {
                *word |= bit;
            }
        }
        Self { blocks, first, filter }
    }

    /// A block with this hash; the one after the last copied before all others.
    fn find(&self, sum: u64, next: usize, full: usize) -> Option<usize> {
        let (word, bit) = place(sum);
        if self.filter.get(word).is_none_or(|word| word & bit == 0) {
            return None;
        }
        if next < full && self.blocks.get(next) == Some(&sum) {
            return Some(next);
        }
        self.first.get(&sum).map(|number| *number as usize)
    }
}

fn place(sum: u64) -> (usize, u64) {
    let low = sum & ((1 << FILTER_BITS) - 1);
    ((low >> 6) as usize, 1 << (low & 63))
}

/// Tells `new` by the basis whose sums these are.
pub fn delta(new: &[u8], sums: &Sums) -> Delta {
    let blocks = Blocks { bytes: sums.block as usize, len: sums.len as usize };
    let full = blocks.count() - usize::from(blocks.tail() > 0);
    let table = Table::new(sums, full);
    let mut out = Writer::default();
    let (mut at, mut literal_from) = (0, 0);
    while let Some(window) = new.get(at..at + blocks.bytes) {
        let mut rolling = Rolling::over(window);
        let found = loop {
            if let Some(number) = table.find(sum(rolling.value), out.next, full) {
                break Some(number);
            }
            let (Some(gone), Some(came)) = (new.get(at), new.get(at + blocks.bytes)) else { break None };
            rolling.roll(*gone, *came);
            at += 1;
        };
        let Some(number) = found else { break };
        out.literals(new.get(literal_from..at).unwrap_or_default());
        out.copy(number);
        at += blocks.bytes;
        literal_from = at;
    }
    let rest = new.get(literal_from..).unwrap_or_default();
    // The basis' last block, where the new content ends as the basis does.
    let ends = rest.len().checked_sub(blocks.tail()).and_then(|from| rest.split_at_checked(from));
    let (literals, tail) = ends.filter(|(_, tail)| !tail.is_empty()).unwrap_or((rest, &[]));
    if !tail.is_empty() && table.blocks.get(full) == Some(&sum(Rolling::over(tail).value)) {
        out.literals(literals);
        out.copy(full);
    } else {
        out.literals(rest);
    }
    out.finish()
}

/// Writes a delta.
#[derive(Default)]
struct Writer {
    delta: Delta,
    /// Literal bytes before the run.
    literals: usize,
    /// Blocks that follow one another.
    run: usize,
    run_first: usize,
    /// The block after the last copied one.
    next: usize,
    /// The same at the last run that is written.
    written_next: usize,
}

impl Writer {
    fn literals(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.end_run();
            self.literals += bytes.len();
            self.delta.literals.extend_from_slice(bytes);
        }
    }

    fn copy(&mut self, number: usize) {
        if self.run == 0 || number != self.next {
            self.end_run();
            self.run_first = number;
        }
        self.run += 1;
        self.next = number + 1;
    }

    fn end_run(&mut self) {
        if self.run == 0 {
            return;
        }
        self.put(self.literals as u64);
        self.put(self.run as u64);
        let gap = self.run_first as i64 - self.written_next as i64;
        self.put(((gap << 1) ^ (gap >> 63)).cast_unsigned());
        self.written_next = self.run_first + self.run;
        (self.run, self.literals) = (0, 0);
    }

    fn put(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.delta.steps.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.delta.steps.push(value as u8);
    }

    fn finish(mut self) -> Delta {
        self.end_run();
        if self.literals > 0 {
            self.put(self.literals as u64);
        }
        self.delta
    }
}

/// Reads what [`Writer::put`] wrote.
fn number(steps: &mut &[u8]) -> Result<usize, Misfit> {
    let mut value = 0_u64;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = steps.split_first().ok_or(Misfit)?;
        *steps = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return usize::try_from(value).map_err(|_| Misfit);
        }
    }
    Err(Misfit)
}

/// How many literal bytes a delta of these steps has.
///
/// # Errors
/// [`Misfit`].
pub fn literal_bytes(mut steps: &[u8]) -> Result<usize, Misfit> {
    let mut sum = 0_usize;
    while !steps.is_empty() {
        sum = sum.saturating_add(number(&mut steps)?);
        if !steps.is_empty() {
            number(&mut steps)?;
            number(&mut steps)?;
        }
    }
    Ok(sum)
}

/// Appends to `new` the content of `size` bytes that a delta tells. `block` is what [`Sums::block`] was.
///
/// # Errors
/// [`Misfit`]; `new` holds a part of it then.
pub fn apply(
    basis: &[u8],
    block: u32,
    mut steps: &[u8],
    literals: &[u8],
    size: usize,
    new: &mut Vec<u8>,
) -> Result<(), Misfit> {
    let blocks = Blocks::checked(block, u32::try_from(basis.len()).map_err(|_| Misfit)?)?;
    let (end, mut rest, mut next) = (new.len() + size, literals, 0_usize);
    while !steps.is_empty() {
        let (now, after) = rest.split_at_checked(number(&mut steps)?).ok_or(Misfit)?;
        rest = after;
        let copied = if steps.is_empty() {
            &[][..]
        } else {
            let (run, gap) = (number(&mut steps)?, number(&mut steps)?);
            let gap = (gap >> 1) as isize ^ -((gap & 1) as isize);
            let first = next.checked_add_signed(gap).ok_or(Misfit)?;
            next = first.checked_add(run).filter(|next| *next <= blocks.count()).ok_or(Misfit)?;
            basis.get(first * blocks.bytes..(next * blocks.bytes).min(basis.len())).ok_or(Misfit)?
        };
        if end - new.len() < now.len() + copied.len() {
            return Err(Misfit);
        }
        new.extend_from_slice(now);
        new.extend_from_slice(copied);
    }
    if new.len() == end && rest.is_empty() { Ok(()) } else { Err(Misfit) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn noise(len: usize, seed: u32) -> Vec<u8> {
        let mut state = seed.wrapping_mul(2_654_435_761) | 1;
        let mut byte = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 16) as u8
        };
        (0..len).map(|_| byte()).collect()
    }

    /// Puts `new` together from `old`; how many literal bytes that takes.
    fn literals(old: &[u8], new: &[u8]) -> usize {
        let sums = Sums::of(old);
        assert_eq!(Sums::checked(sums.block, sums.len, sums.sums.clone()).as_ref(), Ok(&sums));
        let told = delta(new, &sums);
        let mut all = b"before".to_vec();
        let used = apply(old, sums.block, &told.steps, &told.literals, new.len(), &mut all);
        assert_eq!((used, literal_bytes(&told.steps)), (Ok(()), Ok(told.literals.len())));
        assert!(all == [b"before", new].concat());
        told.literals.len()
    }

    #[test]
    fn what_did_not_change_is_copied() {
        let old = noise(40_000, 1);
        assert_eq!(literals(&old, &old), 0);
        assert_eq!(delta(&old, &Sums::of(&old)).steps.len(), 3, "all blocks are one run");
        let block = Sums::of(&old).block as usize;
        // A byte inserted, one changed, some removed, some at the ends: a block each, and what is new.
        let inserted = [&old[..20_001], b"x", &old[20_001..]].concat();
        assert!(literals(&old, &inserted) <= block + 1);
        let mut changed = old.clone();
        changed[777] ^= 1;
        assert!(literals(&old, &changed) <= block);
        assert!(literals(&old, &[&old[..5_000], &old[9_000..]].concat()) <= 2 * block);
        assert_eq!(literals(&old, &[&b"head"[..], &old[..]].concat()), 4);
        assert!(literals(&old, &[&old[..], &b"tail"[..]].concat()) <= block + 4);
        // Moved about.
        assert!(literals(&old, &[&old[20_000..], &old[..20_000]].concat()) <= 3 * block);
    }

    #[test]
    fn what_is_new_and_what_is_alike_throughout_come_out_too() {
        assert_eq!(literals(&noise(9_000, 1), &noise(9_000, 2)), 9_000);
        assert_eq!(literals(b"", b""), 0);
        assert_eq!(literals(b"", b"new"), 3);
        assert_eq!(literals(b"old", b""), 0);
        assert!(literals(&[0; 50_000], &[0; 70_000]) < 1_000);
    }

    #[test]
    fn what_a_peer_tells_wrongly_is_refused() {
        for (block, len, sums) in [
            (255, 1000, 4 * SUM_BYTES),
            (65_537, 65_537, SUM_BYTES),
            (256, 1000, 3 * SUM_BYTES),
            (256, 1024, 5 * SUM_BYTES),
            (256, DELTA_BYTES_MAX as u32 + 1, 16_385 * SUM_BYTES),
            (0, 0, 0),
        ] {
            assert_eq!(Sums::checked(block, len, vec![0; sums]), Err(Misfit), "{block} {len} {sums}");
        }
        let old = noise(1000, 1);
        let apply = |steps: &[u8], size| apply(&old, 256, steps, b"12345", size, &mut Vec::new());
        assert_eq!(apply(&[5, 4, 0], 1005), Ok(()));
        assert_eq!(apply(&[4, 1, 6, 1], 237), Ok(()), "the last block is shorter");
        for (steps, size) in [
            (&[6, 1, 0][..], 262), // more literal bytes than there are
            (&[4, 1, 0], 260),     // fewer
            (&[5, 5, 0], 1261),    // more blocks than there are
            (&[0, 1, 8], 256),     // beyond the last
            (&[0, 1, 1], 256),     // before the first
            (&[5, 4, 0], 1004),    // longer than said
            (&[5, 4, 0], 1006),    // shorter than said
            (&[5, 4], 1005),       // cut
            (&[0x80], 0),          // cut in a number
            (&[255; 12], 5),       // no number
            (&[0, 255, 255, 255, 255, 15, 1], 0),
        ] {
            assert_eq!(apply(steps, size), Err(Misfit), "{steps:?}");
        }
    }

    proptest! {
        #[test]
        fn any_edit_comes_out(
            len in 0..30_000_usize,
            edits in prop::collection::vec((0..30_000_usize, 0..2_000_usize, 0..2_000_usize), 0..6),
        ) {
            let old = noise(len, 7);
            let mut new = old.clone();
            for (i, (at, gone, came)) in edits.iter().enumerate() {
                let at = (*at).min(new.len());
                let end = (at + gone).min(new.len());
                new.splice(at..end, noise(*came, 100 + i as u32));
            }
            literals(&old, &new);
        }

        #[test]
        fn no_bytes_do_harm(steps: Vec<u8>, literals: Vec<u8>, size in 0..5_000_usize, block in 0..2_000_u32) {
            let mut new = Vec::new();
            let used = apply(&noise(3_000, 1), block, &steps, &literals, size, &mut new);
            prop_assert!(new.len() <= size);
            prop_assert!(used.is_err() || new.len() == size);
        }
    }
}
