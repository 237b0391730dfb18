//! Where a file is cut: `class u8 | read size u16 | pattern`, repeated and slowly changed up to 1 MiB. The chunks cover the
//! content, none is larger or smaller than its class allows, and how it was read does not matter.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbbackup::backup::chunker::{Chunker, Recipe, bounds, class_from_number};
use rbbackup::backup::digest::Digest;
use rbbackup_fuzz::take_u16;

fuzz_target!(|data: &[u8]| {
    let Some((class, rest)) = data.split_first() else { return };
    let (read, pattern) = take_u16(rest);
    let class = class_from_number(class % 4).expect("one of four");
    let content = content(pattern);
    let chunker = Chunker::new(class);
    let at_once = cut(&chunker, &content, content.len().max(1));
    assert_eq!(at_once, cut(&chunker, &content, read.max(256)));
    assert_eq!(at_once.iter().sum::<usize>(), content.len());
    let (least, most) = bounds(class);
    assert!(at_once.iter().all(|len| (1..=most).contains(len)));
    assert!(at_once.iter().rev().skip(1).all(|len| *len >= least));
    let recipe = Recipe { class, chunks: at_once.iter().map(|len| (Digest([0; 32]), *len as u32)).collect() };
    assert_eq!(Recipe::decode(&recipe.encode()), Ok(recipe));
});

/// Every repetition of the pattern is a little different, so that cuts do not fall at the least size only.
fn content(pattern: &[u8]) -> Vec<u8> {
    let times = (1 << 20) / pattern.len().max(1);
    let mut out = Vec::new();
    for n in 0..times.min(pattern.len() * 64) {
        out.extend(pattern.iter().map(|b| b.wrapping_add((n >> 3) as u8)));
    }
    out
}

fn cut(chunker: &Chunker, content: &[u8], read: usize) -> Vec<usize> {
    let (mut lens, mut start, mut end) = (Vec::new(), 0, 0);
    loop {
        end = (end + read).min(content.len());
        while let Some(len) = chunker.cut(&content[start..end], end == content.len()) {
            start += len;
            lens.push(len);
        }
        if end == content.len() {
            return lens;
        }
    }
}
