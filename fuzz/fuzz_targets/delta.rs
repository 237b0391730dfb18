//! What changed inside a piece of content: `which u8 | a | b`. Even: `b` told by the sums of `a` comes out as it was. Odd:
//! `a` is a peer's delta, `block u16 | size u16 | steps`, and `b` its literal bytes: no more comes out than was said.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbbackup::backup::delta::{Sums, apply, delta, literal_bytes};
use rbbackup_fuzz::{take_piece, take_u16};

fuzz_target!(|data: &[u8]| {
    let Some((which, rest)) = data.split_first() else { return };
    let (a, b) = take_piece(rest);
    let mut out = b"before".to_vec();
    if which % 2 == 0 {
        let sums = Sums::of(a);
        assert_eq!(Sums::checked(sums.block, sums.len, sums.sums.clone()).as_ref(), Ok(&sums));
        let told = delta(b, &sums);
        assert_eq!(literal_bytes(&told.steps), Ok(told.literals.len()));
        assert_eq!(apply(a, sums.block, &told.steps, &told.literals, b.len(), &mut out), Ok(()));
        assert_eq!(out[6..], *b);
    } else {
        let (block, rest) = take_u16(a);
        let (size, steps) = take_u16(rest);
        let basis: Vec<u8> = (0..3000_u32).map(|i| ((i * i) >> 5) as u8).collect();
        let done = apply(&basis, block as u32, steps, b, size, &mut out);
        assert!(out.len() <= 6 + size && out.starts_with(b"before"));
        if done.is_ok() {
            assert_eq!((out.len(), literal_bytes(steps)), (6 + size, Ok(b.len())));
        }
    }
});
