//! [`Source`]: a Rust file, read just well enough to judge it: comments and literals blanked, test items known, paths listed.
//!
//! Not a parser: it knows tokens, matching brackets, `use` trees and attributes, which is all that the rules of
//! `tests/tidy.rs` ask for. Blanking keeps every byte's position and every line break, so that a finding can name its line.

use std::ops::Range;

/// One file.
pub struct Source {
    /// As it stands on disk.
    pub text: String,
    /// The same length; comments, strings and character literals are spaces.
    pub code: String,
    /// Items that exist only in test builds, attributes included, as byte ranges.
    pub tests: Vec<Range<usize>>,
    /// Bodies of inline modules (`mod name { … }`).
    inline_mods: Vec<Range<usize>>,
}

/// A path as the code names it, `use` trees spelled out: `["crate", "backup", "bytes"]`.
pub struct Named {
    /// Its components.
    pub path: Vec<String>,
    /// Where it stands.
    pub at: usize,
}

impl Source {
    /// Takes a file apart.
    pub fn new(text: &str) -> Self {
        let code = blank(text);
        let tests = test_items(&code);
        let inline_mods = inline_mods(&code);
        Self { text: text.to_owned(), code, tests, inline_mods }
    }

    /// 1-based line of a byte position.
    pub fn line(&self, at: usize) -> usize {
        self.text.bytes().take(at).filter(|b| *b == b'\n').count() + 1
    }

    /// Lines from the first to the last byte of `range`.
    pub fn lines(&self, range: &Range<usize>) -> usize {
        self.line(range.end.saturating_sub(1)) - self.line(range.start) + 1
    }

    /// Whether this position exists only in test builds.
    pub fn is_test(&self, at: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&at))
    }

    /// How many inline modules surround this position.
    pub fn mod_depth(&self, at: usize) -> usize {
        self.inline_mods.iter().filter(|range| range.contains(&at)).count()
    }

    /// Names of the modules that are files of their own and exist only in test builds (`#[cfg(test)] mod tests;`).
    pub fn test_mod_files(&self) -> Vec<String> {
        let of = |range: &Range<usize>| {
            let item = &self.code[item_start(&self.code, range.start)..range.end];
            let (visibility, name) = item.split_once("mod ")?;
            let is_visibility = visibility.trim().is_empty() || visibility.starts_with("pub");
            Some(name.trim().strip_suffix(';').filter(|_| is_visibility)?.trim().to_owned())
        };
        self.tests.iter().filter_map(of).collect()
    }

    /// Every `fn` with a body: its name and where it stands, up to the closing brace.
    pub fn functions(&self) -> Vec<(String, Range<usize>)> {
        let mut found = Vec::new();
        for (word, at) in words(&self.code) {
            let rest = &self.code[at + word.len()..];
            let name = leading_word(rest.trim_start());
            if word != "fn" || name.is_empty() {
                continue;
            }
            let end = item_end(&self.code, at);
            if self.code.as_bytes().get(end - 1) == Some(&b'}') {
                found.push((name.to_owned(), at..end));
            }
        }
        found
    }

    /// Every path that the code names, in `use` declarations and in passing.
    pub fn paths(&self) -> Vec<Named> {
        let (mut found, mut skip_to) = (Vec::new(), 0);
        for (word, at) in words(&self.code) {
            if at < skip_to {
                continue;
            }
            // `use<'a>` in a bound is another thing.
            if word == "use" && !self.code[at + 3..].trim_start().starts_with('<') {
                let end = self.code[at..].find(';').map_or(self.code.len(), |n| at + n);
                use_tree(&self.code[at + 3..end], at + 3, &[], &mut found);
                skip_to = end;
            } else {
                let path = path_at(&self.code[at..]);
                skip_to = at + path.len();
                let parts = path.split("::").map(|part| part.trim().to_owned()).collect();
                found.push(Named { path: parts, at });
            }
        }
        found
    }
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

fn leading_word(text: &str) -> &str {
    &text[..text.bytes().position(|b| !is_word(b)).unwrap_or(text.len())]
}

/// All words with their positions.
fn words(code: &str) -> Vec<(&str, usize)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < code.len() {
        if is_word(code.as_bytes()[at]) {
            let word = leading_word(&code[at..]);
            found.push((word, at));
            at += word.len();
        } else {
            at += 1;
        }
    }
    found
}

/// The longest `a::b::c` at the start of `code`.
fn path_at(code: &str) -> &str {
    let mut end = leading_word(code).len();
    loop {
        let Some(next) = code[end..].strip_prefix("::") else { return &code[..end] };
        let word = leading_word(next);
        if word.is_empty() {
            return &code[..end];
        }
        end += 2 + word.len();
    }
}

/// Spells out one `use` tree: `a::{b, c::*}` gives `a::b` and `a::c`.
fn use_tree(tree: &str, at: usize, prefix: &[String], found: &mut Vec<Named>) {
    let at = at + (tree.len() - tree.trim_start().len());
    let tree = tree.trim();
    let (head, group) = match tree.find('{') {
        Some(n) => (&tree[..n], Some(n)),
        None => (tree.split(" as ").next().unwrap_or(tree), None),
    };
    let parts = head.split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned);
    let path: Vec<String> = prefix.iter().cloned().chain(parts).collect();
    let Some(open) = group else {
        if !path.is_empty() {
            found.push(Named { path, at });
        }
        return;
    };
    let (mut depth, mut from) = (0_usize, open + 1);
    for (i, b) in tree.bytes().enumerate().skip(open) {
        match b {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if (b == b',' && depth == 1) || (b == b'}' && depth == 0) {
            use_tree(&tree[from..i], at + from, &path, found);
            from = i + 1;
        }
    }
}

/// Words that items and statements begin with; anything else behind an attribute is a field, a variant or an arm.
const ITEM_WORDS: &[&str] = &[
    "pub",
    "fn",
    "mod",
    "use",
    "struct",
    "enum",
    "impl",
    "trait",
    "type",
    "const",
    "static",
    "macro_rules",
    "unsafe",
    "async",
    "extern",
    "let",
    "thread_local",
    "proptest",
];

/// Position after the item (or statement) that begins at `at`: after its `;`, or after the brace that closes its body;
/// for a field, variant or arm after its comma.
fn item_end(code: &str, at: usize) -> usize {
    let (mut inner, mut braces) = (0_i32, 0_i32);
    let is_item = ITEM_WORDS.contains(&leading_word(&code[at..]));
    for (i, b) in code.bytes().enumerate().skip(at) {
        match b {
            b'(' | b'[' => inner += 1,
            b')' | b']' => inner -= 1,
            b'{' => braces += 1,
            b'}' => {
                braces -= 1;
                if braces < 0 {
                    return i; // what surrounds it ends
                }
                if braces == 0 && inner == 0 {
                    return i + 1;
                }
            }
            b';' if inner == 0 && braces == 0 => return i + 1,
            b',' if inner == 0 && braces == 0 && !is_item => return i + 1,
            _ => {}
        }
    }
    code.len()
}

/// Position after the attribute `#[…]` that begins at `at`.
fn attribute_end(code: &str, at: usize) -> usize {
    let mut depth = 0_i32;
    for (i, b) in code.bytes().enumerate().skip(at) {
        match b {
            b'[' => depth += 1,
            b']' => {
                depth -= 1;
                if depth == 0 {
                    return i + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

/// Where the item itself begins behind the attributes that begin at `at`.
fn item_start(code: &str, mut at: usize) -> usize {
    loop {
        at += code[at..].len() - code[at..].trim_start().len();
        if !code[at..].starts_with("#[") {
            return at;
        }
        at = attribute_end(code, at);
    }
}

/// `test`, `cfg(test)` or `cfg(all(test, …))`: what hangs on it never reaches a user. `cfg(any(test, …))` does.
fn is_test_attribute(attribute: &str) -> bool {
    let attribute: String = attribute.chars().filter(|c| !c.is_whitespace()).collect();
    attribute == "test" || attribute == "cfg(test)" || attribute.starts_with("cfg(all(test,")
}

fn test_items(code: &str) -> Vec<Range<usize>> {
    if code.lines().any(|line| line.trim() == "#![cfg(test)]") {
        return std::iter::once(0..code.len()).collect();
    }
    let (mut found, mut at): (Vec<Range<usize>>, usize) = (Vec::new(), 0);
    while let Some(n) = code[at..].find("#[") {
        let start = at + n;
        let end = attribute_end(code, start);
        at = end;
        if is_test_attribute(&code[start + 2..end - 1]) {
            at = item_end(code, item_start(code, end));
            found.push(start..at);
        }
    }
    found
}

fn inline_mods(code: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (word, at) in words(code) {
        let rest = code[at + word.len()..].trim_start();
        let name = leading_word(rest);
        if word == "mod" && !name.is_empty() && rest[name.len()..].trim_start().starts_with('{') {
            found.push(at..item_end(code, at));
        }
    }
    found
}

/// Comments, strings and character literals become spaces; line breaks stay.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (bytes.to_vec(), 0);
    while at < bytes.len() {
        let end = at + literal_len(text, at);
        if end == at {
            at += 1;
            continue;
        }
        for b in &mut out[at..end] {
            if *b != b'\n' {
                *b = b' ';
            }
        }
        at = end;
    }
    // Anything outside ASCII that is left stands in an identifier at most; spaces keep positions and validity.
    out.iter_mut().filter(|b| !b.is_ascii()).for_each(|b| *b = b' ');
    String::from_utf8(out).unwrap_or_default()
}

/// Bytes of the comment, string or character literal that begins at `at`; 0 if none does.
fn literal_len(text: &str, at: usize) -> usize {
    let rest = &text.as_bytes()[at..];
    let after_word = at > 0 && is_word(text.as_bytes()[at - 1]);
    match rest {
        [b'/', b'/', ..] => rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => block_comment_len(rest),
        [b'"', ..] => string_len(rest),
        [b'r', b'"' | b'#', ..] if !after_word => raw_string_len(rest, 1),
        [b'b' | b'c', b'r', b'"' | b'#', ..] if !after_word => raw_string_len(rest, 2),
        [b'\'', b'\\', _, tail @ ..] => 3 + tail.iter().position(|b| *b == b'\'').map_or(0, |n| n + 1),
        [b'\'', ..] => {
            // A character and a quote, else it is a lifetime.
            let first = text.get(at + 1..).and_then(|t| t.chars().next()).map_or(0, char::len_utf8);
            if first > 0 && rest.get(1 + first) == Some(&b'\'') { 2 + first } else { 0 }
        }
        _ => 0,
    }
}

fn block_comment_len(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    rest.len()
}

fn string_len(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// `prefix` bytes of `r` or `br`, then hashes and the string; 0 for a raw identifier (`r#type`).
fn raw_string_len(rest: &[u8], prefix: usize) -> usize {
    let hashes = rest[prefix..].iter().take_while(|b| **b == b'#').count();
    if rest.get(prefix + hashes) != Some(&b'"') {
        return 0;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = prefix + hashes + 1;
    let end = rest[body..].windows(close.len()).position(|w| w == close);
    end.map_or(rest.len(), |n| body + n + close.len())
}
