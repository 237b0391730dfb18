//! Where a large file is cut into chunks, and the [`Recipe`] that says how it was.
//!
//! Cut points come from the content (MinCDC, hash of 4 bytes, `mincdc =0.1.0`), so that a byte inserted at the head
//! moves one cut and not all. **They are format**: two versions that cut differently share no chunk. Hence the exact
//! pin of the crate, the sizes as constants here, and goldens of cut points in the tests.
//!
//! A file's class is fixed when it is first cut; [`class_for`] says which, [`class_after`] when it must change all the
//! same. On low-entropy content (zeros) every chunk has the least size, which is harmless.
//!
//! A recipe is `class u8 | (digest 32 | length u32 little endian)*`; how many follows from the length.

use mincdc::{MinCdcHash4, SliceChunker};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::bytes::Bytes;
use super::digest::Digest;
use super::entry::SizeClass;
use super::limits::{CHUNK_BYTES_MAX, FILE_CHUNKS_MAX, WHOLE_FILE_BYTES_MAX};

const GIB: u64 = 1024 * 1024 * 1024;
/// Files above are cut to 256 KiB.
const KIB64_BYTES_MAX: u64 = GIB;
/// Files above are cut to 1 MiB.
const KIB256_BYTES_MAX: u64 = 64 * GIB;
/// Bytes of one chunk in an encoded recipe.
const CHUNK_RECORD_LEN: usize = 32 + 4;

/// The class of a file of `size` bytes that is backed up for the first time.
pub fn class_for(size: u64) -> SizeClass {
    match size {
        _ if size < WHOLE_FILE_BYTES_MAX => SizeClass::Whole,
        _ if size <= KIB64_BYTES_MAX => SizeClass::Kib64,
        _ if size <= KIB256_BYTES_MAX => SizeClass::Kib256,
        _ => SizeClass::Mib1,
    }
}

/// The class of a file of `size` bytes that had class `before`: the same, so that its chunks are found again; but a
/// file that got small is whole, one that was whole and grew is cut, and none gets more chunks than are allowed.
pub fn class_after(before: Option<SizeClass>, size: u64) -> SizeClass {
    let fresh = class_for(size);
    match before {
        None | Some(SizeClass::Whole) => fresh,
        _ if fresh == SizeClass::Whole => fresh,
        Some(class) => {
            let mut class = class;
            while class != SizeClass::Mib1 && size / bounds(class).0 as u64 >= FILE_CHUNKS_MAX as u64 {
                class = if class == SizeClass::Kib64 { SizeClass::Kib256 } else { SizeClass::Mib1 };
            }
            class
        }
    }
}

/// Least and greatest chunk of a class (the last chunk of a file may be smaller). Whole files have no bounds.
pub fn bounds(class: SizeClass) -> (usize, usize) {
    const KIB: usize = 1024;
    match class {
        SizeClass::Whole => (1, usize::MAX),
        SizeClass::Kib64 => (32 * KIB, 96 * KIB),
        SizeClass::Kib256 => (128 * KIB, 384 * KIB),
        SizeClass::Mib1 => (512 * KIB, CHUNK_BYTES_MAX),
    }
}

/// Finds cut points in a stream that the caller reads as it likes.
///
/// ```
/// # use rbbackup::backup::{chunker::Chunker, entry::SizeClass};
/// let (chunker, content) = (Chunker::new(SizeClass::Kib64), vec![7u8; 200_000]);
/// let (mut buffer, mut lens) = (Vec::new(), Vec::new());
/// let mut reads = content.chunks(1000).peekable();
/// while let Some(read) = reads.next() {
///     buffer.extend_from_slice(read);
///     while let Some(len) = chunker.cut(&buffer, reads.peek().is_none()) {
///         lens.push(buffer.drain(..len).len());
///     }
/// }
/// assert_eq!(lens.iter().sum::<usize>(), content.len());
/// ```
#[derive(Clone, Debug)]
pub struct Chunker {
    class: SizeClass,
    bytes_min: usize,
    bytes_max: usize,
}

impl Chunker {
    /// For files of `class`.
    pub fn new(class: SizeClass) -> Self {
        let (bytes_min, bytes_max) = bounds(class);
        Self { class, bytes_min, bytes_max }
    }

    /// The class.
    pub fn class(&self) -> SizeClass {
        self.class
    }

    /// Bytes that [`Chunker::cut`] must see, unless the stream ends before; with [`SizeClass::Whole`] all of them.
    pub fn bytes_wanted(&self) -> usize {
        self.bytes_max
    }

    /// Length of the chunk that `buffer` begins with, where `buffer` is what follows the last cut, and `eof` says that
    /// the stream has nothing behind it. None: more bytes are wanted, or there is nothing left. The answer depends on
    /// the content alone, not on how it was read.
    pub fn cut(&self, buffer: &[u8], eof: bool) -> Option<usize> {
        if buffer.is_empty() || (buffer.len() < self.bytes_max && !eof) {
            return None;
        }
        if self.class == SizeClass::Whole {
            return Some(buffer.len());
        }
        let seen = buffer.get(..self.bytes_max).unwrap_or(buffer);
        SliceChunker::new(seen, self.bytes_min, self.bytes_max, MinCdcHash4::new()).next().map(|chunk| chunk.len())
    }
}

/// Why bytes are not a recipe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a recipe: {what}")]
pub struct RecipeError {
    /// What is wrong.
    what: String,
}

/// How a file was cut: its chunks in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// The class by which it was cut.
    pub class: SizeClass,
    /// Digest and bytes of each chunk.
    pub chunks: Vec<(Digest, u32)>,
}

impl Recipe {
    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.chunks.iter().map(|(_, len)| u64::from(*len)).sum()
    }

    /// Offset, digest and length of each chunk.
    pub fn places(&self) -> impl Iterator<Item = (u64, Digest, u32)> {
        self.chunks.iter().scan(0u64, |end, (digest, len)| {
            let offset = *end;
            *end += u64::from(*len);
            Some((offset, *digest, *len))
        })
    }

    /// The form in which it is stored.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + self.chunks.len() * CHUNK_RECORD_LEN);
        out.push(class_number(self.class));
        for (digest, len) in &self.chunks {
            out.extend_from_slice(&digest.0);
            out.extend_from_slice(&len.to_le_bytes());
        }
        out
    }

    /// Back from [`Recipe::encode`].
    ///
    /// # Errors
    /// [`RecipeError`] when the bytes are cut short, or a chunk has a length that its class cannot have.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecipeError> {
        let fail = |what: &str| RecipeError { what: what.to_owned() };
        let (class, rest) = bytes.split_first().ok_or_else(|| fail("no bytes"))?;
        let class = class_from_number(*class).ok_or_else(|| fail("unknown class"))?;
        let (records, trailing) = rest.as_chunks::<CHUNK_RECORD_LEN>();
        let count_max = if class == SizeClass::Whole { 1 } else { FILE_CHUNKS_MAX };
        if !trailing.is_empty() || records.len() > count_max {
            return Err(fail("wrong length"));
        }
        let (bytes_min, bytes_max) = bounds(class);
        let mut chunks = Vec::with_capacity(records.len());
        for (i, record) in records.iter().enumerate() {
            let (digest, len) = record.split_first_chunk::<32>().ok_or_else(|| fail("wrong length"))?;
            let len = u32::from_le_bytes(len.try_into().map_err(|_| fail("wrong length"))?);
            let least = if i + 1 == records.len() { 1 } else { bytes_min };
            if !(least..=bytes_max).contains(&(len as usize)) {
                return Err(fail("a chunk of a length that its class cannot have"));
            }
            chunks.push((Digest(*digest), len));
        }
        Ok(Self { class, chunks })
    }
}

impl Serialize for Recipe {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.encode())
    }
}

impl<'de> Deserialize<'de> for Recipe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Bytes::deserialize(deserializer)?;
        Self::decode(bytes.as_slice()).map_err(serde::de::Error::custom)
    }
}

/// The number of a class in recipes and on the wire.
pub fn class_number(class: SizeClass) -> u8 {
    match class {
        SizeClass::Whole => 0,
        SizeClass::Kib64 => 1,
        SizeClass::Kib256 => 2,
        SizeClass::Mib1 => 3,
    }
}

/// Back from [`class_number`].
pub fn class_from_number(number: u8) -> Option<SizeClass> {
    match number {
        0 => Some(SizeClass::Whole),
        1 => Some(SizeClass::Kib64),
        2 => Some(SizeClass::Kib256),
        3 => Some(SizeClass::Mib1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLASSES: [SizeClass; 3] = [SizeClass::Kib64, SizeClass::Kib256, SizeClass::Mib1];

    /// The same bytes for ever: the goldens depend on it.
    fn content(len: usize, seed: u64) -> Vec<u8> {
        let mut out = vec![0; len];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
        out
    }

    /// Cuts `content` as it comes in pieces of the given sizes, over and over.
    fn cut_all(class: SizeClass, content: &[u8], reads: &[usize]) -> Vec<usize> {
        let chunker = Chunker::new(class);
        let (mut lens, mut start, mut end) = (Vec::new(), 0, 0);
        for read in reads.iter().cycle() {
            end = (end + read).min(content.len());
            while let Some(len) = chunker.cut(&content[start..end], end == content.len()) {
                start += len;
                lens.push(len);
            }
            if end == content.len() {
                return lens;
            }
        }
        lens
    }

    #[test]
    fn cut_points_are_pinned() {
        let goldens = include_str!("../../tests/goldens/v1/chunker/cut_points.txt");
        let mut found = String::new();
        for class in CLASSES {
            let lens = cut_all(class, &content(4 * 1024 * 1024, 1), &[1 << 20]);
            found.push_str(&format!("{class:?} {lens:?}\n"));
        }
        assert_eq!(found, goldens);
    }

    #[test]
    fn one_byte_at_the_head_changes_few_chunks() {
        let before = content(8 * 1024 * 1024, 2);
        let after = [&[9], before.as_slice()].concat();
        let tails = |content: &[u8]| {
            let mut left = content.len();
            let cuts = cut_all(SizeClass::Kib64, content, &[1 << 20]);
            cuts.into_iter().map(|len| (left, left -= len).0).collect::<Vec<_>>()
        };
        let (before, after) = (tails(&before), tails(&after));
        let moved = after.iter().filter(|cut| !before.contains(cut)).count();
        assert!(moved < 12, "{moved} of {} cuts moved", after.len());
    }

    #[test]
    fn the_class_stays_unless_it_must_change() {
        assert_eq!(class_for(WHOLE_FILE_BYTES_MAX - 1), SizeClass::Whole);
        assert_eq!(class_for(WHOLE_FILE_BYTES_MAX), SizeClass::Kib64);
        assert_eq!(class_for(GIB), SizeClass::Kib64);
        assert_eq!(class_for(GIB + 1), SizeClass::Kib256);
        assert_eq!(class_for(64 * GIB + 1), SizeClass::Mib1);
        assert_eq!(class_after(Some(SizeClass::Kib64), 5 * GIB), SizeClass::Kib64);
        assert_eq!(class_after(Some(SizeClass::Mib1), GIB), SizeClass::Mib1);
        assert_eq!(class_after(Some(SizeClass::Whole), 5 * GIB), SizeClass::Kib256);
        assert_eq!(class_after(Some(SizeClass::Kib256), 10), SizeClass::Whole);
        assert_eq!(class_after(Some(SizeClass::Kib64), 1024 * GIB), SizeClass::Kib256);
        assert_eq!(class_after(None, 2 * GIB), SizeClass::Kib256);
    }

    #[test]
    fn a_recipe_that_cannot_be_is_refused() {
        let digest = Digest::of(b"x");
        let encode =
            |class, lens: &[u32]| Recipe { class, chunks: lens.iter().map(|len| (digest, *len)).collect() }.encode();
        let good = encode(SizeClass::Kib64, &[40_000, 98_304, 1]);
        assert_eq!(Recipe::decode(&good).unwrap().size(), 138_305);
        let places: Vec<u64> = Recipe::decode(&good).unwrap().places().map(|(offset, ..)| offset).collect();
        assert_eq!(places, [0, 40_000, 138_304]);
        for cut in (1..good.len()).filter(|cut| (cut - 1) % CHUNK_RECORD_LEN != 0) {
            assert!(Recipe::decode(&good[..cut]).is_err());
        }
        for bad in [&[98_305][..], &[1, 40_000], &[0], &[40_000, 0]] {
            assert!(Recipe::decode(&encode(SizeClass::Kib64, bad)).is_err(), "{bad:?}");
        }
        assert!(Recipe::decode(&encode(SizeClass::Whole, &[5, 5])).is_err());
        assert!(Recipe::decode(&[9]).is_err());
        assert!(Recipe::decode(&[]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn chunks_cover_the_input_however_it_is_read(
            len in 0usize..3_000_000,
            seed in any::<u64>(),
            zeros in any::<bool>(),
            class in 0usize..3,
            reads in proptest::collection::vec(1usize..400_000, 1..5),
        ) {
            let mut content = content(len, seed);
            if zeros {
                content[len / 3..].fill(0);
            }
            let class = CLASSES[class];
            let lens = cut_all(class, &content, &reads);
            prop_assert_eq!(lens.iter().sum::<usize>(), len);
            let (least, most) = bounds(class);
            prop_assert!(lens.iter().all(|len| (1..=most).contains(len)));
            prop_assert!(lens.iter().rev().skip(1).all(|len| *len >= least));
            let slices = SliceChunker::new(&content, least, most, MinCdcHash4::new());
            prop_assert_eq!(slices.map(|chunk| chunk.len()).collect::<Vec<_>>(), lens.clone());
            let chunks = lens.iter().map(|len| (Digest::of(&len.to_le_bytes()), *len as u32)).collect();
            let recipe = Recipe { class, chunks };
            prop_assert_eq!(Recipe::decode(&recipe.encode()).unwrap(), recipe);
        }

        #[test]
        fn arbitrary_bytes_are_a_recipe_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(recipe) = Recipe::decode(&bytes) {
                prop_assert_eq!(recipe.encode(), bytes);
            }
        }
    }
}
