//! [`DigestFilter`]: a set of digests in few bytes, which now and then says yes where no is true, and never the other way.
//!
//! A Bloom filter in layers: each takes a number of digests at 24 bits, the next one twice as many. Digests are
//! as good as random already, so their own bytes are the hashes. About one digest in ten thousand that is not in the set
//! is said to be: for who asks what may be thrown away, that is a little that stays. Three bytes a digest, not forty; at
//! 128 MiB it grows no more and errs more often, still on the same side.

use super::digest::Digest;

/// Bits for each digest.
const BITS_EACH: u64 = 24;
/// Digests that the first layer takes.
const FIRST_COUNT: u64 = 64 * 1024;
/// All layers together are about this large at most.
const BYTES_MAX: u64 = 128 * 1024 * 1024;

struct Layer {
    words: Vec<u64>,
    room: u64,
}

impl Layer {
    fn new(count: u64) -> Self {
        Self { words: vec![0; (count * BITS_EACH).div_ceil(64) as usize], room: count }
    }

    fn bits(&self, digest: &Digest) -> [(usize, u64); 8] {
        let bits = self.words.len() as u64 * 64;
        let (words, _) = digest.0.as_chunks::<4>();
        let mut places = [(0, 0); 8];
        for (place, word) in places.iter_mut().zip(words) {
            // A number below 2^32, scaled to the bits there are (fewer than 2^32).
            let bit = (u64::from(u32::from_le_bytes(*word)) * bits) >> 32;
            *place = ((bit / 64) as usize, 1 << (bit % 64));
        }
        places
    }

    fn holds(&self, digest: &Digest) -> bool {
        self.bits(digest).iter().all(|(word, bit)| self.words.get(*word).is_some_and(|found| found & bit != 0))
    }

    fn insert(&mut self, digest: &Digest) {
        for (word, bit) in self.bits(digest) {
            if let Some(found) = self.words.get_mut(word) {
                *found |= bit;
            }
        }
        self.room = self.room.saturating_sub(1);
    }
}

/// See the module.
pub struct DigestFilter {
    layers: Vec<Layer>,
}

impl Default for DigestFilter {
    fn default() -> Self {
        Self { layers: vec![Layer::new(FIRST_COUNT)] }
    }
}

impl DigestFilter {
    /// Adds a digest.
    pub fn insert(&mut self, digest: &Digest) {
        if self.may_hold(digest) {
            return;
        }
        let bytes: u64 = self.layers.iter().map(|layer| layer.words.len() as u64 * 8).sum();
        let next = FIRST_COUNT << self.layers.len().min(32);
        if let Some(last) = self.layers.last_mut()
            && (last.room > 0 || bytes + next * BITS_EACH / 8 > BYTES_MAX)
        {
            last.insert(digest);
            return;
        }
        let mut layer = Layer::new(next);
        layer.insert(digest);
        self.layers.push(layer);
    }

    /// False: it was not added. True: it was, almost certainly.
    pub fn may_hold(&self, digest: &Digest) -> bool {
        self.layers.iter().rev().any(|layer| layer.holds(digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u64) -> Digest {
        Digest::of(&n.to_le_bytes())
    }

    #[test]
    fn what_was_added_is_found_and_hardly_anything_else() {
        let mut filter = DigestFilter::default();
        assert!(!filter.may_hold(&digest(0)));
        let count = FIRST_COUNT * 4;
        for n in 0..count {
            filter.insert(&digest(n));
        }
        assert!((0..count).all(|n| filter.may_hold(&digest(n))));
        assert_eq!(filter.layers.len(), 3, "1 + 2 + 4 times the first");
        let wrong = (count..count * 2).filter(|n| filter.may_hold(&digest(*n))).count();
        assert!(wrong < 80, "{wrong} of {count}");
        for n in 0..count {
            filter.insert(&digest(n));
        }
        assert_eq!(filter.layers.len(), 3, "nothing is added twice");
    }

    #[test]
    fn it_grows_no_further_than_its_limit_and_forgets_nothing() {
        let full = Layer { words: vec![0; (BYTES_MAX / 8) as usize], room: 0 };
        let mut filter = DigestFilter { layers: vec![full] };
        filter.insert(&digest(1));
        assert!(filter.layers.len() == 1 && filter.may_hold(&digest(1)) && !filter.may_hold(&digest(2)));
    }
}
