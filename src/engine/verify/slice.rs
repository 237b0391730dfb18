//! [`Slice`]: which part of the content a verification looks at.

use crate::backup::digest::Digest;
use crate::store::vault::PackId;
use crate::store::verified::VerifiedState;

/// Part `k` of `n`, or all. What belongs to a part depends on its digest alone, so that n runs cover everything, whatever
/// is added meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Slice {
    /// From 0.
    part: u32,
    /// 1: all of it.
    parts: u32,
}

impl Slice {
    /// The part after the one that was looked at last; parts of another size begin at the first.
    pub(super) fn after(state: Option<&VerifiedState>, parts: u32) -> Self {
        let parts = parts.max(1);
        let last = state.filter(|state| state.parts == parts).map_or(0, |state| state.part);
        Self { part: last % parts, parts }
    }

    pub(super) fn is_all(self) -> bool {
        self.parts == 1
    }

    /// For people: from 1; 0: all.
    pub(super) fn number(self) -> u32 {
        if self.is_all() { 0 } else { self.part + 1 }
    }

    pub(super) fn parts(self) -> u32 {
        self.parts
    }

    pub(super) fn has(self, digest: &Digest) -> bool {
        self.takes(digest.0.first_chunk())
    }

    pub(super) fn has_pack(self, pack: PackId) -> bool {
        self.takes(pack.0.first_chunk())
    }

    fn takes(self, first: Option<&[u8; 4]>) -> bool {
        first.is_some_and(|bytes| u32::from_le_bytes(*bytes) % self.parts == self.part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_runs_as_parts_cover_everything_once() {
        let digests: Vec<Digest> = (0..500_u32).map(|i| Digest::of(&i.to_le_bytes())).collect();
        let (mut seen, mut state) = (vec![0; digests.len()], None);
        for run in 1..=30 {
            let slice = Slice::after(state.as_ref(), 30);
            assert_eq!(slice.number(), run);
            for (digest, seen) in digests.iter().zip(&mut seen) {
                *seen += u32::from(slice.has(digest));
            }
            state = Some(VerifiedState::new(state.as_ref(), slice.number(), slice.parts(), 0, 0));
        }
        assert!(seen.iter().all(|times| *times == 1));
        assert_eq!(Slice::after(state.as_ref(), 30).number(), 1, "and begins again");
        assert_eq!(Slice::after(state.as_ref(), 7).number(), 1);
        let all = Slice::after(state.as_ref(), 0);
        assert!(all.is_all() && all.number() == 0 && digests.iter().all(|digest| all.has(digest)));
    }
}
